-- SPDX-License-Identifier: MIT
--
-- One case: its sides take turns (lib/rounds.lua), each result is compared with that of a plain loop, and the figures
-- become medians, spreads, and ratios of ours to each peer, which are medians of the ratios within rounds.

local child = require("lib.child")
local memory = require("lib.memory")
local parallel = require("parallel")
local rounds = require("lib.rounds")
local sides = require("maps.sides")
local statistics = require("lib.statistics")

-- A side that is slow has taken its share of the time after so many seconds.
local SECONDS = 2
-- A turn has one run if that takes longer. Else that one does not count, and those do that follow: for so many seconds,
-- or so many runs.
local SHORT, MOST_RUNS = 0.1, 20
-- The kernel counts a process's pages roughly; none needs less than one.
local PAGE = 4096

local function parse(line)
  local figures = {}
  for key, value in line:gmatch("([%w-]+)=(%S+)") do
    figures[key] = tonumber(value)
  end
  return figures
end

--- What all sides have to come to.
local function expected_of(case, size)
  return case.check(case.loop(case.items(size, parallel), size), size)
end

local function agree(a, b)
  return math.abs(a - b) <= 1e-12 * math.max(math.abs(a), math.abs(b))
end

--- Starts the program of a side. Gives nil and a reason if that fails; raises it if the side is one of ours.
local function start(side)
  local program = child.start(side.words)
  local ok, about = pcall(program.ask, program, "about")
  if not ok and side.kind then
    error(about, 0)
  end
  if not ok then
    program:close()
    return nil, "does not start: see above"
  end
  side.pid, side.version = tonumber(about:match("pid=(%d+)")), about:match("version=(.*)$")
  return program
end

local function checked_run(program, side, case, expected)
  local figures = parse(program:ask("turn"))
  if not agree(figures.check, expected) then
    error(("%s: the result of '%s' is wrong"):format(side.name, case.name), 0)
  end
  figures.check = nil
  return figures
end

local function medians_of(logs)
  local medians = {}
  for key, values in pairs(logs) do
    medians[key] = statistics.median(values)
  end
  return medians
end

--- While the others had their turns, a side has slept: its memory went back to the system, its code left the caches,
--- its CPUs slowed down. What is asked is what a program takes that is at work, so a short run is repeated.
local function runs_of(program, side, case, expected)
  local first = checked_run(program, side, case, expected)
  if case.fresh or first.seconds >= SHORT then
    return first
  end
  local logs, spent, count = {}, 0, 0
  repeat
    local figures = checked_run(program, side, case, expected)
    for key, value in pairs(figures) do
      logs[key] = logs[key] or {}
      table.insert(logs[key], value)
    end
    spent, count = spent + figures.seconds, count + 1
  until spent >= SHORT or count == MOST_RUNS
  return medians_of(logs)
end

local function measured_turn(program, side, case, expected)
  local before = case.memory == "peak" and memory.resident(side.pid)
  local figures = runs_of(program, side, case, expected)
  if before then
    figures.peak = math.max(memory.peak(side.pid) - before, PAGE)
  elseif case.memory == "growth" then
    local now = memory.resident(side.pid)
    side.first = side.first or now
    figures.growth = now - side.first
  end
  return figures
end

--- Gives a side its turn and close. Gives nil and a reason if it cannot take part.
local function open(side, case, expected)
  local program, reason = start(side)
  if not program then
    return nil, reason
  end
  function side.close()
    if program then
      program:close()
      program = nil
    end
  end
  function side.turn()
    program = program or start(side)
    local figures = measured_turn(program, side, case, expected)
    if case.fresh then
      side.close()
    end
    return figures
  end
  return side
end

local function ratios_of(side, figure, list)
  local ratios = {}
  for _, other in ipairs(list) do
    local values = other.peer and other.log[figure.key]
    if values and (not other.vm or other.vm == side.vm) and not figure.last then
      local found = statistics.ratios(side.log[figure.key], values)
      ratios[#ratios + 1] = {
        peer = other.peer,
        ratio = statistics.median(found),
        spread = statistics.spread(found),
      }
    end
  end
  return ratios[1] and ratios
end

local function summary(side, figure, list)
  local values = side.log[figure.key]
  if not values or not values[1] then
    return
  end
  return {
    name = side.name,
    vm = side.vm,
    kind = side.kind,
    peer = side.peer,
    rounds = #values,
    median = (figure.last and values[#values] or statistics.median(values)) * figure.factor,
    spread = not figure.last and statistics.spread(values) or nil,
    ratios = side.kind and ratios_of(side, figure, list) or nil,
  }
end

local function figure_of(figure, list)
  local result = { key = figure.key, unit = figure.unit, curve = figure.curve, sides = {} }
  for _, side in ipairs(list) do
    result.sides[#result.sides + 1] = summary(side, figure, list)
  end
  return result.sides[1] and result
end

--- The target's own figure, or the ratio to its peer; nil if that was not measured.
local function value_of(target, figures)
  for _, figure in ipairs(figures) do
    for _, side in ipairs(figure.key == (target.key or "seconds") and figure.sides or {}) do
      if side.vm == target.vm and side.kind == target.kind then
        if not target.peer then
          return side.median, figure.unit
        end
        for _, ratio in ipairs(side.ratios or {}) do
          if ratio.peer == target.peer then
            return ratio.ratio, "of " .. target.peer
          end
        end
      end
    end
  end
end

local function targets_of(case, figures)
  local list = {}
  for _, target in ipairs(case.targets) do
    local value, unit = value_of(target, figures)
    if value then
      local name = sides.name(target.vm, target.kind)
      list[#list + 1] = { side = name, most = target.most, value = value, unit = unit, met = value <= target.most }
    end
  end
  return list[1] and list
end

local function derive(case, list)
  for _, side in ipairs(case.derive and list or {}) do
    for _, other in ipairs(side.kind and list or {}) do
      if other.peer == "loop" and other.vm == side.vm then
        case.derive(side.log, other.log)
      end
    end
  end
end

local function open_all(case, run)
  local asked, absent = sides.of(case, run)
  local list, expected = {}, expected_of(case, run.size)
  for _, side in ipairs(asked) do
    local opened, reason = open(side, case, expected)
    if opened then
      list[#list + 1] = opened
    else
      absent[#absent + 1] = { name = side.name, reason = reason }
    end
  end
  return list, absent
end

local function versions_of(list)
  local versions = {}
  for i, side in ipairs(list) do
    versions[i] = { name = side.name, version = side.version }
  end
  return versions[1] and versions
end

--- Raises: a side ended, or its result is wrong.
---@param case table as in catalogue.lua
---@param run table size, quick, workers, rounds, vms, peers, paths
---@return table result as README.md describes it
return function(case, run)
  local list, absent = open_all(case, run)
  local logs = rounds.run(list, run.quick and run.rounds or math.max(run.rounds, case.rounds or 0), SECONDS)
  for i, side in ipairs(list) do
    side.log = logs[i]
    side.close()
  end
  derive(case, list)
  local figures = {}
  for _, figure in ipairs(case.figures(run.size)) do
    figures[#figures + 1] = figure_of(figure, list)
  end
  return {
    workload = case.workload,
    case = case.name,
    size = run.size,
    workers = case.workers and case.workers(run.size) or run.workers,
    figures = figures[1] and figures,
    targets = not run.quick and targets_of(case, figures) or nil,
    versions = versions_of(list),
    absent = absent[1] and absent,
  }
end
