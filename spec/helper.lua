-- SPDX-License-Identifier: MIT
--
-- Loaded by busted before any spec (.busted names it).
--
-- Seeds each test alike, so that one that fails fails again when it runs alone, and writes what happens to the file
-- LUMAP_SPEC_LOG, where scripts/test counts: one line "start NAME" and one line "STATUS NAME (SECONDS s)" a test, and
-- in the end "totals SUCCESSES FAILURES PENDING". Unlike standard output it is free of what specs print, and tells
-- after a crash which test ran last. LUMAP_SPEC_LOG.failures gets each failure as it happens: busted tells of them at
-- the end, which after a crash never comes.

local busted = require("busted")

-- busted forgets after each spec file which modules that file loaded; those loaded here stay, and with them the seed.
local interpreter = require("spec.support.interpreter")
local seed = require("spec.support.seed")
local leaks = require("spec.support.leaks")

local log_path = os.getenv("LUMAP_SPEC_LOG")
local counts = { success = 0, failure = 0, pending = 0 }

-- Opened for each line: a descriptor that stays open would be inherited by every process that a spec starts.
local function append(path, text)
  local file = assert(io.open(path, "a"))
  file:write(text, "\n")
  file:close()
end

local function log(...)
  if log_path then
    append(log_path, (table.concat({ ... }, " "):gsub("%s+", " ")))
  end
end

local function full_name(element)
  local parts = { element.name or element.descriptor }
  local parent = busted.parent(element)
  while parent and parent.descriptor ~= "file" and (parent.name or parent.descriptor) do
    table.insert(parts, 1, parent.name or parent.descriptor)
    parent = busted.parent(parent)
  end
  return table.concat(parts, " ")
end

busted.subscribe({ "test", "start" }, function(element)
  math.randomseed(seed)
  leaks.watch(element)
  log("start", full_name(element))
  return nil, true
end)

busted.subscribe({ "test", "end" }, function(element, _, status)
  local kind = status == "error" and "failure" or status
  counts[kind] = counts[kind] + 1
  log(status, full_name(element), ("(%.2f s)"):format(element.duration or 0))
  return nil, true
end)

for _, kind in ipairs({ "failure", "error" }) do
  busted.subscribe({ kind }, function(element, _, message)
    if log_path then
      append(log_path .. ".failures", ("%s: %s\n%s\n"):format(kind, full_name(element), tostring(message)))
    end
    -- What goes wrong outside a test, such as a file that does not load or a setup that raises, has no end of a test.
    if element.descriptor ~= "it" then
      counts.failure = counts.failure + 1
      log(kind, full_name(element), tostring(message))
    end
    return nil, true
  end)
end

busted.subscribe({ "suite", "end" }, function()
  if counts.failure > 0 then
    print(("\nThe specs ran in %s with LUMAP_SPEC_SEED=%d"):format(interpreter.path, seed))
  end
  log("totals", counts.success, counts.failure, counts.pending)
  return nil, true
end)
