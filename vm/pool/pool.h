/* SPDX-License-Identifier: MIT
 *
 * pool.h - a queue of tasks, a crew of workers, and the jobs that put tasks in and take them out again, done.
 *
 *     submit --> queue --take--> worker --finish--> job's finished list --> collect
 *
 * One queue for all workers: whoever is free takes the next task. Of those who wait the one that came last is woken,
 * whose memory is still in the cache. One that could not make itself ready is passed over, until there is reason to try
 * again. A job is one call of the caller (parallel.map, submit): a lumap_call with the caller's end of it. Knows bytes
 * and states, no Lua.
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

typedef struct lumap_job {
  lumap_call call;  /* first: what tasks hold references to */
  lumap_pool *pool; /* holds a reference */
  /* The pool's lock. */
  lumap_event *event; /* signalled when a task is finished; NULL once the caller has closed the job */
  lumap_list finished;
  uint32_t finished_count;
  uint32_t unfinished; /* submitted, not finished */
  uint32_t wake_below; /* see lumap_job_wake_below */
  unsigned char *met;  /* by worker number - 1: has taken a task of this job */
  /* The caller's thread. */
  uint32_t outstanding; /* submitted, not collected */
} lumap_job;

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

/* A new job, whose `event` is signalled by finished tasks and must outlive the pool's workers. NULL without memory. */
lumap_job *lumap_job_open(lumap_pool *pool, lumap_event *event);

/* A task for items of this job, or NULL without memory. */
lumap_task *lumap_job_task(lumap_job *job);

/* Frees a task of this job, or keeps its memory for others. NULL is fine. */
void lumap_job_recycle(lumap_job *job, lumap_task *task);

/* Queues a task of this job, taking it. LUMAP_E_CLOSED when the pool takes no more: the task is still the caller's. */
lumap_status lumap_job_submit(lumap_job *job, lumap_task *task);

/* From now on the event is signalled for a task that is done in full only when `count` of the job's tasks, or fewer,
 * are not finished: the caller has nothing to do for a result but to send another task, so it sleeps until there are
 * many to send. Other outcomes are signalled at once, and without this call all are. */
void lumap_job_wake_below(lumap_job *job, uint32_t count);

/* A finished task, given to the caller, or NULL when none is finished now. */
lumap_task *lumap_job_collect(lumap_job *job);

/* Begins no new item from index `from` on (0: none at all): queued tasks come back CANCELLED, running ones end after
 * the item that runs, with the results so far. Items before it go on. */
void lumap_job_cancel(lumap_job *job, uint64_t from);

/* Each task that runs ends after the item that runs, with the results so far: `done` tells how many. One that is begun
 * meanwhile may come back CANCELLED. Those begun later are not concerned. Fills `stuck`, which has room for one item a
 * worker, with items that run all the time and behind which no other of their task will begin, and returns how many. */
size_t lumap_job_cut(lumap_job *job, uint64_t *stuck);

/* As lumap_job_cancel from 0, and ends the items that run, where the back-end can. */
void lumap_job_abort(lumap_job *job);

/* The caller is done with the job: cancels what is left, tells the workers to forget the call, drops the caller's
 * reference. NULL is fine. */
void lumap_job_close(lumap_job *job);

#endif
