/* SPDX-License-Identifier: MIT
 *
 * offspring.h - one worker process as its parent sees it: born, fed, heard, mourned, born again.
 *
 * process.c decides which worker gets which task and waits for events; what happens between the parent and one child
 * is here. The struct is a place for one child after another: the worker keeps its number and its control block.
 * All functions are for the crew's reactor thread, but for open and close. They call the feed, and hold no lock.
 *
 *               give()              GREETING, READY                leave()
 *     ABSENT  ---------> STARTING ------------------> SERVING ------------------> LEAVING
 *        ^                  |            condemn()       |          or last words    |
 *        |   its end        v                            v                           |
 *        +----------------  DYING  <-----------------------------------------------+
 *
 * What becomes of the tasks that a child held when it ended (oldest first; results that it had written count, they
 * are read to the last byte before this is decided):
 *   - it never became ready, and no signal of somebody else's killed it: the oldest is finished as
 *     LUMAP_OUTCOME_START, with what the child or the system said;
 *   - it had begun the oldest, whose turn is then the one that the control block names since the first byte of the task
 *     was read: LUMAP_OUTCOME_DIED at the index in the control block, which is 0 if the child was killed while it
 *     read the task. A result that is half written belongs here;
 *   - it had not: given back, as all the others are. But the third child in a row that ends without one result has its
 *     oldest task finished as LUMAP_OUTCOME_DIED, so that work which kills from afar cannot turn in a circle;
 *   - it was stopped: LUMAP_OUTCOME_DIED if begun, else LUMAP_OUTCOME_CANCELLED, and nothing is given back;
 *   - it was killed to end the task that it ran (its call was cancelled, its item or call was over its time): that one
 *     is finished as LUMAP_OUTCOME_CANCELLED, TIMEOUT or DEADLINE. Any other is given back (if it was stopped, too: as
 *     above), even if it was begun by the time the kill arrived: it is not its fault, and the items are still here.
 *
 * A task that was taken back is none that the child holds: nothing above concerns it. Its turn was never begun and
 * never will be, so it cannot be mistaken for the oldest one, whether the child has read it away or not.
 */
#ifndef LUMAP_BACKEND_OFFSPRING_H
#define LUMAP_BACKEND_OFFSPRING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backend/backend.h"
#include "backend/frame.h"
#include "backend/outbox.h"
#include "backend/watch.h"

/* The time limits of a child's life, in one place. */
enum {
  LUMAP_CHILD_GREETING_MS = 20000, /* from its start to its first frame; a program that is no worker says nothing */
  LUMAP_CHILD_LEAVE_MS = 2000,     /* from the end of its channel to SIGKILL */
  LUMAP_CHILD_DEADLINE_MS = 10,    /* from its call's deadline to SIGKILL */
  LUMAP_CHILD_DIE_MS = 2000,       /* from SIGKILL to not waiting for it any more (stuck in the kernel) */
};

typedef enum lumap_offspring_state {
  LUMAP_CHILD_ABSENT,
  LUMAP_CHILD_STARTING,
  LUMAP_CHILD_SERVING,
  LUMAP_CHILD_LEAVING,
  LUMAP_CHILD_DYING,
} lumap_offspring_state;

typedef struct lumap_offspring {
  /* Fixed while the crew is open. */
  lumap_crew *crew;
  lumap_worker *worker;
  int control_memory; /* descriptor of what worker->control maps */
  int poll;           /* epoll: borrowed */
  uint32_t place;     /* among the crew's children: comes back in event tags */

  /* One child's life; reset by its end. */
  lumap_offspring_state state;
  pid_t process;
  int watch; /* pidfd, or -1: then only the channel's end tells of the child's */
  int channel;
  uint64_t deadline_ns; /* when lumap_offspring_check_time has something to do */
  bool ready;           /* READY came */
  bool deaf;            /* nothing more is read: end of file, or damage */
  bool wants_write, stopped;
  uint32_t ended_turn;    /* it was killed to end this task; 0: it was not */
  lumap_outcome ended_as; /* that task's outcome */
  uint64_t ended_index;   /* the item that was over its time */
  char cause[400];        /* why it was condemned, or what it said last; "": its end tells */
  lumap_error last_words;
  lumap_frame_reader reader;
  lumap_outbox outbox;
  uint32_t results;       /* results that came */
  uint64_t last_task_ns;  /* how long its last task took; UINT64_MAX: none yet, or what it runs now is slow */
  lumap_watch item_watch; /* of the item that runs */
  uint64_t kill_ns;       /* when a task whose call is over its time is ended; 0: none is */

  /* Across lives. */
  uint32_t generation; /* tells events of this child from those of the one before */
  uint32_t barren;     /* lives in a row that ended without a result */
} lumap_offspring;

/* The two sources of events of a child, as tags for epoll. */
enum { LUMAP_OFFSPRING_CHANNEL = 0, LUMAP_OFFSPRING_PROCESS = 1 };

/* Makes an empty place with a control block. What fails leaves a place that close accepts, as zeroed memory does (with
 * descriptors of -1). */
lumap_status lumap_offspring_open(lumap_offspring *child, lumap_crew *crew, int index, int poll, lumap_error *error);
/* In a copy of this process: closes the descriptors, and there is no child. The control block stays mapped, but is the
 * worker's no more: who cancels the call here must not stop the caller's workers. */
void lumap_offspring_abandon(lumap_offspring *child);
/* Frees. No child must be there. */
void lumap_offspring_close(lumap_offspring *child);

/* True when the child may be given a chunk while it holds `held` others. ABSENT counts: it will be started. */
bool lumap_offspring_may_take(const lumap_offspring *child, uint32_t held);

/* How many chunks the child should hold. */
uint32_t lumap_offspring_window(const lumap_offspring *child);

/* Takes `task`, of either kind. If there is no child one is started; false when that failed (the task is finished
 * then). */
bool lumap_offspring_give(lumap_offspring *child, lumap_task *task);

/* Takes back the chunk that waits in the channel behind another one, which may be slow, or wait for this very chunk.
 * The caller's then, who gives it back to the feed; the child holds one fewer, and gets no second one until its next
 * result. NULL: none waits (any more), or there is no memory to take back a chunk that is half sent. */
lumap_task *lumap_offspring_revoke(lumap_offspring *child);

/* Acts on calls that were cancelled: takes back a chunk that has not begun, asks for the end of one that has between
 * two items, and kills the child if the call was ended. To be called after each result, too: then the next one begins.
 */
void lumap_offspring_heed(lumap_offspring *child);

/* Something happened to the event source `kind` of life `generation`. */
void lumap_offspring_handle(lumap_offspring *child, uint32_t generation, int kind);

/* Half-closes the channel: the child ends by itself. It must hold nothing. */
void lumap_offspring_leave(lumap_offspring *child);

/* Kills the child as part of stop(). */
void lumap_offspring_stop(lumap_offspring *child);

/* Does what is due at `now_ns` (the child's own time limits, and those of the item that it runs), and returns when to
 * come again: LUMAP_FOREVER for never. */
uint64_t lumap_offspring_check_time(lumap_offspring *child, uint64_t now_ns);

#endif
