/* SPDX-License-Identifier: MIT
 *
 * child.c - the life of a worker process: the other end of process.c.
 *
 * The program is started with the hidden argument --lumap-worker=PARENT_PID, the channel as descriptor 3 and the memory
 * of its control block as descriptor 4. It answers frames (frame.h) until the channel ends. One thread, blocking
 * reads and writes; what runs in between is the executor's business. Nothing is printed: a failure is told to the
 * parent, whose user sees it.
 *
 * A copy of the parent (back-end "fork") has the same life from its state's opening on: it was told by nobody who it
 * is, it knows.
 *
 * The descriptors stay open to the very end of the process: the parent takes the end of the channel as the sign that
 * the process is beyond its last line of code (exit handlers and the flushing of stdout included) and kills what is
 * left of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/child.h"
#include "backend/frame.h"
#include "backend/seat.h"
#include "os/os.h"

enum { EXIT_SERVED = 0, EXIT_FAILED = 1 };

/* A call that this child has heard of: the log entries that came, and a place in the list. */
typedef struct child_call {
  lumap_call call;
  struct child_call *next;
} child_call;

typedef struct child {
  lumap_seat seat;
  lumap_bytes setup;
  lumap_frame_reader reader;
  lumap_frame_writer writer;
  child_call *calls;
  int channel;
  uint32_t turn; /* of the task that was read last, or of which log entries were */
  bool retires;  /* it has done its share: the next task is for a fresh process */
  bool skips;    /* the parent has taken that task back */
} child;

/* ---- frames ---- */

static bool send_frame(child *self, const lumap_frame_head *head, const char *text, const lumap_bytes *payload) {
  lumap_frame_step step;
  lumap_frame_begin(&self->writer, head, text, payload);
  do
    step = lumap_frame_write(&self->writer, self->channel, NULL);
  while (step == LUMAP_FRAME_PART);
  return step == LUMAP_FRAME_WHOLE;
}

static bool send_ready(child *self, const lumap_error *error) {
  lumap_frame_head head = {.type = LUMAP_FRAME_READY, .number = (int32_t)error->status};
  return send_frame(self, &head, error->status == LUMAP_E_OK ? NULL : error->message, NULL);
}

/* A task is begun with its first byte, log entries included, so that the parent can tell a task that killed its worker
 * while it was read from one that was still in the channel. From then on it cannot be taken back. The call is named
 * after that: who sees it there, and wants the item ended, finds the task begun. */
static void note_begin(child *self) {
  lumap_control *control = self->seat.control;
  uint16_t type = self->reader.head.type;
  uint32_t turn = (uint32_t)self->reader.head.number;
  if ((type != LUMAP_FRAME_LOG && type != LUMAP_FRAME_CHUNK && type != LUMAP_FRAME_MEMORY) || turn == self->turn)
    return;
  self->turn = turn;
  self->skips = !lumap_control_begin(control, turn);
  if (!self->skips) atomic_store_explicit(&control->call, self->reader.head.call_id, memory_order_release);
}

/* Waits for the next frame. */
static lumap_frame_step next_frame(child *self, lumap_error *error) {
  lumap_frame_step step;
  do {
    step = lumap_frame_read(&self->reader, self->channel, error);
    if (step == LUMAP_FRAME_HEADED) note_begin(self);
  } while (step == LUMAP_FRAME_PART || step == LUMAP_FRAME_HEADED);
  return step;
}

/* ---- calls ---- */

static void free_call(lumap_call *call) {
  free(call); /* it is the first member of its child_call */
}

static child_call **find_call(child *self, uint32_t id) {
  child_call **place = &self->calls;
  while (*place && (*place)->call.id != id)
    place = &(*place)->next;
  return place;
}

/* The call with this number, which the first frame that names it makes. NULL: no memory. */
static lumap_call *need_call(child *self, uint32_t id) {
  child_call **place = find_call(self, id), *made = *place;
  if (made) return &made->call;
  made = calloc(1, sizeof *made);
  if (!made) return NULL;
  lumap_call_init(&made->call, id);
  made->call.free = free_call;
  *place = made;
  return &made->call;
}

static void end_call(child *self, uint32_t id) {
  child_call **place = find_call(self, id), *gone = *place;
  lumap_seat_forget(&self->seat, id);
  if (!gone) return;
  *place = gone->next;
  lumap_call_release(&gone->call);
}

/* ---- what each frame asks for: false ends the child, with the error told ---- */

static bool take_log(child *self, lumap_error *error) {
  lumap_call *call = need_call(self, self->reader.head.call_id);
  if (call && self->reader.head.first != call->log_count) {
    lumap_error_set(error, LUMAP_E_PROTOCOL, "log entry %llu came as number %u",
                    (unsigned long long)self->reader.head.first, call->log_count);
    return false;
  }
  if (call && lumap_call_append(call, &self->reader.payload)) return true;
  lumap_error_set(error, LUMAP_E_NOMEM, "no memory for a log entry");
  return false;
}

static lumap_task *task_of_frame(child *self, lumap_error *error) {
  const lumap_frame_head *head = &self->reader.head;
  lumap_call *call = need_call(self, head->call_id);
  lumap_task *task = call ? lumap_task_new(LUMAP_TASK_CHUNK, call) : NULL;
  if (!task) {
    lumap_error_set(error, LUMAP_E_NOMEM, "no memory for a task");
    return NULL;
  }
  if (call->log_count < head->log_needed) {
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a task needs %u log entries, %u came", head->log_needed, call->log_count);
    lumap_task_free(task);
    return NULL;
  }
  task->first = head->first;
  task->count = head->count;
  task->log_needed = head->log_needed;
  task->payload_kind = head->kind;
  lumap_bytes_move(&task->payload, &self->reader.payload);
  return task;
}

static bool run_chunk(child *self, lumap_error *error) {
  lumap_task *task = task_of_frame(self, error);
  lumap_frame_head head;
  lumap_error unheard = {0};
  bool usable, sent;
  if (!task) return false;
  usable = lumap_seat_run(&self->seat, task);
  /* Who asks for the task to end early counts on a result that is still to come: from here on nobody does. */
  atomic_store(&self->seat.control->call, 0);
  self->retires = task->is_last;
  head = lumap_frame_of_task(LUMAP_FRAME_RESULT, task);
  sent = send_frame(self, &head, task->error.message, &task->payload);
  lumap_task_tell_stop(task);

  /* Only now are the results safe: until here a death is a death in this task. */
  lumap_seat_rest(&self->seat);
  lumap_bytes_move(&self->reader.payload, &task->payload); /* warm memory for the next frame */
  lumap_frame_recycle(&self->reader);
  lumap_task_free(task);
  if (!usable && !self->retires) {
    lumap_seat_close(&self->seat);
    /* Before the next task asks for it. If it fails now it will be tried again then, and that task told. */
    lumap_seat_open(&self->seat, &unheard);
  }
  return sent;
}

static bool obey(child *self, lumap_error *error) {
  switch (self->reader.head.type) {
  case LUMAP_FRAME_LOG:
    return take_log(self, error);
  case LUMAP_FRAME_CHUNK:
    if (!self->skips) return run_chunk(self, error);
    lumap_frame_recycle(&self->reader);
    return true;
  case LUMAP_FRAME_END:
    end_call(self, self->reader.head.call_id);
    return true;
  default:
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a frame of type %d to a worker", self->reader.head.type);
    return false;
  }
}

/* ---- from start to end ---- */

/* Reads the parent's HELLO and opens the state. */
static bool introduce(child *self, lumap_error *error) {
  const char *identity = self->seat.executor->identity ? self->seat.executor->identity : "";
  const lumap_frame_head *head = &self->reader.head;
  if (next_frame(self, error) != LUMAP_FRAME_WHOLE) return false;
  if (head->type != LUMAP_FRAME_HELLO) {
    lumap_error_set(error, LUMAP_E_PROTOCOL, "a frame of type %d before the first one", head->type);
    return false;
  }
  if (strcmp(self->reader.text, identity) != 0) {
    lumap_error_set(error, LUMAP_E_PROTOCOL, "the worker program is built on %s, its parent on %s", identity,
                    self->reader.text);
    return false;
  }
  self->seat.number = head->number;
  lumap_bytes_move(&self->setup, &self->reader.payload);
  return true;
}

/* Between calls: waits for the next frame, and rests when it does not come soon. Within a call that would cost each
   task a system call. */
static void await_call(child *self) {
  struct pollfd channel = {.fd = LUMAP_CHILD_CHANNEL, .events = POLLIN};
  if (!self->calls && poll(&channel, 1, LUMAP_REST_AFTER_MS) == 0) lumap_seat_forget(&self->seat, 0);
}

static int serve(child *self) {
  lumap_frame_head greeting = {.type = LUMAP_FRAME_GREETING, .number = (int32_t)getpid()};
  lumap_error error = {0};
  bool good;
  lumap_memory_barrier_join(true);
  good = send_frame(self, &greeting, NULL, NULL) && (self->seat.host || introduce(self, &error)) &&
         lumap_seat_open(&self->seat, &error) == LUMAP_E_OK && send_ready(self, &error);
  while (good) {
    lumap_frame_step step;
    await_call(self);
    step = next_frame(self, &error);
    if (step == LUMAP_FRAME_CLOSED) return EXIT_SERVED;
    good = step == LUMAP_FRAME_WHOLE && obey(self, &error);
    if (good && self->retires) return EXIT_SERVED;
  }
  if (error.status != LUMAP_E_OK) send_ready(self, &error);
  return EXIT_FAILED;
}

static void deinit(child *self) {
  lumap_seat_close(&self->seat);
  while (self->calls)
    end_call(self, self->calls->call.id);
  lumap_bytes_deinit(&self->setup);
  lumap_frame_reader_deinit(&self->reader);
}

static void do_nothing(int number) {
  (void)number;
}

/* Ctrl-C reaches the whole foreground group; the parent decides what it means. An empty handler, not SIG_IGN: what is
 * ignored stays ignored in programs that items start, and those shall end. */
static void withstand_interrupts(void) {
  struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
}

/* The process id after the prefix, or 0. */
static pid_t parse_parent(const char *text) {
  char *end;
  long number;
  errno = 0;
  number = strtol(text, &end, 10);
  return errno || *end || end == text || number <= 0 || number > INT32_MAX ? 0 : (pid_t)number;
}

int lumap_child_main(int argc, char *const *argv, const lumap_executor *executor) {
  const size_t prefix = strlen(LUMAP_CHILD_ARGUMENT);
  child self = {.seat = {.executor = executor, .setup = &self.setup}, .channel = LUMAP_CHILD_CHANNEL};
  void *memory = NULL;
  pid_t parent;
  int status;
  if (argc < 2 || strncmp(argv[1], LUMAP_CHILD_ARGUMENT, prefix) != 0) return -1;
  parent = parse_parent(argv[1] + prefix);
  if (!parent) return EXIT_FAILED;
  lumap_process_tie_to_parent(parent);
  /* The argument has been heard. A process whose first argument still has it is one whose program does not serve:
   * process.c refuses to open a crew there, because such a program would start itself without end. */
  argv[1][prefix - 1] = ':';
  withstand_interrupts();
  if (fcntl(LUMAP_CHILD_CHANNEL, F_SETFD, FD_CLOEXEC) || fcntl(LUMAP_CHILD_CONTROL, F_SETFD, FD_CLOEXEC))
    return EXIT_FAILED;
  if (lumap_shared_memory_map(LUMAP_CHILD_CONTROL, sizeof(lumap_control), &memory, NULL) != LUMAP_E_OK)
    return EXIT_FAILED;
  self.seat.control = memory;
  self.reader.known = lumap_memories_new(); /* without it memory is mapped each time that it comes */
  status = serve(&self);
  deinit(&self);
  lumap_shared_memory_close(memory, sizeof(lumap_control), -1);
  return status;
}

/* Nothing is freed: the memory is a copy, and touching it would only make it one. */
_Noreturn void lumap_child_copy_main(lumap_crew *crew, const lumap_worker *worker, int channel, int parent) {
  child self = {.seat = {.executor = crew->executor,
                         .setup = crew->setup,
                         .host = crew->host,
                         .number = worker->number,
                         .control = worker->control},
                .channel = channel,
                .reader = {.known = crew->memories}};
  lumap_process_tie_to_parent((pid_t)parent);
  lumap_process_crew_abandon(crew);
  withstand_interrupts();
  lumap_process_end(serve(&self));
  abort(); /* not reached */
}
