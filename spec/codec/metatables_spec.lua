-- SPDX-License-Identifier: MIT
--
-- Metatables cross, and those that came from the caller go back as the caller's own.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local parallel = require("parallel")

local function class(name, parent)
  local Class = setmetatable({ __name = name }, parent and { __index = parent })
  Class.__index = Class
  return Class
end

crossings.each(function(cross)
  it("an object keeps its class: methods, operators, text", function()
    local Point = class("Point")
    function Point:norm()
      return self.x * self.x + self.y * self.y
    end
    Point.__add = function(a, b)
      return setmetatable({ x = a.x + b.x, y = a.y + b.y }, Point)
    end
    Point.__tostring = function(self)
      return ("(%d, %d)"):format(self.x, self.y)
    end
    Point.__eq = function(a, b)
      return a.x == b.x and a.y == b.y
    end
    local point = cross(setmetatable({ x = 3, y = 4 }, Point))
    assert.equal(25, point:norm())
    assert.equal("(6, 8)", tostring(point + point))
    assert.equal("Point", getmetatable(point).__name)
  end)

  it("objects of one class keep one class", function()
    local Point = class("Point")
    local list = cross({ setmetatable({}, Point), setmetatable({}, Point), Point })
    assert.equal(getmetatable(list[1]), getmetatable(list[2]))
    assert.equal(getmetatable(list[1]), list[3])
    assert.equal(list[3], list[3].__index)
  end)

  it("inheritance keeps", function()
    local Animal = class("Animal")
    function Animal:speak()
      return self.name .. " says " .. self:sound()
    end
    local Dog = class("Dog", Animal)
    function Dog.sound()
      return "woof"
    end
    local Puppy = class("Puppy", Dog)
    local puppy = cross(setmetatable({ name = "Rex" }, Puppy))
    assert.equal("Rex says woof", puppy:speak())
    assert.equal("Puppy", getmetatable(puppy).__name)
  end)

  it("__index and __newindex functions and __call keep", function()
    local reads = setmetatable({ real = 1 }, {
      __index = function(_, key)
        return "no " .. key
      end,
      __newindex = function(t, key, value)
        rawset(t, key, value * 2)
      end,
      __call = function(self, x)
        return self.real + x
      end,
    })
    local copy = cross(reads)
    assert.equal("no thing", copy.thing)
    assert.is_nil(rawget(copy, "thing"))
    copy.new = 4
    assert.equal(8, rawget(copy, "new"))
    assert.equal(6, copy(5))
  end)

  it("metatables may lead in circles", function()
    local own = {}
    setmetatable(own, own)
    own.__index = own
    local copy = cross(own)
    assert.equal(copy, getmetatable(copy))
    assert.equal(copy, copy.__index)

    local a, b = {}, {}
    setmetatable(a, b)
    setmetatable(b, a)
    copy = cross({ a, b })
    assert.equal(copy[2], getmetatable(copy[1]))
    assert.equal(copy[1], getmetatable(copy[2]))
  end)

  it("weak tables, and metatables with fields of any kind", function()
    local meta = { __mode = "k", [1] = "one", extra = { 1, 2 } }
    local copy = cross(setmetatable({ 5 }, meta))
    assert.equal(5, copy[1])
    assert.equal("k", getmetatable(copy).__mode)
    assert.same({ 1, 2 }, getmetatable(copy).extra)
  end)

  it("a metatable that hides itself is kept, and hidden still", function()
    local copy = cross(setmetatable({ 1 }, { __metatable = "hidden", __len = function()
      return 7
    end }))
    assert.equal("hidden", getmetatable(copy))
    assert.equal("hidden", debug.getmetatable(copy).__metatable)
  end)

  it("no metamethod runs while an object crosses", function()
    local function never()
      error("a metamethod ran")
    end
    local copy = cross(setmetatable({ 1, 2, key = "value" }, {
      __index = never,
      __newindex = never,
      __len = never,
      __pairs = never,
      __ipairs = never,
      __eq = never,
      __call = never,
    }))
    assert.equal(1, rawget(copy, 1))
    assert.equal(2, rawget(copy, 2))
    assert.equal("value", rawget(copy, "key"))
  end)
end)

crossings.each_map(function(cross, with)
  it("an object comes back with the caller's own class", function()
    local Point = class("Point")
    local hidden = { __metatable = false }
    assert.equal(Point, getmetatable(cross(setmetatable({}, Point))))
    assert.equal(hidden, debug.getmetatable(cross(setmetatable({}, hidden))))
  end)

  it("an object that a worker made has the caller's own class", function()
    local Base = class("Base")
    local Point = class("Point", Base)
    function Point.new(x)
      return setmetatable({ x = x }, Point)
    end
    local made, nested = parallel.map(function(x)
      return Point.new(x), { list = { Point.new(-x), setmetatable({}, Base) } }
    end, { 1, 2, 3 }, with({ chunk = 1 }))
    for i = 1, 3 do
      assert.equal(Point, getmetatable(made[i]))
      assert.equal(i, made[i].x)
      assert.equal(Point, getmetatable(nested[i].list[1]))
      assert.equal(Base, getmetatable(nested[i].list[2]))
    end
  end)

  it("a class that came with one item is known when another worker's result has it", function()
    local Point = class("Point")
    local items = {}
    for i = 1, 20 do
      items[i] = i == 7 and setmetatable({ i }, Point) or { i }
    end
    local list = parallel.map(function(item)
      return item
    end, items, with({ chunk = 1 }))
    for i = 1, 20 do
      assert.equal(i == 7 and Point or nil, getmetatable(list[i]))
    end
  end)

  it("a class that a worker made comes back once for each result", function()
    local list = parallel.map(function(name)
      local Class = { __name = name }
      return { setmetatable({}, Class), setmetatable({}, Class) }
    end, { "a", "b" }, with())
    assert.equal(getmetatable(list[1][1]), getmetatable(list[1][2]))
    assert.equal("a", getmetatable(list[1][1]).__name)
    assert.equal("b", getmetatable(list[2][1]).__name)
  end)

  it("a class that changed between two calls is sent again", function()
    local Point = class("Point")
    local function name(point)
      return point:name()
    end
    for _, text in ipairs({ "one", "two" }) do
      function Point.name()
        return text
      end
      assert.same({ text, n = 1 }, parallel.map(name, { setmetatable({}, Point) }, with()))
    end
  end)

  it("what a worker changes in a class stays there", function()
    local Point = class("Point")
    Point.made = 0
    local list = parallel.map(function(point)
      getmetatable(point).made = 99
      return point
    end, { setmetatable({}, Point) }, with())
    assert.equal(0, Point.made)
    assert.equal(Point, getmetatable(list[1]))
  end)

  it("a finalizer runs once for each object, where the object is", function()
    if jit then
      return -- there __gc is nothing to tables
    end
    local finalized = 0
    local Handle = { __name = "Handle" }
    Handle.__gc = function(self)
      if self.closed then
        error("closed twice")
      end
      self.closed = true
      finalized = finalized + 1
    end
    do
      local handle = setmetatable({ id = 1 }, Handle)
      local copy = parallel.map(function(h)
        return h
      end, { handle }, with())[1]
      assert.equal(Handle, getmetatable(copy))
      assert.is_nil(copy.closed)
    end
    collectgarbage()
    collectgarbage()
    assert.equal(2, finalized)
  end)
end)

describe("codec.encode", function()
  it("takes a metatable for a value: one with functions needs to be allowed them", function()
    local object = setmetatable({ 1 }, { __index = function() end })
    assert.is_false(pcall(codec.encode, object))
    assert.equal("string", type(codec.encode(object, { functions = true })))
    local plain = codec.decode(codec.encode(setmetatable({ 1 }, { __name = "plain" })))
    assert.equal("plain", getmetatable(plain).__name)
  end)
end)
