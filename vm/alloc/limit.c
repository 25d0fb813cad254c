/* SPDX-License-Identifier: MIT
 *
 * limit.c - the limit of a heap, whatever its kind. See limit.h.
 */
#include "alloc/limit.h"

#include "alloc/heap.h"

/* What is kept back for those who deal with the failure: a handler that makes a message, say. */
static size_t reserve_of(size_t bytes) {
  return bytes / 16 < 65536 ? bytes / 16 : 65536;
}

/* Where to look at the limit next. Pressure comes when half of the room is taken, and half of what is left then, and so
   on: often enough near the end, and not so often that a state which holds much does nothing but collect. */
static size_t next_check(const lumap_limit *limit, size_t held) {
  size_t usual = limit->most - reserve_of(limit->most);
  return held < usual ? held + (usual - held) / 2 : usual;
}

bool lumap_limit_check(lumap_limit *limit, size_t total) {
  size_t reserve = reserve_of(limit->most), usual = limit->most - reserve;
  /* Not yet when it is a few bytes less: the failure is still being dealt with. */
  if (limit->used < usual - reserve) limit->failed = false;
  if (limit->pressure && !limit->failed) limit->pressure(limit->data);
  if (total > (limit->failed ? limit->most : usual)) {
    limit->failed = true;
    limit->checked = next_check(limit, limit->used);
    return false;
  }
  limit->checked = next_check(limit, total);
  return true;
}

void lumap_limit_lower(lumap_limit *limit) {
  size_t next = next_check(limit, limit->used);
  if (next < limit->checked) limit->checked = next;
}

void lumap_heap_limit(lumap_heap *heap, size_t bytes, void (*pressure)(void *), void *data) {
  lumap_limit *limit = (lumap_limit *)heap;
  limit->most = bytes > 0 ? bytes : SIZE_MAX;
  limit->checked = SIZE_MAX;
  limit->failed = false;
  if (bytes > 0) lumap_limit_lower(limit);
  limit->pressure = pressure;
  limit->data = data;
}

size_t lumap_heap_used(const lumap_heap *heap) {
  return ((const lumap_limit *)heap)->used;
}
