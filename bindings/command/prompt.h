/* SPDX-License-Identifier: MIT
 *
 * prompt.h - the dialogue: reads statements, runs them, shows what comes of them.
 *
 * Main thread only.
 */
#ifndef LUMAP_COMMAND_PROMPT_H
#define LUMAP_COMMAND_PROMPT_H

#include "session.h"

/* Until the input ends. On a terminal lines can be edited and are remembered, elsewhere they are read plainly. Messages
 * leave out the program's name meanwhile. */
void lumap_prompt_run(lumap_session *session);

#endif
