-- SPDX-License-Identifier: MIT
--
-- What a call's functions see of the caller, and what the caller sees of them, on every back-end: copies, sent once a
-- call, gone after it. The values that can cross are the subject of spec/codec.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local parallel = require("parallel")

local unpack = table.unpack or unpack

backends.each_size(function(with)
  describe("upvalues", function()
    it("arrive with their values, shared ones shared", function()
      local count = 10
      local function add()
        count = count + 1
      end
      local function get()
        return count
      end
      local list = parallel.map(function(i)
        local before = get()
        add()
        count = count + i
        return get() - before
      end, parallel.range(1, 20), with())
      for i = 1, 20 do
        assert.equal(i + 1, list[i])
      end
    end)

    it("that are assigned to in a worker stay as they are here", function()
      local count, seen = 0, {}
      parallel.each(function(i)
        count = count + i
        seen[i] = true
      end, parallel.range(1, 20), with())
      assert.equal(0, count)
      assert.same({}, seen)
    end)

    it("arrive anew with each call", function()
      local factor = 1
      local function scale(x)
        local result = x * factor
        factor = 1000
        return result
      end
      for i = 1, 5 do
        factor = i
        assert.same({ i, n = 1 }, parallel.map(scale, { 1 }, with()))
      end
    end)

    it("may lead back to the function itself", function()
      local function factorial(n)
        return n <= 1 and 1 or n * factorial(n - 1)
      end
      local is_even, is_odd
      function is_even(n)
        return n == 0 or is_odd(n - 1)
      end
      function is_odd(n)
        return n ~= 0 and is_even(n - 1)
      end
      assert.same({ 1, 2, 6, 24, n = 4 }, parallel.map(factorial, { 1, 2, 3, 4 }, with()))
      assert.same({ true, false, n = 2 }, parallel.map(is_even, { 10, 7 }, with()))
    end)
  end)

  it("a class is the same one for all items of a worker, and the caller's own in results", function()
    local Account = { __name = "Account" }
    Account.__index = Account
    function Account.new(amount)
      return setmetatable({ amount = amount }, Account)
    end
    function Account:add(amount)
      return Account.new(self.amount + amount)
    end

    local items = {}
    for i = 1, 30 do
      items[i] = Account.new(i)
    end
    local results, same, changed = parallel.map(function(account)
      local result = account:add(100)
      return result, getmetatable(account) == Account and getmetatable(result) == Account, account
    end, items, with({ chunk = 4 }))
    for i = 1, 30 do
      assert.equal(Account, getmetatable(results[i]))
      assert.equal(Account, getmetatable(changed[i]))
      assert.equal(i + 100, results[i].amount)
      assert.is_true(same[i])
    end
  end)
end)

backends.each_size(function(with)
  describe("globals", function()
    -- Globals of this file live in the interpreter's own table; each test takes its own out again.
    local function with_globals(values, body)
      for name, value in pairs(values) do
        rawset(_G, name, value)
      end
      local ok, message = pcall(body)
      for name in pairs(values) do
        rawset(_G, name, nil)
      end
      if not ok then
        error(message, 0)
      end
    end
    local G = _G

    it("that a worker assigns to are gone with the call, and never seen here", function()
      local function count_up()
        lumap_spec_count = (lumap_spec_count or 0) + 1 -- luacheck: ignore 111 113
        return lumap_spec_count -- luacheck: ignore 113
      end
      local list = parallel.map(count_up, parallel.range(1, 10), with({ workers = 1, chunk = 10 }))
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n = 10 }, list)
      assert.same({ 1, n = 1 }, parallel.map(count_up, { 0 }, with({ workers = 1 })))
      assert.is_nil(rawget(G, "lumap_spec_count"))
    end)

    it("that changed between two calls are sent again", function()
      local function read(x)
        return lumap_spec_word .. x -- luacheck: ignore 113
      end
      for _, word in ipairs({ "one", "two", "three" }) do
        with_globals({ lumap_spec_word = word }, function()
          assert.same({ word .. "!", n = 1 }, parallel.map(read, { "!" }, with()))
        end)
      end
      local ok = pcall(parallel.map, read, { "!" }, with())
      assert.is_false(ok)
    end)

    it("can be named instead of found", function()
      local function read(name)
        return name == "a" and lumap_spec_a or lumap_spec_b -- luacheck: ignore 113
      end
      with_globals({ lumap_spec_a = 1, lumap_spec_b = 2 }, function()
        assert.same({ 1, 2, n = 2 }, parallel.map(read, { "a", "b" }, with({ globals = true })))
        assert.same({ 5, n = 2 }, parallel.map(read, { "a", "b" }, with({ globals = { lumap_spec_a = 5 } })))
        assert.same({ n = 2 }, parallel.map(read, { "a", "b" }, with({ globals = false })))
        assert.same({ n = 2 }, parallel.map(read, { "a", "b" }, with({ globals = {} })))
      end)
    end)

    it("that the caller replaced are sent, and the worker's own come back after the call", function()
      local function kind(x)
        return type(x)
      end
      with_globals({}, function()
        local original = G.type
        G.type = function(x)
          return "a fine " .. original(x)
        end
        local ok, list = pcall(parallel.map, kind, { 1 }, with())
        G.type = original
        assert.is_true(ok, tostring(list))
        assert.same({ "a fine number", n = 1 }, list)
      end)
      assert.same({ "number", n = 1 }, parallel.map(kind, { 1 }, with()))
    end)
  end)

  it("a reference between two items becomes two copies", function()
    local shared = { 1 }
    local items = { { shared, shared }, { shared } }
    local within, across = parallel.map(function(item)
      return item[1] == (item[2] or item[1]), item[1]
    end, items, with({ chunk = 1 }))
    assert.same({ true, true, n = 2 }, within)
    assert.is_false(across[1] == across[2])
    assert.is_false(across[1] == shared)
    assert.same({ { 1 }, { 1 }, n = 2 }, across)
  end)

  it("a worker has the standard library, and the modules that the caller has", function()
    local cjson = require("cjson")
    local lpeg = require("lpeg")
    local word = function(text)
      return lpeg.match(lpeg.C(lpeg.R("az") ^ 1), text)
    end
    assert.same(
      { "[1,null]", n = 1 },
      parallel.map(function(x)
        return cjson.encode({ x, cjson.null })
      end, { 1 }, with())
    )
    assert.same({ "abc", n = 1 }, parallel.map(word, { "abc1" }, with()))
    assert.same(
      { true, n = 1 },
      parallel.map(function()
        for _, name in ipairs({ "string", "table", "math", "io", "os", "coroutine", "debug", "package" }) do
          if type(_G[name]) ~= "table" or require(name) ~= _G[name] then
            return name
          end
        end
        return require("parallel") == parallel and parallel.map ~= nil
      end, { 1 }, with())
    )
  end)

  it("items may run coroutines, load code and collect garbage", function()
    local list = parallel.map(function(n)
      local sum = 0
      for i in
        coroutine.wrap(function()
          for i = 1, n do
            coroutine.yield(i)
          end
        end)
      do
        sum = sum + i
      end
      collectgarbage()
      return sum + (loadstring or load)("return 1000")()
    end, { 1, 2, 3, 4 }, with())
    assert.same({ 1001, 1003, 1006, 1010, n = 4 }, list)
  end)

  it("what items load has the globals of the call, as they have, and leaves none behind", function()
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write("lumap_spec_word = lumap_spec_word .. '!' return lumap_spec_word")
    file:close()
    rawset(_G, "lumap_spec_word", "word")
    local list = parallel.map(function(way, argument)
      local load_text = loadstring or load
      if way == "read" then
        return lumap_spec_word -- luacheck: ignore 113
      elseif way == "text" then
        return load_text(argument)()
      elseif way == "parts" then
        local parts = { "return ", "lumap_spec_word" }
        return load(function()
          return table.remove(parts, 1)
        end)()
      elseif way == "file" then
        return assert(loadfile(argument))()
      elseif way == "own" then
        local own = { lumap_spec_word = "own" }
        local fn = setfenv and setfenv(load_text(argument), own) or load(argument, "=own", "t", own)
        return fn()
      elseif way == "done" then
        return dofile(argument)
      elseif way == "wrong" then
        return select(2, load_text("return +"))
      elseif way == "missing" then
        return select(2, pcall(dofile, argument .. ".none"))
      end
      return tostring(load) == tostring(_G.load) and load == _G.load
    end, coroutine.wrap(function()
      coroutine.yield("read")
      coroutine.yield("text", "return lumap_spec_word")
      coroutine.yield("parts")
      coroutine.yield("file", path)
      coroutine.yield("own", "return lumap_spec_word")
      coroutine.yield("done", path)
      coroutine.yield("text", "lumap_spec_word = 'new' return _G.lumap_spec_word")
      coroutine.yield("read")
      coroutine.yield("wrong")
      coroutine.yield("missing", path)
      coroutine.yield("same")
    end), with({ workers = 1 }))
    rawset(_G, "lumap_spec_word", nil)
    os.remove(path)
    assert.same({ "word", "word", "word", "word!", "own", "word!!", "new", "new" }, { unpack(list, 1, 8) })
    assert.is_truthy(list[9]:find("unexpected symbol near", 1, true), list[9])
    assert.is_truthy(list[10]:find("cannot open .*%.none"), list[10])
    assert.is_true(list[11])
    assert.same(
      { true, n = 1 },
      parallel.map(function(name)
        return _G[name] == nil and (loadstring or load)("return " .. name)() == nil
      end, { "lumap_spec_word" }, with({ workers = 1 }))
    )
    assert.equal(load, parallel.map(function()
      return load
    end, { 1 }, with())[1])
  end)

  it("what two items have in common becomes two copies, whatever chunk they travel in", function()
    for chunk = 1, 3 do
      local common = { count = 0 }
      local results = parallel.map(function(item)
        item.first.count = item.first.count + 1
        return { item.first == item.second, item.first.count }
      end, {
        { first = common, second = common },
        { first = common, second = common },
        { first = common, second = common },
      }, with({ chunk = chunk, workers = 1 }))
      assert.same({ { true, 1 }, { true, 1 }, { true, 1 }, n = 3 }, results)
    end
  end)
end)
