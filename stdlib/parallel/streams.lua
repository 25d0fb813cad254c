-- SPDX-License-Identifier: MIT
--
-- streams.lua - the functions of a call with `seed`, each call of which begins a stream of random numbers. The module
-- is a function that takes the C functions of vm/worker; a worker makes one of it.

return function(api)
  local streams = {}

  -- In a merge of a seeded call: number of a value -> item at which it begins.
  local beginnings

  --- The function, each call of which begins its item's stream of random numbers.
  local function seeded(fn, start_stream)
    return function(...)
      start_stream()
      return fn(...)
    end
  end

  --- The folding function, each call of which begins the stream of the border between what it joins: that is the same
  --- one, whatever the chunks.
  local function joining(fn)
    return function(...)
      local number = api.index()
      api.start_border(beginnings and beginnings[number] or number)
      return fn(...)
    end
  end

  --- Gives the context's functions their streams of random numbers.
  function streams.seed(context, start_stream)
    if context.plan.mode == "reduce" then
      context.fn = joining(context.fn)
    else
      context.fn, context.fold = seeded(context.fn, start_stream), context.fold and joining(context.fold)
    end
  end

  --- Takes the values of a seeded call's merge out of what tells where each begins (fold.lua).
  function streams.take_beginnings(first, count, items)
    beginnings = {}
    for k = 1, count do
      if items[k] then beginnings[first + k - 1], items[k] = items[k].from, items[k].value end
    end
  end

  --- After a task that folds.
  function streams.forget_beginnings() beginnings = nil end

  return streams
end
