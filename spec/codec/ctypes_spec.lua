-- SPDX-License-Identifier: MIT
--
-- C types, metatypes, libraries and declarations of LuaJIT's ffi library in workers.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

if not jit then
  return -- Lua 5.4 has no ffi library
end

local backends = require("spec.support.backends")
local codec = require("codec")
local crossings = require("spec.support.crossings")
local ffi = require("ffi")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

ffi.cdef([[
  struct spec_pair { int a, b; };
  typedef struct { struct spec_pair first; } spec_pairs;
  struct spec_link { struct spec_link *next; int v; };
  struct spec_secret;
  enum spec_state { SPEC_OFF, SPEC_ON = 4 };
  int getpid(void);
  double spec_cos(double) __asm__("cos");
  static const int SPEC_LIMIT = 17;
]])

local plain = ffi.typeof("struct { uint8_t a; float b[2]; }")

local types = {
  "int", "const char", "double", "complex float", "void", "void *", "const char *", "int *const", "volatile int",
  "int [3]", "int [?]", "struct spec_pair", "const struct spec_pair", "struct spec_pair *", "spec_pairs",
  "struct spec_link", "struct spec_link *", "const struct spec_link *", "struct spec_secret *", "enum spec_state",
  "int &", "int (*)(const char *, ...)", "void (*[2])(struct spec_pair *, double)", "struct spec_pair [2][3]",
  "double __attribute__((vector_size(32)))",
}

crossings.each(function(cross)
  it("types cross", function()
    for _, name in ipairs(types) do
      local ct = ffi.typeof(name)
      local result = cross(ct)
      assert.equal(tostring(ct), tostring(result))
      assert.equal(tonumber(ct), tonumber(result), name)
    end
    assert.equal(tonumber(plain), tonumber(cross({ { plain } })[1][1]))
  end)

  it("ffi.C and libraries cross by name", function()
    local m = ffi.load("m")
    assert.equal(ffi.C, cross(ffi.C))
    assert.equal(1, cross({ m })[1].spec_cos(0))
  end)
end)

backends.each(function(with)
  it("what was declared is declared in the worker", function()
    local results, limits, pids = parallel.map(function(n)
      local types_here = require("ffi")
      local pair = types_here.new("struct spec_pair", n, 2)
      return pair.a + pair.b, types_here.C.SPEC_LIMIT + types_here.C.SPEC_ON, types_here.C.getpid()
    end, { 1, 2, 3 }, with())
    assert.same({ 3, 4, 5, n = 3 }, results)
    assert.same({ 21, 21, 21, n = 3 }, limits)
    assert.is_true(pids[1] > 0)
  end)

  it("a function has types, constants and libraries as upvalues and in its code", function()
    local pair, pointer, m = ffi.typeof("struct spec_pair"), ffi.typeof("int *"), ffi.load("m")
    local C = ffi.C
    local big = loadstring("return 9007199254740993LL")
    local imaginary = loadstring("return 2i")
    local results = parallel.map(function(n)
      local object = pair(n, 7)
      local inside = require("ffi").cast(pointer, object)
      assert(C.getpid() > 0 and m.spec_cos(0) == 1)
      assert(tostring(big()) == "9007199254740993LL" and imaginary().im == 2)
      return inside[0] + inside[1]
    end, { 1, 2, 3 }, with())
    assert.same({ 8, 9, 10, n = 3 }, results)
  end)

  it("methods of a type work in the worker, and on what comes back", function()
    ffi.cdef([[ struct spec_vector { double x, y; }; typedef struct { struct spec_vector from, to; } spec_segment; ]])
    local methods, vector = {}, nil
    function methods:length()
      return math.sqrt(self.x ^ 2 + self.y ^ 2)
    end
    vector = ffi.metatype("struct spec_vector", {
      __index = methods,
      __add = function(a, b)
        return vector(a.x + b.x, a.y + b.y)
      end,
    })
    for _ = 1, 3 do
      local sums, lengths = parallel.map(function(v)
        return v + vector(3, 4), (v + v):length()
      end, { vector(0, 0), vector(3, 4) }, with())
      assert.same({ 5, 10 }, { sums[1]:length(), sums[2]:length() })
      assert.same({ 0, 10, n = 2 }, lengths)
    end
    local within = parallel.map(function(segment)
      return segment.to:length() + (segment.from + segment.to):length()
    end, { ffi.new("spec_segment", { from = { 0, 0 }, to = { 3, 4 } }) }, with())
    assert.equal(10, within[1])
  end)

  it("a module that declares types is loaded in the worker as it is here", function()
    local vectors = require("spec.support.fixtures.vectors")
    local results, lengths = parallel.map(function(v)
      return v + vectors.new(3, 4), v:length()
    end, { vectors.new(0, 0), vectors.new(3, 4) }, with())
    assert.equal(10, results[2]:length())
    assert.same({ 0, 5, n = 2 }, lengths)
    local again = parallel.map(function(n)
      return require("spec.support.fixtures.vectors").new(n, 0):length()
    end, { 1, 2, 3 }, with())
    assert.same({ 1, 2, 3, n = 3 }, again)
  end)

  it("items may declare the same again", function()
    local results = parallel.map(function(n)
      local here = require("ffi")
      here.cdef("struct spec_repeated { int v; };")
      return here.new("struct spec_repeated", n).v
    end, { 1, 2, 3, 4 }, with())
    assert.same({ 1, 2, 3, 4, n = 4 }, results)
  end)

  it("a type declared with parameters", function()
    local element = ffi.typeof("struct { int16_t v; }")
    ffi.cdef("struct spec_parameter_" .. with().backend .. " { $ inner[$]; };", element, 3)
    local object = ffi.new("struct spec_parameter_" .. with().backend)
    object.inner[2].v = 8
    local results = parallel.map(function(value)
      return value.inner[2].v
    end, { object }, with())
    assert.equal(8, results[1])
  end)

  it("repeats a declaration once in a worker's life, whatever it is made with", function()
    ffi.cdef("typedef struct { $ v; } spec_box_" .. with().backend .. ";", ffi.typeof("struct { int8_t w; }"))
    ffi.load("m", true)
    local numbers = {}
    for i = 1, 6 do
      numbers[i] = parallel.map(function(n)
        return tonumber(require("ffi").typeof("struct { int fresh; }")) + n
      end, { 0 }, with({ workers = 1 }))[1]
    end
    -- Two entries in the VM's table of types for each text that is read, the struct and its member, and no more.
    for i = 3, 6 do
      assert.equal(2, numbers[i] - numbers[i - 1])
    end
  end)

  it("a module's own metatable takes the place of the one that came with a call", function()
    local name = "struct spec_owned_" .. with().backend
    ffi.cdef(name .. " { int v; };")
    ffi.metatype(name, {
      __index = {
        who = function()
          return "the caller's"
        end,
      },
    })
    local function ask(object, own)
      if own then
        require("ffi").metatype(name, {
          __index = {
            who = function()
              return "the module's"
            end,
          },
        })
      end
      return object:who()
    end
    local function call(own)
      return parallel.map(function(object)
        return ask(object, own)
      end, { ffi.new(name) }, with({ workers = 1 }))[1]
    end
    assert.same({ "the caller's", "the caller's" }, { call(false), call(false) })
    assert.same({ "the module's", "the module's" }, { call(true), call(false) })
  end)

  it("a library that was loaded for all is there for all in the worker", function()
    if not pcall(ffi.load, "libz.so.1", true) then
      return -- this machine lacks the one library that nothing else here is linked with
    end
    ffi.cdef("const char *zlibVersion(void);")
    local versions = parallel.map(function()
      local here = require("ffi")
      return here.string(here.C.zlibVersion())
    end, { 1 }, with())
    assert.equal(ffi.string(ffi.C.zlibVersion()), versions[1])
  end)

  it("a type that only the worker has fails the item that gives it, and says what to do", function()
    local name = "struct spec_only_" .. with().backend
    local list = parallel.map(function(n)
      if n ~= 2 then
        return n
      end
      local here = require("ffi")
      here.cdef(name .. " { int v; };")
      return { here.new(name) }
    end, { 1, 2, 3 }, with({ errors = "collect" }))
    assert.same({ 1, 3 }, { list[1], list[3] })
    assert.equal("decode", list.errors[2].kind)
    assert.is_truthy(
      list.errors[2].message:find("'" .. name .. "' is not declared here: give its declaration to ffi.cdef", 1, true),
      list.errors[2].message
    )
  end)

  it("what is declared during a call reaches the worker with the object that needs it", function()
    local count = 0
    local results = parallel.map(function(object)
      return object.v
    end, function()
      count = count + 1
      if count > 3 then
        return nil
      end
      local name = "struct spec_late_" .. with().backend .. count
      ffi.cdef(name .. " { int v; };")
      return ffi.new(name, count)
    end, with({ chunk = 1 }))
    assert.same({ 1, 2, 3, n = 3 }, results)
  end)
end)

describe("without functions = true", function()
  it("types and libraries are refused by name", function()
    for value, what in pairs({ [ffi.typeof("int")] = "a C type", [ffi.C] = "a library of C functions" }) do
      local ok, message = pcall(codec.encode, { at = value })
      assert.is_false(ok)
      assert.is_truthy(message:find("cannot send value.at (" .. what .. ")", 1, true), message)
      local bytes = codec.encode({ at = value }, { functions = true })
      ok, message = pcall(codec.decode, bytes)
      assert.is_false(ok)
      assert.is_truthy(message:find("functions = true", 1, true), message)
    end
  end)
end)

describe("ffi.cdef", function()
  it("fails as the stock interpreter's does", function()
    local script = [[
      local ffi = require("ffi")
      local function try(...)
        local results = { pcall(ffi.cdef, ...) }
        print(unpack(results))
        local arguments = { ... }
        print(select(2, pcall(function() ffi.cdef(unpack(arguments)) end)))
      end
      try() try(1) try({}) try("struct x {") try("struct a { int b; };") try("struct a { int b; };")
      try("int f($);", "no") try("struct $ { int $; };", "named", "field")
      print(ffi.new("struct named", 5).field)
      print(pcall(ffi.metatype), pcall(ffi.metatype, "struct a"), pcall(ffi.metatype, "struct none", {}))
      print(pcall(ffi.metatype, "struct a", {}), pcall(ffi.metatype, "struct a", {}))
      print(ffi.metatype("struct { int q; }", { __index = { m = 3 } })().m)
      print(pcall(ffi.load), pcall(ffi.load, "spec-no-such-library"))
      print(select(2, pcall(function() ffi.load("spec-no-such-library") end)))
      print(xpcall(function() ffi.cdef("bad bad bad") end, debug.traceback))
      ffi.cdef("int f(")
    ]]
    local own = interpreter.run_code(script)
    local stock = interpreter.run_code(script, { program = interpreter.stock })
    local function comparable(text)
      return (text:gsub("0x%x+", "ADDRESS"):gsub("^[^:\n]*luajit: ", "lumap: "):gsub("^[^:\n]*lumap: ", "lumap: "))
    end
    assert.equal(comparable(stock.stdout), comparable(own.stdout))
    assert.equal(comparable(stock.stderr), comparable(own.stderr))
  end)
end)

describe("what is recorded", function()
  it("counts from the start of the script, and costs one that uses no ffi nothing", function()
    local script = [[
      local ffi = require("ffi")
      ffi.cdef("struct spec_early { int v; };")
      local parallel = require("parallel")
      print(package.loaded["lumap.cdata"], package.loaded["lumap.ctypes"])
      local list = parallel.map(function(n) return require("ffi").new("struct spec_early", n).v end, { 4 })
      print(list[1])
    ]]
    assert.equal("nil\tnil\n4\n", interpreter.run_code(script).stdout)
  end)
end)
