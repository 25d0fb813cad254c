-- SPDX-License-Identifier: MIT
--
-- chunking.lua - how many items travel together. Pure: sizes from counts and times, no clock, no pool.
--
--   a number    that many. Of chunks that take next to nothing several travel in one message, as many as take about
--               BUNDLE_SECONDS, unless the call forbids it
--   "guided"    what is left, divided by twice the workers: big chunks first, single items last (guided
--               self-scheduling, Polychronopoulos and Kuck 1987)
--   "auto"      as many as take about TARGET_SECONDS, as measured on the chunks that came back. It begins with single
--               items, since each may take minutes, and grows by GROWTH at most, since the first may be unlike the
--               rest. Never more than a share of what is left, so that all workers end together; but what is left is
--               not cut into pieces that take less than LEAST_SECONDS. What a function's items took in earlier calls is
--               where the next call begins.

local chunking = {}

-- A hand-off costs some ten microseconds: at two milliseconds a chunk it is lost in the noise, and an uneven chunk does
-- not hold the end up for long. A lazy source that takes this long for less than a chunk is not waited for, either.
chunking.TARGET_SECONDS = 0.002
-- At this a hand-off is a tenth of the work, or less, and a worker that has nothing to do is not idle for long before
-- what others have not begun is taken back from them (Call:cut_short).
local BUNDLE_SECONDS = 0.0002
-- Here a hand-off costs a good part of the work, and waiting for one more such piece at the end costs as much again.
local LEAST_SECONDS = 0.00005
-- More than this does not pay (one chunk of numbers then fills a level-2 cache), and a stop would wait for it.
local MOST = 16384
-- The same where neither items nor results are sent, so that a chunk is a few numbers whatever its size.
chunking.MOST_IN_PLACE = 2 ^ 20
-- A chunk's share of what is left is 1 / (SHARE * workers).
local SHARE = 2
-- How many times as many items as in any chunk before.
local GROWTH = 8

local function clamp(size, most)
  if size > most then size = most end
  if size < 1 then return 1 end
  return math.floor(size)
end

--- `policy` is the option `chunk`, `workers` how many there are, `most` how many items a chunk may have (default: what
--- pays for items that are sent). The result is a function(left) -> size, where `left`
--- is how many items are left to send or nil when nobody knows; and one that is told of a finished chunk. `growing`: it
--- would be larger if more were known, so it is better not to cut all that is left by it.
---@param policy integer|"auto"|"guided"
---@param workers integer
---@param most integer|nil
---@param known table|nil what was learned of the function, { seconds_an_item, largest }: what this call learns, too
---@param alone boolean|nil chunks of a given number of items never travel together
---@return fun(left: integer|nil): integer, boolean|nil size and growing
---@return fun(items: integer, seconds: number) observe
function chunking.new(policy, workers, most, known, alone)
  most = most or MOST
  known = known or { largest = 0 }
  -- A call that met a surprise has begun anew with small chunks, and the next one need not.
  known.largest = math.max(known.largest, known.most or 0)

  local function observe(items, seconds)
    if items < 1 then return end
    local mean = seconds / items
    -- Costs drift along the items. What was measured is never too short: a worker's first chunk has the function to
    -- read, and on a busy machine threads are kept waiting. So less is believed at once, more by a quarter.
    local before = known.seconds_an_item
    known.seconds_an_item = before and mean > before and before + (mean - before) / 4 or mean
    known.largest = math.max(known.largest, items)
    known.most = math.max(known.most or 0, items)
  end

  if type(policy) == "number" then
    return function(left)
      local seconds = known.seconds_an_item
      if alone or not seconds or not left then return policy end
      local wanted = math.min(BUNDLE_SECONDS / math.max(seconds, 1e-9), left / (SHARE * workers))
      wanted = math.min(wanted, GROWTH * known.largest)
      return policy * math.max(1, math.floor(math.min(wanted, most) / policy))
    end, observe
  end

  if policy == "guided" then
    return function(left) return clamp(left and left / (SHARE * workers) or GROWTH * known.largest, most) end, observe
  end

  return function(left)
    if not known.seconds_an_item then return 1, true end
    -- A clock that did not move says as much as one that moved by its least step.
    local seconds = math.max(known.seconds_an_item, 1e-9)
    local wanted = chunking.TARGET_SECONDS / seconds
    if left then wanted = math.min(wanted, math.max(left / (SHARE * workers), LEAST_SECONDS / seconds)) end
    return clamp(math.min(wanted, GROWTH * known.largest), most), wanted > GROWTH * known.largest
  end, observe
end

return chunking
