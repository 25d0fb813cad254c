/* SPDX-License-Identifier: MIT
 *
 * A table, where that can be made by a copy of memory. Else a function, which is never called, but holds values in less
 * memory than any other object and is made without a search:
 *
 *   part   key, value, key, value, ... up to MOST_FIELDS of them, and behind as many the next part
 */
#include "lua/snapshot.h"

#include "lua/layout.h"

/* 255 upvalues are allowed, but the stack should not grow for a few libraries. */
enum { MOST_FIELDS = 40, NEXT_PART = 2 * MOST_FIELDS + 1 };

static int hold(lua_State *L) {
  (void)L;
  return 0;
}

/* Pushes a part for the fields of the table behind the key on top, and on top of it the key where the next part begins,
   unless it was the last one: then true. [-1, +1 or +2] */
static bool push_part(lua_State *L, int table) {
  int first = lua_gettop(L), count = 0;
  while (lua_next(L, table)) {
    lua_pushvalue(L, -2);
    if (++count < MOST_FIELDS) continue;
    lua_insert(L, first);
    lua_pushnil(L);
    lua_pushcclosure(L, hold, NEXT_PART);
    lua_insert(L, first);
    return false;
  }
  lua_pushcclosure(L, hold, 2 * count);
  return true;
}

void lumap_snapshot_push(lua_State *L, int index) {
  int table = lua_absindex(L, index), first = lua_gettop(L) + 1;
  bool last;
  if (lumap_layout_is_known(L)) {
    lumap_table_push_copy(L, table);
    return;
  }
  luaL_checkstack(L, NEXT_PART + 6, NULL);
  lua_pushnil(L);
  last = push_part(L, table);
  lua_pushvalue(L, first);
  lua_insert(L, first + 1);
  while (!last) {
    last = push_part(L, table);
    lua_pushvalue(L, first + 2);
    lua_setupvalue(L, first + 1, NEXT_PART);
    lua_remove(L, first + 1);
  }
  lua_settop(L, first);
}

/* Replaces the part at `part` by the next one; false: there is none. */
static bool step(lua_State *L, int part) {
  if (!lua_getupvalue(L, part, NEXT_PART)) return false;
  if (lua_isnil(L, -1)) return lua_pop(L, 1), false;
  lua_replace(L, part);
  return true;
}

void lumap_snapshot_open(lua_State *L) {
  int part = lua_gettop(L), table = part + 1;
  if (lua_istable(L, part)) {
    lumap_table_push_copy(L, part);
    lua_replace(L, part);
    return;
  }
  lua_createtable(L, 0, MOST_FIELDS);
  do
    for (int i = 1; i < NEXT_PART && lua_getupvalue(L, part, i); i += 2) {
      lua_getupvalue(L, part, i + 1);
      lua_rawset(L, table);
    }
  while (step(L, part));
  lua_replace(L, part);
}

static void set_field(lua_State *L, int table) {
  lua_pushvalue(L, -2);
  lua_rawget(L, table);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 3);
  } else {
    lua_pop(L, 1);
    lua_rawset(L, table);
  }
}

void lumap_snapshot_set(lua_State *L, int index) {
  int key = lua_gettop(L) - 1, part = key + 2;
  if (lua_istable(L, index)) {
    set_field(L, lua_absindex(L, index));
    return;
  }
  lua_pushvalue(L, index);
  do
    for (int i = 1; i < NEXT_PART && lua_getupvalue(L, part, i); i += 2) {
      if (lua_rawequal(L, -1, key)) {
        lua_pushvalue(L, key + 1);
        lua_setupvalue(L, part, i + 1);
      }
      lua_settop(L, part);
    }
  while (step(L, part));
  lua_settop(L, key - 1);
}
