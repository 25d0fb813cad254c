-- SPDX-License-Identifier: MIT
--
-- The parts of the benchmarks that judge: a wrong result ends a benchmark, and the figures are what they are called.

describe("the parts of scripts/bench", function()
  local compare, data, rounds, statistics, tables, turn
  local path = package.path

  setup(function()
    package.path = "scripts/bench/?.lua;" .. path
    compare, data, turn = require("codecs.compare"), require("codecs.data"), require("codecs.turn")
    rounds, statistics, tables = require("lib.rounds"), require("lib.statistics"), require("lib.tables")
  end)

  teardown(function()
    package.path = path
  end)

  it("end with an error when a result is wrong", function()
    local function side(spoil)
      return {
        name = "spoiler",
        encode = function(value)
          return codec.encode(value, { functions = true })
        end,
        decode = function(bytes)
          local copy = codec.decode(bytes, { functions = true })
          return spoil(copy) or copy
        end,
      }
    end
    local function refuses(name, spoil)
      local row = data[name].make(0.001)
      assert.is_true(turn(side(function() end), row).bytes > 0)
      assert.has_error(function()
        turn(side(spoil), row)
      end, "spoiler: what was decoded is not what was encoded")
    end
    refuses("integers", function(list)
      list[#list] = list[#list] + 1
    end)
    refuses("doubles", function(list)
      list[#list + 1] = 0
    end)
    refuses("records-chunks", function(list)
      list[1].tags[3] = nil
    end)
    refuses("long-string", function(text)
      return text .. "x"
    end)
    refuses("tree", function(node)
      node[2][2][1] = "2"
    end)
    refuses("graph", function(owners)
      owners[#owners].accounts[4].owner = owners[1]
    end)
    refuses("graph", function(owners)
      setmetatable(owners[2], getmetatable(owners[2].accounts[1]))
    end)
    refuses("graph", function(owners)
      owners[3].accounts[2].rule = math.max
    end)
  end)

  it("decode when the originals are gone, unless the row keeps them", function()
    local function alive(kept)
      local originals, found = setmetatable({}, { __mode = "k" }), nil
      local row = { count = 3, times = 2, kept = kept }
      function row.stream()
        return function()
          local value = {}
          originals[value] = true
          return value
        end
      end
      function row.check()
        return true
      end
      local figures = turn({
        encode = function()
          return "abc"
        end,
        decode = function()
          found = found or (next(originals) and "alive" or "gone")
        end,
      }, row)
      assert.equal(9, figures.bytes)
      return found
    end
    assert.equal("gone", alive(false))
    assert.equal("alive", alive(true))
  end)

  it("tell data of different content apart", function()
    local row = data.records.make(0.0001)
    local function digest(change)
      local value = row.stream()()
      change(value)
      return compare.digest(value, 0)
    end
    assert.equal(data.digest(row), digest(function() end))
    assert.are_not.equal(data.digest(row), digest(function(value)
      value[10].score = value[10].score + 0.125
    end))
    assert.are_not.equal(data.digest(row), digest(function(value)
      value[1].name, value[2].name = value[2].name, value[1].name
    end))
  end)

  it("let the sides take turns, back and forth, after one turn to warm up", function()
    local order = {}
    local function side(name)
      return {
        turn = function()
          order[#order + 1] = name
          return { place = #order }
        end,
      }
    end
    local logs = rounds.run({ side("a"), side("b"), side("c") }, 2)
    assert.equal("abcabccba", table.concat(order))
    assert.same({ { place = { 4, 9 } }, { place = { 5, 8 } }, { place = { 6, 7 } } }, logs)
  end)

  it("let a side that is slow sit out after two turns that count", function()
    local turns = { 0, 0 }
    local function side(i)
      return {
        turn = function()
          turns[i] = turns[i] + 1
          return { place = turns[i] }
        end,
      }
    end
    local logs = rounds.run({ side(1), side(2) }, 4, -1)
    assert.same({ { place = { 2, 3 } }, { place = { 2, 3 } } }, logs)
    assert.same({ 3, 3 }, turns)
    assert.same({ 0.5 }, statistics.ratios({ 1, 4 }, { 2 }))
  end)

  it("count medians, spreads and ratios", function()
    local values = { 5, 1, 2, 4, 3 }
    assert.equal(3, statistics.median(values))
    assert.equal(2.5, statistics.median({ 1, 2, 3, 10 }))
    assert.equal(2 / 3, statistics.spread(values))
    assert.equal(7, statistics.median({ 7 }))
    assert.same({ 0.5, 2 }, statistics.ratios({ 1, 4 }, { 2, 2 }))
    assert.same({ 5, 1, 2, 4, 3 }, values)
  end)

  it("write numbers with three digits that count", function()
    assert.equal("1234 12.3 1.23 0.123", table.concat({
      tables.figure(1234.4),
      tables.figure(12.34),
      tables.figure(1.234),
      tables.figure(0.1234),
    }, " "))
    assert.equal("1,234,567 123 1,000", table.concat({
      tables.count(1234567),
      tables.count(123),
      tables.count(1000),
    }, " "))
  end)
end)
