-- SPDX-License-Identifier: MIT
--
-- The command line of a benchmark: options "--name" and "--name=value", and names of what to run, in any order.

local arguments = {}

local readers = {}

function readers.flag(value)
  return value == nil or nil
end

function readers.text(value)
  return value
end

function readers.number(value)
  local number = tonumber(value or "")
  return number and number > 0 and number < math.huge and number or nil
end

function readers.integer(value)
  local number = readers.number(value)
  return number and number % 1 == 0 and number or nil
end

function readers.list(value)
  local names = {}
  for name in (value or ""):gmatch("[^,]+") do
    names[#names + 1] = name
  end
  return names[1] and names
end

--- Raises: name is not one of those allowed; the text says what there is.
---@param allowed string[]
---@param name string
---@param what string what it is the name of
function arguments.one_of(allowed, name, what)
  for _, other in ipairs(allowed) do
    if other == name then
      return
    end
  end
  error(("there is no %s '%s': there are %s"):format(what, name, table.concat(allowed, ", ")), 0)
end

--- Raises: a text that names the argument.
---@param words string[]
---@param kinds table<string, string> option -> "flag", "text", "number" (above 0), "integer" (above 0), "list"
---@param allowed string[] what may be named
---@param what string|nil what that is called ("row")
---@return table options
---@return string[] names those given, else all
function arguments.parse(words, kinds, allowed, what)
  local options, names = {}, {}
  for _, word in ipairs(words) do
    local name = word:match("^%-%-?([%w-]*)")
    if name then
      local kind = kinds[name] or error(("there is no option '%s': see --help"):format(word), 0)
      local value = readers[kind](word:match("=(.*)$"))
      options[name] = value or error(("bad option '%s' (%s expected)"):format(word, kind), 0)
    else
      arguments.one_of(allowed, word, what or "row")
      names[#names + 1] = word
    end
  end
  return options, #names > 0 and names or allowed
end

return arguments
