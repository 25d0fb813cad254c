-- SPDX-License-Identifier: MIT
--
-- Counts the words in all text and header files under a folder, and shows the ten most frequent.
--
--     lumap wordcount.lua [FOLDER] [--serial]
--
-- FOLDER is the current one if not given. --serial counts in a plain loop: the same answer, for comparing the time.

local parallel = require("parallel")

local SHOWN = 10

-- Files whose names end in one of these are counted.
local ENDINGS = { "h", "hh", "hpp", "hxx", "txt", "md", "rst", "text" }

--- One word for the shell, whatever bytes it holds.
local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Paths of the files under a folder, sorted, so that each run has them in the same order.
local function find_files(folder)
  local names = {}
  for i, ending in ipairs(ENDINGS) do
    names[i] = "-name " .. quote("*." .. ending)
  end
  -- A name that begins with "-" would be taken for an option, hence the "./". Names may hold any byte but zero, hence
  -- a zero byte after each.
  local path = folder:find("^%-") and "./" .. folder or folder
  local command = ("find -H %s -type f '(' %s ')' -print0"):format(quote(path), table.concat(names, " -o "))
  local pipe = assert(io.popen(command, "r"))
  local listing = pipe:read("*a")
  pipe:close()

  local files = {}
  for file in listing:gmatch("%Z+") do
    files[#files + 1] = file
  end
  table.sort(files)
  return files
end

--- How often each word occurs in a file; or nil and the reason, if it is not a text that can be read.
--- This is what the workers run.
local function count(path)
  local file, reason = io.open(path, "rb")
  if not file then
    return nil, reason
  end
  local text
  text, reason = file:read("*a")
  file:close()
  if not text then
    return nil, path .. ": " .. tostring(reason)
  elseif text:find("\0", 1, true) then
    return nil, path .. ": not a text"
  end

  local counts = {}
  for word in text:gmatch("%a+") do
    word = word:lower()
    counts[word] = (counts[word] or 0) + 1
  end
  return counts
end

--- An iterator with the meaning of parallel.imap_unordered(count, files), without workers.
local function count_in_a_loop(files)
  local i = 0
  return function()
    i = i + 1
    if files[i] then
      return i, count(files[i])
    end
  end
end

local folder, serial = ".", false
for _, argument in ipairs(arg) do
  if argument == "--serial" then
    serial = true
  else
    folder = argument
  end
end

local begin = parallel.clock()
local files = find_files(folder)
local totals, words, skipped = {}, 0, 0

-- Sums come out the same in any order, so each file's counts are added as soon as some worker has them: no more than
-- a few files' counts are in memory at a time.
local results = serial and count_in_a_loop(files) or parallel.imap_unordered(count, files)
for _, counts in results do
  if counts then
    for word, times in pairs(counts) do
      totals[word] = (totals[word] or 0) + times
      words = words + times
    end
  else
    skipped = skipped + 1
  end
end

-- The most frequent first; words that are equally frequent in alphabetical order.
local distinct = {}
for word in pairs(totals) do
  distinct[#distinct + 1] = word
end
table.sort(distinct, function(a, b)
  if totals[a] ~= totals[b] then
    return totals[a] > totals[b]
  end
  return a < b
end)

print(("%d files, %d skipped"):format(#files - skipped, skipped))
print(("%d words, %d distinct"):format(words, #distinct))
for i = 1, math.min(SHOWN, #distinct) do
  print(("%10d %s"):format(totals[distinct[i]], distinct[i]))
end
print(("%.2f seconds"):format(parallel.clock() - begin))
