-- SPDX-License-Identifier: MIT
--
-- Bytes of strangers that claim to be cdata give a value that is safe to read, or an error that names the offset. Each
-- test has a process of its own: types that a message makes stay.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

if not jit then
  return -- Lua 5.4 has no cdata; what it makes of such bytes is in vms_spec
end

local interpreter = require("spec.support.interpreter")

--- Runs a script that prints "done" when all went well.
local function run(script)
  local result = interpreter.run_code("local ffi = require('ffi')\n" .. script, { seconds = 60 })
  assert.same({ stdout = "done\n", stderr = "", code = 0 }, result)
end

describe("a message with cdata", function()
  it("with any byte changed gives a value or an error that names the offset", function()
    run([[
      ffi.cdef("struct named { int x; double y[2]; }; typedef union { float f; uint32_t bits; } alias;")
      local anonymous = ffi.typeof("struct { char c; struct { int i : 3; double d; } in[2]; complex z; }")
      local samples = {
        ffi.new("struct named"), ffi.new("alias"), anonymous(), ffi.new("double[3]", { 1, 2, 3 }), ffi.new("int[?]", 2),
        ffi.new("complex float", 1, 2), ffi.new("struct { int n; float v[?]; }", 2), ffi.new("int8_t", 5),
      }
      samples[#samples + 1] = { samples[1], samples[1], ffi.new("struct named") }
      local function touch(value)
        if type(value) == "table" then for _, inner in pairs(value) do touch(inner) end end
        if type(value) == "cdata" then
          pcall(function() return value.x + value.y[0] + value.y[1] end)
          pcall(function() return value.f + value.c + value["in"][1].d + value.v[0] end)
          pcall(function() return value[0] + value[1] + tonumber(value) + value.re end)
        end
      end
      for _, sample in ipairs(samples) do
        local bytes = codec.encode(sample)
        for at = 2, #bytes do
          for value = 0, 255, at % 3 + 1 do
            local ok, result = pcall(codec.decode, bytes:sub(1, at - 1) .. string.char(value) .. bytes:sub(at + 1))
            if ok then touch(result) else assert(result:find("^bad message at byte %d+: "), result) end
          end
          assert(not pcall(codec.decode, bytes:sub(1, at - 1)))
        end
      end
      print("done")
    ]])
  end)

  it("cannot bring a value of another type in the place of a float", function()
    run([[
      local forged, forged_float = "\1\0\0\0\0\128\251\255", "\255\255\255\255"
      local function decode(value, from, to)
        local bytes = codec.encode(value)
        local at = assert(bytes:find(from, 1, true))
        return codec.decode(bytes:sub(1, at - 1) .. to .. bytes:sub(at + #from))
      end
      local function nan(x) assert(type(x) == "number" and x ~= x) end
      local mark, mark_float = ffi.string(ffi.new("double[1]", 1.625), 8), ffi.string(ffi.new("float[1]", 1.625), 4)
      nan(decode(ffi.new("double[3]", { 1, 1.625, 3 }), mark, forged)[1])
      nan(decode(ffi.new("double[?]", 2, { 1, 1.625 }), mark, forged)[1])
      nan(decode(ffi.new("complex", 1, 1.625), mark, forged).im)
      nan(decode(ffi.new("float[2]", { 1.625, 2 }), mark_float, forged_float)[0])
      nan(decode(ffi.new("float[2]", { 1.625, 2 }), mark_float, "\255\255\191\255")[0])
      local T = ffi.typeof("struct { int a; struct { float f; double d[2]; } in[2]; struct { double e; }; }")
      local x = T() x["in"][1].d[1] = 1.625 nan(decode(x, mark, forged)["in"][1].d[1])
      x = T() x["in"][1].f = 1.625 nan(decode(x, mark_float, forged_float)["in"][1].f)
      x = T() x.e = 1.625 nan(decode(x, mark, forged).e)
      local V = ffi.typeof("struct { int n; struct { double d; } v[?]; }")
      x = V(2) x.v[1].d = 1.625 nan(decode(x, mark, forged).v[1].d)
      local list = {} for i = 1, 100 do list[i] = i / 8 end
      nan(decode(list, mark, forged)[13])
      nan(decode(list, ffi.string(ffi.new("double[1]", 12.375), 8), forged)[99])
      nan(decode(1.625, mark, forged))
      local ok, message = pcall(decode, ffi.new("union { double d; uint64_t bits; }", 1.625), mark, forged)
      assert(not ok and message:find("a union with a float that is no number", 1, true), message)
      assert(decode(ffi.new("double[2]", { 1.625, 2 }), mark, mark)[0] == 1.625)
      assert(codec.decode(codec.encode(ffi.new("double[2]", { -1 / 0, 0 / 0 })))[0] == -1 / 0)
      print("done")
    ]])
  end)

  it("cannot fill the VM's table of types, nor name what is not declared", function()
    run([[
      local template = codec.encode(ffi.new("int8_t[100]"))
      local at = template:find("\35\100", 1, true)
      local refused
      for n = 128, 16383 do
        local count = string.char(n % 128 + 128, math.floor(n / 128))
        local bytes = "\1\32\0\68\35" .. count .. "\2" .. count .. ("x"):rep(n)
        local ok, result = pcall(codec.decode, bytes)
        if not ok then
          refused = result
          break
        end
        assert(ffi.sizeof(result) == n)
      end
      assert(refused and refused:find("more different C types than a state takes from messages", 1, true), refused)
      assert(ffi.sizeof(codec.decode(template)) == 100)
      for n = 1, 1000 do ffi.typeof("int64_t[" .. n .. "]") end

      local before = tonumber(ffi.typeof("struct { int fresh; }"))
      ffi.cdef("struct known { int x; };")
      local bytes = codec.encode(ffi.new("struct known"))
      for n = 10, 99 do
        local ok, message = pcall(codec.decode, (bytes:gsub("known", "kno" .. n)))
        assert(not ok and message:find("'struct kno" .. n .. "' is not declared here", 1, true), message)
      end
      local ok, message = pcall(codec.decode, (bytes:gsub("x", "y")))
      assert(not ok and message:find("'struct known' is declared in another way here", 1, true), message)
      assert(tonumber(ffi.typeof("struct { int fresh; }")) < before + 10)
      print("done")
    ]])
  end)

  it("cannot make an object that a finalizer would get, nor a pointer", function()
    run([[
      ffi.cdef("struct handle { int fd; }; struct pointing { int *p; };")
      local bytes = codec.encode(ffi.new("struct handle", 3))
      ffi.metatype("struct handle", { __gc = function() print("finalized") end })
      local ok, message = pcall(codec.decode, bytes)
      assert(not ok and message:find("a C type that does not cross", 1, true), message)
      assert(codec.encode(ffi.typeof("struct pointing"), { functions = true }))
      local description = codec.encode(ffi.typeof("struct pointing"), { functions = true }):sub(3)
      ok, message = pcall(codec.decode, "\1\32" .. description .. "\8" .. ("\1"):rep(8))
      assert(not ok and message:find("a C type that does not cross", 1, true), message)
      description = codec.encode(ffi.typeof("int &"), { functions = true }):sub(3)
      ok, message = pcall(codec.decode, "\1\32" .. description .. "\4" .. ("\1"):rep(4))
      assert(not ok and message:find("a C type that does not cross", 1, true), message)
      collectgarbage() collectgarbage()
      print("done")
    ]])
  end)
end)
