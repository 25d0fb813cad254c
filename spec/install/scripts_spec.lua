-- SPDX-License-Identifier: MIT
--
-- scripts/lumap on a tree that is built: the run it was made for costs next to nothing. That it builds on a machine
-- without anything is shown by the machines that run the tests first of all.

local interpreter = require("spec.support.interpreter")
local system = require("system")

-- It runs the release build, whatever build is under test.
if interpreter.sanitized then
  return
end

-- It takes a tenth of this; the rest is for a busy machine.
local SECONDS = 1

describe("scripts/lumap", function()
  local vm = interpreter.name == "lumap54" and "5.4" or "luajit"

  local function run(arguments, options)
    options = options or {}
    options.program = interpreter.root .. "/scripts/lumap"
    return interpreter.run(arguments, options)
  end

  it("runs a script of any folder with its arguments, and says nothing itself", function()
    local folder = interpreter.make_folder()
    interpreter.write_file(folder .. "/it's.lua", "#!/bin/false\nprint(arg[0], io.read('*a'), ...) os.exit(7)")
    run({ "--vm=" .. vm, "-e", "" })
    local begin = system.monotime()
    local result = run({ "--vm=" .. vm, "it's.lua", "a b", "" }, { cwd = folder, stdin = "input" })
    local seconds = system.monotime() - begin
    interpreter.remove_folder(folder)
    assert.same({ stdout = "it's.lua\tinput\ta b\t\n", stderr = "", code = 7 }, result)
    assert.is_true(seconds < SECONDS, ("took %.2f s"):format(seconds))
  end)

  it("takes the VM from the environment", function()
    local result = run({ "-e", "print(jit and 'luajit' or '5.4')" }, { env = { LUMAP_VM = vm } })
    assert.same({ stdout = vm .. "\n", stderr = "", code = 0 }, result)
  end)

  it("names the VMs that there are", function()
    local result = run({ "--vm=5.3" })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.equal("lumap: there is no VM '5.3': --vm and LUMAP_VM take luajit or 5.4\n", result.stderr)
  end)
end)
