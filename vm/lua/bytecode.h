/* SPDX-License-Identifier: MIT
 *
 * bytecode.h - which globals does a dumped function read, and which names does it mention? The only file that knows
 * what the VMs' dumps look like.
 *
 * Opcode numbers belong to one build of a VM, so they are not written down: a scanner learns them from dumps of tiny
 * functions that the running VM compiles.
 */
#ifndef LUMAP_LUA_BYTECODE_H
#define LUMAP_LUA_BYTECODE_H

#include "lua/compat.h"

typedef enum lumap_name_kind {
  LUMAP_NAME_GLOBAL,  /* a global that is read, also as _G.name */
  LUMAP_NAME_CONSTANT /* any string constant: names of fields and methods are among them */
} lumap_name_kind;

/* Called for each name, perhaps several times for one. The string is not terminated. */
typedef void (*lumap_name_found)(void *data, lumap_name_kind kind, const char *name, size_t size);

/* Where a function has the table of globals. */
typedef struct lumap_globals_use {
  bool environment;   /* LuaJIT: it is the function's environment */
  bool upvalues[256]; /* it is the value of that upvalue, from 0; on 5.4 _ENV is one of them */
} lumap_globals_use;

/* Walks `size` bytes that lumap_dump wrote for a function of this state, nested functions included. Of the upvalues of
 * nested functions LuaJIT's dumps tell too little: there `_G.name` is found, `G.name` with an upvalue G is not. False
 * when the dump cannot be read: then nothing more is known. May raise for lack of memory. [-0, +0] */
bool lumap_bytecode_names(lua_State *L, const void *dump, size_t size, const lumap_globals_use *use,
                          lumap_name_found found, void *data);

#endif
