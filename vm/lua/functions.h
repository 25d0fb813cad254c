/* SPDX-License-Identifier: MIT
 *
 * functions.h - tables of C functions for our own Lua files, each of which is made when somebody asks for it first: a
 * worker asks for few, and a thousand workers would pay for all.
 */
#ifndef LUMAP_LUA_FUNCTIONS_H
#define LUMAP_LUA_FUNCTIONS_H

#include "lua/compat.h"

/* Pushes a table whose fields are the functions of all `lists`, each of which ends with a NULL name; a NULL ends the
 * lists. They must stay as long as the state. [-0, +1] */
void lumap_push_functions(lua_State *L, const luaL_Reg *const *lists);

/* Sets the functions of one list in the table on top, at once. [-0, +0] */
void lumap_set_functions(lua_State *L, const luaL_Reg *functions);

#endif
