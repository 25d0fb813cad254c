-- SPDX-License-Identifier: MIT
--
-- future.lua - one call of a function, under way: what submit gives.

local compat = require "lumap.compat"
local Call = require "parallel.call"
local Error = require "parallel.error"
local options = require "parallel.options"
local source = require "parallel.source"

local unpack = compat.unpack

---@class parallel.Future
local Future = { __name = "parallel.Future" }
Future.__index = Future

--- Starts fn(...) on a pool.
function Future.start(pool, fn, opts, ...)
  local call = Call.start(pool, { fn = fn, source = source.arguments(...), mode = "map", opts = opts, single = true })
  local self = setmetatable({ call = call, columns = {}, settled = false }, Future)
  -- Sent now, not when somebody asks.
  call:supply()
  if call.closed or call.error then call:finish() end
  return self
end

local function check_seconds(name, seconds)
  if seconds ~= nil and (type(seconds) ~= "number" or not (seconds >= 0)) then
    options.bad_argument(name, 1, "number of seconds from 0 up", seconds, 2)
  end
end

--- Waits until the result is there; false when `seconds` are over before.
local function settle(self, seconds)
  if self.settled then return true end
  local function place()
    return self.columns, nil, 1
  end
  while true do
    local first = self.call:receive(place, seconds)
    if first == false then return false end
    if first == nil then break end
  end
  self.settled = true
  self.call:close()
  return true
end

--- The values that the function returned; raises its error. With `seconds`, raises kind "timeout" when they are over,
--- and the future stays as it was.
---@param seconds number|nil how long to wait; default: until it is done
function Future:get(seconds)
  check_seconds("get", seconds)
  if not settle(self, seconds) then
    Error.new({ kind = "timeout", message = ("no result after %g seconds"):format(seconds) }):raise()
  end
  local failure = self.call.error
  if failure then
    if not self.raised then
      self.raised = true
      failure:raise()
    end
    error(failure, 0)
  end
  local values, n = {}, #self.columns
  for c = 1, n do values[c] = self.columns[c][1] end
  return unpack(values, 1, n)
end

--- Waits; true when it is done, whatever came of it.
---@param seconds number|nil how long; default: until it is done
---@return boolean done
function Future:wait(seconds)
  check_seconds("wait", seconds)
  return settle(self, seconds)
end

--- Is it done? Does not wait.
---@return boolean
function Future:done()
  return settle(self, 0)
end

--- Ends the call if it is not done: `get` then raises kind "cancelled". What runs is ended, but for a C function on a
--- thread that does not return: that goes on, and nobody gets its result.
---@return boolean in_time false when it was done before
function Future:cancel()
  if settle(self, 0) then return false end
  self.call.error = Error.new { kind = "cancelled", message = "the call was cancelled" }
  self.settled = true
  self.call:abort()
  return true
end

return Future
