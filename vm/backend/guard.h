/* SPDX-License-Identifier: MIT
 *
 * guard.h - a thread that looks after a crew: at the times that it has been told, and whenever it is rung.
 *
 * It is started when it is needed first, so that a crew without time limits has none. What there is to look at is its
 * user's business.
 */
#ifndef LUMAP_BACKEND_GUARD_H
#define LUMAP_BACKEND_GUARD_H

#include <pthread.h>

#include "backend/watch.h"
#include "os/os.h"

typedef struct lumap_guard {
  /* Fixed. */
  uint64_t (*look)(void *self, uint64_t now_ns); /* does what is due; when to look again, LUMAP_FOREVER for when rung */
  void *self;

  /* Any thread. */
  lumap_event bell;
  _Atomic uint64_t due_ns; /* when it will look, LUMAP_FOREVER: when it is rung, or it looks right now */
  atomic_bool ending;

  /* The lock, which is held for the start alone. */
  pthread_mutex_t lock;
  bool started;
  unsigned long thread;
} lumap_guard;

void lumap_guard_init(lumap_guard *guard, uint64_t (*look)(void *self, uint64_t now_ns), void *self);

/* Has the guard look at `due_ns` at the latest. Any thread, with no lock held. Fails only when it cannot be started. */
lumap_status lumap_guard_need(lumap_guard *guard, uint64_t due_ns, lumap_error *error);

/* Has it time a task of the call that begins right now. For a call without limits this does nothing. */
lumap_status lumap_guard_watch(lumap_guard *guard, const lumap_call *call, lumap_error *error);

/* Waits for the guard's end. From then on need does nothing. */
void lumap_guard_end(lumap_guard *guard);
void lumap_guard_deinit(lumap_guard *guard);

#endif
