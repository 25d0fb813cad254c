-- SPDX-License-Identifier: MIT
--
-- The programs of scripts/bench/alloc, run by any Lua:  lua programs.lua NAME SCALE
-- Each keeps alive for a while what it makes, as programs do, and raises when its result is wrong.

local programs = {}

-- Lists of 200,000 small tables, one after the other.
programs["small-tables"] = function(scale)
  local n = math.ceil(200000 * scale)
  local last
  for _ = 1, 10 do
    local list = {}
    for i = 1, n do
      list[i] = { i, i + 1, i + 2 }
    end
    last = list
  end
  assert(#last == n and last[n][3] == n + 2)
end

-- A million records, all alive.
function programs.records(scale)
  local n = math.ceil(1000000 * scale)
  local list, sum = {}, 0
  for i = 1, n do
    list[i] = { id = i, name = "n", score = i * 0.5 }
  end
  for i = 1, n do
    sum = sum + list[i].id
  end
  assert(sum == n * (n + 1) / 2)
end

-- A million strings, all different and alive.
function programs.strings(scale)
  local n = math.ceil(1000000 * scale)
  local list = {}
  for i = 1, n do
    list[i] = "string " .. i
  end
  assert(list[n] == "string " .. n)
end

-- A list that grows by one to a million, ten times.
programs["growing-array"] = function(scale)
  local n = math.ceil(1000000 * scale)
  for _ = 1, 10 do
    local list = {}
    for i = 1, n do
      list[#list + 1] = i
    end
    assert(#list == n)
  end
end

-- Binary trees of depth 14, made, walked and dropped.
function programs.trees(scale)
  local rounds = math.ceil(40 * scale)
  local function make(depth)
    if depth == 0 then
      return {}
    end
    return { make(depth - 1), make(depth - 1) }
  end
  local function count(tree)
    return tree[1] and 1 + count(tree[1]) + count(tree[2]) or 1
  end
  local total = 0
  for _ = 1, rounds do
    total = total + count(make(14))
  end
  assert(total == rounds * 32767)
end

local program = programs[arg[1]] or error("there is no program " .. tostring(arg[1]))
program(tonumber(arg[2]) or 1)
