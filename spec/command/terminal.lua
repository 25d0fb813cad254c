-- SPDX-License-Identifier: MIT
--
-- The interpreter under test on a terminal: keys go in, and what appears is waited for. `script` makes the terminal.
--
--     local prompt = terminal.open()
--     prompt:expect("> ")
--     prompt:send("1 + 1\r")
--     prompt:expect("2")
--     prompt:send(terminal.CTRL_D)
--     assert.equal(0, prompt:close())

local lfs = require("lfs")

local interpreter = require("spec.support.interpreter")

local quote = interpreter.quote

local terminal = {}
terminal.__index = terminal

terminal.CTRL_A, terminal.CTRL_C, terminal.CTRL_D, terminal.CTRL_R = "\1", "\3", "\4", "\18"
terminal.UP, terminal.LEFT, terminal.HOME, terminal.DELETE = "\27[A", "\27[D", "\27[H", "\27[3~"

-- A program that shows nothing of what is waited for is ended, and the spec fails.
local LIMIT_SECONDS = 30

--- Starts the interpreter. Its home folder is one of its own, so that no history and no editor settings leak in.
---@param options table|nil arguments: list of strings; home: folder that stays, else a fresh one; env: as for
--- interpreter.run, but no `false`; before: shell code that runs ahead of it on the terminal
function terminal.open(options)
  options = options or {}
  local folder = interpreter.make_folder()
  local home = options.home or folder
  local words = { "exec", "env", "-u XDG_STATE_HOME", "TERM=xterm", "LC_ALL=C.UTF-8", "HOME=" .. quote(home) }
  for name, value in pairs(options.env or {}) do
    words[#words + 1] = quote(name .. "=" .. value)
  end
  words[#words + 1] = quote(interpreter.path)
  for _, argument in ipairs(options.arguments or {}) do
    words[#words + 1] = quote(argument)
  end
  local inside = (options.before or "") .. table.concat(words, " ")

  local self = setmetatable({ folder = folder, seen = "" }, terminal)
  local keys = folder .. "/keys"
  assert(os.execute("mkfifo " .. quote(keys)))
  local command = ("timeout -k 5 %d script -qefc %s /dev/null <%s; echo $? >%s"):format(
    LIMIT_SECONDS,
    quote(inside),
    quote(keys),
    quote(folder .. "/code")
  )
  self.output = assert(io.popen(command, "r"))
  self.keys = assert(io.open(keys, "w")) -- waits until the other end is open
  self.keys:setvbuf("no")
  return self
end

--- Presses keys.
function terminal:send(keys)
  self.keys:write(keys)
end

-- Without what moves the cursor, erases and colours.
local function shown(text)
  return (text:gsub("\27%[[%d;?]*%a", ""):gsub("\27[=>78]", ""):gsub("\r", ""))
end

--- Reads on until `text` has appeared, and forgets all up to there.
---@return string passed what came before it
function terminal:expect(text)
  while true do
    local plain = shown(self.seen)
    local first, last = plain:find(text, 1, true)
    if first and not self.seen:find("\27[^%a]*$") then
      self.seen = plain:sub(last + 1)
      return plain:sub(1, first - 1)
    end
    local byte = self.output:read(1)
    if not byte then
      error(("%q did not appear, but this: %q"):format(text, plain), 2)
    end
    self.seen = self.seen .. byte
  end
end

--- Waits for the end of the program.
---@return integer code exit status, 128 + N after signal N
---@return string rest what appeared since the last expect
function terminal:close()
  local rest = shown(self.seen .. self.output:read("*a"))
  self.keys:close()
  self.output:close()
  local code = tonumber(interpreter.read_file(self.folder .. "/code"))
  interpreter.remove_folder(self.folder)
  return code, rest
end

--- The file in which a home folder keeps the history.
function terminal.history_path(home)
  return home .. "/.local/state/lumap/history"
end

--- Permissions of a path, as "rwx------".
function terminal.permissions(path)
  return lfs.attributes(path, "permissions")
end

return terminal
