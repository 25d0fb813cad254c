/* SPDX-License-Identifier: MIT
 *
 * check.h - what the native tests share: a line `ok NAME` or `not ok NAME REASON` for each test.
 *
 * A test is a function without arguments that returns at its first failed check. With arguments a program runs only the
 * tests that they name; with --list it prints all names instead. A test that hangs is killed by SIGALRM after `limit_s`
 * seconds, its name being the last line. A test that fails leaves behind what it had open, threads that use its stack
 * included, so the program ends there.
 */
#ifndef LUMAP_SPEC_NATIVE_CHECK_H
#define LUMAP_SPEC_NATIVE_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In a build with a sanitizer, which makes what repeats or moves a lot ten times as long: do less of it there. */
#ifdef LUMAP_SANITIZED
enum { CHECK_SANITIZED = 1 };
#else
enum { CHECK_SANITIZED = 0 };
#endif

typedef struct check_test {
  const char *name;
  void (*body)(void);
} check_test;

/* Why the test has failed; empty as long as it has not. */
extern char check_reason[600];

/* Fails the test, whose function returns. */
#define CHECK(condition, ...)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      int at_ = snprintf(check_reason, sizeof check_reason, "%s, line %d: %s; ", __func__, __LINE__, #condition);      \
      if (at_ < (int)sizeof check_reason) snprintf(check_reason + at_, sizeof check_reason - at_, __VA_ARGS__);        \
      return;                                                                                                          \
    }                                                                                                                  \
  } while (0)

/* For a function that was called by a test and may have failed. */
#define CHECK_SO_FAR()                                                                                                 \
  do {                                                                                                                 \
    if (check_reason[0]) return;                                                                                       \
  } while (0)

/* Runs `count` tests; the exit status for main, if it returns. `after` (may be NULL) runs after each: a check of its
 * own. */
int check_run(const check_test *tests, size_t count, int limit_s, void (*after)(void), int argc, char **argv);

/* How many descriptors this process has open, and a few that are the same each time. */
int count_descriptors(void);

#endif
