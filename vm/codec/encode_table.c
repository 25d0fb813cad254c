/* SPDX-License-Identifier: MIT
 *
 * encode_table.c - what is in a table, to bytes: lists of numbers, records, lists and pairs.
 *
 * There are two ways to the contents. Where the VM's layout is known they are read where they lie, and only what is
 * neither number, boolean, string nor plain table is pushed for the C API to look at. Else all goes through the C API.
 * Both write the same format, and a reader cannot tell them apart but by the shapes, which only the first way writes.
 *
 * While a table is read where it lies nothing may move it. Plain data allocates nothing in the state; before the first
 * other value the collector, whose finalizers run anything, is stopped (lumap_encode_call starts it again). Then only a
 * pack function runs code that could change the table: the encoder keeps alive what it has met by then, and the loops
 * here look up the table's memory anew after each value.
 */
#include "codec/encoder.h"
#include "codec/packed.h"

/* ---- through the C API -------------------------------------------------------------------------------------- */

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

/* ---- where the table lies: single values -------------------------------------------------------------------- */

static void put_double(lumap_bytes *out, double number) {
  int64_t integer;
  if (lumap_double_is_integer(number, &integer))
    lumap_put_integer(out, integer);
  else
    lumap_put_field(out, LUMAP_TAG_F64, &number, sizeof number);
}

/* Writes a value of a kind that can neither be refused nor refer to anything; false for others. */
static inline bool put_simple(lumap_encoder *e, const lumap_slot *slot) {
  lumap_bytes *out = e->sink.out;
  const lumap_text *text;
  switch (lumap_slot_kind_of(slot)) {
  case LUMAP_SLOT_FALSE:
    lumap_put_u8(out, LUMAP_TAG_FALSE);
    return true;
  case LUMAP_SLOT_TRUE:
    lumap_put_u8(out, LUMAP_TAG_TRUE);
    return true;
  case LUMAP_SLOT_INTEGER:
    lumap_put_integer(out, lumap_slot_integer(slot));
    return true;
  case LUMAP_SLOT_DOUBLE:
    put_double(out, lumap_slot_double(slot));
    return true;
  case LUMAP_SLOT_STRING:
    text = lumap_slot_object(slot);
    lumap_put_text(e, text, text->bytes, lumap_text_size(text));
    return true;
  default:
    return false;
  }
}

static void put_parts_where_it_lies(lumap_encoder *e, const lumap_table *table, unsigned flags, bool fill,
                                    const lumap_step *step);

/* How a metatable is referred to that has been written before: false if it has not. */
static bool find_metatable(lumap_encoder *e, const void *metatable, unsigned *tag, uint64_t *offset) {
  uint64_t *hit;
  if (metatable != e->plain_metatable) return false;
  *tag = LUMAP_TAG_REF;
  if (lumap_has_met(e, metatable, offset)) return true;
  *tag = LUMAP_TAG_KNOWN;
  hit = e->scope ? lumap_map_find(&e->scope->map, metatable) : NULL;
  if (hit) *offset = *hit >> 8;
  return hit != NULL;
}

bool lumap_put_plain_table(lumap_encoder *e, const lumap_table *table, const lumap_step *step) {
  const void *metatable = table->metatable, *object = table;
  uint64_t offset;
  unsigned tag;
  if (e->sink.is_log || e->depth >= LUMAP_DEPTH_NESTED) return false;
  if (metatable && !find_metatable(e, metatable, &tag, &offset)) return false;
  if (e->names && (lumap_encoder_is_globals(e, object) || lumap_names_has(e->names, object))) return false;
  if (e->scope && lumap_map_find(&e->scope->map, object)) return false;
  if (lumap_meet(e, table, &offset)) {
    lumap_put_offset(e, LUMAP_TAG_REF, offset);
    return true;
  }
  e->depth++;
  put_parts_where_it_lies(e, table, metatable ? LUMAP_META : 0, false, step);
  e->depth--;
  if (!metatable) return true;
  /* The metatable may have been met meanwhile, as a value: it is looked for again. */
  find_metatable(e, metatable, &tag, &offset);
  lumap_put_offset(e, tag, offset);
  return true;
}

/* Writes a value of a table that is not simple: the field `key`, or the key itself. */
static void put_other(lumap_encoder *e, const lumap_slot *slot, const lumap_table *table, const lumap_slot *key,
                      lumap_step_kind kind, const lumap_step *up) {
  lua_State *L = e->L;
  lumap_slot_step here;
  here.step = (lumap_step){.up = up, .kind = kind};
  here.table = table;
  here.key = *key;
  here.kept = false;
  if (lumap_slot_kind_of(slot) == LUMAP_SLOT_TABLE && lumap_put_plain_table(e, lumap_slot_object(slot), &here.step))
    return;
  lumap_encoder_rest(e);
  lumap_slot_push(L, e->scratch_index, e->scratch, slot);
  lumap_put_value(e, lua_gettop(L), &here.step);
  lua_pop(L, 1);
}

/* Any value. */
static inline void put_slot(lumap_encoder *e, const lumap_slot *slot, const lumap_table *table, const lumap_slot *key,
                            lumap_step_kind kind, const lumap_step *up) {
  if (!put_simple(e, slot)) put_other(e, slot, table, key, kind, up);
}

/* A pack function changed the table whose contents are being written. */
static int refuse_change(lumap_encoder *e, const lumap_step *step) {
  lumap_path_push(e->L, step);
  return lumap_raise(e->L, "cannot send %s: a pack function changed it while it was being written",
                     lua_tostring(e->L, -1));
}

/* ---- where the table lies: records -------------------------------------------------------------------------- */

/* The keys of a table whose keys are all strings, and few; 0 for others. */
static size_t find_keys(const lumap_table *table, const void **keys, uint64_t *hash) {
  size_t nodes = lumap_table_node_count(table), count = 0;
  if (nodes > 2 * LUMAP_SHAPE_KEYS) return 0;
  *hash = nodes;
  for (size_t i = 0; i < nodes; i++) {
    lumap_slot key;
    if (lumap_slot_is_nil(lumap_node_value(&table->nodes[i]))) continue;
    key = lumap_node_key(&table->nodes[i]);
    if (lumap_slot_kind_of(&key) != LUMAP_SLOT_STRING || count == LUMAP_SHAPE_KEYS) return 0;
    keys[count] = lumap_slot_object(&key);
    *hash = (*hash ^ (uintptr_t)keys[count] >> 3) * UINT64_C(0x9E3779B97F4A7C15);
    count++;
  }
  return count;
}

/* The shape with these keys if it has been met before; else notes that it is met now. */
static lumap_shape *find_shape(lumap_encoder *e, const void **keys, size_t count, uint64_t hash) {
  lumap_shape *shape = &e->shapes[hash >> 58 & (LUMAP_SHAPES - 1)];
  if (shape->stamp == e->stamp && shape->count == count && memcmp(shape->keys, keys, count * sizeof *keys) == 0)
    return shape;
  shape->stamp = e->stamp;
  shape->count = (uint32_t)count;
  shape->written = false;
  memcpy(shape->keys, keys, count * sizeof *keys);
  return NULL;
}

static void put_shape(lumap_encoder *e, lumap_shape *shape) {
  lumap_bytes *out = e->sink.out;
  if (shape->written) {
    lumap_put_varint(out, shape->number);
    return;
  }
  shape->number = e->shape_count++;
  shape->written = true;
  lumap_put_varint(out, shape->number);
  lumap_put_u8(out, shape->count);
  for (uint32_t i = 0; i < shape->count; i++) {
    const lumap_text *key = shape->keys[i];
    lumap_put_string(out, key->bytes, lumap_text_size(key));
  }
}

/* Writes the table as a record if its shape has been met before. */
static bool put_record(lumap_encoder *e, const lumap_table *table, unsigned flags, const lumap_step *step) {
  const void *keys[LUMAP_SHAPE_KEYS];
  uint64_t hash;
  size_t count, nodes = lumap_table_node_count(table);
  const lumap_node *memory = table->nodes;
  lumap_shape *shape;
  if (e->sink.is_log) return false;
  count = find_keys(table, keys, &hash);
  if (count == 0 || !(shape = find_shape(e, keys, count, hash))) return false;
  lumap_put_u8(e->sink.out, LUMAP_TAG_RECORD | flags);
  put_shape(e, shape);
  for (size_t i = 0, k = 0; k < count; i++) {
    lumap_slot key, *value;
    if (table->nodes != memory || lumap_table_node_count(table) != nodes || i >= nodes) refuse_change(e, step);
    key = lumap_node_key(&table->nodes[i]);
    value = lumap_node_value(&table->nodes[i]);
    if (lumap_slot_is_nil(value)) continue;
    if (lumap_slot_object(&key) != keys[k++]) refuse_change(e, step);
    put_slot(e, value, table, &key, LUMAP_STEP_SLOT, step);
  }
  return true;
}

/* ---- where the table lies: all others ----------------------------------------------------------------------- */

/* `key` is a copy; `value` lies in the table. */
static void put_pair(lumap_encoder *e, const lumap_table *table, const lumap_slot *key, const lumap_slot *value,
                     const lumap_step *step) {
  lumap_step at_value = {step, LUMAP_STEP_SLOT, 0, 0, NULL, NULL};
  lumap_slot_step here = {.step = at_value, .table = table, .key = *key};
  if (put_simple(e, key)) {
    put_slot(e, value, table, key, LUMAP_STEP_SLOT, step);
    return;
  }
  /* Writing such a key may run code that takes the value out of the table. */
  lumap_encoder_rest(e);
  lumap_slot_push(e->L, e->scratch_index, e->scratch, value);
  put_slot(e, key, table, key, LUMAP_STEP_SLOT_KEY, step);
  lumap_put_value(e, lua_gettop(e->L), &here.step);
  lua_pop(e->L, 1);
}

/* How far ahead objects are fetched into the cache: those of a big list are rarely there. */
enum { AHEAD = 6 };

/* The list values, until the first nil. Returns how many there were. */
static size_t put_list(lumap_encoder *e, const lumap_table *table, const lumap_step *step) {
  size_t done = 0, room;
  for (;; done++) {
    const lumap_slot *list = lumap_table_list(table, &room);
    lumap_slot key;
    for (; done < room && put_simple(e, &list[done]); done++)
      if (done + AHEAD < room) lumap_slot_prefetch(&list[done + AHEAD]);
    if (done >= room || lumap_slot_is_nil(&list[done])) return done;
    lumap_slot_put_integer(&key, (int64_t)done + 1);
    put_other(e, &list[done], table, &key, LUMAP_STEP_SLOT, step);
  }
}

/* The part of the array behind a hole, and key 0 where it lies there. Returns how many pairs. */
static size_t put_behind_holes(lumap_encoder *e, const lumap_table *table, size_t done, const lumap_step *step) {
  size_t room, pairs = 0;
  const lumap_slot *zero = lumap_table_zero(table);
  lumap_slot key;
  if (zero && !lumap_slot_is_nil(zero)) {
    lumap_slot_put_integer(&key, 0);
    put_pair(e, table, &key, zero, step);
    pairs++;
  }
  for (;; done++) {
    const lumap_slot *list = lumap_table_list(table, &room);
    while (done < room && lumap_slot_is_nil(&list[done]))
      done++;
    if (done >= room) return pairs;
    lumap_slot_put_integer(&key, (int64_t)done + 1);
    put_pair(e, table, &key, &list[done], step);
    pairs++;
  }
}

static size_t put_nodes(lumap_encoder *e, const lumap_table *table, const lumap_step *step) {
  size_t nodes = lumap_table_node_count(table), pairs = 0;
  const lumap_node *memory = table->nodes;
  for (size_t i = 0; i < nodes; i++) {
    lumap_slot key, *value;
    if (table->nodes != memory || lumap_table_node_count(table) != nodes) refuse_change(e, step);
    value = lumap_node_value(&table->nodes[i]);
    if (lumap_slot_is_nil(value)) continue;
    key = lumap_node_key(&table->nodes[i]);
    put_pair(e, table, &key, value, step);
    pairs++;
  }
  return pairs;
}

static bool has_zero(const lumap_table *table) {
  const lumap_slot *zero = lumap_table_zero(table);
  return zero && !lumap_slot_is_nil(zero);
}

static bool has_nodes(const lumap_table *table) {
  size_t nodes = lumap_table_node_count(table), i = 0;
  while (i < nodes && lumap_slot_is_nil(lumap_node_value(&table->nodes[i])))
    i++;
  return i < nodes;
}

/* The number of the last value in the array: that of list values, unless there are holes. */
static size_t last_in_array(const lumap_table *table) {
  size_t last;
  const lumap_slot *list = lumap_table_list(table, &last);
  while (last > 0 && lumap_slot_is_nil(&list[last - 1]))
    last--;
  return last;
}

static void put_head(lumap_encoder *e, unsigned flags, size_t list_hint) {
  lumap_bytes *out = e->sink.out;
  if (!lumap_bytes_reserve(out, 16)) lumap_encoder_no_memory(e);
  out->data[out->size++] = (unsigned char)(LUMAP_TAG_TABLE | flags);
  lumap_put_varint(out, list_hint);
}

/* `flags` are META and SHARED as they go into the tag. A FILL is no record. */
static void put_parts_where_it_lies(lumap_encoder *e, const lumap_table *table, unsigned flags, bool fill,
                                    const lumap_step *step) {
  lumap_bytes *out = e->sink.out;
  size_t last = last_in_array(table), room, done = 0, hint_at, pairs = 0;
  bool zero = has_zero(table);
  if (last == 0 && !zero && !fill && put_record(e, table, flags, step)) return;
  if (last >= LUMAP_PACKED_LEAST) done = lumap_put_numbers(out, lumap_table_list(table, &room), last, flags);
  if (!done) put_head(e, flags, last);
  hint_at = out->size;
  lumap_put_u8(out, 0);
  if (!done) done = put_list(e, table, step);
  if (done < last || zero || has_nodes(table)) {
    lumap_put_u8(out, LUMAP_TAG_PAIRS);
    pairs = put_behind_holes(e, table, done, step) + put_nodes(e, table, step);
  }
  lumap_put_u8(out, LUMAP_TAG_END);
  lumap_encoder_check_memory(e);
  if (pairs) out->data[hint_at] = (unsigned char)(pairs < UINT8_MAX ? pairs : UINT8_MAX);
}

/* ---- both ways ---------------------------------------------------------------------------------------------- */

void lumap_put_table_parts(lumap_encoder *e, int index, int metatable, bool fill, const lumap_step *step) {
  unsigned flags = (metatable ? LUMAP_META : 0) | (fill ? 0 : lumap_sink_tag(e, 0));
  if (e->scratch)
    put_parts_where_it_lies(e, lua_topointer(e->L, index), flags, fill, step);
  else
    put_parts_by_api(e, index, flags, step);
  if (metatable) lumap_put_metatable(e, metatable, step);
}
