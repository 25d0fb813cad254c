-- SPDX-License-Identifier: MIT
--
-- counter.lua - parallel.counter: an integer that all workers share. The work is done in C (vm/runtime/core_counter.c).

local core = require "lumap.core"

---@class parallel.Counter
---@field add fun(self: parallel.Counter, d: integer): integer adds, and gives the new value; no other change comes in
--- between. Raises when d is no integer, or the sum is beyond 2^53 either way
---@field get fun(self: parallel.Counter): integer
---@field set fun(self: parallel.Counter, value: integer) raises when the value is no integer within 2^53 either way
---@field compare_exchange fun(self: parallel.Counter, old: integer, new: integer): boolean makes it `new` if it is
--- `old`; of several who try the same, one is told that it did

core.counter_class()

local counter = {}

--- parallel.counter
function counter.new(value)
  local ok, made = pcall(core.counter, value)
  if not ok then error(made, 2) end
  return made
end

return counter
