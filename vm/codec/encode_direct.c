/* SPDX-License-Identifier: MIT
 *
 * encode_direct.c - tables that are read where they lie in the VM's memory, to bytes: lists of numbers, records, lists
 * and pairs of plain data. What is neither number, boolean, string nor plain table is pushed for encode.c to look at.
 *
 * Bytes are written through a cursor, which stays in a register: there is room for a small value behind it whenever
 * one is written, so only that is asked for. Whoever else writes finds the message's size set by suspend(); resume()
 * gives the cursor after that.
 *
 * While a table is read where it lies nothing may move it. Plain data allocates nothing in the state; before the first
 * other value the collector, whose finalizers run anything, is stopped (lumap_encode_call starts it again). Then only a
 * pack function runs code that could change the table: the encoder keeps alive what it has met by then, and the loops
 * here look up the table's memory anew after each value that is not simple.
 */
#include "codec/encoder.h"
#include "codec/packed.h"

/* Where the next byte goes. */
typedef unsigned char *cursor;

/* What most values need is put in place; what few do must not take its registers. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define RARE static __attribute__((noinline, cold))

/* More than any tag with a number, or a string of up to 63 bytes in a slot, takes. */
enum { ROOM = 80 };

static void suspend(lumap_encoder *e, cursor at) {
  e->sink.out->size = (size_t)(at - e->sink.out->data);
}

static cursor resume(lumap_encoder *e) {
  lumap_bytes *out = e->sink.out;
  if (out->failed || !lumap_bytes_reserve(out, ROOM)) lumap_encoder_no_memory(e);
  e->limit = out->data + out->capacity - ROOM;
  e->origin = e->sink.base - (uint64_t)(uintptr_t)out->data;
  return out->data + out->size;
}

RARE cursor grow(lumap_encoder *e, cursor at) {
  suspend(e, at);
  return resume(e);
}

static inline cursor make_room(lumap_encoder *e, cursor at) {
  return at > e->limit ? grow(e, at) : at;
}

/* ---- single values ------------------------------------------------------------------------------------------ */

static inline cursor put_varint(cursor at, uint64_t value) {
  for (; value >= 0x80; value >>= 7)
    *at++ = (unsigned char)(value | 0x80);
  *at++ = (unsigned char)value;
  return at;
}

/* The shortest of the four widths. Eight bytes are written in any case. */
ALWAYS_INLINE cursor put_integer(cursor at, int64_t value) {
  unsigned width;
  if ((uint64_t)value < 128) {
    *at++ = (unsigned char)(LUMAP_TAG_FIXINT | value);
    return at;
  }
  width = (unsigned)(value != (int8_t)value) + (value != (int16_t)value) + (value != (int32_t)value);
  *at++ = (unsigned char)(LUMAP_TAG_I8 + width);
  memcpy(at, &value, sizeof value);
  return at + ((size_t)1 << width);
}

ALWAYS_INLINE cursor put_double(cursor at, double number) {
  int64_t integer;
  if (lumap_double_is_integer(number, &integer)) return put_integer(at, integer);
  *at++ = LUMAP_TAG_F64;
  memcpy(at, &number, sizeof number);
  return at + sizeof number;
}

/* memcpy of up to 63 bytes, in place: two pieces of a size that overlap. */
ALWAYS_INLINE void copy_few(unsigned char *to, const char *from, size_t size) {
  if (size >= 16) {
    if (size > 32) {
      memcpy(to + 16, from + 16, 16);
      memcpy(to + size - 32, from + size - 32, 16);
    }
    memcpy(to, from, 16);
    memcpy(to + size - 16, from + size - 16, 16);
  } else if (size >= 8) {
    memcpy(to, from, 8);
    memcpy(to + size - 8, from + size - 8, 8);
  } else if (size >= 4) {
    memcpy(to, from, 4);
    memcpy(to + size - 4, from + size - 4, 4);
  } else if (size > 0) {
    to[0] = (unsigned char)from[0];
    to[size / 2] = (unsigned char)from[size / 2];
    to[size - 1] = (unsigned char)from[size - 1];
  }
}

ALWAYS_INLINE cursor put_few(cursor at, const char *bytes, size_t size) {
  *at++ = (unsigned char)(LUMAP_TAG_FIXSTR | size);
  copy_few(at, bytes, size);
  return at + size;
}

static __attribute__((noinline)) cursor put_long_text(lumap_encoder *e, cursor at, const lumap_text *text) {
  suspend(e, at);
  lumap_put_text(e, text, text->bytes, lumap_text_size(text));
  return resume(e);
}

/* As lumap_put_text. What is in a slot is known by its address alone: the string is not looked at. */
ALWAYS_INLINE cursor put_text(lumap_encoder *e, cursor at, const lumap_text *text) {
  size_t number = lumap_text_slot_number(text), size;
  lumap_text_slot *slot = &e->texts[number];
  if (slot->text == text && slot->stamp == e->stamp && !e->sink.is_log) {
    *at++ = slot->written ? LUMAP_TAG_TEXT_REF : LUMAP_TAG_TEXT;
    *at++ = (unsigned char)number;
    if (slot->written) return at;
    slot->written = true;
    return put_few(at, text->bytes, lumap_text_size(text));
  }
  size = lumap_text_size(text);
  if (size > 63) return put_long_text(e, at, text);
  if (lumap_text_has_slot(e, size)) {
    slot->text = text;
    slot->stamp = e->stamp;
    slot->written = false;
  }
  return put_few(at, text->bytes, size);
}

/* ---- all values --------------------------------------------------------------------------------------------- */

static cursor put_table(lumap_encoder *e, cursor at, const lumap_table *table, const lumap_step *step);

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

static cursor put_offset(lumap_encoder *e, cursor at, unsigned tag, uint64_t offset) {
  suspend(e, at);
  lumap_put_offset(e, tag, offset);
  return resume(e);
}

/* Has the table been met? Else notes that it begins at the cursor. */
ALWAYS_INLINE bool meet(lumap_encoder *e, cursor at, const lumap_table *table, uint64_t *offset) {
  size_t count = e->met_count;
  uintptr_t number = lumap_table_number(table);
  if (number - 1 < count && e->met[number - 1].table == table) {
    *offset = e->met[number - 1].offset;
    return true;
  }
  if (count >= e->met_limit || !lumap_table_has_room(table)) {
    suspend(e, at);
    return lumap_meet(e, table, offset);
  }
  e->met[count] = (lumap_met_table){table, (uintptr_t)at + e->origin};
  e->met_count = count + 1;
  lumap_table_set_number(table, count + 1);
  return false;
}

/* What the API must look at: the field `here`, or the key itself. */
RARE cursor put_other(lumap_encoder *e, cursor at, const lumap_slot *slot, const lumap_step *here) {
  lua_State *L = e->L;
  suspend(e, at);
  lumap_encoder_rest(e);
  lumap_slot_push(L, e->scratch_index, e->scratch, slot);
  lumap_put_value(e, lua_gettop(L), here);
  lua_pop(L, 1);
  e->others++;
  lumap_encoder_check_numbers(e);
  return resume(e);
}

/* Writes a value of a kind that can neither be refused nor refer to anything; NULL for others. There must be room. */
ALWAYS_INLINE cursor put_simple(lumap_encoder *e, cursor at, const lumap_slot *slot) {
  if (lumap_slot_is_double(slot)) return put_double(at, lumap_slot_double(slot));
  if (!LUMAP_VM_IS_LUAJIT && lumap_slot_kind_of(slot) == LUMAP_SLOT_INTEGER)
    return put_integer(at, lumap_slot_integer(slot));
  if (lumap_slot_is_string(slot)) return put_text(e, at, lumap_slot_object(slot));
  if (lumap_slot_is_table(slot)) return NULL;
  switch (lumap_slot_kind_of(slot)) {
  case LUMAP_SLOT_FALSE:
    *at++ = LUMAP_TAG_FALSE;
    return at;
  case LUMAP_SLOT_TRUE:
    *at++ = LUMAP_TAG_TRUE;
    return at;
  case LUMAP_SLOT_INTEGER:
    return put_integer(at, lumap_slot_integer(slot));
  default:
    return NULL;
  }
}

/* A value that is not simple. */
ALWAYS_INLINE cursor put_composite(lumap_encoder *e, cursor at, const lumap_slot *slot, const lumap_step *here) {
  if (lumap_slot_is_table(slot)) {
    cursor behind = put_table(e, at, lumap_slot_object(slot), here);
    if (behind) return behind;
  }
  return put_other(e, at, slot, here);
}

/* The same for the field `key` of the table, or the key itself. `here` is the step to it but for that. */
ALWAYS_INLINE cursor put_field(lumap_encoder *e, cursor at, const lumap_slot *slot, const lumap_slot *key,
                               lumap_slot_step *here) {
  here->key = *key;
  here->kept = false;
  return put_composite(e, at, slot, &here->step);
}

static __attribute__((noinline)) cursor put_slot(lumap_encoder *e, cursor at, const lumap_slot *slot,
                                                 const lumap_slot *key, lumap_slot_step *here) {
  cursor behind;
  at = make_room(e, at);
  behind = put_simple(e, at, slot);
  return behind ? behind : put_field(e, at, slot, key, here);
}

/* A pack function changed the table whose contents are being written. */
RARE int refuse_change(lumap_encoder *e, const lumap_step *step) {
  lumap_path_push(e->L, step);
  return lumap_raise(e->L, "cannot send %s: a pack function changed it while it was being written",
                     lua_tostring(e->L, -1));
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* A table with more nodes is no record, however few keys it has. */
enum { MOST_SHAPE_NODES = 2 * LUMAP_SHAPE_KEYS };

/* The keys of a table whose keys are all strings, and few; 0 for others. */
static size_t find_keys(const lumap_table *table, const void **keys, uint64_t *hash) {
  size_t nodes = lumap_table_node_count(table), count = 0;
  if (nodes > MOST_SHAPE_NODES) return 0;
  *hash = 1;
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

/* Shapes whose hashes lead to the same place share this many. */
enum { SHAPES_A_SET = 4 };

/* The shape with these keys, or one to forget for them. */
static lumap_shape *shape_place(lumap_encoder *e, const void **keys, size_t count, uint64_t hash) {
  lumap_shape *set = &e->shapes[(hash >> 58) % (LUMAP_SHAPES / SHAPES_A_SET) * SHAPES_A_SET];
  lumap_shape *place = &set[(hash >> 48) % SHAPES_A_SET];
  for (lumap_shape *shape = set; shape < set + SHAPES_A_SET; shape++) {
    if (shape->stamp != e->stamp)
      place = shape;
    else if (shape->count == count && memcmp(shape->keys, keys, count * sizeof *keys) == 0)
      return shape;
  }
  return place;
}

/* The shape with the table's keys if it has been met before; else notes that it is met now, if it can have one. */
static __attribute__((noinline)) lumap_shape *find_shape(lumap_encoder *e, const lumap_table *table) {
  const void *keys[LUMAP_SHAPE_KEYS];
  uint64_t hash;
  size_t count = find_keys(table, keys, &hash);
  lumap_shape *shape;
  if (count == 0) return NULL;
  shape = shape_place(e, keys, count, hash);
  e->last_shape[e->depth] = shape;
  if (shape->stamp == e->stamp && shape->count == count && memcmp(shape->keys, keys, count * sizeof *keys) == 0)
    return shape;
  shape->stamp = e->stamp;
  shape->hash = hash;
  shape->count = (uint32_t)count;
  shape->written = false;
  memcpy(shape->keys, keys, count * sizeof *keys);
  return NULL;
}

/* Are the table's keys those of the shape, in their order? */
static inline bool has_shape(const lumap_table *table, size_t nodes, const lumap_shape *shape) {
  size_t k = 0;
  for (size_t i = 0; i < nodes; i++) {
    lumap_node *node = &table->nodes[i];
    if (lumap_slot_is_nil(lumap_node_value(node))) continue;
    if (k == shape->count || !lumap_node_is_of(node, shape->keys[k])) return false;
    k++;
  }
  return k == shape->count;
}

/* Tables at the same depth often have the same keys. */
static inline lumap_shape *shape_of(lumap_encoder *e, const lumap_table *table, size_t nodes) {
  lumap_shape *shape = e->last_shape[e->depth];
  if (shape && shape->stamp == e->stamp && nodes <= MOST_SHAPE_NODES && has_shape(table, nodes, shape)) return shape;
  return find_shape(e, table);
}

RARE cursor put_new_shape(lumap_encoder *e, cursor at, lumap_shape *shape) {
  lumap_bytes *out = e->sink.out;
  suspend(e, at);
  shape->number = e->shape_count++;
  shape->written = true;
  lumap_put_varint(out, shape->number);
  lumap_put_u8(out, shape->count);
  for (uint32_t i = 0; i < shape->count; i++) {
    const lumap_text *key = shape->keys[i];
    lumap_put_string(out, key->bytes, lumap_text_size(key));
  }
  return resume(e);
}

/* Something else than plain data was written since there were `others`: does the table still have those keys? */
RARE void check_shape(lumap_encoder *e, const lumap_table *table, uint64_t hash, const lumap_step *step) {
  const void *keys[LUMAP_SHAPE_KEYS];
  uint64_t now = 0;
  if (find_keys(table, keys, &now) == 0 || now != hash) refuse_change(e, step);
}

ALWAYS_INLINE cursor put_record(lumap_encoder *e, cursor at, const lumap_table *table, lumap_shape *shape,
                                unsigned flags, const lumap_step *step) {
  lumap_slot_step here = {.step = {.up = step, .kind = LUMAP_STEP_SLOT}};
  uint64_t others, hash = shape->hash;
  uint32_t left = shape->count;
  lumap_node *nodes = table->nodes;
  *at++ = (unsigned char)(LUMAP_TAG_RECORD | flags);
  at = shape->written ? put_varint(at, shape->number) : put_new_shape(e, at, shape);
  for (lumap_node *node = nodes; left > 0; node++) {
    cursor behind;
    lumap_slot key;
    if (lumap_slot_is_nil(lumap_node_value(node))) continue;
    left--;
    at = make_room(e, at);
    behind = put_simple(e, at, lumap_node_value(node));
    if (behind) {
      at = behind;
      continue;
    }
    key = lumap_node_key(node);
    others = e->others;
    at = put_field(e, at, lumap_node_value(node), &key, &here);
    if (others == e->others) continue;
    if (table->nodes != nodes) refuse_change(e, step);
    check_shape(e, table, hash, step);
  }
  return at;
}

/* ---- all other tables --------------------------------------------------------------------------------------- */

/* Writing such a key may run code that takes the value out of the table: that is kept on the stack. */
static cursor put_odd_pair(lumap_encoder *e, cursor at, const lumap_slot *key, const lumap_slot *value,
                           lumap_slot_step *here) {
  lua_State *L = e->L;
  suspend(e, at);
  lumap_encoder_rest(e);
  lumap_slot_push(L, e->scratch_index, e->scratch, value);
  here->step.kind = LUMAP_STEP_SLOT_KEY;
  at = put_slot(e, resume(e), key, key, here);
  here->step.kind = LUMAP_STEP_SLOT;
  suspend(e, at);
  lumap_put_value(e, lua_gettop(L), &here->step);
  lua_pop(L, 1);
  e->others++;
  lumap_encoder_check_numbers(e);
  return resume(e);
}

/* `key` is a copy; `value` lies in the table. */
static inline cursor put_pair(lumap_encoder *e, cursor at, const lumap_slot *key, const lumap_slot *value,
                              lumap_slot_step *here) {
  cursor behind;
  at = make_room(e, at);
  behind = put_simple(e, at, key);
  return behind ? put_slot(e, behind, value, key, here) : put_odd_pair(e, at, key, value, here);
}

/* How far ahead objects are fetched into the cache: those of a big list are rarely there. */
enum { AHEAD = 6 };

/* The first `last` list values, until the first nil: `*done` of them. */
ALWAYS_INLINE cursor put_list(lumap_encoder *e, cursor at, const lumap_table *table, size_t last, size_t *done,
                              const lumap_step *step) {
  lumap_step here = {.up = step, .kind = LUMAP_STEP_ITEM};
  size_t room, i, fetched = last >= LUMAP_PACKED_LEAST ? last - AHEAD : 0;
  uint64_t others = e->others;
  const lumap_slot *list = lumap_table_list(table, &room);
  for (i = 0; i < last; i++) {
    cursor behind;
    if (i < fetched) lumap_slot_prefetch(&list[i + AHEAD]);
    at = make_room(e, at);
    behind = put_simple(e, at, &list[i]);
    if (behind) {
      at = behind;
      continue;
    }
    if (lumap_slot_is_nil(&list[i])) break;
    here.number = (int)i + 1;
    at = put_composite(e, at, &list[i], &here);
    if (others == e->others) continue;
    others = e->others;
    list = lumap_table_list(table, &room);
    if (room < last) last = room;
    if (fetched > last) fetched = 0;
  }
  *done = i;
  return at;
}

/* The part of the array behind a hole, and key 0 where it lies there. */
static cursor put_behind_holes(lumap_encoder *e, cursor at, const lumap_table *table, size_t done, size_t *pairs,
                               lumap_slot_step *here) {
  size_t room;
  const lumap_slot *zero = lumap_table_zero(table), *list;
  lumap_slot key;
  if (zero && !lumap_slot_is_nil(zero)) {
    lumap_slot_put_integer(&key, 0);
    at = put_pair(e, at, &key, zero, here);
    ++*pairs;
  }
  for (; list = lumap_table_list(table, &room), done < room; done++) {
    if (lumap_slot_is_nil(&list[done])) continue;
    lumap_slot_put_integer(&key, (int64_t)done + 1);
    at = put_pair(e, at, &key, &list[done], here);
    ++*pairs;
  }
  return at;
}

static cursor put_nodes(lumap_encoder *e, cursor at, const lumap_table *table, size_t *pairs, lumap_slot_step *here) {
  size_t nodes = lumap_table_node_count(table);
  const lumap_node *memory = table->nodes;
  for (size_t i = 0; i < nodes; i++) {
    lumap_slot key, *value;
    if (table->nodes != memory || lumap_table_node_count(table) != nodes) refuse_change(e, here->step.up);
    value = lumap_node_value(&table->nodes[i]);
    if (lumap_slot_is_nil(value)) continue;
    key = lumap_node_key(&table->nodes[i]);
    at = put_pair(e, at, &key, value, here);
    ++*pairs;
  }
  return at;
}

static inline bool has_zero(const lumap_table *table) {
  const lumap_slot *zero = lumap_table_zero(table);
  return zero && !lumap_slot_is_nil(zero);
}

static inline bool has_nodes(const lumap_table *table, size_t nodes) {
  size_t i = 0;
  if (lumap_table_has_no_nodes(table)) return false;
  while (i < nodes && lumap_slot_is_nil(lumap_node_value(&table->nodes[i])))
    i++;
  return i < nodes;
}

/* The number of the last value in the array: that of list values, unless there are holes. */
static inline size_t last_in_array(const lumap_table *table) {
  size_t last;
  const lumap_slot *list = lumap_table_list(table, &last);
  while (last > 0 && lumap_slot_is_nil(&list[last - 1]))
    last--;
  return last;
}

static __attribute__((noinline)) cursor put_pairs(lumap_encoder *e, cursor at, const lumap_table *table, size_t done,
                                                  size_t hint_at, const lumap_step *step) {
  lumap_slot_step here = {.step = {.up = step, .kind = LUMAP_STEP_SLOT}};
  size_t pairs = 0;
  at = make_room(e, at);
  *at++ = LUMAP_TAG_PAIRS;
  at = put_behind_holes(e, at, table, done, &pairs, &here);
  at = put_nodes(e, at, table, &pairs, &here);
  e->sink.out->data[hint_at] = (unsigned char)(pairs < UINT8_MAX ? pairs : UINT8_MAX);
  return at;
}

/* The numbers of a list as PACKED, and how many they are; 0, and nothing written, when it holds something else. */
static __attribute__((noinline)) cursor put_numbers(lumap_encoder *e, cursor at, const lumap_table *table, size_t last,
                                                    unsigned flags, size_t *done) {
  size_t room;
  suspend(e, at);
  *done = lumap_put_numbers(e->sink.out, lumap_table_list(table, &room), last, flags);
  return resume(e);
}

/* A table that is no more than a list of up to `last` values, as most small ones are. There must be room. */
ALWAYS_INLINE cursor put_short_list(lumap_encoder *e, cursor at, const lumap_table *table, size_t last,
                                    const lumap_step *step) {
  size_t done, hint_at;
  *at++ = LUMAP_TAG_TABLE;
  *at++ = (unsigned char)last;
  hint_at = (size_t)(at - e->sink.out->data);
  *at++ = 0;
  at = put_list(e, at, table, last, &done, step);
  if (done < last || !lumap_table_has_no_nodes(table)) at = put_pairs(e, at, table, done, hint_at, step);
  at = make_room(e, at);
  *at++ = LUMAP_TAG_END;
  return at;
}

/* `flags` are META and SHARED as they go into the tag. A FILL is no record, and there is none in a log. There must be
   room. */
static __attribute__((noinline)) cursor put_parts(lumap_encoder *e, cursor at, const lumap_table *table, unsigned flags,
                                                  bool fill, const lumap_step *step) {
  size_t last = last_in_array(table), nodes = lumap_table_node_count(table), done = 0, hint_at;
  bool zero = has_zero(table);
  if (last == 0 && !zero && !fill) {
    lumap_shape *shape = shape_of(e, table, nodes);
    if (shape) return put_record(e, at, table, shape, flags, step);
  }
  if (last >= LUMAP_PACKED_LEAST) at = put_numbers(e, at, table, last, flags, &done);
  if (!done) {
    *at++ = (unsigned char)(LUMAP_TAG_TABLE | flags);
    at = put_varint(at, last);
  }
  hint_at = (size_t)(at - e->sink.out->data);
  *at++ = 0;
  if (!done) at = put_list(e, at, table, last, &done, step);
  if (done < last || zero || has_nodes(table, lumap_table_node_count(table)))
    at = put_pairs(e, at, table, done, hint_at, step);
  at = make_room(e, at);
  *at++ = LUMAP_TAG_END;
  return at;
}

/* Behind the table's parts, as it was found before them. It may have been met meanwhile, as a value: it is looked for
   again. */
static __attribute__((noinline)) cursor put_metatable(lumap_encoder *e, cursor at, const void *metatable, unsigned tag,
                                                      uint64_t offset) {
  find_metatable(e, metatable, &tag, &offset);
  return put_offset(e, at, tag, offset);
}

/* May the table be more than data, or is this a log, where all is noted in other ways? */
static inline bool is_known(lumap_encoder *e, const lumap_table *table) {
  if (e->sink.is_log) return true;
  if (e->names && (lumap_encoder_is_globals(e, table) || lumap_names_has(e->names, table))) return true;
  return e->scope && lumap_map_find(&e->scope->map, table);
}

/* Writes a table if nothing about it needs a second look; else gives NULL, and nothing is written. */
static cursor put_table(lumap_encoder *e, cursor at, const lumap_table *table, const lumap_step *step) {
  const void *metatable = table->metatable;
  uint64_t offset, place;
  size_t last;
  unsigned tag;
  if (e->depth >= LUMAP_DEPTH_NESTED) return NULL;
  if (metatable && !find_metatable(e, metatable, &tag, &offset)) return NULL;
  if (!e->plain && is_known(e, table)) return NULL;
  if (meet(e, at, table, &place)) return put_offset(e, at, LUMAP_TAG_REF, place);
  lumap_encoder_deepen(e);
  last = last_in_array(table);
  if (last - 1 < LUMAP_PACKED_LEAST - 1 && !metatable && lumap_table_has_no_nodes(table) && !has_zero(table))
    at = put_short_list(e, at, table, last, step);
  else
    at = put_parts(e, at, table, metatable ? LUMAP_META : 0, false, step);
  e->depth--;
  return metatable ? put_metatable(e, at, metatable, tag, offset) : at;
}

/* ---- from outside ------------------------------------------------------------------------------------------- */

bool lumap_put_plain_table(lumap_encoder *e, const lumap_table *table, const lumap_step *step) {
  cursor at;
  lumap_encoder_check_numbers(e);
  at = put_table(e, resume(e), table, step);
  if (at) suspend(e, at);
  return at != NULL;
}

void lumap_put_parts_where_they_lie(lumap_encoder *e, const lumap_table *table, unsigned flags, bool fill,
                                    const lumap_step *step) {
  suspend(e, put_parts(e, resume(e), table, flags, fill || e->sink.is_log, step));
}
