-- SPDX-License-Identifier: MIT
--
-- Rows of figures as text for a terminal and as Markdown. A column is { title = "both", width = 9, left = true }: its
-- least width, and whether its cells stand at the left of it. A row is a list of strings, one a column.

local tables = {}

--- A number with three digits that count.
---@param number number
---@return string
function tables.figure(number)
  local size = math.abs(number)
  local digits = size >= 100 and 0 or size >= 10 and 1 or size >= 1 and 2 or 3
  return ("%." .. digits .. "f"):format(number)
end

--- An integer with its thousands apart.
---@param number number
---@return string
function tables.count(number)
  local text = ("%.0f"):format(number)
  local groups
  repeat
    text, groups = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  until groups == 0
  return text
end

---@param share number
---@return string
function tables.percent(share)
  return ("%.0f %%"):format(share * 100)
end

local function titles(columns)
  local row = {}
  for i, column in ipairs(columns) do
    row[i] = column.title
  end
  return row
end

local function widths(columns, rows)
  local found = {}
  for i, column in ipairs(columns) do
    found[i] = math.max(column.width or 0, #column.title)
    for _, row in ipairs(rows) do
      found[i] = math.max(found[i], #row[i])
    end
  end
  return found
end

local function line(columns, row, wide)
  local cells = {}
  for i, column in ipairs(columns) do
    local fill = (" "):rep(wide[i] - #row[i])
    cells[i] = column.left and row[i] .. fill or fill .. row[i]
  end
  return (table.concat(cells, "  "):gsub("%s+$", ""))
end

--- Lines for a terminal, titles first.
---@return string
function tables.text(columns, rows)
  local wide = widths(columns, rows)
  local lines = { line(columns, titles(columns), wide) }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = line(columns, row, wide)
  end
  return table.concat(lines, "\n") .. "\n"
end

---@return string
function tables.markdown(columns, rows)
  local rule = {}
  for i, column in ipairs(columns) do
    rule[i] = column.left and "---" or "---:"
  end
  local lines = { "| " .. table.concat(titles(columns), " | ") .. " |", "|" .. table.concat(rule, "|") .. "|" }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |"
  end
  return table.concat(lines, "\n") .. "\n"
end

return tables
