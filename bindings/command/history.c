/* SPDX-License-Identifier: MIT
 *
 * history.c - finds, reads, extends and cuts the history file.
 *
 * Own format rather than the line editor's: this one can be read, searched and mended with any text tool, and takes a
 * line the moment it is typed, before it is known whether more belong to it.
 */
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Makes the folders above the last '/' of `path`, which is absolute. It is written to and left as it was. */
static bool make_folders(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
    *slash = '/';
    if (!made) return false;
  }
  return true;
}

char *lumap_history_path(void) {
  const char *base = getenv("XDG_STATE_HOME");
  const char *below = "/lumap/history";
  /* A relative path is to be ignored, says the specification of that variable. */
  if (base == NULL || base[0] != '/') {
    base = getenv("HOME");
    below = "/.local/state/lumap/history";
  }
  if (base == NULL || base[0] != '/') return NULL;
  size_t size = strlen(base) + strlen(below) + 1;
  char *path = malloc(size);
  if (path == NULL) return NULL;
  snprintf(path, size, "%s%s", base, below);
  if (make_folders(path)) return path;
  free(path);
  return NULL;
}

/* Copies all but the first `skipped` entries of `from` into a new file that then takes the place of `path`. */
static void cut(const char *path, FILE *from, int skipped) {
  size_t size = strlen(path) + sizeof ".XXXXXX";
  char *fresh = malloc(size);
  if (fresh == NULL) return;
  snprintf(fresh, size, "%s.XXXXXX", path);
  int descriptor = mkstemp(fresh); /* readable for this user alone */
  FILE *to = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
  if (to != NULL) {
    char *line = NULL;
    size_t capacity = 0;
    rewind(from);
    while (getline(&line, &capacity, from) >= 0) {
      if (line[0] != '\\') skipped--;
      if (skipped < 0) fputs(line, to);
    }
    free(line);
    bool written = !ferror(to);
    if (fclose(to) != 0 || !written || rename(fresh, path) != 0) unlink(fresh);
  }
  free(fresh);
}

void lumap_history_load(const char *path, void (*take)(void *data, const char *line, bool goes_on), void *data) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  char *line = NULL;
  size_t capacity = 0;
  ssize_t length;
  int count = 0;
  while ((length = getline(&line, &capacity, file)) >= 0) {
    if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
    bool goes_on = line[0] == '\\';
    take(data, goes_on ? line + 1 : line, goes_on);
    if (!goes_on) count++;
  }
  free(line);
  if (count > 2 * LUMAP_HISTORY_ENTRIES) cut(path, file, count - LUMAP_HISTORY_ENTRIES);
  fclose(file);
}

/* Copies `line` with a backslash wherever a line of the file goes on an entry, and a newline at its end. NULL if memory
 * is short. */
static char *as_text(const char *line, bool goes_on) {
  char *text = malloc(2 * strlen(line) + 3);
  char *end = text;
  if (text == NULL) return NULL;
  if (goes_on) *end++ = '\\';
  for (; *line != '\0'; line++) {
    *end++ = *line;
    if (*line == '\n') *end++ = '\\';
  }
  *end++ = '\n';
  *end = '\0';
  return text;
}

void lumap_history_append(const char *path, const char *line, bool goes_on) {
  int descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return;
  char *text = as_text(line, goes_on);
  if (text != NULL) {
    ssize_t written = write(descriptor, text, strlen(text));
    (void)written; /* a full disk costs the line, no more */
  }
  free(text);
  close(descriptor);
}
