-- SPDX-License-Identifier: MIT
--
-- Tables of a message are made without the C API (lua/maker.h). They count as memory, are collected, and grow as any
-- other table does, whatever unpack functions have the collector do meanwhile.

local describe, it, assert, after_each, teardown = describe, it, assert, after_each, teardown
require("spec.support.globals")()

local codec = require("codec")
local core = require("lumap.core")

local generations = math.type ~= nil -- 5.4

--- What an unpack function does, given what was packed: set by each test.
local act = function() end
local Actor = { __name = "spec.Actor" }

codec.register("spec.Actor", Actor, function(object)
  return object.packed
end, function(packed)
  act(packed)
  return setmetatable({ packed = packed }, Actor)
end)

after_each(function()
  act = function() end
  core.direct(true)
  collectgarbage("restart")
  if generations then
    collectgarbage("generational")
  end
end)

teardown(function()
  codec.register("spec.Actor", {}, tostring, tostring) -- maps of other specs send all classes along
end)

--- Lists of all lengths up to n, and records, within one another.
local function various(n)
  local value = {}
  for i = 1, n do
    local list = {}
    for k = 1, i do
      list[k] = { k, { "deep " .. k } }
    end
    value[i] = { list = list, name = "n" .. i, more = { a = i, b = { c = { i } } } }
  end
  return value
end

--- What the VM makes for itself, a larger stack above all, is there for the first of thirty values; what takes no part
--- is compiled code.
local function bytes_of_twenty(make)
  local values, before = {}, nil
  for i = 1, 30 do
    values[i] = false
  end
  collectgarbage()
  collectgarbage()
  collectgarbage("stop")
  for i = 1, 30 do
    values[i] = make()
    before = i == 10 and collectgarbage("count") or before
  end
  local after = collectgarbage("count")
  collectgarbage("restart")
  assert.equal(30, #values)
  return (after - before) * 1024
end

--- Bytes that twenty values take which `make` gives, the collector being at rest.
local function bytes_of(make)
  if rawget(_G, "jit") then
    require("jit").off()
  end
  local bytes = math.min(bytes_of_twenty(make), bytes_of_twenty(make), bytes_of_twenty(make))
  if rawget(_G, "jit") then
    require("jit").on()
  end
  return bytes
end

--- Adds to each table in the value, so that all its parts are made anew.
local function grow(value)
  local work = { value }
  while #work > 0 do
    local t = table.remove(work)
    for _, inner in pairs(t) do
      if type(inner) == "table" then
        work[#work + 1] = inner
      end
    end
    for k = #t + 1, #t + 5 do
      t[k] = k
    end
    for k = 1, 5 do
      t["grown " .. k] = k
    end
  end
end

describe("a table that is made without the API", function()
  it("counts as much memory as one that the API makes", function()
    local lists = {}
    for i = 1, 40 do
      lists[i] = { i, { i, { i, 2, 3 } }, { i } }
    end
    local message = codec.encode(lists)
    local function decode()
      return codec.decode(message)
    end
    local made = bytes_of(decode)
    core.direct(false)
    assert.equal(bytes_of(decode), made)
  end)

  it("is given back in full, grown or not", function()
    local message = codec.encode(various(30))
    local function use()
      for _ = 1, 5 do
        codec.decode(message)
        grow(codec.decode(message))
      end
    end
    use()
    collectgarbage()
    collectgarbage()
    local before = collectgarbage("count")
    for _ = 1, 4 do
      use()
      collectgarbage()
      collectgarbage()
    end
    local after = collectgarbage("count")
    -- What is counted once too often, or too seldom, for each of 50,000 tables, is far more.
    assert.is_true(math.abs(after - before) < 20, ("%.1f KB before, %.1f KB after"):format(before, after))
  end)

  it("grows as any other", function()
    local value = codec.decode(codec.encode(various(20)))
    grow(value)
    for i = 1, 20 do
      assert.equal(i, value[i].more.b.c[1])
      assert.equal("deep " .. i, value[i].list[i][2][1])
      assert.equal(3, value[i].list[i]["grown 3"])
      assert.equal(#value[i].list, i + 5)
    end
    collectgarbage()
    assert.equal(5, value[20].more.b.c["grown 5"])
  end)
end)

--- What an unpack function may have the collector do, to tables that are being made. Some get the outermost one.
local deeds = {
  ["collects"] = function()
    collectgarbage()
  end,
  ["collects in steps"] = function()
    for _ = 1, 7 do
      collectgarbage("step", 3)
    end
  end,
  ["starts the collector and makes garbage"] = function()
    collectgarbage("restart")
    for i = 1, 2000 do
      local _ = { i, tostring(i) }
    end
  end,
  ["decodes something itself"] = function()
    local inner = codec.decode(codec.encode(various(5)))
    collectgarbage()
    assert.same(various(5), inner)
  end,
  ["makes the outermost table a weak one"] = function(packed)
    setmetatable(packed.outermost, { __mode = "k" })
    collectgarbage()
  end,
}

if generations then
  deeds["lets young ones be collected"] = function()
    collectgarbage("generational")
    collectgarbage("step", 0)
  end
  deeds["changes the collector's mode"] = function()
    collectgarbage("incremental")
    collectgarbage("step", 1)
    collectgarbage("generational")
  end
  deeds["gives the outermost table a finalizer"] = function(packed)
    setmetatable(packed.outermost, {
      __gc = function(t)
        t.ended = true
      end,
    })
  end
end

--- A list with an actor behind each of its values.
local function acted(n)
  local value, list = various(n), {}
  for i = 1, n do
    list[2 * i - 1] = value[i]
    list[2 * i] = setmetatable({ packed = { outermost = list, number = i } }, Actor)
  end
  return list
end

local function check(list, n)
  local expected = various(n)
  for i = 1, n do
    assert.same(expected[i], list[2 * i - 1])
    assert.equal(i, list[2 * i].packed.number)
    assert.equal(list, list[2 * i].packed.outermost)
  end
end

describe("tables of a message", function()
  for name, deed in pairs(deeds) do
    it(("are whole when an unpack function %s"):format(name), function()
      local message = codec.encode(acted(12))
      for _ = 1, 5 do
        act = deed
        local list = codec.decode(message)
        act = function() end
        check(list, 12)
        collectgarbage()
        check(list, 12)
        collectgarbage("step", 1)
        grow(list[1])
        collectgarbage()
        assert.equal("n1", list[1].name)
      end
    end)
  end
end)
