-- SPDX-License-Identifier: MIT
--
-- Objects of LuaJIT's ffi library: complex numbers, structs, unions and arrays of plain data cross, pointers do not.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

if not jit then
  return -- Lua 5.4 has no cdata; what it makes of such bytes is in vms_spec
end

local codec = require("codec")
local crossings = require("spec.support.crossings")
local ffi = require("ffi")
local parallel = require("parallel")

ffi.cdef([[
  struct spec_point { int x; double y; };
  typedef struct { float weight; struct { int inner; }; struct spec_point at[2]; } spec_node;
  typedef union { uint32_t bits; float value; } spec_union;
  struct spec_flags { unsigned a : 3; int b : 5; bool c : 1; int : 7; unsigned wide : 30; };
  struct spec_packed { uint8_t a; int b; } __attribute__((packed));
  struct spec_list { int n; double values[?]; };
  enum spec_color { SPEC_RED, SPEC_BLUE = 7, SPEC_LEAST = -3 };
  typedef struct { enum spec_color color; const int fixed; char name[12]; int grid[2][3]; } spec_mixed;
  struct spec_holder { struct { int n; struct spec_point *to; } part[2]; };
  struct spec_calls { void (*done)(int); };
  struct spec_handle { int fd; };
]])

local integers = {
  "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "long long", "bool", "float", "double",
}

crossings.each(function(cross)
  it("numbers in boxes keep type and value", function()
    for _, name in ipairs(integers) do
      local one = cross(ffi.new(name, 1))
      assert.is_true(ffi.istype(name, one), name)
      assert.equal(1, name == "bool" and (one == true and 1 or one == ffi.new("bool", true) and 1) or tonumber(one))
    end
    assert.equal(-100, tonumber(cross(ffi.new("int8_t", -100))))
    assert.equal(4294967295, tonumber(cross(ffi.new("uint32_t", -1))))
    assert.equal(7, tonumber(cross(ffi.new("enum spec_color", "SPEC_BLUE"))))
    assert.is_true(ffi.istype("enum spec_color", cross(ffi.new("enum spec_color", 0))))
  end)

  it("complex numbers keep both parts", function()
    for _, name in ipairs({ "complex", "complex float" }) do
      local z = cross(ffi.new(name, 1.5, -2.25))
      assert.is_true(ffi.istype(name, z))
      assert.same({ 1.5, -2.25 }, { z.re, z.im })
    end
  end)

  it("structs, nested, with members that have no name", function()
    local node = ffi.new("spec_node")
    node.weight, node.inner, node.at[1].x, node.at[1].y = 0.5, -9, 3, 4.25
    local result = cross(node)
    assert.is_true(ffi.istype("spec_node", result))
    assert.same({ 0.5, -9, 3, 4.25 }, { result.weight, result.inner, result.at[1].x, result.at[1].y })
  end)

  it("unions, bit-fields, enums, characters and packed structs", function()
    assert.equal(0x40490fdb, cross(ffi.new("spec_union", { value = math.pi })).bits)
    local flags = cross(ffi.new("struct spec_flags", 5, -11, true, 2 ^ 29 + 1))
    assert.same({ 5, -11, true }, { flags.a, flags.b, flags.c })
    assert.equal(2 ^ 29 + 1, tonumber(flags.wide))
    local packed = cross(ffi.new("struct spec_packed", 200, -70000))
    assert.same({ 5, 200, -70000 }, { ffi.sizeof(packed), packed.a, packed.b })
    local mixed = ffi.new("spec_mixed", { color = "SPEC_LEAST", fixed = 6, name = "text" })
    mixed.grid[1][2] = 12
    local result = cross(mixed)
    assert.is_true(result.color == ffi.new("enum spec_color", -3))
    assert.same({ 6, "text", 12 }, { result.fixed, ffi.string(result.name), result.grid[1][2] })
  end)

  it("arrays of fixed and of variable length", function()
    local three = cross(ffi.new("int16_t[3]", { 1, -2, 3 }))
    assert.is_true(ffi.istype("int16_t[3]", three))
    assert.same({ 1, -2, 3 }, { three[0], three[1], three[2] })
    local points = cross(ffi.new("struct spec_point[?]", 5))
    assert.is_true(ffi.istype("struct spec_point[?]", points))
    assert.equal(5 * ffi.sizeof("struct spec_point"), ffi.sizeof(points))
    assert.equal(0, ffi.sizeof(cross(ffi.new("double[?]", 0))))
    local grid = ffi.new("int[2][3]")
    grid[1][2] = 5
    assert.equal(5, cross(grid)[1][2])
    local list = ffi.new("struct spec_list", 4)
    list.n, list.values[3] = 4, 0.125
    local result = cross(list)
    assert.is_true(ffi.istype("struct spec_list", result))
    assert.same({ 4, 0.125, ffi.sizeof(list) }, { result.n, result.values[3], ffi.sizeof(result) })
  end)

  it("big arrays", function()
    local big = ffi.new("double[?]", 200000)
    for i = 0, 199999 do
      big[i] = i / 2
    end
    local result = cross(big)
    local wrong = 0
    for i = 0, 199999 do
      if result[i] ~= i / 2 then
        wrong = wrong + 1
      end
    end
    assert.equal(0, wrong)
  end)

  it("types without a name come back as the very type", function()
    local pair = ffi.typeof("struct { int8_t a; double b; struct { int c : 3; } d; union { int e; float f; }; }")
    local object = pair({ a = 1, b = 2.5, d = { c = -2 }, e = 77 })
    local result = cross(object)
    assert.is_true(ffi.istype(pair, result))
    assert.same({ 1, 2.5, -2, 77 }, { result.a, result.b, result.d.c, result.e })
    local packed = ffi.typeof("struct { char a; int b; } __attribute__((packed))")
    assert.equal(70000, cross(packed(1, 70000)).b)
    local aligned = ffi.typeof("struct { char a; int b __attribute__((aligned(16))); }")
    assert.equal(70000, cross(aligned(1, 70000)).b)
    local vector = ffi.typeof("float __attribute__((vector_size(16)))")
    assert.equal(2.5, cross(vector(1, 2.5))[1])
  end)

  it("a reference to a part of another object crosses as a copy of that part", function()
    local points = ffi.new("struct spec_point[3]")
    points[1].x, points[1].y = 4, 0.5
    local result = cross(points[1])
    assert.same({ 4, 0.5 }, { result.x, result.y })
    assert.is_true(ffi.istype("struct spec_point", result))
  end)

  it("an object met twice stays one, as value and as key", function()
    local point = ffi.new("struct spec_point", 1)
    local result = cross({ point, { point }, [point] = "key", other = ffi.new("struct spec_point", 1) })
    assert.is_true(rawequal(result[1], result[2][1]))
    assert.equal("key", result[result[1]])
    assert.is_false(rawequal(result[1], result.other))
    result[1].x = 9
    assert.equal(9, result[2][1].x)
  end)

  it("many objects of one type", function()
    local list = {}
    for i = 1, 300 do
      list[i] = ffi.new("struct spec_point", i, i / 2)
    end
    local result = cross(list)
    for i = 1, 300 do
      assert.same({ i, i / 2 }, { result[i].x, result[i].y })
    end
  end)
end)

describe("one type in a message", function()
  it("is described once", function()
    local one, many = {}, {}
    for i = 1, 100 do
      many[i] = ffi.new("struct spec_point")
    end
    one[1] = many[1]
    local per_object = (#codec.encode(many) - #codec.encode(one)) / 99
    assert.is_true(per_object <= ffi.sizeof("struct spec_point") + 5, per_object)
  end)

  it("goes to a worker once a call, not once a chunk", function()
    local list = {}
    for i = 1, 64 do
      list[i] = ffi.new("spec_node", { weight = i })
    end
    local results = parallel.map(function(node)
      node.weight = node.weight + 1
      return node
    end, list, { workers = 2, chunk = 1 })
    for i = 1, 64 do
      assert.equal(i + 1, results[i].weight)
    end
  end)
end)

describe("what is no plain data", function()
  local function refusal(value)
    local ok, message = pcall(codec.encode, { 1, { conn = value } })
    assert.is_false(ok)
    local checked, reason = codec.check({ 1, { conn = value } })
    assert.is_nil(checked)
    assert.equal(message, reason)
    return message
  end

  it("is refused with its path, its type and what to do", function()
    local pointers = "send what it points to, as a string, a number or an object of its own"
    local functions = "call it inside the function that is sent, through ffi.C or the library that has it"
    local cases = {
      [ffi.new("int *")] = "value[2].conn (cdata<int *>): " .. pointers,
      [ffi.new("void *[3]")] = "value[2].conn[0] (cdata<void *>): " .. pointers,
      [ffi.new("struct spec_holder")] = "value[2].conn.part[0].to (cdata<struct spec_point *>): " .. pointers,
      [ffi.new("struct spec_calls")] = "value[2].conn.done (cdata<void (*)()>): " .. functions,
      [ffi.cast("int (*)(int)", 0)] = "value[2].conn (cdata<int (*)()>): " .. functions,
    }
    for value, text in pairs(cases) do
      assert.equal("cannot send " .. text, refusal(value))
    end
  end)

  it("is refused before its item is sent", function()
    local list = parallel.map(function(x)
      return x
    end, { 1, { p = ffi.new("int *") }, 3 }, { errors = "collect", chunk = 3, workers = 1 })
    assert.same({ 1, 3 }, { list[1], list[3] })
    local failure = list.errors[2]
    assert.same({ "encode", 2 }, { failure.kind, failure.index })
    assert.is_truthy(failure.message:find("cannot send items[2].p (cdata<int *>): ", 1, true), failure.message)
  end)

  it("fails the item that gives it as a result", function()
    local list = parallel.map(function(x)
      return x == 2 and { at = require("ffi").new("char *") } or x
    end, { 1, 2, 3 }, { errors = "collect" })
    assert.same({ 1, 3 }, { list[1], list[3] })
    assert.is_truthy(list.errors[2].message:find("cannot send result.at (cdata<char *>): ", 1, true))
  end)

  it("is not what ffi.metatype refused", function()
    assert.is_false(pcall(ffi.metatype, "uint16_t", { __gc = print }))
    assert.is_false(pcall(ffi.metatype, "uint16_t[3]", { __gc = print }))
    assert.equal(7, tonumber(codec.decode(codec.encode(ffi.new("uint16_t", 7)))))
    assert.equal(8, codec.decode(codec.encode(ffi.new("uint16_t[3]", 8)))[0])
  end)

  it("has a type whose objects are to be finalized", function()
    ffi.metatype("struct spec_handle", { __gc = function() end })
    local message = refusal(ffi.new("struct spec_handle", 3))
    assert.is_truthy(message:find("value[2].conn (cdata<struct spec_handle>): its metatype has __gc", 1, true), message)
    assert.is_truthy(message:find("codec.register", 1, true), message)
  end)
end)

describe("registered C types", function()
  ffi.cdef([[ struct spec_file { int fd; void *buffer; }; struct spec_opaque; ]])

  crossings.each(function(cross)
    it("cross as their pack function has it, pointers too", function()
      codec.register("spec.file", ffi.typeof("struct spec_file"), function(file)
        return file.fd
      end, function(fd)
        local types = require("ffi")
        return types.new("struct spec_file", fd + 1, nil)
      end)
      codec.register("spec.opaque", ffi.typeof("struct spec_opaque *"), function(pointer)
        return tonumber(require("ffi").cast("intptr_t", pointer))
      end, function(number)
        return require("ffi").cast("struct spec_opaque *", number)
      end)
      local file = ffi.new("struct spec_file", 5)
      local result = cross({ file, file, ffi.cast("struct spec_opaque *", 4096) })
      assert.is_true(result[1].fd > 5)
      assert.is_true(rawequal(result[1], result[2]))
      assert.is_true(result[3] == ffi.cast("struct spec_opaque *", 4096))
    end)
  end)

  it("are C types or metatables, nothing else", function()
    for _, class in ipairs({ "struct spec_file", ffi.new("int[2]"), ffi.new("int", 1), ffi.typeof("int64_t"), 5 }) do
      local ok, message = pcall(codec.register, "spec.x", class, print, print)
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #2 to 'register' (metatable or C type expected", 1, true), message)
    end
  end)

  it("can be registered anew, under the same name", function()
    ffi.cdef([[ struct spec_first { void *p; }; struct spec_second { void *p; }; ]])
    local function pack()
      return 1
    end
    codec.register("spec.again", ffi.typeof("struct spec_first"), pack, pack)
    codec.register("spec.again", ffi.typeof("struct spec_second"), pack, pack)
    assert.equal(1, codec.decode(codec.encode(ffi.new("struct spec_second"))))
    assert.is_false(pcall(codec.encode, ffi.new("struct spec_first")))
  end)
end)
