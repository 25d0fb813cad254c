-- SPDX-License-Identifier: MIT
--
-- declarations.lua - what this state declares through the ffi library, so that a worker can declare the same: the texts
-- given to ffi.cdef, libraries loaded for all, metatables of C types, and the names of libraries. The VM has no list of
-- them to ask for. The module is false where there is no ffi library whose types can be inspected.
--
-- The functions that stand in for the library's own end in a tail call, so that errors, their position and their
-- traceback are those of the stock interpreter. What the call refuses is recorded, too; to repeat it is refused again
-- and changes nothing.

-- As compat.ffi, which is not loaded for this alone: a program's start would take longer.
local jit = rawget(_G, "jit")
local found, ffi
if type(jit) == "table" then found, ffi = pcall(require, "ffi") end
if not found or not ffi.typeinfo then return false end

local core = require "lumap.core"
local error, pairs, pcall, select, tonumber, type = error, pairs, pcall, select, tonumber, type
local unpack, bit = unpack, bit -- luacheck: ignore
local cdef, load, metatype, typeof = ffi.cdef, ffi.load, ffi.metatype, ffi.typeof

---@class lumap.declarations
local declarations = {
  texts = {},      -- in order: { "cdef", text, arguments for its $... } or { "load", name of a library }
  metatables = {}, -- number of a C type -> { ctype, metatable }
  installed = {},  -- number of a C type -> the metatable that a call's stands in for
  libraries = {},  -- names given to ffi.load, in order
  kept = {},       -- name -> library that this state loaded for all because another one had
  ffi = {},        -- the library as it is before anybody can replace its functions, and without what stands in here
}
for name, value in pairs(ffi) do declarations.ffi[name] = value end

local texts, metatables, installed = declarations.texts, declarations.metatables, declarations.installed
local done, named = {}, {}

--- What a declaration is known by: its text, and what is in the place of each $ there, a name, a number or a type (for
--- which any object of it will do). nil for what ffi.cdef refuses.
local function key_of(text, ...)
  local count = select("#", ...)
  if count == 0 then return text end
  local parts = { text }
  for i = 1, count do
    local part = select(i, ...)
    local kind = type(part)
    if kind == "cdata" then part = tonumber(typeof(part)) end
    if kind ~= "cdata" and kind ~= "string" and kind ~= "number" then return nil end
    parts[i + 1] = kind .. part
  end
  return table.concat(parts, "\0")
end

local function note_text(text, ...)
  local key = key_of(text, ...)
  if not key or done[key] then return end
  done[key] = true
  local record = { "cdef", text, ... }
  for i = 3, #record do
    if type(record[i]) == "cdata" then record[i] = typeof(record[i]) end
  end
  texts[#texts + 1] = record
end

local function note_library(name, is_global)
  if not named[name] then
    named[name] = true
    declarations.libraries[#declarations.libraries + 1] = name
  end
  if is_global and named[name] ~= "global" then
    named[name] = "global"
    texts[#texts + 1] = { "load", name }
  end
end

declarations.note_library = note_library

--- Makes `target` hold what `source` does. Compiled code has looked into it already.
local function refill(target, source)
  for key in pairs(target) do target[key] = nil end
  for key, value in pairs(source) do target[key] = value end
  jit.flush()
end

--- Does again in this state what another one recorded. What fails is left out: what needs it says so.
function declarations.repeat_text(record)
  if record[1] == "load" then
    if named[record[2]] == "global" then return end
    local ok, library = pcall(load, record[2], true)
    if not ok then return end
    note_library(record[2], true)
    -- Collected, it would be closed.
    declarations.kept[record[2]] = library
  elseif not done[key_of(unpack(record, 2))] and pcall(cdef, unpack(record, 2)) then
    note_text(unpack(record, 2))
  end
end

--- Gives a type the metatable that came with a call. A type's metatable is set once in a state's life: this one is a
--- table of our own, filled anew by each call. Methods that the worker's own modules have set stay.
function declarations.install(ct, metatable)
  local id = tonumber(ct)
  if installed[id] then
    refill(installed[id], metatable)
  elseif not metatables[id] then
    local own = {}
    for key, value in pairs(metatable) do own[key] = value end
    if pcall(metatype, ct, own) then
      installed[id] = own
      metatables[id] = { ct, own }
    end
  end
end

if core.worker() then
  -- Items of one worker, and modules that it loads, may declare what is declared already: that depends on how the items
  -- were spread.
  function ffi.cdef(...)
    local text = ...
    local key = type(text) == "string" and key_of(...)
    if not key then return cdef(...) end
    if done[key] then return end
    local ok, message = pcall(cdef, ...)
    if not ok then error(message, 2) end
    note_text(...)
  end
else
  function ffi.cdef(...)
    if type((...)) == "string" then note_text(...) end
    return cdef(...)
  end
end

function ffi.load(...)
  local name, is_global = ...
  if type(name) == "string" then note_library(name, is_global) end
  return load(...)
end

--- Structs and unions can have a metatable, complex numbers and vectors, no other type.
local function takes_metatable(id)
  local info = declarations.ffi.typeinfo(id).info
  local kind = bit.rshift(info, 28)
  return kind == 1 or kind == 3 and bit.band(info, 0x0C000000) ~= 0
end

function ffi.metatype(...)
  local ct, metatable = ...
  local ok, resolved = pcall(typeof, ct)
  local id = ok and tonumber(resolved)
  if not ok or type(metatable) ~= "table" or not takes_metatable(id) then return metatype(...) end
  if installed[id] then
    refill(installed[id], metatable)
    installed[id] = nil
    return resolved
  end
  if not metatables[id] then metatables[id] = { resolved, metatable } end
  -- A text that makes a type must be read once only.
  return metatype(resolved, select(2, ...))
end

return declarations
