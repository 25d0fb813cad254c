/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("finding: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

void *fuzz_copy(const void *data, size_t size) {
  /* malloc(0) is a block of no bytes to AddressSanitizer, and not NULL. */
  void *copy = malloc(size);
  if (!copy) fuzz_fail("no memory for %zu bytes", size);
  if (size) memcpy(copy, data, size);
  return copy;
}
