/* SPDX-License-Identifier: MIT
 *
 * bytes.h - owned, growing bytes. Zero-initialised is empty. Not shared between threads without the owner's lock.
 *
 * Growth is sticky in failure: after an allocation failed, `failed` is set, `data` and `size` keep their last good
 * values, and further reservations fail at once. Check once at the end.
 */
#ifndef LUMAP_BASE_BYTES_H
#define LUMAP_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct lumap_bytes {
  unsigned char *data;
  size_t size;     /* bytes in use */
  size_t capacity; /* bytes allocated */
  bool failed;
} lumap_bytes;

/* Makes room for `extra` bytes after `size`; false when there is no memory. */
bool lumap_bytes_grow(lumap_bytes *bytes, size_t extra);

static inline bool lumap_bytes_reserve(lumap_bytes *bytes, size_t extra) {
  return bytes->capacity - bytes->size >= extra || lumap_bytes_grow(bytes, extra);
}

/* Appends; false when there is no memory. */
static inline bool lumap_bytes_append(lumap_bytes *bytes, const void *data, size_t size) {
  if (!lumap_bytes_reserve(bytes, size)) return false;
  if (size) memcpy(bytes->data + bytes->size, data, size);
  bytes->size += size;
  return true;
}

/* Empties, keeps the memory. */
static inline void lumap_bytes_clear(lumap_bytes *bytes) {
  bytes->size = 0;
  bytes->failed = false;
}

/* Frees; the struct is empty afterwards. */
void lumap_bytes_deinit(lumap_bytes *bytes);

/* Moves the contents of `from` to `to`, whose own are freed. `from` is empty afterwards. */
void lumap_bytes_move(lumap_bytes *to, lumap_bytes *from);

#endif
