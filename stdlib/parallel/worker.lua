-- SPDX-License-Identifier: MIT
--
-- worker.lua - the worker's half of a call: keeps an environment for each call, reads its log, runs the items of a
-- task, hands back results and errors. The module is a function that takes the C functions of vm/worker and returns
-- { run, forget }; each worker state calls it once.
--
-- One protected call runs many items: after an error the control block's index tells which one raised it.

local core = require "lumap.core"
local compat = require "lumap.compat"
local Error = require "parallel.error"
local libraries = require "parallel.libraries"
local runners_with = require "parallel.runners"

local pack, unpack = compat.pack, compat.unpack

-- A worker that has run as many items is worth the ffi library.
local WARM_ITEMS = 64
-- So many logs are remembered.
local MOST_KEPT = 16

--- The worker's part of a traceback: the lines above our own.
local function trimmed_traceback(level)
  local lines = {}
  for line in debug.traceback("", level + 1):gmatch("[^\n]+") do
    if line:find("[lumap]/parallel/", 1, true) then break end
    lines[#lines + 1] = line
  end
  while #lines > 1 and lines[#lines]:find("^%s*%[C%]:") do lines[#lines] = nil end
  lines[1] = "stack traceback of the worker:"
  return table.concat(lines, "\n")
end

--- The text that the stock interpreter prints for an uncaught error.
local function message_of(value)
  if type(value) == "string" or type(value) == "number" then return tostring(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then
    local ok, text = pcall(tostring, value)
    if ok then return text end
  end
  return compat.error_object_text(value)
end

local crosses = { ["nil"] = true, boolean = true, number = true, string = true }

--- The message handler: a plain table that can cross. The value goes along if it can.
local function describe(value)
  local record = { kind = "error", message = message_of(value), traceback = trimmed_traceback(2) }
  if getmetatable(value) == Error and value.kind == "cancelled" and core.cancelled() then
    -- The item ends since it was asked to.
    record.kind, record.message = "cancelled", value.message
  end
  if crosses[type(value)] or core.check(value) then record.value = value end
  return record
end

return function(api)
  local stopped = api.stopped
  local control = api.control
  local numbers, start_stream, runners = api.numbers, api.start_stream, runners_with(api.begin, api.into, control)
  local items_met, compiled = 0, false

  --- What runs so many items gets loops that the VM compiles, where it does. They need the ffi library, which takes
  --- more memory and time than a worker that sleeps or waits has to spare.
  local function warm_up(count)
    items_met = items_met + count
    if compiled or items_met < WARM_ITEMS then return end
    compiled = true
    local loops = require "parallel.loops"
    if not loops then return end
    local made = loops(control, api.stream_address())
    numbers, start_stream, runners = made.numbers, made.start_stream, runners_with(made.begin, made.into, control)
  end

  -- In a copy of the caller's process: what the caller has handed over.
  local shared = api.shared

  local contexts = {}
  local current -- the context whose environment and libraries are in place
  local init_error
  local init = shared and shared.init or api.init

  local function handler(value)
    if rawequal(value, stopped) then return value end
    return describe(value)
  end

  --- What xpcall gave instead of a record: no handler runs when memory is short. An item that is to be run again for
  --- that gets a state of its own: this one ends here.
  local function to_record(failure, plan)
    if type(failure) == "table" and not rawequal(failure, stopped) then return failure end
    if rawequal(failure, stopped) then error(failure, 0) end
    local message = tostring(failure)
    if not message:find("not enough memory", 1, true) then return { kind = "error", message = message } end
    if plan and plan.retries then api.out_of_memory() end
    return { kind = "memory", message = message }
  end

  --- pcall for what reads what a call brings along: modules are loaded meanwhile, whose pools must not multiply.
  local function loading(read, ...)
    core.loading = true
    local outcome = pack(pcall(read, ...))
    core.loading = false
    return unpack(outcome, 1, outcome.n)
  end

  --- Runs the pool's init function, whose globals are the worker's own.
  local function run_init()
    local own, values = init, {}
    init = nil
    local ok, failure = xpcall(function()
      if shared then return own() end
      local ok, refusal = loading(api.entry, api.scope(_G), own, values, api.init_references)
      if not ok then error(refusal, 0) end
      libraries.keep(values.additions)
      values[1]()
    end, handler)
    if not ok then
      init_error = to_record(failure)
      init_error.kind = "init"
    end
  end

  --- The call that this copy was made for: all is in its place, globals included.
  local function open_own_context(call)
    local context = { scope = api.scope(_G), read = 0, values = { shared.fn, shared.plan, shared.fold }, loops = {} }
    api.know(context.scope, shared.known)
    for name, value in pairs(shared.globals or {}) do _G[name] = value end
    contexts[call] = context
    return context
  end

  -- What calls have left that serves others: by the bytes of their log. `true`: such a log has come once.
  local kept, kept_count = {}, 0

  --- The context that an earlier call with the same log has left, if that is as good as a new one.
  local function recall(code)
    local context = code and kept[code]
    if not context or context == true then return nil end
    kept[code] = true
    return api.is_unchanged(context.note, context.environment, context.metatable) and context or nil
  end

  --- Keeps a context that is over, or lets go of it.
  local function keep(context)
    if context.note and context.read == 1 and not context.failed then kept[context.code] = context end
  end

  --- Notes that a log has come. True when it came before: then it is worth a note of what it brought.
  local function has_come(code)
    if kept[code] then return true end
    if kept_count == MOST_KEPT then kept, kept_count = {}, 0 end
    kept[code], kept_count = true, kept_count + 1
    return false
  end

  local function open_context(call, task)
    if shared then return open_own_context(call) end
    local code = api.log_code(task)
    local context = recall(code)
    if not context then
      local environment = {}
      for name, value in next, _G do environment[name] = value end
      environment._G = environment
      local metatable = { __index = _G }
      setmetatable(environment, metatable)
      context = {
        scope = api.scope(environment), read = 0, values = {}, loops = {}, code = code, environment = environment,
        metatable = metatable,
      }
    end
    contexts[call] = context
    return context
  end

  --- The function, each call of which begins its item's stream of random numbers.
  local function seeded(fn)
    return function(...)
      start_stream()
      return fn(...)
    end
  end

  -- In a merge of a seeded call: number of a value -> item at which it begins.
  local beginnings

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
  local function seed_functions(context)
    if context.plan.mode == "reduce" then
      context.fn = joining(context.fn)
    else
      context.fn, context.fold = seeded(context.fn), context.fold and joining(context.fold)
    end
  end

  --- Takes the values of a seeded call's merge out of what tells where each begins (fold.lua).
  local function take_beginnings(first, count, items)
    beginnings = {}
    for k = 1, count do
      if items[k] then beginnings[first + k - 1], items[k] = items[k].from, items[k].value end
    end
  end

  --- Makes the context, or none, the one that this state runs.
  local function enter(context)
    if context ~= current then
      current = context
      api.enter(context and context.scope)
    end
    libraries.use(context and context.values.additions)
  end

  --- Brings the context up to the log entries that the task needs, and makes it the one that runs; values 1 to 3 are
  --- the function, the plan, and mapreduce's folding function.
  local function read_log(context, task)
    context.read = api.log(task, context.scope, context.read, context.values)
    enter(context)
    if context.plan then return end
    context.fn, context.plan, context.fold = context.values[1], context.values[2], context.values[3]
    local plan = context.plan
    if context.code and not (context.values.additions or plan.into or plan.buffer) and has_come(context.code) then
      context.note = api.note(context.scope, context.environment, plan)
    end
    if plan.seed then seed_functions(context) end
  end

  local function fail_all(task, context, count, record)
    local errors = {}
    for k = 1, count do errors[k] = record end
    api.finish(task, context.scope, {}, errors, count)
  end

  --- The function over lists of arguments.
  local function spreading(fn)
    return function(args)
      if type(args) ~= "table" then
        error(("item %d of starmap is not a list of arguments but a %s"):format(api.index(), type(args)), 0)
      end
      return fn(unpack(args, 1, args.n or #args))
    end
  end

  --- After an item failed. What earlier ones gave, and later ones are, may have filled the memory: then the state ends
  --- here, and they are run in smaller chunks. `alone`: they take none.
  local function recover(record, alone)
    if record.kind == "memory" then api.relieve(alone) end
  end

  --- Runs items at..count of a task, going on behind failed ones unless the plan stops there. Returns how many are
  --- done. `kind`: what `items` is in a map into a buffer; nil: a list.
  local function run_items(task, context, call, first, at, count, items, columns, errors, failures, spread, kind)
    local runner = runners[context.plan.single and "single" or context.plan.mode]
    local fn, fold = spread and spreading(context.fn) or context.fn, context.fold
    if context.merging then runner, fn = runners.reduce, fold or fn end
    while at <= count do
      local failed
      if failures and failures[at] then
        errors[at] = { kind = "decode", message = failures[at] }
        failed = at
      else
        local last = count
        if failures then
          last = at
          while last < count and not failures[last + 1] do last = last + 1 end
        end
        local ok, reached = xpcall(runner, handler, fn, call, first, at, last, items, columns, fold, context, kind)
        if ok then
          if reached < last then return reached end
          at = last + 1
        else
          local record = to_record(reached, context.plan)
          record.folding, runners.folding = runners.folding or nil, false
          recover(record, count == 1 or context.plan.mode == "into")
          failed = math.max(at, (api.index() or first) - first + 1)
          errors[failed] = record
        end
      end
      if failed then
        if context.plan.stop then
          api.stop_from(task, first + failed)
          return failed
        end
        at = failed + 1
      end
    end
    return count
  end

  --- Items that are packed numbers, a piece of a range or of a buffer, and were not run by the number loop: as a list.
  local function list_items(task, plan, kind, first, count)
    if kind == "buffer" then return plan.buffer:slice(first, first + count - 1) end
    local items = core.new_list(count)
    if kind == "range" then
      for k = 1, count do items[k] = plan.start + (first + k - 2) * plan.step end
    else
      api.unpack(task, items, count, kind)
    end
    return items
  end

  --- A piece of the caller's list.
  local function held_items(first, count)
    local items = core.new_list(count)
    for k = 1, count do items[k] = shared.items[first + k - 1] end
    return items
  end

  --- Runs a map over numbers whose results are numbers, in place. Returns true when that was all; else how many items
  --- are done, their results as columns, the errors, and all items as a list.
  local function run_numbers(context, task, call, kind, first, count)
    local plan = context.plan
    local state = { loops = context.loops }
    local memory = api.memory(task)
    local items = kind == "buffer" and plan.buffer or memory
    local outcome = pack(xpcall(numbers, handler, context.fn, items, memory, kind, control, call, first, count,
      plan.start, plan.step, state))
    local ok, done = outcome[1], outcome[2]
    if ok and outcome.n == 2 then
      api.finish_numbers(task, done, state.kind or "f64")
      return true
    end
    if not ok then done = math.max(0, (api.index() or first) - first) end
    -- The results lie over the first items in the memory: what is left of the items is read, then the results.
    items = list_items(task, plan, kind, first, count)
    local columns, errors = { {} }, {}
    if done > 0 then api.unpack(task, columns[1], done, state.kind or "f64") end
    if ok then
      runners.store(columns, done + 1, unpack(outcome, 4, outcome.n))
    else
      errors[done + 1] = to_record(outcome[2], plan)
      recover(errors[done + 1], count == 1)
    end
    return false, done + 1, columns, errors, items
  end

  local function run_task(task, context, call, kind, first, count)
    local plan = context.plan
    local mode = plan.mode
    local errors, columns, done = {}, (mode == "each" or mode == "into" or plan.single) and {} or { {} }, 0
    context.merging = plan.merges and first >= plan.merges
    local items, spread, failures, into_kind
    if kind == "range" and plan.buffer then kind = "buffer" end
    if kind == "values" then
      items = core.new_list(count)
      local ok
      ok, spread, failures = loading(api.items, task, context.scope, items)
      if not ok then error(spread, 0) end
      if context.merging and plan.seed then take_beginnings(first, count, items) end
    elseif kind == "range" and plan.held then
      items, spread = held_items(first, count), plan.spread
    elseif mode == "into" then
      items, into_kind = kind == "buffer" and plan.buffer or kind ~= "range" and api.memory(task), kind
    elseif mode == "map" then
      local finished
      finished, done, columns, errors, items = run_numbers(context, task, call, kind, first, count)
      if finished then return end
    else
      items = list_items(task, plan, kind, first, count)
    end
    if plan.stop and errors[done] then
      api.stop_from(task, first + done)
    else
      done = run_items(task, context, call, first, done + 1, count, items, columns, errors, failures, spread, into_kind)
    end
    -- A fold has one value for all items, or none.
    if plan.merges then
      done = columns.filled and 1 or 0
      if plan.seed and columns.filled then columns[2] = { columns.filled } end
      beginnings = nil
    end
    api.finish(task, context.scope, columns, errors, done)
  end

  local function run(task)
    local call, kind, first, count, needed, most = api.info(task)
    local context = contexts[call] or open_context(call, task)
    if init then run_init() end
    if init_error then return fail_all(task, context, count, init_error) end
    if not context.failed and (context ~= current or context.read < needed) then
      local ok, failure = loading(read_log, context, task)
      if not ok then
        context.failed = to_record(tostring(failure))
        if context.failed.kind == "error" then context.failed.kind = "decode" end
      end
    end
    if context.failed then return fail_all(task, context, count, context.failed) end
    local plan = context.plan
    -- Values of a fold stand for all of their items.
    if most and not plan.merges then count = most end
    warm_up(count)
    api.hide_index(plan.single or plan.mode == "reduce" or (plan.merges and first >= plan.merges) or false)
    if not plan.seed then return run_task(task, context, call, kind, first, count) end
    -- An error that gets out of here ends the state, and its random numbers with it.
    api.begin_streams(plan.seed)
    run_task(task, context, call, kind, first, count)
    api.end_streams()
  end

  local function forget(call)
    local context = contexts[call]
    if not context then return end
    if context == current then enter(nil) end
    contexts[call] = nil
    keep(context)
  end

  return { run = run, forget = forget }
end
