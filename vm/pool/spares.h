/* SPDX-License-Identifier: MIT
 *
 * spares.h - tasks that are done, kept with the memory of their payloads for those to come. Memory that is touched for
 * the first time costs more than what is written to it, so a payload had better lie where the one before it lay.
 *
 * What is kept is bounded. Any thread; the lock is held for a few instructions, and nothing is called under it.
 */
#ifndef LUMAP_POOL_SPARES_H
#define LUMAP_POOL_SPARES_H

#include <pthread.h>

#include "backend/task.h"

typedef struct lumap_spares {
  pthread_mutex_t lock;
  lumap_list tasks; /* the last one that was given first: its memory is the one most likely to be in the cache */
  size_t count;
  size_t bytes; /* capacity of their payloads */
} lumap_spares;

/* So much is kept at most. */
enum { LUMAP_SPARES_MOST = 1024 };
#define LUMAP_SPARES_BYTES ((size_t)16 << 20)

void lumap_spares_init(lumap_spares *spares);
/* Frees what is kept, too. */
void lumap_spares_deinit(lumap_spares *spares);

/* A task as lumap_task_new makes it, for items of `call`, but for the capacity of its payload, which is empty. NULL
 * when there is no memory. */
lumap_task *lumap_spares_take(lumap_spares *spares, lumap_call *call);

/* As lumap_task_free: drops the reference on the call and what the payload refers to. Keeps the rest, or frees it where
 * that would be too much. NULL is fine. */
void lumap_spares_give(lumap_spares *spares, lumap_task *task);

/* Frees what is kept beyond so many bytes. */
void lumap_spares_trim(lumap_spares *spares, size_t bytes);

#endif
