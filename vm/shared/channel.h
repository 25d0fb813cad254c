/* SPDX-License-Identifier: MIT
 *
 * channel.h - a queue of messages in shared memory: any thread of any process that has the memory sends and receives.
 * Messages are bytes, with the shared memory that they refer to. Knows no Lua.
 *
 *   file     | head: lock, events, two states | ring of records ...           grows, keeps its name- and placelessness
 *   record   length, ticket, attached | bytes, up to a multiple of eight       wraps around at the ring's end
 *   pipe     ticket, descriptors: of a record that refers to memory            in the order of the records
 *
 * Whoever is killed at any moment leaves a queue that is whole: the state (where the ring lies, what is in it) is there
 * twice, who has the lock writes the one that is not in use and then makes it the one in use. The lock tells when its
 * holder has died, and nothing need be repaired. Descriptors travel beside the ring, since the kernel must see them;
 * each lot has the ticket of its record, so that what a killed sender or receiver left there is recognised.
 *
 * Locks: a channel's own, in its memory. Nothing else is locked meanwhile but the list of known memories (memory.h).
 */
#ifndef LUMAP_SHARED_CHANNEL_H
#define LUMAP_SHARED_CHANNEL_H

#include "base/bytes.h"
#include "shared/memory.h"

/* Memories to which one message may refer. */
enum { LUMAP_CHANNEL_ATTACHED = 64 };

/* How long whoever waits sleeps before he looks for himself, and asks whether he shall go on. */
enum { LUMAP_CHANNEL_LOOK_MS = 100 };

/* New memory with a channel of `capacity` messages, above 0. The caller gets a reference. */
lumap_status lumap_channel_new(lumap_memories *known, uint64_t capacity, lumap_memory **channel, lumap_error *error);

/* Is the memory one of a channel? To be asked of what has arrived. */
bool lumap_channel_is(const lumap_memory *memory);

uint64_t lumap_channel_capacity(const lumap_memory *channel);

/* How a wait may end before its time: asked after each signal handler and each LUMAP_CHANNEL_LOOK_MS. */
typedef struct lumap_channel_wait {
  uint64_t deadline_ns;           /* LUMAP_FOREVER: none. What is possible at once is done even if it has passed */
  bool (*is_stopped)(void *self); /* NULL: never */
  void *self;
} lumap_channel_wait;

/* Appends a message, once there is room. LUMAP_E_OK, TIMEOUT, CLOSED, INTERRUPTED (it was stopped); others with an
 * error: no memory, too many descriptors under way. */
lumap_status lumap_channel_send(lumap_memory *channel, const lumap_bytes *message, const lumap_channel_wait *wait,
                                lumap_error *error);

/* Takes the first message, once there is one, into `message`, whose contents are replaced. As above; CLOSED when there
 * is none and will be none. Memory that it refers to is looked up among `known`; what has not arrived is lost. */
lumap_status lumap_channel_receive(lumap_memory *channel, lumap_memories *known, lumap_bytes *message,
                                   const lumap_channel_wait *wait, lumap_error *error);

/* No message is sent any more; those that are there can be received. Twice is fine. */
void lumap_channel_close(lumap_memory *channel);

#endif
