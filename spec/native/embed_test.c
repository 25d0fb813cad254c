/* SPDX-License-Identifier: MIT
 *
 * embed_test.c - liblumap in hosts that have much of their own going on: threads that are busy in the C library while
 * workers start, many threads that use one runtime or have many, a pool of threads of the host's own, a host that is
 * killed. Once for each VM. The program is its own worker program.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "lumap.h"

enum { MESSAGE_SIZE = 400 };

/* Pools of both kinds whose workers die and start anew, so that starts and ends come all the time. */
static const char churn[] =
    "local function square(x) return x * x end\n"
    "for round = 1, 4 do\n"
    "  for _, backend in ipairs { 'thread', 'process' } do\n"
    "    local pool = parallel.pool { backend = backend, workers = 3 }\n"
    "    local list = pool:map(function(x) if x == 5 then os.exit(3) end return x * x end, parallel.range(1, 40),\n"
    "      { errors = 'collect', chunk = 4 })\n"
    "    for i = 1, 40 do assert(list[i] == (i ~= 5 and i * i or nil), tostring(list.errors[i])) end\n"
    "    assert(list.errors[5].kind == 'died' and list.errors[5].exit_code == 3, tostring(list.errors[5]))\n"
    "    pool:close()\n"
    "    pool:join()\n"
    "    assert(parallel.map(square, { round }, { backend = backend, workers = 2 })[1] == round * round)\n"
    "  end\n"
    "end";

/* Opens a runtime and runs code in it; false with the reason in `message`. */
static bool run_in_new(const char *code, char message[MESSAGE_SIZE]) {
  lumap_options options = {.worker_count = 2, .worker_program = "/proc/self/exe"};
  lumap *runtime = lumap_open(&options, message, MESSAGE_SIZE);
  bool ok;
  if (!runtime) return false;
  ok = lumap_run_string(runtime, code, strlen(code), "=host", 0, NULL) == LUMAP_OK;
  snprintf(message, MESSAGE_SIZE, "%s", lumap_error_message(runtime));
  lumap_close(runtime);
  return ok;
}

/* ---- threads of the host that hold the locks of the C library most of the time ---- */

typedef struct busy {
  atomic_bool stop;
  FILE *sink;
} busy;

static void *allocate_all_the_time(void *argument) {
  busy *self = argument;
  for (size_t size = 1; !atomic_load(&self->stop); size = size * 3 % 100003 + 1)
    free(realloc(malloc(size), size * 2));
  return NULL;
}

static void *write_all_the_time(void *argument) {
  busy *self = argument;
  while (!atomic_load(&self->stop))
    fprintf(self->sink, "%d %s\n", (int)getpid(), "text");
  return NULL;
}

static void *resolve_all_the_time(void *argument) {
  busy *self = argument;
  while (!atomic_load(&self->stop)) {
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &found) == 0) freeaddrinfo(found);
  }
  return NULL;
}

static void workers_start_while_threads_are_busy_in_the_c_library(void) {
  static void *(*const bodies[])(void *) = {allocate_all_the_time, write_all_the_time, resolve_all_the_time};
  enum { THREADS = sizeof bodies / sizeof *bodies };
  pthread_t threads[THREADS];
  char message[MESSAGE_SIZE] = "";
  busy state = {.sink = fopen("/dev/null", "w")};
  bool ok;
  CHECK(state.sink, "/dev/null does not open");
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, bodies[i], &state);
  ok = run_in_new(churn, message);
  atomic_store(&state.stop, true);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  fclose(state.sink);
  CHECK(ok, "%s", message);
}

/* ---- many threads of the host ---- */

enum { HOST_THREADS = 8 };

static void *churn_in_new(void *message) {
  if (run_in_new(churn, message)) *(char *)message = '\0';
  return NULL;
}

static void many_threads_have_runtimes_with_pools_of_each_kind(void) {
  pthread_t threads[HOST_THREADS];
  char messages[HOST_THREADS][MESSAGE_SIZE];
  for (int i = 0; i < HOST_THREADS; i++)
    pthread_create(&threads[i], NULL, churn_in_new, messages[i]);
  for (int i = 0; i < HOST_THREADS; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < HOST_THREADS; i++)
    CHECK(!messages[i][0], "thread %d: %s", i, messages[i]);
}

/* One runtime that threads use in turns. What one of them started lives on when that thread has ended. */
typedef struct shared {
  pthread_mutex_t turn;
  lumap *runtime;
  char message[MESSAGE_SIZE];
} shared;

static void *use_in_turn(void *argument) {
  static const char code[] =
      "pools = pools or { parallel.pool { backend = 'thread', workers = 3 },\n"
      "  parallel.pool { backend = 'process', workers = 3 } }\n"
      "for _, pool in ipairs(pools) do\n"
      "  local list = pool:map(function(x) return x + 1 end, parallel.range(1, 50), { chunk = 5 })\n"
      "  for i = 1, 50 do assert(list[i] == i + 1) end\n"
      "  late, before = pool:submit(function(x) return x end, 7), late\n"
      "  assert(not before or before:get() == 7)\n"
      "  assert(pool:stats().deaths == 0)\n"
      "end";
  shared *self = argument;
  for (int round = 0; round < 5; round++) {
    pthread_mutex_lock(&self->turn);
    if (lumap_run_string(self->runtime, code, strlen(code), "=host", 0, NULL) != LUMAP_OK)
      snprintf(self->message, sizeof self->message, "%s", lumap_error_message(self->runtime));
    pthread_mutex_unlock(&self->turn);
  }
  return NULL;
}

static void many_threads_use_one_runtime_in_turns(void) {
  lumap_options options = {.worker_count = 2, .worker_program = "/proc/self/exe"};
  shared state = {.turn = PTHREAD_MUTEX_INITIALIZER};
  pthread_t threads[HOST_THREADS];
  state.runtime = lumap_open(&options, state.message, sizeof state.message);
  CHECK(state.runtime, "%s", state.message);
  /* The first one has ended before the others come, and with it the thread that made the pools. */
  pthread_create(&threads[0], NULL, use_in_turn, &state);
  pthread_join(threads[0], NULL);
  for (int i = 1; i < HOST_THREADS; i++)
    pthread_create(&threads[i], NULL, use_in_turn, &state);
  for (int i = 1; i < HOST_THREADS; i++)
    pthread_join(threads[i], NULL);
  lumap_close(state.runtime);
  CHECK(!state.message[0], "%s", state.message);
}

#ifdef _OPENMP
/* The threads of OpenMP's own pool stay, idle, while workers start, and are used again behind them. */
static double sum_in_parallel(int n) {
  double sum = 0;
#pragma omp parallel for reduction(+ : sum) num_threads(4)
  for (int i = 1; i <= n; i++)
    sum += i;
  return sum;
}

static void a_host_may_have_used_openmp_before(void) {
  enum { N = 100000 };
  char message[MESSAGE_SIZE] = "";
  const double expected = N * (N + 1.0) / 2;
  CHECK(sum_in_parallel(N) == expected, "wrong before");
  CHECK(run_in_new(churn, message), "%s", message);
  CHECK(sum_in_parallel(N) == expected, "wrong after");
}
#endif

/* ---- a host that is killed while its worker starts ---- */

/* Names the folder of two FIFOs: in "started" a worker tells its process number before it has done anything else, then
 * it waits for "go". */
static const char gate_variable[] = "EMBED_TEST_GATE";
static const char host_argument[] = "be-a-host";

static int open_in(const char *folder, const char *name, int flags) {
  char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return open(path, flags | O_CLOEXEC);
}

static void wait_at_the_gate(const char *folder) {
  pid_t self = getpid();
  char byte;
  int started = open_in(folder, "started", O_WRONLY), go;
  if (write(started, &self, sizeof self) != sizeof self) _exit(98);
  close(started);
  go = open_in(folder, "go", O_RDONLY);
  if (read(go, &byte, 1) < 0) _exit(98);
  close(go);
}

static bool make_gate(char folder[], char *started, char *go, size_t size) {
  if (!mkdtemp(folder)) return false;
  snprintf(started, size, "%s/started", folder);
  snprintf(go, size, "%s/go", folder);
  return mkfifo(started, 0600) == 0 && mkfifo(go, 0600) == 0;
}

static pid_t start_host(const char *folder) {
  char *arguments[] = {"embed_test", (char *)host_argument, NULL};
  pid_t host = -1;
  setenv(gate_variable, folder, 1);
  if (posix_spawn(&host, "/proc/self/exe", NULL, NULL, arguments, environ)) host = -1;
  unsetenv(gate_variable);
  return host;
}

/* The worker has been started and has not yet tied itself to its host, which is dead by then. */
static void a_worker_that_starts_when_its_host_is_dead_ends(void) {
  char folder[] = "/tmp/embed_test.XXXXXX", started[64], go[64];
  pid_t host, worker = -1, ended;
  int from_worker, status = 0;
  CHECK(make_gate(folder, started, go, sizeof go), "no folder: %s", strerror(errno));
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "its end could not be waited for");
  host = start_host(folder);
  CHECK(host > 0, "the host does not start");
  from_worker = open(started, O_RDONLY | O_CLOEXEC);
  CHECK(read(from_worker, &worker, sizeof worker) == sizeof worker, "no worker");
  close(from_worker);
  kill(host, SIGKILL);
  while ((ended = waitpid(host, &status, 0)) < 0 && errno == EINTR)
    continue;
  CHECK(ended == host && WIFSIGNALED(status), "the host ended by itself: %x", (unsigned)status);
  close(open(go, O_WRONLY | O_CLOEXEC)); /* end of file lets it go on */
  while ((ended = waitpid(worker, &status, 0)) < 0 && errno == EINTR)
    continue;
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  unlink(started);
  unlink(go);
  rmdir(folder);
  CHECK(ended == worker, "worker %d: %s", (int)worker, strerror(errno));
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 98, "%x", (unsigned)status);
}

static int be_a_host(void) {
  char message[MESSAGE_SIZE];
  static const char code[] = "parallel.pool { backend = 'process', workers = 1 }:apply(parallel.sleep, 3600)";
  return run_in_new(code, message) ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(workers_start_while_threads_are_busy_in_the_c_library),
      TEST(many_threads_have_runtimes_with_pools_of_each_kind),
      TEST(many_threads_use_one_runtime_in_turns),
#ifdef _OPENMP
      TEST(a_host_may_have_used_openmp_before),
#endif
      TEST(a_worker_that_starts_when_its_host_is_dead_ends),
  };
  const char *gate = getenv(gate_variable);
  int status;
  if (argc == 2 && strcmp(argv[1], host_argument) == 0) return be_a_host();
  if (gate) wait_at_the_gate(gate);
  status = lumap_worker_main(argc, argv);
  if (status >= 0) return status;
  return check_run(tests, sizeof tests / sizeof *tests, 120, NULL, argc, argv);
}
