/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "codec/cdata.h"

/* A byte of input may cost this much memory, and each call this much besides. Most costs an empty table that something
   refers to: four bytes become a table, a slot in a list and one in the index of objects, both grown by doubling. */
enum { BYTES_FOR_A_BYTE = 128, BYTES_FOR_A_CALL = 64 * 1024 };

/* Inputs between two full collections, and collections between two looks for leaks: both take as long as many inputs.
 */
enum { INPUTS_TOGETHER = 200, COLLECTIONS_TOGETHER = 20 };

static size_t used, peak;

static void *allocate(void *data, void *block, size_t old_size, size_t new_size) {
  size_t had = block ? old_size : 0;
  (void)data;
  if (new_size == 0) {
    free(block);
    used -= had;
    return NULL;
  }
  /* The VM frees what it has when it is closed; LuaJIT's pointers are not such that LeakSanitizer could follow them. */
  __lsan_disable();
  block = realloc(block, new_size);
  __lsan_enable();
  if (!block) return NULL;
  used += new_size - had;
  if (used > peak) peak = used;
  return block;
}

/* ---- bytecode ----------------------------------------------------------------------------------------------- */

fuzz_code fuzz_code_policy = FUZZ_CODE_NEVER;

/* Functions with 0 to 3 upvalues that do nothing worth mentioning, dumped: stand_ins[number]. */
static const char stand_ins[] = "local a, b, c\n"
                                "return { [0] = string.dump(function() end),\n"
                                "  string.dump(function(x) a = x return a end),\n"
                                "  string.dump(function() return a, b end),\n"
                                "  string.dump(function() c = b return a, c end) }";
enum { STAND_INS = 4 };
static const char stand_ins_key;

int __real_lumap_load(lua_State *L, const void *code, size_t size, const char *name, const char *mode);
int __wrap_lumap_load(lua_State *L, const void *code, size_t size, const char *name, const char *mode);

/* The linker puts this in the place of lumap_load. The codec's chunks are called "=?". */
int __wrap_lumap_load(lua_State *L, const void *code, size_t size, const char *name, const char *mode) {
  const unsigned char *bytes = code;
  int status;
  if (strcmp(name, "=?") != 0 || fuzz_code_policy == FUZZ_CODE_GENUINE)
    return __real_lumap_load(L, code, size, name, mode);
  if (fuzz_code_policy == FUZZ_CODE_NEVER) fuzz_fail("a plain decode loads bytecode");
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stand_ins_key);
  lua_rawgeti(L, -1, size ? bytes[0] % STAND_INS : 0);
  lua_remove(L, -2);
  code = lua_tolstring(L, -1, &size);
  status = __real_lumap_load(L, code, size, name, mode);
  lua_remove(L, -2);
  return status;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

/* What is left is what takes any values and gives values back. */
static const char disarming[] =
    "local standard, globals = ...\n"
    "local kept = { _G = true, string = true, table = true, math = true, io = true }\n"
    "local safe = { 'assert', 'getmetatable', 'ipairs', 'math', 'next', 'pairs', 'rawequal', 'rawget', 'select',\n"
    "  'string', 'table', 'tonumber', 'tostring', 'type', '_VERSION', '_G' }\n"
    "local is_safe = {}\n"
    "for _, name in ipairs(safe) do is_safe[name] = true end\n"
    "local function purge(t, allowed) for name in next, t do if not allowed[name] then t[name] = nil end end end\n"
    "purge(io, { stdin = true, stdout = true, stderr = true })\n"
    "purge(package.preload, {})\n"
    "purge(package.loaded, kept)\n"
    "purge(standard, is_safe)\n"
    "string.rep, string.dump, math.randomseed = nil, nil, nil\n"
    "purge(globals, is_safe)\n"
    "globals.package = {}\n"
    "globals.require = function(name) error('no module ' .. name, 0) end\n";

static const char environment_key;

/* A copy of the globals for the targets' own Lua code, and that of the specs: they go on when those are disarmed. */
static void make_environment(lua_State *L) {
  lua_newtable(L);
  lumap_push_globals(L);
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -5);
  }
  lua_pop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &environment_key);
}

static void set_environment(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &environment_key);
  lumap_set_chunk_environment(L, -2);
}

/* The specs' comparison of graphs, as a global of our own code. */
static void load_graphs(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &environment_key);
  if (luaL_loadfile(L, LUMAP_FUZZ_ROOT "/spec/support/graphs.lua") != 0) fuzz_fail("%s", lua_tostring(L, -1));
  set_environment(L);
  if (lua_pcall(L, 0, 1, 0) != 0) fuzz_fail("%s", lua_tostring(L, -1));
  lua_setfield(L, -2, "graphs");
  lua_pop(L, 1);
}

void fuzz_run(lua_State *L, const char *name, const char *source, int arguments, int results) {
  if (luaL_loadbuffer(L, source, strlen(source), name) != 0) fuzz_fail("%s", lua_tostring(L, -1));
  set_environment(L);
  lua_insert(L, -1 - arguments);
  if (lua_pcall(L, arguments, results, 0) != 0) fuzz_fail("%s", lua_tostring(L, -1));
}

void fuzz_disarm(lua_State *L) {
  lumap_names_push_standard_globals(L);
  lumap_push_globals(L);
  fuzz_run(L, "=disarming", disarming, 2, 0);
}

lua_State *fuzz_open(const lumap_executor *executor) {
  lumap_runtime_options options = {
      .state = {.allocator = allocate, .ignore_environment = true, .path = LUMAP_FUZZ_ROOT "/?.lua", .cpath = ""},
      .executor = executor,
      .backend = "serial",
      .worker_count = 1,
  };
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_runtime *runtime = lumap_runtime_open(&options, &error);
  static lumap_runtime *opened[2]; /* where LeakSanitizer finds them */
  static int count;
  if (!runtime) fuzz_fail("%s", error.message);
  opened[count++ % 2] = runtime;
  make_environment(runtime->L);
  load_graphs(runtime->L);
  /* Looks for the ffi library now, while it can be found. */
  lumap_push_boxed_integer(runtime->L, 0, false);
  lumap_cdata_push_functions(runtime->L);
  lua_pop(runtime->L, 2);
  fuzz_run(runtime->L, "=stand-ins", stand_ins, 0, 1);
  lua_rawsetp(runtime->L, LUA_REGISTRYINDEX, &stand_ins_key);
  return runtime->L;
}

/* ---- running ------------------------------------------------------------------------------------------------ */

/* LuaJIT goes on with a cycle when compiled code is left near the cycle's end (lj_trace_exit), though the collector was
   stopped: and that starts it. So it is stopped between two cycles. */
static void stop_collector(lua_State *L) {
  if (lua_gc(L, LUA_GCISRUNNING, 0)) lua_gc(L, LUA_GCCOLLECT, 0);
  lua_gc(L, LUA_GCSTOP, 0);
}

int fuzz_call(lua_State *L, int arguments, int results, size_t size) {
  bool runs = size % 2 == 0;
  size_t before, limit = BYTES_FOR_A_BYTE * size + BYTES_FOR_A_CALL;
  int status;
  if (runs)
    lua_gc(L, LUA_GCRESTART, 0);
  else
    stop_collector(L);
  before = peak = used;
  status = lua_pcall(L, arguments, results, 0);
  if ((lua_gc(L, LUA_GCISRUNNING, 0) != 0) != runs) fuzz_fail("the collector %s", runs ? "stands still" : "runs");
  if (peak - before > limit) fuzz_fail("%zu bytes of memory for %zu bytes of input", peak - before, size);
  return status;
}

void fuzz_rest(lua_State *L, int kept) {
  static unsigned inputs, collections;
  static size_t resting;
  lua_settop(L, kept);
  if (++inputs % INPUTS_TOGETHER != 0 && used < 2 * resting) return;
  lua_gc(L, LUA_GCCOLLECT, 0);
  resting = used + (1 << 20);
  if (++collections % COLLECTIONS_TOGETHER == 0 && __lsan_do_recoverable_leak_check())
    fuzz_fail("a leak, of one of the last inputs");
}
