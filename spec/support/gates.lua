-- SPDX-License-Identifier: MIT
--
-- Lets the caller and the items of a call wait for each other: a gate is a path, closed while no file is there.
-- Found by name in workers, so items may use it.
--
--     local entered = gates.new()
--     local future = parallel.submit(function() gates.open(entered) ... end)
--     gates.await(entered)        -- now the item runs for certain

local parallel = require("parallel")

local gates = {}

-- Waiting for a gate that stays closed is a failure of the test, not a hang.
local LIMIT_SECONDS = 30
local LOOK_SECONDS = 0.0005

---@return string gate closed
function gates.new()
  local path = os.tmpname()
  os.remove(path)
  return path
end

---@param gate string
function gates.open(gate)
  local file = io.open(gate, "a") or error("cannot open the gate " .. gate)
  file:close()
end

---@param gate string
---@return boolean
function gates.is_open(gate)
  local file = io.open(gate, "r")
  return file ~= nil and file:close() and true
end

--- Returns when the condition holds; an error when it does not in half a minute.
---@param condition function
function gates.await_that(condition)
  local give_up = parallel.clock() + LIMIT_SECONDS
  while not condition() do
    if parallel.clock() > give_up then
      error("waited in vain", 2)
    end
    parallel.sleep(LOOK_SECONDS)
  end
end

--- Returns when the gate is open.
---@param gate string
function gates.await(gate)
  gates.await_that(function()
    return gates.is_open(gate)
  end)
end

--- Closes gates and leaves nothing behind.
function gates.remove(...)
  for _, gate in ipairs({ ... }) do
    os.remove(gate)
  end
end

return gates
