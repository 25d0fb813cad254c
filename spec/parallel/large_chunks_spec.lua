-- SPDX-License-Identifier: MIT
--
-- Chunks of large values: they end at half a megabyte, unless the size of chunks was given, and no item is left out.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local parallel = require("parallel")

local COUNT, SIZE, MOST = 200, 100002, 512 * 1024

local function items()
  local list = {}
  for i = 1, COUNT do
    list[i] = ("%06d"):format(i):rep(SIZE / 6)
  end
  return list
end

local function number_of(text)
  return #text == SIZE and tonumber(text:sub(-6))
end

local function assert_all(list)
  assert.equal(COUNT, list.n)
  for i = 1, COUNT do
    assert.equal(i, list[i])
  end
end

backends.each(function(with)
  describe("large items", function()
    it("travel in small chunks when nobody says how many go together", function()
      local pool = parallel.pool(with({ workers = 1 }))
      -- By their number alone the first chunk would be half of them, the second a quarter...
      assert_all(pool:map(number_of, items(), { chunk = "guided" }))
      local chunks = pool:stats().chunks
      assert.is_true(chunks >= COUNT * SIZE / (MOST + SIZE), chunks)
      assert_all(pool:map(number_of, items()))
      pool:close()
      pool:join()
    end)

    it("travel together as they are told to", function()
      local pool = parallel.pool(with({ workers = 1 }))
      assert_all(pool:map(number_of, items(), { chunk = COUNT }))
      assert.equal(1, pool:stats().chunks)
      pool:close()
      pool:join()
    end)

    it("are folded in their order", function()
      local function join(a, b)
        return a .. b
      end
      local short = {}
      for i = 1, COUNT do
        short[i] = ("%06d"):format(i)
      end
      local list = items()
      local function head(text)
        return text:sub(1, 6)
      end
      assert.equal(table.concat(short), parallel.mapreduce(head, join, list, with({ chunk = "guided" })))
    end)

    it("of which one cannot be sent fail at that one", function()
      local list = items()
      list[COUNT - 1] = coroutine.create(print)
      local ok, failure = pcall(parallel.map, number_of, list, with({ chunk = "guided" }))
      assert.is_false(ok)
      assert.same({ "encode", COUNT - 1 }, { failure.kind, failure.index })
    end)
  end)

  it("of numbers are not so many at a time that they fill the caches", function()
    local pool, numbers = parallel.pool(with()), {}
    for i = 1, 1000000 do
      numbers[i] = i
    end
    local most, sum = 0, 0
    for i, number in pool:imap(math.abs, numbers) do
      sum = sum + number
      if i % 1000 == 0 then
        local stats = pool:stats()
        most = math.max(most, stats.bytes_sent - stats.bytes_received)
      end
    end
    assert.equal(1000000 * 1000001 / 2, sum)
    -- Half a megabyte a worker, the chunk that is handed out, and what is no number.
    assert.is_true(most <= 2 * 2 ^ 19 + 2 ^ 18, most)
    pool:close()
    pool:join()
  end)
end)
