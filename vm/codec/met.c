/* SPDX-License-Identifier: MIT
 *
 * met.c - what the value that is being written has met: objects by the offset where they begin, so that they are
 * referred to when they come again, and what must be kept alive so that no other object gets their addresses.
 */
#include "codec/encoder.h"

#include <stdlib.h>

static const char weak_key;

/* ---- what is kept alive ------------------------------------------------------------------------------------- */

/* Pushes the encoder's own table, the list of what it keeps. [-0, +1] */
static void push_own_table(lumap_encoder *e) {
  lumap_encoder_push(e);
  lumap_push_userdata_table(e->L, -1);
  lua_remove(e->L, -2);
}

/* Keeps the value at `index` alive until the message is done: its address is known to the message, and another object
   must not get it when user code lets go of it. */
void lumap_encoder_keep(lumap_encoder *e, int index) {
  lua_State *L = e->L;
  index = lua_absindex(L, index);
  if (lua_isnil(L, index) || lua_type(L, index) == LUA_TNUMBER) return;
  push_own_table(e);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, (int)++e->kept);
  lua_pop(L, 1);
}

static void keep_table(lumap_encoder *e, const lumap_table *table) {
  lumap_slot slot;
  lumap_slot_set_object(&slot, table);
  lumap_slot_push(e->L, e->scratch_index, e->scratch, &slot);
  lumap_encoder_keep(e, -1);
  lua_pop(e->L, 1);
}

/* From here on no address of what was kept may be in use. What a pack function gave had strings that die now. */
void lumap_encoder_forget_kept(lumap_encoder *e) {
  lumap_encoder_push(e);
  lua_newtable(e->L);
  lumap_set_userdata_table(e->L, -2);
  lua_pop(e->L, 1);
  e->kept = 0;
  if (!e->numbers) e->stamp++;
}

/* Keeps the keys on the way to a value: user code is about to run, and may take the tables apart, which are kept since
   they have been met. */
void lumap_encoder_keep_way(lumap_encoder *e, const lumap_step *step) {
  for (; step; step = step->up) {
    lumap_slot_step *here = (lumap_slot_step *)(uintptr_t)step;
    if ((step->kind != LUMAP_STEP_SLOT && step->kind != LUMAP_STEP_SLOT_KEY) || here->kept) continue;
    lumap_slot_push(e->L, e->scratch_index, e->scratch, &here->key);
    lumap_encoder_keep(e, -1);
    lua_pop(e->L, 1);
    here->kept = true;
  }
}

/* Has a collection found out, since this was asked last, what nothing refers to? What it frees follows. A weak table
   loses its value in the same moment. */
bool lumap_encoder_has_collected(lumap_encoder *e) {
  lua_State *L = e->L;
  bool gone;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_createtable(L, 1, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &weak_key);
  }
  lua_rawgeti(L, -1, e->number);
  gone = lua_isnil(L, -1);
  if (gone) {
    lua_newtable(L);
    lua_rawseti(L, -3, e->number);
  }
  lua_pop(L, 2);
  return gone;
}

/* ---- tables by number, others by address ---------------------------------------------------------------------- */

/* From now on addresses are looked up, and what has one that is known stays alive. */
void lumap_encoder_stop_numbering(lumap_encoder *e) {
  e->numbers = false;
  e->met_limit = 0;
  lumap_encoder_rest(e);
  while (e->met_count > 0) {
    const lumap_met_table *met = &e->met[--e->met_count];
    if (!lumap_map_set(&e->message, met->table, met->offset << 8)) lumap_encoder_no_memory(e);
    keep_table(e, met->table);
  }
}

/* A list of the tables that have been met, each of which holds its number in the list, from 1, tells without hashing
   whether a table is one of them (a sparse set: Briggs and Torczon 1993). What else a table holds there is no number of
   the list, or that of another one. A collection writes over the numbers of all tables that it reaches: then that of
   the last one is gone, too. On 5.4 any allocation may run one when memory is short, even while the collector rests. */
void lumap_encoder_check_numbers(lumap_encoder *e) {
  if (e->met_count > 0 && lumap_table_number(e->met[e->met_count - 1].table) != e->met_count)
    lumap_encoder_stop_numbering(e);
}

static lumap_met_table *find_met(lumap_encoder *e, const lumap_table *table) {
  uintptr_t number = lumap_table_number(table);
  if (number > 0 && number <= e->met_count && e->met[number - 1].table == table) return &e->met[number - 1];
  lumap_encoder_check_numbers(e);
  return NULL;
}

bool lumap_has_met(lumap_encoder *e, const void *table, uint64_t *offset) {
  lumap_met_table *met = e->met_count && !e->sink.is_log ? find_met(e, table) : NULL;
  uint64_t *hit = met ? NULL : lumap_map_find(e->sink.seen, table);
  if (met)
    *offset = met->offset;
  else if (hit)
    *offset = *hit >> 8;
  return met || hit;
}

static bool grow_met(lumap_encoder *e) {
  size_t room = e->met_room ? e->met_room * 2 : 64;
  lumap_met_table *met = realloc(e->met, room * sizeof *met);
  if (!met) return false;
  e->met = met;
  e->met_room = e->met_limit = room;
  return true;
}

bool lumap_meet(lumap_encoder *e, const lumap_table *table, uint64_t *offset) {
  uint64_t *place;
  lumap_met_table *met = e->met_count ? find_met(e, table) : NULL;
  if (met) return *offset = met->offset, true;
  if (e->numbers && lumap_table_has_room(table)) {
    if (e->met_count == e->met_room && !grow_met(e)) lumap_encoder_no_memory(e);
    e->met[e->met_count++] = (lumap_met_table){table, lumap_sink_offset(&e->sink)};
    lumap_table_set_number(table, e->met_count);
    return false;
  }
  place = lumap_map_place(e->sink.seen, table);
  if (!place) lumap_encoder_no_memory(e);
  if (*place) return *offset = *place >> 8, true;
  *place = lumap_sink_offset(&e->sink) << 8;
  lumap_encoder_rest(e);
  keep_table(e, table);
  return false;
}

uint64_t lumap_sink_remember(lumap_encoder *e, int index) {
  lua_State *L = e->L;
  uint64_t offset = lumap_sink_offset(&e->sink), other;
  if (e->sink.is_log) {
    lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_OBJECTS);
    lua_pushnumber(L, (lua_Number)offset);
    lua_pushvalue(L, index);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  } else if (e->scratch && lua_istable(L, index)) {
    lumap_meet(e, lua_topointer(L, index), &other);
    return offset;
  } else {
    lumap_encoder_keep(e, index);
  }
  if (!lumap_map_set(e->sink.seen, lua_topointer(L, index), offset << 8)) lumap_encoder_no_memory(e);
  return offset;
}

/* A new value: it refers to nothing that the message has already. */
void lumap_encoder_forget_objects(lumap_encoder *e) {
  lumap_map_clear(&e->message);
  e->met_count = 0;
  if (e->kept) lumap_encoder_forget_kept(e);
  e->numbers = true;
  e->met_limit = e->met_room;
}
