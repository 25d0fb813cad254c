/* SPDX-License-Identifier: MIT */
#include "backend/task.h"

#include <stdlib.h>

void lumap_call_init(lumap_call *call, uint32_t id) {
  *call = (lumap_call){.id = id};
  atomic_init(&call->references, 1);
  atomic_init(&call->stop_from, UINT64_MAX);
}

void lumap_call_acquire(lumap_call *call) {
  atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
}

void lumap_call_release(lumap_call *call) {
  if (!call || atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) != 1) return;
  for (lumap_log_entry *entry = call->log_first, *next; entry; entry = next) {
    next = entry->next;
    lumap_bytes_deinit(&entry->bytes);
    free(entry);
  }
  call->log_first = call->log_last = NULL;
  if (call->free) call->free(call);
}

void lumap_call_stop_from(lumap_call *call, uint64_t index) {
  uint64_t now = atomic_load(&call->stop_from);
  while (index < now && !atomic_compare_exchange_weak(&call->stop_from, &now, index))
    continue;
}

void lumap_task_tell_stop(const lumap_task *task) {
  if (task->outcome == LUMAP_OUTCOME_DONE && task->stops_from) lumap_call_stop_from(task->call, task->stops_from);
}

bool lumap_call_append(lumap_call *call, lumap_bytes *bytes) {
  lumap_log_entry *entry = calloc(1, sizeof *entry);
  if (!entry) return false;
  lumap_bytes_move(&entry->bytes, bytes);
  if (call->log_last)
    call->log_last->next = entry;
  else
    call->log_first = entry;
  call->log_last = entry;
  call->log_count++;
  return true;
}

void lumap_task_init(lumap_task *task, lumap_task_kind kind, lumap_call *call) {
  lumap_bytes payload = task->payload;
  *task = (lumap_task){.kind = kind, .call = call, .payload = payload};
  if (!call) return;
  lumap_call_acquire(call);
  task->call_id = call->id;
}

void lumap_task_clear(lumap_task *task) {
  lumap_bytes_clear(&task->payload);
  lumap_call_release(task->call);
  task->call = NULL;
}

lumap_task *lumap_task_new(lumap_task_kind kind, lumap_call *call) {
  lumap_task *task = calloc(1, sizeof *task);
  if (task) lumap_task_init(task, kind, call);
  return task;
}

void lumap_task_free(lumap_task *task) {
  if (!task) return;
  lumap_bytes_deinit(&task->payload);
  lumap_call_release(task->call);
  free(task);
}

void lumap_task_count_done(lumap_task *task, const lumap_control *control) {
  uint64_t end = task->died_index, failed = atomic_load(&control->failed);
  if (failed != 0 && failed < end) end = failed;
  task->done = end > task->first && end - task->first <= task->count ? end - task->first : 0;
}
