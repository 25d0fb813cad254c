-- SPDX-License-Identifier: MIT
--
-- The bytes of codec.encode mean the same in lumap and in lumap54: each decodes what the other has encoded.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local codec = require("codec")
local interpreter = require("spec.support.interpreter")
local lfs = require("lfs")

local other = interpreter.path:gsub("[^/]+$", interpreter.name == "lumap54" and "lumap" or "lumap54")
if not lfs.attributes(other) then
  return -- this build has one of them alone
end

--- What Lua code gives as standard output in the other interpreter, with bytes as standard input.
local function in_other(code, bytes)
  local result = interpreter.run_code(code, { program = other, stdin = bytes })
  assert.equal("", result.stderr)
  assert.equal(0, result.code)
  return result.stdout
end

describe("bytes from the other interpreter", function()
  it("give the same values", function()
    local text = [[{
      1, -1, 127, 128, -32769, 2 ^ 31, 2 ^ 40, 0.5, -0.1, 1e300, 1 / 0, "x\0y\255", true, false, "",
      { a = { b = {} }, [true] = "yes", [-7] = "minus" }, { 1, nil, 3 },
    }]]
    local bytes = in_other("io.write(codec.encode(" .. text .. "))")
    assert.same((loadstring or load)("return " .. text)(), codec.decode(bytes))
  end)

  it("give packed lists, cycles and shared references", function()
    local bytes = in_other([[
      local list = { n = "name" }
      for i = 1, 1000 do list[i] = i / 4 end
      io.write(codec.encode({ list, list, 5 }))
    ]])
    local result = codec.decode(bytes)
    assert.equal(result[1], result[2])
    assert.equal("name", result[1].n)
    for i = 1, 1000 do
      assert.equal(i / 4, result[1][i])
    end
  end)

  it("keep integers exact, whatever this interpreter's numbers can hold", function()
    if jit then
      local ffi = require("ffi")
      local list = codec.decode(in_other("io.write(codec.encode({ math.maxinteger, math.mininteger, 2^53 | 0, 1.0 }))"))
      assert.is_true(ffi.istype("int64_t", list[1]))
      assert.is_true(list[1] == ffi.cast("int64_t", 2 ^ 62) * 2 - 1)
      assert.is_true(ffi.istype("int64_t", list[2]))
      assert.is_true(list[2] == ffi.cast("int64_t", -(2 ^ 63)))
      assert.equal(2 ^ 53, list[3])
      assert.equal("number", type(list[3]))
      assert.equal(1, list[4])
    else
      local list = codec.decode(in_other("io.write(codec.encode({ 9007199254740993LL, -1LL, 3, 0.5, -0.0 }))"))
      assert.equal(9007199254740993, list[1])
      assert.equal("integer", math.type(list[1]))
      assert.equal(-1, list[2])
      assert.equal(3, list[3])
      assert.equal(0.5, list[4])
      assert.equal(-math.huge, 1 / list[5])
    end
  end)

  it("keep integers exact in packed lists, too", function()
    local bytes = in_other([[
      local list = {}
      for i = 1, 100 do list[i] = i end
      if math.type then list[51] = math.tointeger(2 ^ 53) + 1 else list[51] = 2 ^ 53 end
      io.write(codec.encode(list))
    ]])
    local list = codec.decode(bytes)
    assert.equal(50, list[50])
    if jit then
      assert.is_true(require("ffi").istype("int64_t", list[51]))
      assert.equal("9007199254740993LL", tostring(list[51]))
    else
      assert.equal(9007199254740992, list[51])
    end
  end)

  it("refuse functions, whose code is another interpreter's", function()
    local bytes = in_other("io.write(codec.encode(function() end, { functions = true }))")
    local ok, message = pcall(codec.decode, bytes, { functions = true })
    assert.is_false(ok)
    assert.is_truthy(message:find("at byte %d+"), message)
    assert.is_truthy(message:find("another Lua VM", 1, true), message)
  end)

  it("go back unchanged", function()
    local value = { 1, 0.5, "text", { true, list = { 1, 2, 3 } } }
    local bytes = in_other("io.write(codec.encode(codec.decode(io.read('*a'))))", codec.encode(value))
    assert.same(value, codec.decode(bytes))
  end)
end)

describe("cdata of the ffi library", function()
  local code = [[
    local ffi = require("ffi")
    ffi.cdef("struct vms_point { int x, y; };")
    local values = {
      numbers = {
        ffi.new("int8_t", -5), ffi.new("uint8_t", 250), ffi.new("int16_t", -300), ffi.new("uint32_t", 4000000000),
        ffi.new("float", 0.5), ffi.new("double", 1.25), ffi.new("bool", true), ffi.new("int64_t", -7),
      },
      struct = ffi.new("struct vms_point", 1, 2), array = ffi.new("int[3]"), complex = ffi.new("complex", 1, 2),
    }
    io.write(codec.encode(values[%q]))
  ]]

  it("that is a number arrives as one", function()
    if not jit then
      local numbers = codec.decode(in_other(code:format("numbers")))
      assert.same({ -5, 250, -300, 4000000000, 0.5, 1.25, true, -7 }, numbers)
      assert.same({ "integer", "float" }, { math.type(numbers[1]), math.type(numbers[6]) })
    end
  end)

  it("of other types is refused where there is no such library", function()
    if not jit then
      for _, name in ipairs({ "struct", "array", "complex" }) do
        local ok, message = pcall(codec.decode, in_other(code:format(name)))
        assert.is_false(ok)
        assert.is_truthy(message:find("^bad message at byte %d+: cdata, for which a VM with the ffi library is needed"))
      end
    end
  end)
end)
