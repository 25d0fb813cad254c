-- SPDX-License-Identifier: MIT
--
-- Parallel calls from inside items: they run on the worker that makes them, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

backends.each_size(function(with)
  it("every verb nests, whatever back-end and workers the inner call names", function()
    local function inner(x)
      local options = { backend = "thread", workers = 7, chunk = 2 }
      local function square(y)
        return y * y
      end
      local function add(a, b)
        return a + b
      end
      local list = parallel.map(square, { x, 2, 3 }, options)
      local sum = parallel.reduce(add, list, options)
      sum = sum + parallel.mapreduce(square, add, list, { backend = "process" })
      for _, value in parallel.imap(square, list, options) do
        sum = sum - value
      end
      sum = sum + #parallel.filter(square, list) + parallel.each(square, list)
      return sum + parallel.submit(square, x):get()
    end
    local expected = { n = 6 }
    for x = 1, 6 do
      expected[x] = x * x + 13 + 6 + x * x
    end
    assert.same(expected, parallel.map(inner, parallel.range(1, 6), with()))
  end)

  it("calls nest deep", function()
    local function dive(depth)
      return depth == 0 and 0 or 1 + parallel.map(dive, { depth - 1 })[1]
    end
    assert.same({ 12, 12, n = 2 }, parallel.map(dive, { 12, 12 }, with()))
  end)
end)

backends.each(function(with, backend)
  it("a nested call starts no thread and no process", function()
    local pool = parallel.pool(with())
    -- Workers that have begun: their number does not change any more.
    pool:map(math.sqrt, parallel.range(1, 4), { chunk = 1 })
    local counts = pool:map(function()
      local census = require("spec.support.census")
      local function count()
        local n = 0
        for _, kind in ipairs({ "threads", "children" }) do
          for _ in pairs(census[kind]()) do
            n = n + 1
          end
        end
        return n
      end
      local before = count()
      local deeper = parallel.map(function()
        return parallel.map(math.sqrt, { 1, 4 }, { backend = "process", workers = 3 })[2]
      end, { 1, 2, 3 }, { backend = "thread", workers = 5 })
      return count() - before + deeper[3] - 2
    end, { 1 }, { chunk = 1 })
    assert.equal(0, counts[1], backend)
    pool:close()
    pool:join()
  end)

  it("an inner item's end by os.exit is an error of the inner call", function()
    local list = parallel.map(function(x)
      local inner = parallel.map(function(y)
        if y == x then
          os.exit(y)
        end
        return y
      end, { 1, 2, 3 }, { errors = "collect" })
      return inner.errors[x].kind .. inner.errors[x].exit_code .. (inner[3] or "")
    end, { 1, 2 }, with())
    assert.same({ "died13", "died23", n = 2 }, list)
  end)

  it("what init set is not seen by a call that did not ask for it, at any depth", function()
    local function init()
      secret = "set" -- luacheck: ignore 111
    end
    local function look()
      local inner = parallel.map(function()
        return secret or "none" -- luacheck: ignore 113
      end, { 1 })
      return secret or "none", inner[1] -- luacheck: ignore 113
    end
    for _ = 1, 2 do
      local own, inner = parallel.map(look, { 1 }, with({ init = init }))
      -- The inner function reads it, so it was sent along as any global.
      assert.same({ "set", "set" }, { own[1], inner[1] })
      own, inner = parallel.map(look, { 1 }, with())
      assert.same({ "none", "none" }, { own[1], inner[1] })
    end
  end)

  it("an inner error is the value of the outer one, at any depth", function()
    local function fail(depth)
      if depth == 0 then
        error({ code = 7 })
      end
      parallel.map(fail, { depth - 1 })
    end
    local ok, e = pcall(parallel.map, fail, { 3 }, with())
    assert.is_false(ok)
    for _ = 1, 3 do
      assert.same({ parallel.Error, "error", 1 }, { getmetatable(e), e.kind, e.index })
      e = e.value
    end
    assert.equal(7, e.value.code)
  end)

  describe("a module that makes a pool when it is loaded", function()
    local function run(use)
      return interpreter.run_code(
        [[
          local ok, eager = pcall(require, "spec.support.fixtures.eager")
          if not ok then
            io.stderr:write(tostring(eager))
            os.exit(3, true)
          end
          for _, backend in ipairs({ "serial", "thread", "process" }) do
            for _, workers in ipairs({ 1, 2, 5, 13 }) do
              print(parallel.map(eager.double, { 1, 2, 3 }, { backend = backend, workers = workers, chunk = 1 })[3])
            end
          end
        ]],
        { seconds = 60, env = { EAGER_BACKEND = backend, EAGER_USE = use } }
      )
    end

    it("can be loaded by workers", function()
      assert.same({ stdout = ("6\n"):rep(12), stderr = "", code = 0 }, run("no"))
    end)

    it("and uses it for what needs the module ends with an error that tells", function()
      local result = run("yes")
      assert.equal(3, result.code)
      assert.is_truthy(result.stderr:find("pools are nested", 1, true), result.stderr)
      assert.is_truthy(result.stderr:find("top level of a module", 1, true), result.stderr)
    end)
  end)
end)

backends.each(function(with)
  --- Runs `body(entered)` in an item of an item of an item, cancels that when the gate `entered` is open, and asserts
  --- that the worker is free again.
  local function assert_cancelled(body)
    local entered = gates.new()
    local pool = parallel.pool(with({ workers = 1 }))
    local future = pool:submit(function()
      parallel.map(function()
        parallel.map(function()
          body(entered)
        end, { 1 })
      end, { 1 })
    end)
    gates.await(entered)
    assert.is_true(future:cancel())
    assert.equal("cancelled", select(2, pcall(future.get, future)).kind)
    assert.equal(4, pool:apply(math.sqrt, 16))
    gates.remove(entered)
    pool:close()
    pool:join()
  end

  it("cancel reaches an inner item that sleeps, that counts, that catches errors", function()
    assert_cancelled(function(entered)
      gates.open(entered)
      parallel.sleep(3600)
    end)
    assert_cancelled(function(entered)
      gates.open(entered)
      local n = 0
      while true do
        n = n + #os.date()
      end
    end)
    assert_cancelled(function(entered)
      gates.open(entered)
      while true do
        pcall(function()
          while true do
            os.date()
          end
        end)
      end
    end)
  end)

  it("an item whose result nobody needs any more begins no new inner item", function()
    local entered = gates.new()
    local ok, e = pcall(parallel.map, function(i)
      if i == 1 then
        gates.await(entered)
        error("first", 0)
      end
      gates.open(entered)
      parallel.each(math.sqrt, parallel.range(1, 2 ^ 50), { chunk = 10 })
    end, { 1, 2 }, with({ chunk = 1 }))
    gates.remove(entered)
    assert.is_false(ok)
    assert.same({ 1, "first" }, { e.index, e.message })
  end)
end, backends.concurrent)
