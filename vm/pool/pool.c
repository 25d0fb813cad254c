/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "pool/spares.h"

/* What a pool without work keeps in spare tasks, where no worker of it is told to rest. */
static const size_t idle_spare_bytes = 256 * 1024;

/* Workers that are woken for what concerns all of them, the end of a call or of the pool. Each wakes another one: to
   wake a thousand takes as long as many calls. */
enum { RUNG_FIRST = 4 };

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
  int excluded;          /* workers: see note_readiness */
  bool has_done;         /* a task, since all were excluded last or a job began */
  lumap_event drained;   /* for join: all that was submitted is done */
  lumap_list queue;
  uint64_t active;    /* submitted, not finished */
  uint64_t abandoned; /* tasks whose thread was given up */
  uint64_t mail;      /* in all mailboxes */
  int mail_at;        /* the worker, from 0, whose mailbox is looked at next: see next_with_mail */
  uint32_t next_call_id;
  bool closed;
  bool terminated;

  /* Any thread. */
  atomic_int spinning; /* workers that wait for work on a processor */
  lumap_spares spares;

  /* The caller's thread. */
  bool joined;
};

static lumap_job *job_of(lumap_task *task) {
  return (lumap_job *)task->call;
}

static lumap_task *task_of(lumap_link *link) {
  return LUMAP_OWNER(link, lumap_task, link);
}

/* ---- references --------------------------------------------------------------------------------------------- */

static void pool_acquire(void *self) {
  lumap_pool *pool = self;
  atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
}

static void pool_free(lumap_pool *pool) {
  if (pool->crew.workers)
    for (int i = 0; i < pool->crew.worker_count; i++)
      for (lumap_link *link; (link = lumap_list_pop(&pool->crew.workers[i].mailbox)) != NULL;)
        lumap_task_free(task_of(link));
  lumap_bytes_deinit(&pool->setup);
  lumap_spares_deinit(&pool->spares);
  pthread_mutex_destroy(&pool->lock);
  lumap_memories_release(pool->crew.memories);
  free(pool->crew.workers);
  free(pool->program);
  free(pool);
}

static void pool_drop(void *self) {
  lumap_pool *pool = self;
  if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) == 1) pool_free(pool);
}

/* ---- who waits for work ----
 *
 * Each worker waits for a bell of its own, so that a task wakes one and the end of a call those that it concerns. */

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

/* Under the lock: there will be no more work. */
static void ring_out(lumap_pool *pool) {
  for (int i = 0; i < RUNG_FIRST; i++)
    ring(pool, pool->warmest);
  lumap_event_signal(&pool->drained);
}

/* Under the lock: must the worker leave what is queued to others? */
static bool is_excluded(const lumap_pool *pool, const lumap_worker *worker) {
  return worker->excluded && pool->excluded < pool->crew.worker_count;
}

/* Under the lock: of those who may take what is queued the worker that came last, which waits no longer and is to be
   rung. NULL: none of them waits. */
static lumap_worker *call_warmest(lumap_pool *pool) {
  lumap_worker *worker = pool->warmest;
  while (worker && is_excluded(pool, worker))
    worker = worker->colder;
  if (worker) leave_waiting(pool, worker);
  return worker;
}

/* Under the lock: a worker that waits and has mail, which waits no longer and is to be rung. NULL: none. If one is
   given up before it has rung another one, others find their mail when they have had nothing to do for
   LUMAP_REST_AFTER_MS. */
static lumap_worker *next_with_mail(lumap_pool *pool) {
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

/* Under the lock: are there processors for `more` threads beside those that work or spin already? */
static bool has_processors(lumap_pool *pool, int more) {
  int busy = pool->present - pool->waiting;
  return busy + atomic_load_explicit(&pool->spinning, memory_order_relaxed) + more <= pool->cpu_count;
}

/* Under the lock, which is not held meanwhile: until somebody rings for this worker, or the deadline. */
static void await_work(lumap_pool *pool, lumap_worker *worker, uint64_t deadline_ns) {
  uint32_t key = lumap_event_key(&worker->bell);
  uint64_t began = lumap_clock_ns();
  bool spins, rung = false;
  join_waiting(pool, worker);
  spins = has_processors(pool, 2); /* this worker, and the caller who is to ring */
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

/* ---- the feed: what workers see ------------------------------------------------------------------------------ */

/* Tells a crew that does not wait in take. */
static void wake(lumap_pool *pool) {
  if (pool->crew.backend->wake && !pool->joined) pool->crew.backend->wake(&pool->crew);
}

/* Under the lock: hands a task to its job. Returns the task when nobody waits for it any more: the caller frees it.
   `*event`, unless NULL, is to be signalled. */
static lumap_task *deliver(lumap_pool *pool, lumap_task *task, lumap_event **event) {
  lumap_job *job = job_of(task);
  *event = NULL;
  pool->active--;
  pool->abandoned += task->given_up;
  if (pool->active == 0 && pool->closed) ring_out(pool);
  if (!job->event) return task;
  lumap_list_push(&job->finished, &task->link);
  job->finished_count++;
  job->unfinished--;
  if (job->unfinished > job->wake_below && task->outcome == LUMAP_OUTCOME_DONE && task->done == task->count)
    return NULL;
  *event = job->event;
  return NULL;
}

/* A worker has one place for the call that it must stop: another call's request stays while it still acts on it. Of
   two for the same call both are meant, so what is to run no more is what either names. */
static void request_stop(lumap_worker *worker, uint32_t call_id, uint64_t from) {
  lumap_control *control = worker->control;
  uint64_t running, stopping;
  if (!control) return;
  running = atomic_load(&control->call);
  stopping = atomic_load(&control->stop_call);
  if (stopping == LUMAP_STOP_ALL || (stopping != 0 && stopping == running && running != call_id)) return;
  if (stopping == call_id && atomic_load(&control->stop_from) <= from) return;
  atomic_store(&control->stop_from, from);
  atomic_store(&control->stop_call, call_id);
}

/* Under the lock, when a worker has a task no longer: if it is the one that was cut short, what the worker begins from
   now on runs, unless the call was cancelled. The result of one before it may come after the cut was asked for, since a
   child process has gone on meanwhile; and that may have had the very items, where it was cut short, too. Returns
   whether it is that task. */
static bool lift_cut(lumap_worker *worker, const lumap_task *task) {
  lumap_control *control = worker->control;
  uint64_t stopped = task->call_id, from = atomic_load(&task->call->stop_from);
  if (worker->cut_call == 0 || worker->cut_call != task->call_id || worker->cut_turn != task->turn) return false;
  worker->cut_call = 0;
  if (control && atomic_compare_exchange_strong(&control->stop_call, &stopped, 0) && from != UINT64_MAX)
    request_stop(worker, task->call_id, from);
  return true;
}

/* Under the lock: all may take what is queued. Returns whether some might not before, and are to be woken. */
static bool readmit(lumap_pool *pool) {
  if (pool->excluded == 0) return false;
  for (int i = 0; i < pool->crew.worker_count; i++)
    pool->crew.workers[i].excluded = false;
  pool->excluded = 0;
  if (pool->queue.first) ring_all(pool);
  return true;
}

/* Under the lock, when a task comes back: a worker that could not make itself ready leaves what is queued to others,
   until a task is done or a job begins. When none could, all try again; but if nothing was done since they did that
   last, the task says that it is hopeless. Returns whether those who leave work are to be woken. */
static bool note_readiness(lumap_pool *pool, lumap_worker *worker, lumap_task *task) {
  uint32_t outcome = task->outcome;
  if (outcome == LUMAP_OUTCOME_DONE) {
    pool->has_done = true;
    return readmit(pool);
  }
  if (outcome != LUMAP_OUTCOME_INIT && outcome != LUMAP_OUTCOME_START &&
      (outcome != LUMAP_OUTCOME_DIED || task->died_index != 0))
    return false;
  pool->excluded += !worker->excluded;
  worker->excluded = true;
  if (pool->excluded < pool->crew.worker_count) return false;
  task->is_hopeless = !pool->has_done;
  pool->has_done = false;
  if (!task->is_hopeless) return readmit(pool);
  if (pool->queue.first) ring_all(pool);
  return true;
}

static void pool_finish(void *self, lumap_worker *worker, lumap_task *task) {
  lumap_pool *pool = self;
  lumap_event *event;
  lumap_task *orphan;
  bool wakes;
  pthread_mutex_lock(&pool->lock);
  lift_cut(worker, task);
  wakes = note_readiness(pool, worker, task);
  orphan = deliver(pool, task, &event);
  lumap_task_tell_stop(task);
  pthread_mutex_unlock(&pool->lock);
  if (event) lumap_event_signal(event);
  if (wakes) wake(pool);
  lumap_task_free(orphan);
}

static void pool_give_back(void *self, lumap_worker *worker, lumap_task *task) {
  lumap_pool *pool = self;
  lumap_task *orphan = NULL;
  lumap_event *event = NULL;
  lumap_worker *called = NULL;
  bool was_cut;
  pthread_mutex_lock(&pool->lock);
  was_cut = lift_cut(worker, task);
  task->turn = 0; /* whoever has it next has numbers of its own */
  /* Of a task that was cut the caller may have sent a part to others: it knows what is left. */
  if (was_cut || pool->terminated || task->first >= atomic_load(&task->call->stop_from)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    orphan = deliver(pool, task, &event);
  } else {
    lumap_list_push_front(&pool->queue, &task->link);
    called = call_warmest(pool);
  }
  pthread_mutex_unlock(&pool->lock);
  if (event) lumap_event_signal(event);
  if (called) lumap_event_signal(&called->bell);
  lumap_task_free(orphan);
  wake(pool);
}

/* Under the lock. `*called`, unless NULL, is to be rung. */
static lumap_task *next_task(lumap_pool *pool, lumap_worker *worker, lumap_worker **called) {
  lumap_link *link = lumap_list_pop(&worker->mailbox);
  lumap_task *task;
  *called = NULL;
  if (link) {
    pool->mail--;
    *called = next_with_mail(pool);
    return task_of(link);
  }
  link = is_excluded(pool, worker) ? NULL : lumap_list_pop(&pool->queue);
  if (!link) return NULL;
  task = task_of(link);
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

static lumap_task *pool_take(void *self, lumap_worker *worker, bool wait) {
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
      ring(pool, pool->warmest);
      break;
    }
    if (rest_at == 0) rest_at = lumap_clock_ns() + LUMAP_REST_AFTER_MS * UINT64_C(1000000);
    task = rest_if_due(worker, rest_at);
    idle = task && pool->active == 0;
    if (task) break;
    await_work(pool, worker, worker->rested ? LUMAP_FOREVER : rest_at);
  }
  pthread_mutex_unlock(&pool->lock);
  if (called) lumap_event_signal(&called->bell);
  if (idle) lumap_spares_trim(&pool->spares, 0);
  return task;
}

/* ---- the pool ------------------------------------------------------------------------------------------------ */

static bool fill(lumap_pool *pool, const lumap_pool_options *options) {
  pool->crew = (lumap_crew){
      .backend = options->backend,
      .feed = {pool, pool_take, pool_finish, pool_give_back, pool_acquire, pool_drop},
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
    pool_drop(pool);
    return NULL;
  }
  return pool;
}

void lumap_pool_close(lumap_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  pool->closed = true;
  ring_out(pool);
  pthread_mutex_unlock(&pool->lock);
}

/* Under the lock: takes tasks of one job (NULL: of all) that begin at item `from` or later out of the queue and
   delivers them as cancelled. What nobody waits for is put on `orphans`. */
static void cancel_queued(lumap_pool *pool, const lumap_job *job, uint64_t from, lumap_list *orphans) {
  lumap_list kept = {NULL, NULL};
  for (lumap_link *link; (link = lumap_list_pop(&pool->queue)) != NULL;) {
    lumap_task *task = task_of(link);
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

static void free_tasks(lumap_list *list) {
  for (lumap_link *link; (link = lumap_list_pop(list)) != NULL;)
    lumap_task_free(task_of(link));
}

void lumap_pool_terminate(lumap_pool *pool) {
  lumap_list orphans = {NULL, NULL};
  bool first;
  pthread_mutex_lock(&pool->lock);
  first = !pool->terminated;
  pool->closed = pool->terminated = true;
  cancel_queued(pool, NULL, 0, &orphans);
  ring_out(pool);
  pthread_mutex_unlock(&pool->lock);
  free_tasks(&orphans);
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
  may = has_processors(pool, 1);
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
  pool_drop(pool);
}

bool lumap_pool_pump(lumap_pool *pool) {
  return pool->crew.backend->pump && pool->crew.backend->pump(&pool->crew);
}

bool lumap_pool_attend(lumap_pool *pool, uint64_t deadline_ns) {
  if (!pool->crew.backend->attend) return false;
  pool->crew.backend->attend(&pool->crew, deadline_ns);
  return true;
}

/* ---- jobs ---------------------------------------------------------------------------------------------------- */

static void job_free(lumap_call *call) {
  lumap_job *job = (lumap_job *)call;
  lumap_pool *pool = job->pool;
  free(job->met);
  free(job);
  pool_drop(pool);
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
  wakes = readmit(pool);
  pool->has_done = false;
  pthread_mutex_unlock(&pool->lock);
  if (wakes) wake(pool);
  job->call.free = job_free;
  job->pool = pool;
  pool_acquire(pool);
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
    called = call_warmest(pool);
  }
  pthread_mutex_unlock(&pool->lock);
  if (status != LUMAP_E_OK) return status;
  job->outstanding++;
  if (called)
    lumap_event_signal(&called->bell);
  else if (pool->crew.backend->recruit)
    pool->crew.backend->recruit(&pool->crew, 1);
  wake(pool);
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
  return task_of(link);
}

void lumap_job_cancel(lumap_job *job, uint64_t from) {
  lumap_pool *pool = job->pool;
  lumap_list orphans = {NULL, NULL};
  bool joined;
  lumap_call_stop_from(&job->call, from);
  from = atomic_load(&job->call.stop_from);
  pthread_mutex_lock(&pool->lock);
  cancel_queued(pool, job, from, &orphans);
  joined = pool->joined;
  for (int i = 0; i < pool->crew.worker_count && !joined; i++)
    if (job->met[i]) request_stop(&pool->crew.workers[i], job->call.id, from);
  pthread_mutex_unlock(&pool->lock);
  free_tasks(&orphans);
  if (!joined && pool->crew.backend->heed) pool->crew.backend->heed(&pool->crew, &job->call);
}

/* The item of the job that the worker runs, and the turn of its task; 0: none, or another job's. While the worker says
   so it has yet to tell that the task is done, so this can be held against the results that come from now on. A child
   process goes on by itself: what it says before and after it has begun another task says nothing. */
static uint64_t item_of(const lumap_worker *worker, const lumap_job *job, uint32_t *turn) {
  lumap_control *control = worker->control;
  uint64_t index;
  if (!control) return 0;
  *turn = lumap_control_begun(control);
  if (atomic_load(&control->call) != job->call.id) return 0;
  index = atomic_load(&control->index);
  return lumap_control_begun(control) == *turn ? index : 0;
}

/* The request that was made may not have been granted. */
static bool is_stopped_at(const lumap_worker *worker, const lumap_job *job, uint64_t index) {
  return lumap_control_is_stopped(worker->control, job->call.id, index);
}

/* Under the lock: asks the worker to end its task with the item that it runs, which is returned; 0: none of the job, or
   it was not to be asked. */
static uint64_t cut_task(lumap_worker *worker, const lumap_job *job) {
  uint32_t turn;
  uint64_t index = item_of(worker, job, &turn);
  if (index == 0) return 0;
  request_stop(worker, job->call.id, index + 1);
  if (!is_stopped_at(worker, job, index + 1)) return 0;
  worker->cut_call = job->call.id;
  worker->cut_turn = turn;
  return index;
}

/* Under the lock: has the task that was cut at this item come no further? */
static bool is_stuck(const lumap_worker *worker, const lumap_job *job, uint64_t index) {
  uint32_t turn;
  return item_of(worker, job, &turn) == index && worker->cut_call == job->call.id && worker->cut_turn == turn &&
         is_stopped_at(worker, job, index + 1);
}

size_t lumap_job_cut(lumap_job *job, uint64_t *stuck) {
  lumap_pool *pool = job->pool;
  int count = pool->joined ? 0 : pool->crew.worker_count;
  size_t found = 0;
  pthread_mutex_lock(&pool->lock);
  for (int i = 0; i < count; i++)
    stuck[i] = job->met[i] ? cut_task(&pool->crew.workers[i], job) : 0;
  pthread_mutex_unlock(&pool->lock);
  if (!lumap_memory_barrier_all()) return 0;
  pthread_mutex_lock(&pool->lock);
  for (int i = 0; i < count; i++)
    if (stuck[i] && is_stuck(&pool->crew.workers[i], job, stuck[i])) stuck[found++] = stuck[i];
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
  lumap_worker *called[RUNG_FIRST];
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
  while (rung < RUNG_FIRST && (called[rung] = next_with_mail(pool)) != NULL)
    rung++;
  idle = pool->active == 0;
  pthread_mutex_unlock(&pool->lock);
  free_tasks(&finished);
  for (int i = 0; i < rung; i++)
    lumap_event_signal(&called[i]->bell);
  if (idle && !has_workers_that_rest(pool)) lumap_spares_trim(&pool->spares, idle_spare_bytes);
  wake(pool);
  /* Where workers run only when somebody asks for results, nobody will ask for the end of a call. Mailboxes come before
     the queue, so this runs no other task. */
  for (; ends > 0 && pool->crew.backend->pump && !pool->joined; ends--)
    pool->crew.backend->pump(&pool->crew);
  lumap_call_release(&job->call);
}
