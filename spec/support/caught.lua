-- SPDX-License-Identifier: MIT
--
-- What a call raises, which must raise something.

---@param fn function called with what follows
---@return any raised
return function(fn, ...)
  local ok, raised = pcall(fn, ...)
  if ok then
    error("no error was raised", 2)
  end
  return raised
end
