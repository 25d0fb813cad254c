-- SPDX-License-Identifier: MIT
--
-- Random graphs of tables, metatables, functions and registered objects come back the same by every way: as bytes,
-- through each back-end, from one VM to the other and back. LUMAP_SPEC_GRAPHS says how many thousands (2).
--
-- A graph that fails is told by its seed: graphs.random(seed, options) makes it again.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local graphs = require("spec.support.graphs")
local interpreter = require("spec.support.interpreter")
local lfs = require("lfs")
local parallel = require("parallel")
local seed = require("spec.support.seed")

local BATCHES, BATCH_SIZE = 2 * (tonumber(os.getenv("LUMAP_SPEC_GRAPHS")) or 2), 500
local PORTABLE = BATCHES * BATCH_SIZE
if interpreter.sanitized then
  BATCHES, BATCH_SIZE, PORTABLE = 1, 100, 100
end

local function assert_equal(expected, result, graph_seed, way)
  local same, where = graphs.equal(expected, result)
  if not same then
    -- Whether it differs still tells whether the graph is to blame or the comparison.
    local still = graphs.equal(expected, result) and "equal when compared again" or "as before when compared again"
    error(("graph %d differs at %s%s, %s"):format(graph_seed, where, way and ", " .. way or "", still))
  end
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
      { { 1, nil, 3 }, { 1, 2, 3 } },
      { { a = 1, b = 2 }, { a = 1, c = 2 } },
      { setmetatable({}, graphs.Parcel), {} },
    }) do
      assert.is_false((graphs.equal(pair[1], pair[2])))
      assert.is_false((graphs.equal(pair[2], pair[1])))
    end
    if math.type then
      assert.is_false((graphs.equal(1, 1.0)))
      assert.is_true((graphs.equal(1, 1.0, { portable = true })))
    end
    local _, where = graphs.equal({ a = { { b = 1 } } }, { a = { { b = 2 } } })
    assert.equal("value[a][1][b]", where)
  end)
end)

-- ---- every way ----------------------------------------------------------------------------------------------------

local ways = {}

--- Half of the graphs have functions.
local function options_of(i)
  return { functions = i % 2 == 0, apart = true }
end

function ways.bytes(list, first)
  for i, graph in ipairs(list) do
    local options = { functions = i % 2 == 0 }
    assert_equal(graph, codec.decode(codec.encode(graph, options), options), first + i)
  end
end

--- As items and as results, with another number of workers in each batch. One in ten is compared in the worker, too.
local function through_map(list, first, backend, batch)
  local counts = backends.worker_counts
  local results, differ = parallel.map(function(item)
    local i = parallel.index()
    if i % 10 == 0 and not graphs.equal(item, graphs.random(first + i, options_of(i))) then
      return item, true
    end
    return item
  end, list, { backend = backend, workers = counts[batch % #counts + 1] })
  for i, graph in ipairs(list) do
    assert.is_nil(differ and differ[i], ("graph %d differs in a %s worker"):format(first + i, backend))
    assert_equal(graph, results[i], first + i, "through a " .. backend)
  end
end

for _, backend in ipairs(backends.names) do
  ways["the " .. backend .. " back-end"] = function(list, first, batch)
    through_map(list, first, backend, batch)
  end
end

describe("random graphs are the same", function()
  for batch = 1, BATCHES do
    it(("by every way, batch %d of %d, with %d graphs"):format(batch, BATCHES, BATCH_SIZE), function()
      local first, list = seed + batch * BATCH_SIZE, {}
      for i = 1, BATCH_SIZE do
        list[i] = graphs.random(first + i, options_of(i))
      end
      for _, run in pairs(ways) do
        run(list, first, batch)
      end
    end)
  end

  it("though metatables and functions hold parts of the data, through bytes", function()
    for i = 1, BATCH_SIZE do
      local options = { functions = i % 2 == 0 }
      local graph = graphs.random(seed + i, options)
      assert_equal(graph, codec.decode(codec.encode(graph, options), options), seed + i)
      assert.is_true(codec.check(graph))
    end
  end)

  backends.each_size(function(with)
    it("through upvalues", function()
      for i = 1, 30 do
        local graph = graphs.random(seed + 1000 + i, { functions = true, apart = true })
        local result = parallel.map(function()
          return graph
        end, { 1 }, with())[1]
        assert_equal(graph, result, seed + 1000 + i)
      end
    end)
  end)
end)

-- ---- the other VM --------------------------------------------------------------------------------------------------

local other = interpreter.path:gsub("[^/]+$", interpreter.name == "lumap54" and "lumap" or "lumap54")
if not lfs.attributes(other) then
  return -- this build has one of them alone
end

it("random graphs from here are the same on the other VM, and those from there are the same here", function()
  local parts = {}
  for i = 1, PORTABLE do
    local bytes = codec.encode(graphs.random(seed + i, { portable = true }))
    parts[#parts + 1] = ("%d\n"):format(#bytes)
    parts[#parts + 1] = bytes
  end
  local result = interpreter.run({ "spec/support/fixtures/reread.lua", tostring(seed) }, {
    program = other,
    stdin = table.concat(parts),
    seconds = 300,
  })
  assert.equal("", result.stderr)
  assert.equal(0, result.code)
  local at = 1
  for i = 1, PORTABLE do
    local size, begin = result.stdout:match("^(%d+)\n()", at)
    assert.is_truthy(size, ("graph %d did not come back"):format(seed + i))
    at = begin + tonumber(size)
    local back = codec.decode(result.stdout:sub(begin, at - 1))
    local same, where = graphs.equal(graphs.random(seed + i, { portable = true }), back, { portable = true })
    assert.is_true(same, ("graph %d from the other VM differs at %s"):format(seed + i, tostring(where)))
  end
  assert.equal(#result.stdout, at - 1)
end)
