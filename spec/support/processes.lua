-- SPDX-License-Identifier: MIT
--
-- Processes by number, and ends of the process that calls. Found by name in workers.

local gates = require("spec.support.gates")

local processes = {}

local function fields(pid)
  local file = io.open(("/proc/%s/stat"):format(pid), "r")
  local line = file and file:read("*l")
  if file then
    file:close()
  end
  return line
end

---@return integer pid of the calling process, which is the worker's own on the process back-end
function processes.own()
  return tonumber(fields("self"):match("^%d+"))
end

--- Does it run? One that ended counts as gone, though its parent has not asked for its exit status.
---@param pid integer
---@return boolean
function processes.runs(pid)
  local line = fields(pid)
  local state = line and line:match("^%d+ %(.*%) (%a)")
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- How many memories that are shared with workers a process has mapped.
---@param pid integer|"self"
---@return integer
function processes.shared_memories(pid)
  local count = 0
  for line in io.lines(("/proc/%s/maps"):format(pid)) do
    if line:find("/memfd:lumap", 1, true) then
      count = count + 1
    end
  end
  return count
end

--- Sends a signal to a process, if it is still there.
---@param signal string name or number, as kill(1) takes it
function processes.signal(pid, signal)
  os.execute(("kill -%s %d 2>/dev/null"):format(signal, pid))
end

--- Returns when the process has ended.
function processes.await_end(pid)
  gates.await_that(function()
    return not processes.runs(pid)
  end)
end

--- Sends a signal to the calling process. The shell that kills is its child, so it has begun what it runs.
function processes.signal_own(signal)
  os.execute(("kill -%s $PPID"):format(signal))
end

return processes
