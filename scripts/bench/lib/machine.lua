-- SPDX-License-Identifier: MIT
--
-- Where and of what figures were measured.

local child = require("lib.child")
local parallel = require("parallel")

local machine = {}

local function processor()
  local file = io.open("/proc/cpuinfo", "r")
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text:match("model name%s*:%s*([^\n]+)") or "unknown processor"
end

local function load_of()
  local file = io.open("/proc/loadavg", "r")
  local load = file and file:read("*l"):match("^%S+")
  if file then
    file:close()
  end
  return load
end

---@param root string the source tree
---@return table place commit ("-dirty" at its end: the tree differs from it), processor, cpus, date, load (processes
--- that ran or waited for a CPU in the last minute, on average)
function machine.describe(root)
  local commit = child.output({ "git", "-C", root, "describe", "--always", "--dirty" }):match("%S+")
  return {
    commit = commit or "unknown",
    processor = processor(),
    cpus = parallel.cpu_count(),
    date = os.date("!%Y-%m-%d"),
    load = load_of() or "unknown",
  }
end

return machine
