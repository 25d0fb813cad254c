-- SPDX-License-Identifier: MIT
--
-- codec.register: objects of a registered class cross as what their pack function makes of them.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local Set = { __name = "Set" }
Set.__index = Set

local function new_set(list)
  local set = setmetatable({ cache = io.tmpfile(), has = {} }, Set)
  for _, value in ipairs(list) do
    set.has[value] = true
  end
  return set
end

local function pack(set)
  local list = {}
  for value in pairs(set.has) do
    list[#list + 1] = value
  end
  return list
end

local function unpack_set(list)
  return new_set(list)
end

codec.register("spec.Set", Set, pack, unpack_set)

crossings.each(function(cross)
  it("an object crosses as its class packs it", function()
    local set = cross(new_set({ "a", "b" }))
    assert.equal(Set, getmetatable(set))
    assert.same({ a = true, b = true }, set.has)
    assert.equal("file", io.type(set.cache))
  end)

  it("objects within others, shared and in cycles", function()
    local set = new_set({ "a" })
    local result = cross({ set, { set }, list = { new_set({ 1, 2, 3 }) } })
    assert.equal(result[1], result[2][1])
    assert.same({ true, true, true }, result.list[1].has)
  end)
end)

crossings.each_map(function(_, with)
  it("a worker makes and takes objects of the class", function()
    local sets, sizes = parallel.map(function(set)
      local count = 0
      for _ in pairs(set.has) do
        count = count + 1
      end
      set.has.more = true
      return set, count
    end, { new_set({ 1 }), new_set({ 1, 2 }) }, with({ chunk = 1 }))
    assert.same({ 1, 2, n = 2 }, sizes)
    assert.same({ true, more = true }, sets[1].has)
    assert.equal(Set, getmetatable(sets[2]))
  end)

  it("a class that is registered while workers run reaches them", function()
    parallel.map(math.sqrt, { 1 }, with())
    local Late = { __name = "Late" }
    codec.register("spec.Late", Late, function(object)
      return object.x
    end, function(x)
      return setmetatable({ x = x + 1 }, Late)
    end)
    local list = parallel.map(function(object)
      return object
    end, { setmetatable({ x = 1, file = io.stdout, co = coroutine.create(print) }, Late) }, with())
    assert.equal(Late, getmetatable(list[1]))
    assert.equal(3, list[1].x)
    assert.is_nil(list[1].co)
  end)
end)

describe("a registration", function()
  it("replaces an earlier one of the same name", function()
    local First, Second = { __name = "First" }, { __name = "Second" }
    codec.register("spec.Replaced", First, function()
      return "first"
    end, function(value)
      return setmetatable({ value }, First)
    end)
    codec.register("spec.Replaced", Second, function()
      return "second"
    end, function(value)
      return setmetatable({ value }, Second)
    end)
    local object = codec.decode(codec.encode(setmetatable({}, Second)))
    assert.equal(Second, getmetatable(object))
    assert.equal("second", object[1])
  end)

  it("refuses arguments of a wrong type, and names what is wrong", function()
    for _, arguments in ipairs({
      { 1, {}, print, print },
      { "spec.X", 1, print, print },
      { "spec.X", {}, 1, print },
      { "spec.X", {}, print, "x" },
      { "", {}, print, print },
    }) do
      local ok, message = pcall(codec.register, arguments[1], arguments[2], arguments[3], arguments[4])
      assert.is_false(ok)
      assert.is_truthy(message:find("register", 1, true), message)
    end
  end)

  it("that the other side lacks is an error that names the class", function()
    local bytes = codec.encode(new_set({ "a" }))
    local result = interpreter.run_code("print(pcall(codec.decode, io.read('*a')))", { stdin = bytes })
    assert.equal("", result.stderr)
    assert.is_truthy(result.stdout:find("^false\t"), result.stdout)
    assert.is_truthy(result.stdout:find("spec.Set", 1, true), result.stdout)
  end)

  it("whose functions fail is an error of the item, with the reason", function()
    local Bad = { __name = "Bad" }
    codec.register("spec.Bad", Bad, function(object)
      if object.where == "pack" then
        error("cannot pack this")
      end
      return object.where
    end, function()
      error("cannot unpack this")
    end)
    for where, kind in pairs({ pack = "encode", unpack = "decode" }) do
      local items = { 1, setmetatable({ where = where }, Bad), 3 }
      local list = parallel.map(function(x)
        return type(x)
      end, items, { workers = 1, errors = "collect", chunk = 1 })
      assert.equal("number", list[1])
      assert.equal("number", list[3])
      assert.is_nil(list[2])
      assert.equal(kind, list.errors[2].kind)
      assert.equal(2, list.errors[2].index)
      assert.is_truthy(list.errors[2].message:find("cannot " .. where .. " this", 1, true), list.errors[2].message)
    end
  end)
end)

crossings.each_map(function(_, with)
  it("a class that is registered again is what it is now, in workers that knew it", function()
    local First, Second = { __name = "First" }, { __name = "Second" }
    for round = 1, 3 do
      codec.register("spec.Again", First, function()
        return round
      end, function(value)
        return setmetatable({ value, round }, First)
      end)
      local list, seen = parallel.map(function(object)
        return object, object[1] * 10 + object[2]
      end, { setmetatable({}, First) }, with())
      assert.same({ 11 * round, n = 1 }, seen)
      assert.equal(First, getmetatable(list[1]))
      assert.equal(round, list[1][2])
    end
    codec.register("spec.Again", Second, function()
      return "second"
    end, function(value)
      return setmetatable({ value }, Second)
    end)
    local list = parallel.map(function(object)
      return object
    end, { setmetatable({ "plain" }, First), setmetatable({}, Second) }, with())
    assert.equal("plain", list[1][1])
    assert.equal(First, getmetatable(list[1]))
    assert.equal("second", list[2][1])
    assert.equal(Second, getmetatable(list[2]))
  end)

  it("a class that can no longer cross is not mistaken for what it was", function()
    local Class, log = {}, io.tmpfile()
    local function unpack_object(value)
      return setmetatable({ value }, Class)
    end
    codec.register("spec.Lost", Class, function()
      return "old"
    end, unpack_object)
    local function first(object)
      return object[1]
    end
    assert.same({ "old", n = 1 }, parallel.map(first, { setmetatable({}, Class) }, with()))
    codec.register("spec.Lost", Class, function()
      return log and "new"
    end, unpack_object)
    local list = parallel.map(first, { { "fine" }, setmetatable({}, Class) }, with({ errors = "collect" }))
    assert.equal("fine", list[1])
    assert.equal("decode", list.errors[2].kind)
    local reason = "class 'spec.Lost' is not known here: cannot send upvalue 'log'"
    assert.is_truthy(list.errors[2].message:find(reason, 1, true), list.errors[2].message)
    log = false
    assert.same({ false, n = 1 }, parallel.map(first, { setmetatable({}, Class) }, with()))
  end)

  it("an object that cannot be made fails its item alone, however often it is referred to", function()
    local Bad = {}
    codec.register("spec.Unmade", Bad, function(object)
      return object.how
    end, function(how)
      if how == "raise" then
        error("not today")
      end
    end)
    local bad, none = setmetatable({ how = "raise" }, Bad), setmetatable({}, Bad)
    local list = parallel.map(function(item)
      return #item
    end, { { 1 }, { bad, bad, { bad } }, { none, none }, { 1, 2 } }, with({ errors = "collect", chunk = 4 }))
    assert.same({ 1, 2 }, { list[1], list[4] })
    assert.is_truthy(list.errors[2].message:find("class 'spec.Unmade' failed: .*not today"), list.errors[2].message)
    assert.is_truthy(list.errors[3].message:find("class 'spec.Unmade' failed: it gave nil", 1, true))
  end)

  it("an unpack function that fails here fails the item, with the reason", function()
    local Shy = {}
    codec.register("spec.Shy", Shy, function()
      return 1
    end, function()
      if not parallel.worker() then
        error("not at home")
      end
      return setmetatable({}, Shy)
    end)
    local list = parallel.map(function(x)
      return x
    end, { 1, setmetatable({}, Shy), 3 }, with({ errors = "collect", chunk = 3 }))
    assert.same({ 1, 3 }, { list[1], list[3] })
    assert.equal("decode", list.errors[2].kind)
    assert.is_truthy(list.errors[2].message:find("not at home", 1, true), list.errors[2].message)
  end)
end)

it("what pack functions gave is not mixed up when the collector runs meanwhile", function()
  local Fleeting = {}
  codec.register("spec.Fleeting", Fleeting, function(object)
    collectgarbage()
    return { { object.number } }
  end, function(value)
    return setmetatable({ number = value[1][1] }, Fleeting)
  end)
  local list = {}
  for i = 1, 50 do
    list[i] = setmetatable({ number = i }, Fleeting)
  end
  local copy = codec.decode(codec.encode(list))
  for i = 1, 50 do
    assert.equal(i, copy[i].number)
  end
end)

it("an object within what its own pack function gave is refused, with its path", function()
  local Ring = {}
  codec.register("spec.Ring", Ring, function(ring)
    return { next = ring.next }
  end, function(value)
    return setmetatable(value, Ring)
  end)
  local a, b = setmetatable({}, Ring), setmetatable({}, Ring)
  a.next = b
  assert.is_true(codec.check({ a, b, a }))
  assert.equal(Ring, getmetatable(codec.decode(codec.encode(a)).next))
  b.next = a
  local reason = ": it is within what its own pack function gave; pack must leave it out"
  assert.same({ nil, "cannot send value.ring.next.next" .. reason }, { codec.check({ ring = a }) })
  local ok, message = pcall(codec.encode, { ring = a })
  assert.is_false(ok)
  assert.is_truthy(message:find("value.ring.next.next" .. reason, 1, true), message)
  local _, e = pcall(parallel.map, type, { 1, a }, { workers = 1 })
  assert.equal("encode", e.kind)
  assert.equal(2, e.index)
end)

it("unpack gets the whole of a deep value, or the object is refused", function()
  local Chain = {}
  local function links(n)
    local root = {}
    local last = root
    for _ = 1, n do
      last.next = {}
      last = last.next
    end
    return root
  end
  codec.register("spec.Chain", Chain, function(chain)
    return links(chain.length)
  end, function(value)
    local length = 0
    while value.next do
      value, length = value.next, length + 1
    end
    return setmetatable({ length = length }, Chain)
  end)
  for _, length in ipairs({ 0, 1, 99, 100, 101, 120 }) do
    assert.equal(length, codec.decode(codec.encode(setmetatable({ length = length }, Chain))).length)
  end
  local ok, message = pcall(codec.encode, setmetatable({ length = 1000 }, Chain))
  assert.is_false(ok)
  assert.is_truthy(message:find("nested too deeply", 1, true), message)
end)
