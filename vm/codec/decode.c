/* SPDX-License-Identifier: MIT
 *
 * decode.c - bytes to values. Every count is compared with the bytes that are left before anything is allocated, so
 * memory is bounded by a small multiple of the input; nesting is bounded by LUMAP_DEPTH_ALLOWED.
 */
#include "codec/encoder.h"

#include "codec/additions.h"
#include "codec/cdata.h"
#include "codec/handle.h"

#include <stdio.h>

int lumap_decoder_bad(lumap_decoder *d, const char *what) {
  char at[32];
  snprintf(at, sizeof at, "%llu", (unsigned long long)d->in.at);
  return lumap_raise(d->L, "bad message at byte %s: %s", at, d->in.failed ? "it ends too early" : what);
}

/* ---- objects ------------------------------------------------------------------------------------------------ */

void lumap_decoder_remember(lumap_decoder *d, uint64_t offset) {
  lua_State *L = d->L;
  if (lua_isnil(L, d->objects)) {
    lua_newtable(L);
    lua_replace(L, d->objects);
  }
  lua_pushnumber(L, (lua_Number)offset);
  lua_pushvalue(L, -2);
  lua_rawset(L, d->objects);
  /* What a worker reads from the log it knows again when it writes a result. */
  if (d->in_log && (lua_istable(L, -1) || lua_isfunction(L, -1)) &&
      !lumap_map_set(&d->scope->map, lua_topointer(L, -1), offset << 8))
    lumap_raise(L, "not enough memory");
}

bool lumap_decoder_push_object(lumap_decoder *d, uint64_t offset) {
  lua_State *L = d->L;
  if (lua_isnil(L, d->objects)) return false;
  lua_pushnumber(L, (lua_Number)offset);
  lua_rawget(L, d->objects);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

void lumap_decoder_push_globals(lumap_decoder *d) {
  if (d->scope && !d->scope->writes)
    lumap_scope_push_slot(d->L, d->scope_index, LUMAP_SCOPE_ENVIRONMENT);
  else
    lumap_scope_push_environment(d->L);
}

static void push_known(lumap_decoder *d) {
  uint64_t offset = lumap_get_varint(&d->in);
  lumap_decoder_check(d);
  if (!d->scope) lumap_decoder_bad(d, "a reference to a log, outside a call");
  lumap_scope_push_slot(d->L, d->scope_index, LUMAP_SCOPE_OBJECTS);
  lua_pushnumber(d->L, (lua_Number)offset);
  lua_rawget(d->L, -2);
  lua_remove(d->L, -2);
  if (lua_isnil(d->L, -1)) lumap_decoder_bad(d, "a reference to an object that the log does not have");
}

void lumap_decoder_fail(lumap_decoder *d) {
  if (!d->scope) lumap_decoder_bad(d, lua_tostring(d->L, -1));
  if (lua_isnil(d->L, d->failure))
    lua_replace(d->L, d->failure);
  else
    lua_pop(d->L, 1);
}

/* Stands for an object that could not be made. */
static const char unmade;

void lumap_decoder_fail_object(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  lumap_decoder_fail(d);
  lua_pushlightuserdata(L, (void *)(uintptr_t)&unmade);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  lua_pop(L, 1);
  lua_pushnil(L);
}

/* ---- deferred tables ---------------------------------------------------------------------------------------- */

/* The least that a FILL takes: its tag, an offset, and a table with nothing in it. */
enum { LEAST_FILL = 6 };

static void announce(lumap_decoder *d, uint64_t offset) {
  if (++d->deferred > lumap_reader_left(&d->in) / LEAST_FILL) lumap_decoder_bad(d, "a deferred table is missing");
  lua_newtable(d->L);
  lumap_decoder_remember(d, offset);
}

/* Tables are filled in the order in which they were announced. Another one, filled already or never announced, may be
   an object of this state that a message must not write to. */
static bool is_announced(const lumap_decoder *d, uint64_t offset) {
  return offset > d->filled && offset >= d->base && offset - d->base < d->in.at &&
         (d->in.data[offset - d->base] & ~(unsigned)LUMAP_SHARED) == LUMAP_TAG_DEFERRED;
}

static void get_fill(lumap_decoder *d) {
  uint64_t offset;
  unsigned tag;
  if (lumap_get_u8(&d->in) != LUMAP_TAG_FILL) lumap_decoder_bad(d, "a deferred table is missing");
  offset = lumap_get_varint(&d->in);
  if (!is_announced(d, offset) || !lumap_decoder_push_object(d, offset) || !lua_istable(d->L, -1))
    lumap_decoder_bad(d, "a deferred table that was not announced");
  d->filled = offset;
  tag = lumap_get_u8(&d->in);
  if ((tag & ~(unsigned)(LUMAP_META | 4)) != LUMAP_TAG_TABLE) lumap_decoder_bad(d, "a deferred table expected");
  lumap_get_table(d, tag, true, offset);
  lua_pop(d->L, 1);
}

/* ---- names and registered classes --------------------------------------------------------------------------- */

static void get_name(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  unsigned parts = lumap_get_u8(&d->in);
  if (!d->scope && !(d->flags & LUMAP_CODEC_FUNCTIONS))
    lumap_decoder_bad(d, "the name of a module, which is looked up only with the option functions = true");
  if (parts == 0 || parts > 8) lumap_decoder_bad(d, "a name without parts");
  for (unsigned i = 0; i < parts; i++) {
    size_t size;
    const char *part = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
    if (!part) lumap_decoder_bad(d, "a string expected");
    lua_pushlstring(L, part, size);
  }
  if (!lumap_names_resolve(L, (int)parts)) {
    lumap_decoder_fail_object(d, tag, offset);
  } else if (tag & LUMAP_SHARED) {
    lumap_decoder_remember(d, offset);
  }
}

/* A userdata's metatable is its library's: the class is known by the first object made. */
static void learn_metatable(lua_State *L, int record, int object) {
  lua_rawgeti(L, record, LUMAP_CLASS_METATABLE);
  if (lua_isnil(L, -1) && lua_type(L, object) != LUMAP_TCDATA && lua_getmetatable(L, object)) {
    int base = lua_gettop(L) - 1;
    lua_rawgeti(L, record, LUMAP_CLASS_NAME);
    lua_rawgeti(L, record, LUMAP_CLASS_PACK);
    lua_rawgeti(L, record, LUMAP_CLASS_UNPACK);
    lumap_classes_receive(L, base + 2, base + 1, base + 3, base + 4);
    lua_settop(L, base);
  }
  lua_pop(L, 1);
}

static void get_custom(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  size_t size;
  const char *name = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
  int base = lua_gettop(L), code;
  if (!name) lumap_decoder_bad(d, "the name of a class expected");
  lua_pushlstring(L, name, size);
  lumap_decode_nested(d);
  lua_pushvalue(L, base + 1);
  if (!lumap_classes_push_by_name(L)) {
    lua_pushfstring(L, "class '%s' is not registered here: call codec.register in both places",
                    lua_tostring(L, base + 1));
  } else {
    bool made;
    lua_rawgeti(L, base + 3, LUMAP_CLASS_UNPACK);
    lua_pushvalue(L, base + 2);
    code = lua_type(L, -2) != LUA_TSTRING ? lua_pcall(L, 1, 1, 0) : LUA_ERRRUN;
    if (lumap_is_out_of_memory(L, code)) lua_error(L);
    made = code == 0;
    if (made && lua_isnil(L, -1)) {
      lua_pushliteral(L, "it gave nil");
      made = false;
    }
    if (made) {
      learn_metatable(L, base + 3, base + 4);
      if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
      lua_replace(L, base + 1);
      lua_settop(L, base + 1);
      return;
    }
    lua_rawgeti(L, base + 3, LUMAP_CLASS_UNPACK);
    if (lua_type(L, -1) == LUA_TSTRING)
      lua_pushfstring(L, "class '%s' is not known here: %s", lua_tostring(L, base + 1), lua_tostring(L, -1));
    else
      lua_pushfstring(L, "the unpack function of class '%s' failed: %s", lua_tostring(L, base + 1),
                      lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(error object is not a string)");
  }
  lua_replace(L, base + 1);
  lua_settop(L, base + 1);
  lumap_decoder_fail_object(d, tag, offset);
}

static void get_file(lumap_decoder *d) {
  static const char *const names[] = {"stdin", "stdout", "stderr"};
  unsigned number = lumap_get_u8(&d->in);
  if (number > 2 || (!d->scope && !(d->flags & LUMAP_CODEC_FUNCTIONS))) lumap_decoder_bad(d, "a file handle");
  lumap_push_loaded(d->L);
  lua_getfield(d->L, -1, "io");
  lua_getfield(d->L, -1, names[number]);
  lua_replace(d->L, -3);
  lua_pop(d->L, 1);
}

/* ---- strings that come again ---------------------------------------------------------------------------------- */

/* A string that goes into a slot, too. */
static void get_text(lumap_decoder *d) {
  unsigned slot = lumap_get_u8(&d->in);
  size_t size;
  const char *bytes = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
  if (!bytes) lumap_decoder_bad(d, "a string expected");
  if (lua_isnil(d->L, d->texts)) {
    lua_createtable(d->L, UINT8_MAX + 1, 0);
    if (d->direct) d->text_table = lua_topointer(d->L, -1);
    lua_replace(d->L, d->texts);
  }
  lua_pushlstring(d->L, bytes, size);
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, d->texts, (int)slot + 1);
}

static void push_text(lumap_decoder *d) {
  unsigned slot = lumap_get_u8(&d->in);
  if (lua_isnil(d->L, d->texts)) lumap_decoder_bad(d, "a reference to a string that is not there");
  lua_rawgeti(d->L, d->texts, (int)slot + 1);
  if (lua_isnil(d->L, -1)) lumap_decoder_bad(d, "a reference to a string that is not there");
}

/* ---- all values --------------------------------------------------------------------------------------------- */

static void get_object(lumap_decoder *d, unsigned tag, uint64_t offset) {
  switch (tag & ~(unsigned)LUMAP_SHARED) {
  case LUMAP_TAG_TABLE:
  case LUMAP_TAG_TABLE | LUMAP_META:
  case LUMAP_TAG_PACKED:
  case LUMAP_TAG_PACKED | LUMAP_META:
    lumap_get_table(d, tag, false, offset);
    break;
  case LUMAP_TAG_RECORD:
  case LUMAP_TAG_RECORD | LUMAP_META:
    lumap_get_record(d, tag, offset);
    break;
  case LUMAP_TAG_DEFERRED:
    announce(d, offset);
    break;
  case LUMAP_TAG_FUNCTION:
    lumap_get_function(d, tag, offset);
    break;
  case LUMAP_TAG_NAME:
    get_name(d, tag, offset);
    break;
  case LUMAP_TAG_CUSTOM:
    get_custom(d, tag, offset);
    break;
  case LUMAP_TAG_CDATA:
    lumap_get_cdata(d, tag, offset);
    break;
  case LUMAP_TAG_HANDLE:
    lumap_get_handle(d, tag, offset);
    break;
  default:
    lumap_decoder_bad(d, "an unknown tag");
  }
}

static void get_value(lumap_decoder *d) {
  lua_State *L = d->L;
  uint64_t offset = d->base + d->in.at, bits = 0;
  unsigned tag = lumap_get_u8(&d->in);
  double number = 0;
  size_t size;
  const char *string;
  if (tag >= LUMAP_TAG_FIXINT) {
    lua_pushinteger(L, (lua_Integer)(tag - LUMAP_TAG_FIXINT));
    return;
  }
  switch (tag) {
  case LUMAP_TAG_NIL:
    lumap_decoder_check(d);
    lua_pushnil(L);
    break;
  case LUMAP_TAG_FALSE:
  case LUMAP_TAG_TRUE:
    lua_pushboolean(L, tag == LUMAP_TAG_TRUE);
    break;
  case LUMAP_TAG_I8:
  case LUMAP_TAG_I16:
  case LUMAP_TAG_I32:
  case LUMAP_TAG_I64:
    lumap_push_integer(L, lumap_get_integer(&d->in, tag));
    break;
  case LUMAP_TAG_F64:
    lumap_get_number(&d->in, &number, sizeof number);
    lua_pushnumber(L, number);
    break;
  case LUMAP_TAG_BOXI64:
  case LUMAP_TAG_BOXU64:
    lumap_get_number(&d->in, &bits, sizeof bits);
    lumap_push_boxed_integer(L, bits, tag == LUMAP_TAG_BOXU64);
    break;
  case LUMAP_TAG_NULL:
    lua_pushlightuserdata(L, NULL);
    break;
  case LUMAP_TAG_FILE:
    get_file(d);
    break;
  case LUMAP_TAG_GLOBALS:
    if (!d->scope && !(d->flags & LUMAP_CODEC_FUNCTIONS)) lumap_decoder_bad(d, "the table of globals");
    lumap_decoder_push_globals(d);
    break;
  case LUMAP_TAG_REF:
    if (!lumap_decoder_push_object(d, lumap_get_varint(&d->in)))
      lumap_decoder_bad(d, "a reference to an object that is not there");
    if (lua_touserdata(L, -1) == &unmade) {
      lua_pop(L, 1);
      lua_pushnil(L);
    }
    break;
  case LUMAP_TAG_KNOWN:
    push_known(d);
    break;
  case LUMAP_TAG_CTYPE:
    lumap_get_ctype(d);
    break;
  case LUMAP_TAG_LIBRARY:
    lumap_get_library(d);
    break;
  case LUMAP_TAG_TEXT:
    get_text(d);
    break;
  case LUMAP_TAG_TEXT_REF:
    push_text(d);
    break;
  default:
    string = tag < LUMAP_TAG_TABLE || tag >= LUMAP_TAG_FIXSTR ? lumap_get_string(&d->in, tag, &size) : NULL;
    if (string)
      lua_pushlstring(L, string, size);
    else
      get_object(d, tag, offset);
  }
  lumap_decoder_check(d);
}

void lumap_decode_nested(lumap_decoder *d) {
  lumap_decoder_deepen(d);
  get_value(d);
  d->depth--;
}

/* ---- entries ------------------------------------------------------------------------------------------------ */

void lumap_decode_begin(lumap_decoder *d, lua_State *L, const void *bytes, size_t size, int scope, unsigned flags) {
  const lumap_slot *scratch;
  luaL_checkstack(L, LUMAP_STACK_TO_DECODE, "no room to decode");
  *d = (lumap_decoder){.L = L, .in = {bytes, size, 0, false}, .flags = flags, .room = size};
  scratch = lumap_layout_push(L);
  d->direct = scratch != NULL;
  lumap_maker_init(&d->maker, L, scratch);
  d->objects = lua_gettop(L); /* nil from here on */
  lua_pushnil(L);
  lua_replace(L, d->objects);
  d->failure = d->objects + 1;
  d->shapes = d->objects + 2;
  d->texts = d->objects + 3;
  d->model = d->objects + 4;
  lua_settop(L, d->model);
  if (scope) {
    d->scope_index = lua_absindex(L, scope);
    d->scope = lua_touserdata(L, d->scope_index);
  }
}

void lumap_decode_value(lumap_decoder *d) {
  get_value(d);
  while (d->deferred > 0) {
    d->deferred--;
    get_fill(d);
  }
}

bool lumap_decode_failure(lumap_decoder *d) {
  if (lua_isnil(d->L, d->failure)) return false;
  lua_pushvalue(d->L, d->failure);
  lua_pushnil(d->L);
  lua_replace(d->L, d->failure);
  return true;
}

/* Reads a string and pushes it. */
static void get_record_name(lumap_decoder *d) {
  size_t size;
  const char *name = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
  if (!name) lumap_decoder_bad(d, "a name expected");
  lua_pushlstring(d->L, name, size);
}

static void get_paths(lumap_decoder *d) {
  lua_getglobal(d->L, "package");
  get_record_name(d);
  lua_setfield(d->L, -2, "path");
  get_record_name(d);
  lua_setfield(d->L, -2, "cpath");
}

static void get_record(lumap_decoder *d, int environment, int values) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  unsigned record = lumap_get_u8(&d->in);
  if (record != LUMAP_RECORD_VALUE && record != LUMAP_RECORD_GLOBAL && record != LUMAP_RECORD_OBJECT)
    d->scope->has_effects = true;
  switch (record) {
  case LUMAP_RECORD_VALUE:
    lumap_decode_value(d);
    lua_rawseti(L, values, (int)lumap_rawlen(L, values) + 1);
    break;
  case LUMAP_RECORD_GLOBAL:
    get_record_name(d);
    lumap_decode_value(d);
    lua_rawset(L, environment);
    break;
  case LUMAP_RECORD_CLASS:
    for (int i = 0; i < 4; i++)
      lumap_decode_nested(d);
    while (d->deferred > 0) {
      d->deferred--;
      get_fill(d);
    }
    lumap_classes_receive(L, top + 1, top + 2, top + 3, top + 4);
    break;
  case LUMAP_RECORD_OBJECT:
    lumap_decode_value(d);
    break;
  case LUMAP_RECORD_PATHS:
    get_paths(d);
    break;
  case LUMAP_RECORD_DECLARE:
    lumap_get_declaration(d);
    break;
  case LUMAP_RECORD_ADDITION:
  case LUMAP_RECORD_REFUSED:
    get_record_name(d);
    lumap_decode_value(d);
    lumap_additions_keep(L, values, record == LUMAP_RECORD_REFUSED);
    break;
  default:
    lumap_decoder_bad(d, "an unknown record");
  }
  lua_settop(L, top);
}

void lumap_log_read(lua_State *L, int scope, const void *bytes, size_t size, const lumap_references *references,
                    int values) {
  lumap_decoder d;
  int top = lua_gettop(L), environment;
  scope = lua_absindex(L, scope);
  values = lua_absindex(L, values);
  lumap_decode_begin(&d, L, bytes, size, scope, 0);
  d.references = references;
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_OBJECTS);
  lua_replace(L, d.objects);
  lumap_scope_push_slot(L, scope, LUMAP_SCOPE_ENVIRONMENT);
  environment = lua_gettop(L);
  d.base = d.scope->log_size;
  d.in_log = true;
  while (lumap_reader_left(&d.in) > 0)
    get_record(&d, environment, values);
  d.scope->log_size += size;
  if (lumap_decode_failure(&d)) lua_error(L);
  lua_settop(L, top);
}
