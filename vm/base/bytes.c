/* SPDX-License-Identifier: MIT */
#include "base/bytes.h"

#include <stdlib.h>

enum { SMALLEST = 256 };

bool lumap_bytes_grow(lumap_bytes *bytes, size_t extra) {
  size_t wanted, capacity = bytes->capacity ? bytes->capacity : SMALLEST;
  unsigned char *data;
  if (bytes->failed || extra > SIZE_MAX / 2 - bytes->size) {
    bytes->failed = true;
    return false;
  }
  wanted = bytes->size + extra;
  while (capacity < wanted)
    capacity += capacity / 2;
  /* One big append (a long string, a packed list) is the common way to outgrow: then exact is enough. */
  if (extra > capacity / 2) capacity = wanted;
  if (bytes->size == 0) {
    /* Nothing to be copied. */
    free(bytes->data);
    bytes->data = NULL;
    bytes->capacity = 0;
  }
  data = realloc(bytes->data, capacity);
  if (!data) {
    bytes->failed = true;
    return false;
  }
  bytes->data = data;
  bytes->capacity = capacity;
  return true;
}

bool lumap_bytes_copy(lumap_bytes *to, const lumap_bytes *from) {
  const lumap_references *list = from->references;
  bool copied = lumap_bytes_append(to, from->data, from->size);
  size_t number;
  for (size_t i = 0; copied && list && i < list->count; i++)
    copied = lumap_references_add(&to->references, list->items[i], &number);
  if (!copied) lumap_bytes_deinit(to);
  return copied;
}

void lumap_bytes_deinit(lumap_bytes *bytes) {
  lumap_bytes_forget(bytes);
  free(bytes->data);
  *bytes = (lumap_bytes){0};
}

void lumap_bytes_move(lumap_bytes *to, lumap_bytes *from) {
  lumap_bytes_deinit(to);
  *to = *from;
  *from = (lumap_bytes){0};
}
