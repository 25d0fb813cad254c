-- SPDX-License-Identifier: MIT
--
-- The collector rests while a message is read or written, and goes on at its own pace: it runs or not as before, many
-- small messages do not make it begin anew each time, and what they leave behind is collected.

local describe, it, assert, after_each, teardown = describe, it, assert, after_each, teardown
require("spec.support.globals")()

local codec = require("codec")

--- An object whose end is told.
local function watch(on_end)
  if newproxy then
    local witness = newproxy(true)
    getmetatable(witness).__gc = on_end
  else
    setmetatable({}, { __gc = on_end })
  end
end

--- Counts the collector's cycles while `body` runs.
local function count_cycles(body)
  local cycles, watches = 0, true
  local function on_end()
    cycles = cycles + 1
    if watches then
      watch(on_end)
    end
  end
  collectgarbage()
  collectgarbage()
  watch(on_end)
  body()
  watches = false
  return cycles
end

local failing = false
local Class = { __name = "spec.Collecting" }

codec.register("spec.Collecting", Class, function(object)
  collectgarbage("restart")
  return object.value
end, function(value)
  if failing then
    error("no unpacking")
  end
  return setmetatable({ value = value }, Class)
end)

after_each(function()
  failing = false
  collectgarbage("restart")
end)

teardown(function()
  codec.register("spec.Collecting", {}, tostring, tostring) -- maps of other specs send all classes along
end)

local plain = { { a = 1, b = "two" }, { a = 2, b = "two" }, { 1, 2, 3 } }
local object = { setmetatable({ value = 1 }, Class), print and setmetatable({}, { __name = "x" }) }

--- Everything that reads or writes a message, with and without an error.
local deeds = {
  ["writing plain data"] = function()
    codec.encode(plain)
  end,
  ["writing an object"] = function()
    codec.encode(object)
  end,
  ["a refusal"] = function()
    assert.is_false(pcall(codec.encode, { plain, object, coroutine.create(print) }))
  end,
  ["a check"] = function()
    codec.check(object)
    codec.check({ object, coroutine.create(print) })
  end,
  ["reading"] = function()
    codec.decode(codec.encode({ plain, object }))
  end,
  ["reading what is damaged"] = function()
    assert.is_false(pcall(codec.decode, codec.encode({ plain, object }):sub(1, -3)))
  end,
  ["reading what cannot be unpacked"] = function()
    failing = true
    assert.is_false(pcall(codec.decode, codec.encode(object)))
  end,
}

describe("the collector", function()
  for name, deed in pairs(deeds) do
    it("runs after " .. name .. " if it ran before", function()
      deed()
      assert.is_true(collectgarbage("isrunning"))
    end)
  end

  for _, name in ipairs({ "writing plain data", "reading what is damaged" }) do
    it("rests after " .. name .. " if it rested before", function()
      collectgarbage("stop")
      deeds[name]()
      assert.is_false(collectgarbage("isrunning"))
    end)
  end

  it("does not begin a cycle for each of many small messages", function()
    local heap = {}
    for i = 1, 200000 do
      heap[i] = { i }
    end
    local bytes = codec.encode(plain)
    local reads = count_cycles(function()
      for _ = 1, 10000 do
        codec.decode(bytes)
      end
    end)
    local writes = count_cycles(function()
      for _ = 1, 10000 do
        codec.encode({ setmetatable({ 1 }, { __name = "x" }) })
      end
    end)
    assert.equal(200000, #heap)
    -- Beside this heap their garbage, 10 MB or so, is worth a cycle or two; young collections of 5.4 come more often.
    local most = math.type and 40 or 5
    assert.is_true(reads <= most, reads .. " cycles")
    assert.is_true(writes <= most, writes .. " cycles")
  end)

  it("does not walk a message as soon as it was read, when all of it is in use", function()
    local big, value = {}, nil
    for i = 1, 200000 do
      big[i] = { i }
    end
    local bytes = codec.encode(big)
    big = nil
    local cycles = count_cycles(function()
      value = codec.decode(bytes)
    end)
    assert.equal(200000, #value)
    assert.is_nil(big)
    assert.equal(0, cycles)
  end)

  it("does not walk a small heap for each big message", function()
    local big = {}
    for i = 1, 20000 do
      big[i] = { i, "text" }
    end
    local bytes = codec.encode(big)
    big = nil
    local cycles = count_cycles(function()
      for _ = 1, 40 do
        codec.decode(bytes)
      end
    end)
    assert.is_nil(big)
    assert.is_true(cycles <= 10, cycles .. " cycles")
  end)

  it("collects what messages leave behind, when nothing else does", function()
    local big = {}
    for i = 1, 1000 do
      big[i] = { i, "text " .. i }
    end
    local bytes = codec.encode(big)
    local most = 0
    collectgarbage()
    collectgarbage()
    local before = collectgarbage("count")
    codec.decode(bytes)
    local one = collectgarbage("count") - before
    for _ = 1, 500 do
      codec.decode(bytes)
      most = math.max(most, collectgarbage("count"))
    end
    assert.is_true(most < 2.5 * before + 10 * one, ("%.0f KB of %.0f and %.0f each"):format(most, before, one))
  end)

  it("collects what refused messages have kept", function()
    local weak = setmetatable({}, { __mode = "v" })
    do
      local value = { setmetatable({ value = { "kept" } }, Class), { "beside" } }
      weak[1], weak[2], weak[3] = value, value[1].value, value[2]
      codec.encode(value)
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)
end)
