/* SPDX-License-Identifier: MIT
 *
 * task_api.h - the C functions with which worker.lua takes a task apart and fills in its results. Not for others.
 */
#ifndef LUMAP_WORKER_TASK_API_H
#define LUMAP_WORKER_TASK_API_H

#include "lua/compat.h"

/* Adds the functions to the table on top. [-0, +0] */
void lumap_task_api_open(lua_State *L);

/* Adds number_loop and begin, the C ways to run items; LuaJIT has compiled ones (stdlib/parallel/loops.lua). */
void lumap_loops_open(lua_State *L);

#endif
