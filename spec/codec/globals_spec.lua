-- SPDX-License-Identifier: MIT
--
-- The globals that a function reads are found and sent, however it comes to read them.

local describe, it, assert, after_each = describe, it, assert, after_each
require("spec.support.globals")()

local backends = require("spec.support.backends")
local crossings = require("spec.support.crossings")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local compile = loadstring or load

--- Runs Lua code that defines globals; they are taken out again after the test.
local before = {}
local function define(code)
  assert(compile(code))()
end

for name, value in pairs(_G) do
  before[name] = value
end
after_each(function()
  for name in pairs(_G) do
    if before[name] == nil then
      _G[name] = nil
    end
  end
  for name, value in pairs(before) do
    _G[name] = value
  end
end)

crossings.each_map(function(_, with)
  local function run(code, ...)
    return parallel.map(assert(compile(code)), { ... }, with())
  end

  it("values, tables and functions", function()
    define([[
      unit, limits, double = "mm", { low = 1, high = 9 }, function(x) return 2 * x end
    ]])
    assert.same(
      { "6 mm of 9", n = 1 },
      run([[
        local x = ...
        return ("%d %s of %d"):format(double(x), unit, limits.high)
      ]], 3)
    )
  end)

  it("through functions that are globals themselves", function()
    define([[
      base = 100
      function first(x) return second(x) + 1 end
      function second(x) return third(x) + 1 end
      function third(x) return x + base end
    ]])
    assert.same({ 103, n = 1 }, run("return first(...)", 1))
  end)

  it("that read one another", function()
    define([[
      function is_even(n) if n == 0 then return true end return is_odd(n - 1) end
      function is_odd(n) if n == 0 then return false end return is_even(n - 1) end
    ]])
    assert.same({ true, false, n = 2 }, run("return is_even(...)", 10, 7))
  end)

  it("through upvalues, tables in upvalues, and nested functions", function()
    define([[ scale = 3 ]])
    local through_upvalue = compile("return function(x) return x * scale end")()
    local through_table = { act = compile("return function(x) return x + scale end")() }
    local list = parallel.map(function(x)
      return through_upvalue(x) + through_table.act(x)
    end, { 1, 2 }, with())
    assert.same({ 7, 11, n = 2 }, list)
    assert.same(
      { 6, n = 1 },
      run([[
        local function outer(x)
          return function() return (function() return x * scale end)() end
        end
        return outer(...)()
      ]], 2)
    )
  end)

  it("through methods of a class, and metamethods of its objects", function()
    define([[
      precision = 100
      Money = {}
      Money.__index = Money
      Money.__add = function(a, b) return Money.new(a.amount + b.amount) end
      Money.__tostring = function(m) return ("%d/%d"):format(m.amount, precision) end
      function Money.new(amount) return setmetatable({ amount = amount }, Money) end
      function Money:half() return Money.new(self.amount / 2) end
    ]])
    local items = { Money.new(10), Money.new(30) } -- luacheck: ignore 113
    local texts, halves = run("local m = ... return tostring(m + m:half()), m:half()", items[1], items[2])
    assert.same({ "15/100", "45/100", n = 2 }, texts)
    assert.equal(Money, getmetatable(halves[1])) -- luacheck: ignore 113
  end)

  it("through functions that come with an item", function()
    define([[ bonus = 5 ]])
    local item = { act = compile("return function(x) return x + bonus end")() }
    assert.same({ 6, n = 1 }, parallel.map(function(job)
      return job.act(1)
    end, { item }, with()))
  end)

  it("that are only assigned to are not sent", function()
    define([[ log = io.tmpfile() ]])
    assert.same({ 7, n = 1 }, run("log = ... return 7", 1))
    assert.equal("userdata", type(log)) -- luacheck: ignore 113
  end)

  it("that cannot be sent are refused by name", function()
    define([[ output = io.tmpfile() settings = { log = io.tmpfile() } ]])
    local ok, e = pcall(run, "output:write(...)", 7)
    assert.is_false(ok)
    assert.equal("encode", e.kind)
    assert.is_truthy(e.message:find("cannot send global 'output'", 1, true), e.message)
    assert.is_truthy(e.message:find("(a file handle): open it inside the function", 1, true), e.message)
    ok, e = pcall(run, "settings.log:write(...)", 7)
    assert.is_false(ok)
    assert.is_truthy(e.message:find("cannot send global 'settings'.log", 1, true), e.message)
  end)

  it("that cannot be sent do no harm to functions that do not read them", function()
    define([[ output = io.tmpfile() ]])
    assert.same({ 4, n = 1 }, run("return ... * 2", 2))
  end)

  it("that hold modules become the worker's own", function()
    define([[ json = require("cjson") ]])
    assert.same({ "[1]", n = 1 }, run("return json.encode({ ... })", 1))
  end)

  it("are not confused with fields of the same name", function()
    define([[ size = io.tmpfile() ]])
    assert.same({ 3, n = 1 }, run("local t = ... return t.size", { size = 3 }))
  end)

  it("read by a computed name are not found, and can be named", function()
    define([[ hidden = 9 ]])
    local function read(name)
      return _G[name]
    end
    assert.same({ n = 1 }, parallel.map(read, { "hidden" }, with()))
    local function read_too(name)
      return name == "x" and hidden -- luacheck: ignore 113
    end
    assert.same({ 9, n = 1 }, parallel.map(read_too, { "x" }, with({ globals = { hidden = 9 } })))
  end)

  it("in code with more than 255 constants", function()
    define([[ far, also_far = 11, function() return far end ]])
    local lines = {}
    for i = 1, 400 do
      lines[i] = ("local _ = 'constant %d'"):format(i)
      if i % 50 == 0 then
        lines[i] = lines[i] .. " .. type(" .. i .. ".5)"
      end
    end
    for i = 1, 400, 100 do
      -- No function may have more than 200 locals.
      lines[i] = "do " .. lines[i]
      lines[i + 99] = lines[i + 99] .. " end"
    end
    lines[#lines + 1] = "return far + also_far()"
    assert.same({ 22, n = 1 }, run(table.concat(lines, "\n"), 0))
  end)

  it("that init set are the worker's, unless the caller has them too", function()
    local init = compile("level, unit = 'worker', 'worker'")
    define([[ unit = "caller" ]])
    local levels, units = parallel.map(compile("return level, unit"), { 1 }, with({ init = init }))
    assert.same({ "worker", n = 1 }, levels)
    assert.same({ "caller", n = 1 }, units)
  end)

  it("read as fields of _G, or of an upvalue that is _G", function()
    define([[ depth = 12 ]])
    local G = _G
    assert.same({ 12, n = 1 }, run("return _G.depth", 1))
    assert.same({ 12, n = 1 }, run("local function inner() return _G['depth'] end return inner()", 1))
    assert.same({ 12, n = 1 }, parallel.map(function()
      return G.depth -- luacheck: ignore 143
    end, { 1 }, with()))
  end)

  it("with names of any length", function()
    local name = ("long_"):rep(30)
    define(name .. " = 7")
    assert.same({ 7, n = 1 }, run("return " .. name, 1))
  end)

  it("behind more constants than an instruction can count", function()
    define([[ far = 11 function also_far() return far end ]])
    -- LuaJIT allows 65,536 constants; 5.4 writes them in another way from 131,072 on.
    for _, count in ipairs({ 300, jit and 60000 or 140000 }) do
      local lines = { "local list = {" }
      for i = 1, count do
        lines[i + 1] = i .. ".5,"
      end
      lines[#lines + 1] = "} return far + also_far() + #list"
      assert.same({ 22 + count, n = 1 }, run(table.concat(lines, "\n"), 0))
    end
  end)

  it("that an environment of its own leads to", function()
    define([[ beyond, hidden, helper = 1, io.tmpfile(), function(x) return x + beyond end ]])
    local environment = setmetatable({ own = 10, hidden = 100 }, { __index = setmetatable({}, { __index = _G }) })
    local code = "return helper(own) + hidden"
    local fn = setfenv and setfenv(compile(code), environment) or load(code, "own", "t", environment)
    assert.same({ 111, n = 1 }, parallel.map(fn, { 1 }, with()))
  end)

  it("of a worker's call reach the workers of a call that it makes", function()
    define([[ factor, changed = 3, 1 ]])
    local function outer(x)
      changed = changed + x -- luacheck: ignore 111 113
      handle = io.tmpfile() -- luacheck: ignore 111
      made = 1000 -- luacheck: ignore 111
      local function inner(y)
        return factor * y + changed + made -- luacheck: ignore 113
      end
      return parallel.map(inner, { x, x + 1 }, { workers = 1, backend = "serial" })[2]
    end
    assert.same({ 1036, n = 1 }, parallel.map(outer, { 8 }, with()))
  end)
end)

describe("a script", function()
  it("may use its own globals in mapped functions, as any newcomer will", function()
    local code = [[
      names = { "a", "b" }
      function greet(name) return greeting .. ", " .. name end
      greeting = "Hello"
      for i, text in parallel.imap(greet, names) do print(i, text) end
    ]]
    for _, backend in ipairs({ "serial", "thread", "process" }) do
      local result = interpreter.run_code(code, { env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = 2 } })
      assert.same({ stdout = "1\tHello, a\n2\tHello, b\n", stderr = "", code = 0 }, result)
    end
  end)
end)

backends.each(function(with)
  -- luacheck: push ignore 113
  local function read()
    return seen, helper, type(string.format), given
  end
  -- luacheck: pop

  it("are none but the standard ones if the call says so, or those that it gives", function()
    define([[ seen, helper = 4, function() return seen end ]])
    for _, globals in ipairs({ false, {} }) do
      local list, helpers, standard, given = parallel.map(read, { 1 }, with({ globals = globals }))
      assert.same({ { n = 1 }, { n = 1 }, { "function", n = 1 }, { n = 1 } }, { list, helpers, standard, given })
    end
    local list, helpers, _, given = parallel.map(read, { 1 }, with({ globals = { seen = 5, given = "too" } }))
    assert.same({ { 5, n = 1 }, { n = 1 }, { "too", n = 1 } }, { list, helpers, given })
    assert.equal(4, _G.seen)
  end)

  it("of a call inside a call are limited as those of the outer one", function()
    define([[ seen = 4 ]])
    local function nest()
      return parallel.map(read, { 1 })[1]
    end
    assert.same({ n = 1 }, parallel.map(nest, { 1 }, with({ globals = false })))
    assert.same({ 6, n = 1 }, parallel.map(nest, { 1 }, with({ globals = { seen = 6 } })))
  end)

  it("that were replaced or taken out are the standard ones for a call without globals", function()
    local tonumber_here, loadfile_here = tonumber, loadfile
    rawset(_G, "tonumber", "replaced")
    rawset(_G, "loadfile", nil)
    local ok, numbers, loaders = pcall(parallel.map, function()
      return tonumber("5"), type(loadfile)
    end, { 1 }, with({ globals = false }))
    rawset(_G, "tonumber", tonumber_here)
    rawset(_G, "loadfile", loadfile_here)
    assert.is_true(ok, numbers)
    assert.same({ 5, n = 1 }, numbers)
    assert.same({ "function", n = 1 }, loaders)
  end)

  it("that the init function sets are there, though a call has none", function()
    define([[ helper = function() return "ready" end ]])
    local list = parallel.map(function()
      return state -- luacheck: ignore 113
    end, { 1 }, with({
      globals = false,
      init = function()
        state = helper() -- luacheck: ignore 111 113
      end,
    }))
    assert.same({ "ready", n = 1 }, list)
  end)
end, backends.all)
