/* SPDX-License-Identifier: MIT
 *
 * layout.h - tables and strings where they lie in the VM's memory, for loops that the C API makes several times slower.
 *
 * Neither VM publishes these layouts, so nothing here is taken on trust: a state tries them out when they are needed
 * first, or another state of the same process has, and where they are not found as written here lumap_layout_push gives
 * NULL and the caller goes through the C API. Known: LuaJIT 2.1 with 64-bit references, PUC Lua 5.4.
 *
 * Rules for the caller, which the C API would keep for him:
 *   - Nothing here keeps an object alive, and any Lua code that runs may resize a table: read the pointers anew after.
 *   - Strings and tables are stored only while the collector rests and lumap_table_is_fresh: no write barrier is run.
 *   - Nothing here raises or allocates, but what tries the layout out, and lumap_layout_trust.
 */
#ifndef LUMAP_LUA_LAYOUT_H
#define LUMAP_LUA_LAYOUT_H

#include <string.h>

#include "lua/compat.h"

typedef enum lumap_slot_kind {
  LUMAP_SLOT_NIL,
  LUMAP_SLOT_FALSE,
  LUMAP_SLOT_TRUE,
  LUMAP_SLOT_INTEGER, /* 5.4, and LuaJIT where numbers may be 32-bit integers */
  LUMAP_SLOT_DOUBLE,
  LUMAP_SLOT_STRING,
  LUMAP_SLOT_TABLE,
  LUMAP_SLOT_OTHER /* to be looked at by the C API */
} lumap_slot_kind;

#if LUMAP_VM_IS_LUAJIT

/* A value: a double, or a type above 47 bits of address. */
typedef struct lumap_slot {
  uint64_t bits;
} lumap_slot;

typedef struct lumap_node {
  lumap_slot value, key;
  struct lumap_node *next;
} lumap_node;

typedef struct lumap_table {
  void *gc_next;
  uint8_t marked, kind, absent; /* absent: metamethods that are known not to be there, a bit each */
  int8_t colocated;
  uint32_t gap;      /* nobody writes to it */
  lumap_slot *array; /* [0] is key 0 */
  void *gc_list;
  struct lumap_table *metatable;
  lumap_node *nodes;
  uint32_t array_size, node_mask;
  lumap_node *free_top;
} lumap_table;

typedef struct lumap_text {
  void *gc_next;
  uint8_t marked, kind, reserved, algorithm;
  uint32_t id, hash, size;
  char bytes[];
} lumap_text;

enum { LUMAP_SLOT_TABLE_TYPE = 11, LUMAP_SLOT_STRING_TYPE = 4, LUMAP_SLOT_INTEGER_TYPE = 13 };

/* Where a lua_State holds the end of its stack, and the address of what all threads of a state share. */
enum { LUMAP_STACK_TOP = 40, LUMAP_STATE_GLOBAL = 16 };

/* The beginning of what they share. */
typedef struct lumap_global {
  lua_Alloc allocate;
  void *data;
  size_t made; /* bytes */
} lumap_global;

/* Slots of an array that lies right behind its table: those of lists of up to so many, and that of key 0. */
enum { LUMAP_LIST_MADE = 15 };

/* The number of the type: what LuaJIT stores inverted. Doubles are above LUMAP_SLOT_INTEGER_TYPE. */
static inline uint32_t lumap_slot_type(const lumap_slot *slot) {
  return ~(uint32_t)((int64_t)slot->bits >> 47);
}

static inline lumap_slot_kind lumap_slot_kind_of(const lumap_slot *slot) {
  static const unsigned char kinds[LUMAP_SLOT_INTEGER_TYPE + 1] = {
      LUMAP_SLOT_NIL,   LUMAP_SLOT_FALSE, LUMAP_SLOT_TRUE,  LUMAP_SLOT_OTHER,  LUMAP_SLOT_STRING,
      LUMAP_SLOT_OTHER, LUMAP_SLOT_OTHER, LUMAP_SLOT_OTHER, LUMAP_SLOT_OTHER,  LUMAP_SLOT_OTHER,
      LUMAP_SLOT_OTHER, LUMAP_SLOT_TABLE, LUMAP_SLOT_OTHER, LUMAP_SLOT_INTEGER};
  uint32_t type = lumap_slot_type(slot);
  return type > LUMAP_SLOT_INTEGER_TYPE ? LUMAP_SLOT_DOUBLE : (lumap_slot_kind)kinds[type];
}

static inline bool lumap_slot_is_nil(const lumap_slot *slot) {
  return slot->bits == UINT64_MAX;
}

static inline bool lumap_slot_is_double(const lumap_slot *slot) {
  return lumap_slot_type(slot) > LUMAP_SLOT_INTEGER_TYPE;
}

static inline bool lumap_slot_is_string(const lumap_slot *slot) {
  return lumap_slot_type(slot) == LUMAP_SLOT_STRING_TYPE;
}

static inline bool lumap_slot_is_table(const lumap_slot *slot) {
  return lumap_slot_type(slot) == LUMAP_SLOT_TABLE_TYPE;
}

static inline double lumap_slot_double(const lumap_slot *slot) {
  double number;
  memcpy(&number, &slot->bits, sizeof number);
  return number;
}

static inline int64_t lumap_slot_integer(const lumap_slot *slot) {
  return (int32_t)slot->bits;
}

static inline void *lumap_slot_object(const lumap_slot *slot) {
  return (void *)(uintptr_t)(slot->bits & ((UINT64_C(1) << 47) - 1));
}

static inline bool lumap_slot_equal(const lumap_slot *one, const lumap_slot *other) {
  return one->bits == other->bits;
}

static inline size_t lumap_text_size(const lumap_text *text) {
  return text->size;
}

/* Equal strings of up to this size are one object. */
enum { LUMAP_TEXT_UNIQUE = INT32_MAX };

/* Any NaN but the VM's own would be taken for another type. */
static inline void lumap_slot_set_double(lumap_slot *slot, double number) {
  memcpy(&slot->bits, &number, sizeof number);
  if (number != number) slot->bits = UINT64_C(0xFFF8000000000000);
}

static inline void lumap_slot_set_boolean(lumap_slot *slot, bool value) {
  slot->bits = ~((uint64_t)(value ? 2 : 1) << 47);
}

static inline void lumap_slot_set_nil(lumap_slot *slot) {
  slot->bits = UINT64_MAX;
}

static inline void lumap_slot_set_table(lumap_slot *slot, const lumap_table *table) {
  slot->bits = ~(uint64_t)LUMAP_SLOT_TABLE_TYPE << 47 | (uint64_t)(uintptr_t)table;
}

/* A string or a table, as lua_topointer gives it. */
static inline void lumap_slot_set_object(lumap_slot *slot, const void *object) {
  uint64_t type = ((const lumap_table *)object)->kind;
  slot->bits = ~type << 47 | (uint64_t)(uintptr_t)object;
}

static inline void lumap_slot_copy(lumap_slot *slot, const lumap_slot *from) {
  slot->bits = from->bits;
}

/* The slots of keys 1..count. */
static inline lumap_slot *lumap_table_list(const lumap_table *table, size_t *count) {
  if (table->array_size == 0) return *count = 0, NULL;
  *count = table->array_size - 1;
  return table->array + 1;
}

static inline size_t lumap_table_node_count(const lumap_table *table) {
  return (size_t)table->node_mask + 1;
}

/* Is there but the one empty node that all such tables share? */
static inline bool lumap_table_has_no_nodes(const lumap_table *table) {
  return table->node_mask == 0;
}

/* Key 0 has a slot of its own in the array. */
static inline const lumap_slot *lumap_table_zero(const lumap_table *table) {
  return table->array_size ? table->array : NULL;
}

static inline lumap_slot lumap_node_key(const lumap_node *node) {
  return node->key;
}

static inline lumap_slot *lumap_node_value(lumap_node *node) {
  return &node->value;
}

/* Is the node's key this string? */
static inline bool lumap_node_is_of(const lumap_node *node, const void *text) {
  return node->key.bits == (~(uint64_t)LUMAP_SLOT_STRING_TYPE << 47 | (uint64_t)(uintptr_t)text);
}

static inline bool lumap_table_is_fresh(const lumap_table *table) {
  return !(table->marked & 4);
}

/* Gray tables are in a list of the collector. */
static inline bool lumap_table_has_room(const lumap_table *table) {
  return (table->marked & 7) != 0;
}

#else

typedef union lumap_slot_value {
  void *object;
  int64_t integer;
  double number;
} lumap_slot_value;

/* A value and its type. In a node the key's fields begin right behind the type, so slots are not assigned whole. */
typedef struct lumap_slot {
  lumap_slot_value value;
  uint8_t type;
} lumap_slot;

typedef struct lumap_node {
  lumap_slot_value value;
  uint8_t type, key_type;
  int next;
  lumap_slot_value key;
} lumap_node;

typedef struct lumap_table {
  void *gc_next;
  uint8_t kind, marked;
  uint8_t absent; /* metamethods that are known not to be there; bit 7: `array_limit` is not the array's size */
  uint8_t log2_nodes;
  uint32_t array_limit;
  lumap_slot *array; /* [0] is key 1 */
  lumap_node *nodes, *free_top;
  struct lumap_table *metatable;
  void *gc_list;
} lumap_table;

typedef struct lumap_text {
  void *gc_next;
  uint8_t kind, marked, extra, short_size;
  uint32_t hash;
  size_t long_size;
  char bytes[];
} lumap_text;

enum { LUMAP_SLOT_TABLE_TYPE = 5, LUMAP_SLOT_STRING_TYPE = 4, LUMAP_SLOT_COLLECTABLE = 0x40 };

enum { LUMAP_STACK_TOP = 16, LUMAP_STATE_GLOBAL = 24 };

typedef struct lumap_global {
  lua_Alloc allocate;
  void *data;
  size_t counted, made; /* bytes: the sum of both */
} lumap_global;

enum { LUMAP_LIST_MADE = 127 };

static inline lumap_slot_kind lumap_slot_kind_of(const lumap_slot *slot) {
  switch (slot->type) {
  case 0x01:
    return LUMAP_SLOT_FALSE;
  case 0x11:
    return LUMAP_SLOT_TRUE;
  case 0x03:
    return LUMAP_SLOT_INTEGER;
  case 0x13:
    return LUMAP_SLOT_DOUBLE;
  case 0x44:
  case 0x54:
    return LUMAP_SLOT_STRING;
  case 0x45:
    return LUMAP_SLOT_TABLE;
  default:
    return slot->type & 0x0F ? LUMAP_SLOT_OTHER : LUMAP_SLOT_NIL;
  }
}

static inline bool lumap_slot_is_nil(const lumap_slot *slot) {
  return !(slot->type & 0x0F);
}

static inline bool lumap_slot_is_double(const lumap_slot *slot) {
  return slot->type == 0x13;
}

static inline bool lumap_slot_is_string(const lumap_slot *slot) {
  return (slot->type & 0x4F) == (LUMAP_SLOT_STRING_TYPE | LUMAP_SLOT_COLLECTABLE);
}

static inline bool lumap_slot_is_table(const lumap_slot *slot) {
  return slot->type == (LUMAP_SLOT_TABLE_TYPE | LUMAP_SLOT_COLLECTABLE);
}

static inline double lumap_slot_double(const lumap_slot *slot) {
  return slot->value.number;
}

static inline int64_t lumap_slot_integer(const lumap_slot *slot) {
  return slot->value.integer;
}

static inline void *lumap_slot_object(const lumap_slot *slot) {
  return slot->value.object;
}

static inline bool lumap_slot_equal(const lumap_slot *one, const lumap_slot *other) {
  return one->type == other->type && one->value.integer == other->value.integer;
}

static inline size_t lumap_text_size(const lumap_text *text) {
  return text->kind == LUMAP_SLOT_STRING_TYPE ? text->short_size : text->long_size;
}

enum { LUMAP_TEXT_UNIQUE = 40 };

static inline void lumap_slot_set_double(lumap_slot *slot, double number) {
  slot->value.number = number;
  slot->type = 0x13;
}

static inline void lumap_slot_set_integer(lumap_slot *slot, int64_t integer) {
  slot->value.integer = integer;
  slot->type = 0x03;
}

static inline void lumap_slot_set_boolean(lumap_slot *slot, bool value) {
  slot->type = value ? 0x11 : 0x01;
}

static inline void lumap_slot_set_nil(lumap_slot *slot) {
  slot->type = 0;
}

static inline void lumap_slot_set_table(lumap_slot *slot, const lumap_table *table) {
  slot->value.object = (void *)(uintptr_t)table;
  slot->type = LUMAP_SLOT_TABLE_TYPE | LUMAP_SLOT_COLLECTABLE;
}

static inline void lumap_slot_set_object(lumap_slot *slot, const void *object) {
  slot->value.object = (void *)(uintptr_t)object;
  slot->type = ((const lumap_table *)object)->kind | LUMAP_SLOT_COLLECTABLE;
}

static inline void lumap_slot_copy(lumap_slot *slot, const lumap_slot *from) {
  slot->value = from->value;
  slot->type = from->type;
}

static inline lumap_slot *lumap_table_list(const lumap_table *table, size_t *count) {
  uint32_t size = table->array_limit;
  /* The limit may be a hint for the length; the array's size is then the next power of two. */
  if (table->absent & 0x80 && size & (size - 1)) {
    size |= size >> 1;
    size |= size >> 2;
    size |= size >> 4;
    size |= size >> 8;
    size |= size >> 16;
    size++;
  }
  *count = size;
  return table->array;
}

static inline size_t lumap_table_node_count(const lumap_table *table) {
  return (size_t)1 << table->log2_nodes;
}

static inline bool lumap_table_has_no_nodes(const lumap_table *table) {
  return !table->free_top;
}

static inline const lumap_slot *lumap_table_zero(const lumap_table *table) {
  (void)table;
  return NULL;
}

static inline lumap_slot lumap_node_key(const lumap_node *node) {
  return (lumap_slot){.value = node->key, .type = node->key_type};
}

static inline lumap_slot *lumap_node_value(lumap_node *node) {
  return (lumap_slot *)node;
}

static inline bool lumap_node_is_of(const lumap_node *node, const void *text) {
  return node->key.object == text && (node->key_type & 0x4F) == (LUMAP_SLOT_STRING_TYPE | LUMAP_SLOT_COLLECTABLE);
}

static inline bool lumap_table_is_fresh(const lumap_table *table) {
  return !(table->marked & 0x20);
}

/* Gray tables, neither white nor black, are in a list of the collector, and so are touched ones, of age 5 and 6. */
static inline bool lumap_table_has_room(const lumap_table *table) {
  return (table->marked & 0x38) != 0 && (table->marked & 7) < 5;
}

#endif

/* A key that names a metamethod got a value past the API: what the VM noted as absent may be there. */
static inline void lumap_table_forget_absent(lumap_table *table) {
#if LUMAP_VM_IS_LUAJIT
  table->absent = 0;
#else
  table->absent &= 0x80;
#endif
}

/* Has the string or table that a slot may hold brought into the cache. */
static inline void lumap_slot_prefetch(const lumap_slot *slot) {
  lumap_slot_kind kind = lumap_slot_kind_of(slot);
  if (kind == LUMAP_SLOT_STRING || kind == LUMAP_SLOT_TABLE) __builtin_prefetch(lumap_slot_object(slot));
}

/* A number of the caller's own, kept in the table until the collector runs. For tables that lumap_table_has_room tells
 * of: the collector has no use for its link to the next one then, and sets it before it has. */
static inline uintptr_t lumap_table_number(const lumap_table *table) {
  return (uintptr_t)table->gc_list;
}

static inline void lumap_table_set_number(const lumap_table *table, uintptr_t number) {
  ((lumap_table *)(uintptr_t)table)->gc_list = (void *)number;
}

static inline lumap_slot **lumap_stack_top(lua_State *L) {
  return (lumap_slot **)((char *)L + LUMAP_STACK_TOP);
}

/* The value on top, which must be a string or a table: where it lies. */
static inline void *lumap_stack_object(lua_State *L) {
  return lumap_slot_object(*lumap_stack_top(L) - 1);
}

/* lua_pop of one value. */
static inline void lumap_stack_drop(lua_State *L) {
  --*lumap_stack_top(L);
}

/* An integer as the VM keeps it; false where only the C API can make it (LuaJIT beyond 2^53). */
static inline bool lumap_slot_put_integer(lumap_slot *slot, int64_t integer) {
#if LUMAP_VM_IS_LUAJIT
  if (integer > INT64_C(9007199254740992) || integer < -INT64_C(9007199254740992)) return false;
  lumap_slot_set_double(slot, (double)integer);
#else
  lumap_slot_set_integer(slot, integer);
#endif
  return true;
}

/* What counts as an integer among doubles of this VM: see lumap_is_integer. */
static inline bool lumap_double_is_integer(double number, int64_t *integer) {
#if LUMAP_VM_IS_LUAJIT
  /* With this added, an integer of 32 bits is in the lowest bits of the sum. */
  double sum = number + 6755399441055744.0, back;
  uint64_t bits, sum_bits, back_bits;
  memcpy(&bits, &number, sizeof bits);
  memcpy(&sum_bits, &sum, sizeof sum_bits);
  back = (double)(int32_t)sum_bits;
  memcpy(&back_bits, &back, sizeof back_bits);
  if (back_bits == bits) return *integer = (int32_t)sum_bits, true;
  if (!(number >= -9007199254740992.0 && number <= 9007199254740992.0)) return false;
  *integer = (int64_t)number;
  return (double)*integer == number && bits != UINT64_C(0x8000000000000000);
#else
  (void)number;
  (void)integer;
  return false;
#endif
}

/* What a state has found out: nothing yet, or another layout; that this is the layout; and that tables can be made
 * (maker.h), too. */
typedef enum lumap_layout_known { LUMAP_LAYOUT_UNKNOWN, LUMAP_LAYOUT_FITS, LUMAP_LAYOUT_MAKES } lumap_layout_known;

/* What this state knows; tries the layout out, once. May raise for want of memory. [-0, +0] */
lumap_layout_known lumap_layout_ask(lua_State *L);

/* Is it known by now? Tries nothing out. [-0, +0] */
bool lumap_layout_is_known(lua_State *L);

/* Takes over what another state of this process has found out, before this one has asked. [-0, +0] */
void lumap_layout_trust(lua_State *L, lumap_layout_known known);

/* Slots of the scratch table: one to be used, and whether tables can be made (maker.h). */
enum { LUMAP_SCRATCH, LUMAP_SCRATCH_MAKES, LUMAP_SCRATCH_SLOTS };

/* Pushes the state's scratch table, whose first slot is returned; NULL, and nil pushed, where the layout is not known
 * or has been turned off. The table stays where it is as long as the state. The first call tries the layout out. May
 * raise for want of memory then. [-0, +1] */
lumap_slot *lumap_layout_push(lua_State *L);

/* Pushes the value of a slot. `scratch` is what lumap_layout_push gave, its table at stack index `index`. [-0, +1] */
static inline void lumap_slot_push(lua_State *L, int index, lumap_slot *scratch, const lumap_slot *slot) {
  *scratch = *slot;
  lua_rawgeti(L, index, 1);
  lumap_slot_set_nil(scratch);
}

/* Uses the layout, where it is known, or never: so that specs can compare both ways. Returns whether it is used now.
 * [-0, +0] */
bool lumap_layout_use(lua_State *L, bool wanted);

/* Pushes a table with the same fields as the table at `index`, raw, without its metatable: by a copy of its memory
 * where this state knows the layout already. May raise for want of memory. [-0, +1] */
void lumap_table_push_copy(lua_State *L, int index);

/* Copies the nodes of a table without their values, so that other tables get the same keys: `*free` tells how many of
 * the nodes the table had not used, `*chained` whether nodes lead to each other by address. */
void lumap_table_get_nodes(const lumap_table *table, lumap_node *nodes, uint32_t *free, bool *chained);

/* Gives them to a table, fresh from lua_createtable, that has as many nodes and no keys. Their values are nil. */
static inline void lumap_table_set_nodes(lumap_table *table, const lumap_node *nodes, size_t count, uint32_t free,
                                         bool chained) {
  memcpy(table->nodes, nodes, count * sizeof *nodes);
#if LUMAP_VM_IS_LUAJIT
  for (size_t i = 0; chained && i < count; i++)
    if (nodes[i].next) table->nodes[i].next = table->nodes + ((uintptr_t)nodes[i].next - 1);
#else
  (void)chained;
#endif
  table->free_top = table->nodes + free;
}

#endif
