-- SPDX-License-Identifier: MIT
--
-- init.lua - the module `parallel`: its public functions and their manual.

local core = require "lumap.core"
local Error = require "parallel.error"

-- Loaded when they are needed: a script that maps nothing, and each worker that is started, does without.
local function pool() return require "parallel.pool" end
local function verbs() return require "parallel.verbs" end

---@class parallel
local parallel = {
  Error = Error,
  version = core.version,
}

---@class parallel.options
---@field workers integer|nil how many (default: LUMAP_WORKERS, else the CPUs this process may use; inside an item the
--- module's verbs run on the worker itself, whatever `workers` and `backend` say)
---@field backend "thread"|"process"|"fork"|"serial"|nil what a worker is (default: LUMAP_BACKEND, else "thread")
---@field chunk integer|"auto"|"guided"|nil items sent together (default "auto")
---@field ahead integer|nil bound on items pulled from a lazy source and not yet taken (default: 4 chunks a worker)
---@field errors "stop"|"finish"|"collect"|nil what happens when an item fails (default "stop")
---@field timeout number|nil seconds that one item may run (default: any time)
---@field deadline number|nil seconds that the whole call may take (default: any time)
---@field retries integer|nil how often an item is run again after its worker died, it ran out of memory or was over its
--- time (default 0)
---@field seed integer|nil each item has a stream of random numbers that this decides; up to 2^53 (default: none)
---@field into parallel.Buffer|nil map, starmap, map_async: takes the result of each item in its place; it is returned,
--- and with errors = "collect" the errors behind it
---@field initial any reduce, mapreduce: where the fold starts, on the left, once; with no items it is the result
---@field init function|nil run once in each worker before its first item
---@field memory_limit integer|nil bytes of Lua heap a worker may hold
---@field max_tasks integer|nil items after which a worker is replaced by a fresh one, on "fork" by another copy of the
--- process (default: none)
---@field globals boolean|table|nil globals that go along: true, those that the function reads (on "fork" all are
--- there); a table of names and values, these instead; false, none (default true)

--- fn(item) for each item, on all workers. As many lists as fn gave values at most, one at least, each in item order
--- with field `n` set. With errors = "collect" failed items leave holes and `list.errors[i]` tells.
--- Raises: parallel.Error of the failed item with the lowest index.
---@param fn function gets the item and nothing else; parallel.index() is the item's index
---@param items table|parallel.Buffer|function a list, parallel.range, a buffer, or a function that is pulled until it
--- gives nil
---@param opts parallel.options|nil with `into` the results go to a buffer: the element of an item that failed is left
--- as it was (but of those that a deadline ended, some may have come so far); items that have memory in common with
--- that buffer are read as they were when the call began
---@return table list
---@return table ...
function parallel.map(fn, items, opts) return verbs().map(nil, fn, items, opts) end

--- As map, but results are dropped in the worker.
---@return integer succeeded
---@return table<integer, parallel.Error>|nil errors with errors = "collect", if any
function parallel.each(fn, items, opts) return verbs().each(nil, fn, items, opts) end

--- The items for which pred(item) is true, in order, with field `n`.
---@return table list
function parallel.filter(pred, items, opts) return verbs().filter(nil, pred, items, opts) end

--- An iterator in item order: for i, value, ... in parallel.imap(f, items) do. Raises an item's error when its turn
--- comes. Leaving the loop early ends the work.
---@return fun(): integer, any
function parallel.imap(fn, items, opts) return verbs().imap(nil, fn, items, opts) end

--- As imap, in the order of completion; i is the item's index.
---@return fun(): integer, any
function parallel.imap_unordered(fn, items, opts) return verbs().imap_unordered(nil, fn, items, opts) end

--- As map with fn(unpack(args, 1, args.n or #args)) for each list of arguments. A function gives one such list each
--- time that it is pulled, until it gives nil. An item that is no list fails.
---@param fn function
---@param arglists table|function a list of lists, or a function that is pulled for them
---@param opts parallel.options|nil
---@return table list
---@return table ...
function parallel.starmap(fn, arglists, opts) return verbs().starmap(nil, fn, arglists, opts) end

--- Folds the items into one value: fn(fn(a, b), c) and so on, in their order. fn must be associative, since workers
--- fold neighbouring items at the same time; only what they made of them is sent. Sums of floating-point numbers are
--- not quite associative, so their last digits may differ from run to run. Of a source's values the first is the item.
--- An error of fn has no index.
---@param fn fun(a: any, b: any): any
---@param items table|function a list, parallel.range, or a function that is pulled until it gives nil
---@param opts parallel.options|nil `initial` joins once, on the left; errors = "collect" is refused
---@return any value nil without items and `initial`
function parallel.reduce(fn, items, opts) return verbs().reduce(nil, fn, items, opts) end

--- As reduce, over what mapfn(item) gives; nil stays out. Results of mapfn stay in their worker.
---@param mapfn function gets the item and nothing else
---@param fn fun(a: any, b: any): any
---@param items table|function
---@param opts parallel.options|nil
---@return any value nil without values and `initial`
function parallel.mapreduce(mapfn, fn, items, opts) return verbs().mapreduce(nil, mapfn, fn, items, opts) end

--- Starts fn(...) on a worker.
---@return parallel.Future
---@nodiscard
function parallel.submit(fn, ...) return pool().submit_warm(fn, ...) end

--- Waits until at least one of the futures is done, or `seconds` are over. They may belong to several pools.
---@param futures parallel.Future[]
---@param seconds number|nil how long; default: until one is done
---@return parallel.Future[] done
---@return parallel.Future[] rest
function parallel.wait(futures, seconds) return require("parallel.future").wait_for(futures, seconds) end

--- A pool of workers of its own. Every verb is a method of it.
--- Raises: wrong options; kind "init" when the workers cannot be started.
---@param opts table|nil workers, backend, init, memory_limit, max_tasks
---@return parallel.Pool
---@nodiscard
function parallel.pool(opts) return pool().new(opts) end

--- A pool of threads.
---@param workers integer|nil how many (default as for `workers`)
---@param opts table|nil init, memory_limit
---@return parallel.Pool
---@nodiscard
function parallel.ThreadPool(workers, opts) return pool().ThreadPool(workers, opts) end

--- A pool of processes.
---@param workers integer|nil how many (default as for `workers`)
---@param opts table|nil init, memory_limit
---@return parallel.Pool
---@nodiscard
function parallel.ProcessPool(workers, opts) return pool().ProcessPool(workers, opts) end

--- first, first + step, ... up to last: a list that takes no memory and is not sent; each worker counts for itself.
--- Raises: a bound that is not a finite number, a step of zero, more than 2^53 items.
---@param first number
---@param last number
---@param step number|nil default 1
---@return parallel.Range
---@nodiscard
function parallel.range(first, last, step) return require("parallel.source").range(first, last, step) end

--- A list of numbers of one type, in memory that all workers see: b[1] to b[#b]. It crosses without being copied, in
--- every direction, and so do parts of it (b:slice). An index out of bounds is an error, and so is a value that the
--- type cannot hold: another type, a number out of its range, a fraction in a type of integers. Elements of the types
--- int64 and uint64 are int64_t and uint64_t cdata on LuaJIT, integers with the same bits on Lua 5.4. Who reads an
--- element that somebody else is writing gets the old or the new value.
--- Raises: wrong arguments, an element of the list that the type cannot hold, not enough memory.
---@param ctype string double, float, int8, int16, int32, int64, uint8, uint16, uint32 or uint64
---@param contents integer|table how many elements, zeros at first; or a list of them
---@return parallel.Buffer
---@nodiscard
function parallel.buffer(ctype, contents) return require("parallel.buffer").new(ctype, contents) end

--- A queue of messages between all who have it, the caller and workers alike. A message is a value of any size that can
--- cross, but not nil: tables are copied, functions come with what they reach and read the globals of who receives
--- them, shared values stay shared (up to 64 in a message). `send` waits for room, `receive` for a message, for so many
--- seconds or for ever. Who waits in an item is ended along with it. When a channel is closed, what was sent can still
--- be received.
--- Raises: wrong arguments.
---@param capacity integer|nil messages that it holds at most, from 1 up (default 1024)
---@return parallel.Channel
---@nodiscard
function parallel.channel(capacity) return require("parallel.channel").new(capacity) end

--- An integer that all workers share.
--- Raises: when the value is no integer within 2^53 either way.
---@param value integer|nil default 0
---@return parallel.Counter
---@nodiscard
function parallel.counter(value) return require("parallel.counter").new(value) end

--- CPUs that this process may use: the least of affinity and cgroup quota, at least 1.
---@return integer
function parallel.cpu_count() return core.cpu_count() end

--- The index of the item that runs, from 1; nil outside a worker.
---@return integer|nil
function parallel.index() return core.index() end

--- The number of this worker, from 1; nil outside a worker.
---@return integer|nil
function parallel.worker() return core.worker() end

--- Shall the item that runs end early, since nobody waits for its result any more? For items that take long and can
--- stop of their own accord. False outside a worker.
---@return boolean
function parallel.cancelled() return core.cancelled() end

--- Sleeps.
---@param seconds number
function parallel.sleep(seconds)
  if type(seconds) ~= "number" or not (seconds >= 0) then
    require("parallel.options").bad_argument("sleep", 1, "number of seconds from 0 up", seconds, 1)
  end
  core.sleep(seconds)
end

--- Seconds since some fixed moment; never goes back.
---@return number
function parallel.clock() return core.clock() end

return parallel
