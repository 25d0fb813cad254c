-- SPDX-License-Identifier: MIT
--
-- failures.lua - what a worker tells of an item that failed.

local core = require "lumap.core"
local compat = require "lumap.compat"
local Error = require "parallel.error"

local failures = {}

--- The worker's part of a traceback: the lines above our own.
local function trimmed(traceback)
  local lines = {}
  for line in traceback:gmatch("[^\n]+") do
    if line:find("[lumap]/parallel/", 1, true) then break end
    lines[#lines + 1] = line
  end
  while #lines > 1 and lines[#lines]:find("^%s*%[C%]:") do lines[#lines] = nil end
  lines[1] = "stack traceback of the worker:"
  return table.concat(lines, "\n")
end

--- The value of an error without our own line where it begins with one, as those of C functions do that we call: users
--- have no use for it.
function failures.without_place(value)
  if type(value) ~= "string" then return value end
  return (value:gsub("^%[lumap%]/[^:]+:%d+: ", ""))
end

--- The text that the stock interpreter prints for an uncaught error.
local function message_of(value)
  if type(value) == "string" or type(value) == "number" then return tostring(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then
    local ok, text = pcall(tostring, value)
    if ok then return text end
  end
  return compat.error_object_text(value)
end

local crosses = { ["nil"] = true, boolean = true, number = true, string = true }

--- Makes a record, a plain table that can cross, of what the message handler noted: the value, and a traceback. The
--- value goes along if it can.
function failures.describe(noted)
  local value = failures.without_place(noted.value)
  local record = { kind = "error", message = message_of(value), traceback = trimmed(noted.traceback) }
  if getmetatable(value) == Error and value.kind == "cancelled" and core.cancelled() then
    -- The item ends since it was asked to.
    record.kind, record.message = "cancelled", value.message
  end
  if crosses[type(value)] or core.check(value) then record.value = value end
  return record
end

return failures
