-- SPDX-License-Identifier: MIT
--
-- What does a parallel map cost an item, and what does it gain?
--
--     lumap scripts/bench/map.lua [ROUNDS]
--
-- Two questions, each answered by ratios within one run: x * x over a million numbers in a list, against a plain loop
-- (all cost, no gain); and the rows of a Mandelbrot picture, against the serial back-end (all gain). Each result is
-- checked. The figures are minima over the rounds: what is above them is the machine's doing.

local parallel = require("parallel")

local rounds = tonumber(arg[1]) or 7
local workers = parallel.cpu_count()
local backends = { "serial", "thread", "process" }

local function least(run)
  local best = math.huge
  for _ = 1, rounds do
    local start = parallel.clock()
    run()
    best = math.min(best, parallel.clock() - start)
  end
  return best
end

local function squares()
  local n = 1000000
  local items = {}
  for i = 1, n do
    items[i] = i
  end
  local function square(x)
    return x * x
  end
  local plain = least(function()
    local results = {}
    for i = 1, n do
      results[i] = square(items[i])
    end
    assert(results[n] == n * n)
  end)
  print(("x * x, %d items in a list; a plain loop takes %.1f ns an item"):format(n, plain / n * 1e9))
  for _, backend in ipairs(backends) do
    local seconds = least(function()
      local results = parallel.map(square, items, { backend = backend })
      assert(results.n == n and results[1] == 1 and results[n] == n * n)
    end)
    print(("  %-8s %6.1f ns an item, %5.2f times the plain loop"):format(backend, seconds / n * 1e9, seconds / plain))
  end
end

local function mandelbrot()
  local size = 800
  local function row(y)
    local inside = 0
    local ci = y / size * 2.4 - 1.2
    for x = 1, size do
      local cr = x / size * 3 - 2.25
      local zr, zi, steps = 0, 0, 0
      while steps < 255 and zr * zr + zi * zi <= 4 do
        zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
        steps = steps + 1
      end
      if steps == 255 then
        inside = inside + 1
      end
    end
    return inside
  end
  local serial, expected
  print(("Mandelbrot, %d rows of %d points"):format(size, size))
  for _, backend in ipairs(backends) do
    local sum
    local seconds = least(function()
      sum = 0
      for _, inside in ipairs(parallel.map(row, parallel.range(1, size), { backend = backend })) do
        sum = sum + inside
      end
    end)
    serial, expected = serial or seconds, expected or sum
    assert(sum == expected)
    print(("  %-8s %7.1f ms, %4.2f times as fast as serial"):format(backend, seconds * 1e3, serial / seconds))
  end
end

local jit = rawget(_G, "jit")
print(("%s, %d workers, minimum of %d rounds"):format(jit and jit.version or _VERSION, workers, rounds))
squares()
mandelbrot()
