/* SPDX-License-Identifier: MIT */
#include "codec/wire.h"

void lumap_put_wide_integer(lumap_bytes *out, int64_t value) {
  if (value == (int8_t)value) {
    int8_t small = (int8_t)value;
    lumap_put_field(out, LUMAP_TAG_I8, &small, sizeof small);
  } else if (value == (int16_t)value) {
    int16_t small = (int16_t)value;
    lumap_put_field(out, LUMAP_TAG_I16, &small, sizeof small);
  } else if (value == (int32_t)value) {
    int32_t small = (int32_t)value;
    lumap_put_field(out, LUMAP_TAG_I32, &small, sizeof small);
  } else {
    lumap_put_field(out, LUMAP_TAG_I64, &value, sizeof value);
  }
}

void lumap_put_string_head(lumap_bytes *out, size_t size) {
  if (size <= UINT8_MAX) {
    uint8_t length = (uint8_t)size;
    lumap_put_field(out, LUMAP_TAG_STR8, &length, sizeof length);
  } else if (size <= UINT32_MAX) {
    uint32_t length = (uint32_t)size;
    lumap_put_field(out, LUMAP_TAG_STR32, &length, sizeof length);
  } else {
    uint64_t length = size;
    lumap_put_field(out, LUMAP_TAG_STR64, &length, sizeof length);
  }
}

void lumap_put_long_string(lumap_bytes *out, const char *string, size_t size) {
  lumap_put_string_head(out, size);
  lumap_bytes_append(out, string, size);
}

uint64_t lumap_get_long_varint(lumap_reader *in) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    unsigned byte = lumap_get_u8(in);
    value |= (uint64_t)(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  in->failed = true;
  return 0;
}

int64_t lumap_get_integer(lumap_reader *in, unsigned tag) {
  int8_t i8 = 0;
  int16_t i16 = 0;
  int32_t i32 = 0;
  int64_t i64 = 0;
  switch (tag) {
  case LUMAP_TAG_I8:
    lumap_get_number(in, &i8, sizeof i8);
    return i8;
  case LUMAP_TAG_I16:
    lumap_get_number(in, &i16, sizeof i16);
    return i16;
  case LUMAP_TAG_I32:
    lumap_get_number(in, &i32, sizeof i32);
    return i32;
  default:
    lumap_get_number(in, &i64, sizeof i64);
    return i64;
  }
}

const char *lumap_get_string(lumap_reader *in, unsigned tag, size_t *size) {
  uint64_t length = 0;
  if (tag >= LUMAP_TAG_FIXSTR && tag < LUMAP_TAG_FIXINT) {
    length = tag - LUMAP_TAG_FIXSTR;
  } else if (tag == LUMAP_TAG_STR8) {
    length = lumap_get_u8(in);
  } else if (tag == LUMAP_TAG_STR32) {
    uint32_t length32 = 0;
    lumap_get_number(in, &length32, sizeof length32);
    length = length32;
  } else if (tag == LUMAP_TAG_STR64) {
    lumap_get_number(in, &length, sizeof length);
  } else {
    return NULL;
  }
  *size = (size_t)length;
  return (const char *)lumap_get_bytes(in, length);
}

uint32_t lumap_checksum(const void *data, size_t size) {
  const unsigned char *bytes = data;
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}
