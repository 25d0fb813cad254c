-- SPDX-License-Identifier: MIT
--
-- Measures one row in the VM that runs it, and prints one line of JSON for main.lua.
--
--     lumap measure.lua ROW SCALE ROUNDS PEER,...
--
-- Sides take turns (lib/rounds.lua; what is timed in one: turn.lua) in one process over the same data, so that all meet
-- the same machine and the same heap; pickle takes its turns in a process beside, while this one waits. A ratio is the
-- median of the ratios of turns in the same round. A row has a process of its own, so that none meets the machine code
-- and the garbage of another one.

local here = arg[0]:match("^(.*)measure%.lua$")
package.path = here .. "../?.lua;" .. package.path

local child = require("lib.child")
local data = require("codecs.data")
local rounds = require("lib.rounds")
local sides = require("codecs.sides")
local statistics = require("lib.statistics")
local targets = require("codecs.targets")
local turn = require("codecs.turn")

local jit = rawget(_G, "jit")
local vm = jit and "luajit" or "5.4"
-- Debian's: others that come first in PATH may be built in other ways.
local PYTHON = "/usr/bin/python3"

local function local_side(side, row)
  return {
    name = side.name,
    turn = function()
      return turn(side, row)
    end,
  }
end

local function pickle_side(spec, scale, row)
  local python = child.start({ PYTHON, "-B", here .. "pickle_side.py", spec.name, tostring(scale) })
  local version, digest, elements = python:ask("data"):match("^(%S+) (%d+) (%d+)$")
  if tonumber(digest) ~= data.digest(row) or tonumber(elements) ~= row.elements then
    error(("pickle: data.py and data.lua differ in '%s'"):format(spec.name), 0)
  end
  return {
    name = "pickle",
    version = version,
    close = function()
      python:close()
    end,
    turn = function()
      local encode, decode, bytes = python:ask("turn"):match("^(%S+) (%S+) (%S+)$")
      encode, decode = tonumber(encode), tonumber(decode)
      return { encode = encode, decode = decode, both = encode + decode, bytes = tonumber(bytes) }
    end,
  }
end

--- All sides of a row, ours first, and why others are absent.
local function open_sides(spec, scale, row, peers)
  local taking_part, absent = { local_side(sides.ours(spec), row) }, {}
  for _, name in ipairs(peers) do
    local side, reason
    if name == "pickle" then
      side = pickle_side(spec, scale, row)
    else
      side, reason = sides.peer(name, spec)
      side = side and local_side(side, row)
    end
    table.insert(side and taking_part or absent, side or { name = name, reason = reason })
  end
  return taking_part, absent
end

local function summary(side, log, ours, spec, row)
  local per_element, bytes = 1e9 / row.elements, log.bytes[1]
  local result = {
    name = side.name,
    version = side.version,
    bytes = bytes,
    encode_ns = statistics.median(log.encode) * per_element,
    decode_ns = statistics.median(log.decode) * per_element,
    both_ns = statistics.median(log.both) * per_element,
    spread = statistics.spread(log.both),
    mb_per_s = bytes * row.times / statistics.median(log.both) / 1e6,
  }
  if log ~= ours then
    local ratios = statistics.ratios(ours.both, log.both)
    result.ratio, result.ratio_spread = statistics.median(ratios), statistics.spread(ratios)
    result.target = targets.of(vm, spec.name, side.name)
    result.met = result.target and result.ratio <= result.target
  end
  return result
end

local function measure(name, scale, count, peers)
  local spec = data[name]
  local row = spec.make(scale)
  local taking_part, absent = open_sides(spec, scale, row, peers)
  local logs = rounds.run(taking_part, count)
  local result = {
    vm = jit and jit.version or _VERSION,
    row = name,
    payload = spec.title,
    unit = spec.unit,
    elements = row.elements,
    messages = row.count * row.times,
    scale = scale,
    rounds = count,
    sides = {},
    absent = absent[1] and absent,
  }
  for i, side in ipairs(taking_part) do
    result.sides[i] = summary(side, logs[i], logs[1], spec, row)
    if side.close then
      side.close()
    end
  end
  return result
end

local peers = {}
for peer in arg[4]:gmatch("[^,]+") do
  peers[#peers + 1] = peer
end
print(require("cjson").encode(measure(arg[1], tonumber(arg[2]), tonumber(arg[3]), peers)))
