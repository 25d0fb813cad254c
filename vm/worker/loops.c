/* SPDX-License-Identifier: MIT
 *
 * loops.c - running a function over packed numbers, in C, for the VM that does not compile Lua. The meaning is that of
 * stdlib/parallel/loops.lua.
 */
#include "backend/task.h"
#include "codec/packed.h"
#include "codec/wire.h"
#include "runtime/shared.h"
#include "worker/task_api.h"

/* begin(control, call, index) -> stop: item `index` runs from now on, or (true) shall not begin. */
static int loop_begin(lua_State *L) {
  lumap_control *control = lua_touserdata(L, 1);
  lua_pushboolean(L, !lumap_control_begin_item(control, (uint32_t)lua_tonumber(L, 2), (uint64_t)lua_tonumber(L, 3)));
  return 1;
}

typedef struct number_loop {
  lumap_control *control;
  uint32_t call;
  uint64_t first, at, count;
  const unsigned char *items; /* of a payload */
  const lumap_handle *buffer; /* the items are its elements; NULL: they are not */
  unsigned char *memory;      /* results out; may be `items` */
  int kind;                   /* of the items of a payload: LUMAP_PAYLOAD_F64, I64; NONE: a range */
  bool integers;              /* the range's: all of its items are */
  int64_t start, step;        /* with `integers` */
  double start_number, step_number;
  int results; /* kind of the results so far; NONE: no result yet */
} number_loop;

static int payload_kind(const char *name) {
  return strcmp(name, "f64") == 0   ? LUMAP_PAYLOAD_F64
         : strcmp(name, "i64") == 0 ? LUMAP_PAYLOAD_I64
                                    : LUMAP_PAYLOAD_NONE;
}

/* Pushes item k. */
static void push_item(lua_State *L, const number_loop *loop, uint64_t k) {
  if (loop->buffer) {
    lumap_buffer_push(L, loop->buffer, loop->first - 1 + k);
  } else if (loop->kind == LUMAP_PAYLOAD_I64) {
    int64_t integer;
    memcpy(&integer, loop->items + k * sizeof integer, sizeof integer);
    lumap_push_integer(L, integer);
  } else if (loop->kind == LUMAP_PAYLOAD_F64) {
    double number;
    memcpy(&number, loop->items + k * sizeof number, sizeof number);
    lua_pushnumber(L, number);
  } else if (loop->integers) {
    lumap_push_integer(L, (int64_t)((uint64_t)loop->start + (loop->first - 1 + k) * (uint64_t)loop->step));
  } else {
    lua_pushnumber(L, loop->start_number + (lua_Number)(loop->first - 1 + k) * loop->step_number);
  }
}

/* Where the items at `index` come from: a payload's memory, a buffer, or from nowhere, a range whose start is at
   `start`, with its step above. */
static void set_items(lua_State *L, number_loop *loop, int index, const char *kind, int start) {
  loop->kind = payload_kind(kind);
  loop->integers = lumap_is_integer(L, start, &loop->start) && lumap_is_integer(L, start + 1, &loop->step);
  loop->start_number = lua_tonumber(L, start);
  loop->step_number = lua_tonumber(L, start + 1);
  loop->buffer = strcmp(kind, "buffer") == 0 ? lumap_handle_test(L, index, LUMAP_HANDLE_BUFFER) : NULL;
  if (loop->kind != LUMAP_PAYLOAD_NONE) loop->items = lua_touserdata(L, index);
}

/* Item k runs from now on; false: it shall not. */
static inline bool begin_item(const number_loop *loop, uint64_t k) {
  return lumap_control_begin_item(loop->control, loop->call, loop->first + k);
}

/* Stores the result on top; false when it is no number of the kind of those before it. */
static bool store_result(lua_State *L, number_loop *loop, uint64_t k) {
  int64_t integer;
  /* On LuaJIT all numbers are doubles: there is one kind of results, as for the compiled loop. */
  int kind = !LUMAP_VM_IS_LUAJIT && lumap_is_integer(L, -1, &integer) ? LUMAP_PAYLOAD_I64 : LUMAP_PAYLOAD_F64;
  if (kind == LUMAP_PAYLOAD_F64 && lua_type(L, -1) != LUA_TNUMBER) return false;
  if (loop->results == LUMAP_PAYLOAD_NONE) loop->results = kind;
  if (kind != loop->results) return false;
  if (kind == LUMAP_PAYLOAD_I64) {
    memcpy(loop->memory + k * sizeof integer, &integer, sizeof integer);
  } else {
    double number = lua_tonumber(L, -1);
    memcpy(loop->memory + k * sizeof number, &number, sizeof number);
  }
  return true;
}

/* numbers(fn, items, memory, kind, control, call, first, count, start, step, state): runs the items, which are a
   buffer's or in the memory of a payload, and stores their results in their places in `memory`, which may be the same.
   state.kind is set to the kind of the results. Returns how many are stored, at the end or after a stop; or, when an
   item did not give one number of that kind, how many are stored before it, true, and its results. */
static int loop_numbers(lua_State *L) {
  number_loop loop = {
      .control = lua_touserdata(L, 5),
      .call = (uint32_t)lua_tonumber(L, 6),
      .first = (uint64_t)lua_tonumber(L, 7),
      .count = (uint64_t)lua_tonumber(L, 8),
      .memory = lua_touserdata(L, 3),
  };
  int base = lua_gettop(L);
  luaL_checkstack(L, 20, NULL);
  set_items(L, &loop, 2, luaL_checkstring(L, 4), 9);
  for (; loop.at < loop.count; loop.at++) {
    if (!begin_item(&loop, loop.at)) break;
    lua_pushvalue(L, 1);
    push_item(L, &loop, loop.at);
    lua_call(L, 1, LUA_MULTRET);
    if (lua_gettop(L) != base + 1 || !store_result(L, &loop, loop.at)) {
      lumap_push_integer(L, (int64_t)loop.at);
      lua_pushboolean(L, 1);
      lua_insert(L, base + 1);
      lua_insert(L, base + 1);
      return lua_gettop(L) - base;
    }
    lua_pop(L, 1);
    if (loop.at > 0) continue;
    lua_pushstring(L, loop.results == LUMAP_PAYLOAD_F64 ? "f64" : "i64");
    lua_setfield(L, 11, "kind");
  }
  lumap_push_integer(L, (int64_t)loop.at);
  return 1;
}

/* into(fn, items, kind, control, call, first, at, last, start, step, buffer) -> the last item that is done: runs items
   at..last of a chunk whose first one is `first`, as above, and stores their results in the buffer. */
static int loop_into(lua_State *L) {
  number_loop loop = {
      .control = lua_touserdata(L, 4),
      .call = (uint32_t)lua_tonumber(L, 5),
      .first = (uint64_t)lua_tonumber(L, 6),
      .at = (uint64_t)lua_tonumber(L, 7) - 1,
      .count = (uint64_t)lua_tonumber(L, 8),
  };
  const lumap_handle *results = lumap_handle_test(L, 11, LUMAP_HANDLE_BUFFER);
  if (!results) return luaL_argerror(L, 11, "no buffer");
  luaL_checkstack(L, 20, NULL);
  set_items(L, &loop, 2, luaL_checkstring(L, 3), 9);
  for (; loop.at < loop.count; loop.at++) {
    if (!begin_item(&loop, loop.at)) break;
    lua_pushvalue(L, 1);
    push_item(L, &loop, loop.at);
    lua_call(L, 1, 1);
    lumap_buffer_store_result(L, results, loop.first + loop.at, -1);
    lua_pop(L, 1);
  }
  lumap_push_integer(L, (int64_t)loop.at);
  return 1;
}

const luaL_Reg lumap_loop_functions[] = {
    {"begin", loop_begin}, {"numbers", loop_numbers}, {"into", loop_into}, {NULL, NULL}};
