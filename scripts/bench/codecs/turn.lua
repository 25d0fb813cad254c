-- SPDX-License-Identifier: MIT
--
-- One turn of a codec inside the VM: what is timed, and what is not. pickle_side.py does the same.
--
-- All messages of the row are encoded, then all are decoded; the two are timed apart. Every message's value is compared
-- with the original, after the clock was read.
--
-- The originals are made anew for each turn and are gone when decoding begins. Otherwise every string would be found
-- among those that live, which costs half of making it, and which no worker has. Where originals are kept, that is the
-- question of the row.
--
-- Seconds are those of the CPU, the kernel's work for the process included, not those of the clock on the wall: no side
-- waits for anything, so they are the same on an idle machine, and on a busy one they leave out what others do.
--
-- Before encoding and before decoding everything is collected; then the collector runs as it does in any program. So a
-- row of one message pays for building its result but not for freeing it. A row of many messages, each of which takes
-- the place of the one before, pays for that as well.

local clock = os.clock
-- os.clock counts whole microseconds; what is shorter is taken for one, so that ratios exist.
local TICK = 1e-6

-- Twice, since what has a finalizer is freed by the second one.
local function collect()
  collectgarbage()
  collectgarbage()
end

local function timed(call, value, times)
  local result
  local start = clock()
  for _ = 1, times do
    result = call(value)
  end
  return result, math.max(clock() - start, TICK)
end

local function all_values(row)
  local next_value, values = row.stream(), {}
  for i = 1, row.count do
    values[i] = next_value()
  end
  return values
end

-- The originals live in this function alone, unless the row keeps them.
local function encode_all(side, row)
  local values, messages, total, bytes = all_values(row), {}, 0, 0
  row.originals = row.kept and values
  collect()
  for i, value in ipairs(values) do
    local message, seconds = timed(side.encode, value, row.times)
    messages[i], total, bytes = message, total + seconds, bytes + #message
  end
  return messages, total, bytes
end

local function decode_all(side, row, messages)
  local copy
  local total = 0
  collect()
  for _, message in ipairs(messages) do
    local seconds
    copy, seconds = timed(side.decode, message, row.times)
    total = total + seconds
  end
  return copy, total
end

-- All but the last are decoded once more: comparing them in between would leave garbage for the timed pieces.
local function check_all(side, row, messages, last)
  local next_value = row.stream()
  for i, message in ipairs(messages) do
    local copy = last
    if i < #messages then
      copy = side.decode(message)
    end
    if not row.check(next_value(), copy) then
      error(side.name .. ": what was decoded is not what was encoded", 0)
    end
  end
end

--- Raises: a result differs from the original.
---@param side bench.Side
---@param row table as data.lua makes it
---@return table figures encode, decode, both: seconds; bytes of all messages, each counted once
return function(side, row)
  local messages, encode, bytes = encode_all(side, row)
  local last, decode = decode_all(side, row, messages)
  check_all(side, row, messages, last)
  return { encode = encode, decode = decode, both = encode + decode, bytes = bytes }
end
