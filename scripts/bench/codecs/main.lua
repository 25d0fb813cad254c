-- SPDX-License-Identifier: MIT
--
-- scripts/bench/codec, which builds and then runs this: each row on each VM in a process of its own, and the report.

local here = arg[0]:match("^(.*)main%.lua$")
local root = here .. "../../.."
package.path = here .. "../?.lua;" .. package.path

local arguments = require("lib.arguments")
local child = require("lib.child")
local cjson = require("cjson")
local data = require("codecs.data")
local machine = require("lib.machine")
local report = require("codecs.report")
local sides = require("codecs.sides")

local KINDS = {
  vm = "text",
  rounds = "integer",
  peers = "list",
  scale = "number",
  json = "flag",
  markdown = "flag",
}
local PROGRAMS = { luajit = "lumap", ["5.4"] = "lumap54" }

local function parse()
  local options, names = arguments.parse(arg, KINDS, data.names)
  for _, peer in ipairs(options.peers or {}) do
    arguments.one_of(sides.peers, peer, "peer")
  end
  if options.json and options.markdown then
    error("--json and --markdown are for one output: give one of them", 0)
  end
  return options, names
end

local function measured(vm, name, options)
  local output = child.output({
    root .. "/build/release/bin/" .. PROGRAMS[vm],
    here .. "measure.lua",
    name,
    tostring(options.scale or 1),
    tostring(options.rounds or 7),
    table.concat(options.peers or sides.peers, ","),
  })
  if output == "" then
    error(("'%s' on %s failed (see above)"):format(name, vm), 0)
  end
  return cjson.decode(output)
end

local function main()
  local options, names = parse()
  local place, results = machine.describe(root), {}
  local as_text = not options.json and not options.markdown
  if as_text then
    io.write(report.place(place), report.legend())
  end
  for _, vm in ipairs(options.vm and { options.vm } or { "luajit", "5.4" }) do
    for _, name in ipairs(names) do
      results[#results + 1] = measured(vm, name, options)
      if as_text then
        io.write("\n", report.text(results[#results]))
        io.flush()
      end
    end
  end
  if options.json then
    io.write(report.json(place, results))
  elseif options.markdown then
    io.write(report.place(place), "\n", report.markdown(results))
  end
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("codec: ", tostring(message), "\n")
  os.exit(1)
end
