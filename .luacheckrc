-- SPDX-License-Identifier: MIT
-- The standard library runs on both VMs, so it may use only what Lua 5.1 to 5.4 and LuaJIT have in common; its one
-- file for VM differences is free of that.
std = "min"
max_line_length = 120
-- `not (x >= y)` is how a NaN is refused along with what is too small.
ignore = { "581" }
include_files = { "**/*.lua", ".luacheckrc", ".busted" }
exclude_files = { "build" }

files["stdlib/lumap/compat.lua"] = { std = "max" }
files["scripts/examples"] = { std = "max", read_globals = { "parallel", "codec" } }
files["spec"] = { std = "max+busted", read_globals = { "parallel", "codec" } }
