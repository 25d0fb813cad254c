-- SPDX-License-Identifier: MIT
--
-- The back-end "fork": what copies of the caller's process leave alone or share with it - finalizers, buffers, standard
-- output - and that they end with it.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local copies = require("spec.support.copies")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local processes = require("spec.support.processes")

if copies.missing then
  return
end

--- Runs a script in a process of its own.
local function run(script)
  return interpreter.run({ "-e", script })
end

describe("what belongs to the caller", function()
  it("is not finalized in copies, and what was buffered is not written twice", function()
    local out = os.tmpname()
    local result = run(([[
      local file = io.open(%q, "w")
      file:write("buffered by the caller\n")
      io.write("printed by the caller\n")
      local marker
      if newproxy then
        marker = newproxy(true)
        getmetatable(marker).__gc = function() io.stderr:write("finalized\n") end
      else
        marker = setmetatable({}, { __gc = function() io.stderr:write("finalized\n") end })
      end
      local exit = os.exit
      parallel.map(function(i)
        file:write("by item " .. i .. "\n")
        if i == 2 then exit(0, true) end
        if i == 3 then os.exit(1, true) end
      end, { 1, 2, 3, 4 }, { backend = "fork", workers = 1, chunk = 1, errors = "collect" })
      file:close()
    ]]):format(out))
    local text = interpreter.read_file(out)
    os.remove(out)
    assert.equal("printed by the caller\n", result.stdout)
    local _, finalized = result.stderr:gsub("finalized", "")
    -- One is the caller's; the stock os.exit(0, true), which was put aside, closes the state of its copy first.
    assert.equal(2, finalized, result.stderr)
    assert.equal("buffered by the caller\nby item 1\nby item 2\nby item 3\nby item 4\n", text)
    assert.equal(0, result.code)
  end)

  it("print and io.write of copies arrive in whole calls, put aside or not", function()
    local script = [[
      local print, write = print, io.write
      parallel.map(function(i)
        local middle = string.char(97 + i % 26):rep(3000)
        if i % 4 == 0 then print(i, middle, i)
        elseif i % 4 == 1 then _G.print(i, middle, i)
        elseif i % 4 == 2 then io.write(i, "\t", middle, "\t", i, "\n")
        else write(i, "\t", middle, "\t", i, "\n") end
      end, parallel.range(1, 200), { backend = "fork", workers = 5, chunk = 1 })
    ]]
    local out = os.tmpname()
    interpreter.write_file(out .. ".lua", script)
    for _, redirection in ipairs({ "> OUT", "| cat > OUT", "| dd bs=512 2>/dev/null > OUT" }) do
      local command = ("%s %s %s"):format(
        interpreter.quote(interpreter.path),
        out .. ".lua",
        (redirection:gsub("OUT", out))
      )
      assert.equal(0, interpreter.run({ "-c", command }, { program = "/bin/sh" }).code)
      local lines = 0
      for line in io.lines(out) do
        local i, middle, again = line:match("^(%d+)\t(%a+)\t(%d+)$")
        assert.truthy(i, line:sub(1, 100))
        assert.equal(i, again)
        assert.equal(string.char(97 + i % 26):rep(3000), middle)
        lines = lines + 1
      end
      assert.equal(200, lines)
    end
    os.remove(out)
    os.remove(out .. ".lua")
  end)

  it("print, io.write and os.exit of copies go along with calls inside calls", function()
    local result = run([[
      local print_aside, write_aside = print, io.write
      local list = parallel.map(function()
        local inner = parallel.map(function(y)
          print("print", y)
          io.write("write ", y, "\n")
          io.stdout:write("method ", y, "\n")
          print_aside("print aside", y)
          write_aside("write aside ", y, "\n")
          os.exit(y)
        end, { 4 }, { errors = "collect" })
        return inner.errors[1].kind .. " " .. tostring(inner.errors[1].exit_code)
      end, { 1 }, { backend = "fork" })
      print(list[1])
    ]])
    assert.equal("print\t4\nwrite 4\nmethod 4\nprint aside\t4\nwrite aside 4\ndied 4\n", result.stdout, result.stderr)
  end)

  it("keeps in copies what a script has put in the places of print, io.write and os.exit", function()
    local result = run([[
      local exit = os.exit
      local told = io.stderr
      print = io.write
      io.write = function(text) told:write("own write: ", text, "\n") end
      os.exit = function(code) told:write("own exit: ", code, "\n") exit(code) end
      local list = parallel.map(function()
        print("a", "b", "\n")
        io.write("c")
        os.exit(3)
      end, { 1 }, { backend = "fork", errors = "collect" })
      print(list.errors[1].exit_code, "\n")
    ]])
    assert.equal("ab\n3\n", result.stdout)
    assert.equal("own write: c\nown exit: 3\n", result.stderr)
  end)

  it("takes its copies along when it is killed", function()
    local path = journal.new()
    local script = ([[
      local journal, processes = require "spec.support.journal", require "spec.support.processes"
      parallel.map(function(i)
        journal.add(%q, processes.own())
        while true do parallel.sleep(60) end
      end, { 1, 2, 3 }, { backend = "fork", workers = 3, chunk = 1 })
    ]]):format(path)
    local command = ("%s -e %s & echo $!"):format(interpreter.quote(interpreter.path), interpreter.quote(script))
    local shell = io.popen(command)
    local parent = tonumber(shell:read("*l"))
    gates.await_that(function()
      return #journal.lines(path) == 3
    end)
    local pids = journal.lines(path)
    processes.signal(parent, "KILL")
    for _, pid in ipairs(pids) do
      processes.await_end(tonumber(pid))
    end
    processes.await_end(parent)
    shell:close()
    journal.remove(path)
  end)

  it("takes its copies along on Ctrl-C, and may go on after it", function()
    local path = journal.new()
    local script = ([[
      local gates, journal = require "spec.support.gates", require "spec.support.journal"
      local processes = require "spec.support.processes"
      local path = %q
      local ok, message = pcall(parallel.map, function(i)
        journal.add(path, processes.own())
        gates.await_that(function() return #journal.lines(path) == 2 end)
        if i == 1 then os.execute("kill -INT 0") end -- the whole group, as a terminal does it
        while true do parallel.sleep(60) end
      end, { 1, 2 }, { backend = "fork", workers = 2, chunk = 1 })
      print(ok, message)
      print(parallel.map(math.sqrt, { 4 }, { backend = "fork" })[1] == 2)
    ]]):format(path)
    local result = interpreter.run({ "-w", interpreter.path, "-e", script }, { program = "setsid" })
    for _, pid in ipairs(journal.lines(path)) do
      processes.await_end(tonumber(pid))
    end
    journal.remove(path)
    assert.truthy(result.stdout:find("^false\t.*interrupted!\n"), result.stdout .. result.stderr)
    assert.truthy(result.stdout:find("true\n$"), result.stdout .. result.stderr)
  end)
end)
