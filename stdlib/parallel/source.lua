-- SPDX-License-Identifier: MIT
--
-- source.lua - where items come from: a list, a range, a buffer, or a function that is pulled. All have
--     count               how many items, nil when only the end will tell
--     plan                fields that the worker's plan needs
--     put(job, first, n)  -> sent [, message]: begins a chunk of the items from `first` on and fills it. Fewer than n
--                         are sent at the end of a lazy source, or before an item that cannot be sent: `message`
--     lazy                items are pulled: put takes as fourth argument how many seconds it may spend on that before
--                         it sends what it has got; then `was_slow` is set
--     put_again(...)      the same for items that have been put before, after their worker died
--     release(first, n)   the results of these items have arrived

local core = require "lumap.core"
local compat = require "lumap.compat"
local options = require "parallel.options"

local is_integer, pack, to_integer, number_type = compat.is_integer, compat.pack, compat.to_integer, compat.number_type

-- So many items can be counted without a gap on both VMs.
local MOST_ITEMS = 2 ^ 53

local source = {}

local function keep() end

--- Sends list[from]... as items first... of the call.
function source.put_list(job, list, from, first, n, spread, label, bounded)
  job:begin(first, n)
  if not spread and job:numbers(list, from) then return n end
  return job:values(list, from, spread, label, bounded)
end

---@class parallel.Range
---@field first number
---@field last number
---@field step number
---@field n integer
local Range = { __name = "parallel.Range" }
Range.__index = Range
Range.__len = function(range) return range.n end

--- How many steps lead from first to last: -1 when that lies the other way.
local function count_steps(first, last, step)
  if (step > 0) ~= (first <= last) and first ~= last then return -1 end
  -- Between two integers there may be more than an integer holds.
  if number_type(first) == "integer" then return core.steps(first, compat.integer_bound(last, step), step) end
  return math.floor((last - first) / step)
end

--- parallel.range
function source.range(first, last, step)
  if step == nil then step = 1 end
  local bounds = { first, last, step }
  for i = 1, 3 do
    local value = bounds[i]
    if type(value) ~= "number" or value - value ~= 0 then
      options.bad_argument("range", i, "finite number", value, 1)
    end
  end
  if step == 0 then options.bad_argument("range", 3, "step other than 0", step, 1) end
  if number_type(first) ~= number_type(step) then
    -- As in a numeric for loop: integers only if all are.
    first, step = first + 0.0, step + 0.0
  end
  local steps = count_steps(first, last, step)
  local n = steps + 1
  -- The steps: to a greater number nothing is added by one.
  if steps >= MOST_ITEMS then
    error(("bad argument #2 to 'range' (a bound that at most 2^53 items reach expected, got %s: these would be %.3g;"
      .. " take a larger step, or a range for each part)"):format(tostring(last), n), 2)
  end
  return setmetatable({ first = first, last = last, step = step, n = to_integer(n) }, Range)
end

--- What workers are told, with room for what a call and its verb put there: constants, as call.lua tells.
local function new_plan(start, step, buffer)
  local plan = {
    start = 0, step = 0, buffer = 0, mode = 0, stop = 0, single = 0, retries = 0, seed = 0, merges = 0, into = 0,
  }
  plan.start, plan.step, plan.buffer, plan.into = start, step, buffer, nil
  return plan
end

--- A class of sources whose items can be read twice, and need not be kept: they are put again as they were put.
local function new_class(put, item)
  return { __index = { put = put, put_again = put, item = item, release = keep } }
end

--- For items that workers have, or make.
local function put_nothing(_, job, first, n)
  job:begin(first, n)
  return n
end

local RangeSource = new_class(put_nothing, function(self, index)
  return self.plan.start + (index - 1) * self.plan.step
end)

local function from_range(range)
  return setmetatable({ count = range.n, plan = new_plan(range.first, range.step) }, RangeSource)
end

local BufferSource = new_class(put_nothing, function(self, index) return self.buffer[index] end)

--- Workers have the buffer, by the plan.
local function from_buffer(buffer)
  return setmetatable({ count = #buffer, buffer = buffer, plan = new_plan(nil, nil, buffer) }, BufferSource)
end

local ListSource = new_class(function(self, job, first, n, _, bounded)
  -- Workers have the list; numbers are run faster where they lie packed.
  if self.plan.held then
    job:begin(first, n)
    if not self.spread then job:numbers(self.list, first) end
    return n
  end
  return source.put_list(job, self.list, first, first, n, self.spread, self.label, bounded)
end, function(self, index) return self.list[index] end)

--- `spread`: each item is a list of arguments. `label` names the items in refusals.
local function from_list(list, spread, label)
  local n = rawget(list, "n")
  return setmetatable({
    list = list,
    spread = spread,
    label = label,
    count = is_integer(n) and n >= 0 and to_integer(n) or #list,
    plan = new_plan(),
  }, ListSource)
end

--- A function or callable table, pulled until it gives nil. Its items are kept until their results are there.
--- `first_only`: of what it gives, the first value is the item.
local function from_function(pull, first_only)
  local lazy = { plan = new_plan(), pulled = 0, held = {}, lazy = true }
  local function give()
    if first_only then return { n = 1, (pull()) } end
    return pack(pull())
  end

  --- Pulls items first to last into `held`; `pulled` is the last one that there is.
  local function pull_until(self, first, last, give_up)
    for index = first, last do
      local values = give()
      if values[1] == nil then
        self.ended = true
        self.count = index - 1
        return
      end
      self.held[index], self.pulled = values, index
      if give_up and core.clock() > give_up then
        self.was_slow = true
        return
      end
    end
  end

  --- Sees to it that there are n items from `first` on, and returns how many there are; fewer means that the source has
  --- ended, has failed, or took longer than `patience`. Some may have been pulled before, behind an item that could not
  --- be sent. What was pulled before a failure counts: the error is raised when no item is left to be sent first.
  local function fill(self, first, n, patience)
    local last = first + n - 1
    if self.pulled < last and not self.ended and not self.failure then
      local ok, failure = pcall(pull_until, self, math.max(first, self.pulled + 1), last,
        patience and core.clock() + patience)
      if not ok then self.failure = { failure } end
    end
    if self.failure and self.pulled < first then error(self.failure[1], 0) end
    return math.min(n, self.pulled - first + 1)
  end

  local function is_spread(self, first, n)
    for index = first, first + n - 1 do
      if self.held[index].n > 1 then return true end
    end
    return false
  end

  function lazy:put_again(job, first, n)
    local spread = is_spread(self, first, n)
    local list = {}
    for k = 1, n do
      local values = self.held[first + k - 1]
      if spread then list[k] = values else list[k] = values[1] end
    end
    return source.put_list(job, list, 1, first, n, spread, "items")
  end

  function lazy:put(job, first, n, patience)
    local count = fill(self, first, n, patience)
    if count == 0 then return 0 end
    return self:put_again(job, first, count)
  end

  function lazy:item(index) return self.held[index][1] end

  function lazy:release(first, n)
    for index = first, first + n - 1 do self.held[index] = nil end
  end

  return lazy
end

--- One call with arguments, as submit makes it.
function source.arguments(...)
  return from_list({ n = 1, pack(...) }, true, "arguments")
end

--- Raises unless a list's field `n`, if it is an integer, can be the number of its items.
local function check_length(verb, list, number, level)
  local n = rawget(list, "n")
  if is_integer(n) and not (n >= 0 and n <= MOST_ITEMS) then
    error(("bad argument #%d to '%s' (field 'n' of the list: an integer from 0 to 2^53 expected, got %s)")
      :format(number, verb, tostring(n)), level + 2)
  end
end

--- What `items`, argument `number` of `verb`, stands for. `kind`: "spread" when each item is a list of arguments
--- (starmap), "first" when of a function's values the first is the item (reduce), else nil.
function source.of(verb, items, number, kind, level)
  local from
  if getmetatable(items) == Range then
    from = from_range(items)
  elseif core.is_buffer(items) and kind ~= "spread" then
    from = from_buffer(items)
  elseif options.is_callable(items) then
    from = from_function(items, kind ~= nil)
  elseif type(items) == "table" then
    check_length(verb, items, number, level + 1)
    return from_list(items, kind == "spread", "items")
  else
    options.bad_argument(verb, number, kind == "spread" and "list of lists of arguments, or function that gives them"
      or "list, range, buffer or function", items, level + 1)
  end
  -- Values that are sent one by one become arguments in the worker.
  if kind == "spread" then from.plan.unpacks = true end
  return from
end

return source
