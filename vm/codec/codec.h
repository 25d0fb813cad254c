/* SPDX-License-Identifier: MIT
 *
 * codec.h - Lua values to bytes and back, as FORMAT.md describes. Knows no pool and no thread.
 *
 * Two ways of use:
 *   plain   codec.encode and codec.decode: data alone, hostile input allowed, functions only when asked for.
 *   call    parallel.map and its like: functions, classes and globals too. A *scope* on each side remembers what the
 *           call's log has said, so that nothing is said twice and what comes back is the caller's own object.
 *
 *     caller's scope --writes--> log --reads--> worker's scope
 *     messages (chunks of items, results) refer to objects of the log by their offset in it
 *
 * All functions run on the thread that uses the state, may raise Lua errors (lack of memory above all), and keep what
 * they own in userdata, so that an error leaks nothing. Bytes are never trusted, those of our own workers included.
 */
#ifndef LUMAP_CODEC_CODEC_H
#define LUMAP_CODEC_CODEC_H

#include "base/map.h"
#include "codec/names.h"
#include "codec/path.h"
#include "codec/wire.h"
#include "lua/maker.h"
#include "lua/state.h"

enum {
  LUMAP_DEPTH_NESTED = 100,          /* levels that the encoder nests before it defers a table: bounds the C stack */
  LUMAP_DEPTH_ALLOWED = 150,         /* levels that the decoder accepts */
  LUMAP_PACKED_LEAST = 64,           /* numbers in a list from which on it is packed */
  LUMAP_PACKED_MOST = INT32_MAX / 2, /* and up to which */
  LUMAP_FUNCTIONS_LOGGED = 65536     /* functions a log may hold; further ones go with each message that needs them */
};

/* Flags of plain use. SHARED: who reads the bytes gets what they refer to along with them. */
enum { LUMAP_CODEC_FUNCTIONS = 1, LUMAP_CODEC_SHARED = 2 };

/* ---- scopes ------------------------------------------------------------------------------------------------- */

typedef struct lumap_scope {
  lumap_map map;      /* object (or upvalue cell) of the log: its offset there << 8 | flags (or the cell's number) */
  uint64_t log_size;  /* bytes of the log's finished entries */
  lumap_bytes log;    /* the entry that is being written: caller's side */
  uint64_t named;     /* log_size when names were last brought up to date for the log, and one: caller's side */
  bool writes;        /* caller's side: the log can be added to */
  bool finds_globals; /* the globals that functions read are sent */
  bool has_effects;   /* what was read changed more than the call's own environment: worker's side */
  uint32_t functions; /* functions in the log */
  uint32_t declared;  /* declarations of C types and functions in the log: caller's side */
} lumap_scope;

/* Slots of the table that belongs to a scope. */
enum {
  LUMAP_SCOPE_OBJECTS = 1,     /* offset in the log -> object */
  LUMAP_SCOPE_CODES,           /* bytecode -> offset in the log: caller's side */
  LUMAP_SCOPE_CONSTANTS,       /* names for which additions to libraries were looked up -> true: caller's side */
  LUMAP_SCOPE_GLOBALS,         /* names that have been considered -> true: caller's side */
  LUMAP_SCOPE_PENDING_GLOBALS, /* list of those to write before the entry ends: caller's side */
  LUMAP_SCOPE_READERS,         /* each of those -> "the function at app.lua:12": caller's side */
  LUMAP_SCOPE_ENVIRONMENT,     /* table of globals of the call: worker's side */
};

/* Flags of an object in a map. */
enum {
  LUMAP_SCOPE_IS_CLASS = 1, /* it has served as a metatable, so it keeps its identity across states */
  LUMAP_SCOPE_IS_PACKED = 2 /* what its pack function gave is being written */
};

/* A new scope as a full userdata. For the worker's side the table on top is popped and becomes the environment of the
 * functions that are read. [-(0|1), +1] */
lumap_scope *lumap_scope_push(lua_State *L, bool writes);
/* The scope at `index`, or an argument error. [-0, +0] */
lumap_scope *lumap_scope_check(lua_State *L, int index);
/* The next object of the log is the one on top, which the other side has as well: nothing is written. Before the first
 * entry, in the same order on both sides. [-1, +0] */
void lumap_scope_know(lua_State *L, int index);
/* Pushes slot `slot` of the scope at `index`. [-0, +1] */
void lumap_scope_push_slot(lua_State *L, int index, int slot);

/* Caller's side: additions to libraries are looked up anew, since some that were noted are not sent after all. [-0, +0]
 */
void lumap_scope_forget_constants(lua_State *L, int index);

/* From now on this state runs the call whose scope is at `index`: its environment is what `_G` means to functions that
 * are sent and read; 0 ends that. [-0, +0] */
void lumap_scope_enter(lua_State *L, int index);
/* Pushes the environment of the call that runs, else the state's globals. [-0, +1] */
void lumap_scope_push_environment(lua_State *L);
/* Pushes the global whose name is at `index`, as the call that runs sees it. Raw: nothing runs. [-0, +1] */
void lumap_scope_push_global(lua_State *L, int index);

/* ---- encoding ----------------------------------------------------------------------------------------------- */

typedef struct lumap_encoder lumap_encoder;

/* lua_pcall for a function that encodes. The encoder stops the collector when it must; afterwards it runs again if it
 * ran before, whatever became of the call. All encoding happens inside such a call. */
int lumap_encode_call(lua_State *L, int arguments, int results);

/* Begins a message in `out`, behind what a header may have put there. `scope` is the stack index of a scope, or 0 for
 * plain use with `flags`. The encoder is the state's own and is good until the next one begins. Pushes three values
 * that must stay where they are while it is used. [-0, +3] */
lumap_encoder *lumap_encode_begin(lua_State *L, lumap_bytes *out, int scope, unsigned flags);

/* The same for plain use, with bytes of the state's own that begin with the version: lumap_encode_push_string pushes
 * the message. [-0, +4] */
lumap_encoder *lumap_encode_begin_string(lua_State *L, unsigned flags);
/* [-0, +1] */
void lumap_encode_push_string(lumap_encoder *encoder);

/* Appends the value at `index`, which shares nothing with those before it: items do not share their parts, whatever
 * chunk they travel in. Refusals call it `label`, or "label[number]" when number is above 0. After an error the
 * message and the log may hold part of the value: lumap_encode_undo takes it out. [-0, +0] */
void lumap_encode_value(lumap_encoder *encoder, int index, const char *label, int number);

/* Appends nil, a boolean or a number, as lumap_encode_value would, and needs no encoder: where a message holds nothing
 * else, or begins so, a state that has none yet is spared the memory and time for one. False, and nothing appended, for
 * other types. Raises nothing: lack of memory is in `out->failed`. [-0, +0] */
bool lumap_put_scalar(lumap_bytes *out, lua_State *L, int index);

/* Goes on with a message in another C function, whose scope must be at the same stack index. Pushes two values that
 * must stay where they are. [-0, +2] */
void lumap_encode_resume(lumap_encoder *encoder, lua_State *L);

/* Takes out what the last lumap_encode_value wrote, after it raised an error, so that the message can go on. `scope` is
 * the stack index of the encoder's scope in `L`. [-0, +0] */
void lumap_encode_undo(lumap_encoder *encoder, lua_State *L, int scope);

/* Appends records to the log of the scope at `scope`, then what they need. [-0, +0] */
void lumap_log_value(lua_State *L, int scope, int index, const char *label);
void lumap_log_global(lua_State *L, int scope, const char *name, int index, const char *label);

/* Appends all registered classes that can cross. [-0, +0] */
void lumap_log_classes(lua_State *L, int scope);

/* Appends package.path and package.cpath, which the reader makes its own before it reads on. [-0, +0] */
void lumap_log_paths(lua_State *L, int scope);

/* Writes the globals that the functions in the log read, and the additions to libraries that they use, that have not
 * been written. Call before the entry is handed over. [-0, +0] */
void lumap_log_finish(lua_State *L, int scope);

/* ---- decoding ----------------------------------------------------------------------------------------------- */

typedef struct lumap_known_shape lumap_known_shape;
enum { LUMAP_SHAPES_AT_HAND = 32 };

typedef struct lumap_decoder {
  lua_State *L;
  lumap_reader in;
  const lumap_references *references; /* what the bytes refer to; NULL: nothing. Borrowed; set after begin */
  uint64_t base;      /* offset of in.data within its numbering: 0, or the log's size before this entry */
  lumap_scope *scope; /* NULL in plain use */
  int scope_index;
  int objects; /* stack index of offset -> object; nil until the first is met */
  int failure; /* stack index of the first failure that let decoding go on, or nil */
  int shapes;  /* stack index of the list of shapes; nil until the first is met */
  int texts;   /* stack index of slot + 1 -> string; nil until the first is met */
  int model;   /* stack index of the maker's model, or nil */
  uint32_t shape_count;
  const lumap_known_shape *at_hand[LUMAP_SHAPES_AT_HAND]; /* the first of them */
  const lumap_table *text_table;                          /* the list at `texts`, where the layout is known */
  uint64_t others;                                        /* values that were read by other ways than where they lie */
  bool direct;                                            /* tables are written where they lie (lua/layout.h) */
  lumap_maker maker;
  unsigned flags;
  unsigned depth;
  uint64_t deferred; /* tables announced and not filled yet */
  uint64_t filled;   /* offset of the one that was filled last */
  uint64_t room;     /* slots that tables may still get before there are values for them */
  uint64_t owed;     /* values that must still follow for the records that are being read */
  bool in_log;
} lumap_decoder;

/* Begins reading `size` bytes, borrowed while the decoder is used. Pushes five values that must stay where they are.
 * The collector must rest until the last value is read. [-0, +5] */
void lumap_decode_begin(lumap_decoder *decoder, lua_State *L, const void *bytes, size_t size, int scope,
                        unsigned flags);

/* Pushes the next value. Bad bytes raise an error that names the offset. In a call, what could not be made here (a
 * module that is missing) is nil and leaves a message: see lumap_decode_failure. [-0, +1] */
void lumap_decode_value(lumap_decoder *decoder);

/* If something could not be made since the last call, pushes the message and returns true. [-0, +0 or +1] */
bool lumap_decode_failure(lumap_decoder *decoder);

/* Reads one entry of a log, of `size` bytes that refer to `references` (may be NULL), into the worker's scope at
 * `scope`. Values go to the table at `values`, appended to its
 * list; globals into the scope's environment; additions to libraries into the list `additions` of that table, for the
 * caller to put in place. [-0, +0] */
void lumap_log_read(lua_State *L, int scope, const void *bytes, size_t size, const lumap_references *references,
                    int values);

/* ---- registered classes ------------------------------------------------------------------------------------- */

/* codec.register: `name` at index 1, class at 2 (a metatable or a C type), pack at 3, unpack at 4, checked by the
 * caller. Class and pack may be nil where they become known with the first object. [-0, +0] */
void lumap_classes_register(lua_State *L, int name, int metatable, int pack, int unpack);

/* The same for a class that the log tells of. `unpack` may be a string, the reason why the class does not cross: then
 * one that the log told of earlier is forgotten, one that was registered here stays. [-0, +0] */
void lumap_classes_receive(lua_State *L, int name, int metatable, int pack, int unpack);

/* Pushes the record { name, class, pack, unpack } of the class whose metatable, or number as a C type, is at `index`;
 * false if there is none. [-0, +0 or +1] */
bool lumap_classes_push_by_metatable(lua_State *L, int index);
/* The same for the name on top, which is replaced by the record, or popped. [-1, +0 or +1] */
bool lumap_classes_push_by_name(lua_State *L);
/* Pushes the table of all records, by name (a string) and by metatable; false if no class was ever registered.
 * [-0, +0 or +1] */
bool lumap_classes_push_names(lua_State *L);
enum { LUMAP_CLASS_NAME = 1, LUMAP_CLASS_METATABLE, LUMAP_CLASS_PACK, LUMAP_CLASS_UNPACK, LUMAP_CLASS_IS_RECEIVED };

#endif
