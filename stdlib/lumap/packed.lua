-- SPDX-License-Identifier: MIT
--
-- packed.lua - the loops of vm/codec/packed.h over FFI memory, for the VM that compiles them. The module is a table
-- { pack, unpack, has_more }, or false where there is no ffi library: then the C loops stay.

local found, ffi = pcall(require, "ffi")
if not found then return false end

local floor = math.floor
local rawget, type, pairs = rawget, type, pairs
local doubles, integers, halves = ffi.typeof("double *"), ffi.typeof("int64_t *"), ffi.typeof("uint32_t *")

-- Kinds of LUMAP_TAG_PACKED in vm/codec/wire.h; a slice within one kind of VM is always doubles.
local F64, I64, MIXED = 1, 2, 3
local EXACT = 2 ^ 53
local MOST_EXACT = ffi.new("int64_t", EXACT)
-- The upper half of the VM's NaN: bits above it are how it tells values that are no numbers.
local NAN, LAST_NUMBER = 0 / 0, 0xFFF80000

local function pack_doubles(list, first, count, out)
  for i = 0, count - 1 do
    local value = rawget(list, first + i)
    if type(value) ~= "number" then return 0 end
    out[i] = value
  end
  return F64
end

local function pack_exact(list, first, count, memory)
  local out = ffi.cast(doubles, memory)
  local whole = 0
  for i = 0, count - 1 do
    local value = rawget(list, first + i)
    if type(value) ~= "number" then return 0 end
    out[i] = value
    if floor(value) == value and value <= EXACT and value >= -EXACT and (value ~= 0 or 1 / value > 0) then
      whole = whole + 1
    end
  end
  if whole == 0 then return F64 end
  if whole < count then return MIXED end
  local as_integers = ffi.cast(integers, memory)
  for i = 0, count - 1 do as_integers[i] = out[i] end
  return I64
end

local function pack(list, first, count, memory, exact)
  if exact then return pack_exact(list, first, count, memory) end
  return pack_doubles(list, first, count, ffi.cast(doubles, memory))
end

local function unpack(list, first, count, memory, kind)
  if kind ~= I64 then
    local numbers, words = ffi.cast(doubles, memory), ffi.cast(halves, memory)
    for i = 0, count - 1 do
      -- Read as a double, such bits would be a value of another type, with a pointer of the sender's choice.
      if words[2 * i + 1] > LAST_NUMBER then list[first + i] = NAN else list[first + i] = numbers[i] end
    end
    return
  end
  local numbers = ffi.cast(integers, memory)
  for i = 0, count - 1 do
    local value = numbers[i]
    -- What a double cannot hold stays an int64_t. Compared as integers: rounded, 2^53 + 1 would pass for 2^53.
    if value > MOST_EXACT or value < -MOST_EXACT then list[first + i] = value else list[first + i] = tonumber(value) end
  end
end

local function has_more(list, count)
  local keys = 0
  for _ in pairs(list) do keys = keys + 1 end
  return keys ~= count
end

return { pack, unpack, has_more }
