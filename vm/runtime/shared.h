/* SPDX-License-Identifier: MIT
 *
 * shared.h - shared values for other C files: making their memory, and the elements of buffers as Lua values.
 */
#ifndef LUMAP_RUNTIME_SHARED_H
#define LUMAP_RUNTIME_SHARED_H

#include "codec/handle.h"
#include "runtime/runtime.h"

/* Notes `size` bytes of new shared memory; now and then garbage is collected first. [-0, +0] */
void lumap_shared_count(lua_State *L, size_t size);

/* Collects now what nobody uses any more; a collector that is stopped stays so. [-0, +0] */
void lumap_shared_collect(lua_State *L);

/* New shared memory, of which the caller gets a reference; raises when there is none. `what` names it in the error. Now
 * and then garbage is collected first, since the collector does not know how much a handle keeps. [-0, +0] */
lumap_memory *lumap_shared_open(lua_State *L, size_t size, const char *what);

/* Pushes element `at`, from 0, which is there. int64 and uint64 as lumap_push_boxed_integer does. [-0, +1] */
void lumap_buffer_push(lua_State *L, const lumap_handle *buffer, uint64_t at);

/* Stores the value at `index` as element `at`, from 0, which is there; false, and nothing stored, when the type of the
 * buffer cannot hold it. [-0, +0] */
bool lumap_buffer_store(lua_State *L, const lumap_handle *buffer, uint64_t at, int index);

/* Stores the value at `index` as the result of an item, in its place; raises, with the item, when that is beyond the
 * end or the type of the buffer cannot hold it. [-0, +0] */
void lumap_buffer_store_result(lua_State *L, const lumap_handle *buffer, uint64_t item, int index);

#endif
