-- SPDX-License-Identifier: MIT
--
-- The codecs that are compared inside the VM: ours first. Each is a pair of functions; one that is absent says why.

local codec = require("codec")

local sides = {}

--- Order of the report.
sides.peers = { "string.buffer", "string.buffer+dict", "lua-cjson", "lua-MessagePack", "pickle" }

local jit = rawget(_G, "jit")

---@class bench.Side
---@field name string
---@field encode fun(value: any): string
---@field decode fun(bytes: string): any

local open = {}

open["string.buffer"] = function()
  local buffer = require("string.buffer")
  return buffer.encode, buffer.decode
end

-- With the keys of the records agreed beforehand: what string.buffer can do at its best.
open["string.buffer+dict"] = function()
  local buffer = require("string.buffer").new({ dict = { "id", "name", "score", "tags" } })
  return function(value)
    return buffer:reset():encode(value):get()
  end, function(bytes)
    return buffer:set(bytes):decode()
  end
end

open["lua-cjson"] = function()
  local cjson = require("cjson").new()
  return cjson.encode, cjson.decode
end

-- Debian installs the version for Lua 5.3, which is right for 5.4, where 5.4 does not look.
open["lua-MessagePack"] = function()
  if not jit then
    package.path = package.path .. ";/usr/share/lua/5.3/?.lua"
  end
  local message_pack = require("MessagePack")
  return message_pack.pack, message_pack.unpack
end

local function reason_against(name, row)
  local buffer = name:match("^string%.buffer")
  if buffer and not jit then
    return "LuaJIT only"
  elseif name == "string.buffer+dict" and row.unit ~= "record" then
    return "for records only"
  end
  return row.cannot[name]
end

---@param row bench.Row
---@return bench.Side
function sides.ours(row)
  if row.name ~= "graph" then
    return { name = "lumap", encode = codec.encode, decode = codec.decode }
  end
  local options = { functions = true }
  return {
    name = "lumap",
    encode = function(value)
      return codec.encode(value, options)
    end,
    decode = function(bytes)
      return codec.decode(bytes, options)
    end,
  }
end

--- A peer other than pickle.
---@param name string
---@param row bench.Row
---@return bench.Side|nil
---@return string|nil reason it takes no part
function sides.peer(name, row)
  local reason = reason_against(name, row)
  if reason then
    return nil, reason
  end
  local encode, decode = open[name]()
  return { name = name, encode = encode, decode = decode }
end

return sides
