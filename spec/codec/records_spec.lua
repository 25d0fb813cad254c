-- SPDX-License-Identifier: MIT
--
-- Tables with the same keys share a shape in a message, strings that come again a slot: with it and without, they are
-- the same.

local describe, it, assert, teardown = describe, it, assert, teardown
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local crossings = require("spec.support.crossings")
local graphs = require("spec.support.graphs")
local parallel = require("parallel")

local Class = { __name = "spec.Class" }
Class.__index = Class

--- A record of `count` fields; `first` of them are numbered down instead of up, in memory too.
local function record_of(count, backwards)
  local t = {}
  for i = backwards and count or 1, backwards and 1 or count, backwards and -1 or 1 do
    t["field " .. i] = i
  end
  return t
end

crossings.each(function(cross)
  local function assert_same(value)
    local same, where = graphs.equal(value, cross(value))
    assert.is_true(same, where)
  end

  it("keeps records of all sizes around those that shapes have", function()
    for _, count in ipairs({ 1, 2, 31, 32, 33, 34, 64, 65, 300 }) do
      local list = {}
      for i = 1, 5 do
        list[i] = record_of(count, i % 2 == 0)
      end
      assert_same(list)
    end
  end)

  it("keeps records with a field less or more, with holes, and empty ones", function()
    local list = {}
    for i = 1, 200 do
      list[i] = { id = i, name = "n" .. i, on = i % 2 == 0, [i % 11 == 0 and 1 or "x"] = i }
      if i % 3 == 0 then
        list[i].name = nil
      elseif i % 7 == 0 then
        list[i].more = { i }
      elseif i % 13 == 0 then
        list[i].id, list[i].name, list[i].on, list[i].x, list[i][1] = nil, nil, nil, nil, nil
      end
    end
    assert_same(list)
  end)

  it("keeps records in tables that once held far more", function()
    local list = { { a = 1 }, { a = 2 }, { a = 3 } }
    for i = 4, 6 do
      local wide = record_of(100)
      for key in pairs(wide) do
        wide[key] = nil
      end
      wide.a = function()
        return i
      end
      list[i] = wide
    end
    local back = cross(list)
    for i = 1, 6 do
      assert.equal(i, i <= 3 and back[i].a or back[i].a())
    end
  end)

  it("keeps metatables of records, one or many", function()
    local list = {}
    for i = 1, 60 do
      list[i] = setmetatable({ id = i, up = list[i - 1] }, i % 5 == 0 and { __name = "own " .. i } or { __name = "n" })
    end
    local shared = { __name = "shared" }
    for i = 61, 120 do
      list[i] = setmetatable({ id = i, up = list[i - 60] }, shared)
    end
    assert_same(list)
  end)

  it("keeps records in records, as keys, and in a ring", function()
    local list = {}
    for i = 1, 40 do
      local point = { x = i, y = { x = i, y = -i } }
      list[i] = { at = point, [{ mark = i, x = point }] = { x = point, y = i }, list = list }
    end
    assert_same(list)
  end)

  it("keeps records far below the level at which tables are deferred", function()
    local list = {}
    for _, depth in ipairs({ 97, 98, 99, 100, 101, 102, 250 }) do
      local t = { value = depth, down = { value = 0, down = false } }
      for level = 1, depth do
        t = { value = level, down = t }
      end
      list[#list + 1] = t
    end
    assert_same(list)
  end)

  it("keeps records of more shapes than a writer knows at a time", function()
    local list = {}
    for round = 1, 3 do
      for shape = 1, 300 do
        list[#list + 1] = { ["a" .. shape] = round, ["b" .. shape] = { ["c" .. shape] = shape } }
      end
    end
    assert_same(list)
  end)

  it("keeps strings that come again, of all lengths, and many different ones", function()
    for _, length in ipairs({ 0, 1, 2, 39, 40, 41, 62, 63, 64, 65, 300 }) do
      local list = {}
      for i = 1, 10 do
        list[i] = ("x"):rep(length) -- longer ones are objects of their own on 5.4
        list[10 + i] = { text = ("y"):rep(length), [("z"):rep(length)] = i }
      end
      assert_same(list)
    end
    local list = {}
    for i = 1, 3000 do
      list[i] = "word " .. i % 700
    end
    for i = 1, 3000 do
      list[3000 + i] = { a = "word " .. i * 7 % 900, b = "word " .. i % 3 }
    end
    assert_same(list)
  end)
end)

backends.each(function(with)
  it("share shapes and strings across the items of a chunk, also behind one that was refused", function()
    local function make(i)
      return { id = i, name = "name " .. i % 3, at = { x = i, y = "same" } }
    end
    local function work(item)
      if item.id % 5 == 0 then
        return { id = item.id, name = item.name, at = coroutine.create(print), more = { a = 1, b = item.name } }
      end
      return { id = item.id, name = item.name, at = { x = item.at.x, y = "same" }, more = { a = 2, b = item.name } }
    end
    local items = {}
    for i = 1, 60 do
      items[i] = make(i)
    end
    for _, chunk in ipairs({ 1, 7, 60 }) do
      local list = parallel.map(work, items, with({ chunk = chunk, errors = "collect" }))
      for i = 1, 60 do
        if i % 5 == 0 then
          assert.equal("encode", list.errors[i].kind)
        else
          assert.same({ id = i, name = "name " .. i % 3, at = { x = i, y = "same" },
            more = { a = 2, b = "name " .. i % 3 } }, list[i])
        end
      end
    end
    items[30].at.bad = coroutine.create(print)
    local ok, failure = pcall(parallel.map, work, items, with({ chunk = 60 }))
    assert.is_false(ok)
    assert.equal("encode", failure.kind)
    assert.equal(30, failure.index)
    items[30].at.bad = nil
    assert.same({ kind = "encode", index = 5 }, (function(list)
      return { kind = list.errors[5].kind, index = list.errors[5].index }
    end)(parallel.map(work, items, with({ chunk = 60, errors = "collect" }))))
  end)

  it("have the class that workers gave them", function()
    local list = parallel.map(function(i)
      local objects = {}
      for n = 1, 5 do
        objects[n] = setmetatable({ id = i, number = n, next = setmetatable({ id = n, number = i }, Class) }, Class)
      end
      return objects
    end, parallel.range(1, 20), with())
    for i = 1, 20 do
      for n = 1, 5 do
        local object = list[i][n]
        assert.equal(Class, getmetatable(object))
        assert.equal(Class, getmetatable(object.next))
        assert.same({ i, n, n, i }, { object.id, object.number, object.next.id, object.next.number })
      end
    end
  end)
end)

describe("a few shapes", function()
  it("are all known at a time, wherever their keys lie", function()
    local sizes, different = {}, 0
    for set = 1, 100 do
      local list = {}
      for i = 1, 20 do
        list[i] = { [("key %03d %d"):format(set, i % 4)] = i }
      end
      local size = #codec.encode(list)
      different = different + (sizes[size] and 0 or 1)
      sizes[size] = true
    end
    assert.equal(1, different)
  end)
end)

describe("a record that is a metatable", function()
  local seen, collects
  local Looker = { __name = "spec.Looker" }

  codec.register("spec.Looker", Looker, function(object)
    return { object.target }
  end, function(packed)
    -- Looks up what is not there yet, which the VM notes, and lets a collection note it as well.
    seen[#seen + 1] = packed[1]
    local found = packed[1].missing
    if collects then
      collectgarbage()
    end
    return setmetatable({ target = packed[1], found = found }, Looker)
  end)

  teardown(function()
    codec.register("spec.Looker", {}, tostring, tostring) -- maps of other specs send all classes along
  end)

  -- Where in memory a field lies, and so when it is read, depends on its name.
  local NAMES = { "a", "b", "c", "d", "object", "target", "x1", "x2", "zeta", "eta", "theta", "k", "q", "w", "m9", "u" }

  local function metatable_of(name)
    local meta = { p1 = 1, p2 = 2, __index = { missing = "found" }, __mode = "k" }
    local inner = setmetatable({}, meta)
    meta[name] = { inner, setmetatable({ target = inner }, Looker) }
    return meta
  end

  local function check_metamethods()
    for _, name in ipairs(NAMES) do
      seen = {}
      local list = { metatable_of(name), metatable_of(name), metatable_of(name) }
      for i, meta in ipairs(codec.decode(codec.encode(list))) do
        local object = setmetatable({}, meta)
        assert.equal("found", object.missing, name .. i)
        assert.equal("found", seen[i].missing, name .. i)
        object[{}] = true
        collectgarbage()
        collectgarbage()
        assert.is_nil(next(object), name .. i)
      end
    end
  end

  it("has its metamethods, whoever looked for them while it was read", function()
    collects = false
    check_metamethods()
  end)

  it("has them when a collection looked for them", function()
    collects = true
    check_metamethods()
    if math.type then
      collectgarbage("incremental")
      check_metamethods()
      collectgarbage("generational")
    end
  end)

  it("has a __gc that 5.4 calls", function()
    if not math.type then
      return
    end
    for _, name in ipairs(NAMES) do
      local list = {}
      for i = 1, 3 do
        list[i] = { __gc = string.len, [name] = false }
        list[i][name] = setmetatable({}, list[i])
      end
      local result = codec.decode(codec.encode(list, { functions = true }), { functions = true })
      for i = 1, 3 do
        local called = false
        result[i].__gc = function()
          called = true
        end
        setmetatable({}, result[i])
        collectgarbage()
        collectgarbage()
        assert.is_true(called, name .. i)
      end
    end
  end)
end)
