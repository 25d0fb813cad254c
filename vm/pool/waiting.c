/* SPDX-License-Identifier: MIT
 *
 * waiting.c - the workers that have no work: who is told of some, and who may not take it. Each waits for a bell of its
 * own, so that a task wakes one and the end of a call those that it concerns.
 */
#include "pool/parts.h"

/* Under the lock. */
static void leave_waiting(lumap_pool *pool, lumap_worker *worker) {
  if (!worker->waits) return;
  worker->waits = false;
  pool->waiting--;
  if (worker->warmer)
    worker->warmer->colder = worker->colder;
  else
    pool->warmest = worker->colder;
  if (worker->colder) worker->colder->warmer = worker->warmer;
}

static void join_waiting(lumap_pool *pool, lumap_worker *worker) {
  worker->waits = true;
  pool->waiting++;
  worker->warmer = NULL;
  worker->colder = pool->warmest;
  if (pool->warmest) pool->warmest->warmer = worker;
  pool->warmest = worker;
}

/* Under the lock. Where it can be helped bells are rung after it was released: it takes as long as many tasks, and who
   is woken comes for the lock. */
static void ring(lumap_pool *pool, lumap_worker *worker) {
  if (!worker || !worker->waits) return;
  leave_waiting(pool, worker);
  lumap_event_signal(&worker->bell);
}

static void ring_all(lumap_pool *pool) {
  while (pool->warmest)
    ring(pool, pool->warmest);
}

void lumap_pool_ring_warmest(lumap_pool *pool) {
  ring(pool, pool->warmest);
}

void lumap_pool_ring_out(lumap_pool *pool) {
  for (int i = 0; i < LUMAP_RUNG_FIRST; i++)
    lumap_pool_ring_warmest(pool);
  lumap_event_signal(&pool->drained);
}

bool lumap_pool_excludes(const lumap_pool *pool, const lumap_worker *worker) {
  return worker->excluded && pool->excluded < pool->crew.worker_count;
}

lumap_worker *lumap_pool_call_warmest(lumap_pool *pool) {
  lumap_worker *worker = pool->warmest;
  while (worker && lumap_pool_excludes(pool, worker))
    worker = worker->colder;
  if (worker) leave_waiting(pool, worker);
  return worker;
}

lumap_worker *lumap_pool_call_with_mail(lumap_pool *pool) {
  int count = pool->crew.worker_count;
  for (int i = 0; i < count && pool->mail > 0; i++) {
    lumap_worker *worker = &pool->crew.workers[pool->mail_at];
    pool->mail_at = (pool->mail_at + 1) % count;
    if (!worker->waits || !worker->mailbox.first) continue;
    leave_waiting(pool, worker);
    return worker;
  }
  return NULL;
}

bool lumap_pool_has_processors(lumap_pool *pool, int more) {
  int busy = pool->present - pool->waiting;
  return busy + atomic_load_explicit(&pool->spinning, memory_order_relaxed) + more <= pool->cpu_count;
}

void lumap_pool_await_work(lumap_pool *pool, lumap_worker *worker, uint64_t deadline_ns) {
  uint32_t key = lumap_event_key(&worker->bell);
  uint64_t began = lumap_clock_ns();
  bool spins, rung = false;
  join_waiting(pool, worker);
  spins = lumap_pool_has_processors(pool, 2); /* this worker, and the caller who is to ring */
  pthread_mutex_unlock(&pool->lock);
  if (spins) {
    atomic_fetch_add_explicit(&pool->spinning, 1, memory_order_relaxed);
    rung = lumap_event_spin(&worker->bell, key, &worker->patience);
    atomic_fetch_sub_explicit(&pool->spinning, 1, memory_order_relaxed);
  }
  if (!rung) lumap_event_wait(&worker->bell, key, deadline_ns);
  lumap_patience_learn(&worker->patience, lumap_clock_ns() - began);
  pthread_mutex_lock(&pool->lock);
  leave_waiting(pool, worker);
}

bool lumap_pool_readmit(lumap_pool *pool) {
  if (pool->excluded == 0) return false;
  for (int i = 0; i < pool->crew.worker_count; i++)
    pool->crew.workers[i].excluded = false;
  pool->excluded = 0;
  if (pool->queue.first) ring_all(pool);
  return true;
}

bool lumap_pool_note_readiness(lumap_pool *pool, lumap_worker *worker, lumap_task *task) {
  uint32_t outcome = task->outcome;
  if (outcome == LUMAP_OUTCOME_DONE) {
    pool->has_done = true;
    return lumap_pool_readmit(pool);
  }
  if (outcome != LUMAP_OUTCOME_INIT && outcome != LUMAP_OUTCOME_START &&
      (outcome != LUMAP_OUTCOME_DIED || task->died_index != 0))
    return false;
  pool->excluded += !worker->excluded;
  worker->excluded = true;
  if (pool->excluded < pool->crew.worker_count) return false;
  task->is_hopeless = !pool->has_done;
  pool->has_done = false;
  if (!task->is_hopeless) return lumap_pool_readmit(pool);
  if (pool->queue.first) ring_all(pool);
  return true;
}

void lumap_pool_wake(lumap_pool *pool) {
  if (pool->crew.backend->wake && !pool->joined) pool->crew.backend->wake(&pool->crew);
}
