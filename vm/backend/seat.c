/* SPDX-License-Identifier: MIT
 *
 * seat.c - one worker's state: made when needed, used, thrown away. See seat.h.
 */
#include "backend/seat.h"

#include <stddef.h>

#include "os/os.h"

lumap_status lumap_seat_open(lumap_seat *seat, lumap_error *error) {
  lumap_status status;
  if (seat->self) return LUMAP_E_OK;
  status = seat->executor->open(seat->setup, seat->host, seat->number, seat->control, &seat->self, error);
  if (status != LUMAP_E_OK && error->status == LUMAP_E_OK)
    lumap_error_set(error, status, "%s", lumap_status_text(status));
  return status;
}

void lumap_task_fail_start(lumap_task *task, int number) {
  task->outcome = LUMAP_OUTCOME_START;
  task->worker = number;
  task->done = 0;
  task->started_ns = task->ended_ns = lumap_clock_ns();
}

void lumap_task_fail_died(lumap_task *task, int number, uint64_t index, int signal_number, int exit_code) {
  task->outcome = LUMAP_OUTCOME_DIED;
  task->worker = number;
  task->done = 0;
  task->ended_ns = lumap_clock_ns();
  task->died_index = index == 0 || (index >= task->first && index - task->first < task->count) ? index : task->first;
  task->died_signal = signal_number;
  task->died_exit = exit_code;
}

void lumap_task_fail_timeout(lumap_task *task, int number, uint64_t index) {
  lumap_task_fail_died(task, number, index, 0, 0);
  task->outcome = LUMAP_OUTCOME_TIMEOUT;
  lumap_error_set(&task->error, LUMAP_E_TIMEOUT, "it ran for longer than its timeout of %g seconds",
                  (double)task->call->timeout_ns / 1e9);
}

void lumap_task_fail_deadline(lumap_task *task, int number, uint64_t index) {
  lumap_task_fail_died(task, number, index, 0, 0);
  task->outcome = LUMAP_OUTCOME_DEADLINE;
  lumap_error_set(&task->error, LUMAP_E_TIMEOUT, "the call's deadline passed before it was done");
}

bool lumap_seat_run(lumap_seat *seat, lumap_task *task) {
  bool usable = true;
  /* Sequential order, as the pool's: it asks for a stop and then looks here, the worker writes here and then looks
   * whether a stop is asked for. In any weaker order each could miss the other, and the item would never be ended. */
  atomic_store_explicit(&seat->control->failed, 0, memory_order_relaxed);
  atomic_store(&seat->control->call, task->call_id);
  if (task->call && task->call->deadline_ns && lumap_clock_ns() >= task->call->deadline_ns) {
    lumap_task_fail_deadline(task, seat->number, 0);
  } else if (lumap_seat_open(seat, &task->error) != LUMAP_E_OK) {
    lumap_task_fail_start(task, seat->number);
  } else {
    task->worker = seat->number;
    /* The handler runs on this very thread, so relaxed order is enough for the machine; the fences stop the compiler
     * from moving run() out of the bracket. */
    atomic_store_explicit(&seat->running, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    usable = seat->executor->run(seat->self, task);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&seat->running, false, memory_order_relaxed);
  }
  return usable;
}

void lumap_seat_rest(lumap_seat *seat) {
  atomic_store_explicit(&seat->control->index, 0, memory_order_relaxed);
  atomic_store_explicit(&seat->control->call, 0, memory_order_relaxed);
}

void lumap_seat_forget(lumap_seat *seat, uint32_t call_id) {
  if (seat->self) seat->executor->forget(seat->self, call_id);
}

void lumap_seat_close(lumap_seat *seat) {
  void *self = seat->self;
  seat->self = NULL;
  if (self) seat->executor->close(self);
}

void lumap_seat_interrupt(lumap_seat *seat, const void *context) {
  if (atomic_load_explicit(&seat->running, memory_order_relaxed)) seat->executor->interrupt(seat->self, context);
}
