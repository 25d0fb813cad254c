/* SPDX-License-Identifier: MIT
 *
 * main.c - lumap and lumap54: runs what the command line asks for, in the order in which the stock command does.
 *
 * The first host of liblumap: it includes lumap.h and no header of Lua, and one source serves both VMs; which one is
 * beneath it learns at run time. What it leaves out on purpose: it has no Lua state of its own and starts no thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actions.h"
#include "lumap.h"
#include "options.h"
#include "prompt.h"
#include "session.h"

/* One line, as `prefix` and what the stock command calls itself. */
static void print_vm(const char *prefix) {
  printf("%s%s\n", prefix, lumap_vm_notice());
  fflush(stdout);
}

static void print_jit_status(lumap_session *session) {
  const char *status = session->is_luajit ? lumap_actions_jit_status(session) : NULL;
  if (status != NULL) puts(status);
}

/* The code in LUA_INIT, or in the file that it names behind an '@'. */
static bool run_init(lumap_session *session, const lumap_command *command) {
  if (command->runtime.flags & LUMAP_IGNORE_ENVIRONMENT) return true;
  const char *name = command->dialect->init_variables[0];
  const char *init = getenv(name);
  if (init == NULL && command->dialect->init_variables[1] != NULL) {
    name = command->dialect->init_variables[1];
    init = getenv(name);
  }
  if (init == NULL) return true;
  if (init[0] == '@') return lumap_session_report(session, lumap_session_run_file(session, init + 1, 0, NULL));
  char chunk_name[32];
  snprintf(chunk_name, sizeof chunk_name, "=%s", name);
  return lumap_session_report(session, lumap_session_run_string(session, init, chunk_name));
}

/* "-" is standard input, but not behind "--": then it is a file of that name. */
static bool run_script(lumap_session *session, const lumap_command *command) {
  const char *path = command->argv[command->script];
  if (strcmp(path, "-") == 0 && strcmp(command->argv[command->script - 1], "--") != 0) path = NULL;
  return lumap_session_report(session, lumap_session_run_file(session, path, LUMAP_ARG_TABLE, NULL));
}

/* What comes when the script has run, or in its place. */
static void run_rest(lumap_session *session, const lumap_command *command) {
  bool has_script = command->script < command->argc;
  if (command->interactive) {
    print_jit_status(session);
    lumap_prompt_run(session);
  } else if (!has_script && !command->has_code && !command->show_version) {
    if (isatty(STDIN_FILENO)) {
      char prefix[64];
      snprintf(prefix, sizeof prefix, "Lumap %s on ", lumap_version());
      print_vm(prefix);
      print_jit_status(session);
      lumap_prompt_run(session);
    } else {
      /* That this failed is reported but does not show in the exit status: so it is in both stock commands. */
      lumap_session_report(session, lumap_session_run_file(session, NULL, 0, NULL));
    }
  }
}

static bool run(lumap_session *session, const lumap_command *command) {
  bool has_script = command->script < command->argc;
  int arg_zero = !has_script && command->dialect->program_is_script_zero ? 0 : command->script;

  if (command->show_version && command->dialect->version_before_init) print_vm("");
  lumap_result result = lumap_set_arguments(session->runtime, command->argc, command->argv, arg_zero);
  if (!lumap_session_report(session, result)) return false;
  if (!run_init(session, command)) return false;
  if (command->show_version && !command->dialect->version_before_init) print_vm("");

  lumap_actions_end end = lumap_actions_run(session, command);
  if (end != LUMAP_ACTIONS_GO_ON) return end == LUMAP_ACTIONS_STOP;
  if (has_script && !run_script(session, command)) return false;
  run_rest(session, command);
  return true;
}

static int open_and_run(const lumap_command *command) {
  char message[512] = "";
  lumap_session session = {.program = command->program, .is_luajit = command->dialect->is_luajit};
  /* The command is its own worker program, wherever it lies: the name means whoever uses it. */
  lumap_options options = command->runtime;
  options.worker_program = "/proc/self/exe";
  session.runtime = lumap_open(&options, message, sizeof message);
  if (session.runtime == NULL) {
    lumap_session_complain(&session, message);
    return EXIT_FAILURE;
  }
  bool done = run(&session, command);
  lumap_close(session.runtime);
  return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
  /* First of all: the process back-end starts this program as its worker. */
  int worker_status = lumap_worker_main(argc, argv);
  if (worker_status >= 0) return worker_status;

  lumap_command command;
  char complaint[LUMAP_COMPLAINT_SIZE];
  bool wants_usage = false;
  int status = EXIT_SUCCESS;
  if (!lumap_command_init(&command, argc, argv, complaint, &wants_usage)) {
    if (complaint[0] != '\0') fprintf(stderr, "%s: %s\n", command.program, complaint);
    if (wants_usage) lumap_command_print_usage(&command, stderr);
    status = EXIT_FAILURE;
  } else if (command.request == LUMAP_REQUEST_HELP) {
    lumap_command_print_usage(&command, stdout);
  } else if (command.request == LUMAP_REQUEST_VERSION) {
    printf("lumap %s (%s)\n", lumap_version(), lumap_vm());
  } else {
    status = open_and_run(&command);
  }
  lumap_command_deinit(&command);
  return status;
}
