/* SPDX-License-Identifier: MIT
 *
 * core_load.c - load and its kin in workers: what they make of text has the globals of the call that runs, as the
 * function has that uses them. The stock functions, which are upvalues, know the state's own alone.
 */
#include "codec/codec.h"
#include "runtime/core.h"

/* Gives the chunk at 1 the globals of the call, unless it was given others. */
static void give_globals(lua_State *L) {
  bool has_default;
  if (lua_type(L, 1) != LUA_TFUNCTION) return;
  if (!lumap_push_environment(L, 1) && !lua_getupvalue(L, 1, 1)) return;
  lumap_push_globals(L);
  has_default = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  if (!has_default) return;
  lumap_scope_push_environment(L);
  lumap_set_chunk_environment(L, 1);
}

static void call_stock(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
}

/* load(...), loadstring(...), loadfile(...) */
static int load_chunk(lua_State *L) {
  call_stock(L);
  give_globals(L);
  return lua_gettop(L);
}

/* dofile([path]); the upvalue is loadfile. */
static int run_file(lua_State *L) {
  lua_settop(L, 1);
  call_stock(L);
  if (lua_isnil(L, 1)) return lua_error(L); /* the message is on top */
  give_globals(L);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L);
}

static void replace(lua_State *L, const char *name, const char *stock, lua_CFunction function) {
  lua_getglobal(L, stock);
  if (lua_isnil(L, -1)) { /* loadstring, on 5.4 */
    lua_pop(L, 1);
    return;
  }
  lua_pushcclosure(L, function, 1);
  lua_setglobal(L, name);
}

void lumap_core_open_load(lua_State *L) {
  replace(L, "dofile", "loadfile", run_file);
  replace(L, "load", "load", load_chunk);
  replace(L, "loadstring", "loadstring", load_chunk);
  replace(L, "loadfile", "loadfile", load_chunk);
}
