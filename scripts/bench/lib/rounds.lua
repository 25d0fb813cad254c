-- SPDX-License-Identifier: MIT
--
-- Sides take turns within one run, so that their ratios were made by the same machine in the same minute: in the order
-- A B C, then C B A, then A B C again, so that no side always comes after the same other one.

local rounds = {}

local clock = require("parallel").clock
-- However slow a side is, it takes so many turns that count.
local LEAST = 2

local function take_turn(side, log)
  for figure, value in pairs(side.turn()) do
    log[figure] = log[figure] or {}
    table.insert(log[figure], value)
  end
end

local function is_done(state, round, seconds)
  return round > LEAST and state.spent > seconds
end

--- One turn of each side to warm up, then the rounds that count. Sides that sit out do so from some round on, so the
--- numbers at the same place of two logs are of the same round.
---@param sides table[] each with turn(), which gives a table of figures, name -> number
---@param count integer
---@param seconds number|nil a side that has taken more than that sits out, once it took two turns that count
---@return table[] logs for each side name -> list of numbers, one a round
function rounds.run(sides, count, seconds)
  local logs, states = {}, {}
  local function turn_of(i, log)
    local start = clock()
    take_turn(sides[i], log)
    states[i].spent = states[i].spent + clock() - start
  end
  for i in ipairs(sides) do
    logs[i], states[i] = {}, { spent = 0 }
    turn_of(i, {})
  end
  for round = 1, count do
    for i = 1, #sides do
      local place = round % 2 == 1 and i or #sides + 1 - i
      if not is_done(states[place], round, seconds or math.huge) then
        turn_of(place, logs[place])
      end
    end
  end
  return logs
end

return rounds
