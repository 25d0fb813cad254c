-- SPDX-License-Identifier: MIT
--
-- The back-end "fork": workers are copies of the caller's process. What they see, what comes back, how they die, and
-- what of the caller they leave alone.

local describe, it, assert, pending = describe, it, assert, pending
require("spec.support.globals")()

local backends = require("spec.support.backends")
local census = require("spec.support.census")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

-- Slowed down this much, threads of pools that other files have dropped may still be there, and no copy is made.
if interpreter.preset == "tsan" then
  return
end

local SIGKILL, SIGSEGV = 9, 11

local function with(more)
  local options = { backend = "fork", workers = 2 }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return options
end

local function caught(fn, ...)
  local ok, raised = pcall(fn, ...)
  if ok then
    error("no error was raised", 2)
  end
  return raised
end

local function square(x)
  return x * x
end

--- Runs the body, and asserts that neither a child nor a descriptor nor a thread stays behind.
local function test(name, body)
  it(name, function()
    collectgarbage() -- pools that another file has dropped have threads
    collectgarbage()
    parallel.map(square, { 1 }, with())
    local before = census.snapshot()
    body()
    census.assert_flat(before)
  end)
end

--- Runs a script in a process of its own.
local function run(script, options)
  return interpreter.run({ "-e", script }, options)
end

describe("a copy of the process", function()
  test("sees open files, userdata, coroutines and big tables, with nothing encoded", function()
    local file = io.tmpfile()
    file:write("written by the caller\n")
    file:seek("set")
    local step = coroutine.wrap(function(x)
      while true do
        x = coroutine.yield(x .. "!")
      end
    end)
    local big = {}
    for i = 1, 200000 do
      big[i] = { i }
    end
    local lines, steps, sums, types = parallel.map(function(item)
      local sum = 0
      for i = 1, #big do
        sum = sum + big[i][1]
      end
      return item.file:read("*l"), item.step("go"), sum, io.type(item.file)
    end, { { file = file, step = step } }, with())
    assert.same({ "written by the caller", n = 1 }, lines)
    assert.same({ "go!", n = 1 }, steps)
    assert.same({ 200000 * 200001 / 2, n = 1 }, sums)
    assert.same({ "file", n = 1 }, types)
    assert.equal("x!", step("x")) -- this one has not moved
    file:close()
  end)

  test("has globals, libraries and upvalues as they are, and changes its own", function()
    local counter = 0
    local globals_here = _G
    rawset(_G, "fork_spec_global", { 1 })
    rawset(string, "fork_spec", function()
      return "added"
    end)
    local list, globals, added = parallel.map(function()
      counter = counter + 1
      local global = globals_here.fork_spec_global
      global[1] = global[1] + 1
      return counter, global[1], ("x"):fork_spec()
    end, { 1, 2, 3 }, { backend = "fork", workers = 1 })
    assert.same({ 1, 2, 3, n = 3 }, list)
    assert.same({ 2, 3, 4, n = 3 }, globals)
    assert.same({ "added", "added", "added", n = 3 }, added)
    assert.equal(0, counter)
    assert.equal(1, rawget(_G, "fork_spec_global")[1])
    rawset(_G, "fork_spec_global", nil)
    rawset(string, "fork_spec", nil)
  end)

  test("takes globals that a call gives it", function()
    local list = parallel.map(function()
      return fork_spec_given -- luacheck: ignore
    end, { 1 }, with({ globals = { fork_spec_given = "given" } }))
    assert.same({ "given", n = 1 }, list)
    assert.is_nil(rawget(_G, "fork_spec_given"))
  end)

  test("has modules by their global names, whatever globals a call gives it", function()
    local module = { word = "module" }
    package.loaded["fork.spec.module"] = module
    rawset(_G, "fork_spec_module", module)
    rawset(_G, "fork_spec_table", { word = "table" })
    local modules, tables = parallel.map(function()
      return fork_spec_module.word, fork_spec_table -- luacheck: ignore
    end, { 1 }, with({ globals = {} }))
    rawset(_G, "fork_spec_module", nil)
    rawset(_G, "fork_spec_table", nil)
    package.loaded["fork.spec.module"] = nil
    assert.same({ "module", n = 1 }, modules)
    assert.same({ n = 1 }, tables)
  end)

  test("runs init once in each worker", function()
    local path = journal.new()
    local list = parallel.map(function()
      return fork_spec_ready -- luacheck: ignore
    end, parallel.range(1, 20), with({
      init = function()
        journal.add(path, "began")
        rawset(_G, "fork_spec_ready", true)
      end,
    }))
    for i = 1, 20 do
      assert.is_true(list[i])
    end
    local began = #journal.lines(path)
    assert.is_true(began >= 1 and began <= 2, began)
    journal.remove(path)
    local e = caught(parallel.map, square, { 1, 2 }, with({
      init = function()
        error("no licence", 0)
      end,
    }))
    assert.equal("init", e.kind)
    assert.equal("no licence", e.value)
  end)

  test("knows its item and its worker, and runs nested calls itself", function()
    local indexes, workers, nested, inner = parallel.map(function(x)
      local own = processes.own()
      local pids = parallel.map(processes.own, { 1, 2, 3 })
      return parallel.index(), parallel.worker(), pids[1] == own and pids[3] == own,
        table.concat(parallel.map(square, { x, x + 1 }), " ")
    end, { 5, 6, 7 }, with({ chunk = 1 }))
    assert.same({ 1, 2, 3, n = 3 }, indexes)
    for i = 1, 3 do
      assert.is_true(workers[i] == 1 or workers[i] == 2)
      assert.is_true(nested[i])
    end
    assert.same({ "25 36", "36 49", "49 64", n = 3 }, inner)
    assert.is_nil(parallel.index())
    assert.is_nil(parallel.worker())
  end)

  test("can be copied itself", function()
    local list = parallel.map(function(x)
      local inner = parallel.map(function(y)
        return x * y
      end, { 1, 2 }, with())
      return inner[1] + inner[2]
    end, { 1, 10 }, with())
    assert.same({ 3, 30, n = 2 }, list)
  end)

  test("has random numbers of its own, or those of the item", function()
    math.randomseed(1)
    local first = parallel.map(math.random, { 2 ^ 50, 2 ^ 50 }, with({ chunk = 1 }))
    math.randomseed(1)
    local second = parallel.map(math.random, { 2 ^ 50, 2 ^ 50 }, with({ chunk = 1 }))
    assert.not_same(first, second)
    local function draw()
      return ("%.17g %d %d"):format(math.random(), math.random(6), math.random(-5, 5))
    end
    local expected = parallel.map(draw, parallel.range(1, 20), { backend = "serial", seed = 42 })
    for _, workers in ipairs({ 1, 2, 7 }) do
      for _, chunk in ipairs({ 1, 3, "auto", "guided" }) do
        local opts = { backend = "fork", workers = workers, seed = 42, chunk = chunk }
        assert.same(expected, parallel.map(draw, parallel.range(1, 20), opts))
      end
    end
  end)

  test("has a memory limit, if that is asked for", function()
    local function hold(n)
      local held = {}
      for i = 1, n do
        held[i] = { i }
      end
      return #held
    end
    -- Above what this process has by now.
    local limit = math.floor(collectgarbage("count") * 1024 + 60e6)
    local list = parallel.map(hold, { 1000, 1e8, 2000 }, with({ memory_limit = limit, errors = "collect", chunk = 1 }))
    assert.equal(1000, list[1])
    assert.equal("memory", list.errors[2].kind)
    assert.equal(2000, list[3])
    local e = caught(parallel.map, hold, { 1 }, with({ memory_limit = 1000 }))
    assert.equal("init", e.kind)
    assert.truthy(e.message:find("too low", 1, true), e.message)
  end)

  -- AddressSanitizer's allocator reuses nothing for long, so the copy has fresh memory of its own.
  local heap_test = interpreter.sanitized and pending or test
  heap_test("does not get the caller's heap copied by a collector", function()
    local big = {}
    for i = 1, 300000 do
      big[i] = { i }
    end
    local function private_kilobytes()
      local sum = 0
      for line in io.lines("/proc/self/smaps_rollup") do
        sum = sum + tonumber(line:match("^Private_Dirty:%s+(%d+)") or 0)
      end
      return sum
    end
    local before, after = parallel.map(function()
      local first = private_kilobytes()
      for _ = 1, 20000 do
        local garbage = { big } -- luacheck: ignore
      end
      return first, private_kilobytes()
    end, { 1 }, { backend = "fork", workers = 1 })
    -- The heap has some 20 MB.
    assert.is_true(after[1] - before[1] < 10000, ("%d KB, then %d KB"):format(before[1], after[1]))
    assert.equal(300000, #big)
  end)
end)

describe("results of copies", function()
  test("have the caller's own classes and functions", function()
    local Point = {}
    Point.__index = Point
    local Hidden = { __name = "hidden" } -- only as a metatable of an item
    local function known()
      return Point
    end
    local items = { setmetatable({ x = 1 }, Hidden) }
    local points, hidden, functions, classes = parallel.map(function(item)
      return setmetatable({ x = 2 }, Point), setmetatable({ y = item.x }, getmetatable(item)), known, Point
    end, items, with())
    assert.equal(Point, getmetatable(points[1]))
    assert.equal(2, points[1].x)
    assert.equal(Hidden, getmetatable(hidden[1]))
    assert.equal(1, hidden[1].y)
    assert.equal(known, functions[1])
    assert.equal(Point, classes[1])
  end)

  test("may be the functions of the library that copies have instead of the caller's", function()
    local prints, writes, exits, methods = parallel.map(function()
      return print, io.write, os.exit, io.stdout.write
    end, { 1 }, with())
    assert.equal(print, prints[1])
    assert.equal(io.write, writes[1])
    assert.equal(os.exit, exits[1])
    assert.equal(io.stdout.write, methods[1])
    -- Those that were put aside before, and inside of what goes back.
    local print, write, exit = print, io.write, os.exit
    local log = { print = print }
    log.__index = log
    local aside, objects, closures = parallel.map(function()
      return { print, write, exit }, setmetatable({}, log), function()
        return write, os.exit
      end
    end, { 1 }, with())
    assert.same({ print, write, exit }, aside[1])
    assert.equal(log, getmetatable(objects[1]))
    assert.same({ write, exit }, { closures[1]() })
  end)

  test("may be functions and classes that were made there", function()
    local doublers, objects = parallel.map(function(n)
      return function(x)
        return x * n
      end, setmetatable({}, { __call = function()
        return n
      end })
    end, { 2, 3 }, with())
    assert.equal(14, doublers[1](7))
    assert.equal(21, doublers[2](7))
    assert.equal(3, objects[2]())
  end)

  -- Lua 5.4 has no ffi library.
  local ffi_test = jit and test or function() end
  ffi_test("have the caller's own C types, also those without a name", function()
    local ffi = require("ffi")
    local Point = ffi.metatype("struct { int fork_x; }", {
      __index = {
        twice = function(self)
          return 2 * self.fork_x
        end,
      },
    })
    local Plain, Same = ffi.typeof("struct { int fork_y; }"), ffi.typeof("struct { int fork_y; }")
    local item = ffi.new("struct { int fork_z; }", 7)
    local points, plain, same, items, arrays, classes = parallel.map(function(z)
      return Point(4), Plain(5), { Same(6), Plain(6) }, z, ffi.new(ffi.typeof("$[2]", Point), { { 1 }, { 8 } }), Point
    end, { item }, with())
    assert.is_true(ffi.istype(Point, points[1]))
    assert.equal(8, points[1]:twice())
    assert.is_true(ffi.istype(Plain, plain[1]))
    assert.equal(5, plain[1].fork_y)
    assert.is_true(ffi.istype(Same, same[1][1]))
    assert.is_true(ffi.istype(Plain, same[1][2]))
    assert.is_true(ffi.istype(ffi.typeof(item), items[1]))
    assert.equal(7, items[1].fork_z)
    assert.equal(16, arrays[1][1]:twice())
    assert.equal(tonumber(Point), tonumber(classes[1]))
  end)

  test("that cannot be sent fail their items alone, any number of times", function()
    local file = io.tmpfile()
    local list = parallel.map(function(i)
      return i % 2 == 0 and { conn = { log = file } } or i
    end, parallel.range(1, 40), with({ errors = "collect" }))
    for i = 1, 40 do
      if i % 2 == 1 then
        assert.equal(i, list[i])
      else
        assert.equal("encode", list.errors[i].kind)
        assert.truthy(list.errors[i].message:find("cannot send result.conn.log (a file handle)", 1, true))
      end
    end
    file:close()
  end)

  test("as errors: values of every kind", function()
    for _, value in ipairs({ "text", 5, { code = 7 }, true }) do
      local e = caught(parallel.map, function()
        error(value, 0)
      end, { 1 }, with())
      assert.equal("error", e.kind)
      assert.same(value, e.value)
    end
    local e = caught(parallel.map, function()
      error(io.stdout)
    end, { 1 }, with())
    assert.equal("error", e.kind)
    assert.equal(1, e.index)
    assert.truthy(e.traceback:find("stack traceback of the worker", 1, true))
  end)
end)

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
    local result = run([[
      for _, verb in ipairs { "submit", "pool" } do print(pcall(parallel[verb], verb == "submit" and print or nil)) end
      print(parallel.map(math.sqrt, { 4 })[1] == 2)
    ]], { env = { LUMAP_BACKEND = "fork" } })
    assert.truthy(result.stdout:find("so 'submit' cannot have it", 1, true), result.stdout)
    assert.truthy(result.stdout:find("so 'pool' cannot have it", 1, true), result.stdout)
    assert.truthy(result.stdout:find("true\n$"), result.stdout)
  end)
end)

describe("what belongs to the caller", function()
  it("is not finalized in copies, and what was buffered is not written twice", function()
    local out = os.tmpname()
    local result = run(([[
      local file = io.open(%q, "w")
      file:write("buffered by the caller\n")
      io.write("printed by the caller\n")
      local marker
      if newproxy then
        marker = newproxy(true)
        getmetatable(marker).__gc = function() io.stderr:write("finalized\n") end
      else
        marker = setmetatable({}, { __gc = function() io.stderr:write("finalized\n") end })
      end
      local exit = os.exit
      parallel.map(function(i)
        file:write("by item " .. i .. "\n")
        if i == 2 then exit(0, true) end
        if i == 3 then os.exit(1, true) end
      end, { 1, 2, 3, 4 }, { backend = "fork", workers = 1, chunk = 1, errors = "collect" })
      file:close()
    ]]):format(out))
    local text = interpreter.read_file(out)
    os.remove(out)
    assert.equal("printed by the caller\n", result.stdout)
    local _, finalized = result.stderr:gsub("finalized", "")
    -- One is the caller's; the stock os.exit(0, true), which was put aside, closes the state of its copy first.
    assert.equal(2, finalized, result.stderr)
    assert.equal("buffered by the caller\nby item 1\nby item 2\nby item 3\nby item 4\n", text)
    assert.equal(0, result.code)
  end)

  it("print and io.write of copies arrive in whole calls, put aside or not", function()
    local script = [[
      local print, write = print, io.write
      parallel.map(function(i)
        local middle = string.char(97 + i % 26):rep(3000)
        if i % 4 == 0 then print(i, middle, i)
        elseif i % 4 == 1 then _G.print(i, middle, i)
        elseif i % 4 == 2 then io.write(i, "\t", middle, "\t", i, "\n")
        else write(i, "\t", middle, "\t", i, "\n") end
      end, parallel.range(1, 200), { backend = "fork", workers = 5, chunk = 1 })
    ]]
    local out = os.tmpname()
    interpreter.write_file(out .. ".lua", script)
    for _, redirection in ipairs({ "> OUT", "| cat > OUT", "| dd bs=512 2>/dev/null > OUT" }) do
      local command = ("%s %s %s"):format(
        interpreter.quote(interpreter.path),
        out .. ".lua",
        (redirection:gsub("OUT", out))
      )
      assert.equal(0, interpreter.run({ "-c", command }, { program = "/bin/sh" }).code)
      local lines = 0
      for line in io.lines(out) do
        local i, middle, again = line:match("^(%d+)\t(%a+)\t(%d+)$")
        assert.truthy(i, line:sub(1, 100))
        assert.equal(i, again)
        assert.equal(string.char(97 + i % 26):rep(3000), middle)
        lines = lines + 1
      end
      assert.equal(200, lines)
    end
    os.remove(out)
    os.remove(out .. ".lua")
  end)

  it("print, io.write and os.exit of copies go along with calls inside calls", function()
    local result = run([[
      local print_aside, write_aside = print, io.write
      local list = parallel.map(function()
        local inner = parallel.map(function(y)
          print("print", y)
          io.write("write ", y, "\n")
          io.stdout:write("method ", y, "\n")
          print_aside("print aside", y)
          write_aside("write aside ", y, "\n")
          os.exit(y)
        end, { 4 }, { errors = "collect" })
        return inner.errors[1].kind .. " " .. tostring(inner.errors[1].exit_code)
      end, { 1 }, { backend = "fork" })
      print(list[1])
    ]])
    assert.equal("print\t4\nwrite 4\nmethod 4\nprint aside\t4\nwrite aside 4\ndied 4\n", result.stdout, result.stderr)
  end)

  it("keeps in copies what a script has put in the places of print, io.write and os.exit", function()
    local result = run([[
      local exit = os.exit
      local told = io.stderr
      print = io.write
      io.write = function(text) told:write("own write: ", text, "\n") end
      os.exit = function(code) told:write("own exit: ", code, "\n") exit(code) end
      local list = parallel.map(function()
        print("a", "b", "\n")
        io.write("c")
        os.exit(3)
      end, { 1 }, { backend = "fork", errors = "collect" })
      print(list.errors[1].exit_code, "\n")
    ]])
    assert.equal("ab\n3\n", result.stdout)
    assert.equal("own write: c\nown exit: 3\n", result.stderr)
  end)

  it("takes its copies along when it is killed", function()
    local path = journal.new()
    local script = ([[
      local journal, processes = require "spec.support.journal", require "spec.support.processes"
      parallel.map(function(i)
        journal.add(%q, processes.own())
        while true do parallel.sleep(60) end
      end, { 1, 2, 3 }, { backend = "fork", workers = 3, chunk = 1 })
    ]]):format(path)
    local command = ("%s -e %s & echo $!"):format(interpreter.quote(interpreter.path), interpreter.quote(script))
    local shell = io.popen(command)
    local parent = tonumber(shell:read("*l"))
    gates.await_that(function()
      return #journal.lines(path) == 3
    end)
    local pids = journal.lines(path)
    processes.signal(parent, "KILL")
    for _, pid in ipairs(pids) do
      processes.await_end(tonumber(pid))
    end
    processes.await_end(parent)
    shell:close()
    journal.remove(path)
  end)

  it("takes its copies along on Ctrl-C, and may go on after it", function()
    local path = journal.new()
    local script = ([[
      local gates, journal = require "spec.support.gates", require "spec.support.journal"
      local processes = require "spec.support.processes"
      local path = %q
      local ok, message = pcall(parallel.map, function(i)
        journal.add(path, processes.own())
        gates.await_that(function() return #journal.lines(path) == 2 end)
        if i == 1 then os.execute("kill -INT 0") end -- the whole group, as a terminal does it
        while true do parallel.sleep(60) end
      end, { 1, 2 }, { backend = "fork", workers = 2, chunk = 1 })
      print(ok, message)
      print(parallel.map(math.sqrt, { 4 }, { backend = "fork" })[1] == 2)
    ]]):format(path)
    local result = interpreter.run({ "-w", interpreter.path, "-e", script }, { program = "setsid" })
    for _, pid in ipairs(journal.lines(path)) do
      processes.await_end(tonumber(pid))
    end
    journal.remove(path)
    assert.truthy(result.stdout:find("^false\t.*interrupted!\n"), result.stdout .. result.stderr)
    assert.truthy(result.stdout:find("true\n$"), result.stdout .. result.stderr)
  end)
end)
