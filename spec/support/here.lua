-- SPDX-License-Identifier: MIT
--
-- The place in the source that calls, as error messages write it.

---@param offset integer|nil lines below this one that are meant; default 0
---@return string place "FILE:LINE"
return function(offset)
  local info = debug.getinfo(2, "Sl")
  return ("%s:%d"):format(info.short_src, info.currentline + (offset or 0))
end
