-- SPDX-License-Identifier: MIT
--
-- The seed of this run of the specs, an integer: LUMAP_SPEC_SEED, else a fresh one. spec/helper.lua sets it before each
-- test and prints it when one failed.

local given = os.getenv("LUMAP_SPEC_SEED")
if given then
  return assert(math.floor(assert(tonumber(given), "LUMAP_SPEC_SEED is no number")))
end

local file = assert(io.open("/dev/urandom", "rb"))
local a, b, c = file:read(3):byte(1, 3)
file:close()
return (a * 256 + b) * 256 + c
