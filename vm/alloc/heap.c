/* SPDX-License-Identifier: MIT
 *
 * heap.c - small blocks, and which blocks are runs of pages. See heap.h.
 *
 *   nursery   the heap's first memory. Blocks of all sizes are cut off it one behind the other: a state that does not
 *             do much touches no more than it uses. It has two parts: the lower one, with the heap itself, as long as a
 *             place (slabs.h), and the upper one; a small heap gets that when it needs it.
 *   span      64 KB, aligned to that, for blocks of one class. It keeps its own list of free blocks, so that what is
 *             made together lies together however long the state has made and dropped: the collector's walks are what
 *             a program waits for. An empty span goes back to the pages, and to any other use.
 *
 * For each class one span is current. Those with room wait in a queue, longest first: what was nearly full when it came
 * has had time to empty. Full ones are on no list; the first block that is freed puts them into the queue.
 */
#include "alloc/heap.h"

#include <stdint.h>
#include <string.h>

#include "alloc/limit.h"
#include "alloc/pages.h"
#include "alloc/slabs.h"
#include "os/os.h"

enum {
  /* Classes of blocks: one for each multiple of UNIT up to FINE_MOST, then eight for each doubling. */
  UNIT = 8,
  FINE_BITS = 8,
  FINE_MOST = 1 << FINE_BITS,
  FINE_COUNT = FINE_MOST / UNIT,
  SMALL_BITS = 13,
  SMALL_MOST = 1 << SMALL_BITS,
  CLASS_COUNT = FINE_COUNT + (SMALL_BITS - FINE_BITS) * 8,
  UPPER_SIZE = 400 * 1024, /* the nursery's second part */
  SURELY_USED = 96 * 1024, /* of the nursery: hardly a state that is open has less */
};
#define SPAN_SIZE ((size_t)64 * 1024)

typedef struct free_block {
  struct free_block *next;
} free_block;

/* Where blocks of one size come from. */
typedef struct source {
  free_block *free;
  char *fresh, *end; /* what no block has been cut off yet */
  uint32_t used;     /* blocks */
  uint32_t block_size;
} source;

/* At the end of a run of pages that holds a small block, since there was no memory to move it when it was made small.
 */
typedef struct stray {
  struct stray *next;
  void *block;
  size_t size; /* of the run */
} stray;

typedef struct span {
  source blocks;
  uint32_t class;
  bool waits;                   /* in the queue of its class */
  bool full;                    /* neither current nor in the queue */
  struct span *next, *previous; /* in the queue */
} span;

typedef struct queue {
  span *first, *last;
} queue;

struct lumap_heap {
  lumap_limit limit; /* first: limit.c */
  bool abandoned;
  const void *last; /* of lumap_heap_abandon */
  void (*done)(void *data);
  void *done_data;
  source *current[CLASS_COUNT]; /* of a span, or the one below: a small state has no spans */
  source nursed[CLASS_COUNT];   /* free blocks of the nursery, and nothing fresh */
  char *nursery, *nursery_end;  /* what is left of it */
  char *upper;                  /* its second part; NULL: not yet */
  stray *strays;
  lumap_slab *slab; /* it lies in a place of that; NULL: in a run of its own pages */
  queue waiting[CLASS_COUNT];
  lumap_pages pages;
};

static inline unsigned class_of(size_t size) {
  size_t last = size - 1;
  unsigned top;
  if (size <= FINE_MOST) return (unsigned)(last / UNIT);
  top = 63u - (unsigned)__builtin_clzll(last);
  return FINE_COUNT + (top - FINE_BITS) * 8 + (unsigned)(last >> (top - 3) & 7);
}

static size_t size_of_class(unsigned class) {
  unsigned step = class - FINE_COUNT;
  if (class < FINE_COUNT) return (class + 1) * (size_t)UNIT;
  return (size_t)(8 + step % 8 + 1) << (step / 8 + FINE_BITS - 3);
}

static size_t whole_pages(size_t size) {
  return (size + LUMAP_PAGE - 1) & ~((size_t)LUMAP_PAGE - 1);
}

/* ---- spans ---- */

static void enqueue(lumap_heap *heap, span *s) {
  queue *q = &heap->waiting[s->class];
  s->waits = true;
  s->next = NULL;
  s->previous = q->last;
  if (q->last)
    q->last->next = s;
  else
    q->first = s;
  q->last = s;
}

static void dequeue(lumap_heap *heap, span *s) {
  queue *q = &heap->waiting[s->class];
  s->waits = false;
  if (s->next)
    s->next->previous = s->previous;
  else
    q->last = s->previous;
  if (s->previous)
    s->previous->next = s->next;
  else
    q->first = s->next;
}

static void reset_span(span *s) {
  s->blocks.free = NULL;
  s->blocks.fresh = (char *)(s + 1);
}

static span *new_span(lumap_heap *heap, unsigned class) {
  span *s = lumap_pages_take_aligned(&heap->pages, SPAN_SIZE);
  size_t size = size_of_class(class);
  if (!s) return NULL;
  *s = (span){.blocks.block_size = (uint32_t)size, .class = class};
  reset_span(s);
  s->blocks.end = s->blocks.fresh + (SPAN_SIZE - sizeof *s) / size * size;
  return s;
}

/* A block that has been given back, or a fresh one; NULL: neither is there. */
static inline void *take_from(source *blocks) {
  free_block *block = blocks->free;
  if (block) {
    blocks->free = block->next;
  } else {
    if (blocks->fresh == blocks->end) return NULL;
    block = (free_block *)blocks->fresh;
    blocks->fresh += blocks->block_size;
  }
  blocks->used++;
  return block;
}

/* What is left of the nursery, or of what was cut up in its place, becomes a free block. */
static void keep_rest(lumap_heap *heap) {
  size_t left = (size_t)(heap->nursery_end - heap->nursery);
  free_block *block = (free_block *)(void *)heap->nursery;
  unsigned class;
  if (left < UNIT) return;
  class = class_of(left < SMALL_MOST ? left : SMALL_MOST);
  if (size_of_class(class) > left) class -= 1;
  block->next = heap->nursed[class].free;
  heap->nursed[class].free = block;
}

/* The largest free block of the nursery, if that is not too small, is cut up like the nursery itself: what tables and
   stacks have outgrown while the state was opened is a few KB, and mapping more costs as much as opening it. */
static bool cut_up_freed(lumap_heap *heap, size_t size) {
  unsigned at = CLASS_COUNT - 1, least = class_of(size);
  free_block *block;
  while (!heap->nursed[at].free)
    if (at-- == least) return false;
  block = heap->nursed[at].free;
  heap->nursed[at].free = block->next;
  heap->nursery = (char *)block;
  heap->nursery_end = heap->nursery + size_of_class(at);
  return true;
}

static bool map_upper(lumap_heap *heap) {
  heap->upper = lumap_pages_take(&heap->pages, UPPER_SIZE);
  if (!heap->upper) return false;
  heap->nursery = heap->upper;
  heap->nursery_end = heap->upper + UPPER_SIZE;
  return true;
}

/* A block that is cut off the nursery; NULL: it is used up. */
static void *take_nursed(lumap_heap *heap, size_t size) {
  if ((size_t)(heap->nursery_end - heap->nursery) < size) {
    if (heap->upper) return NULL;
    keep_rest(heap);
    heap->nursery = heap->nursery_end;
    if (!cut_up_freed(heap, size) && !map_upper(heap)) return NULL;
  }
  heap->nursery += size;
  return heap->nursery - size;
}

/* A block from elsewhere than the current source, which has none. */
static __attribute__((noinline)) void *take_elsewhere(lumap_heap *heap, unsigned class) {
  void *block = take_from(&heap->nursed[class]);
  span *s;
  if (!block) block = take_nursed(heap, size_of_class(class));
  if (block) return block;
  s = heap->waiting[class].first;
  if (s)
    dequeue(heap, s);
  else
    s = new_span(heap, class);
  if (!s) return NULL;
  if (heap->current[class] != &heap->nursed[class]) ((span *)heap->current[class])->full = true;
  heap->current[class] = &s->blocks;
  return take_from(&s->blocks);
}

static inline void *take_small(lumap_heap *heap, size_t size) {
  unsigned class = class_of(size);
  void *block = take_from(heap->current[class]);
  return block ? block : take_elsewhere(heap, class);
}

/* A span that was full, or is empty now. Gives NULL, as those do who end with it. */
static __attribute__((noinline)) void *settle_span(lumap_heap *heap, span *s) {
  lumap_limit_dropped(&heap->limit);
  if (s->blocks.used > 0) {
    s->full = false;
    enqueue(heap, s);
  } else if (&s->blocks == heap->current[s->class]) {
    reset_span(s);
  } else {
    if (s->waits) dequeue(heap, s);
    lumap_pages_give(&heap->pages, s, SPAN_SIZE);
  }
  return NULL;
}

static inline bool is_nursed(const lumap_heap *heap, const void *memory) {
  return (uintptr_t)memory - (uintptr_t)heap < LUMAP_PLACE || (uintptr_t)memory - (uintptr_t)heap->upper < UPPER_SIZE;
}

static void add_stray(lumap_heap *heap, void *block, size_t size) {
  stray *added = (stray *)(void *)((char *)block + size - sizeof *added);
  *added = (stray){heap->strays, block, size};
  heap->strays = added;
}

/* False: the block is none. */
static __attribute__((noinline)) bool give_stray(lumap_heap *heap, const void *block) {
  stray **link = &heap->strays, *found;
  while (*link && (*link)->block != block)
    link = &(*link)->next;
  found = *link;
  if (!found) return false;
  *link = found->next;
  lumap_pages_give(&heap->pages, found->block, found->size);
  return true;
}

static inline void *give_block(lumap_heap *heap, void *memory, size_t size) {
  free_block *block = memory;
  span *s = (span *)((uintptr_t)memory & ~(SPAN_SIZE - 1));
  if (is_nursed(heap, memory)) {
    unsigned class = class_of(size);
    block->next = heap->nursed[class].free;
    heap->nursed[class].free = block;
    return NULL;
  }
  block->next = s->blocks.free;
  s->blocks.free = block;
  return --s->blocks.used == 0 || s->full ? settle_span(heap, s) : NULL;
}

static __attribute__((noinline)) void *give_possible_stray(lumap_heap *heap, void *memory, size_t size) {
  return give_stray(heap, memory) ? NULL : give_block(heap, memory, size);
}

static inline void *give_small(lumap_heap *heap, void *memory, size_t size) {
  return heap->strays ? give_possible_stray(heap, memory, size) : give_block(heap, memory, size);
}

static __attribute__((noinline)) void *give_pages(lumap_heap *heap, void *block, size_t size) {
  lumap_limit_dropped(&heap->limit);
  lumap_pages_give(&heap->pages, block, whole_pages(size));
  return NULL;
}

/* ---- blocks of any size; not counted here ---- */

static inline void *take(lumap_heap *heap, size_t size) {
  return size <= SMALL_MOST ? take_small(heap, size) : lumap_pages_take(&heap->pages, whole_pages(size));
}

static inline void *give(lumap_heap *heap, void *block, size_t size) {
  return size <= SMALL_MOST ? give_small(heap, block, size) : give_pages(heap, block, size);
}

/* The block with another size, elsewhere or in its place; NULL: no memory. */
static void *move(lumap_heap *heap, void *block, size_t old_size, size_t new_size) {
  void *moved;
  if (old_size <= SMALL_MOST && new_size <= SMALL_MOST) {
    if (class_of(old_size) == class_of(new_size)) return block;
  } else if (old_size > SMALL_MOST && new_size > SMALL_MOST) {
    moved = lumap_pages_resize(&heap->pages, block, whole_pages(old_size), whole_pages(new_size));
    if (moved) return moved;
  }
  moved = take(heap, new_size);
  if (!moved) return NULL;
  memcpy(moved, block, old_size < new_size ? old_size : new_size);
  give(heap, block, old_size);
  return moved;
}

/* ---- what Lua calls ---- */

static __attribute__((noinline)) void *resize(lumap_heap *heap, void *block, size_t old_size, size_t new_size) {
  size_t total = heap->limit.used - old_size + new_size;
  void *moved;
  if (new_size > old_size && !lumap_limit_allows(&heap->limit, total)) return NULL;
  moved = move(heap, block, old_size, new_size);
  if (!moved) {
    /* Lua counts on getting less. The block stays, and what it was longer is lost until it is freed. */
    if (new_size > old_size) return NULL;
    if (old_size > SMALL_MOST) add_stray(heap, block, whole_pages(old_size));
    moved = block;
  }
  heap->limit.used = total;
  if (new_size < old_size) lumap_limit_dropped(&heap->limit);
  return moved;
}

static __attribute__((noinline)) void *take_counted(lumap_heap *heap, size_t size) {
  void *block;
  if (size == 0 || !lumap_limit_allows(&heap->limit, heap->limit.used + size)) return NULL;
  block = take(heap, size);
  if (block) heap->limit.used += size;
  return block;
}

/* The current source of the class has no block: most blocks of a state that is being opened come this way. */
static __attribute__((noinline)) void *take_unsourced(lumap_heap *heap, unsigned class, size_t total) {
  void *block = take_elsewhere(heap, class);
  if (block) heap->limit.used = total;
  return block;
}

/* A block of an abandoned heap is freed. */
static __attribute__((noinline)) void *let_go(lumap_heap *heap, const void *block) {
  if (block == heap->last) heap->done(heap->done_data);
  return NULL;
}

static __attribute__((noinline)) void *give_or_resize(lumap_heap *heap, void *block, size_t old_size, size_t new_size) {
  if (new_size > 0) return resize(heap, block, old_size, new_size);
  if (heap->abandoned) return let_go(heap, block);
  heap->limit.used -= old_size;
  return give(heap, block, old_size);
}

/* The common ways call nothing but for an end, so that they need save no registers: a block from the current source,
   and one given back that makes its span neither empty nor more than full. */
void *lumap_heap_allocate(void *data, void *block, size_t old_size, size_t new_size) {
  lumap_heap *heap = data;
  size_t total = heap->limit.used + new_size;
  unsigned class;
  if (block) return give_or_resize(heap, block, old_size, new_size);
  if (new_size - 1 >= SMALL_MOST || total > heap->limit.checked) return take_counted(heap, new_size);
  class = class_of(new_size);
  block = take_from(heap->current[class]);
  if (!block) return take_unsourced(heap, class, total);
  heap->limit.used = total;
  return block;
}

/* ---- from open to close ---- */

static lumap_heap *open_large(void) {
  lumap_pages pages = {0};
  lumap_heap *heap = lumap_pages_take(&pages, LUMAP_PLACE + UPPER_SIZE);
  if (!heap) return NULL;
  lumap_memory_prepare(heap, SURELY_USED);
  *heap = (lumap_heap){.pages = pages, .upper = (char *)heap + LUMAP_PLACE};
  heap->nursery_end = heap->upper + UPPER_SIZE;
  return heap;
}

static lumap_heap *open_small(lumap_slabs *slabs) {
  lumap_slab *slab;
  lumap_heap *heap = lumap_place_take(slabs, &slab);
  if (heap) *heap = (lumap_heap){.slab = slab, .nursery_end = (char *)heap + LUMAP_PLACE};
  return heap;
}

lumap_heap *lumap_heap_open(lumap_slabs *slabs) {
  lumap_heap *heap = slabs ? open_small(slabs) : open_large();
  if (!heap) return NULL;
  lumap_heap_limit(heap, 0, NULL, NULL);
  for (unsigned class = 0; class < CLASS_COUNT; class ++)
    heap->current[class] = &heap->nursed[class];
  heap->nursery = (char *)(heap + 1);
  return heap;
}

size_t lumap_heap_ready(const lumap_heap *heap) {
  return (size_t)(heap->nursery_end - heap->nursery);
}

void lumap_heap_close(lumap_heap *heap) {
  lumap_pages pages;
  if (!heap) return;
  pages = heap->pages; /* the heap itself may lie in one of them */
  if (heap->slab) lumap_place_give(heap->slab, heap);
  lumap_pages_deinit(&pages);
}

void lumap_heap_abandon(lumap_heap *heap, const void *last, void (*done)(void *data), void *data) {
  heap->abandoned = true;
  heap->last = last;
  heap->done = done;
  heap->done_data = data;
}

void lumap_heap_trim(lumap_heap *heap) {
  for (unsigned class = 0; class < CLASS_COUNT; class ++) {
    source *blocks = heap->current[class];
    if (blocks == &heap->nursed[class] || blocks->used > 0) continue;
    heap->current[class] = &heap->nursed[class];
    lumap_pages_give(&heap->pages, blocks, SPAN_SIZE);
  }
  lumap_pages_release(&heap->pages);
}
