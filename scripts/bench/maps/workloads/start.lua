-- SPDX-License-Identifier: MIT
--
-- What does beginning cost: a pool of two workers that is opened, maps ten items and is closed, with all of its workers
-- gone at the end; and a process that runs an empty program, beside the stock interpreter?

local lists = require("maps.lists")

local ITEMS = 10

local function square(x)
  return x * x
end

local function one_to_ten()
  return lists.one_to(ITEMS)
end

local map_once = lists.map_once(square)

local function milliseconds(n)
  return { { key = "seconds", unit = "ms", factor = 1e3 / n } }
end

return {
  label = "W4",
  cases = {
    {
      name = "pool",
      payload = "a pool of 2 opened, 10 items mapped, closed (%s times)",
      size = 10,
      quick = 1,
      figures = milliseconds,
      fn = square,
      opens_pool = true,
      absent = { loop = "opens nothing" },
      items = one_to_ten,
      map = function(open_pool, items, times)
        local results
        for _ = 1, times do
          results = map_once(open_pool, items)
        end
        return results
      end,
      loop = lists.loop_of(square),
      check = function(results)
        return lists.by_index(results, ITEMS)
      end,
      targets = {
        { vm = "lumap", kind = "thread", most = 0.5 },
        { vm = "lumap", kind = "process", most = 5 },
      },
    },
    {
      name = "program",
      payload = "a process that runs -e '' (%s times)",
      size = 20,
      quick = 2,
      figures = milliseconds,
      kinds = { "command" },
      only = { "stock" },
      -- As peers/limits.c answers: how many of them ended well.
      items = function()
        return {}
      end,
      loop = function(_, times)
        return times
      end,
      check = function(times)
        return times
      end,
      targets = { { vm = "lumap", kind = "command", peer = "stock", most = 1.15 } },
    },
  },
}
