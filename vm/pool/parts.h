/* SPDX-License-Identifier: MIT
 *
 * parts.h - a pool's own parts, not for others: the struct, and what its files have of one another.
 *
 *     pool.c, job.c --> feed.c --> waiting.c
 *
 * pool.c opens and ends a pool, job.c is the caller's end of a call, feed.c is what workers see, waiting.c knows who
 * has no work. "Under the lock": the pool's, held by who calls.
 */
#ifndef LUMAP_POOL_PARTS_H
#define LUMAP_POOL_PARTS_H

#include <pthread.h>

#include "pool/job.h"
#include "pool/spares.h"

struct lumap_pool {
  /* Fixed after open. */
  lumap_crew crew;
  lumap_bytes setup;
  char *program;
  int cpu_count;

  atomic_uint references;

  /* Lock order: this lock is taken last of all and nothing is called with it held, so it can meet no other. */
  pthread_mutex_t lock;
  lumap_worker *warmest; /* of those who wait for work: the one that came last */
  int waiting;           /* how many they are, those that spin included */
  int present;           /* workers that have come for work at least once */
  int excluded;          /* workers: see lumap_pool_note_readiness */
  bool has_done;         /* a task, since all were excluded last or a job began */
  lumap_event drained;   /* for join: all that was submitted is done */
  lumap_list queue;
  uint64_t active;    /* submitted, not finished */
  uint64_t abandoned; /* tasks whose thread was given up */
  uint64_t mail;      /* in all mailboxes */
  int mail_at;        /* the worker, from 0, whose mailbox is looked at next: see lumap_pool_call_with_mail */
  uint32_t next_call_id;
  bool closed;
  bool terminated;

  /* Any thread. */
  atomic_int spinning; /* workers that wait for work on a processor */
  lumap_spares spares;

  /* The caller's thread. */
  bool joined;
};

/* The task that is in a list by this link. */
static inline lumap_task *lumap_pool_task_of(lumap_link *link) {
  return LUMAP_OWNER(link, lumap_task, link);
}

/* ---- pool.c: the count of references; `self` is a lumap_pool. Any thread. ---- */

void lumap_pool_acquire(void *self);
/* Frees the pool with the last of them. */
void lumap_pool_drop(void *self);

/* ---- feed.c ---- */

/* The functions of lumap_feed, as backend.h describes them; `self` is a lumap_pool. */
lumap_task *lumap_pool_take(void *self, lumap_worker *worker, bool wait);
void lumap_pool_finish(void *self, lumap_worker *worker, lumap_task *task);
void lumap_pool_give_back(void *self, lumap_worker *worker, lumap_task *task);

/* Under the lock: takes tasks of one job (NULL: of all) that begin at item `from` or later out of the queue and
 * delivers them as cancelled. What nobody waits for is put on `orphans`, for the caller to free. */
void lumap_pool_cancel_queued(lumap_pool *pool, const lumap_job *job, uint64_t from, lumap_list *orphans);

/* Frees all tasks of a list, which is empty afterwards. */
void lumap_pool_free_tasks(lumap_list *list);

/* ---- waiting.c ---- */

/* Workers that are woken for what concerns all of them, the end of a call or of the pool. Each wakes another one: to
 * wake a thousand takes as long as many calls. */
enum { LUMAP_RUNG_FIRST = 4 };

/* Under the lock, which is not held meanwhile: until somebody rings for this worker, or the deadline. */
void lumap_pool_await_work(lumap_pool *pool, lumap_worker *worker, uint64_t deadline_ns);

/* Under the lock: of those who may take what is queued the worker that came last, which waits no longer and is to be
 * rung. NULL: none of them waits. */
lumap_worker *lumap_pool_call_warmest(lumap_pool *pool);

/* Under the lock: a worker that waits and has mail, which waits no longer and is to be rung. NULL: none. If one is
 * given up before it has rung another one, others find their mail when they have had nothing to do for
 * LUMAP_REST_AFTER_MS. */
lumap_worker *lumap_pool_call_with_mail(lumap_pool *pool);

/* Under the lock: rings the worker that came last, if one waits. */
void lumap_pool_ring_warmest(lumap_pool *pool);

/* Under the lock: there will be no more work. Tells join, and the first of those who wait. */
void lumap_pool_ring_out(lumap_pool *pool);

/* Under the lock: are there processors for `more` threads beside those that work or spin already? */
bool lumap_pool_has_processors(lumap_pool *pool, int more);

/* Under the lock: must the worker leave what is queued to others? */
bool lumap_pool_excludes(const lumap_pool *pool, const lumap_worker *worker);

/* Under the lock: all may take what is queued. Returns whether some might not before, and are to be woken. */
bool lumap_pool_readmit(lumap_pool *pool);

/* Under the lock, when a task comes back: a worker that could not make itself ready leaves what is queued to others,
 * until a task is done or a job begins. When none could, all try again; but if nothing was done since they did that
 * last, the task says that it is hopeless. Returns whether those who leave work are to be woken. */
bool lumap_pool_note_readiness(lumap_pool *pool, lumap_worker *worker, lumap_task *task);

/* Without the lock: tells a crew that does not wait in take. */
void lumap_pool_wake(lumap_pool *pool);

#endif
