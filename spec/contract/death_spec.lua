-- SPDX-License-Identifier: MIT
--
-- Workers that end while a call runs: by os.exit on every back-end, by signals in processes. The call ends with an
-- error that names the cause, and the pool stays usable.

local describe, it, assert, before_each, after_each = describe, it, assert, before_each, after_each
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

local SIGKILL, SIGSEGV, SIGTERM = 9, 11, 15

--- Asserts that a pool does its work.
local function assert_works(pool)
  local squares = pool:map(square, parallel.range(1, 40))
  for i = 1, 40 do
    assert.equal(i * i, squares[i])
  end
end

--- Asserts that an error says of a dead worker what there is to say.
local function assert_died(e, index, signal, exit_code)
  assert.equal(parallel.Error, getmetatable(e))
  assert.equal("died", e.kind, tostring(e))
  assert.equal(index, e.index)
  assert.equal(signal, e.signal)
  assert.equal(exit_code, e.exit_code)
  assert.equal("number", type(e.worker))
  assert.is_true(index ~= nil or not e.message:find("item", 1, true), e.message)
  local text = tostring(e)
  assert.is_truthy(text:find(tostring(signal or exit_code), 1, true), text)
  if signal then
    assert.is_truthy(text:find(e.signal_name, 1, true), text)
  end
end

--- One pool for each test, gone with all of its workers at the end of it.
local function around(with, body)
  local pool, before
  before_each(function()
    parallel.map(square, { 1 }, with()) -- what a first call starts for good is not this pool's
    before = census.snapshot()
    pool = parallel.pool(with())
  end)
  after_each(function()
    pool:close()
    pool:join()
    pool = nil
    census.assert_flat(before)
  end)
  body(function()
    return pool
  end)
end

backends.each_size(function(with)
  around(with, function(pool)
    it("os.exit in an item ends its worker, never the program", function()
      local function exit_at_5(i, ...)
        if i == 5 then
          os.exit(...)
        end
        return i
      end
      assert_died(caught(pool().map, pool(), exit_at_5, parallel.range(1, 20), { chunk = 1 }), 5, nil, 0)
      assert_works(pool())
      assert_died(
        caught(pool().starmap, pool(), exit_at_5, { { 1 }, { 2 }, { 5, 3 }, { 4 } }, { chunk = 2 }),
        3,
        nil,
        3
      )
      assert_died(caught(pool().starmap, pool(), exit_at_5, { { 5, true, true } }), 1, nil, 0)
      assert_died(caught(pool().starmap, pool(), exit_at_5, { { 5, false } }), 1, nil, 1)
      assert_died(caught(pool().starmap, pool(), exit_at_5, { { 5, 99, true } }), 1, nil, 99)
      assert_works(pool())
    end)

    it("one death fails one item, and the others give their results", function()
      local list = pool():map(function(i)
        if i == 37 then
          os.exit(7)
        end
        return i
      end, parallel.range(1, 100), { errors = "collect" })
      for i = 1, 100 do
        if i == 37 then
          assert.is_nil(list[i])
          assert_died(list.errors[i], 37, nil, 7)
        else
          assert.equal(i, list[i])
          assert.is_nil(list.errors[i])
        end
      end
      assert_works(pool())
    end)
  end)
end)

backends.each_size(function(with, backend)
  around(with, function(pool)
    it("an exit in a coroutine or under a pcall of the item counts as any other", function()
      local function exit_within(how)
        if how == "coroutine" then
          coroutine.wrap(os.exit)(4)
        end
        pcall(os.exit, 4)
        return "survived"
      end
      assert_died(caught(pool().map, pool(), exit_within, { "coroutine" }), 1, nil, 4)
      assert_died(caught(pool().map, pool(), exit_within, { "pcall" }), 1, nil, 4)
      assert_works(pool())
    end)

    it("an item that cannot be sent again after a death leaves those behind it", function()
      local gate, list = gates.new(), {}
      for i = 1, 9 do
        list[i] = { i }
      end
      local future = pool():map_async(function(item)
        if item[1] == 3 then
          gates.await(gate)
          os.exit(6)
        end
        return item[1]
      end, list, { chunk = 9, errors = "collect" })
      -- All are on their way. What was behind the death is begun anew at item 4.
      list[4][1], list[7][1] = coroutine.create(print), coroutine.create(print)
      gates.open(gate)
      local results = future:get()
      gates.remove(gate)
      for i = 1, 9 do
        if i == 3 then
          assert_died(results.errors[i], i, nil, 6)
        elseif i == 4 or i == 7 then
          assert.same({ "encode", i }, { results.errors[i].kind, results.errors[i].index })
        else
          assert.equal(i, results[i])
          assert.is_nil(results.errors[i])
        end
      end
      assert_works(pool())
    end)

    it("every item may die", function()
      local list = pool():map(os.exit, { 1, 2, 3, 4, 5, 6 }, { errors = "collect", chunk = 2 })
      assert.equal(6, list.n)
      for i = 1, 6 do
        assert.is_nil(list[i])
        assert_died(list.errors[i], i, nil, i)
      end
      assert_works(pool())
    end)

    it("a submitted call that dies fails its future, without an index", function()
      local future = pool():submit(os.exit, 21)
      local neighbour = pool():submit(square, 9)
      assert_died(caught(future.get, future), nil, nil, 21)
      assert.equal(81, neighbour:get())
      assert_died(caught(pool().apply, pool(), os.exit, 22), nil, nil, 22)
      assert_works(pool())
    end)

    it("a worker may die after the pool was closed", function()
      local future = pool():submit(os.exit, 5)
      local neighbour = pool():submit(square, 9)
      pool():close()
      pool():join()
      assert_died(caught(future.get, future), nil, nil, 5)
      assert.equal(81, neighbour:get())
    end)
  end)

  describe("init", function()
    local function never()
      error("there is no worker to run an item")
    end

    local cases = {
      {
        name = "that raises an error",
        init = function()
          error("no licence", 0)
        end,
        check = function(e)
          assert.equal("no licence", e.value)
          assert.is_truthy(e.message:find("no licence", 1, true), e.message)
        end,
      },
      {
        name = "that exits",
        init = function()
          os.exit(3)
        end,
        check = function(e)
          assert.equal(3, e.exit_code)
        end,
      },
    }
    if backend == "process" then
      cases[#cases + 1] = {
        name = "that is killed",
        init = function()
          processes.signal_own("KILL")
        end,
        check = function(e)
          assert.equal(SIGKILL, e.signal)
        end,
      }
    end

    for _, case in ipairs(cases) do
      it(case.name .. " fails the first call once it failed in each worker", function()
        local before = census.snapshot()
        local path, init = journal.new(), case.init
        local pool = parallel.pool(with({
          init = function()
            journal.add(path, "began")
            init()
          end,
        }))
        local future = pool:submit(never)
        local e = caught(pool.map, pool, never, parallel.range(1, 50), { chunk = 1 })
        local waiting = caught(future.get, future)
        local began = #journal.lines(path)
        pool:terminate()
        pool:join()
        journal.remove(path)
        assert.equal("init", e.kind)
        assert.is_nil(e.index)
        assert.is_nil(e.message:find("item", 1, true), e.message)
        case.check(e)
        assert.equal("init", waiting.kind)
        -- No storm of restarts: each worker fails once, and then perhaps with what is under way until the calls have
        -- ended: two chunks a worker, and what was submitted.
        assert.is_true(began >= 1 and began <= 3 * with().workers + 1, began .. " times")
        census.assert_flat(before)
      end)
    end

    -- One worker has nobody beside it.
    for _, case in ipairs(with().workers > 1 and cases or {}) do
      it(case.name .. " once is tried again in a fresh state, and ends nothing", function()
        local runs, init = parallel.counter(), case.init
        local before = census.snapshot()
        local pool = parallel.pool(with({
          init = function()
            left_behind = (left_behind or 0) + 1 -- luacheck: ignore
            if runs:add(1) == 1 then
              init()
            end
          end,
        }))
        local list = pool:map(function()
          return left_behind -- luacheck: ignore
        end, parallel.range(1, 50), { chunk = 1 })
        pool:terminate()
        pool:join()
        assert.equal(50, list.n)
        for i = 1, 50 do
          assert.equal(1, list[i])
        end
        assert.is_true(runs:get() >= 2)
        census.assert_flat(before)
      end)
    end

    for _, case in ipairs(with().workers > 1 and backend ~= "serial" and cases or {}) do
      it(case.name .. " in one worker only leaves the items to the others", function()
        local failures, init = parallel.counter(), case.init
        local pool = parallel.pool(with({
          init = function()
            if require("parallel").worker() == 1 then
              failures:add(1)
              init()
            end
          end,
        }))
        for _ = 1, 5 do
          local before = failures:get()
          local list = pool:map(function(i)
            -- Nobody has results before that worker has failed, so it is the first to be free.
            while failures:get() == before do -- luacheck: ignore
            end
            return i
          end, parallel.range(1, 50), { chunk = 1 })
          assert.equal(50, list.n)
          for i = 1, 50 do
            assert.equal(i, list[i])
          end
        end
        pool:terminate()
        pool:join()
      end)
    end

    it("that fails now and then ends nothing, however often it is run", function()
      local runs = parallel.counter()
      local pool = parallel.pool(with({
        workers = 2,
        max_tasks = 1,
        init = function()
          if runs:add(1) % 3 == 0 then
            error("no licence")
          end
        end,
      }))
      for i = 1, 20 do
        assert.equal(i * i, pool:submit(square, i):get())
      end
      pool:terminate()
      pool:join()
      assert.is_true(runs:get() >= 29, runs:get() .. " times")
    end)
  end)
end)

backends.each_size(function(with)
  around(with, function(pool)
    it("kill -9 of a worker in the middle of an item is named, and the next call works", function()
      local function kill_at_5(i)
        if i == 5 then
          processes.signal_own("KILL")
        end
        return i
      end
      for _, chunk in ipairs({ 1, 4, 20 }) do
        local e = caught(pool().map, pool(), kill_at_5, parallel.range(1, 20), { chunk = chunk })
        assert_died(e, 5, SIGKILL)
        assert.equal("SIGKILL", e.signal_name)
        assert_works(pool())
      end
    end)

    it("a death takes no other item's error along, nor a result in a buffer", function()
      local runs, into = parallel.counter(), parallel.buffer("double", 40)
      local function work(i)
        runs:add(1)
        if i == 12 then
          error("bad luck")
        elseif i == 25 then
          processes.signal_own("KILL")
        end
        return i + 0.5
      end
      for _, chunk in ipairs({ 1, 20, 40 }) do
        runs:set(0)
        local _, errors = pool():map(work, parallel.range(1, 40), { errors = "collect", into = into, chunk = chunk })
        assert.equal("error", errors[12].kind)
        assert_died(errors[25], 25, SIGKILL)
        for i = 1, 40 do
          assert.equal(i == 12 or i == 25 or nil, errors[i] and true)
          assert.is_true(i == 12 or i == 25 or into[i] == i + 0.5)
        end
        -- What was done before the failure is not done again.
        assert.is_true(runs:get() <= (chunk == 40 and 53 or 40), runs:get() .. " runs")
      end
      local e = caught(pool().map, pool(), work, parallel.range(1, 40), { errors = "finish", into = into, chunk = 40 })
      assert.equal(12, e.index)
      assert.equal("error", e.kind)
    end)

    it("one kill fails one item, and the others give their results", function()
      local list = pool():map(function(i)
        if i == 37 then
          processes.signal_own("KILL")
        end
        return i
      end, parallel.range(1, 100), { errors = "collect" })
      for i = 1, 100 do
        assert.equal(i ~= 37 and i or nil, list[i])
      end
      assert_died(list.errors[37], 37, SIGKILL)
    end)
  end)
end, { "process" })

backends.each_size(function(with, _, workers)
  around(with, function(pool)
    it("other signals have their names", function()
      -- A sanitizer makes a report of its own of a fault, and exits.
      local signals = interpreter.sanitized and { TERM = SIGTERM, XCPU = 24 }
        or { SEGV = SIGSEGV, TERM = SIGTERM, ABRT = 6 }
      for name, number in pairs(signals) do
        local e = caught(pool().map, pool(), processes.signal_own, { name })
        assert_died(e, 1, number)
        assert.equal("SIG" .. name, e.signal_name)
      end
      assert_works(pool())
    end)

    it("a worker that is killed from outside while it runs an item", function()
      local entered, never, pid = gates.new(), gates.new(), journal.new()
      local future = pool():submit(function()
        journal.add(pid, processes.own())
        gates.open(entered)
        gates.await(never)
      end)
      gates.await(entered)
      processes.signal(tonumber(journal.lines(pid)[1]), "KILL")
      assert_died(caught(future.get, future), nil, SIGKILL)
      gates.remove(entered)
      journal.remove(pid)
      assert_works(pool())
    end)

    it("workers that are killed while they have nothing to do cost no item", function()
      for _ = 1, 5 do
        local pids = pool():map(function()
          return processes.own()
        end, parallel.range(1, 50), { chunk = 1 })
        for i = 1, pids.n do
          processes.signal(pids[i], "KILL")
          processes.await_end(pids[i])
        end
        assert_works(pool())
      end
    end)

    it("a worker that is killed while a large item is on its way to it", function()
      -- Far more than a channel holds, so that the death comes in the middle of it.
      local big = ("x"):rep(8 * 1024 * 1024)
      local list = pool():map(function(i, text)
        if i == 1 then
          processes.signal_own("KILL")
        end
        return #text
      end, coroutine.wrap(function()
        for i = 1, 6 do
          coroutine.yield(i, big)
        end
      end), { errors = "collect", chunk = 1 })
      assert_died(list.errors[1], 1, SIGKILL)
      for i = 2, 6 do
        assert.equal(#big, list[i], tostring(list.errors[i]))
      end
    end)

    it("workers that are killed at any time lose no more than the item that they run", function()
      -- Large results, so that many of the kills come while one is on its way. Who kills is nobody's child, and knows
      -- of an item by what that wrote as its first act: one that was killed before has told nobody to kill it.
      local told, finished = gates.new(), gates.new()
      os.execute(([[
        mkfifo %s
        (
          while read pid later && test $pid != none; do
            ( n=0; while test $n -lt $later; do n=$((n + 1)); done; kill -9 $pid 2>/dev/null ) &
          done <%s
          wait
          : >%s
        ) &
      ]]):format(told, told, finished))
      local function tell(...)
        local file = assert(io.open(told, "w"))
        file:write(table.concat({ ... }, " "), "\n")
        file:close()
      end
      local teller = assert(io.open(told, "w"))
      local list = pool():map(function(i)
        tell(processes.own(), i * 700)
        return (("%d "):format(i)):rep(1024 * 1024)
      end, parallel.range(1, 12), { errors = "collect", chunk = 1 })
      for i = 1, 12 do
        if list[i] == nil then
          assert_died(list.errors[i], i, SIGKILL)
        else
          assert.is_true(list[i] == (("%d "):format(i)):rep(1024 * 1024))
        end
      end
      tell("none")
      teller:close()
      gates.await(finished)
      gates.remove(told, finished)
      assert_works(pool())
    end)

    it("workers that kill one another in any order", function()
      local pids = {}
      for _, pid in
        ipairs(pool():map(function()
          return processes.own()
        end, parallel.range(1, 50), { chunk = 1 }))
      do
        pids[pid] = true
      end
      local targets = {}
      for pid in pairs(pids) do
        targets[#targets + 1] = pid
      end
      local list = pool():map(function(i)
        processes.signal(targets[i % #targets + 1], "KILL")
        return i
      end, parallel.range(1, 20), { errors = "collect", chunk = 1 })
      for i = 1, 20 do
        if list[i] == nil then
          assert_died(list.errors[i], i, SIGKILL)
        else
          assert.equal(i, list[i])
        end
      end
      assert_works(pool())
    end)
  end)

  it("a pool whose workers cannot all be started leaves none behind", function()
    -- With fewer and fewer descriptors, the start of some worker fails: the first, the last, or one between them.
    local script = ([[
      local ok, reason = pcall(function()
        local pool = parallel.pool { backend = "process", workers = %d }
        local list = pool:map(math.sqrt, { 1, 4, 9 })
        pool:close()
        pool:join()
        return list
      end)
      print(ok and "worked" or "failed: " .. tostring(reason))
    ]]):format(workers)
    local worked, failed = 0, 0
    local most = 30 + 4 * workers
    for descriptors = 6, most, math.ceil(most / 15) do
      local command = ("ulimit -n %d && exec %s -e %s"):format(
        descriptors,
        interpreter.quote(interpreter.path),
        interpreter.quote(script)
      )
      local result = interpreter.run({ "-c", command }, { program = "sh", seconds = 30 })
      if result.stdout == "worked\n" then
        worked = worked + 1
      else
        failed = failed + 1
        assert.is_truthy(result.stdout:find("^failed: ."), result.stdout .. result.stderr)
      end
      assert.equal(0, result.code)
      assert.equal("", result.stderr)
    end
    assert.is_true(worked > 0 and failed > 0, ("%d worked, %d failed"):format(worked, failed))
  end)
end, { "process" })
