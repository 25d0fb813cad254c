/* SPDX-License-Identifier: MIT
 *
 * encode.c - values and tables to bytes.
 *
 * A table is written when it is first met and referred to by its offset afterwards. Only then is it known that the
 * first one must be kept by the reader: its tag is patched, so that tables which nothing refers to cost the reader
 * nothing. In a log every object is kept.
 *
 * Nesting uses the C stack down to LUMAP_DEPTH_NESTED levels; what lies deeper is announced there (DEFERRED) and
 * written behind the value (FILL), level by level, so that a list of a hundred thousand links needs no more stack than
 * one.
 */
#include "codec/encoder.h"

#include "codec/additions.h"
#include "codec/cdata.h"
#include "codec/handle.h"

#include <stdlib.h>

static const char encoders_key;
static const char *const type_name = "lumap.encoder";

/* ---- the encoder's life ------------------------------------------------------------------------------------- */

static int collect(lua_State *L) {
  lumap_encoder *e = lua_touserdata(L, 1);
  lumap_map_deinit(&e->message);
  lumap_bytes_deinit(&e->own);
  free(e->met);
  e->met = NULL;
  return 0;
}

static lumap_encoder *push_new(lua_State *L) {
  lumap_need_class(L, type_name, collect);
  return lumap_new_object(L, sizeof(lumap_encoder), 0, type_name);
}

/* The state's first encoder that is free: those before it are taken by messages whose pack functions encode something
   themselves. [-0, +1] */
static lumap_encoder *push_encoder(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &encoders_key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &encoders_key);
  }
  for (int number = 1;; number++) {
    lumap_encoder *e;
    lua_rawgeti(L, -1, number);
    e = lua_touserdata(L, -1);
    if (!e) {
      lua_pop(L, 1);
      e = push_new(L);
      e->number = number;
      lua_pushvalue(L, -1);
      lua_rawseti(L, -3, number);
    }
    if (!e->runs_user_code) {
      lua_remove(L, -2);
      return e;
    }
    lua_pop(L, 1);
  }
}

void lumap_encoder_push(lumap_encoder *e) {
  lua_rawgetp(e->L, LUA_REGISTRYINDEX, &encoders_key);
  lua_rawgeti(e->L, -1, e->number);
  lua_remove(e->L, -2);
}

void lumap_encoder_rest(lumap_encoder *e) {
  if (!e->rests) lumap_collector_stop(e->L);
  e->rests = true;
}

int lumap_encode_call(lua_State *L, int arguments, int results) {
  bool was_running = lua_gc(L, LUA_GCISRUNNING, 0) != 0;
  int code;
  lumap_collector_catch_up(L);
  code = lua_pcall(L, arguments, results, 0);
  if (was_running && !lua_gc(L, LUA_GCISRUNNING, 0)) lumap_collector_restore(L, true);
  return code;
}

int lumap_encoder_no_memory(lumap_encoder *e) {
  lua_pushliteral(e->L, "not enough memory");
  return lua_error(e->L);
}

static void find_globals(lumap_encoder *e) {
  lua_State *L = e->L;
  lumap_push_globals(L);
  e->globals = lua_topointer(L, -1);
  if (e->scope && !e->scope->writes)
    lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_ENVIRONMENT);
  else
    lumap_scope_push_environment(L);
  e->environment = lua_topointer(L, -1);
  lua_pop(L, 2);
}

lumap_encoder *lumap_encoder_bind(lua_State *L, int scope, unsigned flags) {
  lumap_encoder *e;
  luaL_checkstack(L, LUMAP_STACK_TO_ENCODE, "no room to encode");
  e = push_encoder(L);
  e->L = L;
  e->scratch = lumap_layout_push(L);
  e->scratch_index = lua_gettop(L);
  e->plain_metatable = NULL;
  e->rests = false;
  e->scope_index = scope;
  e->scope = scope ? lua_touserdata(L, scope) : NULL;
  e->flags = flags;
  e->names = scope || (flags & LUMAP_CODEC_FUNCTIONS) ? lumap_names_get(L) : NULL;
  e->knows_names = false;
  e->depth = e->packing = 0;
  e->met_count = 0; /* those of the last message may be gone */
  e->globals = e->environment = NULL;
  if (e->names) find_globals(e);
  e->plain = !e->names && !e->scope;
  return e;
}

void lumap_encoder_need_names(lumap_encoder *e) {
  if (!e->knows_names && e->names) lumap_names_refresh(e->L, e->names);
  e->knows_names = true;
}

lumap_encoder *lumap_encode_begin(lua_State *L, lumap_bytes *out, int scope, unsigned flags) {
  lumap_encoder *e = lumap_encoder_bind(L, scope ? lua_absindex(L, scope) : 0, flags);
  lua_pushnil(L); /* the list of deferred tables, when there is one */
  e->stamp++;
  e->shape_count = 0;
  e->piece_count = e->pieces_index = 0;
  e->home = (lumap_sink){.out = out, .seen = &e->message, .deferred = lua_gettop(L)};
  e->sink = e->home;
  return e;
}

lumap_encoder *lumap_encode_begin_string(lua_State *L, unsigned flags) {
  lumap_encoder *e;
  lua_pushnil(L); /* the list of pieces, when there is one */
  e = lumap_encode_begin(L, NULL, 0, flags);
  e->home.out = e->sink.out = &e->own;
  e->pieces_index = lua_gettop(L) - 3;
  lumap_bytes_clear(&e->own);
  lumap_put_u8(&e->own, LUMAP_WIRE_VERSION);
  return e;
}

/* What a state keeps of its bytes: fresh memory costs more than writing to it, but one big message must not cost the
   rest of the program as much. */
enum { KEPT_BYTES = 16 * 1024 * 1024 };

void lumap_encode_push_string(lumap_encoder *e) {
  lua_State *L = e->L;
  const char *bytes = (const char *)e->own.data;
  size_t done = 0;
  if (e->piece_count > 0) luaL_checkstack(L, 2 * LUMAP_PIECES + 2, NULL);
  for (int i = 0; i < e->piece_count; i++) {
    lua_pushlstring(L, bytes + done, e->pieces[i].at - done);
    done = e->pieces[i].at;
    lua_rawgeti(L, e->pieces_index, i + 1);
  }
  lua_pushlstring(L, bytes + done, e->own.size - done);
  if (e->piece_count > 0) lua_concat(L, 2 * e->piece_count + 1);
  if (e->own.capacity > KEPT_BYTES) lumap_bytes_deinit(&e->own);
}

/* Leaves a place for the string in the message. */
static void put_piece(lumap_encoder *e, const void *text, size_t size) {
  lua_State *L = e->L;
  lumap_bytes *out = e->sink.out;
  lumap_slot slot;
  lumap_encoder_rest(e);
  if (lua_isnil(L, e->pieces_index)) {
    lua_newtable(L);
    lua_replace(L, e->pieces_index);
  }
  lumap_slot_set_object(&slot, text);
  lumap_slot_push(L, e->scratch_index, e->scratch, &slot);
  lua_rawseti(L, e->pieces_index, e->piece_count + 1);
  lumap_put_string_head(out, size);
  e->sink.base += size;
  e->pieces[e->piece_count++] = (lumap_piece){out->size, lumap_sink_offset(&e->sink)};
}

/* Where in the bytes the object at `offset` begins: each piece before it moved it. */
static size_t place_of(const lumap_encoder *e, uint64_t offset) {
  int i = e->sink.out == &e->own ? e->piece_count : 0;
  while (i > 0 && e->pieces[i - 1].behind > offset)
    i--;
  return (size_t)(i > 0 ? e->pieces[i - 1].at + (offset - e->pieces[i - 1].behind) : offset);
}

void lumap_put_text(lumap_encoder *e, const void *text, const char *bytes, size_t size) {
  lumap_bytes *out = e->sink.out;
  size_t at = lumap_text_slot_number(text);
  lumap_text_slot *slot;
  if (size >= LUMAP_PIECE_LEAST && e->pieces_index && e->scratch && e->piece_count < LUMAP_PIECES) {
    put_piece(e, text, size);
  } else if (!lumap_text_has_slot(e, size)) {
    lumap_put_string(out, bytes, size);
  } else if ((slot = &e->texts[at])->text != text || slot->stamp != e->stamp) {
    *slot = (lumap_text_slot){.text = text, .stamp = e->stamp};
    lumap_put_string(out, bytes, size);
  } else {
    lumap_put_u8(out, slot->written ? LUMAP_TAG_TEXT_REF : LUMAP_TAG_TEXT);
    lumap_put_u8(out, (unsigned)at);
    if (!slot->written) lumap_put_string(out, bytes, size);
    slot->written = true;
  }
}

void lumap_encode_resume(lumap_encoder *e, lua_State *L) {
  luaL_checkstack(L, LUMAP_STACK_TO_ENCODE, "no room to encode");
  e->L = L;
  e->scratch = lumap_layout_push(L);
  e->scratch_index = lua_gettop(L);
  e->rests = false;
  lua_pushnil(L);
  e->home.deferred = lua_gettop(L);
  e->sink = e->home;
}

void lumap_encode_undo(lumap_encoder *e, lua_State *L, int scope) {
  lumap_bytes *out = e->home.out;
  e->sink = e->home;
  e->depth = e->packing = 0;
  out->size = e->mark;
  out->failed = false;
  lumap_map_drop_from(e->home.seen, (uint64_t)e->mark << 8);
  /* Shapes that are gone with it must not be referred to, and strings may have been put into slots. */
  e->stamp++;
  e->shape_count = e->shape_mark;
  if (scope && e->scope->writes) lumap_log_rewind(L, scope, e->log_mark, e->globals_mark);
}

/* ---- references, names, objects of the log ------------------------------------------------------------------ */

void lumap_sink_share(lumap_encoder *e, uint64_t offset) {
  /* Without memory the object's tag may never have been written. */
  lumap_encoder_check_memory(e);
  if (!e->sink.is_log) e->sink.out->data[place_of(e, offset)] |= LUMAP_SHARED;
}

void lumap_put_offset(lumap_encoder *e, unsigned tag, uint64_t offset) {
  if (tag == LUMAP_TAG_REF) lumap_sink_share(e, offset);
  lumap_put_u8(e->sink.out, tag);
  lumap_put_varint(e->sink.out, offset);
}

bool lumap_put_reference(lumap_encoder *e, const void *object) {
  uint64_t *hit = lumap_map_find(e->sink.seen, object);
  if (hit) lumap_put_offset(e, LUMAP_TAG_REF, *hit >> 8);
  return hit != NULL;
}

static bool put_table_reference(lumap_encoder *e, int index) {
  uint64_t offset;
  if (!lumap_has_met(e, lua_topointer(e->L, index), &offset)) return false;
  lumap_put_offset(e, LUMAP_TAG_REF, offset);
  return true;
}

static bool put_name(lumap_encoder *e, int index) {
  lua_State *L = e->L;
  int parts = lumap_names_push(L, e->names, index);
  if (parts == 0) return false;
  lumap_sink_remember(e, index);
  lumap_put_u8(e->sink.out, lumap_sink_tag(e, LUMAP_TAG_NAME));
  lumap_put_u8(e->sink.out, (unsigned)parts);
  for (int i = -parts; i < 0; i++) {
    size_t size;
    const char *part = lua_tolstring(L, i, &size);
    lumap_put_string(e->sink.out, part, size);
  }
  lua_pop(L, parts);
  return true;
}

void lumap_put_in_log(lumap_encoder *e, unsigned record, int index, const lumap_step *step) {
  lumap_sink message = e->sink;
  lua_pushnil(e->L);
  e->sink = lumap_log_sink(e, lua_gettop(e->L));
  lumap_put_declarations(e);
  lumap_put_u8(e->sink.out, record);
  lumap_put_value(e, index, step);
  lumap_put_deferred(e);
  lumap_encoder_check_memory(e);
  e->sink = message;
  lua_pop(e->L, 1);
}

/* Writes a reference to an object of the log. With `define`, the caller's side puts it there first if need be. */
static bool put_from_log(lumap_encoder *e, int index, bool define, const lumap_step *step) {
  const void *object = lua_topointer(e->L, index);
  uint64_t *hit;
  if (!e->scope || e->sink.is_log) return false;
  hit = lumap_map_find(&e->scope->map, object);
  if (!hit && define && e->scope->writes) {
    lumap_put_in_log(e, LUMAP_RECORD_OBJECT, index, step);
    hit = lumap_map_find(&e->scope->map, object);
  }
  if (!hit) return false;
  lumap_put_offset(e, LUMAP_TAG_KNOWN, *hit >> 8);
  return true;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

void lumap_put_metatable(lumap_encoder *e, int index, const lumap_step *step) {
  lumap_step here = {step, LUMAP_STEP_METATABLE, 0, 0, NULL, NULL};
  uint64_t *hit;
  if (!put_table_reference(e, index) && !(e->names && put_name(e, index)) && !put_from_log(e, index, true, &here))
    lumap_put_value(e, index, &here);
  /* From now on it keeps its identity as a value, too. */
  hit = e->scope ? lumap_map_find(&e->scope->map, lua_topointer(e->L, index)) : NULL;
  if (hit) *hit |= LUMAP_SCOPE_IS_CLASS;
}

/* A table of the log is sent as itself only if it is a class: a plain one is data, and goes as it is now. */
static bool is_class(lumap_encoder *e, int index) {
  lua_State *L = e->L;
  uint64_t *hit = lumap_map_find(&e->scope->map, lua_topointer(L, index));
  bool has_index;
  if (!hit) return false;
  if (*hit & LUMAP_SCOPE_IS_CLASS) return true;
  lua_pushliteral(L, "__index");
  lua_rawget(L, index);
  has_index = !lua_isnil(L, -1);
  lua_pop(L, 1);
  return has_index;
}

static void defer(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_sink *sink = &e->sink;
  int list = sink->deferred, at = (int)(LUMAP_DEFERRED_SLOTS * sink->deferred_count++), up;
  if (lua_isnil(L, list)) {
    lua_newtable(L);
    lua_replace(L, list);
  }
  lua_pushvalue(L, index);
  lua_rawseti(L, list, at + LUMAP_DEFERRED_TABLE);
  lua_pushnumber(L, (lua_Number)lumap_sink_remember(e, index));
  lua_rawseti(L, list, at + LUMAP_DEFERRED_OFFSET);
  lumap_path_push_part(L, step, &up);
  lua_rawseti(L, list, at + LUMAP_DEFERRED_PATH);
  lua_pushinteger(L, up);
  lua_rawseti(L, list, at + LUMAP_DEFERRED_UP);
  lumap_put_u8(sink->out, LUMAP_TAG_DEFERRED | LUMAP_SHARED);
}

void lumap_put_deferred(lumap_encoder *e) {
  lua_State *L = e->L;
  lumap_sink *sink = &e->sink;
  while (sink->deferred_done < sink->deferred_count) {
    int at = (int)(LUMAP_DEFERRED_SLOTS * sink->deferred_done++), table = lua_gettop(L) + 1;
    lumap_step root = {NULL, LUMAP_STEP_DEFERRED, sink->deferred, (int)sink->deferred_done, NULL, NULL};
    lua_rawgeti(L, sink->deferred, at + LUMAP_DEFERRED_TABLE);
    /* Done with: a long chain is not held twice. */
    lua_pushboolean(L, 0);
    lua_rawseti(L, sink->deferred, at + LUMAP_DEFERRED_TABLE);
    lua_rawgeti(L, sink->deferred, at + LUMAP_DEFERRED_OFFSET);
    lumap_put_u8(sink->out, LUMAP_TAG_FILL);
    lumap_put_varint(sink->out, (uint64_t)lua_tonumber(L, -1));
    lua_pop(L, 1);
    lumap_put_table_parts(e, table, lua_getmetatable(L, table) ? table + 1 : 0, true, &root);
    lua_settop(L, table - 1);
  }
  sink->deferred_count = sink->deferred_done = 0;
}

/* ---- registered classes ------------------------------------------------------------------------------------- */

/* The pack function's error is on top. */
static int refuse_packing(lumap_encoder *e, int record, const lumap_step *step) {
  lua_State *L = e->L;
  const char *text = lua_tostring(L, -1);
  lua_rawgeti(L, record, LUMAP_CLASS_NAME);
  lumap_path_push(L, step);
  lua_pushfstring(L, "cannot send %s: the pack function of class '%s' failed: %s", lua_tostring(L, -1),
                  lua_tostring(L, -2), text ? text : "(error object is not a string)");
  return lua_error(L);
}

bool lumap_put_custom(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  int top = lua_gettop(L), record = top + 1, code;
  size_t size;
  const char *name;
  lumap_step here = {step, LUMAP_STEP_PACKED, 0, 0, NULL, NULL};
  if (!lumap_classes_push_by_metatable(L, top)) return false;
  lua_rawgeti(L, record, LUMAP_CLASS_PACK);
  lua_pushvalue(L, index);
  lumap_encoder_keep_way(e, step);
  lumap_encoder_stop_numbering(e); /* there may be a collection */
  lumap_encoder_has_collected(e);
  e->runs_user_code = true;
  code = lua_pcall(L, 1, 1, 0);
  e->runs_user_code = false;
  lumap_collector_stop(L); /* again: it may have been started there */
  /* Of strings only the address is known, and another one may have it now. */
  if (lumap_encoder_has_collected(e)) e->stamp++;
  e->plain_metatable = NULL;
  if (lumap_is_out_of_memory(L, code)) lua_error(L);
  if (code != 0) refuse_packing(e, record, step);
  lumap_encoder_keep(e, -1);
  lumap_sink_remember(e, index);
  *lumap_map_find(e->sink.seen, lua_topointer(L, index)) |= LUMAP_SCOPE_IS_PACKED;
  lumap_put_u8(e->sink.out, lumap_sink_tag(e, LUMAP_TAG_CUSTOM));
  lua_rawgeti(L, record, LUMAP_CLASS_NAME);
  name = lua_tolstring(L, -1, &size);
  lumap_put_string(e->sink.out, name, size);
  lua_pop(L, 1);
  /* An unpack function must see the whole value: nothing in it may come behind. */
  lumap_encoder_deepen(e);
  e->packing++;
  if (e->depth >= LUMAP_DEPTH_ALLOWED - 20)
    lumap_raise(L, "cannot send objects of registered classes nested so deeply");
  lumap_put_value(e, lua_gettop(L), &here);
  e->packing--;
  e->depth--;
  *lumap_map_find(e->sink.seen, lua_topointer(L, index)) &= ~(uint64_t)LUMAP_SCOPE_IS_PACKED;
  lua_settop(L, top);
  return true;
}

/* On the caller's side a metatable is put into the log before the table that has it: it may lead back to that table,
   which is then a class itself. True if something was put there. */
static bool prepare_metatable(lumap_encoder *e, int index, const lumap_step *step) {
  lumap_step here = {step, LUMAP_STEP_METATABLE, 0, 0, NULL, NULL};
  int parts;
  if (!e->scope || !e->scope->writes || e->sink.is_log) return false;
  if (lumap_map_find(&e->scope->map, lua_topointer(e->L, index))) return false;
  parts = lumap_names_push(e->L, e->names, index);
  lua_pop(e->L, parts);
  if (parts > 0) return false;
  lumap_put_in_log(e, LUMAP_RECORD_OBJECT, index, &here);
  *lumap_map_find(&e->scope->map, lua_topointer(e->L, index)) |= LUMAP_SCOPE_IS_CLASS;
  return true;
}

/* Refuses an object that is reached from within what its own pack function gave: no reader can have it yet. */
static void check_packed(lumap_encoder *e, int index, const lumap_step *step) {
  uint64_t *hit = e->packing ? lumap_map_find(e->sink.seen, lua_topointer(e->L, index)) : NULL;
  if (!hit || !(*hit & LUMAP_SCOPE_IS_PACKED)) return;
  lumap_path_push(e->L, step);
  lumap_raise(e->L, "cannot send %s: it is within what its own pack function gave; pack must leave it out",
              lua_tostring(e->L, -1));
}

static void put_table(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  const void *object = lua_topointer(L, index);
  int metatable = 0;
  check_packed(e, index, step);
  if (put_table_reference(e, index)) return;
  if (lumap_encoder_is_globals(e, object)) {
    lumap_put_u8(e->sink.out, LUMAP_TAG_GLOBALS);
    return;
  }
  if (e->scope && !e->sink.is_log && is_class(e, index) && put_from_log(e, index, false, step)) return;
  if (e->names && put_name(e, index)) return;
  if (lua_getmetatable(L, index)) {
    metatable = lua_gettop(L);
    if (lumap_put_custom(e, index, step)) {
      lua_settop(L, metatable - 1);
      return;
    }
    e->plain_metatable = lua_topointer(L, metatable);
  }
  if (metatable && prepare_metatable(e, metatable, step) && is_class(e, index) && put_from_log(e, index, false, step)) {
    lua_settop(L, metatable - 1);
    return;
  }
  if (e->depth >= LUMAP_DEPTH_ALLOWED - 20) {
    lumap_path_push(L, step);
    lumap_raise(L, "cannot send %s: what a pack function gave is nested too deeply", lua_tostring(L, -1));
  }
  if (e->depth >= LUMAP_DEPTH_NESTED && e->packing == 0) {
    defer(e, index, step);
  } else {
    lumap_sink_remember(e, index);
    lumap_encoder_deepen(e);
    lumap_put_table_parts(e, index, metatable, false, step);
    e->depth--;
  }
  if (metatable) lua_settop(L, metatable - 1);
}

/* ---- all values --------------------------------------------------------------------------------------------- */

static void put_function(lumap_encoder *e, int index, const lumap_step *step) {
  bool define;
  if (lumap_put_reference(e, lua_topointer(e->L, index))) return;
  if (e->names && put_name(e, index)) return;
  define = e->scope && e->scope->functions < LUMAP_FUNCTIONS_LOGGED && !lua_iscfunction(e->L, index);
  if (put_from_log(e, index, define, step)) return;
  lumap_put_function(e, index, step);
}

static void put_userdata(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  int file = lumap_standard_file(L, index), top = lua_gettop(L);
  check_packed(e, index, step);
  if (lumap_put_reference(e, lua_topointer(L, index))) return;
  if (file >= 0 && e->names) {
    lumap_put_u8(e->sink.out, LUMAP_TAG_FILE);
    lumap_put_u8(e->sink.out, (unsigned)file);
    return;
  }
  if (file >= 0) {
    lumap_path_push(L, step);
    lumap_raise(L, "cannot send %s (a standard file): it is encoded only with the option functions = true",
                lua_tostring(L, -1));
  }
  if (lumap_put_handle(e, index, step)) return;
  if (!(lua_getmetatable(L, index) && lumap_put_custom(e, index, step)) && !lumap_put_library(e, index, step))
    lumap_path_refuse(L, step, index);
  lua_settop(L, top);
}

static void put_cdata(lumap_encoder *e, int index, const lumap_step *step) {
  uint64_t bits;
  bool is_unsigned;
  if (!lumap_is_boxed_integer(e->L, index, &bits, &is_unsigned)) {
    lumap_put_cdata(e, index, step);
    return;
  }
  lumap_put_field(e->sink.out, is_unsigned ? LUMAP_TAG_BOXU64 : LUMAP_TAG_BOXI64, &bits, sizeof bits);
}

bool lumap_put_scalar(lumap_bytes *out, lua_State *L, int index) {
  int64_t integer;
  double number;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    lumap_put_u8(out, LUMAP_TAG_NIL);
    return true;
  case LUA_TBOOLEAN:
    lumap_put_u8(out, lua_toboolean(L, index) ? LUMAP_TAG_TRUE : LUMAP_TAG_FALSE);
    return true;
  case LUA_TNUMBER:
    if (lumap_is_integer(L, index, &integer)) {
      lumap_put_integer(out, integer);
    } else {
      number = lua_tonumber(L, index);
      lumap_put_field(out, LUMAP_TAG_F64, &number, sizeof number);
    }
    return true;
  default:
    return false;
  }
}

void lumap_put_value(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  size_t size;
  const char *string;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
  case LUA_TBOOLEAN:
  case LUA_TNUMBER:
    lumap_put_scalar(e->sink.out, L, index);
    break;
  case LUA_TSTRING:
    string = lua_tolstring(L, index, &size);
    lumap_put_text(e, lua_topointer(L, index), string, size);
    break;
  case LUA_TTABLE:
    if (e->scratch && lumap_put_plain_table(e, lua_topointer(L, index), step)) break;
    lumap_encoder_rest(e);
    put_table(e, index, step);
    break;
  case LUA_TFUNCTION:
    lumap_encoder_rest(e);
    put_function(e, index, step);
    break;
  case LUA_TUSERDATA:
    lumap_encoder_rest(e);
    put_userdata(e, index, step);
    break;
  case LUMAP_TCDATA:
    lumap_encoder_rest(e);
    put_cdata(e, index, step);
    break;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, index)) lumap_path_refuse(L, step, index);
    lumap_put_u8(e->sink.out, LUMAP_TAG_NULL);
    break;
  default:
    lumap_path_refuse(L, step, index);
  }
}

void lumap_encode_value(lumap_encoder *e, int index, const char *label, int number) {
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, number, label, NULL};
  int type = lua_type(e->L, index);
  if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TBOOLEAN && type != LUA_TNIL)
    lumap_encoder_need_names(e);
  lumap_encoder_forget_objects(e);
  e->mark = e->sink.out->size;
  e->shape_mark = e->shape_count;
  e->log_mark = e->scope ? e->scope->log.size : 0;
  e->globals_mark = e->scope && e->scope->writes ? lumap_log_pending(e->L, e->scope_index) : 0;
  lumap_put_value(e, lua_absindex(e->L, index), &root);
  lumap_put_deferred(e);
  lumap_encoder_check_memory(e);
  if (e->kept) lumap_encoder_forget_kept(e);
}
