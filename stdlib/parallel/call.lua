-- SPDX-License-Identifier: MIT
--
-- call.lua - one call: a function over items on a pool. Every verb is a thin consumer of it:
--
--     start -> receive, receive, ... -> finish
--
-- receive keeps the workers supplied, takes one finished chunk, stores its results where the verb wants them, and
-- settles its failures by the errors policy (settle.lua). So order, bounds, errors and deaths are dealt with once.
--
-- Items are counted twice, for the bound on lazy sources: as pulled when the source gave them, as taken when their
-- results were handed out. Verbs that store results as they come take an item when it is done; iterators (`hands_out`)
-- count in `taken` what they have yielded.

local core = require "lumap.core"
local chunking = require "parallel.chunking"
local Error = require "parallel.error"

-- Chunks a worker has: one that it runs and one that waits for it, so that it never waits for the caller. On a busy
-- machine the caller gets its turn late: of chunks that take little, as many as take QUEUED_SECONDS, but not more than
-- MOST_AHEAD, wait in the pool's queue. But not more than QUEUED_BYTES a worker: what waits shall still lie in the
-- cache when its turn comes, and so shall its memory when that is used again.
local CHUNKS_AHEAD = 2
local MOST_AHEAD = 16
local QUEUED_SECONDS = 0.02
local QUEUED_BYTES = 2 ^ 19
-- So much is stored in no time.
local LITTLE_BYTES = 2 ^ 16
-- When chunks whose size was taken on trust, from earlier calls or for a bundle, give nothing for so long, their items
-- are unlike those before them.
local SURPRISE_SECONDS = 0.005
-- Default of the option `ahead`, in chunks a worker.
local AHEAD_CHUNKS = 4
-- What is running is given this long to end after an interrupt before its workers are ended.
local INTERRUPT_GRACE = 0.1

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
require "parallel.settle"(Call)

local function encode_error(message, index)
  return Error.new { kind = "encode", message = message, index = index }
end

--- A call's fields, all of which are there from the beginning, so that the table need not grow. They are written as
--- constants, since LuaJIT keeps no others of a constructor in code that was compiled beforehand, as ours is.
local function new_call()
  return {
    pool = false, source = false, plan = false, policy = false, job = false, counts = false,
    ordered = false, single = false, hands_out = false, async = false, fold = false, merges = false,
    next = 1, -- index of the first item that has not been sent
    again = false, -- chunks whose worker died: { first, count }
    under_way = false, -- first -> count of chunks that are sent
    bold = false, -- first -> true of those whose size was taken on trust
    bold_count = 0,
    retries = 0,
    tries = false, -- item -> how often it was run again
    deadline = false, grace = false, expired = false,
    taken = 0, -- items whose results have been handed out
    ahead = false, window = 0, in_flight = 0,
    errors = false, error = false, error_at = false, failed = 0, done = 0,
    lost = false, lost_told = 0,
    chunk = false, patience = false, known = false, trusts = false, size = false, observe = false, growing = false,
    chunk_seconds = false, chunk_bytes = 0, low = false, was_cut = false,
    all_sent = false, result_bytes = 0,
    supplying = false, ended = false, closed = false, finished = false, source_error = false,
  }
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
---   merges     what sends chunks of its own (fold.lua): index of the first, and the methods send(call, drained) and
---              is_whole()
---   async      nobody may be there to send the rest later: all items of a list are sent at once
function Call.start(pool, spec)
  local opts, source = spec.opts, spec.source
  local policy, chunks = opts.errors or "stop", opts.chunk or "auto"
  local unbounded = spec.async and not source.lazy
  local plan = source.plan
  plan.mode = spec.mode
  plan.stop = policy == "stop"
  plan.single = spec.single
  plan.retries = (opts.retries or 0) > 0
  -- In an item that has a stream of its own, what it starts is decided by that, too.
  plan.seed = opts.seed or core.draw_seed()
  plan.merges = spec.merges and spec.merges.first
  local self = setmetatable(new_call(), Call)
  self.pool, self.source, self.plan, self.policy = pool, source, plan, policy
  self.ordered, self.single, self.hands_out, self.async = spec.ordered, spec.single, spec.hands_out, spec.async
  self.fold, self.merges = spec.fold, spec.merges
  self.job = pool.core:job(opts.globals == nil or opts.globals == true)
  self.again, self.under_way, self.bold, self.tries, self.errors, self.lost = {}, {}, {}, {}, {}, {}
  self.retries, self.ahead = opts.retries or 0, opts.ahead
  self.deadline = opts.deadline and core.clock() + opts.deadline
  self.window = unbounded and math.huge or CHUNKS_AHEAD * pool.workers
  self.chunk = type(chunks) == "number" and chunks or nil
  -- A slow source is not waited for until a chunk of measured size is full.
  self.patience = chunks == "auto" and chunking.TARGET_SECONDS or nil
  if chunks == "auto" and unbounded then chunks = "guided" end
  if chunks == "auto" and not spec.single and not spec.merges then
    self.known, self.trusts = pool:costs_of(spec.fn)
  else
    self.known = { largest = 0 }
  end
  local in_place = (plan.into or plan.mode == "each") and not source.list and not source.lazy
  self.size, self.observe = chunking.new(chunks, pool.workers, in_place and chunking.MOST_IN_PLACE or nil, self.known,
    self:keeps_apart(opts))
  if self.trusts and not unbounded then
    self.chunk_seconds = self.size(source.count) * self.known.seconds_an_item
    self:set_window()
  end
  if opts.timeout or opts.deadline then self.job:limits(opts.timeout, opts.deadline) end
  self.counts = pool:know_call(self)
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
  if failure.begun and failure.kind == "died" and failure.index then
    failure.message = ("%s in item %d"):format(failure.message, failure.index)
  end
  failure.begun = nil
  self.failed = self.failed + 1
  self.counts.failed = self.counts.failed + 1
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
  self.counts.items = self.counts.items + n
end

--- Counts a chunk that came back.
function Call:count_chunk(outcome, busy, bytes)
  local counts = self.counts
  if outcome == "done" then
    counts.chunks = counts.chunks + 1
    counts.busy = counts.busy + busy
    counts.bytes_received = counts.bytes_received + bytes
  elseif outcome == "died" or outcome == "memory" then
    counts.deaths = counts.deaths + 1
  elseif outcome == "overtime" then
    counts.timeouts = counts.timeouts + 1
  end
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
      -- A merge is as long as it is, and cannot be cut: its value is one for all.
      if sent > (self.chunk or 1) and (self.trusts or self.chunk) and not self.merges then
        self.bold[first], self.bold_count = true, self.bold_count + 1
      end
      self:note_size(submitted)
      self.counts.bytes_sent = self.counts.bytes_sent + submitted
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

--- How many chunks may be under way, after what is known of the last ones.
function Call:set_window()
  local waiting = math.min(MOST_AHEAD, QUEUED_SECONDS / math.max(self.chunk_seconds, 1e-9),
    QUEUED_BYTES / math.max(self.chunk_bytes, 1))
  if self.growing then waiting = CHUNKS_AHEAD end
  self.window = self.pool.workers * math.max(CHUNKS_AHEAD, waiting)
  if not self.hands_out then self:doze() end
end

--- A chunk of so many bytes was sent. If that is more than before, fewer of them shall wait.
function Call:note_size(bytes)
  local grows = bytes > self.chunk_bytes and self.chunk_seconds
  self.chunk_bytes = bytes
  if grows then self:set_window() end
end

--- Learns from a chunk that took `busy` seconds, and whose results are so many bytes, how large the next ones shall be,
--- and how many shall wait.
function Call:learn(items, busy, bytes)
  self.observe(items, busy)
  if self.window == math.huge then return end
  self.chunk_seconds = self.chunk_seconds and (self.chunk_seconds + busy) / 2 or busy
  self.chunk_bytes, self.result_bytes = math.max(self.chunk_bytes, bytes), bytes
  self:set_window()
end

--- With many chunks waiting there is no need to wake up for each that is done. Nor is there when all are sent, and
--- little is to be stored: where all processors work, each wake-up takes a worker off its own. When a worker has no
--- chunk left, its processor is free.
function Call:doze()
  local low, workers = 2 ^ 32 - 1, self.pool.workers
  if self.all_sent and self.in_flight * self.result_bytes <= LITTLE_BYTES then
    low = workers - 1
  elseif self.window > 2 * CHUNKS_AHEAD * workers then
    low = math.floor(self.window / 2)
  end
  if self.low == low then return end
  self.low = low
  self.job:wake_below(low)
end

--- Is an item to be run, as things are? A call that has failed goes on with those before the failed one: if it hands
--- results out in order, or if chunks were cut short, since what fails first by its index is the error.
function Call:wants(index)
  if not self.ended then return true end
  return (self.ordered or self.was_cut) and not self.expired and self.error_at and index < self.error_at
end

--- A chunk that goes back, or nil.
function Call:next_again()
  local list = self.again
  for i = #list, 1, -1 do
    if self:wants(list[i][1]) then return table.remove(list, i) end
  end
end

--- Sends a chunk that goes back, whole unless it was cut short.
function Call:send_rest(first, count)
  local size = self.was_cut and not self.merges and self.size(count) or count
  if size < count then self.again[#self.again + 1] = { first + size, count - size } end
  count = math.min(size, count)
  local sent = self:send(first, count, true)
  -- An item that cannot be sent any more leaves those behind it; of a pool that was closed there is no more to ask.
  if sent > 0 then self:send_again(first + sent, first + count - 1) end
end

--- Notes whether all items are sent, as things are.
function Call:note_sent()
  local count = self.source.count
  local all = count and self.next > count and #self.again == 0 and not self.merges
  if self.all_sent == all then return end
  self.all_sent = all
  if self.chunk_seconds and not self.hands_out and self.window < math.huge then self:doze() end
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
  slow = require("parallel.failures").without_place(slow)
  self.source_error = { slow }
  if self.hands_out or self.async then return false end
  self.job:cancel()
  repeat
    local outcome = self.job:collect()
    if outcome == "interrupted" then self:interrupt() end
  until outcome == "empty"
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

--- Takes one finished chunk. Its results go to target.columns, at the places of its items (with room for target.total,
--- where that is known); or, with target.alone, to columns of their own, from 1 on, which target.columns then is. They
--- are stored as job:results tells. A target is a table and no function: code that LuaJIT compiles keeps the functions
--- that it calls, and all that they reach, for good.
--- Returns first, done, worker, and the number of values in each column; nil when all are taken; false when `seconds`
--- were over before. When results are handed out, an item that was lost is told of as a chunk of no items. With `how`
--- "poll" it neither waits nor runs anything.
function Call:receive(target, seconds, how)
  local job, pool = self.job, self.pool
  local deadline = seconds and core.clock() + seconds
  while true do
    if in_worker and not self.ended and core.cancelled() then self:end_with_item() end
    if self:is_late() then self:expire() end
    local slow = self:try_supply()
    self:note_sent()
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
      self:count_chunk(outcome, busy, bytes)
    end
    if outcome == "done" then
      local values = done
      -- A fold gives one value for all its items.
      if self.merges then done = count end
      self:settle_results(target, first, done, worker, count)
      self:learn(done, busy, bytes)
      return first, done, worker, values
    end
    self:settle(outcome, first, count, done, worker)
  end
end

--- Why the call failed, or nil; and whether it is what the source raised, to be handed on as it is.
function Call:failure()
  if not self.error and self.source_error then return self.source_error[1], true end
  if self.closed and not self.error then
    self.error = Error.new { kind = "cancelled", message = "the pool takes no more work: it was closed" }
  end
  return self.error or nil, false
end

--- Ends the call: raises the error if there is one.
function Call:finish()
  self:close()
  local failure, is_raw = self:failure()
  if is_raw then error(failure, 0) end
  if failure then failure:raise() end
end

return Call
