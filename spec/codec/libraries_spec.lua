-- SPDX-License-Identifier: MIT
--
-- What scripts add to the standard libraries goes along with the calls whose functions use it, and is gone with them.

local it, assert, after_each = it, assert, after_each
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local here = require("spec.support.here")
local parallel = require("parallel")

local function libraries()
  return { string, table, math, os, getmetatable("") }
end
local before = {}
for i, library in ipairs(libraries()) do
  before[i] = {}
  for name, value in next, library do
    before[i][name] = value
  end
end
after_each(function()
  for i, library in ipairs(libraries()) do
    for name in next, library do
      if before[i][name] == nil then
        library[name] = nil
      end
    end
    for name, value in next, before[i] do
      library[name] = value
    end
  end
end)

-- luacheck: push ignore 122 142 143
local function add_trim()
  function string.trim(text)
    return (text:gsub("^%s+", ""):gsub("%s+$", ""))
  end
end

crossings.each_map(function(_, with)
  it("a function in a library, by its name, as a method, through a local and by itself", function()
    add_trim()
    local own, trim = string, string.trim
    local a, b, c, d = parallel.map(function(text)
      return string.trim(text), text:trim(), own.trim(text), trim(text)
    end, { " x " }, with())
    assert.same({ "x", "x", "x", "x" }, { a[1], b[1], c[1], d[1] })
    assert.same({ "x", n = 1 }, parallel.map(string.trim, { " x " }, with()))
  end)

  it("what such a function uses itself: upvalues, globals, other additions", function()
    local limit = 10
    function math.clamp(x)
      return math.min(math.max(x, lumap_spec_least), limit) -- luacheck: ignore 113
    end
    function table.sum(list)
      local sum = 0
      for i = 1, #list do
        sum = sum + math.clamp(list[i])
      end
      return sum
    end
    lumap_spec_least = 2 -- luacheck: ignore 111
    local ok, list = pcall(parallel.map, function(items)
      return table.sum(items)
    end, { { 1, 5, 30 } }, with())
    lumap_spec_least = nil -- luacheck: ignore 111
    assert.is_true(ok, tostring(list))
    assert.same({ 17, n = 1 }, list)
  end)

  it("in functions that are reached through others, and in methods of classes", function()
    add_trim()
    local Word = {}
    Word.__index = Word
    function Word:clean()
      return self.text:trim()
    end
    local function clean(text)
      return (function()
        return text:trim()
      end)()
    end
    local a, b = parallel.map(function(word)
      return clean(word.text), word:clean()
    end, { setmetatable({ text = " x" }, Word) }, with())
    assert.same({ "x", "x" }, { a[1], b[1] })
  end)

  it("values that are no functions, and one function under another name", function()
    math.tau = 2 * math.pi
    table.spread = table.unpack or unpack
    local a, b = parallel.map(function()
      return math.tau, select("#", table.spread({ 1, 2, 3 }))
    end, { 1 }, with())
    assert.same({ 2 * math.pi, 3 }, { a[1], b[1] })
  end)

  it("functions that replace those of a library, and those that are taken away", function()
    local upper = string.upper
    function string.upper(text)
      return "<" .. upper(text) .. ">"
    end
    os.execute = nil
    local a, b, c = parallel.map(function(text)
      return text:upper(), string.upper(text), os.execute == nil
    end, { "x" }, with())
    assert.same({ "<X>", "<X>", true }, { a[1], b[1], c[1] })
  end)

  it("operators and indexes of strings", function()
    local meta = getmetatable("")
    function meta.__mod(format, arguments)
      return format:format((table.unpack or unpack)(arguments))
    end
    function meta.__index(text, key)
      if type(key) == "number" then
        return text:sub(key, key)
      end
      return string[key]
    end
    local a, b, c = parallel.map(function(text)
      return "%s-%d" % { text, 5 }, text[2], text:upper()
    end, { "xyz" }, with())
    assert.same({ "xyz-5", "y", "XYZ" }, { a[1], b[1], c[1] })
  end)

  it("are gone with the call", function()
    add_trim()
    string.upper = string.lower
    getmetatable("").__mod = string.format
    local function use(text)
      return text:trim() .. text:upper()
    end
    local function left()
      return rawget(string, "trim"), rawget(getmetatable(""), "__mod"), ("x"):upper()
    end
    local pool = parallel.pool(with({ workers = 1 }))
    local first = pool:submit(use, " Y ")
    local second = pool:submit(use, " Z ")
    assert.equal("Y y ", first:get())
    string.trim, string.upper, getmetatable("").__mod = nil, before[1].upper, nil
    assert.equal("Z z ", second:get())
    local trim, mod, upper = pool:apply(left)
    assert.is_nil(trim)
    assert.is_nil(mod)
    assert.equal("X", upper)
    pool:close()
    pool:join()
  end)

  it("of two calls whose tasks take turns in one worker are each call's own", function()
    local pool = parallel.pool(with({ workers = 1 }))
    local function ask(text)
      return text:answer()
    end
    local streams = {}
    for i = 1, 2 do
      function string.answer(text)
        return text .. i
      end
      streams[i] = pool:imap(ask, { "a", "b", "c", "d" }, { chunk = 1 })
    end
    for k, text in ipairs({ "a", "b", "c", "d" }) do
      for i = 1, 2 do
        local index, value = streams[i]()
        assert.equal(k, index)
        assert.equal(text .. i, value)
      end
    end
    pool:close()
    pool:join()
  end)

  it("that cannot be sent are refused where they are called, and do no harm elsewhere", function()
    local log = io.tmpfile()
    local place = here(1)
    function string.record(text)
      log:write(text)
    end
    local function mention(settings)
      return settings.record
    end
    assert.same({ 5, n = 1 }, parallel.map(mention, { { record = 5 } }, with()))
    local call = here(2)
    local ok, e = pcall(parallel.map, function(text)
      text:record()
    end, { "x" }, with())
    log:close()
    assert.is_false(ok)
    local expected = ("%s: cannot send upvalue 'log' of the function at %s, reached through global 'string.record', "
      .. "which the function at "):format(call, place)
    assert.equal(expected, e.message:sub(1, #expected))
    assert.is_truthy(e.message:find("(a file handle): open it inside the function", 1, true), e.message)
  end)

  it("that an item needs are sent though an item before it, which needs them too, was refused", function()
    add_trim()
    local function trimming(held)
      return function(text)
        return held and text:trim()
      end
    end
    local list = parallel.map(function(fn)
      return fn(" x ")
    end, { trimming(io.tmpfile()), trimming(1) }, with({ errors = "collect", chunk = 2 }))
    assert.equal("encode", list.errors[1].kind)
    assert.equal("x", list[2])
  end)

  it("are not sent with globals = false, nor with functions that do not mention them", function()
    add_trim()
    local function has(name)
      return string[name] ~= nil
    end
    local function has_trim()
      return string.trim ~= nil
    end
    assert.same({ false, n = 1 }, parallel.map(has, { "trim" }, with()))
    assert.same({ true, n = 1 }, parallel.map(has_trim, { 1 }, with()))
    assert.same({ false, n = 1 }, parallel.map(has_trim, { 1 }, with({ globals = false })))
  end)

  it("that init uses stay in the worker", function()
    add_trim()
    local pool = parallel.pool(with({ workers = 1, init = function()
      lumap_spec_word = (" x "):trim() -- luacheck: ignore 111
    end }))
    string.trim = nil
    local word, kind = pool:apply(function()
      return lumap_spec_word, type(string.trim) -- luacheck: ignore 113
    end)
    assert.same({ "x", "function" }, { word, kind })
    pool:close()
    pool:join()
  end)

  it("reach the workers of a call that a worker makes", function()
    add_trim()
    local list = parallel.map(function(text)
      return parallel.map(function(inner)
        return inner:trim()
      end, { text }, { workers = 1, backend = "serial" })[1]
    end, { " x " }, with())
    assert.same({ "x", n = 1 }, list)
  end)

  it("leave in place what a module puts there that is loaded meanwhile", function()
    function string.later()
      return "caller's"
    end
    local pool = parallel.pool(with({ workers = 1 }))
    local during = pool:apply(function()
      package.loaded["lumap.spec.later"] = true
      local was = ("").later()
      string.later = tostring
      return was
    end)
    assert.equal("caller's", during)
    assert.is_true(pool:apply(function(name)
      return string[name] == tostring
    end, "later"))
    pool:close()
    pool:join()
  end)
end)

it("codec.check takes them for what they are: no reason to refuse", function()
  function string.tick()
    return coroutine.running()
  end
  assert.is_true(codec.check(function(text)
    return text:tick()
  end))
end)
-- luacheck: pop
