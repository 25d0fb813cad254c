/* SPDX-License-Identifier: MIT
 *
 * machine_code.h - is this address in the machine code that LuaJIT made for a state? Compiled loops run no hooks, so
 * the only way to end one is to leave it in a signal handler, and that is sound only while the thread is in machine
 * code: then it is in no C function, holds no lock, and the heap's lists are whole enough for lua_close.
 *
 * LuaJIT tells no one where its areas are. They are on a list whose head lies at a fixed place within the block that
 * the main thread is the beginning of. The place belongs to the VM's build; it is found by looking for what is known
 * of it, not taken from a header, so another build of 2.1 works, or is recognised as one that does not.
 */
#ifndef LUMAP_LUA_MACHINE_CODE_H
#define LUMAP_LUA_MACHINE_CODE_H

#include "lua/compat.h"

/* Where the head of the list lies, counted from a state's main thread. 0: this VM has no machine code, or none that
 * can be found. Makes a state of its own for the search: some hundred microseconds. */
size_t lumap_machine_code_place(void);

/* Does `address` lie in machine code of the state whose main thread is `main`? False for a place of 0. Signal handlers
 * on the state's own thread may call it. */
bool lumap_machine_code_holds(const lua_State *main, size_t place, uintptr_t address);

#endif
