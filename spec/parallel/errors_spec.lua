-- SPDX-License-Identifier: MIT
--
-- parallel.Error: what an error is, how it reads, and how it is told from others. When errors are raised is the subject
-- of spec/contract/errors_spec.lua.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local caught = require("spec.support.caught")
local here = require("spec.support.here")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local options = { workers = 1 }

describe("parallel.Error", function()
  it("is the metatable of errors, whatever their kind", function()
    local kinds = {}
    local errors = {
      caught(parallel.map, error, { "x" }, options),
      caught(parallel.map, print, { io.tmpfile() }, options),
      caught(parallel.map, os.exit, { 1 }, options),
      caught(parallel.map, print, { 1 }, { workers = 1, init = function()
        error("x")
      end }),
    }
    for i, e in ipairs(errors) do
      assert.equal("table", type(e))
      assert.equal(parallel.Error, getmetatable(e))
      assert.equal("string", type(e.message))
      kinds[i] = e.kind
    end
    assert.same({ "error", "encode", "died", "init" }, kinds)
  end)

  it("has a name for tools that print metatables", function()
    assert.equal("parallel.Error", parallel.Error.__name)
  end)

  it("is not what misuse raises", function()
    assert.equal("string", type(caught(parallel.map, nil, {})))
  end)

  it("reads as kind, index, worker, message and traceback", function()
    local place = here(2)
    local function fail(name)
      error("cannot like " .. name)
    end
    local e = caught(parallel.map, function(name)
      fail(name)
      return name
    end, { "a", "b" }, options)
    local text = tostring(e)
    assert.equal(place .. ": cannot like a", e.message)
    assert.equal(1, e.index)
    assert.equal(1, e.worker)
    for _, part in ipairs({ e.message, "item 1", "worker 1", e.traceback }) do
      assert.is_truthy(text:find(part, 1, true), ("'%s' is not in: %s"):format(part, text))
    end
  end)

  it("joins strings as a string does", function()
    local e = caught(parallel.map, error, { "x" }, options)
    assert.is_truthy(("the error: " .. tostring(e)):find("x", 1, true))
  end)

  it("can be raised again, and keeps its fields", function()
    local e = caught(parallel.map, error, { "x" }, options)
    local again = caught(error, e)
    assert.is_true(rawequal(e, again))
  end)

  it("crosses, as item and as result", function()
    local e = caught(parallel.map, function()
      error({ code = 5 })
    end, { 1 }, options)
    local same, copies = parallel.map(function(x)
      return getmetatable(x) == parallel.Error, x
    end, { e }, options)
    assert.is_true(same[1])
    assert.equal(parallel.Error, getmetatable(copies[1]))
    assert.equal(e.message, copies[1].message)
    assert.equal(5, copies[1].value.code)
    assert.equal(tostring(e), tostring(copies[1]))
  end)

  it("that nobody catches is printed by the command, with both tracebacks", function()
    local folder = interpreter.make_folder()
    interpreter.write_file(
      folder .. "/bad.lua",
      [[
local function inner(x)
  error("bad " .. x)
end
local function outer(list)
  local result = parallel.map(function(x)
    inner(x)
    return x
  end, list, { workers = 1 })
  return result
end
local done = outer({ "apple" })
print(done)
]]
    )
    local result = interpreter.run({ "bad.lua" }, { cwd = folder })
    interpreter.remove_folder(folder)
    assert.equal("", result.stdout)
    assert.equal(1, result.code)
    local from = 1
    for _, part in ipairs({ "bad.lua:2: bad apple", "bad.lua:2:", "bad.lua:6:", "bad.lua:5:", "bad.lua:11:" }) do
      local at = result.stderr:find(part, from, true)
      assert.is_truthy(at, ("'%s' is not in its place in: %s"):format(part, result.stderr))
      from = at
    end
  end)
end)

describe("a refusal to send", function()
  it("is of kind 'encode', has the item's index, and ran nothing", function()
    local ran = os.tmpname()
    os.remove(ran)
    local e = caught(parallel.map, function()
      io.open(ran, "w"):close()
    end, { { conn = { log = io.tmpfile() } }, 2, 3 }, { workers = 1, chunk = 3 })
    assert.equal("encode", e.kind)
    assert.equal(1, e.index)
    assert.equal("cannot send items[1].conn.log (a file handle): open it inside the function", e.message)
    assert.is_nil(io.open(ran))
  end)

  it("of an upvalue has no index", function()
    local log = io.tmpfile()
    local place = here(1)
    local e = caught(parallel.map, function()
      return log
    end, { 1 }, options)
    log:close()
    assert.equal("encode", e.kind)
    assert.is_nil(e.index)
    assert.equal(
      ("cannot send upvalue 'log' of the function at %s (a file handle): open it inside the function"):format(place),
      e.message
    )
  end)

  it("is collected as other errors are, when asked to", function()
    local list = parallel.map(
      function(x)
        return type(x)
      end,
      { 1, { io.tmpfile() }, "x" },
      { workers = 1, errors = "collect" }
    )
    local e = list.errors[2]
    assert.equal("encode", e.kind)
    assert.equal(2, e.index)
    assert.equal("cannot send items[2][1] (a file handle): open it inside the function", e.message)
    list.errors = nil
    assert.same({ "number", nil, "string", n = 3 }, list)
  end)

  it("of an argument of submit names it, and comes at once", function()
    local pool = parallel.pool({ workers = 1, backend = "serial" })
    local e = caught(pool.submit, pool, print, 1, { log = io.tmpfile() })
    assert.equal("encode", e.kind)
    assert.is_nil(e.index)
    assert.is_truthy(e.message:find("log (a file handle): open it inside the function", 1, true), e.message)
    e = caught(pool.apply, pool, print, io.tmpfile())
    assert.equal("encode", e.kind)
    pool:close()
    pool:join()
  end)
end)
