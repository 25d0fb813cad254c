-- SPDX-License-Identifier: MIT
--
-- The interpreter under test, and running programs to their end.
--
--     local interpreter = require "spec.support.interpreter"
--     local result = interpreter.run { "-e", "print(1)" }
--     assert.same({ stdout = "1\n", stderr = "", code = 0 }, result)

local lfs = require("lfs")

local interpreter = {}

-- The shell that starts a program reports a signal as 128 + its number.
local SIGNAL_BASE = 128

---@param text any
---@return string one word for the shell
local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function own_program()
  local path = lfs.symlinkattributes("/proc/self/exe", "target")
  if path and path:match("lumap%d*$") then
    return path
  end
  error("the specs run inside lumap or lumap54: scripts/test does that, or set LUMAP_BIN and call busted", 0)
end

interpreter.quote = quote
interpreter.read_file = read_file
interpreter.write_file = write_file

--- Absolute path of the interpreter under test.
interpreter.path = os.getenv("LUMAP_BIN") or own_program()
--- "lumap" or "lumap54".
interpreter.name = interpreter.path:match("[^/]+$")
--- The interpreter that it takes the place of.
interpreter.stock = interpreter.name == "lumap54" and "lua5.4" or "luajit"
--- Root of the source tree, absolute.
interpreter.root = lfs.currentdir()
--- Folder of the build that the interpreter is in.
interpreter.build = interpreter.path:match("^(.*)/bin/[^/]+$")
--- Preset of that build; "asan" and "tsan" are slow, and their programs link only with the same sanitizer.
interpreter.preset = os.getenv("LUMAP_SPEC_PRESET") or "release"
interpreter.sanitized = interpreter.preset == "asan" or interpreter.preset == "tsan"

--- Runs a program to its end. Output may hold any bytes.
---@param arguments table list of strings
---@param options table|nil program: instead of the interpreter under test; stdin: string, else empty; env: table of
--- names and values, false to unset one; cwd: folder; seconds: limit, default 60, then the program and its children are
--- killed (code 124)
---@return table result stdout, stderr: strings; code: exit status, 128 + N after signal N; signal: N or nil
function interpreter.run(arguments, options)
  options = options or {}
  local base = os.tmpname()
  local paths = { stdin = base .. ".in", stdout = base .. ".out", stderr = base .. ".err", code = base .. ".code" }
  write_file(paths.stdin, options.stdin or "")

  local words = { "exec", "env" }
  for name, value in pairs(options.env or {}) do
    if value == false then
      table.insert(words, 3, "-u " .. quote(name))
    else
      words[#words + 1] = quote(name .. "=" .. tostring(value))
    end
  end
  words[#words + 1] = "timeout -k 5 " .. tostring(options.seconds or 60)
  words[#words + 1] = quote(options.program or interpreter.path)
  for _, argument in ipairs(arguments) do
    words[#words + 1] = quote(argument)
  end

  -- The exit status goes through a file: os.execute gives it in a different way on each VM, and io.popen on one alone.
  local command = ("{ (cd %s && %s) <%s >%s 2>%s; echo $? >%s; } 2>/dev/null"):format(
    quote(options.cwd or interpreter.root),
    table.concat(words, " "),
    paths.stdin,
    paths.stdout,
    paths.stderr,
    paths.code
  )
  os.execute(command)

  local code = tonumber(read_file(paths.code))
  local result = { stdout = read_file(paths.stdout), stderr = read_file(paths.stderr), code = code }
  if code > SIGNAL_BASE then
    result.signal = code - SIGNAL_BASE
  end
  os.remove(base)
  for _, path in pairs(paths) do
    os.remove(path)
  end
  return result
end

--- Runs Lua code given as text; the rest as for run.
function interpreter.run_code(code, options)
  return interpreter.run({ "-e", code }, options)
end

--- Makes an empty folder, for the caller to remove with remove_folder.
---@return string path absolute
function interpreter.make_folder()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  return path
end

---@param path string one that make_folder gave
function interpreter.remove_folder(path)
  os.execute("rm -rf -- " .. quote(path))
end

return interpreter
