-- SPDX-License-Identifier: MIT
--
-- What does a small call cost, and does anything stay behind: many maps of 100 trivial items on one pool? Memory is
-- that of the process and of its children, and what came to it since the first turn, which warms up.

local lists = require("maps.lists")

local ITEMS = 100

local function square(x)
  return x * x
end

local over = lists.loop_of(square)

return {
  label = "W7",
  cases = {
    {
      name = "small",
      payload = "maps of 100 items on one pool, %s a round",
      size = 2000,
      quick = 5,
      figures = function(n)
        return {
          { key = "seconds", unit = "us a call", factor = 1e6 / n },
          { key = "growth", unit = "KB grown", factor = 1e-3, last = true },
        }
      end,
      memory = "growth",
      fn = square,
      items = function()
        return lists.one_to(ITEMS)
      end,
      map = function(pool, items, times)
        local results
        for _ = 1, times do
          results = pool:map(square, items)
        end
        return results
      end,
      loop = function(items, times)
        local results
        for _ = 1, times do
          results = over(items)
        end
        return results
      end,
      check = function(results)
        return lists.by_index(results, ITEMS)
      end,
      targets = { { vm = "lumap", kind = "thread", most = 30 } },
    },
  },
}
