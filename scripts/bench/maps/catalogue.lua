-- SPDX-License-Identifier: MIT
--
-- The workloads, each a file in workloads/ that runs in any Lua: it gets `parallel` handed in where it needs it.
--
-- A workload is { label, cases }.
-- A case:
--   name, payload       what is mapped; %s in payload is for the size
--   size, quick         how much of it, and how much with --quick
--   figures(size)       what is measured: { key, unit, factor }; the seconds (or what else) by factor give the unit.
--                       With last, not the median but the last round counts; with curve, a point of a curve
--   derive(log, loop)   adds figures to those of one of our sides, name -> list of numbers, by means of the loop's
--   kinds               which back-ends take part: those named in KINDS unless it says otherwise
--   items(size, parallel), loop(items, size)   what is mapped; the plain loop over it
--   map(pool, items, size)   the map; with opens_pool it gets a function that opens one. A second result, a table, adds
--                       figures
--   workers(size)       if it is not for the command to say
--   check(result, size) one number that the results come to, the same for all sides
--   fn                  what luv maps
--   rounds              it has so many at least, except with --quick
--   fresh               each turn runs in a process of its own
--   memory              "peak" adds the figure peak, bytes that a turn took at most; "growth" adds growth, bytes that
--                       were added since the first turn
--   only, absent        the peers that take part; peer -> why it takes no part
--   needs               a peer that takes part whoever is asked for
--   targets             { vm, kind, peer or nil, key or nil, most }: at most so many units, or this share of the peer

local catalogue = {}

local here = debug.getinfo(1, "S").source:match("^@(.*)catalogue%.lua$")

--- Order of the report.
catalogue.names = {
  "squares",
  "mandelbrot",
  "bodies",
  "words",
  "payloads",
  "start",
  "sleepers",
  "sum",
  "calls",
  "uneven",
  "break-even",
}

--- Back-ends that are measured.
local KINDS = { "thread", "process" }

-- With dofile: what is in package.loaded would be required by workers and not sent along.
---@param name string
---@return table workload
function catalogue.workload(name)
  local workload = dofile(here .. "workloads/" .. name .. ".lua")
  workload.name = name
  for _, case in ipairs(workload.cases) do
    case.workload, case.kinds, case.absent = name, case.kinds or KINDS, case.absent or {}
    case.targets = case.targets or {}
  end
  return workload
end

---@param workload string
---@param name string
---@return table case
function catalogue.case(workload, name)
  for _, case in ipairs(catalogue.workload(workload).cases) do
    if case.name == name then
      return case
    end
  end
  error(("there is no case '%s' of '%s'"):format(name, workload), 0)
end

return catalogue
