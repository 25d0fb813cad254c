/* SPDX-License-Identifier: MIT
 *
 * function.c - Lua functions to bytes and back: bytecode with its debug information, upvalues with their identity, and
 * on the caller's side a note of the globals that the code reads and of what scripts added to the libraries it uses.
 *
 * An upvalue is a variable, not a value: two functions that share one go on sharing it. The first function that has it
 * writes CELL and the value, the others CELL_REF with where to find it.
 */
#include "codec/encoder.h"

#include "codec/additions.h"
#include "lua/bytecode.h"

/* Bytecode is good for one VM only. */
enum { VM_CODE = LUMAP_VM_CODE };
enum { CODE_HEAD = 1 + 4 + 4 };

static int append(lua_State *L, const void *bytes, size_t size, void *data) {
  (void)L;
  return lumap_bytes_append(data, bytes, size) ? 0 : 1;
}

/* ---- names that the code mentions --------------------------------------------------------------------------- */

typedef struct finding {
  lumap_encoder *e;
  int function; /* stack indexes, this one and the others */
  int own;      /* the function's environment, if it has one of its own that leads to the globals; else 0 */
  int considered, pending, readers, constants;
} finding;

/* Does what is read from the table on top come from the globals in the end, if it has it not itself? [-0, +0] */
static bool leads_to_globals(const lumap_encoder *e) {
  enum { MOST_STEPS = 20 };
  lua_State *L = e->L;
  int top = lua_gettop(L);
  bool found = false;
  lua_pushvalue(L, top);
  for (int i = 0; i < MOST_STEPS && lua_istable(L, -1); i++) {
    found = lumap_encoder_is_globals(e, lua_topointer(L, -1));
    if (found || !lua_getmetatable(L, -1)) break;
    lua_pushliteral(L, "__index");
    lua_rawget(L, -2);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
  }
  lua_settop(L, top);
  return found;
}

/* Is the name on top found in the environment `own`, before the globals? [-0, +0] */
static bool is_shadowed(const lumap_encoder *e, int own) {
  lua_State *L = e->L;
  int name = lua_gettop(L);
  bool found = false;
  lua_pushvalue(L, own);
  while (!found && !lumap_encoder_is_globals(e, lua_topointer(L, -1))) {
    lua_pushvalue(L, name);
    lua_rawget(L, -2);
    found = !lua_isnil(L, -1);
    lua_settop(L, name + 1);
    lua_getmetatable(L, -1);
    lua_pushliteral(L, "__index");
    lua_rawget(L, -2);
    lua_replace(L, name + 1);
    lua_settop(L, name + 1);
  }
  lua_settop(L, name);
  return found;
}

/* Notes what is on top, a name or an addition, to be written once a call. [-0, +0] */
static void note(const finding *f) {
  lua_State *L = f->e->L;
  int top = lua_gettop(L);
  lua_pushvalue(L, top);
  lua_rawseti(L, f->pending, (int)lumap_rawlen(L, f->pending) + 1);
  lua_pushvalue(L, top);
  lumap_path_push_function(L, f->function);
  lua_rawset(L, f->readers);
}

/* Is what is on top in the set at `considered`? It is from now on. [-0, +0] */
static bool is_considered(lua_State *L, int considered) {
  bool known;
  lua_pushvalue(L, -1);
  lua_rawget(L, considered);
  known = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (known) return true;
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, considered);
  return false;
}

/* Notes the global that must go along: once a call, if it is there and not the standard one. The name is on top. */
static void note_global(const finding *f) {
  lua_State *L = f->e->L;
  int name = lua_gettop(L);
  if ((f->own && is_shadowed(f->e, f->own)) || is_considered(L, f->considered)) return;
  lumap_scope_push_global(L, name);
  if (!lua_isnil(L, -1) && !lumap_names_is_standard_global(L, f->e->names, name)) {
    lua_settop(L, name);
    note(f);
  }
}

/* Notes the additions to libraries, `count` of them, on top, which are popped. */
static void note_additions(const finding *f, int count) {
  for (; count > 0; count--) {
    note(f);
    lua_pop(f->e->L, 1);
  }
}

static void note_name(void *data, lumap_name_kind kind, const char *name, size_t size) {
  const finding *f = data;
  lua_State *L = f->e->L;
  int top = lua_gettop(L);
  lua_pushlstring(L, name, size);
  if (kind == LUMAP_NAME_GLOBAL)
    note_global(f);
  else if (!is_considered(L, f->constants))
    note_additions(f, lumap_additions_push(L));
  lua_settop(L, top);
}

/* Notes in `use` whether the table on top, which is popped, leads to the globals. One that is not the globals itself
   becomes f->own, unless there is one already. [-1, +(0|1)] */
static bool use_table(finding *f, bool may_be_own) {
  lua_State *L = f->e->L;
  bool is_globals = lua_istable(L, -1) && lumap_encoder_is_globals(f->e, lua_topointer(L, -1));
  if (!is_globals && may_be_own && !f->own && leads_to_globals(f->e)) {
    f->own = lua_gettop(L);
    return true;
  }
  lua_pop(L, 1);
  return is_globals;
}

/* Where does the function have the globals? Leaves f->own on the stack. */
static void find_globals(finding *f, int upvalues, lumap_globals_use *use) {
  lua_State *L = f->e->L;
  if (lumap_push_environment(L, f->function)) use->environment = use_table(f, true);
  for (int i = 1; i <= upvalues; i++) {
    const char *name = lua_getupvalue(L, f->function, i);
    use->upvalues[i - 1] = use_table(f, name && strcmp(name, "_ENV") == 0);
  }
}

static void note_names(lumap_encoder *e, int index, const void *code, size_t size, int upvalues) {
  lua_State *L = e->L;
  int top = lua_gettop(L);
  finding f = {e, index, 0, top + 1, top + 2, top + 3, top + 4};
  lumap_globals_use use = {false, {false}};
  luaL_checkstack(L, 20, NULL);
  lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_GLOBALS);
  lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_PENDING_GLOBALS);
  lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_READERS);
  lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_CONSTANTS);
  lua_pushboolean(L, 1);
  if (!is_considered(L, f.constants)) note_additions(&f, lumap_additions_push_operators(L));
  lua_pop(L, 1);
  find_globals(&f, upvalues, &use);
  lumap_bytecode_names(L, code, size, &use, note_name, &f);
  lua_settop(L, top);
}

/* ---- encoding ----------------------------------------------------------------------------------------------- */

/* Writes the code, or where the log has it already. Functions made by one piece of source share it. */
static void put_code(lumap_encoder *e, int index, int upvalues) {
  lua_State *L = e->L;
  lumap_bytes *out = e->sink.out;
  size_t start = out->size, size;
  uint64_t offset = lumap_sink_offset(&e->sink);
  uint32_t checksum, size32;
  const unsigned char *code;
  lumap_put_u8(out, LUMAP_TAG_CODE);
  lumap_put_u8(out, VM_CODE);
  if (!lumap_bytes_reserve(out, 8)) lumap_encoder_no_memory(e);
  out->size += 8;
  lua_pushvalue(L, index);
  if (lumap_dump(L, append, out) != 0) lumap_encoder_no_memory(e);
  lua_pop(L, 1);
  size = out->size - start - 1 - CODE_HEAD;
  if (size > UINT32_MAX) lumap_raise(L, "cannot send a function with more than 4 GiB of code");
  code = out->data + start + 1 + CODE_HEAD;
  checksum = lumap_checksum(code, size);
  size32 = (uint32_t)size;
  memcpy(out->data + start + 2, &checksum, sizeof checksum);
  memcpy(out->data + start + 6, &size32, sizeof size32);
  if (e->scope && e->scope->writes && e->scope->finds_globals) note_names(e, index, code, size, upvalues);
  if (!e->sink.is_log) return;
  lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_CODES);
  lua_pushlstring(L, (const char *)code, size);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushnumber(L, (lua_Number)offset);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return;
  }
  out->size = start;
  lumap_put_u8(out, LUMAP_TAG_CODE_REF);
  lumap_put_varint(out, (uint64_t)lua_tonumber(L, -1));
  lua_pop(L, 3);
}

static void put_upvalue(lumap_encoder *e, int index, int number, uint64_t offset, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_step here = {step, LUMAP_STEP_UPVALUE, index, number, NULL, NULL};
  const void *cell = lua_upvalueid(L, index, number);
  uint64_t *hit;
  lua_getupvalue(L, index, number);
  if (lua_istable(L, -1) && lumap_encoder_is_globals(e, lua_topointer(L, -1))) {
    lumap_put_u8(e->sink.out, LUMAP_TAG_GLOBALS);
  } else if ((hit = lumap_map_find(e->sink.seen, cell)) != NULL) {
    uint64_t where = *hit;
    lumap_sink_share(e, where >> 8);
    lumap_put_u8(e->sink.out, LUMAP_TAG_CELL_REF);
    lumap_put_varint(e->sink.out, where >> 8);
    lumap_put_u8(e->sink.out, (unsigned)(where & 0xff));
  } else {
    if (!lumap_map_set(e->sink.seen, cell, offset << 8 | (unsigned)number)) lumap_encoder_no_memory(e);
    lumap_put_u8(e->sink.out, LUMAP_TAG_CELL);
    lumap_put_value(e, lua_gettop(L), &here);
  }
  lua_pop(L, 1);
}

void lumap_put_function(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_step here = {step, LUMAP_STEP_ENVIRONMENT, index, 0, NULL, NULL};
  int upvalues = lumap_upvalue_count(L, index);
  uint64_t offset;
  if (!e->names) {
    lumap_path_push(L, step);
    lumap_raise(L, "cannot send %s (a %s): functions are encoded only with the option functions = true%s",
                lua_tostring(L, -1), lua_iscfunction(L, index) ? "C function" : "function",
                lua_iscfunction(L, index) ? ", those in C if a module that can be required has them" : "");
  }
  if (lua_iscfunction(L, index)) lumap_path_refuse(L, step, index);
  lumap_encoder_deepen(e);
  if (e->depth >= LUMAP_DEPTH_ALLOWED - 20) {
    lumap_path_push(L, step);
    lumap_raise(L, "cannot send %s: functions are nested too deeply", lua_tostring(L, -1));
  }
  offset = lumap_sink_remember(e, index);
  if (e->sink.is_log) e->scope->functions++;
  lumap_put_u8(e->sink.out, lumap_sink_tag(e, LUMAP_TAG_FUNCTION));
  put_code(e, index, upvalues);
  lumap_put_u8(e->sink.out, (unsigned)upvalues);
  if (lumap_push_environment(L, index)) {
    lumap_put_value(e, lua_gettop(L), &here);
    lua_pop(L, 1);
  } else {
    lumap_put_u8(e->sink.out, LUMAP_TAG_NIL);
  }
  for (int i = 1; i <= upvalues; i++)
    put_upvalue(e, index, i, offset, step);
  e->depth--;
}

/* ---- decoding ----------------------------------------------------------------------------------------------- */

/* Pushes the function that the code at the reader's place makes, with fresh upvalues. */
static void get_code(lumap_decoder *d) {
  lua_State *L = d->L;
  uint64_t offset = d->base + d->in.at;
  unsigned tag = lumap_get_u8(&d->in);
  const unsigned char *code;
  size_t size;
  int status;
  if (tag == LUMAP_TAG_CODE_REF) {
    if (!lumap_decoder_push_object(d, lumap_get_varint(&d->in)) || lua_type(L, -1) != LUA_TSTRING)
      lumap_decoder_bad(d, "a reference to code that is not there");
    code = (const unsigned char *)lua_tolstring(L, -1, &size);
  } else {
    unsigned vm = lumap_get_u8(&d->in);
    uint32_t checksum = 0, size32 = 0;
    lumap_get_number(&d->in, &checksum, sizeof checksum);
    lumap_get_number(&d->in, &size32, sizeof size32);
    code = lumap_get_bytes(&d->in, size32);
    size = size32;
    if (tag != LUMAP_TAG_CODE || !code) lumap_decoder_bad(d, "a function without code");
    if (vm != VM_CODE) lumap_decoder_bad(d, "a function compiled for another Lua VM");
    if (checksum != lumap_checksum(code, size)) lumap_decoder_bad(d, "damaged bytecode");
    lua_pushlstring(L, (const char *)code, size);
    if (d->in_log) lumap_decoder_remember(d, offset);
  }
  status = lumap_load(L, code, size, "=?", "b");
  if (status == LUA_ERRMEM) lua_error(L);
  if (status != 0) lumap_decoder_bad(d, "bytecode that does not load");
  lua_remove(L, -2);
}

/* Reads upvalue `number` of the function on top. */
static void get_upvalue(lumap_decoder *d, int number) {
  lua_State *L = d->L;
  int function = lua_gettop(L);
  unsigned tag = lumap_get_u8(&d->in);
  if (tag == LUMAP_TAG_CELL_REF) {
    uint64_t offset = lumap_get_varint(&d->in);
    int other = (int)lumap_get_u8(&d->in);
    if (!lumap_decoder_push_object(d, offset) || !lua_isfunction(L, -1) || lua_iscfunction(L, -1) || other < 1 ||
        other > lumap_upvalue_count(L, -1))
      lumap_decoder_bad(d, "a reference to an upvalue that is not there");
    lua_upvaluejoin(L, function, number, lua_gettop(L), other);
    lua_pop(L, 1);
    return;
  }
  if (tag == LUMAP_TAG_CELL)
    lumap_decode_nested(d);
  else if (tag == LUMAP_TAG_GLOBALS)
    lumap_decoder_push_globals(d);
  else
    lumap_decoder_bad(d, "an upvalue expected");
  lua_setupvalue(L, function, number);
}

void lumap_get_function(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  int upvalues, function;
  if (!d->scope && !(d->flags & LUMAP_CODEC_FUNCTIONS))
    lumap_decoder_bad(d, "a function, which is decoded only with the option functions = true");
  get_code(d);
  function = lua_gettop(L);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  upvalues = (int)lumap_get_u8(&d->in);
  if (d->in.failed || upvalues != lumap_upvalue_count(L, function))
    lumap_decoder_bad(d, "a function with a wrong number of upvalues");
  lumap_decode_nested(d);
  if (lua_istable(L, -1))
    lumap_set_environment(L, function);
  else
    lua_pop(L, 1);
  for (int i = 1; i <= upvalues; i++)
    get_upvalue(d, i);
}
