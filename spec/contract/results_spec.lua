-- SPDX-License-Identifier: MIT
--
-- The verbs of a parallel call give what a plain loop would, in its order, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local gates = require("spec.support.gates")
local journal = require("spec.support.journal")
local parallel = require("parallel")

local function square(x)
  return x * x
end

--- 1 to n, through a function that gives one more at each call.
local function counting(n)
  local i = 0
  return function()
    if i < n then
      i = i + 1
      return i
    end
  end
end

--- What a plain loop over 1 to n makes of fn.
local function expected(fn, n)
  local list = { n = n }
  for i = 1, n do
    list[i] = fn(i)
  end
  return list
end

backends.each_size(function(with, backend, workers)
  describe("map", function()
    it("gives the results in the order of the items", function()
      for _, n in ipairs({ 1, 2, 12, 13, 14, 100, 1000 }) do
        local items = expected(function(i)
          return i
        end, n)
        assert.same(expected(square, n), parallel.map(square, items, with()))
        assert.same(expected(square, n), parallel.map(square, parallel.range(1, n), with()))
        assert.same(expected(square, n), parallel.map(square, counting(n), with()))
      end
    end)

    it("gives the same for every chunk", function()
      local n = 60
      for _, chunk in ipairs({ 1, 7, 12, 60, 1000, "auto", "guided" }) do
        assert.same(expected(square, n), parallel.map(square, parallel.range(1, n), with({ chunk = chunk })))
        assert.same(expected(square, n), parallel.map(square, counting(n), with({ chunk = chunk })))
      end
    end)

    it("keeps nil results, false ones and several in their places", function()
      local function pick(i)
        if i % 4 == 0 then
          return
        elseif i % 4 == 1 then
          return nil, "no " .. i
        elseif i % 4 == 2 then
          return false
        end
        return i, nil, {}
      end
      local first, second, third, fourth = parallel.map(pick, parallel.range(1, 8), with({ chunk = 3 }))
      assert.same({ [2] = false, [3] = 3, [6] = false, [7] = 7, n = 8 }, first)
      assert.same({ [1] = "no 1", [5] = "no 5", n = 8 }, second)
      assert.same({ [3] = {}, [7] = {}, n = 8 }, third)
      assert.is_nil(fourth)
    end)

    it("keeps nested and empty tables", function()
      local function nest(i)
        return { {}, { i, { {} } } }
      end
      assert.same(expected(nest, 9), parallel.map(nest, parallel.range(1, 9), with()))
    end)

    it("gives one list when no item gave a value", function()
      local lists = { parallel.map(function() end, { 1, 2, 3 }, with()) }
      assert.same({ { n = 3 } }, lists)
    end)

    it("takes holes in the list of items as nil", function()
      local function kind(item)
        return type(item)
      end
      assert.same(
        { "nil", "number", "nil", "boolean", "nil", n = 5 },
        parallel.map(kind, { nil, 2, nil, true, nil, n = 5 }, with({ chunk = 2 }))
      )
    end)

    it("passes the item and nothing else", function()
      assert.same({ 1, 1, n = 2 }, parallel.map(function(...)
        return select("#", ...)
      end, { "a", "b" }, with()))
      assert.same({ 12, 255, n = 2 }, parallel.map(tonumber, { "12", "0xff" }, with()))
    end)

    it("passes all values of a source that is a function", function()
      local i = 0
      local function source()
        i = i + 1
        if i <= 5 then
          return i, nil, i * 10
        end
      end
      local counts, sums = parallel.map(function(...)
        local a, b, c = ...
        return select("#", ...), b == nil and a + c
      end, source, with({ chunk = 2 }))
      assert.same({ 3, 3, 3, 3, 3, n = 5 }, counts)
      assert.same({ 11, 22, 33, 44, 55, n = 5 }, sums)
    end)
  end)

  describe("imap", function()
    it("yields the results in the order of the items", function()
      local seen = { n = 0 }
      for i, value, more in
        parallel.imap(function(x)
          return x * x, -x
        end, counting(50), with({ chunk = 3 }))
      do
        seen.n = seen.n + 1
        assert.equal(seen.n, i)
        assert.equal(-i, more)
        seen[i] = value
      end
      assert.same(expected(square, 50), seen)
    end)

    it("yields items that have nil as result", function()
      local seen = {}
      for i, value in
        parallel.imap(function(x)
          if x > 1 then
            return x
          end
        end, { 1, 2, 0, 4 }, with())
      do
        seen[#seen + 1] = { i, value }
      end
      assert.same({ { 1, nil }, { 2, 2 }, { 3, nil }, { 4, 4 } }, seen)
    end)
  end)

  describe("imap_unordered", function()
    it("yields each item once, with its index", function()
      local seen = { n = 0 }
      for i, value in parallel.imap_unordered(square, parallel.range(1, 50), with({ chunk = 3 })) do
        assert.is_nil(seen[i])
        seen.n = seen.n + 1
        seen[i] = value
      end
      assert.same(expected(square, 50), seen)
    end)
  end)

  describe("each", function()
    it("runs each item once and gives their number", function()
      local path = journal.new()
      local count, more = parallel.each(function(i)
        journal.add(path, i)
        return i
      end, parallel.range(1, 20), with({ chunk = 3 }))
      local lines = journal.lines(path)
      journal.remove(path)
      table.sort(lines, function(a, b)
        return tonumber(a) < tonumber(b)
      end)
      assert.equal(20, count)
      assert.is_nil(more)
      assert.equal("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", table.concat(lines, " "))
    end)
  end)

  describe("filter", function()
    it("keeps the items for which the function gave a true value, in order", function()
      local function is_odd(i)
        return i % 2 == 1 and "yes" or nil, true
      end
      assert.same({ 1, 3, 5, 7, 9, n = 5 }, parallel.filter(is_odd, parallel.range(1, 10), with({ chunk = 3 })))
      assert.same({ 1, 3, 5, n = 3 }, parallel.filter(is_odd, counting(6), with()))
      assert.same({ n = 0 }, parallel.filter(is_odd, { 2, 4 }, with()))
    end)

    it("keeps the first value of each item", function()
      local words = ("a=1 b=2 c=3"):gmatch("(%w)=(%w)")
      assert.same({ "a", "c", n = 2 }, parallel.filter(function(_, value)
        return value ~= "2"
      end, words, with()))
    end)

    it("keeps nil items as it keeps others", function()
      local function is_no_number(item)
        return type(item) ~= "number"
      end
      assert.same({ nil, "x", nil, n = 3 }, parallel.filter(is_no_number, { 1, nil, "x", 2, nil, n = 5 }, with()))
    end)
  end)

  describe("starmap", function()
    it("spreads each item over the parameters", function()
      local function join(...)
        local parts = {}
        for i = 1, select("#", ...) do
          parts[i] = tostring((select(i, ...)))
        end
        return table.concat(parts, ",")
      end
      local lists = { { 1, 2 }, {}, { "a", nil, "c", n = 3 }, { nil, nil, n = 2 }, { 1, 2, 3, n = 1 } }
      local joined = { "1,2", "", "a,nil,c", "nil,nil", "1", n = 5 }
      assert.same(joined, parallel.starmap(join, lists, with({ chunk = 2 })))

      local given = 0
      local function give()
        given = given + 1
        return lists[given], "no argument"
      end
      assert.same(joined, parallel.starmap(join, give, with({ chunk = 2 })))
    end)

    it("spreads what a source gives into a buffer, over many chunks", function()
      local given, sums = 0, parallel.buffer("double", 1000)
      parallel.starmap(math.max, function()
        given = given + 1
        return given <= 1000 and { given, given / 2 } or nil
      end, with({ into = sums }))
      for i = 1, 1000 do
        assert.equal(i, sums[i])
      end
    end)

    it("fails an item that is no list of arguments, and names it", function()
      local function assert_refused(items, kind)
        local results = parallel.starmap(math.max, items, with({ errors = "collect" }))
        assert.equal(3, results.n)
        local e = results.errors[2]
        assert.same({ "error", 2 }, { e.kind, e.index })
        assert.equal("item 2 of starmap is not a list of arguments but a " .. kind, e.message)
      end
      assert_refused({ { 1 }, "two", { 3 } }, "string")
      assert_refused(parallel.range(1, 3), "number")
      local given = 0
      assert_refused(function()
        given = given + 1
        return ({ { 1 }, "two", { 3 } })[given]
      end, "string")
      given = 0
      assert_refused(function()
        given = given + 1
        return ({ 1, 2, 3 })[given]
      end, "number")
    end)
  end)

  describe("each verb", function()
    it("returns at once when there are no items", function()
      local function never()
        error("there is no item to run")
      end
      local empties = {
        list = function()
          return {}
        end,
        ["list with n"] = function()
          return { 1, 2, n = 0 }
        end,
        range = function()
          return parallel.range(1, 0)
        end,
        iterator = function()
          return function() end
        end,
      }
      for kind, empty in pairs(empties) do
        assert.same({ { n = 0 } }, { parallel.map(never, empty(), with()) }, kind)
        assert.same({ { n = 0 } }, { parallel.starmap(never, empty(), with()) }, kind)
        assert.same({ { n = 0 } }, { parallel.filter(never, empty(), with()) }, kind)
        assert.same({ 0 }, { parallel.each(never, empty(), with()) }, kind)
        assert.is_nil((parallel.imap(never, empty(), with())()), kind)
        assert.is_nil((parallel.imap_unordered(never, empty(), with())()), kind)
      end
    end)

    it("runs C functions and callable tables", function()
      local Adder = { __call = function(self, x)
        return self.by + x
      end }
      local add = setmetatable({ by = 10 }, Adder)
      assert.same({ 1, 2, 3, n = 3 }, parallel.map(math.sqrt, { 1, 4, 9 }, with()))
      assert.same({ "A", "B", n = 2 }, parallel.map(string.upper, { "a", "b" }, with()))
      assert.same({ 11, 12, n = 2 }, parallel.map(add, { 1, 2 }, with()))
      assert.same({ 7, 9, n = 2 }, parallel.starmap(math.max, { { 7, 1 }, { 3, 9 } }, with()))
      assert.same({ 1, 2, n = 2 }, parallel.filter(add, { 1, 2 }, with()))
    end)
  end)

  it("tells each item its index, and which worker runs it", function()
    local indices, numbers = parallel.map(function()
      return parallel.index(), parallel.worker()
    end, parallel.range(101, 140), with({ chunk = 3 }))
    for i = 1, 40 do
      assert.equal(i, indices[i])
      assert.is_true(numbers[i] >= 1 and numbers[i] <= workers, "worker " .. tostring(numbers[i]))
      assert.equal(numbers[i], math.floor(numbers[i]))
    end
    assert.is_nil(parallel.index())
    assert.is_nil(parallel.worker())
  end)

  it("puts small items through by the hundred thousand", function()
    local n = backend == "process" and 100000 or 200000
    local sum = 0
    local results = parallel.map(square, parallel.range(1, n), with())
    for i = 1, n do
      sum = sum + results[i] - i * i
    end
    assert.equal(0, sum)
    assert.equal(n, results.n)
    assert.equal(n, parallel.each(square, parallel.range(1, n), with({ chunk = 64 })))
  end)

  it("yields from an endless source for as long as it is asked", function()
    local pulled = 0
    local function forever()
      pulled = pulled + 1
      return pulled
    end
    for _, verb in ipairs({ "imap", "imap_unordered" }) do
      local seen = 0
      pulled = 0
      for i, value in parallel[verb](square, forever, with({ chunk = 4 })) do
        assert.equal(i * i, value)
        seen = seen + 1
        if seen == 100 then
          break
        end
      end
      assert.equal(100, seen)
    end
    local first = parallel.imap(square, parallel.range(1, 2 ^ 50), with())
    assert.same({ 1, 1 }, { first() })
    assert.same({ 2, 4 }, { first() })
    -- The workers that were busy for the iterators are free for others.
    assert.same({ 25, n = 1 }, parallel.map(square, { 5 }, with()))
  end)

  it("raises an error of the source as it is, and goes on with the next call", function()
    for _, chunk in ipairs({ 1, 2, 5, 100, "auto", "guided" }) do
      for _, last in ipairs({ 0, 1, 4, 5, 6 }) do
        local i = 0
        local reason = { "the source is dry" }
        local function source()
          if i == last then
            error(reason)
          end
          i = i + 1
          return i
        end
        for _, verb in ipairs({ "map", "each", "filter" }) do
          i = 0
          local ok, raised = pcall(parallel[verb], square, source, with({ chunk = chunk }))
          assert.is_false(ok)
          assert.is_true(rawequal(reason, raised), verb)
        end
        for _, verb in ipairs({ "imap", "imap_unordered" }) do
          i = 0
          local ok, raised = pcall(function()
            for _ in parallel[verb](square, source, with({ chunk = chunk })) do
            end
          end)
          assert.is_false(ok)
          assert.is_true(rawequal(reason, raised), verb)
        end
        assert.same({ 1, 4, 9, n = 3 }, parallel.map(square, { 1, 2, 3 }, with({ chunk = chunk })))
      end
    end
  end)
end, backends.all)

backends.each(function(with, backend)
  it("runs a million items through two workers, one message for few of them", function()
    local million = backends.rounds(1000000)
    local n = million
    local lengths = 0
    for _, length in parallel.imap(string.len, function()
      n = n - 1
      return n >= 0 and "x" or nil
    end, with({ chunk = 50 })) do
      lengths = lengths + length
    end
    assert.equal(million, lengths)
  end)

  if backend ~= "fork" then
    it("runs 1,000 items on 200 workers", function()
      local pool = parallel.pool({ backend = backend, workers = 200 })
      assert.same(expected(square, 1000), pool:map(square, parallel.range(1, 1000)))
      pool:close()
      pool:join()
    end)
  end
end, backends.all)

backends.each_size(function(with)
  it("imap_unordered yields what is done while an earlier item still runs", function()
    local last_is_seen = gates.new()
    local order = {}
    local function hold_first(i)
      if i == 1 then
        gates.await(last_is_seen)
      end
      return i
    end
    for i in parallel.imap_unordered(hold_first, parallel.range(1, 6), with({ chunk = 1 })) do
      order[#order + 1] = i
      if #order == 5 then
        gates.open(last_is_seen)
      end
    end
    gates.remove(last_is_seen)
    assert.equal(1, order[6])
    table.sort(order)
    assert.same({ 1, 2, 3, 4, 5, 6 }, order)
  end)

  it("imap yields the first result while the next item still runs", function()
    local first_is_seen = gates.new()
    local values = {}
    local function hold_second(i)
      if i == 2 then
        gates.await(first_is_seen)
      end
      return i
    end
    for i, value in parallel.imap(hold_second, { 1, 2 }, with({ chunk = 1 })) do
      values[i] = value
      if i == 1 then
        gates.open(first_is_seen)
      end
    end
    gates.remove(first_is_seen)
    assert.same({ 1, 2 }, values)
  end)
end, backends.concurrent, { 2, 5, 13 })
