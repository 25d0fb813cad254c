-- SPDX-License-Identifier: MIT
--
-- buffer.lua - parallel.buffer: a list of numbers of one type, in memory that all workers share. What it can do is in C
-- (vm/runtime/core_buffer.c). Where there is an ffi library, reading and writing elements is compiled: here, for what
-- is a number in its range. All else goes to the C functions, which know what to say.

local core = require "lumap.core"
local compat = require "lumap.compat"
local options = require "parallel.options"

local ffi = compat.ffi()
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

local buffer = {}

-- With an ffi library: for each type, can a value be stored as it is? What this leaves out is looked at in C.
buffer.is_plain = {}

-- The least and the greatest integer of each type whose values are plain numbers.
local ranges = {
  int8 = { -2 ^ 7, 2 ^ 7 - 1 }, int16 = { -2 ^ 15, 2 ^ 15 - 1 }, int32 = { -2 ^ 31, 2 ^ 31 - 1 },
  uint8 = { 0, 2 ^ 8 - 1 }, uint16 = { 0, 2 ^ 16 - 1 }, uint32 = { 0, 2 ^ 32 - 1 },
}
-- The greatest finite float; what lies between it and the first number that rounds to infinity is left to C.
local MOST_FLOAT = (2 - 2 ^ -23) * 2 ^ 127

if ffi then
  local cast, istype, typeof = ffi.cast, ffi.istype, ffi.typeof
  local is_plain = buffer.is_plain
  local NAN = 0 / 0

  function is_plain.double(value) return type(value) == "number" end

  function is_plain.float(value) return type(value) == "number" and value >= -MOST_FLOAT and value <= MOST_FLOAT end

  for name, range in pairs(ranges) do
    local lowest, highest = range[1], range[2]
    is_plain[name] = function(value)
      return type(value) == "number" and value >= lowest and value <= highest and floor(value) == value
    end
  end

  for _, name in ipairs { "int64", "uint64" } do
    local element = typeof(name .. "_t")
    is_plain[name] = function(value) return istype(element, value) end
  end

  --- Puts compiled access in the place of the C functions of a class. A class has functions of its own, so that nothing
  --- about the type is asked when they run.
  local function compile(name, class)
    local is_float = name == "double" or name == "float"
    -- As lumap_handle begins (vm/codec/handle.h).
    local header = typeof(("struct { %s *data; double count; } *"):format(is_float and name or name .. "_t"))
    local slow_index, slow_newindex = class.__index, class.__newindex
    local can_store = is_plain[name]

    function class.__index(self, key)
      if type(key) == "number" then
        local handle = cast(header, self)
        if key >= 1 and key <= handle.count and floor(key) == key then
          local value = handle.data[key - 1]
          -- The VM takes some NaNs for values of other types.
          if is_float and value ~= value then return NAN end
          return value
        end
      elseif key == "ptr" then
        return cast(header, self).data
      end
      local method = rawget(methods, key)
      if method then return method end
      return slow_index(self, key)
    end

    function class.__newindex(self, key, value)
      if type(key) == "number" and can_store(value) then
        local handle = cast(header, self)
        if key >= 1 and key <= handle.count and floor(key) == key then
          handle.data[key - 1] = value
          return
        end
      end
      return slow_newindex(self, key, value)
    end
  end

  for i = 1, #classes do compile(classes[i][1], classes[i][2]) end
end

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
