-- SPDX-License-Identifier: MIT
--
-- Lines on a terminal: keys, Ctrl-C, job control, and the mode in which the terminal is left.

local interpreter = require("spec.support.interpreter")
local terminal = require("spec.command.terminal")

local prompt

local function open(options)
  prompt = terminal.open(options)
  prompt:expect("> ")
end

--- Enters a line; `shown`: the one line that it makes appear, if any.
local function enter(keys, shown)
  prompt:send(keys .. "\r")
  prompt:expect("\n" .. (shown and shown .. "\n" or "") .. "> ")
end

local function leave()
  prompt:send(terminal.CTRL_D)
  assert.equal(0, (prompt:close()))
end

describe("the line editor", function()
  it("edits within a line", function()
    open()
    enter("* 7" .. terminal.CTRL_A .. "6 ", "42")
    enter("* 8" .. terminal.HOME .. "6 ", "48")
    enter("6 * 97" .. terminal.LEFT .. terminal.LEFT .. terminal.DELETE, "42")
    enter("#'\tab'", "3")
    leave()
  end)

  it("takes characters of several bytes", function()
    open()
    enter("#'äß€' .. ''", "7")
    enter("('äö'):byte(1, -1)", "195\t164\t195\t182")
    leave()
  end)

  it("leaves the locale of Lua code alone", function()
    open()
    enter("os.setlocale()", "C")
    leave()
  end)

  it("brings earlier lines back, statements of several lines as a whole", function()
    open()
    enter("x = 1")
    prompt:send("do\r")
    prompt:expect(">> ")
    enter("x = x + 100 end")
    -- Shown on two lines, so what follows can be waited for only by what it prints.
    prompt:send(terminal.UP .. " print('x is', x)\r")
    prompt:expect("\nx is\t201\n> ")
    enter("print(x)", "201")
    enter(terminal.UP, "201")
    enter(terminal.CTRL_R .. "rint", "201")
    leave()
  end)

  it("gives a line up at Ctrl-C, and an unfinished statement", function()
    open()
    prompt:send("os.exit(9)")
    prompt:expect("os.exit(9)")
    prompt:send(terminal.CTRL_C)
    prompt:expect("^C\n> ")
    enter("6 * 7", "42")
    prompt:send("while true do\r")
    prompt:expect(">> ")
    prompt:send(terminal.CTRL_C)
    prompt:expect("^C\n> ")
    enter("6 * 8", "48")
    leave()
  end)

  it("shows Ctrl-C behind the line wherever the cursor is", function()
    open()
    prompt:send("abcdef" .. terminal.LEFT .. terminal.LEFT .. "X")
    prompt:expect("Xef")
    prompt:send(terminal.CTRL_C)
    prompt:expect("ef^C\n> ")
    leave()
  end)

  it("gives the terminal back in the mode that it had", function()
    -- The shell ahead of the program is its parent here, so it can look at the terminal afterwards.
    local shell = "stty -g >&2; trap '' INT; " .. interpreter.quote(interpreter.path) .. "; stty -g; exit 0; "
    prompt = terminal.open({ before = shell })
    local before = prompt:expect("\n")
    prompt:expect("> ")
    prompt:send("1 + 1\r")
    prompt:expect("\n2\n> ")
    prompt:send(terminal.CTRL_D)
    local code, rest = prompt:close()
    assert.equal(0, code)
    assert.is_truthy(rest:find(before, 1, true), rest)
  end)

  it("gives the terminal back when a signal ends the program", function()
    local shell = "stty -g >&2; " .. interpreter.quote(interpreter.path) .. "; echo code $?; stty -g; exit 0; "
    prompt = terminal.open({ before = shell })
    local before = prompt:expect("\n")
    prompt:expect("> ")
    prompt:send("(io.open('/proc/self/stat'):read('*l'):match('^%d+'))\r")
    prompt:expect("\n")
    local pid = prompt:expect("\n> "):match("%d+$")
    os.execute("kill -TERM " .. pid)
    local code, rest = prompt:close()
    assert.equal(0, code)
    assert.is_truthy(rest:find("code 143", 1, true), rest)
    assert.is_truthy(rest:find(before, 1, true), rest)
  end)

  it("can be stopped and taken up again", function()
    open({ before = "set -m; (" .. interpreter.quote(interpreter.path) .. "); fg; exit 0; " })
    prompt:send("6 *")
    prompt:expect("6 *")
    prompt:send("\26") -- Ctrl-Z; the shell takes it up at once
    prompt:expect("> 6 *")
    enter(" 7", "42")
    prompt:send(terminal.CTRL_D)
    prompt:close()
  end)
end)
