-- SPDX-License-Identifier: MIT
--
-- Futures: what submit gives.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local gates = require("spec.support.gates")
local parallel = require("parallel")

local function values_of(...)
  return { n = select("#", ...), ... }
end

backends.each(function(with)
  local function with_pool(body)
    local pool = parallel.pool(with())
    body(pool)
    pool:close()
    pool:join()
  end

  it("get gives all values, as often as it is asked", function()
    with_pool(function(pool)
      local future = pool:submit(function(...)
        return select("#", ...), ...
      end, 1, nil, "x", nil)
      for _ = 1, 3 do
        assert.same({ 4, 1, nil, "x", nil, n = 5 }, values_of(future:get()))
      end
      assert.same({ n = 0 }, values_of(pool:submit(function() end):get()))
      assert.same({ nil, n = 1 }, values_of(pool:submit(function()
        return nil
      end):get()))
    end)
  end)

  it("the module's own submit uses a warm pool", function()
    assert.equal(12, parallel.submit(math.max, 3, 12, 7):get())
  end)

  it("results come in any order in which they are asked for", function()
    with_pool(function(pool)
      local futures = {}
      for i = 1, 50 do
        futures[i] = pool:submit(math.sqrt, i * i)
      end
      for i = 50, 1, -1 do
        assert.equal(i, futures[i]:get())
      end
    end)
  end)

  it("wait and done tell of the end", function()
    with_pool(function(pool)
      local future = pool:submit(math.sqrt, 9)
      assert.is_true(future:wait())
      assert.is_true(future:done())
      assert.is_true(future:wait(0))
      assert.equal(3, future:get(0))
      local failed = pool:submit(error, "x")
      assert.is_true(failed:wait())
      assert.is_true(failed:done())
    end)
  end)

  it("get raises the error of the call, as often as it is asked", function()
    with_pool(function(pool)
      local future = pool:submit(function(x)
        error({ code = x })
      end, 17)
      local e = caught(future.get, future)
      assert.equal(parallel.Error, getmetatable(e))
      assert.equal("error", e.kind)
      assert.equal(17, e.value.code)
      assert.is_nil(e.index)
      assert.is_true(rawequal(e, caught(future.get, future)))
    end)
  end)

  it("a result that cannot be sent is an error of its own", function()
    with_pool(function(pool)
      local future = pool:submit(function()
        return 1, { conn = io.tmpfile() }
      end)
      local e = caught(future.get, future)
      assert.equal("encode", e.kind)
      assert.is_truthy(e.message:find("conn (a file handle)", 1, true), e.message)
      assert.equal(3, pool:apply(math.sqrt, 9))
    end)
  end)

  it("cancel comes too late for what is done", function()
    with_pool(function(pool)
      local future = pool:submit(math.sqrt, 9)
      future:wait()
      assert.is_false(future:cancel())
      assert.equal(3, future:get())
    end)
  end)

  it("a future that is dropped is no trouble", function()
    with_pool(function(pool)
      for i = 1, 100 do
        pool:submit(math.sqrt, i)
      end
      collectgarbage()
      assert.equal(3, pool:apply(math.sqrt, 9))
    end)
  end)

  it("get, wait refuse seconds that are none", function()
    with_pool(function(pool)
      local future = pool:submit(math.sqrt, 9)
      for _, seconds in ipairs({ -1, 0 / 0, "soon", {} }) do
        assert.is_false(pcall(future.get, future, seconds))
        assert.is_false(pcall(future.wait, future, seconds))
      end
      assert.equal(3, future:get())
    end)
  end)
end)

backends.each(function(with)
  --- Calls body with a pool of one worker, a future whose call runs until the gate opens, and the gate.
  local function with_held_pool(body)
    local entered, released = gates.new(), gates.new()
    local pool = parallel.pool(with({ workers = 1 }))
    local held = pool:submit(function()
      gates.open(entered)
      gates.await(released)
      return "released"
    end)
    gates.await(entered)
    body(pool, held, released)
    gates.open(released)
    pool:close()
    pool:join()
    gates.remove(entered, released)
  end

  it("get and wait give up after their seconds, and leave the future as it was", function()
    with_held_pool(function(_, held, released)
      assert.is_false(held:done())
      for _, seconds in ipairs({ 0, 0.01 }) do
        local e = caught(held.get, held, seconds)
        assert.equal(parallel.Error, getmetatable(e))
        assert.equal("timeout", e.kind)
        assert.is_false(held:wait(seconds))
      end
      assert.is_false(held:done())
      gates.open(released)
      assert.equal("released", held:get(30))
      assert.is_true(held:done())
    end)
  end)

  it("cancel takes back what has not begun, and nothing else", function()
    with_held_pool(function(pool, held, released)
      local first = pool:submit(math.sqrt, 1)
      local second = pool:submit(math.sqrt, 4)
      local third = pool:submit(math.sqrt, 9)
      assert.is_true(second:cancel())
      assert.is_true(second:done())
      assert.equal("cancelled", caught(second.get, second).kind)
      gates.open(released)
      assert.equal("released", held:get())
      assert.equal(1, first:get())
      assert.equal(3, third:get())
      assert.equal("cancelled", caught(second.get, second).kind)
    end)
  end)

  it("cancel stops what runs, and the pool works on", function()
    local entered = gates.new()
    local pool = parallel.pool(with({ workers = 1 }))
    local future = pool:submit(function()
      gates.open(entered)
      parallel.sleep(3600)
      return "slept"
    end)
    local neighbour = pool:submit(math.sqrt, 16)
    gates.await(entered)
    gates.remove(entered)
    assert.is_true(future:cancel())
    assert.equal("cancelled", caught(future.get, future).kind)
    assert.equal(4, neighbour:get())
    pool:close()
    pool:join()
  end)

  it("all workers work on futures at the same time", function()
    local meeting = { gates.new(), gates.new(), gates.new() }
    local pool = parallel.pool(with({ workers = 3 }))
    local futures = {}
    for i = 1, 3 do
      futures[i] = pool:submit(function(own)
        gates.open(own)
        for _, gate in ipairs(meeting) do
          gates.await(gate)
        end
        return own
      end, meeting[i])
    end
    for i = 1, 3 do
      assert.equal(meeting[i], futures[i]:get())
    end
    pool:close()
    pool:join()
    gates.remove(meeting[1], meeting[2], meeting[3])
  end)
end, backends.concurrent)
