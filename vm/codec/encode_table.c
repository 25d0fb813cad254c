/* SPDX-License-Identifier: MIT
 *
 * encode_table.c - what is in a table, to bytes: lists of numbers, lists and pairs, through the C API.
 *
 * That is one of two ways to the contents. Where the VM's layout is known they are read where they lie
 * (encode_direct.c), which is several times faster. Both write the same format, and a reader cannot tell them apart but
 * by the records, which only the other way writes.
 */
#include "codec/encoder.h"
#include "codec/packed.h"

static void put_field(lumap_encoder *e, int key, int value, const lumap_step *step) {
  lumap_step at_key = {step, LUMAP_STEP_KEY, key, 0, NULL, NULL};
  lumap_step at_value = {step, LUMAP_STEP_FIELD, key, 0, NULL, NULL};
  lumap_put_value(e, key, &at_key);
  lumap_put_value(e, value, &at_value);
}

/* Keys from `packed` + 1 on, and what is no list: 1, 2, 3... come as values alone while the traversal yields them in
   order, everything else in pairs. */
static void put_body(lumap_encoder *e, int index, size_t packed, size_t hint_at, const lumap_step *step) {
  lua_State *L = e->L;
  lua_Number expected = (lua_Number)packed + 1;
  unsigned pairs = 0;
  bool listing = packed == 0;
  if (packed) lumap_put_u8(e->sink.out, LUMAP_TAG_PAIRS);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    int value = lua_gettop(L), key = value - 1;
    bool is_number = lua_type(L, key) == LUA_TNUMBER;
    if (listing && is_number && lua_tonumber(L, key) == expected) {
      lumap_step at_value = {step, LUMAP_STEP_FIELD, key, 0, NULL, NULL};
      lumap_put_value(e, value, &at_value);
      expected++;
    } else if (packed && is_number && lua_tonumber(L, key) >= 1 && lua_tonumber(L, key) <= (lua_Number)packed &&
               lua_tonumber(L, key) == (lua_Number)(uint64_t)lua_tonumber(L, key)) {
      /* In the packed part already. */
    } else {
      if (listing) lumap_put_u8(e->sink.out, LUMAP_TAG_PAIRS);
      listing = false;
      put_field(e, key, value, step);
      if (pairs < UINT8_MAX) pairs++;
    }
    lua_settop(L, key);
  }
  lumap_put_u8(e->sink.out, LUMAP_TAG_END);
  lumap_encoder_check_memory(e);
  e->sink.out->data[hint_at] = (unsigned char)pairs;
}

/* Tries to write the list part as packed numbers; false leaves the output as it was. */
static bool put_packed(lumap_encoder *e, int index, size_t count, unsigned tag) {
  lumap_bytes *out = e->sink.out;
  size_t start = out->size, kind_at;
  int kind;
  if (count < LUMAP_PACKED_LEAST || count > LUMAP_PACKED_MOST || !lumap_packed_looks_numeric(e->L, index, count))
    return false;
  lumap_put_u8(out, tag);
  kind_at = out->size;
  lumap_put_u8(out, 0);
  lumap_put_varint(out, count);
  if (!lumap_bytes_reserve(out, count * sizeof(double))) lumap_encoder_no_memory(e);
  kind = lumap_pack_exact(e->L, index, count, out->data + out->size);
  if (kind == 0) {
    out->size = start;
    return false;
  }
  out->data[kind_at] = (unsigned char)kind;
  out->size += count * sizeof(double);
  return true;
}

static void put_parts_by_api(lumap_encoder *e, int index, unsigned flags, const lumap_step *step) {
  lumap_bytes *out = e->sink.out;
  size_t count = lumap_rawlen(e->L, index), hint_at;
  bool packed = put_packed(e, index, count, LUMAP_TAG_PACKED | flags);
  if (!packed) {
    lumap_put_u8(out, LUMAP_TAG_TABLE | flags);
    lumap_put_varint(out, count);
  }
  hint_at = out->size;
  lumap_put_u8(out, 0);
  if (packed && !lumap_packed_has_more(e->L, index, count))
    lumap_put_u8(out, LUMAP_TAG_END);
  else
    put_body(e, index, packed ? count : 0, hint_at, step);
}

void lumap_put_table_parts(lumap_encoder *e, int index, int metatable, bool fill, const lumap_step *step) {
  unsigned flags = (metatable ? LUMAP_META : 0) | (fill ? 0 : lumap_sink_tag(e, 0));
  if (e->scratch)
    lumap_put_parts_where_they_lie(e, lua_topointer(e->L, index), flags, fill, step);
  else
    put_parts_by_api(e, index, flags, step);
  if (metatable) lumap_put_metatable(e, metatable, step);
}
