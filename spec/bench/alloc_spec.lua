-- SPDX-License-Identifier: MIT
--
-- scripts/bench/alloc runs and checks. How fast anything is, is not asked here.

local cjson = require("cjson")
local interpreter = require("spec.support.interpreter")

-- It runs the release build, whatever build is under test.
if interpreter.sanitized then
  return
end

local program = interpreter.root .. "/scripts/bench/alloc"
local vm = interpreter.name == "lumap54" and "5.4" or "luajit"

local function run(...)
  return interpreter.run({ "--vm=" .. vm, "--rounds=1", ... }, { program = program, seconds = 300 })
end

describe("scripts/bench/alloc", function()
  it("measures all programs beside the stock interpreter, and what they come to", function()
    local result = run("--scale=0.05", "--json")
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
    local report = cjson.decode(result.stdout).vms[1]
    assert.equal(vm, report.vm)
    local sum = 0
    for i, name in ipairs({ "small-tables", "records", "strings", "growing-array", "trees" }) do
      local measured = report.programs[i]
      assert.equal(name, measured.program)
      assert.is_true(measured.ours_ms > 0 and measured.stock_ms > 0 and measured.ratio > 0)
      sum = sum + measured.ratio
    end
    assert.is_true(math.abs(report.mean - sum / 5) < 1e-9)
  end)

  it("prints a table with the targets, for a terminal and as Markdown", function()
    assert.truthy(run("trees", "--scale=0.2").stdout:find("trees +[%d.]+ +[%d.]+ +[%d.]+"))
    assert.truthy(run("trees", "--scale=0.2", "--markdown").stdout:find("\n| trees | [%d.]+ | [%d.]+ | [%d.]+ |"))
  end)

  it("refuses a program that there is not", function()
    local result = run("forests")
    assert.equal(1, result.code)
    assert.truthy(result.stderr:find("there is no row 'forests'", 1, true), result.stderr)
  end)
end)
