-- SPDX-License-Identifier: MIT
--
-- Nothing of a call stays behind, here or in a worker, on every back-end.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local census = require("spec.support.census")
local gates = require("spec.support.gates")
local parallel = require("parallel")

local function square(x)
  return x * x
end

--- Bytes of this state's heap, garbage aside.
local function heap()
  if jit then
    jit.flush() -- machine code is made now and then, and is no leak
  end
  -- What has a finalizer is freed by the cycle after the one that finalized it, and so is what it made then.
  for _ = 1, 4 do
    collectgarbage()
  end
  return collectgarbage("count") * 1024
end

-- What a round of calls may leave in a heap: less than a byte for each of its calls and items.
local SLACK = 1024

backends.each(function(with, backend)
  it("arguments and results can be collected after the call", function()
    local alive = setmetatable({}, { __mode = "v" })
    -- A function of its own: what is left in the registers of this one would be alive.
    local function use()
      local items = {}
      for i = 1, 100 do
        items[i] = { i }
        alive[i] = items[i]
      end
      local results = parallel.map(function(item)
        return { item[1] }
      end, items, with())
      for i = 1, 100 do
        alive[100 + i] = results[i]
      end
      local upvalue = { "upvalue" }
      alive[201] = upvalue
      alive[202] = function()
        return upvalue
      end
      parallel.map(alive[202], { 1 }, with())
    end
    use()
    if jit then
      jit.flush() -- machine code keeps what was constant when it was made
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(alive))
  end)

  it("results can be collected though the code that stored them was compiled", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local alive = setmetatable({}, { __mode = "v" })
    local verbs = { "map", "filter" }
    local function use(verb)
      alive[1] = pool[verb](pool, square, parallel.range(1, 300), { chunk = 1 })
    end
    for call = 1, 8 do
      local verb = verbs[call % 2 + 1]
      use(verb)
      collectgarbage()
      collectgarbage()
      assert.is_nil(alive[1], ("%s, call %d"):format(verb, call))
    end
    pool:close()
    pool:join()
  end)

  it("arguments can be collected in the worker", function()
    local pool = parallel.pool({
      backend = backend,
      workers = 1,
      init = function()
        alive = setmetatable({}, { __mode = "k" }) -- luacheck: ignore 111
      end,
    })
    pool:each(function(item)
      alive[item] = true -- luacheck: ignore 112 113
    end, { {}, {}, {} })
    local left = pool:apply(function()
      collectgarbage()
      collectgarbage()
      local count = 0
      for _ in pairs(alive) do -- luacheck: ignore 113
        count = count + 1
      end
      return count
    end)
    pool:close()
    pool:join()
    assert.equal(0, left)
  end)

  it("a thousand calls leave memory, threads, processes and descriptors as they were", function()
    local pool = parallel.pool(with({ workers = 1 }))
    local function call(i)
      local offset = i
      local list = pool:map(function(x)
        return { x[1] + offset }
      end, { { 1 }, { 2 }, { 3 } }, { chunk = 1 })
      assert.equal(3 + i, list[3][1])
      assert.equal("bad", pool:map(error, { { "bad" } }, { errors = "collect" }).errors[1].value[1])
      pool:imap(square, { 1, 2, 3, 4 }, { chunk = 1 })()
      assert.equal(i * i, pool:submit(square, i):get())
    end
    -- What a leak adds, it adds in each round; what warms up, it adds in some.
    local own_growth, their_growth = math.huge, math.huge
    call(1)
    local before = census.snapshot()
    local own, theirs = heap(), pool:apply(heap)
    for _ = 1, backends.rounds(10) do
      for i = 1, backends.rounds(250) do
        call(i)
      end
      local own_now, theirs_now = heap(), pool:apply(heap)
      own_growth = math.min(own_growth, own_now - own)
      their_growth = math.min(their_growth, theirs_now - theirs)
      own, theirs = own_now, theirs_now
    end
    census.assert_flat(before)
    assert.is_true(own_growth < SLACK, ("the caller's heap grows by %d bytes a round"):format(own_growth))
    assert.is_true(their_growth < SLACK, ("the worker's heap grows by %d bytes a round"):format(their_growth))
    pool:close()
    pool:join()
  end)

  it("a hundred pools leave threads, processes and descriptors as they were", function()
    parallel.map(square, { 1 }, with())
    local before = census.snapshot()
    for i = 1, backends.rounds(100) do
      local pool = parallel.pool(with())
      assert.equal(i * i, pool:apply(square, i))
      if i % 3 == 0 then
        pool:terminate()
      elseif i % 3 == 1 then
        pool:close()
        pool:join()
      end
    end
    collectgarbage()
    census.assert_flat(before)
  end)
end)

backends.each(function(with)
  it("each worker has the same descriptors, however many siblings it has", function()
    local before = census.snapshot()
    local pool = parallel.pool(with({ workers = 6 }))
    local counts = {}
    -- Each item waits until all six run, so that no worker runs two.
    local entered = {}
    for i = 1, 6 do
      entered[i] = gates.new()
    end
    local list = pool:map(function(i)
      gates.open(entered[i])
      for k = 1, 6 do
        gates.await(entered[k])
      end
      local kinds = {}
      for _, target in pairs(census.descriptors()) do
        -- "socket:[1234]" is one of another number in each.
        kinds[#kinds + 1] = (target:gsub("%d+", "N"))
      end
      table.sort(kinds)
      return table.concat(kinds, " ")
    end, parallel.range(1, 6), { chunk = 1 })
    gates.remove(entered[1], entered[2], entered[3], entered[4], entered[5], entered[6])
    pool:close()
    pool:join()
    for i = 1, 6 do
      counts[list[i]] = true
    end
    local kinds = next(counts)
    assert.is_nil(next(counts, kinds), "workers differ in their descriptors")
    census.assert_flat(before)
  end)
end, { "process" })
