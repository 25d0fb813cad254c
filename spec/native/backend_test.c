/* SPDX-License-Identifier: MIT
 *
 * backend_test.c - the rules of vm/backend/backend.h, against a fake feed and a fake executor, on every back-end.
 *
 * The program is its own worker program. It also plays hosts that are killed, exit, or forget to serve: see main.
 * After each test there are as many descriptors, threads and children as before the first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "backend/offspring.h"
#include "check.h"
#include "fake.h"

#define PATIENCE 60.0 /* seconds, for what comes at once unless something is broken */

static const lumap_backend *const backends[] = {&lumap_backend_serial, &lumap_backend_thread, &lumap_backend_process};

static const int counts[] = {1, 2, 5, 13};

static char *program;

/* ---- tools ---- */

static char fifo_path[64];

/* A FIFO that items write to; open at both ends, so that none of its writers waits for a reader. */
static int fifo_open(void) {
  static int count; /* a name of its own each time: a worker that comes late must not meet another test */
  snprintf(fifo_path, sizeof fifo_path, "/tmp/lumap-backend-test-%d-%d", (int)getpid(), ++count);
  unlink(fifo_path);
  if (mkfifo(fifo_path, 0600)) return -1;
  return open(fifo_path, O_RDWR | O_CLOEXEC);
}

/* The next process id that an item has written. */
static pid_t fifo_read(int fifo) {
  char line[32] = {0};
  for (size_t at = 0; at < sizeof line - 1 && read(fifo, line + at, 1) == 1; at++)
    if (line[at] == '\n') return (pid_t)atoi(line);
  return 0;
}

static void fifo_close(int fifo) {
  close(fifo);
  unlink(fifo_path);
}

static const char *with_fifo(char letter) {
  static char text[80];
  snprintf(text, sizeof text, "%c%s", letter, fifo_path);
  return text;
}

static int count_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (folder && readdir(folder))
    count++;
  if (folder) closedir(folder);
  return count;
}

static bool has_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) == 0;
}

static int descriptors_before, threads_before;

static void *note_number(void *number) {
  *(long *)number = syscall(SYS_gettid);
  return NULL;
}

/* After a first thread: with it a sanitizer starts one of its own. One that was joined is counted until the kernel has
   put it away. */
static void take_census(void) {
  unsigned long thread;
  long number = 0;
  char path[64];
  if (lumap_thread_start(&thread, note_number, &number, 0, NULL) == LUMAP_E_OK) pthread_join((pthread_t)thread, NULL);
  snprintf(path, sizeof path, "/proc/self/task/%ld", number);
  while (access(path, F_OK) == 0)
    sched_yield();
  descriptors_before = count_descriptors();
  threads_before = lumap_thread_count();
}

/* A detached thread is counted until the kernel has put it away, so this has some patience. */
static void check_census(void) {
  uint64_t deadline = lumap_deadline_after(5);
  while (lumap_thread_count() != threads_before && lumap_clock_ns() < deadline)
    sched_yield();
  CHECK(lumap_thread_count() == threads_before, "%d, not %d", lumap_thread_count(), threads_before);
  CHECK(count_descriptors() == descriptors_before, "%d, not %d", count_descriptors(), descriptors_before);
  CHECK(!has_children(), "a child is left");
  CHECK(fake_open_states() == 0, "%d states are left", fake_open_states());
}

static lumap_status open_crew(fake_feed *feed, const lumap_backend *backend, int workers, const char *setup) {
  lumap_error error = {0};
  lumap_status status;
  *feed = (fake_feed){0};
  feed->crew.program = program;
  status = fake_open(feed, backend, workers, setup, &error);
  if (status != LUMAP_E_OK) printf("# cannot open: %s\n", error.message);
  return status;
}

/* Closes, and checks that nothing was lost or came twice. */
static void close_crew(fake_feed *feed) {
  fake_close(feed);
  CHECK(feed->finishes == feed->submitted, "%d of %d finished", feed->finishes, feed->submitted);
  CHECK(feed->references == 0, "%d references on the feed", feed->references);
  fake_deinit(feed);
}

static bool is_text(const lumap_task *task, const char *text) {
  return task->payload.size == strlen(text) && memcmp(task->payload.data, text, task->payload.size) == 0;
}

/* True when every process has ended in time. They need not be children of this one. */
static bool all_end(const int *watches, int count) {
  uint64_t deadline = lumap_deadline_after(PATIENCE);
  bool ended = true;
  for (int i = 0; i < count; i++) {
    struct pollfd item = {.fd = watches[i], .events = POLLIN};
    int got;
    do
      got = poll(&item, 1, (int)((deadline - lumap_clock_ns()) / 1000000));
    while (got < 0 && errno == EINTR);
    ended = ended && got == 1;
    close(watches[i]);
  }
  return ended;
}

/* ---- every back-end ---- */

static void check_echo(const lumap_backend *backend, int workers) {
  static const size_t sizes[] = {0, 1, 2, 65535, 65536, 65537, 1000000};
  enum { SIZES = sizeof sizes / sizeof *sizes };
  unsigned char seen[64] = {0};
  fake_feed feed;
  CHECK(open_crew(&feed, backend, workers, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  unsigned char *data = calloc(1, sizes[SIZES - 1]);
  data[0] = 'e';
  for (size_t i = 1; i < sizes[SIZES - 1]; i++)
    data[i] = (unsigned char)(i >> 3);
  for (uint64_t i = 0; i < sizeof seen; i++) {
    fake_queue(&feed, call, 1 + 10 * i, data, sizes[i % SIZES]);
    fake_wake(&feed);
  }
  for (size_t i = 0; i < sizeof seen; i++) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "task %zu of %zu does not come", i, sizeof seen);
    CHECK(task->outcome == LUMAP_OUTCOME_DONE && task->done == 10, "%u: %s", task->outcome, task->error.message);
    uint64_t which = (task->first - 1) / 10;
    CHECK(task->payload.size == sizes[which % SIZES], "%zu bytes", task->payload.size);
    CHECK(memcmp(task->payload.data ? task->payload.data : data, data, task->payload.size) == 0, "other bytes");
    CHECK(task->worker >= 1 && task->worker <= workers, "worker %d", task->worker);
    CHECK(task->started_ns && task->ended_ns >= task->started_ns, "no times");
    CHECK(!seen[which]++, "twice");
    lumap_task_free(task);
  }
  free(data);
  fake_end(&feed, call);
  close_crew(&feed);
}

static void payloads_come_back(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4 && !check_reason[0]; k++)
      check_echo(backends[i], counts[k]);
}

static void check_big(const lumap_backend *backend) {
  const size_t size = (size_t)(CHECK_SANITIZED ? 16 : 64) << 20;
  char expected[64];
  uint32_t sum = 0;
  fake_feed feed;
  CHECK(open_crew(&feed, backend, 2, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  unsigned char *data = malloc(size);
  for (size_t i = 0; i < size; i++)
    data[i] = (unsigned char)(i * 13);
  data[0] = 'n';
  for (size_t i = 0; i < size; i++)
    sum = sum * 31 + data[i];
  snprintf(expected, sizeof expected, "%zu %u", size, sum);
  fake_queue(&feed, call, 1, data, size);
  fake_wake(&feed);
  lumap_task *task = fake_collect(&feed, PATIENCE);
  CHECK(task && is_text(task, expected), "there: %s", task ? task->error.message : "it does not come");
  lumap_task_free(task);
  snprintf(expected, sizeof expected, "r%zu", size);
  fake_submit(&feed, call, 1, expected);
  task = fake_collect(&feed, PATIENCE);
  CHECK(task && task->payload.size == size, "back: %s", task ? task->error.message : "it does not come");
  for (size_t i = 0; i < size; i++)
    CHECK(task->payload.data[i] == (unsigned char)(i * 7), "byte %zu", i);
  lumap_task_free(task);
  free(data);
  fake_end(&feed, call);
  close_crew(&feed);
}

static void big_payloads_come_back(void) {
  for (int i = 0; i < 3 && !check_reason[0]; i++)
    check_big(backends[i]);
}

static void append(lumap_call *call, const char *text) {
  lumap_bytes bytes = {0};
  lumap_bytes_append(&bytes, text, strlen(text));
  lumap_call_append(call, &bytes);
}

static void check_log(const lumap_backend *backend, int workers) {
  fake_feed feed;
  char expected[400] = {0}, entry[32];
  CHECK(open_crew(&feed, backend, workers, "") == LUMAP_E_OK, "open");
  for (int round = 0; round < 3; round++) {
    lumap_call *call = fake_call(&feed);
    expected[0] = '\0';
    for (int i = 0; i < 40; i++) {
      if (i % 2 == 0) {
        snprintf(entry, sizeof entry, "<%d.%d>", round, i);
        append(call, entry);
        strcat(expected, entry);
      }
      fake_submit(&feed, call, 1, "l");
      /* Two in flight, so that logs grow while workers are behind. */
      lumap_task *task = i % 2 ? fake_collect(&feed, PATIENCE) : NULL;
      if (i % 2 == 0) continue;
      CHECK(task && is_text(task, expected), "%.*s, not %s", task ? (int)task->payload.size : 0,
            task ? (char *)task->payload.data : "", expected);
      lumap_task_free(task);
      task = fake_collect(&feed, PATIENCE);
      CHECK(task && is_text(task, expected), "the second one");
      lumap_task_free(task);
    }
    fake_end(&feed, call);
  }
  close_crew(&feed);
}

static void logs_reach_each_worker(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4 && !check_reason[0]; k++)
      check_log(backends[i], counts[k]);
}

static void check_spent(const lumap_backend *backend) {
  fake_feed feed;
  int process, state, process_before = 0, state_before = 0;
  CHECK(open_crew(&feed, backend, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 5; i++) {
    fake_submit(&feed, call, 1, "pabc");
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_DONE && is_text(task, "pabc"), "the result is lost");
    lumap_task_free(task);
    fake_submit(&feed, call, 1, "o");
    task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->payload.size, "the next one is lost");
    lumap_bytes_append(&task->payload, "", 1);
    CHECK(sscanf((char *)task->payload.data, "%d %d", &process, &state) == 2, "%s", (char *)task->payload.data);
    CHECK(i == 0 || (process == process_before && state == state_before + 1), "process %d, state %d", process, state);
    process_before = process, state_before = state;
    lumap_task_free(task);
  }
  fake_end(&feed, call);
  close_crew(&feed);
}

static void a_spent_state_is_made_anew(void) {
  for (int i = 0; i < 3 && !check_reason[0]; i++)
    check_spent(backends[i]);
}

static void check_no_start(const lumap_backend *backend, int workers, const char *setup, const char *message) {
  fake_feed feed;
  CHECK(open_crew(&feed, backend, workers, setup) == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 10; i++)
    fake_queue(&feed, call, 1, "e", 1);
  fake_wake(&feed);
  for (int i = 0; i < 10; i++) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "task %d does not come", i);
    CHECK(task->outcome == LUMAP_OUTCOME_START, "outcome %u", task->outcome);
    CHECK(strstr(task->error.message, message), "%s", task->error.message);
    CHECK(task->worker >= 1 && task->error.status != LUMAP_E_OK, "worker %d", task->worker);
    lumap_task_free(task);
  }
  fake_end(&feed, call);
  close_crew(&feed);
}

static void a_state_that_cannot_be_opened_fails_its_task(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4 && !check_reason[0]; k++)
      check_no_start(backends[i], counts[k], "fail:no bread", "no bread");
}

static void close_when_idle(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++) {
      fake_feed feed;
      CHECK(open_crew(&feed, backends[i], counts[k], "") == LUMAP_E_OK, "open");
      close_crew(&feed);
      CHECK_SO_FAR();
      CHECK(open_crew(&feed, backends[i], counts[k], "") == LUMAP_E_OK, "open");
      fake_stop(&feed);
      close_crew(&feed);
      CHECK_SO_FAR();
    }
}

static void close_finishes_what_is_queued(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++) {
      fake_feed feed;
      CHECK(open_crew(&feed, backends[i], counts[k], "") == LUMAP_E_OK, "open");
      lumap_call *call = fake_call(&feed);
      for (int n = 0; n < 200; n++)
        fake_queue(&feed, call, 1, "exyz", 4);
      fake_wake(&feed);
      lumap_call_release(call);
      close_crew(&feed);
      CHECK_SO_FAR();
    }
}

/* Items that obey the control block: on every back-end that has workers of its own. */
static void check_stop(const lumap_backend *backend, int workers) {
  fake_feed feed;
  int fifo = fifo_open();
  CHECK(open_crew(&feed, backend, workers, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < workers + 5; i++)
    fake_submit(&feed, call, 1, with_fifo('w'));
  for (int i = 0; i < workers; i++)
    CHECK(fifo_read(fifo), "worker %d has not begun", i);
  uint64_t before = lumap_clock_ns();
  fake_stop(&feed);
  fake_close(&feed);
  uint64_t took_ms = (lumap_clock_ns() - before) / 1000000;
  CHECK(feed.finishes == feed.submitted && feed.finishes >= workers, "%d of %d finished", feed.finishes,
        feed.submitted);
  while (feed.collected < feed.finishes) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task->outcome <= LUMAP_OUTCOME_DIED, "outcome %u", task->outcome);
    CHECK(task->outcome != LUMAP_OUTCOME_DIED || (task->died_index == 3 && task->died_signal == SIGKILL), "index %llu",
          (unsigned long long)task->died_index);
    lumap_task_free(task);
  }
  CHECK(took_ms < 5000, "%d ms", (int)took_ms);
  CHECK(feed.references == 0, "%d references on the feed", feed.references);
  lumap_call_release(call);
  fake_deinit(&feed);
  fifo_close(fifo);
}

static void stop_when_busy(void) {
  for (int i = 1; i < 3; i++)
    for (int k = 0; k < 4 && !check_reason[0]; k++)
      check_stop(backends[i], counts[k]);
}

static void stop_of_one_call_is_obeyed(void) {
  for (int i = 1; i < 3; i++) {
    fake_feed feed;
    int fifo = fifo_open();
    CHECK(open_crew(&feed, backends[i], 1, "") == LUMAP_E_OK, "open");
    lumap_call *call = fake_call(&feed), *other = fake_call(&feed);
    fake_submit(&feed, call, 1, with_fifo('w'));
    CHECK(fifo_read(fifo), "it has not begun");
    CHECK(atomic_load(&feed.workers[0].control->call) == call->id, "the control block names another call");
    CHECK(atomic_load(&feed.workers[0].control->index) == 3, "the control block names another item");
    atomic_store(&feed.workers[0].control->stop_call, call->id);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_DONE && task->done == 1, "it does not end");
    lumap_task_free(task);
    fake_submit(&feed, other, 1, "e");
    task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->done == 10, "another call is stopped");
    lumap_task_free(task);
    fake_end(&feed, call), fake_end(&feed, other);
    close_crew(&feed);
    CHECK_SO_FAR();
    fifo_close(fifo);
  }
}

/* ---- threads ---- */

static void a_thread_is_interrupted_by_a_signal(void) {
  fake_feed feed = {0};
  int fifo = fifo_open();
  feed.crew.stop_signal = true;
  CHECK(fake_open(&feed, &lumap_backend_thread, 3, "", NULL) == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 3; i++)
    fake_submit(&feed, call, 1, with_fifo('b'));
  for (int i = 0; i < 3; i++)
    CHECK(fifo_read(fifo), "worker %d has not begun", i);
  fake_stop(&feed);
  for (int i = 0; i < 3; i++) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "it does not come");
    CHECK(task->outcome == LUMAP_OUTCOME_DONE && task->done == 1, "%u: %s", task->outcome, task->error.message);
    lumap_task_free(task);
  }
  lumap_call_release(call);
  close_crew(&feed);
  fifo_close(fifo);
}

static void do_nothing(int number) {
  (void)number;
}

/* Every real-time signal but one has a handler of the host: that one is taken, the others are let be. */
static void a_signal_of_the_host_is_left_alone(void) {
  struct sigaction action = {.sa_handler = do_nothing}, before[65], after;
  int one = SIGRTMIN + 4;
  for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
    sigaction(i, i == one ? NULL : &action, &before[i]);
  a_thread_is_interrupted_by_a_signal();
  for (int i = SIGRTMIN; i <= SIGRTMAX; i++) {
    sigaction(i, NULL, &after);
    if (i != one)
      CHECK(after.sa_handler == do_nothing, "signal %d has another handler", i);
    else
      CHECK(after.sa_handler != SIG_DFL, "the free one is not used");
    sigaction(i, &before[i], NULL);
  }
}

static void a_thread_that_cannot_be_stopped_is_given_up(void) {
  char second[96];
  fake_feed feed;
  int fifo = fifo_open(), release;
  snprintf(second, sizeof second, "%s.2", fifo_path);
  mkfifo(second, 0600);
  CHECK(open_crew(&feed, &lumap_backend_thread, 2, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  fake_submit(&feed, call, 11, with_fifo('g'));
  CHECK(fifo_read(fifo), "it has not begun");
  fake_stop(&feed);
  CHECK(feed.finishes == 1, "%d", feed.finishes);
  lumap_task *task = fake_collect(&feed, PATIENCE);
  CHECK(task->outcome == LUMAP_OUTCOME_DIED && task->died_index == 13 && task->first == 11 && task->call == call,
        "%u: %s", task->outcome, task->error.message);
  CHECK(strstr(task->error.message, "given up"), "%s", task->error.message);
  lumap_task_free(task);
  lumap_call_release(call);
  fake_close(&feed);
  CHECK(atomic_load(&feed.references) == 1, "%d references on the feed", atomic_load(&feed.references));

  release = open(second, O_WRONLY | O_CLOEXEC);
  CHECK(write(release, "x", 1) == 1, "%s", strerror(errno));
  close(release);
  uint64_t deadline = lumap_deadline_after(PATIENCE);
  while (atomic_load(&feed.references) && lumap_clock_ns() < deadline)
    sched_yield();
  CHECK(atomic_load(&feed.references) == 0, "it never lets go of the feed");
  CHECK(feed.finishes == 1, "its task was finished twice");
  fake_deinit(&feed);
  unlink(second);
  fifo_close(fifo);
}

static void a_crew_of_threads_needs_its_threads(void) {
  fake_feed feed;
  for (int i = 0; i < 50; i++) {
    CHECK(open_crew(&feed, &lumap_backend_thread, 13, "") == LUMAP_E_OK, "open");
    CHECK(lumap_thread_count() <= threads_before + 1, "%d threads", lumap_thread_count());
    /* Threads that are stopped before there was anything for them to do. */
    fake_wake(&feed);
    fake_stop(&feed);
    close_crew(&feed);
    CHECK_SO_FAR();
  }
}

/* ---- the death of processes ---- */

static void check_death(const char *payload, int signal_number, int exit_code, const char *message) {
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  append(call, "log");
  for (int i = 0; i < 3; i++) {
    fake_submit(&feed, call, 21, payload);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "it does not come");
    CHECK(task->outcome == LUMAP_OUTCOME_DIED, "%u: %s", task->outcome, task->error.message);
    CHECK(task->died_signal == signal_number && task->died_exit == exit_code, "signal %d, exit code %d",
          task->died_signal, task->died_exit);
    CHECK(task->died_index == 23 && task->worker == 1, "index %llu", (unsigned long long)task->died_index);
    CHECK(strstr(task->error.message, message) && strstr(task->error.message, "worker 1 (process "), "%s",
          task->error.message);
    CHECK(task->done == 2, "of what goes to a buffer %llu items count as done", (unsigned long long)task->done);
    CHECK(is_text(task, payload), "the items are gone");
    lumap_task_free(task);
    fake_submit(&feed, call, 1, "l");
    task = fake_collect(&feed, PATIENCE);
    CHECK(task && is_text(task, "log"), "%s", task ? task->error.message : "the next one does not come");
    lumap_task_free(task);
  }
  fake_end(&feed, call);
  close_crew(&feed);
}

static void death_by_signal(void) {
  check_death("k9", SIGKILL, -1, "was killed by signal 9 (SIGKILL");
}
static void death_by_fault(void) {
  check_death("k7", SIGBUS, -1, "was killed by signal 7 (SIGBUS");
}
static void death_by_real_time_signal(void) {
  check_death("k40", 40, -1, "was killed by signal 40");
}
static void death_by_exit(void) {
  check_death("x3", 0, 3, "ended with exit code 3");
}
static void death_by_exit_without_failure(void) {
  check_death("x0", 0, 0, "ended with exit code 0");
}
static void death_in_half_a_result(void) {
  check_death("h", SIGKILL, -1, "was killed by signal 9 (SIGKILL");
}
static void death_after_junk(void) {
  check_death("j", SIGKILL, -1, "broke the protocol (bytes that are no frame");
}
static void death_after_closing_the_channel(void) {
  check_death("c", SIGKILL, -1, "was killed by signal 9 (SIGKILL");
}

static void death_where_the_host_ignores_children(void) {
  signal(SIGCHLD, SIG_IGN);
  check_death("x3", 0, -1, "kept to itself");
  signal(SIGCHLD, SIG_DFL);
}

/* Among many, deaths fail their own tasks and no others. */
static void deaths_fail_nothing_else(void) {
  static const char *const payloads[] = {"e1", "k9", "e2", "x3", "e3", "h", "e4", "r100000"};
  enum { TASKS = 400 };
  for (int k = 0; k < 4; k++) {
    unsigned char seen[TASKS] = {0};
    fake_feed feed;
    CHECK(open_crew(&feed, &lumap_backend_process, counts[k], "") == LUMAP_E_OK, "open");
    lumap_call *call = fake_call(&feed);
    for (uint64_t i = 0; i < TASKS; i++) {
      const char *payload = payloads[(i * 2654435761u >> 7) % 8];
      fake_queue(&feed, call, 1 + 10 * i, payload, strlen(payload));
    }
    fake_wake(&feed);
    for (int i = 0; i < TASKS; i++) {
      lumap_task *task = fake_collect(&feed, PATIENCE);
      CHECK(task, "task %d does not come", i);
      uint64_t which = task->first / 10;
      const char *payload = payloads[(which * 2654435761u >> 7) % 8];
      bool dies = strchr("kxh", payload[0]) != NULL;
      CHECK(!seen[which]++, "twice");
      CHECK(task->outcome == (dies ? LUMAP_OUTCOME_DIED : LUMAP_OUTCOME_DONE), "%s: %u: %s", payload, task->outcome,
            task->error.message);
      CHECK(!dies || task->died_index == task->first + 2, "index %llu", (unsigned long long)task->died_index);
      lumap_task_free(task);
    }
    fake_end(&feed, call);
    close_crew(&feed);
    CHECK_SO_FAR();
  }
}

/* One task runs, another waits in the channel: the second one is given back, and done by the next child. */
static void a_task_in_the_channel_is_given_back(void) {
  fake_feed feed;
  int fifo = fifo_open();
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  append(call, "first");
  fake_submit(&feed, call, 1, "e"); /* it is short, so two are held from now on */
  lumap_task_free(fake_collect(&feed, PATIENCE));
  append(call, "second");
  fake_queue(&feed, call, 11, with_fifo('w'), strlen(with_fifo('w')));
  fake_queue(&feed, call, 21, "l", 1);
  fake_wake(&feed);
  pid_t process = fifo_read(fifo);
  CHECK(process > 0 && kill(process, SIGKILL) == 0, "%s", strerror(errno));
  lumap_task *one = fake_collect(&feed, PATIENCE), *two = fake_collect(&feed, PATIENCE);
  CHECK(one && two, "they do not come");
  CHECK(one->first == 11 && one->outcome == LUMAP_OUTCOME_DIED && one->died_index == 13, "%s", one->error.message);
  CHECK(two->first == 21 && two->outcome == LUMAP_OUTCOME_DONE && is_text(two, "firstsecond"), "%s",
        two->error.message);
  CHECK(feed.given_back == 1, "given back: %d", feed.given_back);
  lumap_task_free(one), lumap_task_free(two);
  fake_end(&feed, call);
  close_crew(&feed);
  fifo_close(fifo);
}

static pid_t ask_process(fake_feed *feed, lumap_call *call) {
  fake_submit(feed, call, 1, "o");
  lumap_task *task = fake_collect(feed, PATIENCE);
  pid_t process = 0;
  if (task && task->outcome == LUMAP_OUTCOME_DONE && lumap_bytes_append(&task->payload, "", 1))
    process = (pid_t)atoi((char *)task->payload.data);
  lumap_task_free(task);
  return process;
}

/* The parent may or may not know of the death when the next task comes: that task must not suffer either way. */
static void death_when_idle_harms_nobody(void) {
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 100; i++) {
    pid_t process = ask_process(&feed, call);
    CHECK(process > 0, "round %d", i);
    kill(process, SIGKILL);
    for (int k = 0; k < i * 20; k++)
      sched_yield();
  }
  fake_end(&feed, call);
  close_crew(&feed);
}

/* The child is asleep while 64 MiB are sent to it, and does not wake up again. */
static void death_before_a_big_argument_is_read(void) {
  const size_t size = (size_t)64 << 20;
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  unsigned char *data = calloc(1, size);
  data[0] = 'n';
  pid_t process = ask_process(&feed, call);
  CHECK(process > 0 && kill(process, SIGSTOP) == 0, "%s", strerror(errno));
  fake_queue(&feed, call, 1, data, size);
  fake_wake(&feed);
  CHECK(!fake_collect(&feed, 0.05), "a sleeper has answered");
  kill(process, SIGKILL);
  lumap_task *task = fake_collect(&feed, PATIENCE);
  CHECK(task && task->outcome == LUMAP_OUTCOME_DONE && feed.given_back == 1, "%s",
        task ? task->error.message : "it does not come");
  lumap_task_free(task);
  free(data);
  fake_end(&feed, call);
  close_crew(&feed);
}

/* The child is killed when the control block says that it has begun to read. */
static void death_while_a_big_argument_is_read(void) {
  const size_t size = (size_t)64 << 20;
  int died = 0;
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  unsigned char *data = calloc(1, size);
  data[0] = 'n';
  for (int i = 0; i < 5; i++) {
    pid_t process = ask_process(&feed, call);
    CHECK(process > 0, "no process");
    lumap_control *control = feed.workers[0].control;
    uint32_t begun = lumap_control_begun(control);
    fake_queue(&feed, call, 31, data, size);
    fake_wake(&feed);
    while (lumap_control_begun(control) == begun)
      sched_yield();
    kill(process, SIGKILL);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "it does not come");
    if (task->outcome == LUMAP_OUTCOME_DIED) {
      died++;
      CHECK(task->died_index == 0 || task->died_index == 33, "index %llu", (unsigned long long)task->died_index);
      CHECK(task->payload.size == size && task->payload.data[0] == 'n', "the items are gone");
    }
    lumap_task_free(task);
  }
  CHECK(died > 0, "all were too fast to be killed");
  CHECK(feed.given_back == 0, "begun, and given back");
  free(data);
  fake_end(&feed, call);
  close_crew(&feed);
}

/* A result of 64 MiB of which the parent has read some when its writer is killed. */
static void death_while_a_big_result_is_written(void) {
  int died = 0;
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 5; i++) {
    pid_t process = ask_process(&feed, call);
    lumap_control *control = feed.workers[0].control;
    CHECK(process > 0, "no process");
    fake_submit(&feed, call, 31, "r67108864");
    while (atomic_load(&control->index) != 33)
      sched_yield();
    /* The pattern takes a while to make; yielding more each time sweeps over making and writing. */
    for (int k = 0; k < i * 200; k++)
      sched_yield();
    kill(process, SIGKILL);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task, "it does not come");
    CHECK(task->outcome == LUMAP_OUTCOME_DIED || task->payload.size == 67108864, "%s", task->error.message);
    if (task->outcome == LUMAP_OUTCOME_DIED) {
      died++;
      CHECK(task->died_index == 33, "index %llu", (unsigned long long)task->died_index);
      CHECK(is_text(task, "r67108864"), "the items are gone");
    }
    lumap_task_free(task);
  }
  CHECK(died > 0, "all were too fast to be killed");
  fake_end(&feed, call);
  close_crew(&feed);
}

/* ---- tasks that are taken back ---- */

/* A place where items wait: they tell their process to `told`, and each goes on with one byte of `go`. */
typedef struct gate {
  char item[80], path[96];
  int told, go;
} gate;

static void gate_open(gate *self, char letter) {
  self->told = fifo_open();
  snprintf(self->item, sizeof self->item, "%s", with_fifo(letter));
  snprintf(self->path, sizeof self->path, "%s.2", self->item + 1);
  mkfifo(self->path, 0600);
  self->go = open(self->path, O_RDWR | O_CLOEXEC);
}

static void gate_queue(gate *self, fake_feed *feed, lumap_call *call, uint64_t first) {
  fake_queue(feed, call, first, self->item, strlen(self->item));
}

static bool gate_let_pass(gate *self, int count) {
  static const char bytes[FAKE_MOST_WORKERS] = {0};
  return write(self->go, bytes, (size_t)count) == count;
}

static void gate_close(gate *self) {
  close(self->told), close(self->go);
  unlink(self->path);
  unlink(self->item + 1);
}

/* True when nothing is queued in time: what is not finished is with the workers. */
static bool all_taken(fake_feed *feed) {
  uint64_t deadline = lumap_deadline_after(PATIENCE);
  bool empty = false;
  while (!empty && lumap_clock_ns() < deadline) {
    sched_yield();
    pthread_mutex_lock(&feed->lock);
    empty = lumap_list_is_empty(&feed->queue);
    pthread_mutex_unlock(&feed->lock);
  }
  return empty;
}

/* Runs one task on each worker at the same time, all of them short: from now on each may hold two. */
static void make_quick(fake_feed *feed, lumap_call *call) {
  gate all;
  gate_open(&all, 'i');
  for (int i = 0; i < feed->crew.worker_count; i++)
    gate_queue(&all, feed, call, 1);
  fake_wake(feed);
  for (int i = 0; i < feed->crew.worker_count; i++)
    CHECK(fifo_read(all.told) > 0, "worker %d has not begun", i);
  CHECK(gate_let_pass(&all, feed->crew.worker_count), "%s", strerror(errno));
  for (int i = 0; i < feed->crew.worker_count; i++) {
    lumap_task *task = fake_collect(feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_DONE, "%s", task ? task->error.message : "it does not come");
    lumap_task_free(task);
  }
  gate_close(&all);
}

/* Two workers, each in an item with another task behind it. */
typedef struct pair {
  fake_feed feed;
  lumap_call *call;
  gate slow, quick; /* items 11 and 21 */
  pid_t process;    /* that runs the slow one */
  int worker;       /* its number, once the slow item is done */
} pair;

/* Behind the gates wait two tasks with this payload, of items 31 and 41, that need all of the log: `entry`, if there is
 * one, is appended to it in between, and so is sent behind the gates' items. */
static void pair_open(pair *self, const void *data, size_t size, size_t entry_size) {
  lumap_bytes entry = {0};
  CHECK(open_crew(&self->feed, &lumap_backend_process, 2, "") == LUMAP_E_OK, "open");
  self->call = fake_call(&self->feed);
  make_quick(&self->feed, self->call);
  CHECK_SO_FAR();
  gate_open(&self->slow, 'i');
  gate_open(&self->quick, 'i');
  gate_queue(&self->slow, &self->feed, self->call, 11);
  gate_queue(&self->quick, &self->feed, self->call, 21);
  if (entry_size && lumap_bytes_reserve(&entry, entry_size)) {
    memset(entry.data, 'e', entry.size = entry_size);
    lumap_call_append(self->call, &entry);
  }
  fake_queue(&self->feed, self->call, 31, data, size);
  fake_queue(&self->feed, self->call, 41, data, size);
  fake_wake(&self->feed);
  self->process = fifo_read(self->slow.told);
  CHECK(self->process > 0 && fifo_read(self->quick.told) > 0, "they have not begun");
  CHECK(all_taken(&self->feed), "a short task was not sent ahead");
}

/* The quick item ends, and its worker does both tasks that were behind, while the other worker is still in its item.
 * `check` looks at each of them. */
static void pair_take_back(pair *self, void (*check)(const lumap_task *task)) {
  unsigned seen = 0;
  int worker = 0;
  CHECK(gate_let_pass(&self->quick, 1), "%s", strerror(errno));
  for (int i = 0; i < 3; i++) {
    lumap_task *task = fake_collect(&self->feed, PATIENCE);
    CHECK(task, "task %d waits behind a slow one", i);
    CHECK(task->outcome == LUMAP_OUTCOME_DONE, "%s", task->error.message);
    CHECK(i == 0 || task->worker == worker, "it was run by worker %d", task->worker);
    worker = task->worker;
    seen |= 1u << task->first / 10;
    if (task->first > 30) check(task);
    CHECK_SO_FAR();
    lumap_task_free(task);
  }
  CHECK(seen == (1 << 2 | 1 << 3 | 1 << 4), "seen %x", seen);
  CHECK(self->feed.given_back == 1, "given back: %d", self->feed.given_back);
  self->worker = 3 - worker;
}

/* The slow item ends; its process, having read away what was not its own any more, goes on as before. */
static void pair_go_on(pair *self) {
  lumap_task *task = NULL;
  bool seen = false;
  CHECK(gate_let_pass(&self->slow, 1), "%s", strerror(errno));
  task = fake_collect(&self->feed, PATIENCE);
  CHECK(task && task->first == 11 && task->outcome == LUMAP_OUTCOME_DONE && task->worker == self->worker, "%s",
        task ? task->error.message : "the slow one does not come");
  lumap_task_free(task);
  append(self->call, "end");
  /* Which of the two takes the next task is open. */
  for (int i = 0; i < 10000 && !seen; i++) {
    char text[32] = {0};
    fake_submit(&self->feed, self->call, 51, "o"), fake_submit(&self->feed, self->call, 61, "o");
    for (int k = 0; k < 2; k++) {
      task = fake_collect(&self->feed, PATIENCE);
      CHECK(task && task->outcome == LUMAP_OUTCOME_DONE, "%s", task ? task->error.message : "it does not come");
      memcpy(text, task->payload.data, task->payload.size < sizeof text ? task->payload.size : sizeof text - 1);
      CHECK(task->worker != self->worker || atoi(text) == self->process, "it is another process");
      seen = seen || task->worker == self->worker;
      lumap_task_free(task);
    }
  }
  CHECK(seen, "it is not given anything");
}

static void pair_close(pair *self) {
  gate_close(&self->slow), gate_close(&self->quick);
  fake_end(&self->feed, self->call);
  close_crew(&self->feed);
}

static void check_echoed(const lumap_task *task) {
  CHECK(is_text(task, "elm"), "%.*s", (int)task->payload.size, (char *)task->payload.data);
}

static void a_task_behind_a_slow_one_goes_to_an_idle_worker(void) {
  pair two;
  pair_open(&two, "elm", 3, 0);
  CHECK_SO_FAR();
  pair_take_back(&two, check_echoed);
  CHECK_SO_FAR();
  pair_go_on(&two);
  CHECK_SO_FAR();
  pair_close(&two);
}

enum { HALF_SENT_BYTES = 8 << 20 }; /* far more than a channel holds */

static char half_sent_sum[64];

static void check_summed(const lumap_task *task) {
  CHECK(is_text(task, half_sent_sum), "%.*s", (int)task->payload.size, (char *)task->payload.data);
}

static void a_task_that_is_half_sent_goes_to_an_idle_worker(void) {
  unsigned char *data = malloc(HALF_SENT_BYTES);
  uint32_t sum = 0;
  pair two;
  for (size_t i = 0; i < HALF_SENT_BYTES; i++)
    data[i] = i ? (unsigned char)(i * 11) : 'n', sum = sum * 31 + data[i];
  snprintf(half_sent_sum, sizeof half_sent_sum, "%d %u", HALF_SENT_BYTES, sum);
  pair_open(&two, data, HALF_SENT_BYTES, 0);
  free(data);
  CHECK_SO_FAR();
  pair_take_back(&two, check_summed);
  CHECK_SO_FAR();
  pair_go_on(&two);
  CHECK_SO_FAR();
  pair_close(&two);
}

static void check_logged(const lumap_task *task) {
  CHECK(task->payload.size == HALF_SENT_BYTES, "%zu bytes of log", task->payload.size);
}

/* The entry arrives as a whole all the same: the tasks that pair_go_on sends need it. */
static void a_task_whose_log_is_half_sent_goes_to_an_idle_worker(void) {
  pair two;
  pair_open(&two, "l", 1, HALF_SENT_BYTES);
  CHECK_SO_FAR();
  pair_take_back(&two, check_logged);
  CHECK_SO_FAR();
  pair_go_on(&two);
  CHECK_SO_FAR();
  pair_close(&two);
}

/* The slow one dies: the task that was behind it is another worker's business by then. */
static void death_before_a_task_that_was_taken_back(void) {
  pair two;
  pair_open(&two, "elm", 3, 0);
  CHECK_SO_FAR();
  pair_take_back(&two, check_echoed);
  CHECK_SO_FAR();
  CHECK(kill(two.process, SIGKILL) == 0, "%s", strerror(errno));
  lumap_task *task = fake_collect(&two.feed, PATIENCE);
  CHECK(task && task->outcome == LUMAP_OUTCOME_DIED && task->died_index == 13 && task->first == 11, "%s",
        task ? task->error.message : "it does not come");
  lumap_task_free(task);
  CHECK(two.feed.given_back == 1, "given back: %d", two.feed.given_back);
  pair_close(&two);
}

/* A child that has read away what was taken back, and dies before it begins the next task: that one is not to blame. */
static void death_after_a_task_that_was_taken_back(void) {
  pair two;
  siginfo_t info;
  lumap_task *task;
  uint64_t deadline = lumap_deadline_after(PATIENCE);
  pair_open(&two, "elm", 3, 0);
  CHECK_SO_FAR();
  pair_take_back(&two, check_echoed);
  CHECK_SO_FAR();
  lumap_control *control = two.feed.workers[two.worker - 1].control;
  CHECK((uint32_t)atomic_load(&control->turns) != 0, "nothing was taken back");
  CHECK(gate_let_pass(&two.slow, 1), "%s", strerror(errno));
  lumap_task_free(fake_collect(&two.feed, PATIENCE));
  while ((uint32_t)atomic_load(&control->turns) != 0 && lumap_clock_ns() < deadline)
    sched_yield();
  CHECK((uint32_t)atomic_load(&control->turns) == 0, "it was not read away");
  CHECK(kill(two.process, SIGSTOP) == 0 && waitid(P_PID, (id_t)two.process, &info, WSTOPPED) == 0, "%s",
        strerror(errno));
  /* Each worker takes one, and one of the workers sleeps. */
  gate busy;
  gate_open(&busy, 'g');
  gate_queue(&busy, &two.feed, two.call, 51);
  gate_queue(&busy, &two.feed, two.call, 61);
  fake_wake(&two.feed);
  CHECK(fifo_read(busy.told) > 0 && all_taken(&two.feed), "it has not begun");
  CHECK(kill(two.process, SIGKILL) == 0 && gate_let_pass(&busy, 2), "%s", strerror(errno));
  for (int i = 0; i < 2; i++) {
    task = fake_collect(&two.feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_DONE, "%s", task ? task->error.message : "it does not come");
    lumap_task_free(task);
  }
  CHECK(two.feed.given_back == 2, "given back: %d", two.feed.given_back);
  gate_close(&busy);
  pair_close(&two);
}

static void stop_after_a_task_was_taken_back(void) {
  pair two;
  unsigned char *data = calloc(1, HALF_SENT_BYTES);
  data[0] = 'e';
  pair_open(&two, data, HALF_SENT_BYTES, 0);
  free(data);
  CHECK_SO_FAR();
  CHECK(gate_let_pass(&two.quick, 1), "%s", strerror(errno));
  for (int i = 0; i < 3; i++)
    lumap_task_free(fake_collect(&two.feed, PATIENCE));
  fake_stop(&two.feed);
  lumap_task *task = fake_collect(&two.feed, PATIENCE);
  CHECK(task && task->first == 11 && task->outcome == LUMAP_OUTCOME_DIED, "%s",
        task ? task->error.message : "it does not come");
  lumap_task_free(task);
  gate_close(&two.slow), gate_close(&two.quick);
  lumap_call_release(two.call);
  close_crew(&two.feed);
}

/* Both sides reach for the same tasks, over and over: each task is done once, with the whole log. */
static void tasks_are_taken_back_once(void) {
  enum { ROUNDS = 1500, MOST = 20 };
  for (int k = 1; k < 4; k++) {
    fake_feed feed;
    uint32_t random = 1;
    size_t log_size = 0;
    CHECK(open_crew(&feed, &lumap_backend_process, counts[k], "") == LUMAP_E_OK, "open");
    lumap_call *call = fake_call(&feed);
    make_quick(&feed, call);
    CHECK_SO_FAR();
    for (int i = 0; i < ROUNDS; i++) {
      int count = 1 + (int)((random = random * 1664525 + 1013904223) >> 16) % MOST;
      unsigned seen = 0;
      size_t sizes[MOST];
      for (int n = 0; n < count; n++) {
        if ((random >> 10) % 8 == 0) append(call, "x"), log_size++;
        sizes[n] = log_size;
        fake_queue(&feed, call, 1 + 10 * (uint64_t)n, n % 2 ? "l" : "i", 1);
        random = random * 1664525 + 1013904223;
      }
      fake_wake(&feed);
      for (int n = 0; n < count; n++) {
        lumap_task *task = fake_collect(&feed, PATIENCE);
        CHECK(task && task->outcome == LUMAP_OUTCOME_DONE, "%s", task ? task->error.message : "it does not come");
        unsigned which = (unsigned)(task->first / 10);
        CHECK(!(seen & 1u << which), "twice");
        seen |= 1u << which;
        CHECK(which % 2 == 0 ? is_text(task, "i") : task->payload.size == sizes[which], "task %u", which);
        lumap_task_free(task);
      }
    }
    printf("# %d workers: %d tasks were taken back\n", counts[k], feed.given_back);
    CHECK(feed.given_back > 0, "none was taken back");
    fake_end(&feed, call);
    close_crew(&feed);
    CHECK_SO_FAR();
  }
}

/* ---- items that are ended ---- */

static void end_call(fake_feed *feed, lumap_call *call) {
  lumap_call_stop_from(call, 0);
  atomic_store(&call->ended, true);
  feed->crew.backend->heed(&feed->crew, call);
}

/* The item's process ends and another takes its place; a task of another call that was behind it loses nothing. */
static void an_item_of_a_process_is_ended(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *other = fake_call(&feed);
  gate_open(&shut, 'g');
  /* More often than children in a row may end without a result. */
  for (int i = 0; i < 6; i++) {
    lumap_call *call = fake_call(&feed);
    if (i % 2 == 0) make_quick(&feed, other);
    CHECK_SO_FAR();
    int given_back = feed.given_back;
    gate_queue(&shut, &feed, call, 11);
    fake_wake(&feed);
    pid_t process = fifo_read(shut.told);
    CHECK(process > 0, "it has not begun");
    if (i % 2 == 0) {
      fake_submit(&feed, other, 21, "o");
      CHECK(all_taken(&feed), "it is not behind the other");
    }
    end_call(&feed, call);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->first == 11 && task->outcome == LUMAP_OUTCOME_CANCELLED, "%s",
          task ? task->error.message : "it does not end");
    CHECK(strcmp(task->error.message, "worker 1 was ended") == 0 && task->worker == 1 && task->done == 2, "%s",
          task->error.message);
    CHECK(is_text(task, shut.item), "the items are gone");
    lumap_task_free(task);
    CHECK(feed.given_back == given_back + (i % 2 == 0), "given back: %d", feed.given_back - given_back);
    if (i % 2 == 0) {
      task = fake_collect(&feed, PATIENCE);
      CHECK(task && task->first == 21 && task->outcome == LUMAP_OUTCOME_DONE, "%s",
            task ? task->error.message : "the other does not come");
      CHECK(lumap_bytes_append(&task->payload, "", 1) && atoi((char *)task->payload.data) != process,
            "it is still the same process");
      lumap_task_free(task);
    }
    fake_end(&feed, call);
  }
  fake_end(&feed, other);
  gate_close(&shut);
  close_crew(&feed);
}

/* Children that are ended before they gave a result are no sign of work that kills from afar, and do not count as such.
 * What they would do to a later task needs a death between two instructions, so this looks at the count itself; the
 * reactor has written it before it finished the task. */
static void workers_that_were_ended_are_not_barren(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *other = fake_call(&feed);
  gate_open(&shut, 'g');
  for (int i = 0; i < 4; i++) {
    lumap_call *call = fake_call(&feed);
    gate_queue(&shut, &feed, call, 11);
    fake_wake(&feed);
    CHECK(fifo_read(shut.told) > 0, "it has not begun");
    end_call(&feed, call);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_CANCELLED, "%u: %s", task ? task->outcome : 0,
          task ? task->error.message : "it does not end");
    CHECK(((lumap_offspring *)feed.workers[0].own)->barren == 0, "it counts");
    lumap_task_free(task);
    fake_end(&feed, call);
  }
  CHECK(ask_process(&feed, other) > 0, "another call suffers");
  fake_end(&feed, other);
  gate_close(&shut);
  close_crew(&feed);
}

static void only_an_item_of_that_call_is_ended(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  gate_open(&shut, 'i');
  for (int i = 0; i < 20; i++) {
    lumap_call *other = fake_call(&feed);
    gate_queue(&shut, &feed, call, 11);
    fake_wake(&feed);
    pid_t process = fifo_read(shut.told);
    /* Of the call that is to be ended one task waits, and is not begun. */
    if (i % 2) fake_submit(&feed, other, 21, "e");
    CHECK(process > 0 && (i == 0 || all_taken(&feed)), "it has not begun");
    end_call(&feed, other);
    for (int k = 0; k < 20 * i; k++)
      sched_yield();
    CHECK(gate_let_pass(&shut, 1), "%s", strerror(errno));
    for (int k = 0; k <= i % 2; k++) {
      lumap_task *task = fake_collect(&feed, PATIENCE);
      CHECK(task && task->outcome == (task->first == 21 ? LUMAP_OUTCOME_CANCELLED : LUMAP_OUTCOME_DONE), "%u: %s",
            task ? task->outcome : 0, task ? task->error.message : "it does not come");
      lumap_task_free(task);
    }
    CHECK(ask_process(&feed, call) == process, "it is another process");
    fake_end(&feed, other);
  }
  fake_end(&feed, call);
  gate_close(&shut);
  close_crew(&feed);
}

/* The kill may meet the item, the time after it, or the task behind it, which is of another call: that one is done
 * whatever happens, if need be twice. */
static void an_item_is_ended_as_it_ends(void) {
  enum { ROUNDS = CHECK_SANITIZED ? 200 : 800, SIZES = 4 };
  static const size_t sizes[SIZES] = {1, 20000, 200000, 4000000};
  fake_feed feed;
  int outcomes[2] = {0};
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *other = fake_call(&feed);
  for (int i = 0; i < ROUNDS; i++) {
    lumap_control *control = feed.workers[0].control;
    lumap_call *call = fake_call(&feed);
    make_quick(&feed, other);
    CHECK_SO_FAR();
    uint32_t begun = lumap_control_begun(control);
    size_t size = sizes[i % SIZES];
    char text[16];
    snprintf(text, sizeof text, "r%zu", size);
    fake_queue(&feed, call, 11, text, strlen(text));
    fake_queue(&feed, other, 21, "r200000", 7);
    fake_wake(&feed);
    uint64_t deadline = lumap_deadline_after(PATIENCE);
    while (lumap_control_begun(control) == begun && lumap_clock_ns() < deadline)
      sched_yield();
    /* More each time: it sweeps over the first task, the time between, and the second one. */
    for (int k = 0; k < i / SIZES; k++)
      sched_yield();
    end_call(&feed, call);
    for (int k = 0; k < 2; k++) {
      lumap_task *task = fake_collect(&feed, PATIENCE);
      CHECK(task, "round %d: it does not come", i);
      bool cancelled = task->outcome == LUMAP_OUTCOME_CANCELLED;
      CHECK(task->outcome == LUMAP_OUTCOME_DONE || (cancelled && task->first == 11), "%u: %s", task->outcome,
            task->error.message);
      CHECK(cancelled || task->payload.size == (task->first == 11 ? size : 200000), "%zu bytes", task->payload.size);
      if (task->first == 11) outcomes[cancelled]++;
      lumap_task_free(task);
    }
    fake_end(&feed, call);
  }
  printf("# %d done, %d ended, %d given back\n", outcomes[0], outcomes[1], feed.given_back);
  fake_end(&feed, other);
  close_crew(&feed);
}

/* ---- time limits ---- */

/* The item of a call that is over its time; the next one runs all the same, on another thread with the same number. */
static void check_replaced(fake_feed *feed, lumap_call *call, uint32_t outcome) {
  lumap_task *task = fake_collect(feed, PATIENCE);
  CHECK(task && task->first == 11 && task->outcome == outcome && task->worker == 1, "%u: %s", task ? task->outcome : 0,
        task ? task->error.message : "it does not come");
  CHECK(outcome != LUMAP_OUTCOME_TIMEOUT || task->died_index == 13, "item %llu", (unsigned long long)task->died_index);
  CHECK(task->given_up, "it was not given up");
  lumap_task_free(task);
  fake_submit(feed, call, 21, "e");
  task = fake_collect(feed, PATIENCE);
  CHECK(task && task->first == 21 && task->outcome == LUMAP_OUTCOME_DONE && task->worker == 1, "%u: %s",
        task ? task->outcome : 0, task ? task->error.message : "the next one does not come");
  lumap_task_free(task);
}

/* Waits until threads that were given up have let go of the feed. */
static bool has_references(fake_feed *feed, int count) {
  uint64_t deadline = lumap_deadline_after(PATIENCE);
  while (atomic_load(&feed->references) != count && lumap_clock_ns() < deadline)
    sched_yield();
  return atomic_load(&feed->references) == count;
}

static void a_thread_that_was_given_up_is_replaced(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_thread, 1, "") == LUMAP_E_OK, "open");
  lumap_call *other = fake_call(&feed);
  int references = atomic_load(&feed.references);
  gate_open(&shut, 'g');
  for (int i = 0; i < 3; i++) {
    lumap_call *call = fake_call(&feed);
    uint32_t outcome = i == 0 ? LUMAP_OUTCOME_TIMEOUT : i == 1 ? LUMAP_OUTCOME_DEADLINE : LUMAP_OUTCOME_CANCELLED;
    if (i == 0) call->timeout_ns = 20000000;
    if (i == 1) call->deadline_ns = lumap_deadline_after(0.2);
    gate_queue(&shut, &feed, call, 11);
    fake_wake(&feed);
    CHECK(fifo_read(shut.told), "it has not begun");
    if (i == 2) end_call(&feed, call);
    check_replaced(&feed, other, outcome);
    CHECK_SO_FAR();
    CHECK(gate_let_pass(&shut, 1), "%s", strerror(errno));
    CHECK(has_references(&feed, references), "the thread that was given up never lets go of the feed");
    fake_end(&feed, call);
  }
  fake_end(&feed, other);
  fake_close(&feed);
  CHECK(has_references(&feed, 0), "%d references", atomic_load(&feed.references));
  CHECK(feed.finishes == 6, "%d were finished", feed.finishes);
  fake_deinit(&feed);
  gate_close(&shut);
}

/* By a signal the item ends at once, and the thread stays. */
static void an_item_over_its_time_is_interrupted(void) {
  fake_feed feed = {0};
  int fifo = fifo_open();
  feed.crew.stop_signal = true;
  CHECK(fake_open(&feed, &lumap_backend_thread, 2, "", NULL) == LUMAP_E_OK, "open");
  for (int i = 0; i < 20; i++) {
    lumap_call *call = fake_call(&feed);
    call->timeout_ns = 2000000;
    fake_submit(&feed, call, 11, with_fifo('b'));
    CHECK(fifo_read(fifo), "it has not begun");
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_TIMEOUT && task->died_index == 13 && !task->given_up, "%u: %s",
          task ? task->outcome : 0, task ? task->error.message : "it does not come");
    lumap_task_free(task);
    /* The stop of that item concerns no other one, of that call or of another. */
    fake_submit(&feed, call, 21, "e");
    task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_DONE && task->done == 10, "%u", task ? task->outcome : 0);
    lumap_task_free(task);
    fake_end(&feed, call);
  }
  close_crew(&feed);
  fifo_close(fifo);
}

static void an_item_of_a_process_over_its_time_is_ended(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  gate_open(&shut, 'g');
  for (int i = 0; i < 4; i++) {
    lumap_call *call = fake_call(&feed);
    if (i % 2 == 0) call->timeout_ns = 20000000;
    if (i % 2 == 1) call->deadline_ns = lumap_deadline_after(0.2);
    gate_queue(&shut, &feed, call, 11);
    fake_wake(&feed);
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == (i % 2 == 0 ? LUMAP_OUTCOME_TIMEOUT : LUMAP_OUTCOME_DEADLINE), "%u: %s",
          task ? task->outcome : 0, task ? task->error.message : "it does not end");
    CHECK(i % 2 == 1 || task->died_index == 13, "item %llu", (unsigned long long)task->died_index);
    CHECK(is_text(task, shut.item), "the items are gone");
    lumap_task_free(task);
    fake_end(&feed, call);
  }
  gate_close(&shut);
  close_crew(&feed);
}

/* One place for a request to stop, and two calls: the one that waits in the channel must not get away. */
static void two_calls_of_one_process_are_ended(void) {
  fake_feed feed;
  gate shut;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  gate_open(&shut, 'g');
  for (int i = 0; i < 6; i++) {
    lumap_call *calls[2] = {fake_call(&feed), fake_call(&feed)};
    make_quick(&feed, calls[0]);
    CHECK_SO_FAR();
    for (int k = 0; k < 2; k++)
      gate_queue(&shut, &feed, calls[k], 11);
    fake_wake(&feed);
    CHECK(fifo_read(shut.told) > 0, "it has not begun");
    CHECK(all_taken(&feed), "the second is not behind the first");
    end_call(&feed, calls[i % 2]), end_call(&feed, calls[1 - i % 2]);
    for (int k = 0; k < 2; k++) {
      lumap_task *task = fake_collect(&feed, PATIENCE);
      CHECK(task && task->outcome == LUMAP_OUTCOME_CANCELLED, "%u: %s", task ? task->outcome : 0,
            task ? task->error.message : "it does not end");
      lumap_task_free(task);
    }
    fake_end(&feed, calls[0]), fake_end(&feed, calls[1]);
  }
  gate_close(&shut);
  close_crew(&feed);
}

/* ---- processes that do not start ---- */

static void a_program_that_does_not_exist(void) {
  char *before = program;
  program = (char *)"/nowhere/lumap";
  check_no_start(&lumap_backend_process, 3, "", "/nowhere/lumap: No such file or directory");
  program = before;
}

static void a_program_that_is_no_worker(void) {
  char *before = program;
  program = (char *)"/bin/true";
  check_no_start(&lumap_backend_process, 3, "", "ended with exit code 0 before it was ready");
  program = before;
}

static void a_program_that_says_nothing(void) {
  fake_feed feed = {0};
  setenv("LUMAP_TEST_MUTE", "1", 1);
  feed.crew.program = program;
  feed.crew.greeting_limit_ms = 50;
  CHECK(fake_open(&feed, &lumap_backend_process, 1, "", NULL) == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 3; i++)
    fake_submit(&feed, call, 1, "e");
  for (int i = 0; i < 3; i++) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->outcome == LUMAP_OUTCOME_START && strstr(task->error.message, "has not answered in time"), "%s",
          task ? task->error.message : "it does not come");
    lumap_task_free(task);
  }
  unsetenv("LUMAP_TEST_MUTE");
  fake_end(&feed, call);
  close_crew(&feed);
}

static void a_program_of_another_vm(void) {
  setenv("LUMAP_TEST_IDENTITY", "other VM 2", 1);
  check_no_start(&lumap_backend_process, 2, "", "built on other VM 2, its parent on fake VM 1");
  unsetenv("LUMAP_TEST_IDENTITY");
}

static void a_child_that_exits_before_it_is_ready(void) {
  check_no_start(&lumap_backend_process, 3, "exit:7", "ended with exit code 7 before it was ready");
}

/* By the system for lack of memory, perhaps: another child is tried, but not for ever. */
static void a_child_that_is_killed_before_it_is_ready(void) {
  char setup[80];
  fake_feed feed;
  int fifo = fifo_open();
  snprintf(setup, sizeof setup, "hang:%s", fifo_path);
  CHECK(open_crew(&feed, &lumap_backend_process, 1, setup) == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  fake_submit(&feed, call, 1, "e");
  for (int i = 0; i < 3; i++) {
    pid_t process = fifo_read(fifo);
    CHECK(process > 0 && kill(process, SIGKILL) == 0, "%s", strerror(errno));
  }
  lumap_task *dead = fake_collect(&feed, PATIENCE);
  CHECK(dead && dead->outcome == LUMAP_OUTCOME_DIED && dead->died_signal == SIGKILL &&
            strstr(dead->error.message, "lack of memory) before it was ready"),
        "%s", dead ? dead->error.message : "it does not come");
  lumap_task_free(dead);
  fake_submit(&feed, call, 1, "e");
  CHECK(fifo_read(fifo) > 0, "no process");
  fake_stop(&feed);
  lumap_task *task = fake_collect(&feed, PATIENCE);
  CHECK(task && task->outcome == LUMAP_OUTCOME_CANCELLED, "a stop while it opens");
  lumap_task_free(task);
  lumap_call_release(call);
  close_crew(&feed);
  fifo_close(fifo);
}

/* The setup bytes are larger than what the channel holds. */
static void big_setup_bytes(void) {
  char *setup = malloc(5000001);
  fake_feed feed;
  memset(setup, 's', 5000000);
  setup[5000000] = '\0';
  CHECK(open_crew(&feed, &lumap_backend_process, 3, setup) == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 3; i++)
    CHECK(ask_process(&feed, call) > 0, "no answer");
  free(setup);
  fake_end(&feed, call);
  close_crew(&feed);
}

/* ---- processes and their surroundings ---- */

static void processes_start_as_they_are_needed(void) {
  fake_feed feed;
  uint64_t before = lumap_clock_ns(), first_ns;
  int fifo = fifo_open();
  pid_t processes[3];
  CHECK(open_crew(&feed, &lumap_backend_process, 13, "") == LUMAP_E_OK, "open");
  CHECK(!has_children(), "a process without work");
  lumap_call *call = fake_call(&feed);
  fake_submit(&feed, call, 1, "e");
  lumap_task_free(fake_collect(&feed, PATIENCE));
  first_ns = lumap_clock_ns() - before;
  processes[0] = ask_process(&feed, call);
  for (int i = 0; i < 20; i++)
    CHECK(ask_process(&feed, call) == processes[0], "an idle worker, and another is used");
  for (int i = 0; i < 3; i++)
    fake_submit(&feed, call, 1, with_fifo('w'));
  for (int i = 0; i < 3; i++)
    processes[i] = fifo_read(fifo);
  CHECK(processes[0] != processes[1] && processes[1] != processes[2] && processes[0] != processes[2],
        "two tasks on one worker while others are free");
  printf("# from open to the first result: %.2f ms\n", (double)first_ns / 1e6);
  fake_stop(&feed);
  lumap_call_release(call);
  close_crew(&feed);
  fifo_close(fifo);
}

static void every_process_has_the_same_descriptors(void) {
  fake_feed feed;
  size_t size = 0;
  char first[32] = {0};
  int fifo = fifo_open();
  CHECK(open_crew(&feed, &lumap_backend_process, 5, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 50; i++)
    fake_queue(&feed, call, 1, "f", 1);
  fake_wake(&feed);
  for (int i = 0; i < 50; i++) {
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->payload.size < sizeof first, "no answer");
    if (i == 0) memcpy(first, task->payload.data, size = task->payload.size);
    /* Standard three, channel, control, the folder that is read, and the two dots. */
    CHECK(task->payload.size == size && memcmp(task->payload.data, first, size) == 0 && atoi(first) == 8, "%s, %.*s",
          first, (int)task->payload.size, (char *)task->payload.data);
    lumap_task_free(task);
  }
  fake_end(&feed, call);
  close_crew(&feed);
  fifo_close(fifo);
}

/* A host's signals, unasked for and frequent, disturb nothing. */
static void signals_in_the_host_lose_nothing(void) {
  struct sigaction action = {.sa_handler = do_nothing}, before;
  fake_feed feed;
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  struct itimerspec often = {.it_interval.tv_nsec = 200000, .it_value.tv_nsec = 200000};
  sigaction(SIGUSR1, &action, &before);
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0, "%s",
        strerror(errno));
  CHECK(open_crew(&feed, &lumap_backend_process, 2, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  for (int i = 0; i < 300; i++) {
    fake_submit(&feed, call, 1, "r300000");
    lumap_task *task = fake_collect(&feed, PATIENCE);
    CHECK(task && task->payload.size == 300000, "%s", task ? task->error.message : "it does not come");
    lumap_task_free(task);
  }
  fake_end(&feed, call);
  close_crew(&feed);
  timer_delete(timer);
  sigaction(SIGUSR1, &before, NULL);
}

/* ---- hosts that end ---- */

enum { HOST_WORKERS = 3 };

/* In a process of its own: three workers are in their items; then it is killed, or leaves when its input ends. */
static int play_host(const char *fifo) {
  static fake_feed feed;
  char text[128], byte;
  program = lumap_program_path();
  if (open_crew(&feed, &lumap_backend_process, HOST_WORKERS, "") != LUMAP_E_OK) return 2;
  lumap_call *call = fake_call(&feed);
  snprintf(text, sizeof text, "w%s", fifo);
  for (int i = 0; i < 3 * HOST_WORKERS; i++)
    fake_submit(&feed, call, 1, text);
  while (read(0, &byte, 1) > 0) {
  }
  exit(0);
}

/* Starts this program as `mode`, with the end of a pipe as its input. */
static pid_t start_host(const char *mode, int *input) {
  char *arguments[] = {program, (char *)mode, fifo_path, NULL};
  int pipe_ends[2], saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
  pid_t process = 0;
  if (pipe2(pipe_ends, O_CLOEXEC)) return 0;
  dup2(pipe_ends[0], 0);
  if (lumap_process_start(program, arguments, NULL, 0, &process, NULL) != LUMAP_E_OK) process = 0;
  if (saved >= 0)
    dup2(saved, 0), close(saved);
  else
    close(0);
  close(pipe_ends[0]);
  *input = pipe_ends[1];
  return process;
}

static void check_host_end(bool by_kill) {
  int fifo = fifo_open(), input, watches[HOST_WORKERS], signal_number, exit_code;
  pid_t host = start_host("play-host", &input);
  CHECK(host > 0, "no host");
  for (int i = 0; i < HOST_WORKERS; i++) {
    pid_t worker = fifo_read(fifo);
    watches[i] = lumap_process_watch(worker);
    CHECK(worker > 0 && watches[i] >= 0, "no worker");
  }
  if (by_kill) kill(host, SIGKILL);
  close(input);
  lumap_process_wait(host, &signal_number, &exit_code);
  CHECK(all_end(watches, HOST_WORKERS), "a worker is left");
  CHECK(by_kill ? signal_number == SIGKILL : exit_code == 0, "signal %d, exit code %d", signal_number, exit_code);
  fifo_close(fifo);
}

static void a_host_that_is_killed_leaves_no_worker(void) {
  check_host_end(true);
}

static void a_host_that_exits_with_work_queued_leaves_no_worker(void) {
  check_host_end(false);
}

/* The host is killed when its child runs already, and has not yet tied itself to it. */
static void a_host_that_is_killed_before_the_handshake_leaves_no_worker(void) {
  char second[96];
  int fifo = fifo_open(), input, watch, signal_number, exit_code;
  snprintf(second, sizeof second, "%s.2", fifo_path);
  mkfifo(second, 0600);
  int release = open(second, O_RDWR | O_CLOEXEC);
  setenv("LUMAP_TEST_LATE", fifo_path, 1);
  pid_t host = start_host("play-host", &input);
  unsetenv("LUMAP_TEST_LATE");
  pid_t worker = fifo_read(fifo);
  watch = lumap_process_watch(worker);
  CHECK(host > 0 && worker > 0 && watch >= 0, "no worker");
  kill(host, SIGKILL);
  lumap_process_wait(host, &signal_number, &exit_code);
  /* One byte for each child that may have come so far. */
  CHECK(write(release, "xxxxxxxx", 8) == 8, "%s", strerror(errno));
  CHECK(all_end(&watch, 1), "a worker is left");
  close(release), close(input);
  unlink(second);
  fifo_close(fifo);
}

/* A program that is started as a worker, does not know it, and would start workers itself, without end. */
static int play_fool(const char *fifo) {
  lumap_error error = {0};
  fake_feed feed = {0};
  program = lumap_program_path();
  feed.crew.program = program;
  lumap_status status = fake_open(&feed, &lumap_backend_process, 1, "", &error);
  fake_deinit(&feed);
  free(program);
  if (status != LUMAP_E_WORKER || !strstr(error.message, "does not call lumap_worker_main")) return 3;
  int end = open(fifo, O_WRONLY | O_CLOEXEC);
  return end >= 0 && write(end, "1\n", 2) == 2 ? 0 : 4;
}

static void a_program_that_does_not_serve_cannot_multiply(void) {
  fake_feed feed;
  int fifo = fifo_open();
  setenv("LUMAP_TEST_FOOL", fifo_path, 1);
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  fake_submit(&feed, call, 1, "e");
  lumap_task *task = fake_collect(&feed, PATIENCE);
  CHECK(task && strstr(task->error.message, "exit code 0 before it was ready"), "%s",
        task ? task->error.message : "it does not come");
  CHECK(fifo_read(fifo) == 1, "it was not refused");
  unsetenv("LUMAP_TEST_FOOL");
  lumap_task_free(task);
  fake_end(&feed, call);
  close_crew(&feed);
  fifo_close(fifo);
}

static void arguments_that_are_not_of_a_worker(void) {
  char damaged[] = "--lumap-worker=12x";
  char *none[] = {(char *)"x", NULL}, *other[] = {(char *)"x", (char *)"--lumap", NULL},
       *bad[] = {(char *)"x", damaged};
  CHECK(lumap_child_main(1, none, &fake_executor) == -1, "no argument");
  CHECK(lumap_child_main(2, other, &fake_executor) == -1, "another argument");
  CHECK(lumap_child_main(2, bad, &fake_executor) == 1, "a damaged one");
}

/* ---- the program ---- */

/* A worker that stays before its first word: mute for good, or until it is told. */
static void stay(void) {
  const char *late = getenv("LUMAP_TEST_LATE");
  char second[128], line[32], byte;
  int fifo, length;
  while (getenv("LUMAP_TEST_MUTE"))
    pause();
  if (!late) return;
  snprintf(second, sizeof second, "%s.2", late);
  fifo = open(late, O_WRONLY | O_CLOEXEC);
  length = snprintf(line, sizeof line, "%d\n", (int)getpid());
  if (fifo < 0 || write(fifo, line, (size_t)length) != length) _exit(5);
  close(fifo);
  fifo = open(second, O_RDONLY | O_CLOEXEC);
  if (fifo < 0 || read(fifo, &byte, 1) != 1) _exit(6);
  close(fifo);
}

static int serve(int argc, char **argv) {
  lumap_executor executor = fake_executor;
  if (argc < 2 || strncmp(argv[1], "--lumap-worker=", 15) != 0) return -1;
  if (getenv("LUMAP_TEST_FOOL")) return play_fool(getenv("LUMAP_TEST_FOOL"));
  stay();
  if (getenv("LUMAP_TEST_IDENTITY")) executor.identity = getenv("LUMAP_TEST_IDENTITY");
  return lumap_child_main(argc, argv, &executor);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(payloads_come_back),
      TEST(big_payloads_come_back),
      TEST(logs_reach_each_worker),
      TEST(a_spent_state_is_made_anew),
      TEST(a_state_that_cannot_be_opened_fails_its_task),
      TEST(close_when_idle),
      TEST(close_finishes_what_is_queued),
      TEST(stop_when_busy),
      TEST(stop_of_one_call_is_obeyed),
      TEST(a_thread_is_interrupted_by_a_signal),
      TEST(a_signal_of_the_host_is_left_alone),
      TEST(a_thread_that_cannot_be_stopped_is_given_up),
      TEST(a_crew_of_threads_needs_its_threads),
      TEST(a_thread_that_was_given_up_is_replaced),
      TEST(an_item_over_its_time_is_interrupted),
      TEST(an_item_of_a_process_over_its_time_is_ended),
      TEST(two_calls_of_one_process_are_ended),
      TEST(death_by_signal),
      TEST(death_by_fault),
      TEST(death_by_real_time_signal),
      TEST(death_by_exit),
      TEST(death_by_exit_without_failure),
      TEST(death_in_half_a_result),
      TEST(death_after_junk),
      TEST(death_after_closing_the_channel),
      TEST(death_where_the_host_ignores_children),
      TEST(deaths_fail_nothing_else),
      TEST(a_task_in_the_channel_is_given_back),
      TEST(death_when_idle_harms_nobody),
      TEST(death_before_a_big_argument_is_read),
      TEST(death_while_a_big_argument_is_read),
      TEST(death_while_a_big_result_is_written),
      TEST(a_task_behind_a_slow_one_goes_to_an_idle_worker),
      TEST(a_task_that_is_half_sent_goes_to_an_idle_worker),
      TEST(a_task_whose_log_is_half_sent_goes_to_an_idle_worker),
      TEST(death_before_a_task_that_was_taken_back),
      TEST(death_after_a_task_that_was_taken_back),
      TEST(stop_after_a_task_was_taken_back),
      TEST(tasks_are_taken_back_once),
      TEST(an_item_of_a_process_is_ended),
      TEST(workers_that_were_ended_are_not_barren),
      TEST(only_an_item_of_that_call_is_ended),
      TEST(an_item_is_ended_as_it_ends),
      TEST(a_program_that_does_not_exist),
      TEST(a_program_that_is_no_worker),
      TEST(a_program_that_says_nothing),
      TEST(a_program_of_another_vm),
      TEST(a_child_that_exits_before_it_is_ready),
      TEST(a_child_that_is_killed_before_it_is_ready),
      TEST(big_setup_bytes),
      TEST(processes_start_as_they_are_needed),
      TEST(every_process_has_the_same_descriptors),
      TEST(signals_in_the_host_lose_nothing),
      TEST(a_host_that_is_killed_leaves_no_worker),
      TEST(a_host_that_exits_with_work_queued_leaves_no_worker),
      TEST(a_host_that_is_killed_before_the_handshake_leaves_no_worker),
      TEST(a_program_that_does_not_serve_cannot_multiply),
      TEST(arguments_that_are_not_of_a_worker),
  };
  int status = serve(argc, argv);
  if (status >= 0) return status;
  if (argc == 3 && strcmp(argv[1], "play-host") == 0) return play_host(argv[2]);
  program = lumap_program_path();
  take_census();
  status = check_run(tests, sizeof tests / sizeof *tests, 300, check_census, argc, argv);
  free(program);
  return status;
}
