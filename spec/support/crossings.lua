-- SPDX-License-Identifier: MIT
--
-- Runs one suite for each way that a value can take to another state and back: as item and result of a map on each
-- back-end, with each number of workers, and as bytes.
--
--     crossings.each(function(cross)
--       it("keeps strings", function()
--         assert.equal("text", cross("text"))
--       end)
--     end)

local backends = require("spec.support.backends")
local busted = require("busted")
local codec = require("codec")
local parallel = require("parallel")

local crossings = {}

local function identity(value)
  return value
end

--- Calls `body` once for each way, inside a block named after it.
---@param body fun(cross: fun(value: any): any)
function crossings.each(body)
  busted.describe("through codec.encode and decode", function()
    body(function(value)
      return codec.decode(codec.encode(value, { functions = true }), { functions = true })
    end)
  end)
  crossings.each_map(body)
end

--- Calls `body` once for each back-end and number of workers. Its second parameter makes the options of further calls.
---@param body fun(cross: fun(value: any): any, with: function)
function crossings.each_map(body)
  backends.each_size(function(with)
    body(function(value)
      return parallel.map(identity, { value, n = 1 }, with())[1]
    end, with)
  end)
end

return crossings
