-- SPDX-License-Identifier: MIT
--
-- What cannot cross is refused before anything is sent, and the refusal says where it is and what to do.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local codec = require("codec")
local gates = require("spec.support.gates")
local here = require("spec.support.here")
local parallel = require("parallel")

local REMEDY = ": open it inside the function"

local function identity(x)
  return x
end

backends.each(function(with)
  --- The message with which an item is refused; nothing must have run.
  local function refusal(item, index)
    local ran = gates.new()
    local items = {}
    for i = 1, index - 1 do
      items[i] = i
    end
    items[index] = item
    local e = caught(parallel.map, function()
      gates.open(ran)
    end, items, with({ chunk = index }))
    assert.equal(parallel.Error, getmetatable(e))
    assert.equal("encode", e.kind)
    assert.equal(index, e.index)
    assert.is_false(gates.is_open(ran))
    return e.message
  end

  it("the path leads through fields, list items, keys of all kinds", function()
    local log = io.tmpfile()
    assert.equal("cannot send items[1] (a file handle)" .. REMEDY, refusal(log, 1))
    assert.equal("cannot send items[3].conn.log (a file handle)" .. REMEDY, refusal({ conn = { log = log } }, 3))
    assert.equal("cannot send items[2][4] (a file handle)" .. REMEDY, refusal({ 1, 2, 3, log }, 2))
    assert.equal("cannot send items[1].a[1].b (a file handle)" .. REMEDY, refusal({ a = { { b = log } } }, 1))
    assert.equal('cannot send items[1]["not a name"] (a file handle)' .. REMEDY, refusal({ ["not a name"] = log }, 1))
    assert.equal("cannot send items[1][true] (a file handle)" .. REMEDY, refusal({ [true] = log }, 1))
    assert.equal("cannot send items[1][-7] (a file handle)" .. REMEDY, refusal({ [-7] = log }, 1))
    assert.equal("cannot send items[1][0.5] (a file handle)" .. REMEDY, refusal({ [0.5] = log }, 1))
    log:close()
  end)

  it("a key in a path is told by its type", function()
    local log = io.tmpfile()
    local message = refusal({ map = { [{ log }] = 1 } }, 1)
    assert.equal("cannot send items[1].map.<key: table>[1] (a file handle)" .. REMEDY, message)
    message = refusal({ map = { [{}] = log } }, 1)
    assert.equal("cannot send items[1].map.<key: table> (a file handle)" .. REMEDY, message)
    message = refusal({ [log] = 1 }, 1)
    assert.equal("cannot send items[1].<key: userdata> (a file handle)" .. REMEDY, message)
    log:close()
  end)

  it("a closed file is refused as an open one", function()
    local log = io.tmpfile()
    log:close()
    assert.equal("cannot send items[1].log (a file handle)" .. REMEDY, refusal({ log = log }, 1))
  end)

  it("coroutines, userdata and unknown C functions are refused by what they are", function()
    local message = refusal({ co = coroutine.create(print) }, 1)
    assert.equal("cannot send items[1].co (a coroutine): ", message:match("^.-: "))
    message = refusal({ step = coroutine.wrap(print) }, 1)
    assert.equal("cannot send items[1].step (a coroutine): create it inside the function", message)
    local server = require("socket").tcp()
    message = refusal({ server = server }, 1)
    server:close()
    assert.is_truthy(message:find("^cannot send items%[1%]%.server %(userdata[^)]*%): "), message)
    message = refusal({ next_word = ("a b"):gmatch("%w") }, 1)
    assert.is_truthy(message:find("^cannot send items%[1%]%.next_word %(a C function%): "), message)
    message = refusal({ read = io.lines("/dev/null") }, 1)
    assert.is_truthy(message:find("^cannot send items%[1%]%.read %(a C function%): "), message)
  end)

  it("userdata is told by the name of its class", function()
    local pattern = require("lpeg").P("x")
    local named = jit and "userdata" or "userdata 'lpeg-pattern'"
    local message = refusal({ pattern = pattern }, 1)
    assert.equal(("cannot send items[1].pattern (%s): "):format(named), message:match("^.-: "))
    if newproxy then
      local proxy = newproxy(true)
      getmetatable(proxy).__name = "sqlite3"
      message = refusal({ db = proxy }, 1)
      assert.equal("cannot send items[1].db (userdata 'sqlite3'): ", message:match("^.-: "))
    end
  end)

  it("the path leads through upvalues of functions", function()
    local log = io.tmpfile()
    local settings = { files = { log } }
    local function refused(fn)
      return caught(parallel.map, fn, { 1 }, with()).message
    end

    local place = here(1)
    local message = refused(function()
      return settings
    end)
    local expected = "cannot send upvalue 'settings'.files[1] of the function at %s (a file handle)" .. REMEDY
    assert.equal(expected:format(place), message)

    place = here(1)
    local function inner()
      return log
    end
    message = refused(function()
      return inner()
    end)
    expected = ("cannot send upvalue 'log' of the function at %s"):format(place)
    assert.equal(expected, message:sub(1, #expected))
    assert.equal(" (a file handle)" .. REMEDY, message:match(" %(a file handle%).*"))

    message = refusal({ action = inner }, 1)
    assert.equal(expected, message:sub(1, #expected))
    assert.is_truthy(message:find("items[1].action", 1, true), message)
    log:close()
  end)

  it("the path leads through metatables", function()
    local Class = { __name = "Class", log = io.tmpfile() }
    local message = refusal({ object = setmetatable({}, Class) }, 1)
    assert.equal("cannot send items[1].object.<metatable>.log (a file handle)" .. REMEDY, message)
    Class.log:close()
  end)

  it("init and its upvalues are refused too", function()
    local log = io.tmpfile()
    local e = caught(parallel.map, identity, { 1 }, with({ init = function()
      return log
    end }))
    assert.equal("encode", e.kind)
    assert.is_truthy(e.message:find("cannot send upvalue 'log' of the function at ", 1, true), e.message)
    log:close()
  end)

  it("values given as globals are refused by name", function()
    local log = io.tmpfile()
    local e = caught(parallel.map, identity, { 1 }, with({ globals = { output = { log } } }))
    assert.equal("encode", e.kind)
    assert.equal("cannot send globals.output[1] (a file handle)" .. REMEDY, e.message)
    log:close()
  end)

  it("a result is refused by path, and fails its item alone", function()
    local list = parallel.map(
      function(i)
        if i == 1 then
          return { conn = io.tmpfile() }
        elseif i == 2 then
          return io.tmpfile()
        elseif i == 3 then
          return { list = { coroutine.create(print) } }
        end
        return i
      end,
      { 1, 2, 3, 4 },
      with({ errors = "collect", chunk = 4 })
    )
    assert.equal(4, list[4])
    for i, message in ipairs({
      "cannot send result.conn (a file handle)",
      "cannot send result (a file handle)",
      "cannot send result.list[1] (a coroutine)",
    }) do
      assert.is_nil(list[i])
      assert.equal("encode", list.errors[i].kind)
      assert.equal(i, list.errors[i].index)
      assert.equal(message, list.errors[i].message:match("^.-%)"))
    end
  end)

  it("a result that each drops may be anything", function()
    assert.equal(2, parallel.each(io.tmpfile, { 1, 2 }, with()))
  end)

  it("items before one that is refused are not lost to a later call", function()
    for _ = 1, 10 do
      refusal(io.tmpfile(), 3)
    end
    assert.same({ 1, 2, 3, n = 3 }, parallel.map(identity, { 1, 2, 3 }, with()))
    collectgarbage()
  end)

  it("lazily pulled items are refused when their turn comes", function()
    local seen = {}
    local i = 0
    local e = caught(function()
      for index, value in
        parallel.imap(identity, function()
          i = i + 1
          return i == 5 and { log = io.tmpfile() } or i
        end, with({ chunk = 2 }))
      do
        seen[index] = value
      end
    end)
    assert.equal("encode", e.kind)
    assert.equal(5, e.index)
    assert.equal("cannot send items[5].log (a file handle)" .. REMEDY, e.message)
    assert.same({ 1, 2, 3, 4 }, seen)
  end)
end)

backends.each(function(with)
  it("what was refused leaves nothing behind for items with the same code", function()
    local function holding(x)
      return function()
        return type(x), unused_but_read -- luacheck: ignore
      end
    end
    local log = io.tmpfile()
    unused_but_read = 5 -- luacheck: ignore
    local items = { holding(1), holding(log), holding("text"), holding(log), holding(true) }
    local list, more = parallel.map(function(item)
      return item()
    end, items, with({ errors = "collect", chunk = 5 }))
    log:close()
    unused_but_read = nil -- luacheck: ignore
    assert.same({ "number", "string", "boolean" }, { list[1], list[3], list[5] })
    assert.same({ 5, 5, 5 }, { more[1], more[3], more[5] })
    assert.equal("encode", list.errors[2].kind)
    assert.equal("encode", list.errors[4].kind)
  end)
end)

describe("codec.check", function()
  it("gives the text with which a map refuses", function()
    local log = io.tmpfile()
    local function writes()
      return log
    end
    local Class = { __index = writes }
    lumap_spec_log = log -- luacheck: ignore 111
    for _, value in ipairs({
      { conn = { log = log } },
      { [{ log }] = 1 },
      { action = writes },
      setmetatable({}, Class),
      { [writes] = { { coroutine.wrap(print) } } },
      { deep = setmetatable({}, { __index = setmetatable({}, { __index = { [writes] = 1 } }) }) },
    }) do
      local ok, text = codec.check(value)
      assert.is_nil(ok)
      local e = caught(parallel.map, identity, { value }, { workers = 1 })
      assert.equal(e.message, (text:gsub("%f[%w]value%f[%W]", "items[1]", 1)))
    end
    for _, fn in ipairs({
      writes,
      function()
        return writes()
      end,
      function()
        return lumap_spec_log -- luacheck: ignore 113
      end,
    }) do
      local _, text = codec.check(fn)
      assert.equal(caught(parallel.map, fn, { 1 }, { workers = 1 }).message, text)
    end
    lumap_spec_log = nil -- luacheck: ignore 111
    log:close()
  end)
end)

describe("codec.encode", function()
  it("refuses the same values, with their path", function()
    local log = io.tmpfile()
    for path, value in pairs({
      [".conn.log (a file handle)"] = { conn = { log = log } },
      ["[2] (a coroutine)"] = { 1, coroutine.create(print) },
      [".<key: table>[1] (a file handle)"] = { [{ log }] = 1 },
    }) do
      local ok, e = pcall(codec.encode, value)
      assert.is_false(ok)
      assert.is_truthy(tostring(e):find(path, 1, true), tostring(e))
    end
    log:close()
  end)

  it("goes on after a refusal as if nothing had been", function()
    local good = codec.encode({ 1, { 2 } })
    for _ = 1, 100 do
      assert.is_false(pcall(codec.encode, { 1, { 2, io.stdout }, coroutine.create(print) }))
      assert.equal(good, codec.encode({ 1, { 2 } }))
    end
  end)
end)

describe("encode without functions", function()
  --- The refusal, which names the option, and that the option is enough.
  local function refusal(value)
    local ok, message = pcall(codec.encode, { field = value })
    assert.is_false(ok)
    assert.is_truthy(message:find("only with the option functions = true", 1, true), message)
    local with = { functions = true }
    assert.equal(value, codec.decode(codec.encode({ field = value }, with), with).field)
    return message
  end

  it("says of C functions and standard files that they need the option", function()
    for _, fn in ipairs({ print, string.format, math.sqrt }) do
      assert.is_truthy(refusal(fn):find("cannot send value.field (a C function): ", 1, true))
    end
    assert.is_truthy(refusal(io.stdout):find("cannot send value.field (a standard file): ", 1, true))
  end)

  it("says of a file that no option helps", function()
    local file = io.tmpfile()
    local ok, message = pcall(codec.encode, file)
    file:close()
    assert.is_false(ok)
    assert.is_truthy(message:find("cannot send value (a file handle)" .. REMEDY, 1, true), message)
  end)
end)
