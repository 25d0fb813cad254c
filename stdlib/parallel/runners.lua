-- SPDX-License-Identifier: MIT
--
-- runners.lua - what each mode of a call does with an item. The module is a function that takes `begin` and `into`
-- (vm/worker/loops.c tells what they do) and the control block, and returns a table of runners; a worker makes them
-- anew when it has faster ones. Each runs items at..last of a task and returns the last one that is done.
--
-- runners.folding is true while a folding function runs: an error is then none of the item's.

local core = require "lumap.core"
local compat = require "lumap.compat"

local pack, unpack = compat.pack, compat.unpack

return function(begin, into, control)
  local runners = { folding = false }

  --- Stores the result of each item in its place of the call's buffer.
  function runners.into(fn, call, first, at, last, items, _, _, context, kind)
    local plan = context.plan
    local buffer = plan.into
    if kind then
      return into(fn, items, kind, control, call, first, at, last, plan.start, plan.step, buffer, context.loops)
    end
    for k = at, last do
      if begin(control, call, first + k - 1) then return k - 1 end
      core.store_result(buffer, first + k - 1, (fn(items[k])))
    end
    return last
  end

  function runners.filter(fn, call, first, at, last, items, columns)
    for k = at, last do
      if begin(control, call, first + k - 1) then return k - 1 end
      columns[1][k] = fn(items[k]) and true or false
    end
    return last
  end

  --- Joins the items to the value so far, columns[1][1]; columns.filled is the item with which that begins, nil when
  --- there is none. A failure leaves the value as it was when this began: its call has no result any more.
  function runners.reduce(fn, call, first, at, last, items, columns)
    local value, filled = columns[1][1], columns.filled
    runners.folding = true
    for k = at, last do
      if begin(control, call, first + k - 1) then
        runners.folding = false
        return k - 1
      end
      if filled then value = fn(value, items[k]) else value, filled = items[k], first + k - 1 end
    end
    runners.folding = false
    columns[1][1], columns.filled = value, filled
    return last
  end

  --- The same with what `fn` makes of the items; nil stays out.
  function runners.mapreduce(fn, call, first, at, last, items, columns, fold)
    local value, filled = columns[1][1], columns.filled
    for k = at, last do
      if begin(control, call, first + k - 1) then return k - 1 end
      local mapped = fn(items[k])
      if mapped ~= nil then
        runners.folding = true
        if filled then value = fold(value, mapped) else value, filled = mapped, first + k - 1 end
        runners.folding = false
      end
    end
    columns[1][1], columns.filled = value, filled
    return last
  end

  --- One call, whose number of results counts.
  function runners.single(fn, call, first, _, last, items, columns)
    if begin(control, call, first) then return 0 end
    local results = pack(fn(items[1]))
    for c = 1, results.n do columns[c] = { results[c] } end
    return last
  end

  --- The function over lists of arguments. `index` tells the number of the item that runs.
  function runners.spreading(fn, index)
    return function(args)
      if type(args) ~= "table" then
        error(("item %d of starmap is not a list of arguments but a %s"):format(index(), type(args)), 0)
      end
      return fn(unpack(args, 1, args.n or #args))
    end
  end

  return runners
end
