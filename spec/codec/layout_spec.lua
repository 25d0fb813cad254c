-- SPDX-License-Identifier: MIT
--
-- Tables are read and written where they lie in the VM's memory, or through the C API where its layout is not known.
-- Both ways give the same values, whatever a pack or unpack function does meanwhile to the tables under way.

local describe, it, assert, after_each, teardown = describe, it, assert, after_each, teardown
require("spec.support.globals")()

local codec = require("codec")
local core = require("lumap.core")
local graphs = require("spec.support.graphs")

after_each(function()
  core.direct(true)
  collectgarbage("restart")
end)

--- What a pack function does, given the object: set by each test.
local act
local Meddler = { __name = "spec.Meddler" }

codec.register("spec.Meddler", Meddler, function(object)
  act(object)
  return { object.name }
end, function(packed)
  return setmetatable({ name = packed[1] }, Meddler)
end)

teardown(function()
  codec.register("spec.Meddler", {}, tostring, tostring) -- maps of other specs send all classes along
end)

local function meddler(name)
  return setmetatable({ name = name }, Meddler)
end

local function encode_way(direct, value)
  core.direct(direct)
  local bytes = codec.encode(value)
  core.direct(true)
  return bytes
end

local function decode_way(direct, bytes)
  core.direct(direct)
  local value = codec.decode(bytes)
  core.direct(true)
  return value
end

describe("where tables lie", function()
  it("is known on this machine, and how tables are made", function()
    assert.same({ true, true }, { core.direct(true) })
    assert.same({ false, false }, { core.direct(false) })
    assert.same({ true, true }, { core.direct(true) })
  end)

  it("and through the C API random graphs are the same, whoever reads what was written", function()
    for seed = 1, 300 do
      local value = graphs.random(seed)
      for _, writes in ipairs({ true, false }) do
        local bytes = encode_way(writes, value)
        for _, reads in ipairs({ true, false }) do
          local same, where = graphs.equal(value, decode_way(reads, bytes))
          assert.is_true(same, ("seed %d, written %s, read %s: %s"):format(seed, writes, reads, where or ""))
        end
      end
    end
  end)

  it("is of no matter to a reader: what one way makes of a message can be changed like any other table", function()
    local records = {}
    for i = 1, 10 do
      records[i] = { id = i, name = "n" .. i, last = "x" }
    end
    for _, reads in ipairs({ true, false }) do
      local list = decode_way(reads, codec.encode(records))
      for i, record in ipairs(list) do
        record.name = nil
        for n = 1, 40 do
          record["field " .. n] = n
        end
        assert.equal(i, record.id)
        assert.equal("x", record.last)
        assert.is_nil(record.name)
        local count = 0
        for _ in pairs(record) do
          count = count + 1
        end
        assert.equal(42, count)
      end
      collectgarbage()
    end
  end)
end)

-- ---- pack functions that change what is being written --------------------------------------------------------------

--- Tables that have a meddler in their midst, as makers: each gives the table and the text that leads to the table.
local parents = {
  ["a list"] = function()
    return { 1, "two", { 3 }, meddler("m"), { 5 }, "six", { 7 } }
  end,
  ["fields"] = function()
    return { a = 1, b = { 2 }, c = meddler("m"), d = "four", e = { 5 }, f = { 6 } }
  end,
  ["keys"] = function()
    return { [meddler("m")] = { 1 }, [meddler("n")] = "two", [{ 3 }] = { 4 } }
  end,
  ["a list with holes"] = function()
    return { 1, nil, { 3 }, nil, meddler("m"), nil, { 7 }, x = { 8 }, [0] = { 9 } }
  end,
  ["packed numbers and fields"] = function()
    local t = { a = { 1 }, b = meddler("m"), c = { 3 }, d = "four" }
    for i = 1, 100 do
      t[i] = i
    end
    return t
  end,
}

--- The last of several tables of one shape, so that it is a record.
local function as_records(make)
  return function()
    return make(), make(), make()
  end
end

local function keys_of(t)
  local keys = {}
  for key in next, t do
    keys[#keys + 1] = key
  end
  return keys
end

--- What may be done to the table under way.
local deeds = {
  ["adds a field"] = function(t)
    t.added = { "added" }
  end,
  ["adds many fields"] = function(t)
    for i = 1, 200 do
      t["added " .. i] = i
    end
  end,
  ["adds many items"] = function(t)
    for i = #t + 1, #t + 200 do
      t[i] = { i }
    end
  end,
  ["removes all"] = function(t)
    for _, key in ipairs(keys_of(t)) do
      t[key] = nil
    end
    collectgarbage()
  end,
  ["removes all and adds others"] = function(t)
    for _, key in ipairs(keys_of(t)) do
      t[key] = nil
    end
    for i = 1, 200 do
      t["added " .. i] = { i }
    end
    collectgarbage()
  end,
  ["removes its own key"] = function(t, object)
    for _, key in ipairs(keys_of(t)) do
      if t[key] == object or key == object then
        t[key] = nil
      end
    end
    collectgarbage()
  end,
  ["makes it smaller"] = function(t)
    for i = #t, 1, -1 do
      t[i] = nil
    end
    t.added = true
    collectgarbage()
    for i = 1, 50 do
      t["added " .. i] = i
    end
  end,
  ["starts the collector and makes garbage"] = function()
    collectgarbage("restart")
    for i = 1, 20000 do
      local _ = { i, tostring(i) }
    end
  end,
  ["collects"] = function()
    collectgarbage()
    collectgarbage()
  end,
  ["collects in steps"] = function()
    for _ = 1, 20 do
      collectgarbage("step", 10)
    end
  end,
  ["encodes something itself"] = function()
    codec.encode({ { a = 1, b = 2 }, { a = 1, b = 2 }, "text", "text" })
  end,
}

if math.type then -- 5.4
  deeds["changes the collector's mode"] = function()
    collectgarbage("generational")
    collectgarbage("step", 0)
    collectgarbage("incremental")
    collectgarbage("step", 0)
    collectgarbage("generational")
  end
end

--- Encodes `{ t..., other }` while the pack function does its deed to the last table; the result, or the refusal, is
--- one that may be.
local function meddle(name, deed, ...)
  local tables = { ... }
  local t = tables[#tables]
  local last
  tables[#tables + 1] = { "behind" }
  act = function(object)
    if not last then
      for key, value in next, t do
        if key == object or value == object then
          last = object
        end
      end
      if last then
        t = nil -- as far as this function goes, the deed may let it be collected
        deed(tables[#tables - 1], object)
      end
    end
  end
  local ok, result = pcall(codec.encode, tables)
  assert.is_truthy(last, name .. ": the pack function did not run")
  if ok then
    local value = codec.decode(result)
    assert.equal(#tables, #value, name)
    assert.same({ "behind" }, value[#value], name)
    return true
  end
  local text = tostring(result)
  assert.truthy(text:find("^cannot send value%[%d+%].*: a pack function changed it while it was being written"), text)
  return false
end

describe("a pack function that", function()
  for deed_name, deed in pairs(deeds) do
    it(deed_name .. " leaves a whole message, or an error that tells where", function()
      for name, make in pairs(parents) do
        for _, direct in ipairs({ true, false }) do
          core.direct(direct)
          -- Through the C API such a change is an error of next, as in any traversal.
          local ok, message = pcall(meddle, name, deed, as_records(make)())
          assert.is_true(ok or not direct and tostring(message):find("invalid key to 'next'", 1, true) ~= nil, message)
          core.direct(true)
        end
      end
      assert.same({ { a = 1 }, { a = 2 } }, codec.decode(codec.encode({ { a = 1 }, { a = 2 } })))
    end)
  end

  it("changes nothing of the table does no harm to sharing", function()
    act = function()
      collectgarbage()
      collectgarbage("step")
    end
    local shared = { "shared" }
    for _, direct in ipairs({ true, false }) do
      local list = {}
      for i = 1, 20 do
        list[i] = { shared = shared, object = meddler("m" .. i), number = i, list = list }
      end
      local result = codec.decode(encode_way(direct, list))
      for i = 1, 20 do
        assert.equal(result, result[i].list)
        assert.equal(result[1].shared, result[i].shared)
        assert.equal("m" .. i, result[i].object.name)
        assert.equal(i, result[i].number)
      end
      assert.same({ "shared" }, result[1].shared)
    end
  end)

  it("drops what was written already does not let others be taken for it", function()
    -- What is new may get the address of what is gone.
    for round = 1, 50 do
      local list
      act = function(object)
        object.name = nil
        list[1], list[2], list[3] = nil, nil, nil
        collectgarbage()
        collectgarbage()
        local new = {}
        for i = 1, 20 do
          new[i] = { "new " .. i, { i, x = "field" .. round .. " " .. i } }
        end
        object.name = new
      end
      list = { { "old " .. round }, { x = 1 }, { "word" .. round, "word" .. round }, meddler() }
      local value = codec.decode(codec.encode(list))
      assert.same({ "old " .. round }, value[1])
      assert.equal(20, #value[4].name)
      for i, new in ipairs(value[4].name) do
        assert.same({ "new " .. i, { i, x = "field" .. round .. " " .. i } }, new)
      end
    end
  end)
end)

describe("pack functions that encode", function()
  it("within others that do keep what each of them refers to", function()
    local depth, count = 0, 0
    act = function(object)
      depth, count = depth + 1, count + 1
      object.name = { "object " .. count }
      if depth < 4 then
        local inner = { { "inner " .. count }, meddler(), { "last" }, meddler() }
        assert.same({ inner[1], inner[3] }, (function(value)
          return { value[1], value[3] }
        end)(codec.decode(codec.encode(inner))))
      end
      collectgarbage()
      depth = depth - 1
    end
    local list = { { "first" }, meddler(), { "last" }, meddler() }
    local value = codec.decode(codec.encode(list))
    assert.same({ "first" }, value[1])
    assert.same({ "last" }, value[3])
    assert.same(list[2].name, value[2].name)
    assert.same(list[4].name, value[4].name)
  end)
end)

describe("tables of a mode or an age", function()
  it("keep sharing and cycles in the midst of a collection", function()
    local value = graphs.random(7)
    local bytes = codec.encode(value)
    collectgarbage()
    for _ = 1, 200 do
      collectgarbage("step", 1)
      assert.is_true(graphs.equal(value, codec.decode(codec.encode(value))))
      assert.is_true(graphs.equal(value, codec.decode(bytes)))
    end
  end)

  it("keep them when they are weak", function()
    for _, mode in ipairs({ "k", "v", "kv" }) do
      local shared, weak = { "shared" }, { __mode = mode }
      local list = { shared }
      for i = 2, 10 do
        list[i] = setmetatable({ shared, [shared] = shared, own = shared }, weak)
      end
      for _ = 1, 30 do
        collectgarbage("step", 1)
        local result = codec.decode(codec.encode(list))
        for i = 2, 10 do
          assert.equal(result[1], result[i][1])
          assert.equal(result[1], result[i][result[1]])
          assert.equal(getmetatable(result[2]), getmetatable(result[i]))
        end
        assert.equal(mode, getmetatable(result[2]).__mode)
      end
    end
  end)

  it("keep them when they are old and have been touched", function()
    if not math.type then
      return -- LuaJIT has no generations
    end
    collectgarbage("generational")
    local list, shared = {}, { "shared" }
    for i = 1, 50 do
      list[i] = { shared = shared, list = list }
    end
    for round = 1, 50 do
      list[round].touched = { round }
      list[round % 50 + 1].young = { shared }
      if round % 3 == 0 then
        collectgarbage("step", 0)
      end
      assert.is_true(graphs.equal(list, codec.decode(codec.encode(list))))
    end
    collectgarbage("incremental")
  end)

  it("keep what unpack functions saw, when those collect", function()
    act = function() end
    local Watcher = { __name = "spec.Watcher" }
    codec.register("spec.Watcher", Watcher, function(object)
      return { object[1] }
    end, function(packed)
      collectgarbage()
      collectgarbage("step", 5)
      return setmetatable({ packed[1] }, Watcher)
    end)
    local list = {}
    for i = 1, 30 do
      list[i] = { text = "text " .. i, object = setmetatable({ "w" .. i }, Watcher), more = { "m" .. i }, z = "z" .. i }
    end
    local result = codec.decode(codec.encode(list))
    collectgarbage()
    assert.same(list, result)
    codec.register("spec.Watcher", {}, tostring, tostring)
  end)
end)
