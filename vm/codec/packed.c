/* SPDX-License-Identifier: MIT */
#include "codec/packed.h"

#include "codec/codec.h"

/* Doubles hold integers exactly up to here. */
static const int64_t exact = INT64_C(9007199254740992);

/* Does a double that stands for an integer in a MIXED list? */
static bool is_whole(double value) {
  return value >= (double)-exact && value <= (double)exact && value == (double)(int64_t)value &&
         (value != 0 || 1 / value > 0);
}

/* ---- where the list lies: to bytes -------------------------------------------------------------------------- */

/* What the numbers of a list have in common. */
typedef struct survey {
  bool integers, floats, others;
  bool ambiguous;      /* a float that a reader of a MIXED list would take for an integer: 5.4's 3.0 */
  int64_t least, most; /* of the integers */
} survey;

static void note_integer(survey *s, int64_t integer) {
  s->integers = true;
  if (integer < s->least) s->least = integer;
  if (integer > s->most) s->most = integer;
}

static void note_double(survey *s, double number) {
  int64_t integer;
  if (lumap_double_is_integer(number, &integer)) {
    note_integer(s, integer);
  } else {
    s->floats = true;
    if (!LUMAP_VM_IS_LUAJIT && is_whole(number)) s->ambiguous = true;
  }
}

static survey survey_list(const lumap_slot *list, size_t count) {
  survey s = {.least = INT64_MAX, .most = INT64_MIN};
  for (size_t i = 0; i < count && !s.others; i++) {
    lumap_slot_kind kind = lumap_slot_kind_of(&list[i]);
    if (kind == LUMAP_SLOT_DOUBLE)
      note_double(&s, lumap_slot_double(&list[i]));
    else if (kind == LUMAP_SLOT_INTEGER)
      note_integer(&s, lumap_slot_integer(&list[i]));
    else
      s.others = true;
  }
  return s;
}

static unsigned choose_kind(const survey *s) {
  if (s->others) return 0;
  if (!s->integers) return LUMAP_PACKED_F64;
  if (s->floats) return !s->ambiguous && s->least >= -exact && s->most <= exact ? LUMAP_PACKED_MIXED : 0;
  if (s->least >= INT8_MIN && s->most <= INT8_MAX) return LUMAP_PACKED_I8;
  if (s->least >= INT16_MIN && s->most <= INT16_MAX) return LUMAP_PACKED_I16;
  if (s->least >= INT32_MIN && s->most <= INT32_MAX) return LUMAP_PACKED_I32;
  return LUMAP_PACKED_I64;
}

static inline int64_t as_integer(const lumap_slot *slot) {
  return lumap_slot_kind_of(slot) == LUMAP_SLOT_INTEGER ? lumap_slot_integer(slot) : (int64_t)lumap_slot_double(slot);
}

static inline double as_double(const lumap_slot *slot) {
  return lumap_slot_kind_of(slot) == LUMAP_SLOT_INTEGER ? (double)lumap_slot_integer(slot) : lumap_slot_double(slot);
}

/* One loop for each kind, since the compiler makes vector code of them. */
#define EACH(type, expression)                                                                                         \
  for (size_t i = 0; i < count; i++) {                                                                                 \
    type value = (type)(expression);                                                                                   \
    memcpy(bytes + i * sizeof value, &value, sizeof value);                                                            \
  }                                                                                                                    \
  break

static void pack_list(unsigned char *bytes, const lumap_slot *list, size_t count, unsigned kind) {
  switch (kind) {
  case LUMAP_PACKED_I8:
    EACH(int8_t, as_integer(&list[i]));
  case LUMAP_PACKED_I16:
    EACH(int16_t, as_integer(&list[i]));
  case LUMAP_PACKED_I32:
    EACH(int32_t, as_integer(&list[i]));
  case LUMAP_PACKED_I64:
    EACH(int64_t, as_integer(&list[i]));
  default:
    EACH(double, as_double(&list[i]));
  }
}

/* A tag, a kind, and a count; how many numbers tell whether it is worth while to make room for floats. */
enum { MOST_HEAD = 16, FIRST_LOOK = 8 };

static void put_head(lumap_bytes *out, unsigned flags, unsigned kind, size_t count) {
  lumap_put_u8(out, LUMAP_TAG_PACKED | flags);
  lumap_put_u8(out, kind);
  lumap_put_varint(out, count);
}

/* Floats, and on LuaJIT integers among them, are found out while they are copied. Nothing is written when there is
   something else. */
static bool put_floats(lumap_bytes *out, const lumap_slot *list, size_t count, unsigned flags) {
  size_t start = out->size, kind_at = start + 1;
  double first[FIRST_LOOK];
  bool mixed;
  if (count < FIRST_LOOK || !lumap_slots_copy_floats(list, FIRST_LOOK, first, &mixed)) return false;
  if (!lumap_bytes_reserve(out, count * sizeof(double) + MOST_HEAD)) return false;
  put_head(out, flags, LUMAP_PACKED_F64, count);
  if (!lumap_slots_copy_floats(list, count, out->data + out->size, &mixed)) {
    out->size = start;
    return false;
  }
  if (mixed) out->data[kind_at] = LUMAP_PACKED_MIXED;
  out->size += count * sizeof(double);
  return true;
}

size_t lumap_put_numbers(lumap_bytes *out, const lumap_slot *list, size_t count, unsigned flags) {
  survey s;
  unsigned kind;
  size_t size;
  if (count > LUMAP_PACKED_MOST) return 0;
  if (put_floats(out, list, count, flags)) return count;
  s = survey_list(list, count);
  kind = choose_kind(&s);
  size = count * lumap_packed_width(kind);
  if (!kind || !lumap_bytes_reserve(out, size + MOST_HEAD)) return 0;
  put_head(out, flags, kind, count);
  pack_list(out->data + out->size, list, count, kind);
  out->size += size;
  return count;
}

/* ---- through the C API: to bytes ---------------------------------------------------------------------------- */

bool lumap_packed_looks_numeric(lua_State *L, int index, size_t count) {
  bool numeric;
  lua_rawgeti(L, index, 1);
  lua_rawgeti(L, index, (int)count);
  numeric = lua_type(L, -1) == LUA_TNUMBER && lua_type(L, -2) == LUA_TNUMBER;
  lua_pop(L, 2);
  return numeric;
}

bool lumap_packed_has_more(lua_State *L, int index, size_t count) {
  size_t keys = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    keys++;
  }
  return keys != count;
}

/* Integers as they are and floats as they are, side by side: MIXED only if each can be told by its value. */
static int pack_mixed(lua_State *L, int index, size_t count, unsigned char *memory) {
  for (size_t i = 0; i < count; i++) {
    int64_t integer;
    double number;
    lua_rawgeti(L, index, (int)(i + 1));
    if (lua_type(L, -1) != LUA_TNUMBER) break;
    if (lumap_is_integer(L, -1, &integer)) {
      if (integer < -exact || integer > exact) break;
      number = (double)integer;
    } else {
      number = lua_tonumber(L, -1);
      if (is_whole(number)) break;
    }
    lua_pop(L, 1);
    memcpy(memory + i * sizeof number, &number, sizeof number);
    if (i + 1 == count) return LUMAP_PACKED_MIXED;
  }
  lua_pop(L, 1);
  return 0;
}

/* All integers or all floats; `*numbers` tells whether all of them were numbers at all. With `doubles`, integers that a
   double holds exactly are written as such. */
static int pack_uniform(lua_State *L, int index, uint64_t first, size_t count, unsigned char *memory, bool doubles,
                        bool *numbers) {
  size_t integers = 0, floats = 0;
  *numbers = true;
  for (size_t i = 0; i < count; i++) {
    int64_t integer;
    lua_rawgeti(L, index, (int)(first + i));
    if (lua_type(L, -1) != LUA_TNUMBER) {
      *numbers = false;
      lua_pop(L, 1);
      return 0;
    }
    if (!doubles && lumap_is_integer(L, -1, &integer)) {
      memcpy(memory + i * sizeof integer, &integer, sizeof integer);
      integers++;
    } else {
      double number = lua_tonumber(L, -1);
      memcpy(memory + i * sizeof number, &number, sizeof number);
      floats++;
    }
    lua_pop(L, 1);
    if (integers && floats) return 0;
  }
  return integers ? LUMAP_PACKED_I64 : LUMAP_PACKED_F64;
}

int lumap_pack_exact(lua_State *L, int index, size_t count, void *memory) {
  bool numbers;
  int kind = pack_uniform(L, index, 1, count, memory, false, &numbers);
  return kind || !numbers ? kind : pack_mixed(L, index, count, memory);
}

/* Packs a slice that lies in the array part; false when it is not that, or not all of one type. */
static bool pack_slice_where_it_lies(const lumap_table *table, uint64_t first, size_t count, unsigned char *bytes,
                                     int *kind) {
  size_t room;
  const lumap_slot *list = lumap_table_list(table, &room);
  if (count == 0 || first - 1 + count > room) return false;
  list += first - 1;
  *kind = LUMAP_PACKED_F64;
  if (lumap_slots_copy_doubles(list, count, bytes)) return true;
  *kind = LUMAP_PACKED_I64;
  if (lumap_slots_copy_integers(list, count, bytes)) return true;
  if (!LUMAP_VM_IS_LUAJIT) return false;
  /* A VM that keeps some numbers as 32-bit integers. */
  for (size_t i = 0; i < count; i++) {
    lumap_slot_kind type = lumap_slot_kind_of(&list[i]);
    if (type != LUMAP_SLOT_INTEGER && type != LUMAP_SLOT_DOUBLE) return false;
  }
  *kind = LUMAP_PACKED_F64;
  pack_list(bytes, list, count, (unsigned)*kind);
  return true;
}

int lumap_pack_slice(lua_State *L, int index, uint64_t first, size_t count, void *memory) {
  bool numbers, direct = lumap_layout_push(L) != NULL;
  int kind;
  lua_pop(L, 1);
  if (direct && first >= 1 && pack_slice_where_it_lies(lua_topointer(L, index), first, count, memory, &kind))
    return kind;
  return pack_uniform(L, index, first, count, memory, LUMAP_VM_IS_LUAJIT, &numbers);
}

/* ---- from bytes --------------------------------------------------------------------------------------------- */

#define EACH_OF(type)                                                                                                  \
  for (size_t i = 0; i < count; i++) {                                                                                 \
    type value;                                                                                                        \
    memcpy(&value, bytes + i * sizeof value, sizeof value);                                                            \
    lumap_slot_put_integer(&list[i], value);                                                                           \
  }                                                                                                                    \
  return count

/* Writes numbers where they belong; returns how many are written when one needs the C API. */
static size_t unpack_where_it_lies(lumap_slot *list, size_t count, int kind, const unsigned char *bytes) {
  switch (kind) {
  case LUMAP_PACKED_I8:
    EACH_OF(int8_t);
  case LUMAP_PACKED_I16:
    EACH_OF(int16_t);
  case LUMAP_PACKED_I32:
    EACH_OF(int32_t);
  case LUMAP_PACKED_F64:
    lumap_slots_set_doubles(list, count, bytes);
    return count;
  case LUMAP_PACKED_MIXED:
    if (!LUMAP_VM_IS_LUAJIT) break;
    lumap_slots_set_doubles(list, count, bytes);
    return count;
  default:
    break;
  }
  for (size_t i = 0; i < count; i++) {
    int64_t integer;
    double number;
    memcpy(&number, bytes + i * sizeof number, sizeof number);
    memcpy(&integer, bytes + i * sizeof integer, sizeof integer);
    if (kind == LUMAP_PACKED_I64) {
      if (!lumap_slot_put_integer(&list[i], integer)) return i;
    } else if (!is_whole(number)) {
      lumap_slot_set_double(&list[i], number);
    } else {
      lumap_slot_put_integer(&list[i], (int64_t)number);
    }
  }
  return count;
}

static void push_number(lua_State *L, const unsigned char *bytes, size_t i, int kind) {
  static const unsigned tags[] = {
      [LUMAP_PACKED_I64] = LUMAP_TAG_I64,
      [LUMAP_PACKED_I8] = LUMAP_TAG_I8,
      [LUMAP_PACKED_I16] = LUMAP_TAG_I16,
      [LUMAP_PACKED_I32] = LUMAP_TAG_I32,
  };
  size_t width = lumap_packed_width((unsigned)kind);
  lumap_reader in = {bytes + i * width, width, 0, false};
  double number = 0;
  if (kind == LUMAP_PACKED_F64 || kind == LUMAP_PACKED_MIXED) {
    lumap_get_number(&in, &number, sizeof number);
    if (kind == LUMAP_PACKED_F64 || !is_whole(number))
      lua_pushnumber(L, number);
    else
      lumap_push_integer(L, (int64_t)number);
  } else {
    lumap_push_integer(L, lumap_get_integer(&in, tags[kind]));
  }
}

void lumap_unpack(lua_State *L, int index, uint64_t first, size_t count, int kind, const void *memory) {
  const unsigned char *bytes = memory;
  size_t done = 0, room;
  bool direct;
  luaL_checkstack(L, 8, NULL);
  direct = lumap_layout_push(L) != NULL;
  lua_pop(L, 1);
  if (direct && first >= 1) {
    lumap_slot *list = lumap_table_list(lua_topointer(L, index), &room);
    if (count > 0 && first - 1 + count <= room) done = unpack_where_it_lies(list + (first - 1), count, kind, bytes);
  }
  for (size_t i = done; i < count; i++) {
    push_number(L, bytes, i, kind);
    lua_rawseti(L, index, (int)(first + i));
  }
}
