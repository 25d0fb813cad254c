/* SPDX-License-Identifier: MIT */
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ward.h"
#include "codec/additions.h"
#include "codec/cdata.h"
#include "codec/names.h"
#include "lua/layout.h"
#include "pool/pool.h"
#include "runtime/core.h"

static const char runtime_key;

/* Set while a serial pool runs a task: the worker's state is then on the stack of the caller's own thread. */
static _Thread_local lumap_runtime *pumping;

lumap_runtime *lumap_runtime_pumping(void) {
  return pumping;
}

bool lumap_core_pump(lumap_runtime *runtime, void *pool) {
  lumap_runtime *outer = pumping;
  bool ran;
  pumping = runtime;
  ran = lumap_pool_pump(pool);
  pumping = outer;
  return ran;
}

static void require_global(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  lua_call(L, 1, 1);
  lumap_push_first_globals(L);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
  lua_setglobal(L, name);
}

/* The state is open, with the standard libraries. */
static int furnish(lua_State *L) {
  lumap_runtime *runtime = lua_touserdata(L, 1);
  runtime->L = L;
  lua_pushlightuserdata(L, runtime);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &runtime_key);
  lumap_generator_open(L, &runtime->generator);
  /* As they are opened, states of one VM may all give the same numbers. The main state does what the stock one does. */
  if (runtime->worker) lumap_generator_scramble(&runtime->generator, lumap_entropy(), (uint64_t)runtime->worker);
  if (runtime->worker) {
    lumap_core_open_output(L);
    lumap_core_open_load(L);
  }
  lumap_layout_trust(L, atomic_load(&runtime->layout));
  lumap_collector_pace(L);
  lumap_push_loaded(L);
  lumap_core_push(L);
  lua_setfield(L, -2, "lumap.core");
  lua_pop(L, 1);
  lumap_cdata_open(L, !runtime->worker);
  if (runtime->worker) lumap_coroutines_open(L, &runtime->coroutines);
  require_global(L, "codec");
  require_global(L, "parallel");
  lumap_additions_open(L);
  lumap_names_open(L, !runtime->worker);
  return 0;
}

/* The state's memory, unless a host has an allocator of its own. */
static bool open_heap(lumap_runtime *runtime, lumap_state_options *state, lumap_slabs *slabs) {
  if (state->allocator) return true;
  runtime->heap = lumap_heap_open(slabs);
  if (!runtime->heap) return false;
  state->allocator = lumap_heap_allocate;
  state->allocator_data = runtime->heap;
  state->room = lumap_heap_ready(runtime->heap);
  return true;
}

lumap_runtime *lumap_runtime_open(const lumap_runtime_options *options, lumap_error *error) {
  lumap_state_options state = options->state;
  lumap_runtime *runtime;
  if (options->backend && !lumap_core_find_backend(options->backend)) {
    lumap_error_set(error, LUMAP_E_WORKER, "there is no back-end '%s' in this build", options->backend);
    return NULL;
  }
  runtime = calloc(1, sizeof *runtime);
  if (!runtime) goto no_memory;
  runtime->executor = options->executor;
  runtime->copy_executor = options->copy_executor;
  runtime->worker = options->worker;
  runtime->depth = options->depth;
  runtime->control = options->control;
  runtime->self = options->self;
  runtime->worker_count = options->worker_count;
  runtime->stop_signal = options->stop_signal;
  atomic_init(&runtime->layout, options->layout);
  runtime->ignore_environment = options->state.ignore_environment;
  if (options->backend && !(runtime->backend = strdup(options->backend))) goto no_memory;
  if (options->program && !(runtime->program = strdup(options->program))) goto no_memory;
  runtime->memories = options->memories ? lumap_memories_acquire(options->memories) : lumap_memories_new();
  runtime->slabs = options->slabs ? lumap_slabs_acquire(options->slabs) : lumap_slabs_new();
  if (!runtime->memories || !runtime->slabs) goto no_memory;
  if (!open_heap(runtime, &state, options->slabs)) goto no_memory;
  if (lumap_state_open(&state, furnish, runtime, error)) {
    if (lumap_runtime_limit(runtime, options->memory_limit, error) == LUMAP_E_OK) return runtime;
  } else {
    runtime->L = NULL;
  }
  lumap_runtime_close(runtime);
  return NULL;
no_memory:
  lumap_runtime_close(runtime);
  lumap_error_set(error, LUMAP_E_NOMEM, "cannot open a runtime: not enough memory");
  return NULL;
}

static void press_collector(void *L) {
  lumap_collector_press(L);
}

lumap_status lumap_runtime_limit(lumap_runtime *runtime, uint64_t bytes, lumap_error *error) {
  if (!runtime->heap) {
    if (bytes == 0) return LUMAP_E_OK;
    return lumap_error_set(error, LUMAP_E_NOMEM, "a state whose allocator is the host's has no memory limit");
  }
  if (bytes > 0 && lumap_heap_used(runtime->heap) > bytes)
    return lumap_error_set(error, LUMAP_E_NOMEM,
                           "a memory limit of %llu bytes is too low: the state alone takes %zu, before anything runs",
                           (unsigned long long)bytes, lumap_heap_used(runtime->heap));
  if (bytes > 0) lumap_collector_limit(runtime->L);
  runtime->memory_limit = bytes;
  lumap_heap_limit(runtime->heap, bytes > SIZE_MAX ? 0 : (size_t)bytes, press_collector, runtime->L);
  return LUMAP_E_OK;
}

void lumap_runtime_rest(lumap_runtime *runtime) {
  lua_gc(runtime->L, LUA_GCCOLLECT, 0);
  if (runtime->heap) lumap_heap_trim(runtime->heap);
}

static bool is_half_full(const lumap_runtime *runtime) {
  return runtime->memory_limit > 0 && lumap_heap_used(runtime->heap) > runtime->memory_limit / 2;
}

void lumap_runtime_ease(lumap_runtime *runtime) {
  if (is_half_full(runtime)) lumap_collector_press(runtime->L);
}

bool lumap_runtime_relieve(lumap_runtime *runtime) {
  lua_gc(runtime->L, LUA_GCCOLLECT, 0);
  return !is_half_full(runtime);
}

void lumap_runtime_become_worker(lumap_runtime *runtime, lua_State *L, int number, lumap_control *control) {
  runtime->worker = number;
  runtime->depth++;
  runtime->control = control;
  runtime->generator.item = &control->index;
  lumap_generator_end(&runtime->generator);
  lumap_generator_scramble(&runtime->generator, lumap_entropy(), (uint64_t)number);
  atomic_store(&runtime->interrupted, false);
  lumap_core_set_defaults(L, "serial", 1);
  lumap_core_open_output(L);
}

static void leave_closing(void *closed) {
  longjmp(*(jmp_buf *)closed, 1);
}

/* A state that goes along with its heap is left when its finalizers have run: after that the VM goes through all of its
   objects, which for a worker takes as long as it took to make them, to free what is dropped at once. */
static void close_in_heap(lumap_runtime *runtime) {
  jmp_buf closed;
  const void *last = runtime->L && !runtime->torn ? lumap_close_begin(runtime->L) : NULL;
  lumap_heap_abandon(runtime->heap, last, leave_closing, &closed);
  if (setjmp(closed) == 0) lumap_state_close(runtime->L);
}

void lumap_runtime_close(lumap_runtime *runtime) {
  if (!runtime) return;
  /* Pools are userdata of the state: their finalizers end the workers. */
  if (runtime->heap)
    close_in_heap(runtime);
  else
    lumap_state_close(runtime->L);
  lumap_heap_close(runtime->heap);
  lumap_slabs_release(runtime->slabs);
  lumap_memories_release(runtime->memories);
  free(runtime->backend);
  free(runtime->program);
  free(runtime);
}

lumap_runtime *lumap_runtime_get(lua_State *L) {
  lumap_runtime *runtime;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &runtime_key);
  runtime = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return runtime;
}

static void raise_interrupted(lua_State *L, lua_Debug *info) {
  (void)info;
  lua_sethook(L, NULL, 0, 0);
  /* The place where it happened, as the stock interpreters give it. */
  luaL_where(L, LUMAP_HOOK_LEVEL);
  lua_pushliteral(L, "interrupted!");
  lua_concat(L, 2);
  lua_error(L);
}

/* Finds the next Lua function from `level` on; false: there is none. */
static bool find_lua_function(lua_State *L, int *level, lua_Debug *info) {
  while (lua_getstack(L, *level, info) && lua_getinfo(L, "S", info)) {
    ++*level;
    if (info->what[0] != 'C') return true;
  }
  return false;
}

/* An error in Lua code of stdlib/, or in a C function that it has called, would leave a call behind whose items go on.
   There the hook stays: whoever waits for a call's chunks takes the interrupt and ends it (job_collect), and other code
   of ours is soon left. Code of the user that ours has called, a source of items, gets the error, and the call ends at
   its next wait. */
static void hook_main(lua_State *L, lua_Debug *info) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  lua_Debug function;
  int level = 0;
  if (find_lua_function(L, &level, &function)) {
    if (lumap_is_embedded(function.source)) return;
    while (find_lua_function(L, &level, &function))
      if (lumap_is_embedded(function.source)) raise_interrupted(L, info);
  }
  if (runtime) atomic_store(&runtime->interrupted, false);
  raise_interrupted(L, info);
}

void lumap_runtime_interrupt(lumap_runtime *runtime) {
  lumap_runtime *inner = atomic_load(&runtime->inner);
  atomic_store(&runtime->interrupted, true);
  if (!inner) lumap_set_urgent_hook(runtime->L, hook_main);
  /* Calls may be nested: each level unwinds, whatever catches the error of the one below. */
  for (; inner; inner = atomic_load(&inner->inner))
    lumap_set_urgent_hook(inner->L, raise_interrupted);
  lumap_event_signal(&runtime->event);
}

/* Those further down first: an error then meets the hook of whoever gets it. The innermost one comes last, since its
 * executor may leave the handler. */
void lumap_runtime_interrupt_here(lumap_runtime *runtime, const void *context) {
  lumap_runtime *inner = atomic_load(&runtime->inner), *next;
  lumap_runtime_interrupt(runtime);
  if (inner) lumap_ward_insist();
  for (; inner; inner = next) {
    next = atomic_load(&inner->inner);
    runtime->executor->interrupt(inner->self, next ? NULL : context);
  }
}

bool lumap_runtime_take_interrupt(lumap_runtime *runtime) {
  if (!atomic_exchange(&runtime->interrupted, false)) return false;
  /* A worker's item must not get away with it: there the hook stays. */
  if (!runtime->worker) lua_sethook(runtime->L, NULL, 0, 0);
  return true;
}
