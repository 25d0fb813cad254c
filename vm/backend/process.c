/* SPDX-License-Identifier: MIT
 *
 * process.c - the back-end whose workers are processes: one reactor thread a crew, one socket pair and one pidfd a
 * child.
 *
 * The reactor does all that touches children. It starts them, too: the death signal that a child arms is bound to the
 * thread that made it, and the reactor lives as long as the crew. What one child means is in offspring.h; here is who
 * gets which task, and when the reactor ends.
 *
 * Children are started when there is a task for them, not at open. A crew that is never used costs a thread and no
 * process, a call of one item starts one, and the restart of a worker that died is the same path. Nothing is lost by
 * it: the first tasks follow the setup bytes down the channel, so a child that is ready finds its work there, without
 * a round trip; the start itself (1 to 2 ms, most of it the loader's) happens side by side in all children.
 *
 * The back-end "fork" is the same with copies of this process for children. A copy has only the thread that made it,
 * with what that one was doing; so there the pool's user is the reactor, whenever it waits for results. No thread is
 * started, which another fork, of this crew's next child or of a call that the user makes meanwhile, would have to
 * do without.
 *
 * Threads: the pool's user sets a flag and rings the eventfd; the reactor alone sees children, so there is no lock.
 * Knows nothing of Lua.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/child.h"
#include "backend/offspring.h"
#include "backend/seat.h"
#include "os/os.h"

enum { EVENTS_A_ROUND = 64 };
#define WAKE_TAG UINT64_MAX
#define NS_PER_MS UINT64_C(1000000)

typedef struct process_crew {
  /* Fixed after open. */
  lumap_crew *crew;
  int poll; /* epoll */
  int bell; /* eventfd: something for the reactor */
  unsigned long reactor;
  int count;

  /* Atomic: set by the pool's threads, read by the reactor. */
  atomic_bool heed_due; /* calls were cancelled */
  atomic_bool rung;     /* the bell has been rung and not been heard: one ring is enough */
  atomic_bool stop;     /* stop() was called */
  atomic_bool closing;  /* close() was called */

  /* Atomic: set by the reactor. */
  atomic_bool all_stopped;
  lumap_event stopped;

  /* The reactor's. */
  bool stopping; /* it has seen `stop` */
  bool ending;   /* it has seen `closing` */
  bool scan_due; /* workers without work may find some in the feed */
  lumap_offspring children[];
} process_crew;

static void ring(process_crew *own) {
  const uint64_t one = 1;
  if (atomic_exchange(&own->rung, true)) return;
  /* It can only fail when the counter is full, and then it has been rung. */
  if (write(own->bell, &one, sizeof one) < 0) return;
}

/* ---- handing out ---- */

/* The child knows no deadlines: its clock begins when the task does. */
static bool is_late(const lumap_task *task) {
  return task->kind == LUMAP_TASK_CHUNK && task->call->deadline_ns && lumap_clock_ns() >= task->call->deadline_ns;
}

/* Gives the child tasks until it holds `wanted`. False when a child could not be started. */
static bool feed_child(process_crew *own, lumap_offspring *child, uint32_t wanted) {
  const lumap_feed *feed = &own->crew->feed;
  while (!own->stopping && wanted > 0 && lumap_offspring_may_take(child, wanted - 1)) {
    lumap_task *task = feed->take(feed->self, child->worker, false);
    if (!task) break;
    if (is_late(task)) {
      lumap_task_fail_deadline(task, child->worker->number, 0);
      feed->finish(feed->self, child->worker, task);
    } else if (!lumap_offspring_give(child, task)) {
      return false;
    }
  }
  return true;
}

/* A second task for a child whose tasks are short, so that it need not wait for the next one; but never while another
 * worker has none, which could begin it at once. */
static void feed_ahead(process_crew *own, lumap_offspring *child) {
  uint32_t wanted = lumap_offspring_window(child);
  if (wanted < 2 || child->state != LUMAP_CHILD_SERVING) return;
  for (int i = 0; i < own->count; i++)
    if (lumap_offspring_may_take(&own->children[i], 0)) return;
  feed_child(own, child, wanted);
}

/* One task for a worker that has none. If the feed is empty, one that waits behind another: that other may take for
 * ever, for all that is known it waits for the one behind it. It goes through the feed, which notes who has what. */
static bool employ(process_crew *own, lumap_offspring *child) {
  const lumap_feed *feed = &own->crew->feed;
  bool good = feed_child(own, child, 1);
  for (int i = 0; i < own->count && good && !own->stopping && lumap_offspring_may_take(child, 0); i++) {
    lumap_task *task = lumap_offspring_revoke(&own->children[i]);
    if (!task) continue;
    feed->give_back(feed->self, own->children[i].worker, task);
    good = feed_child(own, child, 1);
  }
  return good;
}

/* One task each for workers that have a child, then for one that must be started, and only then a second one each. A
 * start takes half a millisecond of this thread, in which results wait; so there is one a round, and the next round
 * comes at once. */
static void scan(process_crew *own) {
  bool started = false;
  own->scan_due = false;
  for (int i = 0; i < own->count; i++)
    if (own->children[i].state != LUMAP_CHILD_ABSENT) employ(own, &own->children[i]);
  for (int i = 0; i < own->count && !started; i++) {
    lumap_offspring *child = &own->children[i];
    if (child->state != LUMAP_CHILD_ABSENT) continue;
    started = !employ(own, child) || child->state != LUMAP_CHILD_ABSENT;
  }
  own->scan_due = started;
  for (int i = 0; i < own->count && !started; i++)
    feed_ahead(own, &own->children[i]);
}

/* A child that gave a result, or died, makes room. Those that died leave work to others, too. */
static void handle_child(process_crew *own, uint64_t tag) {
  lumap_offspring *child = &own->children[(uint32_t)tag >> 1];
  lumap_offspring_handle(child, (uint32_t)(tag >> 32), (int)(tag & 1));
  if (child->state != LUMAP_CHILD_SERVING) {
    own->scan_due = true;
    return;
  }
  lumap_offspring_heed(child);
  employ(own, child);
  feed_ahead(own, child);
}

/* ---- the reactor ---- */

static bool is_over(const process_crew *own) {
  for (int i = 0; i < own->count; i++)
    if (own->children[i].state != LUMAP_CHILD_ABSENT) return false;
  return true;
}

static bool holds_work(const process_crew *own) {
  for (int i = 0; i < own->count; i++)
    if (!lumap_outbox_is_empty(&own->children[i].outbox)) return true;
  return false;
}

/* Follows stop(): kills, and tells when the last child is gone. */
static void mind_stop(process_crew *own) {
  if (!own->stopping) {
    own->stopping = true;
    for (int i = 0; i < own->count; i++)
      lumap_offspring_stop(&own->children[i]);
  }
  if (atomic_load(&own->all_stopped) || !is_over(own)) return;
  atomic_store(&own->all_stopped, true);
  lumap_event_signal(&own->stopped);
}

/* Follows close(), once no child holds work and the feed has none. True when the reactor's life is over. */
static bool mind_close(process_crew *own) {
  if (!own->ending) {
    own->ending = true;
    own->scan_due = true; /* what was queued before close() may not have been seen yet */
  }
  if (own->scan_due || holds_work(own)) return false;
  for (int i = 0; i < own->count; i++)
    lumap_offspring_leave(&own->children[i]);
  return is_over(own);
}

/* Serves the deadlines that are due; milliseconds until the next one, -1 for none. */
static int mind_time(process_crew *own) {
  uint64_t now = lumap_clock_ns(), next = LUMAP_FOREVER;
  for (int i = 0; i < own->count; i++) {
    lumap_offspring *child = &own->children[i];
    uint64_t then;
    if (child->state == LUMAP_CHILD_ABSENT) continue;
    then = lumap_offspring_check_time(child, now);
    if (child->state == LUMAP_CHILD_ABSENT)
      own->scan_due = true; /* it may have given work back */
    else if (then < next)
      next = then;
  }
  if (next == LUMAP_FOREVER) return -1;
  return next <= now ? 0 : (int)((next - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void hear_bell(process_crew *own) {
  uint64_t rings;
  if (read(own->bell, &rings, sizeof rings) < 0) return; /* somebody has heard it before */
  /* First the flag, then the look at the feed: work that comes in between rings again. */
  atomic_store(&own->rung, false);
  own->scan_due = true;
  if (!atomic_exchange(&own->heed_due, false)) return;
  for (int i = 0; i < own->count; i++)
    lumap_offspring_heed(&own->children[i]);
}

/* Waits for events, for `limit_ms` at most (-1: no limit), and deals with them. False: the reactor's life is over. */
static bool serve_round(process_crew *own, int limit_ms) {
  struct epoll_event events[EVENTS_A_ROUND];
  int timeout_ms, count;
  if (own->scan_due) scan(own);
  if (atomic_load(&own->stop)) mind_stop(own);
  if (atomic_load(&own->closing) && mind_close(own)) return false;
  timeout_ms = mind_time(own);
  if (limit_ms >= 0 && (timeout_ms < 0 || limit_ms < timeout_ms)) timeout_ms = limit_ms;
  count = epoll_wait(own->poll, events, EVENTS_A_ROUND, own->scan_due ? 0 : timeout_ms);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 == WAKE_TAG)
      hear_bell(own);
    else
      handle_child(own, events[i].data.u64);
  }
  return true;
}

static void *reactor_body(void *argument) {
  while (serve_round(argument, -1))
    continue;
  return NULL;
}

/* ---- what the pool calls ---- */

static void crew_free(process_crew *own) {
  for (int i = 0; i < own->count; i++)
    lumap_offspring_close(&own->children[i]);
  if (own->poll >= 0) close(own->poll);
  if (own->bell >= 0) close(own->bell);
  free(own);
}

static lumap_status open_descriptors(process_crew *own, lumap_error *error) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TAG};
  own->poll = epoll_create1(EPOLL_CLOEXEC);
  own->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (own->poll < 0 || own->bell < 0 || epoll_ctl(own->poll, EPOLL_CTL_ADD, own->bell, &event))
    return lumap_error_system(error, errno, "cannot watch for events");
  return LUMAP_E_OK;
}

/* The crew without its reactor. */
static lumap_status open_crew(lumap_crew *crew, lumap_error *error) {
  size_t size = sizeof(process_crew) + (size_t)crew->worker_count * sizeof(lumap_offspring);
  process_crew *own = calloc(1, size);
  lumap_status status;
  if (!own) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for %d workers", crew->worker_count);
  own->crew = crew;
  own->poll = own->bell = -1;
  status = open_descriptors(own, error);
  for (; status == LUMAP_E_OK && own->count < crew->worker_count; own->count++)
    status = lumap_offspring_open(&own->children[own->count], crew, own->count, own->poll, error);
  crew->own = own;
  if (status == LUMAP_E_OK) return status;
  crew->own = NULL;
  crew_free(own);
  return status;
}

static lumap_status process_open(lumap_crew *crew, lumap_error *error) {
  process_crew *own;
  lumap_status status;
  if (!crew->program) return lumap_error_set(error, LUMAP_E_WORKER, "no worker program is known");
  if (lumap_program_has_argument(LUMAP_CHILD_ARGUMENT))
    return lumap_error_set(error, LUMAP_E_WORKER,
                           "this process was started as a worker, but its program does not call lumap_worker_main");
  status = open_crew(crew, error);
  if (status != LUMAP_E_OK) return status;
  own = crew->own;
  status = lumap_thread_start(&own->reactor, reactor_body, own, 0, error);
  if (status == LUMAP_E_OK) return status;
  crew->own = NULL;
  crew_free(own);
  return status;
}

static void process_wake(lumap_crew *crew) {
  ring(crew->own);
}

/* Waits, but not for long: SIGKILL is not negotiable, and for a child that the kernel holds there is a time limit. */
static void process_stop(lumap_crew *crew) {
  process_crew *own = crew->own;
  atomic_store(&own->stop, true);
  ring(own);
  while (!atomic_load(&own->all_stopped)) {
    uint32_t key = lumap_event_key(&own->stopped);
    if (!atomic_load(&own->all_stopped)) lumap_event_wait(&own->stopped, key, LUMAP_FOREVER);
  }
}

static void process_heed(lumap_crew *crew, const lumap_call *call) {
  process_crew *own = crew->own;
  (void)call;
  atomic_store(&own->heed_due, true);
  ring(own);
}

static void process_close(lumap_crew *crew) {
  process_crew *own = crew->own;
  atomic_store(&own->closing, true);
  ring(own);
  pthread_join((pthread_t)own->reactor, NULL);
  crew->own = NULL;
  crew_free(own);
}

const lumap_backend lumap_backend_process = {
    .name = "process",
    .open = process_open,
    .wake = process_wake,
    .stop = process_stop,
    .heed = process_heed,
    .close = process_close,
};

/* ---- the same with copies ---- */

/* A thread that was joined may be counted for this long. */
enum { LAST_THREADS_MS = 200, LOOK_AGAIN_MS = 1, LONGEST_ROUND_MS = 100 };

static lumap_status fork_open(lumap_crew *crew, lumap_error *error) {
  const uint64_t give_up = lumap_clock_ns() + LAST_THREADS_MS * NS_PER_MS;
  int threads;
  while ((threads = lumap_thread_count()) > 1 && lumap_clock_ns() < give_up)
    lumap_sleep_until(lumap_clock_ns() + LOOK_AGAIN_MS * NS_PER_MS);
  if (threads > 1)
    return lumap_error_set(error, LUMAP_E_WORKER,
                           "this process has %d other thread%s, which a copy of it would lack, with all that they hold "
                           "locked: close and join the pools that run, or use the back-end \"process\"",
                           threads - 1, threads > 2 ? "s" : "");
  return open_crew(crew, error);
}

/* An interrupt may come between the caller's look and the wait, so that is never long. */
static void fork_attend(lumap_crew *crew, uint64_t deadline_ns) {
  uint64_t now = lumap_clock_ns(), left = deadline_ns > now ? (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
  serve_round(crew->own, left < LONGEST_ROUND_MS ? (int)left : LONGEST_ROUND_MS);
}

/* In a copy the crew is there, but has nobody to wait for. */
static bool is_abandoned(const process_crew *own) {
  return own->poll < 0;
}

static void fork_stop(lumap_crew *crew) {
  process_crew *own = crew->own;
  if (is_abandoned(own)) return;
  atomic_store(&own->stop, true);
  for (mind_stop(own); !atomic_load(&own->all_stopped); mind_stop(own))
    serve_round(own, LONGEST_ROUND_MS);
}

static void fork_close(lumap_crew *crew) {
  process_crew *own = crew->own;
  atomic_store(&own->closing, true);
  while (!is_abandoned(own) && serve_round(own, LONGEST_ROUND_MS))
    continue;
  crew->own = NULL;
  crew_free(own);
}

void lumap_process_crew_abandon(lumap_crew *crew) {
  process_crew *own = crew->own;
  for (int i = 0; i < own->count; i++)
    lumap_offspring_abandon(&own->children[i]);
  close(own->poll);
  close(own->bell);
  own->poll = own->bell = -1;
}

const lumap_backend lumap_backend_fork = {
    .name = "fork",
    .copies = true,
    .open = fork_open,
    .wake = process_wake,
    .attend = fork_attend,
    .stop = fork_stop,
    .heed = process_heed,
    .close = fork_close,
};
