-- SPDX-License-Identifier: MIT
--
-- Memory of other processes, as the kernel tells it.

local memory = {}

local function read(path)
  local file = io.open(path, "r")
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

local function field(pid, name)
  local kilobytes = read(("/proc/%d/status"):format(pid)):match(name .. ":%s*(%d+) kB")
  return (tonumber(kilobytes) or 0) * 1024
end

--- Bytes that a process and its children, and theirs, hold now.
---@param pid integer
---@return integer
function memory.resident(pid)
  local sum = field(pid, "VmRSS")
  for child in read(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    sum = sum + memory.resident(tonumber(child))
  end
  return sum
end

--- Bytes that a process held at its height, without its children.
---@param pid integer
---@return integer
function memory.peak(pid)
  return field(pid, "VmHWM")
end

return memory
