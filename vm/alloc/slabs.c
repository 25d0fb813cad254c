/* SPDX-License-Identifier: MIT
 *
 * slabs.c - places for the beginnings of heaps. See slabs.h.
 */
#include "alloc/slabs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/os.h"

/* The first has room for 18, and gets its memory place by place: for few workers a huge page would be a waste. The
 * further ones are long, so that there are few of them. */
static const size_t first_size = (size_t)2 << 20, further_size = (size_t)32 << 20, huge_page = (size_t)2 << 20;
enum { HEAD = 4096 };

typedef struct place {
  struct place *next;
} place;

/* Lies at the beginning of its mapping; the places follow behind HEAD. */
typedef struct slab {
  struct slab *next;
  size_t size;
  size_t fresh; /* from here on no place has been given out */
  size_t ready; /* huge: up to here there is memory */
  place *free;  /* that were given back */
  unsigned used;
  bool is_huge;
} slab;

static struct {
  pthread_mutex_t lock;
  slab *first; /* in the order in which they came, so that the later ones get empty */
  unsigned holders;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static slab *make_slab(size_t size, bool is_huge) {
  slab *made = lumap_memory_map(size, is_huge);
  if (made) *made = (slab){.size = size, .fresh = HEAD, .is_huge = is_huge};
  return made;
}

static bool has_room(const slab *s) {
  return s->free || s->size - s->fresh >= LUMAP_PLACE;
}

/* The first slab with room, or a new one behind all others. */
static slab *find_room(void) {
  slab **link = &all.first;
  while (*link && !has_room(*link))
    link = &(*link)->next;
  if (!*link && all.first) *link = make_slab(further_size, true);
  if (!*link) *link = make_slab(first_size, false);
  return *link;
}

/* Threads that touch the same huge page for the first time each get one made, and all but one are thrown away: so it is
 * made here, under the lock. */
static void make_ready(slab *s) {
  for (; s->ready < s->fresh; s->ready += huge_page)
    lumap_memory_prepare((char *)s + s->ready, huge_page);
}

static void *cut_place(slab *s) {
  void *cut = (char *)s + s->fresh;
  s->fresh += LUMAP_PLACE;
  if (s->is_huge) make_ready(s);
  return cut;
}

static void *take_from(slab *s, bool *is_bare) {
  place *reused = s->free;
  s->used++;
  *is_bare = !reused && !s->is_huge;
  if (!reused) return cut_place(s);
  s->free = reused->next;
  return reused;
}

void *lumap_place_take(void) {
  void *taken = NULL;
  bool is_bare = false;
  slab *s;
  pthread_mutex_lock(&all.lock);
  s = find_room();
  if (s) taken = take_from(s, &is_bare);
  pthread_mutex_unlock(&all.lock);
  if (is_bare) lumap_memory_prepare(taken, LUMAP_PLACE);
  return taken;
}

/* Under the lock: takes out what is empty and not to be kept. */
static slab *take_out_empty(slab **link) {
  slab *s = *link;
  if (s->used > 0 || (!s->is_huge && all.holders > 0)) return NULL;
  *link = s->next;
  return s;
}

static void unmap(slab *s) {
  if (s) lumap_memory_unmap(s, s->size);
}

void lumap_place_give(void *given) {
  slab **link = &all.first, *empty;
  place *back = given;
  pthread_mutex_lock(&all.lock);
  while ((uintptr_t)given - (uintptr_t)*link >= (*link)->size)
    link = &(*link)->next;
  back->next = (*link)->free;
  (*link)->free = back;
  (*link)->used--;
  empty = take_out_empty(link);
  pthread_mutex_unlock(&all.lock);
  unmap(empty);
}

void lumap_slabs_hold(void) {
  pthread_mutex_lock(&all.lock);
  all.holders++;
  pthread_mutex_unlock(&all.lock);
}

void lumap_slabs_let_go(void) {
  slab *empty = NULL;
  pthread_mutex_lock(&all.lock);
  all.holders--;
  if (all.first) empty = take_out_empty(&all.first);
  pthread_mutex_unlock(&all.lock);
  unmap(empty);
}
