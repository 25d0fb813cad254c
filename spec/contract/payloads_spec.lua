-- SPDX-License-Identifier: MIT
--
-- Messages of all sizes, both ways: none, one byte, about what a pipe or a channel holds, and far more.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local KIB, MIB = 1024, 1024 * 1024

-- What the pipes and channels of this system hold, one less and one more.
local function edges()
  local sizes = { 0, 1 }
  for _, size in ipairs({ 4 * KIB, 64 * KIB, 208 * KIB, MIB }) do
    for offset = -1, 1 do
      sizes[#sizes + 1] = size + offset
    end
  end
  return sizes
end

-- No two places of it look alike within a message, so that what is lost, doubled or moved shows.
local block = {}
for i = 1, 8192 do
  block[i] = ("%08d"):format(i * 7919 % 99999989)
end
block = table.concat(block)

local function text_of(size)
  return block:rep(math.floor(size / #block) + 1):sub(1, size)
end

local function assert_text(text, size)
  assert.equal(size, #text)
  assert.is_true(text == text_of(size)) -- a failure shall not print it
end

backends.each_size(function(with)
  it("items and results of every size arrive", function()
    local sizes = edges()
    local items = {}
    for i, size in ipairs(sizes) do
      items[i] = text_of(size)
    end
    for _, chunk in ipairs({ 1, 3, "auto" }) do
      local list, lengths = parallel.map(function(text)
        return text, #text
      end, items, with({ chunk = chunk }))
      for i, size in ipairs(sizes) do
        assert_text(list[i], size)
        assert.equal(size, lengths[i])
      end
    end
  end)

  it("small items may have large results, and large items small ones", function()
    local list = parallel.map(function(size)
      return ("x"):rep(size)
    end, edges(), with({ chunk = 1 }))
    for i, size in ipairs(edges()) do
      assert.equal(size, #list[i])
    end
    assert.same(
      edges(),
      (function()
        local lengths = parallel.map(function(text)
          return #text
        end, list, with({ chunk = 1 }))
        lengths.n = nil
        return lengths
      end)()
    )
  end)

  it("a function may bring more than a channel holds", function()
    for _, size in ipairs({ 64 * KIB, 208 * KIB + 1, 2 * MIB }) do
      local text = text_of(size)
      local lengths = parallel.map(function()
        return #text
      end, { 1, 2, 3 }, with({ chunk = 1 }))
      assert.same({ size, size, size, n = 3 }, lengths)
    end
  end)
end)

local function same(a, b)
  return a == b and (math.type or type)(a) == (math.type or type)(b) or (a ~= a and b ~= b)
end

-- Numbers travel in blocks of their own kind; one of another kind may be anywhere.
backends.each(function(with)
  it("lists of numbers arrive, whatever is among them", function()
    local strangers = { 0 / 0, "text", true, { 7 }, 1 / 0, -0.0, 1, 2 ^ 60 }
    for _, n in ipairs({ 1, 63, 64, 65, 130 }) do
      for _, unit in ipairs({ 1, 0.5 }) do
        for _, stranger in ipairs(strangers) do
          for _, at in ipairs({ 1, 64, n }) do
            local items = {}
            for i = 1, n do
              items[i] = i * unit
            end
            items[math.min(at, n)] = stranger
            local list = parallel.map(function(item)
              return item
            end, items, with({ chunk = n }))
            for i = 1, n do
              local as_sent = type(items[i]) == "table" and list[i][1] == 7 or same(items[i], list[i])
              assert.is_true(as_sent, ("item %d of %d: %s is %s"):format(i, n, tostring(items[i]), tostring(list[i])))
            end
          end
        end
      end
    end
  end)
end)

backends.each(function(with)
  it("64 MiB go there and come back", function()
    local size = 64 * MIB
    local list = parallel.map(function(text)
      return text
    end, { text_of(size), "small" }, with({ chunk = 1 }))
    assert_text(list[1], size)
    assert.equal("small", list[2])
  end)
end)

-- Takes some 10 GiB of memory and up to three minutes, so it runs only when LUMAP_SPEC_HUGE is set. LuaJIT's strings
-- end below 2 GiB.
if os.getenv("LUMAP_SPEC_HUGE") and not jit then
  it("2 GiB and one byte go to a worker and come back", function()
    local result = interpreter.run_code(
      [[
        -- string.rep gives no more than 2 GiB.
        local function make(last)
          local half = ("x"):rep(1 << 30)
          return half .. half .. last
        end
        local size, text = 1 << 31, make("y")
        for _, backend in ipairs { "thread", "process" } do
          local pool = parallel.pool { backend = backend, workers = 1 }
          local length, last = pool:apply(function(t) return #t, t:sub(-1) end, text)
          assert(length == size + 1 and last == "y")
          local back = pool:apply(make, "z")
          assert(#back == size + 1 and back:sub(-1) == "z")
          back = nil
          collectgarbage()
          pool:close()
          pool:join()
        end
        io.write("all there")
      ]],
      { seconds = 300 }
    )
    assert.same({ stdout = "all there", stderr = "", code = 0 }, result)
  end)
end
