-- SPDX-License-Identifier: MIT
--
-- What was sent once is not sent again: what a function, a class or a global leads to is written once a call and read
-- once in each worker, however many chunks there are. Objects that count how often they are packed and unpacked show
-- it.

local it, assert, after_each = it, assert, after_each
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local journal = require("spec.support.journal")
local parallel = require("parallel")

local Counted = {}
local packed, path

codec.register("spec.Counted", Counted, function(object)
  packed[object.name] = (packed[object.name] or 0) + 1
  return { object.name, path }
end, function(value)
  if parallel.worker() then
    journal.add(value[2], value[1])
  end
  return setmetatable({ name = value[1] }, Counted)
end)

--- An object, and a count of its own in each test.
local function counted(name)
  return setmetatable({ name = name }, Counted)
end

local ITEMS, WORKERS = 40, 2

after_each(function()
  if path then
    journal.remove(path)
  end
  path = nil
end)

local function start()
  packed, path = {}, journal.new()
end

--- Checks that `name` was packed once and unpacked in each worker once at most.
local function check_once(name)
  assert.equal(1, packed[name], name)
  local unpacked = 0
  for _, line in ipairs(journal.lines(path)) do
    unpacked = unpacked + (line == name and 1 or 0)
  end
  assert.is_true(unpacked >= 1 and unpacked <= WORKERS, ("%s was unpacked %d times"):format(name, unpacked))
end

crossings.each_map(function(_, with)
  it("the function, its upvalues and its globals", function()
    start()
    local upvalue = counted("upvalue")
    lumap_spec_counted = counted("global") -- luacheck: ignore 111
    local ok, list = pcall(parallel.map, function()
      return #upvalue.name + #lumap_spec_counted.name -- luacheck: ignore 113
    end, parallel.range(1, ITEMS), with({ chunk = 1, workers = WORKERS }))
    lumap_spec_counted = nil -- luacheck: ignore 111
    assert.is_true(ok, tostring(list))
    assert.equal(13, list[ITEMS])
    check_once("upvalue")
    check_once("global")
  end)

  it("classes and functions that come with items", function()
    start()
    local Class = { prototype = counted("class") }
    Class.__index = Class
    local shared = counted("item's function")
    local function act()
      return shared.name
    end
    local items = {}
    for i = 1, ITEMS do
      items[i] = setmetatable({ act = act }, Class)
    end
    local list, names = parallel.map(function(item)
      return item.act(), item.prototype.name
    end, items, with({ chunk = 1, workers = WORKERS }))
    assert.equal("item's function", list[ITEMS])
    assert.equal("class", names[ITEMS])
    check_once("class")
    check_once("item's function")
  end)

  it("while what items hold themselves is each item's own", function()
    start()
    local object = counted("data")
    parallel.each(function() end, { { object }, { object, object }, { object } }, with({ chunk = 2 }))
    assert.equal(3, packed.data)
  end)

  it("nothing is kept from call to call", function()
    start()
    local object = counted("upvalue")
    for call = 1, 3 do
      parallel.each(function()
        return object
      end, { 1, 2 }, with({ chunk = 1 }))
      assert.equal(call, packed.upvalue)
    end
  end)
end)
