/* SPDX-License-Identifier: MIT
 *
 * packed.h - lists of numbers as plain memory: in messages in the narrowest kind that holds them (PACKED), in payloads
 * of calls as doubles or 64-bit integers. Lists are read and written where they lie, or through the C API where the
 * VM's layout is not known or a number needs it.
 */
#ifndef LUMAP_CODEC_PACKED_H
#define LUMAP_CODEC_PACKED_H

#include "base/bytes.h"
#include "lua/numbers.h"

/* Writes tag PACKED with `flags`, kind, count and numbers if all `count` slots at `list` are numbers whose types can be
 * told apart. Returns `count`; 0, with nothing written, for other lists, and when `out` has no memory, which
 * `out->failed` tells. */
size_t lumap_put_numbers(lumap_bytes *out, const lumap_slot *list, size_t count, unsigned flags);

/* Are the first and the last of `count` values numbers? [-0, +0] */
bool lumap_packed_looks_numeric(lua_State *L, int index, size_t count);

/* Are there keys beside 1..count, which are all there? [-0, +0] */
bool lumap_packed_has_more(lua_State *L, int index, size_t count);

/* Writes values 1..count as numbers of eight bytes to `memory`, of any alignment. Returns their kind, F64, I64 or
 * MIXED, or 0 when not all are numbers or their types cannot be told apart that way. [-0, +0] */
int lumap_pack_exact(lua_State *L, int index, size_t count, void *memory);

/* The same for values first..first+count-1 within one kind of VM: returns a lumap_payload, F64 or I64, or 0. On LuaJIT
 * all are doubles. [-0, +0] */
int lumap_pack_slice(lua_State *L, int index, uint64_t first, size_t count, void *memory);

/* Stores `count` numbers of a kind (LUMAP_PACKED_...) into the table at `index`, from slot `first` on. [-0, +0] */
void lumap_unpack(lua_State *L, int index, uint64_t first, size_t count, int kind, const void *memory);

#endif
