-- SPDX-License-Identifier: MIT
--
-- call.lua - one call: a function over items on a pool. Every verb is a thin consumer of it:
--
--     start -> receive, receive, ... -> finish
--
-- receive keeps the workers supplied, takes one finished chunk, stores its results where the verb wants them, and
-- settles its failures by the errors policy. So order, bounds, errors and deaths are dealt with here, once.
--
-- Items are counted twice, for the bound on lazy sources: as pulled when the source gave them, as taken when their
-- results were handed out. Verbs that store results as they come take an item when it is done; iterators (`hands_out`)
-- count in `taken` what they have yielded.

local core = require "lumap.core"
local chunking = require "parallel.chunking"
local Error = require "parallel.error"

-- Chunks a worker has: one that it runs and one that waits for it, so that it never waits for the caller. On a busy
-- machine the caller gets its turn late: of chunks that take little, as many as take QUEUED_SECONDS, but not more than
-- MOST_AHEAD, wait in the pool's queue.
local CHUNKS_AHEAD = 2
local MOST_AHEAD = 16
local QUEUED_SECONDS = 0.02
-- When chunks whose size was taken on trust, from earlier calls or for a bundle, give nothing for so long, their items
-- are unlike those before them.
local SURPRISE_SECONDS = 0.005
-- Default of the option `ahead`, in chunks a worker.
local AHEAD_CHUNKS = 4
-- What is running is given this long to end after an interrupt before its workers are ended.
local INTERRUPT_GRACE = 0.1
-- After a deadline what is running is waited for as long as this: a chunk that ends between two items has results.
local DEADLINE_GRACE = 0.1

-- The kinds of failures that chunks without results tell of.
local KINDS = { died = "died", memory = "memory", start = "init", overtime = "timeout" }
-- Failures after which an item may be run again.
local RETRIED = { died = true, timeout = true, memory = true }

-- In a worker a call is part of an item, and ends with it.
local in_worker = core.worker() ~= nil

---@class parallel.Call
---@field error parallel.Error|nil the failure with the lowest index, unless errors are collected
---@field errors table<integer, parallel.Error> by item, when errors are collected or results are handed out
---@field trusts boolean|nil sizes of chunks come from earlier calls, and no chunk has taken much longer than it should
---@field chunk integer|nil the option, where it is a number
---@field failed integer how many items failed
---@field done integer how many items are done, failed ones included
---@field lost integer[] failed items that are in no chunk of results, in the order in which they failed
local Call = {}
Call.__index = Call

local function encode_error(message, index)
  return Error.new { kind = "encode", message = message, index = index }
end

--- Sends what the items need: the function, the plan, classes, globals. Raises an encode error.
local function write_log(call, fn, opts)
  local job, pool = call.job, call.pool
  if pool.backend == "fork" then return require("parallel.copies").share(call, fn, opts) end
  -- Workers begin with the paths that the pool was made with; once a call has changed theirs, each call says its own.
  if pool.paths_changed or package.path ~= pool.path or package.cpath ~= pool.cpath then
    pool.paths_changed = true
    job:paths()
  end
  job:classes()
  job:define(fn, "the function")
  job:define(call.plan, "the plan")
  if call.fold then job:define(call.fold, "the folding function") end
  if type(opts.globals) == "table" then job:globals(opts.globals) end
end

--- Starts a call. `spec`: fn, source, mode (of worker.lua's runners), opts (checked), and where they apply
---   ordered    results are taken in the items' order, so a failure does not end the items before it
---   single     it has no item indexes (submit)
---   hands_out  the verb counts in `taken` the results that it has handed out
---   fold       the second function of mapreduce
---   merges     what sends chunks of its own (fold.lua): index of the first, and a method send(call, drained)
---   async      nobody may be there to send the rest later: all items of a list are sent at once
function Call.start(pool, spec)
  local opts, source = spec.opts, spec.source
  local policy = opts.errors or "stop"
  local plan = source.plan
  plan.mode = spec.mode
  plan.stop = policy == "stop"
  plan.single = spec.single
  plan.retries = (opts.retries or 0) > 0
  -- In an item that has a stream of its own, what it starts is decided by that, too.
  plan.seed = opts.seed or core.draw_seed()
  plan.merges = spec.merges and spec.merges.first
  local self = setmetatable({
    pool = pool,
    source = source,
    plan = plan,
    policy = policy,
    ordered = spec.ordered,
    single = spec.single,
    hands_out = spec.hands_out,
    fold = spec.fold,
    merges = spec.merges,
    job = pool.core:job(opts.globals == nil or opts.globals == true),
    next = 1, -- index of the first item that has not been sent
    again = {}, -- chunks whose worker died: { first, count }
    under_way = {}, -- first -> count of chunks that are sent
    bold = {}, -- first -> true of those whose size was taken on trust
    bold_count = 0,
    retries = opts.retries or 0,
    tries = {}, -- item -> how often it was run again
    deadline = opts.deadline and core.clock() + opts.deadline,
    taken = 0, -- items whose results have been handed out
    ahead = opts.ahead,
    async = spec.async,
    window = spec.async and not source.lazy and math.huge or CHUNKS_AHEAD * pool.workers,
    in_flight = 0,
    errors = {},
    lost = {},
    lost_told = 0,
    failed = 0,
    done = 0,
  }, Call)
  local policy_of_chunks = opts.chunk or "auto"
  -- A slow source is not waited for until a chunk of measured size is full.
  if policy_of_chunks == "auto" then self.patience = chunking.TARGET_SECONDS end
  if policy_of_chunks == "auto" and self.window == math.huge then policy_of_chunks = "guided" end
  self.known = { largest = 0 }
  if policy_of_chunks == "auto" and not spec.single and not spec.merges then
    self.known, self.trusts = pool:costs_of(spec.fn)
  end
  self.chunk = type(policy_of_chunks) == "number" and policy_of_chunks or nil
  local in_place = (plan.into or plan.mode == "each") and not source.list and not source.lazy
  self.size, self.observe = chunking.new(policy_of_chunks, pool.workers, in_place and chunking.MOST_IN_PLACE or nil,
    self.known, self:keeps_apart(opts))
  if opts.timeout or opts.deadline then self.job:limits(opts.timeout, opts.deadline) end
  pool:know_call(self)
  local ok, message = pcall(write_log, self, spec.fn, opts)
  if not ok then
    self:close()
    encode_error(message):raise()
  end
  return self
end

--- Must each chunk be a message of its own? Where results are handed out they are wanted at once, and what a death or a
--- timeout takes along shall be what was asked for.
function Call:keeps_apart(opts)
  return self.single or self.merges or self.hands_out or self.async or self.source.lazy or self.retries > 0
    or opts.timeout or opts.max_tasks or opts.memory_limit
end

function Call:close()
  if self.finished then return end
  self.finished = true
  self.job:close()
  self.pool:forget_call(self)
  if self.pool.backend == "fork" then self.pool:terminate() end
end

--- Closes the call and ends what runs.
function Call:abort()
  self.job:abort()
  self:close()
end

--- Does the failure at `index` belong to a folding function, and so to no item?
function Call:is_folding(index, failure)
  local folding = failure.folding
  failure.folding = nil
  if not self.merges then return false end
  return folding or (index and index >= self.merges.first) or (self.plan.mode == "reduce" and failure.kind ~= "encode")
end

--- Notes that an item failed, or (index nil) that the call did. Ends the supply of items if that is the policy.
function Call:fail(index, failure)
  if getmetatable(failure) ~= Error then failure = Error.new(failure) end
  -- What happens before the first item belongs to none.
  if not self.single and failure.kind ~= "init" then failure.index = index end
  if self:is_folding(index, failure) then failure.index = nil end
  self.failed = self.failed + 1
  self.pool:count("failed", 1)
  if self.policy == "collect" or (self.hands_out and index) then self.errors[index] = failure end
  if self.policy == "collect" then return end
  if not self.error or (index and self.error_at and index < self.error_at) then
    self.error, self.error_at = failure, index
  end
  if self.policy == "stop" then
    self.ended = true
    -- Items before it go on: the error that is raised is then the same in every run.
    self.job:cancel(index and index + 1)
  end
end

--- Notes that an item failed which is in no chunk of results.
function Call:lose(index, failure)
  self:count_done(index, 1)
  self.lost[#self.lost + 1] = index
  self:fail(index, failure)
  self.source:release(index, 1)
end

--- Notes that n items from `first` on are done, failed ones included. Merges are no items.
function Call:count_done(first, n)
  if self.merges and first >= self.merges.first then return end
  self.done = self.done + n
  self.pool:count("items", n)
end

--- Sends one chunk of items first... of at most n. Returns how many are on their way or failed, 0 at the end.
function Call:send(first, n, again)
  local job, source = self.job, self.source
  local sent, message
  if again then
    sent, message = source:put_again(job, first, n)
  else
    sent, message = source:put(job, first, n, self.patience, not self.chunk)
  end
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
      self.under_way[first] = sent
      if sent > (self.chunk or 1) and (self.trusts or self.chunk) then
        self.bold[first], self.bold_count = true, self.bold_count + 1
      end
      self.pool:count("bytes_sent", submitted)
    end
  end
  if message then
    self:lose(first + sent, encode_error(message))
    return sent + 1
  end
  return sent
end

--- How many items may be sent now, at most `size`: the bound on lazy sources, which beats the size of chunks.
function Call:allowed(size)
  if not self.source.lazy then return size end
  local ahead = self.ahead
  if ahead then
    -- Each worker gets its share of what may be under way.
    size = math.min(size, math.max(1, math.floor(ahead / (CHUNKS_AHEAD * self.pool.workers))))
  else
    ahead = AHEAD_CHUNKS * self.pool.workers * size
  end
  local taken = self.hands_out and self.taken or self.done
  return math.min(size, ahead - (self.next - 1 - taken))
end

--- Sends the next chunk of items. False when there are none, or none may be pulled yet.
function Call:send_items()
  local count = self.source.count
  if count and self.next > count then return false end
  local left = count and count - self.next + 1
  local wanted, growing = self.size(left)
  local size = self:allowed(wanted)
  self.growing = growing
  if size < 1 then return false end
  local sent = self:send(self.next, left and math.min(size, left) or size)
  self.next = self.next + sent
  return sent > 0
end

--- Learns from a chunk that took `busy` seconds how large the next ones shall be, and how many shall wait.
function Call:learn(items, busy)
  self.observe(items, busy)
  if self.window == math.huge then return end
  local mean = self.chunk_seconds and (self.chunk_seconds + busy) / 2 or busy
  self.chunk_seconds = mean
  local waiting = math.max(CHUNKS_AHEAD, math.min(MOST_AHEAD, QUEUED_SECONDS / math.max(mean, 1e-9)))
  if self.growing then waiting = CHUNKS_AHEAD end
  self.window = self.pool.workers * waiting
  if not self.hands_out then self:doze() end
end

--- With many chunks waiting there is no need to wake up for each that is done.
function Call:doze()
  local low = self.window > 2 * CHUNKS_AHEAD * self.pool.workers and math.floor(self.window / 2) or 2 ^ 32 - 1
  if self.low == low then return end
  self.low = low
  self.job:wake_below(low)
end

--- A chunk that goes back, or nil. A call that has failed goes on with items before the failed one, if it hands results
--- out in order.
function Call:next_again()
  local list = self.again
  for i = #list, 1, -1 do
    if not self.ended or (self.ordered and not self.expired and self.error_at and list[i][1] < self.error_at) then
      return table.remove(list, i)
    end
  end
end

--- Sends a chunk that goes back, whole unless it was cut short.
function Call:send_rest(first, count)
  local size = self.was_cut and not self.merges and self.size(count) or count
  if size < count then self.again[#self.again + 1] = { first + size, count - size } end
  self:send(first, math.min(size, count), true)
end

--- Keeps the workers supplied. True: the source is slow, so there may be results to take before it is asked again.
function Call:supply()
  local merges, source = self.merges, self.source
  while self.in_flight < self.window do
    local again = self:next_again()
    if again then
      self:send_rest(again[1], again[2])
    elseif self.ended then
      return false
    elseif not (merges and merges:send(self, false)) and not self:send_items() then
      if not (merges and merges:send(self, true)) then return false end
    elseif source.was_slow then
      source.was_slow = nil
      return true
    end
  end
  return false
end

--- Supplies the workers; an error of the source reaches the caller as it is, after what is under way has ended: from
--- here, or from finish when somebody may still take results. Returns what supply does.
function Call:try_supply()
  if self.supplying then error("the source of this call is being asked for items by another coroutine", 0) end
  self.supplying = true
  local supplied, slow = pcall(self.supply, self)
  self.supplying = false
  if supplied then return slow end
  self.ended = true
  self.source_error = { slow }
  if self.hands_out or self.async then return false end
  self.job:cancel()
  while self.job:collect() ~= "empty" do end
  self:close()
  error(slow, 0)
end

--- A Ctrl-C came: what runs may end its items; what does not is ended with its workers.
function Call:interrupt()
  local job = self.job
  local deadline = core.clock() + INTERRUPT_GRACE
  job:cancel()
  while job:outstanding() > 0 and core.clock() < deadline do job:collect(deadline - core.clock()) end
  if job:outstanding() > 0 then self.pool:terminate() end
  self.error = Error.new { kind = "cancelled", message = "interrupted!" }
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

--- The chunk has no results: its items from first to last are sent again, unless there are none.
function Call:send_again(first, last)
  if last >= first then self.again[#self.again + 1] = { first, last - first + 1 } end
end

--- What is under way takes longer than such items did before, and other workers may have nothing to do: each chunk ends
--- with the item that runs, and the rest is sent again in chunks of the size that fits. It is sent at once where it is
--- certain that the worker will not begin it: its item may wait for one of those.
function Call:cut_short()
  self.trusts, self.was_cut, self.known.largest = false, true, 1
  local stuck = self.job:cut()
  for i = 1, #stuck do
    for first, count in pairs(self.under_way) do
      local last = first + count - 1
      if stuck[i] >= first and stuck[i] < last then
        self.under_way[first] = stuck[i] - first + 1
        self:send_again(stuck[i] + 1, last)
        break
      end
    end
  end
end

--- A chunk came back. Returns how many items it stands for, those that were taken back left out.
function Call:note_return(first, count)
  local sent = self.under_way[first] or count
  self.in_flight = self.in_flight - 1
  self.under_way[first] = nil
  if self.bold[first] then self.bold[first], self.bold_count = nil, self.bold_count - 1 end
  return math.min(count, sent)
end

--- Sends the item again, alone, if it failed in a way and not so often that this may help.
function Call:retry(index, kind)
  local tries = (self.tries[index] or 0) + 1
  if not RETRIED[kind] or tries > self.retries or self.ended then return false end
  self.tries[index] = tries
  self:send_again(index, index)
  return true
end

--- What a chunk without results tells of: the failure, and the item that it belongs to, 0 for none.
function Call:describe_death(outcome, worker)
  local index, signal, code, message = self.job:death()
  local kind = KINDS[outcome]
  if outcome == "died" and index == 0 and self.pool.has_init then
    kind = "init"
  elseif outcome == "died" and self.pool.terminated then
    kind, message = "cancelled", "the pool was terminated while the item ran"
  end
  local failure = { kind = kind, message = message, worker = worker > 0 and worker or nil }
  if outcome == "died" then
    if signal ~= 0 then failure.signal = signal else failure.exit_code = code end
  end
  return failure, index
end

--- The chunk has no results, but was run up to the item `running`: where results go to a buffer, those of the items
--- before are there. Returns the first item that is not done.
function Call:keep_written(first, running)
  if not self.plan.into or running <= first then return first end
  self:count_done(first, running - first)
  self.source:release(first, running - first)
  return running
end

--- The chunk was ended with the call: of those of its items that are not done it will be told that the time was over.
function Call:settle_end(first, count)
  local running = math.min((self.job:death()), first + count)
  running = self:keep_written(first, running)
  self:send_again(running, first + count - 1)
end

--- The worker that ran the chunk ended, or could not be started, or was ended because an item was over its time.
function Call:settle_death(outcome, first, count, worker)
  local failure, index = self:describe_death(outcome, worker)
  local last = first + count - 1
  if failure.kind == "init" and not self.ended and self:survives_init_failure(first, count) then return end
  if outcome == "memory" and index == 0 and count > 1 and not self.ended then
    -- No item alone: it was too much at once.
    local half = math.floor(count / 2)
    self:send_again(first + half, last)
    self:send_again(first, first + half - 1)
    return
  end
  if index < first or index > last then index = first end
  self:keep_written(first, index)
  if not self:retry(index, failure.kind) then self:lose(index, failure) end
  -- The other items of the chunk have no results: those that were done are done again.
  if not self.plan.into and (not self.ended or self.ordered) then self:send_again(first, index - 1) end
  if not self.ended then self:send_again(index + 1, last) end
end

--- Is the call's time over?
function Call:is_late() return self.deadline and not self.expired and core.clock() >= self.deadline end

--- The call's time is over: no further item begins, and those that run are ended.
function Call:expire()
  self.expired, self.ended = true, true
  self.grace = core.clock() + DEADLINE_GRACE
  self.job:abort()
end

--- Items that were sent or are a list's, and have no result, fail with the deadline. Where only the error is wanted, it
--- is that of the first of them.
function Call:fail_unfinished()
  local list = self.again
  for first, count in pairs(self.under_way) do list[#list + 1] = { first, count } end
  self.again, self.under_way = {}, {}
  local count = self.source.count or self.next - 1
  if count >= self.next then list[#list + 1] = { self.next, count - self.next + 1 } end
  self.next = count + 1
  if #list == 0 then return end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  local message = "the call's deadline passed before it was done"
  if self.merges then return self:fail(nil, { kind = "deadline", message = message }) end
  for i = 1, #list do
    for index = list[i][1], list[i][1] + list[i][2] - 1 do
      self:lose(index, { kind = "deadline", message = message })
      if self.policy ~= "collect" then return end
    end
  end
end

--- Takes in the results of a chunk: those of `done` items, or one that stands for all (fold). False when it
--- goes back: its worker's init function failed.
function Call:settle_results(place, first, done, worker, count)
  local columns, total, at = place(first)
  local errors = self.job:results(columns, total, at)
  local failed = errors and errors[1][2]
  if failed and failed.kind == "init" and not self.ended and self:survives_init_failure(first, count) then
    return false
  end
  self:count_done(first, done)
  -- A worker that is replaced after so many items leaves the rest of its chunk to others.
  if not self.merges then self:send_again(first + done, first + count - 1) end
  for i = 1, errors and #errors or 0 do
    failed = errors[i][2]
    failed.worker = worker
    self:fail(first + errors[i][1], failed)
  end
  self.source:release(first, done)
  return true
end

--- The item that made this call was asked to stop: nothing more of it begins.
function Call:end_with_item()
  self.ended = true
  self.error = Error.new { kind = "cancelled", message = "the item that made the call was stopped" }
  self.job:cancel()
end

--- Seconds until something other than a chunk must be seen to: `deadline`, the end of the call's time, or that chunks
--- are cut short. nil: none.
function Call:longest_wait(deadline)
  local moment = self.expired and (self.grace or 0) or self.deadline
  if not moment or (deadline and deadline < moment) then moment = deadline end
  local wait = moment and math.max(0, moment - core.clock())
  if self.bold_count > 0 and not (wait and wait < SURPRISE_SECONDS) then return SURPRISE_SECONDS end
  return wait
end

--- Takes one finished chunk. `place(first)` gives where its results go: columns, total (or nil) and the position of the
--- chunk's first item; they are stored as job:results tells. Returns first, done, worker, and the number of values in
--- each column; nil when all are taken; false when `seconds` were over before. When results are handed out, an item
--- that was lost is told of as a chunk of no items. With `how` "poll" it neither waits nor runs anything.
function Call:receive(place, seconds, how)
  local job, pool = self.job, self.pool
  local deadline = seconds and core.clock() + seconds
  while true do
    if in_worker and not self.ended and core.cancelled() then self:end_with_item() end
    if self:is_late() then self:expire() end
    local slow = self:try_supply()
    local lost = self.hands_out and self.lost[self.lost_told + 1]
    if lost then
      -- To be handed out now: the bound may not allow any other item before.
      self.lost_told = self.lost_told + 1
      return lost, 0, 0, 0
    end
    local wait = self:longest_wait(deadline)
    local outcome, first, count, done, worker, busy, bytes
    if how == "poll" then
      outcome, first, count, done, worker, busy, bytes = job:poll()
    else
      outcome, first, count, done, worker, busy, bytes = job:collect(slow and 0 or wait, pool:is_watching(self))
    end
    if outcome == "interrupted" then self:interrupt() end
    if self.grace and (outcome == "empty" or (outcome == "timeout" and core.clock() >= self.grace)) then
      self.grace = nil
      self:fail_unfinished()
      -- Whoever still has items that run is not waited for.
      if not self.hands_out then return nil end
    elseif outcome == "empty" or (self.expired and not self.grace and outcome == "timeout") then
      return nil
    elseif outcome == "woken" then
      pool:attend()
      -- A callback may have waited for this very call.
      if self.finished then return nil end
    elseif outcome == "timeout" then
      if deadline and core.clock() >= deadline and not self:is_late() then return false end
      if self.bold_count > 0 and how ~= "poll" and not slow then self:cut_short() end
    else
      count = self:note_return(first, count)
      pool:count_chunk(outcome, busy, bytes)
    end
    if outcome == "done" then
      local values = done
      -- A fold gives one value for all its items.
      if self.merges then done = count end
      self:learn(done, busy)
      if self:settle_results(place, first, done, worker, count) then return first, done, worker, values end
    end
    if KINDS[outcome] then
      self:settle_death(outcome, first, count, worker)
    elseif outcome == "deadline" then
      self:settle_end(first, count)
      if not self.expired then self:expire() end
    elseif outcome == "cancelled" and self.expired then
      self:settle_end(first, count)
    elseif outcome == "cancelled" and self.was_cut and not self.ended then
      self:send_again(first, first + count - 1)
    elseif outcome == "cancelled" and not self.ended then
      self:fail(first, { kind = "cancelled", message = "the pool was terminated before the item was run" })
      self.ended = true
    end
  end
end

--- Why the call failed, or nil; and whether it is what the source raised, to be handed on as it is.
function Call:failure()
  if not self.error and self.source_error then return self.source_error[1], true end
  if self.closed and not self.error then
    self.error = Error.new { kind = "cancelled", message = "the pool takes no more work: it was closed" }
  end
  return self.error, false
end

--- Ends the call: raises the error if there is one.
function Call:finish()
  self:close()
  local failure, is_raw = self:failure()
  if is_raw then error(failure, 0) end
  if failure then failure:raise() end
end

return Call
