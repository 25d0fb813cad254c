/* SPDX-License-Identifier: MIT
 *
 * call_fuzz.c - what a worker reads of a call (entries of its log, items) and what the caller reads (results), as the
 * functions of vm/worker and vm/runtime read them. Any bytes are values or an error, on either side.
 *
 *     input: u8 what: 1: results, else a worker's; the next two bits: kind of the payload
 *            u8 count: how many items are claimed; 255: more than anybody has
 *            u16 size of the log entry, the entry, the payload
 *
 * Results come by the way that they always come: through a pool, whose worker is an executor that hands out the input.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/task.h"
#include "codec/wire.h"
#include "state.h"
#include "worker/task_api.h"

typedef struct input {
  unsigned what, kind;
  uint64_t count;
  lumap_bytes log, payload;
} input;

static input current;

/* ---- the caller's side -------------------------------------------------------------------------------------- */

static lumap_status executor_open(const lumap_bytes *setup, void *host, int number, lumap_control *control, void **self,
                                  lumap_error *error) {
  (void)setup, (void)host, (void)number, (void)control, (void)error;
  *self = &current;
  return LUMAP_E_OK;
}

static bool executor_run(void *self, lumap_task *task) {
  input *from = self;
  lumap_bytes_move(&task->payload, &from->payload);
  task->payload_kind = from->kind;
  task->done = from->count;
  task->outcome = LUMAP_OUTCOME_DONE;
  return true;
}

static void executor_forget(void *self, uint32_t call_id) {
  (void)self, (void)call_id;
}

static void executor_interrupt(void *self, const void *context) {
  (void)self, (void)context;
}

static void executor_end(void *self) {
  (void)self;
}

static const lumap_executor executor = {executor_open,      executor_run, executor_forget,
                                        executor_interrupt, executor_end, ""};

/* Results of a call whose log has a function and a class, so that a message may refer to them. */
static const char receiving[] = "local core = require 'lumap.core'\n"
                                "local pool = core.pool('serial', 1, nil)\n"
                                "local Class = {}\n"
                                "Class.__index = Class\n"
                                "local value = setmetatable({}, Class)\n"
                                "local function fn() return value, fn end\n"
                                "return function()\n"
                                "  local job = pool:job(true)\n"
                                "  job:define(fn, 'fn')\n"
                                "  job:begin(1, 3)\n"
                                "  job:submit()\n"
                                "  job:collect()\n"
                                "  local ok, errors = pcall(job.results, job, {}, nil, 1)\n"
                                "  job:close()\n"
                                "  if not ok then error(errors, 0) end\n"
                                "end\n";

static lua_State *open_caller(void) {
  lua_State *L = fuzz_open(&executor);
  fuzz_run(L, "=receiving", receiving, 0, 1);
  fuzz_disarm(L);
  /* What the first call of all makes, and keeps, is not made of any input. */
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 0, 0, 0) != 0) lua_settop(L, 1);
  return L; /* the function stays at index 1, and so do the pool and the job's methods that it holds */
}

/* ---- the worker's side -------------------------------------------------------------------------------------- */

static const char reading[] = "local api = ...\n"
                              "local globals = _G\n"
                              "return function(task)\n"
                              "  local environment, values, items = {}, {}, {}\n"
                              "  for name, value in next, globals do environment[name] = value end\n"
                              "  local scope = api.scope(environment)\n"
                              "  api.log(task, scope, 0, values)\n"
                              "  return api.items(task, scope, items)\n"
                              "end\n";

static lua_State *open_worker(void) {
  lua_State *L = fuzz_open(NULL);
  lua_newtable(L);
  lumap_set_functions(L, lumap_task_functions);
  fuzz_run(L, "=reading", reading, 1, 1);
  fuzz_disarm(L);
  return L;
}

static lumap_task *make_task(lumap_call *call) {
  lumap_task *task;
  lumap_call_init(call, 1);
  if (current.log.size && !lumap_call_append(call, &current.log)) fuzz_fail("no memory");
  task = lumap_task_new(LUMAP_TASK_CHUNK, call);
  if (!task) fuzz_fail("no memory");
  task->first = 1;
  task->count = current.count;
  task->log_needed = call->log_count;
  task->payload_kind = current.kind;
  lumap_bytes_move(&task->payload, &current.payload);
  return task;
}

/* ---- one input ---------------------------------------------------------------------------------------------- */

static lumap_bytes take_bytes(lumap_reader *in, size_t size) {
  size_t there = size < lumap_reader_left(in) ? size : lumap_reader_left(in);
  lumap_bytes bytes = {.data = fuzz_copy(in->data + in->at, there), .size = there, .capacity = there};
  lumap_get_bytes(in, there);
  return bytes;
}

static void split(const uint8_t *data, size_t size) {
  lumap_reader in = {data, size, 0, false};
  uint16_t log_size = 0;
  current.what = lumap_get_u8(&in) & 1;
  current.kind = current.what && size ? data[0] >> 1 & 3 : LUMAP_PAYLOAD_VALUES;
  current.count = lumap_get_u8(&in);
  if (current.count == UINT8_MAX) current.count = UINT64_C(1) << 62;
  lumap_get_number(&in, &log_size, sizeof log_size);
  current.log = take_bytes(&in, log_size);
  current.payload = take_bytes(&in, size);
}

/* The function at index 1, with or without a task. Text is all that is known of an error here. */
static void call(lua_State *L, lumap_task *task, size_t size) {
  lua_pushvalue(L, 1);
  if (task) lua_pushlightuserdata(L, task);
  if (fuzz_call(L, task ? 1 : 0, 0, size) != 0 && lua_type(L, -1) != LUA_TSTRING) fuzz_fail("an error without text");
  lua_settop(L, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *caller, *worker;
  if (!caller) {
    fuzz_code_policy = FUZZ_CODE_STAND_IN;
    caller = open_caller();
    worker = open_worker();
  }
  split(data, size);
  if (current.what) {
    call(caller, NULL, size);
  } else {
    lumap_call log;
    lumap_task *task = make_task(&log);
    call(worker, task, size);
    lumap_task_free(task);
    lumap_call_release(&log);
  }
  lumap_bytes_deinit(&current.log);
  lumap_bytes_deinit(&current.payload);
  fuzz_rest(current.what ? caller : worker, 1);
  return 0;
}
