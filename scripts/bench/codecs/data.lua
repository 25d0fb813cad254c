-- SPDX-License-Identifier: MIT
--
-- What is encoded and decoded. data.py makes the same from the same seed by the same formulas; digests prove it.
--
-- A row is made for a scale, a factor of its size:
--   messages  values, each of which is one message; all alike for sides that cannot keep them apart
--   times     how often a message is encoded, then decoded, under one reading of the clock: for those too short for it
--   elements  how many there are in all messages and times
--   check     true if a decoded value equals the original
--   digest    of the content, one integer

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

local function letters(draw, n)
  return table.concat(list(n, function()
    return string.char(97 + draw(26))
  end))
end

local function records(n)
  local draw = generator()
  local function tag()
    return ("tag%02d"):format(draw(100))
  end
  return list(n, function(i)
    local name, score = letters(draw, 10), draw(100000) / 8
    return { id = i, name = name, score = score, tags = { tag(), tag(), tag() } }
  end)
end

--- One row of plain data in one message.
local function plain(value, elements)
  return { messages = { value }, times = 1, elements = elements, check = compare.equal, digest = compare.digest(value) }
end

local make = {}

function make.integers(scale)
  local draw, n = generator(), scaled(1e6, scale)
  return plain(list(n, function()
    return draw(1000)
  end), n)
end

function make.doubles(scale)
  local draw, n = generator(), scaled(1e6, scale)
  return plain(list(n, function()
    return draw(MODULUS) / MODULUS * 2000 - 1000
  end), n)
end

function make.records(scale)
  local n = scaled(1e5, scale)
  return plain(records(n), n)
end

-- A hundred chunks, of 1,000 each at full scale.
make["records-chunks"] = function(scale)
  local size = scaled(1000, scale)
  local all = records(100 * size)
  local row = plain(all, #all)
  row.messages = list(100, function(chunk)
    return list(size, function(i)
      return all[(chunk - 1) * size + i]
    end)
  end)
  return row
end

make["records-again"] = function(scale)
  local size = scaled(1000, scale)
  local same = records(size)
  local row = plain(same, 100 * size)
  row.messages = list(100, function()
    return same
  end)
  return row
end

function make.strings(scale)
  local draw, n = generator(), scaled(1e5, scale)
  return plain(list(n, function(i)
    return ("%08d"):format(i) .. letters(draw, 12)
  end), n)
end

make["long-string"] = function(scale)
  local draw = generator()
  local block = table.concat(list(65536, function()
    return string.char(draw(256))
  end))
  local text = block:rep(scaled(1024, scale))
  return plain(text, #text)
end

function make.tree(scale)
  local n = scaled(65536, scale)
  local function node(i)
    if i <= n then
      return { i, node(2 * i), node(2 * i + 1) }
    end
  end
  return plain(node(1), n)
end

-- A hundred, since string.buffer refuses more.
function make.deep(scale)
  local levels, times = 100, scaled(1000, scale)
  local value = { levels }
  for level = levels - 1, 1, -1 do
    value = { level, value }
  end
  local row = plain(value, levels * times)
  row.times = times
  return row
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

--- Owners have accounts, an account knows its owner and one of the four functions.
function make.graph(scale)
  local draw, n = generator(), scaled(20000, scale)
  local content = {}
  local owners = list(n, function(i)
    local owner = setmetatable({ name = letters(draw, 10) }, Owner)
    content[i] = { owner.name }
    owner.accounts = list(ACCOUNTS, function()
      local balance, rule = draw(100000) / 8, draw(#rules) + 1
      table.insert(content[i], { balance, rule })
      return setmetatable({ owner = owner, balance = balance, rule = rules[rule] }, Account)
    end)
    return owner
  end)
  local row = plain(content, n * (1 + ACCOUNTS))
  row.messages = { owners }
  row.check = compare.same_owners
  return row
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

data.names = {}
for i, row in ipairs(data) do
  row.make = make[row.name]
  row.cannot = row.cannot or {}
  data.names[i] = row.name
  data[row.name] = row
end

return data
