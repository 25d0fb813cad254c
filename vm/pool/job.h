/* SPDX-License-Identifier: MIT
 *
 * job.h - one call of the caller (parallel.map, submit) on a pool: a lumap_call with the caller's end of it.
 *
 *     open, then task -> submit ... collect -> recycle, then close
 *
 * Threads: a job is used by one thread, its pool's caller. It holds its pool, and each task that is under way holds
 * it; so it outlives its closing until the last of them is finished.
 */
#ifndef LUMAP_POOL_JOB_H
#define LUMAP_POOL_JOB_H

#include "pool/pool.h"

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
