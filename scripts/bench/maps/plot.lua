-- SPDX-License-Identifier: MIT
--
-- The curves of the break-even sweep as SVG, drawn by gnuplot: what an item takes in a map, over what it takes in a
-- plain loop. Left of where a curve meets the line, a loop is faster.

local plot = {}

local HEAD = [[
set terminal svg size 800,600 font "sans,14" background "white"
set output '%s'
set logscale xy
set xlabel "an item in a plain loop, ns"
set ylabel "an item in the map, ns"
set key left top
set grid
plot x with lines dashtype 2 title "as fast as the loop"]]

local function loop_median(figure, vm)
  for _, side in ipairs(figure.sides) do
    if side.peer == "loop" and side.vm == vm then
      return side.median
    end
  end
end

--- Points of each of our sides, in their order.
local function curves_of(result)
  local curves, order = {}, {}
  for _, figure in ipairs(result.figures) do
    for _, side in ipairs(figure.curve and figure.sides or {}) do
      if side.kind then
        if not curves[side.name] then
          curves[side.name], order[#order + 1] = {}, side.name
        end
        table.insert(curves[side.name], ("%g %g"):format(loop_median(figure, side.vm), side.median))
      end
    end
  end
  return curves, order
end

local function script_of(path, result)
  local curves, order = curves_of(result)
  local lines, data = { HEAD:format(path) }, {}
  for i, name in ipairs(order) do
    lines[i + 1] = (", '-' with linespoints title \"%s\""):format(name)
    data[i] = table.concat(curves[name], "\n") .. "\ne\n"
  end
  return table.concat(lines) .. "\n" .. table.concat(data)
end

--- Raises: gnuplot did not draw.
---@param path string
---@param entries table[] workload, case, result; one of them is the sweep
function plot.write(path, entries)
  local result
  for _, entry in ipairs(entries) do
    result = entry.case.derive and entry.result or result
  end
  local gnuplot = assert(io.popen("gnuplot", "w"))
  gnuplot:write(script_of(path, result))
  gnuplot:close()
  local file = io.open(path, "r") or error("gnuplot did not write " .. path .. " (see above)", 0)
  file:close()
end

return plot
