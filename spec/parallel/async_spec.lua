-- SPDX-License-Identifier: MIT
--
-- Work that goes on while the caller does something else: map_async, callbacks, waiting for several futures.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local gates = require("spec.support.gates")
local journal = require("spec.support.journal")
local parallel = require("parallel")

local function square(x)
  return x * x
end

local function values_of(...)
  return { n = select("#", ...), ... }
end

backends.each_size(function(with)
  local function with_pool(body)
    local pool = parallel.pool(with())
    body(pool)
    pool:close()
    pool:join()
  end

  it("map_async gives what map gives, for every kind of items", function()
    local function both(x)
      return x * x, x > 2 and -x or nil
    end
    with_pool(function(pool)
      local i = 0
      local kinds = {
        { 1, 2, 3, 4, 5 },
        parallel.range(1, 5),
        function()
          i = i + 1
          return i <= 5 and i or nil
        end,
      }
      for _, items in ipairs(kinds) do
        for _, chunk in ipairs({ 1, 2, 100, "auto", "guided" }) do
          i = 0
          local future = pool:map_async(both, items, { chunk = chunk, ahead = 2 })
          for _ = 1, 2 do
            local squares, negatives = future:get()
            assert.same({ 1, 4, 9, 16, 25, n = 5 }, squares)
            assert.same({ nil, nil, -3, -4, -5, n = 5 }, negatives)
          end
        end
      end
      assert.same({ { n = 0 } }, { pool:map_async(both, {}):get() })
      assert.same({ { n = 0 } }, { pool:map_async(both, function() end):get() })
    end)
  end)

  it("map_async fails as map does", function()
    with_pool(function(pool)
      local function fail_at_3(x)
        if x == 3 then
          error("three", 0)
        end
        return x
      end
      local future = pool:map_async(fail_at_3, { 1, 2, 3, 4 }, { chunk = 1 })
      assert.is_true(future:wait())
      local e = caught(future.get, future)
      assert.same({ "error", 3, "three" }, { e.kind, e.index, e.message })
      assert.is_true(rawequal(e, caught(future.get, future)))

      local list = pool:map_async(fail_at_3, { 1, 2, 3, 4 }, { errors = "collect" }):get()
      assert.equal("three", list.errors[3].message)
      assert.equal(4, list[4])

      e = caught(function()
        pool:map_async(square, { 1, io.tmpfile() }):get()
      end)
      assert.same({ "encode", 2 }, { e.kind, e.index })

      local reason = { "dry" }
      future = pool:map_async(square, function()
        error(reason)
      end)
      assert.is_true(future:wait())
      assert.is_true(rawequal(reason, caught(future.get, future)))
      assert.is_true(rawequal(reason, caught(future.get, future)))
    end)
  end)

  it("cancel ends what is queued, once, and nothing else", function()
    with_pool(function(pool)
      local before = pool:submit(square, 2)
      local lists = pool:map_async(function()
        parallel.sleep(3600)
      end, parallel.range(1, 50), { chunk = 1 })
      local lazy = pool:map_async(parallel.sleep, function()
        return 3600
      end, { chunk = 1 })
      local after = pool:submit(square, 3)
      for _, future in ipairs({ lists, lazy }) do
        assert.is_true(future:cancel())
        assert.is_false(future:cancel())
        assert.is_true(future:done())
        for _ = 1, 2 do
          assert.equal("cancelled", caught(future.get, future).kind)
        end
      end
      assert.same({ 4, 9 }, { before:get(), after:get() })
      assert.is_false(after:cancel())
      assert.equal(9, after:get())
      assert.same({ 1, 4, n = 2 }, pool:map(square, { 1, 2 }))
    end)
  end)

  it("wait returns as soon as one future is done", function()
    with_pool(function(pool)
      local futures = {}
      for i = 1, 6 do
        futures[i] = pool:submit(square, i)
      end
      local sum, rest = 0, futures
      while #rest > 0 do
        local done
        done, rest = parallel.wait(rest)
        assert.is_true(#done >= 1)
        for _, future in ipairs(done) do
          sum = sum + future:get()
        end
      end
      assert.equal(91, sum)
      assert.same({ futures, {} }, { parallel.wait(futures) })
      assert.same({ {}, {} }, { parallel.wait({}) })
    end)
  end)

  it("a callback may use its pool, wait for its future, and close the pool", function()
    local pool = parallel.pool(with())
    local log = {}
    local begun = gates.new()
    local future = pool:submit(function(n)
      gates.await(begun)
      return n * n
    end, 3)
    future:on_done(function(_, value)
      log[1] = pool:map(square, { value })[1]
      log[2] = future:get()
      pool:submit(square, 4):on_done(function(_, later)
        log[3] = later
      end)
      pool:close()
    end)
    -- The callback runs, and closes the pool, while this map is under way: it is finished all the same.
    local i = 0
    assert.equal(200, pool:map(square, function()
      i = i + 1
      if i == 1 then
        gates.open(begun)
      end
      return i <= 200 and i or nil
    end, { chunk = 1 }).n)
    gates.remove(begun)
    future:wait()
    assert.is_false(pcall(pool.map, pool, square, { 1 }))
    pool:join()
    assert.same({ 81, 9, 16 }, log)
  end)

  it("what a callback raises is raised by who asks next, once, and does no other harm", function()
    local pool = parallel.pool(with())
    local reason = { "callback" }
    local order = {}
    local future = pool:submit(square, 3)
    future:on_done(function()
      order[#order + 1] = "first"
      error(reason)
    end)
    future:on_done(function()
      order[#order + 1] = "second"
    end)
    assert.is_true(future:wait())
    assert.same({ "first", "second" }, order)
    assert.is_true(rawequal(reason, caught(pool.stats, pool)))
    assert.equal(9, future:get())
    assert.same({ 1, 4, n = 2 }, pool:map(square, { 1, 2 }))
    pool:close()
    pool:join()
  end)
end)

backends.each(function(with, backend)
  it("callbacks get the values or the error, the next time that somebody asks the pool", function()
    local pool = parallel.pool(with({ workers = 1 }))
    local got = {}
    local function note(name)
      return function(...)
        got[name] = values_of(...)
      end
    end
    local told = gates.new()
    pool:submit(gates.await, told) -- so none of the others is done before it is looked at
    local good = pool:submit(function(...)
      return ...
    end, 1, nil):on_done(note("good"))
    local bad = pool:submit(error, "bad", 0):on_done(note("bad"))
    local lists = pool:map_async(square, { 3 }):on_done(note("lists"))
    assert.same({}, got)
    gates.open(told)
    -- Waiting for another call of the pool is an occasion, too. One worker: it comes behind the others.
    assert.equal(4, pool:apply(square, 2))
    gates.remove(told)
    pool:stats()
    assert.same({ true, 1, nil, n = 3 }, got.good)
    assert.same({ true, { 9, n = 1 }, n = 2 }, got.lists)
    assert.is_false(got.bad[1])
    assert.equal("bad", got.bad[2].value)
    assert.is_true(good:done() and bad:done() and lists:done())

    good:on_done(note("late"))
    assert.is_nil(got.late)
    pool:stats()
    assert.same({ true, 1, nil, n = 3 }, got.late)

    local cancelled = pool:submit(square, 1)
    if cancelled:cancel() then
      cancelled:on_done(note("cancelled"))
      pool:stats()
      assert.equal("cancelled", got.cancelled[2].kind)
    end
    pool:submit(square, 5):on_done(note("last"))
    pool:close()
    pool:join()
    assert.same({ true, 25, n = 2 }, got.last)
  end)

  it("work goes on though nobody holds its future", function()
    local path = journal.new()
    local pool = parallel.pool(with())
    for i = 1, 20 do
      pool:submit(journal.add, path, i)
    end
    pool:map_async(function(i)
      journal.add(path, i)
    end, parallel.range(21, 40))
    local i = 40
    pool:map_async(function(x)
      journal.add(path, x)
    end, function()
      i = i + 1
      return i <= 60 and i or nil
    end, { chunk = 1, ahead = 3 })
    collectgarbage()
    collectgarbage()
    pool:close()
    pool:join()
    assert.equal(60, #journal.lines(path))
    assert.equal(0, pool:stats().pending)
    journal.remove(path)
  end)

  it("futures that nobody asks for do not pile up", function()
    local pool = parallel.pool(with({ workers = 1 }))
    for i = 1, 300 do
      pool:submit(square, i)
      pool:apply(square, i)
    end
    assert.is_true(pool:stats().pending < 10, pool:stats().pending)
    pool:close()
    pool:join()
  end)

  it("an iterator that was begun before close can be read to its end", function()
    local pool = parallel.pool(with())
    local next_result = pool:imap(square, parallel.range(1, 100), { chunk = 1 })
    assert.same({ 1, 1 }, { next_result() })
    pool:close()
    for i = 2, 100 do
      assert.same({ i, i * i }, { next_result() })
    end
    assert.is_nil(next_result())
    pool:join()
  end)

  it("stats counts items, failures, deaths, bytes", function()
    local pool = parallel.pool(with())
    pool:map(square, { 1, 2, 3 }, { chunk = 2 })
    pool:map(function(x)
      if x == 2 then
        os.exit(1)
      end
      error(x)
    end, { 1, 2, 3 }, { errors = "collect", chunk = 1 })
    local stats = pool:stats()
    assert.same({ 2, backend, 6, 3, 1 }, { stats.workers, stats.backend, stats.items, stats.failed, stats.deaths })
    assert.same({ 4, 0, 0 }, { stats.chunks, stats.abandoned, stats.pending })
    assert.is_true(stats.bytes_sent > 0 and stats.bytes_received > 0 and stats.busy > 0)
    pool:close()
    pool:join()
    assert.equal(6, pool:stats().items)
  end)

  it("wait and on_done refuse what they cannot use", function()
    local pool = parallel.pool(with())
    local future = pool:submit(square, 1)
    for _, wrong in ipairs({ false, 7, "x", { 7 }, { future, {} } }) do
      assert.is_false(pcall(parallel.wait, wrong))
    end
    for _, wrong in ipairs({ -1, 0 / 0, "soon" }) do
      assert.is_false(pcall(parallel.wait, { future }, wrong))
    end
    assert.is_false(pcall(future.on_done, future, 7))
    pool:close()
    pool:join()
  end)
end)

backends.each(function(with)
  it("a callback runs while the caller waits for another call", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local called = gates.new()
    pool:submit(square, 1):on_done(function()
      gates.open(called)
    end)
    assert.equal("called", pool:apply(function()
      gates.await(called)
      return "called"
    end))
    gates.remove(called)
    pool:close()
    pool:join()
  end)

  it("a loop that is left begins no new item", function()
    local path, released = journal.new(), gates.new()
    local pool = parallel.pool(with({ workers = 1 }))
    local function leave()
      for _ in -- luacheck: ignore 512
        pool:imap(function(i)
          journal.add(path, i)
          if i > 1 then
            gates.await(released)
          end
        end, parallel.range(1, 100), { chunk = 1 })
      do
        break
      end
    end
    leave()
    if jit then
      -- There the language does not tell that the loop was left.
      collectgarbage()
      collectgarbage()
    end
    gates.open(released)
    pool:close()
    pool:join()
    local lines = journal.lines(path)
    assert.is_true(#lines <= 2, table.concat(lines, " "))
    journal.remove(path)
    gates.remove(released)
  end)

  it("wait gives up after its seconds, and tells the done from the others", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local entered, released = gates.new(), gates.new()
    local held = pool:submit(function()
      gates.open(entered)
      gates.await(released)
      return "released"
    end)
    gates.await(entered)
    assert.same({ {}, { held } }, { parallel.wait({ held }, 0) })
    assert.same({ {}, { held } }, { parallel.wait({ held }, 0.01) })
    local quick = pool:submit(square, 2)
    assert.same({ { quick }, { held } }, { parallel.wait({ held, quick }) })
    gates.open(released)
    local done, rest = parallel.wait({ held }, 30)
    assert.same({ { held }, {} }, { done, rest })
    assert.equal("released", held:get())
    gates.remove(entered, released)
    pool:close()
    pool:join()
  end)

  it("a polite item sees that it is cancelled", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local entered, told = gates.new(), gates.new()
    local e = caught(pool.map, pool, function(i)
      if i == 1 then
        gates.await(entered)
        error("first", 0)
      end
      local before = parallel.cancelled()
      gates.open(entered)
      gates.await_that(parallel.cancelled)
      if not before then
        gates.open(told)
      end
    end, { 1, 2 }, { chunk = 1 })
    assert.equal("first", e.message)
    assert.is_true(gates.is_open(told))
    assert.is_false(parallel.cancelled())
    assert.is_false(pool:apply(parallel.cancelled))
    gates.remove(entered, told)
    pool:close()
    pool:join()
  end)
end, backends.concurrent)
