/* SPDX-License-Identifier: MIT
 *
 * session.c - runs Lua code under Ctrl-C, and reports its errors.
 *
 * SIGINT has a handler only while Lua code runs: outside of it the default action is right, or the line editor's.
 */
#include "session.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* What the handler interrupts. File scope, since a handler has no other way to find it. It is set before the handler
 * is installed and not changed while it is. */
static lumap *interrupted_runtime;

/* The second Ctrl-C is for code that the first cannot end, a C function for instance. */
static void on_interrupt(int signal_number, siginfo_t *info, void *context) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  (void)info;
  sigaction(signal_number, &action, NULL);
  lumap_interrupt_in_handler(interrupted_runtime, context);
}

/* Without SA_RESTART, so that a read from a terminal or pipe ends as well. */
static void catch_interrupt(lumap_session *session, struct sigaction *before) {
  struct sigaction action = {.sa_sigaction = on_interrupt, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  interrupted_runtime = session->runtime;
  sigaction(SIGINT, &action, before);
}

static void restore_interrupt(const struct sigaction *before) {
  sigaction(SIGINT, before, NULL);
}

lumap_result lumap_session_run_file(lumap_session *session, const char *path, int argc, char *const *argv) {
  struct sigaction before;
  catch_interrupt(session, &before);
  lumap_result result = lumap_run_file(session->runtime, path, argc, argv);
  restore_interrupt(&before);
  return result;
}

lumap_result lumap_session_run_string(lumap_session *session, const char *code, const char *name) {
  struct sigaction before;
  catch_interrupt(session, &before);
  lumap_result result = lumap_run_string(session->runtime, code, strlen(code), name, 0, NULL);
  restore_interrupt(&before);
  return result;
}

lumap_result lumap_session_eval(lumap_session *session, const char *code, size_t size) {
  struct sigaction before;
  catch_interrupt(session, &before);
  lumap_result result = lumap_eval(session->runtime, code, size, "=stdin");
  restore_interrupt(&before);
  return result;
}

lumap_result lumap_session_require(lumap_session *session, const char *name) {
  struct sigaction before;
  catch_interrupt(session, &before);
  lumap_result result = lumap_require(session->runtime, name);
  restore_interrupt(&before);
  return result;
}

const char *lumap_session_ask(lumap_session *session, const char *code, int argc, char *const *argv) {
  const char *text = NULL;
  lumap_query(session->runtime, code, strlen(code), argc, argv, &text);
  return text;
}

void lumap_session_complain(const lumap_session *session, const char *text) {
  if (session->program != NULL) fprintf(stderr, "%s: ", session->program);
  fprintf(stderr, "%s\n", text);
  fflush(stderr);
}

bool lumap_session_report(lumap_session *session, lumap_result result) {
  if (result == LUMAP_OK) return true;
  const char *message = lumap_error_message(session->runtime);
  /* LuaJIT's command says nothing about error(nil). */
  if (message[0] != '\0' || !session->is_luajit) lumap_session_complain(session, message);
  return false;
}
