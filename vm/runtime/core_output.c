/* SPDX-License-Identifier: MIT
 *
 * core_output.c - print and writing in workers: each call reaches its file as a whole, and before it returns, so that
 * lines of several workers do not get into one another and a worker that dies takes none of its lines along.
 *
 * Only standard output and standard error are shared by workers; for other files the stock functions do their work.
 * Those are upvalues, and also decide what is returned: a write of nothing tells. One thing differs from theirs: a call
 * with an argument that cannot be written writes none of the others.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/names.h"
#include "os/os.h"
#include "runtime/core.h"

/* Upvalues of the functions below. */
enum { STOCK_WRITE = 1, STOCK_OUTPUT };

/* The text on top goes out; 0, or an errno value. A wait for a slow reader ends with what ends the item. */
static int write_text(lua_State *L, FILE *file) {
  lumap_runtime *outer = lumap_runtime_pumping(), *runtime = outer ? outer : lumap_runtime_get(L);
  size_t size;
  const char *text = lua_tolstring(L, -1, &size);
  return lumap_file_write(file, text, size, &runtime->interrupted);
}

/* print(...). As with the stock one, nobody hears of a failure. */
static int output_print(lua_State *L) {
  int count = lua_gettop(L);
  luaL_Buffer line;
  luaL_buffinit(L, &line);
  for (int i = 1; i <= count; i++) {
    if (i > 1) luaL_addlstring(&line, "\t", 1);
    lumap_push_printed(L, i);
    luaL_addvalue(&line);
  }
  luaL_addlstring(&line, "\n", 1);
  luaL_pushresult(&line);
  write_text(L, stdout);
  return 0;
}

/* Writes the arguments from `first` on to a standard file. The stock function, which is upvalue STOCK_WRITE, is given
   `handles` arguments, the handle or none. */
static int write_whole(lua_State *L, int number, int first, int handles) {
  int count = lua_gettop(L), failure;
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  for (int i = first; i <= count; i++) {
    lumap_push_written(L, i);
    luaL_addvalue(&text);
  }
  luaL_pushresult(&text);
  failure = write_text(L, number == 1 ? stdout : stderr);
  if (failure) {
    errno = failure;
    return luaL_fileresult(L, 0, NULL);
  }
  lua_pushvalue(L, lua_upvalueindex(STOCK_WRITE));
  if (handles) lua_pushvalue(L, 1);
  lua_call(L, handles, LUA_MULTRET);
  return lua_gettop(L) - count - 1;
}

static int call_stock(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(STOCK_WRITE));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* io.write(...) */
static int output_write(lua_State *L) {
  int number;
  lua_pushvalue(L, lua_upvalueindex(STOCK_OUTPUT));
  lua_call(L, 0, 1);
  number = lumap_standard_file(L, -1);
  lua_pop(L, 1);
  return number == 1 || number == 2 ? write_whole(L, number, 1, 0) : call_stock(L);
}

/* file:write(...) */
static int output_file_write(lua_State *L) {
  int number = lumap_standard_file(L, 1);
  return number == 1 || number == 2 ? write_whole(L, number, 2, 1) : call_stock(L);
}

void lumap_core_open_output(lua_State *L) {
  int top = lua_gettop(L);
  lua_pushcfunction(L, output_print);
  lumap_names_replace(L, "_G", "print");
  lumap_push_loaded(L);
  lua_getfield(L, -1, "io");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "write");
    lua_getfield(L, -2, "output");
    if (lua_iscfunction(L, -1) && lua_iscfunction(L, -2)) {
      lua_pushcclosure(L, output_write, 2);
      lumap_names_replace(L, "io", "write");
    }
    lua_settop(L, top);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    lua_getfield(L, -1, "__index");
    if (lua_istable(L, -1)) {
      lua_getfield(L, -1, "write");
      lua_pushcclosure(L, output_file_write, 1);
      lumap_names_replace(L, LUA_FILEHANDLE, "write");
    }
  }
  lua_settop(L, top);
}
