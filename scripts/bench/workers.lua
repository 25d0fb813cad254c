-- SPDX-License-Identifier: MIT
--
-- What does a worker cost: to start, and to have?
--
--     lumap scripts/bench/workers.lua [ROUNDS [WORKERS]]
--
-- W4: a pool of two workers is made, maps ten items and is closed and joined. W5: 2,000 items that sleep 50 ms on 1,000
-- threads (WORKERS, and twice as many items), their creation included; ideal are 100 ms. How much memory the process
-- has gained by then, a worker. Each result is checked. Medians over the rounds.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local parallel = require("parallel")
local statistics = require("lib.statistics")
local tables = require("lib.tables")

local rounds = tonumber(arg[1]) or 7
local many = tonumber(arg[2]) or 1000
local nap = 0.05

--- Kilobytes of memory that this process has in use.
local function resident()
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^VmRSS:%s*(%d+)")
    if kilobytes then
      return tonumber(kilobytes)
    end
  end
end

local function timed(run)
  local start = parallel.clock()
  run()
  return parallel.clock() - start
end

local columns = { { title = "what", left = true }, { title = "median" }, { title = "spread" } }
local rows = {}

local function add_row(what, values, unit)
  rows[#rows + 1] = {
    what, ("%s %s"):format(tables.figure(statistics.median(values)), unit), tables.percent(statistics.spread(values)),
  }
end

--- The first pool of a process finds out what later ones know: that counts, but once.
local function life_of_pool(backend)
  local values = {}
  for round = 1, rounds do
    values[round] = timed(function()
      local pool = parallel.pool({ backend = backend, workers = 2 })
      local list = pool:map(function(x)
        return x + 1
      end, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
      assert(list.n == 10 and list[10] == 11)
      pool:close()
      pool:join()
    end) * 1e3
  end
  add_row(("a pool of 2 (%s), 10 items, close"):format(backend), values, "ms")
end

local function sleepers()
  local seconds, memory = {}, {}
  for round = 1, math.min(rounds, 3) do
    local before = resident()
    local pool
    seconds[round] = timed(function()
      pool = parallel.ThreadPool(many)
      assert(pool:each(function()
        parallel.sleep(nap)
      end, parallel.range(1, 2 * many)) == 2 * many)
    end)
    memory[round] = (resident() - before) / many
    pool:close()
    pool:join()
  end
  add_row(("%d items of 50 ms on %d threads"):format(2 * many, many), seconds, "s")
  -- Later rounds use again what earlier ones have left.
  add_row("memory of a worker (the first round)", { memory[1] }, "KB")
end

sleepers()
life_of_pool("thread")
life_of_pool("process")

local jit = rawget(_G, "jit")
print(("%s, %d CPUs, medians of %d rounds"):format(jit and jit.version or _VERSION, parallel.cpu_count(), rounds))
io.write(tables.text(columns, rows))
