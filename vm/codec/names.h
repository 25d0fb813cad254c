/* SPDX-License-Identifier: MIT
 *
 * names.h - what goes by name: modules, and the functions and tables in them, that both sides can require. The methods
 * of open files are one of these modules, by the name of their metatable.
 *
 * Each state has one index of names. What was there when the state was opened, before any script ran, is "standard" and
 * exists in every state. Modules loaded later are looked at again whenever package.loaded has changed. The index takes
 * longer to make than a small worker takes to open, and most workers never ask: it is made when it is needed.
 * Owned by the state's registry; the state's threading rule.
 */
#ifndef LUMAP_CODEC_NAMES_H
#define LUMAP_CODEC_NAMES_H

#include "lua/compat.h"

typedef struct lumap_names lumap_names;

/* Notes what the state has: call once, after the libraries are open and lumap_additions_open. With `scripted` what is
 * in further modules is kept for when a script has changed them: in a main state. [-0, +0] */
void lumap_names_open(lua_State *L, bool scripted);

/* The index of the state, as it was when it was last brought up to date. Does no work. [-0, +0] */
lumap_names *lumap_names_get(lua_State *L);

/* Brings it up to date with package.loaded: before a value that may have a name. Allocates. [-0, +0] */
void lumap_names_refresh(lua_State *L, lumap_names *names);

/* May the object have a name? False is certain, and cheap. [-0, +0] */
bool lumap_names_has(const lumap_names *names, const void *object);

/* Pushes the name of the table or function at `index` as strings, the module first, and returns how many; 0 when it
 * has none that another state can use. [-0, +parts] */
int lumap_names_push(lua_State *L, lumap_names *names, int index);

/* Pops `parts` strings and pushes what they name, requiring the module when it is not loaded. On failure pushes a
 * message instead and returns false. Runs the module's code, protected. [-parts, +1] */
bool lumap_names_resolve(lua_State *L, int parts);

/* Puts the function on top, which is popped, in the place of a standard one, and by its name it goes from now on; so
 * does that one. Does nothing where a script has put something else there, or there is nothing. `module` may be the
 * methods of files, LUA_FILEHANDLE. Before lumap_names_open all is standard. May raise. [-1, +0] */
void lumap_names_replace(lua_State *L, const char *module, const char *field);

/* Is the value on top what global `name`, the string at `name_index`, was when the state was opened? [-0, +0] */
bool lumap_names_is_standard_global(lua_State *L, lumap_names *names, int name_index);

/* Pushes the table of globals as they were when the state was opened: name to value. Read only. [-0, +1] */
void lumap_names_push_standard_globals(lua_State *L);

#endif
