-- SPDX-License-Identifier: MIT
--
-- The history file: its place, its permissions, what is in it, and that nothing depends on it.

local interpreter = require("spec.support.interpreter")
local terminal = require("spec.command.terminal")

local home

before_each(function()
  home = interpreter.make_folder()
end)

after_each(function()
  interpreter.remove_folder(home)
end)

--- Enters lines at a prompt, each a statement without a value.
local function enter(options, ...)
  options.home = options.home or home
  local prompt = terminal.open(options)
  prompt:expect("> ")
  for _, line in ipairs({ ... }) do
    prompt:send(line .. "\r")
    prompt:expect("\n")
    prompt:expect("> ")
  end
  prompt:send(terminal.CTRL_D)
  return (prompt:close())
end

local function history()
  return interpreter.read_file(terminal.history_path(home))
end

describe("the history", function()
  it("outlives the program, in a file and folders for the user alone", function()
    enter({}, "x = 1", "y = 2")
    assert.equal("x = 1\ny = 2\n", history())
    assert.equal("rw-------", terminal.permissions(terminal.history_path(home)))
    assert.equal("rwx------", terminal.permissions(home .. "/.local/state/lumap"))

    local prompt = terminal.open({ home = home })
    prompt:expect("> ")
    prompt:send(terminal.UP .. terminal.UP .. " + 10 print(x)\r")
    prompt:expect("\n11\n> ")
    prompt:send(terminal.CTRL_D)
    prompt:close()
    assert.equal("x = 1\ny = 2\nx = 1 + 10 print(x)\n", history())
  end)

  it("keeps a statement of several lines together", function()
    enter({}, "do", "x = 5", "end")
    assert.equal("do\n\\x = 5\n\\end\n", history())
    local prompt = terminal.open({ home = home })
    prompt:expect("> ")
    prompt:send(terminal.UP .. " print(x)\r")
    prompt:expect("\n5\n> ")
    prompt:send(terminal.CTRL_D)
    prompt:close()
    assert.equal("do\n\\x = 5\n\\end\ndo\n\\x = 5\n\\end print(x)\n", history())
  end)

  it("has a line before it runs", function()
    local prompt = terminal.open({ home = home })
    prompt:expect("> ")
    prompt:send("os.exit(4)\r")
    assert.equal(4, (prompt:close()))
    assert.equal("os.exit(4)\n", history())
  end)

  it("is where XDG_STATE_HOME says", function()
    enter({ env = { XDG_STATE_HOME = home .. "/state" } }, "x = 1")
    assert.equal("x = 1\n", interpreter.read_file(home .. "/state/lumap/history"))
    enter({ env = { XDG_STATE_HOME = "relative" } }, "x = 2")
    assert.equal("x = 2\n", history())
  end)

  it("is cut when it grows too long, at the beginning of an entry", function()
    enter({}, "x = 0")
    local entries = {}
    for i = 1, 2500 do
      entries[i] = ("do -- %d\n\\end\n"):format(i)
    end
    interpreter.write_file(terminal.history_path(home), table.concat(entries))
    enter({}, "x = 1")
    assert.equal(table.concat(entries, "", 1501) .. "x = 1\n", history())
  end)

  it("is no error where it cannot be written", function()
    assert.equal(0, enter({ env = { XDG_STATE_HOME = "/dev/null/state" } }, "x = 1"))
    assert.equal(0, enter({ home = "/proc" }, "x = 1"))
    assert.equal(0, enter({ env = { HOME = "" } }, "x = 1"))
  end)

  it("survives bytes that are no text", function()
    enter({}, "x = 0")
    interpreter.write_file(terminal.history_path(home), "x = 1\n\255\254\n\\\n\n\\y\nx = 3")
    local prompt = terminal.open({ home = home })
    prompt:expect("> ")
    prompt:send(terminal.UP .. " print(x)\r")
    prompt:expect("\n3\n> ")
    prompt:send(terminal.CTRL_D)
    assert.equal(0, (prompt:close()))
  end)
end)
