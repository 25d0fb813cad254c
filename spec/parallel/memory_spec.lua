-- SPDX-License-Identifier: MIT
--
-- The option memory_limit: an item that runs out of memory fails, alone, and the pool stays usable.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local census = require("spec.support.census")
local journal = require("spec.support.journal")
local parallel = require("parallel")

-- Small, since it takes time to fill it.
local PIECE = 256 * 1024
local LIMIT = 16 * PIECE

local function square(x)
  return x * x
end

--- Holds as much memory as there is, and never ends by itself.
local function hoard()
  local held = {}
  repeat
    held[#held + 1] = { #held }
  until #held == math.huge
end

local function hoard_at_7(i)
  if i == 7 then
    hoard()
  end
  return i
end

backends.each_size(function(with)
  it("an item that runs out of memory fails with its index, and no other", function()
    local pool = parallel.pool(with({ memory_limit = LIMIT }))
    for _, chunk in ipairs({ 1, 5, 40 }) do
      local list = pool:map(hoard_at_7, parallel.range(1, 40), { chunk = chunk, errors = "collect" })
      for i = 1, 40 do
        assert.equal(i ~= 7 and i or nil, list[i])
      end
      local e = list.errors[7]
      assert.equal(parallel.Error, getmetatable(e))
      assert.equal("memory", e.kind)
      assert.equal(7, e.index)
      assert.truthy(e.message:find("memory", 1, true), e.message)
      list.errors[7] = nil
      assert.is_nil(next(list.errors))
    end
    pool:close()
    pool:join()
  end)
end)

backends.each(function(with, backend)
  it("is raised with errors = 'stop', and the pool works on", function()
    local pool = parallel.pool(with({ memory_limit = LIMIT }))
    for _ = 1, 3 do
      local e = caught(pool.map, pool, hoard_at_7, parallel.range(1, 40))
      assert.equal("memory", e.kind)
      assert.equal(7, e.index)
      assert.equal(40 * 40, pool:map(square, parallel.range(1, 40))[40])
    end
    pool:close()
    pool:join()
  end)

  it("an item may catch the lack of memory as any other error", function()
    local list = parallel.map(function(i)
      local ok, message = pcall(hoard)
      return not ok and message .. " " .. i
    end, { 1, 2, 3 }, with({ memory_limit = LIMIT }))
    assert.same({ "not enough memory 1", "not enough memory 2", "not enough memory 3", n = 3 }, list)
  end)

  it("what an item leaves in globals and upvalues ends its worker's state", function()
    local leak = {}
    local function leak_at_3(i)
      if i == 3 then
        while true do
          leak[#leak + 1] = { i }
        end
      end
      return #leak
    end
    local pool = parallel.pool(with({ memory_limit = LIMIT }))
    local list = pool:map(leak_at_3, { 1, 2, 3, 4, 5, 6 }, { errors = "collect" })
    assert.equal("memory", list.errors[3].kind)
    for _, i in ipairs({ 1, 2, 4, 5, 6 }) do
      assert.equal(0, list[i])
    end
    assert.equal(49, pool:apply(square, 7))
    pool:close()
    pool:join()
  end)

  it("garbage does not count: a state is collected before it is full", function()
    local function churn()
      local sum = 0
      for i = 1, 60 do
        local t = {}
        for k = 1, 10000 do
          t[k] = { k }
        end
        sum = sum + #t + i
      end
      return sum
    end
    assert.equal(60 * 10000 + 1830, parallel.map(churn, { 1 }, with({ memory_limit = LIMIT }))[1])
  end)

  it("an item that is too big to be decoded fails, alone", function()
    local items = {}
    for i = 1, 9 do
      items[i] = ("x"):rep(i == 4 and 2 * LIMIT or 100)
    end
    local list = parallel.map(function(text)
      return #text
    end, items, with({ memory_limit = LIMIT, errors = "collect", chunk = 9 }))
    for i = 1, 9 do
      assert.equal(i ~= 4 and 100 or nil, list[i])
    end
    assert.equal("memory", list.errors[4].kind)
    assert.equal(4, list.errors[4].index)
  end)

  it("items and results that are too much in one chunk are not too much", function()
    local items = {}
    for i = 1, 24 do
      items[i] = ("x"):rep(PIECE) .. i
    end
    local lengths = parallel.map(function(text)
      return #text
    end, items, with({ memory_limit = LIMIT, chunk = 24 }))
    local texts = parallel.map(function(i)
      return ("x"):rep(PIECE) .. i
    end, parallel.range(1, 24), with({ memory_limit = LIMIT, chunk = 24 }))
    for i = 1, 24 do
      assert.equal(PIECE + #tostring(i), lengths[i])
      assert.equal(items[i], texts[i])
    end
  end)

  it("a function that is too big to be sent fails its items", function()
    local big = ("x"):rep(2 * LIMIT)
    local e = caught(parallel.map, function()
      return #big
    end, { 1, 2 }, with({ memory_limit = LIMIT }))
    assert.equal("memory", e.kind)
  end)

  it("a limit below what a state takes is refused by the first call", function()
    local e = caught(parallel.map, square, { 1 }, with({ memory_limit = 1000 }))
    assert.equal("init", e.kind)
    assert.truthy(e.message:find("memory limit of 1000 bytes is too low", 1, true), e.message)
  end)

  it("belongs to a pool: methods refuse it, the module's verbs choose a pool by it", function()
    local pool = parallel.pool(with())
    local message = caught(pool.map, pool, square, { 1 }, { memory_limit = LIMIT })
    assert.truthy(message:find("option 'memory_limit' to 'map' belongs to the pool", 1, true), message)
    pool:close()
    pool:join()
    local function fits()
      return (pcall(string.rep, "x", 2 * LIMIT))
    end
    assert.is_false(parallel.map(fits, { 1 }, with({ memory_limit = LIMIT }))[1])
    assert.is_true(parallel.map(fits, { 1 }, with())[1])
    assert.is_true(parallel.map(fits, { 1 }, with({ memory_limit = 16 * LIMIT }))[1])
    assert.is_false(parallel.map(fits, { 1 }, with({ memory_limit = LIMIT }))[1])
  end)

  it("init has no more than the limit", function()
    local e = caught(parallel.map, square, { 1 }, with({ memory_limit = LIMIT, init = hoard }))
    assert.equal("init", e.kind)
    assert.truthy(e.message:find("not enough memory", 1, true), e.message)
  end)

  if backend ~= "serial" then
    it("leaves nothing behind but the pool", function()
      parallel.map(square, { 1 }, with({ memory_limit = LIMIT }))
      local before = census.snapshot()
      for _ = 1, backends.rounds(20) do
        caught(parallel.map, hoard_at_7, parallel.range(1, 20), with({ memory_limit = LIMIT }))
      end
      -- The other of two workers may have started since.
      local others = { process = { children = 1, descriptors = 2 }, thread = { threads = 1 } }
      census.assert_flat(before, { allow = others[backend] })
    end)
  end
end)

--- The limit for workers of a back-end. Copies hold what this process does.
local function limit_of(backend)
  if backend ~= "fork" then
    return LIMIT
  end
  collectgarbage()
  return LIMIT + math.floor(collectgarbage("count") * 1024)
end

backends.each(function(with, backend)
  describe("and retries:", function()
    -- What stays when the item has failed: nothing but garbage, or all of it.
    local kept = {}
    local ways = {
      garbage = hoard,
      ["what the function holds"] = function()
        while true do
          kept[#kept + 1] = { #kept }
        end
      end,
    }
    for name, fill in pairs(ways) do
      it("an item that runs out of memory is run again as often as it may: " .. name, function()
        local path = journal.new()
        local function fill_twice(i)
          if i == 3 then
            journal.add(path, "begun")
            if #journal.lines(path) <= 2 then
              fill()
            end
          end
          return i
        end
        local options = with({ memory_limit = limit_of(backend), retries = 2, chunk = 3 })
        assert.same({ 1, 2, 3, 4, 5, n = 5 }, parallel.map(fill_twice, parallel.range(1, 5), options))
        assert.equal(3, #journal.lines(path))
        journal.remove(path)
      end)

      it("and then named: " .. name, function()
        for _, policy in ipairs({ "stop", "finish", "collect" }) do
          local path = journal.new()
          local function always_fill(i)
            if i == 3 then
              journal.add(path, "begun")
              fill()
            end
            return { i } -- no number, so items run one by one
          end
          local options = with({ memory_limit = limit_of(backend), retries = 1, errors = policy, chunk = 5 })
          local ok, outcome = pcall(parallel.map, always_fill, parallel.range(1, 5), options)
          assert.equal(policy == "collect", ok)
          local e = ok and outcome.errors[3] or outcome
          assert.same({ "memory", 3 }, { e.kind, e.index })
          assert.equal(2, #journal.lines(path))
          for _, i in ipairs(ok and { 1, 2, 4, 5 } or {}) do
            assert.same({ i }, outcome[i])
          end
          journal.remove(path)
        end
      end)
    end
  end)
end, backends.all)

describe("memory_limit", function()
  it("is a number of bytes", function()
    for _, bad in ipairs({ 0, -1, 0.5, "16M", true }) do
      local message = caught(parallel.map, square, { 1 }, { memory_limit = bad })
      assert.truthy(message:find("bad option 'memory_limit' to 'map' (an integer from 1 up expected", 1, true), message)
    end
  end)
end)
