-- SPDX-License-Identifier: MIT
--
-- How much of a second CPU do heavy items of uneven cost get: the rows of a Mandelbrot picture, of which those in the
-- middle cost most? An item is the imaginary part of a row's points, a result how many steps its 600 points took.

local lists = require("maps.lists")

local WIDTH, MOST = 600, 255

local function row(imaginary)
  local total = 0
  for x = 0, WIDTH - 1 do
    local real = x * (3 / WIDTH) - 2.25
    local zr, zi, steps = 0, 0, 0
    while steps < MOST and zr * zr + zi * zi <= 4 do
      zr, zi = zr * zr - zi * zi + real, 2 * zr * zi + imaginary
      steps = steps + 1
    end
    total = total + steps
  end
  return total
end

return {
  label = "W2",
  cases = {
    {
      name = "rows",
      payload = "Mandelbrot, %s rows of 600 points",
      size = 300,
      quick = 4,
      figures = lists.milliseconds,
      fn = row,
      items = function(rows)
        local items = {}
        for y = 1, rows do
          items[y] = (y - 1) * (2.4 / rows) - 1.2
        end
        return items
      end,
      loop = lists.loop_of(row),
      map = lists.map_of(row),
      check = lists.by_seven,
      targets = {
        { vm = "lumap", kind = "thread", peer = "loop", most = 0.526 },
        { vm = "lumap54", kind = "thread", peer = "loop", most = 0.526 },
      },
    },
  },
}
