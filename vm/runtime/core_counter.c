/* SPDX-License-Identifier: MIT
 *
 * core_counter.c - shared counters: one integer in shared memory, changed atomically by whoever has it.
 */
#include <math.h>
#include <stdio.h>

#include "runtime/core.h"
#include "runtime/shared.h"

/* As far as both VMs have every integer. */
#define MOST (INT64_C(1) << 53)

static _Atomic int64_t *check_counter(lua_State *L) {
  lumap_handle *counter = lumap_handle_test(L, 1, LUMAP_HANDLE_COUNTER);
  if (!counter) luaL_error(L, "a counter expected, got %s: call its methods with a colon", luaL_typename(L, 1));
  return (_Atomic int64_t *)counter->data;
}

/* The integer at `index`, argument `number` of the function, within the range of counters. */
static int64_t check_integer(lua_State *L, int index, int number, const char *function) {
  int64_t integer;
  if (lua_type(L, index) == LUA_TNUMBER) {
    double value = lua_tonumber(L, index);
    /* Not only the double: on 5.4 it is a rounded one beyond 2^53. */
    if (!lumap_is_integer(L, index, &integer))
      integer = value == floor(value) && fabs(value) <= MOST ? value : INT64_MAX;
    if (integer >= -MOST && integer <= MOST) return integer;
    lumap_push_printed(L, index);
  } else {
    lua_pushstring(L, luaL_typename(L, index));
  }
  return luaL_error(L, "bad argument #%d to '%s' (an integer from -2^53 to 2^53 expected, got %s)", number, function,
                    lua_tostring(L, -1));
}

static int refuse_sum(lua_State *L, int64_t now, int64_t change) {
  char text[120];
  snprintf(text, sizeof text, "the counter is at %lld: adding %lld takes it beyond 2^53", (long long)now,
           (long long)change);
  return luaL_error(L, "%s", text);
}

/* add(d) -> the new value */
static int counter_add(lua_State *L) {
  _Atomic int64_t *value = check_counter(L);
  int64_t change = check_integer(L, 2, 1, "add"), now = atomic_load(value);
  do {
    if (now + change > MOST || now + change < -MOST) return refuse_sum(L, now, change);
  } while (!atomic_compare_exchange_weak(value, &now, now + change));
  lumap_push_integer(L, now + change);
  return 1;
}

static int counter_get(lua_State *L) {
  lumap_push_integer(L, atomic_load(check_counter(L)));
  return 1;
}

static int counter_set(lua_State *L) {
  _Atomic int64_t *value = check_counter(L);
  atomic_store(value, check_integer(L, 2, 1, "set"));
  return 0;
}

/* compare_exchange(old, new) -> boolean: was it `old`, and is it `new` now? */
static int counter_compare_exchange(lua_State *L) {
  _Atomic int64_t *value = check_counter(L);
  int64_t old = check_integer(L, 2, 1, "compare_exchange"), new = check_integer(L, 3, 2, "compare_exchange");
  lua_pushboolean(L, atomic_compare_exchange_strong(value, &old, new));
  return 1;
}

static int counter_tostring(lua_State *L) {
  char text[64];
  snprintf(text, sizeof text, "counter at %lld", (long long)atomic_load(check_counter(L)));
  lua_pushstring(L, text);
  return 1;
}

/* counter(value, a number from the caller or nil) -> counter */
static int core_counter(lua_State *L) {
  int64_t value = lua_isnoneornil(L, 1) ? 0 : check_integer(L, 1, 1, "counter");
  lumap_memory *memory = lumap_shared_open(L, sizeof value, "a counter");
  atomic_store((_Atomic int64_t *)memory->data, value);
  lumap_handle_push(L, LUMAP_HANDLE_COUNTER, memory, 0, 0, 0);
  return 1;
}

/* counter_class(): makes the metatable of counters. */
static int core_counter_class(lua_State *L) {
  static const luaL_Reg methods[] = {{"add", counter_add},
                                     {"get", counter_get},
                                     {"set", counter_set},
                                     {"compare_exchange", counter_compare_exchange},
                                     {NULL, NULL}};
  if (!lumap_handle_push_metatable(L, LUMAP_HANDLE_COUNTER, 0)) return 0;
  lua_newtable(L);
  lumap_set_functions(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, counter_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "parallel.Counter");
  lua_setfield(L, -2, "__metatable");
  lumap_handle_set_metatable(L, LUMAP_HANDLE_COUNTER, 0);
  return 0;
}

const luaL_Reg lumap_core_counter[] = {{"counter", core_counter}, {"counter_class", core_counter_class}, {NULL, NULL}};
