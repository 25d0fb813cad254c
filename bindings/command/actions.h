/* SPDX-License-Identifier: MIT
 *
 * actions.h - carries out the options that act: -e, -l, -W, and LuaJIT's -j, -O and -b.
 *
 * Main thread only; borrows all it is given.
 */
#ifndef LUMAP_COMMAND_ACTIONS_H
#define LUMAP_COMMAND_ACTIONS_H

#include "options.h"
#include "session.h"

typedef enum lumap_actions_end {
  LUMAP_ACTIONS_GO_ON,  /* all are done: the script is next */
  LUMAP_ACTIONS_FAILED, /* one failed, and that was reported */
  LUMAP_ACTIONS_STOP    /* one leaves nothing to be run behind it */
} lumap_actions_end;

/* In the order of the command line, up to the first that fails. */
lumap_actions_end lumap_actions_run(lumap_session *session, const lumap_command *command);

/* The line that tells what LuaJIT's compiler is set to: "JIT: ON ...". Borrowed until the next call on the runtime;
 * NULL if that cannot be found out. */
const char *lumap_actions_jit_status(lumap_session *session);

#endif
