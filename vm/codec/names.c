/* SPDX-License-Identifier: MIT
 *
 * The index is a map from an object's address to an entry number, and a flat list of two slots an entry: the number of
 * the entry it lies in (0: it is a module) and its key there. Standard objects are kept alive, and keep their names
 * even where a script has put something else in their place. Of others the address may be reused after a collection, so
 * a hit counts only if the name leads to the very object. What stands in for a standard function has that one's entry.
 */
#include "codec/names.h"

#include <string.h>

#include "base/map.h"
#include "codec/additions.h"
#include "lua/snapshot.h"
#include "lua/state.h"

enum { DEEPEST = 3, MOST_ENTRIES = 50000 };

/* Slots of the table that belongs to the index. */
enum { ENTRIES = 1, STANDARD_GLOBALS, PRELOADED, FINDABLE, STANDARD_OBJECTS, COPIES, STAND_INS };

struct lumap_names {
  lumap_map map;
  uint64_t fingerprint; /* of package.loaded, when it was last looked at */
  uint64_t count;       /* entries */
  uint64_t standard;    /* entries that every state has */
  bool made;            /* there is an index */
};

static const char names_key;
static const char *const type_name = "lumap.names";

static int collect(lua_State *L) {
  lumap_names *names = lua_touserdata(L, 1);
  lumap_map_deinit(&names->map);
  return 0;
}

/* The key is on top; it stays there. */
static uint64_t add(lua_State *L, lumap_names *names, const void *object, uint64_t parent, int entries) {
  if (names->count >= MOST_ENTRIES || lumap_map_find(&names->map, object)) return 0;
  names->count++;
  lua_pushnumber(L, (lua_Number)parent);
  lua_rawseti(L, entries, (int)(2 * names->count - 1));
  lua_pushvalue(L, -1);
  lua_rawseti(L, entries, (int)(2 * names->count));
  if (!lumap_map_set(&names->map, object, names->count)) luaL_error(L, "not enough memory");
  return names->count;
}

static bool can_be_named(lua_State *L, int index) {
  return lua_istable(L, index) || lua_isfunction(L, index);
}

/* Replaces the table on top by its field, the string at `key`; nil for what is no table. Raw: nothing runs. */
static void step_into(lua_State *L, int key) {
  if (lua_istable(L, -1)) {
    lua_pushvalue(L, key);
    lua_rawget(L, -2);
  } else {
    lua_pushnil(L);
  }
  lua_remove(L, -2);
}

/* Pushes the loaded module whose name is the string at `key`; nil if there is none. The methods of files count as a
   module: every state has them. [-0, +1] */
static void push_module(lua_State *L, int key) {
  key = lua_absindex(L, key);
  if (strcmp(lua_tostring(L, key), LUA_FILEHANDLE) == 0) {
    lua_pushliteral(L, "__index");
    luaL_getmetatable(L, LUA_FILEHANDLE);
    step_into(L, lua_gettop(L) - 1);
    lua_remove(L, -2);
  } else {
    lumap_push_loaded(L);
    step_into(L, key);
  }
}

/* package.loaded and package.preload: what is in them has names of its own, and may be a script's. */
static bool is_registry(lua_State *L, int index) {
  int top = lua_gettop(L);
  bool found;
  index = lua_absindex(L, index);
  lumap_push_loaded(L);
  found = lua_rawequal(L, -1, index);
  lua_getfield(L, -1, "package");
  if (!found && lua_istable(L, -1)) {
    lua_pushliteral(L, "preload");
    lua_rawget(L, -2);
    found = lua_rawequal(L, -1, index);
  }
  lua_settop(L, top);
  return found;
}

/* Adds the fields of the table on top, which is entry `parent`. */
static void add_fields(lua_State *L, lumap_names *names, uint64_t parent, int depth, int entries) {
  luaL_checkstack(L, 8, "modules nested too deeply");
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    if (lua_type(L, -2) == LUA_TSTRING && can_be_named(L, -1)) {
      uint64_t entry;
      lua_pushvalue(L, -2);
      entry = add(L, names, lua_topointer(L, -2), parent, entries);
      lua_pop(L, 1);
      if (entry && lua_istable(L, -1) && depth < DEEPEST && !is_registry(L, -1))
        add_fields(L, names, entry, depth + 1, entries);
    }
    lua_pop(L, 1);
  }
}

/* Modules that every state has from the start. */
static bool is_standard_module(const char *name) {
  static const char *const names[] = {"_G",   "package", "coroutine", "table", "io",  "os",      "string",
                                      "math", "utf8",    "debug",     "bit",   "jit", "jit.opt", "ffi"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i], name) == 0) return true;
  return lumap_embedded_find(name) != NULL;
}

/* Sets slot COPIES of the table on top: module -> a snapshot of what is in it, for those that lumap_additions_restore
   does not know. [-0, +0] */
static void copy_modules(lua_State *L) {
  static const char *const names[] = {"parallel", "codec", "package", "jit", LUA_FILEHANDLE};
  int own = lua_gettop(L);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++, lua_settop(L, own + 1)) {
    lua_pushstring(L, names[i]);
    push_module(L, -1);
    if (!lua_istable(L, -1)) continue;
    lumap_snapshot_push(L, -1);
    lua_rawset(L, own + 1);
  }
  lua_rawseti(L, own, COPIES);
}

/* Pushes the snapshot in slot COPIES of the module at `index`; nil if there is none. [-0, +1] */
static void push_copied(lua_State *L, int index) {
  index = lua_absindex(L, index);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  lua_replace(L, -2);
  lua_rawgeti(L, -1, COPIES);
  lua_replace(L, -2);
  step_into(L, index);
}

/* Replaces the module on top by the copy of it in slot COPIES, if there is one. */
static void restore_copied(lua_State *L) {
  push_copied(L, -1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
  } else {
    lumap_snapshot_open(L);
    lua_replace(L, -2);
  }
}

/* Replaces the module on top by what it held when the state was opened, as far as that is kept. */
static void restore_module(lua_State *L) {
  lumap_push_globals(L);
  if (lua_rawequal(L, -1, -2)) {
    lua_pop(L, 2);
    lumap_names_push_standard_globals(L);
  } else {
    lua_pop(L, 1);
    lumap_additions_restore(L);
    restore_copied(L);
  }
}

/* Modules first, so that a module that is also a field of another keeps its own name. `standard`: those that every
   state has, as they were. */
static void add_modules(lua_State *L, lumap_names *names, bool standard) {
  uint64_t first = names->count;
  int entries, loaded;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  lua_rawgeti(L, -1, ENTRIES);
  entries = lua_gettop(L);
  lumap_push_loaded(L);
  loaded = lua_gettop(L);
  if (standard) {
    lua_pushliteral(L, LUA_FILEHANDLE);
    push_module(L, -1);
    lua_insert(L, -2);
    if (can_be_named(L, -2)) add(L, names, lua_topointer(L, -2), 0, entries);
    lua_settop(L, loaded);
  }
  lua_pushnil(L);
  while (lua_next(L, loaded)) {
    if (lua_type(L, -2) == LUA_TSTRING && can_be_named(L, -1) &&
        (!standard || is_standard_module(lua_tostring(L, -2)))) {
      lua_pushvalue(L, -2);
      add(L, names, lua_topointer(L, -2), 0, entries);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  for (uint64_t entry = first + 1, last = names->count; entry <= last; entry++) {
    lua_rawgeti(L, entries, (int)(2 * entry));
    push_module(L, -1);
    if (lua_istable(L, -1)) {
      if (standard) restore_module(L);
      add_fields(L, names, entry, 1, entries);
    }
    lua_pop(L, 2);
  }
  lua_pop(L, 4);
}

/* Keeps the objects of all entries alive. The table of the index is on top. [-0, +0] */
static void keep_objects(lua_State *L, const lumap_names *names) {
  lua_rawgeti(L, -1, ENTRIES);
  lua_createtable(L, (int)names->count, 0);
  for (uint64_t entry = 1; entry <= names->count; entry++) {
    int parent;
    lua_rawgeti(L, -2, (int)(2 * entry - 1));
    parent = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_rawgeti(L, -2, (int)(2 * entry));
    if (parent == 0) {
      push_module(L, -1);
    } else {
      lua_rawgeti(L, -2, parent);
      step_into(L, lua_gettop(L) - 1);
    }
    lua_rawseti(L, -3, (int)entry);
    lua_pop(L, 1);
  }
  lua_rawseti(L, -3, STANDARD_OBJECTS);
  lua_pop(L, 1);
}

static uint64_t fingerprint(lua_State *L) {
  uint64_t sum = 0;
  lumap_push_loaded(L);
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    sum += ((uintptr_t)lua_topointer(L, -1) >> 3) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return sum;
}

/* Sets slot PRELOADED of the table on top to a snapshot of package.preload: modules that every state can load without a
   file, beside the embedded ones. [-0, +0] */
static void note_preloaded(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lumap_snapshot_push(L, -1);
  lua_rawseti(L, -4, PRELOADED);
  lua_pop(L, 2);
}

void lumap_names_open(lua_State *L, bool scripted) {
  lumap_names *names;
  lumap_need_class(L, type_name, collect);
  names = lumap_new_object(L, sizeof *names, 0, type_name);
  lumap_push_userdata_table(L, -1);
  lua_newtable(L);
  lua_rawseti(L, -2, ENTRIES);
  lumap_push_first_globals(L);
  /* Our own code runs on the first globals: they are its alone where somebody may take things away from the others. */
  if (scripted) {
    lumap_snapshot_push(L, -1);
    lua_replace(L, -2);
  }
  lua_rawseti(L, -2, STANDARD_GLOBALS);
  note_preloaded(L);
  if (scripted) copy_modules(L);
  lua_pop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
}

/* Gives what stands in for a standard function, or the function itself where the index has found the other one, their
   common entry. [-0, +0] */
static void share_entry(lua_State *L, lumap_names *names, int stock, int stand_in) {
  const void *objects[] = {lua_topointer(L, stock), lua_topointer(L, stand_in)};
  for (int i = 0; i < 2; i++) {
    uint64_t *hit = lumap_map_find(&names->map, objects[i]);
    if (!hit || lumap_map_find(&names->map, objects[1 - i])) continue;
    if (!lumap_map_set(&names->map, objects[1 - i], *hit)) luaL_error(L, "not enough memory");
  }
}

/* The table of the index is on top. The last ones first: they are what is in the libraries. [-0, +0] */
static void name_stand_ins(lua_State *L, lumap_names *names) {
  int list = lua_gettop(L) + 1;
  lua_rawgeti(L, -1, STAND_INS);
  for (int at = lua_istable(L, list) ? (int)lumap_rawlen(L, list) : 0; at > 0; at -= 2) {
    lua_rawgeti(L, list, at - 1);
    lua_rawgeti(L, list, at);
    share_entry(L, names, list + 1, list + 2);
    lua_settop(L, list);
  }
  lua_pop(L, 1);
}

static void make_index(lua_State *L, lumap_names *names) {
  lumap_map_drop_from(&names->map, 0);
  names->count = 0;
  add_modules(L, names, true);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  keep_objects(L, names);
  name_stand_ins(L, names);
  lua_pop(L, 2);
  names->standard = names->count;
  names->made = true;
}

lumap_names *lumap_names_get(lua_State *L) {
  lumap_names *names;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  names = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return names;
}

void lumap_names_refresh(lua_State *L, lumap_names *names) {
  uint64_t now = fingerprint(L);
  if (!names->made) make_index(L, names);
  if (now == names->fingerprint) return;
  lumap_map_drop_from(&names->map, names->standard + 1);
  names->count = names->standard;
  add_modules(L, names, false);
  names->fingerprint = now;
}

/* Pushes the answers that are known: module -> can it be found? [-0, +1] */
static void push_findable(lua_State *L, int owned) {
  lua_rawgeti(L, owned, FINDABLE);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_rawgeti(L, owned, PRELOADED);
  lumap_snapshot_open(L);
  lua_pushvalue(L, -1);
  lua_rawseti(L, owned, FINDABLE);
}

/* Can another state require `module`, the string on top? The answer is kept. [-0, +0] */
static const char finder[] = "local name = ...\n"
                             "local root = name:match('^[^.]*')\n"
                             "local search = package.searchpath\n"
                             "return (search(name, package.path) or search(name, package.cpath)\n"
                             "  or search(root, package.cpath)) ~= nil";

static bool is_findable(lua_State *L, int owned) {
  bool found;
  if (lumap_embedded_find(lua_tostring(L, -1))) return true;
  push_findable(L, owned);
  lua_pushvalue(L, -2);
  lua_rawget(L, -2);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    if (luaL_loadbuffer(L, finder, sizeof finder - 1, "=[lumap]/finder") != 0) lua_error(L);
    lua_pushvalue(L, -3);
    lua_call(L, 1, 1);
    lua_pushvalue(L, -3);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
  }
  found = lua_toboolean(L, -1);
  lua_pop(L, 2);
  return found;
}

bool lumap_names_has(const lumap_names *names, const void *object) {
  return lumap_map_find(&names->map, object) != NULL;
}

int lumap_names_push(lua_State *L, lumap_names *names, int index) {
  uint64_t *hit = lumap_map_find(&names->map, lua_topointer(L, index));
  uint64_t entry = hit ? *hit : 0, chain[DEEPEST + 2];
  int parts = 0, base, owned;
  bool usable;
  if (!entry) return 0;
  index = lua_absindex(L, index);
  luaL_checkstack(L, DEEPEST + 12, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  owned = lua_gettop(L);
  lua_rawgeti(L, owned, ENTRIES);
  for (uint64_t at = entry; at; parts++) {
    chain[parts] = at;
    lua_rawgeti(L, -1, (int)(2 * at - 1));
    at = (uint64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  base = lua_gettop(L);
  for (int i = parts - 1; i >= 0; i--)
    lua_rawgeti(L, base, (int)(2 * chain[i]));
  if (entry > names->standard) {
    lua_pushvalue(L, base + 1);
    usable = chain[parts - 1] <= names->standard || is_findable(L, owned);
    lua_pop(L, 1);
    lumap_push_loaded(L);
    for (int i = 1; i <= parts; i++)
      step_into(L, base + i);
    usable = usable && lua_rawequal(L, -1, index);
    lua_pop(L, 1);
  } else {
    usable = true;
  }
  if (!usable) {
    lua_settop(L, owned - 2);
    return 0;
  }
  for (int i = 0; i < 3; i++)
    lua_remove(L, owned - 1);
  return parts;
}

bool lumap_names_resolve(lua_State *L, int parts) {
  int base = lua_gettop(L) - parts, code;
  const char *module = lua_tostring(L, base + 1);
  bool found = true;
  if (strcmp(module, "_G") == 0) {
    lumap_names_push_standard_globals(L);
  } else if (strcmp(module, "ffi") == 0) {
    lua_pushnil(L); /* required, loaded or not: code with a literal 1LL loads it behind everybody's back */
  } else {
    push_module(L, base + 1);
  }
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_getglobal(L, "require");
    lua_pushvalue(L, base + 1);
    code = lua_pcall(L, 1, 1, 0);
    if (lumap_is_out_of_memory(L, code)) lua_error(L);
    if (code != 0) {
      const char *text = lua_tostring(L, -1);
      lua_pushfstring(L, "module '%s' cannot be loaded: %s", lua_tostring(L, base + 1), text ? text : "(no message)");
      lua_remove(L, -2);
      found = false;
    }
  }
  for (int i = 2; i <= parts && found; i++) {
    step_into(L, base + i);
    if (lua_isnil(L, -1)) {
      lua_pushfstring(L, "module '%s' has no field '%s' here", lua_tostring(L, base + 1), lua_tostring(L, base + i));
      lua_remove(L, -2);
      found = false;
    }
  }
  lua_insert(L, base + 1);
  lua_settop(L, base + 1);
  return found;
}

void lumap_names_push_standard_globals(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  lua_rawgeti(L, -1, STANDARD_GLOBALS);
  if (lua_isfunction(L, -1)) {
    lumap_snapshot_open(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, STANDARD_GLOBALS);
  }
  lua_insert(L, -3);
  lua_pop(L, 2);
}

bool lumap_names_is_standard_global(lua_State *L, lumap_names *names, int name_index) {
  bool same;
  (void)names;
  name_index = lua_absindex(L, name_index);
  lumap_names_push_standard_globals(L);
  lua_pushvalue(L, name_index);
  lua_rawget(L, -2);
  same = lua_rawequal(L, -1, -3);
  lua_pop(L, 2);
  return same;
}

/* Is the field `key` of the module at `module` what it was when the state was opened? [-0, +0] */
static bool is_as_opened(lua_State *L, int module, int key) {
  int top = lua_gettop(L);
  bool same;
  lua_pushvalue(L, module);
  step_into(L, key);
  lua_pushvalue(L, module);
  restore_module(L);
  step_into(L, key);
  same = lua_rawequal(L, -1, -2);
  lua_settop(L, top);
  return same;
}

/* Notes that the function at `own` stands in for the one at `stock`. Both are kept alive. [-0, +0] */
static void note_stand_in(lua_State *L, lumap_names *names, int stock, int own) {
  int top = lua_gettop(L), count;
  if (names->made) share_entry(L, names, stock, own);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
  lumap_push_userdata_table(L, -1);
  lua_rawgeti(L, -1, STAND_INS);
  if (lua_isnil(L, -1)) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, top + 2, STAND_INS);
    lua_replace(L, top + 3);
  }
  count = (int)lumap_rawlen(L, top + 3);
  lua_pushvalue(L, stock);
  lua_rawseti(L, top + 3, count + 1);
  lua_pushvalue(L, own);
  lua_rawseti(L, top + 3, count + 2);
  lua_settop(L, top);
}

/* What is noted of the module at `module`, as it was when the state was opened, has the value at `own` from now on.
   [-0, +0] */
static void accept(lua_State *L, const char *name, int module, int key, int own) {
  int top = lua_gettop(L);
  if (strcmp(name, "_G") == 0)
    lumap_names_push_standard_globals(L);
  else
    push_copied(L, module);
  lua_pushvalue(L, key);
  lua_pushvalue(L, own);
  if (!lua_isnil(L, top + 1)) lumap_snapshot_set(L, top + 1);
  lua_settop(L, top);
  lumap_additions_accept(L, name, lua_tostring(L, key));
}

void lumap_names_replace(lua_State *L, const char *module, const char *field) {
  lumap_names *names = lumap_names_get(L);
  int own = lua_gettop(L), place = own + 1, key = own + 2, stock = own + 3;
  luaL_checkstack(L, 16, NULL);
  lua_pushstring(L, module);
  push_module(L, -1);
  lua_replace(L, place);
  lua_pushstring(L, field);
  lua_pushvalue(L, place);
  step_into(L, key);
  if (lua_isfunction(L, stock) && (!names || is_as_opened(L, place, key))) {
    lua_pushvalue(L, key);
    lua_pushvalue(L, own);
    lua_rawset(L, place);
    if (names) {
      note_stand_in(L, names, stock, own);
      accept(L, module, place, key, own);
    }
  }
  lua_settop(L, own - 1);
}
