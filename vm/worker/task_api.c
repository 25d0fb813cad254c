/* SPDX-License-Identifier: MIT
 *
 * task_api.c - a task travels through Lua as a light userdata: worker.lua holds it only while it runs it.
 */
#include "worker/task_api.h"

#include "backend/task.h"
#include "codec/codec.h"
#include "codec/packed.h"
#include "os/os.h"
#include "runtime/runtime.h"

static lumap_task *to_task(lua_State *L) {
  return lua_touserdata(L, 1);
}

/* info(task) -> call id, kind of payload, first, count, log entries needed [, most]: of the items only so many are to
   be run */
static int task_info(lua_State *L) {
  static const char *const kinds[] = {"range", "f64", "i64", "values"};
  lumap_task *task = to_task(L);
  lumap_push_integer(L, task->call_id);
  lua_pushstring(L, kinds[task->payload_kind & 3]);
  lumap_push_integer(L, (int64_t)task->first);
  lumap_push_integer(L, (int64_t)task->count);
  lumap_push_integer(L, task->log_needed);
  if (!task->most) return 5;
  lumap_push_integer(L, (int64_t)task->most);
  return 6;
}

/* environment() -> table, metatable: the globals of a call. The worker's own are there, since programs look them up in
   it raw, and those that come later are found through the metatable. */
static int task_environment(lua_State *L) {
  lua_settop(L, 0);
  lumap_push_globals(L);
  lumap_table_push_copy(L, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "_G");
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__index");
  lua_pushvalue(L, -1);
  lua_setmetatable(L, 2);
  return 2;
}

/* scope(environment) -> scope */
static int task_scope(lua_State *L) {
  lua_settop(L, 1);
  lumap_scope_push(L, false);
  return 1;
}

/* enter(scope or nil): the call that this state runs from now on; nil: none. */
static int task_enter(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) lumap_scope_check(L, 1);
  lumap_scope_enter(L, lua_isnoneornil(L, 1) ? 0 : 1);
  return 0;
}

/* know(scope, list): objects that the caller knows by the same numbers. Before anything is read. */
static int task_know(lua_State *L) {
  size_t count = lumap_rawlen(L, 2);
  lumap_scope_check(L, 1);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (int)i);
    lumap_scope_know(L, 1);
  }
  return 0;
}

static int read_log(lua_State *L) {
  lumap_task *task = to_task(L);
  uint32_t read = (uint32_t)lua_tonumber(L, 3), number = 0;
  uint64_t began = lumap_clock_ns();
  lumap_scope_check(L, 2);
  /* The last entry's `next` is the caller's to write while we are here. */
  for (lumap_log_entry *entry = task->call->log_first; number < task->log_needed;
       entry = number < task->log_needed ? entry->next : NULL)
    if (number++ >= read) lumap_log_read(L, 2, entry->bytes.data, entry->bytes.size, entry->bytes.references, 4);
  task->decode_ns += lumap_clock_ns() - began;
  /* A task that comes back after a death may need less than its successors, which have been here. */
  lumap_push_integer(L, number > read ? number : read);
  return 1;
}

/* log(task, scope, read, values) -> read: reads the entries of the call's log that the task needs, from number `read`
   on, and appends the values that they define to the list. */
static int task_log(lua_State *L) {
  lua_settop(L, 4);
  lua_pushcfunction(L, read_log);
  lua_insert(L, 1);
  return lumap_pcall_at_rest(L, 4, 1) == 0 ? 1 : lua_error(L);
}

static int read_entry(lua_State *L) {
  size_t size;
  const char *bytes = luaL_checklstring(L, 2, &size);
  lumap_scope_check(L, 1);
  lumap_log_read(L, 1, bytes, size, lua_touserdata(L, 4), 3);
  return 0;
}

/* entry(scope, bytes, values, references): reads a log of one entry, that of an init function. `references` is a light
   userdata, what the bytes refer to, or nil. */
static int task_entry(lua_State *L) {
  lua_settop(L, 4);
  lua_pushcfunction(L, read_entry);
  lua_insert(L, 1);
  return lumap_pcall_at_rest(L, 4, 0) == 0 ? 0 : lua_error(L);
}

static int read_items(lua_State *L) {
  lumap_task *task = to_task(L);
  lumap_decoder d;
  lumap_decode_begin(&d, L, task->payload.data, task->payload.size, 2, 0);
  d.references = task->payload.references;
  if (lumap_get_u8(&d.in) != LUMAP_WIRE_VERSION) return luaL_error(L, "bad message: items of another version");
  lua_pushboolean(L, lumap_get_u8(&d.in) == LUMAP_TAG_TRUE);
  lua_pushnil(L);
  for (uint64_t i = 0; i < task->count; i++) {
    lumap_decode_value(&d);
    lua_rawseti(L, 3, (int)(i + 1));
    if (!lumap_decode_failure(&d)) continue;
    /* What could not be made here fails its item. */
    if (lua_isnil(L, -2)) {
      lua_newtable(L);
      lua_replace(L, -3);
    }
    lua_rawseti(L, -2, (int)(i + 1));
  }
  if (lumap_reader_left(&d.in) > 0) return luaL_error(L, "bad message: bytes left over behind the items");
  return 2;
}

/* items(task, scope, list) -> spread, failures: decodes the items into list[1]... `spread`: each is a list of
   arguments. failures[i] is the message of an item that cannot be made here; nil: none. */
static int task_items(lua_State *L) {
  lumap_task *task = to_task(L);
  uint64_t began = lumap_clock_ns();
  lua_settop(L, 3);
  lua_pushcfunction(L, read_items);
  lua_insert(L, 1);
  if (lumap_pcall_at_rest(L, 3, 2) != 0) return lua_error(L);
  task->decode_ns += lumap_clock_ns() - began;
  return 2;
}

/* memory(task) -> light userdata: the payload, with room for eight bytes an item. */
static int task_memory(lua_State *L) {
  lumap_task *task = to_task(L);
  size_t size = task->count * sizeof(double);
  if (task->payload.size < size && !lumap_bytes_reserve(&task->payload, size - task->payload.size))
    return luaL_error(L, "not enough memory");
  task->payload.size = size;
  lua_pushlightuserdata(L, task->payload.data);
  return 1;
}

/* unpack(task, list, count, kind): the first numbers of the payload into list[1]... */
static int task_unpack(lua_State *L) {
  lumap_task *task = to_task(L);
  size_t count = (size_t)luaL_checknumber(L, 3);
  bool integers = strcmp(luaL_checkstring(L, 4), "i64") == 0;
  lumap_unpack(L, 2, 1, count, integers ? LUMAP_PACKED_I64 : LUMAP_PACKED_F64, task->payload.data);
  return 0;
}

/* finish_numbers(task, done, kind): the results are the numbers in the payload. */
static int task_finish_numbers(lua_State *L) {
  lumap_task *task = to_task(L);
  task->done = (uint64_t)luaL_checknumber(L, 2);
  task->payload.size = task->done * sizeof(double);
  task->payload_kind = strcmp(luaL_checkstring(L, 3), "i64") == 0 ? LUMAP_PAYLOAD_I64 : LUMAP_PAYLOAD_F64;
  task->outcome = LUMAP_OUTCOME_DONE;
  return 0;
}

/* A refusal of result `offset`: its error, and nil in each column. { kind, message } on top is popped. */
static void refuse_result(lua_State *L, int errors, uint64_t offset) {
  const char *text = lua_tostring(L, -1);
  lua_createtable(L, 0, 2);
  lua_pushliteral(L, "encode");
  lua_setfield(L, -2, "kind");
  lua_pushstring(L, text ? text : "cannot send the result");
  lua_setfield(L, -2, "message");
  lua_rawseti(L, errors, (int)(offset + 1));
  lua_pop(L, 1);
}

typedef struct writing {
  lumap_bytes *out;
  lumap_encoder *e;
  uint64_t done, at;
  int columns, column; /* how many; the one that is being written, from 1 */
} writing;

/* Pushes what item `w->at` gave for the column on top: nil if it failed. The errors are at index 4. [-0, +1] */
static void push_result(lua_State *L, const writing *w) {
  lua_rawgeti(L, 4, (int)(w->at + 1));
  if (!lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushnil(L);
  } else {
    lua_pop(L, 1);
    lua_rawgeti(L, -1, (int)(w->at + 1));
  }
}

/* Most workers give back nothing but numbers, booleans and nil: they never make an encoder. Columns at index 3, errors
   at 4. Returns whether these were all, else w->column and w->at are those of the first other value. */
static bool write_scalars(lua_State *L, writing *w) {
  for (; w->column <= w->columns; w->column++, w->at = 0) {
    lua_rawgeti(L, 3, w->column);
    for (; w->at < w->done; w->at++) {
      bool written;
      push_result(L, w);
      written = lumap_put_scalar(w->out, L, -1);
      lua_pop(L, 1);
      if (written) continue;
      lua_pop(L, 1);
      return false;
    }
    lua_pop(L, 1);
  }
  return true;
}

/* writing, scope, columns, errors: goes on from w->column and w->at. */
static int write_columns(lua_State *L) {
  writing *w = lua_touserdata(L, 1);
  if (w->e)
    lumap_encode_resume(w->e, L);
  else
    w->e = lumap_encode_begin(L, w->out, 2, 0);
  for (; w->column <= w->columns; w->column++, w->at = 0) {
    lua_rawgeti(L, 3, w->column);
    for (; w->at < w->done; w->at++) {
      push_result(L, w);
      lumap_encode_value(w->e, -1, "result", w->column > 1 ? w->column : 0);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  return 0;
}

static int write_errors(lua_State *L) {
  writing *w = lua_touserdata(L, 1);
  uint64_t count = 0;
  lumap_encode_resume(w->e, L);
  lua_pushnil(L);
  while (lua_next(L, 4)) {
    count++;
    lua_pop(L, 1);
  }
  lumap_put_varint(w->out, count);
  lua_pushnil(L);
  while (lua_next(L, 4)) {
    lumap_put_varint(w->out, (uint64_t)lua_tonumber(L, -2) - 1);
    lumap_encode_value(w->e, -1, "error", 0);
    lua_pop(L, 1);
  }
  return 0;
}

static int protect(lua_State *L, lua_CFunction body, writing *w) {
  lua_pushcfunction(L, body);
  lua_pushlightuserdata(L, w);
  for (int i = 2; i <= 4; i++)
    lua_pushvalue(L, i);
  return lumap_encode_call(L, 4, 0);
}

/* writing, scope, columns, errors. */
static int write_results(lua_State *L, writing *w) {
  int code;
  while ((code = protect(L, write_columns, w)) != 0) {
    if (lumap_is_out_of_memory(L, code) || !w->e) return lua_error(L);
    lumap_encode_undo(w->e, L, 2);
    refuse_result(L, 4, w->at);
  }
  return protect(L, write_errors, w) != 0 ? lua_error(L) : 0;
}

/* Is the table at `index` empty? */
static bool is_empty(lua_State *L, int index) {
  lua_pushnil(L);
  if (!lua_next(L, index)) return true;
  lua_pop(L, 2);
  return false;
}

/* finish(task, scope, columns, errors, done): encodes columns[c][1..done] and errors[i], which are tables of plain
   values. A result that cannot be sent becomes an error of its item. */
static int task_finish(lua_State *L) {
  lumap_task *task = to_task(L);
  writing w = {&task->payload, NULL, (uint64_t)luaL_checknumber(L, 5), 0, (int)lumap_rawlen(L, 3), 1};
  uint64_t began = lumap_clock_ns();
  bool scalars;
  lua_settop(L, 4);
  lumap_bytes_clear(&task->payload);
  lumap_put_u8(&task->payload, LUMAP_WIRE_VERSION);
  lumap_put_varint(&task->payload, (uint64_t)w.columns);
  scalars = write_scalars(L, &w);
  if (scalars && is_empty(L, 4)) lumap_put_varint(&task->payload, 0);
  if (task->payload.failed) return luaL_error(L, "not enough memory");
  if (!scalars || !is_empty(L, 4)) write_results(L, &w);
  task->payload_kind = LUMAP_PAYLOAD_VALUES;
  task->done = w.done;
  task->outcome = LUMAP_OUTCOME_DONE;
  task->encode_ns += lumap_clock_ns() - began;
  return 0;
}

/* cancel(task): it was told to stop, and has no results. */
static int task_cancel(lua_State *L) {
  lumap_task *task = to_task(L);
  lumap_bytes_clear(&task->payload);
  task->done = 0;
  task->outcome = LUMAP_OUTCOME_CANCELLED;
  return 0;
}

/* fail_init(task): the error that it was finished with is of the init function, and of no item. */
static int task_fail_init(lua_State *L) {
  lumap_task *task = to_task(L);
  task->done = 0;
  task->outcome = LUMAP_OUTCOME_INIT;
  return 0;
}

/* index() -> the item that runs, or that ran last in this task; nil: none has begun */
static int task_index(lua_State *L) {
  uint64_t index = atomic_load_explicit(&lumap_runtime_get(L)->control->index, memory_order_relaxed);
  if (index == 0) return 0;
  lumap_push_integer(L, (int64_t)index);
  return 1;
}

/* note_failed(index): this item of the task that runs has failed, and its results go to a buffer. */
static int task_note_failed(lua_State *L) {
  lumap_control *control = lumap_runtime_get(L)->control;
  if (atomic_load(&control->failed) == 0) atomic_store(&control->failed, (uint64_t)luaL_checknumber(L, 1));
  return 0;
}

/* stop_from(task, index): once the task's results are on their way, no later item begins here, nor where the call's
   memory is shared. */
static int task_stop_from(lua_State *L) {
  to_task(L)->stops_from = (uint64_t)luaL_checknumber(L, 2);
  return 0;
}

/* hide_index(hidden): what parallel.index() tells while a call without item indexes runs. */
static int task_hide_index(lua_State *L) {
  lumap_runtime_get(L)->hides_index = lua_toboolean(L, 1);
  return 0;
}

/* begin_streams(seed): until end_streams, each item has a stream of random numbers, which start_stream begins. */
static int task_begin_streams(lua_State *L) {
  lumap_generator *generator = &lumap_runtime_get(L)->generator;
  if (!generator->words)
    return luaL_error(L, "option 'seed': math.random of this VM is not known, and cannot be seeded");
  lumap_generator_begin(generator, (uint64_t)(int64_t)luaL_checknumber(L, 1));
  return 0;
}

/* end_streams(): the worker goes on with its own random numbers. */
static int task_end_streams(lua_State *L) {
  lumap_generator_end(&lumap_runtime_get(L)->generator);
  return 0;
}

/* start_stream(): the item that runs now draws from its own stream. */
static int task_start_stream(lua_State *L) {
  lumap_generator_item(&lumap_runtime_get(L)->generator);
  return 0;
}

/* start_border(item): who joins what comes before this item with what begins there draws from the border's stream. */
static int task_start_border(lua_State *L) {
  lumap_generator_border(&lumap_runtime_get(L)->generator, (uint64_t)luaL_checknumber(L, 1));
  return 0;
}

/* stream_address() -> start_stream and its argument as light userdata, for code that calls it as it calls C */
static int task_stream_address(lua_State *L) {
  void (*function)(void *) = lumap_generator_item;
  void *address;
  _Static_assert(sizeof address == sizeof function, "POSIX: a function's address fits");
  memcpy(&address, &function, sizeof address);
  lua_pushlightuserdata(L, address);
  lua_pushlightuserdata(L, &lumap_runtime_get(L)->generator);
  return 2;
}

const luaL_Reg lumap_task_functions[] = {
    {"info", task_info},
    {"environment", task_environment},
    {"scope", task_scope},
    {"enter", task_enter},
    {"know", task_know},
    {"log", task_log},
    {"entry", task_entry},
    {"items", task_items},
    {"memory", task_memory},
    {"unpack", task_unpack},
    {"finish", task_finish},
    {"finish_numbers", task_finish_numbers},
    {"cancel", task_cancel},
    {"fail_init", task_fail_init},
    {"index", task_index},
    {"hide_index", task_hide_index},
    {"note_failed", task_note_failed},
    {"stop_from", task_stop_from},
    {"begin_streams", task_begin_streams},
    {"end_streams", task_end_streams},
    {"start_stream", task_start_stream},
    {"start_border", task_start_border},
    {"stream_address", task_stream_address},
    {NULL, NULL},
};
