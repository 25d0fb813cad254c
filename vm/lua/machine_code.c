/* SPDX-License-Identifier: MIT */
#include "lua/machine_code.h"

#include <stdlib.h>

#if LUMAP_VM_IS_LUAJIT

/* An area begins with this. */
typedef struct area {
  const struct area *next;
  size_t size;
} area;

/* What lies at the place: the newest area, where its next free byte is from above and from below, its size, and that of
 * all areas. */
typedef struct areas {
  const area *newest;
  uintptr_t top, bottom;
  size_t size, all_sizes;
} areas;

/* Gives memory, and notes the size of the first block, which is the one that begins with the main thread. */
static void *note_first(void *data, void *block, size_t old_size, size_t new_size) {
  size_t *first = data;
  (void)old_size;
  if (new_size == 0) {
    free(block);
    return NULL;
  }
  if (*first == 0) *first = new_size;
  return realloc(block, new_size);
}

/* Compiles a loop, and gives the address of its machine code. */
static const char loop[] = "local sum = 0\n"
                           "for i = 1, 200 do sum = sum + i end\n"
                           "return (select(2, require('jit.util').tracemc(1)))";

static int compile_loop(lua_State *L) {
  uintptr_t *address = lua_touserdata(L, 1);
  luaL_openlibs(L);
  if (luaL_loadbuffer(L, loop, sizeof loop - 1, "=loop") != 0) return lua_error(L);
  lua_call(L, 0, 1);
  *address = (uintptr_t)lua_tonumber(L, -1);
  return 0;
}

/* `at` may be anything. In a state with one area all of this holds, and `newest` is looked at last. */
static bool is_place(const areas *at, uintptr_t address) {
  uintptr_t base = (uintptr_t)at->newest;
  if (base == 0 || base % 4096 != 0 || at->size < 4096 || at->size != at->all_sizes) return false;
  if (address <= base || address - base >= at->size) return false;
  if (at->top <= base || at->top - base > at->size || at->bottom <= base || at->bottom > at->top) return false;
  return at->newest->next == NULL && at->newest->size == at->size;
}

size_t lumap_machine_code_place(void) {
  size_t size = 0, place = 0;
  uintptr_t address = 0;
  lua_State *L = lua_newstate(note_first, &size);
  if (!L) return 0;
  if (lumap_protected_call(L, compile_loop, &address) == 0 && address)
    for (size_t at = sizeof(void *); at + sizeof(areas) <= size; at += sizeof(void *))
      if (is_place((const areas *)((const char *)L + at), address)) {
        place = at;
        break;
      }
  lua_close(L);
  return place;
}

bool lumap_machine_code_holds(const lua_State *main, size_t place, uintptr_t address) {
  const areas *found = (const areas *)((const char *)main + place);
  if (place == 0) return false;
  for (const area *one = found->newest; one; one = one->next)
    if (address - (uintptr_t)one < one->size) return true;
  return false;
}

#else

size_t lumap_machine_code_place(void) {
  return 0;
}

bool lumap_machine_code_holds(const lua_State *main, size_t place, uintptr_t address) {
  (void)main;
  (void)place;
  (void)address;
  return false;
}

#endif
