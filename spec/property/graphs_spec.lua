-- SPDX-License-Identifier: MIT
--
-- Random graphs of tables, metatables and functions come back the same by every way.
--
-- A graph that fails is told by its seed: graphs.random(seed, options) makes it again.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local graphs = require("spec.support.graphs")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")
local seed = require("spec.support.seed")

local COUNT = interpreter.sanitized and 50 or 300

local function assert_equal(expected, result, graph_seed)
  local same, where = graphs.equal(expected, result)
  assert.is_true(same, ("graph %d differs at %s"):format(graph_seed, tostring(where)))
end

describe("the helper that compares graphs", function()
  it("finds each graph equal to itself and to its twin", function()
    for i = 1, 50 do
      local graph = graphs.random(seed + i, { functions = true })
      assert_equal(graph, graph, seed + i)
      assert_equal(graph, graphs.random(seed + i, { functions = true }), seed + i)
    end
  end)

  it("sees each kind of difference", function()
    local shared = {}
    local count, other_count = 0, 0
    local function up()
      count = count + 1
    end
    local function get()
      return count
    end
    local function get_other()
      return other_count
    end
    for _, pair in ipairs({
      { 1, 2 },
      { 1, "1" },
      { {}, 0 },
      { 0.0, -1 / (1 / 0) },
      { { 1 }, { 1, 2 } },
      { { 1, 2 }, { 1 } },
      { { { 1 } }, { { 2 } } },
      { { shared, shared }, { {}, {} } },
      { { {}, {} }, { shared, shared } },
      { setmetatable({}, { 1 }), {} },
      { setmetatable({}, { 1 }), setmetatable({}, { 2 }) },
      { { [{ mark = 1 }] = 1 }, { [{ mark = 1 }] = 2 } },
      { { [{ mark = 1 }] = 1 }, { [{ mark = 2 }] = 1 } },
      { { [{ mark = 1, 1 }] = 1 }, { [{ mark = 1, 2 }] = 1 } },
      { print, tostring },
      { up, get },
      { { up, get }, { up, get_other } },
    }) do
      assert.is_false((graphs.equal(pair[1], pair[2])))
      assert.is_false((graphs.equal(pair[2], pair[1])))
    end
    if math.type then
      assert.is_false((graphs.equal(1, 1.0)))
    end
  end)
end)

it("random graphs go through codec.encode and decode", function()
  for i = 1, COUNT do
    local with_functions = i % 2 == 0
    local options = { functions = with_functions }
    local graph = graphs.random(seed + i, options)
    local bytes = codec.encode(graph, options)
    assert_equal(graph, codec.decode(bytes, options), seed + i)
    assert.is_true(codec.check(graph))
  end
end)

backends.each(function(with)
  it("random graphs go through a map, as items and as results", function()
    local items = {}
    for i = 1, COUNT do
      items[i] = graphs.random(seed + i, { functions = i % 2 == 0, apart = true })
    end
    local equal_there, results = parallel.map(function(item)
      local graph_seed = seed + parallel.index()
      local twin = graphs.random(graph_seed, { functions = parallel.index() % 2 == 0, apart = true })
      return graphs.equal(item, twin), item
    end, items, with())
    for i = 1, COUNT do
      assert.is_true(equal_there[i], ("graph %d differs in the worker"):format(seed + i))
      assert_equal(items[i], results[i], seed + i)
    end
  end)

  it("random graphs go through upvalues", function()
    for i = 1, 30 do
      local graph = graphs.random(seed + 1000 + i, { functions = true, apart = true })
      local result = parallel.map(function()
        return graph
      end, { 1 }, with())[1]
      assert_equal(graph, result, seed + 1000 + i)
    end
  end)
end)
