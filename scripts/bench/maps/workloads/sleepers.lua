-- SPDX-License-Identifier: MIT
--
-- What do many workers cost that wait most of the time: items that sleep for 50 ms, two for each worker, the opening
-- and closing of the pool included? The sleeping alone takes 100 ms. And how much memory does each worker need?
-- Memory is what the process had at its height above what it had before, in a process of its own for each turn.

local lists = require("maps.lists")

local NAP = 0.05

local function nap(i)
  require("parallel").sleep(NAP)
  return i
end

local function half(n)
  return math.max(1, math.floor(n / 2))
end

local map_once = lists.map_once(nap)

local function figures(n)
  return {
    { key = "seconds", unit = "ms", factor = 1e3 },
    { key = "peak", unit = "KB a worker", factor = 1e-3 / half(n) },
  }
end

local function case(name, size, quick, targets)
  return {
    name = name,
    payload = "%s items that sleep 50 ms, a worker for two",
    size = size,
    quick = quick,
    figures = figures,
    workers = half,
    kinds = { "thread" },
    fresh = true,
    memory = "peak",
    opens_pool = true,
    absent = {
      loop = "would sleep for one item after the other",
      mce = "has no threads",
      piscina = "has a whole Node for each worker",
      ["python-pool"] = "has no threads",
      ["python-futures"] = "as python-threads",
    },
    items = lists.one_to,
    -- What comes out without the sleep.
    loop = function(items)
      return items
    end,
    map = map_once,
    check = lists.by_seven,
    targets = targets,
  }
end

return {
  label = "W5",
  cases = {
    case("hundred", 200, 4, {}),
    case("thousand", 2000, 8, {
      { vm = "lumap", kind = "thread", most = 200 },
      { vm = "lumap", kind = "thread", key = "peak", most = 130 },
    }),
  },
}
