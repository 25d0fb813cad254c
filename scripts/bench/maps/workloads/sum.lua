-- SPDX-License-Identifier: MIT
--
-- Is a big array read in place: 100 MB of doubles in a buffer, summed by two workers half each, beside one thread's
-- loop? The numbers are such that every order of adding gives the same sum.

local lists = require("maps.lists")

local function fill(n, parallel)
  local memory = parallel.buffer("double", n)
  for i = 1, n do
    memory[i] = i % 1000
  end
  return memory
end

local function sum_of(memory)
  local sum = 0
  for i = 1, #memory do
    sum = sum + memory[i]
  end
  return sum
end

return {
  label = "W6",
  cases = {
    {
      name = "array",
      payload = "%s doubles summed",
      size = 12500000,
      quick = 1000,
      figures = lists.milliseconds,
      absent = { mce = "has no shared memory", ["python-futures"] = "as python-pool" },
      items = fill,
      loop = sum_of,
      map = function(pool, memory, n)
        local parts, workers = {}, pool.workers
        for i = 1, workers do
          parts[i] = memory:slice(math.floor((i - 1) * n / workers) + 1, math.floor(i * n / workers))
        end
        local total = 0
        for _, sum in ipairs(pool:map(sum_of, parts, { chunk = 1 })) do
          total = total + sum
        end
        return total
      end,
      check = function(sum)
        return sum
      end,
      targets = {
        { vm = "lumap", kind = "thread", peer = "loop", most = 0.55 },
        { vm = "lumap54", kind = "thread", peer = "loop", most = 0.55 },
      },
    },
  },
}
