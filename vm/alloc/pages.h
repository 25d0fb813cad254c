/* SPDX-License-Identifier: MIT
 *
 * pages.h - runs of pages for one heap: cut from segments, joined again when they are freed, and kept.
 *
 *   segment   a mapping of the system's, aligned to huge pages from a few megabytes on. It begins with a map of its
 *             pages: the first and the last page of each run tell how long it is, so both its neighbours are found.
 *   run       pages that belong together, used or free
 *   solo      a segment for one long run: it can grow without a copy
 *
 * A free run is fresh (the system holds no memory for it) or stale (it does). Stale ones are used first, but short ones
 * are not cut from a long one that was freed within the last second. Runs of the two kinds are not joined. Whether a
 * run is in use or free, its memory is not touched here.
 *
 * Threads: as the heap that they belong to.
 */
#ifndef LUMAP_ALLOC_PAGES_H
#define LUMAP_ALLOC_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  LUMAP_PAGE_SHIFT = 12,
  LUMAP_PAGE = 1 << LUMAP_PAGE_SHIFT,
  LUMAP_BIN_COUNT = 64,
};

typedef struct lumap_run lumap_run;
typedef struct lumap_segment lumap_segment;

/* Free runs by length; each doubling of it is cut into four. */
typedef struct lumap_bins {
  uint64_t filled; /* bit b: runs[b] is not empty */
  lumap_run *runs[LUMAP_BIN_COUNT];
} lumap_bins;

/* Zero-initialised is ready. */
typedef struct lumap_pages {
  lumap_bins stale, fresh;
  lumap_segment *segments; /* the newest first: it is the longest, so most runs lie there */
  lumap_segment *solos;    /* in use */
  lumap_segment *spares;   /* solos that are free */
  size_t mapped;           /* bytes of all segments */
  uint64_t aged_ns;        /* when lumap_pages_age last did something */
  uint32_t age;            /* counts these times; a run that is freed is stamped with it */
  uint32_t calls;          /* since the clock was looked at */
} lumap_pages;

/* `size` bytes, any multiple of LUMAP_PAGE. NULL without memory. */
void *lumap_pages_take(lumap_pages *pages, size_t size);

/* The same, at an address that is a multiple of `size`, a power of two. */
void *lumap_pages_take_aligned(lumap_pages *pages, size_t size);

/* Frees a run of `size` bytes. */
void lumap_pages_give(lumap_pages *pages, void *run, size_t size);

/* Makes a run longer or shorter without copying it. A long one may move: then its new place is returned. NULL: cannot,
 * and the run is as it was. Making it shorter always can, and never moves it. */
void *lumap_pages_resize(lumap_pages *pages, void *run, size_t old_size, size_t new_size);

/* Every second or so (others return at once): gives back to the system what has been stale for a second. */
void lumap_pages_age(lumap_pages *pages);

/* Gives back all that is stale, and segments without a used run. */
void lumap_pages_release(lumap_pages *pages);

/* Unmaps all, used or not. */
void lumap_pages_deinit(lumap_pages *pages);

#endif
