/* SPDX-License-Identifier: MIT
 *
 * wire.h - the bytes of FORMAT.md: tags, and reading and writing single fields. No Lua header: a fuzzer builds this
 * without a VM. The caller owns all memory; one thread.
 *
 * Writing is sticky: it may fail only for lack of memory, which lumap_bytes.failed tells at the end. Reading never
 * passes the end: a field that is not all there sets `failed` and reads as zero, and every later read fails too.
 */
#ifndef LUMAP_CODEC_WIRE_H
#define LUMAP_CODEC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "wire.h copies numbers as they lie in memory: a big-endian port swaps bytes here"
#endif

#define LUMAP_WIRE_VERSION 1

typedef enum lumap_tag {
  LUMAP_TAG_NIL = 0x00,
  LUMAP_TAG_FALSE = 0x01,
  LUMAP_TAG_TRUE = 0x02,
  LUMAP_TAG_I8 = 0x03,
  LUMAP_TAG_I16 = 0x04,
  LUMAP_TAG_I32 = 0x05,
  LUMAP_TAG_I64 = 0x06,
  LUMAP_TAG_F64 = 0x07,
  LUMAP_TAG_STR8 = 0x08,    /* u8 length, bytes */
  LUMAP_TAG_STR32 = 0x09,   /* u32 length, bytes */
  LUMAP_TAG_STR64 = 0x0A,   /* u64 length, bytes */
  LUMAP_TAG_BOXI64 = 0x0B,  /* int64_t cdata */
  LUMAP_TAG_BOXU64 = 0x0C,  /* uint64_t cdata */
  LUMAP_TAG_NULL = 0x0D,    /* light userdata NULL */
  LUMAP_TAG_FILE = 0x0E,    /* u8: 0 stdin, 1 stdout, 2 stderr */
  LUMAP_TAG_GLOBALS = 0x0F, /* the table of globals of whoever reads */

  /* Objects. The lowest bit says that something refers to the object later. */
  LUMAP_TAG_TABLE = 0x10,    /* varint list hint, u8 pair hint, body; +2: body, metatable */
  LUMAP_TAG_PACKED = 0x14,   /* u8 kind, varint count, numbers, u8 pair hint, body; +2: body, metatable */
  LUMAP_TAG_DEFERRED = 0x18, /* a table that a FILL after the value fills */
  LUMAP_TAG_FUNCTION = 0x1A, /* code, u8 upvalues, environment, upvalues */
  LUMAP_TAG_NAME = 0x1C,     /* u8 parts, strings: module, field, field... */
  LUMAP_TAG_CUSTOM = 0x1E,   /* string name, value: what a registered class packed */
  LUMAP_TAG_CDATA = 0x20,    /* C type, varint size, bytes: an object of LuaJIT's ffi library */
  LUMAP_SHARED = 0x01,
  LUMAP_META = 0x02,

  LUMAP_TAG_REF = 0x22,      /* varint offset of an object in this message */
  LUMAP_TAG_KNOWN = 0x23,    /* varint offset of an object in the call's log */
  LUMAP_TAG_END = 0x24,      /* end of a table's body */
  LUMAP_TAG_PAIRS = 0x25,    /* list values end, key-value pairs begin */
  LUMAP_TAG_FILL = 0x26,     /* varint offset of a deferred table, then what follows a TABLE or PACKED tag */
  LUMAP_TAG_CELL = 0x27,     /* an upvalue, with its value */
  LUMAP_TAG_CELL_REF = 0x28, /* varint offset of a function that has it, u8 which of its upvalues: the same variable */
  LUMAP_TAG_CODE = 0x29,     /* u8 VM, u32 checksum, u32 size, bytecode */
  LUMAP_TAG_CODE_REF = 0x2A, /* varint offset of the code in this log */
  LUMAP_TAG_CTYPE = 0x2B,    /* C type */
  LUMAP_TAG_LIBRARY = 0x2C,  /* string name: ffi.load of it; empty: ffi.C */
  LUMAP_TAG_TEXT = 0x2D,     /* u8 slot, string: the string, which the slot holds from now on */
  LUMAP_TAG_TEXT_REF = 0x2E, /* u8 slot: the string that the slot holds */

  /* A table whose keys are those of a shape: varint shape, the shape if it is a new one, values; +2: metatable. An
     object, as above. */
  LUMAP_TAG_RECORD = 0x30,

  LUMAP_TAG_HANDLE = 0x34, /* u8 kind, varint number of the memory; a buffer: u8 type, varint offset, varint count. An
                              object */

  LUMAP_TAG_FIXSTR = 0x40, /* 0x40..0x7F: string of 0..63 bytes */
  LUMAP_TAG_FIXINT = 0x80, /* 0x80..0xFF: 0..127 */
} lumap_tag;

/* Kinds of LUMAP_TAG_PACKED. */
enum {
  LUMAP_PACKED_F64 = 1,   /* floats */
  LUMAP_PACKED_I64 = 2,   /* integers */
  LUMAP_PACKED_MIXED = 3, /* doubles; those without a fraction (but -0.0) stand for integers */
  LUMAP_PACKED_I8 = 4,    /* integers */
  LUMAP_PACKED_I16 = 5,
  LUMAP_PACKED_I32 = 6,
  LUMAP_PACKED_LAST = LUMAP_PACKED_I32
};

/* Records of a log entry (codec.h). */
enum {
  LUMAP_RECORD_VALUE = 1,    /* a value */
  LUMAP_RECORD_GLOBAL = 2,   /* string name, value */
  LUMAP_RECORD_CLASS = 3,    /* string name, metatable, pack, unpack: as codec.register */
  LUMAP_RECORD_OBJECT = 4,   /* a value that messages will refer to */
  LUMAP_RECORD_PATHS = 5,    /* strings package.path, package.cpath */
  LUMAP_RECORD_ADDITION = 6, /* string library.field, value: what the caller added to a library */
  LUMAP_RECORD_REFUSED = 7,  /* string library.field, string: why that cannot be sent */
  LUMAP_RECORD_DECLARE = 8,  /* a table: what was given to ffi.cdef, or to ffi.load for all to use */
};

/* Bytes of one number of a list of a known kind. */
static inline size_t lumap_packed_width(unsigned kind) {
  return kind == LUMAP_PACKED_I8 ? 1 : kind == LUMAP_PACKED_I16 ? 2 : kind == LUMAP_PACKED_I32 ? 4 : 8;
}

static inline void lumap_put_u8(lumap_bytes *out, unsigned value) {
  if (lumap_bytes_reserve(out, 1)) out->data[out->size++] = (unsigned char)value;
}

/* A tag, then `size` bytes of a number. */
static inline void lumap_put_field(lumap_bytes *out, unsigned tag, const void *value, size_t size) {
  if (!lumap_bytes_reserve(out, size + 1)) return;
  out->data[out->size] = (unsigned char)tag;
  memcpy(out->data + out->size + 1, value, size);
  out->size += size + 1;
}

static inline void lumap_put_varint(lumap_bytes *out, uint64_t value) {
  if (!lumap_bytes_reserve(out, 10)) return;
  for (; value >= 0x80; value >>= 7)
    out->data[out->size++] = (unsigned char)(value | 0x80);
  out->data[out->size++] = (unsigned char)value;
}

/* The common cases in place, since they are most of what is written. */
void lumap_put_wide_integer(lumap_bytes *out, int64_t value);
void lumap_put_long_string(lumap_bytes *out, const char *string, size_t size);
/* The tag and length of a string of 64 bytes and more. */
void lumap_put_string_head(lumap_bytes *out, size_t size);

static inline void lumap_put_integer(lumap_bytes *out, int64_t value) {
  if (value >= 0 && value < 128)
    lumap_put_u8(out, LUMAP_TAG_FIXINT | (unsigned)value);
  else
    lumap_put_wide_integer(out, value);
}

static inline void lumap_put_string(lumap_bytes *out, const char *string, size_t size) {
  if (size >= 64) {
    lumap_put_long_string(out, string, size);
  } else if (lumap_bytes_reserve(out, size + 1)) {
    out->data[out->size] = (unsigned char)(LUMAP_TAG_FIXSTR | size);
    memcpy(out->data + out->size + 1, string, size);
    out->size += size + 1;
  }
}

typedef struct lumap_reader {
  const unsigned char *data;
  size_t size;
  size_t at;
  bool failed;
} lumap_reader;

static inline size_t lumap_reader_left(const lumap_reader *in) {
  return in->size - in->at;
}

/* `size` bytes, borrowed from the input; NULL when they are not there. */
static inline const unsigned char *lumap_get_bytes(lumap_reader *in, uint64_t size) {
  const unsigned char *bytes = in->data + in->at;
  if (in->failed || size > in->size - in->at) {
    in->failed = true;
    return NULL;
  }
  in->at += (size_t)size;
  return bytes;
}

static inline unsigned lumap_get_u8(lumap_reader *in) {
  const unsigned char *byte = lumap_get_bytes(in, 1);
  return byte ? *byte : 0;
}

static inline bool lumap_get_number(lumap_reader *in, void *value, size_t size) {
  const unsigned char *bytes = lumap_get_bytes(in, size);
  if (bytes) memcpy(value, bytes, size);
  return bytes != NULL;
}

uint64_t lumap_get_long_varint(lumap_reader *in);

static inline uint64_t lumap_get_varint(lumap_reader *in) {
  if (!in->failed && in->at < in->size && in->data[in->at] < 0x80) return in->data[in->at++];
  return lumap_get_long_varint(in);
}

/* An integer whose tag, I8 to I64, has been read. */
int64_t lumap_get_integer(lumap_reader *in, unsigned tag);

/* A string whose tag has been read; NULL when the tag is not a string's or the bytes are not there. */
const char *lumap_get_string(lumap_reader *in, unsigned tag, size_t *size);

/* FNV-1a, 32 bits: finds damage, not malice. */
uint32_t lumap_checksum(const void *data, size_t size);

#endif
