/* SPDX-License-Identifier: MIT
 *
 * offspring.c - one worker process as its parent sees it. See offspring.h, which has the picture and the rule of death.
 *
 * Nothing here blocks: sockets are non-blocking and served in portions, a dead child is reaped when its pidfd says that
 * it is dead. A child is only ever declared over by the system, not by what it says.
 */
#include "backend/offspring.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/child.h"
#include "backend/seat.h"
#include "os/os.h"

/* System calls on one channel before the other children get their turn; about 200 KB each. */
enum { STEPS_A_VISIT = 16 };

/* Lives without a result, in a row, before a task that was not begun is blamed. */
enum { MOST_BARREN = 3 };

/* Below this a task is short: then the next one waits in the child's channel already, because the way here and back
 * would cost. Above it the way costs below one per cent, and a task that waits behind a long one while another worker
 * is idle costs more. */
#define SHORT_TASK_NS UINT64_C(5000000)

#define NS_PER_MS UINT64_C(1000000)

static uint64_t after_ms(int ms) {
  return lumap_clock_ns() + (uint64_t)ms * NS_PER_MS;
}

static void finish(lumap_offspring *child, lumap_task *task) {
  child->crew->feed.finish(child->crew->feed.self, child->worker, task);
}

static void give_back(lumap_offspring *child, lumap_task *task) {
  child->crew->feed.give_back(child->crew->feed.self, child->worker, task);
}

/* ---- the place ---- */

static void reset_life(lumap_offspring *child) {
  child->state = LUMAP_CHILD_ABSENT;
  child->process = 0;
  child->watch = child->channel = -1;
  child->deadline_ns = LUMAP_FOREVER;
  child->ready = child->deaf = child->wants_write = child->stopped = false;
  child->cause[0] = '\0';
  child->last_words = (lumap_error){0};
  child->reader.got = 0;
  child->reader.whole = false;
  lumap_frame_forget(&child->reader);
  lumap_frame_recycle(&child->reader);
  lumap_outbox_reset(&child->outbox);
  child->results = child->ended_turn = 0;
  child->item_watch = (lumap_watch){0}; /* turns begin anew, so what was seen could be taken for the same item */
  child->kill_ns = 0;
  child->last_task_ns = UINT64_MAX;
  child->generation++;
}

lumap_status lumap_offspring_open(lumap_offspring *child, lumap_crew *crew, int index, int poll, lumap_error *error) {
  void *memory;
  lumap_status status;
  *child = (lumap_offspring){.crew = crew, .worker = &crew->workers[index], .control_memory = -1, .poll = poll};
  child->place = (uint32_t)index;
  child->worker->control = NULL;
  child->reader.known = lumap_memories_acquire(crew->memories);
  reset_life(child);
  status = lumap_shared_memory_open(sizeof(lumap_control), &memory, &child->control_memory, error);
  if (status != LUMAP_E_OK) return status;
  child->worker->control = memory;
  child->worker->own = child;
  return LUMAP_E_OK;
}

void lumap_offspring_abandon(lumap_offspring *child) {
  if (child->channel >= 0) close(child->channel);
  if (child->watch >= 0) close(child->watch);
  if (child->control_memory >= 0) close(child->control_memory);
  child->control_memory = child->poll = -1;
  child->worker->control = NULL;
  reset_life(child);
}

void lumap_offspring_close(lumap_offspring *child) {
  if (!child->worker) return;
  lumap_shared_memory_close(child->worker->control, sizeof(lumap_control), child->control_memory);
  child->worker->control = NULL;
  lumap_frame_reader_deinit(&child->reader);
  lumap_outbox_deinit(&child->outbox);
  child->worker = NULL;
}

bool lumap_offspring_may_take(const lumap_offspring *child, uint32_t held) {
  return child->state <= LUMAP_CHILD_SERVING && child->outbox.held <= held;
}

uint32_t lumap_offspring_window(const lumap_offspring *child) {
  return child->last_task_ns < SHORT_TASK_NS ? LUMAP_PROCESS_WINDOW : 1;
}

/* ---- death sentence ---- */

/* Kills, and waits for the end without blocking. `cause` is for people: NULL when its end will speak for itself. A
 * child whose channel has ended is beyond its last line of code, and how it ends is settled: this signal changes
 * neither its exit code nor the signal that it dies of. */
static void condemn(lumap_offspring *child, const char *cause) {
  if (child->state == LUMAP_CHILD_ABSENT || child->state == LUMAP_CHILD_DYING) return;
  if (cause && !child->cause[0]) snprintf(child->cause, sizeof child->cause, "%s", cause);
  child->state = LUMAP_CHILD_DYING;
  epoll_ctl(child->poll, EPOLL_CTL_DEL, child->channel, NULL); /* a hang-up that nobody reads would ring for ever */
  lumap_process_kill(child->process, child->watch);
  child->deadline_ns = child->watch >= 0 ? after_ms(LUMAP_CHILD_DIE_MS) : lumap_clock_ns();
}

/* ---- sending ---- */

static struct epoll_event event_for(const lumap_offspring *child, int kind, uint32_t what) {
  uint64_t tag = (uint64_t)child->generation << 32 | (uint64_t)child->place << 1 | (uint64_t)kind;
  return (struct epoll_event){.events = what, .data.u64 = tag};
}

static void want_write(lumap_offspring *child, bool wanted) {
  struct epoll_event event = event_for(child, LUMAP_OFFSPRING_CHANNEL, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
  if (child->wants_write == wanted) return;
  child->wants_write = wanted;
  epoll_ctl(child->poll, EPOLL_CTL_MOD, child->channel, &event);
}

static void send_some(lumap_offspring *child) {
  lumap_error error = {0};
  switch (lumap_outbox_write(&child->outbox, child->crew, child->worker, child->channel, STEPS_A_VISIT, &error)) {
  case LUMAP_FRAME_WHOLE:
    want_write(child, false);
    break;
  case LUMAP_FRAME_PART:
  case LUMAP_FRAME_BLOCKED:
    want_write(child, true);
    break;
  case LUMAP_FRAME_CLOSED:
    condemn(child, NULL);
    break;
  default:
    condemn(child, error.message);
  }
}

lumap_task *lumap_offspring_revoke(lumap_offspring *child) {
  lumap_task *task;
  if (child->state != LUMAP_CHILD_SERVING || child->outbox.held < 2) return NULL;
  task = lumap_outbox_revoke(&child->outbox, child->worker->control);
  if (task) child->last_task_ns = UINT64_MAX;
  return task;
}

/* ---- receiving ---- */

static bool check_result(const lumap_frame_head *head, const lumap_task *task, lumap_error *error) {
  if (!task || head->call_id != task->call_id || head->first != task->first || head->count != task->count)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a result of a task that it was not given");
  else if (head->kind > LUMAP_PAYLOAD_VALUES || head->outcome > LUMAP_OUTCOME_START || head->done > task->count)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a result that makes no sense");
  else
    return true;
  return false;
}

static bool take_result(lumap_offspring *child, lumap_error *error) {
  lumap_task *task = lumap_outbox_awaited(&child->outbox);
  lumap_bytes items;
  if (!check_result(&child->reader.head, task, error)) return false;
  lumap_outbox_take_answered(&child->outbox);
  lumap_frame_to_task(&child->reader, task);
  task->worker = child->worker->number;
  /* The items were kept until now, for whoever runs them again if the child dies. Their memory takes the next result.
   */
  items = task->payload;
  task->payload = child->reader.payload;
  child->reader.payload = items;
  lumap_frame_recycle(&child->reader);
  child->results++;
  child->kill_ns = 0;
  child->barren = 0;
  child->last_task_ns = task->ended_ns - task->started_ns;
  finish(child, task);
  return true;
}

static bool take_ready(lumap_offspring *child, lumap_error *error) {
  const lumap_frame_head *head = &child->reader.head;
  if (head->number == LUMAP_E_OK) {
    if (child->ready) {
      lumap_error_set(error, LUMAP_E_PROTOCOL, "it was ready twice");
      return false;
    }
    child->ready = true;
    if (child->state != LUMAP_CHILD_STARTING) return true;
    child->state = LUMAP_CHILD_SERVING;
    child->deadline_ns = LUMAP_FOREVER;
    return true;
  }
  lumap_error_set(&child->last_words, (lumap_status)head->number, "%s", child->reader.text);
  if (child->state == LUMAP_CHILD_DYING) return true; /* read from its legacy */
  child->state = LUMAP_CHILD_LEAVING;
  child->deadline_ns = after_ms(LUMAP_CHILD_LEAVE_MS);
  return true;
}

/* False, with the error told: the child is not what it should be. */
static bool hear(lumap_offspring *child, lumap_error *error) {
  switch (child->reader.head.type) {
  case LUMAP_FRAME_GREETING:
    /* From now on it may take its time: what it opens may load a program of the user's. */
    if (child->state == LUMAP_CHILD_STARTING) child->deadline_ns = LUMAP_FOREVER;
    return true;
  case LUMAP_FRAME_READY:
    return take_ready(child, error);
  case LUMAP_FRAME_RESULT:
    return take_result(child, error);
  default:
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a frame of type %d from a worker", child->reader.head.type);
    return false;
  }
}

static void condemn_damaged(lumap_offspring *child, const lumap_error *error) {
  char cause[sizeof child->cause];
  snprintf(cause, sizeof cause, "broke the protocol (%.300s)", error->message);
  condemn(child, cause);
  child->deaf = true;
}

/* Reads for `steps` system calls at most; false when all that has come is read, or nothing will come. */
static bool receive_some(lumap_offspring *child, int steps) {
  lumap_error error = {0};
  for (int i = 0; i < steps && !child->deaf; i++) {
    switch (lumap_frame_read(&child->reader, child->channel, &error)) {
    case LUMAP_FRAME_HEADED:
    case LUMAP_FRAME_PART:
      break;
    case LUMAP_FRAME_WHOLE:
      if (!hear(child, &error)) condemn_damaged(child, &error);
      break;
    case LUMAP_FRAME_BLOCKED:
      return false;
    case LUMAP_FRAME_CLOSED:
      child->deaf = true;
      condemn(child, NULL);
      break;
    default:
      condemn_damaged(child, &error);
    }
  }
  return !child->deaf;
}

/* ---- birth ---- */

static bool poll_child(lumap_offspring *child) {
  struct epoll_event channel = event_for(child, LUMAP_OFFSPRING_CHANNEL, EPOLLIN);
  struct epoll_event process = event_for(child, LUMAP_OFFSPRING_PROCESS, EPOLLIN);
  if (epoll_ctl(child->poll, EPOLL_CTL_ADD, child->channel, &channel)) return false;
  return child->watch < 0 || epoll_ctl(child->poll, EPOLL_CTL_ADD, child->watch, &process) == 0;
}

static void clear_control(lumap_control *control) {
  atomic_store(&control->index, 0);
  atomic_store(&control->call, 0);
  atomic_store(&control->turns, 0);
}

/* In the copy this does not return. */
static lumap_status start_copy(lumap_offspring *child, int channel, lumap_error *error) {
  int parent = (int)getpid(), threads = lumap_thread_count();
  lumap_status status;
  if (threads > 1)
    return lumap_error_set(error, LUMAP_E_WORKER, "this process has %d other threads by now, which a copy lacks",
                           threads - 1);
  status = lumap_process_fork(&child->process, error);
  if (status != LUMAP_E_OK || child->process) return status;
  lumap_child_copy_main(child->crew, child->worker, channel, parent);
}

static lumap_status start_program(lumap_offspring *child, int channel, lumap_error *error) {
  char argument[sizeof LUMAP_CHILD_ARGUMENT + 16];
  char *arguments[] = {(char *)child->crew->program, argument, NULL};
  int passed[] = {channel, child->control_memory};
  snprintf(argument, sizeof argument, "%s%d", LUMAP_CHILD_ARGUMENT, (int)getpid());
  return lumap_process_start(child->crew->program, arguments, passed, 2, &child->process, error);
}

static lumap_status start(lumap_offspring *child, lumap_error *error) {
  const bool copies = child->crew->backend->copies;
  int limit_ms = child->crew->greeting_limit_ms ? child->crew->greeting_limit_ms : LUMAP_CHILD_GREETING_MS;
  int theirs, unused[2];
  lumap_status status;
  clear_control(child->worker->control);
  status = lumap_channel_open(&child->channel, &theirs, error);
  if (status != LUMAP_E_OK) return status;
  status = (copies ? start_copy : start_program)(child, theirs, error);
  close(theirs);
  if (status != LUMAP_E_OK) {
    close(child->channel);
    child->channel = -1;
    return status;
  }

  child->watch = lumap_process_watch(child->process);
  if (!poll_child(child)) {
    lumap_process_kill(child->process, child->watch);
    lumap_process_wait(child->process, &unused[0], &unused[1]);
    if (child->watch >= 0) close(child->watch);
    close(child->channel);
    reset_life(child);
    return lumap_error_set(error, LUMAP_E_NOMEM, "no memory to watch a process");
  }
  child->state = LUMAP_CHILD_STARTING;
  child->deadline_ns = after_ms(limit_ms);
  child->outbox.hello_due = !copies;
  return LUMAP_E_OK;
}

/* Finishes a task whose worker could not be started, for the reason given. */
static void refuse(lumap_offspring *child, lumap_task *task, const lumap_error *reason) {
  lumap_error_set(&task->error, LUMAP_E_WORKER, "worker %d could not be started: %.350s", child->worker->number,
                  reason->message);
  lumap_task_fail_start(task, child->worker->number);
  finish(child, task);
}

bool lumap_offspring_give(lumap_offspring *child, lumap_task *task) {
  lumap_error error = {0};
  if (task->kind == LUMAP_TASK_END && !lumap_outbox_knows(&child->outbox, task->call_id)) {
    lumap_task_free(task);
    return true;
  }
  if (child->state == LUMAP_CHILD_ABSENT && start(child, &error) != LUMAP_E_OK) {
    refuse(child, task, &error);
    return false;
  }
  if (task->payload.size > LUMAP_FRAME_LIMIT)
    lumap_error_set(&error, LUMAP_E_PROTOCOL, "a payload of %zu bytes is longer than the limit of %llu",
                    task->payload.size, (unsigned long long)LUMAP_FRAME_LIMIT);
  else if (!lumap_outbox_add(&child->outbox, task))
    lumap_error_set(&error, LUMAP_E_NOMEM, "no memory");
  if (error.status != LUMAP_E_OK) {
    refuse(child, task, &error);
    return true;
  }
  if (!child->wants_write && child->state != LUMAP_CHILD_DYING) send_some(child);
  return true;
}

/* ---- death ---- */

static void describe_end(const lumap_offspring *child, int signal_number, int exit_code, char *text, size_t room) {
  const char *name = lumap_signal_name(signal_number);
  if (child->cause[0])
    snprintf(text, room, "%s", child->cause);
  else if (child->last_words.status != LUMAP_E_OK)
    snprintf(text, room, "gave up (%.200s)", child->last_words.message);
  else if (signal_number == SIGKILL)
    snprintf(text, room, "was killed by signal 9 (SIGKILL: by hand, or for lack of memory)");
  else if (signal_number && name)
    snprintf(text, room, "was killed by signal %d (%s)", signal_number, name);
  else if (signal_number)
    snprintf(text, room, "was killed by signal %d", signal_number);
  else if (exit_code >= 0)
    snprintf(text, room, "ended with exit code %d", exit_code);
  else
    snprintf(text, room, "ended, and the host program has kept to itself how");
}

static void finish_unstarted(lumap_offspring *child, lumap_task *task, pid_t process, const char *end) {
  if (child->last_words.status != LUMAP_E_OK)
    task->error = child->last_words;
  else
    lumap_error_set(&task->error, LUMAP_E_WORKER,
                    "worker %d could not be started: %s (process %d) %s before it was ready", child->worker->number,
                    child->crew->program ? child->crew->program : "a copy of this process", (int)process, end);
  lumap_task_fail_start(task, child->worker->number);
  finish(child, task);
}

static void finish_died(lumap_offspring *child, lumap_task *task, const char *end, int signal_number, int exit_code) {
  uint64_t index = atomic_load(&child->worker->control->index);
  lumap_task_fail_died(task, child->worker->number, index, signal_number, exit_code);
  lumap_task_count_done(task, child->worker->control);
  lumap_error_set(&task->error, LUMAP_E_WORKER, "worker %d (process %d) %.200s%s", child->worker->number,
                  (int)child->process, end, child->ready ? "" : " before it was ready");
  finish(child, task);
}

static void finish_ended(lumap_offspring *child, lumap_task *task) {
  if (child->ended_as == LUMAP_OUTCOME_TIMEOUT) {
    lumap_task_fail_timeout(task, child->worker->number, child->ended_index);
  } else if (child->ended_as == LUMAP_OUTCOME_DEADLINE) {
    lumap_task_fail_deadline(task, child->worker->number, child->ended_index);
  } else {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    task->died_index = child->ended_index;
    task->worker = child->worker->number;
    task->ended_ns = lumap_clock_ns();
    lumap_error_set(&task->error, LUMAP_E_WORKER, "worker %d was ended", child->worker->number);
  }
  lumap_task_count_done(task, child->worker->control);
  finish(child, task);
}

/* The rule of offspring.h for the oldest task. */
static void settle_oldest(lumap_offspring *child, lumap_task *task, int signal_number, int exit_code) {
  bool begun = lumap_control_begun(child->worker->control) == task->turn;
  char end[sizeof child->cause];
  describe_end(child, signal_number, exit_code, end, sizeof end);
  if (child->ended_turn && child->ended_turn == task->turn && begun) {
    finish_ended(child, task);
  } else if (child->stopped && !(begun && child->ready)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    finish(child, task);
  } else if (child->ended_turn && !child->stopped) {
    give_back(child, task);
  } else if (!child->ready && !(signal_number && !child->cause[0])) {
    finish_unstarted(child, task, child->process, end);
  } else if (begun || child->barren >= MOST_BARREN) {
    finish_died(child, task, end, signal_number, exit_code);
  } else {
    give_back(child, task);
  }
}

static void settle_other(lumap_offspring *child, lumap_task *task) {
  if (child->stopped) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    finish(child, task);
  } else {
    give_back(child, task);
  }
}

static void settle_tasks(lumap_offspring *child, int signal_number, int exit_code) {
  lumap_task *chunks[LUMAP_PROCESS_WINDOW];
  int count = lumap_outbox_empty(&child->outbox, chunks);
  if (count && (child->ready || signal_number) && child->results == 0 && !child->ended_turn) child->barren++;
  /* What is given back last goes out first. */
  for (int i = count - 1; i > 0; i--)
    settle_other(child, chunks[i]);
  if (count) settle_oldest(child, chunks[0], signal_number, exit_code);
}

/* The child's process has ended (or is stuck in the kernel: `reap` is false). What it wrote is still in the channel. */
static void bury(lumap_offspring *child, bool reap) {
  int signal_number = 0, exit_code = -1;
  while (receive_some(child, STEPS_A_VISIT)) {
  }
  if (reap) lumap_process_wait(child->process, &signal_number, &exit_code);
  /* By hand, not only by close: a host that forks at this moment has copies, and epoll would go on to report them. */
  epoll_ctl(child->poll, EPOLL_CTL_DEL, child->channel, NULL);
  close(child->channel);
  if (child->watch >= 0) {
    epoll_ctl(child->poll, EPOLL_CTL_DEL, child->watch, NULL);
    close(child->watch);
  }
  settle_tasks(child, signal_number, exit_code);
  reset_life(child);
}

/* ---- what the reactor calls ---- */

void lumap_offspring_handle(lumap_offspring *child, uint32_t generation, int kind) {
  if (generation != child->generation || child->state == LUMAP_CHILD_ABSENT) return;
  if (kind == LUMAP_OFFSPRING_PROCESS) {
    bury(child, true);
    return;
  }
  if (child->state == LUMAP_CHILD_DYING) return;
  receive_some(child, STEPS_A_VISIT);
  if (child->state != LUMAP_CHILD_DYING && child->wants_write) send_some(child);
}

void lumap_offspring_leave(lumap_offspring *child) {
  if (child->state != LUMAP_CHILD_STARTING && child->state != LUMAP_CHILD_SERVING) return;
  /* Not close: a copy of the descriptor in a process that the host forked would keep the channel open. */
  shutdown(child->channel, SHUT_WR);
  child->state = LUMAP_CHILD_LEAVING;
  child->deadline_ns = after_ms(LUMAP_CHILD_LEAVE_MS);
}

void lumap_offspring_stop(lumap_offspring *child) {
  child->stopped = true;
  condemn(child, "was stopped");
}

/* ---- ending items ---- */

static bool is_alive(const lumap_offspring *child) {
  return child->state == LUMAP_CHILD_STARTING || child->state == LUMAP_CHILD_SERVING;
}

/* The chunk that the child runs. The state may be STARTING: the control block is faster than the frame that says READY.
 */
static lumap_task *running_chunk(const lumap_offspring *child) {
  lumap_task *task = is_alive(child) ? lumap_outbox_oldest(&child->outbox) : NULL;
  return task && lumap_control_begun(child->worker->control) == task->turn ? task : NULL;
}

static void end_task(lumap_offspring *child, const lumap_task *task, lumap_outcome outcome, uint64_t index) {
  child->ended_turn = task->turn;
  child->ended_as = outcome;
  child->ended_index = index;
  condemn(child, "was ended");
}

/* Asks the child to begin no item of the call from `from` on. There is one place for that, and what the child runs now
 * has it: a request of another call was for what it ran before. One of this call may ask for more. */
static void ask_to_stop(lumap_offspring *child, const lumap_task *task, uint64_t from) {
  lumap_control *control = child->worker->control;
  uint64_t stopping = atomic_load(&control->stop_call);
  if (stopping == LUMAP_STOP_ALL || (stopping == task->call_id && atomic_load(&control->stop_from) <= from)) return;
  atomic_store(&control->stop_from, from);
  atomic_store(&control->stop_call, task->call_id);
}

void lumap_offspring_heed(lumap_offspring *child) {
  lumap_task *task;
  uint64_t from;
  if (!is_alive(child)) return;
  while ((task = lumap_outbox_newest(&child->outbox)) && task->first >= atomic_load(&task->call->stop_from)) {
    task = lumap_outbox_revoke(&child->outbox, child->worker->control);
    if (!task) break;
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    finish(child, task);
  }
  task = running_chunk(child);
  if (!task) return;
  from = atomic_load(&task->call->stop_from);
  if (from < task->first + task->count) ask_to_stop(child, task, from);
  if (atomic_load(&task->call->ended))
    end_task(child, task, LUMAP_OUTCOME_CANCELLED, atomic_load(&child->worker->control->index));
}

/* Ends what is over its time; the next time to look. */
static uint64_t watch_item(lumap_offspring *child, uint64_t now_ns) {
  lumap_task *task = lumap_outbox_oldest(&child->outbox);
  uint64_t index, next;
  if (!task || !is_alive(child) || !lumap_call_has_limits(task->call)) return LUMAP_FOREVER;
  /* Nothing tells when the child begins. */
  if (!running_chunk(child)) return now_ns + lumap_watch_interval(task->call);
  index = atomic_load(&child->worker->control->index);
  switch (lumap_watch_look(&child->item_watch, task->call, task->turn, index, now_ns, &next)) {
  case LUMAP_OVER_TIMEOUT:
    end_task(child, task, LUMAP_OUTCOME_TIMEOUT, index);
    return LUMAP_FOREVER;
  case LUMAP_OVER_DEADLINE:
    /* A chunk that ends between two items keeps its results. */
    ask_to_stop(child, task, 0);
    if (!child->kill_ns) child->kill_ns = now_ns + LUMAP_CHILD_DEADLINE_MS * NS_PER_MS;
    if (now_ns < child->kill_ns) return child->kill_ns;
    end_task(child, task, LUMAP_OUTCOME_DEADLINE, index);
    return LUMAP_FOREVER;
  default:
    return next;
  }
}

uint64_t lumap_offspring_check_time(lumap_offspring *child, uint64_t now_ns) {
  if (child->deadline_ns > now_ns) {
    uint64_t next = watch_item(child, now_ns);
    return next < child->deadline_ns ? next : child->deadline_ns;
  }
  switch (child->state) {
  case LUMAP_CHILD_STARTING:
    condemn(child, "has not answered in time");
    break;
  case LUMAP_CHILD_LEAVING:
    condemn(child, "did not end in time");
    break;
  case LUMAP_CHILD_DYING:
    if (child->watch >= 0 && !child->cause[0]) snprintf(child->cause, sizeof child->cause, "cannot be killed");
    bury(child, child->watch < 0);
    break;
  default:
    child->deadline_ns = LUMAP_FOREVER;
  }
  return child->deadline_ns;
}
