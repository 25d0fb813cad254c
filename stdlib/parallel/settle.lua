-- SPDX-License-Identifier: MIT
--
-- settle.lua - what becomes of a chunk that came back, and of its items: results, failures, deaths, the end of the
-- call's time. The module is a function that adds these methods to the class of calls (call.lua).

local core = require "lumap.core"

-- After a deadline what is running is waited for as long as this, which is long for a busy machine, too: a chunk that
-- ends has results, and of one that is given up nobody knows how far it came.
local DEADLINE_GRACE = 0.5

-- The kinds of failures that chunks without results tell of.
local KINDS = { died = "died", memory = "memory", init = "init", start = "init", overtime = "timeout" }
local LATE = "the call's deadline passed before it was done"
-- Failures after which an item may be run again.
local RETRIED = { died = true, timeout = true, memory = true }

---@class parallel.Call
local methods = {}

--- The chunk has no results: its items from first to last are sent again, unless there are none.
function methods:send_again(first, last)
  if last >= first then self.again[#self.again + 1] = { first, last - first + 1 } end
end

--- What is under way takes longer than such items did before, and other workers may have nothing to do: each chunk ends
--- with the item that runs, and the rest is sent again in chunks of the size that fits. It is sent at once where it is
--- certain that the worker will not begin it: its item may wait for one of those.
function methods:cut_short()
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
function methods:note_return(first, count)
  local sent = self.under_way[first] or count
  self.in_flight = self.in_flight - 1
  self.under_way[first] = nil
  if self.bold[first] then self.bold[first], self.bold_count = nil, self.bold_count - 1 end
  return math.min(count, sent)
end

--- Sends the items from first to last again if the first one failed in a way and not so often that this may help.
function methods:retry(first, last, kind)
  local tries = (self.tries[first] or 0) + 1
  if not RETRIED[kind] or tries > self.retries or self.ended then return false end
  self.tries[first] = tries
  self:send_again(first, last)
  return true
end

--- What a chunk without results tells of: the failure; the item that it belongs to, 0 for none; and whether no worker
--- can make itself ready.
function methods:describe_death(outcome, worker)
  local index, signal, code, message, is_hopeless = self.job:death()
  local kind = KINDS[outcome]
  if outcome == "init" then
    local failure = self.job:results({}, 0, 1)[1][2]
    failure.worker = worker
    return failure, 0, is_hopeless
  end
  if outcome == "died" and index == 0 and self.pool.has_init then
    kind = "init"
  elseif outcome == "died" and self.pool.terminated then
    kind, message = "cancelled", "the pool was terminated while the item ran"
  end
  local failure = { kind = kind, message = message, worker = worker > 0 and worker or nil, begun = index ~= 0 }
  if outcome == "died" then
    if signal ~= 0 then failure.signal = signal else failure.exit_code = code end
  end
  return failure, index, is_hopeless
end

--- The chunk has no results. Where they go to a buffer, those of its first `done` items are there. Returns the first
--- item that is not done.
function methods:keep_written(first, done)
  if not self.plan.into or done == 0 then return first end
  self:count_done(first, done)
  self.source:release(first, done)
  return first + done
end

--- The chunk was ended with the call: of those of its items that are not done it will be told that the time was over.
function methods:settle_end(first, count, done)
  self:send_again(self:keep_written(first, done), first + count - 1)
end

--- The worker that was to run the chunk could not make itself ready, or it ended, or it was ended because an item was
--- over its time.
function methods:settle_death(outcome, first, count, done, worker)
  local failure, index, is_hopeless = self:describe_death(outcome, worker)
  local last = first + count - 1
  if failure.kind == "init" and not self.ended then
    -- The pool hands the chunk to others first. When all have failed nobody is left to run the other items either.
    if not is_hopeless then return self:send_again(first, last) end
    self.policy = "stop"
  end
  local is_merge = self.merges and first >= self.merges.first
  if outcome == "memory" and index == 0 and count > (is_merge and 2 or 1) and not self.ended then
    -- No item alone: it was too much at once.
    local half = math.floor(count / 2)
    self:send_again(first + half, last)
    self:send_again(first, first + half - 1)
    return
  end
  if is_merge then
    -- As it is: in pieces it would come back unmerged, to be merged anew under other numbers, and so without end.
    if not self:retry(first, last, failure.kind) then self:lose(first, failure) end
    return
  end
  if index < first or index > last then index = first end
  local undone = self:keep_written(first, math.min(done, index - first))
  if not self:retry(index, index, failure.kind) then self:lose(index, failure) end
  -- The other items of the chunk have no results: those that were done are done again. After a deadline none is, but
  -- what is on the list has failed with it.
  local is_told = not self.ended or (self.expired and self.grace)
  if is_told or self.ordered then self:send_again(undone, index - 1) end
  if is_told then self:send_again(index + 1, last) end
end

--- Is the call's time over?
function methods:is_late() return self.deadline and not self.expired and core.clock() >= self.deadline end

--- The call's time is over: no further item begins, and those that run are ended.
function methods:expire()
  self.expired, self.ended = true, true
  self.grace = core.clock() + DEADLINE_GRACE
  self.job:abort()
end

--- Items that were sent or are a list's, and have no result, fail with the deadline. Where only the error is wanted, it
--- is that of the first of them.
function methods:fail_unfinished()
  local list = self.again
  for first, count in pairs(self.under_way) do list[#list + 1] = { first, count } end
  self.again, self.under_way = {}, {}
  local count = self.source.count or self.next - 1
  if count >= self.next then list[#list + 1] = { self.next, count - self.next + 1 } end
  self.next = count + 1
  if self.merges then
    if #list > 0 or not self.merges:is_whole() then self:fail(nil, { kind = "deadline", message = LATE }) end
    return
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  for i = 1, #list do
    for index = list[i][1], list[i][1] + list[i][2] - 1 do
      self:lose(index, { kind = "deadline", message = LATE })
      if self.policy ~= "collect" then return end
    end
  end
end

--- An item failed. What waits (for a channel, for a call of its own) ends when its item is to end, with an error that
--- does not know why: here it is known that the call's time was over. As of other items of a fold, only that is told.
function methods:fail_item(index, failure)
  if failure.kind == "cancelled" and (self.expired or self:is_late()) and not self.pool.terminated then
    failure.kind, failure.message, failure.value = "deadline", LATE, nil
    if self.merges then index = nil end
  end
  self:fail(index, failure)
end

--- Takes in the results of a chunk: those of `done` items, or one that stands for all (fold).
function methods:settle_results(target, first, done, worker, count)
  if target.alone then target.columns = { {} } end
  local errors = self.job:results(target.columns, target.total, target.alone and 1 or first)
  self:count_done(first, done)
  -- A worker that is replaced after so many items leaves the rest of its chunk to others.
  if not self.merges then self:send_again(first + done, first + count - 1) end
  for i = 1, errors and #errors or 0 do
    local failed = errors[i][2]
    failed.worker = worker
    self:fail_item(first + errors[i][1], failed)
  end
  self.source:release(first, done)
end

--- Settles a chunk that has no results, by its outcome. Others are none of its business.
function methods:settle(outcome, first, count, done, worker)
  if KINDS[outcome] then
    self:settle_death(outcome, first, count, done, worker)
  elseif outcome == "deadline" or (outcome == "cancelled" and (self.expired or self:is_late())) then
    -- Those who end the items may look at the clock before us.
    self:settle_end(first, count, math.min(done, count))
    if not self.expired then self:expire() end
  elseif outcome == "cancelled" and self.was_cut and self:wants(first) then
    self:send_again(first, first + count - 1)
  elseif outcome == "cancelled" and not self.ended then
    self:fail(first, { kind = "cancelled", message = "the pool was terminated before the item was run" })
    self.ended = true
  end
end

return function(class)
  for name, method in pairs(methods) do class[name] = method end
end
