-- SPDX-License-Identifier: MIT
--
-- What workers keep from one call to the next shows in nothing but the time that it takes: neither what an earlier call
-- has done to its copies, nor what it has taught about the cost of items, changes a result.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

-- Enough that the same function has been met, noted and recalled.
local CALLS = 5

backends.each(function(with)
  --- Maps fn over one item, several times in one pool of one worker. Returns the results.
  local function repeated(fn)
    local pool = parallel.pool(with({ workers = 1 }))
    local results = {}
    for i = 1, CALLS do
      results[i] = pool:map(fn, { i })[1]
    end
    pool:close()
    pool:join()
    return results
  end

  describe("a function that is sent again", function()
    it("does not see what it has assigned to its upvalues", function()
      local count, twin = 0, nil
      local function add()
        count = count + 1
        return count
      end
      assert.same({ 1, 1, 1, 1, 1 }, repeated(add))
      assert.same({ "set", "set", "set", "set", "set" }, repeated(function()
        local before = twin
        twin = "set"
        return before or twin
      end))
    end)

    it("does not see what other functions of the call have assigned to theirs", function()
      local count = 0
      local function add()
        count = count + 1
      end
      assert.same({ 1, 1, 1, 1, 1 }, repeated(function()
        add()
        return count
      end))
    end)

    it("does not see what is in tables that it has filled", function()
      local seen = {}
      assert.same({ 1, 1, 1, 1, 1 }, repeated(function(i)
        seen[#seen + 1] = i
        return #seen
      end))
    end)

    it("does not see the globals that it has assigned, changed or taken away", function()
      assert.same({ "none", "none", "none", "none", "none" }, repeated(function()
        local before = left_behind or "none" -- luacheck: ignore
        left_behind = "something" -- luacheck: ignore
        return before
      end))
      assert.same({ "string", "string", "string", "string", "string" }, repeated(function()
        local kind = type("")
        type = function() -- luacheck: ignore
          return "replaced"
        end
        return kind
      end))
      assert.same({ true, true, true, true, true }, repeated(function()
        local had = rawget(_G, "tostring") ~= nil
        tostring = nil -- luacheck: ignore
        return had
      end))
    end)

    it("does not see a metatable that it has given to its globals", function()
      assert.same({ "nil", "nil", "nil", "nil", "nil" }, repeated(function()
        local value = type(nowhere) -- luacheck: ignore
        setmetatable(_G, {
          __index = function()
            return "from nowhere"
          end,
        })
        return value
      end))
      assert.same({ "nil", "nil", "nil", "nil", "nil" }, repeated(function()
        local value = type(nowhere) -- luacheck: ignore
        getmetatable(_G).__index = function()
          return "from nowhere"
        end
        return value
      end))
    end)

    it("does not see cells that it has joined", function()
      local one, two = 1, 2
      local function first()
        return one
      end
      local function second()
        return two
      end
      assert.same({ 2, 2, 2, 2, 2 }, repeated(function()
        local value = second()
        debug.upvaluejoin(second, 1, first, 1)
        return value
      end))
    end)

    it("takes the upvalues and globals along that it has by then", function()
      local pool = parallel.pool(with({ workers = 1 }))
      local factor = 1
      local function scale(x)
        return x * factor * offset -- luacheck: ignore
      end
      for round = 1, CALLS do
        for _ = 1, 3 do
          factor, offset = round, 10 * round -- luacheck: ignore
          assert.equal(2 * round * 10 * round, pool:map(scale, { 2 })[1])
        end
      end
      offset = nil -- luacheck: ignore
      pool:close()
      pool:join()
    end)

    it("runs over the buffers of its own call", function()
      local pool = parallel.pool(with({ workers = 1 }))
      local function square(x)
        return x * x
      end
      for i = 1, CALLS do
        local from, into = parallel.buffer("double", { i, i + 1 }), parallel.buffer("double", 2)
        local squares = { n = 2, i ^ 2, (i + 1) ^ 2 }
        pool:map(square, from, { into = into })
        assert.same(squares, into:table())
        assert.same(squares, pool:map(square, from))
        assert.same(squares, pool:map(square, { i, i + 1 }, { into = into:fill(0) }):table())
        if i == CALLS - 1 then
          pool:apply(collectgarbage)
        end
      end
      pool:close()
      pool:join()
    end)

    it("comes back as the caller's own", function()
      local function id(x)
        return x
      end
      local function give()
        return id
      end
      local pool = parallel.pool(with({ workers = 1 }))
      for _ = 1, CALLS do
        assert.equal(id, pool:map(give, { 1 })[1])
      end
      pool:close()
      pool:join()
    end)
  end)
end)

describe("a worker that keeps a function", function()
  local shared_memories = processes.shared_memories

  --- Maps over two buffers often enough that the worker keeps the function, then drops them. Returns how many memories
  --- the worker has mapped before, and with them.
  local function map_over_buffers(pool, pid)
    local function square(x)
      return x * x
    end
    local before, from, into = shared_memories(pid), parallel.buffer("double", 8), parallel.buffer("double", 8)
    for _ = 1, CALLS do
      pool:map(square, from, { into = into })
    end
    return before, shared_memories(pid)
  end

  local function open_pool()
    local pool = parallel.ProcessPool(1)
    return pool, pool:apply(processes.own)
  end

  it("lets go of the buffers that it mapped over when it rests", function()
    local pool, pid = open_pool()
    local before, with_them = map_over_buffers(pool, pid)
    assert.equal(before + 2, with_them)
    collectgarbage()
    collectgarbage()
    gates.await_that(function()
      return shared_memories(pid) == before
    end)
    pool:close()
    pool:join()
  end)

  it("lets go of them when its collector has come by", function()
    local pool, pid = open_pool()
    local before = map_over_buffers(pool, pid)
    pool:apply(collectgarbage)
    pool:apply(collectgarbage)
    collectgarbage()
    collectgarbage()
    assert.equal(before, shared_memories(pid))
    pool:close()
    pool:join()
  end)
end)

backends.each(function(with)
  it("items that are dearer than those of earlier calls are spread over the workers", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local function work(seconds)
      if seconds > 0 then
        parallel.sleep(seconds)
      end
      return parallel.worker()
    end
    local cheap, dear = {}, {}
    for i = 1, 100 do
      cheap[i] = 0
    end
    for i = 1, 40 do
      dear[i] = 0.01
    end
    for _ = 1, CALLS do
      pool:map(work, cheap)
    end
    local share = { 0, 0 }
    for _, worker in ipairs(pool:map(work, dear)) do
      share[worker] = share[worker] + 1
    end
    assert.equal(40, share[1] + share[2])
    assert.is_true(share[1] > 4 and share[2] > 4, ("%d and %d"):format(share[1], share[2]))
    pool:close()
    pool:join()
  end)

  it("an item may wait for one that follows in a chunk of its own, however cheap those before were", function()
    local count, waits = 40000, { 20000, 30001 }
    for _, waiting in ipairs(waits) do
      local gate = gates.new()
      local list = parallel.map(function(i)
        if i == waiting then
          gates.await(gate)
        elseif i == waiting + 1 then
          gates.open(gate)
        end
        return i
      end, parallel.range(1, count), with({ workers = 2, chunk = 1 }))
      for i = 1, count do
        assert.equal(i, list[i])
      end
      gates.remove(gate)
    end
  end)

  it("each item runs once, though chunks are cut short", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local log = journal.new()
    local logged = {}
    for i = 1, 30 do
      logged[i] = i
    end
    local function note(i)
      if i > 0 then
        parallel.sleep(0.008)
        journal.add(log, i)
      end
      return i
    end
    local cheap = {}
    for i = 1, 300 do
      cheap[i] = 0
    end
    for _ = 1, CALLS do
      pool:map(note, cheap)
    end
    local list = pool:map(note, logged)
    for i = 1, 30 do
      assert.equal(i, list[i])
    end
    local lines = journal.lines(log)
    table.sort(lines)
    local expected = {}
    for i = 1, 30 do
      expected[i] = tostring(i)
    end
    table.sort(expected)
    assert.same(expected, lines)
    pool:close()
    pool:join()
    journal.remove(log)
  end)

  it("the first item that fails gives the error, though its chunk was cut short before it", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local function fail_at_25(i)
      if i == 20 then
        parallel.sleep(0.02)
      elseif i == 25 or i >= 60 then
        error("item " .. i)
      end
      return i
    end
    for _ = 1, 20 do
      pool:map(fail_at_25, parallel.range(-400, 0), { chunk = 1 })
      local ok, e = pcall(pool.map, pool, fail_at_25, parallel.range(1, 400), { chunk = 1 })
      assert.is_false(ok)
      assert.equal(25, e.index)
    end
    pool:close()
    pool:join()
  end)
end, backends.concurrent)

local jit = rawget(_G, "jit")
if jit then
  backends.each(function(with, backend)
    it("an item may declare what others have declared, after code with 64-bit literals", function()
      local function declare()
        local one = loadstring("return 1LL")() -- luacheck: ignore
        local ffi = require("ffi")
        ffi.cdef("struct lumap_warm_spec { int x; };")
        return tonumber(ffi.new("struct lumap_warm_spec", 7).x + one)
      end
      assert.same({ 8, 8, 8, n = 3 }, parallel.map(declare, { 1, 2, 3 }, with({ workers = 1, chunk = 1 })))
    end)

    it("a worker does without the ffi library where the program declares nothing", function()
      local result = interpreter.run_code(
        "print(parallel.map(function() return package.loaded.ffi ~= nil end, { 1 })[1])",
        { env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = 1 } }
      )
      assert.same({ stdout = "false\n", stderr = "", code = 0 }, result)
    end)
  end)

  backends.each(function(with)
    it("workers take part in the barriers that cutting chunks short needs", function()
      -- The system call membarrier and its command that tells what the process takes part in (Linux 6.3).
      local number = ({ x64 = 324, arm64 = 283 })[jit.arch]
      local function registrations()
        local own = require("ffi")
        own.cdef("long syscall(long number, ...);")
        return tonumber(own.C.syscall(number, own.cast("long", 512), own.cast("long", 0), own.cast("long", 0)))
      end
      local told = number and parallel.map(registrations, { 1 }, with({ workers = 1 }))[1] or -1
      assert.is_true(told == -1 or math.floor(told / 4) % 2 == 1, "registrations " .. told)
    end)
  end, backends.concurrent)
end
