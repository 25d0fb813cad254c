-- SPDX-License-Identifier: MIT
--
-- Programs that run beside a benchmark. What they write to standard error is seen.

local child = {}

--- One word for the shell.
---@param text string
---@return string
local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function command_of(words)
  local quoted = {}
  for i, word in ipairs(words) do
    quoted[i] = quote(word)
  end
  return table.concat(quoted, " ")
end

--- Runs a program to its end.
---@param words string[] the program and its arguments
---@return string output
function child.output(words)
  local pipe = assert(io.popen(command_of(words), "r"))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

---@class bench.Peer a program that answers each line with a line
local Peer = { __name = "bench.Peer" }
Peer.__index = Peer

--- Starts a program to talk with. io.popen goes in one direction; the answers come through a FIFO.
---@param words string[] the program and its arguments
---@return bench.Peer
function child.start(words)
  local path = os.tmpname()
  os.remove(path)
  os.execute("mkfifo -m 600 " .. quote(path))
  local requests = assert(io.popen(command_of(words) .. " >" .. quote(path), "w"))
  local answers, message = io.open(path, "r")
  os.remove(path)
  assert(answers, message)
  return setmetatable({ name = words[1], requests = requests, answers = answers }, Peer)
end

--- Raises: the program is gone.
---@param request string
---@return string answer
function Peer:ask(request)
  self.requests:write(request, "\n")
  self.requests:flush()
  return self.answers:read("*l") or error(("%s ended without an answer to '%s'"):format(self.name, request), 2)
end

--- Lets it end, and waits for that.
function Peer:close()
  self.requests:close()
  self.answers:close()
end

return child
