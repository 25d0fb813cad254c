-- SPDX-License-Identifier: MIT
--
-- fold.lua - reduce and mapreduce. Workers fold chunks of items; what they give is a segment, one value that stands for
-- the items lo to hi. Segments that have become neighbours are sent to a worker as a chunk of its own, a merge, which
-- gives one segment for all of them. So only folded values travel, always in the order of the items, and the folding
-- function never runs in the caller's state.
--
--     items   1 2 3 | 4 5 6 | 7 8 9 | 10        chunks
--             [1-3]   [4-6]   [7-9]   [10-10]   segments, as they come
--             [1--------------------------10]   after merges: the result
--
-- With `seed` the folding function has a stream of random numbers for each border between neighbours, that of the item
-- with which the right one begins (nil results of mapfn left out). So a segment keeps where it begins, `from`, and
-- values of a merge travel with it.
--
-- Merges are numbered from FIRST_MERGE on where items are numbered from 1, one number for each value that goes into
-- them. So a failure, a stop or a death is dealt with as that of any chunk (call.lua).

local compat = require "lumap.compat"
local Call = require "parallel.call"
local source = require "parallel.source"

-- Beyond any item, and exact with all that follow in a double.
local FIRST_MERGE = compat.to_integer(2 ^ 52)
-- While there are items to fold, workers are only bothered with a merge that makes one segment of this many.
local MERGE_EARLY = 16

---@class parallel.Folder
local Folder = {}
Folder.__index = Folder

--- `workers`: how many there are to share the last merges.
function Folder.new(workers)
  return setmetatable({
    first = FIRST_MERGE,
    next = FIRST_MERGE,
    workers = workers,
    starting = {}, -- lo -> run: neighbouring segments, in order
    ending = {}, -- hi -> the same runs
    mergeable = {}, -- set of the runs that have at least two segments
    long = {}, -- set of the runs that have MERGE_EARLY
    held = {}, -- number in a merge -> segment
  }, Folder)
end

--- Puts a segment behind the last one of a run. One without a value (all results were nil) only widens its neighbour.
local function append(run, segment)
  local last = run[#run]
  if not last or (last.has and segment.has) then
    run[#run + 1] = segment
    return
  end
  last.hi = segment.hi
  if segment.has then last.has, last.value, last.from = true, segment.value, segment.from end
end

function Folder:forget(run)
  self.starting[run[1].lo], self.ending[run[#run].hi] = nil, nil
  self.mergeable[run], self.long[run] = nil, nil
end

function Folder:keep(run)
  self.starting[run[1].lo], self.ending[run[#run].hi] = run, run
  self.mergeable[run], self.long[run] = #run > 1 or nil, #run >= MERGE_EARLY or nil
end

--- Is there one segment at most, that stands for all which has been taken in?
function Folder:is_whole()
  local lo, run = next(self.starting)
  return lo == nil or (#run == 1 and next(self.starting, lo) == nil)
end

--- Takes in the value that stands for items lo to hi and begins with item `from`; without `has` there is none.
function Folder:add(lo, hi, has, value, from)
  local before, after = self.ending[lo - 1], self.starting[hi + 1]
  local run = before or {}
  if before then self:forget(before) end
  append(run, { lo = lo, hi = hi, has = has, value = value, from = from })
  if after then
    self:forget(after)
    for i = 1, #after do append(run, after[i]) end
  end
  self:keep(run)
end

--- Takes in what a worker made of the chunk first, count: of items, or of a merge.
function Folder:take(first, count, has, value, from)
  if first < FIRST_MERGE then return self:add(first, first + count - 1, has, value, from) end
  local lo, hi = self.held[first].lo, self.held[first + count - 1].hi
  from = self.held[first].from
  for number = first, first + count - 1 do self.held[number] = nil end
  self:add(lo, hi, has, value, from)
end

--- A run that is worth a merge, and how many of its segments: with `drained` any, shared so that all workers take part.
function Folder:choose(drained)
  local run = next(drained and self.mergeable or self.long)
  if not run then return nil end
  return run, drained and math.max(2, math.ceil(#run / self.workers)) or #run
end

--- Sends a merge if there is one to send. `drained`: there are no items to send just now.
function Folder:send(call, drained)
  if call.error then return false end
  local run, count = self:choose(drained)
  if not run then return false end
  self:forget(run)
  local first, rest = self.next, {}
  for i = 1, #run do
    if i <= count then self.held[first + i - 1] = run[i] else rest[#rest + 1] = run[i] end
  end
  if #rest > 0 then self:keep(rest) end
  self.next = first + count
  call:send(first, count, true)
  return true
end

--- The source of the call: items from `from`, merges from the segments that are held.
function Folder:over(from)
  local folder = self
  local both = setmetatable({}, { __index = from })
  function both.put(_, ...)
    local sent, message = from:put(...)
    both.was_slow, from.was_slow = from.was_slow, nil
    return sent, message
  end
  function both.put_again(_, job, first, n)
    if first < FIRST_MERGE then return from:put_again(job, first, n) end
    local values = {}
    for i = 1, n do
      local segment = folder.held[first + i - 1]
      values[i] = folder.seeded and { value = segment.value, from = segment.from } or segment.value
    end
    return source.put_list(job, values, 1, first, n, false, "the folded value")
  end
  function both.release(_, first, n)
    if first < FIRST_MERGE then from:release(first, n) end
  end
  return both
end

--- Runs the fold on `pool`. `spec`: as Call.start takes it, mode "reduce" or "mapreduce". Returns the value.
local function fold(pool, spec)
  local folder = Folder.new(pool.workers)
  local initial = spec.opts.initial
  if initial ~= nil then folder:add(0, 0, true, initial, 0) end
  spec.merges, spec.source = folder, folder:over(spec.source)
  local call = Call.start(pool, spec)
  folder.seeded = call.plan.seed ~= nil
  local target = { alone = true }
  while true do
    local first, count, _, values = call:receive(target)
    if not first then break end
    local columns = target.columns
    folder:take(first, count, values > 0, columns[1] and columns[1][1], columns[2] and columns[2][1])
  end
  call:finish()
  local run = folder.starting[initial ~= nil and 0 or 1]
  return run and run[1].value
end

return fold
