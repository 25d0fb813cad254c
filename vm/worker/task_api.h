/* SPDX-License-Identifier: MIT
 *
 * task_api.h - the C functions with which worker.lua takes a task apart and fills in its results, and what both
 * executors count. Not for others.
 */
#ifndef LUMAP_WORKER_TASK_API_H
#define LUMAP_WORKER_TASK_API_H

#include "backend/task.h"
#include "lua/functions.h"

/* What a task is and becomes. */
extern const luaL_Reg lumap_task_functions[];

/* log_code, note, revive and hold, by which what a call left serves the next one. */
extern const luaL_Reg lumap_recall_functions[];

/* begin, numbers and into, the C ways to run items; LuaJIT has compiled ones (stdlib/parallel/loops.lua). */
extern const luaL_Reg lumap_loop_functions[];

/* ---- a worker runs so many items and is then replaced ---- */

/* What task->most becomes: the worker has `left` items to run until it is spent. */
static inline uint64_t lumap_items_allowed(const lumap_task *task, uint64_t left) {
  return task->count > left ? left : 0;
}

/* After the task was run: takes its items off. True, also in task->is_last, when none are left. */
static inline bool lumap_items_spend(lumap_task *task, uint64_t *left) {
  *left -= task->count < *left ? task->count : *left;
  task->is_last = *left == 0;
  return task->is_last;
}

#endif
