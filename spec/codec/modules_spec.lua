-- SPDX-License-Identifier: MIT
--
-- Modules and what is in them cross by name: the worker requires them.

local it, assert, before_each, after_each = it, assert, before_each, after_each
require("spec.support.globals")()

local caught = require("spec.support.caught")
local codec = require("codec")
local crossings = require("spec.support.crossings")
local parallel = require("parallel")

local path = package.path
before_each(function()
  package.path = "./spec/support/fixtures/?.lua;" .. path
end)
after_each(function()
  package.path = path
  for _, name in ipairs({ "geometry", "answer", "unshareable", "made.here", "lost" }) do
    package.loaded[name] = nil
    package.preload[name] = nil
  end
end)

crossings.each(function(cross)
  it("methods of files come back as what they are here", function()
    for _, name in ipairs({ "read", "write", "lines", "seek", "close" }) do
      assert.equal(io.stdout[name], cross(io.stdout[name]))
    end
  end)

  it("a module, its tables and its functions come back as what they are here", function()
    local geometry, answer = require("geometry"), require("answer")
    assert.equal(geometry, cross(geometry))
    assert.equal(geometry.area, cross(geometry.area))
    assert.equal(geometry.Box, cross(geometry.Box))
    assert.equal(geometry.Box.new, cross(geometry.Box.new))
    assert.equal(geometry.deep.corner, cross(geometry.deep.corner))
    assert.equal(answer, cross(answer))
    assert.equal(string, cross(string))
    assert.equal(string.rep, cross(string.rep))
    assert.equal(parallel, cross(parallel))
    assert.equal(require("cjson"), cross(require("cjson")))
    assert.equal(require("cjson").encode, cross(require("cjson").encode))
    local both = cross({ geometry, { geometry.deep } })
    assert.equal(geometry, both[1])
    assert.equal(geometry.deep, both[2][1])
  end)

  it("an object of a module's class keeps it", function()
    local geometry = require("geometry")
    local box = cross(geometry.Box.new(3, 4))
    assert.equal(geometry.Box, getmetatable(box))
    assert.equal(12, box:area())
    assert.is_true(box == geometry.Box.new(3, 4))
  end)
end)

crossings.each_map(function(_, with)
  it("the worker requires the module itself, by the caller's package.path", function()
    local geometry = require("geometry")
    geometry.loads = 1000
    local areas, loads, same = parallel.map(function(width)
      local area = geometry.area(width, 2)
      return area, geometry.loads < 1000, require("geometry") == geometry
    end, { 1, 2, 3 }, with())
    assert.same({ 2, 4, 6, n = 3 }, areas)
    assert.same({ true, true, true, n = 3 }, loads)
    assert.same({ true, true, true, n = 3 }, same)
    assert.equal(1000, geometry.loads)
  end)

  it("a module's state in a worker lasts from call to call", function()
    local pool = parallel.pool(with({ workers = 1 }))
    local geometry = require("geometry")
    local function count()
      geometry.area(1, 1)
      return geometry.loads
    end
    assert.equal(1, pool:apply(count))
    assert.equal(2, pool:apply(count))
    pool:close()
    pool:join()
  end)

  it("functions of modules can be mapped", function()
    local geometry = require("geometry")
    assert.same({ 6, 20, n = 2 }, parallel.starmap(geometry.area, { { 2, 3 }, { 4, 5 } }, with()))
    assert.same({ 84, n = 1 }, parallel.map(require("answer"), { 2 }, with()))
    local boxes = { geometry.Box.new(2, 2), geometry.Box.new(3, 3) }
    assert.same({ 4, 9, n = 2 }, parallel.map(geometry.Box.area, boxes, with()))
    assert.same({ "[1]", n = 1 }, parallel.map(require("cjson").encode, { { 1 } }, with()))
  end)

  it("modules that the interpreter brings along and a script has required", function()
    if not jit then
      return
    end
    local new_table, clear = require("table.new"), require("table.clear")
    assert.same({ 1, n = 1 }, parallel.map(function()
      local list = new_table(10, 0)
      list[1] = 1
      clear(list)
      return 1 + #list
    end, { 1 }, with()))
  end)

  it("a module may hold what cannot be sent", function()
    local module = require("unshareable")
    local words, types = parallel.map(function()
      return module.word, type(module.log)
    end, { 1 }, with())
    assert.same({ "fine", n = 1 }, words)
    assert.same({ "userdata", n = 1 }, types)
  end)

  it("a module that only exists here is sent as the table that it is", function()
    local module = { word = "made here" }
    function module.shout()
      return module.word:upper()
    end
    package.loaded["made.here"] = module
    assert.same({ "MADE HERE", n = 1 }, parallel.map(function()
      return module.shout()
    end, { 1 }, with()))
  end)

  it("a C function whose module a worker cannot find is refused with its path", function()
    local cjson = require("cjson.safe")
    local own = cjson.new().encode
    local e = caught(parallel.map, function(x)
      return own(x)
    end, { 1 }, with())
    assert.equal("encode", e.kind)
    assert.is_truthy(e.message:find("cannot send upvalue 'own' of the function at ", 1, true), e.message)
    assert.is_truthy(e.message:find("(a C function)", 1, true), e.message)
  end)

  it("an error while the worker loads a module is the call's error, and names the module", function()
    local name = os.tmpname()
    local folder, base = name:match("^(.*)/([^/]+)$")
    package.path = folder .. "/?.lua;" .. package.path
    local file = io.open(name .. ".lua", "w")
    file:write("if parallel.worker() then error('not in a worker') end return { act = function() return 1 end }")
    file:close()
    local module = require(base)
    local ok, e = pcall(parallel.map, function()
      return module.act()
    end, { 1 }, with())
    os.remove(name)
    os.remove(name .. ".lua")
    package.loaded[base] = nil
    assert.is_false(ok)
    assert.equal(parallel.Error, getmetatable(e))
    assert.equal("decode", e.kind)
    assert.is_truthy(e.message:find(base, 1, true), e.message)
    assert.is_truthy(e.message:find("not in a worker", 1, true), e.message)
    assert.same({ 2, n = 1 }, parallel.map(math.sqrt, { 4 }, with()))
  end)
end)

it("names of modules are refused by decode unless functions are asked for", function()
  local bytes = codec.encode(string, { functions = true })
  assert.equal(string, codec.decode(bytes, { functions = true }))
  assert.is_false(pcall(codec.decode, bytes))
end)
