/* SPDX-License-Identifier: MIT
 *
 * counted.h - objects that are counted, and the lists of them that travel with bytes: a message may refer to things
 * that are no bytes, such as shared memory, by their number in the list (bytes.h).
 *
 * An object embeds lumap_counted as its first member. Any thread may acquire what it has a reference to, and release
 * what it acquired. A list belongs to the bytes that have it, and to one thread at a time.
 */
#ifndef LUMAP_BASE_COUNTED_H
#define LUMAP_BASE_COUNTED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct lumap_counted {
  atomic_uint references;
  void (*free)(struct lumap_counted *self); /* called by the last release */
} lumap_counted;

static inline void lumap_counted_acquire(lumap_counted *object) {
  atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
}

/* False when the last reference is gone already: who frees the object is on the way. */
static inline bool lumap_counted_try_acquire(lumap_counted *object) {
  unsigned now = atomic_load_explicit(&object->references, memory_order_relaxed);
  while (now > 0)
    if (atomic_compare_exchange_weak_explicit(&object->references, &now, now + 1, memory_order_relaxed,
                                              memory_order_relaxed))
      return true;
  return false;
}

/* NULL is fine. */
static inline void lumap_counted_release(lumap_counted *object) {
  if (object && atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) == 1) object->free(object);
}

typedef struct lumap_references {
  size_t count, capacity;
  lumap_counted *items[]; /* `count` of them, each of which the list holds a reference to */
} lumap_references;

/* The number of `object` in the list, from 0; it is appended if it is not there. `*list` may be NULL and may move.
 * False when there is no memory: nothing is changed then. */
bool lumap_references_add(lumap_references **list, lumap_counted *object, size_t *number);
/* Appends without looking whether it is there, taking the caller's reference. False when there is no memory: then the
 * reference is still the caller's. */
bool lumap_references_take(lumap_references **list, lumap_counted *object);
/* Releases what the list holds, and frees it. NULL is fine. */
void lumap_references_free(lumap_references *list);

#endif
