-- SPDX-License-Identifier: MIT
--
-- How fast do values travel: 200 strings of 1 MB, 1,000 lists of 1,000 doubles, and 100,000 records, there and back;
-- and lists from which the worker takes a number alone? The mapped function gives back what it got, or the sum of it.

local lists = require("maps.lists")

local MB = 1000000

local function same(value)
  return value
end

local function sum_of(list)
  local sum = 0
  for i = 1, #list do
    sum = sum + list[i]
  end
  return sum
end

--- Each begins with its number, so that no two are the same.
local function strings(n)
  local list, rest = {}, ("0123456789"):rep(MB / 10 - 1)
  for i = 1, n do
    list[i] = ("%010d"):format(i) .. rest
  end
  return list
end

local function check_strings(list, n)
  local sum = 0
  for i = 1, n do
    sum = sum + (tonumber(list[i]:sub(1, 10)) + list[i]:byte(-1)) * #list[i]
  end
  return sum
end

local function lists_of_doubles(n)
  local all = {}
  for i = 1, n do
    local list = {}
    for k = 1, 1000 do
      list[k] = i + k / 8
    end
    all[i] = list
  end
  return all
end

local function check_lists(all, n)
  local sum = 0
  for i = 1, n do
    sum = sum + #all[i] + all[i][1] + all[i][500] * 2 + all[i][1000] * (i % 7)
  end
  return sum
end

local function records(n)
  local all = {}
  for i = 1, n do
    all[i] = {
      id = i,
      name = ("name%06d"):format(i),
      score = i / 8,
      tags = { "tag" .. i % 10, "tag" .. i % 7, "tag" .. i % 3 },
    }
  end
  return all
end

local function check_records(all, n)
  local sum = 0
  for i = 1, n do
    local record = all[i]
    sum = sum + record.id + record.score * (i % 7) + tonumber(record.name:sub(5)) + record.tags[3]:byte(-1)
  end
  return sum
end

--- A case of which only what is sent, and what is made of it, differ from others.
local function case(of)
  of.loop, of.map, of.figures = lists.loop_of(of.fn), lists.map_of(of.fn), lists.milliseconds
  return of
end

return {
  label = "W3",
  cases = {
    case({
      name = "strings",
      absent = { loop = "moves nothing" },
      payload = "%s strings of 1 MB there and back",
      size = 200,
      quick = 2,
      fn = same,
      items = strings,
      check = check_strings,
      -- 5 GB and 2 GB a second, both ways taken together.
      targets = {
        { vm = "lumap", kind = "thread", most = 80 },
        { vm = "lumap", kind = "process", most = 200 },
      },
    }),
    case({
      name = "lists",
      absent = { loop = "moves nothing" },
      payload = "%s lists of 1,000 doubles there and back",
      size = 1000,
      quick = 10,
      fn = same,
      items = lists_of_doubles,
      check = check_lists,
    }),
    case({
      name = "sums",
      payload = "%s lists of 1,000 doubles, to their sums",
      size = 1000,
      quick = 10,
      fn = sum_of,
      items = lists_of_doubles,
      check = lists.by_seven,
      targets = { { vm = "lumap", kind = "thread", most = 6 } },
    }),
    case({
      name = "records",
      payload = "%s records {id, name, score, tags[3]} there and back",
      size = 100000,
      quick = 100,
      absent = { loop = "moves nothing", c = "knows no records" },
      fn = same,
      items = records,
      check = check_records,
    }),
  },
}
