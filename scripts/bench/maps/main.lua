-- SPDX-License-Identifier: MIT
--
-- scripts/bench/run, which builds and then runs this: the workloads one after the other, and the report.

local here = arg[0]:match("^(.*)main%.lua$")
local root = here .. "../../.."
package.path = here .. "../?.lua;" .. package.path

local arguments = require("lib.arguments")
local catalogue = require("maps.catalogue")
local document = require("maps.document")
local machine = require("lib.machine")
local measure = require("maps.measure")
local plot = require("maps.plot")
local report = require("maps.report")
local sides = require("maps.sides")

local KINDS = {
  vm = "text",
  rounds = "integer",
  workers = "integer",
  peers = "list",
  quick = "flag",
  json = "flag",
  markdown = "flag",
  update = "text",
  plot = "text",
}

local function peers_of(list)
  if not list then
    return sides.peers
  elseif #list == 1 and list[1] == "none" then
    return {}
  end
  for _, peer in ipairs(list) do
    arguments.one_of(sides.peers, peer, "peer")
  end
  return list
end

local function vms_of(name)
  if not name or name == "both" then
    return sides.vms
  end
  return { name }
end

local function parse()
  local options, names = arguments.parse(arg, KINDS, catalogue.names, "workload")
  if (options.json and 1 or 0) + (options.markdown and 1 or 0) + (options.update and 1 or 0) > 1 then
    error("--json, --markdown and --update are for one output: give one of them", 0)
  end
  if options.plot and not (" " .. table.concat(names, " ") .. " "):find(" break-even ", 1, true) then
    error("--plot draws the workload break-even, which is not among those named", 0)
  end
  local run = {
    vms = vms_of(options.vm),
    rounds = options.rounds or options.quick and 1 or 5,
    workers = options.workers or 2,
    quick = options.quick,
    peers = peers_of(options.peers),
    paths = {
      here = here,
      bin = root .. "/build/release/bin",
      node = root .. "/build/bench",
      limits = root .. "/build/release/bench/limits",
    },
  }
  return options, names, run
end

local function each_case(names, body)
  for _, name in ipairs(names) do
    local workload = catalogue.workload(name)
    for _, case in ipairs(workload.cases) do
      body(workload, case)
    end
  end
end

local function run_all(options, names, run, show)
  local entries = {}
  each_case(names, function(workload, case)
    run.size = options.quick and case.quick or case.size
    local entry = { workload = workload, case = case, result = measure(case, run) }
    entries[#entries + 1] = entry
    show(entry)
  end)
  return entries
end

local function write_out(options, place, run, entries)
  if options.json then
    io.write(report.json(place, run, entries))
  elseif options.markdown then
    io.write(report.markdown(place, run, entries))
  elseif options.update then
    document.update(options.update, report.markdown(place, run, entries))
  end
  if options.plot then
    plot.write(options.plot, entries)
  end
end

local function main()
  local options, names, run = parse()
  if options.update then
    document.check(options.update)
  end
  local place = machine.describe(root)
  local as_text = not (options.json or options.markdown)
  if as_text then
    io.write(report.place(place, run), report.LEGEND, "\n")
  end
  local entries = run_all(options, names, run, function(entry)
    if as_text then
      io.write("\n", report.text(entry.workload, entry.case, entry.result))
      io.flush()
    end
  end)
  if as_text then
    io.write("\n", report.versions(entries))
  end
  write_out(options, place, run, entries)
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("run: ", tostring(message), "\n")
  os.exit(1)
end
