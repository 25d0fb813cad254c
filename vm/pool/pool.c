/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include <stdlib.h>

#include "pool/parts.h"

static void pool_free(lumap_pool *pool) {
  if (pool->crew.workers)
    for (int i = 0; i < pool->crew.worker_count; i++)
      lumap_pool_free_tasks(&pool->crew.workers[i].mailbox);
  lumap_bytes_deinit(&pool->setup);
  lumap_spares_deinit(&pool->spares);
  pthread_mutex_destroy(&pool->lock);
  lumap_memories_release(pool->crew.memories);
  free(pool->crew.workers);
  free(pool->program);
  free(pool);
}

void lumap_pool_acquire(void *self) {
  lumap_pool *pool = self;
  atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
}

void lumap_pool_drop(void *self) {
  lumap_pool *pool = self;
  if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) == 1) pool_free(pool);
}

static bool fill(lumap_pool *pool, const lumap_pool_options *options) {
  pool->crew = (lumap_crew){
      .backend = options->backend,
      .feed = {pool, lumap_pool_take, lumap_pool_finish, lumap_pool_give_back, lumap_pool_acquire, lumap_pool_drop},
      .executor = options->executor,
      .setup = &pool->setup,
      .host = options->host,
      .memories = lumap_memories_acquire(options->memories),
      .stop_signal = options->stop_signal,
      .worker_count = options->worker_count,
      .workers = calloc((size_t)options->worker_count, sizeof(lumap_worker)),
  };
  if (!pool->crew.workers) return false;
  if (options->program && !(pool->program = strdup(options->program))) return false;
  pool->crew.program = pool->program;
  for (int i = 0; i < options->worker_count; i++) {
    pool->crew.workers[i].number = i + 1;
    pool->crew.workers[i].crew = &pool->crew;
  }
  return true;
}

lumap_pool *lumap_pool_open(lumap_pool_options *options, lumap_error *error) {
  lumap_pool *pool = calloc(1, sizeof *pool);
  if (!pool) {
    lumap_error_set(error, LUMAP_E_NOMEM, "cannot start a pool of %d workers: not enough memory",
                    options->worker_count);
    return NULL;
  }
  atomic_init(&pool->references, 1);
  pool->cpu_count = options->cpu_count;
  pthread_mutex_init(&pool->lock, NULL);
  lumap_spares_init(&pool->spares);
  if (!fill(pool, options)) {
    lumap_error_set(error, LUMAP_E_NOMEM, "cannot start a pool of %d workers: not enough memory",
                    options->worker_count);
    pool_free(pool);
    return NULL;
  }
  lumap_bytes_move(&pool->setup, &options->setup);
  lumap_memory_barrier_join(false); /* else the first barrier does, which may never be needed */
  if (options->backend->open(&pool->crew, error) != LUMAP_E_OK) {
    lumap_bytes_move(&options->setup, &pool->setup);
    lumap_pool_drop(pool);
    return NULL;
  }
  return pool;
}

void lumap_pool_close(lumap_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  pool->closed = true;
  lumap_pool_ring_out(pool);
  pthread_mutex_unlock(&pool->lock);
}

void lumap_pool_terminate(lumap_pool *pool) {
  lumap_list orphans = {NULL, NULL};
  bool first;
  pthread_mutex_lock(&pool->lock);
  first = !pool->terminated;
  pool->closed = pool->terminated = true;
  lumap_pool_cancel_queued(pool, NULL, 0, &orphans);
  lumap_pool_ring_out(pool);
  pthread_mutex_unlock(&pool->lock);
  lumap_pool_free_tasks(&orphans);
  if (first && !pool->joined) pool->crew.backend->stop(&pool->crew);
}

void lumap_pool_join(lumap_pool *pool) {
  if (pool->joined) return;
  while (lumap_pool_pump(pool))
    continue;
  while (!pool->terminated && !lumap_pool_is_idle(pool) && lumap_pool_attend(pool, LUMAP_FOREVER))
    continue;
  pthread_mutex_lock(&pool->lock);
  while (pool->active > 0 && !pool->terminated) {
    uint32_t key = lumap_event_key(&pool->drained);
    pthread_mutex_unlock(&pool->lock);
    lumap_event_wait(&pool->drained, key, LUMAP_FOREVER);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  pool->crew.backend->close(&pool->crew);
  pool->joined = true;
}

bool lumap_pool_is_idle(lumap_pool *pool) {
  bool idle;
  pthread_mutex_lock(&pool->lock);
  idle = pool->active == 0;
  pthread_mutex_unlock(&pool->lock);
  return idle;
}

bool lumap_pool_is_closed(lumap_pool *pool) {
  bool closed;
  pthread_mutex_lock(&pool->lock);
  closed = pool->closed;
  pthread_mutex_unlock(&pool->lock);
  return closed;
}

uint64_t lumap_pool_abandoned(lumap_pool *pool) {
  uint64_t abandoned;
  pthread_mutex_lock(&pool->lock);
  abandoned = pool->abandoned;
  pthread_mutex_unlock(&pool->lock);
  return abandoned;
}

bool lumap_pool_may_spin(lumap_pool *pool) {
  bool may;
  pthread_mutex_lock(&pool->lock);
  may = lumap_pool_has_processors(pool, 1);
  pthread_mutex_unlock(&pool->lock);
  return may;
}

int lumap_pool_worker_count(const lumap_pool *pool) {
  return pool->crew.worker_count;
}

void lumap_pool_release(lumap_pool *pool) {
  if (!pool) return;
  if (!pool->joined) {
    lumap_pool_terminate(pool);
    lumap_pool_join(pool);
  }
  lumap_pool_drop(pool);
}

bool lumap_pool_pump(lumap_pool *pool) {
  return pool->crew.backend->pump && pool->crew.backend->pump(&pool->crew);
}

bool lumap_pool_attend(lumap_pool *pool, uint64_t deadline_ns) {
  if (!pool->crew.backend->attend) return false;
  pool->crew.backend->attend(&pool->crew, deadline_ns);
  return true;
}
