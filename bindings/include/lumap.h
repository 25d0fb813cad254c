/* SPDX-License-Identifier: MIT
 *
 * lumap.h - the Lumap runtime inside a host program.
 *
 * A `lumap` is one Lua runtime: a main Lua state whose standard library has a
 * parallel map, and the pools of workers that it starts on demand. There is no
 * process-wide state: any number of runtimes live in one process.
 *
 * Threads: a runtime is used by one thread at a time, from any thread. The one
 * exception is lumap_interrupt, which any thread and any signal handler may call.
 *
 * Errors: functions that can fail return LUMAP_OK (zero) or another
 * lumap_result; lumap_error_message then tells what happened, and where.
 * The library never prints, never exits, never aborts, and installs no signal
 * handler unless LUMAP_STOP_SIGNAL is asked for.
 *
 * The same header serves both builds, liblumap (LuaJIT 2.1) and liblumap54
 * (PUC Lua 5.4); lumap_vm tells them apart.
 */
#ifndef LUMAP_H
#define LUMAP_H

#include <stddef.h>

#if defined(__GNUC__)
#define LUMAP_API __attribute__((visibility("default")))
#else
#define LUMAP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct lua_State;
typedef struct lumap lumap;

typedef enum lumap_result {
  LUMAP_OK = 0,
  LUMAP_ERROR_SYNTAX,     /* the chunk does not compile */
  LUMAP_ERROR_INCOMPLETE, /* lumap_eval only: the text ends in mid statement; give it more lines */
  LUMAP_ERROR_RUN,        /* the chunk raised an error */
  LUMAP_ERROR_FILE,       /* the file cannot be read */
  LUMAP_ERROR_MEMORY,     /* no memory */
  LUMAP_ERROR_ARGUMENT    /* the host's own mistake: an argument out of its range */
} lumap_result;

/* Flags of lumap_options. */
enum {
  LUMAP_IGNORE_ENVIRONMENT = 1, /* as `lua -E`: LUA_PATH, LUA_CPATH and LUMAP_* are not read */
  LUMAP_STOP_SIGNAL = 2         /* the runtime may install a handler for one real-time signal, with which it
                                   ends what a worker thread runs: an item that is over its time, is
                                   cancelled, or is still there at the end. Without it such a thread is
                                   waited out for two seconds and then given up: it goes on, for nobody */
};

/* Allocator of the main state, with the meaning of lua_Alloc: new_size 0 frees; never called concurrently for one
 * runtime. Worker states have allocators of their own. */
typedef void *(*lumap_allocator)(void *data, void *block, size_t old_size, size_t new_size);

/* All zero means: the defaults. */
typedef struct lumap_options {
  int worker_count;           /* default size of a pool; 0: LUMAP_WORKERS, else the CPUs this process may use */
  const char *backend;        /* default back-end; NULL: LUMAP_BACKEND, else "thread" */
  const char *worker_program; /* started for "process" workers, with arguments that lumap_worker_main reads;
                                 NULL: bin/lumap (bin/lumap54) beside the folder of the library, or the
                                 running program if it is lumap itself */
  lumap_allocator allocator;  /* NULL: Lumap's own, one heap a state */
  void *allocator_data;
  unsigned flags;
  size_t memory_limit; /* bytes of Lua heap that the main state may hold; 0: no limit. Not with `allocator`: that has
                          its own. Workers: option memory_limit of their pool */
} lumap_options;

/* Opens a runtime. `options` may be NULL; nothing of it is kept but allocator_data.
 * Returns NULL when it fails; then, if message_size > 0, `message` holds the reason, cut to fit. */
LUMAP_API lumap *lumap_open(const lumap_options *options, char *message, size_t message_size);

/* Ends the workers, closes the main state (finalizers run) and frees the runtime. NULL is fine. Does not hang: a worker
 * thread that cannot be stopped is given up. */
LUMAP_API void lumap_close(lumap *runtime);

/* Sets the global `arg`: argv[script] becomes arg[0], those after it arg[1]..., those before it arg[-1]...
 * `script` may equal argc. The strings are copied. */
LUMAP_API lumap_result lumap_set_arguments(lumap *runtime, int argc, char *const *argv, int script);

/* In place of `argc`, with argv NULL: the arguments are what the global `arg` now holds, of whatever type, as the stock
 * interpreters take them. 5.4: 1 to #arg, and an error if `arg` is no table. LuaJIT: up to the first nil, and none if
 * `arg` is no table. */
enum { LUMAP_ARG_TABLE = -1 };

/* Runs a file with `argc` strings as `...`; `path` NULL is standard input. A first line that begins with '#' is
 * skipped. Results are dropped. */
LUMAP_API lumap_result lumap_run_file(lumap *runtime, const char *path, int argc, char *const *argv);

/* Runs `size` bytes of Lua source (not bytecode) likewise. `name` is the chunk's name as Lua means it ("=name",
 * "@file"). */
LUMAP_API lumap_result lumap_run_string(lumap *runtime, const char *code, size_t size, const char *name, int argc,
                                        char *const *argv);

/* As a prompt does: `code` is tried as an expression list first, then as statements; values that result go to the
 * global function `print`. LUMAP_ERROR_INCOMPLETE asks for more lines. */
LUMAP_API lumap_result lumap_eval(lumap *runtime, const char *code, size_t size, const char *name);

/* Runs source as lumap_run_string does and sets `*text` to its first result: a string or a number as text (cut at its
 * first zero byte), NULL for any other value and for none. Borrowed until the next call on this runtime. `*text` is
 * untouched on failure. */
LUMAP_API lumap_result lumap_query(lumap *runtime, const char *code, size_t size, int argc, char *const *argv,
                                   const char **text);

/* As option -l of the stock interpreters: require(name). 5.4 also sets the global `name` to the result, or with
 * "g=name" the global g; LuaJIT sets none. */
LUMAP_API lumap_result lumap_require(lumap *runtime, const char *name);

/* The message of the last call that failed, with a traceback when Lua code raised it; "" before the first failure.
 * Borrowed: valid until the next call on this runtime. */
LUMAP_API const char *lumap_error_message(const lumap *runtime);

/* Makes running Lua code raise "interrupted!" as soon as it can, a parallel call included, whose workers stop first.
 * Safe from any thread and in a signal handler. Nothing happens when nothing runs. */
LUMAP_API void lumap_interrupt(lumap *runtime);

/* The same for a handler that runs on the thread which uses the runtime; `context` is its third argument (SA_SIGINFO).
 * Items of the back-end "serial" are then ended whatever errors they catch and, with LUMAP_STOP_SIGNAL, in compiled
 * loops, too. It may not return but go on where the item was called: a handler calls it last, holding nothing. */
LUMAP_API void lumap_interrupt_in_handler(lumap *runtime, const void *context);

/* The main Lua state, for what lua.h can do. Owned by the runtime. */
LUMAP_API struct lua_State *lumap_state(lumap *runtime);

/* "0.1.0", and the VM beneath: "LuaJIT 2.1.0-beta3" or "Lua 5.4.4". */
LUMAP_API const char *lumap_version(void);
LUMAP_API const char *lumap_vm(void);
/* The line in which the stock interpreter's -v names that VM and its authors, without a newline. */
LUMAP_API const char *lumap_vm_notice(void);

/* A worker program calls this first in main. Returns -1 if this process was not started as a Lumap worker; otherwise
 * serves its parent until that closes the channel, and returns the exit status for main to return. Any host may be its
 * own worker program that way. */
LUMAP_API int lumap_worker_main(int argc, char *const *argv);

#ifdef __cplusplus
}
#endif
#endif
