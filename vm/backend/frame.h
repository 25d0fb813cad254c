/* SPDX-License-Identifier: MIT
 *
 * frame.h - what the parent and a worker process say to each other, as bytes on a stream socket.
 *
 * A frame is a head of 120 bytes, then `text_length` bytes of text for people (no zero at the end), then `length` bytes
 * of payload. Numbers are in the host's byte order: both ends run on one machine, and a magic number that reads
 * backwards is refused like any other damage. Fields that a type does not use are zero.
 *
 *       0        4     6     8               16          20
 *      +--------+-----+-----+---------------+-----------+---------+
 *      | magic  | ver | type| length        | text_len. | call_id |
 *      +--------+-----+-----+---+-----------+-----------+---------+
 *   24 | number | kind      | outcome       | log_needed|     40 first, 48 count, 56 done
 *      +--------+-----------+---------------+-----------+
 *   64   started_ns, 72 ended_ns, 80 decode_ns, 88 encode_ns, 96 died_index, 104 died_signal, 108 died_exit
 *  112   attached, 116 nothing
 *  120   text ... payload ...
 *
 *   type      from    fields                                text             payload
 *   HELLO     parent  number: of the worker                 VM identity      setup bytes
 *   GREETING  child   number: its process id                -                -           at once: it lives
 *   READY     child   number: status                        error message    -           its state is open, or why not
 *   LOG       parent  call_id, first: ordinal of the entry, number: turn of the task that needs it  -  the entry
 *   CHUNK     parent  call_id, kind, first, count, log_needed, number: its turn  -  the items
 *   RESULT    child   call_id, all from kind on; number: status  error message  the results
 *   END       parent  call_id                               -                -
 *   MEMORY    both    count: of memories; first: how many went before; the rest as in the frame that is to come
 *                                                           -                descriptors of each memory, a byte each
 *
 * Payloads refer to shared memory by number (bytes.h). Its descriptors go ahead of the frame in MEMORY frames, with
 * their first byte; `attached` of the frame itself says how many memories belong to it. Readers and writers see to that
 * by themselves: a payload comes and goes with its references.
 *
 * The parent sends HELLO first and may send tasks behind it without waiting. The child sends GREETING before it reads,
 * READY when its state is open, then one RESULT for each CHUNK in their order; but a CHUNK that the parent has taken
 * back meanwhile (lumap_control_revoke) is read away, and may hold anything. The LOG frames before it hold. READY with
 * a status other than zero, at any time, is the last frame of a child: it ends then. The parent's end of file tells the
 * child to end.
 *
 * The bytes of the other side are hostile: a head is checked before anything is made of it, a payload is given memory
 * as its bytes arrive. Readers and writers are their user's memory and belong to one thread.
 */
#ifndef LUMAP_BACKEND_FRAME_H
#define LUMAP_BACKEND_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/task.h"
#include "base/bytes.h"
#include "base/status.h"
#include "shared/memory.h"

#define LUMAP_FRAME_MAGIC UINT32_C(0x464d554c) /* "LUMF" on a little-endian machine */
enum { LUMAP_FRAME_VERSION = 4 };

/* The longest payload: 64 GiB. Far beyond what fits a message, near enough to catch a damaged length. */
#define LUMAP_FRAME_LIMIT (UINT64_C(1) << 36)

typedef enum lumap_frame_type {
  LUMAP_FRAME_HELLO = 1,
  LUMAP_FRAME_GREETING,
  LUMAP_FRAME_READY,
  LUMAP_FRAME_LOG,
  LUMAP_FRAME_CHUNK,
  LUMAP_FRAME_RESULT,
  LUMAP_FRAME_END,
  LUMAP_FRAME_MEMORY,
} lumap_frame_type;

/* Memories in one MEMORY frame: the kernel takes 253 descriptors at a time. */
enum { LUMAP_FRAME_MEMORIES = 64, LUMAP_FRAME_DESCRIPTORS = LUMAP_FRAME_MEMORIES * LUMAP_MEMORY_DESCRIPTORS };

typedef struct lumap_frame_head {
  uint32_t magic;
  uint16_t version, type;
  uint64_t length;
  uint32_t text_length, call_id;
  int32_t number;
  uint32_t kind, outcome, log_needed;
  uint64_t first, count, done;
  uint64_t started_ns, ended_ns, decode_ns, encode_ns, died_index;
  int32_t died_signal, died_exit;
  uint32_t attached, unused;
} lumap_frame_head;

/* What one step, which makes one system call, has come to. */
typedef enum lumap_frame_step {
  LUMAP_FRAME_PART,    /* some bytes moved: call again */
  LUMAP_FRAME_BLOCKED, /* non-blocking socket: nothing moves now */
  LUMAP_FRAME_HEADED, /* reader: the head is there and checked; call again for the rest. Once a frame, and once for each
                         MEMORY frame ahead of it */
  LUMAP_FRAME_WHOLE,  /* the frame is complete */
  LUMAP_FRAME_CLOSED, /* the other side is gone */
  LUMAP_FRAME_FAILED, /* damaged bytes, no memory, or a failed system call: see the error. Do not go on */
} lumap_frame_step;

typedef struct lumap_frame_writer {
  lumap_frame_head head;
  const char *text;    /* borrowed until the frame is whole */
  const void *payload; /* borrowed until the frame is whole. NULL: zeros */
  uint64_t written;    /* bytes of the frame, head included */
  /* The MEMORY frames ahead of it. */
  const lumap_references *references; /* borrowed as the payload. NULL: none, or none any more */
  uint32_t shown;                     /* memories in those that are whole */
  uint32_t showing;                   /* in the one that is being written, of which `memory_written` bytes are */
  size_t memory_written;
  unsigned char descriptor_counts[LUMAP_FRAME_MEMORIES];
} lumap_frame_writer;

typedef struct lumap_frame_reader {
  lumap_frame_head head;
  char text[sizeof((lumap_error *)0)->message]; /* zero-terminated */
  lumap_bytes payload;                          /* of the frame that is whole; swap it with the task's own */
  uint64_t got;                                 /* bytes of the frame, head included */
  bool whole;                                   /* the next step begins another frame */
  lumap_memories *known;                        /* among which arriving memory is looked up; kept. NULL: it is not */
  lumap_references *memories;                   /* what has arrived for the next frame */
  int descriptors[LUMAP_FRAME_DESCRIPTORS];     /* what came with the head of a MEMORY frame */
  int descriptor_count;
} lumap_frame_reader;

/* Begins a frame. Of `head` type and what belongs to it are used; the rest is filled in. `text` and `payload` may be
 * NULL. Text beyond what a reader takes is cut. */
void lumap_frame_begin(lumap_frame_writer *writer, const lumap_frame_head *head, const char *text,
                       const lumap_bytes *payload);

/* The payload is not borrowed any more: what is left of it goes out as zeros, so that the next frame is found, and no
 * more memory goes ahead of it. */
void lumap_frame_hollow(lumap_frame_writer *writer);

/* Writes what the socket takes. Never raises SIGPIPE. Interrupted calls are repeated. */
lumap_frame_step lumap_frame_write(lumap_frame_writer *writer, int channel, lumap_error *error);

/* Reads what the socket has. Zero-initialised is ready, but for `known`. After LUMAP_FRAME_WHOLE the next call begins
 * the next frame in the memory that `payload` then holds. LUMAP_FRAME_CLOSED with `got` zero or `whole` true: between
 * two frames. */
lumap_frame_step lumap_frame_read(lumap_frame_reader *reader, int channel, lumap_error *error);

/* Empties the payload, and frees its memory when it is too much to keep warm. */
void lumap_frame_recycle(lumap_frame_reader *reader);

/* Drops what has arrived for a frame that will not come: before a reader goes on with another channel. */
void lumap_frame_forget(lumap_frame_reader *reader);

void lumap_frame_reader_deinit(lumap_frame_reader *reader);

/* The head of a CHUNK or a RESULT from a task. */
lumap_frame_head lumap_frame_of_task(lumap_frame_type type, const lumap_task *task);

/* Copies what a worker tells of its task, error message included, out of a RESULT. The payload is not touched. */
void lumap_frame_to_task(const lumap_frame_reader *reader, lumap_task *task);

#endif
