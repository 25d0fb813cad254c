/* SPDX-License-Identifier: MIT */
#include "base/random.h"

/* The golden ratio as an odd fraction of 2^64: SplitMix64's usual increment. */
#define INCREMENT UINT64_C(0x9e3779b97f4a7c15)

/* SplitMix64's output for one of its states. */
static uint64_t mix(uint64_t state) {
  state = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  state = (state ^ state >> 27) * UINT64_C(0x94d049bb133111eb);
  return state ^ state >> 31;
}

/* The components of the combined generator: x^k + x^q + 1 over two elements, s steps at a time. Only the high k bits of
 * a word take part, and they must not all be zero. */
static const struct component {
  unsigned char k, q, s;
} components[LUMAP_RANDOM_WORDS] = {{63, 31, 18}, {58, 19, 28}, {55, 24, 7}, {47, 21, 8}};

void lumap_random_start(uint64_t words[LUMAP_RANDOM_WORDS], uint64_t seed, uint64_t item) {
  uint64_t key = mix(mix(seed + INCREMENT) + item * INCREMENT);
  for (unsigned i = 0; i < LUMAP_RANDOM_WORDS; i++) {
    const uint64_t least = UINT64_C(1) << (64 - components[i].k);
    words[i] = mix(key + (i + 1) * INCREMENT);
    if (words[i] < least) words[i] += least;
  }
}

uint64_t lumap_random_next(uint64_t words[LUMAP_RANDOM_WORDS]) {
  uint64_t bits = 0;
  for (int i = 0; i < LUMAP_RANDOM_WORDS; i++) {
    const struct component *c = &components[i];
    const uint64_t word = words[i], high = word & UINT64_MAX << (64 - c->k);
    words[i] = ((word << c->q ^ word) >> (c->k - c->s)) ^ high << c->s;
    bits ^= words[i];
  }
  return bits;
}

double lumap_random_unit(uint64_t bits) {
  return (double)(bits & UINT64_C(0x000fffffffffffff)) * 0x1p-52;
}
