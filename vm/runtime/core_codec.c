/* SPDX-License-Identifier: MIT
 *
 * core_codec.c - codec.encode, decode, check and register for stdlib/codec.lua, which checks the arguments.
 */
#include "codec/cdata.h"
#include "codec/codec.h"
#include "codec/names.h"
#include "runtime/core.h"

static int encode_protected(lua_State *L) {
  lumap_encoder *e = lumap_encode_begin_string(L, lua_toboolean(L, 2) ? LUMAP_CODEC_FUNCTIONS : 0);
  lumap_encode_value(e, 1, "value", 0);
  lumap_encode_push_string(e);
  return 1;
}

/* Pushes a function and the two arguments, for a protected call. */
static void push_call(lua_State *L, lua_CFunction function) {
  lua_settop(L, 2);
  lua_pushcfunction(L, function);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
}

/* What pcall returns: a protected call has left a value or an error, and nothing raises but for want of memory. */
static int return_result(lua_State *L, int code) {
  if (code != 0 && lumap_is_out_of_memory(L, code)) return lua_error(L);
  lua_pushboolean(L, code == 0);
  lua_replace(L, 1);
  lua_replace(L, 2);
  return 2;
}

/* encode(value, with_functions) -> true, string | false, error: so that no caller needs another protected call */
static int core_encode(lua_State *L) {
  push_call(L, encode_protected);
  return return_result(L, lumap_encode_call(L, 2, 1));
}

static int decode_protected(lua_State *L) {
  size_t size;
  const char *bytes = lua_tolstring(L, 1, &size);
  lumap_decoder d;
  unsigned version;
  lumap_decode_begin(&d, L, bytes, size, 0, lua_toboolean(L, 2) ? LUMAP_CODEC_FUNCTIONS : 0);
  version = lumap_get_u8(&d.in);
  if (d.in.failed) return luaL_error(L, "bad message at byte 0: it is empty");
  if (version != LUMAP_WIRE_VERSION)
    return luaL_error(L, "bad message at byte 0: version %d, but this is a reader of version %d", (int)version,
                      LUMAP_WIRE_VERSION);
  lumap_decode_value(&d);
  if (lumap_reader_left(&d.in) > 0) return luaL_error(L, "bad message at byte %d: bytes left over", (int)d.in.at);
  return 1;
}

/* decode(bytes, with_functions) -> true, value | false, error; the collector rests meanwhile */
static int core_decode(lua_State *L) {
  push_call(L, decode_protected);
  return return_result(L, lumap_pcall_at_rest(L, 2, 1));
}

/* A call's rules, without a call: the log goes nowhere. */
static int check_protected(lua_State *L) {
  lumap_scope *scope = lumap_scope_push(L, true);
  scope->finds_globals = true;
  lumap_log_value(L, -1, 1, luaL_optstring(L, 2, "value"));
  lumap_log_finish(L, -1);
  return 0;
}

/* check(value, label or nil) -> true | nil, message; a path begins with the label. */
static int core_check(lua_State *L) {
  int code;
  lua_settop(L, 2);
  lua_pushcfunction(L, check_protected);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  code = lumap_encode_call(L, 2, 0);
  if (code == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (lumap_is_out_of_memory(L, code)) return lua_error(L);
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* register(name, metatable, pack, unpack) */
static int core_register(lua_State *L) {
  lua_settop(L, 4);
  lumap_classes_register(L, 1, 2, 3, 4);
  return 0;
}

/* is_class(value) -> boolean: a C type that can be registered */
static int core_is_class(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, lumap_cdata_is_class(L, 1));
  return 1;
}

/* cdata() -> the functions of cdata.lua that the codec uses, whatever a script did to package.loaded; false: none */
static int core_cdata(lua_State *L) {
  lumap_cdata_push_functions(L);
  return 1;
}

/* standard_globals() -> the globals as they were when the state was opened: read only */
static int core_standard_globals(lua_State *L) {
  lumap_names_push_standard_globals(L);
  return 1;
}

const luaL_Reg lumap_core_codec[] = {
    {"encode", core_encode},
    {"decode", core_decode},
    {"check", core_check},
    {"register", core_register},
    {"is_class", core_is_class},
    {"cdata", core_cdata},
    {"standard_globals", core_standard_globals},
    {NULL, NULL},
};
