/* SPDX-License-Identifier: MIT
 *
 * core_pool.c - pools as userdata. What runs on them are jobs (core_job.c).
 */
#include "codec/codec.h"
#include "lua/layout.h"
#include "lua/machine_code.h"
#include "pool/pool.h"
#include "runtime/core.h"

static const char *const pool_type = "lumap.pool";

/* Slots of a pool's own table. */
enum { POOL_THREAD = 1 };

typedef struct pool_object {
  lumap_pool *pool;
  lumap_copy_host copy; /* of a pool of copies: what they find */
} pool_object;

/* Finalizers can reach a pool that was finalized before them. */
static lumap_pool *check_pool(lua_State *L) {
  lumap_pool *pool = ((pool_object *)luaL_checkudata(L, 1, pool_type))->pool;
  if (!pool) lumap_raise(L, "the pool was collected (a finalizer that runs later cannot use it)");
  return pool;
}

static int pool_collect(lua_State *L) {
  pool_object *self = lua_touserdata(L, 1);
  lumap_pool *pool = self->pool;
  self->pool = NULL;
  lumap_pool_release(pool);
  return 0;
}

const lumap_backend *lumap_core_find_backend(const char *name) {
  static const lumap_backend *const backends[] = {&lumap_backend_serial, &lumap_backend_thread, &lumap_backend_process,
                                                  &lumap_backend_fork};
  for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
    if (strcmp(backends[i]->name, name) == 0) return backends[i];
  return NULL;
}

/* What a worker must know to open its state; worker.c reads it. The init function at `init` travels as a log of its
   own; two behind it is after how many items the state is spent, or nil. */
static void write_setup(lua_State *L, lumap_runtime *runtime, lumap_bytes *setup, int init, uint64_t memory_limit) {
  static const char *const fields[] = {"path", "cpath"};
  int top = lua_gettop(L);
  lua_getglobal(L, "package");
  lumap_put_u8(setup, runtime->ignore_environment);
  lumap_put_u8(setup, (unsigned char)(runtime->depth + 1));
  lumap_put_varint(setup, memory_limit);
  lumap_put_string(setup, runtime->program ? runtime->program : "", runtime->program ? strlen(runtime->program) : 0);
  for (int i = 0; i < 2; i++) {
    size_t size;
    const char *path;
    lua_getfield(L, top + 1, fields[i]);
    path = lua_tolstring(L, -1, &size);
    lumap_put_string(setup, path ? path : "", path ? size : 0);
  }
  lumap_put_varint(setup, (uint64_t)luaL_optnumber(L, init + 2, 0));
  if (!lua_isnil(L, init)) {
    lumap_scope *scope = lumap_scope_push(L, true);
    scope->finds_globals = true;
    lumap_log_classes(L, -1);
    lumap_log_value(L, -1, init, "init");
    lumap_log_finish(L, -1);
    lumap_bytes_append(setup, scope->log.data, scope->log.size);
    setup->references = scope->log.references;
    scope->log.references = NULL;
  }
  if (setup->failed) luaL_error(L, "not enough memory");
  lua_settop(L, top);
}

static int collect_setup(lua_State *L) {
  lumap_bytes_deinit(lua_touserdata(L, 1));
  return 0;
}

/* Raises when pools are nested so deep that it must be a mistake. */
static void check_depth(lua_State *L, const lumap_runtime *runtime, const lumap_backend *backend) {
  int limit = backend == &lumap_backend_serial ? LUMAP_MAX_DEPTH_SERIAL : LUMAP_MAX_DEPTH;
  if (runtime->depth >= limit)
    luaL_error(L, "pools are nested %d deep here: is one used at the top level of a module that its workers load?",
               runtime->depth);
}

/* Copies run on a thread of their own: the one that makes them is in the midst of something. The pool's object is on
   top.
   [-0, +0] */
static lumap_copy_host *prepare_copies(lua_State *L, lumap_runtime *runtime, pool_object *self) {
  if (!runtime->copy_executor) luaL_error(L, "this state cannot be copied");
  lumap_push_userdata_table(L, -1);
  self->copy = (lumap_copy_host){runtime, lua_newthread(L)};
  lua_rawseti(L, -2, POOL_THREAD);
  lua_pop(L, 1);
  return &self->copy;
}

/* share(table): what the copies of this process find. */
static int pool_share(lua_State *L) {
  pool_object *self = luaL_checkudata(L, 1, pool_type);
  luaL_checktype(L, 2, LUA_TTABLE);
  if (!self->copy.L) return luaL_error(L, "this pool has no copies");
  lua_settop(self->copy.L, 0);
  lua_settop(L, 2);
  lua_xmove(L, self->copy.L, 1);
  return 0;
}

static int pool_close(lua_State *L) {
  lumap_pool_close(check_pool(L));
  return 0;
}

static int pool_terminate(lua_State *L) {
  lumap_pool_terminate(check_pool(L));
  return 0;
}

/* join(): the caller's verbs collect what they wait for; here all queued work ends. */
static int pool_join(lua_State *L) {
  lumap_pool_join(check_pool(L));
  return 0;
}

/* is_idle() -> true when nothing is queued or runs; false for a pool that was collected */
static int pool_is_idle(lua_State *L) {
  const pool_object *self = luaL_checkudata(L, 1, pool_type);
  lua_pushboolean(L, self->pool && lumap_pool_is_idle(self->pool));
  return 1;
}

/* state() -> a table that is the pool's own and goes with it */
static int pool_state(lua_State *L) {
  check_pool(L);
  lumap_push_userdata_table(L, 1);
  return 1;
}

static int pool_is_closed(lua_State *L) {
  lua_pushboolean(L, lumap_pool_is_closed(check_pool(L)));
  return 1;
}

/* abandoned() -> how many threads had to be given up */
static int pool_abandoned(lua_State *L) {
  lumap_push_integer(L, (int64_t)lumap_pool_abandoned(check_pool(L)));
  return 1;
}

/* job(finds_globals) -> job */
static int pool_job(lua_State *L) {
  return lumap_core_push_job(L, check_pool(L), lua_toboolean(L, 2));
}

/* The classes of pools and jobs, of which most workers' states have none. */
static void need_classes(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"close", pool_close}, {"terminate", pool_terminate},
      {"join", pool_join},   {"is_idle", pool_is_idle},
      {"share", pool_share}, {"abandoned", pool_abandoned},
      {"state", pool_state}, {"is_closed", pool_is_closed},
      {"job", pool_job},     {NULL, NULL},
  };
  luaL_getmetatable(L, pool_type);
  if (lua_isnil(L, -1)) {
    lumap_core_open_job(L);
    lumap_core_class(L, pool_type, methods, pool_collect);
  }
  lua_pop(L, 1);
}

/* pool(backend, workers, init or nil, memory_limit or nil, max_tasks or nil) -> pool */
static int core_pool(lua_State *L) {
  lumap_runtime *runtime = lumap_runtime_get(L);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_pool_options options = {
      .backend = lumap_core_find_backend(luaL_checkstring(L, 1)),
      .executor = runtime->executor,
      .host = runtime,
      .memories = runtime->memories,
      .stop_signal = runtime->stop_signal,
      .worker_count = (int)luaL_checkinteger(L, 2),
  };
  uint64_t memory_limit = (uint64_t)luaL_optnumber(L, 4, 0);
  lumap_bytes *setup;
  pool_object *self;
  lua_settop(L, 5);
  need_classes(L);
  if (!options.backend) return luaL_error(L, "there is no back-end '%s' in this build", lua_tostring(L, 1));
  check_depth(L, runtime, options.backend);
  if (options.backend == &lumap_backend_process) {
    if (!runtime->program)
      return luaL_error(L,
                        "cannot start process workers: no worker program was found; set it when the runtime is opened");
    options.program = runtime->program;
  }
  if (runtime->cpu_count == 0) runtime->cpu_count = lumap_cpu_count("");
  options.cpu_count = runtime->cpu_count;
  if (runtime->stop_signal && !runtime->knows_machine_code) {
    runtime->machine_code_place = lumap_machine_code_place();
    runtime->knows_machine_code = true;
  }
  atomic_store(&runtime->layout, lumap_layout_ask(L));
  lumap_need_class(L, "lumap.setup", collect_setup);
  setup = lumap_new_object(L, sizeof *setup, 0, "lumap.setup");
  write_setup(L, runtime, setup, 3, memory_limit);
  self = lumap_new_object(L, sizeof *self, 0, pool_type);
  if (options.backend->copies) {
    options.executor = runtime->copy_executor;
    options.host = prepare_copies(L, runtime, self);
  }
  lumap_bytes_move(&options.setup, setup);
  self->pool = lumap_pool_open(&options, &error);
  if (self->pool) return 1;
  lumap_bytes_deinit(&options.setup);
  return lumap_error_raise(L, &error);
}

const luaL_Reg lumap_core_pool[] = {{"pool", core_pool}, {NULL, NULL}};
