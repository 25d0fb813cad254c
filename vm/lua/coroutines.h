/* SPDX-License-Identifier: MIT
 *
 * coroutines.h - setting a hook on whatever coroutine runs. LuaJIT's hooks are the whole state's. On 5.4 each coroutine
 * has its own, and nothing tells which ones run; so the functions that resume them are replaced by ones that keep
 * account, and otherwise do as the standard library's do.
 *
 * What a C module resumes by itself is not seen: a hook set then acts on the coroutine that called the module.
 */
#ifndef LUMAP_LUA_COROUTINES_H
#define LUMAP_LUA_COROUTINES_H

#include "lua/compat.h"

/* A coroutine that was resumed and has not returned; it lies on the C stack. */
typedef struct lumap_resumed {
  lua_State *coroutine;
  struct lumap_resumed *outer;
} lumap_resumed;

/* Of one state. Its own thread, and signal handlers on it. */
typedef struct lumap_coroutines {
  lua_State *main;
  lumap_resumed *volatile innermost;
  lua_Hook volatile hook; /* NULL: none has been asked for */
} lumap_coroutines;

/* Begins to keep account in `self`, which must last as long as the state. Before names are given to the standard
 * functions. [-0, +0] */
void lumap_coroutines_open(lua_State *L, lumap_coroutines *self);

/* Calls the hook at every instruction of every coroutine from now on: safe in a signal handler on the state's own
 * thread. */
void lumap_coroutines_interrupt(lumap_coroutines *self, lua_Hook hook);

#endif
