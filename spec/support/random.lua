-- SPDX-License-Identifier: MIT
--
-- Random numbers for generators of test data: the same from the same seed on both interpreters, and untouched by what
-- the code under test does to math.random.

local Random = { __name = "spec.Random" }
Random.__index = Random

local MODULUS, FACTOR = 2147483647, 48271

--- The generator of Lehmer, Park and Miller.
---@param seed integer
function Random.new(seed)
  local self = setmetatable({ state = (math.floor(seed) * 2654435 + 12345) % (MODULUS - 1) + 1 }, Random)
  for _ = 1, 5 do
    self:next()
  end
  return self
end

---@return integer from 1 to 2^31 - 2
function Random:next()
  self.state = self.state * FACTOR % MODULUS
  return self.state
end

---@return integer from first to last
function Random:integer(first, last)
  return first + math.floor(self:next() / MODULUS * (last - first + 1))
end

--- True once in so many times.
---@return boolean
function Random:once_in(times)
  return self:integer(1, times) == 1
end

--- One of a list.
function Random:pick(list)
  return list[self:integer(1, #list)]
end

return Random
