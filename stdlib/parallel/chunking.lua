-- SPDX-License-Identifier: MIT
--
-- chunking.lua - how many items travel together. Pure: sizes from counts and times, no clock, no pool.
--
--   a number    that many
--   "guided"    what is left, divided by twice the workers: big chunks first, single items last (guided
--               self-scheduling, Polychronopoulos and Kuck 1987)
--   "auto"      as many as take about TARGET_SECONDS, as measured on the chunks that came back; never more than a share
--               of what is left, so that all workers end together

local chunking = {}

-- A hand-off costs some ten microseconds: at two milliseconds a chunk it is lost in the noise, and an uneven chunk does
-- not hold the end up for long.
local TARGET_SECONDS = 0.002
-- More than this does not pay (one chunk of numbers then fills a level-2 cache), and a stop would wait for it.
local MOST = 16384
-- A chunk's share of what is left is 1 / (SHARE * workers).
local SHARE = 2
-- Before anything is measured: small, since a single item may take minutes; not single, since most take no time.
local FIRST_SHARE = 16
local FIRST_LAZY = 1

local function clamp(size, most)
  if size > most then size = most end
  if size < 1 then return 1 end
  return math.floor(size)
end

--- `policy` is the option `chunk`, `workers` how many there are. The result is a function(left) -> size, where `left`
--- is how many items are left to send or nil when nobody knows; and one that is told of a finished chunk.
---@param policy integer|"auto"|"guided"
---@param workers integer
---@return fun(left: integer|nil): integer size
---@return fun(items: integer, seconds: number) observe
function chunking.new(policy, workers)
  local seconds_an_item
  local last = FIRST_LAZY

  local function observe(items, seconds)
    if items < 1 then return end
    local mean = seconds / items
    -- The newest chunk counts for half: costs drift along the items.
    seconds_an_item = seconds_an_item and (seconds_an_item + mean) / 2 or mean
  end

  if type(policy) == "number" then return function() return policy end, observe end

  local function guided(left)
    if left then return clamp(left / (SHARE * workers), MOST) end
    last = clamp(last * 2, MOST)
    return last
  end
  if policy == "guided" then return guided, observe end

  return function(left)
    local wanted
    if seconds_an_item then
      wanted = seconds_an_item > 0 and TARGET_SECONDS / seconds_an_item or MOST
      -- One measurement may be off by far: a lazy source at most doubles.
      if not left then
        last = clamp(last * 2, wanted)
        wanted = last
      end
    else
      wanted = left and left / (FIRST_SHARE * workers) or FIRST_LAZY
    end
    if left then wanted = math.min(wanted, left / (SHARE * workers)) end
    return clamp(wanted, MOST)
  end, observe
end

return chunking
