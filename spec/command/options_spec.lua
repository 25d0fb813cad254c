-- SPDX-License-Identifier: MIT
--
-- The command line: forms that are accepted and refused, and the options that only Lumap has.

local interpreter = require("spec.support.interpreter")
local stock = require("spec.command.stock")

local SHOW_ARG = "for i = -9, 9 do if arg[i] then io.write(i, '=', arg[i], ' ') end end print(...)"

-- Lists of arguments that both VMs' commands take in the same way.
local COMMON_FORMS = {
  { "-e", "print(1)" },
  { "-eprint(1)" },
  { "-e", "" },
  { "-e", "x = 1", "-e", "print(x)" },
  { "-v" },
  { "-v", "-e", "print(1)" },
  { "-e", "print(1)", "-v" },
  { "-E", "-e", "print(1)" },
  { "-lmath", "-e", "print(1)" },
  { "-l", "math", "-e", "print(1)" },
  { "-e", SHOW_ARG },
  { "-e", SHOW_ARG, "--" },
  { "-e", SHOW_ARG, "-", "one", "two" },
  { "-e", SHOW_ARG, "--", "/dev/null", "-e" },
  { "-v", "-" },
  { "--" },
  { "-" },
}

local LUAJIT_FORMS = {
  { "-e", "-- a value that looks like an option" },
  { "-Ewhatever", "-e", "print(1)" },
  { "-O", "-e", "print(1)" },
  { "-O0", "-e", "print(1)" },
  { "-jon", "-e", "print(1)" },
  { "-j", "on", "-e", "print(1)" },
  { "-bl", "-e", "return 1" },
  { "-b", "-l", "-e", "return 1" },
  { "-O1", "-bl", "-e", "return 1" },
}

local LUA54_FORMS = {
  { "-W", "-e", "print(1)" },
  { "-l", "m=math", "-e", "print(m == math)" },
  { "-lm=math", "-e", "print(m == math)" },
}

local COMMON_REFUSED = {
  { "-x" },
  { "-e" },
  { "-l" },
  { "-vx", "-e", "print(1)" },
  { "-ix" },
  { "-e", "print(1)", "-x" },
  { "--unknown" },
  { "--unknown=1" },
  { "--helpful" },
}

local LUAJIT_REFUSED = { { "-j" }, { "-W" }, { "-v", "-b" }, { "-E", "-b" }, { "-e", "", "-b" }, { "-jon", "-b" } }
local LUA54_REFUSED = { { "-Ex" }, { "-Wx" }, { "-b" }, { "-O" }, { "-jon" }, { "-e", "-v" }, { "-l", "-v" } }

local function each(common, luajit, lua54)
  local forms = {}
  for _, list in ipairs({ common, stock.is_luajit and luajit or lua54 }) do
    for _, arguments in ipairs(list) do
      forms[#forms + 1] = arguments
    end
  end
  return ipairs(forms)
end

describe("options that the stock command has", function()
  for _, arguments in each(COMMON_FORMS, LUAJIT_FORMS, LUA54_FORMS) do
    it("are taken as it takes them: " .. table.concat(arguments, " "), function()
      stock.compare(arguments)
    end)
  end

  for _, arguments in each(COMMON_REFUSED, LUAJIT_REFUSED, LUA54_REFUSED) do
    it("are refused as it refuses them: " .. table.concat(arguments, " "), function()
      local ours = interpreter.run(arguments)
      local theirs = interpreter.run(arguments, { program = stock.program })
      assert.equal(theirs.code, ours.code)
      assert.equal("", ours.stdout)
      -- What the usage text says is ours; what is wrong, and that the text follows, is not.
      local complaint = theirs.stderr:match("^[^\n]*: ([^\n]*)\nusage: ")
      local expected = complaint and interpreter.path .. ": " .. complaint .. "\n" or ""
      expected = expected .. "usage: " .. interpreter.path
      assert.equal(expected, ours.stderr:sub(1, #expected))
    end)
  end
end)

describe("options that Lumap adds", function()
  it("are all in --help, beside those of the stock command", function()
    local help = interpreter.run({ "--help" })
    assert.equal(0, help.code)
    assert.equal("", help.stderr)
    for _, option in ipairs({ "-e", "-l", "-i", "-v", "-E", "--workers=N", "--backend=NAME", "--help", "--version" }) do
      assert.is_truthy(help.stdout:find("\n  " .. option, 1, true), option)
    end
    for _, option in ipairs({ "-j", "-O", "-b", "-W" }) do
      local found = help.stdout:find("\n  " .. option, 1, true) ~= nil
      assert.equal(stock.is_luajit == (option ~= "-W"), found, option)
    end
  end)

  it("show the version and run nothing", function()
    local version = interpreter.run({ "-e", "print('ran')", "--version" })
    assert.same({ stdout = version.stdout, stderr = "", code = 0 }, version)
    assert.is_truthy(version.stdout:match("^lumap %d+%.%d+%.%d+ %(Lua[%w .-]+%)\n$"), version.stdout)
  end)

  it("set the number of workers of calls that name none", function()
    local result = interpreter.run({ "--workers=3", "-e", "local p = parallel.pool{} print(p.workers) p:terminate()" })
    assert.same({ stdout = "3\n", stderr = "", code = 0 }, result)
  end)

  it("set the back-end of calls that name none", function()
    local code = [[
      local function pid() local f = io.open('/proc/self/stat') return f:read('*l'):match('%d+') end
      print(pid() == parallel.map(pid, {1})[1])
    ]]
    for backend, in_this_process in pairs({ serial = "true\n", thread = "true\n", process = "false\n" }) do
      local result = interpreter.run({ "--workers=1", "--backend=" .. backend, "-e", code })
      assert.same({ stdout = in_this_process, stderr = "", code = 0 }, result)
    end
  end)

  it("refuse a back-end that there is not, and name it", function()
    local result = interpreter.run({ "--backend=pigeon", "-e", "print(1)" })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.is_truthy(result.stderr:find("pigeon", 1, true), result.stderr)
  end)

  for _, value in ipairs({ "", "=", "=0", "=-1", "=+1", "= 1", "=two", "=2x", "=99999999999" }) do
    it("refuse a number of workers that is none: --workers" .. value, function()
      local argument = "--workers" .. value
      local result = interpreter.run({ argument, "-e", "print(1)" })
      assert.equal(1, result.code)
      assert.equal("", result.stdout)
      local beginning = interpreter.path .. ": --workers=N takes a number of workers, 1 and up"
      assert.equal(beginning, result.stderr:sub(1, #beginning))
    end)
  end

  it("refuse a value where none belongs", function()
    local result = interpreter.run({ "--help=me" })
    assert.same({ stdout = "", stderr = interpreter.path .. ": --help takes no value\n", code = 1 }, result)
  end)

  it("belong to the script behind its name", function()
    local result = interpreter.run({ "-", "--workers=0", "--help" }, { stdin = "print(...)" })
    assert.same({ stdout = "--workers=0\t--help\n", stderr = "", code = 0 }, result)
  end)
end)
