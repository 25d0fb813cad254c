-- SPDX-License-Identifier: MIT
--
-- How fast are the words of real files counted: the kernel's headers in /usr/include/linux, by path? An item is a path,
-- a result a table of the file's words and how often each occurs there; the caller adds them up.

local lists = require("maps.lists")

local LIST = "find /usr/include/linux -type f -name '*.h' | LC_ALL=C sort | head -n %d"

local function paths(most)
  local pipe = io.popen(LIST:format(most))
  local list = {}
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  pipe:close()
  return list
end

local function count(path)
  local file = io.open(path, "rb")
  local text = file:read("*a")
  file:close()
  local counts = {}
  for word in text:gmatch("[A-Za-z]+") do
    word = word:lower()
    counts[word] = (counts[word] or 0) + 1
  end
  return counts
end

local function add(total, counts)
  for word, times in pairs(counts) do
    total[word] = (total[word] or 0) + times
  end
end

return {
  label = "W2",
  cases = {
    {
      name = "headers",
      payload = "words of %s headers, at most",
      size = 400,
      quick = 5,
      figures = lists.milliseconds,
      absent = { c = "knows no tables" },
      fn = count,
      items = paths,
      loop = function(items)
        local total = {}
        for i = 1, #items do
          add(total, count(items[i]))
        end
        return total
      end,
      map = function(pool, items)
        local total = {}
        for _, counts in pool:imap_unordered(count, items) do
          add(total, counts)
        end
        return total
      end,
      reduce = function(results)
        local total = {}
        for i = 1, #results do
          add(total, results[i])
        end
        return total
      end,
      check = function(total)
        local sum, distinct = 0, 0
        for word, times in pairs(total) do
          sum, distinct = sum + times * #word, distinct + 1
        end
        return sum * 1000000 + distinct
      end,
    },
  },
}
