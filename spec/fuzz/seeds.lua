-- SPDX-License-Identifier: MIT
--
-- Writes the seeds of the fuzz corpus: build/release/bin/lumap spec/fuzz/seeds.lua [FOLDER]
--
-- Messages that the codec writes, and by hand what only hostile ones have. The folder (spec/fuzz/corpus) keeps what
-- else it has: inputs that were findings once, or reach what no seed does.

local codec = require("codec")

local folder = arg[1] or "spec/fuzz/corpus"

local function write(target, name, bytes)
  local file = assert(io.open(("%s/%s/%s"):format(folder, target, name), "wb"))
  file:write(bytes)
  file:close()
end

-- ---- messages of data ---------------------------------------------------------------------------------------------

local function numbers(count, make)
  local list = {}
  for i = 1, count do
    list[i] = make(i)
  end
  return list
end

local function chain(levels)
  local value = { "end" }
  for _ = 1, levels do
    value = { value }
  end
  return value
end

local function ring()
  local a = { name = "a" }
  a.next = { a, a, [a] = a }
  return a
end

local messages = {
  scalars = { 1, -1, 127, 128, -32768, 2 ^ 31, 2 ^ 53, -0.5, 1 / 3, true, false, 0 / 0, 1 / 0, "", "text" },
  strings = { ("x"):rep(63), ("x"):rep(64), ("y"):rep(255), ("z"):rep(256) },
  holes = { 1, nil, 3, [100] = 4, [-1] = 5, [1.5] = 6 },
  packed_integers = numbers(70, function(i)
    return i * 1000000007
  end),
  packed_bytes = numbers(70, function(i)
    return i
  end),
  packed_shorts = numbers(70, function(i)
    return i * 300
  end),
  packed_floats = { numbers(70, function(i)
    return i / 3
  end), n = "more" },
  packed_mixed = numbers(70, function(i)
    return i % 2 == 0 and i or i / 3
  end),
  records = numbers(9, function(i)
    return { id = i, name = "name " .. i, score = i / 7, tags = { "a", "b" .. i } }
  end),
  mixed_records = numbers(9, function(i)
    return i % 2 == 0 and { x = i, y = i } or { y = i, x = {} }
  end),
  ring = ring(),
  chain = chain(120),
  metatable = setmetatable({ 1 }, { __name = "Class", __mode = "k" }),
}

for name, value in pairs(messages) do
  local bytes = codec.encode(value)
  write("decode", name, bytes)
  write("functions", name, bytes)
end

--- A registered class, as decode_fuzz.c registers it: a box inside a box, and one that is referred to.
write("decode", "boxes", "\1\16\2\0" .. "\31\67Box\30\67Box\129" .. "\34\4" .. "\36")
write("decode", "moody", "\1\30\69Moody\129")
write("decode", "boxed_integers", "\1\16\2\0" .. "\11\1\2\3\4\5\6\7\8" .. "\12\255\2\3\4\5\6\7\255" .. "\36")

-- ---- functions: with code that a target puts its own in the place of ------------------------------------------------

--- FNV-1a of a text, exact in doubles.
local function checksum(text)
  local hash = 2166136261
  for i = 1, #text do
    local low, byte, xor, bit = hash % 256, text:byte(i), 0, 1
    for _ = 1, 8 do
      if low % 2 ~= byte % 2 then
        xor = xor + bit
      end
      low, byte, bit = math.floor(low / 2), math.floor(byte / 2), bit * 2
    end
    hash = hash - hash % 256 + xor
    hash = (hash * 403 + hash % 256 * 2 ^ 24) % 2 ^ 32
  end
  return hash
end

local function u32(number)
  local bytes = {}
  for i = 1, 4 do
    bytes[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(bytes)
end

--- CODE for a VM (1 or 2): the target takes its function number `which`, which has so many upvalues.
local function code(vm, which)
  local text = string.char(which)
  return "\41" .. string.char(vm) .. u32(checksum(text)) .. u32(#text) .. text
end

local log_cases = {}
for vm = 1, 2 do
  local cases = {
    plain = "\26" .. code(vm, 0) .. "\0\0",
    environment = "\26" .. code(vm, 0) .. "\0\15",
    upvalues = "\27" .. code(vm, 2) .. "\2\0\39\129\39\34\1",
    shared = "\16\2\0\27" .. code(vm, 1) .. "\1\0\39\128\26" .. code(vm, 1) .. "\1\0\40\4\1\36",
    globals = "\26" .. code(vm, 3) .. "\3\15\15\39\16\0\0\36\39\28\2\70string\67len",
    foreign = "\26" .. code(3 - vm, 0) .. "\0\0",
    damaged = "\26" .. code(vm, 0):sub(1, -2) .. "\9" .. "\0\0",
  }
  for name, bytes in pairs(cases) do
    write("functions", ("%s_vm%d"):format(name, vm), "\1" .. bytes)
    log_cases[("%s_vm%d"):format(name, vm)] = bytes
  end
end
local floor = "\28\2\68math\69floor"
write("functions", "names", "\1\16\4\0" .. "\28\1\70string" .. floor .. "\28\2\66_G\68type" .. "\14\1\15\36")
write("functions", "no_module", "\1\28\2\68none\68such")

-- ---- calls: see call_fuzz.c ---------------------------------------------------------------------------------------

local function call(what, count, log, payload)
  return string.char(what, count, #log % 256, math.floor(#log / 256)) .. log .. payload
end

local items = "\1\1" .. "\129\16\2\0\129\65x\36" .. codec.encode(messages.records):sub(2)
write("call", "items", call(0, 3, "", "\1\1" .. items:sub(3)))
for name, bytes in pairs(log_cases) do
  write("call", "log_" .. name, call(0, 2, "\1" .. bytes, "\1\1\129\16\1\0\35\1\36"))
end
write("call", "log_values", call(0, 1, "\1\17\0\0\36" .. "\2\65g\129" .. "\4\17\0\0\36" .. "\5\65p\65c", "\1\1\35\1"))
write("call", "log_class", call(0, 1, "\3\65C" .. "\17\0\0\36" .. floor .. floor, "\1\1\30\65C\129"))
write("call", "results", call(7, 2, "", "\1\2" .. "\129\130" .. "\65x\0" .. "\1\0\16\0\1\37\68kind\69error\36"))
write("call", "results_known", call(7, 3, "", "\1\1" .. "\35\1\0\0" .. "\0"))
write("call", "results_numbers", call(3, 2, "", ("\0"):rep(6) .. "\240\63" .. ("\0"):rep(8)))
write("call", "results_integers", call(5, 2, "", ("\1"):rep(16)))
write("call", "results_none", call(1, 2, "", ""))

-- ---- fields: see wire_fuzz.c --------------------------------------------------------------------------------------

write("wire", "fields", "\0\5" .. "\1\129\1" .. "\2\8\1\2\3\4\5\6\7\8" .. "\3\67abc" .. "\3\8\2xy" .. "\3\9\1\0\0\0z")
write("wire", "long", "\3\10\1\0\0\0\0\0\0\0a" .. "\1" .. ("\255"):rep(9) .. "\1")
write("wire", "ends", "\3\8\255")

-- ---- values: see round_trip_fuzz.c --------------------------------------------------------------------------------

local programs = {
  list = "\8\4" .. "\3\0\7" .. "\5\3abc" .. "\1\1" .. "\7\0\0",
  pairs = "\9\3" .. "\2\4name" .. "\3\0\1" .. "\0\0\5" .. "\3\1\1\2\3\4" .. "\1" .. "\8\0",
  numbers = "\10\100\0\255\1\1",
  floats = "\10\70\135\255\1\2\3\4\5\6\7\8\3",
  mixed = "\10\80\128\3\1\1\5\1a",
  records = "\11\12\3\5" .. "\2id\4name\5score",
  chain = "\12\150\3\0\1",
  metatable = "\13\1\3\0\1\9\1\2\7__index\7\0\0",
  point = "\8\2\14\0\1\14\1\1\1\1\1",
  functions = "\8\2\15\8\1\7\0\0\7\0\0",
  long_string = "\6\200" .. ("q"):rep(200) .. "\50",
}
for name, bytes in pairs(programs) do
  write("round_trip", name, bytes)
end
