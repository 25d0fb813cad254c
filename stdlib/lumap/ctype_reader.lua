-- SPDX-License-Identifier: MIT
--
-- ctype_reader.lua - from the description of a C type (ctypes.lua) to the type. Descriptions may come from strangers: a
-- type with a name must have been declared here, in the same way; one without is made, from words that were checked, a
-- bounded number of times. The module is false where types cannot be inspected.

local declarations = require "lumap.declarations"
local ctypes = require "lumap.ctypes"
if not declarations or not ctypes then return false end

local ffi = declarations.ffi
local byte, sub = string.byte, string.sub
local pcall, tonumber, tostring, type = pcall, tonumber, tostring, type
local unpack = unpack -- luacheck: ignore
local form, naming, member_form = ctypes.form, ctypes.naming, ctypes.member

local DEEPEST, LONGEST = 40, 256 * 1024
-- Entries of the VM's table of types that messages of strangers may fill. It has 65,536, and frees none.
local MOST_MADE = 16384
-- Members of a type without a name. Each is an argument in a call.
local MOST_MEMBERS = 4000
-- Bytes of such a type when it is not laid out as compilers do.
local MOST_PADDED = 64 * 1024

local name_of_form = {}
for name, code in pairs(form) do name_of_form[code] = name end

--- An error of this module's own: its message is for the user.
local function refuse(message) error({ message }, 0) end

-- ---- parsing ---------------------------------------------------------------------------------------------------

---@class lumap.description bytes that are read: `at` is the next one
---@field bytes string
---@field at integer

local function get_u8(input)
  local value = byte(input.bytes, input.at)
  if not value then refuse("the description of a C type ends too early") end
  input.at = input.at + 1
  return value
end

local function get_varint(input)
  local value, factor = 0, 1
  for _ = 1, 7 do
    local part = get_u8(input)
    value = value + part % 128 * factor
    if part < 128 then return value end
    factor = factor * 128
  end
  return refuse("a number in the description of a C type is too big")
end

local function get_u32(input)
  local a, b, c, d = get_u8(input), get_u8(input), get_u8(input), get_u8(input)
  return a + b * 256 + c * 65536 + d * 16777216
end

--- A name; "" only where it may be missing.
local function get_name(input, may_be_missing)
  local size = get_varint(input)
  local name = sub(input.bytes, input.at, input.at + size - 1)
  input.at = input.at + size
  if #name ~= size or size > 255 or not (name:find("^[%a_$][%w_$]*$") or (may_be_missing and size == 0)) then
    refuse("a bad name in the description of a C type")
  end
  return name
end

local function get_naming(input, node)
  node.naming = get_u8(input)
  if node.naming == naming.anonymous then return end
  if node.naming > naming.alias then refuse("a bad name in the description of a C type") end
  node.name = get_name(input)
end

local parse

--- How many parts follow: each takes a byte at least.
local function get_count(input)
  local count = get_varint(input)
  if count > #input.bytes - input.at + 1 then refuse("the description of a C type ends too early") end
  return count
end

local function parse_member(input, depth)
  local member = { name = get_name(input, true), offset = get_varint(input), form = get_u8(input) }
  if (member.name == "") ~= (member.form == member_form.transparent) then
    refuse("a bad name in the description of a C type")
  end
  if member.form == member_form.bits then
    member.at, member.bits = get_u8(input), get_u8(input)
  elseif member.form == member_form.constant then
    member.value = get_u32(input)
  elseif member.form > member_form.constant then
    refuse("a member of an unknown form")
  end
  member.type = parse(input, depth + 1)
  return member
end

local parsers = {}

function parsers.struct(input, node, depth)
  get_naming(input, node)
  local start = input.at
  node.size, node.alignment, node.variable = get_varint(input), get_u8(input), get_u8(input)
  for i = 1, get_count(input) do node[i] = parse_member(input, depth) end
  node.rest = sub(input.bytes, start, input.at - 1)
end
parsers.union = parsers.struct

function parsers.enum(input, node, depth)
  get_naming(input, node)
  node.base = parse(input, depth + 1)
  for i = 1, get_count(input) do node[i] = { name = get_name(input), value = get_u32(input) } end
end

function parsers.named(input, node)
  node.word = name_of_form[get_u8(input)]
  if node.word ~= "struct" and node.word ~= "union" and node.word ~= "enum" then refuse("a name of an unknown kind") end
  get_naming(input, node)
  if not node.name then refuse("a bad name in the description of a C type") end
end

function parsers.func(input, node, depth)
  node.variadic = get_u8(input) ~= 0
  node.type = parse(input, depth + 1)
  for i = 1, get_count(input) do node[i] = parse(input, depth + 1) end
end

local function parse_inner(input, node, depth) node.type = parse(input, depth + 1) end
local function parse_counted(input, node, depth)
  node.count = get_varint(input)
  node.type = parse(input, depth + 1)
end
parsers.const, parsers.volatile, parsers.variable = parse_inner, parse_inner, parse_inner
parsers.pointer, parsers.reference = parse_inner, parse_inner
parsers.array, parsers.vector = parse_counted, parse_counted
function parsers.void() end

--- A tree of nodes, each with the bytes that describe it.
function parse(input, depth)
  if depth > DEEPEST then refuse("a C type nested too deeply") end
  local start, code = input.at, get_u8(input)
  local node = { form = name_of_form[code], base = ctypes.bases[code] }
  if node.form then
    parsers[node.form](input, node, depth)
  elseif not node.base then
    refuse("a C type of an unknown form")
  end
  node.bytes = sub(input.bytes, start, input.at - 1)
  return node
end

-- ---- making ----------------------------------------------------------------------------------------------------

-- Who speaks: a stranger, that is plain decode, for whom less is done than for the other side of a call.
local STRANGER = 0

local reader = {}

-- Description -> type: what was made or found here, or described here last.
local known = {}
for code, name in ipairs(ctypes.bases) do known[string.char(code)] = ffi.typeof(name) end

local made = 0
local build

--- A type from words of ours, of `size` parts.
local function make(trust, size, text, ...)
  if trust == STRANGER then
    made = made + 1 + size
    if made > MOST_MADE then refuse("more different C types than a state takes from messages") end
  end
  local ok, ct = pcall(ffi.typeof, text, ...)
  if not ok then refuse("a C type that cannot be made here: " .. tostring(ct)) end
  return ct
end

--- Words for room of so many bits in a packed struct. What has no name is no part of a description.
local function pad(lines, bits)
  while bits > 0 do
    -- Of a whole word the VM would make an ordinary member.
    local some = math.min(bits, 31)
    lines[#lines + 1] = ("uint32_t : %d;"):format(some)
    bits = bits - some
  end
end

--- Words for the members, and the types in them. `placed`: the struct is packed, and room is left where there was some.
local function spell_members(node, trust, placed)
  if #node > MOST_MEMBERS or node.size > MOST_PADDED and placed then refuse("a C type with too many members") end
  local lines, types, ends = {}, {}, 0
  for i, member in ipairs(node) do
    local before, after, inner, bits = "", "", member.type, nil
    local at = 8 * member.offset + (member.at or 0)
    if member.form == member_form.bits then
      after, bits = " : " .. member.bits, member.bits
    elseif member.form == member_form.constant then
      before, after, at, bits = "static const ", " = " .. ("%.0f"):format(member.value), ends, 0
    end
    if inner.form == "variable" then
      inner, after, bits = inner.type, "[?]", 0
    end
    types[i] = build(inner, trust)
    if placed then
      if at < ends or at > 8 * node.size then refuse("a struct whose layout cannot be made here") end
      pad(lines, at - ends)
    end
    ends = at + (bits or 8 * ffi.sizeof(types[i]))
    lines[#lines + 1] = before .. "$ " .. member.name .. after .. ";"
  end
  if placed and node.variable == 0 then pad(lines, 8 * node.size - ends) end
  return table.concat(lines, " "), types
end

--- A struct or union without a name, laid out as compilers do or else with each member where it says.
local function make_struct(node, trust)
  local anonymous = string.char(form[node.form], naming.anonymous) .. node.rest
  for _, placed in ipairs({ false, true }) do
    local body, types = spell_members(node, trust, placed and node.form == "struct")
    local attributes = placed and (" __attribute__((packed, aligned(%d)))"):format(2 ^ node.alignment) or ""
    local ct = make(trust, #node, node.form .. " { " .. body .. " }" .. attributes, unpack(types))
    if ctypes.describe(tonumber(ct)) == anonymous then return ct end
  end
  return refuse("a " .. node.form .. " whose layout cannot be made here")
end

local function make_enum(node, trust)
  -- Its constants become names of this state.
  if trust == STRANGER then refuse("an enum without a name, which is not declared here") end
  local lines = {}
  for i, constant in ipairs(node) do
    local value = constant.value
    if node.base.base == "int32_t" and value >= 2 ^ 31 then value = value - 2 ^ 32 end
    lines[i] = constant.name .. (" = %.0f"):format(value)
  end
  return make(trust, #node, "enum { " .. table.concat(lines, ", ") .. " }")
end

--- The type of that name here.
local function find(node, word)
  local name = node.naming == naming.tag and word .. " " .. node.name or node.name
  local ok, ct = pcall(ffi.typeof, name)
  if ok then return ct, name end
  return refuse("'" .. name .. "' is not declared here: give its declaration to ffi.cdef on this side, too")
end

--- The type of that name, if it is the same here as where it was described.
local function find_same(node)
  local ct, name = find(node, node.form)
  if ctypes.describe(tonumber(ct)) == node.bytes then return ct end
  return refuse("'" .. name .. "' is declared in another way here")
end

local patterns = {
  const = "const $", volatile = "volatile $", variable = "$[?]", array = "$[%.0f]", pointer = "$ *", reference = "$ &",
  vector = "$ __attribute__((vector_size(%.0f)))",
}
local only_trusted = { void = true, pointer = true, reference = true, func = true, named = true }

local function make_function(node, trust)
  local types, words = { build(node.type, trust) }, {}
  for i, parameter in ipairs(node) do
    types[i + 1] = build(parameter, trust)
    words[i] = "$"
  end
  if node.variadic then words[#words + 1] = "..." end
  return make(trust, #types, "$ (" .. table.concat(words, ", ") .. ")", unpack(types))
end

function build(node, trust)
  local ct = known[node.bytes]
  if ct then return ct end
  if trust == STRANGER and only_trusted[node.form] then refuse("a pointer, or a function, in a C type") end
  if node.name and node.form ~= "named" then
    ct = find_same(node)
  elseif node.form == "named" then
    ct = find(node, node.word)
  elseif node.form == "struct" or node.form == "union" then
    ct = make_struct(node, trust)
  elseif node.form == "enum" then
    ct = make_enum(node, trust)
  elseif node.form == "func" then
    ct = make_function(node, trust)
  elseif node.form == "void" then
    ct = ffi.typeof("void")
  else
    ct = make(trust, 1, patterns[node.form]:format(node.count), build(node.type, trust))
  end
  known[node.bytes] = ct
  return ct
end

--- From now on the description stands for this very type: of types without a name that look the same, the one that this
--- state described last comes back.
function reader.learn(description, ct) known[description] = ct end

--- The type that the description stands for, or nil and what is wrong.
---@param description string
---@param trust integer
---@return any|nil ctype
---@return string|nil message
function reader.resolve(description, trust)
  local ct = known[description]
  if ct then return ct end
  if #description > LONGEST then return nil, "the description of a C type is too long" end
  local ok, result = pcall(function()
    local input = { bytes = description, at = 1 }
    local node = parse(input, 1)
    if input.at <= #description then refuse("bytes left over behind a C type") end
    return build(node, trust)
  end)
  if ok then return result end
  if type(result) == "table" then return nil, result[1] end
  if result == "not enough memory" then error(result, 0) end
  return nil, tostring(result)
end

return reader
