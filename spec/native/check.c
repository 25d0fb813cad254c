/* SPDX-License-Identifier: MIT
 *
 * check.c - runs native tests: see check.h.
 */
#include "check.h"

#include <dirent.h>

char check_reason[600];

static bool check_is_wanted(const char *name, int argc, char **argv) {
  bool wanted = argc < 2;
  for (int i = 1; i < argc; i++)
    wanted = wanted || strcmp(argv[i], name) == 0;
  return wanted;
}

int check_run(const check_test *tests, size_t count, int limit_s, void (*after)(void), int argc, char **argv) {
  bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
  for (size_t i = 0; i < count; i++) {
    if (list) puts(tests[i].name);
    if (list || !check_is_wanted(tests[i].name, argc, argv)) continue;
    check_reason[0] = '\0';
    printf("# %s\n", tests[i].name);
    fflush(stdout);
    alarm((unsigned)limit_s);
    tests[i].body();
    if (!check_reason[0] && after) after();
    alarm(0);
    check_reason[strcspn(check_reason, "\n")] = '\0';
    if (check_reason[0]) {
      printf("not ok %s %s\n", tests[i].name, check_reason);
      fflush(stdout);
      _exit(EXIT_FAILURE);
    }
    printf("ok %s\n", tests[i].name);
    fflush(stdout);
  }
  return EXIT_SUCCESS;
}

int count_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (folder && readdir(folder))
    count++;
  if (folder) closedir(folder);
  return count;
}
