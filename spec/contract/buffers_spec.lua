-- SPDX-License-Identifier: MIT
--
-- Buffers: numbers in memory that all workers see, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")
local processes = require("spec.support.processes")

local has_cdata = type(jit) == "table"
local has_integers = math.type ~= nil

local types = { "double", "float", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64" }
local integers = {
  int8 = { -2 ^ 7, 2 ^ 7 - 1 },
  int16 = { -2 ^ 15, 2 ^ 15 - 1 },
  int32 = { -2 ^ 31, 2 ^ 31 - 1 },
  uint8 = { 0, 2 ^ 8 - 1 },
  uint16 = { 0, 2 ^ 16 - 1 },
  uint32 = { 0, 2 ^ 32 - 1 },
}

--- The message of an error that `fn` raises, without its place.
local function failure(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return (tostring(message):gsub("^[^\n]-:%d+: ", ""))
end

local function set(buffer, index, value)
  buffer[index] = value
end

local function get(buffer, index)
  return buffer[index]
end

describe("a buffer", function()
  it("holds numbers of its type, zeros at first", function()
    for _, name in ipairs(types) do
      local buffer = parallel.buffer(name, 3)
      assert.equal(3, #buffer)
      assert.is_true(buffer[1] == 0)
      buffer[3] = 7
      assert.is_true(buffer[2] == 0)
      assert.is_true(buffer[3] == 7)
      assert.equal("buffer of 3 " .. name, tostring(buffer))
    end
  end)

  it("is made from a list", function()
    local buffer = parallel.buffer("int16", { 5, -6, 7 })
    assert.equal(3, #buffer)
    assert.equal(-6, buffer[2])
    assert.equal(2, #parallel.buffer("double", { 1.5, 2, 3, n = 2 }))
    assert.equal(0, #parallel.buffer("double", {}))
    assert.equal(0, #parallel.buffer("double", 0))
  end)

  it("keeps the extremes of each type and refuses what lies beyond", function()
    for name, range in pairs(integers) do
      local buffer = parallel.buffer(name, 2)
      for k = 1, 2 do
        buffer[k] = range[k]
        assert.equal(range[k], buffer[k])
      end
      for _, bad in ipairs({ range[1] - 1, range[2] + 1, 1.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 70 }) do
        local message = failure(set, buffer, 2, bad)
        assert.matches("^bad value [^ ]+ at index 2 of a buffer of 2 " .. name .. " %(an integer from ", message)
      end
      assert.equal(range[2], buffer[2])
    end
  end)

  it("refuses what is no number", function()
    for _, name in ipairs(types) do
      local buffer = parallel.buffer(name, 1)
      for _, bad in ipairs({ "1", true, {}, print }) do
        local message = failure(set, buffer, 1, bad)
        assert.matches("bad value of type " .. type(bad) .. " at index 1 of a buffer of 1 " .. name, message, 1, true)
      end
      assert.matches("bad value of type nil", failure(set, buffer, 1, nil), 1, true)
    end
  end)

  it("refuses indexes that are out of bounds", function()
    for _, name in ipairs(types) do
      local buffer = parallel.buffer(name, 5)
      for _, bad in ipairs({ 0, 6, -1, 1.5, 0 / 0, 1 / 0, 2 ^ 60 }) do
        for _, message in ipairs({ failure(get, buffer, bad), failure(set, buffer, bad, 1) }) do
          assert.matches("^bad index [^ ]+ to a buffer of 5 " .. name, message)
          assert.matches("an integer from 1 to 5 expected", message, 1, true)
        end
      end
      assert.matches("bad index of type table", failure(get, buffer, {}), 1, true)
      assert.matches("bad index of type string", failure(set, buffer, "x", 1), 1, true)
      assert.is_nil(buffer.nothing)
    end
  end)

  it("tells errors at the line that made them", function()
    local buffer = parallel.buffer("int8", 1)
    for _, fn in ipairs({ get, set }) do
      local _, message = pcall(fn, buffer, 2, 1)
      assert.matches("^[^\n]*buffers_spec.lua:%d+: bad index", message)
    end
    local _, message = pcall(set, buffer, 1, 1000)
    assert.matches("^[^\n]*buffers_spec.lua:%d+: bad value", message)
  end)

  it("rounds to float, and refuses what is too large for one", function()
    local buffer = parallel.buffer("float", 1)
    buffer[1] = 0.1
    assert.equal(13421773 * 2 ^ -27, buffer[1])
    for _, value in ipairs({ 1 / 0, -1 / 0, (2 - 2 ^ -23) * 2 ^ 127 }) do
      buffer[1] = value
      assert.equal(value, buffer[1])
    end
    buffer[1] = (2 - 2 ^ -23) * 2 ^ 127 + 2 ^ 102
    assert.equal((2 - 2 ^ -23) * 2 ^ 127, buffer[1])
    for _, value in ipairs({ 2 ^ 128, -2 ^ 128, 1e300, (2 - 2 ^ -24) * 2 ^ 127 }) do
      assert.matches("within the range of float", failure(set, buffer, 1, value), 1, true)
    end
    buffer[1] = 0 / 0
    assert.is_true(buffer[1] ~= buffer[1])
  end)

  it("has all doubles", function()
    local buffer = parallel.buffer("double", { 1 / 0, -1 / 0, 0 / 0, -0.0, 5e-324, 1.5 })
    assert.equal(1 / 0, buffer[1])
    assert.equal(-1 / 0, buffer[2])
    assert.is_true(buffer[3] ~= buffer[3])
    assert.equal(-1 / 0, 1 / buffer[4])
    assert.equal(5e-324, buffer[5])
    assert.is_true(buffer:table()[3] ~= buffer:table()[3])
  end)

  it("has 64-bit integers as the VM has them", function()
    local signed, unsigned = parallel.buffer("int64", 2), parallel.buffer("uint64", 2)
    signed[1], signed[2], unsigned[1] = -2 ^ 63, 2 ^ 53, 2 ^ 63
    unsigned[2] = unsigned[1]
    if has_cdata then
      assert.equal("-9223372036854775808LL", tostring(signed[1]))
      assert.equal("9007199254740992LL", tostring(signed:table()[2]))
      assert.equal("9223372036854775808ULL", tostring(unsigned[2]))
      unsigned[1] = signed[2]
      assert.equal("9007199254740992ULL", tostring(unsigned[1]))
      assert.matches("bad value -9223372036854775808LL at index 1", failure(set, unsigned, 1, signed[1]), 1, true)
      assert.matches("bad value 9223372036854775808ULL at index 1", failure(set, signed, 1, unsigned[2]), 1, true)
      assert.matches("bad value -1 at index 1", failure(set, unsigned, 1, -1), 1, true)
    elseif has_integers then
      assert.equal(math.mininteger, signed[1])
      assert.equal("integer", math.type(signed[2]))
      assert.equal(math.mininteger, unsigned[2])
      unsigned[1] = -1
      assert.equal(-1, unsigned[1])
    end
    for _, bad in ipairs({ 2 ^ 63, -2 ^ 64, 0.5, 0 / 0, "1" }) do
      assert.matches("an integer from -2^63 to 2^63-1", failure(set, signed, 1, bad), 1, true)
    end
    for _, bad in ipairs({ 2 ^ 64, -1.0, 0.5, 1 / 0 }) do
      assert.matches("an integer from 0 to 2^64-1", failure(set, unsigned, 1, bad), 1, true)
    end
  end)

  it("fills, and gives lists, bytes and slices of the same memory", function()
    for _, name in ipairs(types) do
      local buffer = parallel.buffer(name, 7):fill(3)
      assert.is_true(buffer[1] == 3 and buffer[7] == 3)
      local slice = buffer:slice(2, 4)
      assert.equal(3, #slice)
      slice[1], slice[3] = 1, 2
      assert.is_true(buffer[2] == 1 and buffer[4] == 2)
      assert.is_true(slice:slice(3)[1] == 2)
      slice:fill(9)
      local list = buffer:table()
      assert.equal(7, list.n)
      local seen = {}
      for i = 1, 7 do
        seen[i] = tonumber(list[i])
      end
      assert.same({ 3, 9, 9, 9, 3, 3, 3 }, seen)
      assert.equal(2, buffer:table(4, 5).n)
      assert.equal(#buffer:string() / 7 * 3, #buffer:string(3, 5))
      assert.equal(0, #buffer:slice(8))
      assert.equal(0, #buffer:slice(3, 2))
      assert.equal("", buffer:string(1, 0))
      assert.matches("bad index 8 to a buffer of 7", failure(buffer.slice, buffer, 2, 8), 1, true)
      assert.matches("bad index 9 to a buffer of 7", failure(buffer.table, buffer, 9), 1, true)
      assert.matches("bad index 1 to a buffer of 7", failure(buffer.string, buffer, 3, 1), 1, true)
      assert.matches("bad value of type string", failure(buffer.fill, buffer, "x"), 1, true)
    end
    assert.equal("\1\2\255", parallel.buffer("uint8", { 1, 2, 255 }):string())
  end)

  it("outlives what it is a slice of", function()
    local slice = parallel.buffer("int32", { 1, 2, 3 }):slice(2, 3)
    collectgarbage()
    collectgarbage()
    assert.equal(3, slice[2])
  end)

  it("refuses wrong arguments", function()
    assert.matches("bad argument #1 to 'buffer' (one of double, float, ", failure(parallel.buffer, "int", 3), 1, true)
    assert.matches("bad argument #2 to 'buffer'", failure(parallel.buffer, "int8", -1), 1, true)
    assert.matches("bad argument #2 to 'buffer'", failure(parallel.buffer, "int8", 1.5), 1, true)
    assert.matches("bad argument #2 to 'buffer'", failure(parallel.buffer, "int8"), 1, true)
    local message = failure(parallel.buffer, "int8", { 1, 300, 3 })
    assert.matches("bad value 300 at index 2 of a buffer of 3 int8", message, 1, true)
    message = failure(parallel.buffer, "double", { 1, nil, 3, n = 3 })
    assert.matches("bad value of type nil at index 2", message, 1, true)
    local buffer = parallel.buffer("int8", 1)
    assert.matches("a buffer expected, got table", failure(buffer.fill, {}, 1), 1, true)
    assert.matches("a buffer expected, got userdata", failure(buffer.fill, io.stdout, 1), 1, true)
  end)

  it("larger than the memory is an ordinary error", function()
    for _, count in ipairs({ 1e13, 1e17, 1e300 }) do
      assert.matches("not enough memory for a buffer of 1%d+", failure(parallel.buffer, "double", count))
    end
    assert.equal(4, #parallel.buffer("double", 4))
  end)

  it("means nothing to bytes that go elsewhere", function()
    local message = failure(codec.encode, { list = { parallel.buffer("double", 1) } })
    assert.matches("cannot send value.list[1] (a parallel.Buffer, ", message, 1, true)
    assert.matches("send its elements", message, 1, true)
    assert.is_true(codec.check({ parallel.buffer("double", 1) }))
    -- Its tag, kind, and memory number 0.
    assert.matches("shared memory that did not come along", failure(codec.decode, "\1\52\1\0\0\0\1"), 1, true)
    assert.matches("an unknown kind of shared value", failure(codec.decode, "\1\52\9\0"), 1, true)
  end)

  it("that nobody uses is gone", function()
    -- More than this process may have open.
    for _ = 1, backends.rounds(3000) do
      parallel.buffer("double", 1)[1] = 1
    end
    -- More than it shall ever hold. Nothing is touched, so this is soon done.
    for _ = 1, 100 do
      parallel.buffer("uint8", 64 * 2 ^ 20)
    end
    local held = 0
    for line in io.lines("/proc/self/maps") do
      local from, to = line:match("^(%x+)%-(%x+) .*/memfd:lumap")
      if from then
        held = held + tonumber(to, 16) - tonumber(from, 16)
      end
    end
    assert.is_true(held < 1000 * 2 ^ 20, held)
  end)

  it("leaves a collector that was stopped as it is", function()
    collectgarbage("stop")
    for _ = 1, 600 do
      parallel.buffer("double", 1)
    end
    local running = collectgarbage("isrunning")
    collectgarbage("restart")
    assert.is_false(running)
  end)

  it("is compiled", function()
    if not (has_cdata and jit.status()) then
      return
    end
    local code = [[
      local b, o = parallel.buffer("double", 1e5), parallel.buffer("uint8", 1e5)
      for _ = 1, 5 do for i = 1, #b do b[i] = b[i] + 1; o[i] = o[i] + 1 end end
      local p = b.ptr
      for i = 0, 1e5 - 1 do p[i] = p[i] + 1 end
    ]]
    local outcome = interpreter.run({ "-jv", "-e", code })
    assert.equal(0, outcome.code)
    assert.matches("%[TRACE +%d+ [^\n]* loop%]", outcome.stderr .. outcome.stdout)
    assert.not_matches("abort", outcome.stderr .. outcome.stdout, 1, true)
  end)
end)

backends.each_size(function(with)
  describe("buffers in calls", function()
    it("are the same memory for all", function()
      local numbers, bytes = parallel.buffer("double", 100), parallel.buffer("uint8", 100)
      local reached = { bytes = bytes, slice = bytes:slice(11, 20) }
      parallel.each(function(i)
        numbers[i] = i * i
        local all, part = reached.bytes, reached.slice
        all[i] = i
        if i == 15 then
          part[5] = 200
        end
      end, parallel.range(1, 100), with({ chunk = 7 }))
      for i = 1, 100 do
        assert.equal(i * i, numbers[i])
        assert.equal(i == 15 and 200 or i, bytes[i])
      end
    end)

    it("cross as items, in tables and as results, and stay the same memory", function()
      local whole = parallel.buffer("int32", 40)
      local slices = {}
      for i = 1, 10 do
        slices[i] = { part = whole:slice(4 * i - 3, 4 * i) }
      end
      local back = parallel.map(function(item)
        item.part:fill(#item.part)
        return { item.part:slice(2, 3) }, parallel.buffer("int8", { 5, 6 })
      end, slices, with())
      assert.equal(4, whole[1])
      assert.equal(4, whole[40])
      back[10][1][1] = 77
      assert.equal(77, whole[38])
      local _, made = parallel.map(function()
        return nil, parallel.buffer("int8", { 5, 6 })
      end, { 1, 2 }, with())
      assert.equal(6, made[2][2])
      made[2][2] = 7
      assert.equal(7, made[2][2])
      assert.equal(6, made[1][2])
    end)

    it("keep their identity within an item", function()
      local one = parallel.buffer("int8", 1)
      assert.same({ true, n = 1 }, parallel.map(function(pair)
        return rawequal(pair[1], pair[2])
      end, { { one, one } }, with()))
    end)

    it("of many memories cross in one chunk", function()
      local list = {}
      for i = 1, 150 do
        list[i] = parallel.buffer("uint16", { i })
      end
      local doubled = parallel.map(function(buffer)
        buffer[1] = 2 * buffer[1]
        return buffer
      end, list, with({ chunk = 150 }))
      for i = 1, 150 do
        assert.equal(2 * i, list[i][1])
        assert.equal(2 * i, doubled[i][1])
      end
    end)

    it("check indexes and values in workers", function()
      local buffer = parallel.buffer("int8", 10)
      local list = parallel.map(function(i)
        if i == 1 then
          return buffer[11]
        elseif i == 2 then
          buffer[1] = 128
        else
          buffer[1] = "x"
        end
      end, { 1, 2, 3 }, with({ errors = "collect" }))
      assert.matches("bad index 11 to a buffer of 10 int8", list.errors[1].message, 1, true)
      assert.matches("bad value 128 at index 1 of a buffer of 10 int8", list.errors[2].message, 1, true)
      assert.matches("bad value of type string at index 1 of a buffer of 10 int8", list.errors[3].message, 1, true)
    end)

    it("reach init", function()
      local buffer = parallel.buffer("int32", { 5, 0 })
      local list = parallel.map(function(i)
        return buffer[1] + i
      end, { 1 }, with({ init = function()
        buffer[2] = buffer[1] + 1
      end }))
      assert.same({ 6, n = 1 }, list)
      assert.equal(6, buffer[2])
    end)

    it("outlive the worker that made them", function()
      local made = parallel.map(function(i)
        return parallel.buffer("double", 1000):fill(i)
      end, { 1, 2, 3 }, with({ max_tasks = 1 }))
      for i = 1, 3 do
        assert.equal(i, made[i][1000])
      end
    end)
  end)
end, backends.all)

describe("buffers and processes", function()
  it("keep what a worker wrote before it was killed, and its memory", function()
    for _, backend in ipairs({ "process", "fork" }) do
      local buffer = parallel.buffer("int32", 4)
      local list = parallel.map(function(i)
        buffer[i] = i
        if i == 2 then
          processes.signal_own("KILL")
          parallel.sleep(60)
        end
        return i
      end, { 1, 2, 3, 4 }, { backend = backend, workers = 2, errors = "collect", chunk = 1 })
      assert.equal("SIGKILL", list.errors[2].signal_name)
      assert.same({ 1, 2, 3, 4, n = 4 }, buffer:table())
    end
  end)

  it("fail the item alone that needs memory which cannot be opened there", function()
    local pool = parallel.ProcessPool(1)
    local first, second = parallel.buffer("int8", { 1 }), parallel.buffer("int8", { 2 })
    local opened = pool:apply(function(buffer)
      local kept, n = { buffer }, 0
      repeat
        n = n + 1
        kept[n + 1] = io.open("/dev/null")
      until not kept[n + 1]
      package.loaded.kept = kept
      return n
    end, first)
    assert.is_true(opened > 1)
    local ok, refusal = pcall(pool.apply, pool, function(buffer)
      return buffer[1]
    end, second)
    assert.is_false(ok)
    assert.equal("decode", refusal.kind)
    assert.matches("shared memory did not arrive", refusal.message, 1, true)
    pool:apply(function()
      for i = 2, #package.loaded.kept do
        package.loaded.kept[i]:close()
      end
    end)
    assert.equal(2, pool:apply(function(buffer)
      return buffer[1]
    end, second))
    pool:close()
    pool:join()
  end)

  it("are mapped once, however often they come", function()
    local buffer = parallel.buffer("double", 2 ^ 20)
    local pool = parallel.ProcessPool(1)
    local function mappings(b)
      b[1] = b[1] + 1
      package.loaded.seen = package.loaded.seen or {}
      table.insert(package.loaded.seen, b)
      return processes.shared_memories("self")
    end
    local first = pool:apply(mappings, buffer)
    for _ = 1, 20 do
      assert.equal(first, pool:apply(mappings, buffer))
    end
    assert.equal(21, buffer[1])
    pool:close()
    pool:join()
  end)

  it("wait in queues and in channels that are full", function()
    local gate = gates.new()
    local pool = parallel.ProcessPool(1)
    local buffer = parallel.buffer("uint8", 5e6)
    local futures = { pool:submit(gates.await, gate) }
    for i = 2, 20 do
      -- The string fills the socket, so that frames end up half sent.
      futures[i] = pool:submit(function(b, text)
        b[1] = b[1] + 1
        return #text
      end, buffer:slice(i), ("x"):rep(1e6))
    end
    for i = 2, 20, 2 do
      futures[i]:cancel()
    end
    gates.open(gate)
    for i = 3, 19, 2 do
      assert.equal(1e6, futures[i]:get())
      assert.equal(1, buffer[i])
      assert.equal(0, buffer[i - 1])
    end
    pool:close()
    pool:join()
    gates.remove(gate)
  end)
end)
