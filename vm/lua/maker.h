/* SPDX-License-Identifier: MIT
 *
 * maker.h - tables made while the collector rests, as lua_createtable makes them, but for what that has to ask and to
 * look at: most of its time. For loops that make a table for each few bytes.
 *
 * What the VM would do is done here: memory comes from the state's allocator, counts as the VM counts it, and becomes
 * an object in the VM's list of them. A state tries that out when it is opened (layout.c), and where it is not found as
 * written here a maker makes nothing and the caller goes through the C API; so it does when the allocator gives
 * nothing, since the VM may collect then, or raise its error.
 */
#ifndef LUMAP_LUA_MAKER_H
#define LUMAP_LUA_MAKER_H

#include "lua/layout.h"

/* A new table goes into the VM's list of objects right behind a model: a table that the API made during the same rest,
 * so that both are of one colour and one age. A collection that was asked for meanwhile, or that 5.4 ran for want of
 * memory, shows in the model, which is of another colour or age then, and so does a finalizer, for which 5.4 moves it
 * to another list. Whoever uses a maker keeps the model alive. */
typedef struct lumap_maker {
  lumap_global *global;
  const lumap_table *blank; /* a table without nodes; NULL: all is left to the API */
  lumap_table *model;       /* NULL: none yet */
  uint8_t marked;           /* as the model was when it was made */
} lumap_maker;

static inline lumap_global *lumap_global_of(lua_State *L) {
  return *(lumap_global **)((char *)L + LUMAP_STATE_GLOBAL);
}

/* A maker without a model; `scratch` is what lumap_layout_push gave, its table on top. [-0, +0] */
static inline void lumap_maker_init(lumap_maker *maker, lua_State *L, const lumap_slot *scratch) {
  *maker = (lumap_maker){.global = lumap_global_of(L)};
  if (scratch && lumap_slot_kind_of(&scratch[LUMAP_SCRATCH_MAKES]) == LUMAP_SLOT_TRUE)
    maker->blank = lumap_stack_object(L);
}

/* Takes the table on top, which lua_createtable has just made, for a model. */
static inline void lumap_maker_set_model(lumap_maker *maker, lua_State *L) {
  maker->model = maker->blank ? lumap_stack_object(L) : NULL;
  if (maker->model) maker->marked = maker->model->marked;
}

static inline bool lumap_maker_is_ready(const lumap_maker *maker) {
  return maker->model && maker->model->marked == maker->marked;
}

/* For the three below: a table of `size` bytes in all, to which the VM has not been introduced. */
static inline void lumap_maker_introduce(lumap_maker *maker, lumap_table *table, size_t size) {
  table->marked = maker->marked;
  table->gc_next = maker->model->gc_next;
  maker->model->gc_next = table;
  maker->global->made += size;
}

static inline void *lumap_maker_take(lumap_maker *maker, size_t size) {
  return maker->global->allocate(maker->global->data, NULL, 0, size);
}

/* For few slots. Where nil is all ones the compiler sees a memset in this, and its start takes longer than all of it:
 * that is hidden by an assembler instruction which is none. */
static inline void lumap_maker_empty(lumap_slot *slots, size_t count) {
  for (size_t i = 0; i < count; i++) {
    lumap_slot_set_nil(&slots[i]);
#if LUMAP_VM_IS_LUAJIT
    __asm__("" : "+r"(i));
#endif
  }
}

/* The rest of lumap_make_list, when there is memory for the table itself. */
static inline bool lumap_maker_add_list(lumap_maker *maker, lumap_table *table, size_t count) {
#if LUMAP_VM_IS_LUAJIT
  table->array = (lumap_slot *)(table + 1);
  table->array_size = (uint32_t)count + 1;
  table->colocated = (int8_t)(count + 1);
  lumap_maker_empty(table->array, count + 1);
  (void)maker;
#else
  table->array = lumap_maker_take(maker, count * sizeof(lumap_slot));
  if (!table->array) return false;
  table->array_limit = (uint32_t)count;
  lumap_maker_empty(table->array, count);
#endif
  return true;
}

static inline void lumap_maker_drop(lumap_maker *maker, void *block, size_t size) {
  maker->global->allocate(maker->global->data, block, size, 0);
}

/* A table with room for a list of `count` values, 1 to LUMAP_LIST_MADE; NULL: the API must make it. */
static inline lumap_table *lumap_make_list(lumap_maker *maker, size_t count) {
  size_t extra = (count + LUMAP_VM_IS_LUAJIT) * sizeof(lumap_slot);
  size_t size = sizeof(lumap_table) + (LUMAP_VM_IS_LUAJIT ? extra : 0);
  lumap_table *table;
  if (!lumap_maker_is_ready(maker)) return NULL;
  table = lumap_maker_take(maker, size);
  if (!table) return NULL;
  *table = *maker->blank;
  if (!lumap_maker_add_list(maker, table, count)) {
    lumap_maker_drop(maker, table, size);
    return NULL;
  }
  lumap_maker_introduce(maker, table, sizeof(lumap_table) + extra);
  return table;
}

/* A table with `count` nodes, a power of two, for lumap_table_set_nodes; NULL: the API must make it. */
static inline lumap_table *lumap_make_record(lumap_maker *maker, size_t count) {
  lumap_table *table;
  lumap_node *nodes;
  if (!lumap_maker_is_ready(maker)) return NULL;
  table = lumap_maker_take(maker, sizeof *table);
  if (!table) return NULL;
  nodes = lumap_maker_take(maker, count * sizeof *nodes);
  if (!nodes) {
    lumap_maker_drop(maker, table, sizeof *table);
    return NULL;
  }
  *table = *maker->blank;
  table->nodes = nodes;
  table->array = NULL;
#if LUMAP_VM_IS_LUAJIT
  table->array_size = 0;
  table->colocated = 0;
  table->node_mask = (uint32_t)count - 1;
#else
  table->array_limit = 0;
  table->log2_nodes = (uint8_t)__builtin_ctzll(count);
#endif
  lumap_maker_introduce(maker, table, sizeof *table + count * sizeof *nodes);
  return table;
}

/* lua_pushvalue of a table that has just been made. */
static inline void lumap_stack_push_table(lua_State *L, const lumap_table *table) {
  lumap_slot **top = lumap_stack_top(L), *slot = (*top)++;
  lumap_slot_set_table(slot, table);
}

#endif
