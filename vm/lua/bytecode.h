/* SPDX-License-Identifier: MIT
 *
 * bytecode.h - which globals does a dumped function read? The only file that knows what the VMs' dumps look like.
 *
 * Opcode numbers belong to one build of a VM, so they are not written down: a scanner learns them from dumps of tiny
 * functions that the running VM compiles.
 */
#ifndef LUMAP_LUA_BYTECODE_H
#define LUMAP_LUA_BYTECODE_H

#include "lua/compat.h"

/* Called for each name that is read, perhaps several times for one. The string is not terminated. */
typedef void (*lumap_global_found)(void *data, const char *name, size_t size);

/* Walks `size` bytes that lumap_dump wrote for a function of this state, nested functions included. On 5.4
 * `environment` is the index, from 1, of the upvalue that holds the table of globals, 0 for none; unused on LuaJIT.
 * False when the dump cannot be read: then nothing is known. May raise for lack of memory. [-0, +0] */
bool lumap_bytecode_globals(lua_State *L, const void *dump, size_t size, int environment, lumap_global_found found,
                            void *data);

#endif
