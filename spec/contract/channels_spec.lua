-- SPDX-License-Identifier: MIT
--
-- Channels: messages between the caller and workers, and between workers, on every back-end. What a channel survives in
-- the midst of a message is in spec/native/shared_test.c.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local codec = require("codec")
local gates = require("spec.support.gates")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")
local processes = require("spec.support.processes")

local function failure(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(message)
end

describe("a channel", function()
  it("gives messages in the order in which they were sent", function()
    local channel = parallel.channel()
    for i = 1, 1000 do
      assert.is_true(channel:send(i))
    end
    for i = 1, 1000 do
      assert.equal(i, channel:receive())
    end
    assert.same({ nil, "timeout" }, { channel:receive(0) })
    assert.equal("channel of 1024 messages", tostring(channel))
  end)

  it("carries values of every kind and size that can cross", function()
    local channel = parallel.channel()
    local list = { 1, 2.5, "text", { deep = { list = { 1, 2, 3 } } }, false, ("x"):rep(3e6), "", -0.0, 2 ^ 53 }
    for i = 1, #list do
      channel:send(list[i])
    end
    for i = 1, #list do
      assert.same(list[i], (channel:receive()))
    end
    local ring = {}
    ring.ring = ring
    channel:send(ring)
    local got = channel:receive()
    assert.is_true(rawequal(got, got.ring))
    local offset = 5
    channel:send(function(x)
      return x + offset
    end)
    assert.equal(12, channel:receive()(7))
    channel:send({ math.sqrt, parallel })
    got = channel:receive()
    assert.is_true(rawequal(math.sqrt, got[1]) and rawequal(parallel, got[2]))
  end)

  it("holds as many messages as it is told to, whatever their size", function()
    local channel = parallel.channel(3)
    for i = 1, 3 do
      assert.is_true(channel:send(("x"):rep(i * 100000), 0))
    end
    assert.same({ nil, "timeout" }, { channel:send(1, 0) })
    assert.same({ nil, "timeout" }, { channel:send(1, 0.01) })
    assert.equal(100000, #channel:receive())
    assert.is_true(channel:send(1, 0))
    local full = parallel.channel()
    local count = 0
    while full:send(1, 0) do
      count = count + 1
    end
    assert.equal(1024, count)
  end)

  it("carries shared values, which stay shared", function()
    local channel = parallel.channel()
    local buffer, counter = parallel.buffer("int16", { 1, 2, 3 }), parallel.counter(4)
    channel:send({ buffer, buffer:slice(2), counter, channel })
    local got = channel:receive()
    got[1][1], got[2][1] = 10, 20
    got[3]:add(1)
    got[4]:send("through itself")
    assert.equal(10, buffer[1])
    assert.equal(20, buffer[2])
    assert.equal(5, counter:get())
    assert.equal("through itself", channel:receive())
    local many = {}
    for i = 1, 65 do
      many[i] = parallel.counter(i)
    end
    assert.matches("a message may refer to 64 pieces of shared memory, not to 65", failure(channel.send, channel, many),
      1, true)
    many[65] = nil
    channel:send(many)
    assert.equal(64, channel:receive()[64]:get())
  end)

  it("waits when as many shared values are under way as the system carries", function()
    local channel = parallel.channel()
    local sent = 0
    while channel:send(parallel.counter(sent), 0) do
      sent = sent + 1
    end
    assert.is_true(sent > 20 and sent <= 1024)
    for i = 0, sent - 1 do
      assert.equal(i, channel:receive():get())
    end
    assert.is_true(channel:send(parallel.counter(7), 0))
    assert.equal(7, channel:receive():get())
  end)

  it("that is closed takes no message, and gives those that it has", function()
    local channel = parallel.channel()
    channel:send(1)
    channel:send(2)
    channel:close()
    channel:close()
    assert.same({ nil, "closed" }, { channel:send(3) })
    assert.equal(1, channel:receive())
    assert.equal(2, channel:receive(0))
    assert.same({ nil, "closed" }, { channel:receive() })
    assert.same({ nil, "closed" }, { channel:receive(5) })
  end)

  it("refuses what cannot be sent, and wrong arguments", function()
    local channel = parallel.channel()
    assert.matches("nil cannot be sent", failure(channel.send, channel), 1, true)
    assert.matches("channels_spec.lua:%d+: cannot send the message.log %(a file handle%)", failure(function()
      channel:send({ log = io.tmpfile() })
    end))
    assert.same({ nil, "timeout" }, { channel:receive(0) })
    for _, bad in ipairs({ -1, 0 / 0, "1", true }) do
      assert.matches("bad argument #2 to 'send'", failure(channel.send, channel, 1, bad), 1, true)
      assert.matches("bad argument #1 to 'receive'", failure(channel.receive, channel, bad), 1, true)
    end
    for _, bad in ipairs({ 0, -1, 1.5, 2 ^ 50, "5", {} }) do
      assert.matches("bad argument #1 to 'channel' (number of messages from 1 up expected",
        failure(parallel.channel, bad), 1, true)
    end
    assert.matches("a channel expected, got table", failure(channel.receive, {}), 1, true)
    assert.matches("cannot send value (a parallel.Channel", failure(codec.encode, channel), 1, true)
    assert.is_true(codec.check(channel))
  end)

  it("that is full of memory goes with all that it holds", function()
    for _ = 1, 300 do
      local channel = parallel.channel()
      channel:send({ parallel.buffer("uint8", 100000):fill(1), channel })
      channel:send(("x"):rep(100000))
    end
  end)

  it("ends a wait with Ctrl-C", function()
    -- Whether it comes before the wait or in it: there is nothing else that it can end. popen, since os.execute would
    -- have this process ignore it.
    local outcome = interpreter.run({ "-e", [[
      local pid = io.open("/proc/self/stat"):read("*n")
      print(pcall(function()
        local future = parallel.submit(function() io.popen(("kill -INT %d"):format(pid)):close() end)
        parallel.channel():receive()
        return future
      end))
    ]] })
    assert.matches("interrupted!", outcome.stdout .. outcome.stderr, 1, true)
  end)
end)

backends.each_size(function(with, backend, workers)
  describe("channels in calls", function()
    it("carry messages to and from items", function()
      local jobs, results = parallel.channel(), parallel.channel()
      for i = 1, 20 do
        jobs:send({ number = i })
      end
      jobs:close()
      parallel.each(function()
        while true do
          local job = jobs:receive()
          if not job then
            return
          end
          results:send(job.number * 2)
        end
      end, parallel.range(1, 3), with())
      local sum = 0
      for _ = 1, 20 do
        sum = sum + results:receive(5)
      end
      assert.equal(420, sum)
      assert.same({ nil, "timeout" }, { results:receive(0) })
    end)

    it("cross as items and results", function()
      local channel = parallel.channel(5)
      local list = parallel.map(function(item)
        item.channel:send("from the worker")
        local made = parallel.channel()
        made:send("in a channel of its own")
        return { item.channel, made }
      end, { { channel = channel } }, with())
      assert.equal("from the worker", list[1][1]:receive(5))
      assert.equal("in a channel of its own", list[1][2]:receive(5))
      list[1][1]:send(1)
      assert.equal(1, channel:receive(5))
    end)

    it("bring buffers that a worker made", function()
      local channel = parallel.channel()
      parallel.each(function(i)
        channel:send({ i, parallel.buffer("int32", 1000):fill(i) })
      end, parallel.range(1, 10), with())
      local sum = 0
      for _ = 1, 10 do
        local message = channel:receive(5)
        assert.equal(message[1], message[2][1000])
        sum = sum + message[1]
      end
      assert.equal(55, sum)
    end)

    -- Needs a worker for each: those of one worker wait for one another.
    if backend ~= "serial" and workers >= 2 then
      it("connect items that run at the same time", function()
        local channel = parallel.channel(2)
        local list = parallel.map(function(i)
          if i == 1 then
            for k = 1, 500 do
              assert(channel:send({ k, ("x"):rep(k) }))
            end
            channel:close()
            return 0
          end
          local sum = 0
          while true do
            local message = channel:receive()
            if not message then
              return sum
            end
            sum = sum + #message[2]
          end
        end, parallel.range(1, workers), with({ chunk = 1 }))
        local sum = 0
        for i = 1, workers do
          sum = sum + list[i]
        end
        assert.equal(500 * 501 / 2, sum)
      end)

      it("do not hold up a call that has failed", function()
        local channel = parallel.channel(1)
        local ok, refusal = pcall(parallel.each, function(i)
          if i == 1 then
            error("the sender fails")
          end
          channel:receive()
        end, parallel.range(1, workers), with({ chunk = 1 }))
        assert.is_false(ok)
        assert.equal(1, refusal.index)
        assert.matches("the sender fails", refusal.message, 1, true)
      end)
    end

    it("end with the time of an item", function()
      local channel = parallel.channel()
      local _, errors = parallel.each(function()
        return channel:receive()
      end, { 1 }, with({ timeout = 0.1, errors = "collect" }))
      assert.equal("timeout", errors[1].kind)
    end)
  end)
end, backends.all)

describe("channels of pools", function()
  backends.each(function(with)
    it("connect the caller with what it submits", function()
      local pool = parallel.pool(with())
      local questions, answers = parallel.channel(), parallel.channel()
      local future = pool:submit(function()
        for question in function() return questions:receive() end do
          answers:send(question * 2)
        end
        return "done"
      end)
      for i = 1, 50 do
        questions:send(i)
        assert.equal(2 * i, answers:receive(30))
      end
      questions:close()
      assert.equal("done", future:get())
      pool:close()
      pool:join()
    end)

    it("end their waits when the item is cancelled or the pool terminated", function()
      local pool = parallel.pool(with())
      local channel, gate = parallel.channel(), gates.new()
      local future = pool:submit(function()
        gates.open(gate)
        return channel:receive()
      end)
      gates.await(gate)
      assert.is_true(future:cancel())
      gates.remove(gate)
      local other = pool:submit(function()
        gates.open(gate)
        return channel:receive()
      end)
      gates.await(gate)
      pool:terminate()
      pool:join()
      assert.equal("cancelled", select(2, pcall(other.get, other)).kind)
      gates.remove(gate)
    end)
  end, backends.concurrent)
end)

describe("channels and processes", function()
  it("outlive a worker that is killed while it waits, sends or receives", function()
    for _, backend in ipairs({ "process", "fork" }) do
      local channel, begun = parallel.channel(4), parallel.counter()
      local killer = ("(sleep 0.%d; kill -9 %%d) &")
      local list = parallel.map(function(i)
        begun:add(1)
        if i <= 6 then
          os.execute(killer:format(i):format(processes.own()))
          while true do
            if i % 3 == 0 then
              channel:receive(i == 3 and 0 or nil)
            elseif i % 3 == 1 then
              channel:send({ ("x"):rep(3e5), parallel.counter(i) }, i == 1 and 0 or nil)
            else
              channel:send(i, 0)
              channel:receive(0)
            end
          end
        end
        return i
      end, parallel.range(1, 8), { backend = backend, workers = 3, chunk = 1, errors = "collect" })
      for i = 1, 6 do
        assert.equal("SIGKILL", list.errors[i].signal_name)
      end
      assert.equal(8, list[8])
      assert.equal(8, begun:get())
      while channel:receive(0) do -- luacheck: ignore
      end
      for i = 1, 10 do
        channel:send({ i, parallel.counter(i) })
        assert.equal(i, channel:receive(5)[2]:get())
      end
    end
  end)

  it("keep a message when who sent it is gone", function()
    local channel = parallel.channel()
    local pool = parallel.ProcessPool(1)
    pool:apply(function()
      channel:send({ "left", parallel.buffer("int8", { 9 }) })
    end)
    pool:terminate()
    pool:join()
    local message = channel:receive(5)
    assert.equal("left", message[1])
    assert.equal(9, message[2][1])
  end)
end)
