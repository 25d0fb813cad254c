/* SPDX-License-Identifier: MIT
 *
 * bytecode.c - reads dumps for the names of globals. Every read is checked against the end, and a count that does not
 * fit ends the walk: what is not understood is never guessed.
 *
 * Code is read from its first instruction to its last, whatever it jumps over. What a register holds is known from the
 * instruction that filled it, until another one names that register first; both VMs' compilers put the instructions of
 * one access side by side.
 */
#include "lua/bytecode.h"

#include <string.h>

typedef struct cursor {
  const unsigned char *at, *end;
  bool failed;
} cursor;

static const unsigned char *skip(cursor *in, uint64_t size) {
  const unsigned char *bytes = in->at;
  if (in->failed || size > (uint64_t)(in->end - in->at)) {
    in->failed = true;
    return NULL;
  }
  in->at += size;
  return bytes;
}

static unsigned byte(cursor *in) {
  const unsigned char *p = skip(in, 1);
  return p ? *p : 0;
}

static uint32_t instruction(const unsigned char *code, uint64_t index) {
  uint32_t word;
  memcpy(&word, code + index * sizeof word, sizeof word);
  return word;
}

typedef struct text {
  const char *bytes;
  size_t size;
} text;

typedef struct scanner {
  lua_State *L;
  const lumap_globals_use *use;
  lumap_name_found found;
  void *data;
} scanner;

/* What registers hold, as far as it matters. */
typedef struct registers {
  bool globals[256];
  uint64_t constant[256]; /* index + 1 of the string; 0: something else */
} registers;

static bool is_text(const text *string, const char *other) {
  return string->bytes && string->size == strlen(other) && memcmp(string->bytes, other, string->size) == 0;
}

/* A global is read whose name is constant `index`. True if that gives the table of globals itself. */
static bool report(const scanner *s, const text *constants, uint64_t count, uint64_t index) {
  if (index >= count || !constants[index].bytes) return false;
  s->found(s->data, LUMAP_NAME_GLOBAL, constants[index].bytes, constants[index].size);
  return is_text(&constants[index], "_G");
}

static void report_constants(const scanner *s, const text *constants, uint64_t count) {
  for (uint64_t i = 0; i < count; i++)
    if (constants[i].bytes) s->found(s->data, LUMAP_NAME_CONSTANT, constants[i].bytes, constants[i].size);
}

/* Scratch that the state owns, so that an error in `found` leaks nothing. [-0, +1] */
static text *push_texts(lua_State *L, cursor *in, uint64_t count) {
  /* Each constant is at least one byte: a count beyond the rest of the dump is damage. */
  if (count > (uint64_t)(in->end - in->at)) in->failed = true;
  if (in->failed) count = 0;
  luaL_checkstack(L, 4, "function nested too deeply");
  return lua_newuserdata(L, (size_t)(count ? count : 1) * sizeof(text));
}

typedef struct sample {
  unsigned char bytes[512];
  size_t size;
} sample;

static int write_sample(lua_State *L, const void *bytes, size_t size, void *data) {
  sample *out = data;
  (void)L;
  if (size > sizeof out->bytes - out->size) return 1;
  memcpy(out->bytes + out->size, bytes, size);
  out->size += size;
  return 0;
}

/* The dump of a one-line chunk. */
static void compile_sample(lua_State *L, const char *source, sample *out) {
  out->size = 0;
  if (luaL_loadbuffer(L, source, strlen(source), "=s") != 0 || lumap_dump(L, write_sample, out) != 0) lua_error(L);
  lua_pop(L, 1);
}

#if LUMAP_VM_IS_LUAJIT

/* LuaJIT's dump: "\x1bLJ" version, flags, [chunk name], then prototypes, children first, each behind its length:
     flags params framesize upvalues | constants numbers instructions | [debug size, first line, lines] |
     instructions | upvalues | collectable constants | numbers | debug info
   Collectable constant i of an instruction is the (size - 1 - i)th that is written. */

enum { HEAD_STRIPPED = 2, CONST_CHILD = 0, CONST_TABLE, CONST_I64, CONST_U64, CONST_COMPLEX, CONST_STRING };
enum { TABLE_INT = 3, TABLE_NUMBER = 4, TABLE_STRING = 5 };

static uint64_t leb(cursor *in) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    unsigned b = byte(in);
    value |= (uint64_t)(b & 0x7f) << shift;
    if (b < 0x80) return value;
  }
  in->failed = true;
  return 0;
}

static void skip_lebs(cursor *in, int count) {
  while (count-- > 0)
    leb(in);
}

static void skip_table_slot(cursor *in) {
  uint64_t type = leb(in);
  if (type == TABLE_INT)
    skip_lebs(in, 1);
  else if (type == TABLE_NUMBER)
    skip_lebs(in, 2);
  else if (type >= TABLE_STRING)
    skip(in, type - TABLE_STRING);
}

/* Reads one collectable constant; its text when it is a string, else an empty one. */
static text read_constant(cursor *in) {
  text string = {NULL, 0};
  uint64_t type = leb(in);
  if (type >= CONST_STRING) {
    string.size = (size_t)(type - CONST_STRING);
    string.bytes = (const char *)skip(in, string.size);
  } else if (type == CONST_TABLE) {
    uint64_t slots = leb(in);
    slots += 2 * leb(in);
    while (slots-- > 0 && !in->failed)
      skip_table_slot(in);
  } else if (type == CONST_I64 || type == CONST_U64) {
    skip_lebs(in, 2);
  } else if (type == CONST_COMPLEX) {
    skip_lebs(in, 4);
  }
  return string;
}

typedef struct opcodes {
  unsigned gget, uget, kstr, tgets, tgetv;
} opcodes;

/* `upvalues` tells which ones hold the table of globals; NULL: none does. */
static void scan_code(const scanner *s, const opcodes *op, const unsigned char *code, uint64_t size,
                      const text *constants, uint64_t count, const bool *upvalues) {
  registers now;
  memset(&now, 0, sizeof now);
  for (uint64_t i = 0; i < size; i++) {
    uint32_t word = instruction(code, i);
    unsigned operation = word & 0xff, a = word >> 8 & 0xff, c = word >> 16 & 0xff, b = word >> 24, d = word >> 16;
    bool globals = false;
    if (operation == op->gget && s->use->environment)
      globals = report(s, constants, count, d);
    else if (operation == op->uget && upvalues && d < 256)
      globals = upvalues[d];
    else if (operation == op->tgets && now.globals[b])
      globals = report(s, constants, count, c);
    else if (operation == op->tgetv && now.globals[b] && now.constant[c])
      globals = report(s, constants, count, now.constant[c] - 1);
    now.globals[a] = globals;
    now.constant[a] = operation == op->kstr ? (uint64_t)d + 1 : 0;
  }
}

/* Goes to the instructions of the prototype whose length has been read. */
static const unsigned char *find_code(cursor *in, bool stripped, uint64_t *constants, uint64_t *instructions) {
  unsigned upvalues;
  const unsigned char *code;
  skip(in, 3);
  upvalues = byte(in);
  *constants = leb(in);
  skip_lebs(in, 1);
  *instructions = leb(in);
  if (!stripped && leb(in) != 0) skip_lebs(in, 2);
  code = skip(in, *instructions * 4);
  skip(in, (uint64_t)upvalues * 2);
  return code;
}

static void scan_prototype(const scanner *s, const opcodes *op, cursor *in, bool stripped, bool outermost) {
  uint64_t constants, instructions;
  const unsigned char *code = find_code(in, stripped, &constants, &instructions);
  text *strings = push_texts(s->L, in, constants);
  for (uint64_t i = 0; i < constants && !in->failed; i++)
    strings[constants - 1 - i] = read_constant(in);
  if (!in->failed) {
    scan_code(s, op, code, instructions, strings, constants, outermost ? s->use->upvalues : NULL);
    report_constants(s, strings, constants);
  }
  lua_pop(s->L, 1);
}

/* Goes to the first prototype. */
static bool skip_head(cursor *in) {
  bool stripped;
  skip(in, 4);
  stripped = (leb(in) & HEAD_STRIPPED) != 0;
  if (!stripped) skip(in, leb(in));
  return stripped;
}

/* The outermost function's prototype is the last one. */
static bool scan(const scanner *s, const opcodes *op, const void *dump, size_t size) {
  cursor in = {dump, (const unsigned char *)dump + size, false};
  bool stripped = skip_head(&in);
  uint64_t length = leb(&in);
  while (length > 0 && !in.failed) {
    cursor prototype = in;
    if (!skip(&in, length)) return false;
    prototype.end = in.at;
    length = leb(&in);
    scan_prototype(s, op, &prototype, stripped, length == 0);
    if (prototype.failed) return false;
  }
  return !in.failed;
}

/* Instruction `index` of the first prototype of a sample, which is the innermost function. */
static unsigned learn(lua_State *L, const char *source, uint64_t index) {
  sample one;
  cursor in;
  uint64_t constants, instructions;
  const unsigned char *code;
  bool stripped;
  compile_sample(L, source, &one);
  in = (cursor){one.bytes, one.bytes + one.size, false};
  stripped = skip_head(&in);
  leb(&in);
  code = find_code(&in, stripped, &constants, &instructions);
  return code && index < instructions ? instruction(code, index) & 0xff : 0xff;
}

static opcodes *push_opcodes(lua_State *L) {
  static const char key;
  opcodes *op;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
  op = lua_touserdata(L, -1);
  if (op) return op;
  lua_pop(L, 1);
  op = lua_newuserdata(L, sizeof *op);
  op->gget = learn(L, "return x", 0);
  op->tgets = learn(L, "return x.y", 1);
  op->uget = learn(L, "local a return function() return a end", 0);
  op->kstr = learn(L, "local k = 'x' return k", 0);
  op->tgetv = learn(L, "local t, k return t[k]", 1);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  return op;
}

bool lumap_bytecode_names(lua_State *L, const void *dump, size_t size, const lumap_globals_use *use,
                          lumap_name_found found, void *data) {
  scanner s = {L, use, found, data};
  opcodes op = *push_opcodes(L);
  lua_pop(L, 1);
  return scan(&s, &op, dump, size);
}

#else

/* Lua 5.4's dump: a header of fixed size, the number of upvalues, then a function:
     source lines | params vararg stack | instructions | constants | upvalues | functions | debug information */

enum { HEADER = 4 + 1 + 1 + 6 + 3 + 8 + 8 };
enum { NUMBER_INTEGER = 0x03, STRING_SHORT = 0x04, NUMBER_FLOAT = 0x13, STRING_LONG = 0x14 };

typedef struct opcodes {
  unsigned gettabup, getupval, getfield, gettable, loadk, newtable, setlist, extraarg;
} opcodes;

/* Seven bits a byte, most significant first, the last one marked. */
static uint64_t size_field(cursor *in) {
  uint64_t value = 0;
  for (int i = 0; i < 10; i++) {
    unsigned b = byte(in);
    value = value << 7 | (b & 0x7f);
    if (b & 0x80) return value;
  }
  in->failed = true;
  return 0;
}

static text string_field(cursor *in) {
  text string = {NULL, 0};
  uint64_t size = size_field(in);
  if (size == 0) return string;
  string.size = (size_t)(size - 1);
  string.bytes = (const char *)skip(in, size - 1);
  return string;
}

static text read_constant(cursor *in) {
  text none = {NULL, 0};
  unsigned type = byte(in);
  if (type == STRING_SHORT || type == STRING_LONG) return string_field(in);
  if (type == NUMBER_INTEGER || type == NUMBER_FLOAT) skip(in, 8);
  return none;
}

/* LOADKX is too rare to learn: what else EXTRAARG stands behind is known. */
static bool is_load_of_extra(const opcodes *op, unsigned operation, uint32_t next) {
  return (next & 0x7f) == op->extraarg && operation != op->newtable && operation != op->setlist;
}

/* `upvalues` tells which ones hold the table of globals. Most names are read by one GETTABUP; long ones, and those
   behind 255 other constants, by GETUPVAL, LOADK (LOADKX behind 131,071) and GETTABLE. */
static void scan_code(const scanner *s, const opcodes *op, const unsigned char *code, uint64_t size,
                      const text *constants, uint64_t count, const bool *upvalues) {
  registers now;
  memset(&now, 0, sizeof now);
  for (uint64_t i = 0; i < size; i++) {
    uint32_t word = instruction(code, i), next = i + 1 < size ? instruction(code, i + 1) : 0;
    unsigned operation = word & 0x7f, a = word >> 7 & 0xff, b = word >> 16 & 0xff, c = word >> 24;
    bool globals = false;
    uint64_t constant = 0;
    if (operation == op->gettabup && upvalues[b])
      globals = report(s, constants, count, c);
    else if (operation == op->getupval)
      globals = upvalues[b];
    else if (operation == op->getfield && now.globals[b])
      globals = report(s, constants, count, c);
    else if (operation == op->gettable && now.globals[b] && now.constant[c])
      globals = report(s, constants, count, now.constant[c] - 1);
    else if (operation == op->loadk)
      constant = (uint64_t)(word >> 15) + 1;
    else if (is_load_of_extra(op, operation, next))
      constant = (uint64_t)(next >> 7) + 1;
    now.globals[a] = globals;
    now.constant[a] = constant;
    if ((next & 0x7f) == op->extraarg) i++;
  }
}

static void skip_debug_information(cursor *in) {
  uint64_t count;
  skip(in, size_field(in));
  for (count = size_field(in); count > 0 && !in->failed; count--) {
    size_field(in);
    size_field(in);
  }
  for (count = size_field(in); count > 0 && !in->failed; count--) {
    string_field(in);
    size_field(in);
    size_field(in);
  }
  for (count = size_field(in); count > 0 && !in->failed; count--)
    string_field(in);
}

/* Goes to the constants; pushes room for them. [-0, +1] */
static text *find_constants(lua_State *L, cursor *in, const unsigned char **code, uint64_t *size, uint64_t *count) {
  text *constants;
  string_field(in);
  size_field(in);
  size_field(in);
  skip(in, 3);
  *size = size_field(in);
  *code = skip(in, *size * 4);
  *count = size_field(in);
  constants = push_texts(L, in, *count);
  for (uint64_t i = 0; i < *count && !in->failed; i++)
    constants[i] = read_constant(in);
  return constants;
}

/* `outer` tells which upvalues of the enclosing function hold the table of globals; NULL: `s->use` tells of this one.
   A function's descriptions of its upvalues stand behind its code. */
static void scan_function(const scanner *s, const opcodes *op, cursor *in, const bool *outer) {
  uint64_t size, count, upvalues, functions;
  const unsigned char *code, *descriptions;
  bool holds_globals[256] = {false};
  text *constants = find_constants(s->L, in, &code, &size, &count);
  upvalues = size_field(in);
  descriptions = skip(in, upvalues * 3);
  for (uint64_t i = 0; i < upvalues && i < 256 && descriptions; i++) {
    const unsigned char *description = descriptions + 3 * i; /* in the enclosing stack?, index, kind */
    holds_globals[i] = outer ? description[0] == 0 && outer[description[1]] : s->use->upvalues[i];
  }
  if (!in->failed) {
    scan_code(s, op, code, size, constants, count, holds_globals);
    report_constants(s, constants, count);
  }
  lua_pop(s->L, 1);
  functions = size_field(in);
  for (uint64_t i = 0; i < functions && !in->failed; i++)
    scan_function(s, op, in, holds_globals);
  skip_debug_information(in);
}

/* Instruction `index` of the main function of a sample, or of the function that it encloses. */
static unsigned learn(lua_State *L, const char *source, uint64_t index, bool nested) {
  sample one;
  cursor in;
  const unsigned char *code;
  uint64_t count;
  compile_sample(L, source, &one);
  in = (cursor){one.bytes + HEADER + 1, one.bytes + one.size, false};
  for (int round = nested ? 1 : 0;; round--) {
    string_field(&in);
    size_field(&in);
    size_field(&in);
    skip(&in, 3);
    code = skip(&in, size_field(&in) * 4);
    if (round == 0) return code ? instruction(code, index) & 0x7f : 0x7f;
    for (count = size_field(&in); count > 0 && !in.failed; count--)
      read_constant(&in);
    skip(&in, size_field(&in) * 3);
    size_field(&in);
  }
}

static opcodes *push_opcodes(lua_State *L) {
  static const char key;
  opcodes *op;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
  op = lua_touserdata(L, -1);
  if (op) return op;
  lua_pop(L, 1);
  op = lua_newuserdatauv(L, sizeof *op, 0);
  /* A main function begins with VARARGPREP. */
  op->gettabup = learn(L, "return x", 1, false);
  op->getfield = learn(L, "return x.y", 2, false);
  op->newtable = learn(L, "return {}", 1, false);
  op->extraarg = learn(L, "return {}", 2, false);
  op->setlist = learn(L, "return { 1 }", 4, false);
  op->loadk = learn(L, "return 'x'", 1, false);
  op->getupval = learn(L, "local a return function() return a end", 0, true);
  op->gettable = learn(L, "return function(t, k) return t[k] end", 0, true);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  return op;
}

bool lumap_bytecode_names(lua_State *L, const void *dump, size_t size, const lumap_globals_use *use,
                          lumap_name_found found, void *data) {
  scanner s = {L, use, found, data};
  cursor in = {dump, (const unsigned char *)dump + size, false};
  opcodes op = *push_opcodes(L);
  lua_pop(L, 1);
  skip(&in, HEADER + 1);
  scan_function(&s, &op, &in, NULL);
  return !in.failed;
}

#endif
