-- SPDX-License-Identifier: MIT
--
-- For the specs of the back-end "fork", whose workers are copies of this process.

local busted = require("busted")
local census = require("spec.support.census")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local copies = {}

--- Whether there can be none. Slowed down as much as by ThreadSanitizer, threads of pools that other files have dropped
--- may still be there, and no copy is made.
copies.missing = interpreter.preset == "tsan"

--- Options of a call on two copies, and what they are given beside.
---@param more table|nil
---@return table options
function copies.with(more)
  local options = { backend = "fork", workers = 2 }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return options
end

--- A test that fails when a child, a descriptor or a thread stays behind.
---@param name string
---@param body function
function copies.test(name, body)
  busted.it(name, function()
    collectgarbage() -- pools that another file has dropped have threads
    collectgarbage()
    parallel.map(math.sqrt, { 1 }, copies.with())
    local before = census.snapshot()
    body()
    census.assert_flat(before)
  end)
end

return copies
