-- SPDX-License-Identifier: MIT
--
-- What workloads have in common whose items and results are lists. Runs in any Lua.

local lists = {}

---@return integer[]
function lists.one_to(n)
  local items = {}
  for i = 1, n do
    items[i] = i
  end
  return items
end

--- A case's loop: what a plain loop makes of the items.
function lists.loop_of(fn)
  return function(items)
    local results = {}
    for i = 1, #items do
      results[i] = fn(items[i])
    end
    return results
  end
end

--- A case's map.
---@param opts table|nil
function lists.map_of(fn, opts)
  return function(pool, items)
    return pool:map(fn, items, opts)
  end
end

--- One map by a pool that is opened for it and gone afterwards: the map of a case with opens_pool.
function lists.map_once(fn)
  return function(open_pool, items)
    local pool = open_pool()
    local results = pool:map(fn, items)
    pool:close()
    pool:join()
    return results
  end
end

--- A case's check that takes the order of results into account, and stays exact below 2^53.
function lists.by_seven(results, n)
  local sum = 0
  for i = 1, n do
    sum = sum + results[i] * (i % 7)
  end
  return sum
end

--- The same for few results.
function lists.by_index(results, n)
  local sum = 0
  for i = 1, n do
    sum = sum + results[i] * i
  end
  return sum
end

--- A case's figures: the time of all of it.
function lists.milliseconds()
  return { { key = "seconds", unit = "ms", factor = 1e3 } }
end

return lists
