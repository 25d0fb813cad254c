-- SPDX-License-Identifier: MIT
--
-- Do all workers end together when items differ a thousandfold?
--
--     lumap scripts/bench/uneven.lua [ROUNDS [WORKERS]]
--
-- 100,000 items, of which one in a thousand takes a thousand times as long as the others; where those lie is drawn
-- once. For each way to choose chunks: how much faster than a plain loop in the same run, and the efficiency, which is
-- that divided by the workers. Then the same with the dear items all at the end, and with a first item that takes as
-- long as ten thousand. The figures are of the best round: what is worse is the machine's doing. On a machine that has
-- other work as well, look at how long the workers were busy, as part of that round: the rest is what chunks cost.

local parallel = require("parallel")

local rounds = tonumber(arg[1]) or 5
local workers = tonumber(arg[2]) or 2
local count, dear = 100000, 1000
local pool = parallel.ThreadPool(workers)
local steps = 300 -- of a cheap item: about a microsecond where loops are compiled

local function work(weight)
  local x = 1
  for _ = 1, weight * steps do
    x = (x * 16807) % 2147483647
  end
  return x
end

local function least(run)
  local best = math.huge
  for _ = 1, rounds do
    local start = parallel.clock()
    run()
    best = math.min(best, parallel.clock() - start)
  end
  return best
end

local function scattered()
  local items = {}
  math.randomseed(11)
  for i = 1, count do
    items[i] = math.random(dear) == 1 and dear or 1
  end
  return items
end

local function dear_last()
  local items = {}
  for i = 1, count do
    items[i] = i > count - count / dear and dear or 1
  end
  return items
end

local function slow_first()
  local items = {}
  for i = 1, count do
    items[i] = i == 1 and 10000 or 1
  end
  return items
end

local function measure(name, items)
  local sum = 0
  local plain = least(function()
    sum = 0
    for i = 1, count do
      sum = sum + work(items[i])
    end
  end)
  print(("%s; a plain loop takes %.0f ms"):format(name, plain * 1e3))
  for _, chunk in ipairs({ "auto", "guided", 1, 1000 }) do
    local busy = 0
    local seconds = least(function()
      local before, start, total = pool:stats().busy, parallel.clock(), 0
      local list = pool:map(work, items, { chunk = chunk })
      busy = math.max(busy, (pool:stats().busy - before) / (parallel.clock() - start) / workers)
      for _, x in ipairs(list) do
        total = total + x
      end
      assert(total == sum)
    end)
    print(("  chunk %-8s %7.0f ms, %5.2f times as fast, efficiency %3.0f %%, workers busy %3.0f %%"):format(
      tostring(chunk), seconds * 1e3, plain / seconds, 100 * plain / seconds / workers, 100 * busy))
  end
end

local jit = rawget(_G, "jit")
print(("%s, %d workers, best of %d rounds"):format(jit and jit.version or _VERSION, workers, rounds))
measure("dear items scattered", scattered())
measure("dear items last", dear_last())
measure("a slow first item", slow_first())
