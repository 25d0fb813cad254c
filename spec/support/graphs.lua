-- SPDX-License-Identifier: MIT
--
-- Random graphs of values - tables with cycles, shared parts, metatables, functions, objects of a registered class -
-- and whether two graphs are the same: not only equal values, but the same references in the same places.
--
-- Beside tables of all kinds they have what fast paths are made for, and what lies next to it: lists of records with
-- the same fields and with nearly the same, lists of numbers of each width, words that come again, tables that were
-- larger.

local codec = require("codec")
local Random = require("spec.support.random")

local graphs = {}

local number_type = math.type or type

-- ---- equality ------------------------------------------------------------------------------------------------------

local SCALARS = { ["nil"] = true, boolean = true, number = true, string = true }

--- Where two graphs differ: what leads from the root to `item`, and what is said of it.
local function path_to(item, last)
  local parts = { last }
  while item do
    local label = item.label
    local is_key = item.up and not (type(label) == "string" and label:find("^%.<"))
    table.insert(parts, 1, is_key and "[" .. tostring(label) .. "]" or label)
    item = item.up
  end
  return table.concat(parts)
end

--- NaN is the same as NaN here, 0 is not the same as -0, and 1 is not the same as 1.0 where these differ.
local function same_scalars(a, b, seen)
  if type(a) == "number" and type(b) == "number" then
    local same = a == b and 1 / a == 1 / b or a ~= a and b ~= b
    return same and (seen.portable or number_type(a) == number_type(b))
  end
  return a == b
end

--- What cdata is compared by.
local function bytes_of(cdata)
  return codec.encode(cdata, { functions = true })
end

--- What tells keys apart that are neither numbers nor strings nor booleans.
local function mark_of(key)
  if type(key) == "cdata" then
    return bytes_of(key)
  end
  return type(key) == "table" and rawget(key, "mark") or nil
end

--- Compares values, tables and functions by what is known of them so far; new pairs are put on the list of work. Depth
--- is no matter.
local function compare(a, b, up, label, seen)
  if SCALARS[type(a)] or type(a) ~= type(b) then
    return same_scalars(a, b, seen)
  elseif type(a) == "cdata" then
    return bytes_of(a) == bytes_of(b)
  elseif seen.there[a] ~= nil or seen.back[b] ~= nil then
    return seen.there[a] == b and seen.back[b] == a
  elseif type(a) == "userdata" or type(a) == "thread" then
    return a == b
  end
  seen.there[a], seen.back[b] = b, a
  seen.work[#seen.work + 1] = { a = a, b = b, up = up, label = label }
  return true
end

--- Pairs of a table whose keys are neither numbers nor strings nor booleans, as a list; nil if it has none.
local function other_pairs(t)
  local others
  for key, value in next, t do
    if not SCALARS[type(key)] then
      others = others or {}
      others[#others + 1] = { key = key, value = value }
    end
  end
  return others
end

--- Keys that are tables have no order. Each must have a partner among the other's: one that it is already known to be
--- the same as, else one with the same `mark`, which all key tables of these graphs have.
local function partner(seen, key, others)
  for i, pair in ipairs(others) do
    local known = seen.there[key]
    local unknown = known == nil and seen.back[pair.key] == nil
    if known == pair.key or unknown and mark_of(key) == mark_of(pair.key) then
      return table.remove(others, i)
    end
  end
end

local function compare_other_pairs(item, seen)
  local others, theirs = other_pairs(item.a), other_pairs(item.b)
  if #(others or {}) ~= #(theirs or {}) then
    return false, " (its keys)"
  end
  for _, pair in ipairs(others or {}) do
    local their = partner(seen, pair.key, theirs)
    if not their then
      return false, " (a key that is a table)"
    elseif not compare(pair.key, their.key, item, ".<key>", seen) then
      return false, ".<key>"
    elseif not compare(pair.value, their.value, item, ".<value>", seen) then
      return false, ".<value>"
    end
  end
  return true
end

local function compare_tables(item, seen)
  local a, b = item.a, item.b
  if not compare(debug.getmetatable(a), debug.getmetatable(b), item, ".<metatable>", seen) then
    return false, ".<metatable>"
  end
  local count, others = 0, false
  for key, value in next, a do
    if not SCALARS[type(key)] then
      others = true
    elseif compare(value, rawget(b, key), item, key, seen) then
      count = count + 1
    else
      return false, "[" .. tostring(key) .. "]"
    end
  end
  for key in next, b do
    if SCALARS[type(key)] then
      count = count - 1
    else
      others = true
    end
  end
  if count ~= 0 then
    return false, " (its keys)"
  end
  if others then
    return compare_other_pairs(item, seen)
  end
  return true
end

local function compare_upvalue(item, i, seen)
  local a, b = item.a, item.b
  local name, value = debug.getupvalue(a, i)
  local _, other = debug.getupvalue(b, i)
  if name == "_ENV" then
    return true -- the globals are another table in another state
  end
  local label = (".<upvalue %s>"):format(name)
  local a_cell, b_cell = debug.upvalueid(a, i), debug.upvalueid(b, i)
  if seen.cells[a_cell] == nil and seen.cells_back[b_cell] == nil then
    seen.cells[a_cell], seen.cells_back[b_cell] = b_cell, a_cell
  elseif seen.cells[a_cell] ~= b_cell or seen.cells_back[b_cell] ~= a_cell then
    return false, label .. " (shared otherwise)"
  end
  return compare(value, other, item, label, seen), label
end

local function compare_functions(item, seen)
  local a, b = item.a, item.b
  if a == b then
    return true
  end
  local a_info, b_info = debug.getinfo(a, "uS"), debug.getinfo(b, "uS")
  if a_info.what == "C" or b_info.what == "C" then
    return false, " (C functions)"
  elseif a_info.nups ~= b_info.nups or string.dump(a) ~= string.dump(b) then
    return false, " (its code)"
  end
  for i = 1, a_info.nups do
    local same, where = compare_upvalue(item, i, seen)
    if not same then
      return false, where
    end
  end
  return true
end

--- Are two graphs the same?
---@param options table|nil portable = true: one of them was made by the other VM, so integers and floats are one
---@return boolean
---@return string|nil path of the first place where they differ
function graphs.equal(a, b, options)
  local seen = { there = {}, back = {}, cells = {}, cells_back = {}, work = {} }
  seen.portable = options and options.portable
  if not compare(a, b, nil, "value", seen) then
    return false, "value"
  end
  while #seen.work > 0 do
    local item = table.remove(seen.work)
    local step = type(item.a) == "function" and compare_functions or compare_tables
    local same, where = step(item, seen)
    if not same then
      return false, path_to(item, where)
    end
  end
  return true
end

-- ---- a registered class --------------------------------------------------------------------------------------------

-- Workers find it here, by name.
local Parcel = { __name = "spec.Parcel" }
Parcel.__index = Parcel
graphs.Parcel = Parcel

function graphs.pack(parcel)
  return { parcel.contents, parcel.label }
end

function graphs.unpack(packed)
  return setmetatable({ contents = packed[1], label = packed[2] }, Parcel)
end

codec.register("spec.Parcel", Parcel, graphs.pack, graphs.unpack)

-- ---- scalars -------------------------------------------------------------------------------------------------------

local LENGTHS = { 0, 1, 2, 5, 31, 32, 33, 63, 64, 127, 128, 300 }
local BLOB_SIZE = 8192

-- Bytes of all values, of which strings are pieces.
local blob
do
  local rng, bytes = Random.new(1), {}
  for i = 1, BLOB_SIZE do
    bytes[i] = string.char(rng:integer(0, 255))
  end
  blob = table.concat(bytes)
end

local WORDS = { "id", "name", "score", "tags", "x", "y", "north", "south", "", "a b", "1", "k\0k", ("w"):rep(64) }

local function random_string(rng)
  if rng:once_in(2) then
    return rng:pick(WORDS)
  end
  local length, at = rng:pick(LENGTHS), rng:integer(1, BLOB_SIZE - 300)
  return blob:sub(at, at + length - 1)
end

local SPECIAL = { 0 / 0, 1 / 0, -1 / 0, 0.0, -1 / (1 / 0), 2 ^ 53, -(2 ^ 53), 1e300, 2 ^ -1074, 3.0, 2 ^ 31 }

--- Integers around the ends of each width.
local function random_integer(rng)
  local bits = rng:pick({ 3, 7, 8, 15, 16, 31, 32, 40, 52 })
  local edge = math.floor(2 ^ bits)
  local integer = edge + rng:integer(-3, 3)
  if rng:once_in(2) then
    integer = math.floor(rng:integer(0, 1000000) / 1000000 * edge)
  end
  -- Not -0, which is an integer on one VM alone.
  return rng:once_in(2) and integer ~= 0 and -integer or integer
end

--- `exact`: also what is beyond 2^53, where the VMs differ.
local function random_number(rng, exact)
  local kind = rng:integer(1, 10)
  if kind == 1 then
    return rng:pick(SPECIAL)
  elseif kind <= 6 then
    return random_integer(rng)
  elseif kind == 7 then
    local integer = rng:integer(0, 1000)
    if exact then
      return math.type and math.maxinteger - integer or 2 ^ 53 + 2 * integer
    end
    return integer
  end
  return rng:integer(-1000000, 1000000) / rng:integer(1, 1000)
end

local function random_scalar(rng, exact)
  local kind = rng:integer(1, 10)
  if kind == 1 then
    return true
  elseif kind == 2 then
    return false
  elseif kind <= 6 then
    return random_number(rng, exact)
  end
  return random_string(rng)
end

-- ---- tables of special shapes: each is a function (rng, exact) -> table --------------------------------------------

local shapes = {}

local COUNTS = { 1, 2, 10, 60, 63, 64, 65, 130 }

--- Numbers of one kind: small integers up to a width, doubles, or both.
function shapes.numbers(rng, exact)
  local t, kind = {}, rng:integer(1, 4)
  local limit = math.floor(2 ^ rng:pick({ 3, 6, 7, 8, 15, 16, 31, 40 }))
  for i = 1, rng:pick(COUNTS) do
    if kind == 1 then
      t[i] = rng:integer(0, limit)
    elseif kind == 2 then
      t[i] = rng:integer(-limit, limit)
    elseif kind == 3 then
      t[i] = rng:integer(-limit, limit) / 8
    else
      t[i] = random_number(rng, exact)
    end
  end
  if rng:once_in(4) then
    t[rng:pick(WORDS)] = random_scalar(rng, exact)
  end
  return t
end

--- Words that come again and again.
function shapes.words(rng)
  local t = {}
  for i = 1, rng:pick(COUNTS) do
    t[i] = rng:pick(WORDS)
  end
  return t
end

local FIELDS = { "id", "name", "score", "tags", "x" }

local function new_record(rng, i, exact)
  return {
    id = i,
    name = blob:sub(i + 1, i + rng:integer(1, 10)),
    score = rng:integer(-1000, 1000) / 16,
    tags = { rng:pick(WORDS), rng:pick(WORDS), rng:pick(WORDS) },
    x = random_scalar(rng, exact),
  }
end

--- Records with the same fields in the same order. Some lists have a record with a field less, more or of another
--- type, a hole, or a class.
function shapes.records(rng, exact)
  local t, count = {}, rng:pick({ 1, 2, 3, 8, 20 })
  local class = rng:once_in(2) and { __name = "record" } or nil
  for i = 1, count do
    t[i] = setmetatable(new_record(rng, i, exact), class)
  end
  local odd = t[rng:integer(1, count)]
  local change = rng:integer(1, 6)
  if change == 1 then
    odd[rng:pick(FIELDS)] = nil
  elseif change == 2 then
    odd.more = random_scalar(rng, exact)
  elseif change == 3 then
    odd[rng:pick(FIELDS)] = random_scalar(rng, exact)
  elseif change == 4 then
    t[rng:integer(1, count)] = nil
  elseif change == 5 then
    setmetatable(odd, rng:once_in(2) and { __name = "other" } or nil)
  end
  return t
end

--- A list and fields, which were more before.
function shapes.shrunk(rng, exact)
  local t, count = {}, rng:pick(COUNTS)
  for i = 1, count do
    t[i] = random_scalar(rng, exact)
  end
  for i = 1, rng:integer(0, 20) do
    t["field " .. i] = i
  end
  for _ = 1, rng:integer(1, 20) do
    t[rng:integer(1, count)] = nil
    t["field " .. rng:integer(1, 20)] = nil
  end
  if rng:once_in(2) then
    for i = count, rng:integer(1, count), -1 do
      t[i] = nil
    end
  end
  return t
end

--- A chain, around the depth at which tables are deferred and far beyond.
function shapes.chain(rng, exact)
  local t = { random_scalar(rng, exact) }
  for i = 1, rng:pick({ 10, 97, 98, 99, 100, 101, 150, 400 }) do
    t = i % 2 == 0 and { t } or { next = t, i }
  end
  return t
end

--- An object of a registered class.
function shapes.parcel(rng, exact)
  local contents = rng:once_in(2) and shapes.numbers(rng, exact) or random_scalar(rng, exact)
  return setmetatable({ contents = contents, label = rng:pick(WORDS) }, Parcel)
end

local SHAPES = { shapes.numbers, shapes.numbers, shapes.words, shapes.records, shapes.shrunk, shapes.parcel }

-- ---- graphs --------------------------------------------------------------------------------------------------------

--- Functions over two variables, some shared with one another.
local function random_functions(rng, value)
  local a, b = value, rng:integer(1, 100)
  local functions = {
    function()
      return a
    end,
    function(x)
      b = b + (x or 1)
      return b, a
    end,
    function(...)
      return select("#", ...), a
    end,
  }
  functions[4] = function(n)
    return n == 0 and b or functions[4](n - 1)
  end
  return functions
end

--- A random graph.
---@param seed integer the same graph from the same seed
---@param options table|nil functions = true: with functions; apart = true: what metatables and functions hold is no
--- part of the data. In a call they are known objects, the same for all its items and for the caller; data is not;
--- portable = true: the same on both VMs, integers and floats aside
---@return any value a table, as a rule
function graphs.random(seed, options)
  local rng = Random.new(seed)
  local with_functions = options and options.functions
  local apart = options and options.apart
  local exact = not (options and options.portable)
  local objects, marks = {}, 0
  local left = rng:pick({ 1, 3, 10, 25, 60 })
  local build

  local function random_value(depth)
    if left <= 0 or depth > 12 or rng:once_in(3) then
      if #objects > 0 and rng:once_in(4) then
        return rng:pick(objects)
      end
      return random_scalar(rng, exact)
    end
    return build(depth + 1)
  end

  local function random_key(depth)
    if rng:once_in(8) then
      local key = build(depth + 1)
      if debug.getmetatable(key) ~= Parcel then
        marks = marks + 1
        rawset(key, "mark", marks)
        return key
      end
    elseif rng:once_in(3) then
      local number = random_number(rng, exact)
      return number == number and number or 1
    end
    return rng:once_in(20) and rng:once_in(2) or random_string(rng)
  end

  --- What a metatable or a function holds.
  local function held_value(depth)
    if apart then
      return random_scalar(rng, exact)
    end
    return random_value(depth)
  end

  local function add_metatable(t, depth)
    local meta = { __name = "class " .. rng:integer(1, 100) }
    if not apart then
      objects[#objects + 1] = meta
    end
    for _ = 1, rng:integer(0, 2) do
      meta[random_string(rng)] = held_value(depth)
    end
    setmetatable(t, not apart and rng:once_in(4) and rng:pick(objects) or meta)
  end

  --- A table of a special shape, a part of the graph like others.
  local function build_shape()
    local shape = rng:once_in(30) and shapes.chain or rng:pick(SHAPES)
    local t = shape(rng, exact)
    objects[#objects + 1] = t
    return t
  end

  function build(depth)
    left = left - 1
    if rng:once_in(4) then
      return build_shape()
    end
    local t = {}
    objects[#objects + 1] = t
    for i = 1, rng:integer(0, 6) do
      t[i] = random_value(depth)
    end
    for _ = 1, rng:integer(0, 5) do
      local key = random_key(depth)
      t[key] = random_value(depth)
    end
    if rng:once_in(5) then
      add_metatable(t, depth)
    end
    if with_functions and rng:once_in(3) then
      for i, fn in ipairs(random_functions(rng, held_value(depth))) do
        if rng:once_in(2) then
          rawset(t, "function " .. i, fn)
        end
      end
    end
    return t
  end

  return build(1)
end

return graphs
