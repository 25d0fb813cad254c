-- SPDX-License-Identifier: MIT
--
-- Sources that are pulled, on every back-end: never further ahead than allowed, whatever happens to the items.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local caught = require("spec.support.caught")
local gates = require("spec.support.gates")
local journal = require("spec.support.journal")
local parallel = require("parallel")

local function identity(x)
  return x
end

--- 1, 2... n; `look` is called with each number before it is given.
local function source(n, look)
  local i = 0
  return function()
    if i == n then
      return nil
    end
    i = i + 1
    if look then
      look(i)
    end
    return i
  end
end

-- 12 items, of which the third cannot be sent.
local function with_refused()
  local i = 0
  return function()
    i = i + 1
    if i == 3 then
      return io.tmpfile()
    end
    return i <= 12 and i or nil
  end
end

--- Asserts that a verb's results by item are those of with_refused.
local function assert_all_but_third(results, errors)
  for i = 1, 12 do
    assert.equal(i ~= 3 and i or nil, results[i])
    assert.equal(i == 3, errors[i] ~= nil)
  end
  assert.same({ "encode", 3 }, { errors[3].kind, errors[3].index })
end

backends.each(function(with)
  it("an item that cannot be sent costs none of those that were pulled along with it", function()
    for _, chunk in ipairs({ 1, 2, 10, 100, "auto", "guided" }) do
      local function options(errors)
        return with({ chunk = chunk, errors = errors })
      end
      local list = parallel.map(identity, with_refused(), options("collect"))
      assert.equal(12, list.n)
      assert_all_but_third(list, list.errors)

      for _, verb in ipairs({ "imap", "imap_unordered" }) do
        local results, errors = {}, {}
        for i, value, e in parallel[verb](identity, with_refused(), options("collect")) do
          results[i], errors[i] = value, e
        end
        assert_all_but_third(results, errors)
      end

      local succeeded, errors = parallel.each(identity, with_refused(), options("collect"))
      assert.equal(11, succeeded)
      assert.equal("encode", errors[3].kind)

      local kept = parallel.filter(function(i)
        return i % 4 == 0
      end, with_refused(), options("collect"))
      assert.same({ 4, 8, 12 }, { kept[1], kept[2], kept[3] })

      local path = journal.new()
      local e = caught(parallel.each, function(i)
        journal.add(path, i)
      end, with_refused(), options("finish"))
      assert.same({ "encode", 3, 11 }, { e.kind, e.index, #journal.lines(path) })
      journal.remove(path)
    end
  end)

  it("an item that cannot be sent again after a death leaves those behind it", function()
    for _, verb in ipairs({ "map", "imap_unordered" }) do
      local gate, pulled = gates.new(), {}
      -- The sixth is asked for when a chunk of the others is on its way.
      local function give()
        local i = #pulled + 1
        if i == 6 then
          pulled[2][1], pulled[4][1] = coroutine.create(print), coroutine.create(print)
          gates.open(gate)
        end
        pulled[i] = { i }
        return i <= 6 and pulled[i] or nil
      end
      local function work(item)
        if item[1] == 1 then
          gates.await(gate)
          os.exit(6)
        end
        return item[1]
      end
      local options = with({ chunk = 5, errors = "collect" })
      local results, errors = {}, {}
      if verb == "map" then
        results = parallel.map(work, give, options)
        errors = results.errors
      else
        for i, value, e in parallel.imap_unordered(work, give, options) do
          results[i], errors[i] = value, e
        end
      end
      gates.remove(gate)
      local kinds = { "died", "encode", nil, "encode" }
      for i = 1, 6 do
        assert.equal(kinds[i], errors[i] and errors[i].kind, verb .. " " .. i)
        assert.equal(not kinds[i] and i or nil, results[i], verb .. " " .. i)
      end
    end
  end)
end, backends.all)

backends.each(function(with)
  it("an item that cannot be sent again when its chunk is cut short leaves those behind it", function()
    local pool = parallel.pool(with({ workers = 2 }))
    local function work(item)
      local place = item[1]
      if place == 1 then
        gates.await(item.gate)
      elseif place == 3 then
        gates.open(item.gate)
      end
      return place
    end
    local cheap = {}
    for i = 1, 300 do
      cheap[i] = { 0 }
    end

    --- One call whose items all travel in one chunk, of the size that was learned. Returns them and the results.
    local function try()
      local gate, pulled = gates.new(), {}
      local sent_before = pool:stats().bytes_sent
      local results = pool:map(work, function()
        if pool:stats().bytes_sent == sent_before then
          pulled[#pulled + 1] = { #pulled + 1, gate = gate }
          return pulled[#pulled]
        end
        -- That chunk is on its way, and there is no more.
        if #pulled < 3 then
          gates.open(gate)
        else
          pulled[2][1] = coroutine.create(print)
        end
        return nil
      end, { errors = "collect" })
      gates.remove(gate)
      return pulled, results
    end

    local pulled, results
    gates.await_that(function()
      pool:map(work, cheap)
      pulled, results = try()
      -- What was learned on a busy machine may be that items are dear.
      return #pulled >= 3
    end)
    assert.equal(#pulled, results.n)
    for i = 1, #pulled do
      assert.equal(i ~= 2 and i or nil, results[i])
      assert.equal(i == 2 and "encode" or nil, results.errors[i] and results.errors[i].kind)
    end
    pool:close()
    pool:join()
  end)
end, backends.concurrent)

backends.each_size(function(with)
  it("iterators pull no more than ahead items beyond those that they handed out", function()
    for _, verb in ipairs({ "imap", "imap_unordered" }) do
      for _, ahead in ipairs({ 1, 2, 7, 30 }) do
        for _, chunk in ipairs({ 1, 3, 100, "auto", "guided" }) do
          local handed_out, most = 0, 0
          local items = source(60, function(i)
            most = math.max(most, i - handed_out)
          end)
          for _ in parallel[verb](identity, items, with({ ahead = ahead, chunk = chunk })) do
            handed_out = handed_out + 1
          end
          assert.equal(60, handed_out)
          assert.is_true(most <= ahead, ("%d items were ahead, %d allowed"):format(most, ahead))
        end
      end
    end
  end)

  it("other verbs pull no more than ahead items beyond those that are done", function()
    for _, verb in ipairs({ "map", "each", "filter", "reduce" }) do
      local path = journal.new()
      local items = source(12, function(i)
        assert.is_true(i - #journal.lines(path) <= 3)
      end)
      parallel[verb](function(item, other)
        -- reduce has seen an item when it is joined to another one.
        journal.add(path, "done")
        return other or item
      end, verb == "reduce" and source(12) or items, with({ ahead = 3, chunk = 2 }))
      journal.remove(path)
    end
  end)

  it("items that fail or die count as taken", function()
    for _, verb in ipairs({ "map", "imap", "imap_unordered", "filter", "each" }) do
      local failed, succeeded = {}, 0
      local function check(i)
        if i % 3 == 0 then
          os.exit(i)
        elseif i % 5 == 0 then
          error(io.tmpfile())
        elseif i % 7 == 0 then
          return io.tmpfile()
        end
        return true
      end
      local options = with({ ahead = 2, chunk = 4, errors = "collect" })
      local items = source(21)
      if verb == "imap" or verb == "imap_unordered" then
        for i, value, e in parallel[verb](check, items, options) do
          succeeded = succeeded + (value and 1 or 0)
          failed[i] = e
        end
      elseif verb == "each" then
        succeeded, failed = parallel.each(check, items, options)
      else
        local list = parallel[verb](check, items, options)
        failed = list.errors
        for _ in ipairs(verb == "filter" and list or {}) do
          succeeded = succeeded + 1
        end
        for i = 1, verb == "map" and list.n or 0 do
          succeeded = succeeded + (list[i] and 1 or 0)
        end
      end
      for i = 1, 21 do
        local kind = i % 3 == 0 and "died" or i % 5 == 0 and "error" or nil
        -- What filter and each drop in the worker is not sent, so it need not cross.
        if i % 7 == 0 and i % 3 ~= 0 and verb ~= "filter" and verb ~= "each" then
          kind = "encode"
        end
        assert.equal(kind, failed[i] and failed[i].kind, verb .. " " .. i)
      end
      assert.equal((verb == "filter" or verb == "each") and 11 or 9, succeeded, verb)
    end
  end)
end, backends.all)

backends.each(function(with)
  it("a source that raises lets imap hand out what came before", function()
    for _, chunk in ipairs({ 1, 4, 100, "auto" }) do
      local reason = { "dry" }
      local seen = {}
      local raised = caught(function()
        for i, value in parallel.imap(identity, source(20, function(i)
          if i == 11 then
            error(reason)
          end
        end), with({ chunk = chunk })) do
          seen[i] = value
        end
      end)
      assert.is_true(rawequal(reason, raised))
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, seen)
    end
  end)

  it("a slow source is asked for little more than is taken", function()
    local pulled, taken = 0, 0
    local function dripping()
      pulled = pulled + 1
      -- What comes at once lets chunks grow.
      if pulled > 400 then
        parallel.sleep(0.003)
      end
      return pulled
    end
    for _ in parallel.imap(identity, dripping, with()) do
      taken = taken + 1
      if taken == 410 then
        break
      end
    end
    assert.is_true(pulled <= 450, pulled .. " items were pulled")
  end)

  it("with errors = 'finish' an iterator leaves failed items out and raises at the end", function()
    for _, verb in ipairs({ "imap", "imap_unordered" }) do
      local seen = {}
      local raised = caught(function()
        for i, value in parallel[verb](function(x)
          if x == 3 then
            os.exit(1)
          elseif x == 5 then
            error("five")
          end
          return x
        end, source(8), with({ errors = "finish", chunk = 2 })) do
          seen[i] = value
        end
      end)
      assert.same({ "died", 3 }, { raised.kind, raised.index })
      assert.same({ 1, 2, nil, 4, nil, 6, 7, 8 }, seen)
    end
  end)

  it("a source may yield to other coroutines that use the same pool, but not the same iterator", function()
    local pool = parallel.pool(with())
    local next_result
    local reader = coroutine.wrap(function()
      next_result = pool:imap(identity, source(4, coroutine.yield), { chunk = 1, ahead = 1 })
      local seen = {}
      for _, value in next_result do
        seen[#seen + 1] = value
      end
      return seen
    end)
    local seen
    for i = 1, 4 do
      assert.equal(i, reader())
      assert.same({ 3, n = 1 }, pool:map(math.sqrt, { 9 }))
      assert.is_truthy(tostring(caught(next_result)):find("another coroutine", 1, true))
    end
    seen = reader()
    assert.same({ 1, 2, 3, 4 }, seen)
    pool:close()
    pool:join()
  end)
end)
