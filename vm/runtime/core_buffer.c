/* SPDX-License-Identifier: MIT
 *
 * core_buffer.c - shared buffers: lists of numbers of one type, in memory that all workers see. On LuaJIT
 * stdlib/parallel/buffer.lua puts compiled functions in the places of __index and __newindex, which come here with all
 * that is not a plain number in its range.
 *
 * Indexes are checked, values are; nobody checks who else reads and writes: two workers that use one element at the
 * same time see each other's writes in some order.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/packed.h"
#include "runtime/core.h"
#include "runtime/shared.h"

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* After so much new memory, or so many pieces, what nobody uses any more is looked for. */
#define BYTES_A_COLLECTION ((size_t)256 << 20)
enum { PIECES_A_COLLECTION = 256 };

/* LuaJIT starts a collector that was stopped when it is asked to collect. */
void lumap_shared_collect(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  bool running = lua_gc(L, LUA_GCISRUNNING, 0) != 0;
  runtime->shared_bytes = runtime->shared_count = 0;
  lua_gc(L, LUA_GCCOLLECT, 0);
  if (!running) lua_gc(L, LUA_GCSTOP, 0);
}

void lumap_shared_count(lua_State *L, size_t size) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  if (runtime->shared_count >= PIECES_A_COLLECTION || runtime->shared_bytes >= BYTES_A_COLLECTION)
    lumap_shared_collect(L);
  runtime->shared_count++;
  runtime->shared_bytes += size;
}

lumap_memory *lumap_shared_open(lua_State *L, size_t size, const char *what) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_memory *memory;
  lumap_shared_count(L, size);
  if (lumap_memory_open(runtime->memories, size, what, &memory, &error) == LUMAP_E_OK) return memory;
  lumap_shared_collect(L);
  if (lumap_memory_open(runtime->memories, size, what, &memory, &error) != LUMAP_E_OK)
    luaL_error(L, "%s", error.message);
  return memory;
}

/* ---- elements ----------------------------------------------------------------------------------------------- */

static const struct {
  const char *expected;
  double lowest, highest; /* of integers up to 32 bits */
} ranges[LUMAP_ELEMENT_COUNT] = {
    [LUMAP_ELEMENT_DOUBLE] = {"a number", 0, 0},
    [LUMAP_ELEMENT_FLOAT] = {"a number within the range of float", 0, 0},
    [LUMAP_ELEMENT_INT8] = {"an integer from -128 to 127", INT8_MIN, INT8_MAX},
    [LUMAP_ELEMENT_INT16] = {"an integer from -32768 to 32767", INT16_MIN, INT16_MAX},
    [LUMAP_ELEMENT_INT32] = {"an integer from -2147483648 to 2147483647", INT32_MIN, INT32_MAX},
    [LUMAP_ELEMENT_INT64] = {"an integer from -2^63 to 2^63-1", 0, 0},
    [LUMAP_ELEMENT_UINT8] = {"an integer from 0 to 255", 0, UINT8_MAX},
    [LUMAP_ELEMENT_UINT16] = {"an integer from 0 to 65535", 0, UINT16_MAX},
    [LUMAP_ELEMENT_UINT32] = {"an integer from 0 to 4294967295", 0, UINT32_MAX},
    [LUMAP_ELEMENT_UINT64] = {"an integer from 0 to 2^64-1", 0, 0},
};

void lumap_buffer_push(lua_State *L, const lumap_handle *buffer, uint64_t at) {
  const void *place = (const char *)buffer->data + at * lumap_element_size(buffer->type);
  switch (buffer->type) {
  case LUMAP_ELEMENT_DOUBLE:
    lua_pushnumber(L, *(const double *)place);
    break;
  case LUMAP_ELEMENT_FLOAT:
    lua_pushnumber(L, *(const float *)place);
    break;
  case LUMAP_ELEMENT_INT8:
    lua_pushinteger(L, *(const int8_t *)place);
    break;
  case LUMAP_ELEMENT_INT16:
    lua_pushinteger(L, *(const int16_t *)place);
    break;
  case LUMAP_ELEMENT_INT32:
    lua_pushinteger(L, *(const int32_t *)place);
    break;
  case LUMAP_ELEMENT_INT64:
    lumap_push_boxed_integer(L, (uint64_t) * (const int64_t *)place, false);
    break;
  case LUMAP_ELEMENT_UINT8:
    lua_pushinteger(L, *(const uint8_t *)place);
    break;
  case LUMAP_ELEMENT_UINT16:
    lua_pushinteger(L, *(const uint16_t *)place);
    break;
  case LUMAP_ELEMENT_UINT32:
    lumap_push_integer(L, *(const uint32_t *)place);
    break;
  default:
    lumap_push_boxed_integer(L, *(const uint64_t *)place, true);
  }
}

static bool store_float(float *place, double value) {
  /* The first number that rounds to infinity. */
  const double beyond = (double)FLT_MAX * (1 + (double)FLT_EPSILON / 4);
  if (isfinite(value) && fabs(value) >= beyond) return false;
  *place = (float)value;
  return true;
}

/* The value at `index` as 64 bits, if it is an integer of that kind of 64-bit integers. */
static bool to_bits(lua_State *L, int index, bool is_unsigned, uint64_t *bits) {
  int64_t integer;
  double number;
  bool boxed_unsigned;
  if (lumap_is_boxed_integer(L, index, bits, &boxed_unsigned))
    return boxed_unsigned == is_unsigned || *bits <= INT64_MAX; /* else negative, or too large */
  if (lua_type(L, index) != LUA_TNUMBER) return false;
  if (lumap_is_integer(L, index, &integer)) {
    *bits = (uint64_t)integer;
    /* Where integers have 64 bits, those of an unsigned one may be a negative number's. */
    return integer >= 0 || !is_unsigned || !LUMAP_VM_IS_LUAJIT;
  }
  number = lua_tonumber(L, index);
  if (number != floor(number)) return false;
  if (is_unsigned ? !(number >= 0 && number < 0x1p64) : !(number >= -0x1p63 && number < 0x1p63)) return false;
  *bits = is_unsigned ? (uint64_t)number : (uint64_t)(int64_t)number;
  return true;
}

/* The number at `index`, an integer in the type's range. */
static bool to_integer(lua_State *L, int index, lumap_element type, int64_t *integer) {
  double number;
  uint64_t bits;
  if (lua_type(L, index) == LUMAP_TCDATA) {
    if (!to_bits(L, index, false, &bits)) return false;
    *integer = (int64_t)bits;
    return *integer >= (int64_t)ranges[type].lowest && *integer <= (int64_t)ranges[type].highest;
  }
  if (lua_type(L, index) != LUA_TNUMBER) return false;
  number = lua_tonumber(L, index);
  if (!(number >= ranges[type].lowest && number <= ranges[type].highest) || number != floor(number)) return false;
  *integer = (int64_t)number;
  return true;
}

bool lumap_buffer_store(lua_State *L, const lumap_handle *buffer, uint64_t at, int index) {
  void *place = (char *)buffer->data + at * lumap_element_size(buffer->type);
  int64_t integer = 0;
  uint64_t bits = 0;
  switch (buffer->type) {
  case LUMAP_ELEMENT_DOUBLE:
    if (lua_type(L, index) != LUA_TNUMBER) return false;
    *(double *)place = lua_tonumber(L, index);
    return true;
  case LUMAP_ELEMENT_FLOAT:
    return lua_type(L, index) == LUA_TNUMBER && store_float(place, lua_tonumber(L, index));
  case LUMAP_ELEMENT_INT64:
  case LUMAP_ELEMENT_UINT64:
    if (!to_bits(L, index, buffer->type == LUMAP_ELEMENT_UINT64, &bits)) return false;
    *(uint64_t *)place = bits;
    return true;
  default:
    if (!to_integer(L, index, buffer->type, &integer)) return false;
  }
  /* Two's complement: the lowest bytes are the number's in any width. */
  if (lumap_element_size(buffer->type) == 1)
    *(uint8_t *)place = (uint8_t)integer;
  else if (lumap_element_size(buffer->type) == 2)
    *(uint16_t *)place = (uint16_t)integer;
  else
    *(uint32_t *)place = (uint32_t)integer;
  return true;
}

/* ---- arguments ---------------------------------------------------------------------------------------------- */

static lumap_handle *check_buffer(lua_State *L) {
  lumap_handle *buffer = lumap_handle_test(L, 1, LUMAP_HANDLE_BUFFER);
  if (!buffer) luaL_error(L, "a buffer expected, got %s: call its methods with a colon", luaL_typename(L, 1));
  return buffer;
}

/* Pushes what the value at `index` is, for a message: numbers as they are printed, of others the type. [-0, +1] */
static const char *push_shown(lua_State *L, int index) {
  if (lua_type(L, index) == LUA_TNUMBER || lua_type(L, index) == LUMAP_TCDATA)
    lumap_push_printed(L, index);
  else
    lua_pushfstring(L, "of type %s", luaL_typename(L, index));
  return lua_tostring(L, -1);
}

/* Pushes "buffer of 10 double". [-0, +1] */
static const char *push_described(lua_State *L, const lumap_handle *buffer) {
  char text[64];
  snprintf(text, sizeof text, "buffer of %.0f %s", buffer->count, lumap_element_name(buffer->type));
  lua_pushstring(L, text);
  return lua_tostring(L, -1);
}

static int refuse_index(lua_State *L, const lumap_handle *buffer, int index) {
  char length[32];
  snprintf(length, sizeof length, "%.0f", buffer->count);
  return luaL_error(L, "bad index %s to a buffer of %s %s (an integer from 1 to %s expected)", push_shown(L, index),
                    length, lumap_element_name(buffer->type), length);
}

static int refuse_value(lua_State *L, const lumap_handle *buffer, int value, uint64_t at) {
  char length[32], place[32];
  snprintf(length, sizeof length, "%.0f", buffer->count);
  snprintf(place, sizeof place, "%.0f", (double)(at + 1));
  return luaL_error(L, "bad value %s at index %s of a buffer of %s %s (%s expected)", push_shown(L, value), place,
                    length, lumap_element_name(buffer->type), ranges[buffer->type].expected);
}

void lumap_buffer_store_result(lua_State *L, const lumap_handle *buffer, uint64_t item, int index) {
  char number[32];
  index = lua_absindex(L, index);
  if ((double)item <= buffer->count && lumap_buffer_store(L, buffer, item - 1, index)) return;
  luaL_checkstack(L, 4, NULL);
  snprintf(number, sizeof number, "%.0f", (double)item);
  if ((double)item > buffer->count)
    lumap_raise(L, "the result of item %s has no place in a %s", number, push_described(L, buffer));
  lumap_raise(L, "the result of item %s is %s, and it goes to a %s (%s expected)", number, push_shown(L, index),
              push_described(L, buffer), ranges[buffer->type].expected);
}

/* The number at `index` is an integer from 1 to the length: then its place, from 0. */
static bool to_place(lua_State *L, const lumap_handle *buffer, int index, uint64_t *at) {
  double number;
  if (lua_type(L, index) != LUA_TNUMBER) return false;
  number = lua_tonumber(L, index);
  if (!(number >= 1 && number <= buffer->count) || number != floor(number)) return false;
  *at = (uint64_t)number - 1;
  return true;
}

/* The optional bounds at 2 and 3: the first place and how many. The last may be one less than the first. */
static uint64_t check_bounds(lua_State *L, const lumap_handle *buffer, uint64_t *first) {
  double from = luaL_optnumber(L, 2, 1), to = luaL_optnumber(L, 3, buffer->count);
  if (!(from >= 1 && from <= buffer->count + 1) || from != floor(from)) refuse_index(L, buffer, 2);
  if (!(to >= from - 1 && to <= buffer->count) || to != floor(to)) refuse_index(L, buffer, 3);
  *first = (uint64_t)from - 1;
  return (uint64_t)(to - from + 1);
}

/* ---- access ------------------------------------------------------------------------------------------------- */

/* Upvalue 1: the methods. */
static int buffer_index(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  uint64_t at;
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
  }
  if (!to_place(L, buffer, 2, &at)) return refuse_index(L, buffer, 2);
  lumap_buffer_push(L, buffer, at);
  return 1;
}

static int buffer_newindex(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  uint64_t at;
  if (!to_place(L, buffer, 2, &at)) return refuse_index(L, buffer, 2);
  return lumap_buffer_store(L, buffer, at, 3) ? 0 : refuse_value(L, buffer, 3, at);
}

static int buffer_len(lua_State *L) {
  lumap_push_integer(L, (int64_t)check_buffer(L)->count);
  return 1;
}

/* "buffer of 10 double" */
static int buffer_tostring(lua_State *L) {
  push_described(L, check_buffer(L));
  return 1;
}

/* ---- methods ------------------------------------------------------------------------------------------------ */

/* fill(value) -> the buffer */
static int buffer_fill(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  size_t size = lumap_element_size(buffer->type), total = (size_t)buffer->count * size, done = size;
  char *data = buffer->data;
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  if (buffer->count < 1) {
    uint64_t unused;
    lumap_handle trial = *buffer;
    trial.data = &unused;
    if (!lumap_buffer_store(L, &trial, 0, 2)) return refuse_value(L, buffer, 2, 0);
  } else {
    if (!lumap_buffer_store(L, buffer, 0, 2)) return refuse_value(L, buffer, 2, 0);
    for (; done < total; done *= 2)
      memcpy(data + done, data, done < total - done ? done : total - done);
  }
  lua_settop(L, 1);
  return 1;
}

/* table([i [, j]]) -> list of the elements, with field n */
static int buffer_table(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  uint64_t first, count = check_bounds(L, buffer, &first);
  lua_createtable(L, count < 1 << 26 ? (int)count : 0, 1);
  if (buffer->type == LUMAP_ELEMENT_DOUBLE) {
    lumap_unpack(L, -1, 1, count, LUMAP_PACKED_F64, (const double *)buffer->data + first);
  } else {
    for (uint64_t k = 0; k < count; k++) {
      lumap_buffer_push(L, buffer, first + k);
      lua_rawseti(L, -2, (int)(k + 1));
    }
  }
  lumap_push_integer(L, (int64_t)count);
  lua_setfield(L, -2, "n");
  return 1;
}

/* string([i [, j]]) -> their bytes, as they lie in memory */
static int buffer_string(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  uint64_t first, count = check_bounds(L, buffer, &first);
  size_t size = lumap_element_size(buffer->type);
  lua_pushlstring(L, (const char *)buffer->data + first * size, count * size);
  return 1;
}

/* slice([i [, j]]) -> a buffer that is that part of this one */
static int buffer_slice(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  uint64_t first, count = check_bounds(L, buffer, &first);
  unsigned char *data = (unsigned char *)buffer->data + first * lumap_element_size(buffer->type);
  luaL_checkstack(L, 8, NULL);
  lumap_memory_acquire(buffer->memory);
  lumap_handle_push(L, LUMAP_HANDLE_BUFFER, buffer->memory, buffer->type, (uint64_t)(data - buffer->memory->data),
                    count);
  return 1;
}

/* ---- making ------------------------------------------------------------------------------------------------- */

/* Fills the buffer on top from the list at `list`. */
static void fill_from_list(lua_State *L, int list, const lumap_handle *buffer) {
  uint64_t count = (uint64_t)buffer->count;
  if (count == 0) return;
  if (buffer->type == LUMAP_ELEMENT_DOUBLE && lumap_pack_slice(L, list, 1, count, buffer->data) == LUMAP_PAYLOAD_F64)
    return;
  for (uint64_t k = 0; k < count; k++) {
    lua_rawgeti(L, list, (int)(k + 1));
    if (!lumap_buffer_store(L, buffer, k, lua_gettop(L))) refuse_value(L, buffer, lua_gettop(L), k);
    lua_pop(L, 1);
  }
}

/* buffer(number of the type, count, list or nil) -> buffer. The caller has checked the arguments. */
static int core_buffer(lua_State *L) {
  lumap_element type = (lumap_element)luaL_checkinteger(L, 1);
  double count = luaL_checknumber(L, 2);
  size_t size = type < LUMAP_ELEMENT_COUNT ? lumap_element_size(type) : 1;
  lumap_memory *memory;
  lumap_handle *buffer;
  char what[80];
  lua_settop(L, 3);
  if (type >= LUMAP_ELEMENT_COUNT) return luaL_argerror(L, 1, "no type");
  snprintf(what, sizeof what, "a buffer of %.0f %s", count, lumap_element_name(type));
  if (!(count >= 0 && count * (double)size <= (double)(INT64_MAX / 2)))
    return luaL_error(L, "not enough memory for %s", what);
  memory = lumap_shared_open(L, count > 0 ? (size_t)count * size : size, what);
  buffer = lumap_handle_push(L, LUMAP_HANDLE_BUFFER, memory, type, 0, (uint64_t)count);
  if (lua_istable(L, 3)) fill_from_list(L, 3, buffer);
  return 1;
}

/* Makes the metatable for that type, with methods on top. [-0, +1] */
static void push_class(lua_State *L, lumap_element type) {
  int methods = lua_gettop(L);
  if (!lumap_handle_push_metatable(L, LUMAP_HANDLE_BUFFER, type)) return;
  lua_pushvalue(L, methods);
  lua_pushcclosure(L, buffer_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, buffer_newindex);
  lua_setfield(L, -2, "__newindex");
  lua_pushcfunction(L, buffer_len);
  lua_setfield(L, -2, "__len");
  lua_pushcfunction(L, buffer_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "parallel.Buffer");
  lua_setfield(L, -2, "__metatable");
  lumap_handle_set_metatable(L, LUMAP_HANDLE_BUFFER, type);
}

/* buffer_classes() -> list of { name, metatable } of all types, in the order of their numbers from 0, and the methods
   that they share. Made once. */
static int core_buffer_classes(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"fill", buffer_fill}, {"table", buffer_table}, {"string", buffer_string}, {"slice", buffer_slice}, {NULL, NULL}};
  lua_createtable(L, LUMAP_ELEMENT_COUNT, 0);
  lua_newtable(L);
  lumap_set_functions(L, methods);
  for (int type = 0; type < LUMAP_ELEMENT_COUNT; type++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, lumap_element_name((lumap_element)type));
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, -2);
    push_class(L, (lumap_element)type);
    lua_rawseti(L, -3, 2);
    lua_pop(L, 1);
    lua_rawseti(L, -3, type + 1);
  }
  return 2;
}

/* Are two buffers parts of one memory that have bytes in common? */
static bool overlap(const lumap_handle *a, const lumap_handle *b) {
  const char *from_a = a->data, *from_b = b->data;
  return a->memory == b->memory && from_a < from_b + (size_t)b->count * lumap_element_size(b->type) &&
         from_b < from_a + (size_t)a->count * lumap_element_size(a->type);
}

/* is_buffer(value) -> the name of its type, or nil */
static int core_is_buffer(lua_State *L) {
  lumap_handle *buffer = lumap_handle_test(L, 1, LUMAP_HANDLE_BUFFER);
  if (!buffer) return 0;
  lua_pushstring(L, lumap_element_name(buffer->type));
  return 1;
}

/* store_result(buffer, item, value): puts the result of an item in its place, or raises. */
static int core_store_result(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  return lumap_buffer_store_result(L, buffer, (uint64_t)luaL_checknumber(L, 2), 3), 0;
}

/* overlap(buffer, buffer) -> boolean: have they memory in common? */
static int core_overlap(lua_State *L) {
  lumap_handle *other = lumap_handle_test(L, 2, LUMAP_HANDLE_BUFFER);
  lua_pushboolean(L, other && overlap(check_buffer(L), other));
  return 1;
}

/* copy(buffer) -> another buffer with the same elements */
static int core_copy(lua_State *L) {
  lumap_handle *buffer = check_buffer(L);
  size_t bytes = (size_t)buffer->count * lumap_element_size(buffer->type);
  lumap_memory *memory = lumap_shared_open(L, bytes ? bytes : 1, "a copy of a buffer");
  memcpy(memory->data, buffer->data, bytes);
  lumap_handle_push(L, LUMAP_HANDLE_BUFFER, memory, buffer->type, 0, (uint64_t)buffer->count);
  return 1;
}

const luaL_Reg lumap_core_buffer[] = {{"buffer", core_buffer},
                                      {"buffer_classes", core_buffer_classes},
                                      {"is_buffer", core_is_buffer},
                                      {"overlap", core_overlap},
                                      {"copy_buffer", core_copy},
                                      {"store_result", core_store_result},
                                      {NULL, NULL}};
