/* SPDX-License-Identifier: MIT
 *
 * slabs.c - places for the beginnings of heaps. See slabs.h.
 */
#include "alloc/slabs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "os/os.h"

/* Until there are more workers than the first one has room for, 19, huge pages would be a waste. In the further ones,
 * of 39 places, little is left over, and one worker that stays when all others have gone keeps no more than that. */
static const size_t first_size = (size_t)2 << 20, further_size = (size_t)4 << 20, huge_page = (size_t)2 << 20;
enum { HEAD = 4096 };

typedef struct place {
  struct place *next;
} place;

/* Lies at the beginning of its mapping; the places follow behind HEAD. */
struct lumap_slab {
  lumap_slabs *slabs;
  lumap_slab *next, *previous; /* of those with room */
  size_t size;
  size_t fresh; /* from here on no place has been given out */
  size_t ready; /* huge: up to here there is memory */
  place *free;  /* that were given back */
  unsigned used;
  bool is_huge;
};

struct lumap_slabs {
  atomic_int references;
  pthread_mutex_t lock;
  lumap_slab *open; /* those with room */
  unsigned count;
  bool has_empty;
};

lumap_slabs *lumap_slabs_new(void) {
  lumap_slabs *slabs = calloc(1, sizeof *slabs);
  if (!slabs) return NULL;
  atomic_init(&slabs->references, 1);
  pthread_mutex_init(&slabs->lock, NULL);
  return slabs;
}

lumap_slabs *lumap_slabs_acquire(lumap_slabs *slabs) {
  atomic_fetch_add(&slabs->references, 1);
  return slabs;
}

void lumap_slabs_release(lumap_slabs *slabs) {
  if (!slabs || atomic_fetch_sub(&slabs->references, 1) != 1) return;
  if (slabs->open) lumap_memory_unmap(slabs->open, slabs->open->size);
  pthread_mutex_destroy(&slabs->lock);
  free(slabs);
}

/* ---- under the lock ---- */

static void link_open(lumap_slabs *slabs, lumap_slab *slab) {
  slab->previous = NULL;
  slab->next = slabs->open;
  if (slab->next) slab->next->previous = slab;
  slabs->open = slab;
}

static void unlink_open(lumap_slabs *slabs, lumap_slab *slab) {
  if (slab->next) slab->next->previous = slab->previous;
  if (slab->previous)
    slab->previous->next = slab->next;
  else
    slabs->open = slab->next;
}

static bool has_room(const lumap_slab *slab) {
  return slab->free || slab->size - slab->fresh >= LUMAP_PLACE;
}

static lumap_slab *map_slab(lumap_slabs *slabs, size_t size, bool is_huge) {
  lumap_slab *slab = lumap_memory_map(size, is_huge);
  if (!slab) return NULL;
  *slab = (lumap_slab){.slabs = slabs, .size = size, .fresh = HEAD, .is_huge = is_huge};
  link_open(slabs, slab);
  slabs->count++;
  slabs->has_empty = true;
  return slab;
}

static lumap_slab *find_room(lumap_slabs *slabs) {
  lumap_slab *slab = slabs->open;
  if (!slab && slabs->count > 0) slab = map_slab(slabs, further_size, true);
  return slab ? slab : map_slab(slabs, first_size, false);
}

/* Threads that touch the same huge page for the first time each get one made, and all but one are thrown away: so it is
 * made here. */
static void *cut_place(lumap_slab *slab) {
  void *cut = (char *)slab + slab->fresh;
  slab->fresh += LUMAP_PLACE;
  for (; slab->is_huge && slab->ready < slab->fresh; slab->ready += huge_page)
    lumap_memory_prepare((char *)slab + slab->ready, huge_page);
  return cut;
}

static void *take_from(lumap_slab *slab, bool *is_bare) {
  lumap_slabs *slabs = slab->slabs;
  place *reused = slab->free;
  void *taken = reused;
  if (slab->used++ == 0) slabs->has_empty = false;
  *is_bare = !reused && !slab->is_huge;
  if (reused)
    slab->free = reused->next;
  else
    taken = cut_place(slab);
  if (!has_room(slab)) unlink_open(slabs, slab);
  return taken;
}

/* Returns the slab if it is to be unmapped. */
static lumap_slab *give_to(lumap_slab *slab, place *back) {
  lumap_slabs *slabs = slab->slabs;
  if (!has_room(slab)) link_open(slabs, slab);
  back->next = slab->free;
  slab->free = back;
  if (--slab->used > 0) return NULL;
  if (!slabs->has_empty) {
    slabs->has_empty = true;
    return NULL;
  }
  unlink_open(slabs, slab);
  slabs->count--;
  return slab;
}

/* ---- any thread ---- */

void *lumap_place_take(lumap_slabs *slabs, lumap_slab **slab) {
  void *taken = NULL;
  bool is_bare = false;
  pthread_mutex_lock(&slabs->lock);
  *slab = find_room(slabs);
  if (*slab) taken = take_from(*slab, &is_bare);
  pthread_mutex_unlock(&slabs->lock);
  if (is_bare) lumap_memory_prepare(taken, LUMAP_PLACE);
  return taken;
}

void lumap_place_give(lumap_slab *slab, void *given) {
  lumap_slabs *slabs = slab->slabs;
  lumap_slab *empty;
  pthread_mutex_lock(&slabs->lock);
  empty = give_to(slab, given);
  pthread_mutex_unlock(&slabs->lock);
  if (empty) lumap_memory_unmap(empty, empty->size);
}
