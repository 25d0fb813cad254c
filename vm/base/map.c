/* SPDX-License-Identifier: MIT */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

/* Emptying costs as much as there are slots: a table that was mostly empty is not kept. */
enum { SMALLEST = 32, KEPT = 4096, SPARSE = 16 };

static size_t slot_of(const lumap_map *map, const void *key) {
  /* Lua objects are at least 8-byte aligned; Fibonacci hashing spreads what is left over the high bits. */
  return (size_t)((((uintptr_t)key >> 3) * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (map->capacity - 1);
}

static lumap_map_slot *probe(const lumap_map *map, const void *key) {
  size_t i = slot_of(map, key);
  while (map->slots[i].key && map->slots[i].key != key)
    i = (i + 1) & (map->capacity - 1);
  return &map->slots[i];
}

uint64_t *lumap_map_find(const lumap_map *map, const void *key) {
  lumap_map_slot *slot;
  if (!map->count) return NULL;
  slot = probe(map, key);
  return slot->key ? &slot->value : NULL;
}

static bool resize(lumap_map *map, size_t capacity) {
  lumap_map old = *map;
  lumap_map_slot *slots = calloc(capacity, sizeof *slots);
  if (!slots) return false;
  map->slots = slots;
  map->capacity = capacity;
  for (size_t i = 0; i < old.capacity; i++)
    if (old.slots[i].key) *probe(map, old.slots[i].key) = old.slots[i];
  free(old.slots);
  return true;
}

uint64_t *lumap_map_place(lumap_map *map, const void *key) {
  lumap_map_slot *slot;
  if (map->count * 2 >= map->capacity && !resize(map, map->capacity ? map->capacity * 2 : SMALLEST)) return NULL;
  slot = probe(map, key);
  if (!slot->key) {
    slot->key = key;
    map->count++;
  }
  return &slot->value;
}

bool lumap_map_set(lumap_map *map, const void *key, uint64_t value) {
  uint64_t *place = lumap_map_place(map, key);
  if (place) *place = value;
  return place != NULL;
}

void lumap_map_drop_from(lumap_map *map, uint64_t bound) {
  /* In place and twice over: an entry put back may land on a slot that a later one must leave. Entries are few here,
     and this is the way after an error, so a copy is the simple answer. */
  lumap_map_slot *kept;
  size_t count = 0;
  if (!map->count) return;
  kept = malloc(map->count * sizeof *kept);
  if (!kept) {
    lumap_map_clear(map);
    return;
  }
  for (size_t i = 0; i < map->capacity; i++)
    if (map->slots[i].key && map->slots[i].value < bound) kept[count++] = map->slots[i];
  memset(map->slots, 0, map->capacity * sizeof *map->slots);
  map->count = 0;
  for (size_t i = 0; i < count; i++)
    lumap_map_set(map, kept[i].key, kept[i].value);
  free(kept);
}

void lumap_map_clear(lumap_map *map) {
  if (!map->count && map->capacity <= KEPT) return;
  if (map->capacity > KEPT || (map->capacity > SMALLEST && map->count * SPARSE < map->capacity)) {
    lumap_map_deinit(map);
  } else {
    memset(map->slots, 0, map->capacity * sizeof *map->slots);
    map->count = 0;
  }
}

void lumap_map_deinit(lumap_map *map) {
  free(map->slots);
  *map = (lumap_map){0};
}
