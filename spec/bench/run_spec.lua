-- SPDX-License-Identifier: MIT
--
-- scripts/bench/run runs, compares with whom it should, and checks. How fast anything is, is not asked here.

local benchmarks = require("spec.support.benchmarks")
local cjson = require("cjson")
local interpreter = require("spec.support.interpreter")

-- It runs the release build, whatever build is under test.
if interpreter.sanitized then
  return
end

local names_of = benchmarks.names_of
local run = benchmarks.runner("run", { "--vm=" .. interpreter.name, "--quick" })

local function output(...)
  return benchmarks.output(run, ...)
end

local threads, processes, loop =
  interpreter.name .. " threads", interpreter.name .. " processes", interpreter.name .. " loop"

--- Sides of each case, with --peers=loop,stock,c.
local BOTH = { threads, processes }
local ALL = { threads, processes, loop, "c" }
local NO_C = { threads, processes, loop }
local NO_LOOP = { threads, processes, "c" }
local SIDES = {
  ["squares list"] = ALL,
  ["squares range"] = ALL,
  ["squares buffer"] = ALL,
  ["squares again"] = ALL,
  ["squares single"] = ALL,
  ["mandelbrot rows"] = ALL,
  ["bodies ensembles"] = NO_C,
  ["words headers"] = NO_C,
  ["payloads strings"] = NO_LOOP,
  ["payloads lists"] = NO_LOOP,
  ["payloads sums"] = ALL,
  ["payloads records"] = BOTH,
  ["start pool"] = NO_LOOP,
  ["start program"] = { interpreter.name, interpreter.stock },
  ["sleepers hundred"] = { threads, "c" },
  ["sleepers thousand"] = { threads, "c" },
  ["sum array"] = ALL,
  ["calls small"] = ALL,
  ["uneven scattered"] = ALL,
  ["uneven dear-last"] = ALL,
  ["uneven slow-first"] = ALL,
  ["uneven guided"] = NO_C,
  ["break-even sweep"] = NO_C,
}

local function check_side(side, peers)
  assert.is_true(side.rounds == 1 and side.median == side.median)
  assert.are_not.equal(side.kind ~= nil, side.peer ~= nil)
  for _, ratio in ipairs(side.ratios or {}) do
    assert.is_true(ratio.ratio > 0 and peers[ratio.peer])
  end
end

describe("scripts/bench/run", function()
  local maps = {}
  local path = package.path

  -- Builds what is not up to date, which it may say.
  setup(function()
    run("--peers=none", "mandelbrot")
    package.path = "scripts/bench/?.lua;" .. path
    for _, name in ipairs({ "catalogue", "document", "report", "sides" }) do
      maps[name] = require("maps." .. name)
    end
  end)

  teardown(function()
    package.path = path
  end)

  it("measures all workloads beside a plain loop and what the machine can do", function()
    local document = cjson.decode(output("--json", "--peers=loop,stock,c"))
    assert.equal(1, document.rounds)
    assert.is_truthy(document.place.processor and document.place.commit and document.place.date)
    local found, peers = {}, { loop = true, stock = true, c = true }
    for _, case in ipairs(document.cases) do
      local name = case.workload .. " " .. case.case
      found[name] = SIDES[name]
      local first = case.figures[1]
      assert.same(SIDES[name], names_of(first.key == "seconds" and first.sides or case.versions), name)
      for _, figure in ipairs(case.figures) do
        for _, side in ipairs(figure.sides) do
          check_side(side, peers)
        end
      end
    end
    assert.same(SIDES, found)
  end)

  it("measures a map beside each peer that is there, and names the others", function()
    local case = cjson.decode(output("--json", "mandelbrot")).cases[1]
    local found = names_of(case.versions)
    for _, absent in ipairs(case.absent or {}) do
      assert.equal("not installed: scripts/bench/run --install", absent.reason)
      found[#found + 1] = absent.name
    end
    table.sort(found)
    local expected = { threads, processes, loop, "luv", "python-threads", "python-pool", "python-futures", "mce" }
    expected[#expected + 1], expected[#expected + 2] = "piscina", "c"
    table.sort(expected)
    assert.same(expected, found)
  end)

  it("prints text, and a table in Markdown", function()
    local text = output("--peers=loop", "bodies")
    local title = "\nW2 bodies ensembles: 2 ensembles of 5 bodies, 1,000 steps; 2 workers\n"
    assert.is_truthy(text:find(title, 1, true), text)
    assert.is_truthy(text:find("\n" .. threads .. " +[%d.]+ +0 %%\n"), text)
    assert.is_truthy(text:find("\n" .. loop .. " +[%d.]+ +0 %% +[%d.]+ +[%d.]+\n"), text)
    local markdown = output("--markdown", "--peers=loop", "bodies", "sleepers")
    local bars = {}
    for line in markdown:gmatch("|[^\n]*|") do
      bars[#bars + 1] = select(2, line:gsub("|", ""))
    end
    assert.same({ 16, 16, 16, 16, 16, 16, 16, 16 }, bars)
    local head = "\n| W5 4 items that sleep 50 ms, a worker for two | " .. threads .. " | 2 | KB a worker | "
    assert.is_truthy(markdown:find(head, 1, true), markdown)
  end)

  it("puts the table between the markers of a document", function()
    local folder = interpreter.make_folder()
    local copy = folder .. "/copy.md"
    local before = "Text.\n<!-- scripts/bench/run --update: begin -->\n"
    local after = "<!-- scripts/bench/run --update: end -->\nMore.\n"
    interpreter.write_file(copy, before .. "old\n" .. after)
    output("--update=" .. copy, "--peers=none", "bodies")
    local text = interpreter.read_file(copy)
    interpreter.remove_folder(folder)
    assert.equal(before, text:sub(1, #before))
    assert.equal(after, text:sub(-#after))
    assert.is_truthy(text:find("\n| workload | side | workers | unit | median | spread | loop | ", 1, true), text)
    assert.is_nil(text:find("old", 1, true))
  end)

  it("is what the table in README.md came from", function()
    local lines = {}
    for line in maps.document.read("README.md"):gmatch("|[^\n]+|") do
      lines[#lines + 1] = line
    end
    local titles = {}
    for i, column in ipairs(maps.report.markdown_columns()) do
      titles[i] = column.title
    end
    assert.equal("| " .. table.concat(titles, " | ") .. " |", lines[1])
    local settings, at = { vms = maps.sides.vms, workers = 2 }, 2
    for _, name in ipairs(maps.catalogue.names) do
      local workload = maps.catalogue.workload(name)
      for _, case in ipairs(workload.cases) do
        for _, head in ipairs(maps.report.heads(workload, case, case.size, settings)) do
          at = at + 1
          local expected = "| " .. table.concat(head, " | ", 1, 4) .. " | "
          assert.equal(expected, (lines[at] or ""):sub(1, #expected))
        end
      end
    end
    assert.equal(at, #lines)
  end)

  it("has peers that do what is done several times in a row as often", function()
    local function times_in(name)
      return interpreter.read_file("scripts/bench/maps/" .. name):match("AGAIN = (%d+)")
    end
    local times = assert(times_in("workloads/squares.lua"))
    assert.equal(times, times_in("peers/limits.c"))
    assert.equal(times, times_in("peers/piscina.mjs"))
  end)

  it("draws the curves of the sweep", function()
    if os.execute("command -v gnuplot >/dev/null") ~= 0 and os.execute("command -v gnuplot >/dev/null") ~= true then
      return pending("gnuplot is not installed")
    end
    local folder = interpreter.make_folder()
    output("--plot=" .. folder .. "/curves.svg", "break-even")
    local svg = interpreter.read_file(folder .. "/curves.svg")
    interpreter.remove_folder(folder)
    assert.is_truthy(svg:find("<svg", 1, true) and svg:find(threads, 1, true))
  end)

  it("finds the cost from which on a map is as fast as a loop", function()
    local case = maps.catalogue.case("break-even", "sweep")
    local function cross(map_of)
      local map, plain, cost = {}, {}, 0
      for _, figure in ipairs(case.figures(1)) do
        if figure.curve then
          cost = cost + 1
          plain[figure.key], map[figure.key] = { cost - 1, cost, cost + 7 }, { map_of(cost) }
        end
      end
      case.derive(map, plain)
      return map.cross[1]
    end
    assert.equal(5.5, cross(function(cost)
      return cost < 6 and cost + 1 or cost - 1
    end))
    assert.equal(5.5, cross(function(cost)
      return (cost == 3 or cost > 5) and cost - 1 or cost + 1
    end))
    assert.equal(1, cross(function(cost)
      return cost
    end))
    assert.is_nil(cross(function(cost)
      return cost + 1
    end))
  end)

  it("names what it does not know", function()
    local function refusal(...)
      return benchmarks.refusal(run, ...)
    end
    local names = table.concat(maps.catalogue.names, ", ")
    assert.equal("run: there is no workload 'cubes': there are " .. names .. "\n", refusal("cubes"))
    assert.is_truthy(refusal("--peers=ray"):find("run: there is no peer 'ray': there are loop, stock, luv, ", 1, true))
    assert.equal("run: there is no option '--fast': see --help\n", refusal("--fast"))
    assert.equal("run: bad option '--rounds=0.5' (integer expected)\n", refusal("--rounds=0.5"))
    assert.is_truthy(refusal("--update=LICENSE"):find("LICENSE has no lines '<!-- ", 1, true))
    assert.is_truthy(refusal("--plot=a.svg", "squares"):find("--plot draws the workload break-even", 1, true))
    assert.is_truthy(refusal("--json", "--markdown"):find("give one of them", 1, true))
    assert.is_truthy(refusal("--vm=lua"):find("there is no VM 'lua': --vm takes lumap, lumap54 or both", 1, true))
  end)
end)
