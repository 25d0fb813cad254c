/* SPDX-License-Identifier: MIT
 *
 * editor.h - reads lines from a terminal, with editing and history. The one file that knows libedit.
 *
 * Signals while a line is read are dealt with between two keys, never inside a handler: Ctrl-C gives up the line, what
 * ends or stops the process first gives the terminal its normal mode back. The editor also keeps SIGINT from ending the
 * process between two lines. It knows no Lua. Main thread only; one editor a process, since it takes signals over.
 */
#ifndef LUMAP_COMMAND_EDITOR_H
#define LUMAP_COMMAND_EDITOR_H

#include <stdbool.h>

typedef struct lumap_editor lumap_editor;

typedef enum lumap_editor_result {
  LUMAP_EDITOR_LINE,
  LUMAP_EDITOR_GIVEN_UP, /* Ctrl-C */
  LUMAP_EDITOR_END       /* Ctrl-D on an empty line, or the terminal is gone */
} lumap_editor_result;

/* NULL if standard input and output are no terminal that lines can be edited on, or memory is short. */
lumap_editor *lumap_editor_open(void);
/* NULL is fine. */
void lumap_editor_close(lumap_editor *editor);

/* Shows the prompt and reads a line. With LUMAP_EDITOR_LINE `*line` is the line without its end, borrowed until the
 * next call; else it is untouched. In `prompt` the byte 1 stands before and after what only changes colours. */
lumap_editor_result lumap_editor_read(lumap_editor *editor, const char *prompt, const char **line);

/* Adds a line to the history, in memory and on disk. `goes_on`: it belongs to the entry before it. */
void lumap_editor_remember(lumap_editor *editor, const char *line, bool goes_on);

#endif
