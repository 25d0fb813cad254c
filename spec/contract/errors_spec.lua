-- SPDX-License-Identifier: MIT
--
-- What happens to a call when its items fail, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local gates = require("spec.support.gates")
local here = require("spec.support.here")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

local function fail_at_threes(i)
  if i % 3 == 0 then
    error("item " .. i .. " is bad", 0)
  end
  return i * 10
end

backends.each_size(function(with)
  it("raises the error of the lowest index that failed, with its kind, index and worker", function()
    for _, chunk in ipairs({ 1, 2, 50, "auto", "guided" }) do
      for _, verb in ipairs({ "map", "each", "filter" }) do
        local e = caught(parallel[verb], fail_at_threes, parallel.range(1, 20), with({ chunk = chunk }))
        assert.equal(parallel.Error, getmetatable(e))
        assert.equal("error", e.kind)
        assert.equal("item 3 is bad", e.message)
        assert.equal("item 3 is bad", e.value)
        assert.equal(3, e.index)
        assert.is_true(e.worker >= 1 and e.worker <= with().workers)
      end
    end
  end)

  it("finishes the other items before it raises, when asked to", function()
    local path = journal.new()
    local e = caught(
      parallel.map,
      function(i)
        journal.add(path, i)
        return fail_at_threes(i)
      end,
      parallel.range(1, 20),
      with({ errors = "finish", chunk = 3 })
    )
    local count = #journal.lines(path)
    journal.remove(path)
    assert.equal(3, e.index)
    assert.equal(20, count)
  end)

  it("collects errors beside the results of the others, when asked to", function()
    for _, chunk in ipairs({ 1, 4, 100, "auto" }) do
      local list = parallel.map(fail_at_threes, parallel.range(1, 7), with({ errors = "collect", chunk = chunk }))
      local errors = list.errors
      list.errors = nil
      assert.same({ 10, 20, nil, 40, 50, nil, 70, n = 7 }, list)
      local indices = {}
      for i, e in pairs(errors) do
        indices[#indices + 1] = i
        assert.equal(parallel.Error, getmetatable(e))
        assert.equal(i, e.index)
        assert.equal("error", e.kind)
        assert.equal(("item %d is bad"):format(i), e.message)
      end
      table.sort(indices)
      assert.same({ 3, 6 }, indices)
    end
  end)

  it("collects nothing where nothing failed", function()
    local list = parallel.map(fail_at_threes, { 1, 2, 4 }, with({ errors = "collect" }))
    assert.same({ 10, 20, 40, n = 3 }, list)
    local kept = parallel.filter(fail_at_threes, { 1, 2, 4 }, with({ errors = "collect" }))
    assert.same({ 1, 2, 4, n = 3 }, kept)
  end)

  it("collects from each, filter, imap and imap_unordered", function()
    local options = with({ errors = "collect", chunk = 2 })

    local succeeded, errors = parallel.each(fail_at_threes, parallel.range(1, 7), options)
    assert.equal(5, succeeded)
    assert.equal("item 3 is bad", errors[3].message)
    assert.equal("item 6 is bad", errors[6].message)
    assert.is_nil(errors[1])

    local kept = parallel.filter(fail_at_threes, parallel.range(1, 4), options)
    assert.equal(3, kept.errors[3].index)
    kept.errors = nil
    assert.same({ 1, 2, 4, n = 3 }, kept)

    for _, verb in ipairs({ "imap", "imap_unordered" }) do
      local seen = {}
      for i, value, e in parallel[verb](fail_at_threes, parallel.range(1, 4), options) do
        seen[i] = value or e.message
        assert.equal(value == nil and i or nil, e and e.index)
      end
      assert.same({ 10, 20, "item 3 is bad", 40 }, seen)
    end
  end)

  it("imap raises an item's error when its turn comes", function()
    local seen = {}
    local e = caught(function()
      for i, value in parallel.imap(fail_at_threes, parallel.range(1, 9), with({ chunk = 2 })) do
        seen[i] = value
      end
    end)
    assert.same({ 10, 20 }, seen)
    assert.equal(3, e.index)
    assert.equal("item 3 is bad", e.message)
  end)

  it("imap_unordered raises the error of an item that failed", function()
    local e = caught(function()
      for _ in parallel.imap_unordered(fail_at_threes, { 3, 1, 1 }, with({ chunk = 1 })) do
      end
    end)
    assert.equal(1, e.index)
    assert.equal("item 3 is bad", e.message)
  end)

  it("goes on with the next call after any number of failures", function()
    for _ = 1, backends.rounds(20) do
      assert.equal(1, caught(parallel.map, error, { "bad", "bad" }, with()).index)
      assert.same({ 10, 20, n = 2 }, parallel.map(fail_at_threes, { 1, 2 }, with()))
    end
  end)
end, backends.all)

backends.each_size(function(with, backend)
  describe("with one worker", function()
    it("begins no new item after one that failed", function()
      for _, chunk in ipairs({ 1, 3, 10 }) do
        local path = journal.new()
        local e = caught(
          parallel.map,
          function(i)
            journal.add(path, i)
            return fail_at_threes(i)
          end,
          parallel.range(1, 10),
          with({ workers = 1, chunk = chunk })
        )
        local begun = journal.lines(path)
        journal.remove(path)
        assert.equal(3, e.index)
        assert.same({ "1", "2", "3" }, begun)
      end
    end)

    it("takes 100 good items after 100 bad ones", function()
      local list = parallel.map(
        function(i)
          if i <= 100 then
            error("too small")
          end
          return i
        end,
        parallel.range(1, 200),
        with({ workers = 1, errors = "collect", chunk = 1 })
      )
      for i = 1, 100 do
        assert.is_nil(list[i])
        assert.equal(i, list.errors[i].index)
        assert.equal(100 + i, list[100 + i])
        assert.is_nil(list.errors[100 + i])
      end
    end)
  end)

  it("carries the value that error was called with", function()
    local Problem = { __name = "Problem" }
    Problem.__index = Problem
    local raised = { code = 7, parts = { "a", "b" } }
    raised.itself = raised
    local e = caught(parallel.map, function()
      error(setmetatable(raised, Problem))
    end, { 1 }, with())
    assert.equal(7, e.value.code)
    assert.same({ "a", "b" }, e.value.parts)
    assert.equal(e.value, e.value.itself)
    assert.equal(Problem, getmetatable(e.value))
  end)

  it("carries no value that cannot be sent, and tells of the error all the same", function()
    local function raise(kind)
      if kind == "file" then
        error({ why = "file", file = io.tmpfile() })
      elseif kind == "coroutine" then
        error(coroutine.create(print))
      end
      error(nil)
    end
    for _, kind in ipairs({ "file", "coroutine", "nil" }) do
      local e = caught(parallel.map, raise, { kind }, with())
      assert.equal("error", e.kind)
      assert.equal(1, e.index)
      assert.is_nil(e.value)
      assert.equal("string", type(e.message))
      assert.is_truthy(tostring(e):find(e.message, 1, true))
    end
  end)

  it("carries numbers and booleans as values", function()
    assert.is_false(caught(parallel.map, error, { false }, with()).value)
    local e = caught(parallel.map, function()
      error(42, 0)
    end, { 1 }, with())
    assert.equal(42, e.value)
    assert.equal("42", e.message)
  end)

  it("makes messages as the stock interpreter does", function()
    local Speaking = { __tostring = function(self)
      return "I am " .. self.name
    end }
    local e = caught(parallel.map, function(name)
      error(setmetatable({ name = name }, Speaking))
    end, { "Problem" }, with())
    assert.equal("I am Problem", e.message)
    assert.equal("Problem", e.value.name)

    -- What each of them prints for an error that it has no words for.
    local speechless = jit and "(error object is not a string)" or "(error object is a table value)"
    assert.equal(speechless, caught(parallel.map, error, { {} }, with()).message)

    local place = here(2)
    e = caught(parallel.map, function(x)
      return x.y.z
    end, { {} }, with())
    assert.equal(place .. ": attempt to index field 'y' (a nil value)", (e.message:gsub("a nil value %(field 'y'%)",
      "field 'y' (a nil value)")))
  end)

  it("tells where in the worker it went wrong, then where the call was", function()
    local inner = here(2)
    local function deep(x)
      error("too deep: " .. x)
    end
    local outer = here(2)
    local e = caught(parallel.map, function(x)
      deep(x)
      return x
    end, { "a" }, with())
    local call = here(-4)
    assert.equal(inner .. ": too deep: a", e.message)
    local at_inner = e.traceback:find(inner .. ":", 1, true)
    local at_outer = e.traceback:find(outer .. ":", 1, true)
    local at_call = e.traceback:find(call .. ":", 1, true)
    assert.is_truthy(at_inner and at_outer and at_call, e.traceback)
    assert.is_true(at_inner < at_outer and at_outer < at_call, e.traceback)
    local text = tostring(e)
    assert.is_truthy(text:find(e.message, 1, true))
    assert.is_truthy(text:find(e.traceback, 1, true))
  end)

  it("catches errors of an item's own pcall there", function()
    assert.same({ "caught: oops", n = 1 }, parallel.map(function(message)
      local _, raised = pcall(error, message, 0)
      return "caught: " .. raised
    end, { "oops" }, with()))
  end)

  it("survives an item that fills the stack", function()
    local e = caught(parallel.map, function(x)
      local function down(depth)
        return 1 + down(depth + 1)
      end
      return down(x)
    end, { 1 }, with())
    assert.equal("error", e.kind)
    assert.is_truthy(e.message:find("stack overflow", 1, true), e.message)
    assert.same({ 2, n = 1 }, parallel.map(math.sqrt, { 4 }, with()))
  end)

  it("fails an item alone whose result cannot be sent", function()
    local list = parallel.map(
      function(i)
        if i == 2 then
          return { conn = io.tmpfile() }
        end
        return i
      end,
      { 1, 2, 3, 4 },
      with({ errors = "collect", chunk = 4 })
    )
    local e = list.errors[2]
    list.errors = nil
    assert.same({ 1, nil, 3, 4, n = 4 }, list)
    assert.equal("encode", e.kind)
    assert.equal(2, e.index)
    assert.is_truthy(e.message:find("cannot send result.conn (a file handle)", 1, true), e.message)
  end)

  if backend ~= "fork" then
    it("keeps its workers through results that cannot be sent", function()
      local pool = parallel.pool({ backend = backend, workers = 1 })
      local before = pool:apply(processes.own)
      for _ = 1, 20 do
        local e = caught(pool.map, pool, coroutine.create, { print })
        assert.equal("encode", e.kind)
        assert.equal(1, e.index)
      end
      assert.equal(before, pool:apply(processes.own))
      pool:close()
      pool:join()
    end)
  end

  it("carries an error of a nested call as the value of the outer one", function()
    local e = caught(parallel.map, function(x)
      return parallel.map(function(y)
        error("inner " .. y, 0)
      end, { x })
    end, { "a" }, with())
    assert.equal("error", e.kind)
    assert.equal(1, e.index)
    assert.equal(parallel.Error, getmetatable(e.value))
    assert.equal("error", e.value.kind)
    assert.equal("inner a", e.value.message)
    assert.equal("inner a", e.value.value)
  end)
end, backends.all)

backends.each(function(with)
  it("waits for the items that have begun before it raises", function()
    local path, second_began = journal.new(), gates.new()
    local e = caught(
      parallel.map,
      function(i)
        if i == 1 then
          gates.await(second_began)
          error("first", 0)
        end
        gates.open(second_began)
        journal.add(path, "second ended")
        return i
      end,
      { 1, 2 },
      with({ chunk = 1 })
    )
    local lines = journal.lines(path)
    journal.remove(path)
    gates.remove(second_began)
    assert.equal("first", e.message)
    assert.same({ "second ended" }, lines)
  end)

  it("raises the lowest index though a higher one failed before it", function()
    local second_failed = gates.new()
    local e = caught(
      parallel.map,
      function(i)
        if i == 1 then
          gates.await(second_failed)
          error("first", 0)
        end
        gates.open(second_failed)
        error("second", 0)
      end,
      { 1, 2 },
      with({ chunk = 1 })
    )
    gates.remove(second_failed)
    assert.equal(1, e.index)
    assert.equal("first", e.message)
  end)
end, backends.concurrent)

backends.each(function(with)
  it("an error of a C function tells no line of ours", function()
    local function assert_plain(message)
      assert.equal("string", type(message))
      assert.is_nil(message:find("lumap]", 1, true), message)
    end
    local into = parallel.buffer("double", 1)
    local errors = {
      caught(parallel.map, math.sqrt, { "x" }, with()),
      caught(parallel.each, math.sqrt, { "x" }, with()),
      caught(parallel.filter, math.sqrt, { "x" }, with()),
      caught(parallel.map, math.sqrt, { "x" }, with({ into = into })),
      caught(parallel.starmap, math.max, { { n = "x" } }, with()),
      caught(parallel.map, string.rep, parallel.range(1, 2), with()),
      caught(parallel.reduce, math.fmod, { "x", "y" }, with()),
      caught(parallel.mapreduce, math.sqrt, math.max, { "x" }, with()),
      caught(parallel.map, parallel.sleep, { "x" }, with()),
      caught(parallel.map, math.sqrt, { 1 }, with({ workers = 1, init = math.sqrt })),
    }
    for _, e in ipairs(errors) do
      assert_plain(e.message)
      assert.equal(e.message, e.value)
    end
    if with().backend ~= "fork" then
      local pool = parallel.pool(with())
      assert_plain(caught(pool.apply, pool, math.sqrt, "x").message)
      pool:close()
      pool:join()
    end
    assert_plain(caught(parallel.map, print, math.sqrt, with()))
  end)

  it("an item out of memory that may be run again tells no line of ours", function()
    local e = caught(parallel.map, function()
      local list = {}
      while #list >= 0 do
        list[#list + 1] = {}
      end
    end, { 1 }, with({ memory_limit = 50000000, retries = 1 }))
    assert.equal("memory", e.kind)
    assert.is_nil(e.message:find("lumap]", 1, true), e.message)
  end)
end, backends.all)
