-- SPDX-License-Identifier: MIT
--
-- libraries.lua - what a call's caller added to the standard libraries (vm/codec/additions.h), in place in a worker
-- while it runs a task of that call. One list at a time is in place; the next task, or the end of the call, changes it.

local libraries = {}

-- The list that is in place, and how many of its additions are.
local current, count

--- Puts one addition in place, and notes what was there.
---@param addition table library, key, value, and whether the value is the reason why the real one was not sent
local function put(addition)
  local library, key, value = addition[1], addition[2], addition[3]
  if not library then return end
  if addition[4] then
    function addition.value() error(value, 2) end
  else
    addition.value = value
  end
  addition.before = rawget(library, key)
  rawset(library, key, addition.value)
end

--- What has been put there since, by a module that was loaded meanwhile, stays.
local function take_out(addition)
  local library, key = addition[1], addition[2]
  if library and rawequal(rawget(library, key), addition.value) then rawset(library, key, addition.before) end
end

--- Makes `additions` the list that is in place; nil: none. It may have grown since it was last given.
---@param additions table|nil
function libraries.use(additions)
  if additions ~= current then
    if current then
      for i = count, 1, -1 do take_out(current[i]) end
    end
    current, count = additions, 0
  end
  if not additions then return end
  for i = count + 1, #additions do put(additions[i]) end
  count = #additions
end

--- Puts additions in place for good: those of the init function.
---@param additions table|nil
function libraries.keep(additions)
  for i = 1, #(additions or {}) do put(additions[i]) end
end

return libraries
