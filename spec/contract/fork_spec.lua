-- SPDX-License-Identifier: MIT
--
-- The back-end "fork": workers are copies of the caller's process. What they see, and what comes back. Calls as a whole
-- are in fork_calls_spec, and what copies leave alone in fork_caller_spec.

local describe, assert, pending = describe, assert, pending
require("spec.support.globals")()

local caught = require("spec.support.caught")
local copies = require("spec.support.copies")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

if copies.missing then
  return
end

local test, with = copies.test, copies.with

local function square(x)
  return x * x
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
