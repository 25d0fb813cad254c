-- SPDX-License-Identifier: MIT
--
-- loops.lua - running a function over packed numbers in compiled Lua over FFI memory. The module is a function that
-- takes the address of the control block, and the addresses of a C function and its argument; it returns { begin,
-- numbers, into, start_stream }. It is false where there is no ffi library: then the C functions of vm/worker, with the
-- same meaning, are used.
--
-- A loop's machine code is specialised to the function that it calls. So each call of parallel.map gets a fresh copy
-- of the loop (from bytecode, about a microsecond): otherwise the traces for many functions would pile up in one loop.

local compat = require "lumap.compat"

local ffi = compat.ffi()
if not ffi then return false end

local core = require "lumap.core"
local pack = compat.pack
local doubles = ffi.typeof("double *")
-- As integers of one type, through two pointers: the compiler then has to assume that writing the index may change the
-- stop request, and reads it again for each item.
local words = ffi.typeof("int64_t *")
local starter = ffi.typeof("void (*)(void *)")
local STOP_ALL = 0xFFFFFFFF

--- The one number that a function gave, or nil and everything that it gave.
local function only_number(...)
  if select("#", ...) == 1 then
    local value = ...
    if type(value) == "number" then return value end
  end
  return nil, pack(...)
end

-- The index is written before the request to stop is looked at: see lumap_control_begin_item in vm/backend/task.h.
-- Items are read from `items` or counted, results of the same items are written to `memory`, which may be the same.
-- Both are where the item of index 0 would be, so that the one variable of the loop, which the compiler keeps as an
-- integer, serves for all: converted from a sum of numbers, each index would cost as much as the rest.

local function over_memory(fn, items, memory, index, stop, is_stopped, only, call, first, last)
  for i = first, last do
    index[0] = i
    if stop[0] ~= 0 and is_stopped(call, i) then return i - 1 end
    local item = items[i]
    -- The VM takes some NaNs for values of other types, and a buffer may hold any.
    if item ~= item then item = 0 / 0 end
    local value, others = only(fn(item))
    if others ~= nil then return i - 1, others end
    memory[i] = value
  end
  return last
end

local function over_range(fn, _, memory, index, stop, is_stopped, only, call, first, last, start, step)
  for i = first, last do
    index[0] = i
    if stop[0] ~= 0 and is_stopped(call, i) then return i - 1 end
    local value, others = only(fn(start + (i - 1) * step))
    if others ~= nil then return i - 1, others end
    memory[i] = value
  end
  return last
end

-- The same for results that go to a buffer; `store` takes what is no plain number in the range of its type, or raises.

local function memory_into(fn, items, memory, index, stop, is_stopped, is_plain, store, call, first, last)
  for i = first, last do
    index[0] = i
    if stop[0] ~= 0 and is_stopped(call, i) then return i - 1 end
    local item = items[i]
    if item ~= item then item = 0 / 0 end
    local value = fn(item)
    if is_plain(value) then memory[i] = value else store(i, value) end
  end
  return last
end

local function range_into(fn, _, memory, index, stop, is_stopped, is_plain, store, call, first, last, start, step)
  for i = first, last do
    index[0] = i
    if stop[0] ~= 0 and is_stopped(call, i) then return i - 1 end
    local value = fn(start + (i - 1) * step)
    if is_plain(value) then memory[i] = value else store(i, value) end
  end
  return last
end

-- Stripped or not makes no difference to speed; with its lines a traceback can be cut where our code begins.
local codes = {
  memory = string.dump(over_memory),
  range = string.dump(over_range),
  memory_into = string.dump(memory_into),
  range_into = string.dump(range_into),
}

--- The copy of a loop that belongs to a call.
local function copy_of(loops, name)
  local loop = loops[name]
  if not loop then
    loop = assert(loadstring(codes[name])) -- luacheck: ignore
    loops[name] = loop
  end
  return loop
end

local function never() return false end

return function(control, address, argument)
  -- index, stop_call, stop_from, ... as lumap_control in vm/backend/task.h.
  local index = ffi.cast(words, control)
  local stop = ffi.cast(words, control) + 1

  --- A request is there: does it concern this item?
  local function is_stopped(call, item)
    return stop[0] == STOP_ALL or stop[0] == call and item >= stop[1]
  end

  local function begin(_, call, item)
    index[0] = item
    return stop[0] ~= 0 and is_stopped(call, item)
  end

  --- Where the item of index 0 of what begins with item `first` would be: a payload's numbers, or a buffer's elements.
  local function place_of(items, kind, first)
    if kind == "buffer" then return items.ptr - 1 end
    return ffi.cast(doubles, items or nil) - first
  end

  --- As vm/worker/loops.c tells. `loops` keeps the copies of this call.
  local function numbers(fn, items, memory, kind, _, call, first, count, start, step, state)
    local loop = copy_of(state.loops, kind == "range" and "range" or "memory")
    state.kind = "f64"
    local reached, others = loop(fn, place_of(items, kind, first), ffi.cast(doubles, memory) - first, index, stop,
      is_stopped, only_number, call, first, first + count - 1, start, step)
    local done = reached - first + 1
    if others then return done, true, unpack(others, 1, others.n) end -- luacheck: ignore
    return done
  end

  local function into(fn, items, kind, _, call, first, at, last, start, step, buffer, loops)
    local loop = copy_of(loops, kind == "range" and "range_into" or "memory_into")
    local from, to = place_of(items, kind, first), buffer.ptr - 1
    local function store(item, value) core.store_result(buffer, item, value) end
    local function run(is_plain, after, until_item)
      return loop(fn, from, to, index, stop, is_stopped, is_plain, store, call, first + after - 1,
        first + until_item - 1, start, step) - first + 1
    end
    -- A source that is pulled may have more items than the buffer has elements: those have no place there.
    local room = math.min(last, math.max(#buffer - first + 1, 0))
    if at <= room then
      local reached = run(require("parallel.buffer").is_plain[core.is_buffer(buffer)], at, room)
      if reached < room or room == last then return reached end
      at = room + 1
    end
    return run(never, at, last)
  end

  local start = ffi.cast(starter, address)
  argument = ffi.cast("void *", argument)

  --- A call of a C function that knows no Lua, as the compiler likes it.
  local function start_stream() start(argument) end

  return { begin = begin, numbers = numbers, into = into, start_stream = start_stream }
end
