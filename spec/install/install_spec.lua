-- SPDX-License-Identifier: MIT
--
-- `cmake --install` into a fresh prefix, and host programs that find the library there. Each run covers the runtime
-- under test; together the runs of scripts/test cover both.

local interpreter = require("spec.support.interpreter")
local lfs = require("lfs")

local name = interpreter.name
local sanitizers = { asan = "address,undefined", tsan = "thread" }
-- A library that was built with sanitizers needs a host that has them too.
local sanitizer = sanitizers[interpreter.preset] and "-fsanitize=" .. sanitizers[interpreter.preset] or ""

local CODE = [[
  local list = parallel.map(function(x) return x * x end, {1, 2, 3}, {workers = 2})
  io.write(vm:match("^%a+"), " ", list[3], " ", (...), "\n")
]]
local EXPECTED = (name == "lumap" and "LuaJIT" or "Lua") .. " 9 argument\n"

local CMAKE_PROJECT = [[
cmake_minimum_required(VERSION 3.20)
project(host LANGUAGES C)
find_package(lumap 0.1 REQUIRED COMPONENTS NAME)
foreach(kind "" -static)
  add_executable(host${kind} "HOST")
  target_link_libraries(host${kind} PRIVATE lumap::NAME${kind})
endforeach()
]]

describe("an installed " .. name, function()
  local work, prefix

  local function run(program, arguments, options)
    options = options or {}
    options.program = program
    return interpreter.run(arguments, options)
  end

  local function must_run(program, arguments, options)
    local result = run(program, arguments, options)
    if result.code ~= 0 then
      error(("%s %s: exit status %d\n%s%s"):format(
        program, table.concat(arguments, " "), result.code, result.stdout, result.stderr))
    end
    return result.stdout
  end

  local function exists(path)
    return lfs.attributes(prefix .. "/" .. path, "mode") ~= nil
  end

  setup(function()
    work = interpreter.make_folder()
    prefix = work .. "/a prefix"
    must_run("cmake", { "--install", interpreter.build, "--prefix", prefix })
  end)

  teardown(function()
    interpreter.remove_folder(work)
  end)

  it("has the promised layout", function()
    for _, path in ipairs({
      "bin/" .. name,
      "include/lumap.h",
      "lib/lib" .. name .. ".so",
      "lib/lib" .. name .. ".a",
      "lib/pkgconfig/" .. name .. ".pc",
      "lib/cmake/lumap/lumap-config.cmake",
      "lib/cmake/lumap/lumap-config-version.cmake",
    }) do
      assert.is_true(exists(path), path .. " is missing")
    end
  end)

  it("runs the command with nothing else set", function()
    -- Sanitizers are told through the environment where their reports go.
    local env = { "-i" }
    for _, variable in ipairs({ "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS" }) do
      env[#env + 1] = os.getenv(variable) and variable .. "=" .. os.getenv(variable)
    end
    for _, backend in ipairs({ "thread", "process", "serial" }) do
      local code = ("print(parallel.map(function(x) return x + 1 end, {1, 2}, {backend = %q})[2])"):format(backend)
      local arguments = { prefix .. "/bin/" .. name, "-e", code }
      for i, word in ipairs(env) do
        table.insert(arguments, i, word)
      end
      assert.equal("3\n", must_run("env", arguments, { cwd = "/" }))
    end
  end)

  it("exports no name but the library's own", function()
    local names = must_run("nm", { "-D", "--defined-only", "--format=posix", prefix .. "/lib/lib" .. name .. ".so" })
    for symbol in names:gmatch("([^\n ]+) [^\n]*") do
      assert.truthy(symbol:match("^lumap_"), "exported: " .. symbol)
    end
  end)

  -- Compiles host.c with what pkg-config says. Its words are quoted for the shell, since the prefix holds a space.
  local function build_with_pkg_config(program, pkg_config_option, link)
    local cflags_and_libs = must_run("pkg-config", { pkg_config_option, "--cflags", "--libs", name }, {
      env = { PKG_CONFIG_PATH = prefix .. "/lib/pkgconfig" },
    })
    local source = interpreter.root .. "/spec/install/host.c"
    local words = { "cc", sanitizer, interpreter.quote(source), "-o", program, link, cflags_and_libs }
    must_run("sh", { "-c", table.concat(words, " ") })
  end

  it("serves a host that uses pkg-config", function()
    build_with_pkg_config(work .. "/host-shared", "--shared", "")
    -- Its process workers are the command that lies beside the library.
    for _, backend in ipairs({ "thread", "process", "serial" }) do
      local env = { LD_LIBRARY_PATH = prefix .. "/lib", LUMAP_BACKEND = backend }
      assert.equal(EXPECTED, must_run(work .. "/host-shared", { CODE, "argument" }, { env = env }))
    end
  end)

  it("serves a host that links it statically through pkg-config", function()
    if interpreter.sanitized then
      pending("sanitizers have no static C library")
      return
    end
    build_with_pkg_config(work .. "/host-static", "--static", "-static")
    assert.equal(EXPECTED, must_run(work .. "/host-static", { CODE, "argument" }))
  end)

  it("serves a host that uses CMake", function()
    local source, build = work .. "/cmake", work .. "/cmake build"
    assert(lfs.mkdir(source))
    interpreter.write_file(source .. "/CMakeLists.txt", (CMAKE_PROJECT:gsub("NAME", name):gsub("HOST", function()
      return interpreter.root .. "/spec/install/host.c"
    end)))
    must_run("cmake", { "-S", source, "-B", build, "-DCMAKE_PREFIX_PATH=" .. prefix, "-DCMAKE_C_FLAGS=" .. sanitizer })
    must_run("cmake", { "--build", build })
    assert.equal(EXPECTED, must_run(build .. "/host", { CODE, "argument" }))
    assert.equal(EXPECTED, must_run(build .. "/host-static", { CODE, "argument" }))
  end)

  it("tells a CMake host which part is not there", function()
    local source = work .. "/cmake-other"
    assert(lfs.mkdir(source))
    interpreter.write_file(source .. "/CMakeLists.txt", (CMAKE_PROJECT:gsub("NAME", "lumap99")))
    local result = run("cmake", { "-S", source, "-B", source .. "/build", "-DCMAKE_PREFIX_PATH=" .. prefix })
    assert.not_equal(0, result.code)
    assert.truthy(result.stderr:find("lumap99 is not installed", 1, true))
  end)
end)
