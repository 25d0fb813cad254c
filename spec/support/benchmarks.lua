-- SPDX-License-Identifier: MIT
--
-- Runs a benchmark of scripts/bench, which measures the release build whatever build is under test.

local assert = require("luassert")
local interpreter = require("spec.support.interpreter")

local benchmarks = {}

--- A function that runs the command with its arguments behind those given here, and gives what interpreter.run does.
---@param name string of the command in scripts/bench
---@param first string[]
function benchmarks.runner(name, first)
  return function(...)
    local arguments = { ... }
    for i, argument in ipairs(first) do
      table.insert(arguments, i, argument)
    end
    return interpreter.run(arguments, { program = interpreter.root .. "/scripts/bench/" .. name, seconds = 300 })
  end
end

--- What it prints; it must succeed and have no complaint.
function benchmarks.output(run, ...)
  local result = run(...)
  assert.equal("", result.stderr)
  assert.equal(0, result.code)
  return result.stdout
end

--- What it complains about; it must fail.
function benchmarks.refusal(run, ...)
  local result = run(...)
  assert.equal("", result.stdout)
  assert.equal(1, result.code)
  return result.stderr
end

--- Names of what is in a list; none without a list.
function benchmarks.names_of(list)
  local names = {}
  for i, item in ipairs(list or {}) do
    names[i] = item.name
  end
  return names
end

return benchmarks
