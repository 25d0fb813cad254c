/* SPDX-License-Identifier: MIT
 *
 * generator.h - the state of math.random in a Lua state: found, and given an item's stream (base/random.h).
 *
 * Both VMs keep four words in a userdata that math.random has as an upvalue. A stream is written there, so a function
 * that was put aside (`local random = math.random`, in a module or as an upvalue) draws from it as well.
 *
 * LuaJIT's math.random is left as it is: its generator is ours, and what is compiled stays compiled. Lua 5.4 has
 * another generator, xoshiro256**; there math.random is replaced in the states that Lumap opens by a function that
 * gives the same numbers from the same words, or those of a stream while the words are one. math.randomseed ends a
 * stream until the next item begins.
 *
 * Threads: as the Lua state that it belongs to. The struct must outlive the state.
 */
#ifndef LUMAP_LUA_GENERATOR_H
#define LUMAP_LUA_GENERATOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "lua/compat.h"

typedef struct lumap_generator {
  uint64_t *words; /* the state's own memory; NULL: math.random is none that we know, so there are no streams */
  const _Atomic uint64_t *item; /* where the index of the item that runs is written; the worker's */
  uint64_t seed;
  uint64_t kept[LUMAP_RANDOM_WORDS]; /* what the words were before the seeded call */
  bool seeded;                       /* between begin and end */
  bool is_stream;                    /* 5.4: the words are a stream's */
} lumap_generator;

/* Finds the words, and checks that they are what we take them for. Before any script runs. May raise. [-0, +0] */
void lumap_generator_open(lua_State *L, lumap_generator *generator);

/* Fresh words, of a sequence without end: `number` tells those apart that have the same entropy. */
void lumap_generator_scramble(lumap_generator *generator, uint64_t entropy, uint64_t number);

/* The items that run from now on have streams of this seed. Keeps what the words are. */
void lumap_generator_begin(lumap_generator *generator, uint64_t seed);

/* The item at `*generator->item` begins: the words are the beginning of its stream. `generator` is a lumap_generator;
 * its type lets compiled Lua call this. */
void lumap_generator_item(void *generator);

/* Two neighbours are joined, the right one of which begins with item `item`: the words are the beginning of a stream
 * that belongs to this border, and no item. */
void lumap_generator_border(lumap_generator *generator, uint64_t item);

/* The seeded call's turn is over: the words are what they were. Without a begin nothing happens. */
void lumap_generator_end(lumap_generator *generator);

#endif
