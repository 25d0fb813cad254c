/* SPDX-License-Identifier: MIT
 *
 * decode_direct.c - bytes to what is in a table, where the VM's layout is known: numbers, booleans, strings and fresh
 * tables are stored where they belong, without a call of the C API each.
 *
 * Bytes are read through a cursor, which stays in a register. Whoever else reads finds the reader set by suspend();
 * resume() gives the cursor after that.
 *
 * A table that is being filled is on top of the stack. It may be moved by an unpack function that got hold of it, or be
 * looked at by a collection that such a function asked for, or that 5.4 runs when memory is short: so its memory is
 * looked up anew after each value that is read by other ways, and a table that is not fresh any more is written through
 * the C API.
 */
#include "codec/encoder.h"

/* The next byte to read. */
typedef const unsigned char *cursor;

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define RARE static __attribute__((noinline, cold))

static inline void suspend(lumap_decoder *d, cursor at) {
  d->in.at = (size_t)(at - d->in.data);
}

static inline cursor resume(lumap_decoder *d) {
  lumap_decoder_check(d);
  return d->in.data + d->in.at;
}

static inline cursor end_of(const lumap_decoder *d) {
  return d->in.data + d->in.size;
}

RARE void end_too_early(lumap_decoder *d, cursor at) {
  suspend(d, at);
  d->in.failed = true;
  lumap_decoder_check(d);
}

/* ---- single values ------------------------------------------------------------------------------------------ */

typedef enum reading { NOT_READ, STORED, PUSHED } reading;

/* Stores the string on top in `slot` of the table. Making it may have collected: a table that is not fresh any more
   needs a barrier, and the string stays on top. */
ALWAYS_INLINE reading store_string(lua_State *L, const lumap_table *table, lumap_slot *slot) {
  if (!lumap_table_is_fresh(table)) return PUSHED;
  lumap_slot_copy(slot, *lumap_stack_top(L) - 1);
  lumap_stack_drop(L);
  return STORED;
}

/* Puts the string on top into a slot for strings, too. */
static void keep_text(lumap_decoder *d, unsigned number) {
  if (lumap_table_is_fresh(d->text_table)) {
    size_t room;
    lumap_slot_set_object(&lumap_table_list(d->text_table, &room)[number], lumap_stack_object(d->L));
  } else {
    lua_pushvalue(d->L, -1);
    lua_rawseti(d->L, d->texts, (int)number + 1);
  }
}

static reading get_text(lumap_decoder *d, cursor *from, size_t left, const lumap_table *table, lumap_slot *slot) {
  cursor at = *from;
  size_t size = (size_t)at[2] - LUMAP_TAG_FIXSTR;
  if (!d->text_table || size > 63 || size > left - 3) return NOT_READ;
  *from = at + 3 + size;
  lua_pushlstring(d->L, (const char *)at + 3, size);
  keep_text(d, at[1]);
  return store_string(d->L, table, slot);
}

/* Without a branch for each width, which nobody could foretell. Eight bytes are there in any case. */
static inline int64_t integer_of_width(cursor at, unsigned width) {
  unsigned unused = 64 - 8 * width;
  uint64_t bits;
  memcpy(&bits, at, sizeof bits);
  return (int64_t)(bits << unused) >> unused;
}

/* Reads the next value straight into `slot` of a fresh table if it is of a kind that needs no more than that; a string
   may come to lie on top instead. Else reads nothing. What is amiss is left to the common way, which tells about it. */
ALWAYS_INLINE reading get_simple(lumap_decoder *d, cursor *from, cursor end, const lumap_table *table,
                                 lumap_slot *slot) {
  cursor at = *from;
  size_t left = (size_t)(end - at), size, room;
  const lumap_slot *text;
  double number;
  unsigned tag = *at;
  if (tag >= LUMAP_TAG_FIXINT) {
    *from = at + 1;
    lumap_slot_put_integer(slot, tag - LUMAP_TAG_FIXINT);
    return STORED;
  }
  if (tag >= LUMAP_TAG_FIXSTR) {
    size = tag - LUMAP_TAG_FIXSTR;
    if (size >= left) return NOT_READ;
    *from = at + 1 + size;
    lua_pushlstring(d->L, (const char *)at + 1, size);
    return store_string(d->L, table, slot);
  }
  if (left < 9) return NOT_READ;
  if (tag - LUMAP_TAG_I8 <= LUMAP_TAG_I64 - LUMAP_TAG_I8) {
    unsigned width = 1u << (tag - LUMAP_TAG_I8);
    *from = at + 1 + width;
    if (lumap_slot_put_integer(slot, integer_of_width(at + 1, width))) return STORED;
    *from = at;
    return NOT_READ;
  }
  switch (tag) {
  case LUMAP_TAG_FALSE:
  case LUMAP_TAG_TRUE:
    *from = at + 1;
    lumap_slot_set_boolean(slot, tag == LUMAP_TAG_TRUE);
    return STORED;
  case LUMAP_TAG_F64:
    *from = at + 9;
    memcpy(&number, at + 1, sizeof number);
    lumap_slot_set_double(slot, number);
    return STORED;
  case LUMAP_TAG_TEXT:
    return get_text(d, from, left, table, slot);
  case LUMAP_TAG_TEXT_REF:
    if (!d->text_table) return NOT_READ;
    text = &lumap_table_list(d->text_table, &room)[at[1]];
    if (lumap_slot_is_nil(text)) return NOT_READ;
    *from = at + 2;
    lumap_slot_set_object(slot, lumap_slot_object(text));
    return STORED;
  default:
    return NOT_READ;
  }
}

/* ---- values within values ----------------------------------------------------------------------------------- */

static cursor get_table(lumap_decoder *d, cursor at, unsigned tag);
static cursor get_record(lumap_decoder *d, cursor at, unsigned tag);

/* Reads any value, which comes to lie on top. */
static __attribute__((noinline)) cursor get_other(lumap_decoder *d, cursor at) {
  suspend(d, at);
  lumap_decode_nested(d);
  d->others++;
  return resume(d);
}

/* The same for a value that is not simple. */
ALWAYS_INLINE cursor get_composite(lumap_decoder *d, cursor at, unsigned tag) {
  bool is_table = (tag & ~3u) == LUMAP_TAG_TABLE;
  if ((!is_table && (tag & ~3u) != LUMAP_TAG_RECORD) || d->depth >= LUMAP_DEPTH_ALLOWED) return get_other(d, at);
  lumap_decoder_deepen(d);
  at = is_table ? get_table(d, at, tag) : get_record(d, at, tag);
  d->depth--;
  return at;
}

/* Stores the value on top in `slot` of a fresh table if it can be done without the C API. */
ALWAYS_INLINE bool store_top(lua_State *L, lumap_slot *slot) {
  const lumap_slot *top = *lumap_stack_top(L) - 1;
  if (!lumap_slot_is_table(top) && !lumap_slot_is_string(top)) return false;
  lumap_slot_copy(slot, top);
  lumap_stack_drop(L);
  return true;
}

/* ---- lists and pairs ---------------------------------------------------------------------------------------- */

/* What tells the tags of tables and records from one another: a bit, SHARED, and META. */
enum { RECORD_BIT = LUMAP_TAG_TABLE ^ LUMAP_TAG_RECORD, TABLE_BITS = RECORD_BIT | LUMAP_SHARED | LUMAP_META };

/* Stores a list value that is neither simple nor a table in a fresh one, or what is on top already; false: it was none
   but the end of them, at `*from`. */
static __attribute__((noinline)) bool get_rare(lumap_decoder *d, cursor *from, reading how, size_t i) {
  const lumap_table *table;
  lumap_slot *list;
  size_t room;
  if (how == NOT_READ) {
    if (**from == LUMAP_TAG_END || **from == LUMAP_TAG_PAIRS) return false;
    *from = get_composite(d, *from, **from);
  }
  table = lumap_slot_object(*lumap_stack_top(d->L) - 2);
  list = lumap_table_list(table, &room);
  if (i >= room || !lumap_table_is_fresh(table) || !store_top(d->L, &list[i])) lua_rawseti(d->L, -2, (int)i + 1);
  return true;
}

/* List values, then pairs, into the table on top. */
ALWAYS_INLINE cursor get_body(lumap_decoder *d, cursor at, const lumap_table *table) {
  lua_State *L = d->L;
  cursor end = end_of(d);
  uint64_t others = d->others;
  size_t room, i;
  lumap_slot *list = lumap_table_list(table, &room);
  if (!lumap_table_is_fresh(table)) room = 0;
  for (i = 0;; i++) {
    reading how = NOT_READ;
    unsigned tag;
    if (at == end) end_too_early(d, at);
    tag = *at;
    if (i < room && (tag & ~TABLE_BITS) == LUMAP_TAG_TABLE && d->depth < LUMAP_DEPTH_ALLOWED) {
      lumap_decoder_deepen(d);
      at = tag & RECORD_BIT ? get_record(d, at, tag) : get_table(d, at, tag);
      d->depth--;
      if (others == d->others && lumap_table_is_fresh(table)) {
        lumap_slot_copy(&list[i], *lumap_stack_top(L) - 1);
        lumap_stack_drop(L);
        continue;
      }
      how = PUSHED;
    } else if (i < room) {
      how = get_simple(d, &at, end, table, &list[i]);
      if (how == STORED) continue;
    } else if (tag == LUMAP_TAG_END) {
      return at + 1;
    }
    if (!get_rare(d, &at, how, i)) break;
    others = d->others;
    list = lumap_table_list(table, &room);
    if (!lumap_table_is_fresh(table)) room = 0;
  }
  if (*at == LUMAP_TAG_END) return at + 1;
  suspend(d, at + 1);
  lumap_get_pairs(d);
  return resume(d);
}

/* Pushes a table that the VM makes, after which others can be made. */
static __attribute__((noinline)) void push_made_by_api(lumap_decoder *d, int list, int keys) {
  lua_State *L = d->L;
  lua_createtable(L, list, keys);
  lumap_maker_set_model(&d->maker, L);
  lua_pushvalue(L, -1);
  lua_replace(L, d->model);
}

/* Reads what is between the tag at `at` and the body of a table, which is pushed with room for what is announced. */
static __attribute__((noinline)) cursor push_table_by_api(lumap_decoder *d, cursor at) {
  uint64_t list;
  unsigned pairs;
  int granted;
  suspend(d, at + 1);
  list = lumap_get_varint(&d->in);
  pairs = lumap_get_u8(&d->in);
  lumap_decoder_check(d);
  granted = lumap_decoder_room(d, list);
  push_made_by_api(d, granted, lumap_decoder_room(d, pairs));
  return resume(d);
}

/* The same for a short list, in place. */
ALWAYS_INLINE cursor push_table(lumap_decoder *d, cursor at) {
  size_t left = (size_t)(end_of(d) - at);
  lumap_table *table;
  if (left <= 3 || at[1] - 1u >= LUMAP_LIST_MADE || at[2] != 0 || at[1] > left - 3 || at[1] > d->room)
    return push_table_by_api(d, at);
  table = lumap_make_list(&d->maker, at[1]);
  if (!table) return push_table_by_api(d, at);
  d->room -= at[1];
  lumap_stack_push_table(d->L, table);
  return at + 3;
}

/* Reads the table whose tag is at `at`; pushes it. */
static cursor get_table(lumap_decoder *d, cursor at, unsigned tag) {
  size_t begin = (size_t)(at - d->in.data);
  at = push_table(d, at);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, d->base + begin);
  at = get_body(d, at, lumap_stack_object(d->L));
  if (!(tag & LUMAP_META)) return at;
  suspend(d, at);
  lumap_get_metatable(d);
  d->others++;
  return resume(d);
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* The shape that comes next, read if it is a new one. */
ALWAYS_INLINE cursor get_shape(lumap_decoder *d, cursor at, const lumap_known_shape **shape) {
  if (at < end_of(d) && *at < d->shape_count && *at < LUMAP_SHAPES_AT_HAND) {
    *shape = d->at_hand[*at];
    return at + 1;
  }
  suspend(d, at);
  *shape = lumap_get_shape(d);
  return resume(d);
}

/* Where the value of key `k` lies in a table that was made with this shape, if it is still there. */
static lumap_slot *field_place(const lumap_known_shape *shape, const lumap_table *table, uint32_t k) {
  const lumap_node *model = lumap_shape_nodes(shape) + shape->places[k];
  lumap_node *node;
  lumap_slot key, expected = lumap_node_key(model);
  if (!lumap_table_is_fresh(table) || lumap_table_node_count(table) != shape->node_count) return NULL;
  node = &table->nodes[shape->places[k]];
  key = lumap_node_key(node);
  return lumap_slot_equal(&key, &expected) ? lumap_node_value(node) : NULL;
}

/* The value on top becomes field `k` of the table below. [-1, +0] */
static void store_field(lumap_decoder *d, const lumap_known_shape *shape, const lumap_table *table, uint32_t k) {
  lumap_slot *place = field_place(shape, table, k);
  if (place && store_top(d->L, place)) return;
  lumap_push_shape_key(d, shape, k);
  lua_insert(d->L, -2);
  lua_rawset(d->L, -3);
}

/* The values of a record into the table on top, which has the shape's keys. */
ALWAYS_INLINE cursor get_fields(lumap_decoder *d, cursor at, const lumap_table *table, const lumap_known_shape *shape) {
  lua_State *L = d->L;
  cursor end = end_of(d);
  uint64_t others = d->others, owed = d->owed;
  lumap_node *nodes = table->nodes;
  bool intact = lumap_table_is_fresh(table) && lumap_table_node_count(table) == shape->node_count;
  for (uint32_t k = 0; k < shape->count; k++) {
    lumap_slot *place = intact ? lumap_node_value(&nodes[shape->places[k]]) : field_place(shape, table, k);
    reading how = NOT_READ;
    if (at == end) end_too_early(d, at);
    if (place) how = get_simple(d, &at, end, table, place);
    if (how == STORED) continue;
    if (how == NOT_READ) {
      d->owed = owed + (shape->count - k - 1);
      at = get_composite(d, at, *at);
      if (intact && others == d->others && lumap_table_is_fresh(table) && store_top(L, place)) continue;
    }
    store_field(d, shape, table, k);
    intact = false;
  }
  d->owed = owed;
  /* The table may have served as a metatable already, of a value in it. */
  lumap_table_forget_absent((lumap_table *)(uintptr_t)table);
  return at;
}

static inline void set_nodes(lumap_table *table, const lumap_known_shape *shape) {
  lumap_table_set_nodes(table, lumap_shape_nodes(shape), shape->node_count, shape->free, shape->chained);
}

/* Pushes a table with the shape's keys, or without any where the VM gave it other nodes. */
static inline lumap_table *push_record(lumap_decoder *d, const lumap_known_shape *shape) {
  lumap_table *table = lumap_make_record(&d->maker, shape->node_count);
  if (table) {
    set_nodes(table, shape);
    lumap_stack_push_table(d->L, table);
    return table;
  }
  push_made_by_api(d, 0, (int)shape->count);
  table = lumap_stack_object(d->L);
  if (lumap_table_node_count(table) == shape->node_count) set_nodes(table, shape);
  return table;
}

/* Reads the record whose tag is at `at`; pushes the table. */
static cursor get_record(lumap_decoder *d, cursor at, unsigned tag) {
  uint64_t offset = d->base + (uint64_t)(at - d->in.data);
  const lumap_known_shape *shape;
  lumap_table *table;
  at = get_shape(d, at + 1, &shape);
  suspend(d, at);
  /* As many values must follow, and those of the records around it: a shape is short, and may be named often. */
  if (shape->count + d->owed > (uint64_t)(end_of(d) - at)) end_too_early(d, at);
  table = push_record(d, shape);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
  at = get_fields(d, at, table, shape);
  if (!(tag & LUMAP_META)) return at;
  suspend(d, at);
  lumap_get_metatable(d);
  d->others++;
  return resume(d);
}

/* ---- from outside ------------------------------------------------------------------------------------------- */

void lumap_get_body_where_it_lies(lumap_decoder *d) {
  suspend(d, get_body(d, resume(d), lumap_stack_object(d->L)));
}

void lumap_get_record_where_it_lies(lumap_decoder *d, unsigned tag) {
  suspend(d, get_record(d, resume(d) - 1, tag));
}
