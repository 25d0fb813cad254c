/* SPDX-License-Identifier: MIT
 *
 * watch.h - tells when an item has run for longer than its call allows. Pure: it gets the time and what the worker's
 * control block says, and keeps what it saw last.
 *
 * A worker stores the index of each item that it begins, and nothing else: an item is timed from the first look that
 * finds its index. So it costs the worker nothing, no item is ended before its time, and one that is over its time is
 * found at most one interval later.
 */
#ifndef LUMAP_BACKEND_WATCH_H
#define LUMAP_BACKEND_WATCH_H

#include "backend/task.h"

typedef struct lumap_watch {
  uint64_t run, index, since_ns;
} lumap_watch;

typedef enum lumap_verdict {
  LUMAP_WITHIN_LIMITS,
  LUMAP_OVER_TIMEOUT,  /* the item has run for longer than one item may */
  LUMAP_OVER_DEADLINE, /* the call's time is over */
} lumap_verdict;

static inline bool lumap_call_has_limits(const lumap_call *call) {
  return call->timeout_ns || call->deadline_ns;
}

/* How long after the beginning of a task of the call the first look is due. */
uint64_t lumap_watch_interval(const lumap_call *call);

/* Looks at a worker that runs item `index` (0: none yet) of a task of `call`. `run` is another number for each task
 * that the worker runs. `*next_ns` becomes when to look again: LUMAP_FOREVER for a call without limits. */
lumap_verdict lumap_watch_look(lumap_watch *watch, const lumap_call *call, uint64_t run, uint64_t index,
                               uint64_t now_ns, uint64_t *next_ns);

#endif
