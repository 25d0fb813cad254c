/* SPDX-License-Identifier: MIT
 *
 * host.c - the C library: lumap.h over the runtime. Each entry is one protected call, so nothing that Lua raises gets
 * past it. Prints nothing, knows no terminal.
 */
#include "lumap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "runtime/runtime.h"
#include "worker/worker.h"

struct lumap {
  lumap_runtime *runtime;
  char *message;          /* of the last failure; NULL: none, or no memory for it */
  char *text;             /* what lumap_query gave last */
  atomic_bool is_running; /* Lua code runs: what lumap_interrupt asks */
};

/* ---- opening and closing ------------------------------------------------------------------------------------- */

/* PREFIX/bin/lumap for a library in PREFIX/lib. NULL when it is not there. */
static char *default_worker_program(void) {
  char *library = lumap_code_path((const void *)(uintptr_t)&lumap_open), *program = NULL, *slash;
  if (!library) return NULL;
  for (int level = 0; level < 2; level++)
    if ((slash = strrchr(library, '/')) != NULL) *slash = '\0';
  if (asprintf(&program, "%s/bin/" LUMAP_PROGRAM, library) < 0) program = NULL;
  free(library);
  if (program && access(program, X_OK) != 0) {
    free(program);
    program = NULL;
  }
  return program;
}

lumap *lumap_open(const lumap_options *options, char *message, size_t message_size) {
  static const lumap_options defaults;
  lumap *host = calloc(1, sizeof *host);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_runtime_options inner = {.executor = &lumap_worker_executor, .copy_executor = &lumap_copy_executor};
  char *program = NULL;
  if (!options) options = &defaults;
  inner.state.allocator = options->allocator;
  inner.state.allocator_data = options->allocator_data;
  inner.state.ignore_environment = (options->flags & LUMAP_IGNORE_ENVIRONMENT) != 0;
  inner.stop_signal = (options->flags & LUMAP_STOP_SIGNAL) != 0;
  inner.worker_count = options->worker_count;
  inner.backend = options->backend;
  inner.memory_limit = options->memory_limit;
  if (!options->worker_program) program = default_worker_program();
  inner.program = options->worker_program ? options->worker_program : program;
  if (host)
    host->runtime = lumap_runtime_open(&inner, &error);
  else
    lumap_error_set(&error, LUMAP_E_NOMEM, "cannot open a runtime: not enough memory");
  free(program);
  if (host && host->runtime) return host;
  if (message_size > 0) snprintf(message, message_size, "%s", error.message);
  free(host);
  return NULL;
}

void lumap_close(lumap *host) {
  if (!host) return;
  lumap_runtime_close(host->runtime);
  free(host->message);
  free(host->text);
  free(host);
}

/* ---- running -------------------------------------------------------------------------------------------------- */

static lumap_result fail(lumap *host, lumap_result result, const char *message) {
  free(host->message);
  host->message = strdup(message);
  return result;
}

/* An error object that carries its traceback, as parallel.Error does, tells all by itself. */
static bool has_traceback(lua_State *L) {
  bool has;
  if (!lua_istable(L, 1) || !luaL_getmetafield(L, 1, "__tostring")) return false;
  lua_pushliteral(L, "traceback");
  lua_rawget(L, 1);
  has = lua_type(L, -1) == LUA_TSTRING;
  lua_settop(L, 1);
  return has;
}

static int add_traceback(lua_State *L) {
  lua_settop(L, 1);
  if (has_traceback(L) && luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
  lua_settop(L, 1);
  lumap_describe_error(L);
  return 1;
}

/* One entry of a host: a body that leaves its result in `result`, and the arguments that it may need. */
typedef struct entry {
  lumap *host;
  lumap_result result;
  const char *text; /* path, code or name; may be NULL */
  size_t size;
  const char *name;
  int argc, script;
  char *const *argv;
} entry;

static lumap_result enter(lumap *host, lua_CFunction body, entry *arguments) {
  lua_State *L = host->runtime->L;
  int top = lua_gettop(L), code;
  arguments->host = host;
  arguments->result = LUMAP_ERROR_RUN;
  atomic_store(&host->is_running, true);
  code = lumap_protected_call(L, body, arguments);
  atomic_store(&host->is_running, false);
  lumap_runtime_take_interrupt(host->runtime);
  if (code != 0) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : lumap_status_text(LUMAP_E_LUA);
    arguments->result = fail(host, code == LUA_ERRMEM ? LUMAP_ERROR_MEMORY : arguments->result, text);
  }
  lua_settop(L, top);
  return arguments->result;
}

/* Calls the function below `arguments` values with a traceback for errors, which it raises again. [-(arguments + 1),
 * +results] */
static void call(lua_State *L, entry *e, int arguments, int results) {
  int base = lua_gettop(L) - arguments, code;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, base);
  code = lua_pcall(L, arguments, results, base);
  lua_remove(L, base);
  if (code == LUA_ERRMEM) e->result = LUMAP_ERROR_MEMORY;
  if (code != 0) lua_error(L);
}

/* Pushes the arguments of a chunk and returns how many: `argc` strings, or with argc below 0 the elements of the global
 * `arg`, as the chunks that ran before have left it. */
static int push_arguments(lua_State *L, int argc, char *const *argv) {
  int table;
  luaL_checkstack(L, (argc > 0 ? argc : 0) + 10, "too many arguments");
  for (int i = 0; i < argc; i++)
    lua_pushstring(L, argv[i]);
  if (argc >= 0) return argc;
  lua_getglobal(L, "arg");
  if (!lua_istable(L, -1)) {
    if (LUMAP_ARG_IS_CHECKED) luaL_error(L, "'arg' is not a table");
    lua_pop(L, 1);
    return 0;
  }
  table = lua_gettop(L);
  argc = (int)lumap_rawlen(L, table);
  luaL_checkstack(L, argc + 3, "too many arguments to script");
  for (int i = 1; i <= argc; i++) {
    lua_rawgeti(L, table, i);
    if (!LUMAP_ARG_IS_CHECKED && lua_isnil(L, -1)) {
      lua_pop(L, 1);
      argc = i - 1;
    }
  }
  lua_remove(L, table);
  return argc;
}

/* What a load that failed with this status means. */
static lumap_result load_result(int status) {
  return status == LUA_ERRSYNTAX ? LUMAP_ERROR_SYNTAX
         : status == LUA_ERRFILE ? LUMAP_ERROR_FILE
         : status == LUA_ERRMEM  ? LUMAP_ERROR_MEMORY
                                 : LUMAP_ERROR_RUN;
}

static void run_loaded(lua_State *L, entry *e, int status) {
  if (status != 0) {
    e->result = load_result(status);
    lua_error(L);
  }
  call(L, e, push_arguments(L, e->argc, e->argv), 0);
  e->result = LUMAP_OK;
}

static int file_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  run_loaded(L, e, luaL_loadfile(L, e->text));
  return 0;
}

lumap_result lumap_run_file(lumap *host, const char *path, int argc, char *const *argv) {
  return enter(host, file_body, &(entry){.text = path, .argc = argc, .argv = argv});
}

static int string_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  run_loaded(L, e, lumap_load(L, e->text, e->size, e->name, "t"));
  return 0;
}

lumap_result lumap_run_string(lumap *host, const char *code, size_t size, const char *name, int argc,
                              char *const *argv) {
  return enter(host, string_body, &(entry){.text = code, .size = size, .name = name, .argc = argc, .argv = argv});
}

static int query_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  int status = lumap_load(L, e->text, e->size, "=(query)", "t");
  const char *text;
  if (status != 0) {
    e->result = load_result(status);
    return lua_error(L);
  }
  call(L, e, push_arguments(L, e->argc, e->argv), 1);
  free(e->host->text);
  e->host->text = NULL;
  text = lua_type(L, -1) == LUA_TSTRING || lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1) : NULL;
  if (text && !(e->host->text = strdup(text))) return luaL_error(L, "not enough memory");
  e->result = LUMAP_OK;
  return 0;
}

lumap_result lumap_query(lumap *host, const char *code, size_t size, int argc, char *const *argv, const char **text) {
  lumap_result result = enter(host, query_body, &(entry){.text = code, .size = size, .argc = argc, .argv = argv});
  if (result == LUMAP_OK) *text = host->text;
  return result;
}

/* ---- the prompt ----------------------------------------------------------------------------------------------- */

/* The compiler's message ends in <eof> (quoted on LuaJIT) when only more text is missing. */
static bool is_incomplete(lua_State *L) {
  static const char *const marks[] = {"<eof>", "'<eof>'"};
  size_t size;
  const char *message = lua_tolstring(L, -1, &size);
  for (int i = 0; i < 2; i++) {
    size_t length = strlen(marks[i]);
    if (size >= length && strcmp(message + size - length, marks[i]) == 0) return true;
  }
  return false;
}

static int eval_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  int status, results;
  int extra = LUMAP_EXPRESSION_EXTRA;
  lua_pushliteral(L, LUMAP_EXPRESSION);
  lua_pushlstring(L, e->text, e->size);
  lua_concat(L, 2);
  status = lumap_load(L, lua_tostring(L, -1), lumap_rawlen(L, -1), e->name, "t");
  if (status != 0) {
    extra = 0;
    lua_pop(L, 1);
    status = lumap_load(L, e->text, e->size, e->name, "t");
  }
  if (status != 0) {
    e->result = status == LUA_ERRSYNTAX && is_incomplete(L) ? LUMAP_ERROR_INCOMPLETE : load_result(status);
    return lua_error(L);
  }
  lua_replace(L, 2);
  lua_settop(L, 2);
  call(L, e, 0, LUA_MULTRET);
  if (extra) lua_remove(L, 2);
  results = lua_gettop(L) - 1;
  e->result = LUMAP_OK;
  if (results == 0) return 0;
  e->result = LUMAP_ERROR_RUN;
  luaL_checkstack(L, 4, "too many results to print");
  lua_getglobal(L, "print");
  lua_insert(L, 2);
  if (lua_pcall(L, results, 0, 0) != 0) {
    const char *reason = lua_tostring(L, -1);
    return luaL_error(L, "error calling 'print' (%s)", reason ? reason : "no message");
  }
  e->result = LUMAP_OK;
  return 0;
}

lumap_result lumap_eval(lumap *host, const char *code, size_t size, const char *name) {
  return enter(host, eval_body, &(entry){.text = code, .size = size, .name = name});
}

/* ---- what a command line asks for ----------------------------------------------------------------------------- */

static int arguments_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  lua_createtable(L, e->argc - e->script, e->script + 1);
  for (int i = 0; i < e->argc; i++) {
    lua_pushstring(L, e->argv[i]);
    lua_rawseti(L, -2, i - e->script);
  }
  lua_setglobal(L, "arg");
  e->result = LUMAP_OK;
  return 0;
}

lumap_result lumap_set_arguments(lumap *host, int argc, char *const *argv, int script) {
  if (argc < 0 || script < 0 || script > argc)
    return fail(host, LUMAP_ERROR_ARGUMENT, "lumap_set_arguments: script must lie between 0 and argc");
  return enter(host, arguments_body, &(entry){.argc = argc, .argv = argv, .script = script});
}

static int require_body(lua_State *L) {
  entry *e = lua_touserdata(L, 1);
  const char *equals = LUMAP_OPTION_L_SETS_GLOBAL ? strchr(e->text, '=') : NULL;
  const char *name = equals ? equals + 1 : e->text;
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  call(L, e, 1, 1);
  e->result = LUMAP_OK;
  if (!LUMAP_OPTION_L_SETS_GLOBAL) return 0;
  lua_pushlstring(L, e->text, equals ? (size_t)(equals - e->text) : strlen(e->text));
  lua_insert(L, -2);
  lumap_push_globals(L);
  lua_insert(L, -3);
  lua_settable(L, -3);
  return 0;
}

lumap_result lumap_require(lumap *host, const char *name) {
  return enter(host, require_body, &(entry){.text = name});
}

/* ---- the rest ------------------------------------------------------------------------------------------------- */

const char *lumap_error_message(const lumap *host) {
  return host->message ? host->message : "";
}

void lumap_interrupt(lumap *host) {
  if (atomic_load(&host->is_running)) lumap_runtime_interrupt(host->runtime);
}

void lumap_interrupt_in_handler(lumap *host, const void *context) {
  if (atomic_load(&host->is_running)) lumap_runtime_interrupt_here(host->runtime, context);
}

struct lua_State *lumap_state(lumap *host) {
  return host->runtime->L;
}

const char *lumap_version(void) {
  return LUMAP_VERSION;
}

const char *lumap_vm(void) {
  return LUMAP_VM_NAME;
}

const char *lumap_vm_notice(void) {
  return LUMAP_VM_NOTICE;
}

int lumap_worker_main(int argc, char *const *argv) {
  return lumap_child_main(argc, argv, &lumap_worker_executor);
}
