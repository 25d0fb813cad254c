-- SPDX-License-Identifier: MIT
--
-- Thirteen pages at a time from a web server: a pool of ten threads, most of which wait for the network.
--
--     lumap fetch.lua BASE_URL          fetches BASE_URL/1 to BASE_URL/13 (needs luasocket)

local parallel = require("parallel")
local http = require("socket.http")

local base = arg[1]
if not base then
  io.stderr:write("usage: lumap fetch.lua BASE_URL\n")
  os.exit(2)
end

local urls = {}
for page = 1, 13 do
  urls[page] = ("%s/%d"):format(base, page)
end

-- Runs in a worker. `http` is found there by its name, as the module that it is.
-- Like many functions of Lua, it returns what it found, or nil and the reason.
local function fetch(url)
  local body, status = http.request(url)
  if not body then
    return nil, tostring(status)
  elseif status ~= 200 then
    return nil, "status " .. status
  end
  return body
end

local pool = parallel.ThreadPool(10)

-- A function that gives two values gives two lists: what one lacks for a page, the other has.
local bodies, errors = pool:map(fetch, urls)

pool:close() -- no more work
pool:join() -- wait until all of its threads have ended

local fetched, bytes = 0, 0
for i, url in ipairs(urls) do
  if bodies[i] then
    fetched, bytes = fetched + 1, bytes + #bodies[i]
    print(("%s  %d bytes"):format(url, #bodies[i]))
  else
    print(("%s  failed: %s"):format(url, errors[i]))
  end
end
print(("%d of %d pages, %d bytes"):format(fetched, #urls, bytes))
