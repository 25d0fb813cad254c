-- SPDX-License-Identifier: MIT
--
-- Lists of numbers, which take a short cut from 64 items on: with it and without, they are the same.

local it, assert = it, assert
require("spec.support.globals")()

local codec = require("codec")
local crossings = require("spec.support.crossings")
local parallel = require("parallel")

local number_type = math.type or function()
  return "number"
end

local function assert_same_numbers(expected, list)
  local keys = 0
  for key, value in next, expected do
    keys = keys + 1
    local result = rawget(list, key)
    local is_same = value == result or value ~= value and result ~= result
    if not is_same or number_type(value) ~= number_type(result) then
      error(("at %s: %s became %s"):format(tostring(key), tostring(value), tostring(result)))
    end
    if value == 0 and 1 / value ~= 1 / result then
      error(("at %s: the zero changed its sign"):format(tostring(key)))
    end
  end
  for _ in next, list do
    keys = keys - 1
  end
  assert.equal(0, keys)
  assert.equal(#expected, #list)
end

--- On 5.4 the integer of that value.
local function integer(x)
  return math.tointeger and math.tointeger(x) or x
end

local sizes = { 1, 2, 62, 63, 64, 65, 66, 127, 128, 1000, 4097 }

local makers = {
  ["small integers"] = function(i)
    return i % 100
  end,
  ["large integers"] = function(i)
    return integer(2 ^ 40 * (i - 50))
  end,
  ["fractions"] = function(i)
    return i / 3
  end,
  ["floats without fractions"] = function(i)
    return i * 1.0
  end,
  ["integers and fractions"] = function(i)
    return i % 2 == 0 and i or i + 0.5
  end,
  ["zeros of both signs"] = function(i)
    return i % 2 == 0 and 0.0 or -0.0
  end,
  ["infinities and not-a-numbers"] = function(i)
    return ({ 1 / 0, -1 / 0, 0 / 0, 1.5 })[i % 4 + 1]
  end,
  ["integers up to 2^53"] = function(i)
    return integer(2 ^ 53 - i)
  end,
}
if math.type then
  makers["the ends of the integers"] = function(i)
    return i % 2 == 0 and math.maxinteger - i or math.mininteger + i
  end
  makers["integers, and one float at the end"] = function(i)
    return (i == 64 or i == 1000) and i + 0.0 or i
  end
end

local function list_of(make, size)
  local list = {}
  for i = 1, size do
    list[i] = make(i)
  end
  return list
end

local FLOATS, MIXED = 1, 3

it("of floats are told from those with an integer among them, wherever that is", function()
  local kinds = { [integer(7)] = MIXED, [integer(-2 ^ 51)] = MIXED, [integer(2 ^ 52 + 1)] = MIXED }
  kinds[integer(2 ^ 51 - 1)] = MIXED
  for _, float in ipairs({ 2 ^ 51 - 0.5, -2 ^ 51 + 0.25, 1e300, 5e-324, 1 / 0, -1 / 0 }) do
    kinds[float] = FLOATS
  end
  for other, kind in pairs(kinds) do
    for _, size in ipairs({ 64, 65, 511, 512, 513, 514, 1024, 1025 }) do
      for _, at in ipairs({ 1, 2, 3, math.floor(size / 2), size - 1, size }) do
        local list = list_of(makers.fractions, size)
        for i = 3, size, 3 do
          list[i] = list[i] + 0.5
        end
        list[at] = other
        local message = codec.encode(list)
        assert.equal(kind, message:byte(3), ("%s at %d of %d"):format(other, at, size))
        assert_same_numbers(list, codec.decode(message))
      end
    end
  end
end)

crossings.each(function(cross)
  for name, make in pairs(makers) do
    it("of " .. name, function()
      for _, size in ipairs(sizes) do
        local list = list_of(make, size)
        assert_same_numbers(list, cross(list))
      end
    end)
  end

  it("with holes, fields, keys below 1 or a metatable beside", function()
    for _, size in ipairs(sizes) do
      local function with(change)
        local list = list_of(makers.fractions, size)
        local more = change(list)
        local result = cross(list)
        assert.same(list, result)
        return result, more
      end
      with(function(list)
        list.name = "list"
      end)
      with(function(list)
        list[0], list[-1], list[1.5] = 10, 11, 12
      end)
      with(function(list)
        list[size + 2] = 5
      end)
      if size > 2 then
        with(function(list)
          list[2] = nil
        end)
        with(function(list)
          list[size - 1] = nil
        end)
        with(function(list)
          list[1] = nil
        end)
      end
      local result = with(function(list)
        setmetatable(list, { __name = "Vector" })
      end)
      assert.equal("Vector", getmetatable(result).__name)
      result = with(function(list)
        list.itself = list
      end)
      assert.equal(result, result.itself)
    end
  end)

  it("with one item that is no number", function()
    for _, other in ipairs({ "7", true, false, {} }) do
      for _, at in ipairs({ 1, 2, 63, 64, 65, 99, 100 }) do
        local list = list_of(makers.fractions, 100)
        list[at] = other
        local result = cross(list)
        assert.same(list, result)
        assert.equal(type(other), type(result[at]))
      end
    end
  end)

  it("among other values, shared and as keys", function()
    local list = list_of(makers.fractions, 200)
    local result = cross({ list, { list }, [list] = "key", other = list_of(makers["small integers"], 70) })
    assert.same(list, result[1])
    assert.equal(result[1], result[2][1])
    assert.equal("key", result[result[1]])
    assert.equal(70, #result.other)
  end)

  it("that were longer once", function()
    local list = list_of(makers.fractions, 500)
    for i = 500, 1, -1 do
      list[i] = nil
      if i % 25 == 0 or i < 70 and i > 60 then
        assert_same_numbers(list, cross(list))
      end
    end
  end)

  it("that grew backwards, or as fields", function()
    local list = {}
    for i = 300, 1, -1 do
      list[i] = i / 2
    end
    assert_same_numbers(list, cross(list))
  end)
end)

crossings.each_map(function(_, with)
  it("as items and as results of a map", function()
    for name, make in pairs(makers) do
      for _, size in ipairs({ 1, 63, 64, 65, 1000 }) do
        for _, chunk in ipairs({ "auto", 1000, 64 }) do
          local items = list_of(make, size)
          local list = parallel.map(function(x)
            return x
          end, items, with({ chunk = chunk }))
          assert.equal(size, list.n, name)
          list.n = nil
          assert_same_numbers(items, list)
        end
      end
    end
  end)

  it("results that are numbers at first and something else later", function()
    for _, at in ipairs({ 1, 2, 500, 999, 1000 }) do
      local list, more = parallel.map(function(x)
        if x == at then
          return "text", x
        end
        return x
      end, parallel.range(1, 1000), with({ chunk = 1000 }))
      for i = 1, 1000 do
        assert.equal(i == at and "text" or i, list[i])
      end
      assert.same({ [at] = at, n = 1000 }, more)
      list = parallel.map(function(x)
        if x ~= at then
          return x
        end
      end, parallel.range(1, 1000), with({ chunk = 250 }))
      for i = 1, 1000 do
        assert.equal(i ~= at and i or nil, list[i])
      end
    end
  end)

  it("items that fail among numbers", function()
    local list = parallel.map(function(x)
      if x % 100 == 0 then
        error("a hundred")
      end
      return x / 2
    end, parallel.range(1, 1000), with({ errors = "collect" }))
    for i = 1, 1000 do
      if i % 100 == 0 then
        assert.is_nil(list[i])
        assert.equal(i, list.errors[i].index)
      else
        assert.equal(i / 2, list[i])
      end
    end
  end)
end)

it("packing makes messages smaller, not larger", function()
  assert.is_true(#codec.encode(list_of(makers.fractions, 1000)) < 1000 * 8 + 64)
end)
