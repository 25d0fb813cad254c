-- SPDX-License-Identifier: MIT
--
-- Random graphs of values - tables with cycles, shared parts, metatables, functions - and whether two graphs are the
-- same: not only equal values, but the same references in the same places.

local Random = require("spec.support.random")

local graphs = {}

local number_type = math.type or type

-- ---- equality ------------------------------------------------------------------------------------------------------

local SCALARS = { ["nil"] = true, boolean = true, number = true, string = true }

local compare

--- NaN is the same as NaN here, 0 is not the same as -0, and 1 is not the same as 1.0 where these differ.
local function compare_scalars(a, b, path)
  if type(a) == "number" and type(b) == "number" then
    local same = number_type(a) == number_type(b) and (a == b and 1 / a == 1 / b or a ~= a and b ~= b)
    return same, path
  end
  return a == b, path
end

--- Pairs of a table, by key: those of scalar keys, and a list of those of other keys.
local function split(t)
  local scalars, others = {}, {}
  for key, value in next, t do
    if SCALARS[type(key)] then
      scalars[key] = value
    else
      others[#others + 1] = { key = key, value = value }
    end
  end
  return scalars, others
end

--- Keys that are tables have no order. Each must have a partner among the other's: one that it is already known to be
--- the same as, else one with the same `mark`, which all key tables of these graphs have.
local function partner(seen, key, others)
  for i, pair in ipairs(others) do
    local known = seen.there[key]
    local unknown = known == nil and seen.back[pair.key] == nil
    if known == pair.key or unknown and rawget(key, "mark") == rawget(pair.key, "mark") then
      return table.remove(others, i)
    end
  end
end

local function compare_tables(a, b, path, seen)
  local same, where = compare(debug.getmetatable(a), debug.getmetatable(b), path .. ".<metatable>", seen)
  if not same then
    return false, where
  end
  local scalars, others = split(a)
  local their_scalars, their_others = split(b)
  for key, value in next, scalars do
    same, where = compare(value, their_scalars[key], ("%s[%s]"):format(path, tostring(key)), seen)
    if not same then
      return false, where
    end
    their_scalars[key] = nil
  end
  if next(their_scalars) ~= nil or #others ~= #their_others then
    return false, path .. " (its keys)"
  end
  for _, pair in ipairs(others) do
    local theirs = partner(seen, pair.key, their_others)
    if not theirs then
      return false, path .. " (a key that is a table)"
    end
    same, where = compare(pair.key, theirs.key, path .. ".<key>", seen)
    if same then
      same, where = compare(pair.value, theirs.value, path .. "[<key>]", seen)
    end
    if not same then
      return false, where
    end
  end
  return true
end

local function compare_upvalues(a, b, i, path, seen)
  local name, value = debug.getupvalue(a, i)
  local _, other = debug.getupvalue(b, i)
  if name == "_ENV" then
    return true -- the globals are another table in another state
  end
  local here = ("%s.<upvalue %s>"):format(path, name)
  local a_cell, b_cell = debug.upvalueid(a, i), debug.upvalueid(b, i)
  if seen.cells[a_cell] == nil and seen.cells_back[b_cell] == nil then
    seen.cells[a_cell], seen.cells_back[b_cell] = b_cell, a_cell
  elseif seen.cells[a_cell] ~= b_cell or seen.cells_back[b_cell] ~= a_cell then
    return false, here .. " (shared otherwise)"
  end
  return compare(value, other, here, seen)
end

local function compare_functions(a, b, path, seen)
  local a_info, b_info = debug.getinfo(a, "uS"), debug.getinfo(b, "uS")
  if a_info.what == "C" or b_info.what == "C" then
    return a == b, path
  elseif a_info.nups ~= b_info.nups or string.dump(a) ~= string.dump(b) then
    return false, path .. " (its code)"
  end
  for i = 1, a_info.nups do
    local same, where = compare_upvalues(a, b, i, path, seen)
    if not same then
      return false, where
    end
  end
  return true
end

--- Depth first, on a list of its own work for tables, so that deep graphs do not fill the stack.
function compare(a, b, path, seen)
  if SCALARS[type(a)] or type(a) ~= type(b) then
    return compare_scalars(a, b, path)
  elseif type(a) == "cdata" then
    return a == b, path -- boxed integers, which have no identity
  elseif seen.there[a] ~= nil or seen.back[b] ~= nil then
    return seen.there[a] == b and seen.back[b] == a, path .. " (a reference)"
  elseif type(a) == "userdata" or type(a) == "thread" then
    return a == b, path
  end
  seen.there[a], seen.back[b] = b, a
  seen.work[#seen.work + 1] = { a = a, b = b, path = path }
  return true
end

--- Are two graphs the same?
---@return boolean
---@return string|nil path of the first place where they differ
function graphs.equal(a, b)
  local seen = { there = {}, back = {}, cells = {}, cells_back = {}, work = {} }
  local same, where = compare(a, b, "value", seen)
  while same and #seen.work > 0 do
    local item = table.remove(seen.work)
    local step = type(item.a) == "function" and compare_functions or compare_tables
    same, where = step(item.a, item.b, item.path, seen)
  end
  return same, not same and where or nil
end

-- ---- generation ----------------------------------------------------------------------------------------------------

local LENGTHS = { 0, 1, 2, 5, 31, 32, 33, 127, 128, 300 }

local function random_string(rng)
  local length = rng:pick(LENGTHS)
  if rng:once_in(2) then
    return ("s%d "):format(rng:integer(1, 1000)):rep(length):sub(1, length)
  end
  local bytes = {}
  for i = 1, length do
    bytes[i] = string.char(rng:integer(0, 255))
  end
  return table.concat(bytes)
end

local function random_number(rng)
  local kind = rng:integer(1, 8)
  local whole = rng:integer(-1000000, 1000000)
  if kind == 1 then
    return rng:pick({ 0 / 0, 1 / 0, -1 / 0, 0.0, -1 / (1 / 0), 2 ^ 53, -(2 ^ 53), 1e300, 2 ^ -1074 })
  elseif kind <= 3 then
    return rng:integer(-10, 300)
  elseif kind <= 5 then
    return whole
  elseif kind == 6 then
    return whole * 2147483647
  end
  return whole / rng:integer(1, 1000)
end

local function random_scalar(rng)
  local kind = rng:integer(1, 10)
  if kind == 1 then
    return true
  elseif kind == 2 then
    return false
  elseif kind <= 6 then
    return random_number(rng)
  end
  return random_string(rng)
end

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
--- part of the data. In a call they are known objects, the same for all its items and for the caller; data is not.
---@return any value a table, as a rule
function graphs.random(seed, options)
  local rng = Random.new(seed)
  local with_functions = options and options.functions
  local apart = options and options.apart
  local objects, marks = {}, 0
  local left = rng:pick({ 3, 10, 30, 100 })
  local build

  local function random_value(depth)
    if left <= 0 or depth > 12 or rng:once_in(3) then
      if #objects > 0 and rng:once_in(4) then
        return rng:pick(objects)
      end
      return random_scalar(rng)
    end
    return build(depth + 1)
  end

  local function random_key(depth)
    if rng:once_in(8) then
      local key = build(depth + 1)
      marks = marks + 1
      rawset(key, "mark", marks)
      return key
    elseif rng:once_in(3) then
      local number = random_number(rng)
      return number == number and number or 1
    end
    return rng:once_in(20) and rng:once_in(2) or random_string(rng)
  end

  --- What a metatable or a function holds.
  local function held_value(depth)
    if apart then
      return random_scalar(rng)
    end
    return random_value(depth)
  end

  function build(depth)
    left = left - 1
    local t = {}
    objects[#objects + 1] = t
    if rng:once_in(6) then
      -- Around the size from which lists of numbers are packed.
      local count, make = rng:pick({ 60, 63, 64, 65, 130 }), rng:pick({ random_number, random_number, random_scalar })
      for i = 1, count do
        t[i] = make(rng)
      end
    else
      for i = 1, rng:integer(0, 6) do
        t[i] = random_value(depth)
      end
    end
    for _ = 1, rng:integer(0, 5) do
      local key = random_key(depth)
      t[key] = random_value(depth)
    end
    if rng:once_in(5) then
      local meta = { __name = "class " .. rng:integer(1, 100) }
      if not apart then
        objects[#objects + 1] = meta
      end
      for _ = 1, rng:integer(0, 2) do
        meta[random_string(rng)] = held_value(depth)
      end
      setmetatable(t, not apart and rng:once_in(4) and rng:pick(objects) or meta)
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
