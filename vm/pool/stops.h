/* SPDX-License-Identifier: MIT
 *
 * stops.h - what a worker is asked not to begin: items of a call that is cancelled, and the rest of a task that is cut
 * short. A worker's control block has one place for such a request. Knows no pool; all of it under the pool's lock.
 */
#ifndef LUMAP_POOL_STOPS_H
#define LUMAP_POOL_STOPS_H

#include "backend/backend.h"

/* Items of the call from index `from` on shall not begin at this worker. The request may not be granted: another call's
 * stays while the worker still acts on it. Of two for the same call both are meant, so what is to run no more is what
 * either names. */
void lumap_stops_request(lumap_worker *worker, uint32_t call_id, uint64_t from);

/* Asks the worker to end its task with the item that it runs, which is returned; 0: none of the call, or it was not to
 * be asked. */
uint64_t lumap_stops_cut(lumap_worker *worker, uint32_t call_id);

/* Has the task that was cut at this item come no further? */
bool lumap_stops_is_stuck(const lumap_worker *worker, uint32_t call_id, uint64_t index);

/* The worker has a task no longer: if it is the one that was cut, what the worker begins from now on runs, unless the
 * call was cancelled. Returns whether it is that task. */
bool lumap_stops_lift_cut(lumap_worker *worker, const lumap_task *task);

#endif
