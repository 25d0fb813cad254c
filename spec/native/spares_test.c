/* SPDX-License-Identifier: MIT
 *
 * spares_test.c - vm/pool/spares alone: what is kept of tasks that are done, what is let go of, and how much it may be.
 */
#include "pool/spares.h"

#include <stdatomic.h>

#include "check.h"

static int freed;

static void count_freed(lumap_counted *self) {
  (void)self;
  freed++;
}

static void a_task_comes_back_empty_with_its_memory(void) {
  lumap_spares spares;
  lumap_call one, other;
  lumap_task *task, *again;
  const unsigned char *memory;
  lumap_spares_init(&spares);
  lumap_call_init(&one, 1);
  lumap_call_init(&other, 2);
  task = lumap_spares_take(&spares, &one);
  CHECK(task && task->call == &one && task->call_id == 1, "no task of the call");
  CHECK(lumap_bytes_reserve(&task->payload, 5000), "no memory");
  memory = task->payload.data;
  task->payload.size = 5000;
  task->first = 7;
  task->outcome = LUMAP_OUTCOME_DIED;
  task->given_up = true;
  task->error.message[0] = 'x';
  lumap_spares_give(&spares, task);
  CHECK(atomic_load(&one.references) == 1, "the call is kept");
  again = lumap_spares_take(&spares, &other);
  CHECK(again == task && again->call == &other && again->call_id == 2, "another task");
  CHECK(again->payload.data == memory && again->payload.size == 0 && again->payload.capacity >= 5000, "other memory");
  CHECK(again->first == 0 && again->outcome == LUMAP_OUTCOME_DONE && !again->given_up && !again->error.message[0],
        "not as new");
  lumap_spares_give(&spares, again);
  lumap_spares_deinit(&spares);
}

static void what_a_payload_refers_to_is_let_go_of(void) {
  lumap_spares spares;
  lumap_counted object = {.free = count_freed};
  size_t number;
  lumap_task *task;
  lumap_spares_init(&spares);
  task = lumap_spares_take(&spares, NULL);
  atomic_init(&object.references, 1);
  freed = 0;
  CHECK(lumap_references_add(&task->payload.references, &object, &number), "no memory");
  lumap_counted_release(&object);
  CHECK(freed == 0, "too early");
  lumap_spares_give(&spares, task);
  CHECK(freed == 1, "kept");
  lumap_spares_deinit(&spares);
}

static void what_is_kept_is_bounded(void) {
  enum { TASKS = 40 };
  static const size_t each = 1 << 20;
  lumap_spares spares;
  lumap_task *tasks[TASKS];
  lumap_spares_init(&spares);
  for (int i = 0; i < TASKS; i++) {
    tasks[i] = lumap_spares_take(&spares, NULL);
    CHECK(tasks[i] && lumap_bytes_reserve(&tasks[i]->payload, each), "no memory");
  }
  for (int i = 0; i < TASKS; i++)
    lumap_spares_give(&spares, tasks[i]);
  CHECK(spares.bytes <= LUMAP_SPARES_BYTES && spares.bytes > LUMAP_SPARES_BYTES - each - 1, "%zu bytes", spares.bytes);
  CHECK(spares.count == LUMAP_SPARES_BYTES / each, "%zu tasks", spares.count);
  lumap_spares_trim(&spares, 3 * each);
  CHECK(spares.bytes == 3 * each && spares.count == 3, "%zu bytes in %zu tasks", spares.bytes, spares.count);
  lumap_spares_trim(&spares, 0);
  CHECK(spares.bytes == 0 && spares.count == 0, "%zu bytes in %zu tasks", spares.bytes, spares.count);
  lumap_spares_deinit(&spares);
}

static void tasks_without_memory_are_few(void) {
  lumap_spares spares;
  lumap_list made = {NULL, NULL};
  lumap_spares_init(&spares);
  for (int i = 0; i < LUMAP_SPARES_MOST + 5; i++)
    lumap_list_push(&made, &lumap_spares_take(&spares, NULL)->link);
  for (lumap_link *link; (link = lumap_list_pop(&made)) != NULL;)
    lumap_spares_give(&spares, LUMAP_OWNER(link, lumap_task, link));
  CHECK(spares.count == LUMAP_SPARES_MOST, "%zu tasks", spares.count);
  lumap_spares_give(&spares, NULL);
  lumap_spares_deinit(&spares);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(a_task_comes_back_empty_with_its_memory),
      TEST(what_a_payload_refers_to_is_let_go_of),
      TEST(what_is_kept_is_bounded),
      TEST(tasks_without_memory_are_few),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 60, NULL, argc, argv);
}
