/* SPDX-License-Identifier: MIT
 *
 * core.h - the module "lumap.core", the C functions that stdlib/ is written on, and its parts.
 */
#ifndef LUMAP_RUNTIME_CORE_H
#define LUMAP_RUNTIME_CORE_H

#include "lua/functions.h"
#include "pool/pool.h"
#include "runtime/runtime.h"

/* Pushes the module. [-0, +1] */
void lumap_core_push(lua_State *L);

/* Makes the metatable `name` with `methods` (as __index too) and the finalizer. [-0, +0] */
void lumap_core_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction collect);

/* clock, sleep, cpu_count, index, worker, new_list, settings */
extern const luaL_Reg lumap_core_system[];
/* encode, decode, check, register, is_class: codec.h as Lua functions; cdata, standard_globals */
extern const luaL_Reg lumap_core_codec[];
/* pool, which makes its methods, and those of jobs, when it is called first */
extern const luaL_Reg lumap_core_pool[];
void lumap_core_open_job(lua_State *L);
/* buffer, buffer_classes and what maps over buffers need; counter, counter_class; channel, channel_class */
extern const luaL_Reg lumap_core_buffer[], lumap_core_counter[], lumap_core_channel[];

/* Pushes a new job of the pool, whose object is at 1, and returns 1. [-0, +1] */
int lumap_core_push_job(lua_State *L, lumap_pool *pool, bool finds_globals);

/* Is the item that runs asked to end, or one that waits for it further down on this stack? */
bool lumap_core_is_cancelled(lumap_runtime *runtime);

/* In a worker's state: print, io.write and the method write of io.stdout and io.stderr write each call as a whole, and
 * have written it when they return. Where a script has put something else, as it may have in a copy of the caller's
 * process, that stays. [-0, +0] */
void lumap_core_open_output(lua_State *L);

/* In a worker's state: load, loadstring, loadfile and dofile give what they load the globals of the call that runs.
 * Before lumap_names_open. [-0, +0] */
void lumap_core_open_load(lua_State *L);

/* Changes the defaults of calls that core.settings() tells. [-0, +0] */
void lumap_core_set_defaults(lua_State *L, const char *backend, int worker_count);

/* The back-end of that name; NULL if this build has none. */
const lumap_backend *lumap_core_find_backend(const char *name);

/* Runs one task of a serial pool on this thread; false when there is none. */
bool lumap_core_pump(lumap_runtime *runtime, void *pool);

#endif
