-- SPDX-License-Identifier: MIT
--
-- options.lua - the options of verbs and pools: one table that documents, checks and defaults them, and the checks of
-- arguments. What is wrong is raised as an ordinary error at the line that called the verb.

local core = require "lumap.core"
local compat = require "lumap.compat"

local is_integer = compat.is_integer

local backends = { serial = true, thread = true, process = true, fork = true }
-- Beyond this the two VMs would not mean the same number.
local MOST_SEED = 2 ^ 53

local policies = { stop = true, finish = true, collect = true }

local options = {}

local function positive_integer(value)
  return is_integer(value) and value >= 1, "an integer from 1 up"
end

local function seconds(value)
  return type(value) == "number" and value > 0, "a number of seconds above 0"
end

--- name -> { check = function(value) -> boolean, what is expected; pool = true: belongs to a pool; call = true: belongs
--- to a call; verbs: those that take it, nil: all that take options of a call }.
local known = {
  -- How many workers. Default: LUMAP_WORKERS, else parallel.cpu_count().
  workers = { pool = true, check = function(value)
    return is_integer(value) and value >= 1 and value <= 100000, "an integer from 1 to 100000"
  end },
  -- What a worker is. Default: LUMAP_BACKEND, else "thread".
  backend = { pool = true, check = function(value)
    return backends[value] == true, '"thread", "process", "fork" or "serial"'
  end },
  -- Run once in each worker before its first item. Default: none.
  init = { pool = true, check = function(value) return type(value) == "function", "a function" end },
  -- Bytes of Lua heap that a worker may hold. Default: no limit.
  memory_limit = { pool = true, check = positive_integer },
  -- Items after which a worker is replaced by a fresh one, on "fork" by another copy. Default: none.
  max_tasks = { pool = true, check = positive_integer },
  -- Items sent together. Default: "auto".
  chunk = { call = true, check = function(value)
    return value == "auto" or value == "guided" or positive_integer(value), 'an integer from 1 up, "auto" or "guided"'
  end },
  -- How far a lazy source may be ahead of what has been taken, in items. Default: 4 chunks a worker.
  ahead = { call = true, check = positive_integer },
  -- What happens when an item fails. Default: "stop".
  errors = { call = true, check = function(value) return policies[value] == true, '"stop", "finish" or "collect"' end },
  -- Seconds that one item may run. Default: any time.
  timeout = { call = true, check = seconds },
  -- Seconds that the whole call may take. Default: any time.
  deadline = { call = true, check = seconds },
  -- How often an item is run again after its worker died, ran out of memory or was over its time. Default: 0.
  retries = { call = true, check = function(value)
    return is_integer(value) and value >= 0, "an integer from 0 up"
  end },
  -- Each item has a stream of random numbers of its own, which this integer decides. Default: none, any numbers.
  seed = { call = true, check = function(value)
    if not core.can_seed() then return false, "no seed: Lumap does not know this VM's math.random" end
    return is_integer(value) and value >= -MOST_SEED and value <= MOST_SEED, "an integer from -2^53 to 2^53"
  end },
  -- A buffer that takes the results, each in the place of its item. Default: they go to a list.
  into = { call = true, verbs = { map = true, starmap = true, map_async = true }, check = function(value)
    return core.is_buffer(value) ~= nil, "a buffer"
  end },
  -- Where a fold starts, on the left, once. Default: with the first item.
  initial = { call = true, verbs = { reduce = true, mapreduce = true }, check = function() return true end },
  -- Globals that go along: true, those that the function reads; a table, these instead; false, none. Default: true.
  globals = { call = true, check = function(value)
    if type(value) == "table" then
      for name in pairs(value) do
        if type(name) ~= "string" then return false, "a table whose keys are names" end
      end
      return true
    end
    return type(value) == "boolean", "true, false or a table of names and values"
  end },
}

--- Does the option go with this verb, a pool's (scope "pool"), a call's ("call"), or both?
local function applies(option, verb, scope)
  return (not scope or option[scope]) and (not option.verbs or option.verbs[verb])
end

local function list_known(verb, scope)
  local names = {}
  for name, option in pairs(known) do
    if applies(option, verb, scope) then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function list_verbs(option)
  local names = {}
  for verb in pairs(option.verbs) do names[#names + 1] = verb end
  table.sort(names)
  return table.concat(names, ", ")
end

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return "a " .. type(value)
end

--- Raises "bad argument #2 to 'map' (table expected, got nil)" at `level` (1: the caller of this function's caller).
function options.bad_argument(verb, number, expected, value, level)
  error(("bad argument #%d to '%s' (%s expected, got %s)"):format(number, verb, expected,
    value == nil and "nil" or shown(value)), level + 2)
end

--- Is the value a function, or a table or userdata that can be called like one?
function options.is_callable(value)
  if type(value) == "function" then return true end
  local meta = getmetatable(value)
  return type(meta) == "table" and type(meta.__call) == "function"
end

--- Checks the options given to `verb`. `scope` is "call" for the method of an explicit pool, which has its own back-end
--- and workers; "pool" for making one; nil for the module's verbs, which take both. They are argument `number` of the
--- verb. Returns a table, never nil.
function options.check(verb, opts, scope, number, level)
  if opts == nil then return {} end
  if type(opts) ~= "table" then options.bad_argument(verb, number, "table of options", opts, level + 1) end
  for name, value in pairs(opts) do
    local option = known[name]
    if not option then
      error(("unknown option '%s' to '%s' (there are: %s)"):format(tostring(name), verb, list_known(verb, scope)),
        level + 2)
    end
    if scope and not option[scope] then
      error(("option '%s' to '%s' belongs to %s (here there are: %s)"):format(name, verb,
        scope == "call" and "the pool: give it when the pool is made" or "the call", list_known(verb, scope)),
        level + 2)
    end
    if not applies(option, verb, scope) then
      error(("option '%s' to '%s' belongs to %s (here there are: %s)"):format(name, verb, list_verbs(option),
        list_known(verb, scope)), level + 2)
    end
    local ok, expected = option.check(value)
    if not ok then
      error(("bad option '%s' to '%s' (%s expected, got %s)"):format(name, verb, expected, shown(value)), level + 2)
    end
  end
  return opts
end

local settings = core.settings()

local function environment(name)
  return not settings.ignore_environment and os.getenv(name) or nil
end

--- The default back-end: the host's choice, else LUMAP_BACKEND, else "thread". A bad variable is an error.
function options.default_backend(level)
  local name = settings.backend or environment "LUMAP_BACKEND" or "thread"
  if not backends[name] then
    error(('LUMAP_BACKEND is %s ("thread", "process", "fork" or "serial" expected)'):format(shown(name)), level + 2)
  end
  return name
end

--- The default number of workers: the host's choice, else LUMAP_WORKERS, else the CPUs that this process may use.
function options.default_workers(level)
  if settings.worker_count then return settings.worker_count end
  local text = environment "LUMAP_WORKERS"
  if not text then return core.cpu_count() end
  local count = tonumber(text)
  if not (count and known.workers.check(count)) then
    error(("LUMAP_WORKERS is %s (an integer from 1 up expected)"):format(shown(text)), level + 2)
  end
  return compat.to_integer(count)
end

return options
