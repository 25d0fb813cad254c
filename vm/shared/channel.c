/* SPDX-License-Identifier: MIT */
#include "shared/channel.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/os.h"

#define MAGIC UINT64_C(0x6c6e6e6168437561) /* "auChannl" */
#define NS_PER_MS UINT64_C(1000000)

enum {
  HEAD_BYTES = 4096,           /* the ring begins behind the head, on a page of its own */
  FIRST_RING = 16 * 1024,      /* bytes; a power of two, as all rings */
  KEPT_RING = 16 * 1024 * 1024 /* an empty ring that is larger goes back to the first one */
};

/* From here on it is asked whether there is so much memory. */
#define LARGE ((size_t)64 << 20)

/* Descriptors of the memory. */
enum { FILE_DESCRIPTOR, PIPE_IN, PIPE_OUT, DESCRIPTORS };

/* Positions count bytes since the ring was made; their remainder by its size is the place. */
typedef struct state {
  uint64_t offset, size; /* of the ring, in the file */
  uint64_t head, tail;   /* of the first record; behind the last one */
  uint64_t count;        /* records */
  uint64_t ticket;       /* the last one that was given out */
} state;

typedef struct channel_head {
  /* Fixed after open. */
  uint64_t magic, capacity;
  pthread_mutex_t lock;
  lumap_event sent, taken; /* a record was added; one was taken. Both: the channel was closed */
  _Atomic uint32_t closed;
  _Atomic uint32_t current; /* which state counts: 0 or 1. Written under the lock */
  state states[2];
} channel_head;

_Static_assert(sizeof(channel_head) <= HEAD_BYTES, "the head fits its page");

typedef struct record {
  uint64_t length;   /* of the bytes behind it */
  uint32_t attached; /* memories to which it refers, which came through the pipe */
  uint32_t unused;
  uint64_t ticket;
} record;

/* What goes through the pipe beside the descriptors. */
typedef struct lot {
  uint64_t ticket;
  unsigned char counts[LUMAP_CHANNEL_ATTACHED]; /* descriptors of each memory */
} lot;

enum { LOT_DESCRIPTORS = LUMAP_CHANNEL_ATTACHED * LUMAP_MEMORY_DESCRIPTORS };

typedef union control_buffer {
  struct cmsghdr head;
  char room[CMSG_SPACE(LOT_DESCRIPTORS * sizeof(int))];
} control_buffer;

/* This process's view of the file. Used under the channel's lock. */
typedef struct view {
  lumap_memory_own own;
  unsigned char *data;
  size_t size;
  bool is_mapped; /* by the view: else it is the memory's own */
} view;

static channel_head *head_of(const lumap_memory *channel) {
  return (channel_head *)channel->data;
}

/* ---- the lock and the state --------------------------------------------------------------------------------- */

static lumap_status lock(channel_head *head, lumap_error *error) {
  int failure = pthread_mutex_lock(&head->lock);
  /* Its holder died. The state that counts is whole. */
  if (failure == EOWNERDEAD) failure = pthread_mutex_consistent(&head->lock);
  return failure ? lumap_error_system(error, failure, "cannot lock a channel") : LUMAP_E_OK;
}

static void unlock(channel_head *head) {
  pthread_mutex_unlock(&head->lock);
}

static state state_of(const channel_head *head) {
  return head->states[atomic_load(&head->current) & 1];
}

static void publish(channel_head *head, const state *next) {
  uint32_t other = !(atomic_load(&head->current) & 1);
  head->states[other] = *next;
  atomic_store(&head->current, other);
}

/* ---- the ring ----------------------------------------------------------------------------------------------- */

static void free_view(lumap_memory_own *own) {
  view *v = (view *)own;
  if (v->is_mapped) lumap_shared_memory_close(v->data, v->size, -1);
  free(v);
}

static view *view_of(lumap_memory *channel) {
  lumap_memory_own *present = atomic_load(&channel->own);
  view *made;
  if (present) return (view *)present;
  made = malloc(sizeof *made);
  if (!made) return NULL;
  *made = (view){{free_view}, channel->data, channel->size, false};
  if (atomic_compare_exchange_strong(&channel->own, &present, &made->own)) return made;
  free(made);
  return (view *)present;
}

/* Under the lock: maps the file up to `size`. */
static lumap_status see(lumap_memory *channel, view *v, size_t size, lumap_error *error) {
  void *data;
  lumap_status status;
  if (size <= v->size) return LUMAP_E_OK;
  status = lumap_shared_memory_map(channel->descriptors[FILE_DESCRIPTOR], size, &data, error);
  if (status != LUMAP_E_OK) return status;
  if (v->is_mapped) lumap_shared_memory_close(v->data, v->size, -1);
  *v = (view){{free_view}, data, size, true};
  return LUMAP_E_OK;
}

/* Another process may have written anything there. */
static bool makes_sense(const state *now) {
  return now->size >= FIRST_RING && (now->size & (now->size - 1)) == 0 && now->size <= SIZE_MAX / 4 &&
         now->offset >= HEAD_BYTES && now->offset <= SIZE_MAX / 4 && now->tail - now->head <= now->size;
}

/* Under the lock: the state, with its ring in view. */
static lumap_status look(lumap_memory *channel, view *v, state *now, lumap_error *error) {
  *now = state_of(head_of(channel));
  if (!makes_sense(now)) return lumap_error_set(error, LUMAP_E_PROTOCOL, "a channel's memory has been damaged");
  return see(channel, v, (size_t)(now->offset + now->size), error);
}

static void copy_in(const view *v, const state *at, uint64_t position, const void *bytes, size_t size) {
  unsigned char *ring = v->data + at->offset;
  size_t place = (size_t)(position & (at->size - 1)), room = (size_t)at->size - place;
  size_t first = size < room ? size : room;
  if (size == 0) return;
  memcpy(ring + place, bytes, first);
  memcpy(ring, (const unsigned char *)bytes + first, size - first);
}

static void copy_out(const view *v, const state *at, uint64_t position, void *bytes, size_t size) {
  const unsigned char *ring = v->data + at->offset;
  size_t place = (size_t)(position & (at->size - 1)), room = (size_t)at->size - place;
  size_t first = size < room ? size : room;
  if (size == 0) return;
  memcpy(bytes, ring + place, first);
  memcpy((unsigned char *)bytes + first, ring, size - first);
}

static uint64_t record_size(uint64_t length) {
  return sizeof(record) + ((length + 7) & ~UINT64_C(7));
}

/* Under the lock: a ring behind the one there is, with room for `needed` bytes more. */
static lumap_status enlarge(lumap_memory *channel, view *v, state *now, uint64_t needed, lumap_error *error) {
  const uint64_t used = now->tail - now->head;
  state next = *now;
  lumap_status status;
  if (needed > SIZE_MAX / 8) return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for a message");
  while (next.size < used + needed)
    next.size *= 2;
  if (next.size > LARGE && next.size > lumap_memory_total(""))
    return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for a message of %llu bytes",
                           (unsigned long long)needed);
  next.offset = now->offset + now->size;
  status = lumap_shared_memory_grow(channel->descriptors[FILE_DESCRIPTOR], (size_t)(next.offset + next.size), error);
  if (status == LUMAP_E_OK) status = see(channel, v, (size_t)(next.offset + next.size), error);
  if (status != LUMAP_E_OK) return status;
  next.head = 0;
  next.tail = used;
  /* The old one may wrap around, the new one does not yet. */
  copy_out(v, now, now->head, v->data + next.offset, (size_t)used);
  publish(head_of(channel), &next);
  lumap_shared_memory_discard(channel->descriptors[FILE_DESCRIPTOR], (size_t)now->offset, (size_t)now->size);
  *now = next;
  return LUMAP_E_OK;
}

/* Under the lock: an empty ring that has become large is given back. */
static void shrink(lumap_memory *channel, const state *now) {
  state next = *now;
  if (now->count > 0 || now->size <= KEPT_RING) return;
  next.offset = HEAD_BYTES;
  next.size = FIRST_RING;
  next.head = next.tail = 0;
  publish(head_of(channel), &next);
  lumap_shared_memory_discard(channel->descriptors[FILE_DESCRIPTOR], (size_t)now->offset, (size_t)now->size);
}

/* ---- the pipe ----------------------------------------------------------------------------------------------- */

/* Sends what the message refers to ahead of it. LUMAP_E_TIMEOUT: the pipe is full. */
static lumap_status post(const lumap_memory *channel, const lumap_references *list, uint64_t ticket,
                         lumap_error *error) {
  int descriptors[LOT_DESCRIPTORS], count = 0;
  lot what = {.ticket = ticket};
  control_buffer control = {0};
  struct iovec piece = {.iov_base = &what, .iov_len = sizeof what};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control};
  struct cmsghdr *head;
  ssize_t sent;
  for (size_t i = 0; i < list->count; i++) {
    const lumap_memory *memory = (const lumap_memory *)list->items[i];
    for (int k = 0; k < memory->descriptor_count; k++)
      descriptors[count++] = memory->descriptors[k];
    what.counts[i] = (unsigned char)memory->descriptor_count;
  }
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  head = CMSG_FIRSTHDR(&message);
  *head = (struct cmsghdr){
      .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN((size_t)count * sizeof(int))};
  memcpy(CMSG_DATA(head), descriptors, (size_t)count * sizeof(int));
  do
    sent = sendmsg(channel->descriptors[PIPE_IN], &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return LUMAP_E_OK;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return LUMAP_E_TIMEOUT;
  return lumap_error_system(error, errno, "cannot send shared memory through a channel");
}

/* The first lot in the pipe. Its descriptors stay there too. False: there is none. */
static bool peek_lot(const lumap_memory *channel, lot *what, int *descriptors, int *count) {
  control_buffer control;
  struct iovec piece = {.iov_base = what, .iov_len = sizeof *what};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got;
  do
    got = recvmsg(channel->descriptors[PIPE_OUT], &message, MSG_PEEK | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  *count = 0;
  if (got < 0) return false;
  for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    *count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(descriptors, CMSG_DATA(head), (size_t)*count * sizeof(int));
  }
  if (got < (ssize_t)sizeof *what) what->ticket = 0;
  return true;
}

/* Takes the first lot out of the pipe. */
static void drop_lot(const lumap_memory *channel) {
  char byte;
  while (recv(channel->descriptors[PIPE_OUT], &byte, 1, 0) < 0 && errno == EINTR)
    continue;
}

static void close_all(const int *descriptors, int count) {
  for (int i = 0; i < count; i++)
    close(descriptors[i]);
}

/* Makes memories of a lot's descriptors, which are taken. False: no memory. */
static bool make_memories(lumap_memories *known, const lot *what, const int *descriptors, int available,
                          uint32_t wanted, lumap_references **list) {
  int at = 0;
  bool good = true;
  for (uint32_t i = 0; i < wanted && good; i++) {
    int count = what->counts[i];
    lumap_memory *memory = NULL;
    if (count >= 1 && count <= LUMAP_MEMORY_DESCRIPTORS && at + count <= available) {
      if (lumap_memory_receive(known, descriptors + at, count, &memory, NULL) != LUMAP_E_OK) memory = NULL;
      at += count;
    }
    if (!memory) memory = lumap_memory_lost();
    good = memory && lumap_references_take(list, &memory->counted);
    if (!good) lumap_memory_release(memory);
  }
  close_all(descriptors + at, available - at);
  return good;
}

/* Fetches what the record refers to; `*lot_is_there`: the first lot in the pipe is its, to be dropped once the record
 * is taken. */
static bool fetch(const lumap_memory *channel, lumap_memories *known, const record *first, lumap_bytes *message,
                  bool *lot_is_there) {
  int descriptors[LOT_DESCRIPTORS], count;
  lot what;
  *lot_is_there = false;
  while (peek_lot(channel, &what, descriptors, &count)) {
    if (what.ticket == first->ticket) {
      *lot_is_there = true;
      return make_memories(known, &what, descriptors, count, first->attached, &message->references);
    }
    close_all(descriptors, count);
    if (what.ticket > first->ticket) break;
    /* Of somebody who was killed before he had sent his message, or after he had received it. */
    drop_lot(channel);
  }
  memset(&what, 0, sizeof what);
  return make_memories(known, &what, descriptors, 0, first->attached, &message->references);
}

/* ---- making ------------------------------------------------------------------------------------------------- */

static lumap_status init_lock(channel_head *head, lumap_error *error) {
  pthread_mutexattr_t attributes;
  int failure = pthread_mutexattr_init(&attributes);
  if (failure) return lumap_error_system(error, failure, "cannot make a channel");
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  failure = pthread_mutex_init(&head->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return failure ? lumap_error_system(error, failure, "cannot make a channel") : LUMAP_E_OK;
}

lumap_status lumap_channel_new(lumap_memories *known, uint64_t capacity, lumap_memory **out, lumap_error *error) {
  lumap_memory *channel;
  channel_head *head;
  lumap_status status = lumap_memory_open(known, HEAD_BYTES + FIRST_RING, "a channel", &channel, error);
  if (status != LUMAP_E_OK) return status;
  head = head_of(channel);
  head->capacity = capacity;
  head->states[0] = (state){.offset = HEAD_BYTES, .size = FIRST_RING};
  status = init_lock(head, error);
  if (status == LUMAP_E_OK)
    status = lumap_pipe_open(&channel->descriptors[PIPE_IN], &channel->descriptors[PIPE_OUT], error);
  if (status != LUMAP_E_OK) {
    lumap_memory_release(channel);
    return status;
  }
  channel->descriptor_count = DESCRIPTORS;
  head->magic = MAGIC;
  *out = channel;
  return LUMAP_E_OK;
}

bool lumap_channel_is(const lumap_memory *memory) {
  return memory->descriptor_count == DESCRIPTORS && memory->size >= HEAD_BYTES + FIRST_RING &&
         head_of(memory)->magic == MAGIC;
}

uint64_t lumap_channel_capacity(const lumap_memory *channel) {
  return head_of(channel)->capacity;
}

void lumap_channel_close(lumap_memory *channel) {
  channel_head *head = head_of(channel);
  /* Under the lock, so that no message is sent behind the last look of a receiver. */
  bool locked = lock(head, NULL) == LUMAP_E_OK;
  atomic_store(&head->closed, 1);
  if (locked) unlock(head);
  lumap_event_signal_shared(&head->sent);
  lumap_event_signal_shared(&head->taken);
}

/* ---- sending and receiving ---------------------------------------------------------------------------------- */

/* Sleeps until the event, but not for long. LUMAP_E_OK: look again. */
static lumap_status sleep_on(lumap_event *event, uint32_t key, const lumap_channel_wait *wait) {
  uint64_t now = lumap_clock_ns(), until = now + LUMAP_CHANNEL_LOOK_MS * NS_PER_MS;
  if (wait->is_stopped && wait->is_stopped(wait->self)) return LUMAP_E_INTERRUPTED;
  if (wait->deadline_ns <= now) return LUMAP_E_TIMEOUT;
  lumap_event_wait_shared(event, key, wait->deadline_ns < until ? wait->deadline_ns : until);
  return LUMAP_E_OK;
}

/* Under the lock: appends the record; LUMAP_E_TIMEOUT: there is no room; LUMAP_E_CLOSED. */
static lumap_status put(lumap_memory *channel, view *v, const lumap_bytes *message, lumap_error *error) {
  const lumap_references *list = message->references;
  const uint64_t size = record_size(message->size);
  record made = {.length = message->size, .attached = list ? (uint32_t)list->count : 0};
  state now;
  lumap_status status = look(channel, v, &now, error);
  if (status != LUMAP_E_OK) return status;
  if (atomic_load(&head_of(channel)->closed)) return LUMAP_E_CLOSED;
  if (now.count >= head_of(channel)->capacity) return LUMAP_E_TIMEOUT;
  if (size > now.size - (now.tail - now.head)) status = enlarge(channel, v, &now, size, error);
  if (status == LUMAP_E_OK && made.attached) {
    made.ticket = ++now.ticket;
    publish(head_of(channel), &now); /* nobody else gets this one, whatever happens */
    status = post(channel, list, made.ticket, error);
  }
  if (status != LUMAP_E_OK) return status;
  copy_in(v, &now, now.tail, &made, sizeof made);
  copy_in(v, &now, now.tail + sizeof made, message->data, message->size);
  now.tail += size;
  now.count++;
  publish(head_of(channel), &now);
  return LUMAP_E_OK;
}

lumap_status lumap_channel_send(lumap_memory *channel, const lumap_bytes *message, const lumap_channel_wait *wait,
                                lumap_error *error) {
  channel_head *head = head_of(channel);
  view *v = view_of(channel);
  lumap_status status = LUMAP_E_OK;
  if (!v) return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory");
  if (message->references && message->references->count > LUMAP_CHANNEL_ATTACHED)
    return lumap_error_set(error, LUMAP_E_PROTOCOL, "a message may refer to %d pieces of shared memory, not to %zu",
                           LUMAP_CHANNEL_ATTACHED, message->references->count);
  while (status == LUMAP_E_OK) {
    uint32_t key = lumap_event_key(&head->taken);
    status = lock(head, error);
    if (status != LUMAP_E_OK) return status;
    status = put(channel, v, message, error);
    unlock(head);
    if (status == LUMAP_E_OK) {
      lumap_event_signal_one_shared(&head->sent);
      return LUMAP_E_OK;
    }
    if (status == LUMAP_E_TIMEOUT) status = sleep_on(&head->taken, key, wait);
  }
  return status;
}

/* Under the lock: takes the first record; LUMAP_E_TIMEOUT: there is none; LUMAP_E_CLOSED: nor will there be. */
static lumap_status take(lumap_memory *channel, lumap_memories *known, view *v, lumap_bytes *message,
                         lumap_error *error) {
  bool lot_is_there = false;
  record first;
  state now;
  lumap_status status = look(channel, v, &now, error);
  if (status != LUMAP_E_OK) return status;
  if (now.count == 0) return atomic_load(&head_of(channel)->closed) ? LUMAP_E_CLOSED : LUMAP_E_TIMEOUT;
  copy_out(v, &now, now.head, &first, sizeof first);
  if (first.length > now.size || record_size(first.length) > now.tail - now.head ||
      first.attached > LUMAP_CHANNEL_ATTACHED)
    return lumap_error_set(error, LUMAP_E_PROTOCOL, "a channel's memory has been damaged");
  if (!lumap_bytes_reserve(message, (size_t)first.length) ||
      (first.attached && !fetch(channel, known, &first, message, &lot_is_there)))
    return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for a message of %llu bytes",
                           (unsigned long long)first.length);
  copy_out(v, &now, now.head + sizeof first, message->data, (size_t)first.length);
  message->size = (size_t)first.length;
  now.head += record_size(first.length);
  now.count--;
  publish(head_of(channel), &now);
  if (lot_is_there) drop_lot(channel);
  shrink(channel, &now);
  return LUMAP_E_OK;
}

lumap_status lumap_channel_receive(lumap_memory *channel, lumap_memories *known, lumap_bytes *message,
                                   const lumap_channel_wait *wait, lumap_error *error) {
  channel_head *head = head_of(channel);
  view *v = view_of(channel);
  lumap_status status = LUMAP_E_OK;
  if (!v) return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory");
  while (status == LUMAP_E_OK) {
    uint32_t key = lumap_event_key(&head->sent);
    lumap_bytes_clear(message);
    status = lock(head, error);
    if (status != LUMAP_E_OK) return status;
    status = take(channel, known, v, message, error);
    unlock(head);
    if (status == LUMAP_E_OK) {
      lumap_event_signal_one_shared(&head->taken);
      return LUMAP_E_OK;
    }
    if (status == LUMAP_E_TIMEOUT) status = sleep_on(&head->sent, key, wait);
  }
  return status;
}
