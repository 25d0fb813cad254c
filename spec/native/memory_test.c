/* SPDX-License-Identifier: MIT
 *
 * memory_test.c - the codec and calls when memory runs out: an operation is repeated, each time with one allocation
 * more that succeeds, until it needs no more. Whatever failed, the error says so, the state goes on, and the collector
 * runs or rests as it did before.
 *
 * Both kinds of memory run out: the VM's, by its allocator, and the C side's, since the linker puts the functions below
 * in the place of malloc, calloc and realloc. Each operation is stepped twice: all allocations fail from one on, and
 * one fails alone, after which the VM collects in the midst of the operation and tries again.
 */
#include <limits.h>

#include "check.h"
#include "runtime/runtime.h"
#include "worker/worker.h"

/* ---- memory that runs out ----------------------------------------------------------------------------------- */

static struct {
  bool armed, alone; /* alone: only one allocation fails */
  long left;         /* allocations that succeed before */
  bool failed;
} memory;

static bool is_refused(void) {
  if (!memory.armed || memory.left-- > 0) return false;
  memory.failed = true;
  memory.left = memory.alone ? LONG_MAX : 0;
  return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
lua_State *__real_luaL_newstate(void);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
lua_State *__wrap_luaL_newstate(void);

void *__wrap_malloc(size_t size) {
  return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
  return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size) {
  return is_refused() ? NULL : __real_realloc(block, size);
}

/* The VM's: it may rely on what shrinks. */
static void *allocate(void *data, void *block, size_t old_size, size_t new_size) {
  (void)data;
  if (new_size == 0) {
    free(block);
    return NULL;
  }
  if ((!block || new_size > old_size) && is_refused()) return NULL;
  return __real_realloc(block, new_size);
}

/* Workers' states, too. */
lua_State *__wrap_luaL_newstate(void) {
  return lua_newstate(allocate, NULL);
}

/* ---- operations --------------------------------------------------------------------------------------------- */

/* operations[name] = { run = what is stepped, verify = is its result right? } */
static const char operations[] =
    /* Compiled code of LuaJIT 2.1 crashes by itself when memory runs out in the midst of it. */
    "local function interpret() if jit then jit.off() end end\n"
    "interpret()\n"
    "local codec, parallel = require 'codec', require 'parallel'\n"
    "local Class = { __name = 'Class' }\n"
    "Class.__index = Class\n"
    "local Point = {}\n"
    "local function pack(point) return { point.x } end\n"
    "local function unpack(packed) return setmetatable({ x = packed[1] }, Point) end\n"
    "codec.register('Point', Point, pack, unpack)\n"
    "local function make()\n"
    "  local value = { name = 'value', [2.5] = true, numbers = {}, fractions = {}, records = {} }\n"
    "  for i = 1, 100 do value.numbers[i], value.fractions[i] = i * 3, i / 3 end\n"
    "  for i = 1, 20 do value.records[i] = { id = i, name = 'record ' .. i, tags = { 'tag ' .. i } } end\n"
    "  value.self = value\n"
    "  value.object = setmetatable({ 1 }, Class)\n"
    "  value.point = setmetatable({ x = 7 }, Point)\n"
    "  value.deep = { 'end' }\n"
    "  for _ = 1, 130 do value.deep = { value.deep } end\n"
    "  function value.count() value.object[1] = value.object[1] + 1 return value.object[1] end\n"
    "  return value\n"
    "end\n"
    "local function is_right(value)\n"
    "  assert(value.name == 'value' and value[2.5] == true and value.self == value and value.point.x == 7)\n"
    "  assert(getmetatable(value.object).__name == 'Class' and value.object[1] >= 1)\n"
    "  for i = 1, 100 do assert(value.numbers[i] == i * 3 and value.fractions[i] == i / 3) end\n"
    "  for i = 1, 20 do\n"
    "    local record = value.records[i]\n"
    "    assert(record.id == i and record.name == 'record ' .. i and record.tags[1] == 'tag ' .. i)\n"
    "  end\n"
    "  local deep = value.deep\n"
    "  for _ = 1, 130 do deep = deep[1] end\n"
    "  assert(deep[1] == 'end' and type(value.count()) == 'number')\n"
    "end\n"
    /* What a barrier that was left out would lose is lost after some collections. */
    "local function is_right_for_long(value)\n"
    "  for i = 1, 3 do\n"
    "    local garbage = {}\n"
    "    for k = 1, 300 do garbage[k] = { 'garbage ' .. i .. ' ' .. k } end\n"
    "    collectgarbage('step')\n"
    "    collectgarbage()\n"
    "    is_right(value)\n"
    "  end\n"
    "end\n"
    "local with = { functions = true }\n"
    "local value = make()\n"
    "local bytes = codec.encode(value, with)\n"
    "local pool = parallel.pool { backend = 'serial', workers = 1, init = interpret }\n"
    "local function identity(item) return item, Class end\n"
    "local items = { value, value.records, value.point, 4, 'text' }\n"
    "local operations = {}\n"
    "operations.encode = { run = function() return codec.encode(value, with) end,\n"
    "  verify = function(encoded) is_right(codec.decode(encoded, with)) end }\n"
    "operations.decode = { run = function() return codec.decode(bytes, with) end, verify = is_right_for_long }\n"
    "operations.check = { run = function() return codec.check(value) end,\n"
    "  verify = function(ok, why) assert(ok == true, why) end }\n"
    "operations.refuse = { run = function() return select(2, codec.check({ a = { value, coroutine.create(make) } })) "
    "end,\n"
    "  verify = function(why) assert(why:find('value.a[2]', 1, true), why) end }\n"
    "operations.register = {\n"
    "  run = function() codec.register('Point', Point, pack, unpack) codec.register('Other', {}, pack, unpack) end,\n"
    "  verify = function() assert(codec.decode(codec.encode(value.point)).x == 7) end }\n"
    "operations.map = { run = function() return pool:map(identity, items) end,\n"
    "  verify = function(list, classes)\n"
    "    is_right_for_long(list[1])\n"
    "    assert(list[2][20].id == 20 and list[3].x == 7 and list[4] == 4 and list[5] == 'text' and classes[5] == "
    "Class)\n"
    "  end }\n"
    "operations.numbers = { run = function() return pool:map(math.sqrt, value.numbers) end,\n"
    "  verify = function(roots) for i = 1, 100 do assert(roots[i] == math.sqrt(3 * i)) end end }\n"
    "operations.functions = { run = function() return pool:map(function(x) return function() return x, Class end end,\n"
    "    { 1, 2, 3 }) end,\n"
    "  verify = function(list) local x, class = list[3]() assert(x == 3 and class == Class) end }\n"
    "return operations\n";

static lumap_runtime *runtime;
static const char operations_key;

static void open_runtime(void) {
  lumap_runtime_options options = {.state = {.allocator = allocate, .ignore_environment = true},
                                   .executor = &lumap_worker_executor,
                                   .worker_count = 1};
  lumap_error error = {LUMAP_E_OK, ""};
  runtime = lumap_runtime_open(&options, &error);
  CHECK(runtime, "%s", error.message);
  CHECK(luaL_loadbuffer(runtime->L, operations, sizeof operations - 1, "=operations") == 0 &&
            lua_pcall(runtime->L, 0, 1, 0) == 0,
        "%s", lua_tostring(runtime->L, -1));
  lua_rawsetp(runtime->L, LUA_REGISTRYINDEX, &operations_key);
}

/* [-0, +1] */
static void push_function(const char *operation, const char *field) {
  lua_State *L = runtime->L;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &operations_key);
  lua_getfield(L, -1, operation);
  lua_getfield(L, -1, field);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

/* The error on top tells of memory, as text or as an error of a call. */
static bool tells_of_memory(lua_State *L, char *text, size_t size) {
  const char *message;
  if (lua_istable(L, -1)) lua_getfield(L, -1, "message");
  message = lua_tostring(L, -1);
  snprintf(text, size, "%s", message ? message : luaL_typename(L, -1));
  return message && strstr(message, "memory");
}

/* The operation, after which `left` allocations succeed. True when it did not need more. */
static bool step(const char *operation, long left, bool alone) {
  lua_State *L = runtime->L;
  bool runs = left % 2 == 0;
  char text[300];
  int code;
  push_function(operation, "run");
  lua_gc(L, runs ? LUA_GCRESTART : LUA_GCSTOP, 0);
  memory.left = left;
  memory.alone = alone;
  memory.failed = false;
  memory.armed = true;
  code = lua_pcall(L, 0, LUA_MULTRET, 0);
  memory.armed = false;
  if ((lua_gc(L, LUA_GCISRUNNING, 0) != 0) != runs) {
    snprintf(check_reason, sizeof check_reason, "%s, %ld: the collector %s", operation, left,
             runs ? "stands still" : "runs");
    return true;
  }
  if (code != 0 && (!memory.failed || !tells_of_memory(L, text, sizeof text))) {
    if (!memory.failed) tells_of_memory(L, text, sizeof text);
    snprintf(check_reason, sizeof check_reason, "%s, %ld: %s", operation, left, text);
    return true;
  }
  lua_gc(L, LUA_GCRESTART, 0);
  return code == 0;
}

/* What is on the stack, or when the operation failed what it gives now, is right. */
static void verify(const char *operation, long left, bool done) {
  lua_State *L = runtime->L;
  if (!done) {
    lua_settop(L, 0);
    push_function(operation, "run");
    if (lua_pcall(L, 0, LUA_MULTRET, 0) != 0) lua_error(L);
  }
  push_function(operation, "verify");
  lua_insert(L, 1);
  CHECK(lua_pcall(L, lua_gettop(L) - 1, 0, 0) == 0, "%s, %ld: %s", operation, left, lua_tostring(L, -1));
}

static void step_through(const char *operation) {
  /* Odd, so that the collector takes turns. */
  enum { MOST = 20000, STRIDE = CHECK_SANITIZED ? 3 : 1 };
  for (int alone = 0; alone < 2; alone++) {
    long left = 0;
    for (bool enough = false; !enough; left += STRIDE) {
      bool done = step(operation, left, alone != 0);
      CHECK_SO_FAR();
      enough = done && !memory.failed;
      verify(operation, left, done);
      CHECK_SO_FAR();
      CHECK(left < MOST, "%s does not end", operation);
    }
    printf("# %s: %ld allocations\n", operation, left - STRIDE);
  }
}

static void run_operation(const char *operation) {
  open_runtime();
  CHECK_SO_FAR();
  step_through(operation);
  CHECK_SO_FAR();
  lumap_runtime_close(runtime);
}

#define OPERATION(name)                                                                                                \
  static void lack_of_memory_in_##name(void) {                                                                         \
    run_operation(#name);                                                                                              \
  }
OPERATION(encode)
OPERATION(decode)
OPERATION(check)
OPERATION(refuse)
OPERATION(register)
OPERATION(map)
OPERATION(numbers)
OPERATION(functions)

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { "lack_of_memory_in_" #name, lack_of_memory_in_##name }
  static const check_test tests[] = {
      TEST(encode), TEST(decode), TEST(check), TEST(refuse), TEST(register), TEST(map), TEST(numbers), TEST(functions),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 200, NULL, argc, argv);
}
