-- SPDX-License-Identifier: MIT
--
-- Who takes part in a case: Lumap on each VM and back-end, and its peers. Each side is a program that answers as
-- side.lua does, and waits on a pipe while others take their turns.

local child = require("lib.child")

local sides = {}

--- Order of the report.
sides.peers =
  { "loop", "stock", "luv", "python-threads", "python-pool", "python-futures", "mce", "piscina", "c" }
sides.vms = { "lumap", "lumap54" }

local STOCK = { lumap = "luajit", lumap54 = "lua5.4" }
local WORDS = { thread = " threads", process = " processes", command = "" }
-- Debian's: others that come first in PATH may be built in other ways.
local PYTHON = "/usr/bin/python3"
-- What installed("...") asks the shell.
local TESTS = {
  stock = "command -v luajit && command -v lua5.4",
  luv = "command -v luajit && ls /usr/lib/*/lua/5.1/luv.so",
  ["python-threads"] = "test -x " .. PYTHON,
  ["python-pool"] = "test -x " .. PYTHON,
  ["python-futures"] = "test -x " .. PYTHON,
  mce = "perl -MMCE::Map -e 1",
  piscina = "command -v node && test -e '%s/node_modules/piscina/package.json'",
}

---@class bench.Paths
---@field here string folder of this file, with a slash at its end
---@field bin string folder of lumap and lumap54
---@field node string where piscina is installed
---@field limits string the program made of peers/limits.c

local known = {}

local function installed(peer, paths)
  if known[peer] == nil then
    local test = (TESTS[peer] or "true"):format(paths.node)
    known[peer] = child.output({ "sh", "-c", "{ " .. test .. "; } >/dev/null 2>&1 && echo yes" }) == "yes\n"
  end
  return known[peer]
end

---@param vm string
---@param kind string
---@return string
function sides.name(vm, kind)
  return vm .. WORDS[kind]
end

local function runs_empty(paths, size, program)
  return { paths.limits, "start.program", tostring(size), "1", program, "-e", "" }
end

local function lumap_side(vm, kind, case, run)
  local program = run.paths.bin .. "/" .. vm
  local words = { program, run.paths.here .. "side.lua", case.workload, case.name, tostring(run.size) }
  words[#words + 1], words[#words + 2] = tostring(run.workers), kind
  return kind == "command" and runs_empty(run.paths, run.size, program) or words
end

local function python(kind)
  return function(name, run)
    return { PYTHON, "-B", run.paths.here .. "peers/python.py", name, tostring(run.size), tostring(run.workers), kind }
  end
end

local commands = {
  ["python-threads"] = python("threads"),
  ["python-pool"] = python("pool"),
  ["python-futures"] = python("futures"),
}

function commands.luv(_, run, case)
  local size, workers = tostring(run.size), tostring(run.workers)
  local script = run.paths.here .. "peers/luv.lua"
  return { "env", "UV_THREADPOOL_SIZE=" .. workers, "luajit", script, case.workload, case.name, size, workers }
end

function commands.mce(name, run)
  return { "perl", run.paths.here .. "peers/mce.pl", name, tostring(run.size), tostring(run.workers) }
end

function commands.piscina(name, run)
  local script = run.paths.here .. "peers/piscina.mjs"
  return { "node", "--expose-gc", script, name, tostring(run.size), tostring(run.workers), run.paths.node }
end

function commands.c(name, run)
  return { run.paths.limits, name, tostring(run.size), tostring(run.workers) }
end

--- Ours, one for each back-end that takes part.
local function add_ours(list, case, run)
  for _, vm in ipairs(run.vms) do
    for _, kind in ipairs(case.kinds) do
      local words = lumap_side(vm, kind, case, run)
      list[#list + 1] = { name = sides.name(vm, kind), vm = vm, kind = kind, words = words }
    end
  end
end

--- A peer that there is for each VM.
local function add_of_vm(list, peer, case, run)
  for _, vm in ipairs(run.vms) do
    local words = peer == "loop" and lumap_side(vm, "loop", case, run) or runs_empty(run.paths, run.size, STOCK[vm])
    list[#list + 1] = { name = peer == "loop" and vm .. " loop" or STOCK[vm], vm = vm, peer = peer, words = words }
  end
end

local function contains(list, name)
  for _, other in ipairs(list) do
    if other == name then
      return true
    end
  end
  return false
end

--- Why a peer is not measured in a case: because of what it is, or because it is not there. nil if it is.
local function reason_against(peer, case, run)
  if case.absent[peer] then
    return case.absent[peer]
  elseif not installed(peer, run.paths) then
    return "not installed: scripts/bench/run --install"
  end
end

local function is_asked(peer, case)
  if case.only then
    return contains(case.only, peer)
  end
  return peer ~= "stock"
end

--- All sides of a case, ours first, and why others are absent.
---@param case table as in catalogue.lua
---@param run table size, workers, vms, peers, paths
---@return table[] sides name, words (the program), vm, kind (ours), peer (others)
---@return table[] absent name, reason
function sides.of(case, run)
  local list, absent = {}, {}
  add_ours(list, case, run)
  for _, peer in ipairs(sides.peers) do
    local wanted = is_asked(peer, case) and (contains(run.peers, peer) or peer == case.needs)
    local reason = wanted and reason_against(peer, case, run)
    if reason then
      absent[#absent + 1] = { name = peer, reason = reason }
    elseif wanted and (peer == "loop" or peer == "stock") then
      add_of_vm(list, peer, case, run)
    elseif wanted then
      local words = commands[peer](case.workload .. "." .. case.name, run, case)
      list[#list + 1] = { name = peer, peer = peer, words = words }
    end
  end
  return list, absent
end

return sides
