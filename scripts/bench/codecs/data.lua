-- SPDX-License-Identifier: MIT
--
-- What is encoded and decoded. data.py makes the same from the same seed by the same formulas; digests prove it.
--
-- A row is made for a scale, a factor of its size:
--   stream    gives a function that makes the value of one message after the other, afresh: the same each time
--   count     how many messages there are
--   times     how often each is encoded, then decoded, under one reading of the clock
--   elements  how many there are in all messages, each as often as it is encoded
--   kept      the originals live while they are decoded (see turn.lua)
--   check     true if a decoded value equals the original
--   content   gives what a message holds, as lists, records, numbers and strings

local compare = require("codecs.compare")

local SEED = 20260101
local MODULUS, FACTOR = 2147483647, 48271

--- The generator of Lehmer, Park and Miller: the same on all VMs, and exact in doubles.
---@return fun(n: integer): integer draw gives 0 to n - 1
local function generator()
  local state = SEED
  return function(n)
    state = state * FACTOR % MODULUS
    return state % n
  end
end

local function scaled(count, scale)
  return math.max(1, math.floor(count * scale))
end

local function list(n, make)
  local values = {}
  for i = 1, n do
    values[i] = make(i)
  end
  return values
end

-- 26 to the power of five: so many words of five letters there are.
local WORDS = 11881376

local function five_letters(x)
  local floor = math.floor
  local a, b, c, d = x % 26, floor(x / 26) % 26, floor(x / 676) % 26, floor(x / 17576) % 26
  return string.char(97 + a, 97 + b, 97 + c, 97 + d, 97 + floor(x / 456976))
end

local function ten_letters(draw)
  local first = five_letters(draw(WORDS))
  return first .. five_letters(draw(WORDS))
end

local tags = list(100, function(i)
  return ("tag%02d"):format(i - 1)
end)

--- A stream of lists of records, size in each.
local function records(size)
  return function()
    local draw, id = generator(), 0
    local function tag()
      return tags[draw(#tags) + 1]
    end
    local function record()
      id = id + 1
      local name, score = ten_letters(draw), draw(100000) / 8
      return { id = id, name = name, score = score, tags = { tag(), tag(), tag() } }
    end
    return function()
      return list(size, record)
    end
  end
end

local function same(value)
  return value
end

--- A row of plain data, a message each encoded once; over: what is otherwise.
local function plain(stream, elements, over)
  local row = { stream = stream, count = 1, times = 1, elements = elements, check = compare.equal, content = same }
  for name, value in pairs(over or {}) do
    row[name] = value
  end
  return row
end

--- A stream of one message: a list of n that make(draw, i) gives.
local function one_list(n, make)
  return function()
    local draw = generator()
    return function()
      return list(n, function(i)
        return make(draw, i)
      end)
    end
  end
end

local make = {}

function make.integers(scale)
  local n = scaled(1e6, scale)
  return plain(one_list(n, function(draw)
    return draw(1000)
  end), n)
end

function make.doubles(scale)
  local n = scaled(1e6, scale)
  return plain(one_list(n, function(draw)
    return draw(MODULUS) / MODULUS * 2000 - 1000
  end), n)
end

function make.records(scale)
  local n = scaled(1e5, scale)
  return plain(records(n), n)
end

make["records-chunks"] = function(scale)
  local count, size = 100, scaled(1000, scale)
  return plain(records(size), count * size, { count = count })
end

make["records-again"] = function(scale)
  local times, size = 100, scaled(1000, scale)
  return plain(records(size), times * size, { times = times, kept = true })
end

function make.strings(scale)
  local n = scaled(1e5, scale)
  return plain(one_list(n, function(draw, i)
    return ("%010d"):format(i) .. ten_letters(draw)
  end), n)
end

make["long-string"] = function(scale)
  local draw, blocks = generator(), scaled(1024, scale)
  local block = table.concat(list(65536, function()
    return string.char(draw(256))
  end))
  return plain(function()
    return function()
      return block:rep(blocks)
    end
  end, #block * blocks)
end

function make.tree(scale)
  local n = scaled(65536, scale)
  local function node(i)
    if i <= n then
      return { i, node(2 * i), node(2 * i + 1) }
    end
  end
  return plain(function()
    return function()
      return node(1)
    end
  end, n)
end

-- A hundred, since string.buffer refuses more.
function make.deep(scale)
  local levels, times = 100, scaled(1000, scale)
  return plain(function()
    return function()
      local value = { levels }
      for level = levels - 1, 1, -1 do
        value = { level, value }
      end
      return value
    end
  end, levels * times, { times = times })
end

-- ---- classes, cycles, functions ------------------------------------------------------------------------------------

local rules = {
  function(balance, years)
    return balance + years
  end,
  function(balance, years)
    return balance * (1 + years)
  end,
  function(balance, years)
    return balance - years
  end,
  function(balance, years)
    return balance * balance + years
  end,
}

local Owner = { __name = "Owner" }
Owner.__index = Owner

function Owner:total()
  local sum = 0
  for _, account in ipairs(self.accounts) do
    sum = sum + account.balance
  end
  return sum
end

local Account = { __name = "Account" }
Account.__index = Account

function Account:after(years)
  return self.rule(self.balance, years)
end

local ACCOUNTS = 4

local function owner_of(draw)
  local owner = setmetatable({ name = ten_letters(draw) }, Owner)
  owner.accounts = list(ACCOUNTS, function()
    local balance, rule = draw(100000) / 8, rules[draw(#rules) + 1]
    return setmetatable({ owner = owner, balance = balance, rule = rule }, Account)
  end)
  return owner
end

local function content_of(owners)
  local numbers = {}
  for i, rule in ipairs(rules) do
    numbers[rule] = i
  end
  return list(#owners, function(i)
    local content = { owners[i].name }
    for _, account in ipairs(owners[i].accounts) do
      table.insert(content, { account.balance, numbers[account.rule] })
    end
    return content
  end)
end

--- Owners have accounts; an account knows its owner, and one of the functions.
function make.graph(scale)
  local n = scaled(20000, scale)
  local over = { check = compare.same_owners, content = content_of }
  return plain(one_list(n, owner_of), n * (1 + ACCOUNTS), over)
end

-- ---- the rows ------------------------------------------------------------------------------------------------------

local RECORD = "{id, name, score, tags[3]}"

---@class bench.Row
---@field name string
---@field title string
---@field unit string what an element is
---@field make fun(scale: number): table
---@field cannot table<string, string> side -> why it takes no part
local data = {
  { name = "integers", title = "1e6 small integers", unit = "integer" },
  { name = "doubles", title = "1e6 doubles", unit = "double", cannot = { ["lua-cjson"] = "keeps 14 digits" } },
  { name = "records", title = "1e5 records " .. RECORD .. ", one message", unit = "record" },
  { name = "records-chunks", title = "1e5 records " .. RECORD .. " in chunks of 1,000", unit = "record" },
  { name = "records-again", title = "the same 1,000 records " .. RECORD .. ", 100 times", unit = "record" },
  { name = "strings", title = "1e5 distinct strings of 20 bytes", unit = "string" },
  { name = "long-string", title = "one string of 64 MB", unit = "byte" },
  { name = "tree", title = "a binary tree of 65,536 lists", unit = "list" },
  { name = "deep", title = "a list 100 deep, 1,000 times", unit = "level" },
  {
    name = "graph",
    title = "1e5 objects of two classes with cycles and functions",
    unit = "object",
    cannot = {
      ["string.buffer"] = "knows no functions",
      ["lua-cjson"] = "knows no cycles",
      ["lua-MessagePack"] = "knows no cycles",
    },
  },
}

--- All that a row's messages hold, as one integer; data.py computes it, too.
---@return integer
function data.digest(row)
  local next_value, sum = row.stream(), 0
  for _ = 1, row.count do
    sum = compare.digest(row.content(next_value()), sum)
  end
  return sum
end

data.names = {}
for i, row in ipairs(data) do
  row.make = make[row.name]
  row.cannot = row.cannot or {}
  data.names[i] = row.name
  data[row.name] = row
end

return data
