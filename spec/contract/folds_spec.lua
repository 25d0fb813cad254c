-- SPDX-License-Identifier: MIT
--
-- reduce and mapreduce give what a serial fold gives, on every back-end.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local parallel = require("parallel")

local function join(a, b)
  return a .. b
end

--- Words whose joined text tells in which order they were joined, and where each begins.
local function words(n)
  local list = {}
  for i = 1, n do
    list[i] = ("<%d>"):format(i)
  end
  return list
end

local function pulling(list)
  local i = 0
  return function()
    i = i + 1
    return list[i], "more"
  end
end

backends.each_size(function(with)
  it("reduce joins the items in their order, whatever the chunk", function()
    for _, n in ipairs({ 1, 2, 3, 40, 100 }) do
      local list = words(n)
      local text = table.concat(list)
      for _, chunk in ipairs({ 1, 7, 1000, "auto", "guided" }) do
        assert.equal(text, parallel.reduce(join, list, with({ chunk = chunk })))
        assert.equal("|" .. text, parallel.reduce(join, list, with({ chunk = chunk, initial = "|" })))
        assert.equal(text, parallel.reduce(join, pulling(list), with({ chunk = chunk, ahead = 5 })))
      end
    end
  end)

  it("mapreduce leaves out what is nil", function()
    local function thirds(i)
      if i % 3 == 0 then
        return i .. ","
      end
    end
    for _, chunk in ipairs({ 1, 2, 7, 1000, "auto" }) do
      local options = with({ chunk = chunk })
      assert.equal("3,6,9,12,15,18,", parallel.mapreduce(thirds, join, parallel.range(1, 20), options))
      assert.equal("3,", parallel.mapreduce(thirds, join, parallel.range(1, 5), options))
      assert.is_nil(parallel.mapreduce(thirds, join, { 1, 2, 4, 5, 7 }, options))
      options.initial = "from "
      assert.equal("from 3,6,", parallel.mapreduce(thirds, join, parallel.range(1, 8), options))
      assert.equal("from ", parallel.mapreduce(thirds, join, { 1, 2, 4, 5, 7 }, options))
    end
  end)

  it("a fold without items is its initial value, or nil", function()
    for _, empty in ipairs({ {}, parallel.range(1, 0), { 1, n = 0 } }) do
      assert.is_nil(parallel.reduce(join, empty, with()))
      assert.is_nil(parallel.mapreduce(tostring, join, empty, with()))
      assert.equal("start", parallel.reduce(join, empty, with({ initial = "start" })))
      assert.equal(false, parallel.mapreduce(tostring, join, empty, with({ initial = false })))
    end
    assert.is_nil(parallel.reduce(join, function() end, with()))
  end)

  it("false and nil are values of a fold like others", function()
    local function last(_, b)
      return b
    end
    assert.equal(false, parallel.reduce(last, { 1, 2, false }, with({ chunk = 1 })))
    assert.is_nil(parallel.reduce(last, { 1, 2, nil, n = 3 }, with({ chunk = 1 })))
    assert.equal(3, parallel.reduce(last, { nil, nil, 3 }, with({ chunk = 1 })))
  end)

  it("accumulators may be tables that the folding function changes", function()
    local function count(word)
      return { [word] = 1 }
    end
    local function add(into, counts)
      for word, n in pairs(counts) do
        into[word] = (into[word] or 0) + n
      end
      return into
    end
    local list = {}
    for i = 1, 90 do
      list[i] = "w" .. i % 3
    end
    local start = { w1 = 100 }
    local options = with({ chunk = 4, initial = start })
    assert.same({ w0 = 30, w1 = 130, w2 = 30 }, parallel.mapreduce(count, add, list, options))
    assert.same({ w1 = 100 }, start)
  end)
end, backends.all)

backends.each(function(with)
  -- Sleeps are the work here: a fold that takes its time.
  local function join_slowly(a, b)
    parallel.sleep(0.001)
    return a .. b
  end

  it("a fold that takes long has all items", function()
    local list = words(40)
    local text = table.concat(list)
    for _, chunk in ipairs({ 1, 2, 3, "auto" }) do
      assert.equal(text, parallel.reduce(join_slowly, list, with({ chunk = chunk })))
    end
  end)

  it("a fold that fails whenever it is tried fails in the end, with retries, too", function()
    local endings = {
      died = function()
        os.exit(3)
      end,
      timeout = function()
        parallel.sleep(60)
      end,
      memory = function()
        local text = "x"
        while true do
          text = text .. text
        end
      end,
    }
    -- A copy of this process holds what this process does.
    local limit = 2 ^ 25 + math.floor(collectgarbage("count")) * 1024
    for kind, ending in pairs(endings) do
      for _, chunk in ipairs({ 1, 3 }) do
        local options = { chunk = chunk, retries = 2, deadline = 60, memory_limit = kind == "memory" and limit or nil }
        options.timeout = kind == "timeout" and with().backend ~= "serial" and 0.1 or nil
        if kind ~= "timeout" or options.timeout then
          local e = caught(parallel.reduce, ending, parallel.range(1, 5), with(options))
          assert.equal(kind, e.kind, tostring(e))
          assert.is_nil(e.index)
        end
      end
    end
  end)

  it("a fold that its deadline ends, at whatever moment, has no value", function()
    local list = words(30)
    local text = table.concat(list)
    for _, chunk in ipairs({ 5, 30 }) do
      for milliseconds = 3, 39, 4 do
        local options = with({ chunk = chunk, deadline = milliseconds / 1000 })
        local ok, result = pcall(parallel.reduce, join_slowly, list, options)
        if ok then
          assert.equal(text, result)
        else
          assert.equal("deadline", result.kind, tostring(result))
          assert.is_nil(result.index)
        end
      end
    end
  end)
end, backends.all)

backends.each(function(with)
  it("mapfn gets all values of a source; its errors have an index, those of a folding function have none", function()
    local i = 0
    assert.equal("1-10 2-20 3-30 ", parallel.mapreduce(function(a, b)
      return a .. "-" .. b .. " "
    end, join, function()
      i = i + 1
      if i <= 3 then
        return i, i * 10
      end
    end, with({ chunk = 2 })))

    local function fail_at_4(item)
      if item == 4 then
        error("item 4")
      end
      return item
    end
    for _, errors in ipairs({ "stop", "finish" }) do
      local options = with({ errors = errors, chunk = 3 })
      local e = caught(parallel.mapreduce, fail_at_4, join, parallel.range(1, 9), options)
      assert.same({ "error", 4 }, { e.kind, e.index })
      assert.is_truthy(e.message:find("item 4", 1, true))
      e = caught(parallel.mapreduce, tostring, error, parallel.range(1, 9), options)
      assert.equal("error", e.kind)
      assert.is_nil(e.index)
      e = caught(parallel.reduce, error, parallel.range(1, 9), options)
      assert.equal("error", e.kind)
      assert.is_nil(e.index)
    end
  end)

  it("a fold whose parts fail only when they are joined fails without an index", function()
    -- Within a chunk all is well; the values of two chunks are what the function refuses.
    local function refuse_long(a, b)
      if #a + #b > 3 then
        error("too long", 0)
      end
      return a .. b
    end
    local e = caught(parallel.reduce, refuse_long, { "a", "b", "c", "d" }, with({ chunk = 2 }))
    assert.same({ "error", "too long" }, { e.kind, e.message })
    assert.is_nil(e.index)
    assert.equal("abc", parallel.reduce(refuse_long, { "a", "b", "c" }, with({ chunk = 2 })))
  end)

  it("a worker that ends while it folds is an error of kind 'died'", function()
    local e = caught(parallel.reduce, function()
      os.exit(3)
    end, { 1, 2, 3, 4 }, with({ chunk = 2 }))
    assert.same({ "died", 3 }, { e.kind, e.exit_code })
    assert.is_nil(e.index)
    assert.is_nil(e.message:find("item", 1, true), e.message)
    assert.equal(10, parallel.reduce(function(a, b)
      return a + b
    end, { 1, 2, 3, 4 }, with({ chunk = 2 })))
  end)

  it("the folding function runs in workers, and has no item", function()
    local changed = false
    local places = parallel.reduce(function(a, b)
      changed = true
      if parallel.index() ~= nil or parallel.worker() == nil then
        error("not where it belongs")
      end
      return a + b
    end, parallel.range(1, 60), with({ chunk = 1 }))
    assert.equal(1830, places)
    assert.is_false(changed)
  end)

  it("what cannot be sent is refused: the initial value before anything runs, an item with its index", function()
    local e = caught(parallel.reduce, join, function()
      error("asked for items")
    end, with({ initial = { log = io.tmpfile() } }))
    assert.equal("encode", e.kind)
    assert.is_truthy(e.message:find("cannot send initial.log (a file handle)", 1, true), e.message)
    e = caught(parallel.reduce, join, { "a", "b", io.tmpfile() }, with({ chunk = 1 }))
    assert.same({ "encode", 3 }, { e.kind, e.index })
    e = caught(parallel.reduce, function()
      return io.tmpfile()
    end, { "a", "b", "c" }, with())
    assert.equal("encode", e.kind)
    assert.is_nil(e.index)
  end)

  it("a pool folds as the module does", function()
    local pool = parallel.pool(with())
    assert.equal("<1><2><3>", pool:reduce(join, words(3)))
    assert.equal("123", pool:mapreduce(tostring, join, { 1, 2, 3 }, { chunk = 1 }))
    pool:close()
    pool:join()
  end)
end)

it("only folded values travel", function()
  local pool = parallel.ThreadPool(2)
  local length = pool:mapreduce(function(i)
    return ("x"):rep(i % 7 + 1000)
  end, function(a, b)
    return #a > #b and a or b
  end, parallel.range(1, 2000), { chunk = 100 })
  assert.equal(1006, #length)
  -- Twenty chunks give a value each, and each goes into one merge more.
  assert.is_true(pool:stats().bytes_received < 60000, pool:stats().bytes_received)
  pool:close()
  pool:join()
end)

it("a fold refuses what it cannot do, at the caller's line", function()
  local ok, message = pcall(function()
    return (parallel.reduce(join, { 1 }, { errors = "collect" }))
  end)
  assert.is_false(ok)
  assert.is_truthy(message:find("folds_spec.lua:%d+: bad option 'errors' to 'reduce'"), message)
  ok, message = pcall(function()
    return (parallel.mapreduce(join, 7, { 1 }))
  end)
  assert.is_false(ok)
  assert.is_truthy(message:find("folds_spec.lua:%d+: bad argument #2 to 'mapreduce'"), message)
  ok, message = pcall(function()
    return (parallel.mapreduce(join, join, 7))
  end)
  assert.is_false(ok)
  assert.is_truthy(message:find("folds_spec.lua:%d+: bad argument #3 to 'mapreduce'"), message)
  ok, message = pcall(function()
    return (parallel.map(join, {}, { initial = 1 }))
  end)
  assert.is_false(ok)
  assert.is_truthy(message:find("'initial' to 'map' belongs to mapreduce, reduce", 1, true), message)
end)
