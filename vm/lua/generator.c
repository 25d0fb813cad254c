/* SPDX-License-Identifier: MIT
 *
 * generator.c - math.random of both VMs, and streams in it. See generator.h. With compat.c and bytecode.c the third
 * file that asks which VM it is on.
 */
#include "lua/generator.h"

#include <string.h>

static const char generator_key;

/* What random() gives for words that are known. [-0, +0] */
static double draw_unit(lua_State *L, int random) {
  double unit;
  lua_pushvalue(L, random);
  lua_call(L, 0, 1);
  unit = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return unit;
}

#if LUMAP_VM_IS_LUAJIT

static double expected_unit(uint64_t words[LUMAP_RANDOM_WORDS]) {
  return lumap_random_unit(lumap_random_next(words));
}

static void install(lua_State *L, lumap_generator *generator) {
  (void)L;
  (void)generator;
}

#else

static uint64_t rotate_left(uint64_t word, int bits) {
  return word << bits | word >> (64 - bits);
}

/* xoshiro256** (D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators", 2018), which the stock
   function has. */
static uint64_t next_of_vm(uint64_t words[LUMAP_RANDOM_WORDS]) {
  const uint64_t bits = rotate_left(words[1] * 5, 7) * 9, shifted = words[1] << 17;
  words[2] ^= words[0];
  words[3] ^= words[1];
  words[1] ^= words[2];
  words[0] ^= words[3];
  words[2] ^= shifted;
  words[3] = rotate_left(words[3], 45);
  return bits;
}

static double unit_of_vm(uint64_t bits) {
  return (double)(bits >> 11) * 0x1p-53;
}

static double expected_unit(uint64_t words[LUMAP_RANDOM_WORDS]) {
  return unit_of_vm(next_of_vm(words));
}

/* A number from 0 to `most`, as the stock function makes it of its bits: those below the highest one of `most`, drawn
   again while they are too many. */
static uint64_t project(uint64_t bits, uint64_t most, uint64_t words[LUMAP_RANDOM_WORDS]) {
  const uint64_t mask = most ? UINT64_MAX >> __builtin_clzll(most) : 0;
  while ((bits &= mask) > most)
    bits = next_of_vm(words);
  return bits;
}

/* Bounds that LuaJIT's numbers hold exactly. */
static bool is_common(lua_Integer bound) {
  return bound >= -(INT64_C(1) << 53) && bound <= INT64_C(1) << 53;
}

/* A number of a stream from `low` to `high`: by LuaJIT's arithmetic where it has the bounds. Beyond them, of all 64
   bits, drawn again where a part of the range would come once too often. */
static lua_Integer stream_between(uint64_t bits, lua_Integer low, lua_Integer high,
                                  uint64_t words[LUMAP_RANDOM_WORDS]) {
  const uint64_t size = (uint64_t)high - (uint64_t)low + 1;
  if (is_common(low) && is_common(high)) {
    const double scaled = lumap_random_unit(bits) * ((double)high - (double)low + 1.0);
    return (lua_Integer)((double)(int64_t)scaled + (double)low);
  }
  if (size == 0) return (lua_Integer)bits;
  while (bits >= UINT64_MAX - UINT64_MAX % size)
    bits = lumap_random_next(words);
  return (lua_Integer)((uint64_t)low + bits % size);
}

/* math.random: with the stock one's arguments, results and errors. */
static int vm_random(lua_State *L) {
  lumap_generator *generator = lua_touserdata(L, lua_upvalueindex(1));
  uint64_t *words = generator->words;
  const bool is_stream = generator->is_stream;
  const uint64_t bits = is_stream ? lumap_random_next(words) : next_of_vm(words);
  lua_Integer low = 1, high;
  switch (lua_gettop(L)) {
  case 0:
    lua_pushnumber(L, is_stream ? lumap_random_unit(bits) : unit_of_vm(bits));
    return 1;
  case 1:
    high = luaL_checkinteger(L, 1);
    if (high == 0) {
      lua_pushinteger(L, (lua_Integer)bits);
      return 1;
    }
    break;
  case 2:
    low = luaL_checkinteger(L, 1);
    high = luaL_checkinteger(L, 2);
    break;
  default:
    return luaL_error(L, "wrong number of arguments");
  }
  luaL_argcheck(L, low <= high, 1, "interval is empty");
  if (is_stream)
    lua_pushinteger(L, stream_between(bits, low, high, words));
  else
    lua_pushinteger(L, (lua_Integer)((uint64_t)low + project(bits, (uint64_t)high - (uint64_t)low, words)));
  return 1;
}

/* math.randomseed: the stock one, which writes the words. */
static int vm_randomseed(lua_State *L) {
  lumap_generator *generator = lua_touserdata(L, lua_upvalueindex(1));
  generator->is_stream = false;
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* The table `math` is on top. [-0, +0] */
static void install(lua_State *L, lumap_generator *generator) {
  lua_pushlightuserdata(L, generator);
  lua_pushcclosure(L, vm_random, 1);
  lua_setfield(L, -2, "random");
  lua_pushlightuserdata(L, generator);
  lua_getfield(L, -2, "randomseed");
  lua_pushcclosure(L, vm_randomseed, 2);
  lua_setfield(L, -2, "randomseed");
}

#endif

/* Does the function at `random` draw from these words, and as we would? They are as before afterwards. */
static bool is_known(lua_State *L, int random, uint64_t *words) {
  uint64_t before[LUMAP_RANDOM_WORDS], ours[LUMAP_RANDOM_WORDS];
  bool same = true;
  memcpy(before, words, sizeof before);
  lumap_random_start(ours, 1, 1);
  memcpy(words, ours, sizeof ours);
  for (int i = 0; i < 3; i++)
    same = draw_unit(L, random) == expected_unit(ours) && same;
  same = memcmp(words, ours, sizeof ours) == 0 && same;
  memcpy(words, before, sizeof before);
  return same;
}

/* Pushes the userdata with the words; pushes nothing and gives NULL when it is not where we look for it. */
static uint64_t *push_words(lua_State *L, int random) {
  if (!lua_iscfunction(L, random) || !lua_getupvalue(L, random, 1)) return NULL;
  if (lua_type(L, -1) == LUA_TUSERDATA && lumap_rawlen(L, -1) >= LUMAP_RANDOM_WORDS * sizeof(uint64_t))
    return lua_touserdata(L, -1);
  lua_pop(L, 1);
  return NULL;
}

void lumap_generator_open(lua_State *L, lumap_generator *generator) {
  int top = lua_gettop(L);
  uint64_t *words;
  lua_getglobal(L, "math");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "random");
    words = push_words(L, top + 2);
    if (words && is_known(L, top + 2, words)) {
      generator->words = words;
      lua_rawsetp(L, LUA_REGISTRYINDEX, &generator_key); /* a script may drop math.random */
      lua_settop(L, top + 1);
      install(L, generator);
    }
  }
  lua_settop(L, top);
}

void lumap_generator_scramble(lumap_generator *generator, uint64_t entropy, uint64_t number) {
  if (!generator->words) return;
  lumap_random_start(generator->words, entropy, number);
  generator->is_stream = false;
}

void lumap_generator_begin(lumap_generator *generator, uint64_t seed) {
  generator->seed = seed;
  generator->seeded = true;
  memcpy(generator->kept, generator->words, sizeof generator->kept);
}

static void start_stream(lumap_generator *generator, uint64_t number) {
  lumap_random_start(generator->words, generator->seed, number);
  generator->is_stream = true;
}

void lumap_generator_item(void *self) {
  lumap_generator *generator = self;
  start_stream(generator, atomic_load_explicit(generator->item, memory_order_relaxed));
}

/* Borders are numbered beyond all items. */
void lumap_generator_border(lumap_generator *generator, uint64_t item) {
  start_stream(generator, (UINT64_C(1) << 63) + item);
}

void lumap_generator_end(lumap_generator *generator) {
  if (!generator->seeded) return;
  memcpy(generator->words, generator->kept, sizeof generator->kept);
  generator->seeded = generator->is_stream = false;
}
