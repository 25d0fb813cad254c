-- SPDX-License-Identifier: MIT
--
-- One turn of a codec inside the VM: what is timed, and what is not. pickle_side.py does the same.
--
-- Each message of the row is encoded and decoded; the times of the two are summed apart, and between them every result
-- is compared with the original.
--
-- Before a turn everything is collected, before decoding, too, if the row is one message; then the collector runs as it
-- does in any program. So a row of one message pays for building its result but not for freeing it, and a row of many
-- messages, each dropped when it was compared, pays for that as well.

local clock = require("parallel").clock

-- Twice, since what has a finalizer is freed by the second one.
local function collect()
  collectgarbage()
  collectgarbage()
end

local function encoded(side, value, times)
  local message
  local start = clock()
  for _ = 1, times do
    message = side.encode(value)
  end
  return message, clock() - start
end

local function decoded(side, message, times)
  local copy
  local start = clock()
  for _ = 1, times do
    copy = side.decode(message)
  end
  return copy, clock() - start
end

--- Raises: a result differs from the original.
---@param side bench.Side
---@param row table as data.lua makes it
---@return table figures encode, decode, both: seconds; bytes of all messages, each counted once
return function(side, row)
  local encode, decode, bytes = 0, 0, 0
  collect()
  for _, value in ipairs(row.messages) do
    local message, encode_seconds = encoded(side, value, row.times)
    if #row.messages == 1 then
      collect()
    end
    local copy, decode_seconds = decoded(side, message, row.times)
    if not row.check(value, copy) then
      error(side.name .. ": what was decoded is not what was encoded", 0)
    end
    encode, decode, bytes = encode + encode_seconds, decode + decode_seconds, bytes + #message
  end
  return { encode = encode, decode = decode, both = encode + decode, bytes = bytes }
end
