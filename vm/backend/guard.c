/* SPDX-License-Identifier: MIT */
#include "backend/guard.h"

void lumap_guard_init(lumap_guard *guard, uint64_t (*look)(void *self, uint64_t now_ns), void *self) {
  *guard = (lumap_guard){.look = look, .self = self};
  atomic_init(&guard->due_ns, LUMAP_FOREVER);
  pthread_mutex_init(&guard->lock, NULL);
}

static void *guard_body(void *argument) {
  lumap_guard *guard = argument;
  while (!atomic_load(&guard->ending)) {
    uint32_t key = lumap_event_key(&guard->bell);
    uint64_t next;
    /* While it looks, whoever needs it rings, since what came up may have been looked at before. */
    atomic_store(&guard->due_ns, LUMAP_FOREVER);
    next = guard->look(guard->self, lumap_clock_ns());
    atomic_store(&guard->due_ns, next);
    if (!atomic_load(&guard->ending)) lumap_event_wait(&guard->bell, key, next);
  }
  return NULL;
}

lumap_status lumap_guard_need(lumap_guard *guard, uint64_t due_ns, lumap_error *error) {
  lumap_status status = LUMAP_E_OK;
  pthread_mutex_lock(&guard->lock);
  if (!guard->started && !atomic_load(&guard->ending)) {
    status = lumap_thread_start(&guard->thread, guard_body, guard, 0, error);
    guard->started = status == LUMAP_E_OK;
  }
  pthread_mutex_unlock(&guard->lock);
  if (status == LUMAP_E_OK && due_ns < atomic_load(&guard->due_ns)) lumap_event_signal(&guard->bell);
  return status;
}

lumap_status lumap_guard_watch(lumap_guard *guard, const lumap_call *call, lumap_error *error) {
  uint64_t due;
  if (!lumap_call_has_limits(call)) return LUMAP_E_OK;
  due = lumap_clock_ns() + lumap_watch_interval(call);
  if (call->deadline_ns && call->deadline_ns < due) due = call->deadline_ns;
  return lumap_guard_need(guard, due, error);
}

void lumap_guard_end(lumap_guard *guard) {
  bool started;
  pthread_mutex_lock(&guard->lock);
  started = guard->started;
  guard->started = false;
  atomic_store(&guard->ending, true);
  pthread_mutex_unlock(&guard->lock);
  if (!started) return;
  lumap_event_signal(&guard->bell);
  pthread_join((pthread_t)guard->thread, NULL);
}

void lumap_guard_deinit(lumap_guard *guard) {
  pthread_mutex_destroy(&guard->lock);
}
