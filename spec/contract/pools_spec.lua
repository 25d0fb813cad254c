-- SPDX-License-Identifier: MIT
--
-- The life of pools and of the futures they give, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local census = require("spec.support.census")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")

local function square(x)
  return x * x
end

--- 1 to n squared, as a list with n.
local function squares(n)
  local list = { n = n }
  for i = 1, n do
    list[i] = i * i
  end
  return list
end

--- Calls body with a fresh pool; afterwards the pool and all that belongs to it must be gone.
local function with_pool(options, body)
  -- What a first call starts for good is not this pool's.
  parallel.map(square, { 1 }, { backend = options.backend, workers = options.workers })
  local before = census.snapshot()
  local pool = parallel.pool(options)
  body(pool)
  pool:close()
  pool:join()
  census.assert_flat(before)
end

backends.each_size(function(with, backend, workers)
  it("a pool has every verb", function()
    with_pool(with(), function(pool)
      assert.equal(workers, pool.workers)
      local range = parallel.range(1, 30)
      assert.same(squares(30), pool:map(square, range))
      assert.same(squares(30), pool:map(square, range, { chunk = 4 }))
      assert.equal(30, pool:each(square, range))
      assert.same({ 5, 6, n = 2 }, pool:filter(function(x)
        return x > 4
      end, parallel.range(1, 6)))
      assert.same({ 2, 12, n = 2 }, pool:starmap(function(a, b)
        return a * b
      end, { { 1, 2 }, { 3, 4 } }))
      for _, verb in ipairs({ "imap", "imap_unordered" }) do
        local seen = { n = 0 }
        for i, value in pool[verb](pool, square, range) do
          seen[i], seen.n = value, seen.n + 1
        end
        assert.same(squares(30), seen)
      end
      local a, b, c = pool:apply(function(...)
        return select("#", ...), ...
      end, 5, nil, nil)
      assert.same({ 3, 5 }, { a, b, c })
      assert.equal(49, pool:submit(square, 7):get())
    end)
  end)

  it("close lets what was submitted finish", function()
    local futures = {}
    with_pool(with(), function(pool)
      for i = 1, 3 * workers do
        futures[i] = pool:submit(square, i)
      end
    end)
    for i, future in ipairs(futures) do
      assert.is_true(future:done())
      assert.equal(i * i, future:get())
    end
  end)

  it("terminate cancels what has not begun", function()
    parallel.map(square, { 1 }, with())
    local before = census.snapshot()
    local pool = parallel.pool(with())
    -- On the serial back-end nothing runs before it is asked for.
    local held, futures = {}, {}
    if backend ~= "serial" then
      for i = 1, workers do
        local entered = gates.new()
        held[i] = { future = pool:submit(function()
          gates.open(entered)
          parallel.sleep(3600)
        end), entered = entered }
      end
    end
    for i = 1, 1000 do
      futures[i] = pool:submit(parallel.sleep, 3600)
    end
    for _, item in ipairs(held) do
      gates.await(item.entered)
      gates.remove(item.entered)
    end
    pool:terminate()
    for _, item in ipairs(held) do
      assert.equal("cancelled", caught(item.future.get, item.future).kind)
    end
    for _, future in ipairs(futures) do
      assert.equal("cancelled", caught(future.get, future).kind)
      assert.is_true(future:done())
    end
    pool:join()
    census.assert_flat(before)
  end)

  it("pools that are dropped end their workers", function()
    parallel.map(square, { 1 }, with())
    local before = census.snapshot()
    for _ = 1, 3 do
      local pool = parallel.pool(with())
      assert.equal(16, pool:apply(square, 4))
      pool.itself = pool
    end
    collectgarbage()
    collectgarbage()
    census.assert_flat(before)
  end)

  it("an iterator that is dropped half read leaves the pool usable", function()
    with_pool(with(), function(pool)
      for _ = 1, 20 do
        local next_result = pool:imap(square, parallel.range(1, 1000), { chunk = 1 })
        assert.same({ 1, 1 }, { next_result() })
      end
      collectgarbage()
      assert.same(squares(10), pool:map(square, parallel.range(1, 10)))
    end)
  end)

  it("sends functions and classes that were made after its workers had begun", function()
    with_pool(with(), function(pool)
      pool:map(square, parallel.range(1, 10))
      local make = loadstring or load
      local class, describe_it = make([[
        local Point = {}
        Point.__index = Point
        function Point:norm() return self.x * self.x + self.y * self.y end
        return Point, function(p) return p:norm(), p end
      ]])()
      local norms, points = pool:map(describe_it, { setmetatable({ x = 3, y = 4 }, class) })
      assert.same({ 25, n = 1 }, norms)
      assert.equal(class, getmetatable(points[1]))
    end)
  end)
end)

backends.each_size(function(with)
  it("a pool that was closed takes no more work", function()
    local pool = parallel.pool(with())
    pool:close()
    for _, verb in ipairs({ "map", "each", "filter", "starmap" }) do
      assert.error_matches(function()
        pool[verb](pool, square, { 1 })
      end, "closed")
    end
    for _, verb in ipairs({ "imap", "imap_unordered" }) do
      assert.error_matches(function()
        for _ in pool[verb](pool, square, { 1 }) do
        end
      end, "closed")
    end
    assert.error_matches(function()
      pool:apply(square, 1)
    end, "closed")
    assert.error_matches(function()
      pool:submit(square, 1)
    end, "closed")
    pool:join()
    assert.error_matches(function()
      pool:map(square, { 1 })
    end, "closed")
  end)

  it("close, join and terminate may be called again", function()
    local pool = parallel.pool(with())
    pool:close()
    pool:close()
    pool:join()
    pool:join()
    pool:close()
    pool:terminate()
    pool:terminate()
    pool:join()
  end)

  it("join before close is refused", function()
    local pool = parallel.pool(with())
    assert.error_matches(function()
      pool:join()
    end, "close")
    assert.equal(9, pool:apply(square, 3))
    pool:close()
    pool:join()
  end)

  it("an idle pool can be terminated", function()
    local before = census.snapshot()
    local pool = parallel.pool(with())
    pool:terminate()
    pool:join()
    census.assert_flat(before)
    assert.error_matches(function()
      pool:map(square, { 1 })
    end, "closed")
  end)

  it("a pool that is terminated while an iterator is half read ends it", function()
    local pool = parallel.pool(with())
    local next_result = pool:imap(square, parallel.range(1, 1000), { chunk = 1 })
    assert.same({ 1, 1 }, { next_result() })
    pool:terminate()
    local e = caught(function()
      for _ in next_result do
      end
    end)
    assert.equal("cancelled", e.kind)
    pool:join()
  end)

  it("init runs once in each worker before its first item, and what it sets stays", function()
    local path = journal.new()
    with_pool(
      with({
        init = function()
          journal.add(path, "init of " .. tostring(parallel.worker()))
          greeting = "hello" -- luacheck: ignore 111
        end,
      }),
      function(pool)
        for _ = 1, 3 do
          local list = pool:map(function(name)
            return greeting .. ", " .. name -- luacheck: ignore 113
          end, { "a", "b", "c" }, { chunk = 1 })
          assert.same({ "hello, a", "hello, b", "hello, c", n = 3 }, list)
        end
      end
    )
    local times = {}
    for _, line in ipairs(journal.lines(path)) do
      assert.is_nil(times[line], line .. " twice")
      times[line] = true
    end
    journal.remove(path)
    assert.is_nil(rawget(_G, "greeting"))
    assert.is_truthy(next(times))
  end)

  it("init may carry more than a channel holds", function()
    local big = ("0123456789"):rep(400000)
    with_pool(
      with({
        init = function()
          text = big -- luacheck: ignore 111
        end,
      }),
      function(pool)
        assert.same(
          { 4000000, 4000000, n = 2 },
          pool:map(function()
            return #text -- luacheck: ignore 113
          end, { 1, 2 }, { chunk = 1 })
        )
      end
    )
  end)
end)

backends.each(function(with, backend)
  it("many pools work side by side", function()
    parallel.map(square, { 1 }, with())
    local before = census.snapshot()
    local pools, iterators = {}, {}
    for i = 1, 8 do
      pools[i] = parallel.pool(with())
      iterators[i] = pools[i]:imap(function(x)
        return x + i
      end, parallel.range(1, 100), { chunk = 3 })
    end
    for k = 1, 100 do
      for i = 1, 8 do
        local index, value = iterators[i]()
        assert.equal(k, index)
        assert.equal(k + i, value)
      end
    end
    for _, pool in ipairs(pools) do
      pool:close()
    end
    for _, pool in ipairs(pools) do
      pool:join()
    end
    census.assert_flat(before)
  end)

  it("several iterators over one pool do not disturb each other", function()
    with_pool(with(), function(pool)
      local a = pool:imap(square, parallel.range(1, 50), { chunk = 2 })
      local b = pool:imap(math.sqrt, parallel.range(1, 50), { chunk = 3 })
      local future = pool:submit(square, 9)
      for i = 1, 50 do
        assert.same({ i, i * i }, { a() })
        assert.same(squares(2), pool:map(square, { 1, 2 }))
        assert.same({ i, math.sqrt(i) }, { b() })
      end
      assert.is_nil((a()))
      assert.is_nil((b()))
      assert.equal(81, future:get())
    end)
  end)

  it("calls of other calls' items run, however deep and however few the workers", function()
    local function nest(depth)
      if depth == 0 then
        return 1
      end
      local sum = 0
      for _, part in ipairs(parallel.map(nest, { depth - 1, depth - 1 })) do
        sum = sum + part
      end
      return sum
    end
    assert.same({ 8, 8, 8, n = 3 }, parallel.map(nest, { 3, 3, 3 }, with()))
    assert.same({ 8, n = 1 }, parallel.map(nest, { 3 }, with({ workers = 1 })))
  end)

  it("an item may have a pool of its own", function()
    local function sum_in_own_pool(x)
      local own = parallel.pool({ backend = backend, workers = 2 })
      local list = own:map(function(y)
        return x * y
      end, { 1, 2, 3 })
      own:close()
      own:join()
      return list[1] + list[2] + list[3]
    end
    assert.same({ 6, 12, n = 2 }, parallel.map(sum_in_own_pool, { 1, 2 }, with()))
  end)

  it("a pool cannot be sent", function()
    with_pool(with(), function(pool)
      local e = caught(pool.map, pool, function()
        return pool
      end, { 1 })
      assert.equal("encode", e.kind)
      assert.is_truthy(e.message:find("cannot send upvalue 'pool'", 1, true), e.message)
      e = caught(pool.map, pool, square, { { pool = pool } })
      assert.equal("encode", e.kind)
      assert.equal(1, e.index)
      assert.is_truthy(e.message:find("cannot send items[1].pool", 1, true), e.message)
    end)
  end)

  it("the module's own verbs use workers that have the init they name", function()
    local function init()
      answer = 42 -- luacheck: ignore 111
    end
    local function ask()
      return answer -- luacheck: ignore 113
    end
    assert.same({ 42, 42, n = 2 }, parallel.map(ask, { 1, 2 }, with({ init = init })))
    assert.same({ n = 2 }, parallel.map(ask, { 1, 2 }, with()))
    assert.same({ 42, 42, n = 2 }, parallel.map(ask, { 1, 2 }, with({ init = init })))
  end)

  it("on 5.4 a pool ends with the block that it is local to", function()
    if jit then
      return
    end
    local before = census.snapshot()
    local run = load([[
      local parallel, options = ...
      local pool <close> = parallel.pool(options)
      return pool, pool:apply(math.sqrt, 16)
    ]])
    local pool, root = run(parallel, with())
    assert.equal(4, root)
    assert.error_matches(function()
      pool:map(square, { 1 })
    end, "closed")
    census.assert_flat(before)
  end)
end)

describe("ThreadPool and ProcessPool", function()
  it("have a thread started when there is work that no other one waits for", function()
    local function count_threads()
      local count = 0
      for _ in pairs(census.threads()) do
        count = count + 1
      end
      return count
    end
    local before = count_threads()
    local pool, path = parallel.ThreadPool(8), journal.new()
    assert.equal(9, pool:apply(square, 3))
    -- One from the start; another one if that had not come for work yet.
    assert.is_true(count_threads() <= before + 2, count_threads() - before)
    local futures = {}
    for i = 1, 8 do
      futures[i] = pool:submit(function()
        journal.add(path, "here")
        gates.await_that(function()
          return #journal.lines(path) == 8
        end)
      end)
    end
    for i = 1, 8 do
      futures[i]:get()
    end
    journal.remove(path)
    assert.is_true(count_threads() >= 8)
    pool:close()
    pool:join()
  end)

  it("are pools of their back-end with the size that is named first", function()
    for name, backend in pairs({ ThreadPool = "thread", ProcessPool = "process" }) do
      local before = census.snapshot()
      local pool = parallel[name](3)
      assert.equal(3, pool.workers)
      assert.same(squares(20), pool:map(square, parallel.range(1, 20)))
      local own = census.pid()
      for _, pid in ipairs(pool:map(function()
        return census.pid()
      end, parallel.range(1, 20))) do
        assert.equal(backend == "thread", pid == own)
      end
      pool:close()
      pool:join()

      pool = parallel[name](2, {
        init = function()
          word = "set" -- luacheck: ignore 111
        end,
      })
      assert.equal("set", pool:apply(function()
        return word -- luacheck: ignore 113
      end))
      pool:close()
      pool:join()
      census.assert_flat(before)
    end
  end)
end)

describe("a program that ends", function()
  local function assert_ends(code, options, expected)
    local result = interpreter.run_code(code, { seconds = 30, env = options })
    assert.same(expected, result)
  end

  backends.each_size(function(_, backend, workers)
    local environment = { LUMAP_BACKEND = backend, LUMAP_WORKERS = workers }

    it("with a pool alive", function()
      assert_ends(
        [[pool = parallel.pool() print(pool.workers, pool:apply(math.sqrt, 25))]],
        environment,
        { stdout = workers .. "\t" .. (jit and "5" or "5.0") .. "\n", stderr = "", code = 0 }
      )
    end)

    it("with a finalizer that uses a pool which was finalized before it", function()
      assert_ends(
        [[
          local pool
          local function finally()
            for _, verb in ipairs { "map", "close", "join", "stats" } do
              local ok, reason = pcall(pool[verb], pool, math.sqrt, { 4 })
              print(verb, ok, tostring(reason):find("the pool was collected", 1, true) == 1)
            end
          end
          if jit then
            kept = newproxy(true)
            getmetatable(kept).__gc = finally
          else
            kept = setmetatable({}, { __gc = finally })
          end
          pool = parallel.pool()
          pool:map(math.sqrt, { 1 })
        ]],
        environment,
        {
          stdout = "map\tfalse\ttrue\nclose\tfalse\ttrue\njoin\tfalse\ttrue\nstats\tfalse\ttrue\n",
          stderr = "",
          code = 0,
        }
      )
    end)

    it("with work that nobody waits for", function()
      assert_ends(
        [[
          local pool = parallel.pool()
          kept = {}
          for i = 1, 1000 do kept[i] = pool:submit(parallel.sleep, 3600) end
          print("end of the script")
        ]],
        environment,
        { stdout = "end of the script\n", stderr = "", code = 0 }
      )
    end)

    it("with an iterator half read", function()
      assert_ends(
        [[
          next_result = parallel.imap(math.sqrt, parallel.range(1, 2^40), { chunk = 1 })
          print((next_result()))
        ]],
        environment,
        { stdout = "1\n", stderr = "", code = 0 }
      )
    end)

    it("with a pool in a cycle of garbage that has finalizers", function()
      assert_ends(
        [[
          local pool = parallel.pool()
          pool:map(math.sqrt, { 1, 2, 3 })
          local proxy = newproxy and newproxy(true) or setmetatable({}, {})
          getmetatable(proxy).__gc = function() local p = pool; p:close() end
          if not newproxy then setmetatable(proxy, getmetatable(proxy)) end
          pool.cycle = { pool, proxy }
          pool, proxy = nil, nil
          print("done")
        ]],
        environment,
        { stdout = "done\n", stderr = "", code = 0 }
      )
    end)

    it("by os.exit", function()
      assert_ends(
        [[
          pool = parallel.pool()
          pool:map(math.sqrt, { 1, 2, 3 })
          future = pool:submit(parallel.sleep, 3600)
          os.exit(3, true)
        ]],
        environment,
        { stdout = "", stderr = "", code = 3 }
      )
      assert_ends(
        [[
          pool = parallel.pool()
          future = pool:submit(parallel.sleep, 3600)
          os.exit(4)
        ]],
        environment,
        { stdout = "", stderr = "", code = 4 }
      )
    end)

    it("by an error", function()
      local result = interpreter.run_code(
        [[
          pool = parallel.pool()
          pool:map(error, { "bad" })
        ]],
        { seconds = 30, env = environment }
      )
      assert.equal(1, result.code)
      assert.equal("", result.stdout)
      assert.is_truthy(result.stderr:find("bad", 1, true), result.stderr)
    end)

    if backend ~= "serial" then
      it("while items run that never look up", function()
        assert_ends(
          [[
            local gates = require "spec.support.gates"
            local pool = parallel.pool()
            local entered = gates.new()
            future = pool:submit(function()
              gates.open(entered)
              local n = 0
              while true do n = n + 1 end
            end)
            gates.await(entered)
            gates.remove(entered)
            pool:terminate()
            print(pcall(future.get, future) == false and "terminated")
          ]],
          environment,
          { stdout = "terminated\n", stderr = "", code = 0 }
        )
      end)
    end
  end)
end)
