/* SPDX-License-Identifier: MIT
 *
 * worker.c - the executor: opens a state, gives each task to worker.lua's `run`, and tells what became of it.
 */
#include "worker/worker.h"

#include <setjmp.h>
#include <stdlib.h>

#include "codec/additions.h"
#include "codec/codec.h"
#include "lua/machine_code.h"
#include "os/os.h"
#include "runtime/runtime.h"
#include "worker/task_api.h"

typedef struct worker {
  /* Fixed after open. */
  lumap_runtime *runtime;
  int run, forget; /* references in the registry: functions of worker.lua */
  int stopped;     /* reference: what a stop and os.exit raise, so that nobody takes it for an error of theirs */
  size_t machine_code_place;

  /* The worker's thread, and its signal handlers. */
  atomic_bool interrupted;
  atomic_bool may_leave; /* `leave` leads to where the task is run, which is on the stack */
  sigjmp_buf leave;
  /* The worker's thread. */
  uint64_t items_left; /* until the state is spent */
  bool exiting;        /* os.exit was called */
  bool full;           /* what a chunk of items holds fills the state's memory, or an item that is run again did */
  int exit_code;
  lumap_task *task;
} worker;

static const char worker_key;

static worker *worker_of(lua_State *L) {
  worker *self;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &worker_key);
  self = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return self;
}

/* ---- leaving an item from within ---------------------------------------------------------------------------- */

/* Raised again at each instruction until the item has unwound: a pcall in the item must not swallow it. */
static void raise_stop(lua_State *L, lua_Debug *info) {
  (void)info;
  lumap_push_stop(L, worker_of(L)->stopped);
  lua_error(L);
}

/* os.exit in a worker ends the worker, not the program. */
static int worker_exit(lua_State *L) {
  worker *self = worker_of(L);
  if (lua_isnoneornil(L, 1) || (lua_isboolean(L, 1) && lua_toboolean(L, 1)))
    self->exit_code = EXIT_SUCCESS;
  else if (lua_isboolean(L, 1))
    self->exit_code = EXIT_FAILURE;
  else
    self->exit_code = (int)luaL_checkinteger(L, 1) & 0xff;
  self->exiting = true;
  lumap_coroutines_interrupt(&self->runtime->coroutines, raise_stop);
  raise_stop(L, NULL);
  return 0;
}

/* relieve(blames): after an item ran out of memory. Collects garbage; if the state is still too full to go on, ends it:
   the item that ran is to blame, or, without `blames`, all of the chunk together. */
static int worker_relieve(lua_State *L) {
  worker *self = worker_of(L);
  bool blames = lua_toboolean(L, 1);
  if (lumap_runtime_relieve(self->runtime)) return 0;
  self->full = true;
  if (!blames) atomic_store_explicit(&self->runtime->control->index, 0, memory_order_relaxed);
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->stopped);
  return lua_error(L);
}

/* out_of_memory(): an item that is to be run again ran out of memory, so this state shall not go on. */
static int worker_out_of_memory(lua_State *L) {
  worker *self = worker_of(L);
  self->full = true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->stopped);
  return lua_error(L);
}

/* retire(): the task that runs is this state's last one. What it gives is good. */
static int worker_retire(lua_State *L) {
  worker_of(L)->items_left = 0;
  return 0;
}

/* In machine code no hook runs: that is left, with all of the state as it stands. Nobody is skipped on the stack but
 * functions that an error in the item would skip as well. */
static void worker_interrupt(void *executor, const void *context) {
  worker *self = executor;
  lumap_runtime *runtime = self->runtime;
  atomic_store(&self->interrupted, true);
  lumap_coroutines_interrupt(&runtime->coroutines, raise_stop);
  /* It may be asleep. */
  atomic_store(&runtime->interrupted, true);
  lumap_event_signal(&runtime->event);
  if (!context || !atomic_load(&self->may_leave)) return;
  if (!lumap_machine_code_holds(runtime->L, self->machine_code_place, lumap_context_pc(context))) return;
  atomic_store(&self->may_leave, false);
  lumap_context_restore_mask(context);
  siglongjmp(self->leave, 1);
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

/* The parts of a setup, as core_pool.c writes them. */
typedef struct setup_parts {
  bool ignore_environment;
  int depth;
  uint64_t memory_limit; /* 0: none */
  char *program, *path, *cpath;
  uint64_t max_tasks;
  const unsigned char *init;
  size_t init_size;
  lumap_references *references; /* of the init function; the crew's */
} setup_parts;

static char *get_text(lumap_reader *in) {
  size_t size;
  const char *text = lumap_get_string(in, lumap_get_u8(in), &size);
  return text ? strndup(text, size) : NULL;
}

static lumap_status read_setup(const lumap_bytes *setup, setup_parts *parts, lumap_error *error) {
  lumap_reader in = {setup->data, setup->size, 0, false};
  parts->ignore_environment = lumap_get_u8(&in) != 0;
  parts->depth = lumap_get_u8(&in);
  parts->memory_limit = lumap_get_varint(&in);
  parts->program = get_text(&in);
  parts->path = get_text(&in);
  parts->cpath = get_text(&in);
  parts->max_tasks = lumap_get_varint(&in);
  if (!parts->program || !parts->path || !parts->cpath || in.failed)
    return lumap_error_set(error, LUMAP_E_PROTOCOL, "the setup of a worker cannot be read");
  parts->init = in.data + in.at;
  parts->init_size = in.size - in.at;
  parts->references = setup->references;
  return LUMAP_E_OK;
}

typedef struct preparing {
  worker *self;
  const setup_parts *parts;
  bool in_host; /* os.exit must not end the process */
} preparing;

static int take_reference(lua_State *L, const char *field) {
  lua_getfield(L, -1, field);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Loads worker.lua and gives it the C functions, and the init function of the pool if there is one. */
static int prepare(lua_State *L) {
  static const luaL_Reg *const parts[] = {lumap_task_functions, lumap_loop_functions, lumap_recall_functions, NULL};
  preparing *p = lua_touserdata(L, 1);
  worker *self = p->self;
  self->runtime->generator.item = &self->runtime->control->index;
  lua_pushlightuserdata(L, self);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &worker_key);
  lua_newtable(L);
  self->stopped = luaL_ref(L, LUA_REGISTRYINDEX);
  if (p->in_host) {
    lua_getglobal(L, "os");
    lua_pushcfunction(L, worker_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
    lumap_additions_accept(L, "os", "exit");
  }
  lua_getglobal(L, "require");
  lua_pushliteral(L, "parallel.worker");
  lua_call(L, 1, 1);
  lumap_push_functions(L, parts);
  lua_pushlightuserdata(L, self->runtime->control);
  lua_setfield(L, -2, "control");
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->stopped);
  lua_setfield(L, -2, "stopped");
  lua_pushcfunction(L, worker_relieve);
  lua_setfield(L, -2, "relieve");
  lua_pushcfunction(L, worker_out_of_memory);
  lua_setfield(L, -2, "out_of_memory");
  lua_pushcfunction(L, worker_retire);
  lua_setfield(L, -2, "retire");
  if (p->parts->init_size > 0) {
    lua_pushlstring(L, (const char *)p->parts->init, p->parts->init_size);
    lua_setfield(L, -2, "init");
    lua_pushlightuserdata(L, p->parts->references);
    lua_setfield(L, -2, "init_references");
  }
  lua_call(L, 1, 1);
  self->run = take_reference(L, "run");
  self->forget = take_reference(L, "forget");
  return 0;
}

static void worker_close(void *executor) {
  worker *self = executor;
  if (!self) return;
  lumap_runtime_close(self->runtime);
  free(self);
}

static lumap_status worker_open(const lumap_bytes *setup, void *host, int number, lumap_control *control, void **out,
                                lumap_error *error) {
  worker *self = calloc(1, sizeof *self);
  lumap_runtime *parent = host;
  setup_parts parts = {0};
  lumap_runtime_options options = {.executor = &lumap_worker_executor,
                                   .copy_executor = &lumap_copy_executor,
                                   .worker = number,
                                   .control = control,
                                   .worker_count = 1,
                                   .backend = "serial"};
  preparing p = {self, &parts, parent != NULL};
  lumap_status status = LUMAP_E_NOMEM;
  int code;
  if (!self) {
    lumap_error_set(error, status, "cannot open a worker: not enough memory");
    goto done;
  }
  status = read_setup(setup, &parts, error);
  if (status != LUMAP_E_OK) goto done;
  options.state =
      (lumap_state_options){.ignore_environment = parts.ignore_environment, .path = parts.path, .cpath = parts.cpath};
  options.depth = parts.depth;
  options.self = self;
  /* A child process is ours: nobody else has handlers there. */
  options.stop_signal = parent ? parent->stop_signal : true;
  options.program = *parts.program ? parts.program : NULL;
  options.memories = parent ? parent->memories : NULL;
  options.slabs = parent ? parent->slabs : NULL;
  options.layout = parent ? atomic_load(&parent->layout) : 0;
  self->items_left = parts.max_tasks ? parts.max_tasks : UINT64_MAX;
  self->machine_code_place = parent ? parent->machine_code_place : 0;
  self->runtime = lumap_runtime_open(&options, error);
  status = self->runtime ? LUMAP_E_OK : error ? error->status : LUMAP_E_LUA;
  if (status != LUMAP_E_OK) goto done;
  /* For pools of its own, whose items end with it. */
  self->runtime->machine_code_place = self->machine_code_place;
  self->runtime->knows_machine_code = parent != NULL;
  code = lumap_protected_call(self->runtime->L, prepare, &p);
  if (code != 0) status = lumap_error_pop(self->runtime->L, code, error);
  if (status == LUMAP_E_OK) status = lumap_runtime_limit(self->runtime, parts.memory_limit, error);
done:
  free(parts.program);
  free(parts.path);
  free(parts.cpath);
  if (status == LUMAP_E_OK)
    *out = self;
  else
    worker_close(self);
  return status;
}

/* ---- running ------------------------------------------------------------------------------------------------ */

static int run_protected(lua_State *L) {
  worker *self = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->run);
  lua_pushlightuserdata(L, self->task);
  lua_call(L, 1, 0);
  return 0;
}

/* Of a task that left machine code. No status of Lua. */
enum { LEFT = -1 };

/* The status of Lua. The handler's jump comes back to life here; no variable is changed in between. */
static int run_leavable(worker *self) {
  int code;
  if (sigsetjmp(self->leave, 0) != 0) {
    self->runtime->torn = true;
    return LEFT;
  }
  atomic_store(&self->may_leave, true);
  code = lumap_protected_call(self->runtime->L, run_protected, self);
  atomic_store(&self->may_leave, false);
  return code;
}

/* The state cannot go on: says why in the task. The error is on top, but for LEFT. */
static void report_end(worker *self, lumap_task *task, int code) {
  lua_State *L = self->runtime->L;
  task->died_index = atomic_load_explicit(&self->runtime->control->index, memory_order_relaxed);
  task->died_signal = 0;
  task->died_exit = self->exit_code;
  lumap_task_count_done(task, self->runtime->control);
  if (self->exiting) {
    task->outcome = LUMAP_OUTCOME_DIED;
    lumap_error_set(&task->error, LUMAP_E_WORKER, "worker %d ended: os.exit was called, with code %d", task->worker,
                    self->exit_code);
  } else if (atomic_load(&self->interrupted)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    lumap_error_set(&task->error, LUMAP_E_INTERRUPTED, "worker %d was stopped", task->worker);
  } else if (self->full || lumap_is_memory_error(L, code)) {
    task->outcome = LUMAP_OUTCOME_MEMORY;
    lumap_error_set(&task->error, LUMAP_E_NOMEM, "worker %d ran out of memory", task->worker);
  } else {
    task->outcome = LUMAP_OUTCOME_DIED;
    lumap_error_pop(L, code, &task->error);
  }
}

/* Was the item that waits for this task further down on the stack told to end? Asked after `inner` is set: a handler
   that ran before that is seen here, one that runs later finds this worker. */
static bool is_outer_ended(const lumap_runtime *outer) {
  worker *self = outer ? outer->self : NULL;
  return self && atomic_load(&self->interrupted);
}

static bool worker_run(void *executor, lumap_task *task) {
  worker *self = executor;
  lumap_runtime *outer = lumap_runtime_pumping();
  int code;
  if (task->first >= atomic_load(&task->call->stop_from) ||
      lumap_control_is_stopped(self->runtime->control, task->call_id, task->first)) {
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    return true;
  }
  self->task = task;
  task->most = lumap_items_allowed(task, self->items_left);
  task->worker = self->runtime->worker;
  task->started_ns = lumap_clock_ns();
  self->runtime->outer = outer;
  if (outer) atomic_store(&outer->inner, self->runtime);
  if (is_outer_ended(outer)) {
    atomic_store(&outer->inner, NULL);
    task->outcome = LUMAP_OUTCOME_CANCELLED;
    return true;
  }
  lumap_runtime_ease(self->runtime);
  code = run_leavable(self);
  if (outer) atomic_store(&outer->inner, NULL);
  task->ended_ns = lumap_clock_ns();
  self->task = NULL;
  if (code == 0 && !self->exiting && !atomic_load(&self->interrupted))
    return !lumap_items_spend(task, &self->items_left);
  lua_sethook(self->runtime->L, NULL, 0, 0);
  report_end(self, task, code);
  return false;
}

typedef struct forgetting {
  worker *self;
  uint32_t call_id;
} forgetting;

static int forget_protected(lua_State *L) {
  forgetting *f = lua_touserdata(L, 1);
  if (f->call_id == 0) {
    lumap_runtime_rest(f->self->runtime);
    return 0;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, f->self->forget);
  lumap_push_integer(L, f->call_id);
  lua_call(L, 1, 0);
  return 0;
}

static void worker_forget(void *executor, uint32_t call_id) {
  worker *self = executor;
  forgetting f = {self, call_id};
  if (lumap_protected_call(self->runtime->L, forget_protected, &f) != 0) lua_pop(self->runtime->L, 1);
}

const lumap_executor lumap_worker_executor = {worker_open,      worker_run,   worker_forget,
                                              worker_interrupt, worker_close, LUMAP_VM_NAME};
