-- SPDX-License-Identifier: MIT
--
-- init_function.lua - a pool's init function, run in a worker before its first item. Its globals are the worker's own.

local libraries = require "parallel.libraries"

--- Runs it. Returns nothing, or the record of its failure.
---@param init string|function the bytes of its log; in a copy of the caller's process, the function
---@param shared table|nil what the caller has handed over to its copies
---@param api table the C functions of vm/worker
---@param worker table loading, handler and to_record of worker.lua
---@return table|nil failure
return function(init, shared, api, worker)
  local ok, failure = xpcall(function()
    if shared then return init() end
    local values = {}
    local read, refusal = worker.loading(api.entry, api.scope(_G), init, values, api.init_references)
    if not read then error(refusal, 0) end
    libraries.keep(values.additions)
    values[1]()
  end, worker.handler)
  if ok then return nil end
  local record = worker.to_record(failure)
  record.kind = "init"
  return record
end
