-- SPDX-License-Identifier: MIT
--
-- The stock interpreter beside ours: the same arguments must give the same output, messages and exit status.
--
--     local result = stock.compare({ "-e", "print(1)" })
--     assert.equal("1\n", result.stdout)

local assert = require("luassert")

local interpreter = require("spec.support.interpreter")

local stock = {}

local function find_program(name)
  for folder in os.getenv("PATH"):gmatch("[^:]+") do
    local path = folder .. "/" .. name
    local file = io.open(path, "rb")
    if file then
      file:close()
      return path
    end
  end
  error("no " .. name .. " to compare with")
end

stock.is_luajit = interpreter.stock == "luajit"
--- Absolute path of the interpreter that ours takes the place of.
stock.program = find_program(interpreter.stock)

local function replace(text, old, new)
  local parts, position = {}, 1
  while true do
    local first, last = text:find(old, position, true)
    if not first then
      return table.concat(parts) .. text:sub(position)
    end
    parts[#parts + 1] = text:sub(position, first - 1) .. new
    position = last + 1
  end
end

--- Without what must differ: the program's path, addresses, and how deep C functions may nest.
local function normalised(result, program)
  local function text(bytes)
    local named = replace(bytes, program, "PROGRAM")
    return (named:gsub("0x%x+", "ADDRESS"):gsub("%(skipping %d+ levels%)", "(skipping levels)"))
  end
  return { stdout = text(result.stdout), stderr = text(result.stderr), code = result.code }
end

--- Runs both with the same arguments and asserts that nothing tells them apart.
---@param arguments table
---@param options table|nil as for interpreter.run
---@return table result ours, with PROGRAM in place of its path
function stock.compare(arguments, options)
  local given = {}
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  local ours = normalised(interpreter.run(arguments, given), interpreter.path)
  given.program = stock.program
  local theirs = normalised(interpreter.run(arguments, given), stock.program)
  assert.same(theirs, ours)
  return ours
end

return stock
