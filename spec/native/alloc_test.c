/* SPDX-License-Identifier: MIT
 *
 * alloc_test.c - vm/alloc alone: that blocks keep their contents and do not overlap, the limit, giving back, the end.
 */
#include "alloc/heap.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

#include "check.h"

#define MEGABYTE ((size_t)1 << 20)

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

/* Sizes as Lua asks for them: most are small, some are on an edge, a few are big. */
static size_t random_size(uint64_t *state) {
  static const size_t edges[] = {8, 256, 257, 1024, 8192, 8193, 65536, 65537, 1 << 20};
  uint64_t kind = next_random(state) % 100;
  if (kind < 80) return 1 + next_random(state) % 300;
  if (kind < 93) return 1 + next_random(state) % 9000;
  if (kind < 97) return edges[next_random(state) % (sizeof edges / sizeof *edges)];
  return 1 + next_random(state) % (3 * MEGABYTE);
}

/* A block tells its own number at both ends, and in between now and then. */
static void fill(unsigned char *block, size_t size, unsigned number) {
  memset(block, (int)(number % 251), size < 64 ? size : 64);
  block[size / 2] = block[size - 1] = (unsigned char)(number % 251);
}

static bool is_filled(const unsigned char *block, size_t size, unsigned number) {
  for (size_t i = 0; i < size && i < 64; i++)
    if (block[i] != number % 251) return false;
  return block[size / 2] == number % 251 && block[size - 1] == number % 251;
}

enum { BLOCKS = 4000 };

typedef struct held {
  unsigned char *block[BLOCKS];
  size_t size[BLOCKS];
  size_t total;
} held;

/* Makes, resizes or frees block number `n`. */
static void change(lumap_heap *heap, held *h, unsigned n, size_t size) {
  size_t kept = size < h->size[n] ? size : h->size[n];
  unsigned char *block;
  if (h->block[n]) CHECK(is_filled(h->block[n], h->size[n], n), "block %u of %zu bytes", n, h->size[n]);
  block = lumap_heap_allocate(heap, h->block[n], h->size[n], size);
  CHECK((block != NULL) == (size > 0), "%zu bytes", size);
  CHECK(((uintptr_t)block & 7) == 0, "%p", (void *)block);
  if (kept > 64) kept = 64;
  for (size_t i = 0; i + 1 < kept; i++) /* a byte at the old middle or end may be another one's now */
    CHECK(block[i] == n % 251, "byte %zu of block %u was not kept", i, n);
  h->total += size - h->size[n];
  h->block[n] = block;
  h->size[n] = size;
  if (block) fill(block, size, n);
  CHECK(lumap_heap_used(heap) == h->total, "%zu bytes, not %zu", lumap_heap_used(heap), h->total);
}

static void churn(lumap_heap *heap, held *h, uint64_t seed, int rounds) {
  for (int i = 0; i < rounds; i++) {
    unsigned n = (unsigned)(next_random(&seed) % BLOCKS);
    change(heap, h, n, h->block[n] && next_random(&seed) % 3 > 0 ? 0 : random_size(&seed));
    CHECK_SO_FAR();
    if (i % 9973 == 0) lumap_heap_trim(heap);
  }
}

static void blocks_keep_what_is_in_them(lumap_slabs *family) {
  static held h;
  lumap_heap *heap = lumap_heap_open(family);
  CHECK(heap, "no heap");
  churn(heap, &h, 1, 60000);
  CHECK_SO_FAR();
  for (unsigned n = 0; n < BLOCKS; n++) {
    change(heap, &h, n, 0);
    CHECK_SO_FAR();
  }
  CHECK(lumap_heap_used(heap) == 0, "%zu bytes", lumap_heap_used(heap));
  lumap_heap_close(heap);
}

static void blocks_of_a_large_heap_keep_what_is_in_them(void) {
  blocks_keep_what_is_in_them(NULL);
}

static void blocks_of_a_small_heap_keep_what_is_in_them(void) {
  lumap_slabs *family = lumap_slabs_new();
  CHECK(family, "no slabs");
  blocks_keep_what_is_in_them(family);
  lumap_slabs_release(family);
}

static void all_is_dropped_at_once(void) {
  static held h;
  lumap_heap *heap = lumap_heap_open(NULL);
  CHECK(heap, "no heap");
  churn(heap, &h, 2, 5000);
  CHECK_SO_FAR();
  lumap_heap_close(heap); /* what is lost shows in the build with AddressSanitizer */
}

static void count(void *data) {
  ++*(int *)data;
}

static void freeing_does_nothing_once_it_is_abandoned(void) {
  lumap_heap *heap = lumap_heap_open(NULL);
  unsigned char *block, *last;
  int times = 0;
  CHECK(heap, "no heap");
  block = lumap_heap_allocate(heap, NULL, 0, 100);
  last = lumap_heap_allocate(heap, NULL, 0, 40);
  fill(block, 100, 7);
  lumap_heap_abandon(heap, last, count, &times);
  CHECK(lumap_heap_allocate(heap, block, 100, 0) == NULL, "a block");
  CHECK(is_filled(block, 100, 7), "it was written to");
  CHECK(times == 0, "not the last one");
  CHECK(lumap_heap_allocate(heap, last, 40, 0) == NULL && times == 1, "the last one");
  lumap_heap_close(heap);
}

/* Each in turn fills a byte of each page, so that a page that two of them have shows. */
static void big_blocks_grow_and_shrink(void) {
  static const size_t sizes[] = {
      9000,          20000,         MEGABYTE,      9 * MEGABYTE, 31 * MEGABYTE, 33 * MEGABYTE, 90 * MEGABYTE,
      40 * MEGABYTE, 20 * MEGABYTE, 12 * MEGABYTE, 100};
  lumap_heap *heap = lumap_heap_open(NULL);
  unsigned char *blocks[3] = {NULL};
  size_t before = 0;
  CHECK(heap, "no heap");
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    size_t kept = sizes[s] < before ? sizes[s] : before;
    for (int b = 0; b < 3; b++) {
      blocks[b] = lumap_heap_allocate(heap, blocks[b], before, sizes[s]);
      CHECK(blocks[b], "no %zu bytes", sizes[s]);
      for (size_t i = 0; i < kept; i += 4096)
        CHECK(blocks[b][i] == b + 1, "block %d at %zu after %zu -> %zu", b, i, before, sizes[s]);
      for (size_t i = 0; i < sizes[s]; i += 4096)
        blocks[b][i] = (unsigned char)(b + 1);
    }
    before = sizes[s];
  }
  lumap_heap_close(heap);
}

/* Whether a block of eight megabytes lies where the one before lay, though short ones were made meanwhile. */
static bool takes_its_place(lumap_heap *heap) {
  const size_t size = 8 * MEGABYTE;
  void *block = lumap_heap_allocate(heap, NULL, 0, size), *next;
  lumap_heap_allocate(heap, block, size, 0);
  for (int i = 0; i < 10; i++)
    lumap_heap_allocate(heap, NULL, 0, 20000);
  next = lumap_heap_allocate(heap, NULL, 0, size);
  return next && next == block;
}

static void place_of_a_big_block_is_not_cut_for_short_ones(void) {
  int found = 0;
  if (CHECK_SANITIZED) return; /* places are malloc's there */
  /* A machine that is so busy that a second goes by in the midst of it does not find ten. */
  for (int i = 0; i < 10; i++) {
    lumap_heap *heap = lumap_heap_open(NULL);
    CHECK(heap, "no heap");
    for (int k = 0; k < 40; k++) /* until the heap has looked at the clock */
      lumap_heap_allocate(heap, NULL, 0, 20000);
    found += takes_its_place(heap);
    lumap_heap_close(heap);
  }
  CHECK(found > 0, "it was cut");
}

static size_t resident_kb(void) {
  char line[256];
  unsigned long kb = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "VmRSS: %lu", &kb) == 1) break;
  if (file) fclose(file);
  return kb;
}

/* Small blocks and big ones, made and freed; what is left of them in the process. */
static void trim_gives_back(void) {
  enum { COUNT = 20000 };
  static void *small[COUNT];
  lumap_heap *heap = lumap_heap_open(NULL);
  size_t before = resident_kb(), full, after;
  void *big;
  CHECK(heap, "no heap");
  if (CHECK_SANITIZED) { /* what is free is malloc's there */
    lumap_heap_close(heap);
    return;
  }
  for (int i = 0; i < COUNT; i++)
    memset(small[i] = lumap_heap_allocate(heap, NULL, 0, 1000), 1, 1000);
  memset(big = lumap_heap_allocate(heap, NULL, 0, 20 * MEGABYTE), 1, 20 * MEGABYTE);
  full = resident_kb();
  CHECK(full - before > 38000, "only %zu KB were touched", full - before);
  for (int i = 0; i < COUNT; i++)
    lumap_heap_allocate(heap, small[i], 1000, 0);
  lumap_heap_allocate(heap, big, 20 * MEGABYTE, 0);
  lumap_heap_trim(heap);
  after = resident_kb();
  CHECK(after < before + 1000, "%zu KB are still held", after - before);
  lumap_heap_close(heap);
}

/* ---- the limit ---- */

static int pressed;

static void press(void *data) {
  *(int *)data += 1;
}

enum { USUAL = 100000 - 100000 / 16 }; /* of a limit of 100000 bytes, what is not kept back */

static void limit_is_kept_to_the_byte(void) {
  lumap_heap *heap = lumap_heap_open(NULL);
  char *block;
  CHECK(heap, "no heap");
  pressed = 0;
  lumap_heap_limit(heap, 100000, press, &pressed);
  block = lumap_heap_allocate(heap, NULL, 0, 40000);
  CHECK(block && pressed == 0, "%d", pressed);
  CHECK(!lumap_heap_allocate(heap, NULL, 0, USUAL - 40000 + 1), "beyond the limit");
  CHECK(!lumap_heap_allocate(heap, block, 40000, USUAL + 1), "beyond the limit");
  CHECK(pressed == 2, "%d", pressed);
  CHECK(lumap_heap_used(heap) == 40000, "%zu", lumap_heap_used(heap));
  block = lumap_heap_allocate(heap, block, 40000, USUAL);
  CHECK(block, "just at the limit");
  CHECK(!lumap_heap_allocate(heap, NULL, 0, 1), "beyond the limit");
  CHECK(lumap_heap_allocate(heap, NULL, 0, 100000 - USUAL), "no reserve after a failure");
  CHECK(!lumap_heap_allocate(heap, NULL, 0, 1), "beyond the reserve");
  block = lumap_heap_allocate(heap, block, USUAL, 50);
  CHECK(block && lumap_heap_allocate(heap, NULL, 0, USUAL - (100000 - USUAL) - 50), "room again");
  CHECK(!lumap_heap_allocate(heap, NULL, 0, 1), "the reserve without a failure before");
  lumap_heap_limit(heap, 0, NULL, NULL);
  CHECK(lumap_heap_allocate(heap, NULL, 0, 1000000), "no limit any more");
  lumap_heap_close(heap);
}

static void pressure_comes_before_the_limit_and_not_at_each_block(void) {
  lumap_heap *heap = lumap_heap_open(NULL);
  int count = 0;
  CHECK(heap, "no heap");
  pressed = 0;
  lumap_heap_limit(heap, MEGABYTE, press, &pressed);
  while (lumap_heap_allocate(heap, NULL, 0, 64))
    count++;
  CHECK(count == (MEGABYTE - 65536) / 64, "%d blocks", count);
  CHECK(pressed > 3 && pressed < 40, "%d", pressed);
  lumap_heap_close(heap);
}

static void sizes_that_nobody_has_are_refused(void) {
  lumap_heap *heap = lumap_heap_open(NULL);
  char *block;
  CHECK(heap, "no heap");
  CHECK(!lumap_heap_allocate(heap, NULL, 0, (size_t)1 << 60), "memory");
  block = lumap_heap_allocate(heap, NULL, 0, 40 * MEGABYTE);
  CHECK(block, "no 40 MB");
  block[0] = 'x';
  CHECK(!lumap_heap_allocate(heap, block, 40 * MEGABYTE, (size_t)1 << 60), "memory");
  CHECK(block[0] == 'x' && lumap_heap_used(heap) == 40 * MEGABYTE, "%zu", lumap_heap_used(heap));
  lumap_heap_close(heap);
}

/* Lua counts on getting less. */
static void what_gets_small_stays_where_there_is_no_room_for_it(void) {
  enum { BIG = 100000, SMALL = 3000 };
  struct rlimit before, low;
  lumap_heap *heap;
  unsigned char *block, *shrunk;
  size_t used;
  if (CHECK_SANITIZED) return; /* places are malloc's there */
  heap = lumap_heap_open(NULL);
  CHECK(heap, "no heap");
  block = lumap_heap_allocate(heap, NULL, 0, BIG);
  CHECK(block, "no block");
  fill(block, SMALL, 7);
  getrlimit(RLIMIT_AS, &before);
  low = before;
  low.rlim_cur = 4096;
  CHECK(setrlimit(RLIMIT_AS, &low) == 0, "no limit");
  while (lumap_heap_allocate(heap, NULL, 0, SMALL))
    continue;
  shrunk = lumap_heap_allocate(heap, block, BIG, SMALL);
  CHECK(shrunk && is_filled(shrunk, SMALL, 7), "it is lost");
  used = lumap_heap_used(heap);
  CHECK(!lumap_heap_allocate(heap, shrunk, SMALL, 0) && lumap_heap_used(heap) == used - SMALL, "it is not freed");
  block = lumap_heap_allocate(heap, NULL, 0, BIG);
  setrlimit(RLIMIT_AS, &before);
  CHECK(block, "its place is lost");
  lumap_heap_close(heap);
}

/* ---- small heaps ---- */

/* Pages of address space that this process has. */
static long mapped(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file && fscanf(file, "%ld", &pages) != 1) pages = 0;
  if (file) fclose(file);
  return pages;
}

enum { SMALL_HEAPS = 400, BLOCK = 5000 };

static lumap_slabs *slabs;
static lumap_heap *small_heaps[SMALL_HEAPS];
static unsigned char *first_blocks[SMALL_HEAPS];

static void open_small(int n) {
  small_heaps[n] = lumap_heap_open(slabs);
  CHECK(small_heaps[n], "no heap %d", n);
  first_blocks[n] = lumap_heap_allocate(small_heaps[n], NULL, 0, BLOCK);
  CHECK(first_blocks[n], "no block in heap %d", n);
  fill(first_blocks[n], BLOCK, (unsigned)n);
}

static void close_small(int n) {
  CHECK(is_filled(first_blocks[n], BLOCK, (unsigned)n), "heap %d", n);
  lumap_heap_close(small_heaps[n]);
}

/* Enough for a dozen slabs; some places are used twice. */
static void small_heaps_share_slabs_and_leave_none(void) {
  long before = mapped();
  slabs = lumap_slabs_new();
  CHECK(slabs, "no slabs");
  for (int i = 0; i < SMALL_HEAPS; i++) {
    open_small(i);
    CHECK_SO_FAR();
  }
  for (int i = 0; i < SMALL_HEAPS; i += 3)
    close_small(i);
  for (int i = 0; i < SMALL_HEAPS; i += 6)
    open_small(i);
  CHECK_SO_FAR();
  for (int i = 0; i < SMALL_HEAPS; i++)
    if (i % 3 > 0 || i % 6 == 0) close_small(i);
  lumap_slabs_release(slabs);
  if (!CHECK_SANITIZED) CHECK(mapped() == before, "%ld pages more", mapped() - before);
}

/* Who comes next finds the place with its memory. */
static void one_empty_slab_is_kept(void) {
  long before = mapped(), one;
  lumap_heap *small, *next;
  slabs = lumap_slabs_new();
  CHECK(slabs && (small = lumap_heap_open(slabs)), "no heap");
  one = mapped();
  lumap_heap_close(small);
  if (!CHECK_SANITIZED) { /* places are malloc's there */
    next = lumap_heap_open(slabs);
    CHECK(next == small, "another place");
    CHECK(lumap_heap_used(next) == 0 && lumap_heap_ready(next) > 64 * 1024, "it is not a new one");
    lumap_heap_close(next);
    for (int i = 0; i < SMALL_HEAPS; i++)
      open_small(i);
    for (int i = SMALL_HEAPS - 1; i >= 0; i--)
      close_small(i);
    CHECK(mapped() <= one + 512, "%ld pages are kept", mapped() - before);
  }
  lumap_slabs_release(slabs);
  if (!CHECK_SANITIZED) CHECK(mapped() == before, "%ld pages more", mapped() - before);
}

/* A place that is used up, in which two large blocks are free: two that need more than half of one come to lie there,
   and small ones in what is left of both, before more is mapped. */
static void what_is_free_in_a_place_is_used_before_more_is_mapped(void) {
  enum { LARGE = 5120, MIDDLE = 2816, SMALL = 48, COUNT = 2 * ((LARGE - MIDDLE) / SMALL) };
  static unsigned char *block[COUNT];
  unsigned char *large[2];
  long before;
  lumap_heap *heap;
  if (CHECK_SANITIZED) return;
  slabs = lumap_slabs_new();
  CHECK(slabs && (heap = lumap_heap_open(slabs)), "no heap");
  for (int i = 0; i < 2; i++)
    CHECK((large[i] = lumap_heap_allocate(heap, NULL, 0, LARGE)), "no large block");
  while (lumap_heap_ready(heap) >= SMALL)
    CHECK(lumap_heap_allocate(heap, NULL, 0, SMALL), "no memory");
  before = mapped();
  for (int i = 0; i < 2; i++)
    lumap_heap_allocate(heap, large[i], LARGE, 0);
  for (int i = 0; i < 2; i++) {
    CHECK((large[i] = lumap_heap_allocate(heap, NULL, 0, MIDDLE)), "no middle block");
    fill(large[i], MIDDLE, (unsigned)(COUNT + i));
  }
  for (int i = 0; i < COUNT; i++) {
    CHECK((block[i] = lumap_heap_allocate(heap, NULL, 0, SMALL)), "no block %d", i);
    fill(block[i], SMALL, (unsigned)i);
  }
  CHECK(mapped() == before, "%ld pages were mapped", mapped() - before);
  for (int i = 0; i < 2; i++)
    CHECK(is_filled(large[i], MIDDLE, (unsigned)(COUNT + i)), "middle block %d", i);
  for (int i = 0; i < COUNT; i++)
    CHECK(is_filled(block[i], SMALL, (unsigned)i), "block %d", i);
  CHECK(lumap_heap_allocate(heap, NULL, 0, SMALL) && mapped() > before, "there was more room than is known");
  lumap_heap_close(heap);
  lumap_slabs_release(slabs);
}

/* Without address space for a slab of the larger kind there is one of the other. */
static void small_heaps_where_memory_is_short(void) {
  struct rlimit before, low;
  long mapped_before = mapped();
  int count = 0;
  if (CHECK_SANITIZED) return;
  slabs = lumap_slabs_new();
  CHECK(slabs, "no slabs");
  getrlimit(RLIMIT_AS, &before);
  low = before;
  low.rlim_cur = (rlim_t)mapped() * 4096 + 5 * MEGABYTE;
  CHECK(setrlimit(RLIMIT_AS, &low) == 0, "no limit");
  while (count < SMALL_HEAPS && (small_heaps[count] = lumap_heap_open(slabs)))
    count++;
  setrlimit(RLIMIT_AS, &before);
  CHECK(count > 30 && count < 50, "%d heaps", count);
  while (count > 0)
    lumap_heap_close(small_heaps[--count]);
  lumap_slabs_release(slabs);
  CHECK(mapped() == mapped_before, "%ld pages more", mapped() - mapped_before);
}

/* ---- threads ---- */

static lumap_slabs *shared_slabs;

static void *churn_and_hand_over(void *argument) {
  static _Thread_local held h;
  lumap_heap *heap = lumap_heap_open((uintptr_t)argument % 2 == 0 ? shared_slabs : NULL);
  if (heap) churn(heap, &h, (uintptr_t)argument, 8000);
  return heap;
}

static void heaps_on_many_threads_and_ended_on_another(void) {
  pthread_t threads[6];
  shared_slabs = lumap_slabs_new();
  CHECK(shared_slabs, "no slabs");
  for (uintptr_t i = 0; i < 6; i++)
    CHECK(pthread_create(&threads[i], NULL, churn_and_hand_over, (void *)(i + 10)) == 0, "no thread");
  for (int i = 0; i < 6; i++) {
    void *heap;
    pthread_join(threads[i], &heap);
    lumap_heap_close(heap);
  }
  lumap_slabs_release(shared_slabs);
}

/* By themselves, so that sanitizers see them: the heaps of their builds do without. */
static void *take_and_give_places(void *argument) {
  enum { HELD = 30 };
  lumap_slab *of[HELD];
  void *places[HELD];
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < HELD; i++) {
      places[i] = lumap_place_take(shared_slabs, &of[i]);
      if (!places[i]) return argument;
      memset(places[i], (int)(uintptr_t)argument, 64);
    }
    for (int i = 0; i < HELD; i++) {
      if (((unsigned char *)places[i])[63] != (uintptr_t)argument) return argument;
      lumap_place_give(of[i], places[i]);
    }
  }
  return NULL;
}

static void places_on_many_threads(void) {
  pthread_t threads[4];
  shared_slabs = lumap_slabs_new();
  CHECK(shared_slabs, "no slabs");
  for (uintptr_t i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, take_and_give_places, (void *)(i + 1)) == 0, "no thread");
  for (int i = 0; i < 4; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    CHECK(!failed, "thread %d lost a place", i);
  }
  lumap_slabs_release(shared_slabs);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(blocks_of_a_large_heap_keep_what_is_in_them),
      TEST(blocks_of_a_small_heap_keep_what_is_in_them),
      TEST(all_is_dropped_at_once),
      TEST(freeing_does_nothing_once_it_is_abandoned),
      TEST(big_blocks_grow_and_shrink),
      TEST(place_of_a_big_block_is_not_cut_for_short_ones),
      TEST(trim_gives_back),
      TEST(limit_is_kept_to_the_byte),
      TEST(pressure_comes_before_the_limit_and_not_at_each_block),
      TEST(sizes_that_nobody_has_are_refused),
      TEST(what_gets_small_stays_where_there_is_no_room_for_it),
      TEST(small_heaps_share_slabs_and_leave_none),
      TEST(one_empty_slab_is_kept),
      TEST(what_is_free_in_a_place_is_used_before_more_is_mapped),
      TEST(small_heaps_where_memory_is_short),
      TEST(heaps_on_many_threads_and_ended_on_another),
      TEST(places_on_many_threads),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 120, NULL, argc, argv);
}
