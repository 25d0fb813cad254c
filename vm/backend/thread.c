/* SPDX-License-Identifier: MIT
 *
 * thread.c - the back-end whose workers are threads of this process.
 *
 * Each worker is one thread that waits in the feed, runs what it gets and gives it back. A thread cannot be killed, so
 * stop() goes up a ladder: no new item; then, where the host allows a signal, the executor's interrupt from a handler
 * on the worker's own thread, again and again; then the thread is given up.
 *
 * What a thread that was given up may still touch is counted. Each thread holds a reference on the feed (and so on the
 * pool and its workers) and one on the crew's own memory here: control blocks, setup bytes (a copy), seats. It has its
 * task for itself, because stop() finished a stand-in in its place. When the item ends after all, the thread sees that
 * it was given up, frees the task, closes its state and drops the references; the feed's other functions are not
 * called any more. If the item never ends, all that stays as it is: that is what giving up means.
 *
 * Knows nothing of Lua, of queues, of processes.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/seat.h"
#include "os/os.h"

/* The steps of stop(), counted from its beginning. */
enum {
  INTERRUPT_AFTER_MS = 50, /* items that end soon by themselves do so undisturbed */
  FIRST_PAUSE_MS = 1,      /* between two signals; doubled each time */
  LONGEST_PAUSE_MS = 64,
  GIVE_UP_AFTER_MS = 3000,
};
#define NS_PER_MS UINT64_C(1000000)

typedef enum thread_gate { GATE_SHUT, GATE_OPEN, GATE_TURNED_AWAY } thread_gate;

typedef struct thread_crew thread_crew;

typedef struct thread_worker {
  /* A cache line of its own: the worker writes it once an item. */
  alignas(64) lumap_control control;

  /* Fixed once the gate is open. */
  thread_crew *crew;
  lumap_worker *worker; /* the pool's memory; not touched after the thread was given up */
  unsigned long thread;

  /* The worker's thread (and the handler on it). */
  lumap_seat seat;

  /* The lock: what stop() and the worker both see. Nothing else is locked and nothing called while it is held. */
  pthread_mutex_t lock;
  bool busy;           /* in the executor, with `task` or without */
  lumap_task *task;    /* NULL: it is making or closing a state */
  bool given_up;       /* set once, only while busy */
  lumap_task *standin; /* made at open, so that giving up cannot fail; NULL once used */
} thread_worker;

struct thread_crew {
  /* Fixed after open. */
  lumap_feed feed;
  lumap_bytes setup;
  int stop_signal; /* 0: none */
  int count;

  /* Atomic. */
  atomic_int references; /* the crew's, and one a thread */
  atomic_int gate;       /* thread_gate */
  atomic_bool stopping;
  lumap_event gate_moved;
  lumap_event settled; /* a worker left the executor while the crew stops */

  thread_worker workers[];
};

/* ---- the signal ----
 *
 * The handler has no other way to its worker than this pointer. It is only ever set by the thread that it belongs to.
 * initial-exec: reading it in a handler must not make the loader allocate. */
static _Thread_local thread_worker *current __attribute__((tls_model("initial-exec")));

static void handle_stop_signal(int number) {
  int saved = errno;
  (void)number;
  if (current) lumap_seat_interrupt(&current->seat);
  errno = saved;
}

static bool is_free_for_us(const struct sigaction *action) {
  return !(action->sa_flags & SA_SIGINFO) &&
         (action->sa_handler == SIG_DFL || action->sa_handler == handle_stop_signal);
}

/* A real-time signal that nobody has a handler for, or 0. From the top: libraries that want one begin at the bottom. */
static int choose_signal(void) {
  for (int number = SIGRTMAX - 1; number >= SIGRTMIN; number--) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && is_free_for_us(&action)) return number;
  }
  return 0;
}

/* Installs the handler, as late as this: most crews never need it. False if the signal has got another handler since
 * it was chosen. The handler stays for good: another crew may use it, and without a worker's thread it does nothing.
 * Without SA_RESTART, so that an item that sleeps or reads wakes up. */
static bool claim_signal(int number) {
  struct sigaction before, ours = {.sa_handler = handle_stop_signal};
  if (!number || sigaction(number, NULL, &before) || !is_free_for_us(&before)) return false;
  sigemptyset(&ours.sa_mask);
  return sigaction(number, &ours, NULL) == 0;
}

/* ---- the worker's thread ---- */

/* The last one frees. */
static void crew_release(thread_crew *own) {
  if (atomic_fetch_sub(&own->references, 1) != 1) return;
  for (int i = 0; i < own->count; i++) {
    pthread_mutex_destroy(&own->workers[i].lock);
    lumap_task_free(own->workers[i].standin);
  }
  lumap_bytes_deinit(&own->setup);
  free(own);
}

/* From here to settle() the thread may be given up. */
static void begin(thread_worker *me, lumap_task *task) {
  pthread_mutex_lock(&me->lock);
  me->busy = true;
  me->task = task;
  pthread_mutex_unlock(&me->lock);
}

/* Ends what begin() began. False: the thread was given up meanwhile, and the task is its own. */
static bool settle(thread_worker *me) {
  bool given_up;
  pthread_mutex_lock(&me->lock);
  me->busy = false;
  me->task = NULL;
  given_up = me->given_up;
  pthread_mutex_unlock(&me->lock);
  /* Either stop() looks at this worker after the unlock and finds it idle, or its flag was set before the lock. */
  if (atomic_load(&me->crew->stopping)) lumap_event_signal(&me->crew->settled);
  return !given_up;
}

static bool close_state(thread_worker *me) {
  begin(me, NULL);
  lumap_seat_close(&me->seat);
  return settle(me);
}

/* False: the thread was given up. */
static bool serve(thread_worker *me, lumap_task *task) {
  const lumap_feed *feed = &me->crew->feed;
  bool usable = true;
  begin(me, task);
  if (task->kind == LUMAP_TASK_END) {
    lumap_seat_forget(&me->seat, task->call_id);
  } else if (atomic_load(&me->crew->stopping)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
  } else {
    usable = lumap_seat_run(&me->seat, task);
    lumap_seat_rest(&me->seat);
  }
  if (!settle(me)) {
    lumap_task_free(task);
    return false;
  }
  if (task->kind == LUMAP_TASK_END)
    lumap_task_free(task);
  else
    feed->finish(feed->self, me->worker, task);
  return usable || close_state(me);
}

static bool pass_gate(thread_crew *own) {
  for (;;) {
    uint32_t key = lumap_event_key(&own->gate_moved);
    int gate = atomic_load(&own->gate);
    if (gate != GATE_SHUT) return gate == GATE_OPEN;
    lumap_event_wait(&own->gate_moved, key, LUMAP_FOREVER);
  }
}

static void *worker_body(void *argument) {
  thread_worker *me = argument;
  lumap_feed feed = me->crew->feed;
  lumap_task *task;
  bool given_up = false;
  if (pass_gate(me->crew)) {
    current = me;
    while (!given_up && (task = feed.take(feed.self, me->worker, true)))
      given_up = !serve(me, task);
    if (given_up)
      lumap_seat_close(&me->seat);
    else
      close_state(me);
    current = NULL;
  }
  crew_release(me->crew);
  feed.release(feed.self);
  return NULL;
}

/* ---- open and close ---- */

static void open_gate(thread_crew *own, thread_gate gate) {
  atomic_store(&own->gate, gate);
  lumap_event_signal(&own->gate_moved);
}

static bool init_worker(thread_crew *own, lumap_crew *crew, int i) {
  thread_worker *me = &own->workers[i];
  me->crew = own;
  me->worker = &crew->workers[i];
  me->seat.executor = crew->executor;
  me->seat.setup = &own->setup;
  me->seat.host = crew->host;
  me->seat.number = me->worker->number;
  me->seat.control = &me->control;
  pthread_mutex_init(&me->lock, NULL);
  me->worker->control = &me->control;
  me->worker->own = me;
  me->standin = lumap_task_new(LUMAP_TASK_CHUNK, NULL);
  return me->standin != NULL;
}

static thread_crew *make_crew(lumap_crew *crew) {
  size_t size = sizeof(thread_crew) + (size_t)crew->worker_count * sizeof(thread_worker);
  /* The size is a multiple of the alignment, as aligned_alloc demands, because each of its parts is. */
  thread_crew *own = aligned_alloc(alignof(thread_crew), size);
  bool complete = true;
  if (!own) return NULL;
  memset(own, 0, size);
  own->feed = crew->feed;
  own->count = crew->worker_count;
  atomic_init(&own->references, 1);
  for (int i = 0; i < own->count; i++)
    complete = init_worker(own, crew, i) && complete;
  complete = lumap_bytes_append(&own->setup, crew->setup->data, crew->setup->size) && complete;
  if (complete) return own;
  crew_release(own);
  return NULL;
}

static lumap_status thread_open(lumap_crew *crew, lumap_error *error) {
  lumap_status status = LUMAP_E_OK;
  int started = 0;
  thread_crew *own = make_crew(crew);
  if (!own) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for %d workers", crew->worker_count);
  if (crew->stop_signal) own->stop_signal = choose_signal();

  /* Threads that have started wait at the gate: if one of them cannot start, the others must end, and from the feed
   * only the pool could call them back. */
  for (; started < own->count && status == LUMAP_E_OK; started++) {
    thread_worker *me = &own->workers[started];
    atomic_fetch_add(&own->references, 1);
    own->feed.acquire(own->feed.self);
    status = lumap_thread_start(&me->thread, worker_body, me, own->stop_signal, error);
    if (status == LUMAP_E_OK) continue;
    own->feed.release(own->feed.self);
    atomic_fetch_sub(&own->references, 1);
    break;
  }
  open_gate(own, status == LUMAP_E_OK ? GATE_OPEN : GATE_TURNED_AWAY);
  if (status == LUMAP_E_OK) {
    crew->own = own;
    return status;
  }
  for (int i = 0; i < started; i++)
    pthread_join((pthread_t)own->workers[i].thread, NULL);
  crew_release(own);
  return status;
}

static void thread_close(lumap_crew *crew) {
  thread_crew *own = crew->own;
  for (int i = 0; i < own->count; i++)
    if (!own->workers[i].given_up) pthread_join((pthread_t)own->workers[i].thread, NULL);
  crew->own = NULL;
  crew_release(own);
}

/* ---- stop ---- */

static bool is_busy(thread_worker *me) {
  bool busy;
  pthread_mutex_lock(&me->lock);
  busy = me->busy;
  pthread_mutex_unlock(&me->lock);
  return busy;
}

static int count_busy(thread_crew *own) {
  int busy = 0;
  for (int i = 0; i < own->count; i++)
    busy += is_busy(&own->workers[i]);
  return busy;
}

/* A worker may leave its item between the look and the signal; its handler then finds nothing that runs. */
static void signal_busy(thread_crew *own) {
  for (int i = 0; i < own->count; i++)
    if (is_busy(&own->workers[i])) pthread_kill((pthread_t)own->workers[i].thread, own->stop_signal);
}

/* Fills the stand-in from what nobody writes while a task runs. */
static lumap_task *make_standin(thread_worker *me) {
  const lumap_task *task = me->task;
  lumap_task *standin = me->standin;
  uint64_t index = atomic_load_explicit(&me->control.index, memory_order_relaxed);
  if (!task || task->kind == LUMAP_TASK_END) return NULL;
  me->standin = NULL;
  standin->call_id = task->call_id;
  standin->call = task->call;
  if (standin->call) lumap_call_acquire(standin->call);
  standin->first = task->first;
  standin->count = task->count;
  standin->log_needed = task->log_needed;
  lumap_task_fail_died(standin, me->worker->number, index, 0, -1);
  lumap_error_set(&standin->error, LUMAP_E_WORKER,
                  "worker %d (a thread) could not be stopped in item %llu and was given up", me->worker->number,
                  (unsigned long long)standin->died_index);
  return standin;
}

/* The worker cannot leave the executor while the lock is held, so its task cannot vanish under make_standin. */
static void give_up(thread_worker *me) {
  lumap_task *standin = NULL;
  pthread_mutex_lock(&me->lock);
  me->given_up = me->busy;
  if (me->given_up) {
    standin = make_standin(me);
    pthread_detach((pthread_t)me->thread);
  }
  pthread_mutex_unlock(&me->lock);
  if (standin) me->crew->feed.finish(me->crew->feed.self, me->worker, standin);
}

static void thread_stop(lumap_crew *crew) {
  thread_crew *own = crew->own;
  uint64_t start = lumap_clock_ns(), give_up_at = start + GIVE_UP_AFTER_MS * NS_PER_MS;
  uint64_t next_signal = start + INTERRUPT_AFTER_MS * NS_PER_MS, pause = FIRST_PAUSE_MS * NS_PER_MS;
  bool signals = own->stop_signal != 0;
  atomic_store(&own->stopping, true);
  for (int i = 0; i < own->count; i++)
    atomic_store_explicit(&own->workers[i].control.stop_call, LUMAP_STOP_ALL, memory_order_relaxed);

  for (;;) {
    uint32_t key = lumap_event_key(&own->settled);
    uint64_t now = lumap_clock_ns();
    if (count_busy(own) == 0) return;
    if (now >= give_up_at) break;
    if (signals && now >= next_signal) {
      signals = claim_signal(own->stop_signal);
      if (signals) signal_busy(own);
      next_signal = now + pause;
      if (pause < LONGEST_PAUSE_MS * NS_PER_MS) pause *= 2;
    }
    lumap_event_wait(&own->settled, key, signals && next_signal < give_up_at ? next_signal : give_up_at);
  }
  for (int i = 0; i < own->count; i++)
    give_up(&own->workers[i]);
}

/* The handler looks whether the item that runs then is of the call that shall end. */
static void thread_end_item(lumap_crew *crew, lumap_worker *worker) {
  thread_crew *own = crew->own;
  thread_worker *me = worker->own;
  if (own->stop_signal == 0 || !claim_signal(own->stop_signal)) return;
  pthread_mutex_lock(&me->lock);
  if (me->busy && !me->given_up) pthread_kill((pthread_t)me->thread, own->stop_signal);
  pthread_mutex_unlock(&me->lock);
}

const lumap_backend lumap_backend_thread = {
    .name = "thread",
    .open = thread_open,
    .stop = thread_stop,
    .end_item = thread_end_item,
    .close = thread_close,
};
