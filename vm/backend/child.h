/* SPDX-License-Identifier: MIT
 *
 * child.h - how process.c starts what child.c is: the argument and the descriptors. Nobody else includes this.
 */
#ifndef LUMAP_BACKEND_CHILD_H
#define LUMAP_BACKEND_CHILD_H

/* The first argument: this, then the parent's process id. The child changes its last character once it serves. */
#define LUMAP_CHILD_ARGUMENT "--lumap-worker="

enum {
  LUMAP_CHILD_CHANNEL = 3, /* a stream socket that carries frames */
  LUMAP_CHILD_CONTROL = 4, /* shared memory with a lumap_control */
};

#endif
