/* SPDX-License-Identifier: MIT
 *
 * feed.c - tasks on their way: what workers take from mailboxes and queue, and what goes back to its job.
 */
#include "pool/parts.h"
#include "pool/stops.h"

static lumap_job *job_of(lumap_task *task) {
  return (lumap_job *)task->call;
}

/* Under the lock: hands a task to its job. Returns the task when nobody waits for it any more: the caller frees it.
   `*event`, unless NULL, is to be signalled. */
static lumap_task *deliver(lumap_pool *pool, lumap_task *task, lumap_event **event) {
  lumap_job *job = job_of(task);
  *event = NULL;
  pool->active--;
  pool->abandoned += task->given_up;
  if (pool->active == 0 && pool->closed) lumap_pool_ring_out(pool);
  if (!job->event) return task;
  lumap_list_push(&job->finished, &task->link);
  job->finished_count++;
  job->unfinished--;
  if (job->unfinished > job->wake_below && task->outcome == LUMAP_OUTCOME_DONE && task->done == task->count)
    return NULL;
  *event = job->event;
  return NULL;
}

void lumap_pool_finish(void *self, lumap_worker *worker, lumap_task *task) {
  lumap_pool *pool = self;
  lumap_event *event;
  lumap_task *orphan;
  bool wakes;
  pthread_mutex_lock(&pool->lock);
  lumap_stops_lift_cut(worker, task);
  wakes = lumap_pool_note_readiness(pool, worker, task);
  orphan = deliver(pool, task, &event);
  lumap_task_tell_stop(task);
  pthread_mutex_unlock(&pool->lock);
  if (event) lumap_event_signal(event);
  if (wakes) lumap_pool_wake(pool);
  lumap_task_free(orphan);
}

void lumap_pool_give_back(void *self, lumap_worker *worker, lumap_task *task) {
  lumap_pool *pool = self;
  lumap_task *orphan = NULL;
  lumap_event *event = NULL;
  lumap_worker *called = NULL;
  bool was_cut;
  pthread_mutex_lock(&pool->lock);
  was_cut = lumap_stops_lift_cut(worker, task);
  task->turn = 0; /* whoever has it next has numbers of its own */
  /* Of a task that was cut the caller may have sent a part to others: it knows what is left. */
  if (was_cut || pool->terminated || task->first >= atomic_load(&task->call->stop_from)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    orphan = deliver(pool, task, &event);
  } else {
    lumap_list_push_front(&pool->queue, &task->link);
    called = lumap_pool_call_warmest(pool);
  }
  pthread_mutex_unlock(&pool->lock);
  if (event) lumap_event_signal(event);
  if (called) lumap_event_signal(&called->bell);
  lumap_task_free(orphan);
  lumap_pool_wake(pool);
}

/* Under the lock. `*called`, unless NULL, is to be rung. */
static lumap_task *next_task(lumap_pool *pool, lumap_worker *worker, lumap_worker **called) {
  lumap_link *link = lumap_list_pop(&worker->mailbox);
  lumap_task *task;
  *called = NULL;
  if (link) {
    pool->mail--;
    *called = lumap_pool_call_with_mail(pool);
    return lumap_pool_task_of(link);
  }
  link = lumap_pool_excludes(pool, worker) ? NULL : lumap_list_pop(&pool->queue);
  if (!link) return NULL;
  task = lumap_pool_task_of(link);
  job_of(task)->met[worker->number - 1] = 1;
  return task;
}

/* Under the lock, for a worker that finds nothing to do: what tells it to rest, once that is due. NULL: not yet, or it
   does already, or there is no memory. */
static lumap_task *rest_if_due(lumap_worker *worker, uint64_t rest_at) {
  if (worker->rested || lumap_clock_ns() < rest_at) return NULL;
  worker->rested = true;
  return lumap_task_new(LUMAP_TASK_END, NULL);
}

lumap_task *lumap_pool_take(void *self, lumap_worker *worker, bool wait) {
  lumap_pool *pool = self;
  uint64_t rest_at = 0;
  bool idle = false;
  lumap_worker *called;
  lumap_task *task;
  pthread_mutex_lock(&pool->lock);
  pool->present += !worker->has_come;
  worker->has_come = true;
  for (;;) {
    task = next_task(pool, worker, &called);
    if (task) worker->rested = false;
    if (task || !wait) break;
    if ((pool->closed && pool->active == 0) || pool->terminated) {
      lumap_pool_ring_warmest(pool);
      break;
    }
    if (rest_at == 0) rest_at = lumap_clock_ns() + LUMAP_REST_AFTER_MS * UINT64_C(1000000);
    task = rest_if_due(worker, rest_at);
    idle = task && pool->active == 0;
    if (task) break;
    lumap_pool_await_work(pool, worker, worker->rested ? LUMAP_FOREVER : rest_at);
  }
  pthread_mutex_unlock(&pool->lock);
  if (called) lumap_event_signal(&called->bell);
  if (idle) lumap_spares_trim(&pool->spares, 0);
  return task;
}

void lumap_pool_cancel_queued(lumap_pool *pool, const lumap_job *job, uint64_t from, lumap_list *orphans) {
  lumap_list kept = {NULL, NULL};
  for (lumap_link *link; (link = lumap_list_pop(&pool->queue)) != NULL;) {
    lumap_task *task = lumap_pool_task_of(link);
    lumap_event *event;
    if (job && (job_of(task) != job || task->first < from)) {
      lumap_list_push(&kept, link);
      continue;
    }
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    if (deliver(pool, task, &event)) lumap_list_push(orphans, link);
    if (event) lumap_event_signal(event);
  }
  pool->queue = kept;
}

void lumap_pool_free_tasks(lumap_list *list) {
  for (lumap_link *link; (link = lumap_list_pop(list)) != NULL;)
    lumap_task_free(lumap_pool_task_of(link));
}
