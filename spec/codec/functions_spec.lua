-- SPDX-License-Identifier: MIT
--
-- Functions that cross: their code, their upvalues, and what they share.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local crossings = require("spec.support.crossings")
local parallel = require("parallel")

local compile = loadstring or load

local function as_bytes(value)
  return codec.decode(codec.encode(value, { functions = true }), { functions = true })
end

--- Runs fn() in another state: decoded from bytes in this one, or in a worker.
local ways = { ["through codec.encode and decode"] = function(fn)
  return as_bytes(fn)()
end }
for _, backend in ipairs(backends.names) do
  for _, workers in ipairs(backends.worker_counts) do
    ways[("on the %s back-end, workers: %d,"):format(backend, workers)] = function(fn)
      local results = { parallel.map(function()
        return fn()
      end, { 1 }, { backend = backend, workers = workers }) }
      for i, list in ipairs(results) do
        results[i] = list[1]
      end
      return (table.unpack or unpack)(results, 1, 8)
    end
  end
end

for name, call in pairs(ways) do
  describe(name, function()
    it("a function takes its upvalues along", function()
      local number, text, list, yes, nothing = 5, "five", { 5, { 5 } }, true, nil
      local a, b, c, d, e = call(function()
        return number, text, list, yes, nothing == nil
      end)
      assert.same({ 5, "five", { 5, { 5 } }, true, true }, { a, b, c, d, e })
    end)

    it("upvalues that functions share stay shared", function()
      local count = 0
      local function up()
        count = count + 1
      end
      local function get()
        return count
      end
      local pair = { up = up, get = get }
      assert.equal(
        3,
        call(function()
          pair.up()
          pair.up()
          up()
          return get() == pair.get() and count == get() and count
        end)
      )
      assert.equal(0, count)
    end)

    it("upvalues that functions do not share stay apart", function()
      local function counter()
        local count = 10
        return function()
          count = count + 1
          return count
        end
      end
      local a, b = counter(), counter()
      assert.equal(
        "11 12 11",
        call(function()
          return ("%d %d %d"):format(a(), a(), b())
        end)
      )
    end)

    it("a variable of a loop is another one in each round", function()
      local functions = {}
      for i = 1, 5 do
        functions[i] = function()
          i = i * 10
          return i
        end
      end
      assert.equal(
        "10 20 100",
        call(function()
          return ("%d %d %d"):format(functions[1](), functions[2](), functions[1]())
        end)
      )
    end)

    it("recursion works, one's own and one another's", function()
      local function fib(n)
        return n < 2 and n or fib(n - 1) + fib(n - 2)
      end
      local ping, pong
      function ping(n)
        return n == 0 and "ping" or pong(n - 1)
      end
      function pong(n)
        return n == 0 and "pong" or ping(n - 1)
      end
      assert.equal(
        "55 pong",
        call(function()
          return fib(10) .. " " .. ping(7)
        end)
      )
    end)

    it("functions may be nested ten deep, in the code and in upvalues", function()
      local function wrap(fn, depth)
        if depth == 0 then
          return fn
        end
        return wrap(function()
          return fn() + depth
        end, depth - 1)
      end
      local deep = wrap(function()
        return 0
      end, 10)
      assert.equal(55, call(deep))
      assert.equal(
        10,
        call(function()
          local n = 0
          return (function() n = n + 1
            return (function() n = n + 1
              return (function() n = n + 1
                return (function() n = n + 1
                  return (function() n = n + 1
                    return (function() n = n + 1
                      return (function() n = n + 1
                        return (function() n = n + 1
                          return (function() n = n + 1
                            return (function() n = n + 1
                              return n
                            end)()
                          end)()
                        end)()
                      end)()
                    end)()
                  end)()
                end)()
              end)()
            end)()
          end)()
        end)
      )
    end)

    it("a chain of thousands of functions is no deeper than others", function()
      local fn = function()
        return 0
      end
      for _ = 1, 2000 do
        local inner = fn
        local box = { inner }
        fn = function(depth)
          return depth and 1 + box[1](depth - 1 > 0 and depth - 1 or nil) or 0
        end
      end
      assert.equal(
        100,
        call(function()
          return fn(100)
        end)
      )
    end)

    it("functions with any number of parameters", function()
      local function count(...)
        return select("#", ...), ...
      end
      local n, a, b, c = call(function()
        return count(nil, false, "z")
      end)
      assert.same({ 3, nil, false, "z" }, { n, a, b, c })
    end)

    it("functions that load made", function()
      local made = assert(compile("local a = ... or 4\nreturn a * a", "=made"))
      local reading = assert(compile("return #string.rep('x', 7)"))
      assert.equal(16, call(made))
      assert.equal(7, call(reading))
    end)

    it("functions with more than 255 constants, and globals read among them", function()
      local lines = { "local sum = 0" }
      for i = 1, 600 do
        lines[#lines + 1] = ("sum = sum + #'constant %d' + %d.5"):format(i, i)
      end
      lines[#lines + 1] = "return sum, type(tostring), math.floor(2.5), string.upper('x')"
      local big = assert(compile(table.concat(lines, "\n")))
      local expected = { big() }
      assert.same(expected, { call(big) })
    end)

    it("functions with many upvalues", function()
      -- 60 is LuaJIT's limit.
      local names, values = {}, {}
      for i = 1, 59 do
        names[i], values[i] = "v" .. i, tostring(i)
      end
      local code = ("local %s = %s\nreturn function() return %s end"):format(
        table.concat(names, ","),
        table.concat(values, ","),
        table.concat(names, "+")
      )
      assert.equal(59 * 30, call(compile(code)()))
    end)

    it("functions in tables, as keys too", function()
      local function key()
        return "key"
      end
      local registry = { [key] = "found", list = { key, key } }
      assert.equal(
        "found key true",
        call(function()
          local first = registry.list[1]
          return ("%s %s %s"):format(registry[first], first(), tostring(first == registry.list[2]))
        end)
      )
    end)

    it("iterators, closures over closures, and methods", function()
      local Stack = {}
      Stack.__index = Stack
      function Stack.new()
        return setmetatable({ size = 0 }, Stack)
      end
      function Stack:push(value)
        self.size = self.size + 1
        self[self.size] = value
        return self
      end
      function Stack:each()
        local i = 0
        return function()
          i = i + 1
          return self[i]
        end
      end
      assert.equal(
        "abc",
        call(function()
          local text = ""
          for letter in Stack.new():push("a"):push("b"):push("c"):each() do
            text = text .. letter
          end
          return text
        end)
      )
    end)

    it("C functions by their names, also where they are upvalues", function()
      local upper, sqrt, format, insert = string.upper, math.sqrt, string.format, table.insert
      local cjson_encode = require("cjson").encode
      local actions = { upper, [sqrt] = "root" }
      assert.equal(
        'X 3 [1,2] root true',
        call(function()
          local list = {}
          insert(list, 1)
          insert(list, 2)
          return format("%s %d %s %s %s", actions[1]("x"), sqrt(9), cjson_encode(list), actions[math.sqrt],
            tostring(upper == string.upper))
        end)
      )
    end)

    it("methods of open files by their names", function()
      local write, seek = io.stdout.write, io.stderr.seek
      assert.equal(
        true,
        call(function()
          return write == io.stdout.write and seek == io.stdin.seek and (write(io.stderr) and true)
        end)
      )
    end)

    it("functions of the library that have two names", function()
      local spread = table.unpack or unpack
      local load_text = loadstring or load
      assert.equal(
        7,
        call(function()
          local a, b = spread({ 3, 4 })
          return a + b == load_text("return 7")() and 7
        end)
      )
    end)

    it("a function with an environment of its own takes it along", function()
      local own
      if setfenv then
        own = setfenv(function()
          counter = counter + 1 -- luacheck: ignore 111 113
          return counter, type_name(counter) -- luacheck: ignore 113
        end, { counter = 4, type_name = type })
      else
        own = load("counter = counter + 1 return counter, type_name(counter)", "own", "t", {
          counter = 4,
          type_name = type,
        })
      end
      local count, kind = call(own)
      assert.equal(5, count)
      assert.equal("number", kind)
      assert.is_nil(rawget(_G, "counter"))
    end)

    it("an environment that looks into the globals", function()
      local environment = setmetatable({ own = "own" }, { __index = _G })
      local fn
      if setfenv then
        fn = setfenv(function()
          return own .. tostring(math.floor(1.5)) -- luacheck: ignore 113
        end, environment)
      else
        fn = load("return own .. tostring(math.floor(1.5))", "own", "t", environment)
      end
      assert.equal("own1", call(fn))
    end)

    it("_G as an upvalue is the globals of the other state", function()
      local G = _G
      assert.equal(
        "function",
        call(function()
          return G == _G and type(G.print)
        end)
      )
    end)

    it("debug information crosses, so that errors tell their lines", function()
      local here = require("spec.support.here")
      local place = here(2)
      local function fail()
        error("lost")
      end
      assert.equal(
        place .. ": lost",
        call(function()
          local _, message = pcall(fail)
          return message
        end)
      )
    end)
  end)
end

crossings.each_map(function(cross, with)
  it("a function that comes back is the caller's own", function()
    local function own()
      return 1
    end
    assert.equal(own, cross(own))
    assert.equal(print, cross(print))
    local list = parallel.map(function(fn)
      return { fn, own }
    end, { own, math.sin }, with({ chunk = 1 }))
    assert.equal(own, list[1][1])
    assert.equal(own, list[1][2])
    assert.equal(math.sin, list[2][1])
  end)

  it("a function that a worker made comes back with its upvalues", function()
    local adders = parallel.map(function(n)
      local calls = 0
      return function(x)
        calls = calls + 1
        return x + n + calls
      end
    end, { 10, 20 }, with())
    assert.equal(12, adders[1](1))
    assert.equal(13, adders[1](1))
    assert.equal(22, adders[2](1))
  end)

  it("functions may be items", function()
    local results = parallel.map(function(fn)
      return fn(16)
    end, { math.sqrt, tostring, function(x)
      return -x
    end }, with({ chunk = 2 }))
    assert.same({ 4, "16", -16, n = 3 }, results)
  end)
end)

describe("a function whose bytes were damaged", function()
  it("gives some value or an error, never a crash", function()
    local bytes = codec.encode(function(a, b)
      return a + b, "a constant"
    end, { functions = true })
    for at = 1, #bytes do
      for _, flip in ipairs({ 1, 128 }) do
        local byte = bytes:byte(at)
        local other = math.floor(byte / flip) % 2 == 1 and byte - flip or byte + flip
        local damaged = bytes:sub(1, at - 1) .. string.char(other) .. bytes:sub(at + 1)
        local ok, result = pcall(codec.decode, damaged, { functions = true })
        if not ok then
          assert.equal("string", type(result))
        end
      end
    end
  end)
end)
