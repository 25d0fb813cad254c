-- SPDX-License-Identifier: MIT
--
-- What items may be: lists, ranges, functions; and which items they make.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local options = { workers = 2, chunk = 3 }

local function identity(...)
  return ...
end

--- The items that a source makes, as a list with n.
local function items_of(source)
  return (parallel.map(identity, source, options))
end

--- math.type where there is one: "integer" and "float" are one on LuaJIT.
local number_type = math.type or function()
  return "number"
end

local function types_of(list)
  local types = {}
  for i = 1, list.n do
    types[i] = number_type(list[i])
  end
  return types
end

describe("a list", function()
  it("is as long as its n, if that is an integer", function()
    assert.same({ 1, 2, n = 2 }, items_of({ 1, 2, 3, 4, n = 2 }))
    assert.same({ 1, 2, nil, nil, n = 4 }, items_of({ 1, 2, n = 4 }))
    assert.same({ n = 0 }, items_of({ 1, 2, n = 0 }))
    assert.same({ n = 3 }, items_of({ n = 3 }))
    assert.same({ nil, "x", nil, n = 3 }, items_of({ nil, "x", n = 3 }))
  end)

  it("is as long as # says, if its n is something else", function()
    assert.same({ 1, 2, n = 2 }, items_of({ 1, 2, n = "7" }))
    assert.same({ 1, 2, n = 2 }, items_of({ 1, 2, n = 1.5 }))
    assert.same({ 1, 2, n = 2 }, items_of({ 1, 2, n = {} }))
  end)

  it("may have other fields, which are no items", function()
    assert.same({ 1, 2, n = 2 }, items_of({ 1, 2, name = "list", [0] = 0, [-1] = -1, [2.5] = 2.5, log = io.tmpfile() }))
  end)

  it("may hold anything that can cross, mixed", function()
    local list = items_of({ 1, "two", true, { 4 }, 5.5, false })
    assert.same({ 1, "two", true, { 4 }, 5.5, false, n = 6 }, list)
  end)

  it("is read as it was at the call, by imap too", function()
    local list = { 1, 2, 3, 4, 5, 6 }
    local next_result = parallel.imap(identity, list, { workers = 1, chunk = 6 })
    assert.same({ 1, 1 }, { next_result() })
    assert.same({ 2, 2 }, { next_result() })
  end)

  it("that is the result of a map is a list of items", function()
    local holes = parallel.map(function(x)
      if x ~= 2 then
        return x
      end
    end, { 1, 2, 3, 2 }, options)
    assert.same({ 1, nil, 3, nil, n = 4 }, holes)
    assert.same({ "number", "nil", "number", "nil", n = 4 }, parallel.map(function(x)
      return type(x)
    end, holes, options))
  end)
end)

describe("a range", function()
  local function assert_range(expected, ...)
    expected.n = #expected
    assert.same(expected, items_of(parallel.range(...)))
  end

  it("counts from the first to the last, both included", function()
    assert_range({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, 1, 10)
    assert_range({ 0 }, 0, 0)
    assert_range({ -2, -1, 0, 1, 2 }, -2, 2)
  end)

  it("goes by its step, in either direction", function()
    assert_range({ 1, 4, 7, 10 }, 1, 10, 3)
    assert_range({ 1, 4, 7 }, 1, 9, 3)
    assert_range({ 10, 7, 4, 1 }, 10, 1, -3)
    assert_range({ 3, 2, 1, 0, -1 }, 3, -1, -1)
    assert_range({ 5 }, 5, 5, -1)
    assert_range({ 5 }, 5, 6, 100)
  end)

  it("is empty when its last lies before its first", function()
    assert_range({}, 1, 0)
    assert_range({}, 5, 1)
    assert_range({}, 1, 5, -1)
  end)

  it("may have fractions, each item counted from the first so that no error adds up", function()
    assert_range({ 0, 0.25, 0.5, 0.75, 1 }, 0, 1, 0.25)
    local tenths = items_of(parallel.range(0, 1, 0.1))
    assert.equal(11, tenths.n)
    for i = 1, 11 do
      assert.equal((i - 1) * 0.1, tenths[i])
    end
    assert_range({ 1.5, 2.5, 3.5 }, 1.5, 4)
  end)

  it("keeps integers integers, and floats floats", function()
    if not math.type then
      return -- LuaJIT has one kind of number
    end
    assert.same({ "integer", "integer" }, types_of(items_of(parallel.range(1, 2))))
    assert.same({ "integer", "integer" }, types_of(items_of(parallel.range(4, 1, -2))))
    assert.same({ "float", "float" }, types_of(items_of(parallel.range(1.0, 2))))
    assert.same({ "float", "float" }, types_of(items_of(parallel.range(1, 2, 1.0))))
    assert.same({ "integer", "integer" }, types_of(items_of(parallel.range(1, 2.9))))
  end)

  it("reaches to the ends of the integers", function()
    if not math.type then
      return -- LuaJIT's numbers have none
    end
    local last = math.maxinteger
    assert.same({ last - 2, last - 1, last, n = 3 }, items_of(parallel.range(last - 2, last)))
    assert.same({ math.mininteger, -1, n = 2 }, items_of(parallel.range(math.mininteger, 0, last)))
    assert.same({ last, 0, -last, n = 3 }, items_of(parallel.range(last, math.mininteger, -last)))
  end)

  it("takes no memory for its items", function()
    local before = collectgarbage("count")
    local range = parallel.range(1, 2 ^ 50)
    local next_result = parallel.imap(identity, range, { workers = 1, chunk = 2 })
    assert.same({ 1, 1 }, { next_result() })
    assert.same({ 2, 2 }, { next_result() })
    assert.is_true(collectgarbage("count") - before < 10000)
  end)

  it("can be used again", function()
    local range = parallel.range(1, 4)
    assert.same({ 1, 2, 3, 4, n = 4 }, items_of(range))
    assert.same({ 1, 2, 3, 4, n = 4 }, items_of(range))
  end)

  it("is the items of every verb", function()
    assert.equal(7, parallel.each(identity, parallel.range(1, 7), options))
    assert.same({ 2, 4, n = 2 }, parallel.filter(function(x)
      return x % 2 == 0
    end, parallel.range(1, 5), options))
    local sum = 0
    for _, x in parallel.imap(identity, parallel.range(1, 100), options) do
      sum = sum + x
    end
    assert.equal(5050, sum)
  end)
end)

describe("a function", function()
  it("gives items until it gives nil, and is not asked again", function()
    local calls = 0
    local function source()
      calls = calls + 1
      if calls <= 10 then
        return calls
      elseif calls > 11 then
        error("asked again")
      end
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n = 10 }, items_of(source))
    assert.equal(11, calls)
  end)

  it("may give false as an item, and items of several values", function()
    local i = 0
    local first, second, third = parallel.map(identity, function()
      i = i + 1
      if i == 1 then
        return false, nil, "c"
      elseif i == 2 then
        return "a"
      end
    end, options)
    assert.same({ false, "a", n = 2 }, first)
    assert.same({ n = 2 }, second)
    assert.same({ "c", nil, n = 2 }, third)
  end)

  it("is called without arguments, by the caller's own thread of Lua", function()
    local main = coroutine.running()
    local counts, threads = {}, {}
    parallel.each(identity, function(...)
      counts[#counts + 1] = select("#", ...)
      threads[#threads + 1] = coroutine.running() == main
      if #counts < 5 then
        return #counts
      end
    end, options)
    assert.same({ 0, 0, 0, 0, 0 }, counts)
    assert.same({ true, true, true, true, true }, threads)
  end)

  it("may be the lines of a file, or the matches in a text", function()
    local path = os.tmpname()
    interpreter.write_file(path, "one\ntwo\n\nthree")
    local lengths = parallel.map(string.len, io.lines(path), options)
    os.remove(path)
    assert.same({ 3, 3, 0, 5, n = 4 }, lengths)

    local names, values = parallel.map(identity, ("a=1, b=2"):gmatch("(%w+)=(%w+)"), options)
    assert.same({ "a", "b", n = 2 }, names)
    assert.same({ "1", "2", n = 2 }, values)
  end)

  it("may be a table that can be called", function()
    local countdown = setmetatable({ 9, 9, 9, left = 3 }, {
      __call = function(self)
        if self.left > 0 then
          self.left = self.left - 1
          return self.left
        end
      end,
    })
    assert.same({ 2, 1, 0, n = 3 }, items_of(countdown))
    assert.equal(0, countdown.left)
  end)

  it("may be a coroutine's", function()
    assert.same({ 1, 4, 9, n = 3 }, items_of(coroutine.wrap(function()
      for i = 1, 3 do
        coroutine.yield(i * i)
      end
    end)))
  end)

  it("may make parallel calls itself", function()
    local i = 0
    assert.same({ 1, 4, 9, n = 3 }, items_of(function()
      i = i + 1
      if i <= 3 then
        return parallel.map(function(x)
          return x * x
        end, { i }, { workers = 2 })[1]
      end
    end))
  end)

  it("is not pulled before the first result of imap is asked for to the end", function()
    local pulled = 0
    local next_result = parallel.imap(identity, function()
      pulled = pulled + 1
      return pulled
    end, { workers = 1, chunk = 2 })
    assert.same({ 1, 1 }, { next_result() })
    assert.is_true(pulled <= 2 * 4 + 1, pulled .. " items were pulled for one")
  end)
end)
