/* SPDX-License-Identifier: MIT
 *
 * task.h - what travels between a caller and its workers: calls, their logs, and tasks. Bytes and numbers, no Lua.
 *
 *   call   one parallel.map (or submit, each...). Has a log and tasks. Counted: the caller holds it, and each task.
 *   log    what workers must know before the items make sense (the function, its upvalues, classes, globals), as
 *          entries that the caller appends and each worker reads once, in order. An entry is never changed.
 *   task   a chunk of consecutive items. The payload holds the items on the way to the worker, the results on the way
 *          back, in the same memory where that fits.
 *
 * Threads: a call's log is appended by the caller's thread only. A task names how many entries it needs; handing the
 * task over (under the pool's lock) publishes them, so a worker walks the list up to that number without a lock.
 */
#ifndef LUMAP_BACKEND_TASK_H
#define LUMAP_BACKEND_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/status.h"

/* What the bytes of a payload are. */
typedef enum lumap_payload {
  LUMAP_PAYLOAD_NONE,   /* nothing: results that were dropped, or the items of a range */
  LUMAP_PAYLOAD_F64,    /* count doubles, host byte order */
  LUMAP_PAYLOAD_I64,    /* count 64-bit integers, host byte order */
  LUMAP_PAYLOAD_VALUES, /* values as codec/FORMAT.md describes */
} lumap_payload;

typedef enum lumap_outcome {
  LUMAP_OUTCOME_DONE,      /* the payload tells results and errors of the first `done` items */
  LUMAP_OUTCOME_CANCELLED, /* not begun, or ended with its call: then `error` tells of it, and `died_index` of the item
                              that ran */
  LUMAP_OUTCOME_DIED,      /* the worker ended while it ran item `died_index` (0: it had begun none) */
  LUMAP_OUTCOME_MEMORY,    /* the worker's state ran out of memory at item `died_index` */
  LUMAP_OUTCOME_INIT,      /* the state could not be made ready, so no item was run: the payload tells the error */
  LUMAP_OUTCOME_START,     /* the worker could not be started: `error` tells why */
  LUMAP_OUTCOME_TIMEOUT,   /* item `died_index` ran for longer than its call allows, and was ended */
  LUMAP_OUTCOME_DEADLINE,  /* the call's time was over before the task was done; `died_index` as for DIED */
} lumap_outcome;

typedef enum lumap_task_kind {
  LUMAP_TASK_CHUNK,
  LUMAP_TASK_END, /* a call is over: drop what is kept for it. Has a call_id and no call. Call 0: the worker has had
                     nothing to do for a while, and may give back what it does not need */
} lumap_task_kind;

typedef struct lumap_log_entry {
  struct lumap_log_entry *next;
  lumap_bytes bytes;
} lumap_log_entry;

typedef struct lumap_call {
  atomic_uint references;
  uint32_t id;                /* unique within a pool, never zero */
  uint64_t timeout_ns;        /* how long an item may run; 0: any time. Fixed before the first task */
  uint64_t deadline_ns;       /* lumap_clock_ns at which all must be done; 0: never. Fixed before the first task */
  _Atomic uint64_t stop_from; /* items from this index on are not begun any more; UINT64_MAX: all may be */
  atomic_bool ended;          /* items that run are to be ended, too; set after `stop_from` */
  lumap_log_entry *log_first, *log_last;
  uint32_t log_count;
  void (*free)(struct lumap_call *call); /* frees what embeds this struct; set by lumap_call_init to nothing */
} lumap_call;

typedef struct lumap_task {
  lumap_link link; /* whoever holds the task */
  lumap_task_kind kind;
  uint32_t call_id;
  lumap_call *call; /* holds a reference */

  /* Set by the caller. */
  uint64_t first;        /* index of the first item, from 1 */
  uint64_t count;        /* items */
  uint32_t log_needed;   /* entries of the call's log that must be read before */
  uint32_t payload_kind; /* lumap_payload; the worker overwrites it with the kind of the results */
  lumap_bytes payload;

  /* Set by the worker or the back-end. */
  uint32_t outcome;    /* lumap_outcome */
  int32_t worker;      /* number of the worker that ran it, from 1; 0: none did */
  uint64_t done;       /* items finished or failed, from the first one on; fewer than count after a stop. Of a
                          task without results: those whose results lie in a buffer, see lumap_task_count_done */
  uint64_t stops_from; /* an item before this one failed, and ends its call: see lumap_task_tell_stop. 0: none */
  uint64_t started_ns, ended_ns; /* lumap_clock_ns of the worker's machine */
  uint64_t decode_ns, encode_ns; /* of that, spent on decoding items and encoding results */
  uint64_t died_index;
  int32_t died_signal; /* 0: it exited */
  int32_t died_exit;   /* -1 with died_signal 0: unknown, or a thread that was given up */
  bool given_up;       /* a stand-in for the task of a thread that does not end */
  lumap_error error;

  /* Set by the pool. */
  bool is_hopeless; /* no worker can make itself ready, the last one not for this task */

  /* The executor's own. */
  uint64_t most; /* items that it runs of those, since its state is spent then; 0: all */
  bool is_last;  /* the worker has run as many items as it shall: not only its state is to be made anew */

  /* The process back-end's own. */
  uint32_t turn; /* which task of the child's life it is, from 1 */
} lumap_task;

/* The part of a worker that both sides see at any time; in shared memory for a process. */
typedef struct lumap_control {
  _Atomic uint64_t index;     /* the item that runs, 0 between tasks. Written by the worker, one plain store an item */
  _Atomic uint64_t stop_call; /* the worker begins no new item of this call; LUMAP_STOP_ALL: of any. Second, and a word
                                 as wide as `index`: stdlib/parallel/loops.lua reads it there */
  _Atomic uint64_t stop_from; /* of that call: items from this index on; those before it go on */
  _Atomic uint64_t turns;     /* process: which task was begun, which were taken back. See lumap_control_begin */
  _Atomic uint32_t call;      /* id of the call whose task runs, 0 between tasks. Written by the worker */
  _Atomic uint64_t failed;    /* the first item of the task that has failed, 0: none has. Written by the worker, if
                                 results go to a buffer */
  unsigned char padding[16];  /* a cache line of its own */
} lumap_control;

#define LUMAP_STOP_ALL UINT32_MAX

/* Makes the log empty and the count of references one. */
void lumap_call_init(lumap_call *call, uint32_t id);
void lumap_call_acquire(lumap_call *call);
/* The last release frees the log, then calls call->free. NULL is fine. */
void lumap_call_release(lumap_call *call);
/* Appends an entry, taking the contents of `bytes`, which is empty afterwards. False when there is no memory: then
 * nothing is changed. Caller's thread. */
bool lumap_call_append(lumap_call *call, lumap_bytes *bytes);

/* Makes a task that holds a reference to `call` (may be NULL), zeroed but for the memory of its payload, which is the
 * one thing that it may have, and empty. */
void lumap_task_init(lumap_task *task, lumap_task_kind kind, lumap_call *call);
/* Drops the reference and what the payload refers to, and empties the payload, whose memory stays. */
void lumap_task_clear(lumap_task *task);

/* A zeroed task that holds a reference to `call` (may be NULL), or NULL when there is no memory. */
lumap_task *lumap_task_new(lumap_task_kind kind, lumap_call *call);
/* Frees the payload and drops the reference. NULL is fine. */
void lumap_task_free(lumap_task *task);

/* Shall item `index` of the call not begin? */
static inline bool lumap_control_is_stopped(const lumap_control *control, uint32_t call_id, uint64_t index) {
  /* Sequential order: see lumap_seat_run. */
  uint64_t stop = atomic_load(&control->stop_call);
  if (stop == 0) return false;
  return stop == LUMAP_STOP_ALL ||
         (stop == call_id && index >= atomic_load_explicit(&control->stop_from, memory_order_relaxed));
}

/* The worker's side: item `index` begins. False: it shall not. The index is written first and then the request looked
 * at, so that who makes one, then has lumap_memory_barrier_all make all processors agree, and still finds the index as
 * it was, knows that no later item will begin. The compiler must keep that order; the processor's is the other side's
 * business, so that an item costs no barrier. Release: if this worker is given up in the item, whoever reads its number
 * sees what the ones before it stored in shared memory. */
static inline bool lumap_control_begin_item(lumap_control *control, uint32_t call_id, uint64_t index) {
  atomic_store_explicit(&control->index, index, memory_order_release);
  atomic_signal_fence(memory_order_seq_cst);
  return !lumap_control_is_stopped(control, call_id, index);
}

/* ---- who has a task: the child that begins it, or the parent that takes it back ----
 *
 * The parent numbers the tasks of a child's life from 1 on; frames carry the number, `turn`. Both sides move one word:
 *
 *      63                    32 31                     0
 *     +------------------------+------------------------+
 *     | turn of the task that  | bit (turn % 32): taken |
 *     | was begun last         | back, not yet read     |
 *     +------------------------+------------------------+
 *
 * Only equality is asked for, so turns may wrap around.
 */

static inline uint32_t lumap_control_begun(const lumap_control *control) {
  return (uint32_t)(atomic_load(&control->turns) >> 32);
}

/* The child's side, at the first byte of a task. False: the parent has taken it back; its bytes are to be dropped. */
static inline bool lumap_control_begin(lumap_control *control, uint32_t turn) {
  const uint64_t bit = UINT64_C(1) << turn % 32;
  uint64_t turns = atomic_load(&control->turns), next;
  do
    next = turns & bit ? turns & ~bit : (uint64_t)turn << 32 | (turns & UINT32_MAX);
  while (!atomic_compare_exchange_weak(&control->turns, &turns, next));
  return !(turns & bit);
}

/* The parent's side, for the task that it has sent last, and only if the child will see a byte of it: who sees none
 * leaves the bit for another task. False: the child has begun it (or 32 turns ago there is one that it has not read).
 */
static inline bool lumap_control_revoke(lumap_control *control, uint32_t turn) {
  const uint64_t bit = UINT64_C(1) << turn % 32;
  uint64_t turns = atomic_load(&control->turns);
  do
    if (turns >> 32 == turn || turns & bit) return false;
  while (!atomic_compare_exchange_weak(&control->turns, &turns, turns | bit));
  return true;
}

/* Of a task that has no results, and whose `died_index` is set: counts what is done for all that, if its results went
 * to a buffer. That is what came before the item that ran, and before the first one that failed, whose error is lost
 * with the results. */
void lumap_task_count_done(lumap_task *task, const lumap_control *control);

/* The call's items from `index` on are not begun any more. Any thread. */
void lumap_call_stop_from(lumap_call *call, uint64_t index);

/* Makes the failure of a task that is done end its call, for all who share the call's memory. Not before its results
 * are on their way: what others then give back as cancelled shall not come before the reason. */
void lumap_task_tell_stop(const lumap_task *task);

#endif
