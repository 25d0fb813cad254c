-- SPDX-License-Identifier: MIT
--
-- Misuse: wrong options and arguments are errors that name them, raised at the line of the call.

local describe, it, assert = describe, it, assert
require("spec.support.globals")()

local here = require("spec.support.here")
local interpreter = require("spec.support.interpreter")
local parallel = require("parallel")

local function identity(x)
  return x
end

--- Asserts that the message begins with the place and has all the words.
local function assert_message(message, place, ...)
  assert.equal("string", type(message))
  assert.equal(place .. ": ", message:sub(1, #place + 2))
  for _, word in ipairs({ ... }) do
    assert.is_truthy(message:find(word, 1, true), ("'%s' does not name '%s'"):format(message, word))
  end
end

--- Calls parallel.map with these options and gives the message of the error, and the place of the call.
local function refused(options)
  local place
  local ok, message = pcall(function()
    place = here(1)
    local list = parallel.map(identity, { 1 }, options)
    return list
  end)
  assert.is_false(ok)
  return message, place
end

describe("an option", function()
  it("with an unknown name is refused by name", function()
    for _, name in ipairs({ "worker", "Workers", "chunks", "chunksize", "thread", "" }) do
      local message, place = refused({ [name] = 1 })
      assert_message(message, place, "option", name)
    end
    local message, place = refused({ "thread" })
    assert_message(message, place, "option", "1")
  end)

  it("of a later version is refused by name", function()
    local later = {
      progress = true,
      report = true,
    }
    for name, value in pairs(later) do
      local message, place = refused({ [name] = value })
      assert_message(message, place, name)
    end
    local message, place = refused({ backend = "mpi" })
    assert_message(message, place, "backend", "mpi")
  end)

  local wrong = {
    workers = { 0, -1, 1.5, 0 / 0, math.huge, "2", true, {} },
    backend = { "gpu", "Thread", "", 1, true },
    chunk = { 0, -1, 2.5, 0 / 0, "large", "", true, {} },
    errors = { "ignore", "", 1, true, {} },
    init = { "print", 1, true, {} },
    globals = { 1, "all", print },
    timeout = { 0, -1, 0 / 0, "1", true, {} },
    deadline = { 0, -1, 0 / 0, "1", true, {} },
    retries = { -1, 0.5, 0 / 0, math.huge, "1", true },
    max_tasks = { 0, -1, 0.5, 0 / 0, math.huge, "12", true },
  }
  for name, values in pairs(wrong) do
    it(("'%s' of a wrong type or range is refused by name"):format(name), function()
      for _, value in ipairs(values) do
        local message, place = refused({ [name] = value })
        assert_message(message, place, name)
      end
    end)
  end

  it("of a good value is taken", function()
    local good = {
      workers = { 1, 2, 3 },
      backend = { "serial", "thread", "process" },
      chunk = { 1, 2, 1000000, "auto", "guided" },
      errors = { "stop", "finish", "collect" },
      init = { function() end, print and math.random },
      globals = { true, false, {}, { x = 1 } },
      timeout = { 10, 0.5 + 9, math.huge },
      deadline = { 10, 0.5 + 9, math.huge },
      retries = { 0, 1, 10 },
      max_tasks = { 1, 12 },
    }
    for name, values in pairs(good) do
      for _, value in ipairs(values) do
        assert.same({ 5, n = 1 }, parallel.map(identity, { 5 }, { [name] = value }))
      end
    end
    assert.same({ 5, n = 1 }, parallel.map(identity, { 5 }, {}))
    assert.same({ 5, n = 1 }, parallel.map(identity, { 5 }, nil))
  end)

  it("stays in the table that it came in", function()
    local options = { chunk = 2, workers = 2 }
    parallel.map(identity, { 1, 2, 3 }, options)
    assert.same({ chunk = 2, workers = 2 }, options)
  end)
end)

describe("each verb", function()
  local verbs = { "map", "each", "imap", "imap_unordered", "filter", "starmap" }

  it("refuses options that are no table", function()
    for _, verb in ipairs(verbs) do
      for _, options in ipairs({ 1, "thread", true, print }) do
        local place
        local ok, message = pcall(function()
          place = here(1)
          local result = parallel[verb](identity, {}, options)
          return result
        end)
        assert.is_false(ok, verb)
        assert_message(message, place, "bad argument #3 to '" .. verb .. "'", "options")
      end
    end
  end)

  it("refuses a function that is none", function()
    for _, verb in ipairs(verbs) do
      for _, fn in ipairs({ 1, "print", true, {}, io.stdout }) do
        local place
        local ok, message = pcall(function()
          place = here(1)
          local result = parallel[verb](fn, {})
          return result
        end)
        assert.is_false(ok, verb)
        assert_message(message, place, "bad argument #1 to '" .. verb .. "'", "function")
      end
      local ok, message = pcall(parallel[verb])
      assert.is_false(ok)
      assert.is_truthy(message:find("function", 1, true), message)
    end
  end)

  it("refuses items that are none", function()
    for _, verb in ipairs(verbs) do
      for _, items in ipairs({ 1, "abc", true, io.stdout }) do
        local place
        local ok, message = pcall(function()
          place = here(1)
          local result = parallel[verb](identity, items)
          return result
        end)
        assert.is_false(ok, verb)
        assert_message(message, place, "bad argument #2 to '" .. verb .. "'")
      end
      local ok, message = pcall(parallel[verb], identity)
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #2", 1, true), message)
    end
  end)

  it("refuses an unknown option", function()
    for _, verb in ipairs(verbs) do
      local place
      local ok, message = pcall(function()
        place = here(1)
        local result = parallel[verb](identity, {}, { colour = "red" })
        return result
      end)
      assert.is_false(ok, verb)
      assert_message(message, place, "colour")
    end
  end)
end)

describe("a list of items", function()
  it("is as long as its n says, which cannot be below 0", function()
    for _, n in ipairs({ -1, -2 ^ 60, 2 ^ 60 }) do
      for _, verb in ipairs({ "map", "each", "filter", "starmap", "imap", "reduce" }) do
        local place
        local ok, message = pcall(function()
          place = here(1)
          local result = parallel[verb](identity, { { 1 }, { 2 }, n = n }, { workers = 1 })
          return result
        end)
        assert.is_false(ok, verb)
        assert_message(message, place, verb, "#2", "'n'", "from 0")
      end
    end
  end)

  it("is as long as # says when its n is no integer", function()
    for _, n in ipairs({ 1.5, "1", false }) do
      assert.equal(2, parallel.map(identity, { 1, 2, n = n }, { workers = 1 }).n)
    end
  end)
end)

describe("starmap", function()
  it("refuses an item that is no list of arguments, and names it", function()
    local ok, e = pcall(parallel.starmap, math.max, { { 1, 2 }, 5 }, { workers = 1 })
    assert.is_false(ok)
    assert.equal(2, e.index)
    assert.is_truthy(tostring(e):find("starmap", 1, true), tostring(e))
  end)
end)

describe("index and worker", function()
  it("are nil outside a worker", function()
    assert.same({ 1, 1 }, { (select("#", parallel.index())), (select("#", parallel.worker())) })
    assert.equal("nil nil", tostring(parallel.index()) .. " " .. tostring(parallel.worker()))
  end)

  it("tell no index in a call without items", function()
    local future = parallel.submit(function()
      return select("#", parallel.index()), tostring(parallel.index()), type(parallel.worker())
    end)
    assert.same({ 1, "nil", "number" }, { future:get() })
  end)
end)

describe("range", function()
  it("refuses what is no number, and a step of 0", function()
    for _, arguments in ipairs({ {}, { 1 }, { "a", 2 }, { 1, {} }, { 1, 2, "x" }, { 1, 2, 0 }, { 1, 2, 0 / 0 } }) do
      local place
      local ok, message = pcall(function()
        place = here(1)
        local range = parallel.range(arguments[1], arguments[2], arguments[3])
        return range
      end)
      assert.is_false(ok)
      assert_message(message, place, "range")
    end
  end)

  it("refuses to be endless", function()
    for _, arguments in ipairs({ { 1, math.huge }, { -math.huge, 1 }, { 0 / 0, 1 }, { 1, 0 / 0 } }) do
      local ok, message = pcall(parallel.range, arguments[1], arguments[2])
      assert.is_false(ok)
      assert.is_truthy(message:find("range", 1, true), message)
    end
  end)

  it("refuses more items than can be counted, and says what to do", function()
    local cases = { { 1, 1e19 }, { -2 ^ 63, 2 ^ 63 }, { 0, 2 ^ 53 }, { 2 ^ 53, 0, -1 }, { -1e308, 1e308 } }
    if math.maxinteger then
      cases[#cases + 1] = { 1, math.maxinteger }
      cases[#cases + 1] = { math.mininteger, math.maxinteger }
      cases[#cases + 1] = { math.maxinteger, math.mininteger, -1 }
      cases[#cases + 1] = { 0, math.tointeger(2 ^ 53) }
    end
    for _, case in ipairs(cases) do
      local place
      local ok, message = pcall(function()
        place = here(1)
        local range = parallel.range(case[1], case[2], case[3])
        return range
      end)
      assert.is_false(ok, case[1] .. " to " .. case[2])
      assert_message(message, place, "range", "#2", "2^53", "step")
    end
  end)

  it("counts what can be counted, exactly", function()
    assert.equal(2 ^ 53, parallel.range(1, 2 ^ 53).n)
    assert.equal(2 ^ 53, parallel.range(-1, -2 ^ 53, -1).n)
    assert.equal(5, parallel.range(-2 ^ 63, 2 ^ 63, 2 ^ 62).n)
    assert.same({ 0, 0, 1, 1 }, {
      parallel.range(2, 1).n, parallel.range(1, 2, -1).n, parallel.range(3, 3).n, parallel.range(3, 3, -1).n,
    })
  end)

  it("counts integers that doubles cannot tell apart", function()
    if not math.maxinteger then
      return
    end
    local most, least = math.maxinteger, math.mininteger
    local many = math.tointeger(2 ^ 53)
    assert.equal(many, parallel.range(most - many + 1, most).n)
    local function items(...)
      return parallel.map(identity, parallel.range(...), { workers = 1, backend = "serial" })
    end
    assert.same({ most - 2, most - 1, most, n = 3 }, items(most - 2, most))
    assert.same({ most, most - 3, n = 2 }, items(most, most - 5, -3))
    assert.same({ least, -1, most - 1, n = 3 }, items(least, most, most))
    assert.same({ most, -1, n = 2 }, items(most, least + 1, least))
    assert.same({ most - 1, most, n = 2 }, items(most - 1, 1e19))
    assert.same({ 1, 2, n = 2 }, items(1, 2.9))
  end)
end)

describe("a pool", function()
  it("refuses options that belong to calls or to nothing", function()
    for name, value in pairs({ chunk = 3, errors = "collect", globals = false, colour = "red" }) do
      for _, make in ipairs({
        function(options)
          return parallel.pool(options)
        end,
        function(options)
          return parallel.ThreadPool(2, options)
        end,
        function(options)
          return parallel.ProcessPool(2, options)
        end,
      }) do
        local ok, message = pcall(make, { [name] = value })
        assert.is_false(ok)
        assert.is_truthy(message:find(name, 1, true), message)
      end
    end
  end)

  it("refuses a wrong size", function()
    for _, size in ipairs({ 0, -3, 1.5, "two", true }) do
      for _, name in ipairs({ "ThreadPool", "ProcessPool" }) do
        local place
        local ok, message = pcall(function()
          place = here(1)
          local pool = parallel[name](size)
          return pool
        end)
        assert.is_false(ok)
        assert_message(message, place, name)
      end
    end
  end)

  it("has methods that refuse what belongs to the pool", function()
    local pool = parallel.pool({ workers = 1, backend = "serial" })
    for name, value in pairs({ workers = 2, backend = "thread", init = identity }) do
      local place
      local ok, message = pcall(function()
        place = here(1)
        local list = pool:map(identity, { 1 }, { [name] = value })
        return list
      end)
      assert.is_false(ok)
      assert_message(message, place, name, "pool")
    end
    pool:close()
    pool:join()
  end)

  it("refuses a call of its methods with a dot", function()
    local pool = parallel.pool({ workers = 1, backend = "serial" })
    for _, name in ipairs({ "map", "close", "join", "terminate", "apply", "submit" }) do
      local ok, message = pcall(pool[name], identity, { 1 })
      assert.is_false(ok)
      assert.is_truthy(message:find(name, 1, true), message)
    end
    pool:close()
    pool:join()
  end)
end)

describe("submit, apply, sleep", function()
  it("refuse what they cannot use", function()
    local pool = parallel.pool({ workers = 1, backend = "serial" })
    for name, call in pairs({
      submit = function()
        return parallel.submit(5)
      end,
      apply = function()
        return pool:apply("print")
      end,
      sleep = function()
        return parallel.sleep("long")
      end,
    }) do
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.is_truthy(message:find(name, 1, true), message)
    end
    assert.is_false(pcall(parallel.sleep, -1))
    assert.is_false(pcall(parallel.sleep, 0 / 0))
    pool:close()
    pool:join()
  end)
end)

describe("the environment", function()
  local function run(code, environment)
    local result = interpreter.run_code(code, { env = environment })
    return result.stdout, result.stderr, result.code
  end

  it("gives the number of workers and the back-end where a call names none", function()
    local code = [[
      local own = io.open("/proc/self/stat"):read("*n")
      local pool = parallel.pool()
      local pid = pool:apply(function() return io.open("/proc/self/stat"):read("*n") end)
      print(pool.workers, pid == own)
    ]]
    assert.equal("3\ttrue\n", (run(code, { LUMAP_WORKERS = 3, LUMAP_BACKEND = "thread" })))
    assert.equal("4\tfalse\n", (run(code, { LUMAP_WORKERS = 4, LUMAP_BACKEND = "process" })))
    assert.equal("1\ttrue\n", (run(code, { LUMAP_WORKERS = 1, LUMAP_BACKEND = "serial" })))
    local count = run("print(parallel.pool().workers == parallel.cpu_count())", {
      LUMAP_WORKERS = false,
      LUMAP_BACKEND = false,
    })
    assert.equal("true\n", count)
  end)

  it("is refused where it makes no sense, by name", function()
    for name, value in pairs({ LUMAP_WORKERS = "many", LUMAP_BACKEND = "gpu" }) do
      local stdout, stderr, code = run("parallel.map(print, {}) print('ran')", { [name] = value })
      assert.equal("", stdout)
      assert.is_truthy(stderr:find(name, 1, true), stderr)
      assert.equal(1, code)
    end
  end)
end)

describe("cpu_count", function()
  it("is the number of CPUs that this process may use", function()
    local count = parallel.cpu_count()
    assert.equal(math.floor(count), count)
    assert.is_true(count >= 1)
    local result = interpreter.run(
      { "-c", "0", interpreter.path, "-e", "print(parallel.cpu_count())" },
      { program = "taskset" }
    )
    assert.equal("1\n", result.stdout)
  end)
end)

describe("clock and sleep", function()
  it("go together: a sleep is no shorter than it was asked to be", function()
    local before = parallel.clock()
    parallel.sleep(0)
    parallel.sleep(0.02)
    assert.is_true(parallel.clock() - before >= 0.02)
  end)

  it("the clock never goes back, and runs the same for all workers", function()
    local before = parallel.clock()
    local times = parallel.map(parallel.clock, parallel.range(1, 100), { workers = 1, chunk = 1 })
    local last = before
    for i = 1, 100 do
      assert.is_true(times[i] >= last)
      last = times[i]
    end
    assert.is_true(parallel.clock() >= last)
  end)
end)

describe("the module", function()
  it("is the global of the same name", function()
    assert.equal(parallel, rawget(_G, "parallel"))
    assert.equal(require("codec"), rawget(_G, "codec"))
  end)

  it("tells its version", function()
    assert.is_truthy(parallel.version:find("^%d+%.%d+%.%d+$"))
  end)
end)
