/* SPDX-License-Identifier: MIT
 *
 * process_test.c - the rules of vm/backend/backend.h where workers are processes: how they die, how they do not start,
 * what they share with their surroundings, and hosts that end before them.
 *
 * The program is its own worker program. It also plays hosts that are killed, exit, or forget to serve: see main.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>

#include "check.h"
#include "crews.h"

/* ---- the death of processes ---- */

static void check_death(const char *payload, int signal_number, int exit_code, const char *message) {
  fake_feed feed;
  CHECK(open_crew(&feed, &lumap_backend_process, 1, "") == LUMAP_E_OK, "open");
  lumap_call *call = fake_call(&feed);
  fake_append(call, "log");
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
  for (int k = 0; k < WORKER_COUNTS; k++) {
    unsigned char seen[TASKS] = {0};
    fake_feed feed;
    CHECK(open_crew(&feed, &lumap_backend_process, worker_counts[k], "") == LUMAP_E_OK, "open");
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
  fake_append(call, "first");
  fake_submit(&feed, call, 1, "e"); /* it is short, so two are held from now on */
  lumap_task_free(fake_collect(&feed, PATIENCE));
  fake_append(call, "second");
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
  return crews_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
