-- SPDX-License-Identifier: MIT
--
-- Lengths of names, and the squares of those: the smallest parallel map.
--
--     lumap names.lua [NAME...]

local parallel = require("parallel")

local names = { ... }
if #names == 0 then
  names = { "Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances" }
end

-- Any function can be mapped, one of the standard library included. It gets one item and gives one result; the list
-- of results is in the order of the items, however many workers share them.
local lengths = parallel.map(string.len, names)

local squares = parallel.map(function(length)
  return length * length
end, lengths)

for i, name in ipairs(names) do
  print(("%-12s %4d %6d"):format(name, lengths[i], squares[i]))
end
