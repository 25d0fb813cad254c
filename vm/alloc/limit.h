/* SPDX-License-Identifier: MIT
 *
 * limit.h - how much a heap holds, and how much it may. The first member of each kind of heap.
 *
 * Threads: as the heap.
 */
#ifndef LUMAP_ALLOC_LIMIT_H
#define LUMAP_ALLOC_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lumap_limit {
  size_t used;    /* bytes held, as they were asked for */
  size_t checked; /* up to here nobody needs to look at the limit */
  size_t most;    /* SIZE_MAX: no limit */
  bool failed;    /* an allocation has, and since then all that was held is held: the reserve may be used */
  void (*pressure)(void *data);
  void *data;
} lumap_limit;

/* The part of lumap_limit_allows that is seldom needed: calls `pressure`. */
bool lumap_limit_check(lumap_limit *limit, size_t total);

/* The body of lumap_limit_dropped. */
void lumap_limit_lower(lumap_limit *limit);

/* The heap holds less than it did: now and then, so that the next pressure comes when half of the room is taken again.
 */
static inline void lumap_limit_dropped(lumap_limit *limit) {
  if (limit->most != SIZE_MAX) lumap_limit_lower(limit);
}

/* May the heap hold `total` bytes? */
static inline bool lumap_limit_allows(lumap_limit *limit, size_t total) {
  return total <= limit->checked || lumap_limit_check(limit, total);
}

#endif
