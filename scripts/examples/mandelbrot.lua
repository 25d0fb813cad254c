-- SPDX-License-Identifier: MIT
--
-- Draws the Mandelbrot set, one row an item, into a PGM file that any image viewer shows.
--
--     lumap mandelbrot.lua [WIDTH [HEIGHT [FILE.pgm]]]

local parallel = require("parallel")

local width = tonumber(arg[1]) or 900
local height = tonumber(arg[2]) or 600
local path = arg[3] or "mandelbrot.pgm"

local LIMIT = 255 -- steps before a point counts as one of the set
local LEFT, RIGHT = -2.25, 0.75
local scale = (RIGHT - LEFT) / width

--- Steps until z -> z * z + c leaves the circle around 0 with radius 2.
local function steps(cr, ci)
  local zr, zi = 0.0, 0.0
  for step = 1, LIMIT do
    local zr2, zi2 = zr * zr, zi * zi
    if zr2 + zi2 > 4 then
      return step
    end
    zr, zi = zr2 - zi2 + cr, 2 * zr * zi + ci
  end
  return 0 -- black
end

--- Row y of the picture as a string of bytes, one byte a pixel.
local function row(y)
  local bytes = {}
  local ci = (y - height / 2) * scale
  for x = 1, width do
    bytes[x] = string.char(steps(LEFT + x * scale, ci))
  end
  return table.concat(bytes)
end

-- A range is a list that takes no memory. Rows near the middle take far longer than those at the edges; they are
-- handed out as workers become free, so that all have work to the end.
local begin = parallel.clock()
local rows = parallel.map(row, parallel.range(1, height))
local seconds = parallel.clock() - begin

local file = assert(io.open(path, "wb"))
file:write(("P5\n%d %d\n255\n"):format(width, height), table.concat(rows))
file:close()

print(("%s: %d x %d pixels in %.3f seconds"):format(path, width, height, seconds))
