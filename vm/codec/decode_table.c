/* SPDX-License-Identifier: MIT
 *
 * decode_table.c - bytes to what is in a table: lists, pairs, packed numbers, records, through the C API; and the
 * shapes of records, for both ways.
 *
 * Where the VM's layout is known lists and records are written where they lie (decode_direct.c).
 */
#include "codec/encoder.h"
#include "codec/packed.h"

/* ---- lists and pairs ---------------------------------------------------------------------------------------- */

void lumap_get_pairs(lumap_decoder *d) {
  lua_State *L = d->L;
  int table = lua_gettop(L);
  for (;;) {
    if (lumap_reader_left(&d->in) && d->in.data[d->in.at] == LUMAP_TAG_END) {
      d->in.at++;
      return;
    }
    lumap_decode_nested(d);
    if (lua_type(L, -1) == LUA_TNUMBER && lua_tonumber(L, -1) != lua_tonumber(L, -1))
      lumap_decoder_bad(d, "NaN as a key");
    lumap_decode_nested(d);
    if (!lua_isnil(L, table + 1)) {
      lua_rawset(L, table);
    } else if (lua_isnil(L, d->failure)) {
      lumap_decoder_bad(d, "nil as a key");
    } else {
      lua_pop(L, 2);
    }
  }
}

/* List values, then pairs, into the table on top. */
static void get_body(lumap_decoder *d) {
  lua_State *L = d->L;
  for (int i = 1;; i++) {
    unsigned tag;
    if (lumap_reader_left(&d->in) == 0) d->in.failed = true;
    lumap_decoder_check(d);
    tag = d->in.data[d->in.at];
    if (tag == LUMAP_TAG_END || tag == LUMAP_TAG_PAIRS) {
      d->in.at++;
      if (tag == LUMAP_TAG_PAIRS) lumap_get_pairs(d);
      return;
    }
    lumap_decode_nested(d);
    lua_rawseti(L, -2, i);
  }
}

void lumap_get_metatable(lumap_decoder *d) {
  lua_State *L = d->L;
  lumap_decode_nested(d);
  if (lua_istable(L, -1)) {
    uint64_t *hit = d->scope ? lumap_map_find(&d->scope->map, lua_topointer(L, -1)) : NULL;
    if (hit) *hit |= LUMAP_SCOPE_IS_CLASS;
    lua_setmetatable(L, -2);
  } else if (lua_isnil(L, -1) && !lua_isnil(L, d->failure)) {
    lua_pop(L, 1);
  } else {
    lumap_decoder_bad(d, "a metatable that is not a table");
  }
}

int lumap_decoder_room(lumap_decoder *d, uint64_t wanted) {
  uint64_t left = lumap_reader_left(&d->in), most = left < INT32_MAX / 2 ? left : INT32_MAX / 2;
  if (most > d->room) most = d->room;
  if (wanted > most) wanted = most;
  d->room -= wanted;
  return (int)wanted;
}

static void get_packed(lumap_decoder *d, bool fill) {
  lua_State *L = d->L;
  unsigned kind = lumap_get_u8(&d->in), pairs;
  uint64_t count = lumap_get_varint(&d->in);
  size_t width = lumap_packed_width(kind);
  const unsigned char *numbers;
  if (kind < LUMAP_PACKED_F64 || kind > LUMAP_PACKED_LAST) lumap_decoder_bad(d, "an unknown kind of numbers");
  if (count > lumap_reader_left(&d->in) / width || count > LUMAP_PACKED_MOST)
    lumap_decoder_bad(d, "more numbers than there are bytes");
  numbers = lumap_get_bytes(&d->in, count * width);
  pairs = lumap_get_u8(&d->in);
  lumap_decoder_check(d);
  if (!fill) lua_createtable(L, (int)count, lumap_decoder_room(d, pairs));
  lumap_unpack(L, lua_gettop(L), 1, (size_t)count, (int)kind, numbers);
}

void lumap_get_table(lumap_decoder *d, unsigned tag, bool fill, uint64_t offset) {
  lua_State *L = d->L;
  bool packed = (tag & ~(unsigned)(LUMAP_SHARED | LUMAP_META)) == LUMAP_TAG_PACKED;
  if (packed) {
    get_packed(d, fill);
  } else {
    uint64_t list = lumap_get_varint(&d->in);
    unsigned pairs = lumap_get_u8(&d->in);
    lumap_decoder_check(d);
    if (!fill) lua_createtable(L, lumap_decoder_room(d, list), lumap_decoder_room(d, pairs));
  }
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  if (d->direct)
    lumap_get_body_where_it_lies(d);
  else
    get_body(d);
  if (tag & LUMAP_META) lumap_get_metatable(d);
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* A shape is two entries of the list of shapes: its keys, and this. */
enum { SHAPE_KEYS = 1, SHAPE_KNOWN, SHAPE_ENTRIES = 2 };

/* Pushes what is known of the shape whose keys are at `keys`, the table on top being a model of it. [-0, +1] */
static void push_known_shape(lumap_decoder *d, int keys, uint32_t count) {
  lua_State *L = d->L;
  const lumap_table *model = d->direct ? lua_topointer(L, -1) : NULL;
  size_t nodes = model ? lumap_table_node_count(model) : 0, places = count + 8;
  lumap_known_shape *shape = lua_newuserdata(L, sizeof *shape + places + nodes * sizeof(lumap_node));
  *shape = (lumap_known_shape){.number = d->shape_count, .count = count, .node_count = (uint32_t)nodes};
  if (!model) return;
  lumap_table_get_nodes(model, lumap_shape_nodes(shape), &shape->free, &shape->chained);
  for (uint32_t k = 0; k < count; k++) {
    uint32_t node = 0;
    lua_rawgeti(L, keys, (int)k + 1);
    /* A node without a value may still hold the address of a key. */
    while (node + 1 < nodes && !(lumap_node_is_of(&model->nodes[node], lua_topointer(L, -1)) &&
                                 !lumap_slot_is_nil(lumap_node_value(&model->nodes[node]))))
      node++;
    shape->places[k] = (uint8_t)node;
    lua_pop(L, 1);
  }
}

/* Reads a new shape and appends it to the list. */
static void get_new_shape(lumap_decoder *d) {
  lua_State *L = d->L;
  uint32_t count = lumap_get_u8(&d->in);
  int keys = lua_gettop(L) + 1, model = keys + 1, at = (int)d->shape_count * SHAPE_ENTRIES;
  lumap_decoder_check(d);
  if (count == 0) lumap_decoder_bad(d, "a shape without keys");
  if (count > lumap_reader_left(&d->in)) d->in.failed = true;
  lumap_decoder_check(d);
  if (lua_isnil(L, d->shapes)) {
    lua_newtable(L);
    lua_replace(L, d->shapes);
  }
  lua_createtable(L, (int)count, 0);
  lua_createtable(L, 0, (int)count);
  for (uint32_t k = 1; k <= count; k++) {
    size_t size;
    const char *bytes = lumap_get_string(&d->in, lumap_get_u8(&d->in), &size);
    if (!bytes) lumap_decoder_bad(d, "a string expected");
    lua_pushlstring(L, bytes, size);
    lua_pushvalue(L, -1);
    lua_rawget(L, model);
    if (!lua_isnil(L, -1)) lumap_decoder_bad(d, "a shape that has a key twice");
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, keys, (int)k);
    lua_pushboolean(L, 1);
    lua_rawset(L, model);
  }
  push_known_shape(d, keys, count);
  if (d->shape_count < LUMAP_SHAPES_AT_HAND) d->at_hand[d->shape_count] = lua_touserdata(L, -1);
  lua_rawseti(L, d->shapes, at + SHAPE_KNOWN);
  lua_pop(L, 1);
  lua_rawseti(L, d->shapes, at + SHAPE_KEYS);
  d->shape_count++;
}

const lumap_known_shape *lumap_get_shape(lumap_decoder *d) {
  const lumap_known_shape *shape;
  uint64_t number = lumap_get_varint(&d->in);
  lumap_decoder_check(d);
  if (number > d->shape_count) lumap_decoder_bad(d, "a shape that is not there");
  if (number == d->shape_count) get_new_shape(d);
  if (number < LUMAP_SHAPES_AT_HAND) return d->at_hand[number];
  lua_rawgeti(d->L, d->shapes, (int)number * SHAPE_ENTRIES + SHAPE_KNOWN);
  shape = lua_touserdata(d->L, -1);
  lua_pop(d->L, 1);
  return shape;
}

void lumap_push_shape_key(lumap_decoder *d, const lumap_known_shape *shape, uint32_t k) {
  lua_rawgeti(d->L, d->shapes, (int)shape->number * SHAPE_ENTRIES + SHAPE_KEYS);
  lua_rawgeti(d->L, -1, (int)k + 1);
  lua_remove(d->L, -2);
}

void lumap_get_record(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  const lumap_known_shape *shape;
  uint64_t owed = d->owed;
  if (d->direct) {
    lumap_get_record_where_it_lies(d, tag);
    return;
  }
  shape = lumap_get_shape(d);
  /* As many values must follow, and those of the records around it: a shape is short, and may be named often. */
  if (shape->count + owed > lumap_reader_left(&d->in)) d->in.failed = true;
  lumap_decoder_check(d);
  lua_createtable(L, 0, (int)shape->count);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  for (uint32_t k = 0; k < shape->count; k++) {
    d->owed = owed + (shape->count - k - 1);
    lumap_push_shape_key(d, shape, k);
    lumap_decode_nested(d);
    lua_rawset(L, -3);
  }
  d->owed = owed;
  if (tag & LUMAP_META) lumap_get_metatable(d);
}
