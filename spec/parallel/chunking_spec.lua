-- SPDX-License-Identifier: MIT
--
-- How many items travel together: chunks are dealt out to workers that exist on paper only, so that what is asserted of
-- times is exact. A hand-off costs a worker HAND_OFF seconds, of which MEASURED count as its work; the caller keeps two
-- chunks a worker under way.

local describe, it, assert = describe, it, assert

local chunking = require("parallel.chunking")

local HAND_OFF, MEASURED = 0.00001, 0.000002

--- Deals items 1 to #costs out. Returns the efficiency, that is the items' time over what the workers spent until the
--- last one was done, and the sizes of all chunks.
local function deal(policy, workers, costs)
  local size, observe = chunking.new(policy, workers)
  local free = {} -- when each worker will be
  for w = 1, workers do
    free[w] = 0
  end
  local waiting, running, sizes = {}, {}, {}
  local next_item, total, now, latest = 1, 0, 0, 0

  local function supply()
    while #waiting + #running < 2 * workers and next_item <= #costs do
      local n = math.min(size(#costs - next_item + 1), #costs - next_item + 1)
      local seconds = 0
      for i = next_item, next_item + n - 1 do
        seconds = seconds + costs[i]
      end
      waiting[#waiting + 1] = { items = n, seconds = seconds }
      sizes[#sizes + 1] = n
      next_item = next_item + n
      total = total + seconds
    end
  end

  local function start()
    for w = 1, workers do
      if free[w] <= now and waiting[1] then
        local chunk = table.remove(waiting, 1)
        chunk.ends = now + HAND_OFF + chunk.seconds
        free[w], running[#running + 1] = chunk.ends, chunk
      end
    end
  end

  supply()
  start()
  while running[1] do
    local first = 1
    for i = 2, #running do
      if running[i].ends < running[first].ends then
        first = i
      end
    end
    local chunk = table.remove(running, first)
    now, latest = chunk.ends, math.max(latest, chunk.ends)
    observe(chunk.items, MEASURED + chunk.seconds)
    supply()
    start()
  end
  return total / (latest * workers), sizes
end

local function costs_of(n, cost)
  local costs = {}
  for i = 1, n do
    costs[i] = cost(i)
  end
  return costs
end

local function even(seconds)
  return function()
    return seconds
  end
end

describe("'auto'", function()
  it("keeps all workers busy to the end though one item in a thousand takes a thousand times as long", function()
    local seed = 11
    local function uneven()
      seed = (seed * 16807) % 2147483647
      return seed % 1000 == 0 and 0.001 or 0.000001
    end
    local costs = costs_of(100000, uneven)
    for _, workers in ipairs({ 1, 2, 5, 13 }) do
      local efficiency = deal("auto", workers, costs)
      -- One dear item is 1/200 of the work: on 13 workers the last one alone may cost some percent.
      assert.is_true(efficiency > (workers > 5 and 0.85 or 0.93), workers .. " workers: " .. efficiency)
    end
    local last = costs_of(100000, function(i)
      return i > 99900 and 0.001 or 0.000001
    end)
    assert.is_true(deal("auto", 2, last) > 0.93, deal("auto", 2, last))
  end)

  it("is not spoilt by a slow first item", function()
    local costs = costs_of(500000, function(i)
      return i == 1 and 0.05 or 0.000001
    end)
    local efficiency, sizes = deal("auto", 2, costs)
    assert.is_true(efficiency > 0.95, efficiency)
    assert.is_true(#sizes < 600, #sizes)
  end)

  it("does not pay a hand-off for each cheap item", function()
    for _, seconds in ipairs({ 1e-9, 1e-8, 1e-7 }) do
      local _, sizes = deal("auto", 2, costs_of(1000000, even(seconds)))
      assert.is_true(#sizes < 150, #sizes)
    end
    local _, sizes = deal("auto", 2, costs_of(1000, even(1e-8)))
    assert.is_true(#sizes < 20, #sizes)
    sizes = select(2, deal("auto", 2, costs_of(100, even(0))))
    assert.is_true(#sizes < 12, #sizes)
  end)

  it("takes more at once where a chunk is a few numbers", function()
    local function largest(most)
      local size, observe = chunking.new("auto", 2, most)
      local n = 1
      for _ = 1, 20 do
        observe(n, n * 1e-9)
        n = size(1e8)
      end
      return n
    end
    assert.equal(16384, largest(nil))
    assert.equal(chunking.MOST_IN_PLACE, largest(chunking.MOST_IN_PLACE))
  end)

  it("sends dear items one by one, so that no worker has one too many", function()
    local efficiency, sizes = deal("auto", 5, costs_of(100, even(1)))
    assert.is_true(efficiency > 0.99, efficiency)
    assert.equal(100, #sizes)
    efficiency = deal("auto", 100, costs_of(2000, even(0.05)))
    assert.is_true(efficiency > 1 / 1.3, efficiency)
  end)

  it("trusts the first cheap items only so far", function()
    local costs = costs_of(2000, function(i)
      return i <= 8 and 0.000001 or 0.1
    end)
    local efficiency, sizes = deal("auto", 2, costs)
    assert.is_true(efficiency > 0.97, efficiency)
    local largest = 0
    for _, n in ipairs(sizes) do
      largest = math.max(largest, n)
    end
    assert.is_true(largest <= 64, largest)
  end)

  it("begins small again after a surprise, but not the calls that follow", function()
    local known = { largest = 0 }
    local size, observe = chunking.new("auto", 2, nil, known)
    observe(100, 100 * 0.00001)
    known.largest = 1 -- as a call does that is cut short
    assert.equal(8, (size(10000)))
    observe(8, 8 * 0.00001)
    size = chunking.new("auto", 2, nil, known)
    assert.equal(200, (size(10000)))
  end)
end)

describe("'guided' and a number", function()
  it("begin with large chunks and end with single items; are what they say", function()
    local efficiency, sizes = deal("guided", 2, costs_of(10000, even(0.001)))
    assert.is_true(efficiency > 0.99, efficiency)
    assert.equal(2500, sizes[1])
    assert.equal(1, sizes[#sizes])
    for i = 2, #sizes do
      assert.is_true(sizes[i] <= sizes[i - 1])
    end
    sizes = select(2, deal(7, 2, costs_of(20, even(1))))
    assert.same({ 7, 7, 6 }, sizes)
  end)

  it("grow where nobody knows how many items there are", function()
    for _, policy in ipairs({ "auto", "guided" }) do
      local size, observe = chunking.new(policy, 2)
      assert.equal(1, size(nil))
      local last = 1
      for _ = 1, 10 do
        observe(last, last * 1e-6)
        local now = size(nil)
        assert.is_true(now >= last and now <= 8 * last)
        last = now
      end
      assert.is_true(last >= 2000, last)
      observe(1, 1)
      assert.is_true(policy == "guided" or size(nil) == 1)
    end
  end)
end)
