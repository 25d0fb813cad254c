/* SPDX-License-Identifier: MIT
 *
 * memory.h - memory that threads and processes share: a mapping that is counted within a process, and whose file, which
 * has no name, the kernel counts among processes. So it is gone when the last holder lets go or dies, and nothing
 * stays anywhere, whoever is killed.
 *
 *     lumap_memory (this process)  --descriptor-->  the file (kernel)  <--descriptor--  lumap_memory (another process)
 *
 * Between threads a reference is handed on, between processes a descriptor. What arrives is looked up among the
 * memories that the process knows, so that the same memory is mapped once, however often it comes and goes.
 *
 * Knows no Lua and no pool, nor what lies in the memory. Any thread. Locks: lumap_memories has one, under which nothing
 * else is locked.
 */
#ifndef LUMAP_SHARED_MEMORY_H
#define LUMAP_SHARED_MEMORY_H

#include <stdint.h>

#include "base/counted.h"
#include "base/status.h"

/* The file, and what belongs to the memory beside it: sockets of a channel. */
enum { LUMAP_MEMORY_DESCRIPTORS = 3 };

typedef struct lumap_memories lumap_memories;

/* What those who know what lies in a memory need in this process: freed along with it. The first member of theirs. */
typedef struct lumap_memory_own {
  void (*free)(struct lumap_memory_own *self);
} lumap_memory_own;

typedef struct lumap_memory {
  lumap_counted counted; /* first: what lists of references hold */
  /* Fixed after open. */
  unsigned char *data; /* NULL: it has not arrived, see lumap_memory_lost */
  size_t size;
  int descriptors[LUMAP_MEMORY_DESCRIPTORS]; /* the first is the file's */
  int descriptor_count;
  uint64_t device, inode;          /* what tells it from others */
  _Atomic(lumap_memory_own *) own; /* NULL: nothing */
  /* Of memories that are known: under their lock. */
  lumap_memories *known;
  struct lumap_memory *next;
} lumap_memory;

/* A set of memories that are found again when they arrive. NULL when there is no memory. */
lumap_memories *lumap_memories_new(void);
/* NULL is fine for both. A memory holds its set. */
lumap_memories *lumap_memories_acquire(lumap_memories *known);
void lumap_memories_release(lumap_memories *known);

/* New memory of `size` zeroed bytes, above 0, of which the caller holds a reference. `what` names it in the error:
 * "a buffer of 5 doubles". `known` may be NULL. */
lumap_status lumap_memory_open(lumap_memories *known, size_t size, const char *what, lumap_memory **memory,
                               lumap_error *error);

/* Memory that has arrived as descriptors, which are taken in any case. The caller holds a reference. */
lumap_status lumap_memory_receive(lumap_memories *known, const int *descriptors, int count, lumap_memory **memory,
                                  lumap_error *error);

/* Stands for memory that could not be received; NULL when there is no memory for that, either. */
lumap_memory *lumap_memory_lost(void);

static inline void lumap_memory_acquire(lumap_memory *memory) {
  lumap_counted_acquire(&memory->counted);
}
/* NULL is fine. */
static inline void lumap_memory_release(lumap_memory *memory) {
  lumap_counted_release((lumap_counted *)memory);
}

#endif
