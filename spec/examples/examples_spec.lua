-- SPDX-License-Identifier: MIT
--
-- Each script of scripts/examples runs on every back-end and prints what it should.

local describe, it, assert = describe, it, assert

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")
local lfs = require("lfs")

local examples = interpreter.root .. "/scripts/examples/"

--- Runs an example to its end and gives what it printed.
local function run(backend, name, arguments, options)
  options = options or {}
  local words = { examples .. name }
  for _, argument in ipairs(arguments or {}) do
    words[#words + 1] = argument
  end
  options.env = { LUMAP_BACKEND = backend, LUMAP_WORKERS = 2 }
  options.seconds = options.seconds or 120
  local result = interpreter.run(words, options)
  assert.equal("", result.stderr)
  assert.equal(0, result.code)
  return result.stdout
end

--- Calls body with the path of a folder that is gone afterwards.
local function with_folder(body)
  local folder = interpreter.make_folder()
  local ok, message = pcall(body, folder)
  interpreter.remove_folder(folder)
  if not ok then
    error(message, 0)
  end
end

-- ---- word counts, by a plain loop of this spec ---------------------------------------------------------------------

local function add_file(path, counts)
  local text = interpreter.read_file(path)
  if text:find("\0", 1, true) then
    return false
  end
  for word in text:gmatch("[A-Za-z]+") do
    word = word:lower()
    counts.of[word] = (counts.of[word] or 0) + 1
    counts.words = counts.words + 1
  end
  return true
end

local TEXTS = { h = true, hh = true, hpp = true, hxx = true, txt = true, md = true, rst = true, text = true }

local function add_folder(folder, counts)
  for entry in lfs.dir(folder) do
    local path = folder .. "/" .. entry
    local mode = lfs.symlinkattributes(path, "mode")
    if entry ~= "." and entry ~= ".." and mode == "directory" then
      add_folder(path, counts)
    elseif mode == "file" and TEXTS[entry:match("%.(%w+)$")] then
      if add_file(path, counts) then
        counts.files = counts.files + 1
      else
        counts.skipped = counts.skipped + 1
      end
    end
  end
end

--- What wordcount.lua should print, but for its last line.
local function expected_counts(folder)
  local counts = { of = {}, words = 0, files = 0, skipped = 0 }
  add_folder(folder, counts)
  local ranks = {}
  for word, times in pairs(counts.of) do
    ranks[#ranks + 1] = ("%012d %s"):format(1e11 - times, word)
  end
  table.sort(ranks)
  local lines = {
    ("%d files, %d skipped"):format(counts.files, counts.skipped),
    ("%d words, %d distinct"):format(counts.words, #ranks),
  }
  for i = 1, math.min(10, #ranks) do
    local word = ranks[i]:match("%a+")
    lines[#lines + 1] = ("%10d %s"):format(counts.of[word], word)
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Takes the line with the time off.
local function without_seconds(output)
  local rest, seconds = output:match("^(.*\n)([%d.]+) seconds\n$")
  assert.is_truthy(tonumber(seconds), output)
  return rest
end

-- A slow build need not count a hundred megabytes.
local headers = "/usr/include/linux"
local expected_headers = lfs.attributes(headers) and expected_counts(headers)

for _, backend in ipairs(backends.names) do
  describe("on the " .. backend .. " back-end", function()
    it("names.lua prints lengths and their squares", function()
      assert.equal(
        [[
Ada             3      9
Grace           5     25
Edsger          6     36
Barbara         7     49
Donald          6     36
Frances         7     49
]],
        run(backend, "names.lua")
      )
      assert.equal(
        [[
x               1      1
two words       9     81
]],
        run(backend, "names.lua", { "x", "two words" })
      )
    end)

    it("fetch.lua fetches 13 pages, and tells which are missing", function()
      local program = interpreter.quote(interpreter.path) .. " spec/support/fixtures/web_server.lua 13"
      local server = assert(io.popen(program, "r"))
      local base = "http://127.0.0.1:" .. server:read("*l")
      local output = run(backend, "fetch.lua", { base })
      local said = server:read("*a")
      server:close()
      assert.equal("all answered\n", said)

      local lines, bytes = {}, 0
      for page = 1, 13 do
        local size = #("page " .. page .. "\n") * page
        if page % 4 == 0 then
          lines[page] = ("%s/%d  failed: status 404"):format(base, page)
        else
          lines[page] = ("%s/%d  %d bytes"):format(base, page, size)
          bytes = bytes + size
        end
      end
      lines[14] = ("10 of 13 pages, %d bytes\n"):format(bytes)
      assert.equal(table.concat(lines, "\n"), output)
    end)

    if expected_headers then
      it("wordcount.lua counts the headers of this machine as a plain loop does", function()
        assert.equal(expected_headers, without_seconds(run(backend, "wordcount.lua", { headers })))
      end)
    end

    it("wordcount.lua takes files and folders of any name, and leaves out what is no text", function()
      with_folder(function(root)
        local folder = root .. "/-it's a \"folder\" $HOME"
        assert(lfs.mkdir(folder))
        assert(lfs.mkdir(folder .. "/sub\nfolder"))
        interpreter.write_file(folder .. "/-n.txt", "One two, two; THREE-three_three 4four\n")
        interpreter.write_file(folder .. "/sub\nfolder/it's `x`.h", "three two\r\nna\195\175ve")
        interpreter.write_file(folder .. "/empty.md", "")
        interpreter.write_file(folder .. "/binary.txt", "two\0two two two")
        interpreter.write_file(folder .. "/other.lua", "two two two")
        local expected = [[
3 files, 1 skipped
11 words, 6 distinct
         4 three
         3 two
         1 four
         1 na
         1 one
         1 ve
]]
        assert.equal(expected, expected_counts(folder))
        assert.equal(expected, without_seconds(run(backend, "wordcount.lua", { folder })))
        assert.equal(expected, without_seconds(run(backend, "wordcount.lua", { folder, "--serial" })))
        assert.equal(expected, without_seconds(run(backend, "wordcount.lua", {}, { cwd = folder })))
      end)
    end)

    it("mandelbrot.lua draws each point as a plain loop does", function()
      with_folder(function(folder)
        local width, height = 60, 41
        local path = folder .. "/picture.pgm"
        local output = run(backend, "mandelbrot.lua", { width, height, path })
        assert.is_truthy(output:find(path .. ": 60 x 41 pixels in ", 1, true), output)

        local pixels = {}
        for y = 1, height do
          for x = 1, width do
            local cr, ci = -2.25 + x * (3 / width), (y - height / 2) * (3 / width)
            local zr, zi, shade = 0.0, 0.0, 0
            for step = 1, 255 do
              if zr * zr + zi * zi > 4 then
                shade = step
                break
              end
              zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
            end
            pixels[#pixels + 1] = string.char(shade)
          end
        end
        local picture = interpreter.read_file(path)
        assert.equal("P5\n60 41\n255\n", picture:sub(1, 13))
        assert.is_true(picture:sub(14) == table.concat(pixels), "the pixels differ")
      end)
    end)

    it("filehandle.lua shows the refusal and the remedy", function()
      with_folder(function(folder)
        local path = folder .. "/three.txt"
        interpreter.write_file(path, "first\nsecond\nthird\n")
        assert.equal(
          [[
sent: false
kind: encode
message: cannot send items[3].source.handle (a file handle): open it inside the function
line 1: first
line 2: second
line 3: third
]],
          run(backend, "filehandle.lua", { path })
        )
      end)
      local own = run(backend, "filehandle.lua")
      assert.is_truthy(own:find("line 1: -- SPDX-License-Identifier: MIT\n", 1, true), own)
    end)

    it("pi.lua throws the same darts each time", function()
      local output = run(backend, "pi.lua", { 100000, 10 })
      local pi, throws = output:match("^pi is about ([%d.]+) after (%d+) throws\n$")
      assert.equal("100000", throws)
      -- Four standard deviations of that many throws.
      assert.is_true(math.abs(pi - math.pi) < 4 * 1.65 / math.sqrt(100000), output)
      assert.equal(run("serial", "pi.lua", { 100000, 10 }), output)
    end)
  end)
end

describe("the examples", function()
  it("are all tested here", function()
    local names = {}
    for entry in lfs.dir(examples) do
      if entry:find("%.lua$") then
        names[#names + 1] = entry
      end
    end
    table.sort(names)
    assert.same(
      { "fetch.lua", "filehandle.lua", "mandelbrot.lua", "names.lua", "pi.lua", "wordcount.lua" },
      names
    )
  end)

  it("that need arguments say so", function()
    local result = interpreter.run({ examples .. "fetch.lua" })
    assert.equal("usage: lumap fetch.lua BASE_URL\n", result.stderr)
    assert.equal(2, result.code)
  end)
end)
