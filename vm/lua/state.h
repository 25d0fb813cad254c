/* SPDX-License-Identifier: MIT
 *
 * state.h - opening and closing a Lua state, the main one and the workers' alike: allocator, libraries, search paths,
 * and the modules that are built into the binary.
 *
 * The caller owns the state. One thread at a time.
 */
#ifndef LUMAP_LUA_STATE_H
#define LUMAP_LUA_STATE_H

#include "base/status.h"
#include "lua/compat.h"

/* A Lua file of stdlib/, compiled at build time by the VM that will run it. */
typedef struct lumap_embedded_module {
  const char *name;  /* as require takes it */
  const char *chunk; /* "=[lumap]/parallel/init.lua" */
  const unsigned char *code;
  size_t size;
} lumap_embedded_module;

extern const lumap_embedded_module lumap_embedded_modules[];
extern const int lumap_embedded_module_count;

/* The one of that name, or NULL. Any thread. */
const lumap_embedded_module *lumap_embedded_find(const char *name);

/* Is that the `source` of lua_Debug for a function of an embedded module? Any thread. */
bool lumap_is_embedded(const char *source);

typedef struct lumap_state_options {
  lua_Alloc allocator; /* NULL: the VM's own */
  void *allocator_data;
  size_t room;              /* bytes that the allocator is known to have */
  bool ignore_environment;  /* LUA_PATH and LUA_CPATH are not read */
  const char *path, *cpath; /* package.path and package.cpath; NULL: the VM's defaults */
} lumap_state_options;

/* A state with all standard libraries, in which the embedded modules can be required. `setup`, unless NULL, is called
 * last, protected, with `data` as a light userdata. NULL on failure. */
lua_State *lumap_state_open(const lumap_state_options *options, lua_CFunction setup, void *data, lumap_error *error);

/* Pushes a table of the globals as they were before any script ran: for our own modules it is the environment. Read
 * only. [-0, +1] */
void lumap_push_first_globals(lua_State *L);

/* Runs finalizers and frees. NULL is fine. */
void lumap_state_close(lua_State *L);

/* Copies the error on top into `error` as text and pops it. [-1, +0] */
lumap_status lumap_error_pop(lua_State *L, int code, lumap_error *error);

/* Raises a formatted message (as lua_pushfstring) without the position that luaL_error would put in front: it is one in
 * our own Lua files. Does not return. */
int lumap_raise(lua_State *L, const char *format, ...);

/* Raises `error` as a Lua error with its message, without a position. Does not return. */
int lumap_error_raise(lua_State *L, const lumap_error *error);

#endif
