/* SPDX-License-Identifier: MIT
 *
 * bytecode.c - reads dumps for the names of globals. Every read is checked against the end, and a count that does not
 * fit ends the walk: what is not understood is never guessed.
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

static void scan_prototype(lua_State *L, cursor *in, bool stripped, unsigned opcode, lumap_global_found found,
                           void *data) {
  uint64_t constants, instructions;
  unsigned upvalues;
  const unsigned char *code;
  text *strings;
  skip(in, 3);
  upvalues = byte(in);
  constants = leb(in);
  skip_lebs(in, 1);
  instructions = leb(in);
  if (!stripped && leb(in) != 0) skip_lebs(in, 2);
  code = skip(in, instructions * 4);
  skip(in, (uint64_t)upvalues * 2);
  strings = push_texts(L, in, constants);
  for (uint64_t i = 0; i < constants && !in->failed; i++)
    strings[constants - 1 - i] = read_constant(in);
  for (uint64_t i = 0; i < instructions && !in->failed; i++) {
    uint32_t word = instruction(code, i);
    uint32_t operand = word >> 16;
    if ((word & 0xff) == opcode && operand < constants && strings[operand].bytes)
      found(data, strings[operand].bytes, strings[operand].size);
  }
  lua_pop(L, 1);
}

static bool scan(lua_State *L, const void *dump, size_t size, unsigned opcode, lumap_global_found found, void *data) {
  cursor in = {dump, (const unsigned char *)dump + size, false};
  bool stripped;
  skip(&in, 4);
  stripped = (leb(&in) & HEAD_STRIPPED) != 0;
  if (!stripped) skip(&in, leb(&in));
  while (!in.failed) {
    uint64_t length = leb(&in);
    cursor prototype = in;
    if (length == 0) return !in.failed;
    if (!skip(&in, length)) return false;
    prototype.end = in.at;
    scan_prototype(L, &prototype, stripped, opcode, found, data);
    if (prototype.failed) return false;
  }
  return false;
}

bool lumap_bytecode_globals(lua_State *L, const void *dump, size_t size, int environment, lumap_global_found found,
                            void *data) {
  static const char key;
  unsigned opcode;
  (void)environment;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
  if (lua_isnil(L, -1)) {
    /* The first instruction of `return x`: behind the header, the prototype's length and its seven counts (the debug
       information's three make ten; they and the chunk's name are one byte each). */
    sample one;
    cursor in;
    compile_sample(L, "return x", &one);
    in = (cursor){one.bytes + 4, one.bytes + one.size, false};
    leb(&in);
    skip(&in, leb(&in));
    skip_lebs(&in, 1);
    skip(&in, 4);
    skip_lebs(&in, 3);
    if (leb(&in) != 0) skip_lebs(&in, 2);
    lua_pushnumber(L, byte(&in));
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    lua_remove(L, -2);
  }
  opcode = (unsigned)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return scan(L, dump, size, opcode, found, data);
}

#else

/* Lua 5.4's dump: a header of fixed size, the number of upvalues, then a function:
     source lines | params vararg stack | instructions | constants | upvalues | functions | debug information */

enum { HEADER = 4 + 1 + 1 + 6 + 3 + 8 + 8 };
enum { NUMBER_INTEGER = 0x03, STRING_SHORT = 0x04, NUMBER_FLOAT = 0x13, STRING_LONG = 0x14 };

typedef struct opcodes {
  unsigned gettabup, getupval, loadk, gettable;
} opcodes;

typedef struct scanner {
  lua_State *L;
  cursor in;
  opcodes op;
  lumap_global_found found;
  void *data;
} scanner;

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

static void report(scanner *s, const text *constants, uint64_t count, uint64_t index) {
  if (index < count && constants[index].bytes) s->found(s->data, constants[index].bytes, constants[index].size);
}

/* `environment` is an upvalue index from 0, or -1. Most names are read by one GETTABUP; where a function has more than
   255 constants by GETUPVAL, LOADK and GETTABLE, which the compiler puts side by side. */
static void scan_code(scanner *s, const unsigned char *code, uint64_t size, const text *constants, uint64_t count,
                      int environment) {
  bool holds_environment[256] = {false};
  uint64_t holds_constant[256] = {0}; /* index + 1 */
  for (uint64_t i = 0; i < size; i++) {
    uint32_t word = instruction(code, i);
    unsigned op = word & 0x7f, a = word >> 7 & 0xff, b = word >> 16 & 0xff, c = word >> 24;
    if (op == s->op.gettabup && (int)b == environment) report(s, constants, count, c);
    if (op == s->op.gettable && holds_environment[b] && holds_constant[c])
      report(s, constants, count, holds_constant[c] - 1);
    holds_environment[a] = op == s->op.getupval && (int)b == environment;
    holds_constant[a] = op == s->op.loadk ? (word >> 15) + 1 : 0;
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

static void scan_function(scanner *s, int environment) {
  cursor *in = &s->in;
  uint64_t size, count, upvalues, functions;
  const unsigned char *code, *descriptions;
  text *constants;
  string_field(in);
  size_field(in);
  size_field(in);
  skip(in, 3);
  size = size_field(in);
  code = skip(in, size * 4);
  count = size_field(in);
  constants = push_texts(s->L, in, count);
  for (uint64_t i = 0; i < count && !in->failed; i++)
    constants[i] = read_constant(in);
  if (!in->failed) scan_code(s, code, size, constants, count, environment);
  lua_pop(s->L, 1);
  upvalues = size_field(in);
  descriptions = skip(in, upvalues * 3);
  (void)descriptions;
  functions = size_field(in);
  for (uint64_t i = 0; i < functions && !in->failed; i++) {
    /* A nested function's own environment is the upvalue that comes from ours; its descriptions stand behind its
       constants, so they are read ahead. */
    cursor ahead = *in;
    int inner = -1;
    uint64_t inner_count;
    string_field(&ahead);
    size_field(&ahead);
    size_field(&ahead);
    skip(&ahead, 3);
    skip(&ahead, size_field(&ahead) * 4);
    for (inner_count = size_field(&ahead); inner_count > 0 && !ahead.failed; inner_count--)
      read_constant(&ahead);
    inner_count = size_field(&ahead);
    for (uint64_t k = 0; k < inner_count; k++) {
      const unsigned char *description = skip(&ahead, 3); /* in the enclosing stack?, index, kind */
      if (!description) break;
      if (environment >= 0 && description[0] == 0 && description[1] == environment) inner = (int)k;
    }
    scan_function(s, inner);
  }
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
  op->loadk = learn(L, "return 'x'", 1, false);
  op->getupval = learn(L, "local a return function() return a end", 0, true);
  op->gettable = learn(L, "return function(t, k) return t[k] end", 0, true);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  return op;
}

bool lumap_bytecode_globals(lua_State *L, const void *dump, size_t size, int environment, lumap_global_found found,
                            void *data) {
  scanner s = {L, {dump, (const unsigned char *)dump + size, false}, *push_opcodes(L), found, data};
  lua_pop(L, 1);
  skip(&s.in, HEADER + 1);
  scan_function(&s, environment - 1);
  return !s.in.failed;
}

#endif
