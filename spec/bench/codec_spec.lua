-- SPDX-License-Identifier: MIT
--
-- scripts/bench/codec runs, compares with whom it should, and checks. How fast anything is, is not asked here.

local benchmarks = require("spec.support.benchmarks")
local cjson = require("cjson")
local interpreter = require("spec.support.interpreter")

-- It runs the release build, whatever build is under test.
if interpreter.sanitized then
  return
end

local names_of = benchmarks.names_of
local vm = interpreter.name == "lumap54" and "5.4" or "luajit"
-- A thousandth of the data, once.
local run = benchmarks.runner("codec", { "--vm=" .. vm, "--scale=0.001", "--rounds=1" })

local function document(...)
  return cjson.decode(benchmarks.output(run, "--json", ...))
end

local ALL = { "lumap", "string.buffer", "string.buffer+dict", "lua-cjson", "lua-MessagePack", "pickle" }

--- ALL without some names, and without what LuaJIT alone has.
local function all_but(...)
  local left = {}
  for _, name in ipairs(ALL) do
    local wanted = vm == "luajit" or not name:find("^string%.buffer")
    for _, other in ipairs({ ... }) do
      wanted = wanted and name ~= other
    end
    left[#left + 1] = wanted and name or nil
  end
  return left
end

local SIDES = {
  integers = all_but("string.buffer+dict"),
  doubles = all_but("string.buffer+dict", "lua-cjson"),
  records = all_but(),
  ["records-chunks"] = all_but(),
  ["records-again"] = all_but(),
  strings = all_but("string.buffer+dict"),
  ["long-string"] = all_but("string.buffer+dict"),
  tree = all_but("string.buffer+dict"),
  deep = all_but("string.buffer+dict"),
  graph = { "lumap", "pickle" },
}

describe("scripts/bench/codec", function()
  -- Builds what is not up to date, which it may say.
  setup(function()
    run("--peers=lua-cjson", "deep")
  end)

  it("measures each row beside each peer that can take part", function()
    local rows = {}
    for _, row in ipairs(document().rows) do
      rows[row.row] = names_of(row.sides)
      assert.equal(#ALL, #row.sides + #(row.absent or {}))
      for i, side in ipairs(row.sides) do
        assert.is_true(side.bytes > 0 and side.encode_ns > 0 and side.decode_ns > 0)
        assert.equal(i > 1, side.ratio ~= nil)
        assert.equal(side.target ~= nil, side.met ~= nil)
      end
    end
    assert.same(SIDES, rows)
  end)

  it("measures the rows and peers that are named, in their order", function()
    local rows = document("--peers=pickle,lua-cjson", "tree", "strings").rows
    assert.equal(2, #rows)
    assert.same({ "tree", "strings" }, { rows[1].row, rows[2].row })
    assert.same({ "lumap", "pickle", "lua-cjson" }, names_of(rows[1].sides))
    assert.same({ 65, 100 }, { rows[1].elements, rows[2].elements })
    assert.equal(0.5, document("--peers=pickle", "graph").rows[1].sides[2].target)
  end)

  it("prints text, and a table in Markdown", function()
    local text = benchmarks.output(run, "--peers=lua-cjson", "deep")
    assert.is_truthy(text:find("\nlumap +501 "), text)
    local markdown = benchmarks.output(run, "--markdown", "--peers=lua-cjson", "deep", "doubles")
    local lines = {}
    for line in markdown:gmatch("|[^\n]*|") do
      lines[#lines + 1] = select(2, line:gsub("|", ""))
    end
    assert.same({ 13, 13, 13, 13, 13 }, lines)
  end)

  it("names what it does not know", function()
    local function refusal(...)
      return benchmarks.refusal(run, ...)
    end
    assert.is_truthy(refusal("trees"):find("codec: there is no row 'trees': there are integers, ", 1, true))
    assert.is_truthy(refusal("--peers=perl"):find("codec: there is no peer 'perl': there are string.buffer, ", 1, true))
    assert.equal("codec: there is no option '--fast': see --help\n", refusal("--fast"))
    assert.equal("codec: bad option '--rounds=0.5' (integer expected)\n", refusal("--rounds=0.5"))
    assert.equal("codec: there is no VM '5.3': --vm takes luajit or 5.4\n", refusal("--vm=5.3"))
  end)
end)
