/* SPDX-License-Identifier: MIT
 *
 * pool_test.c - vm/pool alone, over a back-end whose worker is played by the test: when a cut is lifted.
 */
#include "pool/pool.h"

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

static void submit(lumap_job *job, uint64_t first, uint32_t count) {
  lumap_task *task = lumap_job_task(job);
  CHECK(task, "no task");
  task->first = first;
  task->count = count;
  CHECK(lumap_job_submit(job, task) == LUMAP_E_OK, "not taken");
}

static lumap_task *take(void) {
  return crew->feed.take(crew->feed.self, &crew->workers[0], false);
}

/* The worker runs that item. */
static void run_item(const lumap_job *job, uint64_t index) {
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
  lumap_pool_options options = {.backend = &played, .worker_count = 1};
  lumap_pool *pool = lumap_pool_open(&options, NULL);
  lumap_job *job = pool ? lumap_job_open(pool, &event) : NULL;
  lumap_task *first, *second;
  uint64_t stuck[1];
  CHECK(job, "no job");
  submit(job, 1, 3);
  submit(job, 4, 3);
  first = take();
  second = take();
  CHECK(first && second, "no tasks");
  run_item(job, 5);
  CHECK(lumap_job_cut(job, stuck) == 1 && stuck[0] == 5, "the item is not known to be stuck");
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "not cut");
  finish(job, first, 3);
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "lifted by the task before");
  finish(job, second, 2);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 6), "not lifted");
  lumap_job_close(job);
  lumap_pool_release(pool);
}

static void a_cut_leaves_the_cancellation_of_its_call(void) {
  lumap_pool_options options = {.backend = &played, .worker_count = 1};
  lumap_pool *pool = lumap_pool_open(&options, NULL);
  lumap_job *job = pool ? lumap_job_open(pool, &event) : NULL;
  lumap_task *task;
  uint64_t stuck[1];
  CHECK(job, "no job");
  submit(job, 1, 9);
  task = take();
  run_item(job, 2);
  CHECK(lumap_job_cut(job, stuck) == 1, "not cut");
  lumap_job_cancel(job, 6);
  finish(job, task, 2);
  CHECK(!lumap_control_is_stopped(&control, job->call.id, 5), "items before it are not begun");
  CHECK(lumap_control_is_stopped(&control, job->call.id, 6), "the cancellation is gone");
  lumap_job_close(job);
  lumap_pool_release(pool);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(a_cut_is_lifted_by_the_task_that_was_cut),
      TEST(a_cut_leaves_the_cancellation_of_its_call),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 60, NULL, argc, argv);
}
