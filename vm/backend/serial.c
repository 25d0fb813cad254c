/* SPDX-License-Identifier: MIT
 *
 * serial.c - the back-end whose workers are the caller: each pump runs one task on the thread that calls it.
 *
 * Items still run in a state of their own, never in the caller's, so that a program means the same here as on threads.
 * Only the pool's user enters, and nothing runs between its calls. One ward, number 1, serves the whole crew, however
 * many workers it is said to have. A guard times the items of calls with limits and ends them by signal, where the host
 * allows one; a C function that does not return cannot be given up here, since it is on the caller's own stack.
 */
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/guard.h"
#include "backend/ward.h"

typedef struct serial_crew {
  lumap_ward ward;
  lumap_guard guard;
  bool pumping; /* a pump is on the stack: its item called back into the pool */
} serial_crew;

static uint64_t look(void *self, uint64_t now_ns) {
  serial_crew *own = self;
  lumap_task *standin;
  uint64_t next;
  lumap_ward_look(&own->ward, now_ns, &next, &standin);
  return next;
}

static lumap_status serial_open(lumap_crew *crew, lumap_error *error) {
  serial_crew *own = aligned_alloc(alignof(serial_crew), sizeof *own);
  if (!own || !lumap_ward_init(&own->ward, crew, &crew->workers[0], crew->setup)) {
    if (own) lumap_ward_deinit(&own->ward);
    free(own);
    return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for a worker");
  }
  lumap_guard_init(&own->guard, look, own);
  own->pumping = false;
  if (crew->stop_signal) own->ward.stop_signal = lumap_ward_choose_signal();
  crew->own = own;
  for (int i = 0; i < crew->worker_count; i++)
    crew->workers[i].control = &own->ward.control;
  return LUMAP_E_OK;
}

/* Asks for each worker in turn: they are all the same seat, but each has a mailbox. */
static lumap_task *next_task(lumap_crew *crew, lumap_worker **worker) {
  lumap_task *task = NULL;
  for (int i = 0; i < crew->worker_count && !task; i++) {
    *worker = &crew->workers[i];
    task = crew->feed.take(crew->feed.self, *worker, false);
  }
  return task;
}

static bool run(serial_crew *own, lumap_task *task) {
  bool usable = true;
  if (lumap_guard_watch(&own->guard, task->call, &task->error) != LUMAP_E_OK) {
    lumap_task_fail_start(task, own->ward.number);
  } else {
    usable = lumap_ward_run(&own->ward, task);
    lumap_seat_rest(&own->ward.seat);
  }
  return usable;
}

static bool serial_pump(lumap_crew *crew) {
  serial_crew *own = crew->own;
  lumap_worker *worker = NULL;
  bool usable = true;
  lumap_task *task;
  /* The state is busy with an item that is further down on this very stack. A second one would wait for nothing. */
  if (own->pumping) return false;
  task = next_task(crew, &worker);
  if (!task) return false;

  own->pumping = true;
  lumap_ward_begin(&own->ward, task);
  if (task->kind == LUMAP_TASK_END)
    lumap_seat_forget(&own->ward.seat, task->call_id);
  else
    usable = run(own, task);
  lumap_ward_settle(&own->ward);
  if (!usable) lumap_seat_close(&own->ward.seat);
  own->pumping = false;
  if (task->kind == LUMAP_TASK_END)
    lumap_task_free(task);
  else
    crew->feed.finish(crew->feed.self, worker, task);
  return true;
}

/* What runs is below on the stack of whoever calls this, so all that can be done is to begin nothing new. */
static void serial_stop(lumap_crew *crew) {
  serial_crew *own = crew->own;
  atomic_store(&own->ward.control.stop_call, LUMAP_STOP_ALL);
}

static void serial_close(lumap_crew *crew) {
  serial_crew *own = crew->own;
  lumap_guard_end(&own->guard);
  lumap_guard_deinit(&own->guard);
  lumap_seat_close(&own->ward.seat);
  lumap_ward_deinit(&own->ward);
  free(own);
  crew->own = NULL;
}

const lumap_backend lumap_backend_serial = {
    .name = "serial",
    .open = serial_open,
    .pump = serial_pump,
    .stop = serial_stop,
    .close = serial_close,
};
