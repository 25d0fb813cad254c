/* SPDX-License-Identifier: MIT
 *
 * map.h - from an address to a number: open addressing, power-of-two size, no deletion of single keys.
 *
 * The codec asks it "have I met this object?" for each table, so a lookup of a new key must be a hash and a load.
 * Keys are never NULL. Zero-initialised is empty and allocates nothing. One thread.
 */
#ifndef LUMAP_BASE_MAP_H
#define LUMAP_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lumap_map_slot {
  const void *key;
  uint64_t value;
} lumap_map_slot;

typedef struct lumap_map {
  lumap_map_slot *slots;
  size_t capacity; /* zero or a power of two */
  size_t count;
} lumap_map;

/* The value of `key`, or NULL. The pointer is good until the next insertion. */
uint64_t *lumap_map_find(const lumap_map *map, const void *key);

/* Sets the value of `key`; false when there is no memory. */
bool lumap_map_set(lumap_map *map, const void *key, uint64_t value);

/* The value of `key`, which is put in with the value 0 if it is not there; NULL when there is no memory. The pointer is
 * good until the next insertion. */
uint64_t *lumap_map_place(lumap_map *map, const void *key);

/* Drops every key whose value is at least `bound`. */
void lumap_map_drop_from(lumap_map *map, uint64_t bound);

/* Empties. Memory stays unless it is far beyond what this round used. */
void lumap_map_clear(lumap_map *map);

void lumap_map_deinit(lumap_map *map);

#endif
