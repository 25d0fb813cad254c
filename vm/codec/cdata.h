/* SPDX-License-Identifier: MIT
 *
 * cdata.h - objects and types of LuaJIT's ffi library to bytes and back. The VM has no C API for them: what they are is
 * asked in Lua (stdlib/lumap/cdata.lua), here are the bytes. On a VM without that library nothing is ever put, and what
 * is read is a number or refused.
 */
#ifndef LUMAP_CODEC_CDATA_H
#define LUMAP_CODEC_CDATA_H

#include "codec/encoder.h"

/* From now on what the state declares through the ffi library is recorded (stdlib/lumap/declarations.lua). With `now`
 * it is loaded at once; without, when a script requires it, for which `require` is replaced: many workers never do.
 * Call before anything else is required. [-0, +0] */
void lumap_cdata_open(lua_State *L, bool now);

/* Pushes the functions of cdata.lua, which is loaded when they are asked for first; false on a VM without the ffi
 * library. [-0, +1] */
void lumap_cdata_push_functions(lua_State *L);

/* Writes the cdata at `index`, an object or a type, or refuses it. [-0, +0] */
void lumap_put_cdata(lumap_encoder *e, int index, const lumap_step *step);

/* Writes the userdata at `index` if it is a library of C functions; false, and nothing written, if not. [-0, +0] */
bool lumap_put_library(lumap_encoder *e, int index, const lumap_step *step);

/* On the caller's side, with the log as the sink and between two records: writes the declarations that the log does not
 * have. [-0, +0] */
void lumap_put_declarations(lumap_encoder *e);

/* Read what stands behind the tags CDATA, CTYPE, LIBRARY; push the value. [-0, +1] */
void lumap_get_cdata(lumap_decoder *d, unsigned tag, uint64_t offset);
void lumap_get_ctype(lumap_decoder *d);
void lumap_get_library(lumap_decoder *d);

/* Reads the declaration of a DECLARE record and makes it in this state. [-0, +0] */
void lumap_get_declaration(lumap_decoder *d);

/* What the C type at `index`, which has a struct, union or enum in it, is found by in the map of a scope. [-0, +0] */
const void *lumap_cdata_type_key(lua_State *L, int index);

/* Pushes what a registered class at `index` is found by: the number of a C type, else the value itself. [-0, +1] */
void lumap_cdata_push_class_key(lua_State *L, int index);

/* Is the value at `index` a C type whose objects can have a registered class? [-0, +0] */
bool lumap_cdata_is_class(lua_State *L, int index);

#endif
