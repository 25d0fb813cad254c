-- SPDX-License-Identifier: MIT
--
-- What workers print: whole calls, in each worker's order, written when the call returns; to files and pipes, to
-- readers that are slow or gone, and by workers that die.

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local system = require("system")

local quote = interpreter.quote

--- Runs a script whose standard output goes where `redirection` says ("| cat", "> file"; nil: a file).
---@return table result of interpreter.run
---@return string text what arrived
local function run(script, redirection)
  local path, out = os.tmpname(), os.tmpname()
  interpreter.write_file(path, script)
  local command = ("%s %s %s"):format(quote(interpreter.path), quote(path), (redirection or "> OUT"):gsub("OUT", out))
  local result = interpreter.run({ "-c", command }, { program = "/bin/sh" })
  local text = interpreter.read_file(out)
  os.remove(path)
  os.remove(out)
  return result, text
end

--- A script: its head says how its calls are to be made.
local function script_for(backend, workers, body)
  return ("local opts = { backend = %q, workers = %d, chunk = 1 }\n%s"):format(backend, workers, body)
end

-- Each worker counts its own calls. A line of a call: worker, number, a letter repeated, the number again.
local chatter = [[
  local sizes = { 1, 100, 5000, 70000 }
  parallel.map(function(i)
    count = (count or 0) + 1
    local worker, size = parallel.worker(), sizes[i % #sizes + 1]
    local middle = string.char(96 + worker):rep(size)
    if i % 3 == 0 then print(worker, count, middle, count)
    elseif i % 3 == 1 then io.write(worker, "\t", count, "\t", middle, "\t", count, "\n")
    else io.stdout:write(worker, "\t", count, "\t", middle, "\t", count, "\n") end
  end, parallel.range(1, 240), opts)
]]

local function assert_whole_lines(text)
  local lines, last = 0, {}
  for line in text:gmatch("([^\n]*)\n") do
    local worker, count, middle, again = line:match("^(%d+)\t(%d+)\t(%a+)\t(%d+)$")
    assert.truthy(worker, "a broken line: " .. line:sub(1, 200))
    assert.equal(count, again)
    assert.equal(string.char(96 + worker):rep(#middle), middle)
    assert.is_true(tonumber(count) > (last[worker] or 0), "out of order")
    last[worker] = tonumber(count)
    lines = lines + 1
  end
  assert.equal("\n", text:sub(-1))
  assert.equal(240, lines)
end

for _, backend in ipairs(backends.all) do
  describe(("what workers print on the %s back-end"):format(backend), function()
    local function script(body, workers)
      return script_for(backend, workers or 2, body)
    end

    it("arrives in whole calls and in order, in a file", function()
      local result, text = run(script(chatter, 5))
      assert.equal("", result.stderr)
      assert_whole_lines(text)
    end)

    it("arrives in whole calls and in order, in a file that is appended to", function()
      local _, text = run(script(chatter, 5), ">> OUT")
      assert_whole_lines(text)
    end)

    it("arrives in whole calls and in order, through a pipe", function()
      local _, text = run(script(chatter, 5), "| cat > OUT")
      assert_whole_lines(text)
    end)

    it("arrives in whole calls and in order, at a reader that is slow", function()
      local _, text = run(script(chatter, 5), "| dd bs=512 2>/dev/null > OUT")
      assert_whole_lines(text)
    end)

    it("may be huge", function()
      local _, text = run(
        script([[
          parallel.map(function(i) io.write(("%d"):format(i):rep(3000000), "\n") end, { 1, 2, 3, 4 }, opts)
        ]]),
        "| cat > OUT"
      )
      local seen = {}
      for line in text:gmatch("[^\n]+") do
        assert.equal(3000000, #line)
        local digit = line:sub(1, 1)
        assert.is_nil(line:find("[^" .. digit .. "]"))
        seen[#seen + 1] = digit
      end
      table.sort(seen)
      assert.same({ "1", "2", "3", "4" }, seen)
    end)

    it("comes after what the caller has written before", function()
      local _, text = run(script([[
        io.write("first ")
        parallel.map(print, { "second" }, opts)
        print("third")
      ]]))
      assert.equal("first second\nthird\n", text)
    end)

    it("is written when the call returns", function()
      local out = os.tmpname()
      local result = run(
        script(([[
          local function written() local f = io.open(%q) local text = f:read("*a") f:close() return text end
          local list = parallel.map(function()
            print("printed")
            local a = written()
            io.write("written")
            local b = written()
            io.stdout:write(" by method\n")
            return a .. "|" .. b .. "|" .. written()
          end, { 1 }, opts)
          io.stderr:write(list[1])
        ]]):format(out)),
        "> " .. out
      )
      os.remove(out)
      assert.equal("printed\n|printed\nwritten|printed\nwritten by method\n", result.stderr)
    end)

    it("is there although the worker died right after", function()
      local _, text = run(script([[
        parallel.map(function(i)
          print("last words of " .. i)
          os.exit(3)
        end, { 1, 2, 3 }, { backend = opts.backend, workers = 2, errors = "collect" })
      ]]))
      local lines = {}
      for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      table.sort(lines)
      assert.same({ "last words of 1", "last words of 2", "last words of 3" }, lines)
    end)

    it("fails as elsewhere when nobody reads it, and ends no worker", function()
      local result = run(
        script([[
          local list = parallel.map(function()
            local ok, message, code
            repeat ok, message, code = io.write(("x"):rep(1000)) until not ok
            print("to nobody")
            return message .. " " .. code .. " " .. select("#", io.stdout:write("x"))
          end, { 1, 2, 3 }, opts)
          io.stderr:write(table.concat(list, ", "))
        ]]),
        "| : ; : > OUT"
      )
      assert.equal("Broken pipe 32 3, Broken pipe 32 3, Broken pipe 32 3", result.stderr)
    end)

    it("fails as elsewhere when there is no standard output", function()
      local result = run(
        script([[
          local list = parallel.map(function()
            print("to nobody")
            return select(3, io.write("x")), (select(3, io.stdout:write("x")))
          end, { 1 }, opts)
          io.stderr:write(list[1])
        ]]),
        ">&-"
      )
      assert.equal("9", result.stderr)
    end)

    it("goes through print and io.write as the stock ones do it", function()
      local body = [[
        local function all()
          print() print(nil, true, 1, 1.5, -0.0, 2^53, "a\0b")
          print(setmetatable({}, { __tostring = function() return "T" end }))
          io.write() io.write(1.0, " ", 2^53, " ", -0.0, " ", 1e100, " ", 12, "\n") io.output():write("m\n")
          local raised = setmetatable({}, { __tostring = function() return {} end })
          return select("#", io.write("")), io.type(io.stdout:write("")) or io.write(""), pcall(print, raised),
            select(2, pcall(io.write, {})), select(2, pcall(io.stdout.write, io.stdout, {}))
        end
      ]]
      local _, plain = run(body .. "for _, value in ipairs({ all() }) do print(value) end")
      local _, text = run(script(body .. [[
        local values = { parallel.map(all, { 1 }, opts) }
        for i = 1, #values do values[i] = values[i][1] end
        for _, value in ipairs(values) do print(value) end
      ]]))
      assert.equal(plain, text)
    end)

    it("leaves other files alone", function()
      local path = os.tmpname()
      run(script(([[
        parallel.map(function()
          local file = io.open(%q, "w")
          io.output(file)
          io.write("a", 1)
          file:write("b")
          io.close()
          io.output(io.stdout)
        end, { 1 }, opts)
      ]]):format(path)))
      assert.equal("a1b", interpreter.read_file(path))
      os.remove(path)
    end)
  end)
end

it("a thread that waits for a slow reader is ended with its pool", function()
  local fifo = os.tmpname()
  os.remove(fifo)
  os.execute("mkfifo " .. fifo)
  local begin = system.monotime()
  local result = run(
    script_for(
      "thread",
      1,
      [[
        local pool = parallel.ThreadPool(1)
        local future = pool:submit(function() while true do io.write(("x"):rep(100000)) end end)
        future:wait(0.2)
        pool:terminate()
        io.stderr:write(select(2, pcall(future.get, future)).kind)
        os.exit(0, false)
      ]]
    ),
    "1<>" .. fifo .. " ; : > OUT"
  )
  os.remove(fifo)
  assert.equal("cancelled", result.stderr)
  assert.is_true(system.monotime() - begin < 30)
end)
