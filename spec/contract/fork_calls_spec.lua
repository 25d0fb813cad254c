-- SPDX-License-Identifier: MIT
--
-- The back-end "fork": calls whose workers are copies of the caller's process. They give what a loop gives; how copies
-- die, how calls end, and where no copies can be made.

local describe, assert = describe, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local census = require("spec.support.census")
local copies = require("spec.support.copies")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

if copies.missing then
  return
end

local SIGKILL, SIGSEGV = 9, 11

local test, with = copies.test, copies.with

local function square(x)
  return x * x
end

for _, workers in ipairs(backends.worker_counts) do
  describe(("on %d copies"):format(workers), function()
    local function opts(more)
      local options = with(more)
      options.workers = workers
      return options
    end

    test("nothing to do is done at once, by nobody", function()
      local dead = function() end
      local children = census.children()
      for _, items in ipairs({ {}, parallel.range(1, 0), dead }) do
        assert.same({ n = 0 }, parallel.map(error, items, opts()))
        assert.equal(0, parallel.each(error, items, opts()))
        assert.same({ n = 0 }, parallel.filter(error, items, opts()))
        assert.is_nil(parallel.reduce(error, items, opts()))
        assert.is_nil(parallel.mapreduce(error, error, items, opts()))
        assert.is_nil((parallel.imap(error, items, opts())()))
      end
      assert.same(children, census.children())
    end)

    test("all verbs give what a loop gives, whatever the chunks and the kind of items", function()
      local function text(i)
        return i % 7 ~= 0 and ("<%d>"):format(i) or nil, i % 5 == 0 and i or nil
      end
      local first, second, joined = { n = 50 }, { n = 50 }, {}
      for i = 1, 50 do
        first[i], second[i] = text(i)
        joined[#joined + 1] = first[i]
      end
      local list = {}
      for i = 1, 50 do
        list[i] = i
      end
      local function source()
        local i = 0
        return function()
          i = i + 1
          return i <= 50 and i or nil
        end
      end
      -- Each kind of items with each kind of chunk would copy this process a thousand times.
      local kinds = { parallel.range(1, 50), list, "source" }
      for k, chunk in ipairs(interpreter.sanitized and { 7, "auto" } or { 1, 7, 10, 100, "auto", "guided" }) do
        local items = kinds[k % 3 + 1]
        local function from()
          return items == "source" and source() or items
        end
        local a, b = parallel.map(text, from(), opts({ chunk = chunk }))
        assert.same(first, a)
        assert.same(second, b)
        assert.equal(50, parallel.each(text, from(), opts({ chunk = chunk })))
        assert.equal(7, parallel.filter(function(i)
          return i % 7 == 0
        end, from(), opts({ chunk = chunk })).n)
        local concatenated = parallel.mapreduce(text, function(x, y)
          return x .. y
        end, from(), opts({ chunk = chunk }))
        assert.equal(table.concat(joined), concatenated)
        local next_index = 1
        for i, x in parallel.imap(text, from(), opts({ chunk = chunk })) do
          assert.equal(next_index, i)
          assert.equal(first[i], x)
          next_index = i + 1
        end
        assert.equal(51, next_index)
      end
      assert.same({ 3, 7, n = 2 }, parallel.starmap(function(x, y)
        return x + y
      end, { { 1, 2 }, { 3, 4 } }, opts()))
    end)

    test("one death fails one item, and the others give their results", function()
      local exit = os.exit
      local ways = {
        [3] = function()
          os.exit(3)
        end,
        [11] = function()
          exit(7, true) -- the stock function, which would close the state
        end,
        [19] = function()
          pcall(coroutine.wrap(exit), false)
        end,
        [27] = function()
          processes.signal_own("KILL")
        end,
      }
      for _, chunk in ipairs({ 1, 6, 40 }) do
        local list = parallel.map(function(i)
          if ways[i] then
            ways[i]()
          end
          return i
        end, parallel.range(1, 40), opts({ errors = "collect", chunk = chunk }))
        for i = 1, 40 do
          local e = list.errors[i]
          assert.equal(not ways[i] and i or nil, list[i])
          assert.equal(ways[i] and "died" or nil, e and e.kind)
        end
        assert.equal(3, list.errors[3].exit_code)
        assert.equal(7, list.errors[11].exit_code)
        assert.equal(1, list.errors[19].exit_code)
        assert.equal(SIGKILL, list.errors[27].signal)
        assert.truthy(tostring(list.errors[27]):find("process %d+.*SIGKILL.*item 27"))
      end
    end)

    test("every item may die", function()
      local list = parallel.map(os.exit, { 1, 2, 3, 4, 5, 6 }, opts({ errors = "collect", chunk = 2 }))
      for i = 1, 6 do
        assert.equal(i, list.errors[i].exit_code)
        assert.equal(i, list.errors[i].index)
      end
    end)
  end)
end

describe("copies", function()
  test("of a segment fault have its signal", function()
    if interpreter.sanitized then
      return
    end
    local e = caught(parallel.map, processes.signal_own, { "SEGV" }, with())
    assert.equal(SIGSEGV, e.signal)
    assert.equal("SIGSEGV", e.signal_name)
  end)

  test("that are killed while their results are on the way lose no more than those", function()
    local function result_and_kill(i, later, killed)
      local wait = "n=0; while test $n -lt %d; do n=$((n + 1)); done"
      os.execute(("( %s; kill -9 $PPID; : >%s ) &"):format(wait:format(later), killed))
      return (("%d "):format(i)):rep(1024 * 1024)
    end
    local arguments = {}
    for i = 1, 8 do
      arguments[i] = { i, i * 700, gates.new() }
    end
    local list = parallel.starmap(result_and_kill, arguments, with({ errors = "collect", chunk = 1 }))
    for i, argument in ipairs(arguments) do
      if list[i] == nil then
        assert.equal(SIGKILL, list.errors[i].signal)
      else
        assert.is_true(list[i] == (("%d "):format(i)):rep(1024 * 1024))
      end
      gates.await(argument[3])
      gates.remove(argument[3])
    end
  end)

  test("that are killed while a large item of a source is on its way", function()
    local big = ("x"):rep(8 * 1024 * 1024)
    local i = 0
    local list = parallel.map(function(number, text)
      if number == 1 then
        processes.signal_own("KILL")
      end
      return #text
    end, function()
      i = i + 1
      if i <= 4 then
        return i, big
      end
    end, with({ errors = "collect", chunk = 1 }))
    assert.equal(SIGKILL, list.errors[1].signal)
    for k = 2, 4 do
      assert.equal(#big, list[k])
    end
  end)

  test("give their results in the order of completion, if that is asked for", function()
    local entered, done = gates.new(), gates.new()
    local order = {}
    for i in
      parallel.imap_unordered(function(n)
        if n == 1 then
          gates.open(entered)
          gates.await(done)
        else
          gates.await(entered)
        end
        return n
      end, { 1, 2, 3 }, with({ chunk = 1 }))
    do
      order[#order + 1] = i
      if #order == 2 then
        gates.open(done)
      end
    end
    gates.remove(entered, done)
    assert.equal(1, order[3])
  end)

  test("end when an iterator is left, dropped or not", function()
    local children = census.children()
    for i in parallel.imap(square, parallel.range(1, 1e7), with()) do
      if i == 3 then
        break
      end
    end
    local kept = parallel.imap(square, parallel.range(1, 1e7), with())
    kept()
    kept = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    gates.await_that(function()
      collectgarbage()
      for pid in pairs(census.children()) do
        if not children[pid] then
          return false
        end
      end
      return true
    end)
  end)

  test("end when the source raises, whose error arrives unchanged", function()
    local raised = {}
    for _, at in ipairs({ 1, 5 }) do
      local i = 0
      assert.equal(
        raised,
        caught(parallel.map, square, function()
          i = i + 1
          if i == at then
            error(raised)
          end
          return i
        end, with())
      )
    end
  end)

  test("have as many items of a source as `ahead` allows", function()
    local pulled, taken = 0, 0
    for _ in
      parallel.imap(square, function()
        pulled = pulled + 1
        assert(pulled - taken <= 5)
        return pulled
      end, with({ ahead = 5 }))
    do
      taken = taken + 1
      if taken == 60 then
        break
      end
    end
    assert.equal(60, taken)
  end)

  test("have the same descriptors, however many siblings there are", function()
    local function count()
      local n = 0
      for _ in pairs(census.descriptors()) do
        n = n + 1
      end
      return n
    end
    local here = count()
    for _, workers in ipairs({ 1, 2, 9 }) do
      local gate = gates.new()
      local path = journal.new()
      local list = parallel.map(function()
        journal.add(path, "here")
        gates.await_that(function()
          return #journal.lines(path) == workers
        end)
        return count()
      end, parallel.range(1, workers), { backend = "fork", workers = workers, chunk = 1 })
      journal.remove(path)
      gates.remove(gate)
      for i = 1, workers do
        assert.equal(here + 1, list[i]) -- its channel
      end
    end
  end)

  test("cannot be of a process with other threads", function()
    local pool, gate = parallel.ThreadPool(2), gates.new()
    -- Threads are started when there is work for them.
    local futures = { pool:submit(gates.await, gate), pool:submit(gates.await, gate) }
    gates.open(gate)
    for _, future in ipairs(futures) do
      future:get()
    end
    gates.remove(gate)
    local e = caught(parallel.map, square, { 1 }, with())
    assert.equal("init", e.kind)
    assert.truthy(e.message:find("this process has 2 other threads", 1, true), e.message)
    assert.truthy(e.message:find("close and join the pools", 1, true), e.message)
    pool:close()
    pool:join()
    assert.same({ 4, n = 1 }, parallel.map(square, { 2 }, with()))
  end)

  test("can be made after calls on other back-ends, whose idle workers end", function()
    for _, backend in ipairs({ "thread", "process", "serial" }) do
      assert.same({ 4, n = 1 }, parallel.map(square, { 2 }, { backend = backend, workers = 3 }))
      assert.same({ 9, n = 1 }, parallel.map(square, { 3 }, with()))
      -- A thread looks after the time limit, and waits for the next one.
      parallel.map(square, { 2 }, { backend = backend, workers = 3, timeout = 60 })
      assert.same({ 9, n = 1 }, parallel.map(square, { 3 }, with()))
    end
    -- One that is at work does not.
    local gate = gates.new()
    local future = parallel.submit(gates.await, gate)
    local e = caught(parallel.map, square, { 1 }, with())
    gates.open(gate)
    future:get()
    gates.remove(gate)
    assert.truthy(e.message:find("other thread", 1, true), e.message)
    assert.same({ 4, n = 1 }, parallel.map(square, { 2 }, with()))
  end)

  test("are for one call: pools and submit refuse them", function()
    local function refused(verb, fn, ...)
      local message = caught(fn, ...)
      assert.truthy(tostring(message):find("back-end \"fork\" is for one call, so '" .. verb .. "'", 1, true), message)
    end
    refused("pool", parallel.pool, { backend = "fork" })
    local script = [[
      for _, verb in ipairs { "submit", "pool" } do print(pcall(parallel[verb], verb == "submit" and print or nil)) end
      print(parallel.map(math.sqrt, { 4 })[1] == 2)
    ]]
    local result = interpreter.run({ "-e", script }, { env = { LUMAP_BACKEND = "fork" } })
    assert.truthy(result.stdout:find("so 'submit' cannot have it", 1, true), result.stdout)
    assert.truthy(result.stdout:find("so 'pool' cannot have it", 1, true), result.stdout)
    assert.truthy(result.stdout:find("true\n$"), result.stdout)
  end)
end)
