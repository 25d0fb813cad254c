-- SPDX-License-Identifier: MIT
--
-- The tests in C, each as one test here: programs in the build's folder "native" (or LUMAP_NATIVE), which print a line
-- "ok NAME" or "not ok NAME REASON" for each test that they are asked for.

local interpreter = require("spec.support.interpreter")

local folder = os.getenv("LUMAP_NATIVE") or interpreter.build .. "/native"

-- What each is about, in words that tell which runs it belongs to: that of the ThreadSanitizer takes what has threads.
local suffix = interpreter.name == "lumap54" and "54" or ""
local programs = {
  ["memory_test" .. suffix] = "vm/codec and calls",
  ["host_test" .. suffix] = "liblumap (a host with threads and processes)",
  ["embed_test" .. suffix] = "liblumap in a busy host (threads, processes)",
  alloc_test = "vm/alloc (one heap, and heaps on threads)",
  shared_test = "vm/shared (memory and channels of threads and processes)",
  os_test = "vm/os (clocks, threads, processes)",
  backend_test = "vm/backend (serial, threads, processes)",
  process_test = "vm/backend (processes that die, fail or lose their host, and the thread that tends them)",
  recall_test = "vm/backend (tasks and items that the thread of processes calls back)",
  pool_test = "vm/pool (tasks and those who run them)",
  spares_test = "vm/pool (what is kept of tasks)",
}

local function run(program, argument)
  return interpreter.run({ argument }, { program = folder .. "/" .. program, seconds = 300 })
end

for program, subject in pairs(programs) do
  describe(subject, function()
    local list = run(program, "--list")

    it("has tests", function()
      assert.equal(0, list.code, list.stderr)
      assert.truthy(list.stdout:match("%S"))
    end)

    for name in list.stdout:gmatch("%S+") do
      it((name:gsub("_", " ")), function()
        local result = run(program, name)
        assert.truthy(("\n" .. result.stdout):find("\nok " .. name .. "\n", 1, true), result.stdout .. result.stderr)
        assert.equal(0, result.code, result.stderr)
      end)
    end
  end)
end
