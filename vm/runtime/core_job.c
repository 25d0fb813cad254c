/* SPDX-License-Identifier: MIT
 *
 * core_job.c - jobs as userdata. Their methods are the caller's half of a call:
 *
 *     define, globals, classes     write the call's log
 *     begin, then numbers | values | nothing (a range), then submit     send a chunk
 *     collect, then results | death     receive one
 *     cancel, close
 *
 * A job owns the task that it is building and the one that it collected last; both die with it.
 */
#include "codec/codec.h"
#include "codec/packed.h"
#include "pool/job.h"
#include "runtime/core.h"

static const char *const job_type = "lumap.job";

/* Slots of a job's own table. */
enum { JOB_POOL = 1, JOB_SCOPE };

typedef struct job_object {
  lumap_job *job;
  lumap_task *building; /* begun, not submitted */
  lumap_task *current;  /* collected last */
} job_object;

int lumap_core_push_job(lua_State *L, lumap_pool *pool, bool finds_globals) {
  job_object *self = lumap_new_object(L, sizeof *self, JOB_SCOPE, job_type);
  fflush(stdout); /* what the caller has written comes before what its workers will write */
  lumap_push_userdata_table(L, -1);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, JOB_POOL);
  lumap_scope_push(L, true)->finds_globals = finds_globals;
  lua_rawseti(L, -2, JOB_SCOPE);
  lua_pop(L, 1);
  self->job = lumap_job_open(pool, &lumap_runtime_get(L)->event);
  return self->job ? 1 : luaL_error(L, "not enough memory");
}

/* ---- the log ------------------------------------------------------------------------------------------------ */

static job_object *check_job(lua_State *L) {
  job_object *self = luaL_checkudata(L, 1, job_type);
  if (!self->job) luaL_error(L, "this call is closed");
  return self;
}

/* Pushes the scope of the job at 1. */
static lumap_scope *push_scope(lua_State *L) {
  lumap_push_userdata_table(L, 1);
  lua_rawgeti(L, -1, JOB_SCOPE);
  lua_remove(L, -2);
  return lua_touserdata(L, -1);
}

static void drop_tasks(job_object *self) {
  if (!self->job) return;
  lumap_job_recycle(self->job, self->building);
  lumap_job_recycle(self->job, self->current);
  self->building = self->current = NULL;
}

static int job_close(lua_State *L) {
  job_object *self = luaL_checkudata(L, 1, job_type);
  lumap_job *job = self->job;
  drop_tasks(self);
  self->job = NULL;
  lumap_job_close(job);
  return 0;
}

/* As a count of nanoseconds that is none of the two that have a meaning of their own. */
static uint64_t to_ns(double seconds) {
  double ns = seconds * 1e9;
  return ns >= (double)INT64_MAX ? 0 : ns < 1 ? 1 : (uint64_t)ns;
}

/* limits(timeout or nil, deadline or nil), in seconds: of each item, and of the call from now on. Before any chunk. */
static int job_limits(lua_State *L) {
  lumap_call *call = &check_job(L)->job->call;
  if (!lua_isnoneornil(L, 2)) call->timeout_ns = to_ns(luaL_checknumber(L, 2));
  if (!lua_isnoneornil(L, 3)) {
    uint64_t moment = lumap_deadline_after(luaL_checknumber(L, 3));
    call->deadline_ns = moment == LUMAP_FOREVER ? 0 : moment;
  }
  return 0;
}

/* define(value, label): the worker gets it in its list of values. Raises a refusal. */
static int job_define(lua_State *L) {
  check_job(L);
  push_scope(L);
  lumap_log_value(L, -1, 2, luaL_checkstring(L, 3));
  return 0;
}

/* globals(table): its names and values become globals of the call. */
static int job_globals(lua_State *L) {
  int scope;
  check_job(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  push_scope(L);
  scope = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    lua_pushfstring(L, "globals.%s", lua_tostring(L, -2));
    lumap_log_global(L, scope, lua_tostring(L, -3), -2, lua_tostring(L, -1));
    lua_pop(L, 2);
  }
  return 0;
}

/* paths(): package.path and package.cpath as they are here, before anything that may need a module. */
static int job_paths(lua_State *L) {
  check_job(L);
  push_scope(L);
  lumap_log_paths(L, lua_gettop(L));
  return 0;
}

/* classes(): the classes registered with codec.register. */
static int job_classes(lua_State *L) {
  check_job(L);
  push_scope(L);
  lumap_log_classes(L, lua_gettop(L));
  return 0;
}

/* know(list): workers have these objects, as copies of the process. Before the first chunk. */
static int job_know(lua_State *L) {
  size_t count;
  int scope;
  check_job(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  push_scope(L);
  scope = lua_gettop(L);
  count = lumap_rawlen(L, 2);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (int)i);
    lumap_scope_know(L, scope);
  }
  return 0;
}

/* Hands over what the log has gained, and returns how many bytes that is. [-0, +0] */
static size_t seal_log(lua_State *L, job_object *self) {
  lumap_scope *scope = push_scope(L);
  size_t size;
  lumap_log_finish(L, lua_gettop(L));
  lua_pop(L, 1);
  size = scope->log.size;
  if (size == 0) return 0;
  if (!lumap_call_append(&self->job->call, &scope->log)) luaL_error(L, "not enough memory");
  scope->log_size += size;
  return size;
}

/* ---- sending ------------------------------------------------------------------------------------------------ */

/* begin(first, count): a chunk of items; without a payload it is a piece of a range. */
static int job_begin(lua_State *L) {
  job_object *self = check_job(L);
  lumap_job_recycle(self->job, self->building);
  self->building = lumap_job_task(self->job);
  if (!self->building) return luaL_error(L, "not enough memory");
  self->building->first = (uint64_t)luaL_checknumber(L, 2);
  self->building->count = (uint64_t)luaL_checknumber(L, 3);
  return 0;
}

static lumap_task *check_building(lua_State *L) {
  lumap_task *task = check_job(L)->building;
  if (!task) luaL_error(L, "no chunk was begun");
  return task;
}

/* numbers(list, from) -> boolean: packs the chunk's items list[from]... if all are numbers of one type. */
static int job_numbers(lua_State *L) {
  lumap_task *task = check_building(L);
  size_t size = task->count * sizeof(double);
  int kind;
  if (!lumap_bytes_reserve(&task->payload, size)) return luaL_error(L, "not enough memory");
  kind = lumap_pack_slice(L, 2, (uint64_t)luaL_checknumber(L, 3), task->count, task->payload.data);
  if (kind) {
    task->payload.size = size;
    task->payload_kind = (uint32_t)kind;
  }
  lua_pushboolean(L, kind != 0);
  return 1;
}

typedef struct putting {
  lumap_task *task;
  lumap_encoder *e;
  uint64_t done;
  size_t most; /* bytes from which on the chunk ends */
} putting;

/* A payload that stays in the processor's caches, and in memory that is used again and again, travels several times as
   fast as a large one. */
static const size_t large_chunk_bytes = (size_t)1 << 19;

/* putting, job, list, from, spread, label */
static int put_values(lua_State *L) {
  putting *p = lua_touserdata(L, 1);
  lumap_task *task = p->task;
  uint64_t from = (uint64_t)lua_tonumber(L, 4);
  const char *label = lua_tostring(L, 6);
  bool numbered = strcmp(label, "items") == 0;
  int scope;
  lumap_push_userdata_table(L, 2);
  lua_rawgeti(L, -1, JOB_SCOPE);
  scope = lua_gettop(L);
  lumap_put_u8(&task->payload, LUMAP_WIRE_VERSION);
  lumap_put_u8(&task->payload, lua_toboolean(L, 5) ? LUMAP_TAG_TRUE : LUMAP_TAG_FALSE);
  p->e = lumap_encode_begin(L, &task->payload, scope, 0);
  for (; p->done < task->count && task->payload.size < p->most; p->done++) {
    lua_rawgeti(L, 3, (int)(from + p->done));
    lumap_encode_value(p->e, -1, label, numbered ? (int)(task->first + p->done) : 0);
    lua_pop(L, 1);
  }
  return 0;
}

/* values(list, from, spread, label, bounded) -> count [, message]: encodes the chunk's items. When one cannot be sent
   the chunk ends before it: count is how many are in, and the message tells why. With `bounded` it also ends where it
   has become large. */
static int job_values(lua_State *L) {
  lumap_task *task = check_building(L);
  putting p = {task, NULL, 0, lua_toboolean(L, 6) ? large_chunk_bytes : SIZE_MAX};
  int code;
  lua_settop(L, 5);
  task->payload_kind = LUMAP_PAYLOAD_VALUES;
  lumap_bytes_clear(&task->payload);
  lua_pushcfunction(L, put_values);
  lua_pushlightuserdata(L, &p);
  for (int i = 1; i <= 5; i++)
    lua_pushvalue(L, i);
  code = lumap_encode_call(L, 6, 0);
  if (lumap_is_out_of_memory(L, code)) return lua_error(L);
  if (code != 0 && p.e) {
    push_scope(L);
    lumap_encode_undo(p.e, L, lua_gettop(L));
    lua_pop(L, 1);
  }
  task->count = p.done;
  lumap_push_integer(L, (int64_t)p.done);
  if (code == 0) return 1;
  lua_insert(L, -2);
  return 2;
}

/* submit() -> bytes of the chunk and of what was added to the log for it; false when the pool is closed */
static int job_submit(lua_State *L) {
  job_object *self = check_job(L);
  lumap_task *task = check_building(L);
  size_t size = task->payload.size + seal_log(L, self);
  if (lumap_job_submit(self->job, task) != LUMAP_E_OK) {
    lua_pushboolean(L, 0);
    return 1;
  }
  self->building = NULL;
  lumap_push_integer(L, (int64_t)size);
  return 1;
}

/* ---- receiving ---------------------------------------------------------------------------------------------- */

/* True when the event was signalled since `key`. */
static bool await_event(lumap_runtime *runtime, lumap_pool *pool, uint32_t key, uint64_t deadline) {
  uint64_t began = lumap_clock_ns();
  bool woken = lumap_pool_may_spin(pool) && lumap_event_spin(&runtime->event, key, &runtime->patience);
  if (!woken) woken = lumap_event_wait(&runtime->event, key, deadline) == LUMAP_E_OK;
  lumap_patience_learn(&runtime->patience, lumap_clock_ns() - began);
  return woken;
}

/* The next finished task; NULL with `*why` "empty", "timeout", "interrupted" or, with `alert`, "woken": something else
   that this state's thread may wait for has happened. Where workers run only when somebody asks, at least one task is
   run before the time is over. */
static lumap_task *wait_for_task(lua_State *L, job_object *self, uint64_t deadline, bool alert, const char **why) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  bool woken = false, pumped = false;
  for (;;) {
    uint32_t key = lumap_event_key(&runtime->event);
    lumap_task *task = lumap_job_collect(self->job);
    if (task) return task;
    *why = "empty";
    if (self->job->outstanding == 0) return NULL;
    *why = "interrupted";
    if (lumap_runtime_take_interrupt(runtime)) return NULL;
    *why = "woken";
    if (woken && alert) return NULL;
    *why = "timeout";
    if (pumped && deadline != LUMAP_FOREVER && lumap_clock_ns() >= deadline) return NULL;
    pumped = lumap_core_pump(runtime, self->job->pool);
    *why = "interrupted";
    if (pumped && lumap_runtime_take_interrupt(runtime)) return NULL; /* that is why the task ended as it did */
    *why = "timeout";
    if (pumped) continue;
    if (deadline != LUMAP_FOREVER && lumap_clock_ns() >= deadline) return NULL;
    if (lumap_pool_attend(self->job->pool, deadline)) continue;
    woken = await_event(runtime, self->job->pool, key, deadline);
  }
}

/* Makes `task` the job's current one and pushes what collect returns for it. */
static int take_task(lua_State *L, job_object *self, lumap_task *task) {
  static const char *const outcomes[] = {"done", "cancelled", "died",     "memory",
                                         "init", "start",     "overtime", "deadline"};
  self->current = task;
  lua_pushstring(L, outcomes[task->outcome < sizeof outcomes / sizeof *outcomes ? task->outcome : LUMAP_OUTCOME_START]);
  lumap_push_integer(L, (int64_t)task->first);
  lumap_push_integer(L, (int64_t)task->count);
  lumap_push_integer(L, (int64_t)task->done);
  lua_pushinteger(L, task->worker);
  lua_pushnumber(L, (lua_Number)(task->ended_ns - task->started_ns) / 1e9);
  lumap_push_integer(L, (int64_t)task->payload.size);
  return 7;
}

static void drop_current(job_object *self) {
  lumap_job_recycle(self->job, self->current);
  self->current = NULL;
}

/* collect(seconds or nil, alert) -> outcome, first, count, done, worker, seconds, bytes: a finished chunk, in the order
   of completion. Or nothing but "empty" (no chunk is under way), "timeout", "interrupted", or with `alert` "woken". */
static int job_collect(lua_State *L) {
  job_object *self = check_job(L);
  uint64_t deadline = lua_isnoneornil(L, 2) ? LUMAP_FOREVER : lumap_deadline_after(luaL_checknumber(L, 2));
  const char *why = NULL;
  lumap_task *task;
  drop_current(self);
  task = wait_for_task(L, self, deadline, lua_toboolean(L, 3), &why);
  if (task) return take_task(L, self, task);
  lua_pushstring(L, why);
  return 1;
}

/* poll() -> as collect. Neither waits nor runs anything. */
static int job_poll(lua_State *L) {
  job_object *self = check_job(L);
  lumap_task *task;
  drop_current(self);
  task = lumap_job_collect(self->job);
  if (task) return take_task(L, self, task);
  lua_pushstring(L, self->job->outstanding == 0 ? "empty" : "timeout");
  return 1;
}

typedef struct reading {
  lua_State *L;
  lumap_decoder d;
  lumap_task *task;
  int columns, errors; /* stack indexes */
  uint64_t at;
} reading;

/* Pushes column `number`, made when it is missing, with room for `total` values. */
static void push_column(lua_State *L, int columns, int number, lua_Number total) {
  lua_rawgeti(L, columns, number);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_createtable(L, total > 0 && total <= 1 << 26 ? (int)total : 0, 1);
  lua_pushvalue(L, -1);
  lua_rawseti(L, columns, number);
}

/* Appends { offset, error } to the list of errors, which is made when it is needed; the error is on top. [-1, +0] */
static void add_error(lua_State *L, int errors, uint64_t offset) {
  if (lua_isnil(L, errors)) {
    lua_newtable(L);
    lua_replace(L, errors);
  }
  lua_createtable(L, 2, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 2);
  lumap_push_integer(L, (int64_t)offset);
  lua_rawseti(L, -2, 1);
  lua_rawseti(L, errors, (int)lumap_rawlen(L, errors) + 1);
}

/* The value that has just been read could not be made here: the item fails. */
static void note_failure(reading *r, uint64_t offset) {
  lua_State *L = r->L;
  if (!lumap_decode_failure(&r->d)) return;
  lua_createtable(L, 0, 2);
  lua_insert(L, -2);
  lua_setfield(L, -2, "message");
  lua_pushliteral(L, "decode");
  lua_setfield(L, -2, "kind");
  add_error(L, r->errors, offset);
}

/* The message: version, number of columns, the columns, number of errors, pairs of offset and error. */
static void read_values(reading *r, int scope, lua_Number total) {
  lua_State *L = r->L;
  lumap_task *task = r->task;
  uint64_t columns, errors;
  lumap_decode_begin(&r->d, L, task->payload.data, task->payload.size, scope, 0);
  r->d.references = task->payload.references;
  if (lumap_get_u8(&r->d.in) != LUMAP_WIRE_VERSION) luaL_error(L, "bad message: results of another version");
  columns = lumap_get_varint(&r->d.in);
  if (columns > lumap_reader_left(&r->d.in)) luaL_error(L, "bad message: more results than there are bytes");
  for (uint64_t c = 1; c <= columns && !r->d.in.failed; c++) {
    push_column(L, r->columns, (int)c, total);
    for (uint64_t k = 0; k < task->done; k++) {
      lumap_decode_value(&r->d);
      note_failure(r, k);
      lua_rawseti(L, -2, (int)(r->at + k));
    }
    lua_pop(L, 1);
  }
  errors = lumap_get_varint(&r->d.in);
  for (uint64_t i = 0; i < errors && !r->d.in.failed; i++) {
    uint64_t offset = lumap_get_varint(&r->d.in);
    lumap_decode_value(&r->d);
    lumap_decode_failure(&r->d);
    add_error(L, r->errors, offset);
  }
  if (r->d.in.failed) luaL_error(L, "bad message: the results end too early");
}

static int read_results(lua_State *L) {
  reading *r = lua_touserdata(L, 1);
  lua_Number total = lua_tonumber(L, 4);
  lumap_task *task = r->task;
  r->L = L;
  lua_pushnil(L);
  r->columns = 3;
  r->errors = lua_gettop(L);
  r->at = (uint64_t)lua_tonumber(L, 5);
  if (task->payload_kind == LUMAP_PAYLOAD_VALUES) {
    lumap_push_userdata_table(L, 2);
    lua_rawgeti(L, -1, JOB_SCOPE);
    read_values(r, lua_gettop(L), total);
  } else if (task->payload_kind != LUMAP_PAYLOAD_NONE) {
    if (task->payload.size / sizeof(double) < task->done)
      return luaL_error(L, "bad message: the results end too early");
    push_column(L, r->columns, 1, total);
    lumap_unpack(L, lua_gettop(L), r->at, task->done,
                 task->payload_kind == LUMAP_PAYLOAD_I64 ? LUMAP_PACKED_I64 : LUMAP_PACKED_F64, task->payload.data);
  }
  lua_pushvalue(L, r->errors);
  return 1;
}

/* results(columns, total, at) -> errors: stores what the collected chunk's items gave, value c of item k at
   columns[c][at + k - 1]; lists that are missing are made, with room for `total`. errors lists { offset, error } with
   offsets from 0; nil: none. */
static int job_results(lua_State *L) {
  job_object *self = check_job(L);
  reading r = {.task = self->current};
  if (!self->current) return luaL_error(L, "no chunk was collected");
  lua_settop(L, 4);
  lua_pushcfunction(L, read_results);
  lua_insert(L, 1);
  lua_pushlightuserdata(L, &r);
  lua_insert(L, 2);
  return lumap_pcall_at_rest(L, 5, 1) == 0 ? 1 : lua_error(L);
}

/* wake_below(count): as lumap_job_wake_below. */
static int job_wake_below(lua_State *L) {
  lumap_job_wake_below(check_job(L)->job, (uint32_t)luaL_checknumber(L, 2));
  return 0;
}

/* death() -> index, signal, exit_code, message of a chunk that ended with "died", "memory" or "start"; and whether no
   worker can make itself ready, for which "init" has an error among its results */
static int job_death(lua_State *L) {
  lumap_task *task = check_job(L)->current;
  if (!task) return luaL_error(L, "no chunk was collected");
  lumap_push_integer(L, (int64_t)task->died_index);
  lua_pushinteger(L, task->died_signal);
  lua_pushinteger(L, task->died_exit);
  lua_pushstring(L, task->error.message);
  lua_pushboolean(L, task->is_hopeless);
  return 5;
}

/* outstanding() -> chunks submitted and not collected */
static int job_outstanding(lua_State *L) {
  lumap_push_integer(L, check_job(L)->job->outstanding);
  return 1;
}

/* cancel(from): begins no new item from this index on; none at all without it. */
static int job_cancel(lua_State *L) {
  lumap_job_cancel(check_job(L)->job, (uint64_t)luaL_optnumber(L, 2, 0));
  return 0;
}

/* cut() -> items: what runs ends after the item that runs. Of those in the list it is certain that no later one of
   their chunk will begin. */
static int job_cut(lua_State *L) {
  lumap_job *job = check_job(L)->job;
  uint64_t *stuck = lua_newuserdata(L, (size_t)lumap_pool_worker_count(job->pool) * sizeof *stuck);
  size_t count = lumap_job_cut(job, stuck);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    lumap_push_integer(L, (int64_t)stuck[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* abort(): cancels, and ends the items that run where that is possible. */
static int job_abort(lua_State *L) {
  lumap_job_abort(check_job(L)->job);
  return 0;
}

void lumap_core_open_job(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"limits", job_limits},
      {"wake_below", job_wake_below},
      {"define", job_define},
      {"globals", job_globals},
      {"classes", job_classes},
      {"paths", job_paths},
      {"know", job_know},
      {"begin", job_begin},
      {"numbers", job_numbers},
      {"values", job_values},
      {"submit", job_submit},
      {"collect", job_collect},
      {"poll", job_poll},
      {"results", job_results},
      {"death", job_death},
      {"outstanding", job_outstanding},
      {"cancel", job_cancel},
      {"abort", job_abort},
      {"close", job_close},
      {"cut", job_cut},
      {NULL, NULL},
  };
  lumap_core_class(L, job_type, methods, job_close);
}
