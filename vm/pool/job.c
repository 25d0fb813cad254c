/* SPDX-License-Identifier: MIT */
#include "pool/job.h"

#include <stdlib.h>

#include "pool/parts.h"
#include "pool/stops.h"

/* What a pool without work keeps in spare tasks, where no worker of it is told to rest. */
static const size_t idle_spare_bytes = 256 * 1024;

static void job_free(lumap_call *call) {
  lumap_job *job = (lumap_job *)call;
  lumap_pool *pool = job->pool;
  free(job->met);
  free(job);
  lumap_pool_drop(pool);
}

lumap_job *lumap_job_open(lumap_pool *pool, lumap_event *event) {
  lumap_job *job = calloc(1, sizeof *job);
  unsigned char *met = calloc((size_t)pool->crew.worker_count, 1);
  bool wakes;
  if (!job || !met) {
    free(job);
    free(met);
    return NULL;
  }
  pthread_mutex_lock(&pool->lock);
  /* Zero means none, the highest means all. */
  if (++pool->next_call_id == LUMAP_STOP_ALL) pool->next_call_id = 1;
  lumap_call_init(&job->call, pool->next_call_id);
  wakes = lumap_pool_readmit(pool);
  pool->has_done = false;
  pthread_mutex_unlock(&pool->lock);
  if (wakes) lumap_pool_wake(pool);
  job->call.free = job_free;
  job->pool = pool;
  lumap_pool_acquire(pool);
  job->event = event;
  job->wake_below = UINT32_MAX;
  job->met = met;
  return job;
}

lumap_task *lumap_job_task(lumap_job *job) {
  return lumap_spares_take(&job->pool->spares, &job->call);
}

void lumap_job_recycle(lumap_job *job, lumap_task *task) {
  lumap_spares_give(&job->pool->spares, task);
}

lumap_status lumap_job_submit(lumap_job *job, lumap_task *task) {
  lumap_pool *pool = job->pool;
  lumap_status status = LUMAP_E_OK;
  lumap_worker *called = NULL;
  task->log_needed = job->call.log_count;
  pthread_mutex_lock(&pool->lock);
  if (pool->closed) {
    status = LUMAP_E_CLOSED;
  } else {
    pool->active++;
    job->unfinished++;
    lumap_list_push(&pool->queue, &task->link);
    called = lumap_pool_call_warmest(pool);
  }
  pthread_mutex_unlock(&pool->lock);
  if (status != LUMAP_E_OK) return status;
  job->outstanding++;
  if (called)
    lumap_event_signal(&called->bell);
  else if (pool->crew.backend->recruit)
    pool->crew.backend->recruit(&pool->crew, 1);
  lumap_pool_wake(pool);
  return LUMAP_E_OK;
}

void lumap_job_wake_below(lumap_job *job, uint32_t count) {
  pthread_mutex_lock(&job->pool->lock);
  job->wake_below = count;
  pthread_mutex_unlock(&job->pool->lock);
}

lumap_task *lumap_job_collect(lumap_job *job) {
  lumap_link *link;
  pthread_mutex_lock(&job->pool->lock);
  link = lumap_list_pop(&job->finished);
  if (link) job->finished_count--;
  pthread_mutex_unlock(&job->pool->lock);
  if (!link) return NULL;
  job->outstanding--;
  return lumap_pool_task_of(link);
}

void lumap_job_cancel(lumap_job *job, uint64_t from) {
  lumap_pool *pool = job->pool;
  lumap_list orphans = {NULL, NULL};
  bool joined;
  lumap_call_stop_from(&job->call, from);
  from = atomic_load(&job->call.stop_from);
  pthread_mutex_lock(&pool->lock);
  lumap_pool_cancel_queued(pool, job, from, &orphans);
  joined = pool->joined;
  for (int i = 0; i < pool->crew.worker_count && !joined; i++)
    if (job->met[i]) lumap_stops_request(&pool->crew.workers[i], job->call.id, from);
  pthread_mutex_unlock(&pool->lock);
  lumap_pool_free_tasks(&orphans);
  if (!joined && pool->crew.backend->heed) pool->crew.backend->heed(&pool->crew, &job->call);
}

size_t lumap_job_cut(lumap_job *job, uint64_t *stuck) {
  lumap_pool *pool = job->pool;
  int count = pool->joined ? 0 : pool->crew.worker_count;
  size_t found = 0;
  pthread_mutex_lock(&pool->lock);
  for (int i = 0; i < count; i++)
    stuck[i] = job->met[i] ? lumap_stops_cut(&pool->crew.workers[i], job->call.id) : 0;
  pthread_mutex_unlock(&pool->lock);
  if (!lumap_memory_barrier_all()) return 0;
  pthread_mutex_lock(&pool->lock);
  for (int i = 0; i < count; i++)
    if (stuck[i] && lumap_stops_is_stuck(&pool->crew.workers[i], job->call.id, stuck[i])) stuck[found++] = stuck[i];
  pthread_mutex_unlock(&pool->lock);
  return found;
}

void lumap_job_abort(lumap_job *job) {
  lumap_call_stop_from(&job->call, 0);
  atomic_store(&job->call.ended, true);
  lumap_job_cancel(job, 0);
}

/* Do workers wait in take, so that they are told to rest when there is nothing to do? */
static bool has_workers_that_rest(const lumap_pool *pool) {
  const lumap_backend *backend = pool->crew.backend;
  return !backend->wake && !backend->pump && !backend->attend;
}

void lumap_job_close(lumap_job *job) {
  lumap_pool *pool;
  lumap_list finished;
  lumap_worker *called[LUMAP_RUNG_FIRST];
  int ends = 0, rung = 0;
  bool idle;
  if (!job) return;
  pool = job->pool;
  if (job->outstanding > 0) lumap_job_cancel(job, 0);
  pthread_mutex_lock(&pool->lock);
  job->event = NULL;
  finished = job->finished;
  job->finished = (lumap_list){NULL, NULL};
  for (int i = 0; i < pool->crew.worker_count && !pool->joined && !pool->terminated; i++) {
    lumap_task *end = job->met[i] ? lumap_task_new(LUMAP_TASK_END, NULL) : NULL;
    if (!end) continue;
    end->call_id = job->call.id;
    ends++;
    lumap_list_push(&pool->crew.workers[i].mailbox, &end->link);
  }
  pool->mail += (uint64_t)ends;
  while (rung < LUMAP_RUNG_FIRST && (called[rung] = lumap_pool_call_with_mail(pool)) != NULL)
    rung++;
  idle = pool->active == 0;
  pthread_mutex_unlock(&pool->lock);
  lumap_pool_free_tasks(&finished);
  for (int i = 0; i < rung; i++)
    lumap_event_signal(&called[i]->bell);
  if (idle && !has_workers_that_rest(pool)) lumap_spares_trim(&pool->spares, idle_spare_bytes);
  lumap_pool_wake(pool);
  /* Where workers run only when somebody asks for results, nobody will ask for the end of a call. Mailboxes come before
     the queue, so this runs no other task. */
  for (; ends > 0 && pool->crew.backend->pump && !pool->joined; ends--)
    pool->crew.backend->pump(&pool->crew);
  lumap_call_release(&job->call);
}
