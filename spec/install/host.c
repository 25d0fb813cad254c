/* SPDX-License-Identifier: MIT
 *
 * The smallest host program, for install_spec.lua: runs the Lua code given as its first argument, with the others as
 * `...`, and shows that the functions of lua.h reach the same state.
 */
#include <lumap.h>

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  char message[256] = "";
  lumap *runtime = lumap_open(NULL, message, sizeof message);
  int failed = !runtime || argc < 2;
  if (!failed) {
    lua_pushstring(lumap_state(runtime), lumap_vm());
    lua_setglobal(lumap_state(runtime), "vm");
    failed = lumap_run_string(runtime, argv[1], strlen(argv[1]), "=host", argc - 2, argv + 2) != LUMAP_OK;
  }
  if (failed) fprintf(stderr, "host: %s\n", runtime ? lumap_error_message(runtime) : message);
  lumap_close(runtime);
  return failed;
}
