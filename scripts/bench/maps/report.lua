-- SPDX-License-Identifier: MIT
--
-- Results of measure.lua as text, as Markdown, and as JSON.

local cjson = require("cjson")
local sides = require("maps.sides")
local tables = require("lib.tables")

local report = {}

report.LEGEND = "Medians of the rounds; spread: distance of the quartiles; ratios: Lumap's time (or memory) by that of "
  .. "the peer in the same round."

--- What is mapped, with its size.
---@return string
function report.payload(case, size)
  return (case.payload:format(tables.count(size)))
end

---@param place table as lib.machine gives it
---@param run table
---@return string
function report.place(place, run)
  return ("%s, commit %s, %d CPUs, %s, load %s; %d rounds and %d workers where nothing else is said\n"):format(
    place.date,
    place.commit,
    place.cpus,
    place.processor,
    place.load,
    run.rounds,
    run.workers
  )
end

local function percent(share)
  return share and tables.percent(share) or ""
end

-- ---- text ----------------------------------------------------------------------------------------------------------

--- The ratio of one of ours, which has a column, to a peer, which has a row.
local function ratio_to(ours, other)
  for _, ratio in ipairs(ours.ratios or {}) do
    if ratio.peer == other.peer and (not other.vm or other.vm == ours.vm) then
      return tables.figure(ratio.ratio)
    end
  end
  return ""
end

local function text_columns(ours, unit)
  local columns = {
    { title = "side", left = true, width = 17 },
    { title = unit, width = 12 },
    { title = "spread", width = 6 },
  }
  for _, side in ipairs(ours) do
    columns[#columns + 1] = { title = side.name }
  end
  return columns
end

local function figure_text(figure)
  local ours, rows = {}, {}
  for _, side in ipairs(figure.sides) do
    if side.ratios then
      ours[#ours + 1] = side
    end
  end
  for i, side in ipairs(figure.sides) do
    rows[i] = { side.name, tables.figure(side.median), percent(side.spread) }
    for k, one in ipairs(ours) do
      rows[i][3 + k] = side.peer and ratio_to(one, side) or ""
    end
  end
  return tables.text(text_columns(ours, figure.unit), rows)
end

--- One line a cost: what the item takes in each side.
local function curve_text(result)
  local columns, rows = {}, {}
  for _, figure in ipairs(result.figures or {}) do
    if figure.curve then
      local row = { figure.unit }
      columns[1] = { title = "the item takes", left = true }
      for i, side in ipairs(figure.sides) do
        columns[i + 1] = { title = side.name }
        row[i + 1] = tables.figure(side.median)
      end
      rows[#rows + 1] = row
    end
  end
  return rows[1] and tables.text(columns, rows) or ""
end

local function targets_text(result)
  local lines = {}
  for i, target in ipairs(result.targets or {}) do
    lines[i] = ("target: %s at most %.4g %s: %s, %s\n"):format(
      target.side,
      target.most,
      target.unit,
      tables.figure(target.value),
      target.met and "met" or "MISSED"
    )
  end
  return table.concat(lines)
end

local function absent_text(result)
  local list = {}
  for i, absent in ipairs(result.absent or {}) do
    list[i] = ("%s (%s)"):format(absent.name, absent.reason)
  end
  return list[1] and "absent: " .. table.concat(list, ", ") .. "\n" or ""
end

--- One case for a terminal.
---@return string
function report.text(workload, case, result)
  local parts = {
    ("%s %s %s: %s; %d workers\n"):format(
      workload.label,
      workload.name,
      case.name,
      report.payload(case, result.size),
      result.workers
    ),
  }
  for _, figure in ipairs(result.figures or {}) do
    if not figure.curve then
      parts[#parts + 1] = figure_text(figure)
    end
  end
  parts[#parts + 1] = curve_text(result) .. targets_text(result) .. absent_text(result)
  return table.concat(parts)
end

-- ---- Markdown ------------------------------------------------------------------------------------------------------

local HEADS = { "workload", "side", "workers", "unit" }

function report.markdown_columns()
  local columns = {
    { title = HEADS[1], left = true },
    { title = HEADS[2], left = true },
    { title = HEADS[3] },
    { title = HEADS[4], left = true },
    { title = "median" },
    { title = "spread" },
  }
  for _, peer in ipairs(sides.peers) do
    columns[#columns + 1] = { title = peer }
  end
  return columns
end

--- The first cells of the rows of a case, those that are the same whatever is measured.
---@return table[] rows with key, vm and kind besides
function report.heads(workload, case, size, run)
  local rows = {}
  for _, figure in ipairs(case.figures(size)) do
    for _, vm in ipairs(figure.curve and {} or run.vms) do
      for _, kind in ipairs(case.kinds) do
        local workers = kind == "command" and 1 or case.workers and case.workers(size) or run.workers
        rows[#rows + 1] = {
          workload.label .. " " .. report.payload(case, size),
          sides.name(vm, kind),
          tables.count(workers),
          figure.unit,
          key = figure.key,
          vm = vm,
          kind = kind,
        }
      end
    end
  end
  return rows
end

local function measured_side(result, head)
  for _, figure in ipairs(result.figures or {}) do
    for _, side in ipairs(figure.key == head.key and figure.sides or {}) do
      if side.vm == head.vm and side.kind == head.kind then
        return side
      end
    end
  end
end


local function fill(row, result)
  local side = measured_side(result, row)
  row[5] = side and tables.figure(side.median) or result.figures and "not reached" or "not there"
  row[6] = side and percent(side.spread) or ""
  for i, peer in ipairs(sides.peers) do
    row[6 + i] = ""
    for _, ratio in ipairs(side and side.ratios or {}) do
      row[6 + i] = ratio.peer == peer and tables.figure(ratio.ratio) or row[6 + i]
    end
  end
  return row
end

--- What was measured, each version once.
---@return string
function report.versions(entries)
  local seen, list = {}, {}
  for _, entry in ipairs(entries) do
    for _, side in ipairs(entry.result.versions or {}) do
      local text = side.version
      if not seen[text] then
        seen[text], list[#list + 1] = true, text
      end
    end
  end
  table.sort(list)
  return table.concat(list, "; ") .. "\n"
end

local function missing_text(entries)
  local seen, list = {}, {}
  for _, entry in ipairs(entries) do
    for _, absent in ipairs(entry.result.absent or {}) do
      if absent.reason:find("^not installed") and not seen[absent.name] then
        seen[absent.name], list[#list + 1] = true, absent.name
      end
    end
  end
  return list[1] and "Not installed, so left out: " .. table.concat(list, ", ") .. ".\n" or ""
end

--- All cases in one table, with what was measured where above it.
---@param entries table[] workload, case, result
---@return string
function report.markdown(place, run, entries)
  local rows = {}
  for _, entry in ipairs(entries) do
    for _, head in ipairs(report.heads(entry.workload, entry.case, entry.result.size, run)) do
      rows[#rows + 1] = fill(head, entry.result)
    end
  end
  return table.concat({
    report.place(place, run),
    report.versions(entries),
    missing_text(entries),
    report.LEGEND .. "\n\n",
    tables.markdown(report.markdown_columns(), rows),
  })
end

-- ---- JSON ----------------------------------------------------------------------------------------------------------

--- One document, a case a line.
---@return string
function report.json(place, run, entries)
  local lines = {}
  for i, entry in ipairs(entries) do
    entry.result.payload = report.payload(entry.case, entry.result.size)
    lines[i] = cjson.encode(entry.result)
  end
  return ('{"place":%s,"rounds":%d,"cases":[\n%s\n]}\n'):format(
    cjson.encode(place),
    run.rounds,
    table.concat(lines, ",\n")
  )
end

return report
