/* SPDX-License-Identifier: MIT
 *
 * ward.h - a seat on a thread of this process, and how what runs there is ended from outside.
 *
 * A thread cannot be killed. So a run that must end - its item is over its time, its call is cancelled, its crew
 * stops - is doomed, and then somebody who looks again and again (guard.h, or stop()) goes up a ladder with it:
 *
 *     doomed --> signal, signal, ... --> given up
 *
 * The signal's handler runs on the ward's own thread and has the executor end the item from within. Who does not end
 * for all that is given up: a stand-in is finished in the place of its task, which is the thread's own from then on.
 *
 * Wards of one thread are nested: an item may use a serial pool, whose items then run further up on the same stack.
 * A signal that dooms a ward ends what runs in the wards within it, too.
 *
 * Threads: begin, settle and what lies between are for the ward's thread, the rest for any. The ward's lock is held for
 * a few instructions, and nothing is called under it that takes a lock.
 */
#ifndef LUMAP_BACKEND_WARD_H
#define LUMAP_BACKEND_WARD_H

#include <pthread.h>
#include <stdalign.h>

#include "backend/backend.h"
#include "backend/seat.h"
#include "backend/watch.h"
#include "os/os.h"

/* Why a run was doomed. */
typedef enum lumap_doom {
  LUMAP_DOOM_NONE,
  LUMAP_DOOM_STOP,     /* the crew stops */
  LUMAP_DOOM_CANCEL,   /* its call is cancelled */
  LUMAP_DOOM_TIMEOUT,  /* its item is over its time */
  LUMAP_DOOM_DEADLINE, /* its call is over its time */
  LUMAP_DOOM_CLOSING,  /* a state takes too long to close */
} lumap_doom;

typedef struct lumap_ward {
  /* A cache line of its own: the worker writes it once an item. */
  alignas(64) lumap_control control;

  /* Fixed after init, but by the ward's own thread between runs. */
  lumap_worker *worker; /* the pool's memory; not touched after the ward was given up */
  int number;
  int stop_signal;    /* 0: none is allowed */
  bool is_own_thread; /* the thread is there for the ward alone, and can be given up */
  lumap_seat seat;
  struct lumap_ward *outer; /* whose item we run within, on this thread */
  lumap_alarm alarm;        /* set while its thread itself has what runs ended */

  /* Atomic: the handler looks at them. */
  _Atomic uint32_t run;    /* number of the run, another one each time; 0: none */
  _Atomic uint32_t doomed; /* number of the run that must end; 0: none */

  /* The lock. */
  pthread_mutex_t lock;
  unsigned long thread;
  bool busy;        /* in the executor, with `task` or without */
  lumap_task *task; /* NULL: it is making or closing a state */
  uint32_t runs;
  uint64_t busy_since_ns;
  lumap_watch watch;
  lumap_doom doom; /* of what it is busy with */
  uint64_t doomed_index, next_signal_ns, pause_ns, give_up_ns;
  bool given_up;       /* set once, only while busy */
  lumap_task *standin; /* made at init, so that giving up cannot fail; NULL once used */
} lumap_ward;

/* Zeroes `ward`, which is aligned memory of the caller's, and makes it a place for worker `worker` of the crew with an
 * empty seat that borrows `setup`. False without memory: deinit it all the same. */
bool lumap_ward_init(lumap_ward *ward, const lumap_crew *crew, lumap_worker *worker, const lumap_bytes *setup);
void lumap_ward_deinit(lumap_ward *ward);

/* ---- the ward's thread ---- */

/* From here to settle the ward is busy, with `task` or (NULL) with its state. */
void lumap_ward_begin(lumap_ward *ward, lumap_task *task);
/* Makes the state if there is none, ahead of the first task. If that fails the task tries again, and hears of it. */
void lumap_ward_open(lumap_ward *ward);
/* Runs the task that it is busy with. As lumap_seat_run. */
bool lumap_ward_run(lumap_ward *ward, lumap_task *task);
/* Ends what begin began; a task whose run was doomed gets the outcome that follows. False: the ward was given up
 * meanwhile, and the task is the thread's own. */
bool lumap_ward_settle(lumap_ward *ward);

/* In a signal handler on a thread of wards: what runs there gets the stop signal again and again until it has ended,
 * as a single one may come where it is lost: in a C function that goes on in machine code. Without a ward, or a signal
 * that is allowed, nothing. */
void lumap_ward_insist(void);

/* ---- any thread ---- */

/* A real-time signal that nobody has a handler for, or 0. */
int lumap_ward_choose_signal(void);

/* Dooms what the ward is busy with, unless that is doomed already. `call_id` not 0: only a task of that call. True when
 * the ward is doomed now: then somebody must look. */
bool lumap_ward_doom(lumap_ward *ward, lumap_doom doom, uint32_t call_id);

/* Dooms a run that is over its time or whose call has ended; does the next step with one that is doomed. `*next_ns`
 * becomes the next time to look, LUMAP_FOREVER when nothing is due. True when the ward has been given up by this very
 * look: then `*standin` (may be NULL) is to be finished, and the thread belongs to nobody any more. */
bool lumap_ward_look(lumap_ward *ward, uint64_t now_ns, uint64_t *next_ns, lumap_task **standin);

bool lumap_ward_is_busy(lumap_ward *ward);

#endif
