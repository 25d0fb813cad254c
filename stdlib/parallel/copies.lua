-- SPDX-License-Identifier: MIT
--
-- copies.lua - what is special about a call on the back-end "fork", the caller's half above all. Workers are copies of
-- this process, so the function, its upvalues and a list of items are simply there: they are handed over in a table
-- that each copy finds at the same place. What is encoded: results, items that a source gives later, folded values.
--
-- What a result refers to shall be the caller's own object when it arrives, its class above all. So functions, classes
-- and C types that can be found from what is handed over get numbers before the first copy is made.

local compat = require "lumap.compat"
local core = require "lumap.core"

local copies = {}

-- How much is looked at for that: all of an ordinary script, and a few milliseconds' worth of one with a big heap.
-- From the nearest on, so that what a function reaches directly is found whatever lies behind.
local MOST_VISITED = 20000
local MOST_FIELDS = 500

local getmetatable, getupvalue, environment_of = debug.getmetatable, debug.getupvalue, compat.environment_of

--- What is known of LuaJIT's ffi library (declarations.lua), or nil where there is none.
local function find_declarations() return compat.ffi() and require "lumap.declarations" or nil end

--- A function that adds the type of cdata to `found`, once, if it has a struct, union or enum in it. Others are the
--- same everywhere.
local function type_finder(found)
  local seen, looked = {}, 0
  return function(value)
    looked = looked + 1
    if looked > MOST_VISITED then return end
    local ct, id = core.cdata().named_type(value)
    if not ct or seen[id] then return end
    seen[id] = true
    found[#found + 1] = ct
  end
end

--- Functions, metatables, tables that look like classes and C types, as far as they are found from `roots`.
local function find_objects(roots, has_types)
  local queue, seen, found, last = {}, {}, {}, 0
  local visit_cdata = has_types and type_finder(found)

  local function visit(value, is_metatable)
    local kind = type(value)
    if kind == "cdata" and visit_cdata then return visit_cdata(value) end
    if kind ~= "table" and kind ~= "function" then return end
    if is_metatable and seen[value] ~= "found" then
      seen[value] = "found"
      found[#found + 1] = value
    end
    if seen[value] then return end
    seen[value] = true
    last = last + 1
    queue[last] = value
  end

  local function visit_function(fn)
    if seen[fn] ~= "found" then found[#found + 1] = fn end
    seen[fn] = "found"
    if environment_of then visit(environment_of(fn)) end
    for i = 1, 255 do
      local name, value = getupvalue(fn, i)
      if not name then return end
      visit(value)
    end
  end

  local function visit_table(list)
    local fields = 0
    if rawget(list, "__index") ~= nil then visit(list, true) end
    for key, value in next, list do
      visit(key)
      visit(value)
      local meta = type(value) == "userdata" and getmetatable(value)
      if meta then visit(meta, true) end
      fields = fields + 1
      if fields >= MOST_FIELDS then break end
    end
  end

  for i = 1, #roots do visit(roots[i]) end
  local at = 1
  while at <= last and at <= MOST_VISITED do
    local value = queue[at]
    queue[at] = nil
    local meta = getmetatable(value)
    if type(meta) == "table" then
      visit(meta, true)
      -- Its own fields, although it is "found" by now.
      if not queue[meta] then
        queue[meta], last = true, last + 1
        queue[last] = meta
      end
    end
    if type(value) == "function" then visit_function(value) else visit_table(value) end
    at = at + 1
  end
  return found
end

--- Hands over what the call needs.
function copies.share(call, fn, opts)
  local pool, source = call.pool, call.source
  local shared = {
    fn = fn,
    plan = call.plan,
    fold = call.fold,
    init = pool.own_init,
    memory_limit = pool.own_memory_limit,
    max_tasks = pool.own_max_tasks,
    globals = opts.globals == false and {} or type(opts.globals) == "table" and opts.globals or nil,
  }
  if source.list then
    shared.items = source.list
    call.plan.held, call.plan.spread = true, source.spread
  end
  local declarations = find_declarations()
  local metatypes = declarations and declarations.metatables or false
  shared.known = find_objects({ fn, call.fold, shared.items or false, _G, package.loaded, metatypes }, metatypes)
  call.job:know(shared.known)
  pool.core:share(shared)
end

local function copy_of(list)
  local copy = {}
  for key, value in next, list do copy[key] = value end
  return copy
end

--- Makes the globals those of a fresh worker, with the given ones. What is not as it was `before` has been set in this
--- copy, by the init function or a module. Modules that were loaded may go on by their global names.
local function limit_globals(before, given)
  local standard, modules = core.standard_globals(), {}
  for _, module in next, package.loaded do modules[module] = type(module) == "table" end
  for name, value in next, before do
    if rawequal(rawget(_G, name), value) and not modules[value] then rawset(_G, name, standard[name]) end
  end
  for name, value in next, standard do
    if before[name] == nil and rawget(_G, name) == nil then rawset(_G, name, value) end
  end
  for name, value in next, given do rawset(_G, name, value) end
end

--- In a copy: the context (worker.lua) of the call that it was made for. All is in its place, and so are the globals
--- unless the call limits them.
function copies.open_context(shared, api)
  local context = { scope = api.scope(_G), read = 0, values = { shared.fn, shared.plan, shared.fold }, loops = {} }
  api.know(context.scope, shared.known)
  if shared.globals then
    local before = copy_of(_G)
    -- The init function has those of the caller.
    function context.begin() limit_globals(before, shared.globals) end
  end
  return context
end

return copies
