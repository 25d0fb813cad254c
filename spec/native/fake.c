/* SPDX-License-Identifier: MIT
 *
 * fake.c - the feed and the executor of fake.h.
 */
#include "fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/child.h"
#include "backend/frame.h"

/* ---- the executor ---- */

typedef struct fake_state {
  lumap_control *control;
  int ordinal;
  atomic_bool interrupted;
} fake_state;

static atomic_int states_made, states_open;

int fake_open_states(void) {
  return atomic_load(&states_open);
}

static void tell(const char *path) {
  char line[32];
  int length = snprintf(line, sizeof line, "%d\n", (int)getpid()), fifo = open(path, O_WRONLY | O_CLOEXEC);
  if (fifo < 0 || write(fifo, line, (size_t)length) < 0) abort();
  close(fifo);
}

static void hang(void) {
  for (;;)
    pause();
}

static lumap_status executor_open(const lumap_bytes *setup, void *host, int number, lumap_control *control, void **self,
                                  lumap_error *error) {
  char text[256] = {0};
  fake_state *state;
  (void)host;
  memcpy(text, setup->data, setup->size < sizeof text ? setup->size : sizeof text - 1);
  if (!strncmp(text, "fail:", 5)) return lumap_error_set(error, LUMAP_E_LUA, "%s (worker %d)", text + 5, number);
  if (!strncmp(text, "exit:", 5)) _exit(atoi(text + 5));
  if (!strncmp(text, "hang:", 5)) tell(text + 5), hang();
  state = calloc(1, sizeof *state);
  if (!state) return lumap_error_set(error, LUMAP_E_NOMEM, "no memory");
  state->control = control;
  state->ordinal = atomic_fetch_add(&states_made, 1) + 1;
  atomic_fetch_add(&states_open, 1);
  *self = state;
  return LUMAP_E_OK;
}

static void executor_close(void *self) {
  atomic_fetch_sub(&states_open, 1);
  free(self);
}

static void executor_forget(void *self, uint32_t call_id) {
  (void)self, (void)call_id;
}

static void executor_interrupt(void *self, const void *context) {
  (void)context;
  atomic_store(&((fake_state *)self)->interrupted, true);
}

static void answer(lumap_task *task, const char *text) {
  lumap_bytes_clear(&task->payload);
  lumap_bytes_append(&task->payload, text, strlen(text));
}

static void answer_checksum(lumap_task *task) {
  char text[64];
  uint32_t sum = 0;
  for (size_t i = 0; i < task->payload.size; i++)
    sum = sum * 31 + task->payload.data[i];
  snprintf(text, sizeof text, "%zu %u", task->payload.size, sum);
  answer(task, text);
}

static void answer_pattern(lumap_task *task, size_t size) {
  lumap_bytes bytes = {0};
  if (!lumap_bytes_reserve(&bytes, size)) abort();
  for (size_t i = 0; i < size; i++)
    bytes.data[i] = (unsigned char)(i * 7);
  bytes.size = size;
  lumap_bytes_move(&task->payload, &bytes);
}

static void answer_log(lumap_task *task) {
  lumap_log_entry *entry = task->call->log_first;
  lumap_bytes_clear(&task->payload);
  for (uint32_t i = 0; i < task->log_needed; i++, entry = entry->next)
    lumap_bytes_append(&task->payload, entry->bytes.data, entry->bytes.size);
}

static void answer_descriptors(lumap_task *task) {
  char text[32];
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (readdir(folder))
    count++;
  closedir(folder);
  snprintf(text, sizeof text, "%d", count);
  answer(task, text);
}

/* Behind the back-end's back: a frame that ends in its middle. */
static void write_half_a_result(lumap_task *task) {
  static const char some[5000];
  const lumap_bytes claimed = {.size = 1 << 20};
  lumap_frame_writer writer;
  lumap_frame_head head = lumap_frame_of_task(LUMAP_FRAME_RESULT, task);
  lumap_frame_begin(&writer, &head, NULL, &claimed);
  if (send(LUMAP_CHILD_CHANNEL, &writer.head, sizeof writer.head, MSG_NOSIGNAL) < 0 ||
      send(LUMAP_CHILD_CHANNEL, some, sizeof some, MSG_NOSIGNAL) < 0)
    abort();
  raise(SIGKILL);
}

static void write_junk(void) {
  char junk[sizeof(lumap_frame_head)];
  memset(junk, 0xff, sizeof junk);
  if (send(LUMAP_CHILD_CHANNEL, junk, sizeof junk, MSG_NOSIGNAL) < 0) abort();
}

static bool is_stopped(fake_state *self, const lumap_task *task) {
  return lumap_control_is_stopped(self->control, task->call_id, task->first + 3);
}

static void wait_for_byte(const char *path) {
  char second[260], byte;
  int fifo;
  snprintf(second, sizeof second, "%s.2", path);
  do
    fifo = open(second, O_RDONLY | O_CLOEXEC);
  while (fifo < 0);
  while (read(fifo, &byte, 1) < 0) {
  }
  close(fifo);
}

/* What the letter says; false: the state is spent. `argument` is what follows it. */
static bool act(fake_state *self, lumap_task *task, char letter, const char *argument) {
  char text[64];
  switch (letter) {
  case 'n':
    answer_checksum(task);
    return true;
  case 'r':
    answer_pattern(task, (size_t)strtoull(argument, NULL, 10));
    return true;
  case 'p':
    return false;
  case 'o':
    snprintf(text, sizeof text, "%d %d", (int)getpid(), self->ordinal);
    answer(task, text);
    return true;
  case 'l':
    answer_log(task);
    return true;
  case 'f':
    answer_descriptors(task);
    return true;
  case 'x':
    _exit(atoi(argument));
  case 'k':
    signal(atoi(argument), SIG_DFL); /* sanitizers catch faults, and exit */
    raise(atoi(argument));
    break;
  case 'h':
    write_half_a_result(task);
    break;
  case 'j':
    write_junk(), hang();
    break;
  case 'c':
    close(LUMAP_CHILD_CHANNEL), hang();
    break;
  case 'w':
    tell(argument);
    while (!is_stopped(self, task))
      sched_yield();
    task->done = 1;
    return true;
  case 'b':
    tell(argument);
    while (!atomic_load(&self->interrupted))
      sched_yield();
    task->done = 1;
    return false;
  case 'i':
    if (!*argument) return true;
    /* fall through */
  case 'g':
    tell(argument), wait_for_byte(argument);
    return true;
  default:
    break;
  }
  return true;
}

static bool executor_run(void *self, lumap_task *task) {
  fake_state *state = self;
  char argument[256] = {0};
  size_t size = task->payload.size;
  bool usable;
  task->started_ns = lumap_clock_ns();
  task->outcome = LUMAP_OUTCOME_DONE;
  task->done = task->count;
  atomic_store_explicit(&state->control->index, task->first + 2, memory_order_relaxed);
  if (size > 1) memcpy(argument, task->payload.data + 1, size - 1 < sizeof argument ? size - 1 : sizeof argument - 1);
  usable = act(state, task, size ? (char)task->payload.data[0] : 'e', argument);
  task->ended_ns = size && task->payload.data && task->payload.data[0] == 'i' ? task->started_ns : lumap_clock_ns();
  return usable;
}

const lumap_executor fake_executor = {.identity = "fake VM 1",
                                      .open = executor_open,
                                      .run = executor_run,
                                      .forget = executor_forget,
                                      .interrupt = executor_interrupt,
                                      .close = executor_close};

/* ---- the feed ---- */

static lumap_task *task_of(lumap_link *link) {
  return link ? LUMAP_OWNER(link, lumap_task, link) : NULL;
}

static lumap_task *feed_take(void *self, lumap_worker *worker, bool wait) {
  fake_feed *feed = self;
  lumap_task *task;
  pthread_mutex_lock(&feed->lock);
  for (;;) {
    task = task_of(lumap_list_pop(&worker->mailbox));
    if (!task) task = task_of(lumap_list_pop(&feed->queue));
    if (task || !wait || feed->closing) break;
    pthread_cond_wait(&feed->work, &feed->lock);
  }
  pthread_mutex_unlock(&feed->lock);
  return task;
}

static void feed_finish(void *self, lumap_worker *worker, lumap_task *task) {
  fake_feed *feed = self;
  if (worker->crew != &feed->crew || task->kind != LUMAP_TASK_CHUNK) abort();
  pthread_mutex_lock(&feed->lock);
  lumap_list_push(&feed->finished, &task->link);
  feed->finishes++;
  pthread_mutex_unlock(&feed->lock);
  lumap_event_signal(&feed->done);
}

static void feed_give_back(void *self, lumap_worker *worker, lumap_task *task) {
  fake_feed *feed = self;
  if (worker->crew != &feed->crew || task->kind != LUMAP_TASK_CHUNK) abort();
  pthread_mutex_lock(&feed->lock);
  lumap_list_push_front(&feed->queue, &task->link);
  feed->given_back++;
  pthread_cond_signal(&feed->work);
  pthread_mutex_unlock(&feed->lock);
}

static void feed_acquire(void *self) {
  atomic_fetch_add(&((fake_feed *)self)->references, 1);
}

static void feed_release(void *self) {
  atomic_fetch_sub(&((fake_feed *)self)->references, 1);
}

lumap_status fake_open(fake_feed *feed, const lumap_backend *backend, int worker_count, const char *setup,
                       lumap_error *error) {
  pthread_mutex_init(&feed->lock, NULL);
  pthread_cond_init(&feed->work, NULL);
  lumap_bytes_append(&feed->setup, setup, strlen(setup) + 1);
  feed->crew.backend = backend;
  feed->crew.feed = (lumap_feed){feed, feed_take, feed_finish, feed_give_back, feed_acquire, feed_release};
  feed->crew.executor = &fake_executor;
  feed->crew.setup = &feed->setup;
  feed->crew.worker_count = worker_count;
  feed->crew.workers = feed->workers;
  for (int i = 0; i < worker_count; i++) {
    feed->workers[i].number = i + 1;
    feed->workers[i].crew = &feed->crew;
  }
  return backend->open(&feed->crew, error);
}

static void free_call(lumap_call *call) {
  free(call);
}

lumap_call *fake_call(fake_feed *feed) {
  lumap_call *call = malloc(sizeof *call);
  if (!call) abort();
  lumap_call_init(call, ++feed->calls);
  call->free = free_call;
  return call;
}

void fake_end(fake_feed *feed, lumap_call *call) {
  pthread_mutex_lock(&feed->lock);
  for (int i = 0; i < feed->crew.worker_count; i++) {
    lumap_task *end = lumap_task_new(LUMAP_TASK_END, NULL);
    end->call_id = call->id;
    lumap_list_push(&feed->workers[i].mailbox, &end->link);
  }
  pthread_cond_broadcast(&feed->work);
  pthread_mutex_unlock(&feed->lock);
  lumap_call_release(call);
  fake_wake(feed);
}

void fake_append(lumap_call *call, const char *text) {
  lumap_bytes bytes = {0};
  lumap_bytes_append(&bytes, text, strlen(text));
  lumap_call_append(call, &bytes);
}

void fake_queue(fake_feed *feed, lumap_call *call, uint64_t first, const void *data, size_t size) {
  lumap_task *task = lumap_task_new(LUMAP_TASK_CHUNK, call);
  if (!task || !lumap_bytes_append(&task->payload, data, size)) abort();
  task->first = first;
  task->count = 10;
  task->log_needed = call->log_count;
  task->payload_kind = LUMAP_PAYLOAD_VALUES;
  pthread_mutex_lock(&feed->lock);
  lumap_list_push(&feed->queue, &task->link);
  feed->submitted++;
  pthread_cond_signal(&feed->work);
  pthread_mutex_unlock(&feed->lock);
}

void fake_wake(fake_feed *feed) {
  if (feed->crew.backend->recruit) feed->crew.backend->recruit(&feed->crew, feed->crew.worker_count);
  if (feed->crew.backend->wake) feed->crew.backend->wake(&feed->crew);
}

void fake_submit(fake_feed *feed, lumap_call *call, uint64_t first, const char *text) {
  fake_queue(feed, call, first, text, strlen(text));
  fake_wake(feed);
}

lumap_task *fake_collect(fake_feed *feed, double seconds) {
  uint64_t deadline = lumap_deadline_after(seconds);
  for (;;) {
    uint32_t key = lumap_event_key(&feed->done);
    lumap_task *task;
    bool pumped = feed->crew.backend->pump && feed->crew.backend->pump(&feed->crew);
    pthread_mutex_lock(&feed->lock);
    task = task_of(lumap_list_pop(&feed->finished));
    pthread_mutex_unlock(&feed->lock);
    if (task) {
      feed->collected++;
      return task;
    }
    if (!pumped && lumap_event_wait(&feed->done, key, deadline) == LUMAP_E_TIMEOUT) return NULL;
  }
}

static void drop(fake_feed *feed, lumap_list *list) {
  for (lumap_link *link; (link = lumap_list_pop(list)) != NULL;) {
    lumap_task_free(task_of(link));
    feed->submitted--;
  }
}

void fake_stop(fake_feed *feed) {
  pthread_mutex_lock(&feed->lock);
  drop(feed, &feed->queue);
  feed->closing = true;
  pthread_cond_broadcast(&feed->work);
  pthread_mutex_unlock(&feed->lock);
  feed->crew.backend->stop(&feed->crew);
}

void fake_close(fake_feed *feed) {
  pthread_mutex_lock(&feed->lock);
  feed->closing = true;
  pthread_cond_broadcast(&feed->work);
  pthread_mutex_unlock(&feed->lock);
  while (feed->crew.backend->pump && feed->crew.backend->pump(&feed->crew)) {
  }
  feed->crew.backend->close(&feed->crew);
}

void fake_deinit(fake_feed *feed) {
  lumap_list *lists[] = {&feed->queue, &feed->finished};
  for (int i = 0; i < 2; i++)
    drop(feed, lists[i]);
  for (int i = 0; i < feed->crew.worker_count; i++)
    drop(feed, &feed->workers[i].mailbox);
  lumap_bytes_deinit(&feed->setup);
  pthread_cond_destroy(&feed->work);
  pthread_mutex_destroy(&feed->lock);
}
