-- SPDX-License-Identifier: MIT
--
-- Workers that are killed, that do not answer, and whose caller is killed, with any number of them. What a death does
-- to a call is in death_spec.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local census = require("spec.support.census")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local journal = require("spec.support.journal")
local parallel = require("parallel")
local processes = require("spec.support.processes")

local function square(x)
  return x * x
end

local function assert_works(pool)
  local squares = pool:map(square, parallel.range(1, 40))
  for i = 1, 40 do
    assert.equal(i * i, squares[i])
  end
end

--- Occupies each worker of a pool with an item that waits for a gate.
---@return table futures
---@return table pids of the workers, one for each future
---@return string gate
local function occupy(pool)
  local gate, path, futures = gates.new(), journal.new(), {}
  for i = 1, pool.workers do
    futures[i] = pool:submit(function()
      journal.add(path, i .. " " .. processes.own())
      gates.await(gate)
      return i
    end)
  end
  gates.await_that(function()
    return #journal.lines(path) == pool.workers
  end)
  local pids = {}
  for _, line in ipairs(journal.lines(path)) do
    local i, pid = line:match("(%d+) (%d+)")
    pids[tonumber(i)] = tonumber(pid)
  end
  journal.remove(path)
  return futures, pids, gate
end

backends.each_size(function(with, backend, workers)
  it("the message of a death names worker, process, cause and item", function()
    local pids = journal.new()
    local function leave(how)
      journal.add(pids, processes.own())
      if how == "exit" then
        os.exit(99)
      end
      processes.signal_own(how)
    end
    for _, case in ipairs({
      { how = "exit", says = "exit code 99" },
      { how = "KILL", says = "signal 9 (SIGKILL" },
      { how = "TERM", says = "signal 15 (SIGTERM" },
    }) do
      local items = { "exit", n = 7 }
      local list = parallel.map(function(item)
        return item and leave(item)
      end, { nil, nil, nil, nil, case.how, n = 7 }, with({ errors = "collect", chunk = 3 }))
      local e = list.errors[5]
      assert.equal(items.n, list.n)
      assert.equal("died", e.kind)
      assert.equal(5, e.index)
      assert.is_true(e.worker >= 1 and e.worker <= workers)
      local lines = journal.lines(pids)
      for _, part in ipairs({ "worker " .. e.worker, "process " .. lines[#lines], case.says, "item 5" }) do
        assert.is_truthy(e.message:find(part, 1, true), e.message)
      end
    end
    journal.remove(pids)
  end)

  it("workers that are killed after close fail what they run, and join returns", function()
    local before = census.snapshot()
    local pool = parallel.pool(with())
    local futures, pids, gate = occupy(pool)
    local queued = {}
    for i = 1, workers do
      queued[i] = pool:submit(square, i)
    end
    pool:close()
    for _, pid in ipairs(pids) do
      processes.signal(pid, "KILL")
    end
    pool:join()
    for _, future in ipairs(futures) do
      local e = caught(future.get, future)
      assert.same({ "died", 9 }, { e.kind, e.signal })
    end
    -- What was queued is not lost with the workers that would have run it.
    for i, future in ipairs(queued) do
      assert.equal(i * i, future:get())
    end
    gates.remove(gate)
    census.assert_flat(before)
  end)

  it("workers that are killed while the pool ends do not keep it", function()
    local before = census.snapshot()
    for _, finish in ipairs({ "terminate", "close" }) do
      local pool = parallel.pool(with())
      local futures, pids, gate = occupy(pool)
      -- They are killed by a process of its own, so now or at any time of what follows.
      local killed = gates.new()
      os.execute(("(for pid in %s; do kill -KILL $pid; done; : >%s) 2>/dev/null &"):format(
        table.concat(pids, " "),
        killed
      ))
      pool[finish](pool)
      pool:join()
      for _, future in ipairs(futures) do
        local e = caught(future.get, future)
        assert.is_true(e.kind == "died" or (e.kind == "cancelled" and finish == "terminate"), tostring(e))
      end
      gates.await(killed)
      gates.remove(gate, killed)
    end
    census.assert_flat(before)
  end)

  it("workers that are killed while they start cost no more than the items that they had begun", function()
    local before = census.snapshot()
    local pool = parallel.pool(with())
    local futures, seen, count = {}, {}, 0
    for i = 1, workers do
      futures[i] = pool:submit(square, i)
    end
    local function all_done()
      for _, future in ipairs(futures) do
        if not future:done() then
          return false
        end
      end
      return true
    end
    -- Few may be enough for all items, and then the others do not start.
    gates.await_that(function()
      for pid in pairs(census.children()) do
        if not before.children[pid] and not seen[pid] then
          processes.signal(pid, "KILL")
          seen[pid], count = true, count + 1
        end
      end
      return count >= workers or all_done()
    end)
    for i, future in ipairs(futures) do
      local ok, result = pcall(future.get, future)
      if ok then
        assert.equal(i * i, result)
      else
        assert.same({ "died", 9 }, { result.kind, result.signal }, tostring(result))
      end
    end
    assert_works(pool)
    pool:close()
    pool:join()
    census.assert_flat(before)
  end)

  it("workers that kill one another in any order", function()
    local before = census.snapshot()
    local pool = parallel.pool(with())
    local _, pids, gate = occupy(pool)
    gates.open(gate)
    -- Pids of workers that are dead by then are nobody's: the numbers are not used again so soon.
    local list = pool:map(function(i)
      processes.signal(pids[i % #pids + 1], "KILL")
      return i
    end, parallel.range(1, 3 * workers), { errors = "collect", chunk = 1 })
    for i = 1, 3 * workers do
      if list[i] == nil then
        assert.same({ "died", 9, i }, { list.errors[i].kind, list.errors[i].signal, list.errors[i].index })
      else
        assert.equal(i, list[i])
      end
    end
    assert_works(pool)
    pool:close()
    pool:join()
    gates.remove(gate)
    census.assert_flat(before)
  end)

  it("workers that take no notice of anything are ended with their pool", function()
    local before = census.snapshot()
    -- A function of its own: what is left in the registers of this one would be alive.
    local function stop_workers(finish)
      local pool = parallel.pool(with())
      local _, pids, gate = occupy(pool)
      -- A process that is stopped reads nothing, and SIGTERM waits until it goes on.
      for _, pid in ipairs(pids) do
        processes.signal(pid, "STOP")
        processes.signal(pid, "TERM")
      end
      if finish == "terminate" then
        pool:terminate()
        pool:join()
      end
      gates.remove(gate)
    end
    stop_workers("terminate")
    census.assert_flat(before)
    stop_workers("drop")
    census.assert_flat(before)
  end)

  it("idle workers that take no notice of anything are ended with their pool", function()
    local before = census.snapshot()
    local pool = parallel.pool(with())
    local futures, pids, gate = occupy(pool)
    gates.open(gate)
    for i, future in ipairs(futures) do
      assert.equal(i, future:get())
    end
    for _, pid in ipairs(pids) do
      processes.signal(pid, "STOP")
    end
    pool:close()
    pool:join()
    gates.remove(gate)
    census.assert_flat(before)
  end)

  -- The caller kills itself, by a shell that has it for a parent, in the state that `code` brings it to.
  local function assert_takes_workers_along(code)
    local path = journal.new()
    local result = interpreter.run_code(
      ([[
        local gates = require "spec.support.gates"
        local journal = require "spec.support.journal"
        local processes = require "spec.support.processes"
        local path, workers = %q, %d
        local pool = parallel.pool()
        -- Each item waits for the others, so that every worker has one.
        local function meet()
          journal.add(path, processes.own())
          gates.await_that(function() return #journal.lines(path) >= workers end)
        end
        local function die()
          processes.signal_own("KILL")
          while true do end
        end
        %s
      ]]):format(path, workers, code),
      { seconds = 60, env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = workers } }
    )
    local lines = journal.lines(path)
    journal.remove(path)
    assert.equal(9, result.signal, result.stdout .. result.stderr)
    assert.is_true(#lines >= workers)
    for _, pid in ipairs(lines) do
      processes.await_end(tonumber(pid))
    end
  end

  it("no worker outlives a caller that is killed while they are idle", function()
    assert_takes_workers_along([[
      pool:map(meet, parallel.range(1, workers), { chunk = 1 })
      die()
    ]])
  end)

  it("no worker outlives a caller that is killed while they run what never looks up", function()
    assert_takes_workers_along([[
      futures = {}
      for i = 1, workers do
        futures[i] = pool:submit(function()
          meet()
          journal.add(path, processes.own())
          if i % 2 == 0 then parallel.sleep(3600) end
          local n = 0
          while true do n = n + 1 end
        end)
      end
      gates.await_that(function() return #journal.lines(path) >= 2 * workers end)
      die()
    ]])
  end)

  it("no worker outlives a caller that is killed while large results are on their way", function()
    assert_takes_workers_along([[
      local sent = 0
      local function send() sent = sent + 1 return sent, ("x"):rep(1000000) end
      for i in pool:imap_unordered(function(i, text)
        if i <= workers then meet() end
        return text .. text
      end, send, { chunk = 1, ahead = 4 * workers }) do
        if i >= 2 * workers then die() end
      end
    ]])
  end)

  it("no worker outlives a caller that is killed while they start", function()
    local path = journal.new()
    local result = interpreter.run_code(
      ([[
        local census = require "spec.support.census"
        local gates = require "spec.support.gates"
        local processes = require "spec.support.processes"
        local journal = require "spec.support.journal"
        local pool, futures, seen = parallel.pool(), {}, {}
        for i = 1, pool.workers do futures[i] = pool:submit(parallel.sleep, 3600) end
        local count = 0
        gates.await_that(function()
          for pid in pairs(census.children()) do
            if not seen[pid] then
              seen[pid], count = true, count + 1
              journal.add(%q, pid)
            end
          end
          return count == pool.workers
        end)
        processes.signal_own("KILL")
        while true do end
      ]]):format(path),
      { seconds = 60, env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = workers } }
    )
    local lines = journal.lines(path)
    journal.remove(path)
    assert.equal(9, result.signal, result.stdout .. result.stderr)
    assert.equal(workers, #lines)
    for _, pid in ipairs(lines) do
      processes.await_end(tonumber(pid))
    end
  end)
end, { "process" })
