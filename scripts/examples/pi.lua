-- SPDX-License-Identifier: MIT
--
-- Pi by throwing darts: the share of random points of a square that lie in the circle is pi / 4.
--
--     lumap pi.lua [THROWS [BATCHES]]
--
-- Each batch has a small generator of random numbers of its own, begun from the number of the batch. So the answer is
-- the same each time, on any number of workers.

local parallel = require("parallel")

local throws = tonumber(arg[1]) or 4000000
local batches = tonumber(arg[2]) or 64
local per_batch = math.ceil(throws / batches)

--- Numbers from 0 to 1 by the generator of Lehmer, Park and Miller. Its products stay below 2^53, so they are exact
--- in the numbers of any Lua.
local function random_numbers(seed)
  local state = seed
  return function()
    state = state * 48271 % 2147483647
    return state / 2147483647
  end
end

--- How many of the throws of one batch hit the circle.
local function hits(batch)
  local random = random_numbers((batch * batch * 7919 + batch * 104729) % 2147483647)
  local inside = 0
  for _ = 1, per_batch do
    local x, y = random(), random()
    if x * x + y * y <= 1 then
      inside = inside + 1
    end
  end
  return inside
end

local total = 0
for _, inside in ipairs(parallel.map(hits, parallel.range(1, batches))) do
  total = total + inside
end
print(("pi is about %.6f after %d throws"):format(4 * total / (per_batch * batches), per_batch * batches))
