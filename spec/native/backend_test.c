/* SPDX-License-Identifier: MIT
 *
 * backend_test.c - the rules of vm/backend/backend.h, against a fake feed and a fake executor: what holds on every
 * back-end, and what threads do when they are stopped or over their time. More of processes is in process_test.c and
 * recall_test.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>

#include "check.h"
#include "crews.h"

static const lumap_backend *const backends[] = {&lumap_backend_serial, &lumap_backend_thread, &lumap_backend_process};

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
    for (int k = 0; k < WORKER_COUNTS && !check_reason[0]; k++)
      check_echo(backends[i], worker_counts[k]);
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
        fake_append(call, entry);
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
    for (int k = 0; k < WORKER_COUNTS && !check_reason[0]; k++)
      check_log(backends[i], worker_counts[k]);
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

static void a_state_that_cannot_be_opened_fails_its_task(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < WORKER_COUNTS && !check_reason[0]; k++)
      check_no_start(backends[i], worker_counts[k], "fail:no bread", "no bread");
}

static void close_when_idle(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < WORKER_COUNTS; k++) {
      fake_feed feed;
      CHECK(open_crew(&feed, backends[i], worker_counts[k], "") == LUMAP_E_OK, "open");
      close_crew(&feed);
      CHECK_SO_FAR();
      CHECK(open_crew(&feed, backends[i], worker_counts[k], "") == LUMAP_E_OK, "open");
      fake_stop(&feed);
      close_crew(&feed);
      CHECK_SO_FAR();
    }
}

static void close_finishes_what_is_queued(void) {
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < WORKER_COUNTS; k++) {
      fake_feed feed;
      CHECK(open_crew(&feed, backends[i], worker_counts[k], "") == LUMAP_E_OK, "open");
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
    for (int k = 0; k < WORKER_COUNTS && !check_reason[0]; k++)
      check_stop(backends[i], worker_counts[k]);
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
    lumap_control *control = atomic_load(&feed.workers[0].control);
    if (i == 2) end_call(&feed, call);
    check_replaced(&feed, other, outcome);
    CHECK_SO_FAR();
    CHECK(atomic_load(&control->stop_call) == LUMAP_STOP_ALL, "it may begin what others have by now");
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
  };
  return crews_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
