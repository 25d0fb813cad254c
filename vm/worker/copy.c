/* SPDX-License-Identifier: MIT
 *
 * copy.c - the executor of the back-end "fork": the state is there already, a copy of the caller's with all that it
 * reaches. worker.lua runs in it, on a thread of its own, since the thread that made the copy is in the midst of a
 * call that ends in another process.
 *
 * Memory is shared with the caller until it is written to. What writes to all of it is the collector, when it marks; so
 * it rests here, until as much has been allocated as there was, and then runs once between two tasks.
 *
 * What belongs to the caller is left alone: no finalizer of the state runs when the process ends, and no handler.
 */
#include <stdio.h>
#include <stdlib.h>

#include "codec/codec.h"
#include "codec/names.h"
#include "os/os.h"
#include "runtime/runtime.h"
#include "worker/task_api.h"
#include "worker/worker.h"

/* The collector rests until at least this much has been allocated, in KiB as lua_gc counts. */
enum { LEAST_REST = 64 * 1024 };

typedef struct copy {
  lumap_runtime *runtime;
  lua_State *L;
  int number;
  lumap_control *control;
  int run, forget;     /* references in the registry: functions of worker.lua */
  int heap_limit;      /* KiB: beyond it the collector runs */
  uint64_t items_left; /* until another copy takes its place */
  bool limited;        /* the collector does not rest */
  bool full;           /* what a chunk of items holds fills the memory */
  lumap_task *task;
} copy;

/* os.exit ends this process, and no more than that. */
static int copy_exit(lua_State *L) {
  int code = EXIT_SUCCESS;
  if (lua_isboolean(L, 1))
    code = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
  else if (!lua_isnoneornil(L, 1))
    code = (int)luaL_checkinteger(L, 1) & 0xff;
  lumap_process_end(code);
  return 0;
}

static void rest_collector(copy *self) {
  int now = lua_gc(self->L, LUA_GCCOUNT, 0);
  lua_gc(self->L, LUA_GCSTOP, 0);
  self->heap_limit = now + (now > LEAST_REST ? now : LEAST_REST);
}

/* Without a place: it would be one in our own code. */
static int raise_full(lua_State *L) {
  lua_pushliteral(L, "not enough memory");
  return lua_error(L);
}

/* relieve(blames), as worker.c has it: after an item ran out of memory. */
static int copy_relieve(lua_State *L) {
  copy *self = lua_touserdata(L, lua_upvalueindex(1));
  if (lumap_runtime_relieve(self->runtime)) return 0;
  self->full = true;
  if (!lua_toboolean(L, 1)) atomic_store_explicit(&self->control->index, 0, memory_order_relaxed);
  return raise_full(L);
}

/* out_of_memory(), as worker.c has it: an item that is to be run again ran out of memory. */
static int copy_out_of_memory(lua_State *L) {
  copy *self = lua_touserdata(L, lua_upvalueindex(1));
  self->full = true;
  return raise_full(L);
}

/* retire(), as worker.c has it. */
static int copy_retire(lua_State *L) {
  copy *self = lua_touserdata(L, lua_upvalueindex(1));
  self->items_left = 0;
  return 0;
}

/* Adds a function that knows this copy to the table on top. */
static void add_method(lua_State *L, copy *self, const char *name, lua_CFunction method) {
  lua_pushlightuserdata(L, self);
  lua_pushcclosure(L, method, 1);
  lua_setfield(L, -2, name);
}

/* Under a memory limit the collector has work to do. The limit counts what the caller had, too. */
static void limit_memory(lua_State *L, copy *self) {
  lumap_error error = {LUMAP_E_OK, ""};
  lua_getfield(L, 1, "memory_limit");
  self->limited = !lua_isnil(L, -1);
  if (!self->limited)
    rest_collector(self);
  else if (lumap_runtime_limit(self->runtime, (uint64_t)lua_tonumber(L, -1), &error) != LUMAP_E_OK)
    lumap_error_raise(L, &error);
  lua_pop(L, 1);
}

static void count_items(lua_State *L, copy *self) {
  lua_getfield(L, 1, "max_tasks");
  self->items_left = lua_isnil(L, -1) ? UINT64_MAX : (uint64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
}

/* On the thread's stack lies what the caller hands over. */
static int prepare(lua_State *L) {
  static const luaL_Reg *const parts[] = {lumap_task_functions, lumap_loop_functions, NULL};
  copy *self = lua_touserdata(L, 2);
  limit_memory(L, self);
  count_items(L, self);
  lumap_runtime_become_worker(self->runtime, L, self->number, self->control);
  lua_pushcfunction(L, copy_exit);
  lumap_names_replace(L, "os", "exit");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "parallel.pool");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "forget_warm");
  lua_call(L, 0, 0);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "parallel.worker");
  lua_call(L, 1, 1);
  lumap_push_functions(L, parts);
  lua_pushlightuserdata(L, self->control);
  lua_setfield(L, -2, "control");
  lua_newtable(L);
  lua_setfield(L, -2, "stopped");
  add_method(L, self, "relieve", copy_relieve);
  add_method(L, self, "out_of_memory", copy_out_of_memory);
  add_method(L, self, "retire", copy_retire);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "shared");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "run");
  self->run = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, -1, "forget");
  self->forget = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static void copy_close(void *executor) {
  free(executor);
}

static lumap_status copy_open(const lumap_bytes *setup, void *host, int number, lumap_control *control, void **out,
                              lumap_error *error) {
  lumap_copy_host *found = host;
  copy *self = calloc(1, sizeof *self);
  int code;
  (void)setup;
  if (!self) return lumap_error_set(error, LUMAP_E_NOMEM, "cannot open a worker: not enough memory");
  *self = (copy){.runtime = found->runtime, .L = found->L, .number = number, .control = control};
  lua_settop(self->L, 1);
  lua_pushcfunction(self->L, prepare);
  lua_pushvalue(self->L, 1);
  lua_pushlightuserdata(self->L, self);
  code = lua_pcall(self->L, 2, 0, 0);
  if (code != 0) {
    lumap_status status = lumap_error_pop(self->L, code, error);
    free(self);
    return status;
  }
  *out = self;
  return LUMAP_E_OK;
}

/* Calls a function of worker.lua with one argument, which is on top. [-1, +(0|1)] */
static int call_reference(copy *self, int function) {
  lua_rawgeti(self->L, LUA_REGISTRYINDEX, function);
  lua_insert(self->L, -2);
  return lua_pcall(self->L, 1, 0, 0);
}

/* The worker cannot go on as it is: says why in the task, and leaves the next one to another copy. The error is on
 * top. */
static void report_end(copy *self, lumap_task *task, int code) {
  task->died_index = atomic_load_explicit(&self->control->index, memory_order_relaxed);
  task->died_signal = 0;
  task->died_exit = -1;
  lumap_task_count_done(task, self->control);
  task->outcome = self->full || lumap_is_memory_error(self->L, code) ? LUMAP_OUTCOME_MEMORY : LUMAP_OUTCOME_DIED;
  lumap_error_pop(self->L, code, &task->error);
  task->is_last = true;
}

static bool copy_run(void *executor, lumap_task *task) {
  copy *self = executor;
  int code;
  if (task->first >= atomic_load(&task->call->stop_from) ||
      lumap_control_is_stopped(self->control, task->call_id, task->first)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    return true;
  }
  task->most = lumap_items_allowed(task, self->items_left);
  task->worker = self->number;
  task->started_ns = lumap_clock_ns();
  lua_pushlightuserdata(self->L, task);
  code = call_reference(self, self->run);
  fflush(NULL); /* what items have written to files that they share with the caller */
  task->ended_ns = lumap_clock_ns();
  if (code != 0) {
    report_end(self, task, code);
    return false;
  }
  if (lumap_items_spend(task, &self->items_left)) return false;
  if (!self->limited && lua_gc(self->L, LUA_GCCOUNT, 0) > self->heap_limit) {
    lua_gc(self->L, LUA_GCCOLLECT, 0);
    rest_collector(self);
  }
  return true;
}

static void copy_forget(void *executor, uint32_t call_id) {
  copy *self = executor;
  lua_pushnumber(self->L, call_id);
  if (call_reference(self, self->forget) != 0) lua_pop(self->L, 1);
}

/* Copies are killed when their items are to end. */
static void copy_interrupt(void *executor, const void *context) {
  (void)executor;
  (void)context;
}

const lumap_executor lumap_copy_executor = {copy_open,      copy_run,   copy_forget,
                                            copy_interrupt, copy_close, LUMAP_VM_NAME};
