-- SPDX-License-Identifier: MIT
--
-- error.lua - parallel.Error: what a failed item raises.

local core = require "lumap.core"

---@class parallel.Error
---@field kind "error"|"timeout"|"deadline"|"died"|"memory"|"cancelled"|"encode"|"decode"|"init"
---@field message string what went wrong, as the stock interpreter would print it
---@field index integer|nil the item, from 1; nil for calls without items
---@field worker integer|nil number of the worker that ran it
---@field value any what `error` was called with, if it can cross
---@field traceback string|nil the worker's, then the caller's
---@field signal integer|nil kind "died": the signal that ended the worker process
---@field signal_name string|nil its name, "SIGKILL"
---@field exit_code integer|nil kind "died": the code that the worker ended with
local Error = { __name = "parallel.Error" }
Error.__index = Error

--- "item 3 failed on worker 1: app.lua:5: boom", then the traceback. A kind other than "error" is named.
function Error:__tostring()
  local text = ("%s failed%s%s: %s"):format(
    self.index and ("item %d"):format(self.index) or "the call",
    self.worker and (" on worker %d"):format(self.worker) or "",
    self.kind ~= "error" and (" (%s)"):format(self.kind) or "",
    self.message)
  if self.traceback then text = text .. "\n" .. self.traceback end
  return text
end

--- Makes an error of a table with the fields above; returns it.
function Error.new(fields)
  if fields.signal then fields.signal_name = core.signal_name(fields.signal) end
  return setmetatable(fields, Error)
end

--- The traceback of the caller, without the lines of this library. `level` counts from the function that calls this.
local function caller_traceback(level)
  local text = debug.traceback("", level + 1):gsub("^%s*stack traceback:%s*", "")
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    if not line:find("[lumap]/", 1, true) then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

--- Adds the caller's traceback behind the worker's, and raises.
function Error:raise()
  local caller = "stack traceback of the caller:\n\t" .. caller_traceback(2):gsub("^%s+", "")
  self.traceback = self.traceback and self.traceback .. "\n" .. caller or caller
  error(self, 0)
end

return Error
