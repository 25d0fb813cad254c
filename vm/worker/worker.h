/* SPDX-License-Identifier: MIT
 *
 * worker.h - what runs in a worker: a state of its own, in which stdlib/parallel/worker.lua runs tasks.
 *
 * The executor is all that others need; it is handed to the runtime, which hands it to its pools. A worker's state is
 * used by the worker's thread only.
 */
#ifndef LUMAP_WORKER_WORKER_H
#define LUMAP_WORKER_WORKER_H

#include "backend/backend.h"

extern const lumap_executor lumap_worker_executor;

/* The same for workers that are copies of the caller's process (back-end "fork"): its host is a lumap_copy_host. */
extern const lumap_executor lumap_copy_executor;

#endif
