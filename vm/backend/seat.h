/* SPDX-License-Identifier: MIT
 *
 * seat.h - where one worker sits: an executor's state that is made when it is needed, runs tasks, and is thrown away
 * when it is spent. What the back-ends and the child have in common; it knows no feed, no thread, no channel.
 *
 * One thread uses a seat, with the exception of lumap_seat_interrupt, which signal handlers on that thread call.
 * The struct is its user's memory; what its fields point to is borrowed.
 */
#ifndef LUMAP_BACKEND_SEAT_H
#define LUMAP_BACKEND_SEAT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "backend/backend.h"

typedef struct lumap_seat {
  /* Fixed. */
  const lumap_executor *executor;
  const lumap_bytes *setup;
  void *host;
  int number;
  lumap_control *control;

  /* The worker's thread. */
  void *self; /* NULL: no state */

  /* The worker's thread, and signal handlers that run on it. */
  atomic_bool running; /* executor->run is on the stack */
} lumap_seat;

/* Makes a state if there is none. `error` is not NULL, and empty before. */
lumap_status lumap_seat_open(lumap_seat *seat, lumap_error *error);

/* Runs `task` and names it in the control block. Makes a state if there is none; if that fails the task gets
 * LUMAP_OUTCOME_START. False: the state is spent, and lumap_seat_close must follow before the next task. */
bool lumap_seat_run(lumap_seat *seat, lumap_task *task);

/* Clears call and index in the control block: what run left there holds until its results are safe. */
void lumap_seat_rest(lumap_seat *seat);

/* The call is over. */
void lumap_seat_forget(lumap_seat *seat, uint32_t call_id);

/* Drops the state. None is fine. */
void lumap_seat_close(lumap_seat *seat);

/* In a signal handler on the seat's thread: ends the item that runs. Nothing happens when none does, so that a signal
 * that comes late raises no error in the pool's code. `context` as the executor's interrupt takes it. */
void lumap_seat_interrupt(lumap_seat *seat, const void *context);

/* Makes `task` one that failed because worker `number` could not be started. `task->error` tells why: the caller's. */
void lumap_task_fail_start(lumap_task *task, int number);

/* Makes `task` one whose worker `number` ended while item `index` ran. An index that is none of the task's counts as
 * its first item, so that whoever runs the rest again always gets ahead; 0 stays: no item had begun. `task->error`
 * tells why: the caller's. */
void lumap_task_fail_died(lumap_task *task, int number, uint64_t index, int signal_number, int exit_code);

/* Makes `task` one whose item `index` was over its time at worker `number`, or one that its call's deadline ended in
 * item `index`; the error says so. Of `index` the same is true. */
void lumap_task_fail_timeout(lumap_task *task, int number, uint64_t index);
void lumap_task_fail_deadline(lumap_task *task, int number, uint64_t index);

#endif
