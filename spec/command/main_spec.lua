-- SPDX-License-Identifier: MIT
--
-- Scripts: where they come from, what they are given, how they end, and what the environment has to do with it.

local interpreter = require("spec.support.interpreter")
local stock = require("spec.command.stock")

local folder

before_each(function()
  folder = interpreter.make_folder()
end)

after_each(function()
  interpreter.remove_folder(folder)
end)

local function script(name, code)
  interpreter.write_file(folder .. "/" .. name, code)
  return name
end

local function compare(arguments, options)
  options = options or {}
  options.cwd = folder
  return stock.compare(arguments, options)
end

describe("a script", function()
  it("gets its arguments as ... and in arg, options at negative indices", function()
    script("a.lua", "for i = -9, 9 do if arg[i] then io.write(i, '=', arg[i], ' ') end end print(...)")
    compare({ "a.lua" })
    compare({ "a.lua", "one", "", "-e", "--workers=9" })
    compare({ "-e", "x = 1", "-lmath", "a.lua", "one" })
  end)

  it("gets arguments that code before it put into arg", function()
    script("a.lua", "print(select('#', ...), ...)")
    assert.equal("2\tnew\ttwo\n", compare({ "-e", "arg[1] = 'new'", "a.lua", "one", "two" }).stdout)
    compare({ "-e", "arg[2] = nil", "a.lua", "one", "two", "three" })
    compare({ "-e", "arg = nil", "a.lua", "one" })
    compare({ "-e", "arg = {1, true, 'x'}", "a.lua", "one" })
  end)

  it("comes from standard input without a name, and for '-'", function()
    assert.equal("1\n", compare({}, { stdin = "print(1, ...)" }).stdout)
    compare({ "-", "a", "b" }, { stdin = "print(arg[0], arg[1], ...)" })
    compare({ "-" }, { stdin = "#!/usr/bin/env lua\nerror('in line 2')" })
    script("-", "print('a file')")
    assert.equal("a file\n", compare({ "--", "-" }, { stdin = "print('standard input')" }).stdout)
  end)

  it("leaves the rest of standard input to be read", function()
    script("a.lua", "print(io.read('*a'))")
    assert.equal("some text\n", compare({ "a.lua" }, { stdin = "some text" }).stdout)
  end)

  it("may begin with a #! line", function()
    assert.equal("2\n", compare({ script("a.lua", "#!/usr/bin/env lua\nprint(debug.getinfo(1).currentline)") }).stdout)
    compare({ script("b.lua", "#!only this line") })
    compare({ script("c.lua", "#!line\nerror('in line 2')") })
  end)

  it("may be bytecode", function()
    script("a.lua", "local f = io.open('a.out', 'wb') f:write(string.dump(loadstring and loadstring('print(...)') "
      .. "or load('print(...)'))) f:close()")
    interpreter.run({ "a.lua" }, { cwd = folder })
    assert.equal("x\n", compare({ "a.out", "x" }).stdout)
  end)

  it("that cannot be read is an error", function()
    assert.equal(1, compare({ "absent.lua" }).code)
    compare({ "." })
    compare({ "-e", "print(1)", "absent.lua" })
  end)

  it("that does not compile is an error with its place", function()
    compare({ script("a.lua", "x = = 1") })
    compare({ script("b.lua", "\nfor") })
    compare({ "-e", "x =" })
    compare({ "-" }, { stdin = "x =" })
  end)

  it("that raises an error ends with it and a traceback", function()
    compare({ script("a.lua", "local function f() error('deep') end\nlocal function g() f() end\ng()") })
    compare({ script("b.lua", "local t = nil\nt.x = 1") })
    compare({ script("c.lua", "require('absent_module')") })
    compare({ script("d.lua", "coroutine.wrap(function() error('inside') end)()") })
    compare({ script("e.lua", "error(string.rep('long ', 1000))") })
    compare({ script("f.lua", "error('no place', 0)") })
    compare({ script("g.lua", "local function f() return f() + 1 end f()") })
  end)

  it("that raises no string ends as the stock one", function()
    for _, value in ipairs({ "", "nil", "false", "{}", "42", "4.5", "print and io.stdout and {}", "''" }) do
      compare({ "-e", "error(" .. value .. ")" })
    end
    compare({ "-e", "error(setmetatable({}, {__tostring = function() return 'an object' end}))" })
    compare({ "-e", "error(setmetatable({}, {__tostring = function() return 1 end}))" })
  end)

  it("ends with the exit status that it asks for", function()
    assert.equal(7, compare({ script("a.lua", "io.write('unflushed') os.exit(7)") }).code)
    compare({ "-e", "os.exit(true)" })
    compare({ "-e", "os.exit(false)" })
    compare({ "-e", "os.exit(0, true)" })
  end)

  it("fails without a trace in the exit status when it came from standard input unasked", function()
    assert.equal(0, compare({}, { stdin = "error('x')" }).code)
    assert.equal(1, compare({ "-" }, { stdin = "error('x')" }).code)
  end)

  it("has its finalizers run at the end", function()
    local code = "x = setmetatable({}, {__gc = function() print('finalized') end})"
    local luajit = "x = newproxy(true) getmetatable(x).__gc = function() print('finalized') end"
    compare({ "-e", stock.is_luajit and luajit or code })
  end)

  it("sees the libraries and the search paths of the stock interpreter", function()
    -- Lumap loads its own modules, and LuaJIT's ffi, before the script begins.
    local code = [[
      local names = {}
      for name in pairs(package.loaded) do
        local is_own = name == "parallel" or name == "codec" or name:find("^lumap%.") or name:find("^parallel%.")
        if not is_own and name ~= "ffi" then names[#names + 1] = name end
      end
      table.sort(names)
      print(table.concat(names, " "), package.path, package.cpath, _VERSION)
    ]]
    compare({ "-e", code })
  end)

  it("runs under the collector of the stock interpreter", function()
    if stock.is_luajit then
      compare({ "-e", "print(collectgarbage('setpause', 100), collectgarbage('setstepmul', 200))" })
    else
      compare({ "-e", "print(collectgarbage('incremental'))" })
    end
  end)
end)

describe("the environment", function()
  it("gives code that runs first, in LUA_INIT", function()
    local env = { LUA_INIT = "x = 'from init'" }
    assert.equal("from init\n", compare({ "-e", "print(x)" }, { env = env }).stdout)
    compare({ "-e", "print(x)" }, { env = { LUA_INIT = "x = arg[-1] print('first')" } })
    compare({ "-v" }, { env = { LUA_INIT = "print('init')" } })
    compare({ "-e", "print(x)" }, { env = { LUA_INIT = "" } })
  end)

  it("gives a file that runs first, in LUA_INIT behind @", function()
    script("init.lua", "x = 'from the file'")
    compare({ "-e", "print(x)" }, { env = { LUA_INIT = "@init.lua" } })
    compare({ "-e", "print(x)" }, { env = { LUA_INIT = "@absent.lua" } })
  end)

  it("ends all when that code fails", function()
    assert.equal(1, compare({ "-v", "-e", "print(1)" }, { env = { LUA_INIT = "error('init')" } }).code)
    compare({ "-e", "print(1)" }, { env = { LUA_INIT = "x =" } })
  end)

  it("has a variable for 5.4 alone that goes first", function()
    local env = { LUA_INIT = "print('any')", LUA_INIT_5_4 = "print('5.4')" }
    compare({ "-e", "print(1)" }, { env = env })
    compare({ "-e", "print(1)" }, { env = { LUA_INIT_5_4 = "error('5.4')" } })
    compare({ "-e", "print(1)" }, { env = { LUA_INIT = "print('any')", LUA_INIT_5_4 = "" } })
  end)

  it("gives search paths", function()
    script("own_module.lua", "return {name = ...}")
    local env = { LUA_PATH = folder .. "/?.lua;;", LUA_CPATH = "./here/?.so" }
    compare({ "-e", "print(require('own_module').name, package.path, package.cpath)" }, { env = env })
    env = { LUA_PATH_5_4 = "./only54/?.lua", LUA_CPATH_5_4 = "./only54/?.so" }
    compare({ "-e", "print(package.path, package.cpath)" }, { env = env })
  end)

  it("is not read with -E", function()
    local env = { LUA_INIT = "print('init')", LUA_PATH = "./x/?.lua", LUA_CPATH = "./x/?.so" }
    compare({ "-E", "-e", "print(package.path, package.cpath)" }, { env = env })
    compare({ "-e", "print(1)", "-E" }, { env = env })
  end)
end)
