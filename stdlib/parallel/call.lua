-- SPDX-License-Identifier: MIT
--
-- call.lua - one call: a function over items on a pool. Every verb is a thin consumer of it:
--
--     start -> receive, receive, ... -> finish
--
-- receive keeps the workers supplied, takes one finished chunk, stores its results where the verb wants them, and
-- settles its failures by the errors policy. So order, bounds, errors and deaths are dealt with here, once.

local core = require "lumap.core"
local chunking = require "parallel.chunking"
local Error = require "parallel.error"

-- Chunks a worker has: one that it runs and one that waits for it, so that it never waits for the caller.
local CHUNKS_AHEAD = 2
-- Default of the option `ahead`, in chunks a worker.
local AHEAD_CHUNKS = 4
-- What is running is given this long to end after an interrupt before its workers are ended.
local INTERRUPT_GRACE = 0.1

---@class parallel.Call
---@field error parallel.Error|nil the failure with the lowest index, unless errors are collected
---@field errors table<integer, parallel.Error> those that were collected
---@field failed integer how many items failed
---@field done integer how many items are done, failed ones included
local Call = {}
Call.__index = Call

local function encode_error(message, index)
  return Error.new { kind = "encode", message = message, index = index }
end

--- Sends what the items need: the function, the plan, classes, globals. Raises an encode error.
local function write_log(call, fn, opts)
  local job, pool = call.job, call.pool
  -- Workers begin with the paths that the pool was made with; once a call has changed theirs, each call says its own.
  if pool.paths_changed or package.path ~= pool.path or package.cpath ~= pool.cpath then
    pool.paths_changed = true
    job:paths()
  end
  job:classes()
  job:define(fn, "the function")
  job:define(call.plan, "the plan")
  if type(opts.globals) == "table" then job:globals(opts.globals) end
end

--- Starts a call. `spec`: fn, source, mode ("map", "each", "filter"), opts (checked); `ordered`: results are taken in
--- the items' order, so a failure does not end the items before it; `single`: it has no item indexes (submit).
function Call.start(pool, spec)
  local opts, source = spec.opts, spec.source
  local policy = opts.errors or "stop"
  local plan = source.plan
  plan.mode = spec.mode
  plan.stop = policy == "stop"
  plan.single = spec.single
  -- In an item that has a stream of its own, what it starts is decided by that, too.
  plan.seed = opts.seed or core.draw_seed()
  local self = setmetatable({
    pool = pool,
    source = source,
    plan = plan,
    policy = policy,
    ordered = spec.ordered,
    single = spec.single,
    job = pool.core:job(opts.globals == nil or opts.globals == true),
    next = 1, -- index of the first item that has not been sent
    again = {}, -- chunks whose worker died: { first, count }
    taken = 0, -- items whose results have been taken
    ahead = opts.ahead,
    window = CHUNKS_AHEAD * pool.workers,
    in_flight = 0,
    errors = {},
    failed = 0,
    done = 0,
  }, Call)
  self.size, self.observe = chunking.new(opts.chunk or "auto", pool.workers)
  local ok, message = pcall(write_log, self, spec.fn, opts)
  if not ok then
    self:close()
    encode_error(message):raise()
  end
  return self
end

function Call:close()
  self.job:close()
end

--- Closes the call and ends what runs.
function Call:abort()
  self.job:abort()
  self:close()
end

--- Notes that an item failed, or (index nil) that the call did. Ends the supply of items if that is the policy.
function Call:fail(index, failure)
  if getmetatable(failure) ~= Error then failure = Error.new(failure) end
  -- What happens before the first item belongs to none.
  if not self.single and failure.kind ~= "init" then failure.index = index end
  self.failed = self.failed + 1
  if self.policy == "collect" then
    self.errors[index] = failure
    return
  end
  if not self.error or (index and self.error.index and index < self.error.index) then self.error = failure end
  if self.policy == "stop" then
    self.ended = true
    -- Items before it go on: the error that is raised is then the same in every run.
    if not self.ordered then self.job:cancel(index and index + 1) end
  end
end

--- Sends one chunk of items first... of at most n. Returns how many are on their way or failed, 0 at the end.
function Call:send(first, n, again)
  local job, source = self.job, self.source
  local sent, message
  if again then sent, message = source:put_again(job, first, n) else sent, message = source:put(job, first, n) end
  -- A call that stops at a refusal has not run anything of the chunk; one that goes in order gets that far.
  if sent > 0 and not (message and self.policy == "stop" and not self.ordered) then
    local ok, submitted = pcall(job.submit, job)
    if not ok then
      -- A global that the items' functions read cannot be sent.
      self:fail(first, encode_error(submitted))
    elseif not submitted then
      self.closed = true
      return 0
    else
      self.in_flight = self.in_flight + 1
    end
  end
  if message then
    self.done = self.done + 1
    self:fail(first + sent, encode_error(message))
    source:release(first + sent, 1)
    return sent + 1
  end
  return sent
end

--- How many items may be sent now beyond those that are under way: the bound on lazy sources.
function Call:allowed(size)
  if not self.source.lazy then return size end
  local ahead = self.ahead or AHEAD_CHUNKS * self.pool.workers * size
  return math.min(size, ahead - (self.next - 1 - self.taken))
end

--- Keeps the workers supplied.
function Call:supply()
  while self.in_flight < self.window and not self.ended do
    local again = table.remove(self.again)
    if again then
      self:send(again[1], again[2], true)
    else
      local count = self.source.count
      if count and self.next > count then return end
      local size = self:allowed(self.size(count and count - self.next + 1))
      if size < 1 then return end
      if count then size = math.min(size, count - self.next + 1) end
      local sent = self:send(self.next, size)
      self.next = self.next + sent
      if sent == 0 then return end
    end
  end
end

--- A Ctrl-C came: what runs may end its items; what does not is ended with its workers.
function Call:interrupt()
  local job = self.job
  local deadline = core.clock() + INTERRUPT_GRACE
  job:cancel()
  while job:outstanding() > 0 and core.clock() < deadline do job:collect(deadline - core.clock()) end
  if job:outstanding() > 0 then self.pool:terminate() end
  self:close()
  error("interrupted!", 0)
end

--- An init function failed in one worker: others may do better, so the chunk goes back, until it has failed as often as
--- there are workers. Then the pool is good for nothing, and all its calls end. True when the chunk goes back.
function Call:survives_init_failure(first, count)
  local pool = self.pool
  pool.init_failures = (pool.init_failures or 0) + 1
  if pool.init_failures >= pool.workers then
    self.policy = "stop"
    return false
  end
  self.again[#self.again + 1] = { first, count }
  return true
end

--- The worker that ran the chunk ended, or could not be started.
function Call:settle_death(outcome, first, count, worker)
  local index, signal, code, message = self.job:death()
  local failure = { worker = worker > 0 and worker or nil, message = message, kind = outcome }
  if outcome == "died" then
    if index == 0 and self.pool.init then
      failure.kind = "init"
    elseif self.pool.terminated then
      failure.kind, failure.message = "cancelled", "the pool was terminated while the item ran"
    end
    if signal ~= 0 then failure.signal = signal else failure.exit_code = code end
  elseif outcome == "start" then
    failure.kind = "init"
  end
  if failure.kind == "init" and not self.ended and self:survives_init_failure(first, count) then return end
  if index < first or index >= first + count then index = first end
  self.done = self.done + 1
  self:fail(index, failure)
  self.source:release(index, 1)
  if self.ended then return end
  -- The other items of the chunk have no results: those that were done are done again.
  if index > first then self.again[#self.again + 1] = { first, index - first } end
  if index < first + count - 1 then self.again[#self.again + 1] = { index + 1, first + count - 1 - index } end
end

--- Takes in the results of a chunk. False when it goes back: its worker's init function failed.
function Call:settle_results(place, first, done, worker, count)
  local columns, total, at = place(first)
  local errors = self.job:results(columns, total, at)
  local failed = errors[1] and errors[1][2]
  if failed and failed.kind == "init" and not self.ended and self:survives_init_failure(first, count) then
    return false
  end
  self.done = self.done + done
  for i = 1, #errors do
    failed = errors[i][2]
    failed.worker = worker
    self:fail(first + errors[i][1], failed)
  end
  self.source:release(first, done)
  return true
end

--- Takes one finished chunk. `place(first)` gives where its results go: columns, total (or nil) and the position of the
--- chunk's first item; they are stored as job:results tells. Returns first, done, worker; nil when all are taken; false
--- when `seconds` were over before.
function Call:receive(place, seconds)
  local job = self.job
  local deadline = seconds and core.clock() + seconds
  while true do
    local supplied, failure = pcall(self.supply, self)
    if not supplied then
      -- The source raised: what is under way ends first, and the error reaches the caller as it is.
      self.ended = true
      job:cancel()
      while job:collect() ~= "empty" do end
      self:close()
      error(failure, 0)
    end
    local outcome, first, count, done, worker, busy = job:collect(deadline and math.max(0, deadline - core.clock()))
    if outcome == "empty" then return nil end
    if outcome == "timeout" then return false end
    if outcome == "interrupted" then self:interrupt() end
    self.in_flight = self.in_flight - 1
    if outcome == "done" then
      self.observe(done, busy)
      if self:settle_results(place, first, done, worker, count) then return first, done, worker end
    end
    if outcome == "died" or outcome == "memory" or outcome == "start" then
      self:settle_death(outcome, first, count, worker)
    elseif outcome == "cancelled" and not self.ended then
      self:fail(first, { kind = "cancelled", message = "the pool was terminated before the item was run" })
      self.ended = true
    end
  end
end

--- Ends the call: raises the error if there is one.
function Call:finish()
  self:close()
  if self.error then self.error:raise() end
  if self.closed then
    Error.new({ kind = "cancelled", message = "the pool takes no more work: it was closed" }):raise()
  end
end

return Call
