-- SPDX-License-Identifier: MIT
--
-- What this process holds of the system: children, open descriptors, threads.
--
--     local before = census.snapshot()
--     ... start a pool, close and join it ...
--     census.assert_flat(before)
--
-- The module's own verbs keep their pools warm: call one before the snapshot, or name in `allow` what may stay.

local lfs = require("lfs")
local system = require("system")

local census = {}

local function first_line(path)
  local file = io.open(path, "r")
  if not file then
    return nil
  end
  local line = file:read("*l")
  file:close()
  return line
end

--- Process number of this process.
---@return integer
function census.pid()
  return tonumber(first_line("/proc/self/stat"):match("^%d+"))
end

--- Children of this process, those that ended but were not waited for included.
---@return table children key: process number; value: its name and state, as "(lumap) Z"
function census.children()
  local parent = census.pid()
  local found = {}
  for entry in lfs.dir("/proc") do
    local line = entry:match("^%d+$") and first_line("/proc/" .. entry .. "/stat")
    if line then
      -- The name may hold spaces and brackets, so the fields are found from the last bracket on.
      local name, state, ppid = line:match("^%d+ (%(.*%)) (%a) (%d+)")
      if tonumber(ppid) == parent then
        found[tonumber(entry)] = name .. " " .. state
      end
    end
  end
  return found
end

--- Open descriptors of this process.
---@return table descriptors key: number; value: what it leads to
function census.descriptors()
  local found = {}
  for entry in lfs.dir("/proc/self/fd") do
    local number = tonumber(entry)
    local target = number and lfs.symlinkattributes("/proc/self/fd/" .. entry, "target")
    -- The one that reads this very folder comes and goes.
    if target and not target:match("^/proc/%d+/fd$") then
      found[number] = target
    end
  end
  return found
end

local function read_threads()
  local found = {}
  for entry in lfs.dir("/proc/self/task") do
    local number = tonumber(entry)
    if number then
      found[number] = first_line("/proc/self/task/" .. entry .. "/comm") or "?"
    end
  end
  return found
end

local function size(map)
  local count = 0
  for _ in pairs(map) do
    count = count + 1
  end
  return count
end

local function added(before, now)
  local list = {}
  for key, value in pairs(now) do
    if before[key] == nil then
      list[#list + 1] = key .. " " .. value
    end
  end
  return list
end

--- Threads of this process. Where one of them ends while the folder is read, those that follow it are not named: so it
--- is read until it says the same twice, which it cannot do of one that has ended.
---@return table threads key: number; value: name
function census.threads()
  local before, now = read_threads(), read_threads()
  while size(before) ~= size(now) or #added(before, now) > 0 do
    before, now = now, read_threads()
  end
  return now
end

---@return table snapshot for assert_flat
function census.snapshot()
  return { children = census.children(), descriptors = census.descriptors(), threads = census.threads() }
end

--- Raises unless this process holds no more than at the snapshot. What ends on its own (a thread on its way out, a
--- child that was told to stop) is given time, since no event tells of it.
---@param before table what snapshot gave
---@param options table|nil seconds: how long to wait, default 5; allow: table with how many more `children`,
--- `descriptors` or `threads` may stay
function census.assert_flat(before, options)
  options = options or {}
  local allow = options.allow or {}
  local give_up = system.monotime() + (options.seconds or 5)
  local excess
  repeat
    -- Compiled code keeps the functions alive for which it was made, and what they reach.
    if jit then
      jit.flush()
    end
    collectgarbage()
    local now = census.snapshot()
    excess = nil
    for _, kind in ipairs({ "children", "descriptors", "threads" }) do
      local more = size(now[kind]) - size(before[kind])
      if more > (allow[kind] or 0) then
        local what = table.concat(added(before[kind], now[kind]), ", ")
        local text = ("%d more %s than before: %s"):format(more, kind, what)
        excess = excess and excess .. "\n" .. text or text
      end
    end
    if not excess then
      return
    end
    system.sleep(0.01)
  until system.monotime() > give_up
  error(excess, 2)
end

return census
