/* SPDX-License-Identifier: MIT */
#include "lua/state.h"

#include <stdarg.h>
#include <string.h>

#include "lua/layout.h"

static const char environment_key;

/* Made by the first embedded module that is loaded. One that replaces `type` later breaks only itself. */
void lumap_push_first_globals(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &environment_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lumap_push_globals(L);
  lumap_table_push_copy(L, -1);
  lua_remove(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &environment_key);
}

/* Raises the error on top. LuaJIT would go on to take the module for one that is being loaded: when memory is there
   again, it must load. */
static int fail_to_load(lua_State *L, const char *name) {
  lumap_push_loaded(L);
  lua_pushnil(L);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
  return lua_error(L);
}

static int load_embedded(lua_State *L) {
  const lumap_embedded_module *module = lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 1);
  if (lumap_load(L, module->code, module->size, module->chunk, "b") != 0) return fail_to_load(L, module->name);
  lumap_push_first_globals(L);
  lumap_set_chunk_environment(L, -2);
  lua_insert(L, 1);
  if (lua_pcall(L, 1, 1, 0) != 0) return fail_to_load(L, module->name);
  return 1;
}

bool lumap_is_embedded(const char *source) {
  static const char mark[] = "=[lumap]/"; /* scripts/dev/embed.c */
  return strncmp(source, mark, sizeof mark - 1) == 0;
}

const lumap_embedded_module *lumap_embedded_find(const char *name) {
  for (int i = 0; i < lumap_embedded_module_count; i++)
    if (strcmp(lumap_embedded_modules[i].name, name) == 0) return &lumap_embedded_modules[i];
  return NULL;
}

/* The first searcher, over the VM's and package.preload: what is in that goes before an embedded module. */
static int search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const lumap_embedded_module *module = lumap_embedded_find(name);
  if (module) {
    lua_getfield(L, lua_upvalueindex(2), name);
    if (!lua_isnil(L, -1)) module = NULL;
  }
  lua_settop(L, 1);
  if (module) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)module);
    lua_pushcclosure(L, load_embedded, 1);
    return 1;
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* In place of a function for each module in package.preload: a worker needs few, and would pay for all. */
static void set_searcher(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, LUMAP_SEARCHERS);
  lua_rawgeti(L, -1, 1);
  lua_getfield(L, -3, "preload");
  lua_pushcclosure(L, search, 2);
  lua_rawseti(L, -2, 1);
  lua_pop(L, 2);
}

static void set_path(lua_State *L, const char *field, const char *value) {
  if (!value) return;
  lua_getglobal(L, "package");
  lua_pushstring(L, value);
  lua_setfield(L, -2, field);
  lua_pop(L, 1);
}

typedef struct opening {
  const lumap_state_options *options;
  lua_CFunction setup;
  void *data;
} opening;

static int open_protected(lua_State *L) {
  const opening *what = lua_touserdata(L, 1);
  if (what->options->ignore_environment) lumap_ignore_environment(L);
  luaL_openlibs(L);
  lumap_collector_start(L);
  set_path(L, "path", what->options->path);
  set_path(L, "cpath", what->options->cpath);
  set_searcher(L);
  if (what->setup) {
    lua_pushcfunction(L, what->setup);
    lua_pushlightuserdata(L, what->data);
    lua_call(L, 1, 0);
  }
  return 0;
}

/* LuaJIT 2.1's lua_newstate crashes when memory runs out in its midst. It takes less than this, so it is asked for
   beforehand, in one piece; what a host's allocator has then it has a moment later, too. */
enum { ROOM_FOR_A_STATE = 64 * 1024 };

static bool has_room(const lumap_state_options *options) {
  void *room;
  if (options->room >= ROOM_FOR_A_STATE) return true;
  room = options->allocator(options->allocator_data, NULL, 0, ROOM_FOR_A_STATE);
  if (!room) return false;
  options->allocator(options->allocator_data, room, ROOM_FOR_A_STATE, 0);
  return true;
}

static lua_State *new_state(const lumap_state_options *options) {
  lua_State *L;
  if (!options->allocator) return luaL_newstate();
  L = has_room(options) ? lua_newstate(options->allocator, options->allocator_data) : NULL;
  if (L) lumap_warnings_start(L);
  return L;
}

lua_State *lumap_state_open(const lumap_state_options *options, lua_CFunction setup, void *data, lumap_error *error) {
  opening what = {options, setup, data};
  lua_State *L = new_state(options);
  bool was_running;
  int code;
  if (!L) {
    lumap_error_set(error, LUMAP_E_NOMEM, "cannot create a Lua state: not enough memory");
    return NULL;
  }
  /* Nothing is garbage yet: the collector would only walk what has just been made. */
  was_running = lumap_collector_stop(L);
  code = lumap_protected_call(L, open_protected, &what);
  lumap_collector_restore(L, was_running);
  if (code != 0) {
    lumap_error_pop(L, code, error);
    lua_close(L);
    return NULL;
  }
  return L;
}

void lumap_state_close(lua_State *L) {
  if (L) lua_close(L);
}

lumap_status lumap_error_pop(lua_State *L, int code, lumap_error *error) {
  lumap_status status = code == LUA_ERRMEM ? LUMAP_E_NOMEM : LUMAP_E_LUA;
  /* Only a string is read: turning a number into one may raise. */
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : lumap_status_text(status);
  lumap_error_set(error, status, "%s", text);
  lua_pop(L, 1);
  return status;
}

int lumap_raise(lua_State *L, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  lua_pushvfstring(L, format, arguments);
  va_end(arguments);
  return lua_error(L);
}

int lumap_error_raise(lua_State *L, const lumap_error *error) {
  lua_pushstring(L, error->message[0] ? error->message : lumap_status_text(error->status));
  return lua_error(L);
}
