-- SPDX-License-Identifier: MIT
--
-- Runs one suite on every back-end.
--
--     backends.each(function(with)
--       it("squares", function()
--         assert.same({ 1, 4, n = 2 }, parallel.map(square, { 1, 2 }, with { chunk = 1 }))
--       end)
--     end)
--
-- `with` makes the options of a call: back-end and number of workers, and what it is given beside.

local busted = require("busted")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local backends = {}

--- Those that this machine's build has and that keep their workers from one call to the next.
backends.names = { "serial", "thread", "process" }

--- All, for suites that use the module's own verbs alone.
backends.all = { "serial", "thread", "process", "fork" }

--- One, two, and two that divide hardly anything; one of these where everything takes several times as long.
backends.worker_counts = interpreter.sanitized and { 5 } or { 1, 2, 5, 13 }
--- `n` rounds of what is done many times, a fifth of them where everything takes several times as long.
---@param n integer
---@return integer rounds
function backends.rounds(n)
  return interpreter.sanitized and math.ceil(n / 5) or n
end

--- Copies of this process are made anew for each call, so one size is enough here; fork_calls_spec has all of them.
local copy_counts = { interpreter.sanitized and 2 or 5 }

local function options_maker(backend, workers)
  return function(more)
    local options = { backend = backend, workers = workers }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return options
  end
end

--- Calls `body` once for each back-end, inside a block named after it.
---@param body fun(with: function, backend: string, workers: integer)
---@param names table|nil back-ends; default: all
---@param workers integer|nil default: 2
function backends.each(body, names, workers)
  workers = workers or 2
  for _, backend in ipairs(names or backends.names) do
    busted.describe(("on the %s back-end"):format(backend), function()
      body(options_maker(backend, workers), backend, workers)
    end)
  end
end

--- Calls `body` once for each back-end and number of workers, inside a block named after both.
---@param body fun(with: function, backend: string, workers: integer)
---@param names table|nil back-ends; default: all
---@param counts table|nil numbers of workers; default: backends.worker_counts
function backends.each_size(body, names, counts)
  for _, backend in ipairs(names or backends.names) do
    for _, workers in ipairs(backend == "fork" and copy_counts or counts or backends.worker_counts) do
      busted.describe(("on the %s back-end, workers: %d,"):format(backend, workers), function()
        body(options_maker(backend, workers), backend, workers)
      end)
    end
  end
end

local function merged(...)
  local all = {}
  for _, options in pairs({ ... }) do
    for name, value in pairs(options) do
      all[name] = value
    end
  end
  return all
end

--- What stands for a pool of copies, which last for one call: it has the verbs, and hands over the pool's options.
local function standin(with, more)
  local pool = {}
  for _, verb in ipairs({ "map", "imap", "imap_unordered", "each", "filter", "starmap", "reduce" }) do
    pool[verb] = function(_, fn, items, opts)
      return parallel[verb](fn, items, with(merged(more or {}, opts or {})))
    end
  end
  function pool.mapreduce(_, mapfn, fn, items, opts)
    return parallel.mapreduce(mapfn, fn, items, with(merged(more or {}, opts or {})))
  end
  function pool.close() end
  function pool.join() end
  return pool
end

--- A pool; on "fork" a table that has its verbs, `close` and `join`.
---@param with function as `body` gets it
---@param more table|nil options of a pool
function backends.pool(with, more)
  if with().backend == "fork" then
    return standin(with, more)
  end
  return parallel.pool(with(more))
end

--- Back-ends whose workers run at the same time as the caller.
backends.concurrent = { "thread", "process" }

return backends
