/* SPDX-License-Identifier: MIT
 *
 * decode_table.c - bytes to what is in a table: lists, pairs, packed numbers, records.
 *
 * Where the VM's layout is known, numbers, booleans, strings and fresh tables are stored where they belong without a
 * call of the C API each. A table may meanwhile be moved, by an unpack function that got hold of it, or be looked at by
 * a collection that such a function asked for: so each store looks up the place anew, and goes through the C API if the
 * table is not fresh any more.
 */
#include "codec/encoder.h"
#include "codec/packed.h"

/* ---- single values ------------------------------------------------------------------------------------------ */

typedef enum reading { NOT_READ, STORED, PUSHED } reading;

/* Making a string may collect (5.4, when memory is short): a table that is not fresh any more needs a barrier, and the
   string stays on top. */
static reading set_string(lua_State *L, const lumap_table *table, lumap_slot *slot, const char *bytes, size_t size) {
  lua_pushlstring(L, bytes, size);
  if (!lumap_table_is_fresh(table)) return PUSHED;
  lumap_slot_set_object(slot, lua_topointer(L, -1));
  lua_pop(L, 1);
  return STORED;
}

/* The string that a slot holds; NULL when it holds none. */
static const lumap_slot *text_of(lumap_decoder *d, unsigned slot) {
  size_t room;
  const lumap_slot *texts;
  if (lua_isnil(d->L, d->texts)) return NULL;
  texts = lumap_table_list(lua_topointer(d->L, d->texts), &room);
  return slot < room && !lumap_slot_is_nil(&texts[slot]) ? &texts[slot] : NULL;
}

/* Reads the next value straight into `slot` of a fresh table if it is of a kind that needs no more than that; a string
   may come to lie on top instead. Else reads nothing. What is amiss is left to the common way, which tells about it. */
static inline reading get_simple(lumap_decoder *d, const lumap_table *table, lumap_slot *slot) {
  lumap_reader *in = &d->in;
  const unsigned char *at = in->data + in->at;
  size_t left = lumap_reader_left(in), size;
  const lumap_slot *text;
  double number;
  unsigned tag;
  if (left == 0) return NOT_READ;
  tag = *at;
  if (tag >= LUMAP_TAG_FIXINT) {
    in->at++;
    lumap_slot_put_integer(slot, tag - LUMAP_TAG_FIXINT);
    return STORED;
  }
  if (tag >= LUMAP_TAG_FIXSTR) {
    size = tag - LUMAP_TAG_FIXSTR;
    if (size >= left) return NOT_READ;
    in->at += size + 1;
    return set_string(d->L, table, slot, (const char *)at + 1, size);
  }
  if (left < 9) return NOT_READ;
  switch (tag) {
  case LUMAP_TAG_FALSE:
  case LUMAP_TAG_TRUE:
    in->at++;
    lumap_slot_set_boolean(slot, tag == LUMAP_TAG_TRUE);
    return STORED;
  case LUMAP_TAG_I8:
  case LUMAP_TAG_I16:
  case LUMAP_TAG_I32:
    in->at++;
    lumap_slot_put_integer(slot, lumap_get_integer(in, tag));
    return STORED;
  case LUMAP_TAG_F64:
    memcpy(&number, at + 1, sizeof number);
    in->at += 9;
    lumap_slot_set_double(slot, number);
    return STORED;
  case LUMAP_TAG_TEXT_REF:
    text = text_of(d, at[1]);
    if (!text) return NOT_READ;
    in->at += 2;
    lumap_slot_set_object(slot, lumap_slot_object(text));
    return STORED;
  default:
    return NOT_READ;
  }
}

/* Stores the value on top in `slot` if it can be done without the C API. [-0, +0] */
static bool store_simple(lua_State *L, lumap_slot *slot) {
  if (lua_type(L, -1) != LUA_TTABLE && lua_type(L, -1) != LUA_TSTRING) return false;
  lumap_slot_set_object(slot, lua_topointer(L, -1));
  return true;
}

/* ---- lists and pairs ---------------------------------------------------------------------------------------- */

static void get_pairs(lumap_decoder *d) {
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

/* The place of list value `number` (from 1) of the table on top, where it has one that may be written; else NULL. */
static inline lumap_slot *list_place(lumap_decoder *d, const lumap_table *table, size_t number) {
  size_t room;
  lumap_slot *list;
  if (!d->direct || !lumap_table_is_fresh(table)) return NULL;
  list = lumap_table_list(table, &room);
  return number <= room ? &list[number - 1] : NULL;
}

/* Reads a table or record, whose tag comes next, one level deeper. Pushes it and returns where it lies. */
static const lumap_table *get_child(lumap_decoder *d, unsigned tag) {
  const lumap_table *child;
  uint64_t offset = d->base + d->in.at++;
  if (++d->depth > LUMAP_DEPTH_ALLOWED) lumap_decoder_bad(d, "values nested too deeply");
  if (tag >= LUMAP_TAG_RECORD)
    child = lumap_get_record(d, tag, offset);
  else
    child = lumap_get_table(d, tag, false, offset);
  d->depth--;
  return child;
}

static inline bool is_table_tag(unsigned tag) {
  return (tag >= LUMAP_TAG_TABLE && tag < LUMAP_TAG_DEFERRED) || (tag & ~3u) == LUMAP_TAG_RECORD;
}

/* List values, then pairs, into the table on top, which lies at `memory`. */
static void get_body(lumap_decoder *d, const lumap_table *memory) {
  lua_State *L = d->L;
  int i = 0;
  for (;;) {
    lumap_slot *place;
    reading how;
    unsigned tag;
    if (lumap_reader_left(&d->in) == 0) d->in.failed = true;
    lumap_decoder_check(d);
    tag = d->in.data[d->in.at];
    if (tag == LUMAP_TAG_END) {
      d->in.at++;
      return;
    }
    if (tag == LUMAP_TAG_PAIRS) {
      d->in.at++;
      get_pairs(d);
      return;
    }
    place = list_place(d, memory, (size_t)++i);
    how = place ? get_simple(d, memory, place) : NOT_READ;
    if (how == STORED) continue;
    if (how == PUSHED) {
      place = NULL;
    } else if (is_table_tag(tag)) {
      const lumap_table *child = get_child(d, tag);
      place = list_place(d, memory, (size_t)i);
      if (place) lumap_slot_set_object(place, child);
    } else {
      lumap_decode_nested(d);
      place = list_place(d, memory, (size_t)i);
      if (place && !store_simple(L, place)) place = NULL;
    }
    if (place)
      lua_pop(L, 1);
    else
      lua_rawseti(L, -2, i);
  }
}

static void get_metatable(lumap_decoder *d) {
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

/* Room for what is announced, but for no more values than there are bytes: not in this table, nor in all of the
   message. A value takes a byte at least, so true claims are never cut. */
static int room(lumap_decoder *d, uint64_t wanted) {
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
  if (!fill) lua_createtable(L, (int)count, room(d, pairs));
  lumap_unpack(L, lua_gettop(L), 1, (size_t)count, (int)kind, numbers);
}

const lumap_table *lumap_get_table(lumap_decoder *d, unsigned tag, bool fill, uint64_t offset) {
  const lumap_table *memory;
  lua_State *L = d->L;
  bool packed = (tag & ~(unsigned)(LUMAP_SHARED | LUMAP_META)) == LUMAP_TAG_PACKED;
  if (packed) {
    get_packed(d, fill);
  } else {
    uint64_t list = lumap_get_varint(&d->in);
    unsigned pairs = lumap_get_u8(&d->in);
    lumap_decoder_check(d);
    if (!fill) lua_createtable(L, room(d, list), room(d, pairs));
  }
  memory = lua_topointer(L, -1);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  get_body(d, memory);
  if (tag & LUMAP_META) get_metatable(d);
  return memory;
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* A shape is three entries of the list of shapes: its keys, a model, and this. */
typedef struct known_shape {
  const lumap_table *model; /* has the keys, in the nodes that they get in every table made like it */
  uint32_t count;
  uint32_t nodes[]; /* by key */
} known_shape;

enum { SHAPE_KEYS = 1, SHAPE_MODEL, SHAPE_NODES, SHAPE_ENTRIES = 3 };

/* Where in the model's memory each key is. The keys are at `keys`, the model on top. [-0, +1] */
static void push_nodes(lumap_decoder *d, int keys, uint32_t count) {
  lua_State *L = d->L;
  const lumap_table *model = lua_topointer(L, -1);
  known_shape *shape = lua_newuserdata(L, sizeof *shape + count * sizeof *shape->nodes);
  *shape = (known_shape){.model = model, .count = count};
  for (uint32_t k = 0; k < count; k++) {
    lumap_slot key;
    uint32_t node = 0;
    lua_rawgeti(L, keys, (int)k + 1);
    /* A node without a value may still hold the address of a key. */
    do
      key = lumap_node_key(&model->nodes[node++]);
    while ((lumap_slot_kind_of(&key) != LUMAP_SLOT_STRING || lumap_slot_object(&key) != lua_topointer(L, -1)) &&
           node < lumap_table_node_count(model));
    shape->nodes[k] = node - 1;
    lua_pop(L, 1);
  }
}

/* Reads a new shape and appends it to the list. */
static void get_shape(lumap_decoder *d) {
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
  if (d->direct)
    push_nodes(d, keys, count);
  else
    lua_pushboolean(L, 0);
  lua_rawseti(L, d->shapes, at + SHAPE_NODES);
  lua_rawseti(L, d->shapes, at + SHAPE_MODEL);
  lua_rawseti(L, d->shapes, at + SHAPE_KEYS);
  d->shape_count++;
}

/* Where the value of key `k` lies in a table that was made like the model, if it is still there. */
static inline lumap_slot *record_place(const known_shape *shape, const lumap_table *table, uint32_t k) {
  const lumap_table *model = shape->model;
  uint32_t node = shape->nodes[k];
  lumap_slot key, expected;
  if (!lumap_table_is_fresh(table) || lumap_table_node_count(table) != lumap_table_node_count(model)) return NULL;
  key = lumap_node_key(&table->nodes[node]);
  expected = lumap_node_key(&model->nodes[node]);
  return lumap_slot_equal(&key, &expected) ? lumap_node_value(&table->nodes[node]) : NULL;
}

/* Pushes key `k` of shape `number`. */
static void push_key(lumap_decoder *d, uint32_t number, uint32_t k) {
  lua_rawgeti(d->L, d->shapes, (int)number * SHAPE_ENTRIES + SHAPE_KEYS);
  lua_rawgeti(d->L, -1, (int)k + 1);
  lua_remove(d->L, -2);
}

/* The values of a record into the table on top, which lies at `memory`. Without `shape` through the C API. */
static void get_fields(lumap_decoder *d, const lumap_table *memory, const known_shape *shape, uint32_t number,
                       uint32_t count) {
  lua_State *L = d->L;
  uint64_t owed = d->owed;
  for (uint32_t k = 0; k < count; k++) {
    lumap_slot *place = shape ? record_place(shape, memory, k) : NULL;
    reading how = place ? get_simple(d, memory, place) : NOT_READ;
    if (how == STORED) continue;
    if (how == NOT_READ) {
      d->owed = owed + (count - k - 1);
      lumap_decode_nested(d);
    }
    place = shape ? record_place(shape, memory, k) : NULL;
    if (place && store_simple(L, place)) {
      lua_pop(L, 1);
    } else {
      push_key(d, number, k);
      lua_insert(L, -2);
      lua_rawset(L, -3);
    }
  }
  d->owed = owed;
  /* The table may have served as a metatable already, of a value in it. */
  if (shape) lumap_table_forget_absent((lumap_table *)(uintptr_t)memory);
}

/* Makes the shape that the next bytes name, read if it is new, the decoder's current one. */
static void get_shape_number(lumap_decoder *d) {
  lua_State *L = d->L;
  uint64_t number = lumap_get_varint(&d->in);
  lumap_decoder_check(d);
  if (d->shape_keys && number == d->shape_number) return;
  if (number > d->shape_count) lumap_decoder_bad(d, "a shape that is not there");
  if (number == d->shape_count) get_shape(d);
  d->shape_number = (uint32_t)number;
  lua_rawgeti(L, d->shapes, (int)number * SHAPE_ENTRIES + SHAPE_KEYS);
  d->shape_keys = (uint32_t)lumap_rawlen(L, -1);
  lua_rawgeti(L, d->shapes, (int)number * SHAPE_ENTRIES + SHAPE_NODES);
  d->shape = lua_touserdata(L, -1);
  lua_pop(L, 2);
}

const lumap_table *lumap_get_record(lumap_decoder *d, unsigned tag, uint64_t offset) {
  const lumap_table *memory;
  lua_State *L = d->L;
  const known_shape *shape;
  uint32_t number, count;
  get_shape_number(d);
  /* Values of this record may be records of other shapes. */
  shape = d->shape;
  number = d->shape_number;
  count = d->shape_keys;
  /* As many values must follow, and those of the records around it: a shape is short, and may be named often. */
  if (count + d->owed > lumap_reader_left(&d->in)) d->in.failed = true;
  lumap_decoder_check(d);
  lua_createtable(L, 0, (int)count);
  memory = lua_topointer(L, -1);
  if (shape && !lumap_table_copy_keys((lumap_table *)(uintptr_t)memory, shape->model)) shape = NULL;
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  get_fields(d, memory, shape, number, count);
  if (tag & LUMAP_META) get_metatable(d);
  return memory;
}
