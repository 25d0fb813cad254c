/* SPDX-License-Identifier: MIT
 *
 * os_linux_memory.c - memory of this process's own, and memory that processes share (memfd).
 *
 * Has no state: any thread may enter.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- of its own ---- */

#define HUGE_PAGE ((uintptr_t)2 << 20)

static void *map_plain(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* A mapping that is longer than asked for, cut at both ends. */
static void *map_aligned(size_t size) {
  char *memory = map_plain(size + HUGE_PAGE), *aligned;
  size_t before;
  if (!memory) return NULL;
  aligned = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
  before = (size_t)(aligned - memory);
  if (before > 0) munmap(memory, before);
  munmap(aligned + size, HUGE_PAGE - before);
  return aligned;
}

void *lumap_memory_map(size_t size, bool huge) {
  void *memory = huge ? map_aligned(size) : map_plain(size);
  /* Advice: without huge pages it is good memory, too. */
  if (memory && huge) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

void lumap_memory_unmap(void *memory, size_t size) {
  if (memory) munmap(memory, size);
}

void *lumap_memory_remap(void *memory, size_t old_size, size_t new_size) {
  void *moved = mremap(memory, old_size, new_size, 0), *target;
  if (moved != MAP_FAILED) return moved;
  /* Huge pages are moved whole if both places are aligned to them. */
  target = map_aligned(new_size);
  if (!target) return NULL;
  moved = mremap(memory, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  if (moved != MAP_FAILED) return moved;
  munmap(target, new_size);
  return NULL;
}

void lumap_memory_prepare(void *memory, size_t size) {
#ifdef MADV_POPULATE_WRITE
  madvise(memory, size, MADV_POPULATE_WRITE);
#else
  (void)memory;
  (void)size;
#endif
}

void lumap_memory_discard(void *memory, size_t size) {
  madvise(memory, size, MADV_DONTNEED);
}

/* ---- shared ---- */

lumap_status lumap_shared_memory_open(size_t size, void **memory, int *descriptor, lumap_error *error) {
  void *mapped = MAP_FAILED;
  int number, opened = memfd_create("lumap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (opened < 0) return lumap_error_system(error, errno, "cannot make shared memory");
  if (ftruncate(opened, (off_t)size) == 0 && fcntl(opened, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
    mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
  if (mapped == MAP_FAILED) {
    number = errno;
    close(opened);
    return lumap_error_system(error, number, "cannot map shared memory");
  }
  *memory = mapped;
  *descriptor = opened;
  return LUMAP_E_OK;
}

void lumap_shared_memory_close(void *memory, size_t size, int descriptor) {
  if (memory) munmap(memory, size);
  if (descriptor >= 0) close(descriptor);
}

lumap_status lumap_shared_memory_map(int descriptor, size_t size, void **memory, lumap_error *error) {
  struct stat facts;
  void *mapped;
  /* Memory that is smaller than its mapping raises SIGBUS at the first touch: refuse it here. */
  if (fstat(descriptor, &facts)) return lumap_error_system(error, errno, "cannot map shared memory");
  if (facts.st_size < (off_t)size) return lumap_error_set(error, LUMAP_E_PROTOCOL, "shared memory is too small");
  mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return lumap_error_system(error, errno, "cannot map shared memory");
  *memory = mapped;
  return LUMAP_E_OK;
}

bool lumap_shared_memory_facts(int descriptor, size_t *size, uint64_t *device, uint64_t *inode) {
  struct stat facts;
  int seals = fcntl(descriptor, F_GET_SEALS);
  /* Who could shrink it could kill whoever reads there. */
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(descriptor, &facts) || facts.st_size <= 0) return false;
  *size = (size_t)facts.st_size;
  *device = (uint64_t)facts.st_dev;
  *inode = (uint64_t)facts.st_ino;
  return true;
}

lumap_status lumap_shared_memory_grow(int descriptor, size_t size, lumap_error *error) {
  struct stat facts;
  if (fstat(descriptor, &facts)) return lumap_error_system(error, errno, "cannot enlarge shared memory");
  if (facts.st_size >= (off_t)size || ftruncate(descriptor, (off_t)size) == 0) return LUMAP_E_OK;
  return lumap_error_system(error, errno, "cannot enlarge shared memory");
}

void lumap_shared_memory_discard(int descriptor, size_t offset, size_t size) {
  /* It may fail: then the memory is kept. */
  fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}
