-- SPDX-License-Identifier: MIT
--
-- What does a call cost that has next to nothing to do, and a chunk of one item?
--
--     lumap scripts/bench/calls.lua [ROUNDS [CALLS]]
--
-- W7: CALLS maps (default 10,000) of 100 trivial items on one pool of two workers: time a call, and how much memory the
-- process has gained from the first tenth of them to the last. Then x * x over 100,000 numbers in chunks of one item,
-- beside the same in chunks of a size that is measured. Each result is checked. Medians over the rounds, with the
-- quartiles' distance; what other programs do on the machine makes them longer, so look at the load, too.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local parallel = require("parallel")
local statistics = require("lib.statistics")
local tables = require("lib.tables")

local rounds = tonumber(arg[1]) or 5
local calls = tonumber(arg[2]) or 10000
local backends = { "serial", "thread", "process" }

--- Kilobytes of memory that this process has in use.
local function resident()
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^VmRSS:%s*(%d+)")
    if kilobytes then
      return tonumber(kilobytes)
    end
  end
end

local function list_of(count)
  local items = {}
  for i = 1, count do
    items[i] = i
  end
  return items
end

local function timed(run)
  local start = parallel.clock()
  run()
  return parallel.clock() - start
end

local columns = {
  { title = "what", left = true }, { title = "back-end", left = true }, { title = "median" }, { title = "spread" },
  { title = "memory" },
}
local rows = {}

local function add_row(what, backend, values, unit, memory)
  rows[#rows + 1] = {
    what, backend, ("%s %s"):format(tables.figure(statistics.median(values)), unit),
    tables.percent(statistics.spread(values)), memory or "",
  }
end

local function small_maps(backend)
  local pool = parallel.pool({ backend = backend, workers = 2 })
  local items = list_of(100)
  local function add(x)
    return x + 1
  end
  local function batch(count)
    for _ = 1, count do
      local list = pool:map(add, items)
      assert(list[1] == 2 and list[100] == 101)
    end
  end
  batch(math.ceil(calls / 10))
  local before, each = resident(), {}
  for round = 1, rounds do
    each[round] = timed(function()
      batch(math.ceil(calls / rounds))
    end) / math.ceil(calls / rounds) * 1e6
  end
  add_row("map of 100 items", backend, each, "us a call", ("%+d KB"):format(resident() - before))
  pool:close()
  pool:join()
end

local function single_items(backend, chunk)
  local count = 100000
  local pool = parallel.pool({ backend = backend, workers = 2 })
  local items, each = list_of(count), {}
  local function square(x)
    return x * x
  end
  pool:map(square, items)
  for round = 1, rounds do
    each[round] = timed(function()
      local list = pool:map(square, items, { chunk = chunk })
      assert(list[1] == 1 and list[count] == count * count)
    end) / count * 1e6
  end
  add_row(("x * x, chunk %s"):format(chunk), backend, each, "us an item")
  pool:close()
  pool:join()
end

for _, backend in ipairs(backends) do
  small_maps(backend)
end
for _, chunk in ipairs({ 1, "auto" }) do
  for _, backend in ipairs(backends) do
    single_items(backend, chunk)
  end
end

local jit = rawget(_G, "jit")
local version = jit and jit.version or _VERSION
print(("%s, 2 workers, %d CPUs, medians of %d rounds"):format(version, parallel.cpu_count(), rounds))
io.write(tables.text(columns, rows))
