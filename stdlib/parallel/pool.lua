-- SPDX-License-Identifier: MIT
--
-- pool.lua - pools of workers: those that a script makes, and the warm ones behind the module's own verbs.

local core = require "lumap.core"
local compat = require "lumap.compat"
local Error = require "parallel.error"
local Future = require "parallel.future"
local options = require "parallel.options"
local verbs = require "parallel.verbs"

---@class parallel.Pool
---@field workers integer how many there are
---@field backend string what they are
local Pool = { __name = "parallel.Pool" }
Pool.__index = Pool

--- What a pool remembers of its calls. It is kept by the userdata, so that whoever tries to send a pool is told of the
--- pool, and not of what some call of it holds.
local function state_of(self) return self.core:state() end

--- What stats tells, before anything was done.
local function no_counts()
  return {
    items = 0, failed = 0, chunks = 0, deaths = 0, timeouts = 0, busy = 0, bytes_sent = 0, bytes_received = 0,
  }
end

local function init_state(state)
  state.counts = no_counts()
  state.pending = {} -- futures that are not done, as far as anybody has looked
  state.watched = {} -- those of them that must be looked at whenever there is an occasion
  state.raised = {} -- { error } of callbacks, to be raised by who asks next
  state.open = setmetatable({}, { __mode = "k" }) -- calls that may still send chunks; iterators may be dropped
  state.cursor = 0
  state.costs = setmetatable({}, { __mode = "k" }) -- function -> what is known of its items (chunking.lua)
end

--- Starts workers. `opts` have been checked.
local function start(opts, level)
  local backend = opts.backend or options.default_backend(level + 1)
  -- Made at the top level of a module that a worker loads: each worker would start workers, which load the module...
  if core.loading then backend = "serial" end
  local workers = compat.to_integer(opts.workers or options.default_workers(level + 1))
  local ok, made = pcall(core.pool, backend, workers, opts.init, opts.memory_limit, opts.max_tasks)
  if not ok then
    local refused = type(made) == "string" and made:find("cannot send", 1, true)
    Error.new({ kind = refused and "encode" or "init", message = made }):raise()
  end
  init_state(made:state())
  return setmetatable({
    core = made,
    workers = workers,
    backend = backend,
    -- Only that there is one: a warm pool is found by its init function, which it must not keep alive.
    has_init = opts.init ~= nil,
    path = package.path,
    cpath = package.cpath,
  }, Pool)
end

--- Copies of this process know nothing of what happens in it later, so they last for one call.
local function refuse_fork(verb, level)
  error(("back-end \"fork\" is for one call, so '%s' cannot have it (use \"process\")"):format(verb), level + 2)
end

--- parallel.pool
function Pool.new(opts)
  opts = options.check("pool", opts, "pool", 1, 1)
  if (opts.backend or options.default_backend(1)) == "fork" then refuse_fork("pool", 1) end
  return start(opts, 1)
end

local function with_backend(name, backend)
  return function(workers, opts)
    local all = {}
    for key, value in pairs(options.check(name, opts, "pool", 2, 1)) do all[key] = value end
    if all.backend and all.backend ~= backend then
      error(("option 'backend' to '%s' is \"%s\" (leave it out, or call parallel.pool)"):format(name, all.backend), 2)
    end
    if workers ~= nil then all.workers = workers end
    all.backend = backend
    return start(options.check(name, all, "pool", 2, 1), 1)
  end
end

Pool.ThreadPool = with_backend("ThreadPool", "thread")
Pool.ProcessPool = with_backend("ProcessPool", "process")

-- Warm pools by the options that a pool has. An init function is compared by identity, and is not kept alive.
local warm = {}
local warm_by_init = setmetatable({}, { __mode = "k" })

--- Ends the warm pools that nobody uses: a process with threads cannot be copied. Serial ones have one, too, since the
--- first call with a time limit.
local function end_unused(pools)
  for key, pool in pairs(pools) do
    -- Idle first: that is false for a pool that has been collected, but whose entry the collector has not removed yet.
    if pool.core:is_idle() and not next(state_of(pool).open) then
      pools[key] = nil
      pool:close()
      pool:join()
    end
  end
end

local function end_all_unused()
  end_unused(warm)
  for _, pools in pairs(warm_by_init) do end_unused(pools) end
end

--- A pool for one call, of copies of this process.
local function of_copies(opts, workers, level)
  local wanted = { backend = "fork", workers = workers }
  end_all_unused()
  local ok, pool = pcall(start, wanted, level + 1)
  if not ok then
    -- Pools and iterators that were dropped have threads until they are collected.
    collectgarbage()
    collectgarbage()
    end_all_unused()
    pool = start(wanted, level + 1)
  end
  pool.has_init, pool.own_init, pool.own_memory_limit = opts.init ~= nil, opts.init, opts.memory_limit
  pool.own_max_tasks = opts.max_tasks
  return pool
end

--- In a copy of the process: the warm pools are those of the original.
function Pool.forget_warm()
  warm, warm_by_init = {}, setmetatable({}, { __mode = "k" })
end

--- The warm pool for a call of the module's verbs. In a worker that is one that runs on the worker itself, whatever the
--- options: so calls nest to any depth without more threads, and without one waiting for another that has no thread.
--- `lasting`: the verb, if it outlasts the call.
function Pool.warm(opts, level, lasting)
  local backend = core.worker() and "serial" or opts.backend or options.default_backend(level + 1)
  local workers = compat.to_integer(opts.workers or options.default_workers(level + 1))
  if backend == "fork" then
    if lasting then refuse_fork(lasting, level) end
    return of_copies(opts, workers, level + 1)
  end
  local pools = warm
  if opts.init then
    pools = warm_by_init[opts.init] or {}
    warm_by_init[opts.init] = pools
  end
  local key = ("%s %d %s %s"):format(backend, workers, opts.memory_limit or "", opts.max_tasks or "")
  local pool = pools[key]
  if not pool or pool.closed then
    pool = start({
      backend = backend, workers = workers, init = opts.init, memory_limit = opts.memory_limit,
      max_tasks = opts.max_tasks,
    }, level + 1)
    pools[key] = pool
  end
  pool:ask()
  return pool
end

local function check_self(self, verb, level)
  if getmetatable(self) ~= Pool then
    error(("'%s' of a pool needs the pool: call it as pool:%s(...)"):format(verb, verb), level + 2)
  end
end

--- Raises unless this is a pool, and takes work.
function Pool.check_open(self, verb, level)
  check_self(self, verb, level + 1)
  -- A callback may close it.
  if not self.closed then self:ask() end
  if self.closed then error(("'%s' on a pool that is closed"):format(verb), level + 2) end
end

--- What calls of this pool have learned of the function, for chunking.new; and whether there is anything.
function Pool:costs_of(fn)
  local costs = state_of(self).costs
  local known = costs[fn]
  if not known then
    known = { largest = 0 }
    costs[fn] = known
  end
  return known, known.seconds_an_item ~= nil
end

-- ---- calls and futures ------------------------------------------------------------

--- A call was started, and may send chunks until it is closed. Returns what it counts in, as stats tells it.
function Pool:know_call(call)
  local state = state_of(self)
  state.open[call] = true
  return state.counts
end

--- After close the workers are told to end when no call can send any more.
function Pool:close_when_idle()
  if self.closed and not next(state_of(self).open) then self.core:close() end
end

function Pool:forget_call(call)
  state_of(self).open[call] = nil
  if self.closed then self:close_when_idle() end
end

--- Holds a future until it is done.
function Pool:keep(future)
  local pending = state_of(self).pending
  future.slot = #pending + 1
  pending[future.slot] = future
end

function Pool:drop(future)
  local slot, pending = future.slot, state_of(self).pending
  if not slot then return end
  local last = pending[#pending]
  pending[slot], last.slot = last, slot
  pending[#pending], future.slot = nil, nil
end

--- The future has callbacks, or a source to be pulled: it is looked at whenever the pool is asked or waited for.
function Pool:watch(future)
  if future.watched then return end
  future.watched = true
  state_of(self).watched[#state_of(self).watched + 1] = future
end

--- Is there a watched future, other than that of the call?
function Pool:is_watching(call)
  local watched = state_of(self).watched
  return #watched > 1 or (#watched == 1 and watched[1].call ~= call)
end

function Pool:keep_error(failure) state_of(self).raised[#state_of(self).raised + 1] = { failure } end

--- Looks at the watched futures: gets them on, and runs the callbacks of those that are done.
function Pool:attend()
  local state = state_of(self)
  if state.attending or #state.watched == 0 then return end
  state.attending = true
  local list = state.watched
  state.watched = {}
  for i = 1, #list do
    local future = list[i]
    future.watched = nil
    local ok, done = true, false
    if not future.call.supplying then ok, done = pcall(future.advance, future, 0, "poll") end
    if not ok then self:keep_error(done) elseif not done then self:watch(future) end
  end
  state.attending = false
end

-- How many pending futures each question looks at: more than the one that it may add.
local REVIEWED = 2

--- Raises what a callback raised before, if any did.
function Pool:raise_kept()
  local kept = table.remove(state_of(self).raised, 1)
  if kept then error(kept[1], 0) end
end

--- Somebody asks the pool for something: what a callback raised before is raised, else callbacks run. Of the futures
--- that nobody asks for any more, some are taken off the list, so that it does not grow.
function Pool:ask()
  local state = state_of(self)
  if state.raised[1] then self:raise_kept() end
  if state.watched[1] then self:attend() end
  for _ = 1, REVIEWED do
    local count = #state.pending
    if count == 0 then break end
    state.cursor = state.cursor % count + 1
    local future = state.pending[state.cursor]
    if not future.call.supplying then future:advance(0, "poll") end
  end
end

-- ---- what a script calls -------------------------------------------------------------

-- The verbs, as methods. Tail calls: an error about an argument belongs to the line of the caller.
function Pool:map(fn, items, opts) return verbs.map(self, fn, items, opts) end
function Pool:each(fn, items, opts) return verbs.each(self, fn, items, opts) end
function Pool:filter(pred, items, opts) return verbs.filter(self, pred, items, opts) end
function Pool:imap(fn, items, opts) return verbs.imap(self, fn, items, opts) end
function Pool:imap_unordered(fn, items, opts) return verbs.imap_unordered(self, fn, items, opts) end
function Pool:starmap(fn, items, opts) return verbs.starmap(self, fn, items, opts) end
function Pool:reduce(fn, items, opts) return verbs.reduce(self, fn, items, opts) end
function Pool:map_async(fn, items, opts) return verbs.map_async(self, fn, items, opts) end
function Pool:mapreduce(mapfn, fn, items, opts) return verbs.mapreduce(self, mapfn, fn, items, opts) end

--- Starts fn(...) on a worker.
---@return parallel.Future
function Pool:submit(fn, ...)
  Pool.check_open(self, "submit", 1)
  if not options.is_callable(fn) then options.bad_argument("submit", 1, "function", fn, 1) end
  return Future.start(self, fn, {}, ...)
end

--- Runs fn(...) on a worker and returns its values.
function Pool:apply(fn, ...)
  Pool.check_open(self, "apply", 1)
  if not options.is_callable(fn) then options.bad_argument("apply", 1, "function", fn, 1) end
  return Future.start(self, fn, {}, ...):get()
end

---@class parallel.Stats
---@field workers integer how many there are
---@field backend string what they are
---@field pending integer futures that are not known to be done
---@field items integer items that are done since the pool was made, failed ones included
---@field failed integer those of them that failed
---@field chunks integer chunks of items that came back with results
---@field deaths integer workers that ended in an item, by a signal, an exit or for want of memory
---@field timeouts integer items that were over their time, each time counted
---@field abandoned integer threads that could not be stopped and were given up
---@field busy number seconds that workers spent on chunks
---@field bytes_sent integer encoded items, functions and what they reach, each counted once
---@field bytes_received integer encoded results

--- What the pool has done so far, as far as its results were taken.
---@return parallel.Stats
function Pool:stats()
  check_self(self, "stats", 1)
  self:ask()
  local stats = { workers = self.workers, backend = self.backend, pending = #state_of(self).pending }
  for name, value in pairs(state_of(self).counts) do stats[name] = value end
  stats.abandoned = self.core:abandoned()
  return stats
end

--- Takes no more work; what was submitted is done, and iterators can be read to their end. Twice is no error.
function Pool:close()
  check_self(self, "close", 1)
  self.closed = true
  self:close_when_idle()
  self:ask()
end

--- Waits until all work of a closed pool is done and its workers have ended.
--- Raises: the pool is not closed.
function Pool:join()
  check_self(self, "join", 1)
  if not self.closed then error("'join' on a pool that is not closed: call close or terminate first", 2) end
  while state_of(self).pending[1] do state_of(self).pending[1]:advance() end
  self.core:close()
  self.core:join()
  self:raise_kept()
end

--- Ends all work and the workers at once; futures that are not done fail with kind "cancelled".
function Pool:terminate()
  check_self(self, "terminate", 1)
  self.terminated, self.closed = true, true
  self.core:terminate()
  self.core:join()
  self:attend()
end

if compat.has_close then Pool.__close = Pool.terminate end

--- For the module's submit.
function Pool.submit_warm(fn, ...)
  if not options.is_callable(fn) then options.bad_argument("submit", 1, "function", fn, 1) end
  return Future.start(Pool.warm({}, 1, "submit"), fn, {}, ...)
end

return Pool
