/* SPDX-License-Identifier: MIT
 *
 * wire_fuzz.c - the fields of wire.h, without a VM: a reader never leaves its bytes, fails for good, and gives what the
 * writers wrote. The input is a list of fields: a byte says which, and the reader's place is where the next one is.
 */
#include <stdlib.h>

#include "codec/wire.h"
#include "fuzz.h"

enum { FIELDS = 4 };

typedef struct field {
  unsigned kind;
  uint64_t number;
  const char *text;
  size_t size;
} field;

static field get_field(lumap_reader *in, unsigned kind) {
  field got = {.kind = kind};
  unsigned char width;
  switch (kind) {
  case 0:
    got.number = lumap_get_u8(in);
    break;
  case 1:
    got.number = lumap_get_varint(in);
    break;
  case 2:
    width = (unsigned char)(lumap_get_u8(in) % (sizeof got.number + 1));
    lumap_get_number(in, &got.number, width);
    break;
  default:
    got.text = lumap_get_string(in, lumap_get_u8(in), &got.size);
  }
  return got;
}

/* A failed reader stays where it is, gives zero, and goes on failing. */
static void check_failure(lumap_reader *in) {
  size_t at = in->at, size;
  uint64_t number = 0;
  if (lumap_get_u8(in) || lumap_get_varint(in) || lumap_get_number(in, &number, 1) || number)
    fuzz_fail("a failed reader gives a number");
  if (lumap_get_string(in, LUMAP_TAG_FIXSTR, &size) || lumap_get_bytes(in, 0)) fuzz_fail("a failed reader gives bytes");
  if (!in->failed || in->at != at) fuzz_fail("a failed reader moves");
}

static void check_inside(const lumap_reader *in, const field *got) {
  const char *data = (const char *)in->data;
  if (in->at > in->size) fuzz_fail("the reader is at %zu of %zu", in->at, in->size);
  if (got->text && (got->text < data || got->size > in->size || got->text + got->size != data + in->at))
    fuzz_fail("a string of %zu bytes does not lie before the reader", got->size);
}

static void put_field(lumap_bytes *out, const field *what) {
  if (what->kind == 0)
    lumap_put_u8(out, (unsigned)what->number);
  else if (what->kind == 1)
    lumap_put_varint(out, what->number);
  else if (what->kind == 2)
    lumap_put_integer(out, (int64_t)what->number);
  else
    lumap_put_string(out, what->text, what->size);
}

static int64_t read_integer(lumap_reader *in) {
  unsigned tag = lumap_get_u8(in), width;
  int64_t number = 0;
  if (tag >= LUMAP_TAG_FIXINT) return (int64_t)tag - LUMAP_TAG_FIXINT;
  if (tag < LUMAP_TAG_I8 || tag > LUMAP_TAG_I64) fuzz_fail("tag %u for an integer", tag);
  width = 1u << (tag - LUMAP_TAG_I8);
  lumap_get_number(in, &number, width);
  return width == 8 ? number : (int64_t)((uint64_t)number << (64 - 8 * width)) >> (64 - 8 * width);
}

/* What was written is read again, to the last byte. */
static void check_again(const field *was) {
  lumap_bytes out = {0};
  lumap_reader in = {0};
  field got;
  put_field(&out, was);
  if (out.failed) fuzz_fail("no memory");
  in.data = fuzz_copy(out.data, out.size);
  in.size = out.size;
  if (was->kind == 2)
    got = (field){.kind = 2, .number = (uint64_t)read_integer(&in)};
  else
    got = get_field(&in, was->kind);
  if (in.failed || in.at != in.size || got.number != was->number || got.size != was->size)
    fuzz_fail("a field of kind %u reads otherwise than it was written", was->kind);
  if (was->size && memcmp(got.text, was->text, was->size) != 0) fuzz_fail("a string reads otherwise");
  lumap_bytes_deinit(&out);
  free((void *)(uintptr_t)in.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  unsigned char *copy = fuzz_copy(data, size);
  lumap_reader in = {copy, size, 0, false};
  while (!in.failed && lumap_reader_left(&in) > 0) {
    size_t before = in.at;
    unsigned kind = lumap_get_u8(&in) % FIELDS;
    field got = get_field(&in, kind);
    if (in.at < before) fuzz_fail("the reader moves back");
    check_inside(&in, &got);
    if (in.failed)
      check_failure(&in);
    else if (kind != 3 || got.text)
      check_again(&got);
  }
  lumap_checksum(copy, size);
  free(copy);
  return 0;
}
