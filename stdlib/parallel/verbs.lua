-- SPDX-License-Identifier: MIT
--
-- verbs.lua - the verbs: what each does with the results of a call. All take the pool (nil: a warm one that the options
-- choose) and the arguments of the public function, which tail-calls them, so that level 2 is the caller's line.

local core = require "lumap.core"
local compat = require "lumap.compat"
local Call = require "parallel.call"
local Error = require "parallel.error"
local iterator = require "parallel.iterator"
local options = require "parallel.options"
local source = require "parallel.source"

local unpack = compat.unpack

local verbs = {}

-- To make a list of so many results takes longer than to wake a worker.
local LONG = 2 ^ 14

--- What Call.start takes, for a verb. `start` sets the other three.
local function new_spec(mode)
  local spec = { mode = 0, fn = 0, source = 0, opts = 0 }
  spec.mode = mode
  return spec
end

--- Raises unless the pool, if there is one, takes work.
local function check_target(pool, verb, level)
  if pool then require("parallel.pool").check_open(pool, verb, level + 1) end
end

local function check_function(verb, number, fn, level)
  if not options.is_callable(fn) then options.bad_argument(verb, number, "function", fn, level + 1) end
end

--- Prepares a call whose results go to a buffer. One that has memory in common with the items is written to while they
--- are read, by several workers, and perhaps twice (retries); so they read a copy.
local function aim(verb, spec, items, from, level)
  local into = spec.opts.into
  if from.count and from.count > #into then
    error(("bad option 'into' to '%s' (a buffer of at least %d elements expected, one for each item, got one of %d)")
      :format(verb, from.count, #into), level + 1)
  end
  if core.is_buffer(items) and core.overlap(items, into) then
    from.plan.buffer = core.copy_buffer(items)
  end
  spec.mode, from.plan.into = "into", into
end

--- Checks the arguments and starts the call. `level` is the user's, as seen from here.
local function start(pool, verb, fn, items, opts, spec, level)
  check_target(pool, verb, level)
  check_function(verb, 1, fn, level)
  local from = source.of(verb, items, 2, spec.spread and "spread" or nil, level)
  spec.opts = options.check(verb, opts, pool and "call", 3, level)
  if not pool then pool = require("parallel.pool").warm(spec.opts, level) end
  spec.fn, spec.source = fn, from
  if spec.opts.into then aim(verb, spec, items, from, level + 1) end
  return Call.start(pool, spec), from
end

--- Runs a call whose results go to lists of all items. Returns the columns and the call.
local function gather(pool, verb, fn, items, opts, spec)
  local call, from = start(pool, verb, fn, items, opts, spec, 3)
  local columns = {}
  local target = { columns = columns, total = from.count }
  if from.count and from.count >= LONG and not from.plan.into and spec.mode == "map" then
    -- It takes as long as the first results do, and while they are stored workers would run dry.
    call:try_supply()
    columns[1] = core.new_list(from.count)
  end
  while call:receive(target) do end
  call:finish()
  return columns, call, from
end

local function finish_lists(columns, call, from)
  if call.plan.into then
    -- The buffer has no place for errors.
    if call.failed > 0 then return call.plan.into, call.errors end
    return call.plan.into
  end
  columns[1] = columns[1] or {}
  for c = 1, #columns do columns[c].n = from.count end
  if call.failed > 0 then columns[1].errors = call.errors end
  return unpack(columns)
end

function verbs.map(pool, fn, items, opts)
  return finish_lists(gather(pool, "map", fn, items, opts, new_spec("map")))
end

--- As map; a future instead of the lists.
function verbs.map_async(pool, fn, items, opts)
  local call, from = start(pool, "map_async", fn, items, opts, { mode = "map", async = true }, 2)
  return require("parallel.future").of_map(call, {}, from, finish_lists)
end

function verbs.starmap(pool, fn, items, opts)
  return finish_lists(gather(pool, "starmap", fn, items, opts, { mode = "map", spread = true }))
end

function verbs.each(pool, fn, items, opts)
  local _, call = gather(pool, "each", fn, items, opts, new_spec("each"))
  local succeeded = compat.to_integer(call.done - call.failed)
  if call.policy == "collect" then return succeeded, call.failed > 0 and call.errors or nil end
  return succeeded
end

--- What becomes of a filter's source. One that is lazy forgets its items when their results are there: then those that
--- are wanted are picked.
local function pick(from, first, n)
  local verdicts, kept = from.columns[1], from.kept
  for index = first, first + n - 1 do
    if verdicts and verdicts[index] then kept[index] = { from:item(index) } end
  end
  from.forget(from, first, n)
end

function verbs.filter(pool, pred, items, opts)
  local call, from = start(pool, "filter", pred, items, opts, { mode = "filter" }, 2)
  local kept = {} -- item index -> item, boxed so that false is kept too
  from.columns, from.kept, from.forget, from.release = {}, kept, from.release, pick
  local target = { columns = from.columns }
  while call:receive(target) do end
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

--- Runs a fold; `opts` is argument `number`. Tail-called: level 1 is the caller's line.
local function fold(pool, verb, fn, items, opts, number, spec)
  local level = 1
  check_target(pool, verb, level)
  spec.opts = options.check(verb, opts, pool and "call", number, level)
  if spec.opts.errors == "collect" then
    error(("bad option 'errors' to '%s' (\"stop\" or \"finish\" expected, got \"collect\": one value has no holes)")
      :format(verb), level + 1)
  end
  spec.fn, spec.source = fn, source.of(verb, items, number - 1, spec.mode == "reduce" and "first" or nil, level)
  local sendable, refusal = core.check(spec.opts.initial, "initial")
  if not sendable then Error.new({ kind = "encode", message = refusal }):raise() end
  pool = pool or require("parallel.pool").warm(spec.opts, level)
  return require "parallel.fold"(pool, spec)
end

function verbs.reduce(pool, fn, items, opts)
  check_function("reduce", 1, fn, 1)
  return fold(pool, "reduce", fn, items, opts, 3, { mode = "reduce" })
end

function verbs.mapreduce(pool, mapfn, fn, items, opts)
  check_function("mapreduce", 1, mapfn, 1)
  check_function("mapreduce", 2, fn, 1)
  return fold(pool, "mapreduce", mapfn, items, opts, 4, { mode = "mapreduce", fold = fn })
end

function verbs.imap(pool, fn, items, opts)
  local call = start(pool, "imap", fn, items, opts, { mode = "map", ordered = true, hands_out = true }, 2)
  return iterator.ordered(call)
end

function verbs.imap_unordered(pool, fn, items, opts)
  local call = start(pool, "imap_unordered", fn, items, opts, { mode = "map", hands_out = true }, 2)
  return iterator.unordered(call)
end

return verbs
