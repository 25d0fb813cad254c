-- SPDX-License-Identifier: MIT
--
-- What the codec is meant to reach: at most this share of the peer's time, encoding plus decoding, in the same run.

local buffer = {
  ["integers"] = 0.7,
  ["doubles"] = 0.7,
  ["records"] = 1.2,
  ["records-chunks"] = 0.9,
  ["records-again"] = 0.9,
  ["strings"] = 1.2,
  ["long-string"] = 1.05,
  ["tree"] = 1.3,
}

local targets = {}

---@param vm string "luajit" or "5.4"
---@param row string its name
---@param peer string its name
---@return number|nil
function targets.of(vm, row, peer)
  if vm == "luajit" and peer == "string.buffer" then
    return buffer[row]
  elseif peer == "pickle" and row == "graph" then
    return 0.5
  elseif peer == "pickle" and vm == "5.4" then
    return row == "long-string" and 1.1 or 0.5
  end
end

return targets
