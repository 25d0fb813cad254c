/* SPDX-License-Identifier: MIT
 *
 * encoder.h - the encoder's own parts, shared by encode.c (values, tables) and function.c (functions). Not for others.
 */
#ifndef LUMAP_CODEC_ENCODER_H
#define LUMAP_CODEC_ENCODER_H

#include "codec/codec.h"

/* Where bytes go now: the message, or the log of its call while an object that belongs there is written. */
typedef struct lumap_sink {
  lumap_bytes *out;
  lumap_map *seen;
  uint64_t base; /* offset that the first byte of `out` stands for */
  bool is_log;
  int deferred; /* stack index of the list of deferred tables (path.h), nil before the first */
  uint64_t deferred_count, deferred_done;
} lumap_sink;

struct lumap_encoder {
  lua_State *L;
  lumap_sink sink, home; /* where bytes go; where they go between values */
  size_t globals_mark;   /* names of globals to write before that value */
  size_t mark, log_mark; /* sizes of the message and the log before the value that is being written */
  lumap_map message;     /* objects of the message: offset << 8 | number of the upvalue, 0 for others */
  lumap_scope *scope;
  int scope_index;
  lumap_names *names; /* NULL: nothing goes by name */
  /* Tables that arrive as the reader's globals: the state's, and those of the call that a worker is in; or NULL. */
  const void *globals, *environment;
  unsigned flags;
  unsigned depth;
  unsigned packing;    /* levels of values that pack functions gave: unpack needs them whole */
  bool runs_user_code; /* a pack function runs: this encoder is taken */
  bool keeps_packed;   /* the registry holds, under this encoder's address, what pack functions gave */
};

static inline bool lumap_encoder_is_globals(const lumap_encoder *e, const void *table) {
  return table && (table == e->globals || table == e->environment);
}

static inline uint64_t lumap_sink_offset(const lumap_sink *sink) {
  return sink->base + sink->out->size;
}

void lumap_put_value(lumap_encoder *e, int index, const lumap_step *step);

/* Writes the value at `index` as a record of the call's log, in the midst of a message. */
void lumap_put_in_log(lumap_encoder *e, unsigned record, int index, const lumap_step *step);

/* If the object at `index` is of a registered class, writes what its pack function gives. What the class is found by, a
 * metatable or the number of a C type, is on top. */
bool lumap_put_custom(lumap_encoder *e, int index, const lumap_step *step);

/* Writes the function at `index`, which has no name and has not been met. */
void lumap_put_function(lumap_encoder *e, int index, const lumap_step *step);

/* If the object has been met in this numbering, writes a reference to it. */
bool lumap_put_reference(lumap_encoder *e, const void *object);

/* Notes that the object at `index` begins here, in the log for as long as the call lasts. Returns its offset. */
uint64_t lumap_sink_remember(lumap_encoder *e, int index);

/* Something refers to the object at `offset`: sets SHARED in its tag. Raises if memory has run out. */
void lumap_sink_share(lumap_encoder *e, uint64_t offset);

/* SHARED for objects of the log: what refers to them may come when their bytes are gone. */
static inline unsigned lumap_sink_tag(const lumap_encoder *e, unsigned tag) {
  return e->sink.is_log ? tag | LUMAP_SHARED : tag;
}

/* Raises "not enough memory" the way the VM does, after a buffer could not grow. */
int lumap_encoder_no_memory(lumap_encoder *e);

/* ---- the decoder's own parts, shared by decode.c and function.c ---- */

/* Reads a function whose tag has been read; pushes it. */
void lumap_get_function(lumap_decoder *d, unsigned tag, uint64_t offset);

/* Pushes the next value, one level deeper. */
void lumap_decode_nested(lumap_decoder *d);

/* Notes the value on top as the object at `offset`. */
void lumap_decoder_remember(lumap_decoder *d, uint64_t offset);

/* Pushes the object that was noted at `offset`; false, and nothing pushed, if there is none. */
bool lumap_decoder_push_object(lumap_decoder *d, uint64_t offset);

/* Pushes the table that stands for GLOBALS here. */
void lumap_decoder_push_globals(lumap_decoder *d);

/* Something cannot be made here; its message is on top. A call goes on with nil in its place: only the item that needs
 * it fails. Plain use raises. [-1, +0] */
void lumap_decoder_fail(lumap_decoder *d);

/* Raises "bad message at byte N: WHAT". */
int lumap_decoder_bad(lumap_decoder *d, const char *what);

#endif
