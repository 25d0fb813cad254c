/* SPDX-License-Identifier: MIT
 *
 * host_test.c - liblumap as a host program meets it: through lumap.h alone, once for each VM. The program is its own
 * worker program.
 */
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"
#include "lumap.h"

static lumap_result run(lumap *runtime, const char *code) {
  return lumap_run_string(runtime, code, strlen(code), "=host", 0, NULL);
}

static lumap *open_with(const char *backend) {
  lumap_options options = {.backend = backend, .worker_count = 2, .worker_program = "/proc/self/exe"};
  char message[256] = "";
  lumap *runtime = lumap_open(&options, message, sizeof message);
  if (!runtime) snprintf(check_reason, sizeof check_reason, "lumap_open: %s", message);
  return runtime;
}

static const char squares[] =
    "for round = 1, 20 do\n"
    "  local list = parallel.map(function(x) return x * x + round end, parallel.range(1, 500))\n"
    "  for i = 1, 500 do assert(list[i] == i * i + round) end\n"
    "end";

static void maps_on_every_backend(void) {
  static const char *const backends[] = {"serial", "thread", "process"};
  for (int i = 0; i < 3; i++) {
    lumap *runtime = open_with(backends[i]);
    lumap_result result;
    CHECK_SO_FAR();
    result = run(runtime, squares);
    CHECK(result == LUMAP_OK, "%s: %s", backends[i], lumap_error_message(runtime));
    lumap_close(runtime);
  }
}

static void *run_squares(void *result) {
  lumap *runtime = lumap_open(&(lumap_options){.worker_count = 3}, NULL, 0);
  *(lumap_result *)result = runtime ? run(runtime, squares) : LUMAP_ERROR_MEMORY;
  lumap_close(runtime);
  return NULL;
}

static void runtimes_on_their_own_threads_do_not_meet(void) {
  enum { RUNTIMES = 6 };
  pthread_t threads[RUNTIMES];
  lumap_result results[RUNTIMES];
  for (int i = 0; i < RUNTIMES; i++)
    pthread_create(&threads[i], NULL, run_squares, &results[i]);
  for (int i = 0; i < RUNTIMES; i++) {
    pthread_join(threads[i], NULL);
    CHECK(results[i] == LUMAP_OK, "runtime %d gave %d", i, results[i]);
  }
}

static void a_runtime_may_move_between_threads(void) {
  lumap *runtime = open_with("thread");
  pthread_t thread;
  CHECK_SO_FAR();
  CHECK(run(runtime, squares) == LUMAP_OK, "%s", lumap_error_message(runtime));
  pthread_create(&thread, NULL, (void *(*)(void *))(void (*)(void))lumap_close, runtime);
  pthread_join(thread, NULL);
}

static void errors_are_told(void) {
  lumap *runtime = open_with("thread");
  CHECK_SO_FAR();
  CHECK(strcmp(lumap_error_message(runtime), "") == 0, "%s", lumap_error_message(runtime));
  CHECK(run(runtime, "return = 1") == LUMAP_ERROR_SYNTAX, "%s", lumap_error_message(runtime));
  CHECK(run(runtime, "error 'x'") == LUMAP_ERROR_RUN, "%s", lumap_error_message(runtime));
  CHECK(strstr(lumap_error_message(runtime), "host:1: x"), "%s", lumap_error_message(runtime));
  CHECK(lumap_run_file(runtime, "/no/such/file", 0, NULL) == LUMAP_ERROR_FILE, "%s", lumap_error_message(runtime));
  CHECK(lumap_eval(runtime, "for i = 1, 2 do", 15, "=prompt") == LUMAP_ERROR_INCOMPLETE, "not told");
  CHECK(lumap_set_arguments(runtime, 1, NULL, 2) == LUMAP_ERROR_ARGUMENT, "not told");
  CHECK(run(runtime, "parallel.map(function(x) error('item') end, {1})") == LUMAP_ERROR_RUN, "not told");
  CHECK(strstr(lumap_error_message(runtime), "item 1 failed"), "%s", lumap_error_message(runtime));
  CHECK(run(runtime, squares) == LUMAP_OK, "%s", lumap_error_message(runtime));
  lumap_close(runtime);
  lumap_close(NULL);
}

static void a_backend_that_is_not_there_is_refused(void) {
  char message[64] = "";
  CHECK(!lumap_open(&(lumap_options){.backend = "smoke"}, message, sizeof message), "opened");
  CHECK(strstr(message, "smoke"), "%s", message);
}

/* Interrupts as soon as a byte comes through the pipe: then an item runs. */
typedef struct interrupter {
  lumap *runtime;
  int pipe[2];
} interrupter;

static void *interrupt_when_told(void *argument) {
  interrupter *self = argument;
  char byte;
  if (read(self->pipe[0], &byte, 1) == 1) lumap_interrupt(self->runtime);
  return NULL;
}

static void an_interrupt_ends_a_parallel_call(void) {
  interrupter self;
  pthread_t thread;
  char code[256];
  lumap_result result;
  self.runtime = open_with("process");
  CHECK_SO_FAR();
  CHECK(pipe(self.pipe) == 0, "no pipe");
  pthread_create(&thread, NULL, interrupt_when_told, &self);
  snprintf(code, sizeof code,
           "parallel.map(function() local f = io.open('/proc/%d/fd/%d', 'w') f:write('x') f:close() "
           "parallel.sleep(3600) end, {1})",
           (int)getpid(), self.pipe[1]);
  result = run(self.runtime, code);
  pthread_join(thread, NULL);
  CHECK(result == LUMAP_ERROR_RUN, "%d", result);
  CHECK(strstr(lumap_error_message(self.runtime), "interrupted!"), "%s", lumap_error_message(self.runtime));
  CHECK(run(self.runtime, squares) == LUMAP_OK, "%s", lumap_error_message(self.runtime));
  lumap_close(self.runtime);
  close(self.pipe[0]);
  close(self.pipe[1]);
}

/* The flag was not given, so no handler is installed: the item is over its time all the same. */
static void without_the_signal_a_thread_is_given_up(void) {
  lumap *runtime = open_with("thread");
  CHECK_SO_FAR();
  CHECK(run(runtime,
            "local pool = parallel.ThreadPool(1)\n"
            "local list = pool:map(function(x) if x == 2 then parallel.sleep(4) end return x end, { 1, 2, 3 },\n"
            "  { timeout = 0.1, errors = 'collect', chunk = 1 })\n"
            "assert(list[1] == 1 and list[3] == 3 and list.errors[2].kind == 'timeout')\n"
            "assert(pool:stats().abandoned == 1)") == LUMAP_OK,
        "%s", lumap_error_message(runtime));
  for (int i = SIGRTMIN; i <= SIGRTMAX; i++) {
    struct sigaction action;
    CHECK(sigaction(i, NULL, &action) != 0 || action.sa_handler == SIG_DFL, "signal %d has a handler", i);
  }
  lumap_close(runtime);
}

/* An allocator that gives no more than a budget. */
typedef struct budget {
  size_t left;
} budget;

static void *allocate(void *data, void *block, size_t old_size, size_t new_size) {
  budget *self = data;
  size_t had = block ? old_size : 0;
  if (new_size == 0) {
    free(block);
    self->left += had;
    return NULL;
  }
  if (new_size > had && new_size - had > self->left) return NULL;
  block = realloc(block, new_size);
  if (block) self->left = self->left + had - new_size;
  return block;
}

static void lack_of_memory_is_an_ordinary_error(void) {
  enum { STEP = 3000, MOST = 4 << 20 };
  lumap *runtime = NULL;
  for (size_t size = 0; size < MOST && !runtime; size += STEP) {
    budget memory = {size};
    char message[256] = "";
    lumap_options options = {.allocator = allocate, .allocator_data = &memory, .worker_count = 1, .backend = "serial"};
    runtime = lumap_open(&options, message, sizeof message);
    if (!runtime) {
      CHECK(message[0], "no message at %zu bytes", size);
      /* LuaJIT loses some bytes of its own when one of its tables cannot grow: 16 and 80 were seen, as the table is. */
      CHECK(size - memory.left <= 128, "%zu of %zu bytes came back", memory.left, size);
      continue;
    }
    CHECK(run(runtime, "local t = {} for i = 1, 1e7 do t[i] = {} end") == LUMAP_ERROR_MEMORY, "%s",
          lumap_error_message(runtime));
    memory.left += MOST;
    CHECK(run(runtime, squares) == LUMAP_OK, "%s", lumap_error_message(runtime));
    lumap_close(runtime);
  }
  CHECK(runtime, "a runtime does not open in %d bytes", MOST);
}

static void lack_of_memory_does_not_spoil_cdata(void) {
  enum { STEP = 1500, MOST = 8 << 20 };
  static const char *const code =
      "if not jit then return end\n"
      "jit.off()\n" /* compiled code of LuaJIT crashes now and then where a plain loop lacks memory, too */
      "local ffi = require 'ffi'\n"
      "declared = declared or ffi.cdef('struct host_point { int x; double y; };') or true\n"
      "local point = ffi.new('struct host_point', 3, 4)\n"
      "local Pair = ffi.typeof('struct { struct host_point at[2]; complex z; }')\n"
      "local back = codec.decode(codec.encode { point, Pair(), point })\n"
      "assert(back[1].x == 3 and back[1] == back[3] and ffi.istype(Pair, back[2]))\n"
      "local list = parallel.map(function(p) return p.x + Pair().z.re, p end, { point }, { backend = 'serial' })\n"
      "assert(list[1] == 3)\n";
  for (size_t size = STEP;; size += STEP) {
    budget memory = {MOST};
    char message[256] = "";
    lumap_options options = {.allocator = allocate, .allocator_data = &memory, .worker_count = 1};
    lumap *runtime = lumap_open(&options, message, sizeof message);
    size_t spare;
    lumap_result result;
    CHECK(runtime, "%s", message);
    if (!runtime) return;
    spare = memory.left > size ? memory.left - size : 0;
    memory.left -= spare;
    result = run(runtime, code);
    CHECK(result == LUMAP_OK || strstr(lumap_error_message(runtime), "memory"), "%s", lumap_error_message(runtime));
    memory.left += spare;
    CHECK(run(runtime, code) == LUMAP_OK, "with %zu bytes before: %s", size, lumap_error_message(runtime));
    lumap_close(runtime);
    if (result == LUMAP_OK) return;
  }
}

/* An allocator that counts, and fails once: Lua 5.4 collects and asks again, and is refused again. */
typedef struct mishap {
  size_t calls, fails_at;
} mishap;

static void *fail_once(void *data, void *block, size_t old_size, size_t new_size) {
  mishap *self = data;
  if (new_size == 0) {
    free(block);
    return NULL;
  }
  if ((!block || new_size > old_size) && self->calls++ - self->fails_at < 2) return NULL;
  return realloc(block, new_size);
}

static void what_one_lack_of_memory_left_undone_is_done_later(void) {
  static const char *const code =
      "if jit then jit.off() end\n"
      "local buffer, counter, channel = parallel.buffer('double', 2), parallel.counter(), parallel.channel()\n"
      "local list = parallel.map(function(x)\n"
      "  counter:add(x)\n"
      "  channel:send { buffer }\n"
      "  return { x + buffer[1] + #channel:receive()[1] }\n"
      "end, { 1, 2 }, { backend = 'serial' })\n"
      "assert(list[2][1] == 4 and counter:get() == 3 and codec.decode(codec.encode(list))[1][1] == 3)\n"
      "assert(parallel.submit(function() return 5 end):get() == 5)\n";
  lumap_result result = LUMAP_ERROR_MEMORY;
  for (size_t k = 1; result != LUMAP_OK; k++) {
    mishap memory = {0, SIZE_MAX / 2};
    char message[256] = "";
    lumap_options options = {.allocator = fail_once, .allocator_data = &memory, .worker_count = 1, .backend = "serial"};
    lumap *runtime = lumap_open(&options, message, sizeof message);
    CHECK(runtime, "%s", message);
    memory.fails_at = memory.calls + k;
    result = run(runtime, code);
    CHECK(result == LUMAP_OK || strstr(lumap_error_message(runtime), "memory"), "%s", lumap_error_message(runtime));
    CHECK(memory.calls > memory.fails_at || result == LUMAP_OK, "it does not end");
    memory.fails_at = SIZE_MAX / 2;
    CHECK(run(runtime, code) == LUMAP_OK, "behind allocation %zu: %s", k, lumap_error_message(runtime));
    lumap_close(runtime);
  }
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(maps_on_every_backend),
      TEST(runtimes_on_their_own_threads_do_not_meet),
      TEST(a_runtime_may_move_between_threads),
      TEST(errors_are_told),
      TEST(a_backend_that_is_not_there_is_refused),
      TEST(an_interrupt_ends_a_parallel_call),
      TEST(without_the_signal_a_thread_is_given_up),
      TEST(lack_of_memory_is_an_ordinary_error),
      TEST(lack_of_memory_does_not_spoil_cdata),
      TEST(what_one_lack_of_memory_left_undone_is_done_later),
  };
  int status = lumap_worker_main(argc, argv);
  if (status >= 0) return status;
  return check_run(tests, sizeof tests / sizeof *tests, 120, NULL, argc, argv);
}
