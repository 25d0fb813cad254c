/* SPDX-License-Identifier: MIT
 *
 * recall_test.c - the rules of vm/backend/backend.h where something is called back from processes: tasks that wait
 * behind a slow item and are taken back for an idle worker, and items that are ended while they run.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "backend/offspring.h"
#include "check.h"
#include "crews.h"

/* ---- tasks that are taken back ---- */

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
  fake_append(self->call, "end");
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
  for (int k = 1; k < WORKER_COUNTS; k++) {
    fake_feed feed;
    uint32_t random = 1;
    size_t log_size = 0;
    CHECK(open_crew(&feed, &lumap_backend_process, worker_counts[k], "") == LUMAP_E_OK, "open");
    lumap_call *call = fake_call(&feed);
    make_quick(&feed, call);
    CHECK_SO_FAR();
    for (int i = 0; i < ROUNDS; i++) {
      int count = 1 + (int)((random = random * 1664525 + 1013904223) >> 16) % MOST;
      unsigned seen = 0;
      size_t sizes[MOST];
      for (int n = 0; n < count; n++) {
        if ((random >> 10) % 8 == 0) fake_append(call, "x"), log_size++;
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
    printf("# %d workers: %d tasks were taken back\n", worker_counts[k], feed.given_back);
    CHECK(feed.given_back > 0, "none was taken back");
    fake_end(&feed, call);
    close_crew(&feed);
    CHECK_SO_FAR();
  }
}

/* ---- items that are ended ---- */

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

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(an_item_of_a_process_over_its_time_is_ended),
      TEST(two_calls_of_one_process_are_ended),
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
  };
  return crews_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
