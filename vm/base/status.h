/* SPDX-License-Identifier: MIT
 *
 * status.h - the one list of error codes below the Lua line, and the place where details go.
 *
 * A function that can fail returns lumap_status: zero is success. Its outputs stay untouched on failure, and the
 * caller's lumap_error (may be NULL) gets a sentence for people. Knows nothing of Lua. No allocation.
 */
#ifndef LUMAP_BASE_STATUS_H
#define LUMAP_BASE_STATUS_H

#define LUMAP_STATUS_LIST(X)                                                                                           \
  X(OK, "no error")                                                                                                    \
  X(NOMEM, "not enough memory")                                                                                        \
  X(SYSTEM, "a system call failed")                                                                                    \
  X(TIMEOUT, "the time is over")                                                                                       \
  X(INTERRUPTED, "interrupted")                                                                                        \
  X(CLOSED, "the pool is closed")                                                                                      \
  X(PROTOCOL, "the other side broke the protocol")                                                                     \
  X(WORKER, "a worker could not be started")                                                                           \
  X(LUA, "an error in Lua code")

typedef enum lumap_status {
#define LUMAP_STATUS_CODE(name, text) LUMAP_E_##name,
  LUMAP_STATUS_LIST(LUMAP_STATUS_CODE)
#undef LUMAP_STATUS_CODE
} lumap_status;

/* What went wrong, in words. Caller's memory; zero-initialise it. */
typedef struct lumap_error {
  lumap_status status;
  char message[400];
} lumap_error;

/* The fixed text of a code; never NULL. */
const char *lumap_status_text(lumap_status status);

/* Writes `status` and a formatted message (cut to fit) into `error`, which may be NULL. Returns `status`. */
lumap_status lumap_error_set(lumap_error *error, lumap_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As lumap_error_set with LUMAP_E_SYSTEM; appends the text of `number`, an errno value. */
lumap_status lumap_error_system(lumap_error *error, int number, const char *what);

#endif
