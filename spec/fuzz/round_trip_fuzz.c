/* SPDX-License-Identifier: MIT
 *
 * round_trip_fuzz.c - a value built from the input is encoded, decoded, and is then the same, references and
 * metatables included. The input is a program for the builder below: it always makes a value that can cross.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/wire.h"
#include "state.h"

/* core.encode and decode behind a comparison; `make` gives functions that share upvalues with one another. */
static const char preparing[] =
    "local core, graphs = require 'lumap.core', graphs\n"
    "local encode, decode, equal = core.encode, core.decode, graphs.equal\n"
    "local function must(ok, result)\n"
    "  if not ok then error(result, 0) end\n"
    "  return result\n"
    "end\n"
    "local Point = { __name = 'Point' }\n"
    "core.register('Point', Point, function(point) return { point.x } end,\n"
    "  function(packed) return setmetatable({ x = packed[1] }, Point) end)\n"
    "return function(value)\n"
    "  local back = must(decode(must(encode(value, true)), true))\n"
    "  local same, where = equal(value, back)\n"
    "  if not same then error('it comes back different at ' .. where, 0) end\n"
    "end, function(value)\n"
    "  local count = 0\n"
    "  local function first() return value, count end\n"
    "  return { first, function(x) count = x return first end, function() return first(), value end }\n"
    "end, Point\n";
static const char check_key, make_key, point_key, made_key;

enum { DEEPEST = 24, MOST_VALUES = 300 };

typedef struct builder {
  lua_State *L;
  lumap_reader in; /* past its end it gives zeros: nil */
  int depth, values;
  int tables; /* made so far; registry[&made_key][number] */
} builder;

static void build(builder *b);

static uint64_t take(builder *b, size_t width) {
  uint64_t number = 0;
  lumap_get_number(&b->in, &number, width);
  return number;
}

static unsigned take_byte(builder *b) {
  return (unsigned)take(b, 1);
}

/* A number as the fuzzer likes it: bits of a double, or an integer. */
static void push_number(builder *b) {
  uint64_t bits;
  double number;
  switch (take_byte(b) % 4) {
  case 0:
    lumap_push_integer(b->L, (int8_t)take(b, 1));
    break;
  case 1:
    lumap_push_integer(b->L, (int32_t)take(b, 4));
    break;
  case 2:
    lumap_push_integer(b->L, (int64_t)take(b, 8));
    break;
  default:
    bits = take(b, 8);
    memcpy(&number, &bits, sizeof number);
    lua_pushnumber(b->L, number);
  }
}

static void push_string(builder *b, unsigned repeats) {
  unsigned size = take_byte(b);
  const char *bytes = (const char *)b->in.data + b->in.at;
  luaL_Buffer buffer;
  if (size > lumap_reader_left(&b->in)) size = (unsigned)lumap_reader_left(&b->in);
  lumap_get_bytes(&b->in, size);
  luaL_buffinit(b->L, &buffer);
  for (unsigned i = 0; i < repeats; i++)
    luaL_addlstring(&buffer, bytes, size);
  luaL_pushresult(&buffer);
}

/* A new table, which later parts may refer to. */
static void push_table(builder *b) {
  lua_newtable(b->L);
  lua_rawgetp(b->L, LUA_REGISTRYINDEX, &made_key);
  lua_pushvalue(b->L, -2);
  lua_rawseti(b->L, -2, ++b->tables);
  lua_pop(b->L, 1);
}

/* A table that is there already, itself perhaps unfinished; nil before the first. */
static void push_made(builder *b) {
  lua_rawgetp(b->L, LUA_REGISTRYINDEX, &made_key);
  lua_rawgeti(b->L, -1, b->tables ? (int)(take(b, 2) % (unsigned)b->tables) + 1 : 1);
  lua_remove(b->L, -2);
}

/* Value on top, table below it: table[key on stack] unless the key is none. Pops both. */
static void push_key(builder *b) {
  switch (take_byte(b) % 4) {
  case 0:
    push_number(b);
    if (lua_type(b->L, -1) == LUA_TNUMBER && lua_tonumber(b->L, -1) == lua_tonumber(b->L, -1)) return;
    lua_pop(b->L, 1);
    lua_pushboolean(b->L, 1);
    return;
  case 1:
    /* The comparison tells key tables apart by their mark. */
    push_table(b);
    lua_pushinteger(b->L, b->tables);
    lua_setfield(b->L, -2, "mark");
    return;
  default:
    push_string(b, 1);
  }
}

static void push_list(builder *b) {
  unsigned count = take_byte(b) % 16;
  push_table(b);
  for (unsigned i = 1; i <= count; i++) {
    build(b);
    lua_rawseti(b->L, -2, (int)i);
  }
}

static void push_pairs(builder *b) {
  unsigned count = take_byte(b) % 16;
  push_table(b);
  for (unsigned i = 1; i <= count; i++) {
    push_key(b);
    build(b);
    lua_rawset(b->L, -3);
  }
}

/* Numbers of one kind, around the sizes from which lists are packed, with some of another kind among them. */
static void push_numbers(builder *b) {
  unsigned count = take_byte(b), kind = take_byte(b), odd = take_byte(b);
  int64_t start = (int64_t)take(b, 1 + kind % 8), step = (int8_t)take(b, 1);
  push_table(b);
  for (unsigned i = 0; i < count; i++) {
    uint64_t value = (uint64_t)start + i * (uint64_t)step;
    if (kind & 0x80)
      lua_pushnumber(b->L, (double)(int64_t)value / 8);
    else
      lumap_push_integer(b->L, (int64_t)value);
    lua_rawseti(b->L, -2, (int)i + 1);
  }
  if (odd >= count) return;
  build(b);
  lua_rawseti(b->L, -2, (int)odd + 1);
}

/* Tables of one shape, one of which may have another field. */
static void push_records(builder *b) {
  unsigned rows = take_byte(b) % 24, fields = take_byte(b) % 6, odd = take_byte(b);
  size_t names = b->in.at, behind;
  push_table(b);
  for (unsigned i = 0; i < rows; i++) {
    push_table(b);
    behind = b->in.at;
    b->in.at = names;
    for (unsigned k = 0; k < fields; k++) {
      size_t values;
      push_string(b, 1);
      values = b->in.at;
      if (behind > b->in.at && i > 0) b->in.at = behind;
      if (b->depth < 4)
        build(b);
      else
        push_number(b);
      behind = b->in.at;
      b->in.at = values;
      lua_rawset(b->L, -3);
    }
    if (behind > b->in.at) b->in.at = behind;
    if (i == odd) {
      push_key(b);
      build(b);
      lua_rawset(b->L, -3);
    }
    lua_rawseti(b->L, -2, (int)i + 1);
  }
}

/* A chain deeper than the writer nests. */
static void push_chain(builder *b) {
  unsigned links = take_byte(b) % 200;
  build(b);
  for (unsigned i = 0; i < links; i++) {
    push_table(b);
    lua_insert(b->L, -2);
    if (i % 2)
      lua_rawseti(b->L, -2, 1);
    else
      lua_setfield(b->L, -2, "next");
  }
}

static void push_with_metatable(builder *b) {
  push_list(b);
  build(b);
  if (!lua_istable(b->L, -1)) {
    lua_pop(b->L, 1);
    return;
  }
  /* A finalizer of this value would run in the midst of another. */
  lua_pushnil(b->L);
  lua_setfield(b->L, -2, "__gc");
  lua_setmetatable(b->L, -2);
}

static void push_point(builder *b) {
  lua_createtable(b->L, 0, 1);
  push_number(b);
  lua_setfield(b->L, -2, "x");
  lua_rawgetp(b->L, LUA_REGISTRYINDEX, &point_key);
  lua_setmetatable(b->L, -2);
}

static void push_functions(builder *b) {
  lua_rawgetp(b->L, LUA_REGISTRYINDEX, &make_key);
  build(b);
  lua_call(b->L, 1, 1);
}

static void push_scalar(builder *b, unsigned which) {
  switch (which) {
  case 0:
    lua_pushnil(b->L);
    break;
  case 1:
    lua_pushboolean(b->L, (int)take(b, 1) & 1);
    break;
  case 2:
    lua_pushlightuserdata(b->L, NULL);
    break;
  default:
    push_number(b);
  }
}

static void build_part(builder *b, unsigned which) {
  static void (*const parts[])(builder *) = {push_list,  push_pairs,          push_numbers, push_records,
                                             push_chain, push_with_metatable, push_point,   push_functions};
  enum { SCALARS = 5, STRINGS = 7, MADE = 8 };
  if (which < SCALARS)
    push_scalar(b, which);
  else if (which < STRINGS)
    push_string(b, which == SCALARS ? 1 : 1 + take_byte(b) % 16);
  else if (which == STRINGS)
    push_made(b);
  else
    parts[(which - MADE) % (sizeof parts / sizeof *parts)](b);
}

static void build(builder *b) {
  luaL_checkstack(b->L, 20, NULL);
  if (b->depth >= DEEPEST || ++b->values > MOST_VALUES) {
    lua_pushboolean(b->L, 1);
    return;
  }
  b->depth++;
  build_part(b, take_byte(b) % 16);
  b->depth--;
}

static int build_protected(lua_State *L) {
  builder *b = lua_touserdata(L, 1);
  b->L = L;
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &made_key);
  build(b);
  return 1;
}

static lua_State *open_state(void) {
  lua_State *L = fuzz_open(NULL);
  fuzz_run(L, "=preparing", preparing, 0, 3);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &point_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &make_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &check_key);
  fuzz_code_policy = FUZZ_CODE_GENUINE;
  return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  builder b = {.in = {fuzz_copy(data, size), size, 0, false}};
  if (!L) L = open_state();
  lua_gc(L, LUA_GCSTOP, 0); /* weak tables keep what they have until the comparison */
  lua_pushcfunction(L, build_protected);
  lua_pushlightuserdata(L, &b);
  if (lua_pcall(L, 1, 1, 0) != 0) fuzz_fail("the builder: %s", lua_tostring(L, -1));
  lua_rawgetp(L, LUA_REGISTRYINDEX, &check_key);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 0, 0) != 0) fuzz_fail("%s", lua_tostring(L, -1));
  lua_gc(L, LUA_GCRESTART, 0);
  fuzz_rest(L, 0);
  free((void *)(uintptr_t)b.in.data);
  return 0;
}
