-- SPDX-License-Identifier: MIT
--
-- buffer.lua - parallel.buffer: a list of numbers of one type, in memory that all workers share. What it can do is in C
-- (vm/runtime/core_buffer.c). Where there is an ffi library, reading and writing elements is compiled: here, for what
-- is a number in its range. All else goes to the C functions, which know what to say.

local core = require "lumap.core"
local compat = require "lumap.compat"
local options = require "parallel.options"

local has_ffi, ffi = pcall(require, "ffi")
local floor, rawget, type = math.floor, rawget, type

---@class parallel.Buffer
---@field [integer] number b[1] to b[#b]; int64 and uint64 elements are int64_t and uint64_t cdata on LuaJIT
---@field fill fun(self: parallel.Buffer, value: number): parallel.Buffer sets all elements
---@field table fun(self: parallel.Buffer, i: integer|nil, j: integer|nil): table the elements i to j (default: all) as
--- a list with field `n`
---@field string fun(self: parallel.Buffer, i: integer|nil, j: integer|nil): string the same as they lie in memory
---@field slice fun(self: parallel.Buffer, i: integer|nil, j: integer|nil): parallel.Buffer that part of this one, in
--- the same memory
---@field ptr ffi.cdata* LuaJIT: an FFI pointer to elements [0] to [#b - 1]; good while a buffer of this memory is there

local classes, methods = core.buffer_classes()

-- Number of each type in C, by its name.
local numbers = {}
for i = 1, #classes do numbers[classes[i][1]] = i - 1 end

-- The least and the greatest integer of each type whose values are plain numbers.
local ranges = {
  int8 = { -2 ^ 7, 2 ^ 7 - 1 }, int16 = { -2 ^ 15, 2 ^ 15 - 1 }, int32 = { -2 ^ 31, 2 ^ 31 - 1 },
  uint8 = { 0, 2 ^ 8 - 1 }, uint16 = { 0, 2 ^ 16 - 1 }, uint32 = { 0, 2 ^ 32 - 1 },
}
-- The greatest finite float; what lies between it and the first number that rounds to infinity is left to C.
local MOST_FLOAT = (2 - 2 ^ -23) * 2 ^ 127

if has_ffi then
  local cast, istype, typeof = ffi.cast, ffi.istype, ffi.typeof
  local NAN = 0 / 0

  --- Puts compiled access in the place of the C functions of a class. A class has functions of its own, so that nothing
  --- about the type is asked when they run.
  local function compile(name, class)
    local ctype = (name == "double" or name == "float") and name or name .. "_t"
    local element = typeof(ctype)
    -- As lumap_handle begins (vm/codec/handle.h).
    local header = typeof(("struct { %s *data; double count; } *"):format(ctype))
    local slow_index, slow_newindex = class.__index, class.__newindex
    local is_float = name == "double" or name == "float"

    function class.__index(buffer, key)
      if type(key) == "number" then
        local handle = cast(header, buffer)
        if key >= 1 and key <= handle.count and floor(key) == key then
          local value = handle.data[key - 1]
          -- The VM takes some NaNs for values of other types.
          if is_float and value ~= value then return NAN end
          return value
        end
      elseif key == "ptr" then
        return cast(header, buffer).data
      end
      local method = rawget(methods, key)
      if method then return method end
      return slow_index(buffer, key)
    end

    local range = ranges[name]
    local lowest, highest
    if range then
      lowest, highest = range[1], range[2]
    elseif name == "float" then
      lowest, highest = -MOST_FLOAT, MOST_FLOAT
    elseif name == "double" then
      lowest, highest = -math.huge, math.huge
    end

    if lowest then
      function class.__newindex(buffer, key, value)
        if type(key) == "number" and type(value) == "number" then
          local handle = cast(header, buffer)
          if key >= 1 and key <= handle.count and floor(key) == key and value >= lowest and value <= highest and
            (is_float or floor(value) == value) then
            handle.data[key - 1] = value
            return
          end
        end
        return slow_newindex(buffer, key, value)
      end
    else
      function class.__newindex(buffer, key, value)
        if type(key) == "number" and istype(element, value) then
          local handle = cast(header, buffer)
          if key >= 1 and key <= handle.count and floor(key) == key then
            handle.data[key - 1] = value
            return
          end
        end
        return slow_newindex(buffer, key, value)
      end
    end
  end

  for i = 1, #classes do compile(classes[i][1], classes[i][2]) end
end

local buffer = {}

local function list_types()
  local names = {}
  for i = 1, #classes do names[i] = classes[i][1] end
  return table.concat(names, ", ")
end

--- parallel.buffer
function buffer.new(ctype, contents)
  local number = numbers[ctype]
  if not number then options.bad_argument("buffer", 1, "one of " .. list_types(), ctype, 1) end
  local count, list = contents, nil
  if type(contents) == "table" then
    list, count = contents, rawget(contents, "n")
    if not (compat.is_integer(count) and count >= 0) then count = #contents end
  elseif not (compat.is_integer(count) and count >= 0) then
    options.bad_argument("buffer", 2, "number of elements or list", contents, 1)
  end
  local ok, made = pcall(core.buffer, number, count, list)
  if not ok then error(made, 2) end
  return made
end

return buffer
