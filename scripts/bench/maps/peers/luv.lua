-- SPDX-License-Identifier: MIT
--
-- The side of libuv's threads in stock LuaJIT, by hand: chunks of items are encoded with string.buffer, worked on in
-- libuv's thread pool, and come back encoded. There are four chunks a worker.
--
--     UV_THREADPOOL_SIZE=WORKERS luajit luv.lua WORKLOAD CASE SIZE WORKERS
--
-- Answers "about" and "turn" as side.lua does. The threads find the mapped functions in the files of the workloads.

local here = arg[0]:match("^(.*)peers/luv%.lua$")
package.path = here .. "../?.lua;" .. package.path

local buffer = require("string.buffer")
local catalogue = require("maps.catalogue")
local uv = require("luv")

local workload, name, size, workers = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local case = catalogue.case(workload, name)
local CHUNKS = 4
local vm = require("jit").version

--- Runs in a thread, which keeps its state: loads what it maps once.
local function work_on(path, of, which, first, chunk, alone)
  local fn = rawget(_G, "fn")
  if not fn then
    package.path = path .. "../?.lua;" .. package.path
    fn = require("maps.catalogue").case(of, which).fn
    rawset(_G, "fn", fn)
  end
  if alone then
    return first, fn(chunk)
  end
  local coder = require("string.buffer")
  local items = coder.decode(chunk)
  for i = 1, #items do
    items[i] = fn(items[i])
  end
  return first, coder.encode(items)
end

local results

local alone = uv.new_work(work_on, function(index, result)
  results[index] = result
end)

local chunked = uv.new_work(work_on, function(first, encoded)
  local list = buffer.decode(encoded)
  for i = 1, #list do
    results[first + i - 1] = list[i]
  end
end)

local function slice(items, first, last)
  local chunk = {}
  for i = first, last do
    chunk[i - first + 1] = items[i]
  end
  return chunk
end

local function map_chunks(items, length)
  results = {}
  for first = 1, #items, length do
    local chunk = buffer.encode(slice(items, first, math.min(first + length - 1, #items)))
    chunked:queue(here, workload, name, first, chunk, false)
  end
  uv.run()
  return results
end

--- Strings and numbers need no coding to be sent alone.
local function map_alone(items)
  results = {}
  for i = 1, #items do
    alone:queue(here, workload, name, i, items[i], true)
  end
  uv.run()
  return results
end

local function map(items)
  return map_chunks(items, math.max(1, math.ceil(#items / workers / CHUNKS)))
end

-- ---- threads that are not libuv's pool -----------------------------------------------------------------------------

--- Runs in a thread of its own, on all that it gets.
local function thread_on(path, of, which, chunk, first, async)
  package.path = path .. "../?.lua;" .. package.path
  local coder = require("string.buffer")
  local fn = of ~= "sleepers" and require("maps.catalogue").case(of, which).fn
    or function(i)
      require("luv").sleep(50)
      return i
    end
  local items = coder.decode(chunk)
  for i = 1, #items do
    items[i] = fn(items[i])
  end
  async:send(first, coder.encode(items))
end

--- As many threads as workers, each with its part; they are gone when this returns.
local function map_with_threads(items, count)
  local list, threads = {}, {}
  local length = math.ceil(#items / count)
  for k = 1, count do
    local first = (k - 1) * length + 1
    local async
    async = uv.new_async(function(from, encoded)
      local part = buffer.decode(encoded)
      for i = 1, #part do
        list[from + i - 1] = part[i]
      end
      async:close()
    end)
    local chunk = buffer.encode(slice(items, first, math.min(first + length - 1, #items)))
    threads[k] = uv.new_thread(thread_on, here, workload, name, chunk, first, async)
  end
  uv.run()
  for _, thread in ipairs(threads) do
    thread:join()
  end
  return list
end

-- ---- cases ---------------------------------------------------------------------------------------------------------

local function repeated(run, times)
  return function(items)
    local list
    for _ = 1, times do
      list = run(items)
    end
    return list
  end
end

--- The double array of 100 MB by its address, which a number holds.
local function sum_at(address, first, last)
  local ffi = require("ffi")
  local memory, sum = ffi.cast("double *", ffi.cast("uintptr_t", address)), 0
  for i = first, last do
    sum = sum + memory[i]
  end
  return sum
end

local sum = uv.new_work(sum_at, function(part)
  results = results + part
end)

local function sum_array(memory)
  local ffi = require("ffi")
  local address = tonumber(ffi.cast("uintptr_t", memory))
  results = 0
  for i = 1, workers do
    sum:queue(address, math.floor((i - 1) * size / workers), math.floor(i * size / workers) - 1)
  end
  uv.run()
  return results
end

local function array()
  local memory = require("ffi").new("double[?]", size)
  for i = 1, size do
    memory[i - 1] = i % 1000
  end
  return memory
end

local special = {
  ["squares.single"] = map_alone,
  ["words.headers"] = function(items)
    return case.reduce(map_chunks(items, 8))
  end,
  ["payloads.strings"] = map_alone,
  ["start.pool"] = repeated(function(items)
    return map_with_threads(items, workers)
  end, size),
  ["sleepers.hundred"] = function(items)
    return map_with_threads(items, case.workers(size))
  end,
  ["calls.small"] = repeated(map, size),
  ["sum.array"] = sum_array,
}
special["sleepers.thousand"] = special["sleepers.hundred"]

local function collect()
  collectgarbage()
  collectgarbage()
end

local run = special[workload .. "." .. name] or map
local items = workload == "sum" and array() or case.items(size)
for request in io.lines() do
  if request == "turn" then
    collect()
    local start = uv.hrtime()
    local list = run(items)
    local seconds = (uv.hrtime() - start) / 1e9
    io.write(("seconds=%.17g check=%.17g\n"):format(seconds, case.check(list, size)))
  else
    io.write(("pid=%d version=luv, libuv %s, %s\n"):format(uv.os_getpid(), uv.version_string(), vm))
  end
  io.flush()
end
