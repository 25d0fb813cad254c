/* SPDX-License-Identifier: MIT
 *
 * additions.h - what scripts added to the standard libraries, or replaced or took out there, since the state was
 * opened: `function string.trim(s)`, `table.unpack = unpack`, `os.execute = nil`, an operator for strings.
 *
 * Libraries go by name, and each state has its own. So the fields of them that a call's functions may use, because they
 * mention their names, go along with the call; the worker has them in place while it runs a task of the call
 * (stdlib/parallel/libraries.lua). Nothing watches the libraries: a name is looked up in them when a function that
 * mentions it is sent, once a call.
 */
#ifndef LUMAP_CODEC_ADDITIONS_H
#define LUMAP_CODEC_ADDITIONS_H

#include "lua/compat.h"

/* Slots of an addition. */
enum {
  LUMAP_ADDITION_NAME = 1, /* "string.trim"; ".__mod" is in the metatable of strings */
  LUMAP_ADDITION_VALUE
};

/* Remembers the libraries of the state as they are: call before any script runs. [-0, +0] */
void lumap_additions_open(lua_State *L);

/* What the field of the library holds now is what it held from the start. [-0, +0] */
void lumap_additions_accept(lua_State *L, const char *library, const char *field);

/* Replaces the table on top by a copy of what it held then, if it is a library; else it stays. [-1, +1] */
void lumap_additions_restore(lua_State *L);

/* Pushes an addition for each library whose field with the name on top is not what it was, and returns how many.
 * [-0, +n] */
int lumap_additions_push(lua_State *L);

/* The same for the metatable of strings, whose fields code uses without their names. [-0, +n] */
int lumap_additions_push_operators(lua_State *L);

/* Worker's side. The name of an addition and its value are on top; appends { table, key, value, refused } to the list
 * `additions` of the table at `values`. `refused`: the value is the message that tells why it cannot be sent. [-2, +0]
 */
void lumap_additions_keep(lua_State *L, int values, bool refused);

#endif
