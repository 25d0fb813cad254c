-- SPDX-License-Identifier: MIT
--
-- A file to which the items of a parallel call add lines, for what must be known of items whose results are lost.
-- Found by name in workers.

local journal = {}

---@return string path of an empty journal
function journal.new()
  return os.tmpname()
end

--- Adds a line; safe from any number of workers at a time.
function journal.add(path, text)
  local file = io.open(path, "a") or error("cannot write to " .. path)
  file:write(text .. "\n")
  file:close()
end

---@return table lines in the order in which they were added
function journal.lines(path)
  local lines = {}
  for line in io.lines(path) do
    lines[#lines + 1] = line
  end
  return lines
end

---@param path string
function journal.remove(path)
  os.remove(path)
end

return journal
