/* SPDX-License-Identifier: MIT
 *
 * path.h - where in a value the encoder is, for the one moment in which something cannot be sent.
 *
 * A path is a chain of steps on the C stack, innermost first: nothing is built until it is asked for. Stack indexes
 * are those of the state that encodes, and stay valid while the step does.
 */
#ifndef LUMAP_CODEC_PATH_H
#define LUMAP_CODEC_PATH_H

#include "lua/layout.h"

typedef enum lumap_step_kind {
  LUMAP_STEP_ROOT,     /* text: "result"; number above 0: "items[3]" */
  LUMAP_STEP_FIELD,    /* index: stack index of the key */
  LUMAP_STEP_SLOT,     /* a lumap_slot_step: a field of a table that is on no stack */
  LUMAP_STEP_ITEM,     /* the same of a list; number: its index */
  LUMAP_STEP_KEY,      /* the key itself; index: its stack index */
  LUMAP_STEP_SLOT_KEY, /* the same in a lumap_slot_step */
  LUMAP_STEP_METATABLE,
  LUMAP_STEP_UPVALUE,     /* index: stack index of the function; number: which */
  LUMAP_STEP_ENVIRONMENT, /* index: stack index of the function */
  LUMAP_STEP_GLOBAL,      /* text: its name; reader: "the function at app.lua:12" */
  LUMAP_STEP_DEFERRED,    /* a root that lies deep: index: stack index of the list of deferred tables; number: which */
  LUMAP_STEP_PACKED,      /* what a registered class packed */
} lumap_step_kind;

typedef struct lumap_step {
  const struct lumap_step *up; /* NULL at the root */
  lumap_step_kind kind;
  int index;
  int number;
  const char *text;
  const char *reader;
} lumap_step;

/* A step through a table where it lies (lua/layout.h). */
typedef struct lumap_slot_step {
  lumap_step step;
  lumap_slot key;
  bool kept; /* the key is safe from the collector: user code may run */
} lumap_slot_step;

/* Pushes "items[3].conn.log", "upvalue 'db' of the function at app.lua:12"... [-0, +1] */
void lumap_path_push(lua_State *L, const lumap_step *step);

/* The part of a path behind the deferred table it begins at, whose number goes to `*deferred`; the whole path, and 0,
 * when it begins at none. Parts are short, however deep the value: the whole is put together when it is asked for. [-0,
 * +1] */
void lumap_path_push_part(lua_State *L, const lumap_step *step, int *deferred);

/* Slots of an entry in the list of deferred tables, which entry n begins at (n - 1) * LUMAP_DEFERRED_SLOTS. */
enum {
  LUMAP_DEFERRED_TABLE = 1,
  LUMAP_DEFERRED_OFFSET,
  LUMAP_DEFERRED_PATH,
  LUMAP_DEFERRED_UP,
  LUMAP_DEFERRED_SLOTS = 4
};

/* Pushes "the function at app.lua:12" for the function at `index`. [-0, +1] */
void lumap_path_push_function(lua_State *L, int index);

/* Raises "cannot send PATH (TYPE): REMEDY" for the value at `index`. Does not return. */
int lumap_path_refuse(lua_State *L, const lumap_step *step, int index);

#endif
