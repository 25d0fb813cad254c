/* SPDX-License-Identifier: MIT
 *
 * heap.h - the memory of one Lua state: an allocator with the signature that Lua asks for (lua_Alloc), a limit, and an
 * end that drops all of it at once. Knows nothing else of Lua.
 *
 * Lua tells the size of what it frees, so blocks carry no header. Small blocks (up to 8 KB) are first cut off one area
 * in the order in which they are asked for, whatever their size: what is made together lies together. When that is used
 * up they are cut from spans, each for blocks of one size. Freed ones wait in a list for their size. Big ones are runs
 * of pages (pages.h), which the state keeps for itself when they are freed: to touch fresh memory from the system
 * costs more than to copy into it. lumap_heap_trim gives back what was not used for a while.
 *
 * A heap belongs to whoever opened it. One thread at a time; heaps meet only while they are opened and closed, so any
 * number of threads may each use their own, and one may be freed on another thread than it was used on.
 *
 * Under a sanitizer each block is a malloc of its own, so that what a state does wrong is seen; limit, counts and the
 * end at once are the same.
 */
#ifndef LUMAP_ALLOC_HEAP_H
#define LUMAP_ALLOC_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#include "alloc/slabs.h"

typedef struct lumap_heap lumap_heap;

/* With `slabs` one of many of its kind, such as a worker's, which begins in a place of theirs; they must outlive it.
 * NULL: one that has all to itself. Gives NULL when there is no memory. */
lumap_heap *lumap_heap_open(lumap_slabs *slabs);

/* Gives all memory back, whatever is still allocated in it. NULL is fine. */
void lumap_heap_close(lumap_heap *heap);

/* As lua_Alloc: `heap` is a lumap_heap. Blocks are aligned to eight bytes, as LuaJIT's own are. */
void *lumap_heap_allocate(void *heap, void *block, size_t old_size, size_t new_size);

/* Lets the state hold at most `bytes` of what it asked for; 0: no limit. Beyond it allocation fails, and a little (a
 * sixteenth, at most 64 KB) is kept back for those who deal with that: it may be used from the first failure on, until
 * the state holds less again. What is held already stays. When the state gets near the limit, `pressure` (NULL:
 * nothing) is called with `data`, from within an allocation: it may ask for a collection, and must not allocate. */
void lumap_heap_limit(lumap_heap *heap, size_t bytes, void (*pressure)(void *data), void *data);

/* Bytes that the state holds: those it asked for, nothing that is kept here for later. */
size_t lumap_heap_used(const lumap_heap *heap);

/* Bytes that it has for small blocks without asking the system, or more. */
size_t lumap_heap_ready(const lumap_heap *heap);

/* From now on, freeing does nothing: all goes with lumap_heap_close, which must be next but for such frees. Closing a
 * state is faster then. When the block `last` is freed (NULL: no block), done(data) is called, which need not return.
 */
void lumap_heap_abandon(lumap_heap *heap, const void *last, void (*done)(void *data), void *data);

/* Gives all memory that is free back to the system. Worth its while when a state rests; until then, what has been free
 * for a second or two is given back now and then, in passing. */
void lumap_heap_trim(lumap_heap *heap);

#endif
