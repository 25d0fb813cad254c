-- SPDX-License-Identifier: MIT
--
-- Callbacks whose own calls go wrong at each step of the way, on every back-end.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local census = require("spec.support.census")
local codec = require("codec")
local parallel = require("parallel")

local function square(x)
  return x * x
end

-- A class whose objects fail where they say: when they are packed, or unpacked in a worker or by the caller.
local Fragile = { __name = "Fragile" }
codec.register("spec.FragileInCallbacks", Fragile, function(object)
  if object.fails == "pack" then
    error("does not pack")
  end
  return object.fails
end, function(fails)
  if (fails == "there" and parallel.worker()) or (fails == "here" and not parallel.worker()) then
    error("does not unpack")
  end
  return setmetatable({ fails = fails }, Fragile)
end)

local function identity(value)
  return value
end

local function make(fails)
  return setmetatable({ fails = fails }, Fragile)
end

local MISHAPS = {
  { name = "an argument that cannot be sent", kind = "encode", fn = identity, argument = coroutine.create(print) },
  { name = "an argument whose class fails", kind = "encode", fn = identity, argument = make("pack") },
  { name = "an argument that the worker cannot make", kind = "decode", fn = identity, argument = make("there") },
  { name = "a result that cannot be sent", kind = "encode", fn = coroutine.create, argument = print },
  { name = "a result that the caller cannot make", kind = "decode", fn = identity, argument = make("here") },
  { name = "an error", kind = "error", fn = error, argument = "on purpose" },
  { name = "an exit", kind = "died", fn = os.exit, argument = 3 },
}

backends.each_size(function(with, _, workers)
  for _, mishap in ipairs(MISHAPS) do
    it(mishap.name .. " in a callback is its future's error, and the pool works on", function()
      parallel.map(square, { 1 }, with())
      local before = census.snapshot()
      local pool = parallel.pool(with())
      local failures = {}
      local futures = {}
      for i = 1, workers + 1 do
        futures[i] = pool:submit(square, i)
        futures[i]:on_done(function()
          -- What cannot be sent is refused by submit itself, everything else by get.
          local ok, reason = pcall(function()
            return pool:submit(mishap.fn, mishap.argument):get()
          end)
          failures[#failures + 1] = not ok and reason or "nothing failed"
        end)
      end
      for i, future in ipairs(futures) do
        assert.equal(i * i, future:get())
      end
      pool:close()
      pool:join()
      assert.equal(workers + 1, #failures)
      for _, e in ipairs(failures) do
        assert.equal(mishap.kind, type(e) == "table" and e.kind or e, tostring(e))
      end
      census.assert_flat(before)
    end)
  end

  it("a callback that starts the next call, a hundred times in a row, with failures among them", function()
    local pool = parallel.pool(with())
    local good, bad = 0, 0
    local function follow(left)
      return function(ok)
        good, bad = good + (ok and 1 or 0), bad + (ok and 0 or 1)
        if left > 0 then
          local fn = left % 10 == 0 and os.exit or left % 3 == 0 and error or square
          pool:submit(fn, left):on_done(follow(left - 1))
        end
      end
    end
    pool:submit(square, 1):on_done(follow(100))
    while good + bad < 101 do
      assert.equal(9, pool:apply(square, 3))
    end
    -- 10, 20... 100 exit; 33 multiples of three raise, three of which exit as well.
    assert.same({ 61, 40 }, { good, bad })
    pool:close()
    pool:join()
  end)
end)
