-- SPDX-License-Identifier: MIT
--
-- Sides take turns within one run, so that their ratios were made by the same machine in the same minute: in the order
-- A B C, then C B A, then A B C again, so that no side always comes after the same other one.

local rounds = {}

local function take_turn(side, log)
  for figure, value in pairs(side.turn()) do
    log[figure] = log[figure] or {}
    table.insert(log[figure], value)
  end
end

--- One turn of each side to warm up, then the rounds that count.
---@param sides table[] each with turn(), which gives a table of figures, name -> number
---@param count integer
---@return table[] logs for each side name -> list of numbers, one a round
function rounds.run(sides, count)
  local logs = {}
  for i, side in ipairs(sides) do
    take_turn(side, {})
    logs[i] = {}
  end
  for round = 1, count do
    for i = 1, #sides do
      local place = round % 2 == 1 and i or #sides + 1 - i
      take_turn(sides[place], logs[place])
    end
  end
  return logs
end

return rounds
