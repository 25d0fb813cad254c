/* SPDX-License-Identifier: MIT */
#include "codec/cdata.h"

#include <string.h>

static const char declarations_key, functions_key;

/* How a type is given (FORMAT.md). */
enum { DESCRIBED = 0, AGAIN = 1, KNOWN = 2, WITH_METATABLES = 3 };

/* What cdata.lua's inspect says of a value, in the order of its results. */
enum { IS_DATA = 1, IS_TYPE = 2 };
enum { KIND = 1, NUMBER, DESCRIPTION, IS_NAMED, IS_REFERENCE, SIZE, RESULTS = SIZE };
/* The same places when the value is refused. */
enum { WAY = DESCRIPTION, NAME, REMEDY };

/* Who speaks, as ctype_reader.lua has it. */
enum { STRANGER = 0, PEER = 1 };

/* ---- the functions of cdata.lua ----------------------------------------------------------------------------- */

/* Loads declarations.lua unless that has been done, or is being done further down on the stack. */
static void need_declarations(lua_State *L) {
  int top = lua_gettop(L);
  luaL_checkstack(L, 6, NULL);
  lumap_push_loaded(L);
  lua_getfield(L, -1, "lumap.declarations");
  if (lua_isnil(L, -1)) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lumap.declarations");
    lua_call(L, 1, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &declarations_key);
  }
  lua_settop(L, top);
}

/* require, whose stock function is the upvalue. */
static int require_recorded(lua_State *L) {
  const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
  bool is_ffi = strcmp(name, "ffi") == 0;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  if (is_ffi) need_declarations(L);
  return lua_gettop(L);
}

void lumap_cdata_open(lua_State *L, bool now) {
  if (!LUMAP_VM_IS_LUAJIT) return;
  if (now) {
    need_declarations(L);
    return;
  }
  lua_getglobal(L, "require");
  lua_pushcclosure(L, require_recorded, 1);
  lua_setglobal(L, "require");
}

void lumap_cdata_push_functions(lua_State *L) {
  luaL_checkstack(L, 20, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  if (LUMAP_VM_IS_LUAJIT) need_declarations(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "lumap.cdata");
  lua_call(L, 1, 1);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &functions_key);
}

/* Pushes the function of that name; false, and nothing pushed, on a VM without the ffi library. [-0, +0 or +1] */
static bool push_function(lua_State *L, const char *name) {
  lumap_cdata_push_functions(L);
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
  return true;
}

/* Calls a function of cdata.lua, which is there since there is cdata, with copies of the value at `index`. */
static void call_with(lua_State *L, const char *name, int index, int results) {
  if (!push_function(L, name)) lumap_raise(L, "the ffi library is not there");
  lua_pushvalue(L, index);
  lua_call(L, 1, results);
}

bool lumap_cdata_is_class(lua_State *L, int index) {
  bool found;
  if (lua_type(L, index) != LUMAP_TCDATA) return false;
  index = lua_absindex(L, index);
  call_with(L, "class_number", index, 1);
  found = !lua_isnil(L, -1);
  lua_pop(L, 1);
  return found;
}

void lumap_cdata_push_class_key(lua_State *L, int index) {
  if (lua_type(L, index) == LUMAP_TCDATA)
    call_with(L, "class_number", lua_absindex(L, index), 1);
  else
    lua_pushvalue(L, index);
}

/* ---- types to bytes ----------------------------------------------------------------------------------------- */

/* The key of a type in the maps of objects: its number, which is at `index`, below 2^16, where no object lies. */
static const void *key_at(lua_State *L, int index) {
  return (const void *)(uintptr_t)lua_tointeger(L, index);
}

static const void *key_of(lua_State *L, int look) {
  return key_at(L, look + NUMBER);
}

const void *lumap_cdata_type_key(lua_State *L, int index) {
  const void *key;
  call_with(L, "class_number", lua_absindex(L, index), 1);
  key = key_at(L, -1);
  lua_pop(L, 1);
  return key;
}

static void put_type(lumap_encoder *e, int value, int look, const lumap_step *step);

/* The metatables of types that lie in this one, then its own: methods must work in the worker. */
static void put_metatables(lumap_encoder *e, int look, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_step here = {step, LUMAP_STEP_METATABLE, 0, 0, NULL, NULL};
  int own, others;
  size_t count;
  call_with(L, "metatypes", look + NUMBER, 2);
  others = lua_gettop(L);
  own = others - 1;
  count = lumap_rawlen(L, others);
  if (count > UINT8_MAX) count = UINT8_MAX;
  lumap_encoder_deepen(e);
  if (e->depth >= LUMAP_DEPTH_ALLOWED - 20) lumap_raise(L, "cannot send C types whose metatables nest so deeply");
  lumap_put_u8(e->sink.out, (unsigned)count);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, others, (int)i);
    call_with(L, "inspect", others + 1, RESULTS);
    put_type(e, others + 1, others + 1, step);
    lua_settop(L, others);
  }
  lumap_put_value(e, own, &here);
  e->depth--;
  lua_settop(L, own - 1);
}

/* Writes a reference to a type of the log, which the caller puts there first if need be. */
static bool put_known_type(lumap_encoder *e, int value, int look, const lumap_step *step) {
  lua_State *L = e->L;
  const void *key = key_of(L, look);
  uint64_t *hit;
  if (!lua_toboolean(L, look + IS_NAMED) || !e->scope || e->sink.is_log) return false;
  hit = lumap_map_find(&e->scope->map, key);
  if (!hit && e->scope->writes) {
    call_with(L, "type_of", value, 1);
    if (!lua_isnil(L, -1)) lumap_put_in_log(e, LUMAP_RECORD_OBJECT, lua_gettop(L), step);
    lua_pop(L, 1);
    hit = lumap_map_find(&e->scope->map, key);
  }
  if (!hit) return false;
  lumap_put_u8(e->sink.out, KNOWN);
  lumap_put_varint(e->sink.out, *hit >> 8);
  return true;
}

/* Notes that the type is described here. */
static void remember_type(lumap_encoder *e, int value, int look) {
  lua_State *L = e->L;
  uint64_t offset = lumap_sink_offset(&e->sink);
  if (e->sink.is_log) {
    lumap_scope_push_slot(L, e->scope_index, LUMAP_SCOPE_OBJECTS);
    lua_pushnumber(L, (lua_Number)offset);
    call_with(L, "type_of", value, 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  }
  if (!lumap_map_set(e->sink.seen, key_of(L, look), offset << 8)) lumap_encoder_no_memory(e);
}

/* Writes the type of the value, whose inspection lies behind stack index `look`. [-0, +0] */
static void put_type(lumap_encoder *e, int value, int look, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_bytes *out = e->sink.out;
  uint64_t *hit;
  size_t size;
  const char *description;
  if (put_known_type(e, value, look, step)) return;
  hit = lumap_map_find(e->sink.seen, key_of(L, look));
  if (hit) {
    lumap_put_u8(out, AGAIN);
    lumap_put_varint(out, *hit >> 8);
    return;
  }
  remember_type(e, value, look);
  description = lua_tolstring(L, look + DESCRIPTION, &size);
  lumap_put_u8(out, e->sink.is_log ? WITH_METATABLES : DESCRIBED);
  lumap_put_string(out, description, size);
  if (e->sink.is_log) put_metatables(e, look, step);
}

/* ---- objects to bytes --------------------------------------------------------------------------------------- */

static int refuse(lumap_encoder *e, int look, const char *kind, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_path_push(L, step);
  return lumap_raise(L, "cannot send %s%s (%s<%s>): %s", lua_tostring(L, -1), lua_tostring(L, look + WAY), kind,
                     lua_tostring(L, look + NAME), lua_tostring(L, look + REMEDY));
}

static void put_object(lumap_encoder *e, int index, int look, const lumap_step *step) {
  lua_State *L = e->L;
  lumap_bytes *out = e->sink.out;
  size_t size = (size_t)lua_tonumber(L, look + SIZE);
  const void *data = lua_topointer(L, index);
  lumap_sink_remember(e, index);
  if (lua_toboolean(L, look + IS_REFERENCE)) memcpy(&data, data, sizeof data);
  lumap_put_u8(out, lumap_sink_tag(e, LUMAP_TAG_CDATA));
  put_type(e, index, look, step);
  lumap_put_varint(out, size);
  if (!lumap_bytes_append(out, data, size)) lumap_encoder_no_memory(e);
}

void lumap_put_cdata(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  int look = lua_gettop(L);
  lua_Integer kind;
  if (lumap_put_reference(e, lua_topointer(L, index))) return;
  call_with(L, "inspect", index, RESULTS);
  kind = lua_tointeger(L, look + KIND);
  if (kind == IS_TYPE) {
    if (!e->names) {
      lumap_path_push(L, step);
      lumap_raise(L, "cannot send %s (a C type): types are encoded only with the option functions = true",
                  lua_tostring(L, -1));
    }
    lumap_put_u8(e->sink.out, LUMAP_TAG_CTYPE);
    put_type(e, index, look, step);
    lua_settop(L, look);
    return;
  }
  lua_pushvalue(L, look + NUMBER);
  if (!lumap_put_custom(e, index, step)) {
    if (kind != IS_DATA) refuse(e, look, "cdata", step);
    put_object(e, index, look, step);
  }
  lua_settop(L, look);
}

bool lumap_put_library(lumap_encoder *e, int index, const lumap_step *step) {
  lua_State *L = e->L;
  size_t size;
  const char *name;
  if (!push_function(L, "library_name")) return false;
  lua_pushvalue(L, index);
  lua_call(L, 1, 1);
  name = lua_tolstring(L, -1, &size);
  if (name && !e->names) {
    lumap_path_push(L, step);
    lumap_raise(L, "cannot send %s (a library of C functions): it is encoded only with the option functions = true",
                lua_tostring(L, -1));
  }
  if (name) {
    lumap_put_u8(e->sink.out, LUMAP_TAG_LIBRARY);
    lumap_put_string(e->sink.out, name, size);
  }
  lua_pop(L, 1);
  return name != NULL;
}

void lumap_put_declarations(lumap_encoder *e) {
  lua_State *L = e->L;
  lumap_step root = {NULL, LUMAP_STEP_ROOT, 0, 0, "a declaration given to ffi.cdef", NULL};
  int top = lua_gettop(L);
  if (!e->scope || !e->scope->writes) return;
  luaL_checkstack(L, 8, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &declarations_key);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "texts");
    while (e->scope->declared < lumap_rawlen(L, top + 2)) {
      lua_rawgeti(L, top + 2, (int)++e->scope->declared);
      lumap_put_u8(e->sink.out, LUMAP_RECORD_DECLARE);
      lumap_put_value(e, top + 3, &root);
      lua_settop(L, top + 2);
    }
  }
  lua_settop(L, top);
}

/* ---- bytes to types ----------------------------------------------------------------------------------------- */

static int trust_in(const lumap_decoder *d) {
  return d->scope || (d->flags & LUMAP_CODEC_FUNCTIONS) ? PEER : STRANGER;
}

/* Pushes the type that the description on top stands for, and replaces it; false when there is none: a message was left
   and the item fails. Without an ffi library the description stays. [-1, +1] */
static void resolve(lumap_decoder *d, uint64_t offset) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  if (push_function(L, "resolve")) {
    lua_pushvalue(L, top);
    lua_pushinteger(L, trust_in(d));
    lua_call(L, 2, 2);
    if (lua_isnil(L, top + 1)) {
      lumap_decoder_fail(d);
      lua_pushboolean(L, 0);
      lua_replace(L, top);
    } else {
      const void *key = key_at(L, top + 2);
      if (d->in_log && !lumap_map_set(&d->scope->map, key, offset << 8)) lumap_raise(L, "not enough memory");
      lua_pushvalue(L, top + 1);
      lua_replace(L, top);
    }
    lua_settop(L, top);
  }
  lumap_decoder_remember(d, offset);
}

static void get_type(lumap_decoder *d);

/* Behind the description of the type on top. [-0, +0] */
static void get_metatables(lumap_decoder *d) {
  lua_State *L = d->L;
  int type = lua_gettop(L);
  unsigned count = lumap_get_u8(&d->in);
  lumap_decoder_deepen(d);
  for (unsigned i = 0; i < count; i++) {
    get_type(d);
    lua_pop(L, 1);
  }
  lumap_decode_nested(d);
  d->depth--;
  if (lua_istable(L, -1) && lua_toboolean(L, type) && push_function(L, "install")) {
    lua_pushvalue(L, type);
    lua_pushvalue(L, type + 1);
    lua_call(L, 2, 0);
  }
  lua_settop(L, type);
}

static void push_known_type(lumap_decoder *d, uint64_t offset) {
  if (!d->scope) lumap_decoder_bad(d, "a reference to a log, outside a call");
  lumap_scope_push_slot(d->L, d->scope_index, LUMAP_SCOPE_OBJECTS);
  lua_pushnumber(d->L, (lua_Number)offset);
  lua_rawget(d->L, -2);
  lua_remove(d->L, -2);
}

/* Pushes a type, or false when it cannot be made here; without an ffi library, its description. [-0, +1] */
static void get_type(lumap_decoder *d) {
  lua_State *L = d->L;
  uint64_t offset = d->base + d->in.at;
  unsigned form = lumap_get_u8(&d->in);
  size_t size;
  const char *description;
  luaL_checkstack(L, 12, NULL);
  if (form == AGAIN) {
    if (!lumap_decoder_push_object(d, lumap_get_varint(&d->in))) lua_pushnil(L);
  } else if (form == KNOWN) {
    push_known_type(d, lumap_get_varint(&d->in));
  } else if (form == DESCRIBED || (form == WITH_METATABLES && d->in_log)) {
    description = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
    if (!description) lumap_decoder_bad(d, "the description of a C type expected");
    lua_pushlstring(L, description, size);
    resolve(d, offset);
    if (form == WITH_METATABLES) get_metatables(d);
    return;
  } else {
    lumap_decoder_bad(d, "a C type expected");
  }
  if (lua_isnil(L, -1) || lua_istable(L, -1)) lumap_decoder_bad(d, "a reference to a C type that is not there");
  if (lua_type(L, -1) != LUA_TBOOLEAN) return;
  lua_pushliteral(L, "a C type that cannot be made here");
  lumap_decoder_fail(d);
}

/* ---- bytes to objects --------------------------------------------------------------------------------------- */

/* Without an ffi library: numbers alone have a meaning. The description is on top and is replaced. [-1, +1] */
static void push_number(lumap_decoder *d, const unsigned char *bytes, uint64_t size) {
  /* By code of a base type (ctypes.lua): how many bytes. */
  static const unsigned char widths[] = {0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 8, 4, 8};
  lua_State *L = d->L;
  size_t length;
  const unsigned char *description = (const unsigned char *)lua_tolstring(L, -1, &length);
  unsigned code = description && length == 1 ? description[0] : 0;
  bool is_signed = code == 2 || code == 4 || code == 6 || code == 8 || code == 10;
  uint64_t bits = 0;
  float single;
  double number;
  if (code == 0 || code >= sizeof widths || widths[code] != size)
    lumap_decoder_bad(d, "cdata, for which a VM with the ffi library is needed");
  memcpy(&bits, bytes, size);
  lua_pop(L, 1);
  if (code == 1) {
    lua_pushboolean(L, bits != 0);
  } else if (code == 12) {
    memcpy(&single, bytes, sizeof single);
    lua_pushnumber(L, single);
  } else if (code == 13) {
    memcpy(&number, bytes, sizeof number);
    lua_pushnumber(L, number);
  } else {
    unsigned shift = 64 - 8 * widths[code];
    lumap_push_integer(L, is_signed ? (int64_t)(bits << shift) >> shift : (int64_t)bits);
  }
}

/* Replaces the type on top by an object of it, with these bytes. [-1, +1] */
static void make_object(lumap_decoder *d, const unsigned char *bytes, size_t size) {
  lua_State *L = d->L;
  int type = lua_gettop(L);
  bool has_floats;
  push_function(L, "make");
  lua_pushvalue(L, type);
  lua_pushnumber(L, (lua_Number)size);
  lua_call(L, 2, 2);
  if (lua_isnil(L, type + 1)) lumap_decoder_bad(d, lua_tostring(L, type + 2));
  has_floats = lua_toboolean(L, type + 2);
  lua_settop(L, type + 1);
  if (size) memcpy((void *)(uintptr_t)lua_topointer(L, -1), bytes, size);
  if (has_floats && trust_in(d) == STRANGER) {
    push_function(L, "scrub");
    lua_pushvalue(L, type + 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)lua_topointer(L, type + 1));
    lua_pushnumber(L, (lua_Number)size);
    lua_call(L, 3, 1);
    if (!lua_toboolean(L, -1)) lumap_decoder_bad(d, "a union with a float that is no number");
    lua_pop(L, 1);
  }
  lua_replace(L, type);
}

void lumap_get_cdata(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  uint64_t size;
  const unsigned char *bytes;
  get_type(d);
  size = lumap_get_varint(&d->in);
  bytes = lumap_get_bytes(&d->in, size);
  if (!bytes) lumap_decoder_bad(d, "more bytes of cdata than there are");
  if (lua_type(L, -1) == LUA_TBOOLEAN) {
    /* Its item fails. */
    lua_pop(L, 1);
    lua_pushnil(L);
    return;
  }
  if (lua_type(L, -1) == LUMAP_TCDATA)
    make_object(d, bytes, (size_t)size);
  else
    push_number(d, bytes, size);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
}

void lumap_get_ctype(lumap_decoder *d) {
  lua_State *L = d->L;
  if (trust_in(d) == STRANGER) lumap_decoder_bad(d, "a C type, which is decoded only with the option functions = true");
  get_type(d);
  if (lua_type(L, -1) == LUMAP_TCDATA) return;
  if (lua_type(L, -1) != LUA_TBOOLEAN) lumap_decoder_bad(d, "a C type, for which a VM with the ffi library is needed");
  lua_pop(L, 1);
  lua_pushnil(L);
}

void lumap_get_library(lumap_decoder *d) {
  lua_State *L = d->L;
  size_t size;
  const char *name = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
  int top = lua_gettop(L);
  if (!name) lumap_decoder_bad(d, "the name of a library expected");
  if (trust_in(d) == STRANGER) lumap_decoder_bad(d, "a library, which is loaded only with the option functions = true");
  if (!push_function(L, "library")) lumap_decoder_bad(d, "a library, for which a VM with the ffi library is needed");
  lua_pushlstring(L, name, size);
  lua_call(L, 1, 2);
  if (lua_isnil(L, top + 1)) {
    lumap_decoder_fail(d);
    return;
  }
  lua_settop(L, top + 1);
}

void lumap_get_declaration(lumap_decoder *d) {
  lua_State *L = d->L;
  lumap_decode_value(d);
  if (lua_istable(L, -1) && push_function(L, "repeat_text")) {
    lua_pushvalue(L, -2);
    lua_call(L, 1, 0);
  }
  lua_pop(L, 1);
}
