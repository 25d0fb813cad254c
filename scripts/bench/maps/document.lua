-- SPDX-License-Identifier: MIT
--
-- The copy of the Markdown report in a document: what stands between two comments is replaced.

local document = {}

local BEGIN, END = "<!-- scripts/bench/run --update: begin -->\n", "<!-- scripts/bench/run --update: end -->\n"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- Where the copy begins and ends, or raises: there are no markers.
local function place_of(text, path)
  local _, first = text:find(BEGIN, 1, true)
  local last = first and text:find(END, first, true)
  if not last then
    error(("%s has no lines '%s' and '%s' to put the table between"):format(path, BEGIN:sub(1, -2), END:sub(1, -2)), 0)
  end
  return first, last
end

--- What stands between the markers.
---@param path string
---@return string
function document.read(path)
  local text = read(path)
  local first, last = place_of(text, path)
  return text:sub(first + 1, last - 1)
end

--- Raises: it cannot be read, or has no markers. To be asked before minutes of measuring.
document.check = document.read

--- Puts the report in the place of the one that is there.
---@param path string
---@param markdown string
function document.update(path, markdown)
  local text = read(path)
  local first, last = place_of(text, path)
  local file = assert(io.open(path, "wb"))
  file:write(text:sub(1, first), "\n", markdown, "\n", text:sub(last))
  file:close()
end

return document
