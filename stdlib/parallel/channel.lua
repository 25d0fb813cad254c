-- SPDX-License-Identifier: MIT
--
-- channel.lua - parallel.channel: a queue of messages that all workers share. The work is done in C
-- (vm/runtime/core_channel.c, vm/shared/channel.h).

local core = require "lumap.core"
local compat = require "lumap.compat"
local options = require "parallel.options"

---@class parallel.Channel
---@field send fun(self: parallel.Channel, value: any, seconds: number|nil): true|nil, string|nil appends a message once
--- there is room: true, or nil and "timeout" or "closed". Raises when the value cannot cross
---@field receive fun(self: parallel.Channel, seconds: number|nil): any, string|nil takes the first message once there
--- is one: its value, or nil and "timeout" or, when there is none and will be none, "closed"
---@field close fun(self: parallel.Channel) no message is sent any more; twice is no error

-- What a channel holds unless told otherwise.
local CAPACITY = 1024
local MOST = 2 ^ 40

core.channel_class()

local channel = {}

--- parallel.channel
function channel.new(capacity)
  if capacity == nil then capacity = CAPACITY end
  if not (compat.is_integer(capacity) and capacity >= 1 and capacity <= MOST) then
    options.bad_argument("channel", 1, "number of messages from 1 up", capacity, 1)
  end
  local ok, made = pcall(core.channel, capacity)
  if not ok then error(made, 2) end
  return made
end

return channel
