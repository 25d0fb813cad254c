/* SPDX-License-Identifier: MIT
 *
 * random.h - the numbers of the option `seed`: a stream for each item, the same wherever and whenever the item runs.
 *
 * The generator is a combined linear feedback shift register of four components and period 2^223: P. L'Ecuyer, "Tables
 * of maximally equidistributed combined LFSR generators", Mathematics of Computation 68 (1999), the first entry of the
 * table for 64-bit words. It is the one that LuaJIT's math.random has; so there a stream is written into the state of
 * math.random itself, and compiled code draws from it without knowing.
 *
 * A stream begins with the first four outputs of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable
 * pseudorandom number generators", OOPSLA 2014) started at a key. The key of item i is output i of SplitMix64 started
 * at its first output for the seed. So any item's stream is there in a few nanoseconds, without the ones before it, and
 * two streams are two random places in a period of 2^223.
 *
 * Pure: no state, no allocation. Any thread.
 */
#ifndef LUMAP_BASE_RANDOM_H
#define LUMAP_BASE_RANDOM_H

#include <stdint.h>

enum { LUMAP_RANDOM_WORDS = 4 };

/* The beginning of the stream of item `item` (any number counts as one) under `seed`. */
void lumap_random_start(uint64_t words[LUMAP_RANDOM_WORDS], uint64_t seed, uint64_t item);

/* The next 64 bits. */
uint64_t lumap_random_next(uint64_t words[LUMAP_RANDOM_WORDS]);

/* 64 bits as a float from 0 up to, not including, 1: a multiple of 2^-52, made of the low bits, as LuaJIT does. */
double lumap_random_unit(uint64_t bits);

#endif
