-- SPDX-License-Identifier: MIT
--
-- Signals, and where output goes when nobody reads it.

local interpreter = require("spec.support.interpreter")
local stock = require("spec.command.stock")

local quote = interpreter.quote
local SIGINT, SIGPIPE, SIGTERM = 2, 13, 15

-- Starts "$@" with its output in a pipe, and does with its process, $pid, what the caller wants once it has printed a
-- line. Its input stays open and empty. A shell starts what runs in the background with SIGINT ignored, so that is
-- undone first. What the process does is asked of the kernel, and nothing waits for a time to pass: `ended`, `sleeps`,
-- and `toils`, which holds when it has used 30 ms of CPU since it printed that line, and so is past the printing.
local DRIVER = [[
folder=$1; shift
mkfifo "$folder/in" "$folder/out"
env --default-signal=INT,PIPE "$@" <>"$folder/in" >"$folder/out" 2>"$folder/err" &
pid=$!
exec 3<"$folder/out"
read -r line <&3
fields() { sed 's/.*) //' "/proc/$pid/stat"; }
state() { fields | cut -c 1; }
ticks() { fields | cut -d ' ' -f 12; }
ended() { ! [ -e "/proc/$pid" ] || [ "$(state)" = Z ]; }
sleeps() { [ "$(state)" = S ]; }
toils() { [ "$(ticks)" -ge $((begin + 3)) ]; }
begin=$(ticks)
%s
wait $pid
]]

local folder

before_each(function()
  folder = interpreter.make_folder()
end)

after_each(function()
  interpreter.remove_folder(folder)
end)

--- Runs code and acts on its process. The code must print a line when it is ready.
---@return integer code
---@return string stderr without the program's path
local function drive(program, code, action)
  interpreter.write_file(folder .. "/code.lua", code)
  local arguments = { "-c", DRIVER:format(action), "sh", folder, program, folder .. "/code.lua" }
  local result = interpreter.run(arguments, { program = "/bin/sh" })
  local stderr = interpreter.read_file(folder .. "/err")
  os.remove(folder .. "/in")
  os.remove(folder .. "/out")
  local first, last = stderr:find(program, 1, true)
  if first == 1 then
    stderr = "PROGRAM" .. stderr:sub(last + 1)
  end
  return result.code, (stderr:gsub("0x%x+", "ADDRESS"))
end

--- The same with both; asserts that they end alike.
local function compare(code, action)
  local code_theirs, stderr_theirs = drive(stock.program, code, action)
  local code_ours, stderr_ours = drive(interpreter.path, code, action)
  assert.equal(stderr_theirs, stderr_ours)
  assert.equal(code_theirs, code_ours)
  return code_ours, stderr_ours
end

-- Compiled code has no place where it could be interrupted, on stock LuaJIT neither.
local READY = "if jit then jit.off() end io.stdout:write('ready\\n') io.stdout:flush()\n"

describe("Ctrl-C", function()
  it("ends a script with an error and a traceback", function()
    local code, stderr = compare(READY .. "while true do end", "until toils; do :; done; kill -INT $pid")
    assert.equal(1, code)
    assert.is_truthy(stderr:find("interrupted!\nstack traceback:\n", 1, true), stderr)
  end)

  it("can be caught by the script, which then goes on", function()
    local code = compare(READY .. "print(pcall(function() while true do end end)) os.exit(5)", [[
      until toils; do :; done
      kill -INT $pid
      cat <&3]])
    assert.equal(5, code)
  end)

  it("ends calls that are nested on the caller's own thread", function()
    local nested = [[
      local function dive(depth)
        while depth == 0 do os.date() end
        parallel.map(dive, { depth - 1 })
      end
      parallel.map(dive, { 3 }, { backend = "serial" })
    ]]
    local code, stderr = drive(interpreter.path, READY .. nested, "until toils; do :; done; kill -INT $pid")
    assert.equal(1, code)
    assert.is_truthy(stderr:find("interrupted!", 1, true), stderr)
  end)

  it("ends loops without end in workers, compiled ones too", function()
    for _, backend in ipairs({ "thread", "process" }) do
      local endless = ([[
        io.stdout:write("ready\n") io.stdout:flush()
        parallel.map(function() while true do end end, { 1, 2 }, { backend = "%s", workers = 2 })
      ]]):format(backend)
      -- The caller sleeps while its workers toil; how it ends is the same before they have begun.
      local code, stderr = drive(interpreter.path, endless, "until sleeps; do :; done; kill -INT $pid")
      assert.equal(1, code)
      assert.is_truthy(stderr:find("interrupted!", 1, true), stderr)
    end
  end)

  -- Signals reach compiled loops only in functions that the sanitizer knows.
  if interpreter.preset ~= "tsan" then
    local ways = {
      ["a loop that is compiled"] = "while true do end",
      ["one that catches errors"] = "while true do pcall(function() while true do end end) end",
      ["in a coroutine"] = "while true do coroutine.wrap(function() while true do end end)() end",
      ["in a call within the item"] = "while true do pcall(parallel.map, function() while true do end end, { 1 }) end",
    }
    for name, loop in pairs(ways) do
      it("ends items that run on the caller's own thread: " .. name, function()
        local code, stderr = drive(
          interpreter.path,
          ([[
            io.stdout:write("ready\n") io.stdout:flush()
            print(pcall(parallel.map, function() %s end, { 1, 2 }, { backend = "serial" }))
            -- It may go on, with other workers.
            assert(parallel.map(math.sqrt, { 4, 9 }, { backend = "serial" })[2] == 3)
            os.exit(5)
          ]]):format(loop),
          "until toils; do :; done; kill -INT $pid; cat <&3 >$folder/rest"
        )
        assert.equal(5, code, stderr)
        assert.equal("", stderr)
        local told = interpreter.read_file(folder .. "/rest")
        assert.is_truthy(told:find("^false\t.*interrupted!\n$"), told)
      end)
    end
  end

  it("ends a wait for input", function()
    local code, stderr = drive(interpreter.path, READY .. "io.read()", [[
      until sleeps; do :; done
      kill -INT $pid]])
    assert.equal(1, code)
    assert.is_truthy(stderr:find("interrupted!", 1, true), stderr)
  end)

  it("pressed again ends what the first one cannot", function()
    local endless = READY .. "string.find(('a'):rep(100000), ('.-'):rep(30) .. 'b')"
    local code = compare(endless, "until toils; do :; done; until ended; do kill -INT $pid; done")
    assert.equal(128 + SIGINT, code)
  end)
end)

describe("SIGTERM", function()
  it("ends a script as it ends the stock one", function()
    assert.equal(128 + SIGTERM, (compare(READY .. "while true do end", "kill -TERM $pid")))
  end)
end)

describe("SIGPIPE", function()
  it("ends a script as it ends the stock one", function()
    local code = compare(READY .. "while true do io.stdout:write(('x'):rep(10000)) end", "exec 3<&-")
    assert.equal(128 + SIGPIPE, code)
  end)
end)

describe("messages", function()
  it("go to standard error alone, behind the name that the program was called by", function()
    local link = folder .. "/another name"
    assert(os.execute(("ln -s %s %s"):format(quote(interpreter.path), quote(link))))
    local result = interpreter.run({ "-e", "x =" }, { program = link })
    assert.equal("", result.stdout)
    assert.equal(link .. ": (command line):1: ", result.stderr:sub(1, #link + #": (command line):1: "))
  end)
end)
