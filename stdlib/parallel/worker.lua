-- SPDX-License-Identifier: MIT
--
-- worker.lua - the worker's half of a call: keeps an environment for each call, reads its log, runs the items of a
-- task, hands back results and errors. The module is a function that takes the C functions of vm/worker and returns
-- { run, forget }; each worker state calls it once.
--
-- One protected call runs many items: after an error the control block's index tells which one raised it.

-- What few calls need, failures above all, is in modules that are loaded when the first one needs it: loading takes
-- most of the time and memory that a worker costs before its first item.

local core = require "lumap.core"

-- A worker that has run as many items is worth the ffi library.
local WARM_ITEMS = 64
-- So many logs are remembered.
local MOST_KEPT = 16

--- Stores what one item gave: value c at columns[c][k].
local function store(columns, k, ...)
  local n = select("#", ...)
  if n == 1 then
    columns[1][k] = (...)
    return
  end
  for c = 1, n do
    local column = columns[c]
    if not column then
      column = {}
      columns[c] = column
    end
    column[k] = (select(c, ...))
  end
end

--- The runners (runners.lua) of map and each, which a worker makes anew when it has a faster `begin`.
local function plain_runners(begin, control)
  local function run_map(fn, call, first, at, last, items, columns)
    for k = at, last do
      if begin(control, call, first + k - 1) then return k - 1 end
      store(columns, k, fn(items[k]))
    end
    return last
  end

  local function run_each(fn, call, first, at, last, items)
    for k = at, last do
      if begin(control, call, first + k - 1) then return k - 1 end
      fn(items[k])
    end
    return last
  end

  return run_map, run_each
end

return function(api)
  local stopped = api.stopped
  local control = api.control
  local numbers, start_stream, begin, into = api.numbers, api.start_stream, api.begin, api.into
  local run_map, run_each = plain_runners(begin, control)
  local runners -- of the other modes
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
    numbers, start_stream, begin, into = made.numbers, made.start_stream, made.begin, made.into
    run_map, run_each = plain_runners(begin, control)
    runners = nil
  end

  local function other_runners()
    if not runners then runners = require("parallel.runners")(begin, into, control) end
    return runners
  end

  local function runner_of(mode)
    if mode == "map" then return run_map end
    if mode == "each" then return run_each end
    return other_runners()[mode]
  end

  -- In a copy of the caller's process: what the caller has handed over.
  local shared = api.shared

  local contexts = {}
  local current -- the context whose environment and libraries are in place
  local init = shared and shared.init or api.init
  local libraries -- once a call has brought additions to libraries
  local streams -- once a call had a seed

  --- The message handler. It may have little stack and memory left, so it only notes what is gone after it.
  local function handler(value)
    if rawequal(value, stopped) then return value end
    return { value = value, traceback = debug.traceback("", 2) }
  end

  local function describe(noted) return require("parallel.failures").describe(noted) end

  --- The record (failures.lua) of what xpcall gave: what the handler noted, or a message alone, since no handler runs
  --- when memory is short. An item that is to be run again for that gets a state of its own: this one ends here.
  local function to_record(failure, plan)
    if rawequal(failure, stopped) then error(failure, 0) end
    if type(failure) == "table" then
      local ok, record = pcall(describe, failure)
      if ok then return record end
      return to_record(record, plan)
    end
    local message = tostring(failure)
    if not message:find("not enough memory", 1, true) then return { kind = "error", message = message } end
    if plan and plan.retries then api.out_of_memory() end
    return { kind = "memory", message = message }
  end

  --- pcall for what reads what a call brings along: modules are loaded meanwhile, whose pools must not multiply.
  local function loaded(...)
    core.loading = false
    return ...
  end
  local function loading(read, ...)
    core.loading = true
    return loaded(pcall(read, ...))
  end

  -- What calls have left that serves others: by the bytes of their log. `true`: such a log has come once.
  local kept, kept_count = {}, 0

  --- The context that an earlier call with the same log has left, if that is as good as a new one.
  local function recall(code, task)
    local context = code and kept[code]
    if not context or context == true then return nil end
    kept[code] = true
    return api.revive(context.note, context.environment, context.metatable, task) and context or nil
  end

  --- Keeps a context that is over, or lets go of it.
  local function keep(context)
    if not context.note or context.read ~= 1 or context.failed then return end
    api.hold(context.note)
    kept[context.code] = context
  end

  --- Notes that a log has come. True when it came before: then it is worth a note of what it brought.
  local function has_come(code)
    if kept[code] then return true end
    if kept_count == MOST_KEPT then kept, kept_count = {}, 0 end
    kept[code], kept_count = true, kept_count + 1
    return false
  end

  local function open_context(call, task)
    if shared then
      contexts[call] = require("parallel.copies").open_context(shared, api)
      return contexts[call]
    end
    local code = api.log_code(task)
    local context = recall(code, task)
    if not context then
      local environment, metatable = api.environment()
      context = {
        scope = api.scope(environment), read = 0, values = {}, loops = {}, code = code, environment = environment,
        metatable = metatable,
      }
    end
    contexts[call] = context
    return context
  end

  --- Makes the context, or none, the one that this state runs.
  local function enter(context)
    if context ~= current then
      current = context
      api.enter(context and context.scope)
    end
    local additions = context and context.values.additions
    if additions and not libraries then libraries = require "parallel.libraries" end
    if libraries then libraries.use(additions) end
  end

  --- Brings the context up to the log entries that the task needs, and makes it the one that runs; values 1 to 3 are
  --- the function, the plan, and mapreduce's folding function.
  local function read_log(context, task)
    context.read = api.log(task, context.scope, context.read, context.values)
    enter(context)
    if context.plan then return end
    context.fn, context.plan, context.fold = context.values[1], context.values[2], context.values[3]
    local plan = context.plan
    if plan.unpacks then context.fn = other_runners().spreading(context.fn, api.index) end
    if context.begin then context.begin() end
    if context.code and not context.values.additions and has_come(context.code) then
      context.note = api.note(context.scope, context.environment, plan, task)
    end
    if plan.seed then
      streams = streams or require("parallel.streams")(api)
      streams.seed(context, start_stream)
    end
  end

  local function fail_all(task, context, count, record)
    local errors = {}
    for k = 1, count do errors[k] = record end
    api.finish(task, context.scope, {}, errors, count)
  end

  --- After an item failed. What earlier ones gave, and later ones are, may have filled the memory: then the state ends
  --- here, and they are run in smaller chunks. `alone`: they take none.
  local function recover(record, alone)
    if record.kind == "memory" then api.relieve(alone) end
  end

  --- Runs items at..count of a task, going on behind failed ones unless the plan stops there. Returns how many are
  --- done. `kind`: what `items` is in a map into a buffer; nil: a list.
  local function run_items(task, context, call, first, at, count, items, columns, errors, failures, spread, kind)
    local runner = runner_of(context.plan.single and "single" or context.plan.mode)
    local fn, fold = context.fn, context.fold
    if spread then fn = other_runners().spreading(fn, api.index) end
    if context.merging then runner, fn = runner_of("reduce"), fold or fn end
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
          if runners then record.folding, runners.folding = runners.folding or nil, false end
          recover(record, count == 1 or context.plan.mode == "into")
          failed = math.max(at, (api.index() or first) - first + 1)
          errors[failed] = record
        end
      end
      if failed then
        if context.plan.mode == "into" then api.note_failed(first + failed - 1) end
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

  --- What becomes of a number loop that has ended: see run_numbers. `...`: nothing, or what the item gave that ended
  --- it, behind the kind of that.
  local function end_numbers(context, task, kind, first, count, state, ok, done, ...)
    local plan, failure, results_kind = context.plan, done, state.kind or "f64"
    if ok and select("#", ...) == 0 then
      api.finish_numbers(task, done, results_kind)
      return true
    end
    if not ok then done = math.max(0, (api.index() or first) - first) end
    -- The results lie over the first items in the memory: what is left of the items is read, then the results.
    local items = list_items(task, plan, kind, first, count)
    local columns, errors = { {} }, {}
    if done > 0 then api.unpack(task, columns[1], done, results_kind) end
    if ok then
      store(columns, done + 1, select(2, ...))
    else
      errors[done + 1] = to_record(failure, plan)
      recover(errors[done + 1], count == 1)
    end
    return false, done + 1, columns, errors, items
  end

  --- Runs a map over numbers whose results are numbers, in place. Returns true when that was all; else how many items
  --- are done, their results as columns, the errors, and all items as a list.
  local function run_numbers(context, task, call, kind, first, count)
    local plan = context.plan
    local state = { loops = context.loops }
    local memory = api.memory(task)
    local items = kind == "buffer" and plan.buffer or memory
    return end_numbers(context, task, kind, first, count, state, xpcall(numbers, handler, context.fn, items, memory,
      kind, control, call, first, count, plan.start, plan.step, state))
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
      if context.merging and plan.seed then streams.take_beginnings(first, count, items) end
    elseif kind == "range" and plan.held then
      items, spread = core.new_list(count), plan.spread
      for k = 1, count do items[k] = rawget(shared.items, first + k - 1) end
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
    -- A fold has one value for all items, or none. That of some would be taken for theirs.
    if plan.merges then
      if streams then streams.forget_beginnings() end
      if done < count and not next(errors) then return api.cancel(task) end
      done = columns.filled and 1 or 0
      if plan.seed and columns.filled then columns[2] = { columns.filled } end
    end
    api.finish(task, context.scope, columns, errors, done)
  end

  local function run(task)
    local call, kind, first, count, needed, most = api.info(task)
    local context = contexts[call] or open_context(call, task)
    if init then
      local own = init
      init = nil
      local failure = require("parallel.init_function")(own, shared, api, {
        loading = loading, handler = handler, to_record = to_record,
      })
      if failure then
        -- It may have come half way: who comes next begins anew.
        api.retire()
        fail_all(task, context, 1, failure)
        return api.fail_init(task)
      end
    end
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
