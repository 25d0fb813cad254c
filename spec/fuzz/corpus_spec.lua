-- SPDX-License-Identifier: MIT
--
-- The kept corpus of the fuzz targets, decoded once on each VM, also where there is no clang: messages that were
-- findings once stay harmless. What the targets themselves check is in scripts/dev/fuzz.

local codec = require("codec")
local graphs = require("spec.support.graphs")
local interpreter = require("spec.support.interpreter")
local lfs = require("lfs")

local function each_input(target, body)
  local folder = ("%s/spec/fuzz/corpus/%s"):format(interpreter.root, target)
  local count = 0
  for name in lfs.dir(folder) do
    if not name:find("^%.") then
      body(name, interpreter.read_file(folder .. "/" .. name))
      count = count + 1
    end
  end
  return count
end

describe("the fuzz corpus", function()
  for _, target in ipairs({ "decode", "functions" }) do
    it(("of %s gives values and errors in a plain decode"):format(target), function()
      local count = each_input(target, function(name, bytes)
        local ok, result = pcall(codec.decode, bytes)
        local place = not ok and tonumber(tostring(result):match("^bad message at byte (%d+): "))
        assert.is_true(ok or place and place <= #bytes, ("%s: %s"):format(name, tostring(result)))
      end)
      assert.is_true(count > 10)
    end)
  end

  it("has messages of either VM that are the same after another round", function()
    local rounds = 0
    each_input("decode", function(name, bytes)
      local ok, value = pcall(codec.decode, bytes)
      if ok and name ~= "ring" then -- which has a key that is a table: graphs.equal needs a mark on it
        assert.is_true(graphs.equal(value, codec.decode(codec.encode(value))), name)
        rounds = rounds + 1
      end
    end)
    assert.is_true(rounds > 10)
  end)
end)
