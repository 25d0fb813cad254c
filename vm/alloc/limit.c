/* SPDX-License-Identifier: MIT
 *
 * limit.c - the limit of a heap, whatever its kind. See limit.h.
 */
#include "alloc/limit.h"

#include "alloc/heap.h"

/* Pressure comes at half of the limit, at half of what is left then, and so on: often enough near the end, and not so
 * often that a state which holds much does nothing but collect. */
bool lumap_limit_check(lumap_limit *limit, size_t total) {
  if (limit->pressure) limit->pressure(limit->data);
  if (total > limit->most) return false;
  limit->checked = total + (limit->most - total) / 2;
  return true;
}

void lumap_heap_limit(lumap_heap *heap, size_t bytes, void (*pressure)(void *), void *data) {
  lumap_limit *limit = (lumap_limit *)heap;
  limit->most = bytes > 0 ? bytes : SIZE_MAX;
  limit->checked = bytes > 0 ? bytes / 2 : SIZE_MAX;
  limit->pressure = pressure;
  limit->data = data;
}

size_t lumap_heap_used(const lumap_heap *heap) {
  return ((const lumap_limit *)heap)->used;
}
