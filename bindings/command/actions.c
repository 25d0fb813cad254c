/* SPDX-License-Identifier: MIT
 *
 * actions.c - the options that act. LuaJIT's own are calls of its jit.* modules, so they are done in Lua.
 */
#include "actions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The chunks below get their strings as `...` and return nil, or what went wrong. They call through pcall: errors in
 * the options of the compiler are shown without a traceback, which would be about these chunks.
 *
 * Calls `command` with the parts of an option's list; an empty part counts as nil. */
#define CALL_WITH_LIST                                                                                                 \
  "local count = #list\n"                                                                                              \
  "for i = 1, count do if list[i] == '' then list[i] = nil end end\n"                                                  \
  "local done, message = pcall(command, unpack(list, 1, count))\n"                                                     \
  "if not done then return tostring(message) end\n"

/* -j: a function of `jit`, else `start` of the module jit.*. */
static const char jit_command_code[] =
    "local name, list = ..., { select(2, ...) }\n"
    "local command = package.loaded.jit[name]\n"
    "if type(command) ~= 'function' then\n"
    "  local found, module = pcall(require, 'jit.' .. name)\n"
    "  if not found and not tostring(module):find('^module ') then return tostring(module) end\n"
    "  command = found and type(module) == 'table' and module.start\n"
    "  if not command then return 'no command of LuaJIT and no module jit.' .. name .. ' to be found' end\n"
    "end\n" CALL_WITH_LIST;

static const char jit_optimize_code[] = "local command, list = require('jit.opt').start, { ... }\n" CALL_WITH_LIST;

static const char bytecode_code[] = "local found, module = pcall(require, 'jit.bcsave')\n"
                                    "if not found then return 'no module jit.bcsave to be found' end\n"
                                    "local done, message = pcall(module.start, ...)\n"
                                    "if not done then return tostring(message) end\n";

static const char jit_status_code[] = "local status = { package.loaded.jit.status() }\n"
                                      "status[1] = status[1] and 'ON' or 'OFF'\n"
                                      "return 'JIT: ' .. table.concat(status, ' ')\n";

const char *lumap_actions_jit_status(lumap_session *session) {
  return lumap_session_ask(session, jit_status_code, 0, NULL);
}

/* Runs a chunk of the kind above. */
static bool obey(lumap_session *session, const char *code, int argc, char *const *argv) {
  const char *complaint = NULL;
  lumap_result result = lumap_query(session->runtime, code, strlen(code), argc, argv, &complaint);
  if (result != LUMAP_OK) return lumap_session_report(session, result);
  if (complaint != NULL) lumap_session_complain(session, complaint);
  return complaint == NULL;
}

/* Cuts `list` at its commas into `parts`, which has room for all. Returns how many there are; "" has none. */
static int split(char *list, char **parts) {
  int count = 0;
  if (list == NULL || list[0] == '\0') return 0;
  for (char *part = list; part != NULL;) {
    char *comma = strchr(part, ',');
    if (comma != NULL) *comma++ = '\0';
    parts[count++] = part;
    part = comma;
  }
  return count;
}

/* Runs a chunk with what an option's value consists of: `name` if there is one, then the parts between commas. */
static bool obey_list(lumap_session *session, const char *code, const char *value, bool begins_with_name) {
  size_t length = strlen(value);
  char *text = strdup(value);
  char **parts = malloc((length + 2) * sizeof *parts);
  bool done = false;
  if (text == NULL || parts == NULL) {
    lumap_session_complain(session, "not enough memory");
  } else if (begins_with_name) {
    char *list = strchr(text, '=');
    if (list != NULL) *list++ = '\0';
    parts[0] = text;
    done = obey(session, code, 1 + split(list, parts + 1), parts);
  } else {
    done = obey(session, code, split(text, parts), parts);
  }
  free(parts);
  free(text);
  return done;
}

/* The module that saves bytecode reads its options itself: what stands behind -b becomes one of them. */
static lumap_actions_end run_bytecode(lumap_session *session, const lumap_command *command, const char *attached) {
  int count = 0;
  char **arguments = calloc((size_t)command->argc + 1, sizeof *arguments);
  char *option = malloc(strlen(attached) + 2);
  lumap_actions_end end = LUMAP_ACTIONS_FAILED;
  if (arguments == NULL || option == NULL) {
    lumap_session_complain(session, "not enough memory");
  } else {
    sprintf(option, "-%s", attached);
    if (attached[0] != '\0') arguments[count++] = option;
    for (int i = command->script; i < command->argc; i++)
      arguments[count++] = command->argv[i];
    if (obey(session, bytecode_code, count, arguments)) end = LUMAP_ACTIONS_STOP;
  }
  free(option);
  free(arguments);
  return end;
}

static bool run_action(lumap_session *session, const lumap_action *action) {
  static const char warn_code[] = "warn('@on')";
  switch (action->kind) {
  case LUMAP_ACTION_EXECUTE:
    return lumap_session_report(session, lumap_session_run_string(session, action->value, "=(command line)"));
  case LUMAP_ACTION_REQUIRE:
    return lumap_session_report(session, lumap_session_require(session, action->value));
  case LUMAP_ACTION_WARN:
    return lumap_session_report(session, lumap_session_run_string(session, warn_code, "=(command line)"));
  case LUMAP_ACTION_JIT_COMMAND:
    return obey_list(session, jit_command_code, action->value, true);
  case LUMAP_ACTION_JIT_OPTIMIZE:
    return obey_list(session, jit_optimize_code, action->value, false);
  case LUMAP_ACTION_BYTECODE:
    break;
  }
  return false;
}

lumap_actions_end lumap_actions_run(lumap_session *session, const lumap_command *command) {
  for (int i = 0; i < command->action_count; i++) {
    const lumap_action *action = &command->actions[i];
    if (action->kind == LUMAP_ACTION_BYTECODE) return run_bytecode(session, command, action->value);
    if (!run_action(session, action)) return LUMAP_ACTIONS_FAILED;
  }
  return LUMAP_ACTIONS_GO_ON;
}
