/* SPDX-License-Identifier: MIT
 *
 * recall.c - may what a call left in a worker serve the next call that sends the very same bytes? Reading a function
 * anew costs several times what running it over a few items does, and compiled code is lost with it.
 *
 * A call must not see what an earlier one has done to its copies. So only such contexts come into question whose every
 * copied object is a Lua function, with upvalues that are plain values or other such functions: all that can have
 * changed in them are upvalues, environments, and the globals of the call. Those are noted before the first item runs,
 * and compared when the same bytes come again. What is a table, or has been read with effects beyond the call's own
 * environment, is read anew each time.
 *
 * The same bytes may mean other memory: they name it by its number among what came along. So the buffers over which a
 * call maps, which no function has (the debug library apart), take the memory of the next one when it comes. Until then
 * they hold theirs for as long as garbage would: to map it anew costs a process as much as to run over it.
 *
 * A note is a list: for each function the function itself, then for each upvalue its cell and its value. In its field
 * `globals` are the globals that the call has and the worker has not, or has otherwise; in `count`, how many names
 * there are in the environment; in `buffers`, for each its handle, then as a string what it is of that memory; in
 * `holder`, as a light userdata, what lets go of it (nil: a call runs, or it is done).
 */
#include "codec/codec.h"
#include "codec/handle.h"
#include "worker/task_api.h"

/* Logs beyond this are not worth their memory. */
enum { LONGEST_LOG = 64 * 1024 };

/* log_code(task) -> the log as a string, when it is one entry and not too long; else nil */
static int task_log_code(lua_State *L) {
  const lumap_task *task = lua_touserdata(L, 1);
  const lumap_log_entry *entry = task->call->log_first;
  if (task->log_needed != 1 || entry->bytes.size > LONGEST_LOG) return 0;
  lua_pushlstring(L, (const char *)entry->bytes.data, entry->bytes.size);
  return 1;
}

/* Is the table on top a module? That is the worker's own, and not a copy. */
static bool is_module(lua_State *L) {
  int top = lua_gettop(L);
  bool found = false;
  lumap_push_loaded(L);
  for (lua_pushnil(L); !found && lua_next(L, top + 1); lua_pop(L, 1))
    found = lua_rawequal(L, -1, top);
  lua_settop(L, top);
  return found;
}

/* Can nothing behind the value on top have changed, but for functions that are looked at for themselves? */
static bool is_plain(lua_State *L, int environment) {
  switch (lua_type(L, -1)) {
  case LUA_TNIL:
  case LUA_TBOOLEAN:
  case LUA_TNUMBER:
  case LUA_TSTRING:
  case LUA_TLIGHTUSERDATA:
  case LUA_TFUNCTION:
    return true;
  case LUA_TTABLE:
    return lua_rawequal(L, -1, environment) || is_module(L);
  default:
    return false;
  }
}

/* A nil in a list is written as the address of this. */
static const char nothing;

static void push_noted(lua_State *L) {
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, (void *)(uintptr_t)&nothing);
}

static bool has_own_environment(lua_State *L, int function, int environment) {
  bool own;
  if (!lumap_push_environment(L, function)) return false;
  own = !lua_rawequal(L, -1, environment);
  lua_pop(L, 1);
  return own;
}

/* Appends the function on top to the note, whose length is `*count`. False: it does not qualify. [-1, +0] */
static bool note_function(lua_State *L, int note, int *count, int environment) {
  int function = lua_gettop(L), upvalues = lumap_upvalue_count(L, function);
  bool plain = !has_own_environment(L, function, environment);
  lua_pushvalue(L, function);
  lua_rawseti(L, note, ++*count);
  for (int i = 1; i <= upvalues && plain; i++) {
    lua_pushlightuserdata(L, lua_upvalueid(L, function, i));
    lua_rawseti(L, note, ++*count);
    lua_getupvalue(L, function, i);
    plain = is_plain(L, environment);
    push_noted(L);
    lua_rawseti(L, note, ++*count);
  }
  lua_settop(L, function - 1);
  return plain;
}

/* Stack indexes of the tables that are looked at for each global. */
typedef struct tables {
  int environment, own, noted;
} tables;

/* Is the value on top, whose name is below it, what the worker has itself? The environment is its own `_G`. */
static bool is_own_global(lua_State *L, const tables *t) {
  int value = lua_gettop(L);
  bool own;
  lua_pushvalue(L, value - 1);
  lua_rawget(L, t->own);
  own = lua_rawequal(L, -1, value) || lua_rawequal(L, value, t->environment);
  lua_pop(L, 1);
  return own;
}

static bool note_global(lua_State *L, const tables *t) {
  if (is_own_global(L, t)) return true;
  if (!is_plain(L, t->environment)) return false;
  lua_pushvalue(L, -2);
  lua_pushvalue(L, -2);
  lua_rawset(L, t->noted);
  return true;
}

static bool is_noted_global(lua_State *L, const tables *t) {
  bool same = is_own_global(L, t);
  if (same) return true;
  lua_pushvalue(L, -2);
  lua_rawget(L, t->noted);
  same = lua_rawequal(L, -1, -2);
  lua_pop(L, 1);
  return same;
}

/* How many globals the call has; -1 when `visit`, which finds name and value of one on top, is false for any. */
static int visit_globals(lua_State *L, int environment, int note, bool (*visit)(lua_State *, const tables *)) {
  int top = lua_gettop(L), count = 0;
  tables t = {environment, top + 1, top + 2};
  bool good = true;
  lumap_push_globals(L);
  lua_getfield(L, note, "globals");
  for (lua_pushnil(L); good && lua_next(L, environment); lua_pop(L, 1), count++)
    good = visit(L, &t);
  lua_settop(L, top);
  return good ? count : -1;
}

static bool note_globals(lua_State *L, int environment, int note) {
  int count;
  lua_newtable(L);
  lua_setfield(L, note, "globals");
  count = visit_globals(L, environment, note, note_global);
  lua_pushinteger(L, count);
  lua_setfield(L, note, "count");
  return count >= 0;
}

static bool are_globals_noted(lua_State *L, int environment, int note) {
  bool same;
  lua_getfield(L, note, "count");
  same = lua_tointeger(L, -1) == visit_globals(L, environment, note, is_noted_global);
  lua_pop(L, 1);
  return same;
}

/* ---- buffers ------------------------------------------------------------------------------------------------- */

/* What a buffer is of the memory that came along. */
typedef struct part {
  size_t number; /* of the reference */
  uint64_t offset, count;
} part;

/* What came along with the log of the task, which is one entry. */
static const lumap_references *references_of(const lumap_task *task) {
  return task->call->log_first->bytes.references;
}

/* Appends the buffer on top to those of the note. False: the value is none. Each memory is in the list once. */
static bool note_buffer(lua_State *L, int note, const lumap_references *references) {
  int value = lua_gettop(L), size;
  const lumap_handle *handle = lumap_handle_test(L, value, LUMAP_HANDLE_BUFFER);
  part is = {0};
  if (!handle || !references) return false;
  while (is.number < references->count && references->items[is.number] != &handle->memory->counted)
    is.number++;
  if (is.number == references->count) return false;
  is.offset = (uint64_t)((unsigned char *)handle->data - handle->memory->data);
  is.count = (uint64_t)handle->count;
  lua_getfield(L, note, "buffers");
  size = (int)lumap_rawlen(L, -1);
  lua_pushvalue(L, value);
  lua_rawseti(L, -2, size + 1);
  lua_pushlstring(L, (const char *)&is, sizeof is);
  lua_rawseti(L, -2, size + 2);
  lua_pop(L, 1);
  return true;
}

/* Gives the buffer the memory that it has among these. NULL: none. Returns whether it has any. */
static bool fill_buffer(lumap_handle *handle, const part *is, const lumap_references *references) {
  lumap_handle_empty(handle);
  return references && is->number < references->count &&
         lumap_handle_fill(handle, (lumap_memory *)references->items[is->number], is->offset, is->count);
}

/* The same for all buffers of the note. Returns whether each has some. */
static bool fill_buffers(lua_State *L, int note, const lumap_references *references) {
  int top = lua_gettop(L);
  bool good = true;
  lua_getfield(L, note, "buffers");
  for (int i = 1, size = (int)lumap_rawlen(L, -1); i < size; i += 2, lua_pop(L, 2)) {
    part is;
    lua_rawgeti(L, top + 1, i);
    lua_rawgeti(L, top + 1, i + 1);
    memcpy(&is, lua_tostring(L, -1), sizeof is);
    good = fill_buffer(lua_touserdata(L, -2), &is, references) && good;
  }
  lua_settop(L, top);
  return good;
}

/* Nobody refers to it, so that the collector meets it when it would have met the buffers. */
typedef struct holder {
  bool is_over; /* another call has the buffers */
} holder;

static const char *const holder_type = "lumap.holder";

static int let_go(lua_State *L) {
  const holder *self = lua_touserdata(L, 1);
  if (self->is_over) return 0;
  lumap_push_userdata_table(L, 1);
  lua_rawgeti(L, -1, 1);
  lua_pushnil(L);
  lua_setfield(L, -2, "holder");
  fill_buffers(L, lua_gettop(L), NULL);
  return 0;
}

/* hold(note): the call is over. */
static int task_hold(lua_State *L) {
  luaL_checkstack(L, 10, NULL);
  lua_getfield(L, 1, "buffers");
  if (lumap_rawlen(L, -1) == 0) return 0;
  lumap_need_class(L, holder_type, let_go);
  lua_pushlightuserdata(L, lumap_new_object(L, sizeof(holder), 1, holder_type));
  lua_setfield(L, 1, "holder");
  lumap_push_userdata_table(L, -1);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 1);
  return 0;
}

static void end_hold(lua_State *L, int note) {
  holder *self;
  lua_getfield(L, note, "holder");
  self = lua_touserdata(L, -1);
  if (self) self->is_over = true;
  lua_pushnil(L);
  lua_setfield(L, note, "holder");
  lua_pop(L, 1);
}

/* ---- all of it ----------------------------------------------------------------------------------------------- */

/* Notes all objects of the scope at 1. */
static bool note_objects(lua_State *L, int environment, int plan, int note, const lumap_references *references) {
  int top = lua_gettop(L), count = 0;
  bool good = true;
  lumap_scope_push_slot(L, 1, LUMAP_SCOPE_OBJECTS);
  lua_pushnil(L);
  while (good && lua_next(L, top + 1)) {
    if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1))
      good = note_function(L, note, &count, environment);
    else
      good = lua_rawequal(L, -1, plan) || is_plain(L, environment) || note_buffer(L, note, references);
    lua_settop(L, top + 2);
  }
  lua_settop(L, top);
  return good;
}

/* note(scope, environment, plan, task) -> note, or nil: this context cannot be kept. Before anything of the call has
   run. */
static int task_note(lua_State *L) {
  enum { SCOPE = 1, ENVIRONMENT, PLAN, TASK, NOTE };
  lumap_scope *scope = lumap_scope_check(L, SCOPE);
  if (scope->has_effects) return 0;
  lua_settop(L, TASK);
  luaL_checkstack(L, 20, NULL);
  lua_newtable(L);
  lua_newtable(L);
  lua_setfield(L, NOTE, "buffers");
  return note_objects(L, ENVIRONMENT, PLAN, NOTE, references_of(lua_touserdata(L, TASK))) &&
         note_globals(L, ENVIRONMENT, NOTE);
}

/* Does item `at` of the note equal what is on top? [-1, +0] */
static bool is_noted(lua_State *L, int note, int at) {
  bool same;
  push_noted(L);
  lua_rawgeti(L, note, at);
  same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

static bool are_functions_noted(lua_State *L, int environment, int note) {
  int top = lua_gettop(L);
  bool same = true;
  for (int at = 1, count = (int)lumap_rawlen(L, note); same && at <= count; lua_settop(L, top)) {
    int upvalues;
    lua_rawgeti(L, note, at++);
    upvalues = lumap_upvalue_count(L, top + 1);
    same = !has_own_environment(L, top + 1, environment);
    for (int i = 1; i <= upvalues && same; i++, at += 2) {
      lua_pushlightuserdata(L, lua_upvalueid(L, top + 1, i));
      same = is_noted(L, note, at);
      lua_getupvalue(L, top + 1, i);
      same = is_noted(L, note, at + 1) && same;
    }
  }
  lua_settop(L, top);
  return same;
}

/* The metatable that the environment was made with looks missing names up in the worker's globals, and does no more. */
static bool is_metatable_as_made(lua_State *L, int environment, int metatable) {
  int top = lua_gettop(L), fields = 0;
  bool same = lua_getmetatable(L, environment) && lua_rawequal(L, -1, metatable);
  for (lua_pushnil(L); same && lua_next(L, metatable); lua_pop(L, 1)) {
    lumap_push_globals(L);
    same = ++fields == 1 && lua_type(L, -3) == LUA_TSTRING && lua_rawequal(L, -1, -2);
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  return same && fields == 1;
}

/* revive(note, environment, metatable, task) -> boolean: is all as it was noted? Then the buffers have the memory that
   came along with this task. */
static int task_revive(lua_State *L) {
  enum { NOTE = 1, ENVIRONMENT, METATABLE, TASK };
  lua_settop(L, TASK);
  luaL_checkstack(L, 20, NULL);
  end_hold(L, NOTE);
  lua_pushboolean(L, is_metatable_as_made(L, ENVIRONMENT, METATABLE) && are_functions_noted(L, ENVIRONMENT, NOTE) &&
                         are_globals_noted(L, ENVIRONMENT, NOTE) &&
                         fill_buffers(L, NOTE, references_of(lua_touserdata(L, TASK))));
  return 1;
}

const luaL_Reg lumap_recall_functions[] = {
    {"log_code", task_log_code}, {"note", task_note}, {"revive", task_revive}, {"hold", task_hold}, {NULL, NULL}};
