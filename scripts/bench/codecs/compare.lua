-- SPDX-License-Identifier: MIT
--
-- Is what was decoded what was encoded? And is it what another language has?

local compare = {}

--- Trees of plain data that are equal in all that they hold.
---@return boolean
local function equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

compare.equal = equal

local function same_account(account, other, owner, class)
  return getmetatable(other) == class
    and other.owner == owner
    and other.balance == account.balance
    and other:after(3) == account:after(3)
end

--- Owners and accounts of data.lua: each of one class of its own kind, cycles closed, functions that do the same.
---@return boolean
function compare.same_owners(owners, others)
  if #owners ~= #others then
    return false
  end
  local class, account_class = getmetatable(others[1]), getmetatable(others[1].accounts[1])
  for i, owner in ipairs(owners) do
    local other = others[i]
    if getmetatable(other) ~= class or other.name ~= owner.name or other:total() ~= owner:total() then
      return false
    end
    for k, account in ipairs(owner.accounts) do
      if not same_account(account, other.accounts[k], other, account_class) then
        return false
      end
    end
  end
  return true
end

local MODULUS = 2147483647

local function keys_of(value)
  if #value > 0 then
    local keys = {}
    for i = 1, #value do
      keys[i] = i
    end
    return keys
  end
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

--- An integer made of all numbers and strings in a tree of lists and records, as data.py makes it.
---@param sum integer that of what comes before
---@return integer
function compare.digest(value, sum)
  if type(value) == "number" then
    return (sum * 31 + math.floor(value * 1024) % MODULUS) % MODULUS
  elseif type(value) == "string" then
    local first, middle, last = value:byte(1), value:byte(math.floor(#value / 2) + 1), value:byte(-1)
    return (sum * 31 + #value + first * 65536 + middle * 256 + last) % MODULUS
  end
  for _, key in ipairs(keys_of(value)) do
    sum = compare.digest(value[key], sum)
  end
  return sum
end

return compare
