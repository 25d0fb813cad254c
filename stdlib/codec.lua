-- SPDX-License-Identifier: MIT
--
-- codec.lua - values as bytes: the module `codec`. The work is done in C (vm/codec); here arguments are checked.

local core = require "lumap.core"

---@class codec
local codec = {}

---@class codec.options
---@field functions boolean|nil functions and modules may cross too: for bytes of your own only (default false)

local function with_functions(name, opts)
  if type(opts) ~= "table" then
    error(("bad argument #2 to '%s' (table of options expected, got %s)"):format(name, type(opts)), 3)
  end
  for key, value in pairs(opts) do
    if key ~= "functions" then
      error(("unknown option '%s' to '%s' (there is: functions)"):format(tostring(key), name), 3)
    end
    if type(value) ~= "boolean" then
      error(("bad option 'functions' to '%s' (boolean expected, got %s)"):format(name, type(value)), 3)
    end
  end
  return opts.functions == true
end

--- Turns a value into bytes that mean the same on every machine and, without functions, on every VM.
--- Raises: a refusal with the path of what cannot cross.
---@param value any
---@param opts codec.options|nil
---@return string bytes
---@nodiscard
function codec.encode(value, opts)
  local ok, result = core.encode(value, opts ~= nil and with_functions("encode", opts))
  if not ok then error(result, 2) end
  return result
end

--- Turns bytes back into the value. Any bytes give a value or an error that names the offset, in bounded time and
--- memory.
--- Raises: "bad message at byte N: ...".
---@param bytes string
---@param opts codec.options|nil `functions = true` runs nothing by itself, but what it returns is code: decode only
--- bytes of your own that way
---@return any value
---@nodiscard
function codec.decode(bytes, opts)
  if type(bytes) ~= "string" then
    error(("bad argument #1 to 'decode' (string expected, got %s)"):format(type(bytes)), 2)
  end
  local ok, result = core.decode(bytes, opts ~= nil and with_functions("decode", opts))
  if not ok then error(result, 2) end
  return result
end

--- Can the value be sent to a worker?
---@param value any
---@return true|nil ok
---@return string|nil message the path of what cannot cross, its type, and what to do
function codec.check(value)
  return core.check(value)
end

--- Teaches a class to cross: objects whose metatable is `class`, or on LuaJIT cdata of the type `class`, are sent as
--- what `pack` makes of them; a type of pointers will do, int64_t and uint64_t will not, since they are numbers here.
--- Registering a name again replaces it. Workers learn registered classes by themselves if `pack` and `unpack` can
--- cross.
--- Raises: wrong arguments.
---@param name string what stands in the bytes
---@param class table|ffi.ctype* the metatable of the objects, or their C type
---@param pack fun(object: any): any
---@param unpack fun(value: any): any
function codec.register(name, class, pack, unpack)
  local expected = { "string", "metatable or C type", "function", "function" }
  local values = { name, class, pack, unpack }
  for i = 1, 4 do
    local kind = type(values[i])
    if i == 2 and (kind == "table" or core.is_class(class)) then kind = expected[2] end
    if kind ~= expected[i] then
      error(("bad argument #%d to 'register' (%s expected, got %s)"):format(i, expected[i], type(values[i])), 2)
    end
  end
  if name == "" then error("bad argument #1 to 'register' (a name that is not empty expected)", 2) end
  core.register(name, class, pack, unpack)
end

return codec
