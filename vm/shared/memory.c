/* SPDX-License-Identifier: MIT */
#include "shared/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/os.h"

/* From here on it is asked whether there is so much memory, which costs the reading of files. */
#define LARGE ((size_t)64 << 20)

struct lumap_memories {
  atomic_uint references;
  pthread_mutex_t lock; /* no other is taken while it is held */
  lumap_memory *first;
};

lumap_memories *lumap_memories_new(void) {
  lumap_memories *known = calloc(1, sizeof *known);
  if (!known) return NULL;
  atomic_init(&known->references, 1);
  pthread_mutex_init(&known->lock, NULL);
  return known;
}

lumap_memories *lumap_memories_acquire(lumap_memories *known) {
  if (known) atomic_fetch_add_explicit(&known->references, 1, memory_order_relaxed);
  return known;
}

void lumap_memories_release(lumap_memories *known) {
  if (!known || atomic_fetch_sub_explicit(&known->references, 1, memory_order_acq_rel) != 1) return;
  pthread_mutex_destroy(&known->lock);
  free(known);
}

/* Under the lock: the memory of that file with a reference for the caller, or NULL. One that is about to be freed is
   passed over. */
static lumap_memory *find(lumap_memories *known, uint64_t device, uint64_t inode) {
  for (lumap_memory *memory = known->first; memory; memory = memory->next)
    if (memory->inode == inode && memory->device == device && lumap_counted_try_acquire(&memory->counted))
      return memory;
  return NULL;
}

static void forget(lumap_memory *memory) {
  lumap_memories *known = memory->known;
  if (!known) return;
  pthread_mutex_lock(&known->lock);
  for (lumap_memory **place = &known->first; *place; place = &(*place)->next)
    if (*place == memory) {
      *place = memory->next;
      break;
    }
  pthread_mutex_unlock(&known->lock);
  lumap_memories_release(known);
}

static void memory_free(lumap_counted *self) {
  lumap_memory *memory = (lumap_memory *)self;
  lumap_memory_own *own = atomic_load(&memory->own);
  forget(memory);
  if (own) own->free(own);
  lumap_shared_memory_close(memory->data, memory->size, -1);
  for (int i = 0; i < memory->descriptor_count; i++)
    close(memory->descriptors[i]);
  free(memory);
}

static lumap_memory *new_memory(void) {
  lumap_memory *memory = calloc(1, sizeof *memory);
  if (!memory) return NULL;
  atomic_init(&memory->counted.references, 1);
  memory->counted.free = memory_free;
  return memory;
}

/* Puts the memory among those that are known; if it is there already by now, that one takes its place. */
static lumap_memory *introduce(lumap_memories *known, lumap_memory *memory) {
  lumap_memory *present;
  if (!known) return memory;
  pthread_mutex_lock(&known->lock);
  present = find(known, memory->device, memory->inode);
  if (!present) {
    memory->known = lumap_memories_acquire(known);
    memory->next = known->first;
    known->first = memory;
  }
  pthread_mutex_unlock(&known->lock);
  if (!present) return memory;
  lumap_memory_release(memory);
  return present;
}

lumap_status lumap_memory_open(lumap_memories *known, size_t size, const char *what, lumap_memory **out,
                               lumap_error *error) {
  lumap_memory *memory;
  lumap_status status;
  uint64_t most = size < LARGE ? UINT64_MAX : lumap_memory_total("");
  void *data;
  size_t unused;
  /* Its pages come when they are touched; then it would be too late to refuse. */
  if (size > most)
    return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for %s: %zu bytes, and there are %llu", what, size,
                           (unsigned long long)most);
  memory = new_memory();
  if (!memory) return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for %s", what);
  status = lumap_shared_memory_open(size, &data, &memory->descriptors[0], error);
  if (status != LUMAP_E_OK) {
    lumap_error cause = error ? *error : (lumap_error){status, ""};
    lumap_memory_release(memory);
    return lumap_error_set(error, status, "not enough memory for %s: %.200s", what, cause.message);
  }
  memory->descriptor_count = 1;
  memory->data = data;
  memory->size = size;
  if (!lumap_shared_memory_facts(memory->descriptors[0], &unused, &memory->device, &memory->inode)) known = NULL;
  *out = introduce(known, memory);
  return LUMAP_E_OK;
}

static lumap_memory *find_known(lumap_memories *known, uint64_t device, uint64_t inode) {
  lumap_memory *present;
  if (!known) return NULL;
  pthread_mutex_lock(&known->lock);
  present = find(known, device, inode);
  pthread_mutex_unlock(&known->lock);
  return present;
}

static void close_all(const int *descriptors, int count) {
  for (int i = 0; i < count; i++)
    close(descriptors[i]);
}

lumap_status lumap_memory_receive(lumap_memories *known, const int *descriptors, int count, lumap_memory **out,
                                  lumap_error *error) {
  uint64_t device, inode;
  lumap_memory *memory;
  lumap_status status;
  size_t size;
  void *data;
  if (count < 1 || count > LUMAP_MEMORY_DESCRIPTORS ||
      !lumap_shared_memory_facts(descriptors[0], &size, &device, &inode)) {
    close_all(descriptors, count);
    return lumap_error_set(error, LUMAP_E_PROTOCOL, "a descriptor that is no shared memory");
  }
  memory = find_known(known, device, inode);
  if (memory) {
    close_all(descriptors, count);
    *out = memory;
    return LUMAP_E_OK;
  }
  memory = new_memory();
  if (!memory) {
    close_all(descriptors, count);
    return lumap_error_set(error, LUMAP_E_NOMEM, "not enough memory for shared memory");
  }
  for (int i = 0; i < count; i++)
    memory->descriptors[i] = descriptors[i];
  memory->descriptor_count = count;
  memory->device = device;
  memory->inode = inode;
  status = lumap_shared_memory_map(descriptors[0], size, &data, error);
  if (status != LUMAP_E_OK) {
    lumap_memory_release(memory);
    return status;
  }
  memory->data = data;
  memory->size = size;
  *out = introduce(known, memory);
  return LUMAP_E_OK;
}

lumap_memory *lumap_memory_lost(void) {
  return new_memory();
}
