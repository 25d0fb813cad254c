-- SPDX-License-Identifier: MIT
--
-- The dialogue: statements of one and several lines, values, errors; on a terminal and on a pipe.

local interpreter = require("spec.support.interpreter")
local stock = require("spec.command.stock")
local terminal = require("spec.command.terminal")

local function lines(...)
  return table.concat({ ... }, "\n") .. "\n"
end

--- What -i shows for these lines, without the lines above the first prompt.
local function dialogue(input, ...)
  local arguments = { ... }
  arguments[#arguments + 1] = "-i"
  local result = interpreter.run(arguments, { stdin = input })
  result.stdout = result.stdout:match("^Lua.-\n(.*)$"):gsub("^JIT: [^\n]*\n", "")
  return result
end

describe("-i without a terminal", function()
  -- The stock 5.4 may be built with a line editor, which repeats what it reads; LuaJIT never is.
  local function compare(input, ...)
    if stock.is_luajit then
      local arguments = { ... }
      arguments[#arguments + 1] = "-i"
      stock.compare(arguments, { stdin = input })
    end
    return dialogue(input, ...)
  end

  it("runs statements and shows values", function()
    local result = compare(lines("x = 1", "=x, x + 1", "print('p')", "= nil"))
    assert.same({ stdout = "> > 1\t2\n> p\n> nil\n> \n", stderr = "", code = 0 }, result)
  end)

  it("asks for more lines while a statement is not over", function()
    local result = compare(lines("for i = 1, 2 do", "print(i)", "end", "x =", "[[two", "lines]]", "=x"))
    assert.equal("> >> >> 1\n2\n> >> >> > two\nlines\n> \n", result.stdout)
  end)

  it("shows expressions as they are, which stock LuaJIT does not", function()
    local result = dialogue(lines("1 + 1", "'a', nil", "nil", "x = 3", "x"))
    assert.same({ stdout = "> 2\n> a\tnil\n> nil\n> > 3\n> \n", stderr = "", code = 0 }, result)
  end)

  it("goes on after errors, and names no program in them", function()
    local result = compare(lines("error('first')", "x = = 1", "print('still here')"))
    assert.equal("> > > still here\n> \n", result.stdout)
    assert.equal("stdin:1: first\nstack traceback:\n", result.stderr:match("^.-\n.-\n"))
    assert.is_truthy(result.stderr:find("\nstdin:1: unexpected symbol near '='\n", 1, true), result.stderr)
    assert.equal(0, result.code)
  end)

  it("shows what goes wrong with showing", function()
    local result = compare(lines("print = nil", "=1"))
    assert.equal("error calling 'print' (attempt to call a nil value)\n", result.stderr)
  end)

  it("prompts with the globals _PROMPT and _PROMPT2", function()
    local result = compare(lines("x =", "1", "_PROMPT = 7", "_PROMPT = nil"), "-e", "_PROMPT, _PROMPT2 = 'a ', 'b '")
    assert.equal("a b a 7> \n", result.stdout)
    compare(lines("=1"), "-e", "_PROMPT = {}")
  end)

  it("comes after all else, and not after an error", function()
    compare(lines("=x"), "-e", "x = 5")
    local result = interpreter.run({ "-i", "-e", "error('x')" }, { stdin = "print('not run')" })
    assert.equal(1, result.code)
    assert.is_nil(result.stdout:find("not run", 1, true))
  end)

  it("takes a last line without an end, and drops an unfinished statement", function()
    assert.equal("> 1\n> \n", compare("print(1)").stdout)
    assert.equal("> >> \n", compare("x = (1 +\n").stdout)
  end)

  it("ends where the script says", function()
    assert.equal(3, compare(lines("os.exit(3)", "print('not run')")).code)
  end)
end)

describe("a terminal", function()
  it("without a script gives a prompt", function()
    local prompt = terminal.open()
    assert.is_truthy(prompt:expect("> "):find("^Lumap .* on Lua.*Copyright"))
    prompt:send("6 * 7\r")
    prompt:expect("\n42\n> ")
    prompt:send("for i = 101, 102 do\r")
    prompt:expect(">> ")
    prompt:send("print(i)\r")
    prompt:expect(">> ")
    prompt:send("end\r")
    prompt:expect("\n101\n102\n> ")
    prompt:send("error('bo' .. 'om')\r")
    prompt:expect("\nstdin:1: boom\nstack traceback:\n")
    prompt:expect("> ")
    prompt:send(terminal.CTRL_D)
    assert.equal(0, (prompt:close()))
  end)

  it("gives none to a script, unless -i asks for it", function()
    local script = os.tmpname()
    interpreter.write_file(script, "x = 'left by the script'")
    local code, rest = terminal.open({ arguments = { script } }):close()
    assert.same({ 0, "" }, { code, rest })

    local prompt = terminal.open({ arguments = { "-i", script } })
    prompt:expect("> ")
    prompt:send("=x\r")
    prompt:expect("\nleft by the script\n> ")
    prompt:send(terminal.CTRL_D)
    assert.equal(0, (prompt:close()))
    os.remove(script)
  end)

  it("reads plainly where lines cannot be edited", function()
    local prompt = terminal.open({ env = { TERM = "dumb" } })
    prompt:expect("> ")
    prompt:send("6 * 7\r")
    prompt:expect("42\n> ")
    prompt:send(terminal.CTRL_D)
    assert.equal(0, (prompt:close()))
  end)

  it("ends what runs at Ctrl-C and gives the prompt back", function()
    local prompt = terminal.open()
    prompt:expect("> ")
    prompt:send("if jit then jit.off() end print('run' .. 'ning') while true do end\r")
    prompt:expect("\nrunning\n")
    prompt:send(terminal.CTRL_C)
    prompt:expect("interrupted!\nstack traceback:\n")
    prompt:expect("> ")
    prompt:send("6 * 7\r")
    prompt:expect("\n42\n> ")
    prompt:send(terminal.CTRL_D)
    assert.equal(0, (prompt:close()))
  end)
end)
