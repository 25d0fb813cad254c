/* SPDX-License-Identifier: MIT */
#include "codec/cdata.h"
#include "lua/layout.h"

static const char *const type_name = "lumap.scope";

static int collect(lua_State *L) {
  lumap_scope *scope = lua_touserdata(L, 1);
  lumap_map_deinit(&scope->map);
  lumap_bytes_deinit(&scope->log);
  return 0;
}

static void new_slot(lua_State *L, int slot) {
  lua_newtable(L);
  lua_rawseti(L, -2, slot);
}

lumap_scope *lumap_scope_push(lua_State *L, bool writes) {
  lumap_scope *scope;
  /* Tried out here, where nobody holds anything that an error would lose. */
  lumap_layout_ask(L);
  lumap_need_class(L, type_name, collect);
  scope = lumap_new_object(L, sizeof *scope, writes ? LUMAP_SCOPE_READERS : LUMAP_SCOPE_ENVIRONMENT, type_name);
  scope->writes = writes;
  lumap_push_userdata_table(L, -1);
  new_slot(L, LUMAP_SCOPE_OBJECTS);
  if (writes) {
    for (int slot = LUMAP_SCOPE_CODES; slot <= LUMAP_SCOPE_READERS; slot++)
      new_slot(L, slot);
    lua_pop(L, 1);
  } else {
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, LUMAP_SCOPE_ENVIRONMENT);
    lua_pop(L, 1);
    lua_remove(L, -2);
  }
  return scope;
}

lumap_scope *lumap_scope_check(lua_State *L, int index) {
  return luaL_checkudata(L, index, type_name);
}

void lumap_scope_know(lua_State *L, int index) {
  lumap_scope *scope = lua_touserdata(L, index);
  bool is_type = lua_type(L, -1) == LUMAP_TCDATA;
  const void *object = is_type ? lumap_cdata_type_key(L, -1) : lua_topointer(L, -1);
  uint64_t offset = scope->log_size;
  lumap_scope_push_slot(L, lua_absindex(L, index), LUMAP_SCOPE_OBJECTS);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (int)offset);
  lua_pop(L, 1);
  if (!lumap_map_set(&scope->map, object, offset << 8 | LUMAP_SCOPE_IS_CLASS)) luaL_error(L, "not enough memory");
  scope->log_size++;
}

void lumap_scope_push_slot(lua_State *L, int index, int slot) {
  lumap_push_userdata_table(L, index);
  lua_rawgeti(L, -1, slot);
  lua_remove(L, -2);
}

void lumap_scope_forget_constants(lua_State *L, int index) {
  lumap_push_userdata_table(L, index);
  new_slot(L, LUMAP_SCOPE_CONSTANTS);
  lua_pop(L, 1);
}

/* ---- the call that runs ---- */

static const char environment_key;

void lumap_scope_enter(lua_State *L, int index) {
  if (index)
    lumap_scope_push_slot(L, index, LUMAP_SCOPE_ENVIRONMENT);
  else
    lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &environment_key);
}

void lumap_scope_push_environment(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &environment_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lumap_push_globals(L);
}

void lumap_scope_push_global(lua_State *L, int index) {
  index = lua_absindex(L, index);
  lumap_scope_push_environment(L);
  lua_pushvalue(L, index);
  lua_rawget(L, -2);
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return;
  /* What is missing there is looked up in the worker's own. */
  lua_pop(L, 1);
  lumap_push_globals(L);
  lua_pushvalue(L, index);
  lua_rawget(L, -2);
  lua_remove(L, -2);
}

/* ---- registered classes: registry[&classes_key] = { [name] = record, [metatable] = record, [number of a C type] =
 * record } ---- */

static const char classes_key;

bool lumap_classes_push_names(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

static void push_classes(lua_State *L) {
  if (lumap_classes_push_names(L)) return;
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &classes_key);
}

static bool replace_by_record(lua_State *L) {
  if (!lumap_classes_push_names(L)) {
    lua_pop(L, 1);
    return false;
  }
  lua_insert(L, -2);
  lua_rawget(L, -2);
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

bool lumap_classes_push_by_metatable(lua_State *L, int index) {
  lua_pushvalue(L, index);
  return replace_by_record(L);
}

bool lumap_classes_push_by_name(lua_State *L) {
  return replace_by_record(L);
}

void lumap_classes_register(lua_State *L, int name, int metatable, int pack, int unpack) {
  const int fields[] = {lua_absindex(L, name), lua_absindex(L, metatable), lua_absindex(L, pack),
                        lua_absindex(L, unpack)};
  luaL_checkstack(L, 8, NULL);
  push_classes(L);
  /* A name registered again stands for the new class alone. */
  lua_pushvalue(L, fields[0]);
  lua_rawget(L, -2);
  if (!lua_isnil(L, -1)) {
    lua_rawgeti(L, -1, LUMAP_CLASS_METATABLE);
    lumap_cdata_push_class_key(L, -1);
    lua_remove(L, -2);
    if (!lua_isnil(L, -1)) {
      lua_pushnil(L);
      lua_rawset(L, -4);
    } else {
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  lua_createtable(L, 4, 0);
  for (int i = 0; i < 4; i++) {
    lua_pushvalue(L, fields[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushvalue(L, fields[0]);
  lua_pushvalue(L, -2);
  lua_rawset(L, -4);
  if (!lua_isnil(L, fields[1])) {
    lumap_cdata_push_class_key(L, fields[1]);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
  }
  lua_pop(L, 2);
}

void lumap_classes_receive(lua_State *L, int name, int metatable, int pack, int unpack) {
  int top = lua_gettop(L);
  bool stays = false;
  luaL_checkstack(L, 4, NULL);
  lua_pushvalue(L, name);
  if (lua_isstring(L, unpack) && lumap_classes_push_by_name(L)) {
    lua_rawgeti(L, -1, LUMAP_CLASS_IS_RECEIVED);
    stays = !lua_toboolean(L, -1);
  }
  lua_settop(L, top);
  if (stays) return;
  lumap_classes_register(L, name, metatable, pack, unpack);
  lua_pushvalue(L, name);
  lumap_classes_push_by_name(L);
  lua_pushboolean(L, 1);
  lua_rawseti(L, -2, LUMAP_CLASS_IS_RECEIVED);
  lua_pop(L, 1);
}
