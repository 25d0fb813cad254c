/* SPDX-License-Identifier: MIT
 *
 * pool_test.c - vm/pool alone, over a back-end whose workers are played by the test: when a cut is lifted, and who is
 * passed over.
 */
#include "pool/job.h"

#include "backend/backend.h"
#include "check.h"

static lumap_crew *crew;
static lumap_control control;

static lumap_status open_crew(lumap_crew *opened, lumap_error *error) {
  (void)error;
  crew = opened;
  memset(&control, 0, sizeof control);
  atomic_store(&crew->workers[0].control, &control);
  return LUMAP_E_OK;
}

static void do_nothing(lumap_crew *closed) {
  (void)closed;
}

static const lumap_backend played = {.name = "played", .open = open_crew, .stop = do_nothing, .close = do_nothing};

static lumap_event event;

static lumap_job *open_job_of(int worker_count) {
  lumap_pool_options options = {.backend = &played, .worker_count = worker_count};
  lumap_pool *pool = lumap_pool_open(&options, NULL);
  lumap_job *job = pool ? lumap_job_open(pool, &event) : NULL;
  if (!job) abort();
  return job;
}

static lumap_job *open_job(void) {
  return open_job_of(1);
}

static void close_job(lumap_job *job) {
  lumap_pool *pool = job->pool;
  lumap_job_close(job);
  lumap_pool_release(pool);
}

static void submit(lumap_job *job, uint64_t first, uint32_t count) {
  lumap_task *task = lumap_job_task(job);
  CHECK(task, "no task");
  task->first = first;
  task->count = count;
  CHECK(lumap_job_submit(job, task) == LUMAP_E_OK, "not taken");
}

static lumap_task *take(uint32_t turn) {
  lumap_task *task = crew->feed.take(crew->feed.self, &crew->workers[0], false);
  if (!task) abort();
  task->turn = turn;
  return task;
}

/* The worker runs that item of its task with that turn. */
static void run_item(const lumap_job *job, uint32_t turn, uint64_t index) {
  lumap_control_begin(&control, turn);
  atomic_store(&control.call, job->call.id);
  atomic_store(&control.index, index);
}

static void finish(lumap_job *job, lumap_task *task, uint32_t done) {
  task->done = done;
  crew->feed.finish(crew->feed.self, &crew->workers[0], task);
  lumap_job_recycle(job, lumap_job_collect(job));
}

/* As a child process does: it goes on to the next task while the result of the one before travels. */
static void a_cut_is_lifted_by_the_task_that_was_cut(void) {
  lumap_job *job = open_job();
  lumap_task *first, *second;
  uint64_t stuck[1];
  submit(job, 1, 3);
  submit(job, 4, 3);
  first = take(1);
  second = take(2);
  run_item(job, 2, 5);
  CHECK(lumap_job_cut(job, stuck) == 1 && stuck[0] == 5, "the item is not known to be stuck");
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "not cut");
  finish(job, first, 3);
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "lifted by the task before");
  finish(job, second, 2);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 6), "not lifted");
  close_job(job);
}

/* What a task that was cut has not run comes again, to the same worker perhaps, before the result of the first one
   does. That tells how many items it had, not how many were left to it. */
static void a_cut_is_not_lifted_by_a_task_that_had_the_same_items(void) {
  lumap_job *job = open_job();
  lumap_task *first, *rest;
  uint64_t stuck[1];
  submit(job, 1, 9);
  first = take(1);
  run_item(job, 1, 3);
  CHECK(lumap_job_cut(job, stuck) == 1 && stuck[0] == 3, "not cut");
  submit(job, 4, 6);
  rest = take(2);
  run_item(job, 2, 4);
  CHECK(lumap_job_cut(job, stuck) == 1 && stuck[0] == 4, "the rest is not cut");
  finish(job, first, 3);
  CHECK(lumap_control_is_stopped(&control, job->call.id, 5), "lifted by the task that had the item before");
  finish(job, rest, 1);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 5), "not lifted");
  close_job(job);
}

/* Who cut it knows which of its items are still to be run, and may have sent the others again. */
static void a_task_that_was_cut_is_given_back_to_the_caller(void) {
  lumap_job *job = open_job();
  lumap_task *task;
  uint64_t stuck[1];
  submit(job, 1, 9);
  task = take(1);
  run_item(job, 1, 2);
  CHECK(lumap_job_cut(job, stuck) == 1, "not cut");
  crew->feed.give_back(crew->feed.self, &crew->workers[0], task);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 3), "not lifted");
  CHECK(lumap_job_collect(job) == task && task->outcome == LUMAP_OUTCOME_CANCELLED, "it is run again as it was");
  lumap_job_recycle(job, task);
  submit(job, 1, 2);
  crew->feed.give_back(crew->feed.self, &crew->workers[0], take(2));
  finish(job, take(1), 2);
  close_job(job);
}

static void a_cancellation_leaves_a_cut_before_it(void) {
  lumap_job *job = open_job();
  lumap_task *task;
  uint64_t stuck[1];
  submit(job, 1, 9);
  task = take(1);
  run_item(job, 1, 2);
  CHECK(lumap_job_cut(job, stuck) == 1, "not cut");
  lumap_job_cancel(job, 6);
  CHECK(lumap_control_is_stopped(&control, job->call.id, 3), "the item after the cut is begun");
  finish(job, task, 2);
  close_job(job);
}

/* Whoever takes a task then, and gives it back as cancelled, comes after the reason. */
static void a_failure_that_ends_its_call_is_told_first(void) {
  lumap_job *job = open_job();
  lumap_task *task;
  submit(job, 1, 3);
  task = take(1);
  task->stops_from = 3;
  CHECK(atomic_load(&job->call.stop_from) == UINT64_MAX, "the call has ended before the task");
  finish(job, task, 2);
  CHECK(atomic_load(&job->call.stop_from) == 3, "the call goes on");
  close_job(job);
}

static void a_task_without_results_ends_no_call(void) {
  lumap_job *job = open_job();
  lumap_task *task;
  submit(job, 1, 3);
  task = take(1);
  task->stops_from = 3;
  task->outcome = LUMAP_OUTCOME_DIED;
  finish(job, task, 0);
  CHECK(atomic_load(&job->call.stop_from) == UINT64_MAX, "what may be run again ends the call");
  close_job(job);
}

static void a_cut_leaves_the_cancellation_of_its_call(void) {
  lumap_job *job = open_job();
  lumap_task *task;
  uint64_t stuck[1];
  submit(job, 1, 9);
  task = take(1);
  run_item(job, 1, 2);
  CHECK(lumap_job_cut(job, stuck) == 1, "not cut");
  lumap_job_cancel(job, 6);
  finish(job, task, 2);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 5), "items before it are not begun");
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "the cancellation is gone");
  close_job(job);
}

/* Worker `number` takes a task if it is given one, which ends so; `*hopeless`, unless NULL: what it says. */
static bool has_task(lumap_job *job, int number, lumap_outcome outcome, bool *hopeless) {
  lumap_worker *worker = &crew->workers[number - 1];
  lumap_task *task = crew->feed.take(crew->feed.self, worker, false);
  if (!task) return false;
  task->outcome = outcome;
  task->done = outcome == LUMAP_OUTCOME_DONE ? task->count : 0;
  crew->feed.finish(crew->feed.self, worker, task);
  task = lumap_job_collect(job);
  if (hopeless) *hopeless = task->is_hopeless;
  lumap_job_recycle(job, task);
  return true;
}

static void who_cannot_make_itself_ready_is_passed_over(void) {
  static const lumap_outcome outcomes[] = {LUMAP_OUTCOME_INIT, LUMAP_OUTCOME_START, LUMAP_OUTCOME_DIED};
  for (int i = 0; i < 3; i++) {
    lumap_job *job = open_job_of(2), *next;
    bool hopeless;
    for (uint64_t first = 1; first <= 5; first++)
      submit(job, first, 1);
    CHECK(has_task(job, 1, outcomes[i], &hopeless) && !hopeless, "one of two is all");
    CHECK(!has_task(job, 1, LUMAP_OUTCOME_DONE, NULL), "it is given another task");
    CHECK(has_task(job, 2, LUMAP_OUTCOME_DONE, NULL), "the other one is given none");
    CHECK(has_task(job, 1, outcomes[i], NULL), "no other try after a task was done");
    next = lumap_job_open(job->pool, &event);
    CHECK(has_task(job, 1, LUMAP_OUTCOME_DONE, NULL), "no other try for a new job");
    lumap_job_close(next);
    close_job(job);
  }
}

static void it_is_hopeless_when_all_failed_and_nothing_was_done(void) {
  lumap_job *job = open_job_of(2);
  bool hopeless;
  for (uint64_t first = 1; first <= 8; first++)
    submit(job, first, 1);
  CHECK(has_task(job, 1, LUMAP_OUTCOME_DONE, NULL), "no task");
  for (int round = 1; round <= 2; round++) {
    CHECK(has_task(job, 1, LUMAP_OUTCOME_INIT, &hopeless) && !hopeless, "round %d: one of two is all", round);
    CHECK(has_task(job, 2, LUMAP_OUTCOME_INIT, &hopeless), "round %d: no task", round);
    CHECK(hopeless == (round == 2), "round %d: %d", round, hopeless);
  }
  CHECK(has_task(job, 2, LUMAP_OUTCOME_INIT, &hopeless) && hopeless, "hope without a reason");
  CHECK(has_task(job, 1, LUMAP_OUTCOME_DONE, NULL), "no task");
  CHECK(has_task(job, 2, LUMAP_OUTCOME_INIT, &hopeless) && !hopeless, "no hope though a task was done");
  close_job(job);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(a_cut_is_lifted_by_the_task_that_was_cut),
      TEST(a_cut_is_not_lifted_by_a_task_that_had_the_same_items),
      TEST(a_task_that_was_cut_is_given_back_to_the_caller),
      TEST(a_cancellation_leaves_a_cut_before_it),
      TEST(a_failure_that_ends_its_call_is_told_first),
      TEST(a_task_without_results_ends_no_call),
      TEST(a_cut_leaves_the_cancellation_of_its_call),
      TEST(who_cannot_make_itself_ready_is_passed_over),
      TEST(it_is_hopeless_when_all_failed_and_nothing_was_done),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 60, NULL, argc, argv);
}
