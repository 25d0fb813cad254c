/* SPDX-License-Identifier: MIT
 *
 * bytes.h - owned, growing bytes. Zero-initialised is empty. Not shared between threads without the owner's lock.
 *
 * Growth is sticky in failure: after an allocation failed, `failed` is set, `data` and `size` keep their last good
 * values, and further reservations fail at once. Check once at the end.
 *
 * Bytes may refer to counted objects by number; those live as long as the bytes, and move with them.
 */
#ifndef LUMAP_BASE_BYTES_H
#define LUMAP_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/counted.h"

typedef struct lumap_bytes {
  unsigned char *data;
  size_t size;     /* bytes in use */
  size_t capacity; /* bytes allocated */
  bool failed;
  lumap_references *references; /* what the bytes refer to; NULL: nothing */
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

/* Lets go of what the bytes refer to. */
static inline void lumap_bytes_forget(lumap_bytes *bytes) {
  lumap_references_free(bytes->references);
  bytes->references = NULL;
}

/* Empties, keeps the memory. */
static inline void lumap_bytes_clear(lumap_bytes *bytes) {
  bytes->size = 0;
  bytes->failed = false;
  if (bytes->references) lumap_bytes_forget(bytes);
}

/* Makes `to`, which is empty, a copy that refers to the same objects; false when there is no memory: it is empty then.
 */
bool lumap_bytes_copy(lumap_bytes *to, const lumap_bytes *from);

/* Frees; the struct is empty afterwards. */
void lumap_bytes_deinit(lumap_bytes *bytes);

/* Moves the contents of `from` to `to`, whose own are freed. `from` is empty afterwards. */
void lumap_bytes_move(lumap_bytes *to, lumap_bytes *from);

#endif
