/* SPDX-License-Identifier: MIT
 *
 * history.h - the file in which lines typed at the prompt outlive the program.
 *
 * The file is $XDG_STATE_HOME/lumap/history, by default ~/.local/state/lumap/history: text, one line a line. A line
 * that goes on the entry above it has a backslash in front. Lines are appended as they are typed, each in one write, so
 * that a crash loses none and several prompts may share the file.
 *
 * Knows no line editor and no Lua. Nothing here is an error to the caller: without a file there is merely no history.
 * Main thread only.
 */
#ifndef LUMAP_COMMAND_HISTORY_H
#define LUMAP_COMMAND_HISTORY_H

#include <stdbool.h>

/* How many entries are kept. The file may grow to twice as many before it is cut. */
enum { LUMAP_HISTORY_ENTRIES = 1000 };

/* The path of the file, whose folders are made if need be (for this user alone). NULL if the environment names no place
 * for it or they cannot be made. The caller frees it. */
char *lumap_history_path(void);

/* Calls `take` with each line of the file, oldest first, no newline at its end. Cuts a file that has grown too long. */
void lumap_history_load(const char *path, void (*take)(void *data, const char *line, bool goes_on), void *data);

/* Appends a line, or several with newlines between them. `goes_on`: it belongs to the entry before it. */
void lumap_history_append(const char *path, const char *line, bool goes_on);

#endif
