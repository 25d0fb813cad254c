/* SPDX-License-Identifier: MIT */
#include "pool/stops.h"

void lumap_stops_request(lumap_worker *worker, uint32_t call_id, uint64_t from) {
  lumap_control *control = worker->control;
  uint64_t running, stopping;
  if (!control) return;
  running = atomic_load(&control->call);
  stopping = atomic_load(&control->stop_call);
  if (stopping == LUMAP_STOP_ALL || (stopping != 0 && stopping == running && running != call_id)) return;
  if (stopping == call_id && atomic_load(&control->stop_from) <= from) return;
  atomic_store(&control->stop_from, from);
  atomic_store(&control->stop_call, call_id);
}

/* Told by its turn: the result of a task before it may come after the cut was asked for, since a child process has gone
   on meanwhile; and that may have had the very items, where it was cut short, too. */
bool lumap_stops_lift_cut(lumap_worker *worker, const lumap_task *task) {
  lumap_control *control = worker->control;
  uint64_t stopped = task->call_id, from = atomic_load(&task->call->stop_from);
  if (worker->cut_call == 0 || worker->cut_call != task->call_id || worker->cut_turn != task->turn) return false;
  worker->cut_call = 0;
  if (control && atomic_compare_exchange_strong(&control->stop_call, &stopped, 0) && from != UINT64_MAX)
    lumap_stops_request(worker, task->call_id, from);
  return true;
}

/* The item of the call that the worker runs, and the turn of its task; 0: none, or another call's. While the worker
   says so it has yet to tell that the task is done, so this can be held against the results that come from now on. A
   child process goes on by itself: what it says before and after it has begun another task says nothing. */
static uint64_t item_of(const lumap_worker *worker, uint32_t call_id, uint32_t *turn) {
  lumap_control *control = worker->control;
  uint64_t index;
  if (!control) return 0;
  *turn = lumap_control_begun(control);
  if (atomic_load(&control->call) != call_id) return 0;
  index = atomic_load(&control->index);
  return lumap_control_begun(control) == *turn ? index : 0;
}

/* The request that was made may not have been granted. */
static bool is_stopped_at(const lumap_worker *worker, uint32_t call_id, uint64_t index) {
  return lumap_control_is_stopped(worker->control, call_id, index);
}

uint64_t lumap_stops_cut(lumap_worker *worker, uint32_t call_id) {
  uint32_t turn;
  uint64_t index = item_of(worker, call_id, &turn);
  if (index == 0) return 0;
  lumap_stops_request(worker, call_id, index + 1);
  if (!is_stopped_at(worker, call_id, index + 1)) return 0;
  worker->cut_call = call_id;
  worker->cut_turn = turn;
  return index;
}

bool lumap_stops_is_stuck(const lumap_worker *worker, uint32_t call_id, uint64_t index) {
  uint32_t turn;
  return item_of(worker, call_id, &turn) == index && worker->cut_call == call_id && worker->cut_turn == turn &&
         is_stopped_at(worker, call_id, index + 1);
}
