-- SPDX-License-Identifier: MIT
--
-- Options that act: -e, -l and -W in their order, and LuaJIT's -j, -O and -b.

local interpreter = require("spec.support.interpreter")
local stock = require("spec.command.stock")

local luajit_it = stock.is_luajit and it or function() end
local lua54_it = stock.is_luajit and function() end or it

describe("-e and -l", function()
  local folder

  setup(function()
    folder = interpreter.make_folder()
    interpreter.write_file(folder .. "/one.lua", "print('one', ...) loaded = (loaded or 0) + 1 return {n = 1}")
    interpreter.write_file(folder .. "/one-v2.lua", "return {n = 2}")
    interpreter.write_file(folder .. "/bad.lua", "error('while loading')")
  end)

  teardown(function()
    interpreter.remove_folder(folder)
  end)

  local function compare(...)
    return stock.compare({ ... }, { cwd = folder })
  end

  it("run in the order of the command line, each once", function()
    local result = compare("-e", "print('first')", "-lone", "-e", "print('last', loaded)", "-l", "one")
    assert.equal("first", result.stdout:match("^%a+"))
  end)

  it("make a module a global where the stock command does", function()
    compare("-lone", "-e", "print(one and one.n)")
    compare("-l", "one-v2", "-e", "print(one and one.n)")
  end)

  lua54_it("make a module a global of another name", function()
    assert.equal("2\tnil\n", compare("-l", "two=one-v2", "-e", "print(two.n, one)").stdout)
  end)

  it("end all with the first that fails", function()
    assert.equal(1, compare("-e", "error('x')", "-e", "print('not reached')").code)
    compare("-labsent", "-e", "print('not reached')")
    compare("-lbad", "-e", "print('not reached')")
    compare("-e", "x =", "-e", "print('not reached')")
    compare("-e", "os.exit(4)", "-e", "print('not reached')")
  end)
end)

describe("-W", function()
  lua54_it("shows warnings from where it stands", function()
    local code = "warn('shown or not')"
    assert.equal("", stock.compare({ "-e", code }).stderr)
    assert.equal("Lua warning: shown or not\n", stock.compare({ "-W", "-e", code }).stderr)
    stock.compare({ "-e", code, "-W", "-e", code })
  end)
end)

describe("-O", function()
  local good = { "-O", "-O0", "-O1", "-O2", "-O3", "-O+cse", "-O-fold", "-Ono-loop", "-Oloop,-cse", "-Ohotloop=9" }
  for _, option in ipairs(good) do
    luajit_it("sets the optimizations: " .. option, function()
      stock.compare({ option, "-e", "print(jit.status())" })
    end)
  end

  for _, option in ipairs({ "-Ononsense", "-O,", "-O9,x", "-Ohotloop=x" }) do
    luajit_it("refuses what is no optimization: " .. option, function()
      assert.equal(1, stock.compare({ option, "-e", "print(jit.status())" }).code)
    end)
  end
end)

describe("-j", function()
  for _, option in ipairs({ "-jon", "-joff", "-jflush", "-joff=1", "-jv=/absent/file", "-jdump=,/absent/file" }) do
    luajit_it("does what the stock command does: " .. option, function()
      stock.compare({ option, "-e", "print(jit.status())" })
    end)
  end

  luajit_it("takes its value from the next argument too", function()
    stock.compare({ "-j", "off", "-e", "print((jit.status()))" })
  end)

  luajit_it("starts a module of jit.* with arguments", function()
    local traced = stock.compare({ "-jv", "-e", "for i = 1, 100 do end" })
    assert.is_truthy(traced.stderr:find("TRACE", 1, true))
    assert.is_truthy(stock.compare({ "-jbc=-", "-e", "return 1" }).stdout:find("BYTECODE", 1, true))
  end)

  for _, value in ipairs({ "nonsense", "version", "util", "" }) do
    luajit_it("refuses what is neither command nor module: '" .. value .. "'", function()
      local result = interpreter.run({ "-j", value, "-e", "print(1)" })
      assert.equal(1, result.code)
      assert.equal("", result.stdout)
      local expected = interpreter.path .. ": no command of LuaJIT and no module jit." .. value .. " to be found\n"
      assert.equal(expected, result.stderr)
      assert.equal(1, interpreter.run({ "-j", value, "-e", "print(1)" }, { program = stock.program }).code)
    end)
  end
end)

describe("-b", function()
  luajit_it("lists bytecode", function()
    stock.compare({ "-bl", "-e", "local x = ... return x + 1" })
    stock.compare({ "-bl", "-" }, { stdin = "print(1)" })
  end)

  luajit_it("saves bytecode that runs", function()
    local path = os.tmpname()
    stock.compare({ "-bg", "-e", "print('saved', ...)", path })
    assert.equal("saved\t1\n", stock.compare({ path, "1" }).stdout)
    os.remove(path)
  end)

  luajit_it("tells how it is used, and what is wrong", function()
    stock.compare({ "-b" })
    stock.compare({ "-b", "/absent/file.lua", "x.out" })
    stock.compare({ "-bx" })
    stock.compare({ "-b", "-e", "x =", "-" })
  end)

  luajit_it("leaves nothing to run behind it", function()
    assert.equal("", stock.compare({ "-b", "-e", "print('not run')", "/dev/null" }).stdout)
  end)
end)
