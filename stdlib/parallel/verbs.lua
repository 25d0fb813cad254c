-- SPDX-License-Identifier: MIT
--
-- verbs.lua - map, each, filter, imap, imap_unordered, starmap: what each does with the results of a call. All take the
-- pool (nil: a warm one that the options choose) and the arguments of the public function, which tail-calls them, so
-- that level 2 is the caller's line.

local compat = require "lumap.compat"
local Call = require "parallel.call"
local options = require "parallel.options"
local source = require "parallel.source"

local unpack = compat.unpack

local verbs = {}

--- Checks the arguments and starts the call. `level` is the user's, as seen from here.
local function start(pool, verb, fn, items, opts, spec, level)
  if pool then require("parallel.pool").check_open(pool, verb, level) end
  if not options.is_callable(fn) then options.bad_argument(verb, 1, "function", fn, level) end
  local from = source.of(verb, items, spec.spread, level)
  spec.opts = options.check(verb, opts, pool and "call", 3, level)
  if not pool then pool = require("parallel.pool").warm(spec.opts, level) end
  spec.fn, spec.source = fn, from
  return Call.start(pool, spec), from
end

--- Runs a call whose results go to lists of all items. Returns the columns and the call.
local function gather(pool, verb, fn, items, opts, spec)
  local call, from = start(pool, verb, fn, items, opts, spec, 3)
  local columns = {}
  local function place(first)
    return columns, from.count, first
  end
  while true do
    local first, done = call:receive(place)
    if not first then break end
    call.taken = call.taken + done
  end
  call:finish()
  return columns, call, from
end

local function finish_lists(columns, call, from)
  columns[1] = columns[1] or {}
  for c = 1, #columns do columns[c].n = from.count end
  if call.failed > 0 then columns[1].errors = call.errors end
  return unpack(columns)
end

function verbs.map(pool, fn, items, opts)
  return finish_lists(gather(pool, "map", fn, items, opts, { mode = "map" }))
end

function verbs.starmap(pool, fn, items, opts)
  return finish_lists(gather(pool, "starmap", fn, items, opts, { mode = "map", spread = true }))
end

function verbs.each(pool, fn, items, opts)
  local _, call = gather(pool, "each", fn, items, opts, { mode = "each" })
  local succeeded = compat.to_integer(call.done - call.failed)
  if call.policy == "collect" then return succeeded, call.failed > 0 and call.errors or nil end
  return succeeded
end

function verbs.filter(pool, pred, items, opts)
  local call, from = start(pool, "filter", pred, items, opts, { mode = "filter" }, 2)
  local kept = {} -- item index -> item, boxed so that false is kept too
  local release = from.release
  local columns = {}
  -- A lazy source forgets its items when their results are there: then those that are wanted are picked.
  function from:release(first, n)
    for index = first, first + n - 1 do
      local verdict = columns[1] and columns[1][index]
      if verdict then kept[index] = { self:item(index) } end
    end
    release(self, first, n)
  end
  local function place(first)
    return columns, nil, first
  end
  while true do
    local first, done = call:receive(place)
    if not first then break end
    call.taken = call.taken + done
  end
  call:finish()
  local list, n = {}, 0
  for index = 1, from.count or 0 do
    local item = kept[index]
    if item then
      n = n + 1
      list[n] = item[1]
    end
  end
  list.n = n
  if call.failed > 0 then list.errors = call.errors end
  return list
end

--- Gives i, and the values of item i in a chunk's columns.
local function yield(index, columns, k)
  local n = #columns
  if n == 1 then return index, columns[1][k] end
  local values = {}
  for c = 1, n do values[c] = columns[c][k] end
  return index, unpack(values, 1, n)
end

--- An iterator over results. `ordered`: by index, else as they come.
local function iterate(pool, verb, fn, items, opts, ordered)
  local call, from = start(pool, verb, fn, items, opts, { mode = "map", ordered = ordered }, 3)
  local ready = {} -- first index of a chunk -> { columns, count }
  local columns, first, count, k -- the chunk that is being given out, and the last item given
  local next_index = 1
  local received
  local ended = false

  local function place()
    received = { {} }
    return received, nil, 1
  end

  --- Takes chunks until the one that is wanted is there. False at the end.
  local function advance()
    while true do
      local waiting = ready[next_index]
      if ordered and waiting then
        ready[next_index] = nil
        columns, first, count, k = waiting[1], next_index, waiting[2], 0
        next_index = next_index + count
        return true
      end
      if ordered and call.errors[next_index] then
        -- An item that has no results at all: its worker died, or it could not be sent.
        columns, first, count, k = { {} }, next_index, 1, 0
        next_index = next_index + 1
        return true
      end
      if not ordered and call.error and call.policy == "stop" then return false end
      local at, done = call:receive(place)
      if not at then return false end
      if ordered then
        if done > 0 then ready[at] = { received, done } end
      elseif done > 0 then
        columns, first, count, k = received, at, done, 0
        return true
      end
    end
  end

  local function finish()
    ended = true
    call:finish()
  end

  return function()
    if ended then return nil end
    while not columns or k >= count do
      columns = nil
      if not advance() then return finish() end
    end
    k = k + 1
    call.taken = call.taken + 1
    local index = first + k - 1
    local failure = call.errors[index]
    if failure then return index, nil, failure end
    if call.error and call.error.index == index then return finish() end
    return yield(index, columns, k)
  end, from
end

function verbs.imap(pool, fn, items, opts)
  return (iterate(pool, "imap", fn, items, opts, true))
end

function verbs.imap_unordered(pool, fn, items, opts)
  return (iterate(pool, "imap_unordered", fn, items, opts, false))
end

return verbs
