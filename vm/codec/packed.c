/* SPDX-License-Identifier: MIT */
#include "codec/packed.h"

#include "codec/wire.h"

static const char pack_key, unpack_key, more_key;

/* Doubles hold integers exactly up to here. */
static const int64_t exact = INT64_C(9007199254740992);

void lumap_packed_install(lua_State *L) {
  lua_rawsetp(L, LUA_REGISTRYINDEX, &more_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &unpack_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &pack_key);
}

static bool push_installed(lua_State *L, const void *key) {
  luaL_checkstack(L, 8, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, key);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

bool lumap_packed_looks_numeric(lua_State *L, int index, size_t count) {
  bool numeric;
  lua_rawgeti(L, index, 1);
  lua_rawgeti(L, index, (int)count);
  numeric = lua_type(L, -1) == LUA_TNUMBER && lua_type(L, -2) == LUA_TNUMBER;
  lua_pop(L, 2);
  return numeric;
}

bool lumap_packed_has_more(lua_State *L, int index, size_t count) {
  size_t keys = 0;
  if (push_installed(L, &more_key)) {
    bool more;
    lua_pushvalue(L, index);
    lua_pushnumber(L, (lua_Number)count);
    lua_call(L, 2, 1);
    more = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return more;
  }
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    keys++;
  }
  return keys != count;
}

/* Does a double that stands for an integer in a MIXED list? */
static bool is_whole(double value) {
  return value >= (double)-exact && value <= (double)exact && value == (double)(int64_t)value &&
         (value != 0 || 1 / value > 0);
}

/* Integers as they are and floats as they are, side by side: MIXED only if each can be told by its value. */
static int pack_mixed(lua_State *L, int index, uint64_t first, size_t count, unsigned char *memory) {
  for (size_t i = 0; i < count; i++) {
    int64_t integer;
    double number;
    lua_rawgeti(L, index, (int)(first + i));
    if (lumap_is_integer(L, -1, &integer)) {
      if (integer < -exact || integer > exact) break;
      number = (double)integer;
    } else {
      if (lua_type(L, -1) != LUA_TNUMBER) break;
      number = lua_tonumber(L, -1);
      if (is_whole(number)) break;
    }
    lua_pop(L, 1);
    memcpy(memory + i * sizeof number, &number, sizeof number);
    if (i + 1 == count) return LUMAP_PACKED_MIXED;
  }
  lua_pop(L, 1);
  return 0;
}

/* All integers or all floats; `*numbers` tells whether all of them were numbers at all. */
static int pack_uniform(lua_State *L, int index, uint64_t first, size_t count, unsigned char *memory, bool *numbers) {
  size_t integers = 0, floats = 0;
  *numbers = true;
  for (size_t i = 0; i < count; i++) {
    int64_t integer;
    lua_rawgeti(L, index, (int)(first + i));
    if (lua_type(L, -1) != LUA_TNUMBER) {
      *numbers = false;
      lua_pop(L, 1);
      return 0;
    }
    if (lumap_is_integer(L, -1, &integer)) {
      memcpy(memory + i * sizeof integer, &integer, sizeof integer);
      integers++;
    } else {
      double number = lua_tonumber(L, -1);
      memcpy(memory + i * sizeof number, &number, sizeof number);
      floats++;
    }
    lua_pop(L, 1);
    if (integers && floats) return 0;
  }
  return integers ? LUMAP_PACKED_I64 : LUMAP_PACKED_F64;
}

static int pack_installed(lua_State *L, int index, uint64_t first, size_t count, void *memory, bool is_exact) {
  int kind;
  lua_pushvalue(L, index);
  lua_pushnumber(L, (lua_Number)first);
  lua_pushnumber(L, (lua_Number)count);
  lua_pushlightuserdata(L, memory);
  lua_pushboolean(L, is_exact);
  lua_call(L, 5, 1);
  kind = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return kind;
}

int lumap_pack_exact(lua_State *L, int index, size_t count, void *memory) {
  bool numbers;
  int kind;
  if (push_installed(L, &pack_key)) return pack_installed(L, index, 1, count, memory, true);
  kind = pack_uniform(L, index, 1, count, memory, &numbers);
  return kind || !numbers ? kind : pack_mixed(L, index, 1, count, memory);
}

int lumap_pack_slice(lua_State *L, int index, uint64_t first, size_t count, void *memory) {
  bool numbers;
  if (push_installed(L, &pack_key)) return pack_installed(L, index, first, count, memory, false);
  return pack_uniform(L, index, first, count, memory, &numbers);
}

/* The plain NaN of both VMs, which arithmetic gives. Greater bits, with the sign and all of the exponent set, are what
   LuaJIT makes its other values of. */
static const uint64_t plain_nan = UINT64_C(0xFFF8000000000000);

static bool has_foreign_nan(const unsigned char *bytes, size_t count) {
  uint64_t most = 0, bits;
  for (size_t i = 0; i < count; i++) {
    memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
    most = bits > most ? bits : most;
  }
  return most > plain_nan;
}

void lumap_packed_tame(void *memory, size_t count) {
  unsigned char *bytes = memory;
  uint64_t bits;
  if (!has_foreign_nan(bytes, count)) return;
  for (size_t i = 0; i < count; i++) {
    memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
    if (bits > plain_nan) memcpy(bytes + i * sizeof bits, &plain_nan, sizeof bits);
  }
}

void lumap_unpack(lua_State *L, int index, uint64_t first, size_t count, int kind, const void *memory) {
  const unsigned char *bytes = memory;
  /* The loop below is safe with any bits: lua_pushnumber makes a plain NaN of every NaN. */
  bool is_tame = kind == LUMAP_PACKED_I64 || !has_foreign_nan(bytes, count);
  if (is_tame && push_installed(L, &unpack_key)) {
    lua_pushvalue(L, index);
    lua_pushnumber(L, (lua_Number)first);
    lua_pushnumber(L, (lua_Number)count);
    lua_pushlightuserdata(L, (void *)(uintptr_t)memory);
    lua_pushinteger(L, kind);
    lua_call(L, 5, 0);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    if (kind == LUMAP_PACKED_I64) {
      int64_t integer;
      memcpy(&integer, bytes + i * sizeof integer, sizeof integer);
      lumap_push_integer(L, integer);
    } else {
      double number;
      memcpy(&number, bytes + i * sizeof number, sizeof number);
      if (kind == LUMAP_PACKED_MIXED && is_whole(number))
        lumap_push_integer(L, (int64_t)number);
      else
        lua_pushnumber(L, number);
    }
    lua_rawseti(L, index, (int)(first + i));
  }
}
