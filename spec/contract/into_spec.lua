-- SPDX-License-Identifier: MIT
--
-- Maps over buffers, and into buffers: on every back-end, without a table of items or results.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")
local processes = require("spec.support.processes")

local types = { "double", "float", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64" }

local function square(x)
  return x * x
end

local function counted(ctype, n)
  local buffer = parallel.buffer(ctype, n)
  for i = 1, n do
    buffer[i] = i
  end
  return buffer
end

--- The elements as plain numbers.
local function numbers(buffer)
  local list = {}
  for i = 1, #buffer do
    list[i] = tonumber(buffer[i])
  end
  return list
end

local function squares(n)
  local list = {}
  for i = 1, n do
    list[i] = i * i
  end
  return list
end

backends.each_size(function(with, backend)
  describe("a buffer as items", function()
    it("is read where it lies, by every verb", function()
      for _, chunk in ipairs({ 1, 3, "auto" }) do
        local function opts(more)
          more = more or {}
          more.chunk = chunk
          return with(more)
        end
        local buffer = counted("int16", 11)
        local list = parallel.map(square, buffer, opts())
        assert.equal(11, list.n)
        list.n = nil
        assert.same(squares(11), list)
        local texts = parallel.map(tostring, buffer:slice(10, 11), opts())
        assert.same({ "10", "11", n = 2 }, texts)
        assert.equal(66, parallel.reduce(function(a, b)
          return a + b
        end, buffer, opts()))
        assert.equal(506, parallel.mapreduce(square, function(a, b)
          return a + b
        end, buffer, opts()))
        assert.same({ 10, 11, n = 2 }, parallel.filter(function(x)
          return x > 9
        end, buffer, opts()))
        local counter = parallel.counter()
        assert.equal(11, parallel.each(function(x)
          counter:add(x)
        end, buffer, opts()))
        assert.equal(66, counter:get())
        local seen = {}
        for i, value in parallel.imap(square, buffer, opts()) do
          seen[i] = value
        end
        assert.same(squares(11), seen)
        assert.same({ n = 0 }, parallel.map(square, buffer:slice(12), opts()))
      end
    end)

    it("gives items of its type", function()
      for _, name in ipairs(types) do
        local list = parallel.map(function(x)
          return tostring(x) .. (math.type and math.type(x) or type(x))
        end, parallel.buffer(name, { 7, 8 }), with())
        local buffer = parallel.buffer(name, { 7, 8 })
        local kind = math.type and math.type(buffer[2]) or type(buffer[2])
        assert.same({ tostring(buffer[1]) .. kind, tostring(buffer[2]) .. kind, n = 2 }, list)
      end
    end)

    it("fails its items with their index", function()
      local list = parallel.map(function(x)
        return x == 3 and error("three") or x
      end, counted("double", 5), with({ errors = "collect" }))
      assert.same({ 1, 2, nil, 4, 5 }, { list[1], list[2], list[3], list[4], list[5] })
      assert.matches("three", list.errors[3].message, 1, true)
    end)
  end)

  describe("map into a buffer", function()
    it("stores each result in the place of its item, and returns the buffer", function()
      for _, name in ipairs(types) do
        for _, chunk in ipairs({ 1, 4, "auto" }) do
          local results = parallel.buffer(name, 11)
          local returned = parallel.map(square, counted(name, 11), with({ into = results, chunk = chunk }))
          assert.is_true(rawequal(results, returned))
          assert.same(squares(11), numbers(results))
        end
      end
    end)

    it("takes items of every kind", function()
      local function check(items, fn, opts)
        local results = parallel.buffer("double", 12):fill(-1)
        opts.into = results
        assert.is_true(rawequal(results, parallel.map(fn, items, with(opts))))
        local wanted = squares(11)
        wanted[12] = -1
        assert.same(wanted, numbers(results))
      end
      local list, texts, floats = {}, {}, {}
      for i = 1, 11 do
        list[i], texts[i], floats[i] = i, tostring(i), i + 0.0
      end
      for _, chunk in ipairs({ 1, 4, "auto" }) do
        check(parallel.range(1, 11), square, { chunk = chunk })
        check(parallel.range(1.0, 11.0), square, { chunk = chunk })
        check(list, square, { chunk = chunk })
        check(floats, square, { chunk = chunk })
        check(texts, function(text)
          return tonumber(text) ^ 2
        end, { chunk = chunk })
        local at = 0
        check(function()
          at = at + 1
          return at <= 11 and at or nil
        end, square, { chunk = chunk })
      end
    end)

    it("into the items' own memory reads what was there when the call began", function()
      local buffer = counted("double", 50)
      parallel.map(square, buffer, with({ into = buffer, chunk = 3 }))
      assert.same(squares(50), numbers(buffer))
      buffer = counted("double", 50)
      parallel.map(square, buffer:slice(1, 49), with({ into = buffer:slice(2), chunk = 3 }))
      local wanted = squares(49)
      table.insert(wanted, 1, 1)
      assert.same(wanted, numbers(buffer))
    end)

    it("fails an item whose result has no place in it", function()
      local results = parallel.buffer("uint8", 6):fill(9)
      local function give(i)
        if i == 2 then
          return 256
        elseif i == 3 then
          return nil
        elseif i == 4 then
          return "4"
        elseif i == 5 then
          return 0.5
        end
        return i
      end
      for _, items in ipairs({ parallel.range(1, 6), { 1, 2, 3, 4, 5, 6 }, counted("int32", 6) }) do
        local returned, errors = parallel.map(give, items, with({ into = results, errors = "collect" }))
        assert.is_true(rawequal(results, returned))
        assert.same({ 1, 9, 9, 9, 9, 6 }, numbers(results))
        local message = "the result of item 2 is 256, and it goes to a buffer of 6 uint8 "
          .. "(an integer from 0 to 255 expected)"
        assert.equal(message, errors[2].message)
        assert.matches("the result of item 3 is of type nil", errors[3].message, 1, true)
        assert.matches("the result of item 4 is of type string", errors[4].message, 1, true)
        assert.matches("the result of item 5 is 0.5", errors[5].message, 1, true)
        assert.is_nil(errors[6])
        results:fill(9)
        local ok, failure = pcall(parallel.map, give, items, with({ into = results }))
        assert.is_false(ok)
        assert.equal(2, failure.index)
        assert.equal(1, results[1])
        results:fill(9)
      end
    end)

    it("fails items of a source that is longer than the buffer", function()
      for _, kind in ipairs({ "numbers", "strings" }) do
        local at = 0
        local results, errors = parallel.map(function(x)
          return tonumber(x)
        end, function()
          at = at + 1
          return at <= 7 and (kind == "numbers" and at or tostring(at)) or nil
        end, with({ into = parallel.buffer("int8", 5), errors = "collect", chunk = 4 }))
        assert.same({ 1, 2, 3, 4, 5 }, numbers(results))
        assert.equal("the result of item 7 has no place in a buffer of 5 int8", errors[7].message)
        assert.is_nil(errors[5])
      end
    end)

    it("leaves the elements of failed items as they were, and stores the others", function()
      local results = parallel.buffer("int32", 20):fill(-1)
      local _, errors = parallel.map(function(i)
        return i % 7 == 0 and error("seven") or i
      end, parallel.range(1, 20), with({ into = results, errors = "collect", chunk = 5 }))
      for i = 1, 20 do
        assert.equal(i % 7 == 0 and -1 or i, results[i])
        assert.equal(i % 7 == 0, errors[i] ~= nil)
      end
      local ok, failure = pcall(parallel.map, function(i)
        return i == 7 and error("seven") or i
      end, parallel.range(1, 20), with({ into = results:fill(-1), errors = "finish", chunk = 5 }))
      assert.is_false(ok)
      assert.equal(7, failure.index)
      for i = 1, 20 do
        assert.equal(i == 7 and -1 or i, results[i])
      end
    end)

    it("keeps what was stored when a worker ends, and stores the rest", function()
      local results = parallel.buffer("int32", 40):fill(-1)
      local begun = parallel.counter()
      local _, errors = parallel.map(function(i)
        begun:add(1)
        if i == 17 then
          os.exit(3)
        end
        return i
      end, parallel.range(1, 40), with({ into = results, errors = "collect", chunk = 20 }))
      for i = 1, 40 do
        assert.equal(i == 17 and -1 or i, results[i])
      end
      assert.equal(3, errors[17].exit_code)
      -- No item was run twice.
      assert.equal(40, begun:get())
    end)

    it("runs an item again with what it was given, in place too", function()
      local buffer, tries = counted("double", 30), parallel.counter()
      parallel.map(function(x)
        if x == 13 and tries:add(1) < 3 then
          os.exit(1)
        end
        return x * x
      end, buffer, with({ into = buffer, retries = 2, chunk = 10 }))
      assert.same(squares(30), numbers(buffer))
      assert.equal(3, tries:get())
    end)

    it("stores what was done before an item was over its time", function()
      local results = parallel.buffer("int32", 12):fill(-1)
      local _, errors = parallel.map(function(i)
        while i == 5 do
          i = 5
        end
        return i
      end, parallel.range(1, 12), with({ into = results, timeout = 0.1, errors = "collect", chunk = 12 }))
      for i = 1, 12 do
        assert.equal(i == 5 and -1 or i, results[i])
      end
      assert.equal("timeout", errors[5].kind)
    end)

    it("builds no table of the items or the results", function()
      -- A list of them would need twice the limit. A copy of this process counts what it had before.
      if backend == "fork" then
        return
      end
      local items, results = parallel.buffer("double", 1e6):fill(3), parallel.buffer("double", 1e6)
      local limited = with({ into = results, memory_limit = 8e6, chunk = 1e6 })
      parallel.map(square, items, limited)
      assert.equal(9, results[1e6])
      parallel.map(square, parallel.range(1, 1e6), limited)
      assert.equal(1e12, results[1e6])
      limited.into = nil
      assert.equal(1e6, parallel.each(square, items, limited))
      assert.equal(3e6, parallel.reduce(function(a, b)
        return a + b
      end, items, limited))
    end)

    it("draws the same random numbers as other maps", function()
      local function draw()
        return math.random(1000)
      end
      local list = parallel.map(draw, parallel.range(1, 20), with({ seed = 7 }))
      list.n = nil
      for _, items in ipairs({ parallel.range(1, 20), counted("int8", 20) }) do
        local results = parallel.buffer("int32", 20)
        parallel.map(draw, items, with({ seed = 7, into = results, chunk = 3 }))
        assert.same(list, numbers(results))
      end
    end)

    it("works for starmap", function()
      local results = parallel.starmap(math.max, { { 1, 5 }, { 7, 2 } }, with({ into = parallel.buffer("int8", 2) }))
      assert.same({ 5, 7 }, numbers(results))
    end)

    it("goes on with other workers after so many items", function()
      local results = parallel.buffer("int32", 30)
      parallel.map(square, parallel.range(1, 30), with({ into = results, max_tasks = 4, chunk = 10 }))
      assert.same(squares(30), numbers(results))
    end)
  end)
end, backends.all)

describe("a deadline", function()
  it("leaves a map into a buffer with the results of items that were done", function()
    for _, backend in ipairs({ "thread", "process", "fork" }) do
      local results, gate = parallel.buffer("int32", 9):fill(-1), gates.new()
      local _, errors = parallel.map(function(i)
        if i == 5 then
          gates.open(gate)
          parallel.sleep(60)
        end
        return i
      end, parallel.range(1, 9), { backend = backend, workers = 1, into = results, deadline = 2, chunk = 9,
        errors = "collect" })
      assert.is_true(gates.is_open(gate))
      assert.same({ 1, 2, 3, 4, -1, -1, -1, -1, -1 }, numbers(results))
      for i = 1, 9 do
        -- Of a worker that does not end at once nobody knows how far it came; under a sanitizer none does.
        if i >= 5 or not interpreter.sanitized then
          assert.equal(i >= 5, errors[i] ~= nil, backend .. i)
        end
      end
      gates.remove(gate)
    end
  end)
end)

describe("a worker that is killed", function()
  it("in the midst of a map into a buffer costs its item alone", function()
    for _, backend in ipairs({ "process", "fork" }) do
      local results = parallel.buffer("double", 30):fill(-1)
      local _, errors = parallel.map(function(i)
        if i == 15 then
          processes.signal_own("KILL")
          parallel.sleep(60)
        end
        return i
      end, parallel.range(1, 30), { backend = backend, workers = 2, into = results, errors = "collect", chunk = 10 })
      for i = 1, 30 do
        assert.equal(i == 15 and -1 or i, results[i])
      end
      assert.equal("SIGKILL", errors[15].signal_name)
    end
  end)
end)

describe("the option into", function()
  local buffer = parallel.buffer("int8", 3)

  it("is refused where it makes no sense", function()
    local function failure(...)
      local ok, message = pcall(...)
      assert.is_false(ok)
      return message
    end
    for _, bad in ipairs({ {}, 5, "x", io.stdout, parallel.counter() }) do
      assert.matches("bad option 'into' to 'map' (a buffer expected, got",
        failure(parallel.map, square, { 1 }, { into = bad }), 1, true)
    end
    assert.matches("a buffer of at least 4 elements expected, one for each item, got one of 3",
      failure(parallel.map, square, parallel.range(1, 4), { into = buffer }), 1, true)
    for _, verb in ipairs({ "imap", "imap_unordered", "each", "filter", "reduce" }) do
      assert.matches("option 'into' to '" .. verb .. "' belongs to map, map_async, starmap",
        failure(parallel[verb], square, { 1 }, { into = buffer }), 1, true)
    end
    assert.matches("list, range, buffer or function expected", failure(parallel.map, square, 5), 1, true)
    assert.matches("bad argument #2 to 'starmap'", failure(parallel.starmap, square, buffer), 1, true)
  end)

  it("works for map_async of a pool", function()
    local pool = parallel.ThreadPool(2)
    local future = pool:map_async(square, { 1, 2, 3 }, { into = buffer })
    assert.is_true(rawequal(buffer, (future:get())))
    assert.same({ 1, 4, 9 }, numbers(buffer))
    pool:close()
    pool:join()
  end)
end)
