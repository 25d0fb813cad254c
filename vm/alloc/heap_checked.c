/* SPDX-License-Identifier: MIT
 *
 * heap_checked.c - the heap of builds with a sanitizer: each block is a malloc of its own, so that what is written
 * beside it or after its end is seen. All blocks of a heap are in a ring, for lumap_heap_close. See heap.h.
 */
#include <stdalign.h>
#include <stdlib.h>

#include "alloc/heap.h"
#include "alloc/limit.h"

/* In front of each block. */
typedef struct head {
  alignas(max_align_t) struct head *next;
  struct head *previous;
} head;

struct lumap_heap {
  lumap_limit limit; /* first: limit.c */
  bool abandoned;
  const void *last; /* of lumap_heap_abandon */
  void (*done)(void *data);
  void *done_data;
  head ring;
};

/* Sanitizers end the program, or print something, when they are asked for more than 2^40 bytes. */
static const size_t LARGEST = (size_t)1 << 39;

static void insert(lumap_heap *heap, head *block) {
  block->next = heap->ring.next;
  block->previous = &heap->ring;
  block->next->previous = block->previous->next = block;
}

static void take_out(head *block) {
  block->next->previous = block->previous;
  block->previous->next = block->next;
}

static void *resize(lumap_heap *heap, head *block, size_t old_size, size_t new_size) {
  head *moved;
  if (new_size > LARGEST) return NULL;
  if (new_size > old_size && !lumap_limit_allows(&heap->limit, heap->limit.used - old_size + new_size)) return NULL;
  take_out(block);
  moved = realloc(block, sizeof *moved + new_size);
  insert(heap, moved ? moved : block);
  /* Lua counts on getting less. */
  if (!moved && new_size > old_size) return NULL;
  heap->limit.used += new_size - old_size;
  if (new_size < old_size) lumap_limit_dropped(&heap->limit);
  return (moved ? moved : block) + 1;
}

/* A block of an abandoned heap is freed. */
static void *let_go(lumap_heap *heap, const void *block) {
  if (block == heap->last) heap->done(heap->done_data);
  return NULL;
}

void *lumap_heap_allocate(void *data, void *memory, size_t old_size, size_t new_size) {
  lumap_heap *heap = data;
  head *block = memory;
  if (memory) {
    block--;
    if (new_size > 0) return resize(heap, block, old_size, new_size);
    if (heap->abandoned) return let_go(heap, memory);
    heap->limit.used -= old_size;
    lumap_limit_dropped(&heap->limit);
    take_out(block);
    free(block);
    return NULL;
  }
  if (new_size == 0 || new_size > LARGEST || !lumap_limit_allows(&heap->limit, heap->limit.used + new_size))
    return NULL;
  block = malloc(sizeof *block + new_size);
  if (!block) return NULL;
  insert(heap, block);
  heap->limit.used += new_size;
  return block + 1;
}

lumap_heap *lumap_heap_open(lumap_slabs *slabs) {
  lumap_heap *heap = calloc(1, sizeof *heap);
  (void)slabs;
  if (!heap) return NULL;
  heap->ring.next = heap->ring.previous = &heap->ring;
  lumap_heap_limit(heap, 0, NULL, NULL);
  return heap;
}

size_t lumap_heap_ready(const lumap_heap *heap) {
  (void)heap;
  return 0;
}

void lumap_heap_close(lumap_heap *heap) {
  if (!heap) return;
  while (heap->ring.next != &heap->ring) {
    head *block = heap->ring.next;
    take_out(block);
    free(block);
  }
  free(heap);
}

void lumap_heap_abandon(lumap_heap *heap, const void *last, void (*done)(void *data), void *data) {
  heap->abandoned = true;
  heap->last = last;
  heap->done = done;
  heap->done_data = data;
}

/* What is free is malloc's. */
void lumap_heap_trim(lumap_heap *heap) {
  (void)heap;
}
