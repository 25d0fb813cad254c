/* SPDX-License-Identifier: MIT
 *
 * options.h - the command line of the command: what each argument asks for, and the texts that tell of it.
 *
 * Knows the options of both stock interpreters and those that Lumap adds; runs nothing and prints nothing but the
 * usage text. A parsed command borrows argv; lumap_command_deinit frees the rest. Main thread only.
 */
#ifndef LUMAP_COMMAND_OPTIONS_H
#define LUMAP_COMMAND_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "lumap.h"

/* Options that act, in the order in which they stand. */
typedef enum lumap_action_kind {
  LUMAP_ACTION_EXECUTE,      /* -e: `value` is Lua code */
  LUMAP_ACTION_REQUIRE,      /* -l: `value` names a module */
  LUMAP_ACTION_WARN,         /* -W: no value */
  LUMAP_ACTION_JIT_COMMAND,  /* -j: `value` is name[=argument,...] */
  LUMAP_ACTION_JIT_OPTIMIZE, /* -O: `value` is [flag,...] */
  LUMAP_ACTION_BYTECODE      /* -b: `value` is what stands behind the letter; all later arguments belong to it */
} lumap_action_kind;

typedef struct lumap_action {
  lumap_action_kind kind;
  const char *value;
} lumap_action;

typedef enum lumap_request {
  LUMAP_REQUEST_RUN,
  LUMAP_REQUEST_HELP,   /* --help */
  LUMAP_REQUEST_VERSION /* --version */
} lumap_request;

/* What differs between the two stock commands where no option is concerned. */
typedef struct lumap_dialect {
  bool is_luajit;
  const char *program;           /* stands in messages when argv[0] is empty */
  const char *init_variables[2]; /* the first of them that is set holds code to run at the start */
  bool version_before_init;      /* does -v print before that code runs? */
  bool program_is_script_zero;   /* without a script: is arg[0] the program, or are all arguments below arg[0]? */
} lumap_dialect;

typedef struct lumap_command {
  const lumap_dialect *dialect;
  const char *program; /* argv[0], or the dialect's own */
  int argc;
  char *const *argv;
  int script; /* index in argv of the script or of what follows -b; argc: none */
  lumap_request request;
  bool interactive;  /* -i */
  bool show_version; /* -v or -i */
  bool has_code;     /* -e or -b */
  lumap_options runtime;
  lumap_action *actions;
  int action_count;
} lumap_command;

enum { LUMAP_COMPLAINT_SIZE = 256 };

/* Parses. False when argv is no command line that can be obeyed: `complaint`, of LUMAP_COMPLAINT_SIZE bytes, then holds
 * one line, or "" where the stock command has none; `*wants_usage` tells whether the usage text belongs below it.
 * `command` must be deinitialised in either case. */
bool lumap_command_init(lumap_command *command, int argc, char *const *argv, char *complaint, bool *wants_usage);
void lumap_command_deinit(lumap_command *command);

/* Prints the forms of the command line and all options, from the tables that lumap_command_init parses with. */
void lumap_command_print_usage(const lumap_command *command, FILE *stream);

#endif
