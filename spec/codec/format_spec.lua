-- SPDX-License-Identifier: MIT
--
-- The bytes that FORMAT.md shows are those that are written, and what it says to be refused is refused, with its
-- offset.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local codec = require("codec")
local core = require("lumap.core")

--- Bytes from pairs of hexadecimal digits.
local function bytes_of(text)
  return (text:gsub("%s", ""):gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

local function hex(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02X "):format(byte:byte())
  end))
end

describe("the worked examples", function()
  it("of a table with a reference", function()
    local inner = { 7 }
    local bytes = codec.encode({ 10, -1, "a", inner, same = inner })
    assert.equal(hex(bytes_of("01 100401 8A 03FF 4161 110100 8724 25 4473616D65 2209 24")), hex(bytes))
  end)

  it("of a packed list", function()
    local list, numbers = { name = "n" }, {}
    for i = 1, 64 do
      list[i], numbers[i] = i, ("%02X"):format(i)
    end
    local bytes = codec.encode(list)
    assert.equal(78, #bytes)
    assert.equal(hex(bytes_of("01 140440" .. table.concat(numbers) .. "01 25 446E616D65 416E 24")), hex(bytes))
  end)

  it("of records", function()
    local bytes = codec.encode({ { at = "home" }, { at = "home" }, { at = "home" } })
    local slot = ("%02X"):format(bytes:byte(0x18 + 1))
    local expected = "01 100300 100001 25 426174 44686F6D65 24 300001 426174 2D" .. slot .. "44686F6D65 3000 2E" .. slot
    assert.equal(hex(bytes_of(expected .. "24")), hex(bytes))
  end)
end)

describe("a message is refused, and where,", function()
  -- What is wrong, the bytes, and how far the reader had come.
  local refused = {
    { "a shape that is not there", "01 10 01 00 30 01 01 41 61 81 24", 6 },
    { "a shape that is not there", "01 10 02 00 30 00 01 41 61 81 30 02 81 24", 12 },
    { "a shape without keys", "01 30 00 00 81", 4 },
    { "a shape that has a key twice", "01 30 00 02 41 61 41 61 81 81", 8 },
    { "a string expected", "01 30 00 01 81 81", 5 },
    { "a reference to a string that is not there", "01 2E 05", 3 },
    { "a reference to a string that is not there", "01 10 02 00 2D 05 42 61 62 2E 06 24", 11 },
    { "a string expected", "01 2D 05 81", 4 },
    { "it ends too early", "01 30 00 FF 41 61", 4 },
    { "it ends too early", "01 30 00 02 41 61 41 62 81", 8 },
    { "it ends too early", "01 30 00 01 41 61", 6 },
    { "more numbers than there are bytes", "01 14 04 05 01 02 03 00", 4 },
    { "more numbers than there are bytes", "01 14 05 03 01 02 03 04 00", 4 },
    { "more numbers than there are bytes", "01 14 06 02 01 02 03 04 05 06 00", 4 },
    { "an unknown kind of numbers", "01 14 07 01 01 00 24", 4 },
    { "an unknown kind of numbers", "01 14 00 01 01 00 24", 4 },
    { "a deferred table expected", "01 10 01 00 19 24 26 04 30 00 01 41 61 81", 9 },
  }
  for i, case in ipairs(refused) do
    it(("%s (case %d)"):format(case[1], i), function()
      for _, direct in ipairs({ true, false }) do
        core.direct(direct)
        local ok, message = pcall(codec.decode, bytes_of(case[2]))
        core.direct(true)
        assert.is_false(ok)
        local where = tonumber(message:match("at byte (%d+)"))
        assert.truthy(message:find(case[1], 1, true), message)
        assert.equal(case[3], where, message)
      end
    end)
  end

  it("but a record of nil values is an empty table", function()
    assert.same({}, codec.decode(bytes_of("01 30 00 02 41 61 41 62 00 00")))
  end)
end)
