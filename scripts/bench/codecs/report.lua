-- SPDX-License-Identifier: MIT
--
-- Results of measure.lua as text, as Markdown, and as JSON.

local cjson = require("cjson")
local tables = require("lib.tables")

local report = {}

local COLUMNS = {
  { title = "codec", left = true, width = 18 },
  { title = "bytes", width = 11 },
  { title = "encode ns", width = 9 },
  { title = "decode ns", width = 9 },
  { title = "both ns", width = 7 },
  { title = "spread", width = 6 },
  { title = "MB/s", width = 6 },
  { title = "ratio", width = 6 },
  { title = "spread", width = 6 },
  { title = "target", left = true },
}

local function verdict(side)
  if not side.target then
    return ""
  end
  return ("at most %.4g: %s"):format(side.target, side.met and "met" or "MISSED")
end

local function cells(side)
  return {
    side.name,
    tables.count(side.bytes),
    tables.figure(side.encode_ns),
    tables.figure(side.decode_ns),
    tables.figure(side.both_ns),
    tables.percent(side.spread),
    tables.figure(side.mb_per_s),
    side.ratio and tables.figure(side.ratio) or "",
    side.ratio and tables.percent(side.ratio_spread) or "",
    verdict(side),
  }
end

--- What the columns mean.
---@return string
function report.legend()
  return "ns of CPU an element, median of the rounds; spread: distance of the quartiles; MB/s: own bytes by encoding "
    .. "plus decoding;\nratio: lumap's encoding plus decoding by that of the codec, in the same round\n"
end

---@param place table as lib.machine gives it
---@return string
function report.place(place)
  return ("commit %s, %d CPUs, %s\n"):format(place.commit, place.cpus, place.processor)
end

--- One row for a terminal.
---@param result table as measure.lua gives it
---@return string
function report.text(result)
  local rows = {}
  for i, side in ipairs(result.sides) do
    rows[i] = cells(side)
  end
  local head = ("%s: %s (%s); element: %s, elements: %s, messages: %s, rounds: %d%s\n"):format(
    result.vm,
    result.row,
    result.payload,
    result.unit,
    tables.count(result.elements),
    tables.count(result.messages),
    result.rounds,
    result.scale ~= 1 and (", scale: %g"):format(result.scale) or ""
  )
  local foot = {}
  for _, absent in ipairs(result.absent or {}) do
    foot[#foot + 1] = absent.name .. " " .. absent.reason
  end
  return head .. tables.text(COLUMNS, rows) .. (foot[1] and "absent: " .. table.concat(foot, ", ") .. "\n" or "")
end

--- All rows in one table.
---@param results table[]
---@return string
function report.markdown(results)
  local columns = { { title = "VM", left = true }, { title = "payload", left = true } }
  local rows = {}
  for _, column in ipairs(COLUMNS) do
    columns[#columns + 1] = column
  end
  for _, result in ipairs(results) do
    for _, side in ipairs(result.sides) do
      local row = cells(side)
      table.insert(row, 1, result.payload)
      table.insert(row, 1, result.vm)
      rows[#rows + 1] = row
    end
  end
  return tables.markdown(columns, rows)
end

--- One document, a row a line.
---@param place table
---@param results table[]
---@return string
function report.json(place, results)
  local lines = {}
  for i, result in ipairs(results) do
    lines[i] = cjson.encode(result)
  end
  return ('{"place":%s,"rows":[\n%s\n]}\n'):format(cjson.encode(place), table.concat(lines, ",\n"))
end

return report
