/* SPDX-License-Identifier: MIT
 *
 * runtime.h - one Lua state as Lumap furnishes it: libraries, names, the C part of `parallel` and `codec` (module
 * "lumap.core"), and what a caller of workers needs to know. The main state and each worker's state have one.
 *
 * Only this part sees both the codec and the pool. What runs in a worker (vm/worker) is handed in as an executor.
 *
 * Threads: as the state it belongs to; lumap_runtime_interrupt may be called by any thread and in signal handlers.
 */
#ifndef LUMAP_RUNTIME_RUNTIME_H
#define LUMAP_RUNTIME_RUNTIME_H

#include "alloc/heap.h"
#include "backend/backend.h"
#include "lua/coroutines.h"
#include "lua/generator.h"
#include "lua/state.h"
#include "os/os.h"

/* How deep pools may be nested: a pool in an item of a pool's worker is one deeper. Those that run on the worker itself
 * cost a state each, those with workers of their own multiply. Each limit is far beyond what makes sense: it ends what
 * would go on for ever. */
enum { LUMAP_MAX_DEPTH = 4, LUMAP_MAX_DEPTH_SERIAL = 100 };

typedef struct lumap_runtime {
  /* Fixed after open. */
  lua_State *L;
  lumap_heap *heap;      /* the state's memory; NULL: the host's allocator gives it */
  uint64_t memory_limit; /* 0: none */
  const lumap_executor *executor;
  const lumap_executor *copy_executor;
  int worker;               /* number of the worker that this state is, from 1; 0: a main state */
  lumap_control *control;   /* the worker's; NULL in a main state */
  void *self;               /* the executor's own part of the worker; NULL in a main state */
  int depth;                /* of the pool that it is a worker of, from 1; 0: a main state */
  int worker_count;         /* default size of a pool; 0: not set */
  char *backend;            /* default back-end; NULL: not set */
  char *program;            /* worker program of process workers; NULL: not found */
  lumap_memories *memories; /* shared memory that is known to this state and to those of its threads */
  lumap_slabs *slabs;       /* where the memory of its threads' states begins */
  bool stop_signal;
  bool ignore_environment;

  /* The state's thread, and signal handlers on it. */
  lumap_coroutines coroutines; /* of a worker's state */

  /* The state's thread. */
  lumap_generator generator;   /* of math.random */
  struct lumap_runtime *outer; /* whose item waits while this one, a serial worker of it, runs: set on each run */
  bool hides_index;            /* the call that runs has no item indexes */
  bool torn;                   /* machine code was left, and the state stands as it stood there: it can but be closed */
  bool knows_machine_code;     /* it has looked for the next */
  size_t shared_bytes;         /* shared memory made by this state since it collected garbage for its sake: the */
  unsigned shared_count;       /* collector does not see how large that is; and how many pieces */
  size_t machine_code_place;   /* as machine_code.h tells: for workers that can be stopped by signal */
  int cpu_count;               /* 0: not counted yet */
  lumap_patience patience;     /* in waits for results */

  /* Any thread. */
  lumap_event event; /* something happened that the state's thread may wait for */
  atomic_bool interrupted;
  atomic_int layout;                     /* lumap_layout_known: what was found out for the states of this process */
  _Atomic(struct lumap_runtime *) inner; /* the serial worker's that runs a task on this runtime's thread now */
} lumap_runtime;

typedef struct lumap_runtime_options {
  lumap_state_options state;
  const lumap_executor *executor;      /* what workers run; borrowed */
  const lumap_executor *copy_executor; /* the same for copies of the process; NULL: there are none */
  int worker;
  int depth;
  lumap_control *control;
  void *self;
  int worker_count;
  const char *backend, *program; /* copied */
  lumap_memories *memories;      /* kept; NULL: a set of its own */
  lumap_slabs *slabs;    /* kept, and the state's memory begins there; NULL: slabs of its own, for its workers */
  uint64_t memory_limit; /* see lumap_runtime_limit; 0: none */
  bool stop_signal;
  int layout; /* as the runtime's */
} lumap_runtime_options;

/* What a worker that is a copy of the process finds: the host of its executor. */
typedef struct lumap_copy_host {
  lumap_runtime *runtime; /* the caller's */
  lua_State *L;           /* a thread of its state, with the table that the caller hands over on the stack */
} lumap_copy_host;

/* In such a copy: the runtime is worker `number`'s from now on. May raise. */
void lumap_runtime_become_worker(lumap_runtime *runtime, lua_State *L, int number, lumap_control *control);

/* Opens a state with all of Lumap in it. NULL on failure. */
lumap_runtime *lumap_runtime_open(const lumap_runtime_options *options, lumap_error *error);

/* From now on the state may hold at most `bytes` of Lua heap; 0: no limit. LUMAP_E_NOMEM when it holds more already,
 * and when its memory is the host's. */
lumap_status lumap_runtime_limit(lumap_runtime *runtime, uint64_t bytes, lumap_error *error);

/* Before a task: what earlier ones have left shall not count against it. */
void lumap_runtime_ease(lumap_runtime *runtime);

/* Collects all garbage. False when the state, thereafter, still holds more than half of its limit. May raise what a
 * finalizer raises. */
bool lumap_runtime_relieve(lumap_runtime *runtime);

/* The state has nothing to do: collects its garbage, and gives what is free back to the system. May raise what a
 * finalizer raises. */
void lumap_runtime_rest(lumap_runtime *runtime);

/* Ends the pools, closes the state and frees. NULL is fine. */
void lumap_runtime_close(lumap_runtime *runtime);

/* The runtime of a state. */
lumap_runtime *lumap_runtime_get(lua_State *L);

/* Makes what runs in the state raise "interrupted!", a wait for workers included. */
void lumap_runtime_interrupt(lumap_runtime *runtime);

/* The same in a signal handler on the state's own thread. Items of serial pools, which run there, are ended whatever
 * they catch; with a stop signal also in compiled loops, by leaving the handler for good. `context` is the handler's
 * third argument. */
void lumap_runtime_interrupt_here(lumap_runtime *runtime, const void *context);

/* If an interrupt has come since the last call: forgets it, and returns true. */
bool lumap_runtime_take_interrupt(lumap_runtime *runtime);

/* The runtime whose thread runs tasks of a serial pool right now, on this thread; NULL: none. */
lumap_runtime *lumap_runtime_pumping(void);

#endif
