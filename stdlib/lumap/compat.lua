-- SPDX-License-Identifier: MIT
--
-- compat.lua - everything in Lua that differs between LuaJIT 2.1 and PUC Lua 5.4. It returns values and changes
-- nothing.

local compat = {}

compat.unpack = table.unpack or unpack -- luacheck: ignore

compat.pack = table.pack or function(...) return { n = select("#", ...), ... } end

--- Is `value` a number without a fraction? Floats with an integral value count: 3.0 is as good a count as 3.
function compat.is_integer(value)
  return type(value) == "number" and value % 1 == 0 and value - value == 0
end

--- An integral number as an integer where the VM has them, unchanged elsewhere.
compat.to_integer = math.tointeger or function(value) return value end

--- The subtype that decides whether arithmetic stays within integers: "integer", "float", or "number" on LuaJIT.
compat.number_type = math.type or function() return "number" end

--- The integers nearest to a bound that is none, as a numeric for loop takes it: the last one at or before it in the
--- direction of the step. Only where the VM has integers.
function compat.integer_bound(bound, step)
  local nearest = math.tointeger(step > 0 and math.floor(bound) or math.ceil(bound))
  return nearest or (bound > 0 and math.maxinteger or math.mininteger)
end

--- What the stock interpreter prints for an uncaught error that is no string.
if type(jit) == "table" then
  function compat.error_object_text() return "(error object is not a string)" end
else
  function compat.error_object_text(value) return ("(error object is a %s value)"):format(type(value)) end
end

--- The environment of a function, where that is a property of it and no upvalue; else nil.
compat.environment_of = debug.getfenv -- luacheck: ignore

--- The metatable key that makes a value to-be-closed exists only where the language has such variables.
compat.has_close = _VERSION ~= "Lua 5.1"

--- LuaJIT's ffi library, or nil. Elsewhere it is not looked for: that takes as long as a worker's first items, and what
--- is found under its name is something else.
function compat.ffi()
  local found, ffi = false, nil
  if type(jit) == "table" then found, ffi = pcall(require, "ffi") end
  return found and ffi or nil
end

return compat
