-- SPDX-License-Identifier: MIT
--
-- Signals that reach the calling process while it waits for its workers, and the end of the program in a callback.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")

backends.each_size(function(_, backend, workers)
  local environment = { LUMAP_BACKEND = backend, LUMAP_WORKERS = workers }

  it("signals that interrupt what waits cost no result", function()
    -- Being stopped and going on ends system calls early, as a handler would.
    local result = interpreter.run_code(
      [[
        local gates = require "spec.support.gates"
        local own = require("spec.support.processes").own()
        local finished = gates.new()
        os.execute(("(for i in $(seq 60); do kill -STOP %d; kill -CONT %d; kill -WINCH %d; sleep 0.002; done; "
          .. "touch %s) >/dev/null 2>&1 &"):format(own, own, own, finished))
        local pool = parallel.pool()
        local rounds = 0
        repeat
          rounds = rounds + 1
          local list = pool:map(function(x)
            parallel.sleep(0.0005)
            return x * x
          end, parallel.range(1, 20), { chunk = 1 })
          for i = 1, 20 do assert(list[i] == i * i) end
          local future = pool:submit(math.sqrt, 9)
          assert(future:wait(30) and future:get() == 3)
        until gates.is_open(finished)
        gates.remove(finished)
        pool:close()
        pool:join()
        io.write("all there")
      ]],
      { seconds = 60, env = environment }
    )
    assert.same({ stdout = "all there", stderr = "", code = 0 }, result)
  end)

  it("a callback may end the program", function()
    for _, exit in ipairs({ "os.exit(5)", "os.exit(5, true)" }) do
      local result = interpreter.run_code(
        [[
          local pool = parallel.pool()
          local waiting = pool:submit(parallel.sleep, 0)
          pool:submit(math.sqrt, 9):on_done(function() ]] .. exit .. [[ end)
          while true do pool:apply(math.sqrt, 16) end
        ]],
        { seconds = 60, env = environment }
      )
      assert.same({ stdout = "", stderr = "", code = 5 }, result)
    end
  end)
end)

-- Starts "$@" in a process group of its own, presses Ctrl-C, which is a SIGINT to each process of the group, as soon as
-- $1 items have told that they run, and gives the exit code, what was printed, and which processes are left.
local PRESS = [[
items=$1 journal=$2; shift 2
setsid env --default-signal=INT "$@" &
pid=$!
until [ "$(wc -l <"$journal")" -ge "$items" ] || ! kill -0 $pid; do :; done
kill -INT -$pid
wait $pid
echo "exit code $?"
pgrep -g $pid
]]

local INTERRUPTED = [[
  local journal = require "spec.support.journal"
  local path, what, backend, workers = ...
  local endless = {
    loop = function() while true do end end,
    catching = function() while true do pcall(function() while true do end end) end end,
    sleep = function() parallel.sleep(1000) end,
  }
  local function run(verb)
    verb(function()
      journal.add(path, "began")
      endless[what]()
    end, parallel.range(1, 50), { backend = backend, workers = tonumber(workers), chunk = 1 })
  end
  if what == "sleep" then run(parallel.map) end
  local ok, reason = pcall(run, parallel.map)
  assert(not ok and tostring(reason):find("interrupted!", 1, true), reason)
  local list = parallel.map(math.sqrt, { 1, 4, 9 }, { backend = backend, workers = tonumber(workers) })
  print("goes on", list[3] == 3)
]]

backends.each_size(function(_, backend, workers)
  -- Signals reach compiled loops only in functions that the sanitizer knows.
  local ways = interpreter.preset == "tsan" and { "sleep" } or { "sleep", "loop", "catching" }
  for _, what in ipairs(ways) do
    it("Ctrl-C ends a call and leaves no process: " .. what, function()
      local folder = interpreter.make_folder()
      local path, code = journal.new(), folder .. "/code.lua"
      interpreter.write_file(code, INTERRUPTED)
      local running = backend == "serial" and 1 or workers
      local command = { "-c", PRESS, "sh", running, path, interpreter.path, code, path, what, backend, workers }
      local result = interpreter.run(command, { program = "/bin/sh", seconds = 50 })
      journal.remove(path)
      interpreter.remove_folder(folder)
      if what == "sleep" then
        assert.equal("exit code 1\n", result.stdout, result.stderr)
        assert.is_truthy(result.stderr:find("interrupted!", 1, true), result.stderr)
      else
        assert.same({ "goes on\ttrue\nexit code 0\n", "" }, { result.stdout, result.stderr })
      end
    end)
  end
end, backends.all)

-- Ctrl-C some microseconds after an item has begun a loop: while that is interpreted, compiled, or entered.
local EARLY = [[
  local ok, reason = pcall(parallel.map, function(microseconds)
    local ffi = require("ffi")
    ffi.cdef [=[
      typedef struct { int64_t value; int signo, notify; char rest[48]; } lumap_spec_sigevent;
      typedef struct { long every_s, every_ns, first_s, first_ns; } lumap_spec_itimerspec;
      int timer_create(int clock, lumap_spec_sigevent *event, void **timer);
      int timer_settime(void *timer, int flags, const lumap_spec_itimerspec *times, void *old);
    ]=]
    local event, timer = ffi.new("lumap_spec_sigevent"), ffi.new("void *[1]")
    event.signo = 2
    assert(ffi.C.timer_create(1, event, timer) == 0)
    local times = ffi.new("lumap_spec_itimerspec", { first_ns = microseconds * 1000 + 1 })
    assert(ffi.C.timer_settime(timer[0], 0, times, nil) == 0)
    while true do end
  end, { %d }, { backend = "serial" })
  print(ok, tostring(reason):find("interrupted!", 1, true) ~= nil)
]]

-- Only there are loops compiled; and the sanitizer delivers signals late.
if jit and interpreter.preset ~= "tsan" then
  for microseconds = 0, 40, 5 do
    it("Ctrl-C ends an endless item on the serial back-end, microseconds after its begin: " .. microseconds, function()
      local result = interpreter.run_code(EARLY:format(microseconds), { seconds = 30 })
      assert.same({ stdout = "false\ttrue\n", stderr = "", code = 0 }, result)
    end)
  end
end

-- Ctrl-C while the caller does not wait but makes chunks, after some items have begun: in our own code, and in a source
-- of items, where a pcall may catch it.
local AMIDST = [[
  local gates = require "spec.support.gates"
  local own = require("spec.support.processes").own()
  local where, backend = arg[1], arg[2]
  local options = { backend = backend, workers = 1, chunk = 1 }
  local function root_of_nine()
    return parallel.map(math.sqrt, { 1, 4, 9 }, options)[3]
  end
  assert(root_of_nine() == 3)
  local begun = gates.new()
  local function press()
    gates.await(begun)
    io.popen("kill -INT " .. own):close()
  end
  local n = 0
  local function source()
    n = n + 1
    if n == 2 then
      if where == "ours" then
        if jit then jit.off() end
        debug.sethook(function()
          if not debug.getinfo(2, "S").source:find("^=%[lumap%]/parallel/") then return end
          debug.sethook()
          press()
        end, "", 1)
      elseif where == "caught" then
        pcall(press)
      else
        press()
      end
    end
    return n
  end
  local ok, reason = pcall(parallel.map, function()
    gates.open(begun)
    if os.getenv("LUMAP_SPEC_PRESET") == "tsan" then parallel.sleep(1000) end -- signals do not reach loops there
    while true do end
  end, source, options)
  gates.remove(begun)
  print(ok, tostring(reason):find("interrupted!", 1, true) ~= nil, root_of_nine() == 3)
]]

for _, backend in ipairs(backends.concurrent) do
  for _, where in ipairs({ "ours", "source", "caught" }) do
    it(("Ctrl-C while chunks are made ends a call on the %s back-end: %s"):format(backend, where), function()
      local folder = interpreter.make_folder()
      local code = folder .. "/code.lua"
      interpreter.write_file(code, AMIDST)
      local result = interpreter.run({ code, where, backend }, { seconds = 50 })
      interpreter.remove_folder(folder)
      assert.same({ stdout = "false\ttrue\ttrue\n", stderr = "", code = 0 }, result)
    end)
  end
end
