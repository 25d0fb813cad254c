/* SPDX-License-Identifier: MIT
 *
 * crews.c - what the tests of back-ends share: see crews.h.
 */
#include "crews.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

const int worker_counts[WORKER_COUNTS] = {1, 2, 5, 13};

char *program;

/* ---- FIFOs ---- */

char fifo_path[64];

/* Open at both ends, so that none of its writers waits for a reader. */
int fifo_open(void) {
  static int count; /* a name of its own each time: a worker that comes late must not meet another test */
  snprintf(fifo_path, sizeof fifo_path, "/tmp/lumap-backend-test-%d-%d", (int)getpid(), ++count);
  unlink(fifo_path);
  if (mkfifo(fifo_path, 0600)) return -1;
  return open(fifo_path, O_RDWR | O_CLOEXEC);
}

pid_t fifo_read(int fifo) {
  char line[32] = {0};
  for (size_t at = 0; at < sizeof line - 1 && read(fifo, line + at, 1) == 1; at++)
    if (line[at] == '\n') return (pid_t)atoi(line);
  return 0;
}

void fifo_close(int fifo) {
  close(fifo);
  unlink(fifo_path);
}

const char *with_fifo(char letter) {
  static char text[80];
  snprintf(text, sizeof text, "%c%s", letter, fifo_path);
  return text;
}

/* ---- the census ---- */

bool has_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) == 0;
}

int threads_before;

static int descriptors_before;

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

/* ---- crews ---- */

lumap_status open_crew(fake_feed *feed, const lumap_backend *backend, int workers, const char *setup) {
  lumap_error error = {0};
  lumap_status status;
  *feed = (fake_feed){0};
  feed->crew.program = program;
  status = fake_open(feed, backend, workers, setup, &error);
  if (status != LUMAP_E_OK) printf("# cannot open: %s\n", error.message);
  return status;
}

void close_crew(fake_feed *feed) {
  fake_close(feed);
  CHECK(feed->finishes == feed->submitted, "%d of %d finished", feed->finishes, feed->submitted);
  CHECK(feed->references == 0, "%d references on the feed", feed->references);
  fake_deinit(feed);
}

bool is_text(const lumap_task *task, const char *text) {
  return task->payload.size == strlen(text) && memcmp(task->payload.data, text, task->payload.size) == 0;
}

void check_no_start(const lumap_backend *backend, int workers, const char *setup, const char *message) {
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

pid_t ask_process(fake_feed *feed, lumap_call *call) {
  fake_submit(feed, call, 1, "o");
  lumap_task *task = fake_collect(feed, PATIENCE);
  pid_t process = 0;
  if (task && task->outcome == LUMAP_OUTCOME_DONE && lumap_bytes_append(&task->payload, "", 1))
    process = (pid_t)atoi((char *)task->payload.data);
  lumap_task_free(task);
  return process;
}

void end_call(fake_feed *feed, lumap_call *call) {
  lumap_call_stop_from(call, 0);
  atomic_store(&call->ended, true);
  feed->crew.backend->heed(&feed->crew, call);
}

/* ---- gates ---- */

void gate_open(gate *self, char letter) {
  self->told = fifo_open();
  snprintf(self->item, sizeof self->item, "%s", with_fifo(letter));
  snprintf(self->path, sizeof self->path, "%s.2", self->item + 1);
  mkfifo(self->path, 0600);
  self->go = open(self->path, O_RDWR | O_CLOEXEC);
}

void gate_queue(gate *self, fake_feed *feed, lumap_call *call, uint64_t first) {
  fake_queue(feed, call, first, self->item, strlen(self->item));
}

bool gate_let_pass(gate *self, int count) {
  static const char bytes[FAKE_MOST_WORKERS] = {0};
  return write(self->go, bytes, (size_t)count) == count;
}

void gate_close(gate *self) {
  close(self->told), close(self->go);
  unlink(self->path);
  unlink(self->item + 1);
}

/* ---- the program ---- */

void do_nothing(int number) {
  (void)number;
}

int crews_main(const check_test *tests, size_t count, int argc, char **argv) {
  int status = lumap_child_main(argc, argv, &fake_executor);
  if (status >= 0) return status;
  program = lumap_program_path();
  take_census();
  status = check_run(tests, count, 300, check_census, argc, argv);
  free(program);
  return status;
}
