-- SPDX-License-Identifier: MIT
--
-- ctypes.lua - C types as bytes. A type is described by its structure, without the number that it has in one state:
-- equal types have equal descriptions. vm/codec/FORMAT.md draws the bytes, ctype_reader.lua reads them. The module is
-- false where types cannot be inspected.

local declarations = require "lumap.declarations"
if not declarations then return false end

local ffi = declarations.ffi
local bit = require "bit"
local band, rshift = bit.band, bit.rshift
local byte, char, concat = string.byte, string.char, table.concat
local tonumber, tostring = tonumber, tostring
local typeof, typeinfo = ffi.typeof, ffi.typeinfo

-- What the VM keeps about a type: a kind in the top four bits, flags, and the number of the type below.
local NUMBER, STRUCT, POINTER, ARRAY, VOID, ENUM, FUNCTION, TYPEDEF, ATTRIBUTE, FIELD, BITFIELD, CONSTANT =
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local BOOL, FLOAT, CONST, VOLATILE, UNSIGNED = 0x08000000, 0x04000000, 0x02000000, 0x01000000, 0x00800000
local UNION, REFERENCE, VARIADIC, VARIABLE, VECTOR, COMPLEX =
  0x00800000, 0x00800000, 0x00800000, 0x00100000, 0x08000000, 0x04000000
-- A number's own properties. That it was spelled `long` makes another type of it, its alignment and qualifiers do not.
local PROPERTIES = 0x0CC00000

local ctypes = {}

--- First byte of a description; below are the codes of `bases`.
ctypes.form = {
  void = 0x20, const = 0x21, volatile = 0x22, array = 0x23, variable = 0x24, vector = 0x25, struct = 0x26,
  union = 0x27, enum = 0x28, pointer = 0x29, reference = 0x2A, func = 0x2B, named = 0x2C,
}
ctypes.bases = {
  "bool", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t", "long long",
  "unsigned long long", "float", "double", "complex float", "complex",
}
--- How a struct, union or enum is called, and what a member is.
ctypes.naming = { anonymous = 0, tag = 1, alias = 2 }
ctypes.member = { field = 0, transparent = 1, bits = 2, constant = 3 }
local form, naming, member_form = ctypes.form, ctypes.naming, ctypes.member

-- ---- looking at types ------------------------------------------------------------------------------------------

local function kind_of(info) return rshift(info.info, 28) end
local function has(info, flag) return band(info.info, flag) ~= 0 end
local function below(info) return band(info.info, 0xffff) end

local code_of_base, code_of_number, spelling = {}, {}, {}
local function number_key(info) return band(info.info, PROPERTIES) + 16777216 * 256 * info.size end

for code, name in ipairs(ctypes.bases) do
  local info = typeinfo(tonumber(typeof(name)))
  code_of_base[name] = code
  spelling[code] = tostring(typeof(name)):match("<(.*)>")
  if kind_of(info) == NUMBER then code_of_number[number_key(info)] = code end
end

--- The number and properties of the type behind qualifiers and attributes, and those qualifiers.
local function strip(id)
  local info, qualifiers = typeinfo(id), 0
  while kind_of(info) == ATTRIBUTE do
    if band(rshift(info.info, 16), 0xff) == 1 then qualifiers = bit.bor(qualifiers, info.size) end
    id = below(info)
    info = typeinfo(id)
  end
  return id, info, qualifiers
end

--- The members of a struct or union, the constants of an enum, the parameters of a function.
local function members(info)
  local next_id = info.sib
  return function()
    if not next_id then return nil end
    local member = typeinfo(next_id)
    next_id = member.sib
    return member
  end
end

-- Names that typedef gave to what has no tag: number of the type -> number of the typedef. The VM's table of types only
-- grows, but for what a refused text had declared: a name found is looked at again.
local aliases, scanned = {}, 0

local function alias_of(id)
  local info = typeinfo(scanned + 1)
  while info do
    scanned = scanned + 1
    if kind_of(info) == TYPEDEF and info.name and not aliases[below(info)] then aliases[below(info)] = scanned end
    info = typeinfo(scanned + 1)
  end
  if not aliases[id] then return nil end
  local alias = typeinfo(aliases[id])
  if alias and kind_of(alias) == TYPEDEF and below(alias) == id then return alias.name end
  aliases, scanned = {}, 0
  return alias_of(id)
end

local function word_of(info) return kind_of(info) == ENUM and "enum" or has(info, UNION) and "union" or "struct" end

--- How C spells the type, for messages.
local function spell(id)
  local info
  id, info = strip(id)
  local kind = kind_of(info)
  if kind == NUMBER then return spelling[code_of_number[number_key(info)]] or "number" end
  if kind == VOID then return "void" end
  if kind == STRUCT or kind == ENUM then return word_of(info) .. " " .. (info.name or alias_of(id) or id) end
  local target, target_info = strip(below(info))
  if kind == FUNCTION then return spell(target) .. " ()" end
  if kind == ARRAY and has(info, COMPLEX) then return info.size == 8 and "complex float" or "complex" end
  if kind == ARRAY then return spell(target) .. " []" end
  if kind_of(target_info) == FUNCTION then return spell(below(target_info)) .. " (*)()" end
  return spell(target) .. (has(info, REFERENCE) and " &" or " *")
end

-- ---- describing ------------------------------------------------------------------------------------------------

local function varint(value)
  local out = ""
  while value >= 128 do
    out = out .. char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return out .. char(value)
end

local function text(value) return varint(#value) .. value end

local function u32(value)
  value = value % 4294967296
  local low = value % 65536
  local high = (value - low) / 65536
  return char(low % 256, (low - low % 256) / 256, high % 256, (high - high % 256) / 256)
end

local describe

local function qualify(flags, description)
  if band(flags, VOLATILE) ~= 0 then description = char(form.volatile) .. description end
  if band(flags, CONST) ~= 0 then description = char(form.const) .. description end
  return description
end

local function name_of(id, info)
  if info.name then return char(naming.tag) .. text(info.name) end
  local alias = alias_of(id)
  if alias then return char(naming.alias) .. text(alias) end
  return char(naming.anonymous)
end

--- A bit-field has no type of its own in the table: its flags and the size of what contains it tell.
local function describe_bits(member)
  local size = band(rshift(member.info, 16), 0x7f)
  local base = has(member, BOOL) and "bool" or (has(member, UNSIGNED) and "uint" or "int") .. 8 * size .. "_t"
  local at, bits = band(member.info, 0x7f), band(rshift(member.info, 8), 0x7f)
  return char(member_form.bits, at, bits) .. qualify(member.info, char(code_of_base[base]))
end

local function describe_member(member)
  local kind, head = kind_of(member), text(member.name or "") .. varint(member.size or 0)
  if kind == FIELD then return head .. char(member_form.field) .. describe(below(member)) end
  if kind == BITFIELD then return head .. describe_bits(member) end
  if kind == CONSTANT then
    return text(member.name) .. varint(0) .. char(member_form.constant) .. u32(member.size) .. describe(below(member))
  end
  return head .. char(member_form.transparent) .. describe(below(member))
end

local function describe_struct(id, info)
  local name = name_of(id, info)
  if not info.size then return char(form.named, form[word_of(info)]) .. name end
  local list = {}
  for member in members(info) do
    -- Bits without a name only make room.
    if member.name or kind_of(member) == ATTRIBUTE then list[#list + 1] = describe_member(member) end
  end
  local alignment, variable = band(rshift(info.info, 16), 15), has(info, VARIABLE) and 1 or 0
  return char(form[word_of(info)]) .. name .. varint(info.size) .. char(alignment, variable) .. varint(#list)
    .. concat(list)
end

local function describe_enum(id, info)
  local list = {}
  for constant in members(info) do list[#list + 1] = text(constant.name) .. u32(constant.size or 0) end
  return char(form.enum) .. name_of(id, info) .. describe(below(info)) .. varint(#list) .. concat(list)
end

local function describe_function(info)
  local list = {}
  for parameter in members(info) do list[#list + 1] = describe(below(parameter)) end
  return char(form.func, has(info, VARIADIC) and 1 or 0) .. describe(below(info)) .. varint(#list) .. concat(list)
end

local function describe_array(info)
  if has(info, COMPLEX) then return char(code_of_base[info.size == 8 and "complex float" or "complex"]) end
  local element = describe(below(info))
  if has(info, VECTOR) then return char(form.vector) .. varint(info.size) .. element end
  if not info.size then return char(form.variable) .. element end
  local _, inner = strip(below(info))
  return char(form.array) .. varint(inner.size > 0 and info.size / inner.size or 0) .. element
end

--- Behind a pointer, a type with a name is that name alone: it may lead back to where it began.
local function describe_pointer(info)
  local target, target_info, qualifiers = strip(below(info))
  local kind, start = kind_of(target_info), char(has(info, REFERENCE) and form.reference or form.pointer)
  if kind == STRUCT or kind == ENUM then
    local name = name_of(target, target_info)
    if byte(name) ~= naming.anonymous then
      return start .. qualify(qualifiers, char(form.named, form[word_of(target_info)]) .. name)
    end
  end
  return start .. describe(below(info))
end

--- The description of the type with this number.
function describe(id)
  local info, qualifiers
  id, info, qualifiers = strip(id)
  local kind = kind_of(info)
  if kind == STRUCT then return qualify(qualifiers, describe_struct(id, info)) end
  if kind == ENUM then return qualify(qualifiers, describe_enum(id, info)) end
  if kind == ARRAY then return qualify(qualifiers, describe_array(info)) end
  if kind == FUNCTION then return describe_function(info) end
  qualifiers = bit.bor(qualifiers, info.info)
  if kind == VOID then return qualify(qualifiers, char(form.void)) end
  if kind == POINTER then return qualify(qualifiers, describe_pointer(info)) end
  local code = code_of_number[number_key(info)]
  if kind ~= NUMBER or not code then error("C type " .. id .. " is of a kind that does not cross", 0) end
  return qualify(qualifiers, char(code))
end
ctypes.describe = describe

-- ---- what a type holds -----------------------------------------------------------------------------------------

--- The way to the first member that is a pointer, and its type: ".p", "int *". nil for plain data.
local function find_pointer(id)
  local info
  id, info = strip(id)
  local kind = kind_of(info)
  if kind == POINTER or kind == FUNCTION or kind == VOID then return "", spell(id) end
  if kind == ARRAY and not has(info, COMPLEX) then
    local way, name = find_pointer(below(info))
    if way then return "[0]" .. way, name end
  elseif kind == STRUCT then
    for member in members(info) do
      if kind_of(member) == FIELD or kind_of(member) == ATTRIBUTE then
        local way, name = find_pointer(below(member))
        if way then return (member.name and "." .. member.name or "") .. way, name end
      end
    end
  end
  return nil
end

--- Calls `visit` once with the number of each struct, union and enum that the type has in it or leads to.
local function visit_named(id, visit, seen)
  local info
  id, info = strip(id)
  local kind = kind_of(info)
  seen = seen or {}
  if seen[id] then return end
  seen[id] = true
  if kind == STRUCT or kind == ENUM then visit(id) end
  if kind == ARRAY or kind == POINTER or kind == FUNCTION then visit_named(below(info), visit, seen) end
  if kind ~= STRUCT and kind ~= FUNCTION then return end
  for member in members(info) do
    if kind_of(member) == FIELD or kind_of(member) == ATTRIBUTE then visit_named(below(member), visit, seen) end
  end
end
ctypes.visit_named = visit_named
ctypes.spell = spell

--- Has the type been declared with all that is in it?
function ctypes.is_complete(id)
  local _, info = strip(id)
  return kind_of(info) ~= STRUCT or info.size ~= nil
end

---@class lumap.ctype what is known about the type of an object
---@field id integer the number of its type; behind a reference, that of what it refers to
---@field is_reference boolean
---@field size integer|nil bytes; nil where each object has its own size
---@field pointer string|nil the way to the first pointer in it, when it is no plain data
---@field pointer_name string|nil the type of that

--- What is known about objects of the type with this number.
---@return lumap.ctype
function ctypes.inspect(id)
  local _, info = strip(id)
  local is_reference = kind_of(info) == POINTER and has(info, REFERENCE)
  if is_reference then
    id = below(info)
    _, info = strip(id)
  end
  local way, name = find_pointer(id)
  local is_variable = not info.size or (kind_of(info) == STRUCT and has(info, VARIABLE))
  return {
    id = id,
    is_reference = is_reference,
    size = not is_variable and info.size or nil,
    pointer = way,
    pointer_name = name,
  }
end

-- ---- floats in foreign bytes -----------------------------------------------------------------------------------

-- The VM takes some floats that are no numbers for values of its own, with a pointer in them: bytes of strangers must
-- not bring any. Such doubles have the sign bit and more than the highest bit of the fraction set; a float becomes one
-- when it is read.
local bytes_pointer, words_pointer = typeof("uint8_t *"), typeof("uint32_t *")

--- Makes such floats plain NaNs; false if there is one in a union, where its bits may mean something else.
local function scrub_run(at, width, count, in_union)
  local stride = width / 4
  local high = ffi.cast(words_pointer, at) + (stride - 1)
  for i = 0, count - 1 do
    local word = high[i * stride]
    if word > 0xFFF80000 or width == 4 and word > 0xFF800000 and word ~= 0xFFC00000 then
      if in_union then return false end
      high[i * stride] = width == 4 and 0x7FC00000 or 0x7FF80000
    end
  end
  return true
end

--- Runs a plan over `size` bytes: a list of runs of floats, and of parts that are repeated.
local function scrub(plan, at, size)
  for i = 1, #plan do
    local step = plan[i]
    local count = step.count or math.floor((size - step.offset) / (step.stride or step.width))
    if step.plan then
      for k = 0, count - 1 do
        if not scrub(step.plan, at + (step.offset + k * step.stride), step.stride) then return false end
      end
    elseif not scrub_run(at + step.offset, step.width, count, step.in_union) then
      return false
    end
  end
  return true
end

local add_floats

local function add_elements(plan, info, offset, in_union)
  local inner = {}
  local _, element = strip(below(info))
  add_floats(inner, below(info), 0, in_union)
  if not inner[1] then return end
  local run = inner[1]
  if not inner[2] and run.width and run.count == 1 and run.width == element.size then
    plan[#plan + 1] = { offset = offset, width = run.width, count = info.size and info.size / run.width,
                        in_union = in_union }
  else
    plan[#plan + 1] = { offset = offset, stride = element.size, count = info.size and info.size / element.size,
                        plan = inner }
  end
end

function add_floats(plan, id, offset, in_union)
  local _, info = strip(id)
  local kind = kind_of(info)
  if kind == NUMBER and has(info, FLOAT) then
    plan[#plan + 1] = { offset = offset, width = info.size, count = 1, in_union = in_union }
  elseif kind == ARRAY and has(info, COMPLEX) then
    plan[#plan + 1] = { offset = offset, width = info.size / 2, count = 2, in_union = in_union }
  elseif kind == ARRAY then
    add_elements(plan, info, offset, in_union)
  elseif kind == STRUCT then
    for member in members(info) do
      if kind_of(member) == FIELD or kind_of(member) == ATTRIBUTE then
        add_floats(plan, below(member), offset + (member.size or 0), in_union or has(info, UNION))
      end
    end
  end
end

local plans = {}

--- Are there floats in objects of the type with this number?
function ctypes.has_floats(id)
  if not plans[id] then
    plans[id] = {}
    add_floats(plans[id], id, 0, false)
  end
  return plans[id][1] ~= nil
end

--- Makes an object of the type at `memory`, whose bytes came from a stranger, safe to read. false: that would change
--- its meaning.
function ctypes.scrub(id, memory, size)
  if not ctypes.has_floats(id) then return true end
  return scrub(plans[id], ffi.cast(bytes_pointer, memory), size)
end

return ctypes
