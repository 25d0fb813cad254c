-- SPDX-License-Identifier: MIT
--
-- Do all workers end together when items differ a thousandfold: one item in a thousand takes a thousand times as long
-- as the others? Those lie scattered, then all at the end; then the first item takes as long as a fifth of all others.
-- Ideal is the loop's time divided by the workers; busy tells how long workers were at work, as part of the call.

local lists = require("maps.lists")

local DEAR, STEPS = 1000, 300

local function work(weight)
  local x = 1
  for _ = 1, weight * STEPS do
    x = x * 16807 % 2147483647
  end
  return x
end

local function scattered(n)
  local items, state = {}, 11
  for i = 1, n do
    state = state * 48271 % 2147483647
    items[i] = state % DEAR == 0 and DEAR or 1
  end
  return items
end

local function dear_last(n)
  local items = {}
  for i = 1, n do
    items[i] = i > n - n / DEAR and DEAR or 1
  end
  return items
end

local function slow_first(n)
  local items = {}
  for i = 1, n do
    items[i] = i == 1 and n / 5 or 1
  end
  return items
end

local function mapper(chunk)
  return function(pool, items)
    local clock, before = require("parallel").clock, pool:stats().busy
    local start = clock()
    local results = pool:map(work, items, { chunk = chunk })
    local seconds = clock() - start
    return results, { seconds = seconds, busy = (pool:stats().busy - before) / seconds / pool.workers }
  end
end

local function case(name, payload, items, chunk)
  return {
    name = name,
    payload = payload,
    size = 100000,
    quick = 1000,
    figures = function()
      return { { key = "seconds", unit = "ms", factor = 1e3 }, { key = "busy", unit = "% busy", factor = 100 } }
    end,
    fn = work,
    items = items,
    loop = lists.loop_of(work),
    map = mapper(chunk or "auto"),
    check = lists.by_seven,
    targets = chunk and {} or {
      { vm = "lumap", kind = "thread", peer = "loop", most = 0.556 },
      { vm = "lumap54", kind = "thread", peer = "loop", most = 0.556 },
    },
  }
end

local dear_last_case = case("dear-last", "%s items, dear ones last", dear_last)
local slow_first_case = case("slow-first", "%s items, a slow first one", slow_first)
local guided = case("guided", "%s items, dear ones scattered, chunk guided", scattered, "guided")
-- What other people's pools make of uneven items, the first case shows.
dear_last_case.only, slow_first_case.only, guided.only = { "loop", "c" }, { "loop", "c" }, { "loop" }

return {
  label = "W8",
  cases = {
    case("scattered", "%s items, dear ones scattered", scattered),
    dear_last_case,
    slow_first_case,
    guided,
  },
}
