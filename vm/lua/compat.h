/* SPDX-License-Identifier: MIT
 *
 * compat.h - everything in C that differs between LuaJIT 2.1 and PUC Lua 5.4. Nothing else asks which VM it is on; the
 * one other file that does is bytecode.c, which reads what the VMs' dumps look like.
 *
 * All functions need a Lua state and follow its threading rule: one thread at a time.
 */
#ifndef LUMAP_LUA_COMPAT_H
#define LUMAP_LUA_COMPAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* The type of LuaJIT's cdata; no value of 5.4 has it. */
enum { LUMAP_TCDATA = 10 };

/* What each VM's build defines:
 *   LUMAP_PROGRAM              the command's name
 *   LUMAP_EXPRESSION           what makes a chunk of an expression list, and how many values it puts in front. With a
 *                              call alone behind it `return` makes a tail call, and LuaJIT then knows no place for the
 *                              call's errors
 *   LUMAP_HOOK_LEVEL           the level of the function in which a hook runs: LuaJIT's hooks have none of their own
 *   LUMAP_OPTION_L_SETS_GLOBAL option -l NAME also sets the global NAME
 *   LUMAP_ARG_IS_CHECKED       a global `arg` that is no table is an error, and its holes are arguments
 * LUMAP_VM_NAME is "LuaJIT 2.1.0-beta3" or "Lua 5.4.4", LUMAP_VM_NOTICE the stock interpreter's line of -v. */

#if LUA_VERSION_NUM >= 504
#define LUMAP_VM_IS_LUAJIT 0
#define LUMAP_VM_CODE 2 /* which VM's bytecode a message holds */
#define LUMAP_VM_NAME LUA_RELEASE
#define LUMAP_VM_NOTICE LUA_COPYRIGHT
#define LUMAP_PROGRAM "lumap54"
#define LUMAP_SEARCHERS "searchers" /* of require, in the table package */
#define LUMAP_EXPRESSION "return "
#define LUMAP_EXPRESSION_EXTRA 0
#define LUMAP_HOOK_LEVEL 1
#define LUMAP_OPTION_L_SETS_GLOBAL 1
#define LUMAP_ARG_IS_CHECKED 1
#define lumap_rawlen(L, index) ((size_t)lua_rawlen(L, index))
#else
#include <luajit.h>
#define LUMAP_VM_IS_LUAJIT 1
#define LUMAP_VM_CODE 1
#define LUMAP_VM_NAME LUAJIT_VERSION
#define LUMAP_VM_NOTICE LUAJIT_VERSION " -- " LUAJIT_COPYRIGHT ". " LUAJIT_URL
#define LUMAP_PROGRAM "lumap"
#define LUMAP_EXPRESSION "return nil, "
#define LUMAP_SEARCHERS "loaders"
#define LUMAP_EXPRESSION_EXTRA 1
#define LUMAP_HOOK_LEVEL 0
#define LUMAP_OPTION_L_SETS_GLOBAL 0
#define LUMAP_ARG_IS_CHECKED 0
#define lumap_rawlen(L, index) ((size_t)lua_objlen(L, index))
int lua_absindex(lua_State *L, int index);
void lua_rawgetp(lua_State *L, int index, const void *key);
void lua_rawsetp(lua_State *L, int index, const void *key);
#endif

/* Is the value a number without a fraction that `*value` can hold? On 5.4 floats are not integers, on LuaJIT 3.0 is
 * but -0.0 is not: what an encoder writes as integer comes back as the same value. [-0, +0] */
#if LUMAP_VM_IS_LUAJIT
bool lumap_is_integer(lua_State *L, int index, int64_t *value);
#else
static inline bool lumap_is_integer(lua_State *L, int index, int64_t *value) {
  if (!lua_isinteger(L, index)) return false;
  *value = lua_tointeger(L, index);
  return true;
}
#endif

/* Pushes an integer; on LuaJIT one that a double cannot hold exactly becomes an int64_t cdata. [-0, +1] */
void lumap_push_integer(lua_State *L, int64_t value);

/* LuaJIT: int64_t and uint64_t cdata. `*is_unsigned` tells which. False for every other value. [-0, +0] */
bool lumap_is_boxed_integer(lua_State *L, int index, uint64_t *bits, bool *is_unsigned);
/* Pushes such cdata; on 5.4 an integer with the same bits. [-0, +1] */
void lumap_push_boxed_integer(lua_State *L, uint64_t bits, bool is_unsigned);

/* Loads bytecode ("b") or source ("t") under a name. Result as lua_load. [-0, +1] */
int lumap_load(lua_State *L, const void *code, size_t size, const char *name, const char *mode);

/* Dumps the Lua function on top with debug information, through `writer`. [-0, +0] */
int lumap_dump(lua_State *L, lua_Writer writer, void *data);

/* Number of upvalues that a debugger may join or set. */
int lumap_upvalue_count(lua_State *L, int index);

/* Pushes the environment of the Lua function at `index` when that is a property of the function (LuaJIT); pushes
 * nothing and returns false where environments are upvalues (5.4). [-0, +0 or +1] */
bool lumap_push_environment(lua_State *L, int index);
/* Pops a table and makes it the environment of the function at `index`; on 5.4 does nothing but pop. [-1, +0] */
void lumap_set_environment(lua_State *L, int index);

/* Pops a table and makes it the table of globals of the chunk at `index`, fresh from lumap_load. [-1, +0] */
void lumap_set_chunk_environment(lua_State *L, int index);

/* Pushes the table of globals of the state. [-0, +1] */
void lumap_push_globals(lua_State *L);

/* A table that belongs to the full userdata at `index`: pops it from the top to set. [-1, +0] and [-0, +1] */
void lumap_set_userdata_table(lua_State *L, int index);
void lumap_push_userdata_table(lua_State *L, int index);
/* A full userdata of `size` zeroed bytes with a fresh table of its own, which has room for `slots` values from 1 on,
 * and the metatable `name` in the registry. [-0, +1] */
void *lumap_new_object(lua_State *L, size_t size, int slots, const char *name);

/* Makes the metatable `name` with that finalizer, unless it is in the registry. Where memory ends on the way there is
 * none: half of one would be taken for whole ever after. [-0, +0] */
void lumap_need_class(lua_State *L, const char *name, lua_CFunction collect);

/* The registry's field that holds package.loaded. [-0, +1] */
void lumap_push_loaded(lua_State *L);

/* Is `index` a file handle of the io library, and which standard one: 0, 1, 2, or -1 for others; -2: none at all. */
int lumap_standard_file(lua_State *L, int index);

/* Pushes the text that print gives out for a value, and the one that io.write does for a string or a number. Errors as
 * theirs. [-0, +1] */
void lumap_push_printed(lua_State *L, int index);
void lumap_push_written(lua_State *L, int index);

/* Replaces the error on top by what the stock interpreter prints for it, traceback included. [-1, +1] */
void lumap_describe_error(lua_State *L);

/* Makes the state remember how long its collector means to wait, which a stop forgets. Once, when it is opened. [-0,
 * +0]
 */
void lumap_collector_pace(lua_State *L);

/* Stops the collector; what it returns goes to lumap_collector_restore. */
bool lumap_collector_stop(lua_State *L);
void lumap_collector_restore(lua_State *L, bool was_running);

/* Has the collector, if it runs, do what it missed during rests that are over. Finalizers run: call it before a rest or
 * a message begins. [-0, +0] */
void lumap_collector_catch_up(lua_State *L);

/* Did a protected call that gave `code` end for lack of memory, the VM's or ours? Its error is on top. [-0, +0] */
bool lumap_is_out_of_memory(lua_State *L, int code);

/* lua_pcall with the collector at rest; afterwards it runs if it ran before, whatever became of the call. */
int lumap_pcall_at_rest(lua_State *L, int arguments, int results);

/* Calls `body` with `data` as its only argument, a light userdata, in protected mode. Result as lua_pcall: the error is
 * then on top. Raises nothing, not even when memory runs out before the call. [-0, +0 or +1] */
int lumap_protected_call(lua_State *L, lua_CFunction body, void *data);

/* Prepares a state that is closed next, and whose memory goes as a whole. Returns a block that lua_close frees when all
 * finalizers have run, before others that are as old: what comes then frees memory and nothing else. NULL: there is
 * more to free, or no memory for a block. The state must be at rest: no call is under way. [-0, +0] */
const void *lumap_close_begin(lua_State *L);

/* Does the error on top with code `code` (of lua_pcall) say that memory ran out? When it is raised again LuaJIT forgets
 * the code. [-0, +0] */
bool lumap_is_memory_error(lua_State *L, int code);

/* Calls a hook at every instruction from now on: safe in a signal handler on the state's own thread. */
void lumap_set_urgent_hook(lua_State *L, lua_Hook hook);

/* Pushes what ends an item when it is raised: where the VM can, a value that no message handler of the item's gets to
 * see, since hooks do not run in those; else the value that `reference` leads to in the registry. [-0, +1] */
void lumap_push_stop(lua_State *L, int reference);

/* Makes the registry refuse environment variables: LUA_PATH and the like (option -E). Before opening libraries. */
void lumap_ignore_environment(lua_State *L);

/* Makes warnings what they are in a state of luaL_newstate: off, until a script says warn("@on"). */
void lumap_warnings_start(lua_State *L);

/* Prepares the collector for a state whose memory is limited. */
void lumap_collector_limit(lua_State *L);
/* Memory gets short: makes the collector begin a cycle at once. Allocates nothing: an allocator may call it while it is
 * asked for memory. */
void lumap_collector_press(lua_State *L);

/* Puts the collector into the mode that the stock interpreter runs it in. */
void lumap_collector_start(lua_State *L);

#endif
