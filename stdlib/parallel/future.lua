-- SPDX-License-Identifier: MIT
--
-- future.lua - a call that is under way: what submit and map_async give. Nothing runs in the caller by itself: a future
-- gets on when it, or its pool, is asked for something. Its pool keeps it until it is done, so that work goes on which
-- nobody holds a future of.

local core = require "lumap.core"
local compat = require "lumap.compat"
local Call = require "parallel.call"
local Error = require "parallel.error"
local options = require "parallel.options"
local source = require "parallel.source"

local pack, unpack = compat.pack, compat.unpack

---@class parallel.Future
local Future = { __name = "parallel.Future" }
Future.__index = Future

--- A future of a call that was started. `target` is where its results go (Call:receive); `results()` gives the values
--- of a call that succeeded.
function Future.new(call, target, results)
  local self = setmetatable({ call = call, pool = call.pool, target = target, results = results }, Future)
  self.pool:keep(self)
  return self
end

--- Starts fn(...) on a pool.
function Future.start(pool, fn, opts, ...)
  local call = Call.start(pool, { fn = fn, source = source.arguments(...), mode = "map", opts = opts, single = true })
  local columns = {}
  -- Sent now, not when somebody asks.
  call:supply()
  if call.closed or call.error then call:finish() end
  return Future.new(call, { columns = columns }, function()
    local values, n = {}, #columns
    for c = 1, n do values[c] = columns[c][1] end
    return unpack(values, 1, n)
  end)
end

local function check_seconds(name, seconds)
  if seconds ~= nil and (type(seconds) ~= "number" or not (seconds >= 0)) then
    options.bad_argument(name, 1, "number of seconds from 0 up", seconds, 2)
  end
end

--- What a callback gets: true and the values, or false and the error.
local function outcome(self)
  local failure, is_raw = self.call:failure()
  if failure ~= nil or is_raw then return false, failure end
  return true, self.results()
end

--- Calls the callbacks of a future that is done. What they raise is kept for the next one who asks the pool.
function Future:run_callbacks()
  local callbacks = self.callbacks
  self.callbacks = nil
  for i = 1, callbacks and #callbacks or 0 do
    local ok, failure = pcall(callbacks[i], outcome(self))
    if not ok then self.pool:keep_error(failure) end
  end
end

--- Gets the call on. With `how` "poll" it does not wait and runs nothing. False when it is not done within `seconds`.
function Future:advance(seconds, how)
  local call = self.call
  local deadline = seconds and core.clock() + seconds
  while not call.finished do
    local first = call:receive(self.target, deadline and math.max(0, deadline - core.clock()), how)
    if first == false then return false end
    if first == nil then call:close() end
  end
  self.pool:drop(self)
  self:run_callbacks()
  return true
end

--- The values that the function returned, or the lists of map_async; raises the error. With `seconds`, raises kind
--- "timeout" when they are over, and the future stays as it was.
---@param seconds number|nil how long to wait; default: until it is done
function Future:get(seconds)
  check_seconds("get", seconds)
  self.pool:ask()
  if not self:advance(seconds) then
    Error.new({ kind = "timeout", message = ("no result after %g seconds"):format(seconds) }):raise()
  end
  local failure, is_raw = self.call:failure()
  if failure == nil and not is_raw then return self.results() end
  if not is_raw and not self.raised then
    self.raised = true
    failure:raise()
  end
  error(failure, 0)
end

--- Waits; true when it is done, whatever came of it.
---@param seconds number|nil how long; default: until it is done
---@return boolean done
function Future:wait(seconds)
  check_seconds("wait", seconds)
  self.pool:ask()
  return self:advance(seconds)
end

--- Is it done? Does not wait; on the serial back-end, where nothing runs by itself, it runs a piece of what is queued.
---@return boolean
function Future:done()
  self.pool:ask()
  return self:advance(0)
end

--- Ends the call if it is not done: `get` then raises kind "cancelled". What runs is ended, but for a C function on a
--- thread that does not return: that goes on, and nobody gets its result.
---@return boolean in_time false when it was done before
function Future:cancel()
  if self:advance(0, "poll") then return false end
  self.call.error = Error.new { kind = "cancelled", message = "the call was cancelled" }
  self.call:abort()
  self.pool:drop(self)
  return true
end

--- Calls callback(true, values...) or callback(false, error) when it is done: in this thread, the next time that this
--- future or its pool is asked for something or waited for. What the callback raises is raised by the next thing that
--- the pool or one of its futures is asked for; pool and future are none the worse for it.
---@param callback fun(ok: boolean, ...: any)
---@return parallel.Future self
function Future:on_done(callback)
  if not options.is_callable(callback) then options.bad_argument("on_done", 1, "function", callback, 1) end
  local callbacks = self.callbacks or {}
  self.callbacks = callbacks
  callbacks[#callbacks + 1] = callback
  self.pool:watch(self)
  return self
end

--- Sorts futures into those that are done and those that are not.
local function sort(futures)
  local done, rest = {}, {}
  for i = 1, #futures do
    local future = futures[i]
    if future:advance(0, "poll") then done[#done + 1] = future else rest[#rest + 1] = future end
  end
  return done, rest
end

--- Runs a piece of what is queued on a serial pool. False when none of the futures belongs to one.
local function run_serial(futures)
  for i = 1, #futures do
    if futures[i].pool.backend == "serial" then
      futures[i]:advance(0)
      return true
    end
  end
  return false
end

--- parallel.wait
function Future.wait_for(futures, seconds)
  if type(futures) ~= "table" then options.bad_argument("wait", 1, "list of futures", futures, 1) end
  for i = 1, #futures do
    if getmetatable(futures[i]) ~= Future then
      error(("bad argument #1 to 'wait' (futures expected, got a %s at %d)"):format(type(futures[i]), i), 2)
    end
  end
  if seconds ~= nil and (type(seconds) ~= "number" or not (seconds >= 0)) then
    options.bad_argument("wait", 2, "number of seconds from 0 up", seconds, 1)
  end
  local deadline = seconds and core.clock() + seconds
  for i = 1, #futures do futures[i].pool:ask() end
  while true do
    -- Taken before the look: what is done after it ends the wait.
    local key = core.event_key()
    local done, rest = sort(futures)
    local left = deadline and deadline - core.clock()
    if #done > 0 or #rest == 0 or (left and left <= 0) then return done, rest end
    if not run_serial(rest) then core.event_wait(key, left) end
    for i = 1, #rest do rest[i].pool:attend() end
  end
end

--- The future of a map over `items`: its results come as map would give them.
function Future.of_map(call, columns, from, finish_lists)
  local lists
  local self = Future.new(call, { columns = columns, total = from.count }, function()
    lists = lists or pack(finish_lists(columns, call, from))
    return unpack(lists, 1, lists.n)
  end)
  -- All that may be sent is sent now; a source that can be pulled gets on when somebody asks.
  self.pool:watch(self)
  self:advance(0, "poll")
  return self
end

return Future
