/* SPDX-License-Identifier: MIT
 *
 * pool.h - a queue of tasks and a crew of workers. Jobs (job.h) put tasks in and take them out again, done.
 *
 *     submit --> queue --take--> worker --finish--> job's finished list --> collect
 *
 * One queue for all workers: whoever is free takes the next task. Of those who wait the one that came last is woken,
 * whose memory is still in the cache. One that could not make itself ready is passed over, until there is reason to try
 * again. Knows bytes and states, no Lua.
 *
 * Threads: a pool and its jobs are used by one thread, the caller's; workers use the feed. One lock a pool, held for a
 * few instructions; under it no function of a back-end or a caller runs.
 */
#ifndef LUMAP_POOL_POOL_H
#define LUMAP_POOL_POOL_H

#include "backend/backend.h"
#include "os/os.h"

typedef struct lumap_pool lumap_pool;

typedef struct lumap_pool_options {
  const lumap_backend *backend;
  const lumap_executor *executor;
  void *host;               /* borrowed for the life of the pool */
  lumap_bytes setup;        /* taken by lumap_pool_open when it succeeds */
  const char *program;      /* copied; NULL for back-ends without processes */
  lumap_memories *memories; /* as in lumap_crew; kept */
  bool stop_signal;
  int worker_count;
  int cpu_count; /* that this process may use: with more threads at work nobody spins. 0: nobody ever does */
} lumap_pool_options;

/* Starts a pool. NULL on failure; then `options->setup` is still the caller's. */
lumap_pool *lumap_pool_open(lumap_pool_options *options, lumap_error *error);

/* Takes no more tasks; those that were submitted are done. Twice is fine. */
void lumap_pool_close(lumap_pool *pool);

/* Ends all work at once, queued tasks and running ones. Twice is fine. */
void lumap_pool_terminate(lumap_pool *pool);

/* Waits until the workers of a closed or terminated pool have ended. Twice is fine. */
void lumap_pool_join(lumap_pool *pool);

/* Is every task that was submitted finished? */
bool lumap_pool_is_idle(lumap_pool *pool);

bool lumap_pool_is_closed(lumap_pool *pool);
int lumap_pool_worker_count(const lumap_pool *pool);

/* How many threads the crew had to give up so far. */
uint64_t lumap_pool_abandoned(lumap_pool *pool);

/* Terminates and joins if that has not been done, and drops the caller's reference. NULL is fine. */
void lumap_pool_release(lumap_pool *pool);

/* Back-ends without workers of their own run one task now; false when there is nothing to run, or workers run by
 * themselves. */
bool lumap_pool_pump(lumap_pool *pool);

/* Back-ends that need the caller's thread for it serve their workers until something has happened or the deadline is
 * there; false when this one does not. */
bool lumap_pool_attend(lumap_pool *pool, uint64_t deadline_ns);

/* Is there a processor to spare for the caller to spin on, while it waits for results? */
bool lumap_pool_may_spin(lumap_pool *pool);

#endif
