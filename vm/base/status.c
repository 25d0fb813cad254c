/* SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *lumap_status_text(lumap_status status) {
  static const char *const texts[] = {
#define LUMAP_STATUS_TEXT(name, text) text,
      LUMAP_STATUS_LIST(LUMAP_STATUS_TEXT)
#undef LUMAP_STATUS_TEXT
  };
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown error";
}

lumap_status lumap_error_set(lumap_error *error, lumap_status status, const char *format, ...) {
  va_list arguments;
  if (!error) return status;
  error->status = status;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return status;
}

lumap_status lumap_error_system(lumap_error *error, int number, const char *what) {
  char text[128];
  /* The GNU strerror_r: thread safe, and it may return a constant instead of filling the array. */
  return lumap_error_set(error, LUMAP_E_SYSTEM, "%s: %s", what, strerror_r(number, text, sizeof text));
}
