-- SPDX-License-Identifier: MIT
--
-- Plain values: nil, booleans, numbers, strings, tables. What goes in comes out.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local graphs = require("spec.support.graphs")
local interpreter = require("spec.support.interpreter")

local number_type = math.type or function()
  return "number"
end

--- Asserts that a number crosses with its type, its sign and each bit that counts.
local function assert_number(cross, number)
  local result = cross(number)
  assert.equal("number", type(result))
  assert.equal(number_type(number), number_type(result), ("%.17g"):format(number))
  if number ~= number then
    assert.is_true(result ~= result)
  else
    assert.is_true(result == number, ("%.17g became %.17g"):format(number, result))
    assert.equal(1 / number, 1 / result) -- tells 0 from -0
  end
end

crossings.each(function(cross)
  it("keeps nil and booleans", function()
    assert.is_nil(cross(nil))
    assert.is_true(cross(true))
    assert.is_false(cross(false))
  end)

  it("keeps whole numbers up to 2^53 either way", function()
    for _, n in ipairs({ 0, 1, 2, 9, 10, 63, 64, 100, 127, 128, 200, 255, 256, 32767, 32768, 65535, 65536 }) do
      assert_number(cross, n)
      assert_number(cross, -n)
    end
    for exponent = 20, 53 do
      for _, offset in ipairs({ -1, 0, 1 }) do
        local n = 2 ^ exponent + offset
        assert_number(cross, n)
        assert_number(cross, -n)
      end
    end
  end)

  it("keeps fractions and the ends of the floats", function()
    local smallest = 2 ^ -1074
    for _, n in ipairs({
      0.5, 0.1, 1 / 3, math.pi, 1e-10, 1e10 + 0.5, 1e300, 2 ^ 63, 2 ^ 64, 2 ^ 1023, 2 ^ -1022, smallest, 3 * smallest,
      (2 - 2 ^ -52) * 2 ^ 1023, math.huge,
    }) do
      assert_number(cross, n)
      assert_number(cross, -n)
    end
  end)

  it("keeps not-a-number and the zero below zero", function()
    assert_number(cross, 0 / 0)
    assert_number(cross, -(0 / 0))
    local zero = 0.0
    assert_number(cross, -zero)
    assert.equal(-math.huge, 1 / cross(-zero))
    assert.equal(math.huge, 1 / cross(zero))
  end)

  it("keeps integers and floats apart where there are both", function()
    if not math.type then
      return -- LuaJIT has one kind of number
    end
    local big = math.tointeger(2 ^ 53)
    for _, n in ipairs({ 0, 1, -1, 255, big, big + 1, -big - 1, 1024 * big, math.maxinteger, math.mininteger }) do
      assert_number(cross, n)
      assert_number(cross, -n)
      assert_number(cross, n + 0.0)
      assert.equal("integer", math.type(cross(n)))
      assert.equal("float", math.type(cross(n + 0.0)))
    end
    assert.equal("integer", math.type(next(cross({ [3] = true }))))
    assert.same({ "integer", "float" }, { math.type(cross({ 1 })[1]), math.type(cross({ 1.0 })[1]) })
  end)

  it("keeps int64 and uint64 of LuaJIT", function()
    if not jit then
      return
    end
    local ffi = require("ffi")
    for _, kind in ipairs({ "int64_t", "uint64_t" }) do
      for _, text in ipairs({ "0", "1", "-1", "9007199254740993", "0x7fffffffffffffff", "0x8000000000000000" }) do
        local make = loadstring("return " .. text .. "LL")
        local n = ffi.cast(kind, make())
        local result = cross(n)
        assert.equal("cdata", type(result))
        assert.is_true(ffi.istype(kind, result))
        assert.is_true(result == n)
      end
    end
  end)

  it("keeps strings of any bytes and lengths", function()
    local all = {}
    for byte = 0, 255 do
      all[byte + 1] = string.char(byte)
    end
    all = table.concat(all)
    for _, text in ipairs({ "", "\0", "a", "a\0b", all, all:rep(3), "\255\254", "zero at the end\0", "n\n\r\n" }) do
      assert.equal(text, cross(text))
    end
    for _, length in ipairs({ 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4095, 4096, 16383, 65535, 65536, 65537 }) do
      local text = ("x"):rep(length)
      assert.is_true(cross(text) == text, length .. " bytes")
    end
  end)

  it("keeps a string of 64 MiB", function()
    local text = ("0123456789abcdef"):rep(4 * 1024 * 1024)
    assert.is_true(cross(text) == text)
    collectgarbage()
  end)

  it("keeps lists, records and what is both", function()
    for _, value in ipairs({
      {},
      { {} },
      { { {}, {} }, {} },
      { 1, 2, 3 },
      { "a", true, false, 1.5, { "b" } },
      { name = "x", size = 3, ["not a name"] = true, [""] = "" },
      { 1, 2, 3, name = "mixed", [0] = 0, [-1] = "minus", [2.5] = "half", [1e300] = "far" },
      { [true] = "yes", [false] = "no" },
      { [2] = "second", [4] = "fourth" },
      { 1, nil, 3, nil, nil, 6 },
      { [1000000] = "one far out" },
      { [math.huge] = 1, [-math.huge] = 2 },
    }) do
      assert.same(value, cross(value))
    end
  end)

  it("keeps records of the same shape, and of shapes nearly the same", function()
    local records = {}
    for i = 1, 300 do
      records[i] = { id = i, name = "n" .. i, score = i / 7, tags = { i, "t" } }
      if i % 5 == 0 then
        records[i].name = nil
      elseif i % 7 == 0 then
        records[i].more = true
      elseif i % 11 == 0 then
        records[i][1] = "list part"
      end
    end
    assert.same(records, cross(records))
  end)

  it("keeps cycles", function()
    local ring = { name = "a" }
    ring.next = { name = "b", next = ring }
    ring.itself = ring
    ring[ring] = "key"
    local result = cross(ring)
    assert.equal("a", result.name)
    assert.equal(result, result.itself)
    assert.equal(result, result.next.next)
    assert.equal("b", result.next.name)
    assert.equal("key", result[result])
  end)

  it("keeps references to one table as references to one", function()
    local shared = { "shared" }
    local result = cross({ shared, { shared }, key = shared, [shared] = shared, other = { "shared" } })
    assert.same({ "shared" }, result[1])
    assert.equal(result[1], result[2][1])
    assert.equal(result[1], result.key)
    assert.equal(result[1], result[result[1]])
    assert.is_false(result[1] == result.other)
  end)

  it("keeps tables as keys", function()
    local key, deep = { "key" }, { { "deep" } }
    local result = cross({ [key] = 1, [deep] = { [key] = 2 }, keys = { key, deep } })
    local new_key, new_deep = result.keys[1], result.keys[2]
    assert.equal(1, result[new_key])
    assert.equal(2, result[new_deep][new_key])
    assert.same({ "key" }, new_key)
    assert.same({ { "deep" } }, new_deep)
  end)

  it("keeps a key at #t that lives among the fields", function()
    local list = { 1, 2, 3, 4 }
    list[5] = nil
    list.x = 1
    for i = 5, 40 do
      list[i] = i
      assert.same(list, cross(list))
    end
    for i = 40, 2, -1 do
      list[i] = nil
      assert.same(list, cross(list))
    end
  end)

  it("keeps standard files and the null of cjson", function()
    local cjson = require("cjson")
    assert.equal(io.stdin, cross(io.stdin))
    assert.equal(io.stdout, cross(io.stdout))
    assert.equal(io.stderr, cross(io.stderr))
    assert.equal(cjson.null, cross(cjson.null))
    assert.same({ 1, cjson.null, { io.stdout } }, cross({ 1, cjson.null, { io.stdout } }))
  end)

  it("keeps 100,000 levels", function()
    local depth = interpreter.sanitized and 20000 or 100000
    local value = "ground"
    for _ = 1, depth do
      value = { value }
    end
    value = cross(value)
    for _ = 1, depth do
      value = value[1]
    end
    assert.equal("ground", value)

    local top = { level = 0 }
    local bottom = top
    for level = 1, depth do
      bottom.down = { level = level, up = bottom }
      bottom = bottom.down
    end
    local at = cross(top)
    for level = 0, depth - 1 do
      if at.level ~= level or at.down.up ~= at then
        error("level " .. level .. " is wrong")
      end
      at = at.down
    end
    assert.equal(depth, at.level)
  end)

  it("keeps keys that are nested deeply", function()
    local value = {}
    for _ = 1, 5000 do
      value = { [value] = true }
    end
    value = cross(value)
    for _ = 1, 5000 do
      value = next(value)
    end
    assert.same({}, value)
  end)

  it("keeps wide tables", function()
    local wide = {}
    for i = 1, 20000 do
      wide["key " .. i] = i
      wide[i] = "value " .. i
    end
    assert.is_true(graphs.equal(wide, cross(wide)))
  end)
end)

describe("codec", function()
  it("makes the same bytes of the same list each time, and says which version they are", function()
    local bytes = codec.encode({ 1, "two", { 3.5 } })
    assert.equal("string", type(bytes))
    assert.equal(bytes, codec.encode({ 1, "two", { 3.5 } }))
  end)

  it("refuses functions unless they are asked for, on both sides", function()
    local ok, message = pcall(codec.encode, { act = print and function() end })
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("act", 1, true), tostring(message))
    assert.is_truthy(tostring(message):find("functions = true", 1, true), tostring(message))
    local bytes = codec.encode(function()
      return 5
    end, { functions = true })
    assert.is_false(pcall(codec.decode, bytes))
    assert.equal(5, codec.decode(bytes, { functions = true })())
  end)

  it("refuses unknown options by name", function()
    for _, call in ipairs({
      function()
        codec.encode(1, { colour = "red" })
      end,
      function()
        codec.decode(codec.encode(1), { colour = "red" })
      end,
      function()
        codec.encode(1, { functions = 1 })
      end,
    }) do
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.is_truthy(message:find("colour", 1, true) or message:find("functions", 1, true), message)
    end
  end)

  it("decodes strings alone", function()
    for _, wrong in ipairs({ 1, true, {}, print }) do
      assert.is_false(pcall(codec.decode, wrong))
    end
    assert.is_false(pcall(codec.decode))
  end)

  it("check says whether a value can cross, and where not", function()
    assert.is_true(codec.check({ 1, "two", { print, function() end } }))
    assert.is_true(codec.check(nil))
    local ok, message = codec.check({ list = { 1, { log = io.tmpfile() } } })
    assert.is_nil(ok)
    assert.is_truthy(message:find(".list[2].log (a file handle): open it inside the function", 1, true), message)
    ok, message = codec.check(coroutine.create(print))
    assert.is_nil(ok)
    assert.is_truthy(message:find("a coroutine", 1, true), message)
  end)
end)
