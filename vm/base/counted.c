/* SPDX-License-Identifier: MIT */
#include "base/counted.h"

#include <stdlib.h>

static bool reserve_one(lumap_references **list) {
  lumap_references *old = *list, *grown;
  size_t capacity = old ? 2 * old->capacity : 4;
  if (old && old->count < old->capacity) return true;
  grown = realloc(old, sizeof *grown + capacity * sizeof grown->items[0]);
  if (!grown) return false;
  if (!old) grown->count = 0;
  grown->capacity = capacity;
  *list = grown;
  return true;
}

bool lumap_references_add(lumap_references **list, lumap_counted *object, size_t *number) {
  /* From the end: what a message refers to again it has mostly just referred to. */
  for (size_t i = *list ? (*list)->count : 0; i-- > 0;)
    if ((*list)->items[i] == object) return *number = i, true;
  if (!reserve_one(list)) return false;
  lumap_counted_acquire(object);
  *number = (*list)->count;
  (*list)->items[(*list)->count++] = object;
  return true;
}

bool lumap_references_take(lumap_references **list, lumap_counted *object) {
  if (!reserve_one(list)) return false;
  (*list)->items[(*list)->count++] = object;
  return true;
}

void lumap_references_free(lumap_references *list) {
  if (!list) return;
  for (size_t i = 0; i < list->count; i++)
    lumap_counted_release(list->items[i]);
  free(list);
}
