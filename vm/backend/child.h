/* SPDX-License-Identifier: MIT
 *
 * child.h - how process.c starts what child.c is: the argument and the descriptors. Nobody else includes this.
 */
#ifndef LUMAP_BACKEND_CHILD_H
#define LUMAP_BACKEND_CHILD_H

#include "backend/backend.h"

/* The first argument: this, then the parent's process id. The child changes its last character once it serves. */
#define LUMAP_CHILD_ARGUMENT "--lumap-worker="

enum {
  LUMAP_CHILD_CHANNEL = 3, /* a stream socket that carries frames */
  LUMAP_CHILD_CONTROL = 4, /* shared memory with a lumap_control */
};

/* The same life in a copy of the parent, over the channel. Does not return. */
_Noreturn void lumap_child_copy_main(lumap_crew *crew, const lumap_worker *worker, int channel, int parent);

/* In a copy of the parent: closes what the crew has open there. Its children are those of the parent, and for this
 * process there are none. */
void lumap_process_crew_abandon(lumap_crew *crew);

#endif
