-- SPDX-License-Identifier: MIT
--
-- codec.decode takes any bytes: it gives a value or raises an error that names the offset, in bounded time and memory.

local describe, it, assert, teardown = describe, it, assert, teardown
require("spec.support.globals")()

local codec = require("codec")
local interpreter = require("spec.support.interpreter")
local random = require("spec.support.random")

local function ring()
  local a = { name = "a" }
  a.next = { a, a, [a] = a }
  return a
end

local numbers = {}
for i = 1, 100 do
  numbers[i] = i * 3
end
local fractions = {}
for i = 1, 70 do
  fractions[i] = i / 3
end
local records = {}
for i = 1, 10 do
  records[i] = { id = i, name = "n" .. i }
end
local deep = {}
for _ = 1, 300 do
  deep = { deep }
end

--- Messages that have each kind of part.
local samples = {
  ["a number"] = codec.encode(1.5),
  ["an integer"] = codec.encode(123456789),
  ["a string"] = codec.encode("a text of some length, long enough to need a longer count" .. ("x"):rep(300)),
  ["a table"] = codec.encode({ 1, "two", { 3.5, true, false }, key = { nested = {} } }),
  ["a ring"] = codec.encode(ring()),
  ["packed integers"] = codec.encode(numbers),
  ["packed fractions"] = codec.encode({ fractions, n = "more" }),
  ["records"] = codec.encode(records),
  ["a metatable"] = codec.encode(setmetatable({ 1 }, { __name = "Class" })),
  ["nested tables"] = codec.encode(deep),
  ["a standard file"] = codec.encode({ print and "x", 2 }),
}

local function_bytes = codec.encode({ function(x)
  return x, numbers
end, string, math.sqrt, io.stdout }, { functions = true })

--- Decodes bytes that may be anything. True when they gave a value; an error must tell where.
local function decode(bytes, options)
  local ok, message = pcall(codec.decode, bytes, options)
  if not ok then
    assert.equal("string", type(message))
    local offset = tonumber(message:match("at byte (%d+)"))
    assert.is_truthy(offset, message)
    assert.is_true(offset <= #bytes, message)
  end
  return ok
end

for name, bytes in pairs(samples) do
  describe(name, function()
    it("cut at any length is an error", function()
      for length = 0, #bytes - 1 do
        assert.is_false(decode(bytes:sub(1, length)), "cut after " .. length)
      end
      assert.is_true(decode(bytes))
    end)

    it("with bytes after its end is an error", function()
      for _, more in ipairs({ "\0", "x", bytes, ("\255"):rep(100) }) do
        assert.is_false(decode(bytes .. more))
      end
    end)

    it("with any one byte changed is a value or an error", function()
      for at = 1, #bytes do
        local own = bytes:byte(at)
        for _, byte in ipairs({ 0, 1, 2, 127, 128, 254, 255, (own + 1) % 256, (own + 255) % 256 }) do
          decode(bytes:sub(1, at - 1) .. string.char(byte) .. bytes:sub(at + 1))
        end
      end
    end)

    it("with parts left out, doubled or swapped is a value or an error", function()
      local rng = random.new(#bytes)
      for _ = 1, 500 do
        local from, to = rng:integer(1, #bytes), rng:integer(1, #bytes)
        if from > to then
          from, to = to, from
        end
        local part = bytes:sub(from, to)
        decode(bytes:sub(1, from - 1) .. bytes:sub(to + 1))
        decode(bytes:sub(1, to) .. part .. bytes:sub(to + 1))
        decode(bytes:sub(1, from - 1) .. part:reverse() .. bytes:sub(to + 1))
      end
    end)
  end)
end

describe("functions and names, where they are allowed,", function()
  it("cut, changed and doubled are values or errors", function()
    local options = { functions = true }
    for length = 0, #function_bytes - 1 do
      assert.is_false(decode(function_bytes:sub(1, length), options))
    end
    for at = 1, #function_bytes do
      for _, byte in ipairs({ 0, 255, (function_bytes:byte(at) + 1) % 256 }) do
        decode(function_bytes:sub(1, at - 1) .. string.char(byte) .. function_bytes:sub(at + 1), options)
      end
    end
  end)
end)

describe("bytes at random", function()
  it("are values or errors", function()
    local rng = random.new(4)
    for _ = 1, 3000 do
      local bytes = {}
      for i = 1, rng:integer(0, 60) do
        bytes[i] = string.char(rng:integer(0, 255))
      end
      decode(table.concat(bytes))
    end
  end)

  it("after a good beginning are values or errors", function()
    local rng = random.new(5)
    local head = codec.encode(0):sub(1, -2)
    for length = 1, #head do
      for _ = 1, 2000 do
        local bytes = {}
        for i = 1, rng:integer(1, 30) do
          bytes[i] = string.char(rng:integer(0, 255))
        end
        decode(head:sub(1, length) .. table.concat(bytes))
      end
    end
  end)

  it("are refused when they are of another version, or empty", function()
    local bytes = codec.encode({ 1 })
    assert.is_false(decode(""))
    local refused = 0
    for version = 0, 255 do
      if not decode(string.char(version) .. bytes:sub(2)) then
        refused = refused + 1
      end
    end
    assert.equal(255, refused)
  end)
end)

describe("a list of packed numbers", function()
  it("has numbers alone, whatever its bits are", function()
    -- On LuaJIT a value of another type is a NaN with bits of its own, addresses among them.
    local list = {}
    for i = 1, 80 do
      list[i] = i / 3
    end
    local bytes = codec.encode(list)
    local head = bytes:sub(1, #bytes - 80 * 8 - 2)
    local tail = bytes:sub(-2)
    local bits = {
      ("\255"):rep(8),
      ("\0"):rep(6) .. "\250\255",
      ("\1"):rep(5) .. "\0\252\255",
      ("\0"):rep(5) .. "\128\255\255",
    }
    for kind = 1, 255 do
      local changed = head:sub(1, 2) .. string.char(kind) .. head:sub(4)
      local ok, decoded = pcall(codec.decode, changed .. table.concat(bits):rep(20) .. tail)
      -- The other kinds are of integers, and what is left of the bytes is read as something else.
      if ok and (kind == 1 or kind == 3) then
        for i = 1, #decoded do
          assert.equal("number", type(decoded[i]))
          assert.is_true(decoded[i] ~= decoded[i])
        end
      end
    end
  end)
end)

describe("a count", function()
  it("that is larger than what follows is refused at once, without memory for it", function()
    -- A limit on memory, which a message of a few bytes must not reach, whatever it claims.
    local script = [[
      local codec = require("codec")
      local heads = {}
      local long, longer = ("x"):rep(1000), ("x"):rep(100000)
      for _, value in ipairs({ long, longer, {}, { 1, 2, 3 }, { a = 1 }, { { a = 1 }, { a = 2 } } }) do
        heads[#heads + 1] = codec.encode(value):sub(1, 12)
      end
      local numbers = {}
      for i = 1, 100 do numbers[i] = i / 2 end
      heads[#heads + 1] = codec.encode(numbers):sub(1, 12)
      local tries = 0
      for _, head in ipairs(heads) do
        for at = 2, #head do
          for _, claim in ipairs({ "\255\255\255\127", "\255\255\255\255\255\255\255\255\255\1", "\254\255\255\255",
                                   "\0\0\0\0\0\0\0\64", "\128\128\128\128\16", "\0\0\0\16" }) do
            for _, tail in ipairs({ "", "x", ("x"):rep(100) }) do
              pcall(codec.decode, head:sub(1, at - 1) .. claim .. tail)
              tries = tries + 1
            end
          end
        end
      end
      local kilobytes = tonumber(io.open("/proc/self/status"):read("*a"):match("VmHWM:%s*(%d+)"))
      print(tries > 1000, kilobytes < 200 * 1024)
    ]]
    local result = interpreter.run_code(script, { seconds = 30 })
    assert.same({ stdout = interpreter.sanitized and result.stdout or "true\ttrue\n", stderr = "", code = 0 }, result)
  end)
end)

-- ---- attacks by hand: FORMAT.md has the bytes -----------------------------------------------------------------------

local function varint(number)
  local bytes = {}
  while number >= 128 do
    bytes[#bytes + 1] = string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return table.concat(bytes) .. string.char(number)
end

local version = codec.encode(0):sub(1, 1)

--- A message of one list, whose hints are honest, around `body`.
local function message(body)
  return version .. "\16\0\0" .. body .. "\36"
end

--- Bytes that a decode takes, its garbage included: the collector rests meanwhile anyway.
local function memory_of_decode(bytes)
  collectgarbage()
  collectgarbage()
  collectgarbage("stop")
  local before = collectgarbage("count")
  pcall(codec.decode, bytes)
  local taken = (collectgarbage("count") - before) * 1024
  collectgarbage("restart")
  return taken
end

describe("memory", function()
  local SIZE = 72000
  local distinct = {}
  for i = 1, SIZE / 4 do
    distinct[i] = "\67" .. string.char(i % 256, math.floor(i / 256) % 256, 65)
  end
  local keys = {}
  for i = 1, 129 do
    keys[i] = "\66" .. string.char(i, 65)
  end
  local attacks = {
    ["tables that claim long lists"] = message(("\16" .. varint(SIZE) .. "\0\36"):rep(math.floor(SIZE / 6))),
    ["tables that claim many pairs"] = message(("\16\0\255\36"):rep(math.floor(SIZE / 4))),
    ["tables in tables that claim long lists"] = version
      .. ("\16" .. varint(SIZE) .. "\255"):rep(149)
      .. ("\129"):rep(SIZE),
    ["packed lists that claim many pairs"] = message(("\20\1\0\255\36"):rep(math.floor(SIZE / 5))),
    ["tables that something may refer to"] = message(("\17\0\0\36"):rep(math.floor(SIZE / 4))),
    ["tables that are announced"] = message(("\25"):rep(SIZE)),
    ["tables that are announced, with room for them"] = message(("\25"):rep(math.floor(SIZE / 9))) .. ("\0"):rep(SIZE),
    ["references"] = message("\17\0\0\36" .. ("\34\4"):rep(math.floor(SIZE / 2))),
    ["strings of their own"] = message(table.concat(distinct)),
    ["keys of their own"] = version .. "\16\0\0\37" .. table.concat(distinct, "\129") .. "\129\36",
    ["small numbers"] = message(("\129"):rep(SIZE)),
    ["boxed integers"] = message(("\11\255\255\255\255\255\255\255\64"):rep(math.floor(SIZE / 9))),
    ["shapes in shapes"] = version .. ("\48\0\129" .. table.concat(keys)):rep(150) .. ("\129"):rep(SIZE),
    ["records in records"] = version
      .. ("\16\0\0" .. "\48\0\129" .. table.concat(keys))
      .. ("\48\0"):rep(140)
      .. ("\129"):rep(SIZE),
  }
  for name, bytes in pairs(attacks) do
    it("is bounded by a small multiple of the message: " .. name, function()
      codec.decode(message("\17\0\0\36\34\4")) -- what is made once
      assert.is_true(memory_of_decode(bytes) < 64 * #bytes + 65536, memory_of_decode(bytes) / #bytes .. " bytes a byte")
    end)
  end
end)

describe("hints that are too large", function()
  it("take no room from the records behind them", function()
    local record = "\48\0\2\65a\65b\129\48\1\1\65c\48\1\130\48\0\131\132"
    local expected = { { a = 1, b = { c = { c = 2 } } }, { a = 3, b = 4 } }
    assert.same(expected, codec.decode(version .. "\16\100\255" .. record .. "\36"))
  end)
end)

describe("a message that is long", function()
  it("and has the most to do in each byte takes time in proportion", function()
    -- Quadratic, each would take minutes; the limit is no measurement.
    local script = [[
      local codec = require("codec")
      local SIZE = 2000000
      local function message(body) return codec.encode(0):sub(1, 1) .. "\16\0\0" .. body .. "\36" end
      pcall(codec.decode, message(("\17\0\0\36"):rep(math.floor(SIZE / 4))))
      pcall(codec.decode, message("\17\0\0\36" .. ("\34\4"):rep(math.floor(SIZE / 2))))
      pcall(codec.decode, message(("\25"):rep(math.floor(SIZE / 9))) .. ("\0"):rep(SIZE))
      pcall(codec.decode, message(("\0"):rep(SIZE)))
      local deep = {}
      for _ = 1, 100000 do deep = { deep } end
      local bytes = codec.encode(deep)
      codec.decode(bytes)
      pcall(codec.decode, bytes:sub(1, -2))
      print("done")
    ]]
    local result = interpreter.run_code(script, { seconds = 60 })
    assert.same({ stdout = "done\n", stderr = "", code = 0 }, result)
  end)
end)

describe("a table that a message fills", function()
  it("is one that it announced, and is filled once", function()
    local Class = {}
    local one = setmetatable({ secret = true }, Class)
    codec.register("spec.one of a kind", Class, function()
      return true
    end, function()
      return one
    end)
    local name = "\82spec.one of a kind"
    local object = "\31" .. name .. "\2"
    -- The object at offset 4, a table announced behind it, and what is to be filled.
    local announced = 4 + #object
    local function filling(...)
      local fills = {}
      for i, offset in ipairs({ ... }) do
        fills[i] = "\38" .. varint(offset) .. "\16\0\0\129\36"
      end
      return version .. "\16\2\0" .. object .. ("\25"):rep(#fills) .. "\36" .. table.concat(fills)
    end
    assert.same({ one, { 1 } }, codec.decode(filling(announced)))
    assert.same({ one, { 1 }, { 1 } }, codec.decode(filling(announced, announced + 1)))
    assert.is_false(decode(filling(4)))
    assert.is_false(decode(filling(announced, announced)))
    assert.is_false(decode(filling(announced + 1, announced)))
    assert.is_false(decode(filling(1)))
    assert.same({ secret = true }, one)
  end)

  teardown(function()
    codec.register("spec.one of a kind", {}, tostring, tostring) -- maps of other specs send all classes along
  end)
end)

describe("bytecode", function()
  local options = { functions = true }
  local bytes = codec.encode(function(x)
    return x + 1
  end, options)
  local code = bytes:find("\27", 1, true)

  it("is not loaded by a plain decode, whatever stands around it", function()
    local ok, message_text = pcall(codec.decode, bytes)
    assert.is_false(ok)
    assert.truthy(message_text:find("functions = true", 1, true), message_text)
    assert.is_false(decode(message(bytes:sub(2))))
    assert.is_false(decode(version .. "\18\0\0\36\16\0\0\37\71__index" .. bytes:sub(2) .. "\36"))
  end)

  it("that is damaged is refused by its checksum, that of another VM by its number", function()
    assert.equal(3, codec.decode(bytes, options)(2))
    for at = code, #bytes - 3 do
      local changed = bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + 1) % 256) .. bytes:sub(at + 1)
      local ok, message_text = pcall(codec.decode, changed, options)
      assert.is_false(ok)
      assert.truthy(message_text:find("damaged bytecode", 1, true), message_text)
    end
    for vm = 0, 255 do
      local changed = bytes:sub(1, 3) .. string.char(vm) .. bytes:sub(5)
      local ok, result = pcall(codec.decode, changed, options)
      assert.is_true(ok and vm == bytes:byte(4) or tostring(result):find("another Lua VM", 1, true) ~= nil)
    end
  end)
end)
