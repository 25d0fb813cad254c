/* SPDX-License-Identifier: MIT */
#include "lua/functions.h"

#include <string.h>

static lua_CFunction find(const luaL_Reg *const *lists, const char *name) {
  for (; *lists; lists++)
    for (const luaL_Reg *f = *lists; f->name; f++)
      if (strcmp(f->name, name) == 0) return f->func;
  return NULL;
}

/* __index(table, name) -> the function, which the table has from now on; nil if there is none */
static int make(lua_State *L) {
  const luaL_Reg *const *lists = lua_touserdata(L, lua_upvalueindex(1));
  lua_CFunction function = lua_type(L, 2) == LUA_TSTRING ? find(lists, lua_tostring(L, 2)) : NULL;
  if (!function) return 0;
  lua_settop(L, 2);
  lua_pushcfunction(L, function);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 3);
  lua_rawset(L, 1);
  return 1;
}

void lumap_push_functions(lua_State *L, const luaL_Reg *const *lists) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushlightuserdata(L, (void *)(uintptr_t)lists);
  lua_pushcclosure(L, make, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
}

void lumap_set_functions(lua_State *L, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushcfunction(L, functions->func);
    lua_setfield(L, -2, functions->name);
  }
}
