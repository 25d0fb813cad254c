-- SPDX-License-Identifier: MIT
--
-- A worker's state holds no more than its items need: programs have a thousand of them.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

-- What an encoder takes, with a stack for it, is several times as much.
local FEW_KB = 10

--- How much a worker's heap grows from its first item to its last, if they give what `give` does.
local function growth(pool, give)
  local first, last = parallel.counter(), parallel.counter()
  pool:map(function(i)
    collectgarbage()
    collectgarbage()
    local kb = math.floor(collectgarbage("count"))
    if i == 1 then
      first:set(kb)
    end
    last:set(kb)
    return give(i)
  end, parallel.range(1, 5), { chunk = 1 })
  return last:get() - first:get()
end

backends.each(function(with, backend)
  it("results that are numbers, booleans or nil need no encoder", function()
    local pool = parallel.pool(with())
    assert.is_true(growth(pool, function() end) < FEW_KB)
    assert.is_true(growth(pool, function(i)
      return i == 2, i == 3 and 0.5 or nil
    end) < FEW_KB)
    pool:close()
  end)

  -- In a program of its own: what others have added to libraries would go along.
  it("what few calls need is loaded when one needs it", function()
    local result = interpreter.run_code(
      [[
        local function loaded()
          local found = {}
          for _, name in ipairs({ "failures", "runners", "streams", "libraries", "init_function" }) do
            found[#found + 1] = package.loaded["parallel." .. name] and name
          end
          return table.concat(found, " ")
        end
        print(parallel.map(loaded, { 1 })[1])
        parallel.map(function() error("fails") end, { 1 }, { errors = "collect" })
        print(parallel.map(loaded, { 1 })[1])
      ]],
      { env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = 1 } }
    )
    assert.same({ stdout = "\nfailures\n", stderr = "", code = 0 }, result)
  end)

  it("what a program does to package.preload hides nothing of what is loaded late", function()
    local result = interpreter.run_code(
      [[
        local function hide()
          setmetatable(package.preload, { __index = function() end, __metatable = "mine" })
          error("hidden")
        end
        setmetatable(package.preload, { __index = function() end })
        print(parallel.map(hide, { 1 }, { errors = "collect" }).errors[1].value:match("hidden$"))
        package.preload["parallel.streams"] = function() return "replaced" end
        print(require("parallel.streams"), (pcall(require, "parallel.nothing")))
      ]],
      { env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = 1 } }
    )
    assert.same({ stdout = "hidden\nreplaced\tfalse\n", stderr = "", code = 0 }, result)
  end)

  it("an encoder that comes late writes what is left", function()
    local function give(i)
      if i == 4 then
        error({ 4 })
      end
      return i < 3 and i or { i }, i ~= 5 and "second" or nil, i == 6
    end
    local list, texts, sixth = parallel.map(give, parallel.range(1, 7), with({ chunk = 7, errors = "collect" }))
    assert.same({ 4 }, list.errors[4].value)
    assert.same({ 1, 2, { 3 }, nil, { 5 }, { 6 }, { 7 }, n = 7, errors = list.errors }, list)
    assert.same({ "second", "second", "second", nil, nil, "second", "second", n = 7 }, texts)
    assert.same({ false, false, false, nil, false, true, false, n = 7 }, sixth)
  end)
end, nil, 1)

if not rawget(_G, "jit") then
  it("a module with the name of LuaJIT's ffi library is not looked for", function()
    local result = interpreter.run_code([[
      local function forbid()
        package.preload.ffi = function()
          io.stderr:write("it is loaded\n")
          error("it is another one")
        end
      end
      forbid()
      local buffer = parallel.buffer("double", 2)
      local function twice(x) return 2 * x end
      local list = parallel.map(twice, parallel.range(1, 200), { workers = 1, chunk = 100, init = forbid })
      print(#buffer, list[200])
    ]])
    assert.same({ stdout = "2\t400\n", stderr = "", code = 0 }, result)
  end)
end
