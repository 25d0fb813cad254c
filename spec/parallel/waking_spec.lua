-- SPDX-License-Identifier: MIT
--
-- How often the caller is woken: each time takes a worker off its processor where all of them work. What is told to the
-- pool is looked at (job:wake_below), since times would depend on the machine.

local describe, it, assert, before_each, after_each = describe, it, assert, before_each, after_each
require("spec.support.globals")()

local backends = require("spec.support.backends")
local Call = require("parallel.call")
local parallel = require("parallel")

local doze = Call.doze

--- Chunks that were under way, and of how many the caller wanted to be woken, each time that it thought about it.
local told

before_each(function()
  told = {}
  function Call.doze(call)
    doze(call)
    told[#told + 1] = { sent = call.next - 1, in_flight = call.in_flight, low = call.low }
  end
end)

after_each(function()
  Call.doze = doze
end)

backends.each(function(with)
  describe("a caller", function()
    local function nap(i)
      parallel.sleep(0.001)
      return i
    end

    local function run(fn, items, opts)
      local pool = parallel.pool(with({ workers = 2 }))
      local list = pool:map(fn, items, opts)
      pool:close()
      pool:join()
      return list
    end

    it("that has sent all sleeps until a worker has nothing left", function()
      local list = run(nap, parallel.range(1, 20), { chunk = 1 })
      for i = 1, 20 do
        assert.equal(i, list[i])
      end
      assert.equal(20, told[#told].sent)
      assert.equal(1, told[#told].low)
      assert.is_true(told[1].low > 1, told[1].low)
    end)

    it("that will have much to store begins at once", function()
      local list = run(function(i)
        parallel.sleep(0.001)
        return ("%06d"):format(i):rep(20000)
      end, parallel.range(1, 20), { chunk = 1 })
      assert.equal(20, #list)
      for i = 1, #told do
        assert.is_true(told[i].low > 1 or told[i].in_flight == 0, told[i].low)
      end
    end)
  end)
end)
