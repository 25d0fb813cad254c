-- SPDX-License-Identifier: MIT
--
-- iterator.lua - imap and imap_unordered: results that are handed out one at a time. The iterator holds its call, and
-- nobody else does: dropped, it takes the call along, and the workers begin no new item of it.

local compat = require "lumap.compat"

local unpack = compat.unpack

local iterator = {}

--- Gives i, and the values of row k of a chunk's columns.
local function row(index, columns, k)
  local n = #columns
  if n == 1 then return index, columns[1][k] end
  local values = {}
  for c = 1, n do values[c] = columns[c][k] end
  return index, unpack(values, 1, n)
end

--- A failed item that is in no chunk of results: its worker died, or it could not be sent.
local function without_results(index) return { first = index, count = 1, columns = { {} } } end

--- In order: the chunk of the item whose turn it is, or the failed item itself.
local function ordered_chunks(call)
  local waiting = {} -- first index -> chunk
  local next_index = 1
  return function(receive)
    while true do
      local chunk = waiting[next_index]
      if chunk then
        waiting[next_index] = nil
        next_index = next_index + chunk.count
        return chunk
      end
      if call.errors[next_index] then
        next_index = next_index + 1
        return without_results(next_index - 1)
      end
      chunk = receive()
      if not chunk then return nil end
      if chunk.count > 0 then waiting[chunk.first] = chunk end
    end
  end
end

--- As they come. With "stop" a failure ends all at once.
local function unordered_chunks(call)
  local told = 0 -- how many of call.lost have been told of
  return function(receive)
    while true do
      if call.error and call.policy == "stop" then return nil end
      if call.lost[told + 1] then
        told = told + 1
        return without_results(call.lost[told])
      end
      local chunk = receive()
      if chunk == nil and not call.lost[told + 1] then return nil end
      if chunk and chunk.count > 0 then return chunk end
    end
  end
end

--- What a generic for takes: the iterator and, where the language has to-be-closed variables, what ends the call when
--- the loop is left.
local function with_closing(call, step)
  if not compat.has_close then return step end
  return step, nil, nil, setmetatable({}, { __close = function() call:close() end })
end

--- An iterator over the chunks that `advance` gives. A failed item is told of with errors = "collect", raised with
--- "stop" when its turn comes, and left out with "finish", which raises at the end.
local function over(call, advance)
  local chunk, k = nil, 0 -- the chunk that is being handed out, and its last row that was
  local ended = false
  local target = { alone = true }
  local function receive()
    local first, done = call:receive(target)
    return first and { first = first, count = done, columns = target.columns }
  end
  local function finish()
    ended = true
    call:finish()
  end

  return with_closing(call, function()
    while not ended do
      if not chunk or k >= chunk.count then
        chunk, k = advance(receive), 0
        if not chunk then return finish() end
      end
      k = k + 1
      call.taken = call.taken + 1
      local index = chunk.first + k - 1
      local failure = call.errors[index]
      if not failure then return row(index, chunk.columns, k) end
      if call.policy == "collect" then return index, nil, failure end
      if call.policy == "stop" then return finish() end
    end
  end)
end

--- imap
function iterator.ordered(call) return over(call, ordered_chunks(call)) end

--- imap_unordered
function iterator.unordered(call) return over(call, unordered_chunks(call)) end

return iterator
