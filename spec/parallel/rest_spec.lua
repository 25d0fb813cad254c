-- SPDX-License-Identifier: MIT
--
-- A worker that has had nothing to do for a while gives back the memory that it does not need.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

-- There, freed memory is the sanitizer's.
if interpreter.sanitized then
  return
end

local function resident_kb(pid)
  local file = assert(io.open(("/proc/%s/status"):format(pid)))
  local kb = file:read("*a"):match("VmRSS:%s+(%d+)")
  file:close()
  return tonumber(kb)
end

local function own_pid()
  return io.open("/proc/self/stat"):read("*l"):match("^%d+")
end

--- Touches at least 40 MB, in small blocks and a big one, and drops it.
local function use_much()
  local list = {}
  for i = 1, 400000 do
    list[i] = { i }
  end
  return #list
end

backends.each(function(with)
  it("gives back what it does not need when it has nothing to do", function()
    local pool = parallel.pool(with())
    local pid = pool:apply(own_pid)
    local before = resident_kb(pid)
    assert.equal(400000, pool:apply(use_much))
    assert.is_true(resident_kb(pid) - before > 20000)
    local deadline = parallel.clock() + 60
    while resident_kb(pid) - before > 10000 and parallel.clock() < deadline do
      parallel.sleep(0.05)
    end
    assert.is_true(resident_kb(pid) - before <= 10000, ("%d KB"):format(resident_kb(pid) - before))
    assert.equal(9, pool:apply(math.max, 3, 9)) -- and works on
    pool:close()
    pool:join()
  end)
end, backends.concurrent, 1)

--- A program of its own, since where its memory lies depends on all that it had before. Prints what is too much.
local MESSAGES = [[
local function resident_kb()
  local file = io.open("/proc/self/status")
  local kb = tonumber(file:read("*a"):match("VmRSS:%s+(%d+)"))
  file:close()
  return kb
end
local pool = parallel.pool { workers = 1, backend = "thread" }
local text = ("x"):rep(12e6)
pool:map(string.len, { "warm" })
local before, deadline = resident_kb(), parallel.clock() + 60
assert(pool:map(string.len, { text })[1] == 12e6)
while resident_kb() - before > 6000 and parallel.clock() < deadline do parallel.sleep(0.05) end
print(math.max(0, resident_kb() - before - 6000))
]]

it("does not keep the memory of messages for ever", function()
  local result = interpreter.run_code(MESSAGES, { seconds = 120 })
  assert.same({ stdout = "0\n", stderr = "", code = 0 }, result)
end)
