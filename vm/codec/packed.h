/* SPDX-License-Identifier: MIT
 *
 * packed.h - lists of numbers as plain memory. On LuaJIT two Lua functions over FFI memory do the loops, compiled, some
 * ten times as fast as the C API does (stdlib/lumap/packed.lua installs them); else the loops are here, in C.
 */
#ifndef LUMAP_CODEC_PACKED_H
#define LUMAP_CODEC_PACKED_H

#include "lua/compat.h"

/* Are the first and the last of `count` values numbers? [-0, +0] */
bool lumap_packed_looks_numeric(lua_State *L, int index, size_t count);

/* Are there keys beside 1..count, which are all there? [-0, +0] */
bool lumap_packed_has_more(lua_State *L, int index, size_t count);

/* Writes values 1..count as numbers of eight bytes to `memory`, of any alignment. Returns their kind, LUMAP_PACKED_...,
 * or 0 when not all are numbers or their types cannot be told apart that way. [-0, +0] */
int lumap_pack_exact(lua_State *L, int index, size_t count, void *memory);

/* The same for values first..first+count-1 within one kind of VM: returns a lumap_payload, F64 or I64, or 0. [-0, +0]
 */
int lumap_pack_slice(lua_State *L, int index, uint64_t first, size_t count, void *memory);

/* Stores `count` numbers of a kind (LUMAP_PACKED_...) into the table at `index`, from slot `first` on. [-0, +0] */
void lumap_unpack(lua_State *L, int index, uint64_t first, size_t count, int kind, const void *memory);

/* Makes plain NaNs of all others among `count` doubles. LuaJIT keeps values of other types as NaNs of its own and does
 * not look at what FFI reads from memory: foreign bytes must have been through here, or go through lumap_unpack. */
void lumap_packed_tame(void *memory, size_t count);

/* Installs Lua functions in place of the C loops: `pack(list, first, count, memory, exact)` returns a kind, as above;
 * `unpack(list, first, count, memory, kind)`; `has_more(list, count)`. Pops them in this order. [-3, +0] */
void lumap_packed_install(lua_State *L);

#endif
