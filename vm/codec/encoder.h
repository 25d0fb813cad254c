/* SPDX-License-Identifier: MIT
 *
 * encoder.h - the codec's own parts, not for others. Of the encoder: encode.c (values), met.c (what was met),
 * encode_table.c and encode_direct.c (what is in a table), function.c, log.c, cdata.c, additions.c. Of the decoder:
 * decode.c, decode_table.c, decode_direct.c, function.c, cdata.c.
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

enum {
  LUMAP_SHAPES = 64,      /* shapes that the encoder knows at a time: a power of two */
  LUMAP_SHAPE_KEYS = 32,  /* keys of a shape at most */
  LUMAP_TEXTS = 256,      /* slots for strings that come again */
  LUMAP_TEXT_SHORTEST = 2 /* bytes of a string that is worth a slot; the longest is LUMAP_TEXT_UNIQUE or 63 */
};

/* Keys of tables, in the order in which they lie in memory. Written when it is met the second time. */
typedef struct lumap_shape {
  uint64_t stamp; /* lumap_encoder.stamp when it was met */
  uint64_t hash;  /* of the keys, as find_keys makes it */
  uint32_t number;
  uint32_t count;
  bool written;
  const void *keys[LUMAP_SHAPE_KEYS];
} lumap_shape;

/* A string in the place that its address leads to. Written into the reader's slot when it is met the second time. */
typedef struct lumap_text_slot {
  const void *text;
  uint64_t stamp;
  bool written;
} lumap_text_slot;

/* A long string that is not copied into the message's bytes: it belongs there at `at`. */
typedef struct lumap_piece {
  size_t at;
  uint64_t behind; /* offset of the byte that follows the string */
} lumap_piece;

enum {
  LUMAP_PIECES = 32,            /* at most in a message; further strings are copied */
  LUMAP_PIECE_LEAST = 64 * 1024 /* bytes from which on a copy costs more than a piece */
};

/* A table of the value that is being written: see lumap_meet. */
typedef struct lumap_met_table {
  const lumap_table *table;
  uint64_t offset;
} lumap_met_table;

/* Values on the Lua stack: some a level of nesting, and some more. Few values are nested deeply, and a stack for all
   levels that are allowed would take a third of a worker's memory: there is room for so many at first, and for all from
   there on. */
enum {
  LUMAP_FIRST_LEVELS = 20,
  LUMAP_SLOTS_TO_ENCODE = 8,
  LUMAP_SLOTS_TO_DECODE = 6,
  LUMAP_SLOTS_BESIDE = 40,
  LUMAP_STACK_TO_ENCODE = LUMAP_FIRST_LEVELS * LUMAP_SLOTS_TO_ENCODE + LUMAP_SLOTS_BESIDE,
  LUMAP_STACK_TO_DECODE = LUMAP_FIRST_LEVELS * LUMAP_SLOTS_TO_DECODE + LUMAP_SLOTS_BESIDE
};

struct lumap_encoder {
  lua_State *L;
  lumap_sink sink, home; /* where bytes go; where they go between values */
  size_t globals_mark;   /* names of globals to write before that value */
  size_t mark, log_mark; /* sizes of the message and the log before the value that is being written */
  lumap_map message;     /* objects of the value: offset << 8 | number of the upvalue, 0 for others */
  lumap_met_table *met;  /* those of them that are tables, as far as they are numbered */
  size_t met_count, met_room;
  size_t met_limit; /* how many there may be: met_room, or 0 when tables are not numbered */
  bool numbers;     /* tables may be numbered: no collection can have come between */
  bool plain;       /* no table is more than data */
  bool rests;       /* the collector has been stopped */
  lumap_scope *scope;
  int scope_index;
  lumap_names *names; /* NULL: nothing goes by name */
  bool knows_names;   /* they are up to date */
  /* Tables that arrive as the reader's globals: the state's, and those of the call that a worker is in; or NULL. */
  const void *globals, *environment;
  unsigned flags;
  unsigned depth;
  unsigned packing;    /* levels of values that pack functions gave: unpack needs them whole */
  bool runs_user_code; /* a pack function runs: this encoder is taken */
  int number;          /* among the state's encoders */
  uint32_t kept;       /* objects that the list in the encoder's own table keeps alive */
  /* Tables where they lie. NULL: not here, everything goes through the C API. */
  lumap_slot *scratch;
  int scratch_index;
  const void *plain_metatable; /* the last one that was seen to belong to no registered class */
  const unsigned char *limit;  /* encode_direct.c: a cursor beyond has too little room */
  uint64_t origin;             /* added to a cursor it gives an offset */
  uint64_t others;             /* values that were written by other ways meanwhile */
  /* Messages that become a Lua string: their bytes, kept from one to the next, and what is put between them. */
  lumap_bytes own;
  lumap_piece pieces[LUMAP_PIECES];
  int piece_count, pieces_index; /* pieces_index: stack index of the list of strings; 0: strings are copied */
  /* What this message has said, or seen once. Entries of other stamps are of other messages. */
  uint64_t stamp;
  uint32_t shape_count, shape_mark;             /* now; before the value that is being written */
  lumap_shape *last_shape[LUMAP_DEPTH_ALLOWED]; /* by depth */
  lumap_shape shapes[LUMAP_SHAPES];
  lumap_text_slot texts[LUMAP_TEXTS];
};

/* Raises "not enough memory" the way the VM does, after a buffer could not grow. */
int lumap_encoder_no_memory(lumap_encoder *e);

static inline bool lumap_encoder_is_globals(const lumap_encoder *e, const void *table) {
  return table && (table == e->globals || table == e->environment);
}

static inline uint64_t lumap_sink_offset(const lumap_sink *sink) {
  return sink->base + sink->out->size;
}

/* One level deeper. Raises an error when there is no memory for the stack. [-0, +0] */
static inline void lumap_encoder_deepen(lumap_encoder *e) {
  if (++e->depth == LUMAP_FIRST_LEVELS)
    luaL_checkstack(e->L, LUMAP_DEPTH_ALLOWED * LUMAP_SLOTS_TO_ENCODE + LUMAP_SLOTS_BESIDE, "no room to encode");
}

void lumap_put_value(lumap_encoder *e, int index, const lumap_step *step);

/* Writes the value at `index` as a record of the call's log, in the midst of a message. */
void lumap_put_in_log(lumap_encoder *e, unsigned record, int index, const lumap_step *step);

/* If the object at `index` is of a registered class, writes what its pack function gives. What the class is found by, a
 * metatable or the number of a C type, is on top. */
bool lumap_put_custom(lumap_encoder *e, int index, const lumap_step *step);
/* Writes the table at `index`, which has been remembered: its tag (unless `fill`: a FILL stands for it) and all behind
 * it. `metatable` is a stack index or 0. */
void lumap_put_table_parts(lumap_encoder *e, int index, int metatable, bool fill, const lumap_step *step);

/* Writes the metatable at `index` of a table that has been written. */
void lumap_put_metatable(lumap_encoder *e, int index, const lumap_step *step);

/* Writes the function at `index`, which has no name and has not been met. */
void lumap_put_function(lumap_encoder *e, int index, const lumap_step *step);

/* Writes a string, `text` being its address: those that come again are referred to. */
void lumap_put_text(lumap_encoder *e, const void *text, const char *bytes, size_t size);

/* Which slot a string belongs in, and whether one of this size may be in a slot at all. */
static inline size_t lumap_text_slot_number(const void *text) {
  return (size_t)(((uintptr_t)text >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 56) % LUMAP_TEXTS;
}
static inline bool lumap_text_has_slot(const lumap_encoder *e, size_t size) {
  return size >= LUMAP_TEXT_SHORTEST && size <= 63 && size <= LUMAP_TEXT_UNIQUE && !e->sink.is_log;
}

/* Tables announced by DEFERRED, until none is left. */
void lumap_put_deferred(lumap_encoder *e);

/* The state's encoder, bound to a scope or to plain use, without a sink. It needs the collector to rest until the last
 * value is written. [-0, +2] */
lumap_encoder *lumap_encoder_bind(lua_State *L, int scope, unsigned flags);

/* Before anything that may have a name is written. */
void lumap_encoder_need_names(lumap_encoder *e);

/* Raises the VM's error if the sink had no memory. */
static inline void lumap_encoder_check_memory(lumap_encoder *e) {
  if (e->sink.out->failed) lumap_encoder_no_memory(e);
}

/* ---- log.c ---- */

/* `deferred` is a stack index that holds nil. */
lumap_sink lumap_log_sink(lumap_encoder *e, int deferred);

/* How many globals are noted and not written. */
size_t lumap_log_pending(lua_State *L, int scope);

/* Takes back what the log has gained since it had `size` bytes and `globals` names to write. */
void lumap_log_rewind(lua_State *L, int index, size_t size, size_t globals);

/* ---- what was met (met.c) ---- */

/* Keeps the value at `index` alive until the message is done: its address is known to the message, and another object
 * must not get it when user code lets go of it. [-0, +0] */
void lumap_encoder_keep(lumap_encoder *e, int index);

/* The same for the keys on the way to a value: user code is about to run, and may take the tables apart, which are kept
 * since they have been met. */
void lumap_encoder_keep_way(lumap_encoder *e, const lumap_step *step);

/* From here on no address of what was kept may be in use. */
void lumap_encoder_forget_kept(lumap_encoder *e);

/* A new value: it refers to nothing that the message has already. */
void lumap_encoder_forget_objects(lumap_encoder *e);

/* From now on addresses are looked up, and what has one that is known stays alive. */
void lumap_encoder_stop_numbering(lumap_encoder *e);

/* Has a collection found out, since this was asked last, what nothing refers to? What it frees follows. [-0, +0] */
bool lumap_encoder_has_collected(lumap_encoder *e);

/* If the object, which is no table, has been met in this numbering, writes a reference to it. */
bool lumap_put_reference(lumap_encoder *e, const void *object);

/* Has the table been met in this numbering? Then `*offset` is where. */
bool lumap_has_met(lumap_encoder *e, const void *table, uint64_t *offset);

/* The same, and notes that it begins here if it has not been. For messages, and where tables are read where they lie.
 */
bool lumap_meet(lumap_encoder *e, const lumap_table *table, uint64_t *offset);

/* Collections may have come since tables were numbered: finds out. */
void lumap_encoder_check_numbers(lumap_encoder *e);

/* Writes REF to an object of this numbering, or another tag that takes an offset. */
void lumap_put_offset(lumap_encoder *e, unsigned tag, uint64_t offset);

/* Writes a table that lies in the VM's memory if nothing about it needs a second look; else false: nothing is written.
 */
bool lumap_put_plain_table(lumap_encoder *e, const lumap_table *table, const lumap_step *step);

/* The parts of a table that lies in the VM's memory and has been remembered; `flags` are META and SHARED as they go
 * into its tag. */
void lumap_put_parts_where_they_lie(lumap_encoder *e, const lumap_table *table, unsigned flags, bool fill,
                                    const lumap_step *step);

/* Pushes the encoder, as the state keeps it. [-0, +1] */
void lumap_encoder_push(lumap_encoder *e);

/* Stops the collector for the rest of the call that encodes. */
void lumap_encoder_rest(lumap_encoder *e);

/* Notes that the object at `index` begins here, in the log for as long as the call lasts. Returns its offset. */
uint64_t lumap_sink_remember(lumap_encoder *e, int index);

/* Something refers to the object at `offset`: sets SHARED in its tag. Raises if memory has run out. */
void lumap_sink_share(lumap_encoder *e, uint64_t offset);

/* SHARED for objects of the log: what refers to them may come when their bytes are gone. */
static inline unsigned lumap_sink_tag(const lumap_encoder *e, unsigned tag) {
  return e->sink.is_log ? tag | LUMAP_SHARED : tag;
}

/* ---- the decoder's own parts ---- */

/* Reads a table whose tag, TABLE or PACKED, has been read. With `fill` the table is on top already, else it is pushed.
 */
void lumap_get_table(lumap_decoder *d, unsigned tag, bool fill, uint64_t offset);

/* Reads a record whose tag has been read; pushes the table. */
void lumap_get_record(lumap_decoder *d, unsigned tag, uint64_t offset);

/* The same two where the layout is known: the body of the table on top, and a record. */
void lumap_get_body_where_it_lies(lumap_decoder *d);
void lumap_get_record_where_it_lies(lumap_decoder *d, unsigned tag);

/* Reads pairs, to their END, into the table on top. [-0, +0] */
void lumap_get_pairs(lumap_decoder *d);

/* Reads the metatable of the table on top. [-0, +0] */
void lumap_get_metatable(lumap_decoder *d);

/* Room for what is announced, but for no more values than there are bytes: not in this table, nor in all of the
 * message. A value takes a byte at least, so true claims are never cut. */
int lumap_decoder_room(lumap_decoder *d, uint64_t wanted);

/* What a reader knows of a shape: a userdata in its list of shapes. Where the layout is known a table that was made for
 * this many keys gets them by a copy of its nodes. */
struct lumap_known_shape {
  uint32_t number, count; /* keys */
  uint32_t node_count, free;
  bool chained;     /* as lumap_table_get_nodes has it */
  uint8_t places[]; /* node of each key; behind them, at the next multiple of eight, the nodes */
};

static inline lumap_node *lumap_shape_nodes(const lumap_known_shape *shape) {
  uintptr_t end = (uintptr_t)(shape->places + shape->count);
  return (lumap_node *)((end + 7) & ~(uintptr_t)7);
}

/* Reads the number of a shape, and the shape if it is a new one. Good as long as the decoder. [-0, +0] */
const lumap_known_shape *lumap_get_shape(lumap_decoder *d);

/* Pushes key `k` of the shape. [-0, +1] */
void lumap_push_shape_key(lumap_decoder *d, const lumap_known_shape *shape, uint32_t k);

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
/* The same for the object at `offset`, whose tag is `tag`: nil is what references to it give, too. [-1, +1] */
void lumap_decoder_fail_object(lumap_decoder *d, unsigned tag, uint64_t offset);

/* Raises "bad message at byte N: WHAT". */
int lumap_decoder_bad(lumap_decoder *d, const char *what);

/* One level deeper. Raises an error when that is too deep, or there is no memory for the stack. */
static inline void lumap_decoder_deepen(lumap_decoder *d) {
  if (++d->depth > LUMAP_DEPTH_ALLOWED) lumap_decoder_bad(d, "values nested too deeply");
  if (d->depth == LUMAP_FIRST_LEVELS)
    luaL_checkstack(d->L, LUMAP_DEPTH_ALLOWED * LUMAP_SLOTS_TO_DECODE + LUMAP_SLOTS_BESIDE, "no room to decode");
}

/* Raises an error if the input has ended. */
static inline void lumap_decoder_check(lumap_decoder *d) {
  if (d->in.failed) lumap_decoder_bad(d, "it ends too early");
}

#endif
