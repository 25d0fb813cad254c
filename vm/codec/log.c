/* SPDX-License-Identifier: MIT
 *
 * log.c - writing a call's log: its records, and taking back what a refusal left in it.
 */
#include "codec/encoder.h"

#include "codec/additions.h"
#include "codec/cdata.h"

lumap_sink lumap_log_sink(lumap_encoder *e, int deferred) {
  lumap_scope *scope = e->scope;
  return (lumap_sink){
      .out = &scope->log, .seen = &scope->map, .base = scope->log_size, .is_log = true, .deferred = deferred};
}

/* ---- taking back -------------------------------------------------------------------------------------------- */

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

size_t lumap_log_pending(lua_State *L, int scope) {
  size_t count;
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_PENDING_GLOBALS);
  count = lumap_rawlen(L, -1);
  lua_pop(L, 1);
  return count;
}

void lumap_log_rewind(lua_State *L, int index, size_t size, size_t globals) {
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

/* ---- records ------------------------------------------------------------------------------------------------ */

typedef struct record {
  unsigned kind;
  const char *name; /* NULL: the kind has none */
  const lumap_step *root;
} record;

/* An encoder for records. What may have a name is looked at once an entry, all of which is written at one time. */
static lumap_encoder *bind_encoder(lua_State *L, int scope) {
  lumap_encoder *e = lumap_encoder_bind(L, scope, 0);
  e->knows_names = e->scope->named == e->scope->log_size + 1;
  lumap_encoder_need_names(e);
  e->scope->named = e->scope->log_size + 1;
  return e;
}

/* record, scope, value */
static int write_record(lua_State *L) {
  const record *what = lua_touserdata(L, 1);
  lumap_encoder *e = bind_encoder(L, 2);
  lua_pushnil(L);
  e->sink = lumap_log_sink(e, lua_gettop(L));
  lumap_put_declarations(e);
  lumap_put_u8(e->sink.out, what->kind);
  if (what->name) lumap_put_string(e->sink.out, what->name, strlen(what->name));
  lumap_put_value(e, 3, what->root);
  lumap_put_deferred(e);
  lumap_encoder_check_memory(e);
  return 0;
}

/* Writes one record straight into the log of the scope. The step refers to nothing on the stack. */
static void log_record(lua_State *L, int scope, unsigned kind, const char *name, int index, const lumap_step *root) {
  record what = {kind, name, root};
  scope = lua_absindex(L, scope);
  index = lua_absindex(L, index);
  luaL_checkstack(L, 8, NULL);
  lua_pushcfunction(L, write_record);
  lua_pushlightuserdata(L, &what);
  lua_pushvalue(L, scope);
  lua_pushvalue(L, index);
  if (lumap_encode_call(L, 3, 0) != 0) lua_error(L);
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
  lumap_encoder *e = bind_encoder(L, 1);
  lua_pushnil(L);
  e->sink = lumap_log_sink(e, lua_gettop(L));
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
  lumap_put_deferred(e);
  lumap_encoder_check_memory(e);
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
      size_t mark = s->log.size, globals = lumap_log_pending(L, scope);
      int code;
      lua_pushcfunction(L, log_class);
      lua_pushvalue(L, scope);
      lua_pushvalue(L, -3);
      lua_pushboolean(L, with_metatable);
      code = lumap_encode_call(L, 3, 0);
      if (lumap_is_out_of_memory(L, code)) lua_error(L);
      sent = code == 0;
      if (sent) break;
      /* The metatable of a library's userdata does not cross; the worker learns it from the first object that it makes.
         Of a class whose functions do not cross the worker is told the reason. */
      lumap_log_rewind(L, scope, mark, globals);
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
  size_t mark = s->log.size, globals = lumap_log_pending(L, scope);
  int code;
  lua_rawgeti(L, index, LUMAP_ADDITION_NAME);
  step->text = lua_tostring(L, -1);
  lua_pushcfunction(L, log_addition_protected);
  lua_pushvalue(L, scope);
  lua_pushvalue(L, index);
  lua_pushlightuserdata(L, step);
  code = lumap_encode_call(L, 3, 0);
  if (code == 0) return;
  if (lumap_is_out_of_memory(L, code)) lua_error(L);
  lumap_log_rewind(L, scope, mark, globals);
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
