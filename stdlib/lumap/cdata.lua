-- SPDX-License-Identifier: MIT
--
-- cdata.lua - the ffi library's side of vm/codec/cdata.c: what an object of cdata is, its type as bytes and back. The
-- module is a table of functions, or false where there is no ffi library whose types can be inspected; it is loaded
-- when the first cdata crosses.

local declarations = require "lumap.declarations"
local ctypes = require "lumap.ctypes"
local reader = require "lumap.ctype_reader"
if not declarations or not ctypes or not reader then return false end

local ffi = declarations.ffi
local error, pcall, rawget, tonumber, tostring, type = error, pcall, rawget, tonumber, tostring, type
local typeof = ffi.typeof

-- As in vm/codec/cdata.c.
local DATA, TYPE = 1, 2
local PEER = 1

local POINTERS = "send what it points to, as a string, a number or an object of its own"
local FUNCTIONS = "call it inside the function that is sent, through ffi.C or the library that has it"
local FINALIZERS = "its metatype has __gc, which would run for each copy; teach its type to cross with codec.register"

local cdata = {}

---@class lumap.crossing what the codec needs to know about a type
---@field id integer its number; behind a reference, that of what it refers to
---@field description string
---@field is_named boolean it is, or has in it, a struct, union or enum: told once a call
---@field way string|nil the way to what cannot cross
---@field name string|nil the type of that
---@field remedy string|nil

local crossings, type_crossings = {}, {}

--- Is the value a type itself, rather than an object of it?
local function is_type(value, id)
  -- A type is as a number what an object of it hardly ever is: texts are seldom made.
  return tonumber(value) == id and tostring(value):sub(1, 6) == "ctype<"
end

local function has_names(id)
  local found = false
  ctypes.visit_named(id, function() found = true end)
  return found
end

local function has_finalizer(id)
  local own = declarations.metatables[id]
  return own ~= nil and rawget(own[2], "__gc") ~= nil
end

local function study(id)
  local crossing = ctypes.inspect(id)
  if crossing.pointer then
    crossing.way, crossing.name = crossing.pointer, crossing.pointer_name
    crossing.remedy = crossing.name:find("%(") and FUNCTIONS or POINTERS
  else
    crossing.description = ctypes.describe(crossing.id)
    crossing.is_named = has_names(crossing.id)
  end
  return crossing
end

local function find(cache, id, make)
  local crossing = cache[id]
  if crossing then return crossing end
  local ok, result = pcall(make, id)
  if result == "not enough memory" then error(result, 0) end
  if not ok then result = { id = id, way = "", name = ctypes.spell(id), remedy = tostring(result) } end
  -- What is declared in part may be completed.
  if ctypes.is_complete(id) then cache[id] = result end
  return result
end

local function study_type(id)
  return { id = id, description = ctypes.describe(id), is_named = has_names(id) }
end

--- What the value is: DATA, number of its type, description, is_named, is_reference, size; or TYPE, number,
--- description, is_named; or nil, number, and why it cannot cross: the way to the part that cannot, its type, a remedy.
function cdata.inspect(value)
  local ct = typeof(value)
  local id = tonumber(ct)
  local as_type = is_type(value, id)
  local crossing = find(as_type and type_crossings or crossings, id, as_type and study_type or study)
  if crossing.way then return nil, crossing.id, crossing.way, crossing.name, crossing.remedy end
  if not crossing.is_reference then reader.learn(crossing.description, ct) end
  if as_type then return TYPE, id, crossing.description, crossing.is_named end
  if has_finalizer(crossing.id) then return nil, crossing.id, "", ctypes.spell(crossing.id), FINALIZERS end
  return DATA, crossing.id, crossing.description, crossing.is_named, crossing.is_reference,
    crossing.size or ffi.sizeof(value)
end

--- The type of the object, or the type itself, whose number inspect gave. Behind a reference it is found by its
--- description: nil if that leads to another one.
function cdata.type_of(value)
  local ct = typeof(value)
  local crossing = crossings[tonumber(ct)]
  if not crossing or not crossing.is_reference or is_type(value, tonumber(ct)) then return ct end
  ct = reader.resolve(crossing.description, PEER)
  return ct and tonumber(ct) == crossing.id and ct or nil
end

--- The type of the object, or the type itself, and its number, if there is a struct, union or enum in it; else nil.
--- From now on its description stands for this very type here.
function cdata.named_type(value)
  local ct = typeof(value)
  local id = tonumber(ct)
  local crossing = find(type_crossings, id, study_type)
  if crossing.way or not crossing.is_named then return nil end
  reader.learn(crossing.description, ct)
  return ct, id
end

--- The number of the type if the value is a type whose objects a registered class can have, else nil: those of 64 bits
--- are numbers to the codec.
function cdata.class_number(value)
  local id = tonumber(typeof(value))
  if not is_type(value, id) or ffi.istype("int64_t", value) or ffi.istype("uint64_t", value) then return nil end
  return id
end

--- The metatable of the type with this number, or nil; then types within that have one.
function cdata.metatypes(id)
  local own, others = declarations.metatables[id], {}
  ctypes.visit_named(id, function(inner)
    local entry = declarations.metatables[inner]
    if entry and inner ~= id then others[#others + 1] = entry[1] end
  end)
  return own and own[2], others
end

cdata.install = declarations.install
cdata.repeat_text = declarations.repeat_text

--- The type of a description and its number, or nil and why there is none.
function cdata.resolve(description, trust)
  local ct, message = reader.resolve(description, trust)
  if not ct then return nil, message end
  return ct, tonumber(ct)
end

--- How many elements an object of variable size has.
local function count_of(ct, size)
  local none, one = ffi.sizeof(ct, 0), ffi.sizeof(ct, 1)
  if not none or not one or one <= none then return nil end
  local count = (size - none) / (one - none)
  if count < 0 or count % 1 ~= 0 or ffi.sizeof(ct, count) ~= size then return nil end
  return count
end

--- An object of the type, for `size` bytes to be copied into, and whether there are floats in it; or nil and a message.
function cdata.make(ct, size)
  if type(ct) ~= "cdata" then return nil, "a C type expected" end
  local crossing = find(crossings, tonumber(typeof(ct)), study)
  if crossing.way or crossing.is_reference or has_finalizer(crossing.id) then
    return nil, "an object of a C type that does not cross"
  end
  if crossing.size then
    if crossing.size ~= size then return nil, "an object of the wrong size" end
    return ffi.new(ct), ctypes.has_floats(crossing.id)
  end
  local count = count_of(ct, size)
  if not count then return nil, "an object of the wrong size" end
  return ffi.new(ct, count), ctypes.has_floats(crossing.id)
end

--- Makes the bytes of a stranger, which are now those of the object, safe to read; false if that would change their
--- meaning.
function cdata.scrub(object, memory, size) return ctypes.scrub(tonumber(typeof(object)), memory, size) end

-- ---- libraries -------------------------------------------------------------------------------------------------

local library_metatable = debug.getmetatable(ffi.C)
local loaded = {}

local function handle_of(library) return ffi.cast("void **", library)[0] end

--- The name of what ffi.load gave, "" for ffi.C; nil for other values.
function cdata.library_name(value)
  if debug.getmetatable(value) ~= library_metatable then return nil end
  if value == ffi.C then return "" end
  for _, name in ipairs(declarations.libraries) do
    local ok, again = pcall(ffi.load, name)
    if ok and handle_of(again) == handle_of(value) then return name end
  end
  return nil
end

--- The library of that name, or nil and a message.
function cdata.library(name)
  if name == "" then return ffi.C end
  if not loaded[name] then
    local ok, result = pcall(ffi.load, name)
    if not ok then return nil, "library '" .. name .. "' cannot be loaded: " .. tostring(result) end
    loaded[name] = result
    declarations.note_library(name)
  end
  return loaded[name]
end

return cdata
