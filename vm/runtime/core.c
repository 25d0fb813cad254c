/* SPDX-License-Identifier: MIT */
#include "runtime/core.h"

#include <math.h>

#include "lua/layout.h"

static int count_of(const luaL_Reg *functions) {
  int count = 0;
  while (functions[count].name)
    count++;
  return count;
}

void lumap_core_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction collect) {
  lua_createtable(L, 0, 3);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_createtable(L, 0, count_of(methods));
  lumap_set_functions(L, methods);
  lua_setfield(L, -2, "__index");
  lua_setfield(L, LUA_REGISTRYINDEX, name);
}

/* clock() -> seconds, monotonic */
static int core_clock(lua_State *L) {
  lua_pushnumber(L, (double)lumap_clock_ns() / 1e9);
  return 1;
}

/* sleep(seconds): the caller has checked the argument. An interrupt ends it with an error. */
static int core_sleep(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  uint64_t deadline = lumap_deadline_after(luaL_checknumber(L, 1));
  for (;;) {
    uint32_t key = lumap_event_key(&runtime->event);
    if (lumap_runtime_take_interrupt(runtime)) return luaL_error(L, "interrupted!");
    if (lumap_event_wait(&runtime->event, key, deadline) == LUMAP_E_TIMEOUT) return 0;
    if (lumap_clock_ns() >= deadline) return 0;
  }
}

/* event_key() -> what event_wait takes */
static int core_event_key(lua_State *L) {
  lua_pushnumber(L, lumap_event_key(&lumap_runtime_get(L)->event));
  return 1;
}

/* event_wait(key, seconds or nil): until something has happened, since the key was taken, that this thread may wait
   for, or the time is over. An interrupt ends it with an error. */
static int core_event_wait(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  uint64_t deadline = lua_isnoneornil(L, 2) ? LUMAP_FOREVER : lumap_deadline_after(luaL_checknumber(L, 2));
  lumap_event_wait(&runtime->event, (uint32_t)luaL_checknumber(L, 1), deadline);
  if (lumap_runtime_take_interrupt(runtime)) return luaL_error(L, "interrupted!");
  return 0;
}

bool lumap_core_is_cancelled(lumap_runtime *runtime) {
  bool stopped = false;
  for (; runtime && !stopped; runtime = runtime->outer)
    if (runtime->control)
      stopped = lumap_control_is_stopped(runtime->control, atomic_load(&runtime->control->call),
                                         atomic_load_explicit(&runtime->control->index, memory_order_relaxed));
  return stopped;
}

/* cancelled() -> boolean: as lumap_core_is_cancelled */
static int core_cancelled(lua_State *L) {
  lua_pushboolean(L, lumap_core_is_cancelled(lumap_runtime_get(L)));
  return 1;
}

/* cpu_count() -> integer */
static int core_cpu_count(lua_State *L) {
  lua_pushinteger(L, lumap_cpu_count(""));
  return 1;
}

/* index() -> the item that this worker runs, or nil */
static int core_index(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  bool shown = runtime->control && !runtime->hides_index;
  uint64_t index = shown ? atomic_load_explicit(&runtime->control->index, memory_order_relaxed) : 0;
  if (index == 0)
    lua_pushnil(L);
  else
    lumap_push_integer(L, (int64_t)index);
  return 1;
}

/* worker() -> number of this worker, or nil */
static int core_worker(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  if (!runtime->worker)
    lua_pushnil(L);
  else
    lua_pushinteger(L, runtime->worker);
  return 1;
}

/* draw_seed() -> a seed from the stream of the item that runs, or nil when it has none */
static int core_draw_seed(lua_State *L) {
  lumap_generator *generator = &lumap_runtime_get(L)->generator;
  if (!generator->seeded) return 0;
  lua_pushnumber(L, (lua_Number)(lumap_random_next(generator->words) >> 12));
  return 1;
}

/* can_seed() -> is math.random a generator that gives an item a stream of its own? */
static int core_can_seed(lua_State *L) {
  lua_pushboolean(L, lumap_runtime_get(L)->generator.words != NULL);
  return 1;
}

/* new_list(count) -> an empty table with room */
static int core_new_list(lua_State *L) {
  lua_Number count = luaL_checknumber(L, 1);
  /* Beyond this the table grows as it is filled: a length that somebody only claims must not cost memory. */
  lua_createtable(L, count > 0 && count <= 1 << 26 ? (int)count : 0, 1);
  return 1;
}

/* steps(first, last, step) -> how many steps lead from one integer to another that lies in their direction */
static int core_steps(lua_State *L) {
  uint64_t first = (uint64_t)luaL_checkinteger(L, 1), last = (uint64_t)luaL_checkinteger(L, 2);
  lua_Integer step = luaL_checkinteger(L, 3);
  luaL_argcheck(L, step != 0, 3, "0");
  lua_pushnumber(L, (lua_Number)(step > 0 ? (last - first) / (uint64_t)step : (first - last) / (0 - (uint64_t)step)));
  return 1;
}

static const char settings_key;

/* settings() -> { worker_count, backend, ignore_environment } as the host gave them; always the same table */
static int core_settings(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &settings_key);
  if (!lua_isnil(L, -1)) return 1;
  lua_createtable(L, 0, 3);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &settings_key);
  if (runtime->worker_count > 0) {
    lua_pushinteger(L, runtime->worker_count);
    lua_setfield(L, -2, "worker_count");
  }
  if (runtime->backend) {
    lua_pushstring(L, runtime->backend);
    lua_setfield(L, -2, "backend");
  }
  lua_pushboolean(L, runtime->ignore_environment);
  lua_setfield(L, -2, "ignore_environment");
  return 1;
}

/* direct(boolean) -> boolean, boolean: are tables read and written where they lie (lua/layout.h), and made without the
   C API (lua/maker.h)? False goes through it from now on. For specs, which compare both ways. */
static int core_direct(lua_State *L) {
  const lumap_slot *scratch;
  lua_pushboolean(L, lumap_layout_use(L, lua_toboolean(L, 1)));
  scratch = lumap_layout_push(L);
  lua_pushboolean(L, scratch && lumap_slot_kind_of(&scratch[LUMAP_SCRATCH_MAKES]) == LUMAP_SLOT_TRUE);
  lua_replace(L, -2);
  return 2;
}

void lumap_core_set_defaults(lua_State *L, const char *backend, int worker_count) {
  core_settings(L);
  lua_pushstring(L, backend);
  lua_setfield(L, -2, "backend");
  lua_pushinteger(L, worker_count);
  lua_setfield(L, -2, "worker_count");
  lua_pop(L, 1);
}

/* signal_name(number) -> string or nil */
static int core_signal_name(lua_State *L) {
  lua_pushstring(L, lumap_signal_name((int)luaL_checkinteger(L, 1)));
  return 1;
}

const luaL_Reg lumap_core_system[] = {
    {"clock", core_clock},         {"sleep", core_sleep},
    {"cpu_count", core_cpu_count}, {"index", core_index},
    {"event_key", core_event_key}, {"event_wait", core_event_wait},
    {"cancelled", core_cancelled}, {"worker", core_worker},
    {"draw_seed", core_draw_seed}, {"can_seed", core_can_seed},
    {"new_list", core_new_list},   {"steps", core_steps},
    {"settings", core_settings},   {"signal_name", core_signal_name},
    {"direct", core_direct},       {NULL, NULL},
};

void lumap_core_push(lua_State *L) {
  static const luaL_Reg *const parts[] = {lumap_core_system,
                                          lumap_core_codec,
                                          lumap_core_pool,
                                          lumap_core_buffer,
                                          lumap_core_counter,
                                          lumap_core_channel,
                                          NULL};
  lumap_push_functions(L, parts);
  lua_pushliteral(L, LUMAP_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushliteral(L, LUMAP_VM_NAME);
  lua_setfield(L, -2, "vm");
  /* It is asked for often, and would be looked for each time if it were nil. */
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "loading");
}
