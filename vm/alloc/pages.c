/* SPDX-License-Identifier: MIT
 *
 * pages.c - runs of pages. See pages.h.
 */
#include "alloc/pages.h"

#include "os/os.h"

#define MEGABYTE ((size_t)1 << 20)

/* A small state gets along with the first segment. From the second one on they are worth huge pages. */
static const size_t first_segment = 960 * 1024, least_segment = 32 * MEGABYTE, huge_page = 2 * MEGABYTE,
                    most_segment = 256 * MEGABYTE;
/* From here on a run has a segment to itself. Below, what is left of a copy is used again soon. */
static const size_t solo_least = 32 * MEGABYTE;
/* A free run of so many pages is wanted whole again, if at all: see is_spared. */
static const uint32_t spared_pages = 4 * MEGABYTE >> LUMAP_PAGE_SHIFT, spared_share = 16;
static const uint64_t second_ns = 1000000000;
enum { CALLS_A_LOOK = 32 };

/* An entry in the map of pages. `page_count` holds for the first and the last page of a run; the rest for the first. */
struct lumap_run {
  uint32_t page_count;
  uint32_t page;              /* number of this page in its segment */
  uint32_t age;               /* free: when it was freed */
  uint8_t state;              /* run_state; also at the last page */
  lumap_run *next, *previous; /* free: in its bin */
};

typedef enum run_state { RUN_USED, RUN_STALE, RUN_FRESH } run_state;

struct lumap_segment {
  lumap_segment *next, *previous;
  size_t size;         /* of the mapping */
  uint32_t page_count; /* solo: 0 */
  uint32_t first_page; /* behind the map */
  uint32_t age;        /* spare solo: when it was freed */
  lumap_run map[];     /* solo: none */
};

static char *address_of(const lumap_segment *segment, uint32_t page) {
  return (char *)(uintptr_t)segment + ((size_t)page << LUMAP_PAGE_SHIFT);
}

static lumap_segment *segment_of(lumap_run *run) {
  return (lumap_segment *)(uintptr_t)((char *)(run - run->page) - offsetof(lumap_segment, map));
}

/* ---- bins ---- */

/* The bin for a run of `count` pages: 1, 2, 3, then four a doubling. */
static unsigned bin_of(uint32_t count) {
  unsigned top;
  if (count < 4) return count;
  top = 31u - (unsigned)__builtin_clz(count);
  return 4 * (top - 1) + (count >> (top - 2) & 3);
}

static lumap_bins *bins_for(lumap_pages *pages, run_state state) {
  return state == RUN_STALE ? &pages->stale : &pages->fresh;
}

static void bins_add(lumap_bins *bins, lumap_run *run) {
  unsigned bin = bin_of(run->page_count);
  run->previous = NULL;
  run->next = bins->runs[bin];
  if (run->next) run->next->previous = run;
  bins->runs[bin] = run;
  bins->filled |= UINT64_C(1) << bin;
}

static void bins_remove(lumap_bins *bins, lumap_run *run) {
  unsigned bin = bin_of(run->page_count);
  if (run->next) run->next->previous = run->previous;
  if (run->previous)
    run->previous->next = run->next;
  else
    bins->runs[bin] = run->next;
  if (!bins->runs[bin]) bins->filled &= ~(UINT64_C(1) << bin);
}

/* Pages from the beginning of a run to the first whose address is a multiple of `unit` pages. */
static uint32_t pages_before(lumap_run *run, uint32_t unit) {
  uintptr_t number = (uintptr_t)address_of(segment_of(run), run->page) >> LUMAP_PAGE_SHIFT;
  return (uint32_t)(-number & (unit - 1));
}

/* A run with `count` pages from a multiple of `unit` pages on. Of the shortest bin that has one. */
static lumap_run *bins_find(const lumap_bins *bins, uint32_t count, uint32_t unit) {
  uint64_t filled = bins->filled & UINT64_MAX << bin_of(count);
  for (; filled; filled &= filled - 1)
    for (lumap_run *run = bins->runs[__builtin_ctzll(filled)]; run; run = run->next)
      if (run->page_count >= count && run->page_count - count >= pages_before(run, unit)) return run;
  return NULL;
}

/* ---- runs ---- */

/* Writes down a run in the map. */
static lumap_run *mark(lumap_segment *segment, uint32_t page, uint32_t count, run_state state) {
  lumap_run *run = &segment->map[page], *last = run + count - 1;
  run->page_count = last->page_count = count;
  run->page = page;
  last->page = page + count - 1;
  run->state = last->state = (uint8_t)state;
  return run;
}

static void add_free(lumap_pages *pages, lumap_segment *segment, uint32_t page, uint32_t count, run_state state,
                     uint32_t age) {
  lumap_run *run = mark(segment, page, count, state);
  run->age = age;
  bins_add(bins_for(pages, state), run);
}

/* The run behind this one, or before it, if it is free and of that kind. */
static lumap_run *next_free(lumap_segment *segment, const lumap_run *run, run_state state) {
  uint32_t page = run->page + run->page_count;
  return page < segment->page_count && segment->map[page].state == state ? &segment->map[page] : NULL;
}

static lumap_run *previous_free(lumap_segment *segment, lumap_run *run, run_state state) {
  if (run->page == segment->first_page || run[-1].state != state) return NULL;
  return run - run[-1].page_count;
}

/* Frees a run that is in no bin: joins it with its neighbours of the same kind. */
static lumap_run *join(lumap_pages *pages, lumap_segment *segment, lumap_run *run, run_state state, uint32_t age) {
  lumap_bins *bins = bins_for(pages, state);
  lumap_run *before = previous_free(segment, run, state), *behind = next_free(segment, run, state);
  uint32_t page = run->page, count = run->page_count;
  if (behind) {
    bins_remove(bins, behind);
    count += behind->page_count;
  }
  if (before) {
    bins_remove(bins, before);
    page = before->page;
    count += before->page_count;
  }
  add_free(pages, segment, page, count, state, age);
  return &segment->map[page];
}

/* Uses `count` pages of a free run, behind the first `skipped` ones. */
static void *cut(lumap_pages *pages, lumap_run *run, uint32_t skipped, uint32_t count) {
  lumap_segment *segment = segment_of(run);
  run_state state = (run_state)run->state;
  uint32_t page = run->page + skipped, left = run->page_count - skipped - count;
  bins_remove(bins_for(pages, state), run);
  if (skipped > 0) add_free(pages, segment, run->page, skipped, state, run->age);
  if (left > 0) add_free(pages, segment, page + count, left, state, run->age);
  mark(segment, page, count, RUN_USED);
  return address_of(segment, page);
}

/* ---- segments ---- */

static void link_segment(lumap_segment **list, lumap_segment *segment) {
  segment->previous = NULL;
  segment->next = *list;
  if (*list) (*list)->previous = segment;
  *list = segment;
}

static void unlink_segment(lumap_segment **list, lumap_segment *segment) {
  if (segment->next) segment->next->previous = segment->previous;
  if (segment->previous)
    segment->previous->next = segment->next;
  else
    *list = segment->next;
}

static void drop_segment(lumap_pages *pages, lumap_segment **list, lumap_segment *segment) {
  unlink_segment(list, segment);
  pages->mapped -= segment->size;
  lumap_memory_unmap(segment, segment->size);
}

static lumap_segment *map_segment(lumap_pages *pages, lumap_segment **list, size_t size) {
  lumap_segment *segment = lumap_memory_map(size, size > first_segment);
  if (!segment) return NULL;
  segment->size = size;
  pages->mapped += size;
  link_segment(list, segment);
  return segment;
}

static size_t round_up(size_t size, size_t unit) {
  return (size + unit - 1) / unit * unit;
}

static size_t head_size(size_t page_count) {
  return round_up(offsetof(lumap_segment, map) + page_count * sizeof(lumap_run), LUMAP_PAGE);
}

/* A new segment with a fresh run of at least `size` bytes. Each is half of what there is, so their number stays small.
 */
static lumap_run *add_segment(lumap_pages *pages, size_t size) {
  size_t length = pages->segments ? pages->mapped / 2 : first_segment;
  size_t needed = size + head_size(2 * (size >> LUMAP_PAGE_SHIFT) + 2);
  lumap_segment *segment;
  if (pages->segments && length < least_segment) length = least_segment;
  if (length > most_segment) length = most_segment;
  if (length < needed) length = needed;
  length = round_up(length, length > first_segment ? huge_page : LUMAP_PAGE);
  segment = map_segment(pages, &pages->segments, length);
  if (!segment) return NULL;
  segment->page_count = (uint32_t)(length >> LUMAP_PAGE_SHIFT);
  segment->first_page = (uint32_t)(head_size(segment->page_count) >> LUMAP_PAGE_SHIFT);
  add_free(pages, segment, segment->first_page, segment->page_count - segment->first_page, RUN_FRESH, 0);
  return &segment->map[segment->first_page];
}

static lumap_segment *find_segment(const lumap_pages *pages, const void *address) {
  uintptr_t at = (uintptr_t)address;
  for (lumap_segment *segment = pages->segments; segment; segment = segment->next)
    if (at - (uintptr_t)segment < segment->size) return segment;
  return NULL;
}

/* ---- solos ---- */

static lumap_segment *solo_of(void *run) {
  return (lumap_segment *)((char *)run - LUMAP_PAGE);
}

/* A spare one that is not more than a quarter too long, else a new one. */
static void *take_solo(lumap_pages *pages, size_t size) {
  size_t length = round_up(size + LUMAP_PAGE, huge_page);
  lumap_segment *solo = pages->spares;
  while (solo && (solo->size < length || solo->size / 4 * 3 > length))
    solo = solo->next;
  if (solo) {
    unlink_segment(&pages->spares, solo);
    link_segment(&pages->solos, solo);
  } else {
    solo = map_segment(pages, &pages->solos, length);
  }
  return solo ? (char *)solo + LUMAP_PAGE : NULL;
}

static void give_solo(lumap_pages *pages, void *run) {
  lumap_segment *solo = solo_of(run);
  unlink_segment(&pages->solos, solo);
  solo->age = pages->age;
  link_segment(&pages->spares, solo);
}

static void *resize_solo(lumap_pages *pages, void *run, size_t size) {
  lumap_segment *solo = solo_of(run), *moved;
  size_t length = round_up(size + LUMAP_PAGE, huge_page), before = solo->size;
  if (length == before) return run;
  unlink_segment(&pages->solos, solo);
  moved = lumap_memory_remap(solo, before, length);
  link_segment(&pages->solos, moved ? moved : solo);
  if (!moved) return NULL;
  moved->size = length;
  pages->mapped += length - before;
  return (char *)moved + LUMAP_PAGE;
}

/* ---- what the heap calls ---- */

/* A program that has dropped a long list often makes another one like it. If a short run had been cut from the list's
 * place meanwhile, that would need new memory from the system, whose first touch takes longer than what the program
 * does with it. After a second that is not to be expected any more. */
static bool is_spared(const lumap_pages *pages, const lumap_run *run, uint32_t count) {
  return run->page_count >= spared_pages && count < run->page_count / spared_share && run->age == pages->age;
}

/* `unit` pages 1: at the lower end of a free run, so that what lies there can grow; more: aligned, at its upper end. */
static void *take_run(lumap_pages *pages, size_t size, uint32_t unit) {
  uint32_t count = (uint32_t)(size >> LUMAP_PAGE_SHIFT), skipped = 0;
  lumap_run *run, *fresh;
  lumap_pages_age(pages);
  run = bins_find(&pages->stale, count, unit);
  if (!run || is_spared(pages, run, count)) {
    fresh = bins_find(&pages->fresh, count, unit);
    if (fresh) run = fresh;
  }
  if (!run) run = add_segment(pages, size + ((size_t)(unit - 1) << LUMAP_PAGE_SHIFT));
  if (!run) return NULL;
  if (unit > 1) {
    skipped = pages_before(run, unit);
    skipped += (run->page_count - skipped - count) / unit * unit;
  }
  return cut(pages, run, skipped, count);
}

void *lumap_pages_take(lumap_pages *pages, size_t size) {
  return size < solo_least ? take_run(pages, size, 1) : take_solo(pages, size);
}

void *lumap_pages_take_aligned(lumap_pages *pages, size_t size) {
  return take_run(pages, size, (uint32_t)(size >> LUMAP_PAGE_SHIFT));
}

void lumap_pages_give(lumap_pages *pages, void *run, size_t size) {
  lumap_segment *segment;
  lumap_pages_age(pages);
  if (size >= solo_least) {
    give_solo(pages, run);
    return;
  }
  segment = find_segment(pages, run);
  join(pages, segment, &segment->map[((uintptr_t)run - (uintptr_t)segment) >> LUMAP_PAGE_SHIFT], RUN_STALE, pages->age);
}

/* Takes what is missing from the free run behind, or two of them: a stale one and the fresh one behind that. */
static void *grow(lumap_pages *pages, lumap_segment *segment, lumap_run *run, uint32_t count) {
  uint32_t page = run->page;
  lumap_run *behind = next_free(segment, run, RUN_STALE), *further;
  if (!behind) behind = next_free(segment, run, RUN_FRESH);
  if (!behind) return NULL;
  further = behind->state == RUN_STALE ? next_free(segment, behind, RUN_FRESH) : NULL;
  if (run->page_count + behind->page_count + (further ? further->page_count : 0) < count) return NULL;
  if (run->page_count + behind->page_count < count) {
    count -= run->page_count + behind->page_count;
    cut(pages, further, 0, count);
    count += run->page_count + behind->page_count;
    cut(pages, behind, 0, behind->page_count);
  } else {
    cut(pages, behind, 0, count - run->page_count);
  }
  mark(segment, page, count, RUN_USED);
  return address_of(segment, page);
}

void *lumap_pages_resize(lumap_pages *pages, void *address, size_t old_size, size_t new_size) {
  uint32_t count = (uint32_t)(new_size >> LUMAP_PAGE_SHIFT), had;
  lumap_segment *segment;
  lumap_run *run;
  if (old_size >= solo_least) return new_size >= solo_least ? resize_solo(pages, address, new_size) : NULL;
  if (new_size >= solo_least) return NULL;
  segment = find_segment(pages, address);
  run = &segment->map[((uintptr_t)address - (uintptr_t)segment) >> LUMAP_PAGE_SHIFT];
  had = run->page_count;
  if (count > had) return grow(pages, segment, run, count);
  if (count < had) {
    lumap_run *rest;
    mark(segment, run->page, count, RUN_USED);
    rest = mark(segment, run->page + count, had - count, RUN_USED);
    join(pages, segment, rest, RUN_STALE, pages->age);
  }
  return address;
}

/* Gives back the stale runs that were freed before `age`. */
static void release(lumap_pages *pages, uint32_t before) {
  lumap_segment *solo, *next_solo;
  for (uint64_t filled = pages->stale.filled; filled; filled &= filled - 1) {
    lumap_run *next;
    for (lumap_run *run = pages->stale.runs[__builtin_ctzll(filled)]; run; run = next) {
      lumap_segment *segment = segment_of(run);
      next = run->next;
      if ((int32_t)(run->age - before) >= 0) continue;
      bins_remove(&pages->stale, run);
      lumap_memory_discard(address_of(segment, run->page), (size_t)run->page_count << LUMAP_PAGE_SHIFT);
      run = join(pages, segment, run, RUN_FRESH, 0);
      if (run->page_count == segment->page_count - segment->first_page && segment->next) {
        bins_remove(&pages->fresh, run);
        drop_segment(pages, &pages->segments, segment);
      }
    }
  }
  for (solo = pages->spares; solo; solo = next_solo) {
    next_solo = solo->next;
    if ((int32_t)(solo->age - before) < 0) drop_segment(pages, &pages->spares, solo);
  }
}

void lumap_pages_age(lumap_pages *pages) {
  uint64_t now;
  if (++pages->calls < CALLS_A_LOOK) return;
  pages->calls = 0;
  now = lumap_clock_ns();
  if (now - pages->aged_ns < second_ns) return;
  pages->aged_ns = now;
  /* What was freed since the last time may be younger than a second. */
  release(pages, pages->age);
  pages->age++;
}

void lumap_pages_release(lumap_pages *pages) {
  pages->age++;
  release(pages, pages->age);
}

static void drop_all(lumap_segment *list) {
  for (lumap_segment *next; list; list = next) {
    next = list->next;
    lumap_memory_unmap(list, list->size);
  }
}

void lumap_pages_deinit(lumap_pages *pages) {
  drop_all(pages->segments);
  drop_all(pages->solos);
  drop_all(pages->spares);
  *pages = (lumap_pages){0};
}
