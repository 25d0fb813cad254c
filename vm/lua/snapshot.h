/* SPDX-License-Identifier: MIT
 *
 * snapshot.h - what a table holds, written down in the cheapest way there is: for states that note much when they are
 * opened and most often never look at it again.
 *
 * A snapshot is one value, which keeps keys and values alive. What it is depends on what the state knows of the VM. The
 * state's threading rule.
 */
#ifndef LUMAP_LUA_SNAPSHOT_H
#define LUMAP_LUA_SNAPSHOT_H

#include "lua/compat.h"

/* Pushes a snapshot of the table at `index`: raw fields, in no order. [-0, +1] */
void lumap_snapshot_push(lua_State *L, int index);

/* Replaces the snapshot on top by a table with these fields. [-1, +1] */
void lumap_snapshot_open(lua_State *L);

/* Replaces in the snapshot at `index` the value of the key below the top by the value on top, where it has that key.
 * [-2, +0] */
void lumap_snapshot_set(lua_State *L, int index);

#endif
