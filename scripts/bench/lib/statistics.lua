-- SPDX-License-Identifier: MIT
--
-- What repeated measurements say. Medians, since what disturbs a measurement only makes it longer.

local statistics = {}

---@param values number[] at least one
---@param share number from 0 to 1
---@return number value below which that share of them lies, interpolated
function statistics.quantile(values, share)
  local sorted = {}
  for i, value in ipairs(values) do
    sorted[i] = value
  end
  table.sort(sorted)
  local place = 1 + share * (#sorted - 1)
  local below = math.floor(place)
  local above = math.min(below + 1, #sorted)
  return sorted[below] + (place - below) * (sorted[above] - sorted[below])
end

---@param values number[] at least one
---@return number
function statistics.median(values)
  return statistics.quantile(values, 0.5)
end

--- Distance of the quartiles as a share of the median: half of the repeats lie within it.
---@param values number[] at least one
---@return number
function statistics.spread(values)
  return (statistics.quantile(values, 0.75) - statistics.quantile(values, 0.25)) / statistics.median(values)
end

---@param values number[]
---@param others number[] each measured beside the value in the same place; what has no partner is left out
---@return number[]
function statistics.ratios(values, others)
  local ratios = {}
  for i = 1, math.min(#values, #others) do
    ratios[i] = values[i] / others[i]
  end
  return ratios
end

return statistics
