/* SPDX-License-Identifier: MIT
 *
 * outbox.h - the tasks that one worker process has been given, and the frames that bring them to it.
 *
 *     add() --> unsent --> sent --> its result is here: take_answered()
 *                  \_________\____> revoke(): taken back, as long as the child has not begun it
 *
 * Chunks keep their order: results come in the order in which chunks were added. Ahead of a chunk go the entries of its
 * call's log that this child has not got yet; ahead of everything goes the greeting that opens its state.
 *
 * Each chunk gets a turn, a number that counts from 1. The child names it in its control block before it begins, which
 * is what revoke() and the rule of death (offspring.h) go by.
 *
 * Threads: the crew's reactor alone. Nothing here blocks or calls the feed.
 */
#ifndef LUMAP_BACKEND_OUTBOX_H
#define LUMAP_BACKEND_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "backend/frame.h"

/* What the child has got of one call's log. */
typedef struct lumap_outbox_log {
  uint32_t call_id;
  uint32_t sent;         /* entries */
  lumap_log_entry *last; /* the last one of them; alive as long as the call has tasks */
} lumap_outbox_log;

/* Zero-initialised is empty. */
typedef struct lumap_outbox {
  bool hello_due; /* the first frame of a child that is to open a state: set it, and it goes */
  uint32_t held;  /* chunks that are unsent or sent, but for the husk */

  /* Its own. */
  lumap_frame_writer writer;
  bool writing;      /* the writer is in a frame */
  lumap_list unsent; /* tasks on their way; the writer is at the first one (or at a log entry before it) */
  lumap_list sent;   /* chunks whose results are awaited */
  lumap_task *husk;  /* first of `unsent`, in the place of a task that was taken back in the middle of a frame */
  uint32_t turn;     /* of the chunk that was added last */
  uint32_t shown;    /* turn of the last chunk of which a frame was begun */
  lumap_outbox_log *logs;
  uint32_t log_count, log_capacity;
} lumap_outbox;

/* Makes an empty one ready for another child. */
void lumap_outbox_reset(lumap_outbox *box);
/* Frees what an empty one has. */
void lumap_outbox_deinit(lumap_outbox *box);

/* Has the child got anything of the call? If not, it needs no END. */
bool lumap_outbox_knows(lumap_outbox *box, uint32_t call_id);

/* Takes a task of either kind; the outbox holds it until it is taken out again, or, an END, until it is written. False
 * without memory: the task stays the caller's. */
bool lumap_outbox_add(lumap_outbox *box, lumap_task *task);

/* Writes what is due to `worker`'s channel, in `steps` system calls at most. LUMAP_FRAME_WHOLE: all of it is written;
 * _PART and _BLOCKED: there is more; _CLOSED and _FAILED as lumap_frame_write. */
lumap_frame_step lumap_outbox_write(lumap_outbox *box, const lumap_crew *crew, const lumap_worker *worker, int channel,
                                    int steps, lumap_error *error);

/* Nothing is to be written, and no result is awaited. */
bool lumap_outbox_is_empty(const lumap_outbox *box);

/* The chunk that was added first, or last. NULL: there is none. */
lumap_task *lumap_outbox_oldest(const lumap_outbox *box);
lumap_task *lumap_outbox_newest(const lumap_outbox *box);

/* Takes the newest chunk back, the caller's then. NULL: there is none, it has begun, or there is no memory to take back
 * one that is half written. */
lumap_task *lumap_outbox_revoke(lumap_outbox *box, lumap_control *control);

/* The chunk whose result comes next; NULL: none is awaited. */
lumap_task *lumap_outbox_awaited(const lumap_outbox *box);
/* Takes that one out, the caller's then. */
lumap_task *lumap_outbox_take_answered(lumap_outbox *box);

/* The child is gone: takes all chunks out, oldest first, the caller's then, and frees the rest. How many there are: at
 * most LUMAP_PROCESS_WINDOW, as `held` tells. */
int lumap_outbox_empty(lumap_outbox *box, lumap_task *chunks[LUMAP_PROCESS_WINDOW]);

#endif
