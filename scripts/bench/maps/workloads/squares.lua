-- SPDX-License-Identifier: MIT
--
-- What does a map cost an item when the item itself costs nothing: x * x over a million numbers, in a list, as a range
-- that is never a list, and from one buffer into another, once and again and again? And what does it cost when each
-- item travels alone?

local lists = require("maps.lists")

local function square(x)
  return x * x
end

--- Takes the order of the results into account, and stays an integer below 2^53.
local function digest(results, n)
  local sum = 0
  for i = 1, n do
    sum = sum + results[i] % 65521 * (i % 7)
  end
  return sum
end

local function over_range(_, n)
  local results = {}
  for i = 1, n do
    results[i] = square(i)
  end
  return results
end

local function over_buffer(pair)
  local from, into = pair.from, pair.into
  for i = 1, #from do
    into[i] = square(from[i])
  end
  return into
end

-- So often in a row, as a program does that takes its steps over the same memory.
local AGAIN = 20

local function again(map)
  return function(...)
    local into
    for _ = 1, AGAIN do
      into = map(...)
    end
    return into
  end
end

local function map_over_buffer(pool, pair)
  return pool:map(square, pair.from, { into = pair.into })
end

local function buffers(n, parallel)
  return { from = parallel.buffer("double", lists.one_to(n)), into = parallel.buffer("double", n) }
end

local NO_BUFFERS = {
  luv = "has no shared memory",
  mce = "has no shared memory",
  ["python-threads"] = "has no map into memory",
  ["python-pool"] = "has no map into memory",
  ["python-futures"] = "has no map into memory",
}

local function figures(n)
  return { { key = "seconds", unit = "ns an item", factor = 1e9 / n } }
end

return {
  label = "W1",
  cases = {
    {
      name = "list",
      payload = "x * x, %s numbers in a list",
      size = 1000000,
      quick = 1000,
      figures = figures,
      fn = square,
      items = lists.one_to,
      loop = lists.loop_of(square),
      map = lists.map_of(square),
      check = digest,
      targets = {
        { vm = "lumap", kind = "thread", most = 3 },
        { vm = "lumap54", kind = "thread", most = 60 },
        { vm = "lumap", kind = "thread", peer = "luv", most = 0.25 },
        { vm = "lumap", kind = "thread", peer = "python-pool", most = 0.05 },
        { vm = "lumap", kind = "thread", peer = "mce", most = 0.05 },
      },
    },
    {
      name = "range",
      payload = "x * x, a range of %s numbers",
      size = 1000000,
      quick = 1000,
      figures = figures,
      absent = { luv = "as with a list", mce = "as with a list", piscina = "as with a list" },
      items = function(n, parallel)
        return parallel.range(1, n)
      end,
      loop = over_range,
      map = lists.map_of(square),
      check = digest,
      targets = {
        { vm = "lumap", kind = "thread", most = 5 },
        { vm = "lumap54", kind = "thread", most = 40 },
      },
    },
    {
      name = "buffer",
      payload = "x * x, %s doubles from buffer to buffer",
      size = 1000000,
      quick = 1000,
      figures = figures,
      absent = NO_BUFFERS,
      items = buffers,
      loop = over_buffer,
      map = map_over_buffer,
      check = digest,
      targets = { { vm = "lumap", kind = "thread", most = 0.7 } },
    },
    {
      name = "again",
      payload = "x * x, %s doubles from buffer to buffer, " .. AGAIN .. " times in a row",
      size = 1000000,
      quick = 1000,
      figures = function(n)
        return { { key = "seconds", unit = "ns an item", factor = 1e9 / (AGAIN * n) } }
      end,
      absent = NO_BUFFERS,
      items = buffers,
      loop = again(over_buffer),
      map = again(map_over_buffer),
      check = digest,
      targets = { { vm = "lumap", kind = "thread", most = 0.7 } },
    },
    {
      name = "single",
      payload = "x * x, %s numbers in a list, each sent alone",
      size = 100000,
      quick = 200,
      figures = function(n)
        return { { key = "seconds", unit = "us an item", factor = 1e6 / n } }
      end,
      absent = { ["python-futures"] = "takes too long, longer than python-pool" },
      fn = square,
      items = lists.one_to,
      loop = lists.loop_of(square),
      map = lists.map_of(square, { chunk = 1 }),
      check = digest,
      targets = {
        { vm = "lumap", kind = "thread", most = 0.35 },
        { vm = "lumap", kind = "process", most = 3 },
      },
    },
  },
}
