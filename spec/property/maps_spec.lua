-- SPDX-License-Identifier: MIT
--
-- Parallel calls on random data give what plain loops give, whatever the options.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local graphs = require("spec.support.graphs")
local parallel = require("parallel")
local Random = require("spec.support.random")
local seed = require("spec.support.seed")

local ROUNDS = backends.rounds(40)

--- Functions over numbers: some give several values, or none, or fail.
local functions = {
  function(x)
    return x * x
  end,
  function(x)
    return x % 3 ~= 0 and x or nil, x % 2 == 0
  end,
  function(x)
    return { x, text = ("%g"):format(x) }
  end,
  function(x)
    if x % 4 < 1 then
      return
    end
    return x, nil, "third"
  end,
  tostring,
  math.abs,
}

local function fails_often(x)
  if x % 5 < 2 then
    error("bad", 0)
  end
  return x + 1
end

local function random_items(rng)
  local n = rng:pick({ 0, 1, 2, 3, 10, 63, 64, 100, 400 })
  local list = { n = n }
  local fractions = rng:once_in(3)
  for i = 1, n do
    local whole = rng:integer(-1000, 1000)
    list[i] = fractions and whole / 4 or whole
  end
  local form = rng:integer(1, 2)
  if form == 1 then
    return list, function()
      return list
    end
  end
  return list, function()
    local i = 0
    return function()
      i = i + 1
      return list[i]
    end
  end
end

--- What a plain loop makes of a list: as many lists as fn gave values at most, one at least.
local function plain_map(fn, list)
  local lists = { { n = list.n } }
  for i = 1, list.n do
    local values = { n = 0 }
    local function keep(...)
      values = { n = select("#", ...), ... }
    end
    keep(fn(list[i]))
    for k = 1, values.n do
      lists[k] = lists[k] or { n = list.n }
      lists[k][i] = values[k]
    end
  end
  return lists
end

backends.each_size(function(with)
  it("maps, streams and filters of random items give what loops give", function()
    local rng = Random.new(seed)
    for round = 1, ROUNDS do
      local list, source = random_items(rng)
      local fn = rng:pick(functions)
      local options = with({ chunk = rng:pick({ "auto", "guided", 1, 2, 7, 64, 1000 }) })
      local lists = plain_map(fn, list)
      local what = ("round %d with LUMAP_SPEC_SEED=%d"):format(round, seed)

      local same, where = graphs.equal(lists, { parallel.map(fn, source(), options) })
      assert.is_true(same, ("map, %s: %s"):format(what, tostring(where)))

      for _, verb in ipairs({ "imap", "imap_unordered" }) do
        local seen, count = {}, 0
        for i, value in parallel[verb](fn, source(), options) do
          if verb == "imap" then
            assert.equal(count + 1, i)
          end
          seen[i], count = value, count + 1
        end
        seen.n = count
        same, where = graphs.equal(lists[1], seen)
        assert.is_true(same, ("%s, %s: %s"):format(verb, what, tostring(where)))
      end

      assert.equal(list.n, parallel.each(fn, source(), options))

      local kept = { n = 0 }
      for i = 1, list.n do
        if lists[1][i] then
          kept.n = kept.n + 1
          kept[kept.n] = list[i]
        end
      end
      same, where = graphs.equal(kept, parallel.filter(fn, source(), options))
      assert.is_true(same, ("filter, %s: %s"):format(what, tostring(where)))
    end
  end)

  it("errors among random items are those of loops", function()
    local rng = Random.new(seed + 1)
    for _ = 1, ROUNDS do
      local list, source = random_items(rng)
      local chunk = rng:pick({ "auto", "guided", 1, 2, 7, 64, 1000 })
      local first
      local collected = parallel.map(fails_often, source(), with({ chunk = chunk, errors = "collect" }))
      for i = 1, list.n do
        local ok, value = pcall(fails_often, list[i])
        if ok then
          assert.equal(value, collected[i])
          assert.is_nil(collected.errors and collected.errors[i])
        else
          first = first or i
          assert.is_nil(collected[i])
          assert.equal(value, collected.errors[i].message)
          assert.equal(i, collected.errors[i].index)
        end
      end
      for _, policy in ipairs({ "stop", "finish" }) do
        local ok, e = pcall(parallel.map, fails_often, source(), with({ chunk = chunk, errors = policy }))
        assert.equal(first == nil, ok)
        if first then
          assert.equal(first, e.index)
        end
      end
    end
  end)
end)
