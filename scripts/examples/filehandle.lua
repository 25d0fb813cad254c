-- SPDX-License-Identifier: MIT
--
-- What cannot be sent to a worker, how the refusal tells where it is, and the remedy.
--
--     lumap filehandle.lua [FILE]       FILE is any text; this one if not given

local parallel = require("parallel")

local path = arg[1] or arg[0]

-- An open file belongs to the interpreter that opened it, so it cannot travel to another one. Here it hides in the
-- third item. Nothing has been sent when the refusal comes, and it says where to look.
local log = assert(io.open(path))
local jobs = {
  { line = 1 },
  { line = 2 },
  { line = 3, source = { handle = log } },
}
local ok, refusal = pcall(parallel.map, function(job)
  return job.line
end, jobs)
log:close()
print("sent: " .. tostring(ok))
print("kind: " .. refusal.kind)
print("message: " .. refusal.message)

-- The remedy: send what it takes to open the file, and open it inside the function.
local function read_line(number)
  local file = assert(io.open(path))
  local text
  for _ = 1, number do
    text = file:read("*l")
  end
  file:close()
  return text
end
for i, text in ipairs(parallel.map(read_line, { 1, 2, 3 })) do
  print(("line %d: %s"):format(i, text))
end
