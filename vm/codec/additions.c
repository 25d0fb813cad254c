/* SPDX-License-Identifier: MIT
 *
 * The state's registry keeps a flat list of three slots a library: its name, the table, and what that held (a
 * snapshot); the metatable of strings is the first one, with an empty name. When somebody asks for the first time the
 * snapshots become tables, and at index 0 there is a set of all names that libraries had.
 */
#include "codec/additions.h"

#include <string.h>

#include "lua/snapshot.h"

enum { NAME = 1, TABLE, COPY, SLOTS = 3 };

/* A few more than there are names in the libraries of either VM. */
enum { MANY_NAMES = 128 };

static const char libraries_key;

static const char *const libraries[] = {"", "string", "table", "math", "io", "os", "coroutine", "debug", "utf8", "bit"};

/* Pushes the table of the library; false, and nothing pushed, if there is none. */
static bool push_library(lua_State *L, const char *name) {
  if (*name) {
    lua_getglobal(L, name);
    if (lua_istable(L, -1)) return true;
    lua_pop(L, 1);
    return false;
  }
  lua_pushliteral(L, "");
  if (lua_getmetatable(L, -1)) {
    lua_remove(L, -2);
    return true;
  }
  lua_pop(L, 1);
  return false;
}

void lumap_additions_open(lua_State *L) {
  int list, at = 0;
  luaL_checkstack(L, 10, NULL);
  lua_createtable(L, SLOTS * (int)(sizeof libraries / sizeof *libraries), 0);
  list = lua_gettop(L);
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    if (!push_library(L, libraries[i])) continue;
    lumap_snapshot_push(L, -1);
    lua_rawseti(L, list, at + COPY);
    lua_rawseti(L, list, at + TABLE);
    lua_pushstring(L, libraries[i]);
    lua_rawseti(L, list, at + NAME);
    at += SLOTS;
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &libraries_key);
}

/* Replaces the list on top by one whose copies are tables, with the set of names. The first one is good until then. */
static void open_copies(lua_State *L) {
  int old = lua_gettop(L), list = old + 1, names = old + 2, count = (int)lumap_rawlen(L, old);
  lua_createtable(L, count, 1);
  lua_createtable(L, 0, MANY_NAMES);
  for (int at = 0; at < count; at += SLOTS) {
    lua_rawgeti(L, old, at + COPY);
    lumap_snapshot_open(L);
    for (lua_pushnil(L); lua_next(L, names + 1); lua_pop(L, 1)) {
      lua_pushvalue(L, -2);
      lua_pushboolean(L, 1);
      lua_rawset(L, names);
    }
    lua_rawseti(L, list, at + COPY);
    lua_rawgeti(L, old, at + TABLE);
    lua_rawseti(L, list, at + TABLE);
    lua_rawgeti(L, old, at + NAME);
    lua_rawseti(L, list, at + NAME);
  }
  lua_rawseti(L, list, 0);
  lua_pushvalue(L, list);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &libraries_key);
  lua_replace(L, old);
}

/* Pushes the list, with tables as copies. */
static void push_list_of_libraries(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &libraries_key);
  lua_rawgeti(L, -1, 0);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    open_copies(L);
  } else {
    lua_pop(L, 1);
  }
}

void lumap_additions_accept(lua_State *L, const char *library, const char *field) {
  int top = lua_gettop(L), count;
  bool opened;
  lua_getglobal(L, library);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &libraries_key);
  lua_rawgeti(L, top + 2, 0);
  opened = !lua_isnil(L, -1);
  count = (int)lumap_rawlen(L, top + 2);
  for (int at = 0; at < count; at += SLOTS) {
    lua_settop(L, top + 2);
    lua_rawgeti(L, top + 2, at + TABLE);
    if (!lua_rawequal(L, -1, top + 1)) continue;
    lua_rawgeti(L, top + 2, at + COPY);
    lua_pushstring(L, field);
    lua_getfield(L, top + 1, field);
    if (opened)
      lua_rawset(L, -3);
    else
      lumap_snapshot_set(L, -3);
  }
  lua_settop(L, top);
}

void lumap_additions_restore(lua_State *L) {
  int table = lua_gettop(L), list = table + 1, count;
  push_list_of_libraries(L);
  count = (int)lumap_rawlen(L, list);
  for (int at = 0; at < count; at += SLOTS) {
    lua_rawgeti(L, list, at + TABLE);
    lua_rawgeti(L, list, at + COPY);
    if (lua_rawequal(L, list + 1, table)) lua_replace(L, table);
    lua_settop(L, list);
  }
  lua_settop(L, table);
}

/* Replaces the value on top by an addition. The list of libraries is at `list`. [-1, +1] */
static void make_addition(lua_State *L, int list, int at, int name) {
  lua_createtable(L, 2, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, LUMAP_ADDITION_VALUE);
  lua_rawgeti(L, list, at + NAME);
  lua_pushliteral(L, ".");
  lua_pushvalue(L, name);
  lua_concat(L, 3);
  lua_rawseti(L, -2, LUMAP_ADDITION_NAME);
}

/* Pushes the table in slot `slot` of the list, and its field `name`. */
static void push_field(lua_State *L, int list, int slot, int name) {
  lua_rawgeti(L, list, slot);
  lua_pushvalue(L, name);
  lua_rawget(L, -2);
}

/* Pushes an addition if the field is not what it was. `known`: some library had that name. */
static bool push_if_changed(lua_State *L, int list, int at, int name, bool known) {
  int top = lua_gettop(L);
  push_field(L, list, at + TABLE, name);
  if (known) push_field(L, list, at + COPY, name);
  if (known ? lua_rawequal(L, -1, top + 2) : lua_isnil(L, -1)) {
    lua_settop(L, top);
    return false;
  }
  lua_settop(L, top + 2);
  lua_replace(L, top + 1);
  make_addition(L, list, at, name);
  return true;
}

/* Names that are no identifiers are not looked up: texts of messages, above all. */
static bool is_identifier(const char *text, size_t size) {
  if (size == 0 || size > 40) return false;
  for (size_t i = 0; i < size; i++) {
    char c = text[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

int lumap_additions_push(lua_State *L) {
  int name = lua_gettop(L), list = name + 1, count, found = 0;
  bool known;
  if (!is_identifier(lua_tostring(L, name), lumap_rawlen(L, name))) return 0;
  luaL_checkstack(L, (int)(sizeof libraries / sizeof *libraries) + 10, NULL);
  push_list_of_libraries(L);
  count = (int)lumap_rawlen(L, list);
  push_field(L, list, 0, name);
  known = lua_toboolean(L, -1);
  lua_settop(L, list);
  for (int at = SLOTS; at < count; at += SLOTS)
    found += push_if_changed(L, list, at, name, known);
  lua_remove(L, list);
  return found;
}

/* Pushes an addition for each changed field of the metatable of strings whose key is in table `slot`; `missing`: for
   fields that are no longer there alone. The list of libraries stays on top. */
static int push_changed_fields(lua_State *L, int slot, bool missing) {
  int table = lua_gettop(L) + 1, found = 0;
  lua_rawgeti(L, table - 1, slot);
  lua_pushnil(L);
  while (lua_next(L, table)) {
    bool is_name = lua_type(L, -2) == LUA_TSTRING;
    lua_pop(L, 1);
    if (is_name && missing) {
      push_field(L, table - 1, TABLE, table + 1);
      is_name = lua_isnil(L, -1);
      lua_pop(L, 2);
    }
    if (is_name && push_if_changed(L, table - 1, 0, table + 1, true)) {
      lua_insert(L, table - 1);
      table++;
      found++;
    }
  }
  lua_settop(L, table - 1);
  return found;
}

int lumap_additions_push_operators(lua_State *L) {
  int found;
  luaL_checkstack(L, 60, NULL);
  push_list_of_libraries(L);
  found = push_changed_fields(L, TABLE, false);
  found += push_changed_fields(L, COPY, true);
  lua_pop(L, 1);
  return found;
}

/* Pushes the list `additions` of the table at `values`. */
static void push_list(lua_State *L, int values) {
  lua_pushliteral(L, "additions");
  lua_rawget(L, values);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushliteral(L, "additions");
  lua_pushvalue(L, -2);
  lua_rawset(L, values);
}

/* Pushes this state's table of the library whose name is the first `size` bytes of `name`; nil if it has none. */
static void push_own_table(lua_State *L, const char *name, size_t size) {
  int list, count;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &libraries_key);
  list = lua_gettop(L);
  count = (int)lumap_rawlen(L, list);
  lua_pushnil(L);
  for (int at = 0; at < count && lua_isnil(L, -1); at += SLOTS) {
    const char *own;
    lua_rawgeti(L, list, at + NAME);
    own = lua_tostring(L, -1);
    if (strlen(own) == size && memcmp(own, name, size) == 0) {
      lua_rawgeti(L, list, at + TABLE);
      lua_replace(L, list + 1);
    }
    lua_settop(L, list + 1);
  }
  lua_remove(L, list);
}

void lumap_additions_keep(lua_State *L, int values, bool refused) {
  int value = lua_gettop(L), name = value - 1;
  const char *text = lua_tostring(L, name), *dot = strchr(text, '.');
  if (dot) {
    push_list(L, values);
    lua_createtable(L, 4, 0);
    push_own_table(L, text, (size_t)(dot - text));
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, dot + 1);
    lua_rawseti(L, -2, 2);
    lua_pushvalue(L, value);
    lua_rawseti(L, -2, 3);
    lua_pushboolean(L, refused);
    lua_rawseti(L, -2, 4);
    lua_rawseti(L, -2, (int)lumap_rawlen(L, -2) + 1);
  }
  lua_settop(L, name - 1);
}
