/* SPDX-License-Identifier: MIT
 *
 * serial.c - the back-end whose workers are the caller: each pump runs one task on the thread that calls it.
 *
 * Items still run in a state of their own, never in the caller's, so that a program means the same here as on threads.
 * Only the pool's user enters, and nothing runs between its calls; so there is no lock. One seat, number 1,
 * serves the whole crew, however many workers it is said to have.
 */
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/seat.h"
#include "base/bytes.h"

typedef struct serial_crew {
  lumap_control control;
  lumap_seat seat;
  bool pumping; /* a pump is on the stack: its item called back into the pool */
} serial_crew;

static lumap_status serial_open(lumap_crew *crew, lumap_error *error) {
  serial_crew *own = calloc(1, sizeof *own);
  if (!own) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory for a worker");
  own->seat.executor = crew->executor;
  own->seat.setup = crew->setup;
  own->seat.host = crew->host;
  own->seat.number = 1;
  own->seat.control = &own->control;
  crew->own = own;
  for (int i = 0; i < crew->worker_count; i++)
    crew->workers[i].control = &own->control;
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
  if (task->kind == LUMAP_TASK_END) {
    lumap_seat_forget(&own->seat, task->call_id);
  } else {
    usable = lumap_seat_run(&own->seat, task);
    lumap_seat_rest(&own->seat);
  }
  if (!usable) lumap_seat_close(&own->seat);
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
  atomic_store_explicit(&own->control.stop_call, LUMAP_STOP_ALL, memory_order_relaxed);
}

static void serial_close(lumap_crew *crew) {
  serial_crew *own = crew->own;
  lumap_seat_close(&own->seat);
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
