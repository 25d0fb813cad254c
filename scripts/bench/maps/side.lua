-- SPDX-License-Identifier: MIT
--
-- One side of a case inside lumap: a map on one back-end, or a plain loop in the same VM.
--
--     lumap side.lua WORKLOAD CASE SIZE WORKERS thread|process|loop
--
-- Answers each line of input with a line, as the programs in peers/ do:
--   about   "pid=N version=TEXT"
--   turn    "seconds=X check=Y" and what else the case measures: a run by the clock on the wall, and what its result
--           comes to. Garbage is collected before the clock starts, and the result is looked at when it has stopped.

local here = arg[0]:match("^(.*)side%.lua$")
package.path = here .. "../?.lua;" .. package.path

local catalogue = require("maps.catalogue")
local parallel = require("parallel")

local workload, name, size, workers, kind = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4]), arg[5]
local case = catalogue.case(workload, name)
local jit = rawget(_G, "jit")

local function open()
  local items = case.items(size, parallel)
  if kind == "loop" then
    return function()
      return case.loop(items, size)
    end
  end
  local opts = { workers = case.workers and case.workers(size) or workers, backend = kind }
  if case.opens_pool then
    return function()
      return case.map(function()
        return parallel.pool(opts)
      end, items, size)
    end
  end
  local pool = parallel.pool(opts)
  return function()
    return case.map(pool, items, size)
  end
end

--- Twice, since what has a finalizer is freed by the second one.
local function collect()
  collectgarbage()
  collectgarbage()
end

local function turn(run)
  collect()
  local start = parallel.clock()
  local result, figures = run()
  figures = figures or {}
  figures.seconds = figures.seconds or parallel.clock() - start
  figures.check = case.check(result, size)
  return figures
end

local function line_of(figures)
  local words = {}
  for key, value in pairs(figures) do
    words[#words + 1] = ("%s=%.17g"):format(key, value)
  end
  return table.concat(words, " ")
end

local function answer(line)
  io.write(line, "\n")
  io.flush()
end

local run = open()
local pid = io.open("/proc/self/stat", "r"):read("*n")
for request in io.lines() do
  if request == "turn" then
    answer(line_of(turn(run)))
  else
    answer(("pid=%d version=%s"):format(pid, jit and jit.version or _VERSION))
  end
end
