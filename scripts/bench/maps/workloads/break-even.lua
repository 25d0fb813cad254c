-- SPDX-License-Identifier: MIT
--
-- How dear must an item be for a map to be as fast as a plain loop? The cost of an item is swept by the steps that it
-- takes, over a list of 100,000 numbers. Where the two curves of medians cross is found by a straight line between the
-- neighbours; from there on the map is never slower. A single point that is off, far up the curve, would decide: so
-- there are more rounds than elsewhere. --plot draws the curves.

local lists = require("maps.lists")

local STEPS = { 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96 }

local function work_of(steps)
  return function(x)
    for _ = 1, steps do
      x = x * 16807 % 2147483647
    end
    return x
  end
end

local works = {}
for i, steps in ipairs(STEPS) do
  works[i] = work_of(steps)
end

local function key_of(i)
  return "steps" .. STEPS[i]
end

--- Runs all costs by turns; run(work) gives a list.
local function sweep(run)
  local clock = require("parallel").clock
  local figures, results = { seconds = 0 }, {}
  for i, work in ipairs(works) do
    collectgarbage()
    local start = clock()
    results[i] = run(work)
    local seconds = clock() - start
    figures[key_of(i)], figures.seconds = seconds, figures.seconds + seconds
  end
  return results, figures
end

local function figures_of(n)
  local figures = { { key = "cross", unit = "ns at break-even", factor = 1e9 / n, last = true } }
  for i, steps in ipairs(STEPS) do
    figures[i + 1] = { key = key_of(i), unit = ("ns, %d steps"):format(steps), factor = 1e9 / n, curve = true }
  end
  return figures
end

--- Seconds of the loop from which on the map is as fast, or nil if it never is: between the last cost at which it was
--- slower and the next.
local function crossing(map, loop)
  local result = loop[key_of(1)]
  for i = 1, #STEPS do
    local here, next_key = loop[key_of(i)], STEPS[i + 1] and key_of(i + 1)
    local loss = map[key_of(i)] - here
    if loss > 0 then
      local gain = next_key and loop[next_key] - map[next_key]
      result = gain and gain >= 0 and here + (loop[next_key] - here) * loss / (loss + gain) or nil
    end
  end
  return result
end

local function medians_of(log)
  local medians = {}
  for key, values in pairs(log) do
    medians[key] = require("lib.statistics").median(values)
  end
  return medians
end

return {
  label = "W2",
  cases = {
    {
      name = "sweep",
      payload = "%s items, the cost of one where a map is as fast as a loop; at least 9 rounds",
      size = 100000,
      quick = 200,
      rounds = 9,
      figures = figures_of,
      only = { "loop" },
      needs = "loop",
      items = lists.one_to,
      loop = function(items)
        return sweep(function(work)
          return lists.loop_of(work)(items)
        end)
      end,
      map = function(pool, items)
        return sweep(function(work)
          return pool:map(work, items)
        end)
      end,
      check = function(results, n)
        local sum = 0
        for i = 1, #STEPS do
          for k = 1, n do
            sum = sum + results[i][k] % 65521 * (k % 7)
          end
        end
        return sum
      end,
      derive = function(log, loop)
        log.cross = { crossing(medians_of(log), medians_of(loop)) }
      end,
      targets = {
        { vm = "lumap", kind = "thread", key = "cross", most = 25 },
        { vm = "lumap54", kind = "thread", key = "cross", most = 150 },
      },
    },
  },
}
