/* SPDX-License-Identifier: MIT
 *
 * slabs.h - where small heaps begin: places of one size, cut from slabs that those of one family share, a main state's
 * workers and theirs.
 *
 * A worker's state needs one place, and often nothing more. In a mapping of its own that would be two calls and some
 * thirty page faults to open it, and as many pages to take away at its end, while all other threads wait for the
 * system's lock on the address space. From the second slab on the memory comes in huge pages, many places at a time;
 * and a place that was given back is given out as it is, with the memory that it has. One empty slab is kept.
 *
 * Threads: any. Heaps meet here when they are opened and closed, and at no other time.
 */
#ifndef LUMAP_ALLOC_SLABS_H
#define LUMAP_ALLOC_SLABS_H

/* Bytes. A worker that has run a small function takes 103 KB of it on LuaJIT, 93 KB on Lua 5.4. */
enum { LUMAP_PLACE = 104 * 1024 };

typedef struct lumap_slabs lumap_slabs;
typedef struct lumap_slab lumap_slab;

/* No memory is mapped yet. Has one reference. NULL without memory. */
lumap_slabs *lumap_slabs_new(void);
lumap_slabs *lumap_slabs_acquire(lumap_slabs *slabs);
/* The last one unmaps all; no place may be in use then. NULL is fine. */
void lumap_slabs_release(lumap_slabs *slabs);

/* A place, aligned to pages, with anything in it, and the slab that it is of. NULL without memory. */
void *lumap_place_take(lumap_slabs *slabs, lumap_slab **slab);

void lumap_place_give(lumap_slab *slab, void *place);

#endif
