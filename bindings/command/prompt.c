/* SPDX-License-Identifier: MIT
 *
 * prompt.c - collects lines to statements and has them run.
 *
 * Where lines come from is one of two: the editor, or standard input read plainly. How values are shown is up to
 * lumap_eval; completion will be the editor's.
 */
#include "prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "editor.h"

typedef struct prompt {
  lumap_session *session;
  lumap_editor *editor; /* NULL: lines are read plainly */
  char *line;           /* read plainly, with its capacity */
  size_t line_capacity;
  char *code; /* the lines of one statement */
  size_t code_size;
  size_t code_capacity;
} prompt;

/* The text before a first line, or before one that goes on: the globals _PROMPT and _PROMPT2, where they are something
 * that the stock command would show. Borrowed until the next call on the runtime. */
static const char *prompt_text(prompt *p, bool goes_on) {
  const char *code = goes_on ? "return _PROMPT2" : "return _PROMPT";
  if (!p->session->is_luajit) {
    code = goes_on ? "if _PROMPT2 ~= nil then return tostring(_PROMPT2) end"
                   : "if _PROMPT ~= nil then return tostring(_PROMPT) end";
  }
  const char *text = lumap_session_ask(p->session, code, 0, NULL);
  if (text != NULL) return text;
  return goes_on ? ">> " : "> ";
}

static lumap_editor_result read_plain_line(prompt *p, const char *text, const char **line) {
  fputs(text, stdout);
  fflush(stdout);
  ssize_t length = getline(&p->line, &p->line_capacity, stdin);
  if (length < 0) return LUMAP_EDITOR_END;
  if (length > 0 && p->line[length - 1] == '\n') p->line[length - 1] = '\0';
  *line = p->line;
  return LUMAP_EDITOR_LINE;
}

static lumap_editor_result read_line(prompt *p, bool goes_on, const char **line) {
  const char *text = prompt_text(p, goes_on);
  if (p->editor == NULL) return read_plain_line(p, text, line);
  lumap_editor_result result = lumap_editor_read(p->editor, text, line);
  if (result == LUMAP_EDITOR_LINE) lumap_editor_remember(p->editor, *line, goes_on);
  return result;
}

static bool append(prompt *p, const char *text) {
  size_t size = strlen(text);
  if (p->code_size + size > p->code_capacity) {
    size_t capacity = 2 * (p->code_size + size);
    char *code = realloc(p->code, capacity);
    if (code == NULL) {
      lumap_session_complain(p->session, "not enough memory");
      return false;
    }
    p->code = code;
    p->code_capacity = capacity;
  }
  memcpy(p->code + p->code_size, text, size);
  p->code_size += size;
  return true;
}

/* "=x" asks for the value of x. It becomes "return x": only an expression may stand there. */
static bool append_first_line(prompt *p, const char *line) {
  p->code_size = 0;
  if (line[0] == '=') return append(p, "return ") && append(p, line + 1);
  return append(p, line);
}

/* Reads one statement and runs it. Returns how the reading ended; GIVEN_UP also where there is no memory for it. */
static lumap_editor_result run_statement(prompt *p) {
  const char *line = NULL;
  lumap_editor_result read = read_line(p, false, &line);
  if (read != LUMAP_EDITOR_LINE) return read;
  if (!append_first_line(p, line)) return LUMAP_EDITOR_GIVEN_UP;
  for (;;) {
    lumap_result result = lumap_session_eval(p->session, p->code, p->code_size);
    if (result != LUMAP_ERROR_INCOMPLETE) {
      lumap_session_report(p->session, result);
      return LUMAP_EDITOR_LINE;
    }
    read = read_line(p, true, &line);
    if (read != LUMAP_EDITOR_LINE) return read;
    if (!append(p, "\n") || !append(p, line)) return LUMAP_EDITOR_GIVEN_UP;
  }
}

void lumap_prompt_run(lumap_session *session) {
  const char *program = session->program;
  prompt p = {.session = session, .editor = lumap_editor_open()};
  session->program = NULL;
  while (run_statement(&p) != LUMAP_EDITOR_END)
    continue;
  putchar('\n');
  fflush(stdout);
  session->program = program;
  lumap_editor_close(p.editor);
  free(p.line);
  free(p.code);
}
