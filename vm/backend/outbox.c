/* SPDX-License-Identifier: MIT */
#include "backend/outbox.h"

#include <stdlib.h>

static lumap_task *task_of(lumap_link *link) {
  return link ? LUMAP_OWNER(link, lumap_task, link) : NULL;
}

void lumap_outbox_reset(lumap_outbox *box) {
  box->hello_due = box->writing = false;
  box->held = box->turn = box->shown = box->log_count = 0;
  box->husk = NULL;
}

void lumap_outbox_deinit(lumap_outbox *box) {
  free(box->logs);
}

/* ---- logs ---- */

static lumap_outbox_log *find_log(lumap_outbox *box, uint32_t call_id) {
  for (uint32_t i = box->log_count; i-- > 0;)
    if (box->logs[i].call_id == call_id) return &box->logs[i];
  return NULL;
}

static bool need_log(lumap_outbox *box, uint32_t call_id) {
  if (find_log(box, call_id)) return true;
  if (box->log_count == box->log_capacity) {
    uint32_t capacity = box->log_capacity ? 2 * box->log_capacity : 8;
    lumap_outbox_log *logs = realloc(box->logs, capacity * sizeof *logs);
    if (!logs) return false;
    box->logs = logs;
    box->log_capacity = capacity;
  }
  box->logs[box->log_count++] = (lumap_outbox_log){.call_id = call_id};
  return true;
}

static void drop_log(lumap_outbox *box, uint32_t call_id) {
  lumap_outbox_log *log = find_log(box, call_id);
  if (log) *log = box->logs[--box->log_count];
}

bool lumap_outbox_knows(lumap_outbox *box, uint32_t call_id) {
  return find_log(box, call_id) != NULL;
}

bool lumap_outbox_add(lumap_outbox *box, lumap_task *task) {
  if (task->kind == LUMAP_TASK_CHUNK) {
    if (!need_log(box, task->call_id)) return false;
    box->held++;
    task->turn = ++box->turn;
  }
  lumap_list_push(&box->unsent, &task->link);
  return true;
}

/* ---- sending ---- */

static void begin_hello(lumap_outbox *box, const lumap_crew *crew, const lumap_worker *worker) {
  lumap_frame_head head = {.type = LUMAP_FRAME_HELLO, .number = worker->number};
  lumap_frame_begin(&box->writer, &head, crew->executor->identity, crew->setup);
}

/* The entry after the last one that was sent. It is there, and its link may be read: the caller appended it before it
 * handed a task over that needs it. */
static lumap_log_entry *next_entry(const lumap_outbox_log *log, const lumap_task *task) {
  return log->last ? log->last->next : task->call->log_first;
}

/* Begins the next frame; false when there is none. */
static bool begin_frame(lumap_outbox *box, const lumap_crew *crew, const lumap_worker *worker) {
  lumap_task *task = task_of(box->unsent.first);
  lumap_outbox_log *log;
  lumap_frame_head head = {0};
  if (box->hello_due) {
    begin_hello(box, crew, worker);
  } else if (!task) {
    return false;
  } else if (task->kind == LUMAP_TASK_END) {
    head.type = LUMAP_FRAME_END;
    head.call_id = task->call_id;
    lumap_frame_begin(&box->writer, &head, NULL, NULL);
  } else if ((log = find_log(box, task->call_id))->sent < task->log_needed) {
    lumap_log_entry *entry = next_entry(log, task);
    box->shown = task->turn;
    head.type = LUMAP_FRAME_LOG;
    head.call_id = task->call_id;
    head.number = (int32_t)task->turn;
    head.first = log->sent;
    lumap_frame_begin(&box->writer, &head, NULL, &entry->bytes);
  } else {
    box->shown = task->turn;
    head = lumap_frame_of_task(LUMAP_FRAME_CHUNK, task);
    head.number = (int32_t)task->turn;
    lumap_frame_begin(&box->writer, &head, NULL, &task->payload);
  }
  box->writing = true;
  return true;
}

static void drop_husk(lumap_outbox *box) {
  lumap_list_pop(&box->unsent);
  lumap_task_free(box->husk);
  box->husk = NULL;
}

/* The frame that was begun is in the channel. */
static void end_frame(lumap_outbox *box) {
  lumap_task *task = task_of(box->unsent.first);
  box->writing = false;
  switch (box->writer.head.type) {
  case LUMAP_FRAME_HELLO:
    box->hello_due = false;
    break;
  case LUMAP_FRAME_LOG: {
    lumap_outbox_log *log = find_log(box, task->call_id);
    log->last = next_entry(log, task);
    log->sent++;
    break;
  }
  case LUMAP_FRAME_CHUNK:
    if (task == box->husk) break;
    lumap_list_pop(&box->unsent);
    lumap_list_push(&box->sent, &task->link);
    return;
  default: /* LUMAP_FRAME_END */
    lumap_list_pop(&box->unsent);
    drop_log(box, task->call_id);
    lumap_task_free(task);
    return;
  }
  /* A husk has done its duty with the frame, whichever it was: the child needs no more of that task. */
  if (task && task == box->husk) drop_husk(box);
}

lumap_frame_step lumap_outbox_write(lumap_outbox *box, const lumap_crew *crew, const lumap_worker *worker, int channel,
                                    int steps, lumap_error *error) {
  for (int i = 0; i < steps; i++) {
    lumap_frame_step step;
    if (!box->writing && !begin_frame(box, crew, worker)) return LUMAP_FRAME_WHOLE;
    step = lumap_frame_write(&box->writer, channel, error);
    if (step == LUMAP_FRAME_WHOLE)
      end_frame(box);
    else if (step != LUMAP_FRAME_PART)
      return step;
  }
  return LUMAP_FRAME_PART;
}

bool lumap_outbox_is_empty(const lumap_outbox *box) {
  return lumap_list_is_empty(&box->unsent) && lumap_list_is_empty(&box->sent);
}

/* ---- taking back ---- */

static void unlink_task(lumap_list *list, lumap_task *task) {
  lumap_link *next;
  for (lumap_link *link = lumap_list_take(list); link; link = next) {
    next = link->next;
    if (link != &task->link) lumap_list_push(list, link);
  }
}

/* The first chunk of a list, or the last; NULL: there is none. A husk is none. */
static lumap_task *find_chunk(const lumap_outbox *box, const lumap_list *list, bool last) {
  lumap_task *found = NULL;
  for (lumap_link *link = list->first; link && (last || !found); link = link->next) {
    lumap_task *task = task_of(link);
    if (task->kind == LUMAP_TASK_CHUNK && task != box->husk) found = task;
  }
  return found;
}

lumap_task *lumap_outbox_oldest(const lumap_outbox *box) {
  lumap_task *task = find_chunk(box, &box->sent, false);
  return task ? task : find_chunk(box, &box->unsent, false);
}

lumap_task *lumap_outbox_newest(const lumap_outbox *box) {
  lumap_task *task = find_chunk(box, &box->unsent, true);
  return task ? task : find_chunk(box, &box->sent, true);
}

/* The writer is in a frame of the first unsent task, which goes: the frame's rest must follow, and what it borrows must
 * stay. The husk holds the call, and thus the log entry; the items go with the task, zeros do in their place. */
static void leave_husk(lumap_outbox *box, lumap_task *husk) {
  lumap_list_push_front(&box->unsent, &husk->link);
  box->husk = husk;
  if (box->writer.head.type == LUMAP_FRAME_CHUNK) lumap_frame_hollow(&box->writer);
}

lumap_task *lumap_outbox_revoke(lumap_outbox *box, lumap_control *control) {
  lumap_task *task = find_chunk(box, &box->unsent, true), *husk = NULL;
  lumap_list *list = task ? &box->unsent : &box->sent;
  bool half_written;
  if (!task) task = find_chunk(box, list, true);
  if (!task) return NULL;
  half_written = list == &box->unsent && box->writing && box->shown == task->turn;
  if (half_written) {
    husk = lumap_task_new(LUMAP_TASK_CHUNK, task->call);
    if (!husk) return NULL;
  }
  /* Of what was added after the last one shown, the child sees no byte. */
  if ((list == &box->sent || box->shown == task->turn) && !lumap_control_revoke(control, task->turn)) {
    lumap_task_free(husk);
    return NULL;
  }
  unlink_task(list, task);
  if (husk) leave_husk(box, husk);
  box->held--;
  return task;
}

/* ---- taking out ---- */

lumap_task *lumap_outbox_awaited(const lumap_outbox *box) {
  return task_of(box->sent.first);
}

lumap_task *lumap_outbox_take_answered(lumap_outbox *box) {
  box->held--;
  return task_of(lumap_list_pop(&box->sent));
}

int lumap_outbox_empty(lumap_outbox *box, lumap_task *chunks[LUMAP_PROCESS_WINDOW]) {
  int count = 0;
  lumap_task *task;
  if (box->husk) drop_husk(box);
  while ((task = task_of(lumap_list_pop(&box->sent))))
    chunks[count++] = task;
  while ((task = task_of(lumap_list_pop(&box->unsent)))) {
    if (task->kind == LUMAP_TASK_END)
      lumap_task_free(task); /* with the child all that it kept is gone */
    else
      chunks[count++] = task;
  }
  box->held = 0;
  return count;
}
