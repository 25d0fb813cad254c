-- SPDX-License-Identifier: MIT
--
-- Counters: an integer that all workers change atomically, on every back-end.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local parallel = require("parallel")

local function failure(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(message)
end

describe("a counter", function()
  it("begins at 0, or where it is told to", function()
    assert.equal(0, parallel.counter():get())
    assert.equal(-7, parallel.counter(-7):get())
    assert.equal("counter at 5", tostring(parallel.counter(5)))
  end)

  it("adds, sets, and exchanges what it holds", function()
    local counter = parallel.counter(5)
    assert.equal(8, counter:add(3))
    assert.equal(6, counter:add(-2))
    counter:set(100)
    assert.equal(100, counter:get())
    assert.is_false(counter:compare_exchange(99, 1))
    assert.equal(100, counter:get())
    assert.is_true(counter:compare_exchange(100, 1))
    assert.equal(1, counter:get())
  end)

  it("holds integers to 2^53 either way, and refuses others", function()
    local counter = parallel.counter(2 ^ 53)
    assert.equal(2 ^ 53, counter:get())
    assert.matches("beyond 2^53", failure(counter.add, counter, 1), 1, true)
    assert.equal(2 ^ 53, counter:get())
    counter:set(-2 ^ 53)
    assert.matches("beyond 2^53", failure(counter.add, counter, -1), 1, true)
    for _, bad in ipairs({ 0.5, 2 ^ 53 + 2, -2 ^ 60, 0 / 0, 1 / 0, "1", true }) do
      local message = failure(counter.add, counter, bad)
      assert.matches("bad argument #1 to 'add' (an integer from -2^53 to 2^53 expected", message, 1, true)
      assert.matches("bad argument #1 to 'set'", failure(counter.set, counter, bad), 1, true)
      message = failure(counter.compare_exchange, counter, 1, bad)
      assert.matches("bad argument #2 to 'compare_exchange'", message, 1, true)
      assert.matches("bad argument #1 to 'counter'", failure(parallel.counter, bad), 1, true)
    end
    assert.matches("bad argument #1 to 'add'", failure(counter.add, counter), 1, true)
    assert.matches("a counter expected, got table", failure(counter.add, {}, 1), 1, true)
  end)
end)

backends.each_size(function(with)
  describe("counters in calls", function()
    it("lose no addition", function()
      local counter = parallel.counter()
      parallel.each(function(i)
        for _ = 1, 100 do
          counter:add(i)
        end
      end, parallel.range(1, 100), with({ chunk = 3 }))
      assert.equal(505000, counter:get())
    end)

    it("lose no exchange", function()
      local counter = parallel.counter(1)
      local tries = parallel.map(function()
        local n = 0
        for _ = 1, 50 do
          repeat
            local old = counter:get()
            n = n + 1
          until counter:compare_exchange(old, old + 2)
        end
        return n
      end, parallel.range(1, 20), with({ chunk = 1 }))
      assert.equal(20, tries.n)
      assert.equal(2001, counter:get())
    end)

    it("cross in items and come back as the same", function()
      local counters = { parallel.counter(1), parallel.counter(2) }
      local back = parallel.map(function(counter)
        counter:add(10)
        return { counter }, parallel.counter(counter:get())
      end, counters, with())
      assert.equal(12, counters[2]:get())
      back[2][1]:add(1)
      assert.equal(13, counters[2]:get())
    end)
  end)
end, backends.all)
