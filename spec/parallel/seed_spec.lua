-- SPDX-License-Identifier: MIT
--
-- Option `seed`: a stream of random numbers for each item; and what random numbers workers have without it.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

--- What the range forms give, as text that shows every bit.
local function draw()
  return ("%.17g %d %d %d"):format(math.random(), math.random(6), math.random(-5, 5), math.random(-2 ^ 53, 2 ^ 53))
end

-- What each VM must give for items 1, 2, 3 under seed 42.
local expected = {
  "0.93422303600404111 2 0 -7896391890284608",
  "0.5507446977963244 3 -4 -2475446754155628",
  "0.57505425048810355 2 -2 1505045305485412",
  n = 3,
}

local function raises(text, ...)
  local ok, message = pcall(...)
  assert.is_false(ok)
  assert.truthy(tostring(message):find(text, 1, true), tostring(message))
end

describe("seed", function()
  backends.each_size(function(with)
    it("gives the same numbers, whatever the chunks", function()
      for _, chunk in ipairs({ 1, 2, 100, "auto", "guided" }) do
        assert.same(expected, parallel.map(draw, parallel.range(1, 3), with({ seed = 42, chunk = chunk })))
      end
    end)

    it("gives folding functions the same numbers, at each border between neighbours", function()
      local function drawn(i)
        return i % 5 ~= 1 and ("%d:%d"):format(i, math.random(1000)) or nil
      end
      local function join(a, b)
        return ("%s |%d| %s"):format(a, math.random(1000), b)
      end
      local words = {}
      for i = 1, 17 do
        words[i] = tostring(i)
      end
      local serial = { backend = "serial", workers = 1, chunk = 1000, seed = 42, initial = "start" }
      local mapped = parallel.mapreduce(drawn, join, parallel.range(1, 17), serial)
      local reduced = parallel.reduce(join, words, serial)
      for _, chunk in ipairs({ 1, 2, 3, 100, "auto", "guided" }) do
        local options = with({ seed = 42, chunk = chunk, initial = "start" })
        assert.equal(mapped, parallel.mapreduce(drawn, join, parallel.range(1, 17), options))
        assert.equal(reduced, parallel.reduce(join, words, options))
      end
      local seen = {}
      for number in reduced:gmatch("|(%d+)|") do
        seen[#seen + 1] = number
      end
      assert.equal(17, #seen)
      assert.not_equal(seen[1], seen[2])
    end)

    it("gives what folds map the same numbers", function()
      local function drawn(i)
        return ("%d:%d "):format(i, math.random(1000))
      end
      local function join(a, b)
        return a .. b
      end
      local serial = { backend = "serial", workers = 1, chunk = 1, seed = 42 }
      local expected_text = parallel.mapreduce(drawn, join, parallel.range(1, 17), serial)
      for _, chunk in ipairs({ 1, 3, 100, "auto", "guided" }) do
        local options = with({ seed = 42, chunk = chunk })
        assert.equal(expected_text, parallel.mapreduce(drawn, join, parallel.range(1, 17), options))
      end
    end)
  end, backends.all)

  backends.each(function(with)
    it("is for every verb and kind of item", function()
      local opts = with({ seed = 42 })
      assert.same(expected, parallel.map(draw, { "a", "b", "c" }, opts))
      assert.same(expected, parallel.map(draw, { 0.5, 1.5, 2.5 }, opts))
      assert.same(expected, parallel.starmap(draw, { {}, { 1 }, { 1, 2 } }, opts))
      local pulled = 0
      local function source()
        pulled = pulled + 1
        return pulled <= 3 and pulled or nil
      end
      for i, text in parallel.imap(draw, source, opts) do
        assert.equal(expected[i], text)
      end
      for i, text in parallel.imap_unordered(draw, { {}, {}, {} }, opts) do
        assert.equal(expected[i], text)
      end
      local picked = parallel.filter(function()
        return draw() == expected[2]
      end, parallel.range(1, 20), opts)
      assert.same({ 2, n = 1 }, picked)
      local pool = parallel.pool(with())
      assert.same(expected, pool:map(draw, parallel.range(1, 3), { seed = 42 }))
      pool:close()
      pool:join()
    end)

    it("gives numbers to functions over numbers, compiled or not", function()
      local opts = with({ seed = 1 })
      local all = parallel.map(function()
        return math.random()
      end, parallel.range(1, 3000), opts)
      local one = parallel.map(function()
        return (math.random())
      end, { 1 }, opts)
      assert.equal(one[1], all[1])
      local again = parallel.map(function(i)
        return { i, math.random() }
      end, parallel.range(1, 3000), opts)
      for i = 1, 3000 do
        assert.equal(all[i], again[i][2])
      end
    end)

    it("differs between items and between seeds", function()
      local seen = {}
      for _, seed in ipairs({ 0, 1, -1, 2 ^ 53, -2 ^ 53 }) do
        for _, number in ipairs(parallel.map(math.random, { 2 ^ 50, 2 ^ 50, 2 ^ 50, 2 ^ 50 }, with({ seed = seed }))) do
          assert.is_nil(seen[number])
          seen[number] = true
        end
      end
    end)

    it("reaches a math.random that was put aside", function()
      local random = math.random
      local aside = { parallel.map(function()
        return random(1000), math.random(1000), require("spec.support.fixtures.dice").roll()
      end, parallel.range(1, 40), with({ seed = 5 })) }
      local plain = { parallel.map(function()
        return math.random(1000), math.random(1000), math.random(1000)
      end, parallel.range(1, 40), with({ seed = 5 })) }
      assert.same(plain, aside)
    end)

    it("begins each item anew, also after a math.randomseed", function()
      local list, after = parallel.map(function()
        local text = draw()
        math.randomseed(7)
        return text, math.random(1000000)
      end, parallel.range(1, 3), with({ seed = 42, chunk = 3 }))
      assert.same(expected, list)
      assert.equal(after[1], after[2])
      assert.equal(after[1], after[3])
    end)

    it("gives an item that fails its numbers, and its neighbours theirs", function()
      local list = parallel.map(function()
        local number = math.random(1000)
        if number > 500 then
          error(number, 0)
        end
        return number
      end, parallel.range(1, 50), with({ seed = 9, errors = "collect" }))
      local plain = parallel.map(function()
        return math.random(1000)
      end, parallel.range(1, 50), with({ seed = 9 }))
      for i = 1, 50 do
        assert.equal(plain[i], list[i] or list.errors[i].value)
      end
    end)

    it("decides what is drawn in calls that an item makes", function()
      local function nested()
        return table.concat(parallel.map(math.random, { 1000, 1000, 1000 }), " ")
      end
      local list = parallel.map(nested, parallel.range(1, 4), with({ seed = 3 }))
      assert.same(list, parallel.map(nested, parallel.range(1, 4), with({ seed = 3, chunk = 4 })))
      assert.not_equal(list[1], list[2])
    end)

    it("leaves nothing behind for the next call", function()
      local function calls(between)
        local pool = parallel.pool({
          backend = with().backend,
          workers = 1,
          init = function()
            math.randomseed(7)
          end,
        })
        local first = pool:map(draw, { 1 })
        between(pool)
        local second = pool:map(draw, { 1 })
        pool:close()
        pool:join()
        return { first[1], second[1] }
      end
      local plain = calls(function() end)
      local mixed = calls(function(pool)
        assert.same(expected, pool:map(draw, parallel.range(1, 3), { seed = 42 }))
        pool:map(error, { 1, 2 }, { seed = 42, errors = "collect" })
      end)
      assert.same(plain, mixed)
    end)

    it("does without: workers and runs differ, math.randomseed acts within its worker", function()
      local seen = {}
      for _ = 1, 3 do
        local pool = parallel.pool(with())
        local number = pool:apply(math.random, 2 ^ 50)
        assert.is_nil(seen[number])
        seen[number] = true
        pool:terminate()
      end
      math.randomseed(11)
      local mine = math.random(2 ^ 50)
      math.randomseed(11)
      parallel.map(math.randomseed, { 1, 2, 3, 4 }, with())
      assert.equal(mine, math.random(2 ^ 50))
    end)
  end)

  it("refuses what is no integer that both VMs have", function()
    for _, seed in ipairs({ 1.5, "1", 2 ^ 54, -2 ^ 54, 1 / 0, 0 / 0, {} }) do
      raises("bad option 'seed' to 'map' (an integer from -2^53 to 2^53 expected", parallel.map, math.sqrt, { 1 }, {
        seed = seed,
      })
    end
  end)

  it("differs between the workers of one pool", function()
    for _, backend in ipairs(backends.concurrent) do
      local pool = parallel.pool({ backend = backend, workers = 2 })
      local own, other = gates.new(), gates.new()
      local numbers = pool:starmap(function(mine, theirs)
        gates.open(mine)
        gates.await(theirs) -- so both workers have an item
        return math.random(2 ^ 50)
      end, { { own, other }, { other, own } }, { chunk = 1 })
      assert.not_equal(numbers[1], numbers[2])
      pool:terminate()
      gates.remove(own, other)
    end
  end)
end)

describe("math.random", function()
  local forms = [[
    math.randomseed(42)
    for i = 1, 200 do
      print(("%.17g"):format(math.random()), math.random(i), math.random(-i, 2 * i), math.random(1, 2 ^ 40))
    end
    print(pcall(math.random, 2, 1) or select(2, pcall(math.random, 2, 1)))
    print(select(2, pcall(math.random, "x")), select(2, pcall(math.random, {}, 1)), select("#", math.randomseed(1)))
  ]]

  it("is what the stock interpreter has", function()
    local ours = interpreter.run({ "-e", forms })
    assert.same(interpreter.run({ "-e", forms }, { program = interpreter.stock }), ours)
    assert.equal(0, ours.code)
  end)

  it("is one that the compiler of LuaJIT knows", function()
    local found, util = pcall(require, "jit.util")
    if not found then
      return
    end
    local here = util.funcinfo(math.random).ffid
    assert.is_number(here)
    local there = parallel.map(function()
      return require("jit.util").funcinfo(math.random).ffid
    end, { 1 })
    assert.equal(here, there[1])
  end)
end)
