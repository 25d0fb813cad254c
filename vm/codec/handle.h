/* SPDX-License-Identifier: MIT
 *
 * handle.h - shared values as Lua sees them: full userdata that hold a reference to shared memory, and their bytes in a
 * message, which refer to that memory by number (base/bytes.h). What the values can do is up to their modules
 * (runtime/core_buffer.c and its like), which make the metatables.
 */
#ifndef LUMAP_CODEC_HANDLE_H
#define LUMAP_CODEC_HANDLE_H

#include "codec/encoder.h"
#include "shared/elements.h"
#include "shared/memory.h"

/* Numbers of the wire format: they stay. */
typedef enum lumap_handle_kind {
  LUMAP_HANDLE_BUFFER = 1,
  LUMAP_HANDLE_CHANNEL,
  LUMAP_HANDLE_COUNTER,
} lumap_handle_kind;

typedef struct lumap_handle {
  /* Read by stdlib/parallel/buffer.lua, through the ffi library, in this order. */
  void *data;   /* buffer: its first element */
  double count; /* buffer: how many elements */
  /* Not so. */
  lumap_memory *memory; /* holds a reference; NULL: finalized */
  lumap_handle_kind kind;
  lumap_element type; /* buffer: of its elements */
} lumap_handle;

/* Pushes a handle of that kind (and for a buffer that type, with `count` elements from byte `offset` on), which takes
 * over the caller's reference on the memory, also when an error is raised. The module that makes its metatable is
 * loaded if need be. The stack needs room for four values. [-0, +1] */
lumap_handle *lumap_handle_push(lua_State *L, lumap_handle_kind kind, lumap_memory *memory, lumap_element type,
                                uint64_t offset, uint64_t count);

/* The handle at `index`, or NULL when it is none of that kind. [-0, +0] */
lumap_handle *lumap_handle_test(lua_State *L, int index, lumap_handle_kind kind);

/* Lets go of the memory: the handle is empty, as if finalized. */
void lumap_handle_empty(lumap_handle *handle);
/* Makes an empty handle one of a buffer in `memory`, of which it holds a reference, as lumap_handle_push does. False,
 * and nothing done, where it has no such bytes. */
bool lumap_handle_fill(lumap_handle *handle, lumap_memory *memory, uint64_t offset, uint64_t count);

/* Pushes the metatable of handles of that kind and type; true if there is none yet: then a table with __gc, __name and
 * nothing else. [-0, +1] */
bool lumap_handle_push_metatable(lua_State *L, lumap_handle_kind kind, lumap_element type);
/* The table on top is whole, and is that metatable from now on. [-0, +0] */
void lumap_handle_set_metatable(lua_State *L, lumap_handle_kind kind, lumap_element type);

/* Writes the userdata at `index` if it is a handle; false, and nothing written, if not. [-0, +0] */
bool lumap_put_handle(lumap_encoder *e, int index, const lumap_step *step);
/* Reads what stands behind the tag HANDLE; pushes the value. [-0, +1] */
void lumap_get_handle(lumap_decoder *d, unsigned tag, uint64_t offset);

#endif
