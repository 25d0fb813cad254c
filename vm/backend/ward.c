/* SPDX-License-Identifier: MIT */
#include "backend/ward.h"

#include <errno.h>
#include <signal.h>

#define NS_PER_MS UINT64_C(1000000)

/* The ladder: all times are counted from the doom. */
enum {
  STOP_GRACE_MS = 50,     /* when all must end, items that end soon by themselves do so undisturbed */
  DEADLINE_GRACE_MS = 10, /* a chunk that ends between two items keeps its results */
  FIRST_PAUSE_MS = 1,     /* between two signals; doubled each time */
  LONGEST_PAUSE_MS = 64,
  GIVE_UP_MS = 2000,
  ALARM_MS = 4, /* between two signals that the thread sends itself */
};
/* A state that is closed runs finalizers, which no signal ends. */
enum { CLOSING_MS = 10000 };

/* ---- the signal ----
 *
 * The handler has no other way to its wards than this pointer: the innermost one of its thread. Only that thread sets
 * it. initial-exec: reading it in a handler must not make the loader allocate. */
static _Thread_local lumap_ward *innermost __attribute__((tls_model("initial-exec")));

static bool is_doomed(const lumap_ward *ward) {
  uint32_t doomed = atomic_load(&ward->doomed);
  return doomed && doomed == atomic_load(&ward->run);
}

/* A signal that comes late finds another run than the one that was doomed, and does nothing. The innermost ward comes
 * last, since the executor may leave the handler there. */
static void handle_stop_signal(int number, siginfo_t *info, void *context) {
  int saved = errno;
  lumap_ward *outermost = NULL;
  (void)number;
  (void)info;
  for (lumap_ward *ward = innermost; ward; ward = ward->outer)
    if (is_doomed(ward)) outermost = ward;
  if (outermost) {
    for (lumap_ward *ward = innermost; ward != outermost; ward = ward->outer)
      lumap_seat_interrupt(&ward->outer->seat, NULL);
    lumap_seat_interrupt(&innermost->seat, context);
  }
  errno = saved;
}

static bool is_ours(const struct sigaction *action) {
  return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handle_stop_signal;
}

static bool is_free_for_us(const struct sigaction *action) {
  return is_ours(action) || (!(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_DFL);
}

/* From the top: libraries that want one begin at the bottom. */
int lumap_ward_choose_signal(void) {
  for (int number = SIGRTMAX - 1; number >= SIGRTMIN; number--) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && is_free_for_us(&action)) return number;
  }
  return 0;
}

/* Installs the handler, as late as this: most crews never need it. False if the signal has got another handler since
 * it was chosen. The handler stays for good: another crew may use it, and without a ward it does nothing. Without
 * SA_RESTART, so that an item that sleeps or reads wakes up. */
static bool claim_signal(int number) {
  struct sigaction before, ours = {.sa_sigaction = handle_stop_signal, .sa_flags = SA_SIGINFO};
  if (!number || sigaction(number, NULL, &before) || !is_free_for_us(&before)) return false;
  sigemptyset(&ours.sa_mask);
  return is_ours(&before) || sigaction(number, &ours, NULL) == 0;
}

/* ---- init ---- */

bool lumap_ward_init(lumap_ward *ward, const lumap_crew *crew, lumap_worker *worker, const lumap_bytes *setup) {
  memset(ward, 0, sizeof *ward);
  ward->worker = worker;
  ward->number = worker->number;
  ward->seat.executor = crew->executor;
  ward->seat.setup = setup;
  ward->seat.host = crew->host;
  ward->seat.number = worker->number;
  ward->seat.control = &ward->control;
  pthread_mutex_init(&ward->lock, NULL);
  ward->standin = lumap_task_new(LUMAP_TASK_CHUNK, NULL);
  return ward->standin != NULL;
}

void lumap_ward_deinit(lumap_ward *ward) {
  pthread_mutex_destroy(&ward->lock);
  lumap_task_free(ward->standin);
}

/* ---- the ward's thread ---- */

void lumap_ward_begin(lumap_ward *ward, lumap_task *task) {
  pthread_mutex_lock(&ward->lock);
  ward->thread = (unsigned long)pthread_self();
  ward->busy = true;
  ward->task = task;
  ward->doom = LUMAP_DOOM_NONE;
  ward->busy_since_ns = task ? 0 : lumap_clock_ns();
  if (++ward->runs == 0) ward->runs = 1;
  atomic_store(&ward->run, ward->runs);
  pthread_mutex_unlock(&ward->lock);
}

/* A state is made with the help of the host's memory, which may go once the ward was given up: the lock orders the two.
 * What fails is tried again by the seat, which tells the task. */
void lumap_ward_open(lumap_ward *ward) {
  lumap_error unheard = {0};
  if (ward->seat.self || lumap_seat_open(&ward->seat, &unheard) != LUMAP_E_OK) return;
  pthread_mutex_lock(&ward->lock);
  pthread_mutex_unlock(&ward->lock);
}

bool lumap_ward_run(lumap_ward *ward, lumap_task *task) {
  bool usable;
  lumap_ward_open(ward);
  /* The handler runs on this very thread: the fences stop the compiler, and that is enough. */
  ward->outer = innermost;
  atomic_signal_fence(memory_order_seq_cst);
  innermost = ward;
  usable = lumap_seat_run(&ward->seat, task);
  innermost = ward->outer;
  atomic_signal_fence(memory_order_seq_cst);
  ward->outer = NULL;
  return usable;
}

/* The outermost one, whose end is the end of all: its alarm is stopped there. */
void lumap_ward_insist(void) {
  lumap_ward *ward = innermost;
  while (ward && ward->outer)
    ward = ward->outer;
  if (!ward || !claim_signal(ward->stop_signal)) return;
  atomic_store(&ward->doomed, atomic_load(&ward->run));
  lumap_alarm_start(&ward->alarm, ward->stop_signal, ALARM_MS * NS_PER_MS);
}

/* Under the lock: what became of a task whose run was doomed. An item that was over its time has failed, even if it
 * ended by itself before it was ended. */
static void judge(const lumap_ward *ward, lumap_task *task) {
  if (ward->doom == LUMAP_DOOM_TIMEOUT && task->outcome != LUMAP_OUTCOME_START)
    lumap_task_fail_timeout(task, ward->number, ward->doomed_index);
  else if (ward->doom == LUMAP_DOOM_DEADLINE && task->outcome == LUMAP_OUTCOME_CANCELLED)
    lumap_task_fail_deadline(task, ward->number, ward->doomed_index);
  else
    return;
  lumap_task_count_done(task, &ward->control);
}

/* Under the lock: an item that was over its time is no reason to begin no other one. What the pool has asked for
 * meanwhile it has noted in the call before, so it is asked for again. */
static void lift_stop(lumap_ward *ward) {
  const lumap_call *call = ward->task->call;
  uint64_t stopped = call->id;
  if (ward->doom != LUMAP_DOOM_TIMEOUT) return;
  atomic_compare_exchange_strong(&ward->control.stop_call, &stopped, 0);
  if (atomic_load(&call->stop_from) == UINT64_MAX) return;
  atomic_store(&ward->control.stop_from, atomic_load(&call->stop_from));
  atomic_store(&ward->control.stop_call, call->id);
}

bool lumap_ward_settle(lumap_ward *ward) {
  bool given_up;
  lumap_alarm_stop(&ward->alarm);
  pthread_mutex_lock(&ward->lock);
  /* END, by which a worker forgets a call, has no items and holds no call. */
  if (ward->task && ward->task->kind != LUMAP_TASK_END && ward->doom != LUMAP_DOOM_NONE) {
    judge(ward, ward->task);
    lift_stop(ward);
  }
  ward->busy = false;
  ward->task = NULL;
  ward->doom = LUMAP_DOOM_NONE;
  atomic_store(&ward->run, 0);
  given_up = ward->given_up;
  pthread_mutex_unlock(&ward->lock);
  return !given_up;
}

/* ---- any thread ---- */

bool lumap_ward_is_busy(lumap_ward *ward) {
  bool busy;
  pthread_mutex_lock(&ward->lock);
  busy = ward->busy && !ward->given_up;
  pthread_mutex_unlock(&ward->lock);
  return busy;
}

/* Under the lock. */
static void set_doom(lumap_ward *ward, lumap_doom doom, uint64_t now_ns) {
  uint64_t grace_ms = doom == LUMAP_DOOM_STOP ? STOP_GRACE_MS : doom == LUMAP_DOOM_DEADLINE ? DEADLINE_GRACE_MS : 0;
  ward->doom = doom;
  ward->doomed_index = atomic_load_explicit(&ward->control.index, memory_order_acquire);
  ward->next_signal_ns = now_ns + grace_ms * NS_PER_MS;
  ward->pause_ns = FIRST_PAUSE_MS * NS_PER_MS;
  ward->give_up_ns = now_ns + GIVE_UP_MS * NS_PER_MS;
  if (ward->task && doom != LUMAP_DOOM_STOP) {
    /* Who ends between two items needs no signal. */
    atomic_store(&ward->control.stop_from, doom == LUMAP_DOOM_TIMEOUT ? ward->doomed_index + 1 : 0);
    atomic_store(&ward->control.stop_call, ward->task->call_id);
  }
  atomic_store(&ward->doomed, ward->runs);
}

bool lumap_ward_doom(lumap_ward *ward, lumap_doom doom, uint32_t call_id) {
  bool doomed = false;
  pthread_mutex_lock(&ward->lock);
  if (ward->busy && !ward->given_up && (!call_id || (ward->task && ward->task->call_id == call_id))) {
    /* The crew's stop gives everybody its full time, and counts from now. */
    if (ward->doom == LUMAP_DOOM_NONE || ward->doom == LUMAP_DOOM_CLOSING) set_doom(ward, doom, lumap_clock_ns());
    doomed = true;
  }
  pthread_mutex_unlock(&ward->lock);
  return doomed;
}

/* Under the lock: dooms what is over its time, and tells when to look again. */
static uint64_t watch_time(lumap_ward *ward, uint64_t now_ns) {
  uint64_t next = LUMAP_FOREVER, index;
  if (!ward->task) {
    if (now_ns >= ward->busy_since_ns + CLOSING_MS * NS_PER_MS) set_doom(ward, LUMAP_DOOM_CLOSING, now_ns);
    return ward->busy_since_ns + CLOSING_MS * NS_PER_MS;
  }
  if (ward->task->kind != LUMAP_TASK_CHUNK) return next;
  if (atomic_load(&ward->task->call->ended)) {
    set_doom(ward, LUMAP_DOOM_CANCEL, now_ns);
    return next;
  }
  index = atomic_load_explicit(&ward->control.index, memory_order_relaxed);
  switch (lumap_watch_look(&ward->watch, ward->task->call, ward->runs, index, now_ns, &next)) {
  case LUMAP_OVER_TIMEOUT:
    set_doom(ward, LUMAP_DOOM_TIMEOUT, now_ns);
    break;
  case LUMAP_OVER_DEADLINE:
    set_doom(ward, LUMAP_DOOM_DEADLINE, now_ns);
    break;
  default:
    break;
  }
  return next;
}

/* Under the lock: fills the stand-in from what nobody writes while a task runs. */
static lumap_task *make_standin(lumap_ward *ward) {
  const lumap_task *task = ward->task;
  lumap_task *standin = ward->standin;
  if (!task || task->kind == LUMAP_TASK_END) return NULL;
  ward->standin = NULL;
  standin->call_id = task->call_id;
  standin->call = task->call;
  if (standin->call) lumap_call_acquire(standin->call);
  standin->first = task->first;
  standin->count = task->count;
  standin->log_needed = task->log_needed;
  standin->given_up = true;
  if (ward->doom == LUMAP_DOOM_TIMEOUT) {
    lumap_task_fail_timeout(standin, ward->number, ward->doomed_index);
  } else if (ward->doom == LUMAP_DOOM_DEADLINE) {
    lumap_task_fail_deadline(standin, ward->number, ward->doomed_index);
  } else {
    uint64_t index = atomic_load_explicit(&ward->control.index, memory_order_acquire);
    lumap_task_fail_died(standin, ward->number, index, 0, -1);
    lumap_error_set(&standin->error, LUMAP_E_WORKER, "worker %d (a thread) could not be stopped and was given up",
                    ward->number);
    if (ward->doom == LUMAP_DOOM_CANCEL) standin->outcome = LUMAP_OUTCOME_CANCELLED;
  }
  lumap_task_count_done(standin, &ward->control);
  return standin;
}

/* Under the lock: the ward is doomed. True when it has been given up. */
static bool climb(lumap_ward *ward, uint64_t now_ns, uint64_t *next_ns, lumap_task **standin) {
  if (now_ns >= ward->give_up_ns && ward->is_own_thread) {
    ward->given_up = true;
    *standin = make_standin(ward);
    /* If it comes back for all that, to code that no signal reaches, it begins nothing more: others have the rest. */
    atomic_store(&ward->control.stop_call, LUMAP_STOP_ALL);
    atomic_store(&ward->control.call, 0);
    pthread_detach((pthread_t)ward->thread);
    return true;
  }
  *next_ns = ward->is_own_thread ? ward->give_up_ns : LUMAP_FOREVER;
  if (!ward->stop_signal) return false;
  if (now_ns >= ward->next_signal_ns) {
    /* The thread cannot leave the executor under the lock, so it is there. */
    if (claim_signal(ward->stop_signal)) pthread_kill((pthread_t)ward->thread, ward->stop_signal);
    ward->next_signal_ns = now_ns + ward->pause_ns;
    if (ward->pause_ns < LONGEST_PAUSE_MS * NS_PER_MS) ward->pause_ns *= 2;
  }
  if (ward->next_signal_ns < *next_ns) *next_ns = ward->next_signal_ns;
  return false;
}

bool lumap_ward_look(lumap_ward *ward, uint64_t now_ns, uint64_t *next_ns, lumap_task **standin) {
  bool given_up = false;
  *next_ns = LUMAP_FOREVER;
  *standin = NULL;
  pthread_mutex_lock(&ward->lock);
  if (ward->busy && !ward->given_up) {
    if (ward->doom == LUMAP_DOOM_NONE) *next_ns = watch_time(ward, now_ns);
    if (ward->doom != LUMAP_DOOM_NONE) given_up = climb(ward, now_ns, next_ns, standin);
  }
  pthread_mutex_unlock(&ward->lock);
  return given_up;
}
