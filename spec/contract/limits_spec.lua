-- SPDX-License-Identifier: MIT
--
-- Time limits of items and calls, retries, and workers that are replaced after so many items, on every back-end.

local describe, it, assert, before_each, after_each = describe, it, assert, before_each, after_each
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local census = require("spec.support.census")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")

-- Signals reach compiled loops only in functions that the sanitizer knows.
local stops_loops = interpreter.preset ~= "tsan"

-- Seconds. Long enough for the items that end, on a machine that has other things to do.
local LIMIT = 0.25

local function square(x)
  return x * x
end

--- Squares, but for item 3, which never ends. LuaJIT makes a jump to itself of the loop.
local function stuck_at_3(x)
  if x == 3 then
    while true do
    end
  end
  return x * x
end

local function assert_works(pool)
  local squares = pool:map(square, parallel.range(1, 40))
  for i = 1, 40 do
    assert.equal(i * i, squares[i])
  end
end

--- One pool for each test of the block, gone with all of its workers at the end of it.
local function around(with, name, body, more)
  describe(name, function()
    local pool, before
    before_each(function()
      parallel.map(square, { 1 }, with())
      before = census.snapshot()
      pool = backends.pool(with, more)
    end)
    after_each(function()
      pool:close()
      pool:join()
      pool = nil
      census.assert_flat(before)
    end)
    body(function()
      return pool
    end)
  end)
end

if stops_loops then
  backends.each_size(function(with, _, workers)
    around(with, "and time limits:", function(pool)
      it("an item that is over its time fails alone", function()
        local list = pool():map(stuck_at_3, parallel.range(1, 12), { timeout = LIMIT, errors = "collect" })
        for i = 1, 12 do
          assert.equal(i ~= 3 and i * i or nil, list[i])
        end
        local e = list.errors[3]
        assert.equal(parallel.Error, getmetatable(e))
        assert.same({ "timeout", 3, "number" }, { e.kind, e.index, type(e.worker) })
        assert.is_truthy(e.message:find(LIMIT .. " seconds", 1, true), e.message)
        list.errors[3] = nil
        assert.is_nil(next(list.errors))
        assert_works(pool())
      end)

      it("with 'stop' its error is raised, after the results before it where they are in order", function()
        local e = caught(pool().map, pool(), stuck_at_3, parallel.range(1, 12), { timeout = LIMIT })
        assert.same({ "timeout", 3 }, { e.kind, e.index })
        local seen = 0
        e = caught(function()
          for i, value in pool():imap(stuck_at_3, parallel.range(1, 12), { timeout = LIMIT, chunk = 4 }) do
            seen = seen + 1
            assert.same({ seen, seen * seen }, { i, value })
          end
        end)
        assert.same({ 2, "timeout", 3 }, { seen, e.kind, e.index })
        assert_works(pool())
      end)

      it("a call that is over its time fails what has no result", function()
        local list = pool():map(stuck_at_3, parallel.range(1, 12), { deadline = 0.2, errors = "collect", chunk = 1 })
        assert.equal(12, list.n)
        for i = 1, 12 do
          local e = list.errors[i]
          assert.is_true((list[i] == i * i and e == nil) or (list[i] == nil and e.kind == "deadline" and e.index == i))
        end
        assert.is_nil(list[3])
        local e = caught(pool().map, pool(), stuck_at_3, parallel.range(1, 12), { deadline = 0.2, chunk = 1 })
        assert.equal("deadline", e.kind)
        assert.is_true(e.index <= 3)
        assert_works(pool())
      end)

      it("a death after the deadline leaves no item without a result or an error", function()
        assert_works(pool())
        for after = 1, 8 do
          local late = parallel.clock() + 0.03 + after * 0.0005
          local list = pool():map(function(i)
            while i == 5 do
              if parallel.clock() >= late then
                os.exit(3)
              end
            end
            return i
          end, parallel.range(1, 10), { deadline = 0.03, errors = "collect", chunk = 10 })
          for i = 1, 10 do
            assert.is_true((list[i] or list.errors[i].index) == i)
          end
        end
      end)

      it("an item that was over its time is run again as often as it may", function()
        local path = journal.new()
        local function stuck_twice(x)
          if x == 3 then
            journal.add(path, "begun")
            if #journal.lines(path) <= 2 then
              while true do
              end
            end
          end
          return x * x
        end
        local list = pool():map(stuck_twice, parallel.range(1, 6), { timeout = LIMIT, retries = 2 })
        for i = 1, 6 do
          assert.equal(i * i, list[i])
        end
        assert.equal(3, #journal.lines(path))
        journal.remove(path)
      end)

      it("one that always is over its time ends after so many times, whatever becomes of failed items", function()
        -- Each run takes the time limit twice, so not every number of workers meets every policy.
        for _, policy in ipairs(workers == 2 and { "stop", "finish", "collect" } or { "collect" }) do
          local path = journal.new()
          local function always_stuck(x)
            if x == 2 then
              journal.add(path, "begun")
              while true do
              end
            end
            return x * x
          end
          local options = { timeout = LIMIT, retries = 1, errors = policy }
          local ok, outcome = pcall(pool().map, pool(), always_stuck, { 1, 2, 3 }, options)
          assert.equal(policy == "collect", ok)
          if ok then
            assert.same({ 1, 9 }, { outcome[1], outcome[3] })
          end
          local e = ok and outcome.errors[2] or outcome
          assert.same({ "timeout", 2 }, { e.kind, e.index })
          assert.equal(2, #journal.lines(path))
          journal.remove(path)
        end
      end)
    end)
  end, backends.all)
end

backends.each_size(function(with)
  around(with, "and retries:", function(pool)
    it("an item whose worker dies is run again as often as it may, and then named", function()
      local path = journal.new()
      local function dies(x)
        if x == 3 then
          journal.add(path, "begun")
          os.exit(7)
        end
        return x * x
      end
      local list = pool():map(dies, parallel.range(1, 8), { retries = 2, errors = "collect", chunk = 4 })
      for i = 1, 8 do
        assert.equal(i ~= 3 and i * i or nil, list[i])
      end
      assert.same({ "died", 7, 3 }, { list.errors[3].kind, list.errors[3].exit_code, list.errors[3].index })
      assert.equal(3, #journal.lines(path))
      journal.remove(path)
      assert_works(pool())
    end)

    it("with 'stop' and 'finish' its error is raised once it may not be run again", function()
      for _, policy in ipairs({ "stop", "finish" }) do
        local path = journal.new()
        local e = caught(pool().map, pool(), function(x)
          if x == 3 then
            journal.add(path, "begun")
            os.exit(7)
          end
          return x
        end, parallel.range(1, 8), { retries = 3, errors = policy })
        assert.same({ "died", 7, 3 }, { e.kind, e.exit_code, e.index })
        assert.equal(4, #journal.lines(path))
        journal.remove(path)
      end
    end)

    it("an error is not run again", function()
      local path = journal.new()
      local e = caught(pool().map, pool(), function()
        journal.add(path, "begun")
        error("no luck", 0)
      end, { 1 }, { retries = 5 })
      assert.equal("error", e.kind)
      assert.equal(1, #journal.lines(path))
      journal.remove(path)
    end)

    it("limits that are not met change nothing", function()
      local options = { timeout = 60, deadline = 60, retries = 3 }
      local list = pool():map(square, parallel.range(1, 1000), options)
      for i = 1, 1000 do
        assert.equal(i * i, list[i])
      end
      assert.equal("abc", pool():reduce(function(a, b)
        return a .. b
      end, { "a", "b", "c" }, options))
      assert.equal(10, pool():each(square, parallel.range(1, 10), options))
    end)

    it("a call whose time is over before it begins runs nothing", function()
      local path = journal.new()
      local function note()
        journal.add(path, "begun")
      end
      local list = pool():map(note, parallel.range(1, 5), { deadline = 1e-9, errors = "collect" })
      for i = 1, 5 do
        assert.equal("deadline", list.errors[i].kind)
      end
      assert.equal(0, #journal.lines(path))
      journal.remove(path)
      assert_works(pool())
    end)
  end)

  around(with, "and max_tasks:", function(pool)
    it("a worker runs no more items than max_tasks, whatever the chunks", function()
      for _, chunk in ipairs({ 1, 2, 5, "auto", "guided" }) do
        local runs, squares = pool():map(function(x)
          count = count + 1 -- luacheck: ignore 111 113
          return count, x * x -- luacheck: ignore 113
        end, parallel.range(1, 50), { chunk = chunk })
        local fresh = 0
        for i = 1, 50 do
          assert.equal(i * i, squares[i])
          assert.is_true(runs[i] <= 3, runs[i])
          fresh = fresh + (runs[i] == 1 and 1 or 0)
        end
        assert.is_true(fresh >= math.floor(50 / 3), fresh .. " workers")
      end
    end)
  end, {
    max_tasks = 3,
    init = function()
      -- The worker's own, so that it outlives a call.
      local worker_count = 0
      setmetatable(_G, {
        __index = function(_, name)
          return name == "count" and worker_count or nil
        end,
        __newindex = function(globals, name, value)
          if name == "count" then
            worker_count = value
          else
            rawset(globals, name, value)
          end
        end,
      })
    end,
  })
end, backends.all)

-- Ways of an item to swallow the error that ends it.
local swallowing = {
  ["a pcall"] = function()
    while true do
      pcall(function()
        while true do
        end
      end)
    end
  end,
  ["pcalls in pcalls"] = function()
    local function again()
      while true do
        pcall(again)
      end
    end
    again()
  end,
  ["a message handler that does not end"] = function()
    local function loop()
      while true do
      end
    end
    while true do
      xpcall(loop, loop)
    end
  end,
  ["a coroutine"] = function()
    while true do
      coroutine.resume(coroutine.create(function()
        while true do
        end
      end))
    end
  end,
  ["a coroutine in a coroutine, with pcalls"] = function()
    local function loop()
      while true do
        pcall(function()
          while true do
          end
        end)
      end
    end
    while true do
      pcall(coroutine.wrap(function()
        pcall(coroutine.wrap(loop))
        loop()
      end))
    end
  end,
  ["a loop that makes garbage"] = function()
    local list = {}
    while true do
      list = { list[1] and 1 or list }
      pcall(error, list)
    end
  end,
  ["a sort"] = function()
    while true do
      pcall(table.sort, { 3, 1, 2, 5, 4 }, function()
        while true do
        end
      end)
    end
  end,
  ["a sleep"] = function()
    while true do
      pcall(parallel.sleep, 3600)
    end
  end,
  ["a call within the item"] = function()
    while true do
      pcall(parallel.map, function()
        while true do
        end
      end, { 1 })
    end
  end,
}

-- LuaJIT hands errors of finalizers on to whatever runs.
if not jit then
  swallowing["finalizers that fail"] = function()
    while true do
      setmetatable({}, {
        __gc = function()
          error("not now")
        end,
      })
    end
  end
end

if stops_loops then
  backends.each(function(with)
    around(with, "and an item that swallows errors", function(pool)
      for name, run in pairs(swallowing) do
        it("is over its time all the same: " .. name, function()
          local function item(x)
            if x == 2 then
              run()
            end
            return x
          end
          local list = pool():map(item, { 1, 2, 3 }, { timeout = LIMIT, errors = "collect" })
          assert.same({ 1, 3 }, { list[1], list[3] })
          assert.equal("timeout", list.errors[2] and list.errors[2].kind)
          assert_works(pool())
        end)
      end

      it("several in a row, beside items that are not", function()
        for _ = 1, 3 do
          local list = pool():map(stuck_at_3, { 1, 3, 2, 3, 4 }, { timeout = LIMIT, errors = "collect", chunk = 1 })
          assert.same({ 1, 4, 16 }, { list[1], list[3], list[5] })
          assert.same({ "timeout", "timeout" }, { list.errors[2].kind, list.errors[4].kind })
        end
        assert_works(pool())
      end)
    end)
  end)

  backends.each_size(function(with)
    it("a deadline ends a hanging init", function()
      local before = census.snapshot()
      local fresh = parallel.pool(with({
        init = function()
          while true do
          end
        end,
      }))
      local e = caught(fresh.map, fresh, square, { 1, 2, 3 }, { deadline = 0.2 })
      assert.equal("deadline", e.kind)
      fresh:terminate()
      census.assert_flat(before)
    end)
  end)

  backends.each(function(with)
    around(with, "and retries:", function(pool)
      it("an item that is run again has all of its time again", function()
        local path = journal.new()
        local function slow_at_last(x)
          journal.add(path, "begun")
          if #journal.lines(path) == 1 then
            while true do
            end
          end
          parallel.sleep(0.2)
          return x * x
        end
        assert.same({ 49, n = 1 }, pool():map(slow_at_last, { 7 }, { timeout = 2 * LIMIT, retries = 1 }))
        journal.remove(path)
      end)
    end)
  end, backends.all)

  backends.each(function(with)
    around(with, "and a deadline", function(pool)
      it("what was done before it is there", function()
        assert_works(pool())
        local list = pool():map(stuck_at_3, parallel.range(1, 3), { deadline = 2, errors = "collect", chunk = 1 })
        assert.same({ 1, 4 }, { list[1], list[2] })
        assert.same({ "deadline", 3 }, { list.errors[3].kind, list.errors[3].index })
        assert_works(pool())
      end)
    end)
  end, backends.all)

  backends.each(function(with)
    around(with, "and what waits:", function(pool)
      local empty, full = parallel.channel(1), parallel.channel(1)
      full:send("nobody takes it")
      local waits = {
        receive = function()
          empty:receive()
        end,
        send = function()
          full:send("no room")
        end,
        sleep = function()
          parallel.sleep(1000)
        end,
        ["a call of its own"] = function()
          parallel.map(function()
            empty:receive()
          end, { 1, 2 })
        end,
      }

      for name, wait in pairs(waits) do
        it(name .. " ends with the deadline's error", function()
          local list = pool():map(wait, { 1, 2 }, { deadline = LIMIT, errors = "collect" })
          for i = 1, 2 do
            local e = list.errors[i]
            assert.same({ "deadline", i, nil }, { e.kind, e.index, e.value })
            assert.is_truthy(e.message:find("deadline", 1, true), e.message)
          end
          local e = caught(pool().map, pool(), wait, { 1, 2 }, { deadline = LIMIT, chunk = 2 })
          assert.same({ "deadline", 1 }, { e.kind, e.index })
          e = caught(pool().mapreduce, pool(), wait, math.max, { 1, 2 }, { deadline = LIMIT })
          assert.same({ "deadline" }, { e.kind, e.index })
          assert_works(pool())
        end)
      end
    end)
  end, backends.all)

  backends.each(function(with)
    around(with, "and cancelled calls:", function(pool)
      it("cancel ends the item that runs, and the worker is there for others", function()
        for name, run in pairs(swallowing) do
          local entered = gates.new()
          local future = pool():submit(function()
            gates.open(entered)
            run()
          end)
          local neighbour = pool():submit(square, 9)
          gates.await(entered)
          gates.remove(entered)
          assert.is_true(future:cancel(), name)
          assert.equal("cancelled", caught(future.get, future).kind, name)
          assert.is_false(future:cancel())
          assert.equal(81, neighbour:get(), name)
          assert.equal(4, pool():apply(square, 2), name)
        end
      end)

      it("calls that are cancelled one after the other all end", function()
        for _ = 1, 10 do
          local entered, futures = gates.new(), {}
          futures[1] = pool():submit(function()
            gates.open(entered)
            while true do
            end
          end)
          for i = 2, 4 do
            futures[i] = pool():submit(function()
              while true do
              end
            end)
          end
          gates.await(entered)
          gates.remove(entered)
          for i = 1, 4 do
            assert.is_true(futures[i]:cancel())
          end
          assert.equal(4, pool():apply(square, 2))
        end
      end)
    end, { workers = 1 })

    it("terminate ends loops without end, and gives up no thread for it", function()
      parallel.map(square, { 1 }, with())
      local before = census.snapshot()
      local pool = parallel.pool(with())
      local entered, futures = { gates.new(), gates.new() }, {}
      for i = 1, 2 do
        futures[i] = pool:submit(function()
          gates.open(entered[i])
          while true do
          end
        end)
      end
      gates.await(entered[1])
      gates.await(entered[2])
      gates.remove(entered[1], entered[2])
      pool:terminate()
      for i = 1, 2 do
        assert.equal("cancelled", caught(futures[i].get, futures[i]).kind)
      end
      assert.equal(0, pool:stats().abandoned)
      census.assert_flat(before)
    end)
  end, backends.concurrent)
end

describe("on the thread back-end a C function that does not return", function()
  -- It waits for a child, and goes on to wait when a signal comes.
  local function wait_for(gate)
    os.execute(("while ! test -e %s; do sleep 0.01; done"):format(gate))
  end

  it("is given up after a while, its item has failed, and another thread takes its place", function()
    local before = census.snapshot()
    local pool = parallel.pool({ backend = "thread", workers = 1 })
    local gate = gates.new()
    local list = pool:map(function(x)
      if x == 2 then
        wait_for(gate)
      end
      return x
    end, { 1, 2, 3 }, { timeout = LIMIT, errors = "collect", chunk = 1 })
    assert.same({ 1, 3 }, { list[1], list[3] })
    assert.equal("timeout", list.errors[2].kind)
    assert.equal(1, pool:stats().abandoned)
    assert_works(pool)
    pool:close()
    pool:join()
    gates.open(gate)
    census.assert_flat(before)
    gates.remove(gate)
  end)
end)
