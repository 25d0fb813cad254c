-- SPDX-License-Identifier: MIT
--
-- loops.lua - running a function over packed numbers in compiled Lua over FFI memory. The module is a function that
-- takes the address of the control block, and the addresses of a C function and its argument; it returns { begin,
-- numbers, start_stream }. It is false where there is no ffi library: then the C functions of vm/worker, with the same
-- meaning, are used.
--
-- A loop's machine code is specialised to the function that it calls. So each call of parallel.map gets a fresh copy
-- of the loop (from bytecode, about a microsecond): otherwise the traces for many functions would pile up in one loop.

local found, ffi = pcall(require, "ffi")
if not found then return false end

local pack = require("lumap.compat").pack
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

local function over_memory(fn, memory, index, stop, is_stopped, only, call, first, count)
  for k = 0, count - 1 do
    if stop[0] ~= 0 and is_stopped(call, first + k) then return k end
    index[0] = first + k
    local value, others = only(fn(memory[k]))
    if others then return k, others end
    memory[k] = value
  end
  return count
end

local function over_range(fn, memory, index, stop, is_stopped, only, call, first, count, start, step)
  for k = 0, count - 1 do
    if stop[0] ~= 0 and is_stopped(call, first + k) then return k end
    index[0] = first + k
    local value, others = only(fn(start + (first + k - 1) * step))
    if others then return k, others end
    memory[k] = value
  end
  return count
end

-- Stripped or not makes no difference to speed; with its lines a traceback can be cut where our code begins.
local memory_code, range_code = string.dump(over_memory), string.dump(over_range)

return function(control, address, argument)
  -- index, stop_call, stop_from, ... as lumap_control in vm/backend/task.h.
  local index = ffi.cast(words, control)
  local stop = ffi.cast(words, control) + 1

  --- A request is there: does it concern this item?
  local function is_stopped(call, item)
    return stop[0] == STOP_ALL or stop[0] == call and item >= stop[1]
  end

  local function begin(_, call, item)
    if stop[0] ~= 0 and is_stopped(call, item) then return true end
    index[0] = item
    return false
  end

  --- As vm/worker/loops.c tells. `loops` keeps the copies of this call.
  local function numbers(fn, memory, kind, _, call, first, count, start, step, state)
    local loops = state.loops
    local loop = loops[kind]
    if not loop then
      loop = assert(loadstring(kind == "range" and range_code or memory_code)) -- luacheck: ignore
      loops[kind] = loop
    end
    state.kind = "f64"
    local done, others = loop(fn, ffi.cast(doubles, memory), index, stop, is_stopped, only_number, call, first, count,
      start, step)
    if others then return done, true, unpack(others, 1, others.n) end -- luacheck: ignore
    return done
  end

  local start = ffi.cast(starter, address)
  argument = ffi.cast("void *", argument)

  --- A call of a C function that knows no Lua, as the compiler likes it.
  local function start_stream() start(argument) end

  return { begin = begin, numbers = numbers, start_stream = start_stream }
end
