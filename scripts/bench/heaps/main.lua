-- SPDX-License-Identifier: MIT
--
-- scripts/bench/alloc, which builds and then runs this: both interpreters by turns, and the report.

local here = arg[0]:match("^(.*)main%.lua$")
local root = here .. "../../.."
package.path = here .. "../?.lua;" .. package.path

local arguments = require("lib.arguments")
local child = require("lib.child")
local cjson = require("cjson")
local machine = require("lib.machine")
local rounds = require("lib.rounds")
local statistics = require("lib.statistics")
local tables = require("lib.tables")

local KINDS = { vm = "text", rounds = "integer", scale = "number", json = "flag", markdown = "flag" }
local NAMES = { "small-tables", "records", "strings", "growing-array", "trees" }
local VMS = {
  luajit = { ours = "lumap", stock = "luajit", mean = 0.75, most = 1.05 },
  ["5.4"] = { ours = "lumap54", stock = "lua5.4", mean = 0.95 },
}
local COLUMNS = {
  { title = "program", left = true, width = 13 },
  { title = "stock ms", width = 8 },
  { title = "ours ms", width = 8 },
  { title = "ratio", width = 6 },
  { title = "spread", width = 6 },
  { title = "target", left = true },
}

--- CPU seconds, user's and system's, that a program takes from start to end. Raises: it failed.
local function cpu_seconds(words)
  local timed = { "bash", "-c", [[TIMEFORMAT='%3U %3S'; { time "$@" 2>&3; } 3>&2 2>&1 || echo failed]], "time" }
  for _, word in ipairs(words) do
    timed[#timed + 1] = word
  end
  local user, system, rest = child.output(timed):match("^([%d.]+) ([%d.]+)%s*(.*)$")
  if not user or rest ~= "" then
    error(("'%s' failed (see above)"):format(table.concat(words, " ")), 0)
  end
  return user + system
end

local function side(program, name, scale)
  return {
    turn = function()
      return { seconds = cpu_seconds({ program, here .. "programs.lua", name, tostring(scale) }) }
    end,
  }
end

local function verdict(value, most)
  return most and ("at most %.4g: %s"):format(most, value <= most and "met" or "MISSED") or ""
end

--- One program on one VM.
local function measured(vm, name, options)
  local scale = options.scale or 1
  local logs = rounds.run({
    side(VMS[vm].stock, name, scale),
    side(root .. "/build/release/bin/" .. VMS[vm].ours, name, scale),
  }, options.rounds or 7)
  local stock, ours = logs[1].seconds, logs[2].seconds
  local ratios = statistics.ratios(ours, stock)
  return {
    program = name,
    stock_ms = statistics.median(stock) * 1e3,
    ours_ms = statistics.median(ours) * 1e3,
    ratio = statistics.median(ratios),
    spread = statistics.spread(ratios),
  }
end

local function report_of(vm, options, names)
  local report, sum = { vm = vm, rounds = options.rounds or 7, scale = options.scale or 1, programs = {} }, 0
  for i, name in ipairs(names) do
    report.programs[i] = measured(vm, name, options)
    sum = sum + report.programs[i].ratio
  end
  report.mean = sum / #names
  return report
end

local function rows_of(report)
  local rows, target = {}, VMS[report.vm]
  for i, p in ipairs(report.programs) do
    rows[i] = {
      p.program,
      tables.figure(p.stock_ms),
      tables.figure(p.ours_ms),
      tables.figure(p.ratio),
      tables.percent(p.spread),
      verdict(p.ratio, target.most),
    }
  end
  rows[#rows + 1] = { "mean", "", "", tables.figure(report.mean), "", verdict(report.mean, target.mean) }
  return rows
end

local function title(report)
  return ("%s beside stock %s, CPU time of a process, median of %d rounds%s\n"):format(
    VMS[report.vm].ours,
    VMS[report.vm].stock,
    report.rounds,
    report.scale ~= 1 and (", scale %g"):format(report.scale) or ""
  )
end

local function main()
  local options, names = arguments.parse(arg, KINDS, NAMES)
  if options.json and options.markdown then
    error("--json and --markdown are for one output: give one of them", 0)
  end
  local place, reports = machine.describe(root), {}
  for i, vm in ipairs(options.vm and { options.vm } or { "luajit", "5.4" }) do
    local report = report_of(vm, options, names)
    reports[i] = report
    if not options.json then
      local draw = options.markdown and tables.markdown or tables.text
      io.write(i > 1 and "\n" or ("commit %s, %d CPUs, %s\n\n"):format(place.commit, place.cpus, place.processor))
      io.write(title(report), options.markdown and "\n" or "", draw(COLUMNS, rows_of(report)))
      io.flush()
    end
  end
  if options.json then
    io.write(cjson.encode({ place = place, vms = reports }), "\n")
  end
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("alloc: ", tostring(message), "\n")
  os.exit(1)
end
