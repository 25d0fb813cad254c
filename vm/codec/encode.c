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
#include "codec/packed.h"

static const char encoder_key, spare_key;
static const char *const type_name = "lumap.encoder";

/* ---- the encoder's life ------------------------------------------------------------------------------------- */

static int collect(lua_State *L) {
  lumap_encoder *e = lua_touserdata(L, 1);
  lumap_map_deinit(&e->message);
  return 0;
}

static lumap_encoder *push_new(lua_State *L) {
  if (luaL_newmetatable(L, type_name)) {
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  return lumap_new_object(L, sizeof(lumap_encoder), type_name);
}

/* The state's encoder; another one while a pack function that the first one called encodes something itself. [-0, +1]
 */
static lumap_encoder *push_encoder(lua_State *L) {
  lumap_encoder *e;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &encoder_key);
  e = lua_touserdata(L, -1);
  if (e && !e->runs_user_code) return e;
  lua_pop(L, 1);
  const void *key = e ? &spare_key : &encoder_key;
  e = push_new(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
  return e;
}

int lumap_encoder_no_memory(lumap_encoder *e) {
  lua_pushliteral(e->L, "not enough memory");
  return lua_error(e->L);
}

static void check_memory(lumap_encoder *e) {
  if (e->sink.out->failed) lumap_encoder_no_memory(e);
}

/* Pushes the encoder, bound to a scope or to plain use, without a sink. [-0, +1] */
static lumap_encoder *bind(lua_State *L, int scope, unsigned flags) {
  lumap_encoder *e;
  luaL_checkstack(L, LUMAP_DEPTH_ALLOWED * 4 + 40, "no room to encode");
  e = push_encoder(L);
  e->L = L;
  e->scope_index = scope;
  e->scope = scope ? lua_touserdata(L, scope) : NULL;
  e->flags = flags;
  e->names = scope || (flags & LUMAP_CODEC_FUNCTIONS) ? lumap_names_get(L) : NULL;
  e->depth = e->packing = 0;
  e->environment = NULL;
  lumap_push_globals(L);
  e->globals = e->names ? lua_topointer(L, -1) : NULL;
  if (e->scope && !e->scope->writes)
    lumap_scope_push_slot(L, scope, LUMAP_SCOPE_ENVIRONMENT);
  else
    lumap_scope_push_environment(L);
  e->environment = e->names ? lua_topointer(L, -1) : NULL;
  lua_pop(L, 2);
  return e;
}

/* What a pack function gave is garbage once it is written, but the map knows its tables by their addresses: it is kept
   until they are forgotten, or another table might be taken for one of them. The value is on top. [-0, +0] */
static void keep_packed(lumap_encoder *e) {
  lua_State *L = e->L;
  lua_rawgetp(L, LUA_REGISTRYINDEX, e);
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, e);
  }
  e->keeps_packed = true;
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, (int)lumap_rawlen(L, -2) + 1);
  lua_pop(L, 1);
}

static void forget_message(lumap_encoder *e) {
  lumap_map_clear(&e->message);
  if (!e->keeps_packed) return;
  e->keeps_packed = false;
  lua_pushnil(e->L);
  lua_rawsetp(e->L, LUA_REGISTRYINDEX, e);
}

lumap_encoder *lumap_encode_begin(lua_State *L, lumap_bytes *out, int scope, unsigned flags) {
  lumap_encoder *e = bind(L, scope ? lua_absindex(L, scope) : 0, flags);
  lua_pushnil(L); /* the list of deferred tables, when there is one */
  forget_message(e);
  e->home = (lumap_sink){.out = out, .seen = &e->message, .deferred = lua_gettop(L)};
  e->sink = e->home;
  return e;
}

void lumap_encode_resume(lumap_encoder *e, lua_State *L) {
  luaL_checkstack(L, LUMAP_DEPTH_ALLOWED * 4 + 40, "no room to encode");
  lua_pushnil(L);
  e->home.deferred = lua_gettop(L);
  e->sink = e->home;
}

/* `deferred` is a stack index that holds nil. */
static lumap_sink log_sink(lumap_encoder *e, int deferred) {
  lumap_scope *scope = e->scope;
  return (lumap_sink){
      .out = &scope->log, .seen = &scope->map, .base = scope->log_size, .is_log = true, .deferred = deferred};
}

void lumap_encode_separate(lumap_encoder *e) {
  forget_message(e);
}

/* Forgets the code that the log had from byte `offset` on. */
static void forget_codes(lua_State *L, int scope, uint64_t offset) {
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_CODES);
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    if (lua_tonumber(L, -1) >= (lua_Number)offset) {
      lua_pushvalue(L, -2);
      lua_pushnil(L);
      lua_rawset(L, -5);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* Forgets the globals that were noted since there were `count`. */
static void forget_globals(lua_State *L, int scope, size_t count) {
  int top = lua_gettop(L);
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_PENDING_GLOBALS);
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_GLOBALS);
  for (size_t now = lumap_rawlen(L, top + 1); now > count; now--) {
    lua_rawgeti(L, top + 1, (int)now);
    if (lua_istable(L, -1)) lumap_scope_forget_constants(L, scope);
    lua_pushnil(L);
    lua_rawset(L, top + 2);
    lua_pushnil(L);
    lua_rawseti(L, top + 1, (int)now);
  }
  lua_settop(L, top);
}

static size_t count_pending_globals(lua_State *L, int scope) {
  size_t count;
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_PENDING_GLOBALS);
  count = lumap_rawlen(L, -1);
  lua_pop(L, 1);
  return count;
}

/* Takes back what the log has gained since it had `size` bytes and `globals` names to write. */
static void rewind_log(lua_State *L, int index, size_t size, size_t globals) {
  lumap_scope *scope = lua_touserdata(L, index);
  luaL_checkstack(L, 8, NULL);
  forget_globals(L, index, globals);
  if (scope->log.size == size && !scope->log.failed) return;
  scope->log.size = size;
  scope->log.failed = false;
  scope->declared = 0; /* said again: what is declared already the reader passes over */
  lumap_map_drop_from(&scope->map, (scope->log_size + size) << 8);
  forget_codes(L, index, scope->log_size + size);
}

void lumap_encode_undo(lumap_encoder *e, lua_State *L, int scope) {
  lumap_bytes *out = e->home.out;
  e->sink = e->home;
  e->depth = e->packing = 0;
  out->size = e->mark;
  out->failed = false;
  lumap_map_drop_from(e->home.seen, (uint64_t)e->mark << 8);
  if (scope && e->scope->writes) rewind_log(L, scope, e->log_mark, e->globals_mark);
}

/* ---- references, names, objects of the log ------------------------------------------------------------------ */

void lumap_sink_share(lumap_encoder *e, uint64_t offset) {
  /* Without memory the object's tag may never have been written. */
  check_memory(e);
  if (!e->sink.is_log) e->sink.out->data[offset - e->sink.base] |= LUMAP_SHARED;
}

bool lumap_put_reference(lumap_encoder *e, const void *object) {
  lumap_sink *sink = &e->sink;
  uint64_t *hit = lumap_map_find(sink->seen, object);
  uint64_t offset;
  if (!hit) return false;
  offset = *hit >> 8;
  lumap_sink_share(e, offset);
  lumap_put_u8(sink->out, LUMAP_TAG_REF);
  lumap_put_varint(sink->out, offset);
  return true;
}

uint64_t lumap_sink_remember(lumap_encoder *e, int index) {
  lua_State *L = e->L;
  uint64_t offset = lumap_sink_offset(&e->sink);
  if (e->sink.is_log) {
    lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_OBJECTS);
    lua_pushnumber(L, (lua_Number)offset);
    lua_pushvalue(L, index);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  }
  if (!lumap_map_set(e->sink.seen, lua_topointer(L, index), offset << 8)) lumap_encoder_no_memory(e);
  return offset;
}

static void put_known(lumap_encoder *e, uint64_t offset) {
  lumap_put_u8(e->sink.out, LUMAP_TAG_KNOWN);
  lumap_put_varint(e->sink.out, offset);
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

/* Tables announced by DEFERRED, until none is left. */
static void put_deferred(lumap_encoder *e);

void lumap_put_in_log(lumap_encoder *e, unsigned record, int index, const lumap_step *step) {
  lumap_sink message = e->sink;
  lua_pushnil(e->L);
  e->sink = log_sink(e, lua_gettop(e->L));
  lumap_put_declarations(e);
  lumap_put_u8(e->sink.out, record);
  lumap_put_value(e, index, step);
  put_deferred(e);
  check_memory(e);
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
  put_known(e, *hit >> 8);
  return true;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static void put_metatable(lumap_encoder *e, int index, const lumap_step *step) {
  lumap_step here = {step, LUMAP_STEP_METATABLE, 0, 0, NULL, NULL};
  uint64_t *hit;
  if (!lumap_put_reference(e, lua_topointer(e->L, index)) && !(e->names && put_name(e, index)) &&
      !put_from_log(e, index, true, &here))
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

static void put_field(lumap_encoder *e, int key, int value, const lumap_step *step) {
  lumap_step at_key = {step, LUMAP_STEP_KEY, key, 0, NULL, NULL};
  lumap_step at_value = {step, LUMAP_STEP_FIELD, key, 0, NULL, NULL};
  lumap_put_value(e, key, &at_key);
  lumap_put_value(e, value, &at_value);
}

/* Keys from `packed` + 1 on, and what is no list: 1, 2, 3... come as values alone while the traversal yields them in
   order, everything else in pairs. */
static void put_body(lumap_encoder *e, int index, size_t packed, size_t hint_at, const lumap_step *step) {
  lua_State *L = e->L;
  lua_Number expected = (lua_Number)packed + 1;
  unsigned pairs = 0;
  bool listing = packed == 0;
  if (packed) lumap_put_u8(e->sink.out, LUMAP_TAG_PAIRS);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    int value = lua_gettop(L), key = value - 1;
    bool is_number = lua_type(L, key) == LUA_TNUMBER;
    if (listing && is_number && lua_tonumber(L, key) == expected) {
      lumap_step at_value = {step, LUMAP_STEP_FIELD, key, 0, NULL, NULL};
      lumap_put_value(e, value, &at_value);
      expected++;
    } else if (packed && is_number && lua_tonumber(L, key) >= 1 && lua_tonumber(L, key) <= (lua_Number)packed &&
               lua_tonumber(L, key) == (lua_Number)(uint64_t)lua_tonumber(L, key)) {
      /* In the packed part already. */
    } else {
      if (listing) lumap_put_u8(e->sink.out, LUMAP_TAG_PAIRS);
      listing = false;
      put_field(e, key, value, step);
      if (pairs < UINT8_MAX) pairs++;
    }
    lua_settop(L, key);
  }
  lumap_put_u8(e->sink.out, LUMAP_TAG_END);
  check_memory(e);
  e->sink.out->data[hint_at] = (unsigned char)pairs;
}

/* Tries to write the list part as packed numbers; false leaves the output as it was. */
static bool put_packed(lumap_encoder *e, int index, size_t count, unsigned tag) {
  lumap_bytes *out = e->sink.out;
  size_t start = out->size, kind_at;
  int kind;
  if (count < LUMAP_PACKED_LEAST || count > LUMAP_PACKED_MOST || !lumap_packed_looks_numeric(e->L, index, count))
    return false;
  lumap_put_u8(out, tag);
  kind_at = out->size;
  lumap_put_u8(out, 0);
  lumap_put_varint(out, count);
  if (!lumap_bytes_reserve(out, count * sizeof(double))) lumap_encoder_no_memory(e);
  kind = lumap_pack_exact(e->L, index, count, out->data + out->size);
  if (kind == 0) {
    out->size = start;
    return false;
  }
  out->data[kind_at] = (unsigned char)kind;
  out->size += count * sizeof(double);
  return true;
}

/* The table's tag (unless a FILL stands for it) and everything behind it. `metatable` is a stack index or 0. */
static void put_parts(lumap_encoder *e, int index, int metatable, bool fill, const lumap_step *step) {
  lumap_bytes *out = e->sink.out;
  size_t count = lumap_rawlen(e->L, index), hint_at;
  unsigned meta = metatable ? LUMAP_META : 0;
  unsigned shared = fill ? 0 : lumap_sink_tag(e, 0);
  bool packed = put_packed(e, index, count, LUMAP_TAG_PACKED | meta | shared);
  if (!packed) {
    lumap_put_u8(out, LUMAP_TAG_TABLE | meta | shared);
    lumap_put_varint(out, count);
  }
  hint_at = out->size;
  lumap_put_u8(out, 0);
  if (packed && !lumap_packed_has_more(e->L, index, count))
    lumap_put_u8(out, LUMAP_TAG_END);
  else
    put_body(e, index, packed ? count : 0, hint_at, step);
  if (metatable) put_metatable(e, metatable, step);
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

static void put_deferred(lumap_encoder *e) {
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
    put_parts(e, table, lua_getmetatable(L, table) ? table + 1 : 0, true, &root);
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
  e->runs_user_code = true;
  code = lua_pcall(L, 1, 1, 0);
  e->runs_user_code = false;
  if (lumap_is_out_of_memory(L, code)) lua_error(L);
  if (code != 0) refuse_packing(e, record, step);
  keep_packed(e);
  lumap_sink_remember(e, index);
  *lumap_map_find(e->sink.seen, lua_topointer(L, index)) |= LUMAP_SCOPE_IS_PACKED;
  lumap_put_u8(e->sink.out, lumap_sink_tag(e, LUMAP_TAG_CUSTOM));
  lua_rawgeti(L, record, LUMAP_CLASS_NAME);
  name = lua_tolstring(L, -1, &size);
  lumap_put_string(e->sink.out, name, size);
  lua_pop(L, 1);
  /* An unpack function must see the whole value: nothing in it may come behind. */
  e->depth++;
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
  if (lumap_put_reference(e, object)) return;
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
    e->depth++;
    put_parts(e, index, metatable, false, step);
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

void lumap_put_value(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_bytes *out = e->sink.out;
  int64_t integer;
  double number;
  size_t size;
  const char *string;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    lumap_put_u8(out, LUMAP_TAG_NIL);
    break;
  case LUA_TBOOLEAN:
    lumap_put_u8(out, lua_toboolean(L, index) ? LUMAP_TAG_TRUE : LUMAP_TAG_FALSE);
    break;
  case LUA_TNUMBER:
    if (lumap_is_integer(L, index, &integer)) {
      lumap_put_integer(out, integer);
    } else {
      number = lua_tonumber(L, index);
      lumap_put_field(out, LUMAP_TAG_F64, &number, sizeof number);
    }
    break;
  case LUA_TSTRING:
    string = lua_tolstring(L, index, &size);
    lumap_put_string(out, string, size);
    break;
  case LUA_TTABLE:
    put_table(e, index, step);
    break;
  case LUA_TFUNCTION:
    put_function(e, index, step);
    break;
  case LUA_TUSERDATA:
    put_userdata(e, index, step);
    break;
  case LUMAP_TCDATA:
    put_cdata(e, index, step);
    break;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, index)) lumap_path_refuse(L, step, index);
    lumap_put_u8(out, LUMAP_TAG_NULL);
    break;
  default:
    lumap_path_refuse(L, step, index);
  }
}

void lumap_encode_value(lumap_encoder *e, int index, const char *label, int number) {
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, number, label, NULL};
  e->mark = e->sink.out->size;
  e->log_mark = e->scope ? e->scope->log.size : 0;
  e->globals_mark = e->scope && e->scope->writes ? count_pending_globals(e->L, e->scope_index) : 0;
  lumap_put_value(e, lua_absindex(e->L, index), &root);
  put_deferred(e);
  check_memory(e);
}

/* ---- the log ------------------------------------------------------------------------------------------------ */

/* Writes one record straight into the log of the scope. */
static void log_record(lua_State *L, int scope, unsigned record, const char *name, int index, const lumap_step *step) {
  lumap_encoder *e;
  int top = lua_gettop(L);
  index = lua_absindex(L, index);
  e = bind(L, lua_absindex(L, scope), 0);
  lua_pushnil(L);
  e->sink = log_sink(e, lua_gettop(L));
  lumap_put_declarations(e);
  lumap_put_u8(e->sink.out, record);
  if (name) lumap_put_string(e->sink.out, name, strlen(name));
  lumap_put_value(e, index, step);
  put_deferred(e);
  check_memory(e);
  lua_settop(L, top);
}

void lumap_log_value(lua_State *L, int scope, int index, const char *label) {
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, 0, label, NULL};
  log_record(L, scope, LUMAP_RECORD_VALUE, NULL, index, &root);
}

void lumap_log_global(lua_State *L, int scope, const char *name, int index, const char *label) {
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, 0, label, NULL};
  log_record(L, scope, LUMAP_RECORD_GLOBAL, name, index, &root);
}

/* Writes the class whose record is on top, its metatable or nil. [-0, +0] */
static int log_class(lua_State *L) {
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, 0, "a registered class", NULL};
  lumap_encoder *e = bind(L, 1, 0);
  lua_pushnil(L);
  e->sink = log_sink(e, lua_gettop(L));
  lumap_put_declarations(e);
  lumap_put_u8(e->sink.out, LUMAP_RECORD_CLASS);
  for (int i = LUMAP_CLASS_NAME; i <= LUMAP_CLASS_UNPACK; i++) {
    if (i == LUMAP_CLASS_METATABLE && !lua_toboolean(L, 3))
      lua_pushnil(L);
    else
      lua_rawgeti(L, 2, i);
    lumap_put_value(e, lua_gettop(L), &root);
    lua_pop(L, 1);
  }
  put_deferred(e);
  check_memory(e);
  return 0;
}

/* Tells why the class, whose record is below the error on top, does not cross. [-1, +0] */
static void log_lost_class(lua_State *L, lumap_scope *s) {
  size_t size;
  const char *text;
  lumap_put_u8(&s->log, LUMAP_RECORD_CLASS);
  lua_rawgeti(L, -2, LUMAP_CLASS_NAME);
  text = lua_tolstring(L, -1, &size);
  lumap_put_string(&s->log, text, size);
  lumap_put_u8(&s->log, LUMAP_TAG_NIL);
  lumap_put_u8(&s->log, LUMAP_TAG_NIL);
  text = lua_tolstring(L, -2, &size);
  lumap_put_string(&s->log, text ? text : "", text ? size : 0);
  lua_pop(L, 2);
}

void lumap_log_classes(lua_State *L, int scope) {
  lumap_scope *s = lua_touserdata(L, scope);
  scope = lua_absindex(L, scope);
  luaL_checkstack(L, 12, NULL);
  if (!lumap_classes_push_names(L)) return;
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    bool sent = lua_type(L, -2) != LUA_TSTRING;
    for (int with_metatable = 1; with_metatable >= 0 && !sent; with_metatable--) {
      size_t mark = s->log.size, globals = count_pending_globals(L, scope);
      int code;
      lua_pushcfunction(L, log_class);
      lua_pushvalue(L, scope);
      lua_pushvalue(L, -3);
      lua_pushboolean(L, with_metatable);
      code = lua_pcall(L, 3, 0, 0);
      if (lumap_is_out_of_memory(L, code)) lua_error(L);
      sent = code == 0;
      if (sent) break;
      /* The metatable of a library's userdata does not cross; the worker learns it from the first object that it makes.
         Of a class whose functions do not cross the worker is told the reason. */
      rewind_log(L, scope, mark, globals);
      if (with_metatable)
        lua_pop(L, 1);
      else
        log_lost_class(L, s);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

void lumap_log_paths(lua_State *L, int scope) {
  static const char *const fields[] = {"path", "cpath"};
  lumap_scope *s = lua_touserdata(L, scope);
  lua_getglobal(L, "package");
  lumap_put_u8(&s->log, LUMAP_RECORD_PATHS);
  for (int i = 0; i < 2; i++) {
    size_t size;
    const char *path;
    lua_getfield(L, -1, fields[i]);
    path = lua_tolstring(L, -1, &size);
    lumap_put_string(&s->log, path ? path : "", path ? size : 0);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* scope, addition, step */
static int log_addition_protected(lua_State *L) {
  const lumap_step *step = lua_touserdata(L, 3);
  lua_rawgeti(L, 2, LUMAP_ADDITION_VALUE);
  log_record(L, 1, LUMAP_RECORD_ADDITION, step->text, -1, step);
  return 0;
}

/* Writes the addition to a library at `index`. Whether the code that mentions its name means it is not known: one that
   cannot be sent is refused where it is called. */
static void log_addition(lua_State *L, int scope, int index, lumap_step *step) {
  lumap_scope *s = lua_touserdata(L, scope);
  size_t mark = s->log.size, globals = count_pending_globals(L, scope);
  int code;
  lua_rawgeti(L, index, LUMAP_ADDITION_NAME);
  step->text = lua_tostring(L, -1);
  lua_pushcfunction(L, log_addition_protected);
  lua_pushvalue(L, scope);
  lua_pushvalue(L, index);
  lua_pushlightuserdata(L, step);
  code = lua_pcall(L, 3, 0, 0);
  if (code == 0) return;
  if (lumap_is_out_of_memory(L, code)) lua_error(L);
  rewind_log(L, scope, mark, globals);
  log_record(L, scope, LUMAP_RECORD_REFUSED, step->text, -1, step);
}

void lumap_log_finish(lua_State *L, int scope) {
  int top = lua_gettop(L), pending, readers;
  scope = lua_absindex(L, scope);
  luaL_checkstack(L, 12, NULL);
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_PENDING_GLOBALS);
  pending = top + 1;
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_READERS);
  readers = top + 2;
  /* Writing one global may find more. */
  for (size_t count; (count = lumap_rawlen(L, pending)) > 0; lua_settop(L, readers)) {
    lumap_step step = {NULL, LUMAP_STEP_GLOBAL, 0, 0, NULL, NULL};
    lua_rawgeti(L, pending, (int)count);
    lua_pushnil(L);
    lua_rawseti(L, pending, (int)count);
    lua_pushvalue(L, readers + 1);
    lua_rawget(L, readers);
    step.reader = lua_tostring(L, -1);
    if (lua_istable(L, readers + 1)) {
      log_addition(L, scope, readers + 1, &step);
      continue;
    }
    step.text = lua_tostring(L, readers + 1);
    lumap_scope_push_global(L, readers + 1);
    if (!lua_isnil(L, -1)) log_record(L, scope, LUMAP_RECORD_GLOBAL, step.text, -1, &step);
  }
  lua_settop(L, top);
}
