/* SPDX-License-Identifier: MIT
 *
 * thread.c - the back-end whose workers are threads of this process.
 *
 * Each worker is one thread that waits in the feed, runs what it gets and gives it back. The first one is started with
 * the crew, and makes its state while the caller prepares a call; the others are started when there is work that nobody
 * waits for. Each makes its state before it takes its first task: so the workers that are up run items while more are
 * made, and no task waits for a state. A crew has no more threads than it had tasks at a time.
 *
 * A thread cannot be killed: how what runs there is ended, and what giving a thread up means, is in ward.h. A guard
 * (guard.h) times items and ends those that are over their time or whose call is cancelled; stop() does the same work
 * itself.
 *
 * A thread that was given up is replaced by another one, with a ward of its own. What the old one may still touch is
 * counted: it holds a reference on the feed (and so on the pool and its workers) and one on the crew's own memory here:
 * wards, setup bytes (a copy). When its item ends after all, it sees that it was given up, frees its task, closes its
 * state and drops the references; the feed's other functions are not called any more. If the item never ends, all that
 * stays as it is.
 *
 * Knows nothing of Lua, of queues, of processes.
 */
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/guard.h"
#include "backend/ward.h"

#define NS_PER_MS UINT64_C(1000000)

/* How long after a replacement could not be started it is tried again. */
enum { RETRY_MS = 100 };
/* While the crew closes: a state that begins to close right after we have looked may hang, and nobody tells. */
enum { CLOSING_LOOK_MS = 1000 };

typedef struct thread_crew thread_crew;

typedef struct thread_worker {
  lumap_ward ward;

  /* Fixed before the thread runs. */
  thread_crew *crew;
  unsigned long thread;

  bool started; /* the crew's lock */

  struct thread_worker *older; /* made before it: all of a crew are on one list */
} thread_worker;

struct thread_crew {
  /* Fixed after open. */
  lumap_crew *crew; /* the pool's memory: not for threads that were given up */
  lumap_feed feed;
  lumap_bytes setup;
  int stop_signal; /* 0: none */
  int count;

  lumap_guard guard;

  /* Atomic. */
  atomic_int references; /* the crew's, and one a thread */
  atomic_int present;    /* threads that sit at a place and are not gone */
  atomic_bool stopping;
  atomic_bool closing;
  lumap_event settled; /* a worker left the executor while the crew stops, or the last one is gone */
  _Atomic(thread_worker *) newest;
  atomic_int manned; /* places that somebody has had: the first ones. Written under the lock */

  /* Held while somebody new is started. No other lock is taken meanwhile. */
  pthread_mutex_t lock;
  int unused; /* workers whose thread could not be started. Under the lock */

  /* Who sits where; NULL: nobody. Of the manned places the guard will look for somebody. */
  _Atomic(thread_worker *) places[];
};

/* ---- the worker's thread ---- */

/* The last one frees. */
static void crew_release(thread_crew *own) {
  if (atomic_fetch_sub(&own->references, 1) != 1) return;
  for (thread_worker *worker = atomic_load(&own->newest), *older; worker; worker = older) {
    older = worker->older;
    lumap_ward_deinit(&worker->ward);
    free(worker);
  }
  lumap_guard_deinit(&own->guard);
  lumap_bytes_deinit(&own->setup);
  pthread_mutex_destroy(&own->lock);
  free(own);
}

static bool settle(thread_worker *me) {
  bool kept = lumap_ward_settle(&me->ward);
  /* Either stop() looks at this worker after that and finds it idle, or its flag was set before. */
  if (atomic_load(&me->crew->stopping)) lumap_event_signal(&me->crew->settled);
  return kept;
}

/* Whoever waits for the end waits for the last one. */
static void leave_place(thread_crew *own) {
  if (atomic_fetch_sub(&own->present, 1) == 1) lumap_event_signal(&own->settled);
}

/* False: the thread was given up. */
static bool open_state(thread_worker *me) {
  lumap_ward_begin(&me->ward, NULL);
  lumap_ward_open(&me->ward);
  return settle(me);
}

static bool close_state(thread_worker *me) {
  lumap_ward_begin(&me->ward, NULL);
  lumap_seat_close(&me->ward.seat);
  return settle(me);
}

/* False: the state is spent. */
static bool run(thread_worker *me, lumap_task *task) {
  bool usable;
  if (atomic_load(&me->crew->stopping)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    return true;
  }
  if (lumap_guard_watch(&me->crew->guard, task->call, &task->error) != LUMAP_E_OK) {
    lumap_task_fail_start(task, me->ward.number);
    return true;
  }
  usable = lumap_ward_run(&me->ward, task);
  lumap_seat_rest(&me->ward.seat);
  return usable;
}

/* False: the thread was given up. */
static bool serve(thread_worker *me, lumap_task *task) {
  thread_crew *own = me->crew;
  bool is_end = task->kind == LUMAP_TASK_END, usable = true;
  lumap_ward_begin(&me->ward, task);
  if (is_end)
    lumap_seat_forget(&me->ward.seat, task->call_id);
  else
    usable = run(me, task);
  if (!settle(me)) {
    lumap_task_free(task);
    return false;
  }
  if (is_end)
    lumap_task_free(task);
  else
    own->feed.finish(own->feed.self, me->ward.worker, task);
  if (usable) return true;
  /* Finalizers may hang. Without a guard they do so until the crew stops. */
  lumap_guard_need(&own->guard, lumap_clock_ns(), NULL);
  return close_state(me);
}

static void *worker_body(void *argument) {
  thread_worker *me = argument;
  thread_crew *own = me->crew;
  lumap_feed feed = own->feed;
  lumap_task *task;
  bool given_up = !open_state(me);
  while (!given_up && (task = feed.take(feed.self, me->ward.worker, true)))
    given_up = !serve(me, task);
  if (given_up)
    lumap_seat_close(&me->ward.seat);
  else
    given_up = !close_state(me);
  /* Whoever gave it up has counted it out. */
  if (!given_up) leave_place(own);
  crew_release(own);
  feed.release(feed.self);
  return NULL;
}

/* ---- places ---- */

static thread_worker *make_worker(thread_crew *own, int i) {
  thread_worker *worker = aligned_alloc(alignof(thread_worker), sizeof *worker);
  if (!worker) return NULL;
  if (!lumap_ward_init(&worker->ward, own->crew, &own->crew->workers[i], &own->setup)) {
    lumap_ward_deinit(&worker->ward);
    free(worker);
    return NULL;
  }
  worker->ward.stop_signal = own->stop_signal;
  worker->ward.is_own_thread = true;
  worker->crew = own;
  worker->started = false;
  worker->older = atomic_load(&own->newest);
  while (!atomic_compare_exchange_weak(&own->newest, &worker->older, worker))
    continue;
  return worker;
}

/* One whose thread could not be started, before any is made anew. */
static thread_worker *find_unused(thread_crew *own, int number) {
  thread_worker *worker = atomic_load(&own->newest);
  while (worker && (worker->started || worker->ward.number != number))
    worker = worker->older;
  return worker;
}

/* Under the lock: starts a thread for place `i`. The control block is shown first: who looks for that of a task's
 * worker finds the right one. The place counts from then on, too: the thread's first item may begin, and ask for the
 * guard's eye, before we go on here. What fails leaves the place empty. */
static lumap_status occupy(thread_crew *own, int i, lumap_error *error) {
  thread_worker *worker = own->unused > 0 ? find_unused(own, i + 1) : NULL;
  bool is_next = i == atomic_load(&own->manned);
  lumap_status status;
  if (worker)
    own->unused--;
  else
    worker = make_worker(own, i);
  if (!worker) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for worker %d", i + 1);
  atomic_store(&own->crew->workers[i].control, &worker->ward.control);
  worker->started = true;
  atomic_store(&own->places[i], worker);
  if (is_next) atomic_store(&own->manned, i + 1);
  atomic_fetch_add(&own->references, 1);
  atomic_fetch_add(&own->present, 1);
  own->feed.acquire(own->feed.self);
  status = lumap_thread_start(&worker->thread, worker_body, worker, own->stop_signal, error);
  if (status == LUMAP_E_OK) return status;
  worker->started = false;
  own->unused++;
  if (is_next) atomic_store(&own->manned, i);
  atomic_store(&own->places[i], NULL);
  own->feed.release(own->feed.self);
  atomic_fetch_sub(&own->present, 1);
  atomic_fetch_sub(&own->references, 1);
  return status;
}

/* Place `i` stays empty: the next task hears why. False: there is none for it. */
static bool fail_next_task(thread_crew *own, int i, const lumap_error *error) {
  lumap_task *task = own->feed.take(own->feed.self, &own->crew->workers[i], false);
  if (!task) return false;
  if (task->kind == LUMAP_TASK_END) {
    lumap_task_free(task);
  } else {
    task->error = *error;
    lumap_task_fail_start(task, i + 1);
    own->feed.finish(own->feed.self, &own->crew->workers[i], task);
  }
  return true;
}

/* Nobody sits at place `i`: somebody new, or else the next task hears why not. Returns when to come again. */
static uint64_t fill(thread_crew *own, int i, uint64_t now_ns) {
  lumap_error error = {0};
  lumap_status status = LUMAP_E_OK;
  if (atomic_load(&own->stopping) || atomic_load(&own->closing)) return LUMAP_FOREVER;
  pthread_mutex_lock(&own->lock);
  if (i < atomic_load(&own->manned) && !atomic_load(&own->places[i])) status = occupy(own, i, &error);
  pthread_mutex_unlock(&own->lock);
  if (status == LUMAP_E_OK) return LUMAP_FOREVER;
  fail_next_task(own, i, &error);
  return now_ns + RETRY_MS * NS_PER_MS;
}

/* Mans the next place, if there is one. */
static lumap_status man_next(thread_crew *own, int *i, lumap_error *error) {
  lumap_status status = LUMAP_E_OK;
  pthread_mutex_lock(&own->lock);
  *i = atomic_load(&own->manned);
  if (*i < own->count) status = occupy(own, *i, error);
  pthread_mutex_unlock(&own->lock);
  return status;
}

static void thread_recruit(lumap_crew *crew, int more) {
  thread_crew *own = crew->own;
  for (; more > 0 && atomic_load(&own->manned) < own->count && !atomic_load(&own->stopping); more--) {
    lumap_error error = {0};
    int i;
    if (man_next(own, &i, &error) == LUMAP_E_OK) continue;
    /* Those behind it could not be started either, and it may have told a task of that before. */
    while (i < own->count && !fail_next_task(own, i, &error))
      i++;
  }
}

/* Ends what is to be ended, one step at each place. Returns when to look again. Any number of threads may look at the
 * same time. */
static uint64_t look(void *self, uint64_t now_ns) {
  thread_crew *own = self;
  uint64_t next = LUMAP_FOREVER;
  int manned = atomic_load(&own->manned);
  for (int i = 0; i < manned; i++) {
    thread_worker *worker = atomic_load(&own->places[i]);
    uint64_t then = LUMAP_FOREVER;
    lumap_task *standin;
    if (worker && lumap_ward_look(&worker->ward, now_ns, &then, &standin)) {
      atomic_store(&own->places[i], NULL);
      leave_place(own);
      if (standin) own->feed.finish(own->feed.self, worker->ward.worker, standin);
      worker = NULL;
    }
    if (!worker) then = fill(own, i, now_ns);
    if (then < next) next = then;
  }
  return next;
}

/* ---- open and close ---- */

static void join(thread_crew *own) {
  int manned = atomic_load(&own->manned);
  for (int i = 0; i < manned; i++) {
    thread_worker *worker = atomic_load(&own->places[i]);
    if (worker) pthread_join((pthread_t)worker->thread, NULL);
  }
}

static thread_crew *make_crew(lumap_crew *crew) {
  thread_crew *own = calloc(1, sizeof *own + (size_t)crew->worker_count * sizeof own->places[0]);
  if (!own) return NULL;
  own->crew = crew;
  own->feed = crew->feed;
  own->count = crew->worker_count;
  atomic_init(&own->references, 1);
  pthread_mutex_init(&own->lock, NULL);
  lumap_guard_init(&own->guard, look, own);
  if (lumap_bytes_copy(&own->setup, crew->setup)) return own;
  crew_release(own);
  return NULL;
}

static lumap_status thread_open(lumap_crew *crew, lumap_error *error) {
  thread_crew *own = make_crew(crew);
  lumap_status status;
  int first;
  if (!own) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for %d workers", crew->worker_count);
  if (crew->stop_signal) own->stop_signal = lumap_ward_choose_signal();
  status = man_next(own, &first, error);
  if (status == LUMAP_E_OK)
    crew->own = own;
  else
    crew_release(own);
  return status;
}

/* The guard ends first: from then on nobody is replaced, and we look ourselves. */
static void thread_close(lumap_crew *crew) {
  thread_crew *own = crew->own;
  atomic_store(&own->closing, true);
  lumap_guard_end(&own->guard);
  for (;;) {
    uint32_t key = lumap_event_key(&own->settled);
    uint64_t now = lumap_clock_ns(), next = look(own, now);
    if (atomic_load(&own->present) == 0) break;
    if (next > now + CLOSING_LOOK_MS * NS_PER_MS) next = now + CLOSING_LOOK_MS * NS_PER_MS;
    lumap_event_wait(&own->settled, key, next);
  }
  join(own);
  crew->own = NULL;
  crew_release(own);
}

/* ---- stop ---- */

static int count_busy(thread_crew *own) {
  int busy = 0, manned = atomic_load(&own->manned);
  for (int i = 0; i < manned; i++) {
    thread_worker *worker = atomic_load(&own->places[i]);
    busy += worker && lumap_ward_is_busy(&worker->ward);
  }
  return busy;
}

/* Dooms whoever is busy, those that have become it since the last time, too. */
static int doom_busy(thread_crew *own) {
  int busy = 0, manned = atomic_load(&own->manned);
  for (int i = 0; i < manned; i++) {
    thread_worker *worker = atomic_load(&own->places[i]);
    busy += worker && lumap_ward_doom(&worker->ward, LUMAP_DOOM_STOP, 0);
  }
  return busy;
}

static void thread_stop(lumap_crew *crew) {
  thread_crew *own = crew->own;
  int manned = atomic_load(&own->manned);
  atomic_store(&own->stopping, true);
  for (int i = 0; i < manned; i++)
    atomic_store(&crew->workers[i].control->stop_call, LUMAP_STOP_ALL);
  for (;;) {
    uint32_t key = lumap_event_key(&own->settled);
    uint64_t next = LUMAP_FOREVER;
    if (doom_busy(own) > 0) next = look(own, lumap_clock_ns());
    if (count_busy(own) == 0) return;
    lumap_event_wait(&own->settled, key, next);
  }
}

/* The guard sees which items are of calls that were ended. Without one we look at least once. */
static void thread_heed(lumap_crew *crew, const lumap_call *call) {
  thread_crew *own = crew->own;
  if (!atomic_load(&call->ended)) return;
  if (lumap_guard_need(&own->guard, 0, NULL) != LUMAP_E_OK) look(own, lumap_clock_ns());
}

const lumap_backend lumap_backend_thread = {
    .name = "thread",
    .open = thread_open,
    .recruit = thread_recruit,
    .stop = thread_stop,
    .heed = thread_heed,
    .close = thread_close,
};
