/* SPDX-License-Identifier: MIT
 *
 * options.c - parses the command line by three tables: LuaJIT's short options, Lua 5.4's, and Lumap's long ones.
 *
 * An option that a later part of the command brings joins its table here and gets its line of --help with that. What is
 * in no table is refused, and --help is printed from the same tables, so text and behaviour cannot differ.
 */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- short options: those of the stock commands --- */

typedef enum value_form {
  VALUE_NONE,     /* nothing may stand behind the letter */
  VALUE_IGNORED,  /* what stands behind the letter is not looked at */
  VALUE_REQUIRED, /* behind the letter, or else the next argument */
  VALUE_ATTACHED, /* behind the letter or absent */
  VALUE_REST      /* behind the letter and all further arguments; comes after no option that is marked as EARLY */
} value_form;

enum {
  ACTS = 1,        /* adds an action */
  INTERACTIVE = 2, /* asks for the prompt */
  VERSION = 4,     /* asks for the version */
  NO_ENVIRONMENT = 8,
  CODE = 16, /* brings code, so that standard input is not taken for the script */
  EARLY = 32 /* may not stand before an option with VALUE_REST */
};

typedef struct short_option {
  char letter;
  value_form form;
  unsigned effects;
  lumap_action_kind action; /* if it acts */
  const char *shape;
  const char *text;
} short_option;

static const short_option luajit_options[] = {
    {'e', VALUE_REQUIRED, ACTS | CODE | EARLY, LUMAP_ACTION_EXECUTE, "-e CODE", "run this Lua code"},
    {'l', VALUE_REQUIRED, ACTS | EARLY, LUMAP_ACTION_REQUIRE, "-l NAME", "require this module"},
    {'b', VALUE_REST, ACTS | CODE, LUMAP_ACTION_BYTECODE, "-b...", "save or list bytecode; -b alone tells how"},
    {'j', VALUE_REQUIRED, ACTS | EARLY, LUMAP_ACTION_JIT_COMMAND, "-j COMMAND",
     "on, off, flush, or a jit.* module with its arguments: v=FILE"},
    {'O', VALUE_ATTACHED, ACTS, LUMAP_ACTION_JIT_OPTIMIZE, "-O[LEVEL|FLAGS]", "choose optimizations of the compiler"},
    {'i', VALUE_NONE, INTERACTIVE | VERSION | EARLY, 0, "-i", "give a prompt when all else has run"},
    {'v', VALUE_NONE, VERSION | EARLY, 0, "-v", "show the version of LuaJIT"},
    {'E', VALUE_IGNORED, NO_ENVIRONMENT | EARLY, 0, "-E", "read no environment variables"},
    {0},
};

static const short_option lua54_options[] = {
    {'e', VALUE_REQUIRED, ACTS | CODE, LUMAP_ACTION_EXECUTE, "-e CODE", "run this Lua code"},
    {'l', VALUE_REQUIRED, ACTS, LUMAP_ACTION_REQUIRE, "-l [GLOBAL=]NAME",
     "require this module into a global, of the same name unless told"},
    {'i', VALUE_NONE, INTERACTIVE | VERSION, 0, "-i", "give a prompt when all else has run"},
    {'v', VALUE_NONE, VERSION, 0, "-v", "show the version of Lua"},
    {'E', VALUE_NONE, NO_ENVIRONMENT, 0, "-E", "read no environment variables"},
    {'W', VALUE_NONE, ACTS, LUMAP_ACTION_WARN, "-W", "show warnings"},
    {0},
};

static const lumap_dialect luajit_dialect = {
    .is_luajit = true,
    .program = "lumap",
    .init_variables = {"LUA_INIT", NULL},
};

static const lumap_dialect lua54_dialect = {
    .program = "lumap54",
    .init_variables = {"LUA_INIT_5_4", "LUA_INIT"},
    .version_before_init = true,
    .program_is_script_zero = true,
};

/* --- long options: those that Lumap adds --- */

/* A long option without `value` takes none and one with it must have it: --name=VALUE. `apply` returns NULL, or what
 * the value must be. */
typedef struct long_option {
  const char *name;
  const char *value;
  const char *text;
  const char *(*apply)(lumap_command *command, const char *value);
} long_option;

static const char *apply_workers(lumap_command *command, const char *value) {
  static const char *const wanted = "a number of workers, 1 and up";
  char *end = NULL;
  errno = 0;
  long count = strtol(value, &end, 10);
  /* strtol alone would also take blanks and a sign. */
  if (value[0] < '0' || value[0] > '9' || *end != '\0') return wanted;
  if (errno != 0 || count < 1 || count > INT_MAX) return wanted;
  command->runtime.worker_count = (int)count;
  return NULL;
}

static const char *apply_backend(lumap_command *command, const char *value) {
  if (value[0] == '\0') return "the name of a back-end";
  command->runtime.backend = value; /* the runtime knows which there are */
  return NULL;
}

static const char *apply_help(lumap_command *command, const char *value) {
  (void)value;
  command->request = LUMAP_REQUEST_HELP;
  return NULL;
}

static const char *apply_version(lumap_command *command, const char *value) {
  (void)value;
  if (command->request == LUMAP_REQUEST_RUN) command->request = LUMAP_REQUEST_VERSION;
  return NULL;
}

static const long_option long_options[] = {
    {"workers", "N", "how many workers a parallel call has (LUMAP_WORKERS, else the CPUs)", apply_workers},
    {"backend", "NAME", "what a worker is: thread, process, ... (LUMAP_BACKEND, else thread)", apply_backend},
    {"help", NULL, "show this text", apply_help},
    {"version", NULL, "show the version of Lumap", apply_version},
    {0},
};

/* --- parsing --- */

typedef struct parser {
  lumap_command *command;
  char *complaint;
  bool *wants_usage;
  int position; /* in argv */
  bool has_early;
} parser;

static const short_option *short_options(const lumap_dialect *dialect) {
  return dialect->is_luajit ? luajit_options : lua54_options;
}

/* The stock commands differ: LuaJIT's shows its usage text and no more. */
static bool refuse(parser *p, const char *form, const char *argument) {
  if (!p->command->dialect->is_luajit) snprintf(p->complaint, LUMAP_COMPLAINT_SIZE, form, argument);
  *p->wants_usage = true;
  return false;
}

static bool refuse_unknown(parser *p) {
  return refuse(p, "unrecognized option '%s'", p->command->argv[p->position]);
}

static bool parse_long(parser *p) {
  const char *argument = p->command->argv[p->position];
  const char *name = argument + 2;
  size_t length = strcspn(name, "=");
  const char *value = name[length] == '=' ? name + length + 1 : NULL;

  for (const long_option *option = long_options; option->name != NULL; option++) {
    if (strlen(option->name) != length || memcmp(option->name, name, length) != 0) continue;
    if (option->value == NULL && value != NULL) {
      snprintf(p->complaint, LUMAP_COMPLAINT_SIZE, "--%s takes no value", option->name);
      return false;
    }
    const char *wanted = option->apply(p->command, value != NULL ? value : "");
    if (wanted == NULL) return true;
    snprintf(p->complaint, LUMAP_COMPLAINT_SIZE, "--%s=%s takes %s", option->name, option->value, wanted);
    if (value != NULL) snprintf(p->complaint + strlen(p->complaint), 80, ", not '%.60s'", value);
    return false;
  }
  return refuse_unknown(p);
}

/* Finds the value of -e and the like, in the next argument if it is not in this one. Lua 5.4 takes no value from there
 * that looks like an option. */
static const char *required_value(parser *p) {
  const lumap_command *command = p->command;
  const char *attached = command->argv[p->position] + 2;
  if (attached[0] != '\0') return attached;
  if (p->position + 1 >= command->argc) return NULL;
  const char *next = command->argv[p->position + 1];
  if (!command->dialect->is_luajit && next[0] == '-') return NULL;
  p->position++;
  return next;
}

static void apply_effects(parser *p, const short_option *option, const char *value) {
  lumap_command *command = p->command;
  if (option->effects & EARLY) p->has_early = true;
  if (option->effects & INTERACTIVE) command->interactive = true;
  if (option->effects & VERSION) command->show_version = true;
  if (option->effects & NO_ENVIRONMENT) command->runtime.flags |= LUMAP_IGNORE_ENVIRONMENT;
  if (option->effects & CODE) command->has_code = true;
  if (option->effects & ACTS) {
    command->actions[command->action_count++] = (lumap_action){.kind = option->action, .value = value};
  }
}

static bool parse_short(parser *p) {
  const char *argument = p->command->argv[p->position];
  const short_option *option = short_options(p->command->dialect);
  while (option->letter != '\0' && option->letter != argument[1])
    option++;
  if (option->letter == '\0') return refuse_unknown(p);

  const char *value = argument + 2;
  if (option->form == VALUE_NONE && value[0] != '\0') return refuse_unknown(p);
  if (option->form == VALUE_REST && p->has_early) return refuse_unknown(p);
  if (option->form == VALUE_REQUIRED) {
    value = required_value(p);
    if (value == NULL) return refuse(p, "'%s' needs argument", argument);
  }
  apply_effects(p, option, value);
  return true;
}

/* Ends at the script, or behind the option that takes all the rest. */
static bool parse(parser *p) {
  lumap_command *command = p->command;
  for (p->position = 1; p->position < command->argc; p->position++) {
    const char *argument = command->argv[p->position];
    if (argument[0] != '-' || argument[1] == '\0') break;
    if (strcmp(argument, "--") == 0) {
      p->position++;
      break;
    }
    if (!(argument[1] == '-' ? parse_long(p) : parse_short(p))) return false;
    if (command->action_count > 0 && command->actions[command->action_count - 1].kind == LUMAP_ACTION_BYTECODE) {
      p->position++;
      break;
    }
  }
  command->script = p->position;
  return true;
}

bool lumap_command_init(lumap_command *command, int argc, char *const *argv, char *complaint, bool *wants_usage) {
  const lumap_dialect *dialect = strncmp(lumap_vm(), "LuaJIT", 6) == 0 ? &luajit_dialect : &lua54_dialect;
  *command = (lumap_command){
      .dialect = dialect,
      .program = argc > 0 && argv[0][0] != '\0' ? argv[0] : dialect->program,
      .argc = argc,
      .argv = argv,
      .script = argc,
  };
  command->runtime.flags = LUMAP_STOP_SIGNAL;
  complaint[0] = '\0';
  *wants_usage = false;
  command->actions = calloc((size_t)argc + 1, sizeof *command->actions);
  if (command->actions == NULL) {
    snprintf(complaint, LUMAP_COMPLAINT_SIZE, "not enough memory");
    return false;
  }
  return parse(&(parser){.command = command, .complaint = complaint, .wants_usage = wants_usage});
}

void lumap_command_deinit(lumap_command *command) {
  free(command->actions);
  command->actions = NULL;
  command->action_count = 0;
}

/* --- usage --- */

static void print_line(FILE *stream, const char *shape, const char *text) {
  fprintf(stream, "  %-18s%s\n", shape, text);
}

void lumap_command_print_usage(const lumap_command *command, FILE *stream) {
  fprintf(stream, "usage: %s [options] [script [arguments]]\n\n", command->program);
  fprintf(stream, "Options of %s:\n", command->dialect->is_luajit ? "luajit" : "lua5.4");
  for (const short_option *option = short_options(command->dialect); option->letter != '\0'; option++) {
    print_line(stream, option->shape, option->text);
  }
  print_line(stream, "--", "what follows is no option");
  print_line(stream, "-", "what follows is no option, and the script is read from standard input");
  fprintf(stream, "\nOptions that Lumap adds:\n");
  for (const long_option *option = long_options; option->name != NULL; option++) {
    char shape[40];
    snprintf(shape, sizeof shape, "--%s%s%s", option->name, option->value ? "=" : "",
             option->value ? option->value : "");
    print_line(stream, shape, option->text);
  }
  fprintf(stream, "\nWithout a script: a prompt on a terminal, else the script is read from standard input.\n");
}
