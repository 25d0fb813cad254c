-- SPDX-License-Identifier: MIT
--
-- What README.md shows is what happens: each Lua block runs as the script tour.lua in a folder of its own and prints
-- the text block that follows it, and the C block builds against the library and runs.

local describe, it, assert, pending = describe, it, assert, pending

local interpreter = require("spec.support.interpreter")

--- The fenced blocks of a Markdown text, in order: { language, code, line }.
local function fenced_blocks(text)
  local blocks, open, number = {}, nil, 0
  for line in text:gmatch("([^\n]*)\n") do
    number = number + 1
    local language = line:match("^```(%w*)$")
    if not language then
      if open then
        open.lines[#open.lines + 1] = line
      end
    elseif open then
      open.code = table.concat(open.lines, "\n") .. "\n"
      open = nil
    else
      open = { language = language, lines = {}, line = number }
      blocks[#blocks + 1] = open
    end
  end
  assert(not open, "a block of README.md has no end")
  return blocks
end

--- Takes out what varies from run to run and from VM to VM: which worker it was, and in tracebacks addresses, names of
--- functions and the frames that only one VM has.
local function masked(output)
  local lines = {}
  for line in output:gmatch("([^\n]*)\n") do
    if not line:find("^\t%[C%]: [ai][tn] [0?]") and not line:find("^\t%(%.%.%.tail calls%.%.%.%)$") then
      line = line:gsub(" on worker %d+", " on worker N")
      lines[#lines + 1] = line:gsub("^(\t[^:]+:%d+: in function) .*$", "%1")
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Runs `body` with the path of a folder that is gone afterwards.
local function with_folder(body)
  local folder = interpreter.make_folder()
  local ok, message = pcall(body, folder)
  interpreter.remove_folder(folder)
  if not ok then
    error(message, 0)
  end
end

local blocks = fenced_blocks(interpreter.read_file(interpreter.root .. "/README.md"))

describe("README.md", function()
  local scripts, shown = 0, 0

  for i, block in ipairs(blocks) do
    local following = blocks[i + 1]
    local expected = following and following.language == "text" and following.code

    if block.language == "lua" then
      scripts = scripts + 1
      shown = shown + (expected and 1 or 0)
      it(("line %d: the script does what is shown"):format(block.line), function()
        with_folder(function(folder)
          interpreter.write_file(folder .. "/tour.lua", block.code)
          local env = { LUMAP_WORKERS = 2, LUMAP_BACKEND = false }
          local result = interpreter.run({ "tour.lua" }, { cwd = folder, env = env })
          assert.equal("", result.stderr)
          assert.equal(0, result.code)
          if expected then
            assert.equal(masked(expected), masked(result.stdout))
          end
        end)
      end)
    elseif block.language == "c" then
      it(("line %d: the host program builds, and prints what is said"):format(block.line), function()
        if interpreter.sanitized then
          pending("a host of a sanitized library needs the same sanitizer; spec/install covers that")
          return
        end
        with_folder(function(folder)
          interpreter.write_file(folder .. "/host.c", block.code)
          local build = interpreter.build
          local words = { "-Wall", "-Werror", "-I", interpreter.root .. "/bindings/include", "host.c", "-o", "host" }
          for _, word in ipairs({ "-L" .. build, "-l" .. interpreter.name, "-Wl,-rpath," .. build }) do
            words[#words + 1] = word
          end
          local built = interpreter.run(words, { program = "cc", cwd = folder })
          assert.equal("", built.stderr)
          local result = interpreter.run({}, { program = folder .. "/host" })
          assert.same({ stdout = "1 2 3\n", stderr = "", code = 0 }, result)
        end)
      end)
    end
  end

  it("has scripts, and shows what each prints", function()
    assert.is_true(scripts > 0)
    assert.equal(scripts, shown)
  end)
end)
