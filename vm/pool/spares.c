/* SPDX-License-Identifier: MIT */
#include "pool/spares.h"

#include <stdlib.h>

static lumap_task *task_of(lumap_link *link) {
  return LUMAP_OWNER(link, lumap_task, link);
}

void lumap_spares_init(lumap_spares *spares) {
  *spares = (lumap_spares){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void lumap_spares_deinit(lumap_spares *spares) {
  lumap_spares_trim(spares, 0);
  pthread_mutex_destroy(&spares->lock);
}

/* Under the lock. */
static lumap_task *pop(lumap_spares *spares) {
  lumap_link *link = lumap_list_pop(&spares->tasks);
  if (!link) return NULL;
  spares->count--;
  spares->bytes -= task_of(link)->payload.capacity;
  return task_of(link);
}

lumap_task *lumap_spares_take(lumap_spares *spares, lumap_call *call) {
  lumap_task *task;
  pthread_mutex_lock(&spares->lock);
  task = pop(spares);
  pthread_mutex_unlock(&spares->lock);
  if (!task) return lumap_task_new(LUMAP_TASK_CHUNK, call);
  lumap_task_init(task, LUMAP_TASK_CHUNK, call);
  return task;
}

void lumap_spares_give(lumap_spares *spares, lumap_task *task) {
  size_t capacity;
  bool kept;
  if (!task) return;
  lumap_task_clear(task);
  capacity = task->payload.capacity;
  pthread_mutex_lock(&spares->lock);
  kept = capacity <= LUMAP_SPARES_BYTES - spares->bytes && spares->count < LUMAP_SPARES_MOST;
  if (kept) {
    lumap_list_push_front(&spares->tasks, &task->link);
    spares->count++;
    spares->bytes += capacity;
  }
  pthread_mutex_unlock(&spares->lock);
  if (!kept) lumap_task_free(task);
}

void lumap_spares_trim(lumap_spares *spares, size_t bytes) {
  for (;;) {
    lumap_task *task = NULL;
    pthread_mutex_lock(&spares->lock);
    if (spares->bytes > bytes || bytes == 0) task = pop(spares);
    pthread_mutex_unlock(&spares->lock);
    if (!task) return;
    lumap_task_free(task);
  }
}
