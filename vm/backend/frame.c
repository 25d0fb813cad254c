/* SPDX-License-Identifier: MIT
 *
 * frame.c - frames between parent and child, read and written step by step. See frame.h for the bytes.
 *
 * A step makes one system call, so that the parent's one thread can serve many channels in turn, and the same code
 * serves the child's blocking socket.
 */
#include "backend/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(lumap_frame_head) == 120, "the head has no padding");

/* Payloads get memory in steps of at most this, as their bytes arrive: a damaged length cannot claim more. */
#define MEMORY_STEP ((size_t)64 << 20)

/* Pieces of zeros that stand for a hollow payload in one system call, 4 KiB each. */
enum { MOST_ZEROS = 16 };

/* Memory beyond this goes back after each frame; below, it stays warm for the next one. */
#define WARM_BYTES ((size_t)16 << 20)

void lumap_frame_begin(lumap_frame_writer *writer, const lumap_frame_head *head, const char *text,
                       const lumap_bytes *payload) {
  *writer = (lumap_frame_writer){.head = *head};
  writer->head.magic = LUMAP_FRAME_MAGIC;
  writer->head.version = LUMAP_FRAME_VERSION;
  writer->head.length = payload ? payload->size : 0;
  writer->head.text_length = text ? (uint32_t)strnlen(text, sizeof((lumap_frame_reader *)0)->text - 1) : 0;
  writer->text = text;
  writer->payload = payload ? payload->data : NULL;
  writer->references = payload ? payload->references : NULL;
  writer->head.attached = writer->references ? (uint32_t)writer->references->count : 0;
}

/* Appends what is left of a piece that begins at byte `start` of the frame. */
static void add_piece(struct iovec *pieces, int *count, const void *data, uint64_t start, uint64_t size,
                      uint64_t moved) {
  uint64_t done = moved > start ? moved - start : 0;
  if (done >= size) return;
  pieces[(*count)++] = (struct iovec){.iov_base = (char *)data + done, .iov_len = (size_t)(size - done)};
}

/* As add_piece, for a payload that is zeros: as many of them as `room` pieces hold. */
static void add_zeros(struct iovec *pieces, int *count, int room, uint64_t start, uint64_t size, uint64_t moved) {
  static const unsigned char zeros[4096];
  uint64_t left = size - (moved > start ? moved - start : 0);
  for (; left > 0 && room > 0; room--) {
    size_t some = left < sizeof zeros ? (size_t)left : sizeof zeros;
    pieces[(*count)++] = (struct iovec){.iov_base = (void *)zeros, .iov_len = some};
    left -= some;
  }
}

static lumap_frame_step failed_call(const char *what, lumap_error *error) {
  if (errno == EINTR) return LUMAP_FRAME_PART;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return LUMAP_FRAME_BLOCKED;
  if (errno == EPIPE || errno == ECONNRESET) return LUMAP_FRAME_CLOSED;
  lumap_error_system(error, errno, what);
  return LUMAP_FRAME_FAILED;
}

void lumap_frame_hollow(lumap_frame_writer *writer) {
  writer->payload = NULL;
  writer->references = NULL;
  if (writer->written == 0) writer->head.attached = writer->shown + (writer->memory_written > 0 ? writer->showing : 0);
}

/* ---- memory ahead of a frame ---- */

/* Lists the descriptors of the next memories. */
static int gather(lumap_frame_writer *writer, int *descriptors) {
  int count = 0;
  writer->showing = 0;
  for (size_t i = writer->shown; i < writer->references->count && writer->showing < LUMAP_FRAME_MEMORIES; i++) {
    const lumap_memory *memory = (const lumap_memory *)writer->references->items[i];
    for (int k = 0; k < memory->descriptor_count; k++)
      descriptors[count++] = memory->descriptors[k];
    writer->descriptor_counts[writer->showing++] = (unsigned char)memory->descriptor_count;
  }
  return count;
}

/* Ancillary data are looked at as structures. */
typedef union control_buffer {
  struct cmsghdr head;
  char room[CMSG_SPACE(LUMAP_FRAME_DESCRIPTORS * sizeof(int))];
} control_buffer;

static void put_descriptors(struct msghdr *message, control_buffer *control, const int *descriptors, int count) {
  struct cmsghdr *head;
  size_t size = (size_t)count * sizeof *descriptors;
  if (count == 0) return;
  message->msg_control = control;
  message->msg_controllen = CMSG_SPACE(size);
  head = CMSG_FIRSTHDR(message);
  *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(size)};
  memcpy(CMSG_DATA(head), descriptors, size);
}

/* Writes of the MEMORY frames ahead what the socket takes. */
static lumap_frame_step write_memories(lumap_frame_writer *writer, int channel, lumap_error *error) {
  lumap_frame_head head = writer->head;
  int descriptors[LUMAP_FRAME_DESCRIPTORS];
  control_buffer control = {0};
  struct iovec pieces[2];
  struct msghdr message = {.msg_iov = pieces};
  int count = 0;
  ssize_t sent;
  if (writer->memory_written == 0) put_descriptors(&message, &control, descriptors, gather(writer, descriptors));
  if (head.type != LUMAP_FRAME_LOG && head.type != LUMAP_FRAME_CHUNK) head.number = 0; /* it is no turn */
  head.type = LUMAP_FRAME_MEMORY;
  head.text_length = head.attached = 0;
  head.first = writer->shown;
  head.count = head.length = writer->showing;
  add_piece(pieces, &count, &head, 0, sizeof head, writer->memory_written);
  add_piece(pieces, &count, writer->descriptor_counts, sizeof head, head.length, writer->memory_written);
  message.msg_iovlen = (size_t)count;
  sent = sendmsg(channel, &message, MSG_NOSIGNAL);
  if (sent < 0) return failed_call("cannot write to the channel", error);
  writer->memory_written += (size_t)sent;
  if (writer->memory_written < sizeof head + head.length) return LUMAP_FRAME_PART;
  writer->shown += writer->showing;
  writer->showing = 0;
  writer->memory_written = 0;
  return LUMAP_FRAME_PART;
}

static bool has_memories_ahead(const lumap_frame_writer *writer) {
  return writer->memory_written > 0 || (writer->references && writer->shown < writer->references->count);
}

lumap_frame_step lumap_frame_write(lumap_frame_writer *writer, int channel, lumap_error *error) {
  const uint64_t head_size = sizeof writer->head, text_size = writer->head.text_length;
  struct iovec pieces[2 + MOST_ZEROS];
  int count = 0;
  struct msghdr message = {.msg_iov = pieces};
  ssize_t sent;
  if (has_memories_ahead(writer)) return write_memories(writer, channel, error);
  add_piece(pieces, &count, &writer->head, 0, head_size, writer->written);
  add_piece(pieces, &count, writer->text, head_size, text_size, writer->written);
  if (writer->payload)
    add_piece(pieces, &count, writer->payload, head_size + text_size, writer->head.length, writer->written);
  else
    add_zeros(pieces, &count, MOST_ZEROS, head_size + text_size, writer->head.length, writer->written);
  message.msg_iovlen = (size_t)count;
  sent = sendmsg(channel, &message, MSG_NOSIGNAL);
  if (sent < 0) return failed_call("cannot write to the channel", error);
  writer->written += (uint64_t)sent;
  return writer->written == head_size + text_size + writer->head.length ? LUMAP_FRAME_WHOLE : LUMAP_FRAME_PART;
}

static bool check_head(const lumap_frame_head *head, lumap_error *error) {
  if (head->magic != LUMAP_FRAME_MAGIC)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "bytes that are no frame (0x%08x)", head->magic);
  else if (head->version != LUMAP_FRAME_VERSION)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "protocol version %d, expected %d", head->version, LUMAP_FRAME_VERSION);
  else if (head->type < LUMAP_FRAME_HELLO || head->type > LUMAP_FRAME_MEMORY)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "unknown frame type %d", head->type);
  else if (head->text_length >= sizeof((lumap_frame_reader *)0)->text)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "text of %u bytes is too long", head->text_length);
  else if (head->length > LUMAP_FRAME_LIMIT)
    lumap_error_set(error, LUMAP_E_PROTOCOL, "payload of %llu bytes is longer than the limit of %llu",
                    (unsigned long long)head->length, (unsigned long long)LUMAP_FRAME_LIMIT);
  else if (head->type == LUMAP_FRAME_MEMORY && (head->length > LUMAP_FRAME_MEMORIES || head->text_length > 0))
    lumap_error_set(error, LUMAP_E_PROTOCOL, "too much memory at a time");
  else
    return true;
  return false;
}

/* ---- memory that arrives ---- */

static void drop_descriptors(lumap_frame_reader *reader) {
  for (int i = 0; i < reader->descriptor_count; i++)
    close(reader->descriptors[i]);
  reader->descriptor_count = 0;
}

static void drop_memories(lumap_frame_reader *reader) {
  lumap_references_free(reader->memories);
  reader->memories = NULL;
}

/* What the first byte of a frame has brought along; nothing comes with others. When this process may open no more the
 * kernel keeps the rest to itself. */
static void take_descriptors(lumap_frame_reader *reader, struct msghdr *message) {
  for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    if (count > LUMAP_FRAME_DESCRIPTORS) count = LUMAP_FRAME_DESCRIPTORS; /* there is no room for more in `control` */
    drop_descriptors(reader);
    memcpy(reader->descriptors, CMSG_DATA(head), count * sizeof(int));
    reader->descriptor_count = (int)count;
  }
}

/* The memory of `count` descriptors from number `at` on; what has not arrived, or cannot be mapped, is lost to those
 * who refer to it, and only to them. NULL: no memory. */
static lumap_memory *make_memory(lumap_frame_reader *reader, int at, int count) {
  lumap_memory *memory;
  if (count < 1 || count > LUMAP_MEMORY_DESCRIPTORS || at + count > reader->descriptor_count) {
    for (int i = at; i < at + count && i < reader->descriptor_count; i++)
      close(reader->descriptors[i]);
    return lumap_memory_lost();
  }
  if (lumap_memory_receive(reader->known, reader->descriptors + at, count, &memory, NULL) == LUMAP_E_OK) return memory;
  return lumap_memory_lost();
}

/* A MEMORY frame is complete: what it brought belongs to the next frame. */
static bool keep_memories(lumap_frame_reader *reader, lumap_error *error) {
  int at = 0;
  /* Those of a frame that never came, since its task was taken back, are forgotten. */
  if (reader->head.first == 0) drop_memories(reader);
  for (size_t i = 0; i < reader->payload.size; i++) {
    int count = reader->payload.data[i];
    lumap_memory *memory = make_memory(reader, at, count);
    at += count;
    if (memory && lumap_references_take(&reader->memories, &memory->counted)) continue;
    lumap_memory_release(memory);
    for (; at < reader->descriptor_count; at++)
      close(reader->descriptors[at]);
    reader->descriptor_count = 0;
    lumap_error_set(error, LUMAP_E_NOMEM, "no memory for what arrives");
    return false;
  }
  for (; at < reader->descriptor_count; at++)
    close(reader->descriptors[at]);
  reader->descriptor_count = 0;
  return true;
}

/* Gives the frame that is complete its memory. */
static bool attach_memories(lumap_frame_reader *reader, lumap_error *error) {
  size_t count = reader->memories ? reader->memories->count : 0;
  if (reader->head.attached == 0) {
    drop_memories(reader);
    return true;
  }
  if (reader->head.attached != count) {
    lumap_error_set(error, LUMAP_E_PROTOCOL, "%u memories belong to a frame, %zu came", reader->head.attached, count);
    return false;
  }
  reader->payload.references = reader->memories;
  reader->memories = NULL;
  return true;
}

static void begin_read(lumap_frame_reader *reader) {
  reader->got = 0;
  reader->whole = false;
  lumap_bytes_clear(&reader->payload);
}

static bool is_complete(const lumap_frame_reader *reader) {
  return reader->got == sizeof reader->head + reader->head.text_length + reader->head.length;
}

static lumap_frame_step read_head(lumap_frame_reader *reader, int channel, lumap_error *error) {
  control_buffer control;
  struct iovec piece = {.iov_base = (char *)&reader->head + reader->got,
                        .iov_len = sizeof reader->head - (size_t)reader->got};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  if (got > 0) take_descriptors(reader, &message);
  if (got == 0) return LUMAP_FRAME_CLOSED;
  if (got < 0) return failed_call("cannot read from the channel", error);
  reader->got += (uint64_t)got;
  if (reader->got < sizeof reader->head) return LUMAP_FRAME_PART;
  if (!check_head(&reader->head, error)) return LUMAP_FRAME_FAILED;
  if (reader->head.type != LUMAP_FRAME_MEMORY) drop_descriptors(reader);
  memset(reader->text, 0, sizeof reader->text);
  return LUMAP_FRAME_HEADED;
}

/* Room for more of the payload. Memory that is too small and holds nothing yet is freed, not copied. */
static bool make_room(lumap_frame_reader *reader) {
  lumap_bytes *payload = &reader->payload;
  uint64_t left = reader->head.length - payload->size;
  size_t wanted = left < MEMORY_STEP ? (size_t)left : MEMORY_STEP;
  if (payload->size == 0 && payload->capacity < wanted) lumap_bytes_deinit(payload);
  if (left == 0 || payload->capacity > payload->size) return true;
  return lumap_bytes_reserve(payload, wanted);
}

static lumap_frame_step read_rest(lumap_frame_reader *reader, int channel, lumap_error *error) {
  const uint64_t head_size = sizeof reader->head, text_size = reader->head.text_length;
  lumap_bytes *payload = &reader->payload;
  struct iovec pieces[2];
  int count = 0;
  struct msghdr message = {.msg_iov = pieces};
  uint64_t text_got = reader->got - head_size, room;
  ssize_t got;
  if (text_got > text_size) text_got = text_size;
  if (!make_room(reader)) {
    lumap_error_set(error, LUMAP_E_NOMEM, "no memory for a payload of %llu bytes",
                    (unsigned long long)reader->head.length);
    return LUMAP_FRAME_FAILED;
  }
  room = payload->capacity - payload->size;
  if (room > reader->head.length - payload->size) room = reader->head.length - payload->size;
  if (text_got < text_size) add_piece(pieces, &count, reader->text, 0, text_size, text_got);
  if (room) pieces[count++] = (struct iovec){.iov_base = payload->data + payload->size, .iov_len = (size_t)room};
  message.msg_iovlen = (size_t)count;
  got = recvmsg(channel, &message, 0);
  if (got == 0) return LUMAP_FRAME_CLOSED;
  if (got < 0) return failed_call("cannot read from the channel", error);
  reader->got += (uint64_t)got;
  if ((uint64_t)got > text_size - text_got) payload->size += (size_t)((uint64_t)got - (text_size - text_got));
  return is_complete(reader) ? LUMAP_FRAME_WHOLE : LUMAP_FRAME_PART;
}

lumap_frame_step lumap_frame_read(lumap_frame_reader *reader, int channel, lumap_error *error) {
  lumap_frame_step step;
  if (reader->whole) begin_read(reader);
  if (reader->got < sizeof reader->head) return read_head(reader, channel, error);
  step = is_complete(reader) ? LUMAP_FRAME_WHOLE : read_rest(reader, channel, error);
  reader->whole = step == LUMAP_FRAME_WHOLE;
  if (!reader->whole) return step;
  if (reader->head.type != LUMAP_FRAME_MEMORY)
    return attach_memories(reader, error) ? LUMAP_FRAME_WHOLE : LUMAP_FRAME_FAILED;
  return keep_memories(reader, error) ? LUMAP_FRAME_PART : LUMAP_FRAME_FAILED;
}

void lumap_frame_recycle(lumap_frame_reader *reader) {
  if (reader->payload.capacity > WARM_BYTES)
    lumap_bytes_deinit(&reader->payload);
  else
    lumap_bytes_clear(&reader->payload);
}

void lumap_frame_forget(lumap_frame_reader *reader) {
  drop_descriptors(reader);
  drop_memories(reader);
}

void lumap_frame_reader_deinit(lumap_frame_reader *reader) {
  lumap_frame_forget(reader);
  lumap_bytes_deinit(&reader->payload);
  lumap_memories_release(reader->known);
  *reader = (lumap_frame_reader){0};
}

lumap_frame_head lumap_frame_of_task(lumap_frame_type type, const lumap_task *task) {
  return (lumap_frame_head){
      .type = (uint16_t)type,
      .call_id = task->call_id,
      .number = (int32_t)task->error.status,
      .kind = task->payload_kind,
      .outcome = task->outcome,
      .log_needed = task->log_needed,
      .first = task->first,
      .count = task->count,
      .done = task->done,
      .started_ns = task->started_ns,
      .ended_ns = task->ended_ns,
      .decode_ns = task->decode_ns,
      .encode_ns = task->encode_ns,
      .died_index = task->died_index,
      .died_signal = task->died_signal,
      .died_exit = task->died_exit,
  };
}

void lumap_frame_to_task(const lumap_frame_reader *reader, lumap_task *task) {
  const lumap_frame_head *head = &reader->head;
  task->payload_kind = head->kind;
  task->outcome = head->outcome;
  task->done = head->done;
  task->started_ns = head->started_ns;
  task->ended_ns = head->ended_ns;
  task->decode_ns = head->decode_ns;
  task->encode_ns = head->encode_ns;
  task->died_index = head->died_index;
  task->died_signal = head->died_signal;
  task->died_exit = head->died_exit;
  task->error.status = (lumap_status)head->number;
  memcpy(task->error.message, reader->text, sizeof task->error.message);
}
