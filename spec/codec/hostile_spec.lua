-- SPDX-License-Identifier: MIT
--
-- codec.decode takes any bytes: it gives a value or raises an error that names the offset, in bounded time and memory.

local describe, it, assert = describe, it, assert
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
      if ok and kind ~= 2 then
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
