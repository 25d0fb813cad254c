/* SPDX-License-Identifier: MIT */
#include "lua/maker.h"

static const char scratch_key, spare_key;

/* As many as the largest of the tables that are copied have, the globals, or somewhat more. */
enum { MANY_FIELDS = 60 };

/* ---- trying it out ------------------------------------------------------------------------------------------ */

static bool text_fits(lua_State *L, int index) {
  size_t size;
  const char *bytes = lua_tolstring(L, index, &size);
  const lumap_text *text = lua_topointer(L, index);
  return text && (const char *)text->bytes == bytes && lumap_text_size(text) == size &&
         (text->kind & 0x0F) == LUMAP_SLOT_STRING_TYPE;
}

static bool slot_holds(lua_State *L, const lumap_slot *slot, int index) {
  lumap_slot_kind kind = lumap_slot_kind_of(slot);
  lumap_slot made;
  switch (lua_type(L, index)) {
  case LUA_TNUMBER:
    if (kind == LUMAP_SLOT_INTEGER) return (lua_Number)lumap_slot_integer(slot) == lua_tonumber(L, index);
    return kind == LUMAP_SLOT_DOUBLE && lumap_slot_double(slot) == lua_tonumber(L, index);
  case LUA_TBOOLEAN:
    return kind == (lua_toboolean(L, index) ? LUMAP_SLOT_TRUE : LUMAP_SLOT_FALSE);
  case LUA_TSTRING:
  case LUA_TTABLE:
    lumap_slot_set_object(&made, lua_topointer(L, index));
    return kind == (lua_istable(L, index) ? LUMAP_SLOT_TABLE : LUMAP_SLOT_STRING) &&
           lumap_slot_object(slot) == lua_topointer(L, index) && lumap_slot_equal(slot, &made);
  default:
    return kind == LUMAP_SLOT_OTHER;
  }
}

/* Fields that are compared before any pointer is followed: a layout of another kind differs in one of them. */
static bool header_fits(lua_State *L, const lumap_table *table, const void *metatable, size_t list, size_t nodes) {
  size_t count;
  (void)L;
  if (table->kind != LUMAP_SLOT_TABLE_TYPE || table->metatable != metatable || !lumap_table_is_fresh(table))
    return false;
  lumap_table_list(table, &count);
  return count == list && lumap_table_node_count(table) == nodes;
}

/* The table at `table` has a list of `count` values, lying at stack indexes from `values` on. */
static bool list_fits(lua_State *L, int table, size_t count, int values) {
  size_t room;
  const lumap_slot *list = lumap_table_list(lua_topointer(L, table), &room);
  for (size_t i = 0; i < count; i++)
    if (!slot_holds(L, &list[i], values + (int)i)) return false;
  return true;
}

/* Each key of the table at `index` is in one node, with its value; the other nodes are nil. */
static bool nodes_fit(lua_State *L, int index, size_t keys) {
  const lumap_table *table = lua_topointer(L, index);
  size_t found = 0;
  for (size_t i = 0; i < lumap_table_node_count(table); i++) {
    lumap_slot key = lumap_node_key(&table->nodes[i]);
    if (lumap_slot_is_nil(lumap_node_value(&table->nodes[i]))) continue;
    if (lumap_slot_kind_of(&key) != LUMAP_SLOT_STRING) return false;
    lua_pushstring(L, ((const lumap_text *)lumap_slot_object(&key))->bytes);
    lua_pushvalue(L, -1);
    lua_rawget(L, index);
    if (!slot_holds(L, &key, -2) || !slot_holds(L, lumap_node_value(&table->nodes[i]), -1)) return false;
    lua_pop(L, 2);
    found++;
  }
  return found == keys;
}

static const char *const names[] = {"alpha", "beta", "gamma", "__index", "epsilon"};
enum { NAMES = 5, NODES = 8 };

/* In the table on top, made for so many keys: what is stored past the API is what the API finds, and the table grows as
   any other does. */
static bool copy_fits(lua_State *L, int model) {
  int copy = lua_gettop(L);
  lumap_node nodes[NODES];
  uint32_t free;
  bool chained;
  lumap_table_get_nodes(lua_topointer(L, model), nodes, &free, &chained);
  lumap_table_set_nodes((lumap_table *)(uintptr_t)lua_topointer(L, copy), nodes, NODES, free, chained);
  lua_pushnil(L);
  if (lua_next(L, copy)) return false;
  for (size_t i = 0; i < lumap_table_node_count(lua_topointer(L, copy)); i++) {
    lumap_node *node = &((const lumap_table *)lua_topointer(L, copy))->nodes[i];
    lumap_slot key = lumap_node_key(node);
    if (lumap_slot_kind_of(&key) == LUMAP_SLOT_STRING) lumap_slot_set_double(lumap_node_value(node), 0.5);
  }
  for (int i = 0; i < 40; i++) {
    lua_pushinteger(L, i);
    lua_pushfstring(L, "%d", i);
    lua_rawset(L, copy);
  }
  for (int i = 0; i < NAMES; i++) {
    lua_getfield(L, copy, names[i]);
    if (lua_tonumber(L, -1) != 0.5) return false;
    lua_pop(L, 1);
  }
  return true;
}

/* The end of the stack moves by a slot with each value, which lies in that. */
static bool stack_fits(lua_State *L) {
  const lumap_slot *slot = *lumap_stack_top(L);
  bool result;
  lua_pushnumber(L, 2.5);
  result = *lumap_stack_top(L) == slot + 1 && slot_holds(L, slot, -1);
  if (result)
    lumap_stack_drop(L);
  else
    lua_pop(L, 1);
  return result && *lumap_stack_top(L) == slot;
}

/* ---- trying out to make tables ------------------------------------------------------------------------------ */

/* Bytes that the state holds, by its own count. */
static size_t bytes_held(const lumap_global *global) {
#if LUMAP_VM_IS_LUAJIT
  return global->made;
#else
  return global->counted + global->made;
#endif
}

static bool global_fits(lua_State *L, const lumap_global *global) {
  void *data;
  lua_Alloc allocate = lua_getallocf(L, &data);
  size_t bytes = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB, 0);
  return global->allocate == allocate && global->data == data && bytes_held(global) == bytes;
}

/* Are the tables the same but for what is theirs alone? */
static bool headers_equal(const lumap_table *one, const lumap_table *other) {
  lumap_table a = *one, b = *other;
  if (!a.array != !b.array || (a.nodes == b.nodes) != (lumap_table_node_count(&a) == 1)) return false;
  a.gc_next = b.gc_next;
  a.gc_list = b.gc_list;
  a.array = b.array;
  a.nodes = b.nodes;
  a.free_top = b.free_top;
#if LUMAP_VM_IS_LUAJIT
  a.gap = b.gap;
#endif
  return memcmp(&a, &b, sizeof a) == 0;
}

/* Pushes a table that was made here and one that the API made: do they cost the same, and look the same? [-0, +2] */
static bool made_fits(lua_State *L, lumap_maker *maker, int list, int keys) {
  size_t start = bytes_held(maker->global), between;
  lumap_table *table = keys ? lumap_make_record(maker, NODES) : lumap_make_list(maker, (size_t)list);
  lumap_node *nodes;
  if (!table) return false;
  nodes = table->nodes;
  /* Until the nodes are written nothing may look at them. */
  if (keys) memset(nodes, 0, NODES * sizeof *nodes);
  lumap_stack_push_table(L, table);
  between = bytes_held(maker->global);
  lua_createtable(L, list, keys);
  return bytes_held(maker->global) - between == between - start && headers_equal(table, lumap_stack_object(L));
}

/* With the blank table on top, and the one with the names at `record`. The collector rests. [-0, +0] */
static bool makers_fit(lua_State *L, int record) {
  lumap_maker maker = {.global = lumap_global_of(L), .blank = lumap_stack_object(L)};
  int top = lua_gettop(L);
  bool result;
  if (!global_fits(L, maker.global)) return false;
  lua_createtable(L, 0, 0);
  lumap_maker_set_model(&maker, L);
  lua_createtable(L, 2, 0);
  /* The newest object comes first in the list. */
  result = ((lumap_table *)lumap_stack_object(L))->gc_next == maker.model;
  lumap_maker_set_model(&maker, L);
  result = result && made_fits(L, &maker, 1, 0) && made_fits(L, &maker, LUMAP_LIST_MADE, 0) &&
           made_fits(L, &maker, 0, NAMES);
  if (result) {
    lua_pop(L, 1);
    result = copy_fits(L, record) && global_fits(L, maker.global);
  }
  lua_settop(L, top);
  return result;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

/* Is everything where the header says? With the collector at rest `*makes` tells whether tables can be made. [-0, +0]
 */
static bool fits(lua_State *L, bool *makes) {
  int values = lua_gettop(L) + 1, metatable = values + 5, table = values + 6, record = values + 7;
  bool result;
  luaL_checkstack(L, 30, NULL);
  lua_pushnumber(L, 2.5);
  lua_pushinteger(L, 7);
  lua_pushliteral(L, "a text that is longer than what any virtual machine keeps once only");
  lua_pushboolean(L, 1);
  lua_pushboolean(L, 0);
  lua_newtable(L);
  lua_createtable(L, 5, 0);
  for (int i = 0; i < 5; i++) {
    lua_pushvalue(L, values + i);
    lua_rawseti(L, table, i + 1);
  }
  lua_pushvalue(L, metatable);
  lua_setmetatable(L, table);
  lua_createtable(L, 0, NAMES);
  for (int i = 0; i < NAMES; i++) {
    lua_pushvalue(L, i == NAMES - 1 ? metatable : values + i);
    lua_setfield(L, record, names[i]);
  }
  lua_pushliteral(L, "short");
  result = stack_fits(L) && text_fits(L, values + 2) && text_fits(L, -1) &&
           header_fits(L, lua_topointer(L, table), lua_topointer(L, metatable), 5, 1) &&
           header_fits(L, lua_topointer(L, record), NULL, 0, NODES) && list_fits(L, table, 5, values) &&
           nodes_fit(L, record, NAMES);
  lua_createtable(L, 0, NAMES);
  result = result && header_fits(L, lua_topointer(L, -1), NULL, 0, NODES) && copy_fits(L, record);
  lua_createtable(L, LUMAP_SCRATCH_SLOTS, 0);
  *makes = result && makers_fit(L, record);
  lua_settop(L, values - 1);
  return result;
}

/* ---- what a state keeps of it ------------------------------------------------------------------------------- */

void lumap_layout_trust(lua_State *L, lumap_layout_known known) {
  size_t count;
  lumap_slot *slots;
  if (known == LUMAP_LAYOUT_UNKNOWN) return;
  lua_createtable(L, LUMAP_SCRATCH_SLOTS, 0);
  slots = lumap_table_list(lua_topointer(L, -1), &count);
  if (count == LUMAP_SCRATCH_SLOTS) {
    lumap_slot_set_boolean(&slots[LUMAP_SCRATCH_MAKES], known == LUMAP_LAYOUT_MAKES);
  } else {
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
}

static int try_out(lua_State *L) {
  bool makes = false;
  if (sizeof(void *) == 8 && fits(L, &makes)) {
    lumap_layout_trust(L, makes ? LUMAP_LAYOUT_MAKES : LUMAP_LAYOUT_FITS);
  } else {
    lua_pushboolean(L, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
  }
  return 0;
}

lumap_slot *lumap_layout_push(lua_State *L) {
  size_t count;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    /* A collection in the midst of it would mark what must look fresh. */
    lua_pushcfunction(L, try_out);
    if (lumap_pcall_at_rest(L, 0, 0) != 0) lua_error(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
  }
  return lua_istable(L, -1) ? lumap_table_list(lua_topointer(L, -1), &count) : NULL;
}

lumap_layout_known lumap_layout_ask(lua_State *L) {
  const lumap_slot *scratch = lumap_layout_push(L);
  lumap_layout_known known = LUMAP_LAYOUT_UNKNOWN;
  if (scratch) {
    bool makes = lumap_slot_kind_of(&scratch[LUMAP_SCRATCH_MAKES]) == LUMAP_SLOT_TRUE;
    known = makes ? LUMAP_LAYOUT_MAKES : LUMAP_LAYOUT_FITS;
  }
  lua_pop(L, 1);
  return known;
}

bool lumap_layout_use(lua_State *L, bool wanted) {
  const void *from = wanted ? &spare_key : &scratch_key, *to = wanted ? &scratch_key : &spare_key;
  lumap_layout_ask(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, from);
  if (lua_istable(L, -1)) {
    lua_rawsetp(L, LUA_REGISTRYINDEX, to);
    lua_pushboolean(L, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, from);
  } else {
    lua_pop(L, 1);
  }
  return lumap_layout_ask(L) != LUMAP_LAYOUT_UNKNOWN;
}

/* ---- keys --------------------------------------------------------------------------------------------------- */

/* Nodes are chained by address in LuaJIT, which becomes the node's number, from 1; by distance in 5.4. Both fill them
   from the end down to `free_top`. */
void lumap_table_get_nodes(const lumap_table *table, lumap_node *nodes, uint32_t *free, bool *chained) {
  size_t count = lumap_table_node_count(table);
  *free = (uint32_t)(table->free_top - table->nodes);
  *chained = false;
  memcpy(nodes, table->nodes, count * sizeof *nodes);
  for (size_t i = 0; i < count; i++) {
    lumap_slot_set_nil(lumap_node_value(&nodes[i]));
#if LUMAP_VM_IS_LUAJIT
    if (!nodes[i].next) continue;
    nodes[i].next = (lumap_node *)(uintptr_t)(nodes[i].next - table->nodes + 1);
    *chained = true;
#endif
  }
}

/* ---- copies ------------------------------------------------------------------------------------------------- */

bool lumap_layout_is_known(lua_State *L) {
  bool known;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
  known = lua_istable(L, -1);
  lua_pop(L, 1);
  return known;
}

/* The table on top, which has room for as many nodes as the other one, becomes its copy. No barrier is needed for what
   has just been made. */
static bool copy_nodes(lua_State *L, const lumap_table *from) {
  lumap_table *copy = lumap_stack_object(L);
  size_t count = lumap_table_node_count(from), has;
  lumap_table_list(copy, &has);
  if (has > 0 || lumap_table_node_count(copy) != count || !lumap_table_is_fresh(copy)) return false;
  memcpy(copy->nodes, from->nodes, count * sizeof *from->nodes);
#if LUMAP_VM_IS_LUAJIT
  for (size_t i = 0; i < count; i++)
    if (from->nodes[i].next) copy->nodes[i].next = copy->nodes + (from->nodes[i].next - from->nodes);
#endif
  copy->free_top = copy->nodes + (from->free_top - from->nodes);
  lumap_table_forget_absent(copy);
  return true;
}

static void copy_fields(lua_State *L, int from) {
  int copy = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, from)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, copy);
  }
}

void lumap_table_push_copy(lua_State *L, int index) {
  const lumap_table *from = lua_topointer(L, index);
  size_t has_list = 1;
  index = lua_absindex(L, index);
  if (!lumap_layout_is_known(L)) {
    lua_createtable(L, 0, MANY_FIELDS);
    copy_fields(L, index);
    return;
  }
  lumap_table_list(from, &has_list);
  lua_createtable(L, 0, (int)lumap_table_node_count(from));
  if (has_list || lumap_table_has_no_nodes(from) || !copy_nodes(L, from)) copy_fields(L, index);
}
