/* SPDX-License-Identifier: MIT
 *
 * session.h - a runtime as the command uses it: Lua code that Ctrl-C can end, errors that go to standard error.
 *
 * Knows neither options nor prompts. The session borrows the runtime and the program's name. Main thread only; there
 * is one session a process, since a process has one action for SIGINT.
 */
#ifndef LUMAP_COMMAND_SESSION_H
#define LUMAP_COMMAND_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "lumap.h"

typedef struct lumap_session {
  lumap *runtime;
  const char *program; /* begins each message; NULL, as at the prompt: nothing does */
  bool is_luajit;
} lumap_session;

/* Each of these runs Lua code. Meanwhile the first SIGINT makes the code raise "interrupted!", and the second has its
 * default action; afterwards the action that SIGINT had before is back. The arguments are those of the function of
 * lumap.h with the same name. Nothing is reported. */
lumap_result lumap_session_run_file(lumap_session *session, const char *path, int argc, char *const *argv);
lumap_result lumap_session_run_string(lumap_session *session, const char *code, const char *name);
lumap_result lumap_session_eval(lumap_session *session, const char *code, size_t size);
lumap_result lumap_session_require(lumap_session *session, const char *name);

/* For small questions to Lua: the text of lumap_query, NULL also when the code raised an error. Borrowed until the next
 * call on the runtime. SIGINT keeps its action. */
const char *lumap_session_ask(lumap_session *session, const char *code, int argc, char *const *argv);

/* Prints the message of a call that failed, as the stock interpreters do. True if `result` is LUMAP_OK. */
bool lumap_session_report(lumap_session *session, lumap_result result);

/* Prints one line of text to standard error, behind the program's name. */
void lumap_session_complain(const lumap_session *session, const char *text);

#endif
