-- SPDX-License-Identifier: MIT
--
-- Random C types without a name, and objects of them, mean the same in another process, which makes the types from
-- their descriptions, and in workers.

local it, assert = it, assert
require("spec.support.globals")()

if not jit then
  return -- Lua 5.4 has no cdata
end

local codec = require("codec")
local ffi = require("ffi")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")
local random = require("spec.support.random")
local seed = require("spec.support.seed")

local numbers = {
  "bool", "char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "int64_t", "uint64_t",
  "long long", "unsigned long long", "float", "double", "complex", "complex float",
}
local bases = { "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t" }

--- Attributes that change where things lie, now and then.
local function attributes(rng, of_struct)
  local roll = rng:integer(1, 10)
  if roll == 1 and of_struct then
    return " __attribute__((packed))"
  elseif roll == 2 then
    return (" __attribute__((aligned(%d)))"):format(2 ^ rng:integer(0, 4))
  end
  return ""
end

local type_text

local function members(rng, depth, letter)
  local lines = {}
  for i = 1, rng:integer(1, 5) do
    local name = letter .. i
    local roll = rng:integer(1, 10)
    if roll == 1 then
      local base = rng:pick(bases)
      lines[i] = ("%s %s : %d;"):format(base, name, rng:integer(1, 8 * ffi.sizeof(base)))
    elseif roll == 2 and depth > 0 then
      lines[i] = type_text(rng, depth - 1, name) .. ";"
    else
      local text = roll <= 5 and depth > 0 and type_text(rng, depth - 1, name) or rng:pick(numbers)
      local const = rng:integer(1, 8) == 1 and "const " or ""
      local size = rng:integer(1, 3) == 1 and ("[%d]"):format(rng:integer(1, 4)) or ""
      lines[i] = const .. text .. " " .. name .. size .. attributes(rng) .. ";"
    end
  end
  return table.concat(lines, " ")
end

--- A struct or union. `letter` begins the names of its members: those of transparent ones must differ.
function type_text(rng, depth, letter)
  local word = rng:integer(1, 4) == 1 and "union" or "struct"
  return word .. " { " .. members(rng, depth, letter .. "_") .. " }" .. attributes(rng, true)
end

--- An object of a random type whose bytes are random; none of them makes a float that is no number.
local function random_object(rng)
  local ct = ffi.typeof(type_text(rng, 3, "m") .. rng:pick({ "", "", "[2]" }))
  local object = ffi.new(ct)
  local bytes = ffi.cast("uint8_t *", object)
  for i = 0, ffi.sizeof(ct) - 1 do
    bytes[i] = rng:integer(0, 126)
  end
  return object
end

local function bytes_of(object)
  return ffi.string(ffi.cast("const char *", object), ffi.sizeof(object))
end

it("random types and objects cross", function()
  local rng = random.new(seed)
  local list, texts = {}, {}
  for i = 1, 100 do
    list[i] = random_object(rng)
    texts[i] = bytes_of(list[i])
  end
  local bytes = codec.encode(list)
  local again = interpreter.run_code("io.write(codec.encode(codec.decode(io.read('*a'))))", { stdin = bytes })
  assert.equal("", again.stderr)
  local back = codec.decode(again.stdout)
  for i = 1, #list do
    -- The type's description and the object's bytes. Types that look the same are one type there.
    assert.is_true(codec.encode(list[i]) == codec.encode(back[i]))
  end
  for _, backend in ipairs({ "thread", "process" }) do
    local results = parallel.map(function(object)
      return object
    end, list, { backend = backend, workers = 2 })
    for i = 1, #list do
      assert.is_true(codec.encode(list[i]) == codec.encode(results[i]))
      assert.equal(texts[i], bytes_of(results[i]))
    end
  end
end)
