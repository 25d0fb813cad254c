-- SPDX-License-Identifier: MIT
--
-- Lets no test pass that leaves children, descriptors or threads behind. spec/helper.lua has each test watched.
--
-- Warm pools of the module's own verbs may stay from test to test, that is what they are for; so all of them end before
-- it is looked at what a test has left. Builds with a sanitizer are left out: to start them anew for each test takes
-- long there.

local busted = require("busted")

local census = require("spec.support.census")
local interpreter = require("spec.support.interpreter")
local pools = require("parallel.pool")

local leaks = {}

local function holds_pools(value)
  if type(value) ~= "table" then
    return false
  end
  local _, pool = next(value)
  return getmetatable(pool) == pools
end

-- Where the module keeps its warm pools, found in the function that hands them out: by what is in there, since the
-- module has no names of upvalues on Lua 5.4.
local function warm_pools()
  local found = {}
  for i = 1, math.huge do
    local name, value = debug.getupvalue(pools.warm, i)
    if not name then
      return found
    elseif holds_pools(value) then
      found[#found + 1] = value
    elseif type(value) == "table" and (getmetatable(value) or {}).__mode == "k" then
      for _, by_options in pairs(value) do
        found[#found + 1] = by_options
      end
    end
  end
end

local function end_warm_pools()
  for _, by_options in ipairs(warm_pools()) do
    for key, pool in pairs(by_options) do
      by_options[key] = nil
      -- One that the collector has ended may still have its entry, whose key is weak.
      local ok, message = pcall(pool.terminate, pool)
      if ok then
        pool:join()
      elseif not message:find("the pool was collected", 1, true) then
        error(message, 0)
      end
    end
  end
end

-- What before_each made lasts until after_each, whose checks are the spec's own.
local function is_inside_hooks(element)
  local block = busted.parent(element)
  while block do
    if block.before_each then
      return true
    end
    block = busted.parent(block)
  end
  return false
end

--- Makes a test of spec/contract or spec/parallel fail that holds more of the system at its end than at its beginning.
---@param element table of busted, before it runs
function leaks.watch(element)
  local file = element.trace and element.trace.source or ""
  if interpreter.sanitized or is_inside_hooks(element) then
    return
  end
  if not (file:find("spec/contract/", 1, true) or file:find("spec/parallel/", 1, true)) then
    return
  end
  local run = element.run
  element.run = function(...)
    end_warm_pools()
    local before = census.snapshot()
    run(...)
    end_warm_pools()
    census.assert_flat(before)
  end
end

return leaks
