/* SPDX-License-Identifier: MIT */
#include "lua/compat.h"

#include <stdio.h>
#include <string.h>

/* Integers beyond this are not exact as doubles. */
#define LUMAP_EXACT INT64_C(9007199254740992)

#if LUMAP_VM_IS_LUAJIT

#include <luajit.h>

int lua_absindex(lua_State *L, int index) {
  return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}

void lua_rawgetp(lua_State *L, int index, const void *key) {
  index = lua_absindex(L, index);
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, index);
}

void lua_rawsetp(lua_State *L, int index, const void *key) {
  index = lua_absindex(L, index);
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_insert(L, -2);
  lua_rawset(L, index);
}

bool lumap_is_integer(lua_State *L, int index, int64_t *value) {
  double number = lua_tonumber(L, index);
  if (!(number >= -LUMAP_EXACT && number <= LUMAP_EXACT)) return false;
  *value = (int64_t)number;
  return (double)*value == number && (number != 0 || 1 / number > 0);
}

/* The ffi library is reached through Lua: its C API is not public. One closure in the registry makes boxed integers,
   another tells them apart. */
static const char boxes[] = "local ffi = require 'ffi'\n"
                            "local int64, uint64 = ffi.typeof 'int64_t', ffi.typeof 'uint64_t'\n"
                            "return function(low, high, unsigned)\n"
                            "  local bits = uint64(high) * 4294967296ULL + uint64(low)\n"
                            "  return unsigned and bits or ffi.cast(int64, bits)\n"
                            "end, function(value)\n"
                            "  return ffi.istype(int64, value) and 1 or ffi.istype(uint64, value) and 2 or 0\n"
                            "end";
static const char box_key, unbox_key;

static void push_box(lua_State *L, const void *key) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  if (luaL_loadbuffer(L, boxes, sizeof boxes - 1, "=[lumap]/boxes") != 0) lua_error(L);
  lua_call(L, 0, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &unbox_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &box_key);
  lua_rawgetp(L, LUA_REGISTRYINDEX, key);
}

void lumap_push_boxed_integer(lua_State *L, uint64_t bits, bool is_unsigned) {
  push_box(L, &box_key);
  lua_pushnumber(L, (double)(bits & UINT32_MAX));
  lua_pushnumber(L, (double)(bits >> 32));
  lua_pushboolean(L, is_unsigned);
  lua_call(L, 3, 1);
}

bool lumap_is_boxed_integer(lua_State *L, int index, uint64_t *bits, bool *is_unsigned) {
  int kind;
  if (lua_type(L, index) != LUMAP_TCDATA) return false;
  index = lua_absindex(L, index);
  push_box(L, &unbox_key);
  lua_pushvalue(L, index);
  lua_call(L, 1, 1);
  kind = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  if (kind == 0) return false;
  *is_unsigned = kind == 2;
  memcpy(bits, lua_topointer(L, index), sizeof *bits);
  return true;
}

void lumap_push_integer(lua_State *L, int64_t value) {
  if (value >= -LUMAP_EXACT && value <= LUMAP_EXACT)
    lua_pushnumber(L, (double)value);
  else
    lumap_push_boxed_integer(L, (uint64_t)value, false);
}

int lumap_dump(lua_State *L, lua_Writer writer, void *data) {
  return lua_dump(L, writer, data);
}

bool lumap_push_environment(lua_State *L, int index) {
  lua_getfenv(L, index);
  return true;
}

void lumap_set_environment(lua_State *L, int index) {
  lua_setfenv(L, index);
}

void lumap_set_chunk_environment(lua_State *L, int index) {
  lua_setfenv(L, index);
}

void lumap_push_globals(lua_State *L) {
  lua_pushvalue(L, LUA_GLOBALSINDEX);
}

void lumap_set_userdata_table(lua_State *L, int index) {
  lua_setfenv(L, index);
}
void lumap_push_userdata_table(lua_State *L, int index) {
  lua_getfenv(L, index);
}

static FILE *file_of(lua_State *L, int index) {
  return *(FILE **)lua_touserdata(L, index);
}

void lumap_push_printed(lua_State *L, int index) {
  index = lua_absindex(L, index);
  lua_getglobal(L, "tostring");
  lua_pushvalue(L, index);
  lua_call(L, 1, 1);
  if (!lua_tostring(L, -1)) luaL_error(L, "'tostring' must return a string to 'print'");
}

void lumap_push_written(lua_State *L, int index) {
  luaL_checkstring(L, index);
  lua_pushvalue(L, index);
}

void lumap_set_urgent_hook(lua_State *L, lua_Hook hook) {
  lua_sethook(L, hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

void lumap_push_stop(lua_State *L, int reference) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, reference);
}

void lumap_collector_start(lua_State *L) {
  (void)L;
}

void lumap_warnings_start(lua_State *L) {
  (void)L;
}

/* A cycle is one step: when it has been asked for, the next allocation of the program's own does all of it. */
static void prepare_for_limit(lua_State *L) {
  lua_gc(L, LUA_GCSETSTEPMUL, 0);
}

int lumap_protected_call(lua_State *L, lua_CFunction body, void *data) {
  return lua_cpcall(L, body, data);
}

/* Starts the collector, to begin a cycle when `kb` more are in use. The API sets that by the pause alone. */
static void restart_later(lua_State *L, double kb) {
  double now = lua_gc(L, LUA_GCCOUNT, 0) + 1;
  double percent = (now + kb) / now * 100;
  int pause = lua_gc(L, LUA_GCSETPAUSE, percent < 1000000 ? (int)percent : 1000000);
  lua_gc(L, LUA_GCRESTART, -1);
  lua_gc(L, LUA_GCSETPAUSE, pause);
}

/* A traceback also behind what __tostring gives, none for a value without it, and silence about nil. */
void lumap_describe_error(lua_State *L) {
  int index = lua_gettop(L);
  const char *text = lua_tostring(L, index);
  if (!text && luaL_callmeta(L, index, "__tostring")) text = lua_tostring(L, -1);
  if (text)
    luaL_traceback(L, L, text, 1);
  else
    lua_pushstring(L, lua_isnil(L, index) ? "" : "(error object is not a string)");
  lua_replace(L, index);
  lua_settop(L, index);
}

/* Machine code is no memory of the state's allocator, and flushed here: closing makes none. Nor is the code of the ffi
   library's callbacks, which only closing frees. Who listens to the compiler would hear of the flush. */
static bool free_but_memory(lua_State *L) {
  lumap_push_loaded(L);
  lua_getfield(L, -1, "ffi");
  lua_getfield(L, LUA_REGISTRYINDEX, "_VMEVENTS");
  return lua_isnil(L, -1) && lua_isnil(L, -2) && luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
}

#else

/* Starts the collector, to begin a cycle when `kb` more are in use. */
static void restart_later(lua_State *L, double kb) {
  lua_gc(L, LUA_GCRESTART, 0);
  lua_gc(L, LUA_GCSTEP, kb < 1000000000 ? -(int)kb : -1000000000);
}

void lumap_push_integer(lua_State *L, int64_t value) {
  lua_pushinteger(L, value);
}

bool lumap_is_boxed_integer(lua_State *L, int index, uint64_t *bits, bool *is_unsigned) {
  (void)L;
  (void)index;
  (void)bits;
  (void)is_unsigned;
  return false;
}

void lumap_push_boxed_integer(lua_State *L, uint64_t bits, bool is_unsigned) {
  (void)is_unsigned;
  lua_pushinteger(L, (lua_Integer)bits);
}

int lumap_dump(lua_State *L, lua_Writer writer, void *data) {
  return lua_dump(L, writer, data, 0);
}

bool lumap_push_environment(lua_State *L, int index) {
  (void)L;
  (void)index;
  return false;
}

void lumap_set_environment(lua_State *L, int index) {
  (void)index;
  lua_pop(L, 1);
}

void lumap_set_chunk_environment(lua_State *L, int index) {
  lua_setupvalue(L, index, 1);
}

void lumap_push_globals(lua_State *L) {
  lua_pushglobaltable(L);
}

void lumap_set_userdata_table(lua_State *L, int index) {
  lua_setiuservalue(L, index, 1);
}
void lumap_push_userdata_table(lua_State *L, int index) {
  lua_getiuservalue(L, index, 1);
}

static FILE *file_of(lua_State *L, int index) {
  luaL_Stream *stream = lua_touserdata(L, index);
  return stream->closef ? stream->f : NULL;
}

void lumap_push_printed(lua_State *L, int index) {
  luaL_tolstring(L, index, NULL);
}

/* A float that is integral is written without the ".0" of tostring. */
void lumap_push_written(lua_State *L, int index) {
  char text[64];
  if (lua_type(L, index) != LUA_TNUMBER || lua_isinteger(L, index)) {
    luaL_checkstring(L, index);
    lua_pushvalue(L, index);
  } else {
    snprintf(text, sizeof text, LUA_NUMBER_FMT, lua_tonumber(L, index));
    lua_pushstring(L, text);
  }
}

void lumap_set_urgent_hook(lua_State *L, lua_Hook hook) {
  lua_sethook(L, hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* 5.4 takes this string for its own, and raises a memory error, which passes by message handlers. */
void lumap_push_stop(lua_State *L, int reference) {
  (void)reference;
  lua_pushliteral(L, "not enough memory");
}

void lumap_collector_start(lua_State *L) {
  lua_gc(L, LUA_GCGEN, 0, 0);
}

/* The same three states that a state of luaL_newstate has: which function is set tells which. */
static void warn_off(void *data, const char *piece, int continues);
static void warn_on(void *data, const char *piece, int continues);

static void warn_on_further(void *data, const char *piece, int continues) {
  lua_writestringerror("%s", piece);
  if (!continues) lua_writestringerror("%s", "\n");
  lua_setwarnf(data, continues ? warn_on_further : warn_on, data);
}

static void warn_on(void *data, const char *piece, int continues) {
  if (!continues && strcmp(piece, "@off") == 0) lua_setwarnf(data, warn_off, data);
  if (!continues && *piece == '@') return;
  lua_writestringerror("%s", "Lua warning: ");
  warn_on_further(data, piece, continues);
}

static void warn_off(void *data, const char *piece, int continues) {
  if (!continues && strcmp(piece, "@on") == 0) lua_setwarnf(data, warn_on, data);
}

void lumap_warnings_start(lua_State *L) {
  lua_setwarnf(L, warn_off, L);
}

/* Generations would keep what was garbage before memory got short. */
static void prepare_for_limit(lua_State *L) {
  lua_gc(L, LUA_GCINC, 0, 400, 0);
}

static bool free_but_memory(lua_State *L) {
  (void)L;
  return true;
}

int lumap_protected_call(lua_State *L, lua_CFunction body, void *data) {
  /* Two slots are there: LUA_MINSTACK at a call from Lua, the state's own spare ones otherwise. */
  lua_pushcfunction(L, body);
  lua_pushlightuserdata(L, data);
  return lua_pcall(L, 1, 0, 0);
}

/* A string from __tostring as it is. */
void lumap_describe_error(lua_State *L) {
  int index = lua_gettop(L);
  const char *text = lua_tostring(L, index);
  if (!text && luaL_callmeta(L, index, "__tostring") && lua_type(L, -1) == LUA_TSTRING) {
    lua_replace(L, index);
    return;
  }
  if (!text) text = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, index));
  luaL_traceback(L, L, text, 1);
  lua_replace(L, index);
  lua_settop(L, index);
}

#endif

int lumap_load(lua_State *L, const void *code, size_t size, const char *name, const char *mode) {
  return luaL_loadbufferx(L, code, size, name, mode);
}

int lumap_upvalue_count(lua_State *L, int index) {
  lua_Debug info;
  lua_pushvalue(L, index);
  lua_getinfo(L, ">u", &info);
  return info.nups;
}

/* Only the collector's next due time is set. LuaJIT does not collect when memory runs out, and 5.4 does not for the
   buffers of its library. */
void lumap_collector_press(lua_State *L) {
  if (lua_gc(L, LUA_GCISRUNNING, 0) > 0) lua_gc(L, LUA_GCRESTART, 0);
}

static const char last_key, pacing_key, witness_key;

/* The VMs free the newest object first. It cannot be garbage before that. Where memory is full to the brim, a state
   that makes more than this on its way out would have more mapped for it. */
static int begin_close(lua_State *L) {
  const void **last = lua_touserdata(L, 1);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &pacing_key);
  if (!free_but_memory(L)) return 0;
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &last_key);
  *last = lua_topointer(L, -1);
  return 0;
}

const void *lumap_close_begin(lua_State *L) {
  const void *last = NULL;
  if (lumap_protected_call(L, begin_close, &last) == 0) return last;
  lua_pop(L, 1);
  return NULL;
}

bool lumap_is_memory_error(lua_State *L, int code) {
  if (code == LUA_ERRMEM) return true;
  return code != 0 && lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "not enough memory") == 0;
}

void *lumap_new_object(lua_State *L, size_t size, int slots, const char *name) {
  void *object = lua_newuserdata(L, size);
  memset(object, 0, size);
  lua_createtable(L, slots, 0);
  lumap_set_userdata_table(L, -2);
  luaL_getmetatable(L, name);
  lua_setmetatable(L, -2);
  return object;
}

void lumap_need_class(lua_State *L, const char *name, lua_CFunction collect) {
  luaL_getmetatable(L, name);
  if (lua_isnil(L, -1)) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_setfield(L, LUA_REGISTRYINDEX, name);
  }
  lua_pop(L, 1);
}

void lumap_push_loaded(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
}

int lumap_standard_file(lua_State *L, int index) {
  FILE *file;
  if (!luaL_testudata(L, index, LUA_FILEHANDLE)) return -2;
  file = file_of(L, index);
  return file == stdin ? 0 : file == stdout ? 1 : file == stderr ? 2 : -1;
}

/* ---- the collector's rest ----------------------------------------------------------------------------------- */

/* Both VMs forget, when their collector is started again, how long it meant to wait, and begin a cycle at once. Where
   that happens with every message a program does little else than collect. So a state keeps how much memory there was
   to be before the next cycle: the pause, times what there was when the last cycle had ended. That it has ended is told
   by an object that lives for one cycle. */
typedef struct pacing {
  bool cycled;
  bool begun;         /* a cycle has, and is driven on to its end: what is made meanwhile stays until the next one */
  bool limited;       /* memory is: nothing may wait */
  double left_kb;     /* what the last cycle left */
  double promised_kb; /* what there may be before the next one is due; 0: not known */
  double stopped_kb;  /* what there was when the collector was stopped */
  double least_kb;    /* the least of these since the promise was made */
  double made_kb;     /* what was made the last time that it was */
  double owed_kb;     /* what was made so, and has not driven it on */
} pacing;

static void push_witness(lua_State *L) {
  lua_newuserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &witness_key);
  lua_setmetatable(L, -2);
}

static pacing *pacing_of(lua_State *L) {
  pacing *self;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &pacing_key);
  self = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return self;
}

static int note_cycle(lua_State *L) {
  pacing *self = pacing_of(L);
  if (!self) return 0;
  self->cycled = true;
  push_witness(L);
  return 0;
}

void lumap_collector_pace(lua_State *L) {
  /* A place for lumap_close_begin. */
  lua_pushboolean(L, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &last_key);
  memset(lua_newuserdata(L, sizeof(pacing)), 0, sizeof(pacing));
  lua_rawsetp(L, LUA_REGISTRYINDEX, &pacing_key);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, note_cycle);
  lua_setfield(L, -2, "__gc");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &witness_key);
  push_witness(L);
  lua_pop(L, 1);
}

void lumap_collector_limit(lua_State *L) {
  pacing *self = pacing_of(L);
  if (self) self->limited = true;
  prepare_for_limit(L);
}

static double memory_kb(lua_State *L) {
  return lua_gc(L, LUA_GCCOUNT, 0) + lua_gc(L, LUA_GCCOUNTB, 0) / 1024.0;
}

/* 5.4's generational collector, which knows no pause, looks at what is new alone until memory has doubled, and then at
   all there is. */
enum { USUAL_PAUSE = 200, BEFORE_DOUBLED = 190 };

static int pause_percent(lua_State *L) {
  int percent = lua_gc(L, LUA_GCSETPAUSE, USUAL_PAUSE);
  lua_gc(L, LUA_GCSETPAUSE, percent);
  return percent == USUAL_PAUSE && !LUMAP_VM_IS_LUAJIT ? BEFORE_DOUBLED : percent;
}

/* A heap that is small beside the messages must not be walked for each of them: a cycle is for some at least. */
enum { MESSAGES_A_CYCLE = 8, MOST_SLACK_KB = 8192 };

static double due_kb(const pacing *self) {
  double slack = self->limited ? 0 : MESSAGES_A_CYCLE * self->made_kb;
  double other = self->left_kb + (slack < MOST_SLACK_KB ? slack : MOST_SLACK_KB);
  return other > self->promised_kb ? other : self->promised_kb;
}

static bool stop(lua_State *L, pacing *self) {
  bool running = lua_gc(L, LUA_GCISRUNNING, 0) != 0;
  if (running && self) {
    self->stopped_kb = memory_kb(L);
    /* That a cycle has ended may be told long after it was: what it left is the least that there was since. */
    if (self->least_kb == 0 || self->stopped_kb < self->least_kb) self->least_kb = self->stopped_kb;
    if (self->cycled || self->promised_kb == 0) {
      self->promised_kb = self->least_kb * pause_percent(L) / 100;
      self->left_kb = self->least_kb;
      self->least_kb = self->stopped_kb;
      self->begun = false;
    }
    self->cycled = false;
  }
  if (running) lua_gc(L, LUA_GCSTOP, 0);
  return running;
}

static void restore(lua_State *L, pacing *self) {
  double now_kb = self ? memory_kb(L) : 0;
  if (self) self->made_kb = now_kb > self->stopped_kb ? now_kb - self->stopped_kb : 0;
  if (self && !self->begun && due_kb(self) > now_kb) {
    restart_later(L, due_kb(self) - now_kb);
    return;
  }
  lua_gc(L, LUA_GCRESTART, 0);
  if (!self) return;
  self->begun = true;
  self->owed_kb += self->made_kb;
}

/* What is made while the collector rests would have driven it on. A program that makes most of its garbage at such
   times allocates too little between them to do so, and it is done here: not as soon as a message was read, when all of
   it is in use and would be walked in vain, but before the next one. */
static void catch_up(lua_State *L, pacing *self) {
  double owed_kb = self ? self->owed_kb : 0;
  if (owed_kb == 0 || lua_gc(L, LUA_GCISRUNNING, 0) == 0) return;
  self->owed_kb = 0;
  if (!self->cycled) lua_gc(L, LUA_GCSTEP, owed_kb < 1000000 ? 2 * (int)owed_kb + 1 : 2000000);
}

bool lumap_collector_stop(lua_State *L) {
  return stop(L, pacing_of(L));
}

void lumap_collector_restore(lua_State *L, bool was_running) {
  if (was_running) restore(L, pacing_of(L));
}

void lumap_collector_catch_up(lua_State *L) {
  catch_up(L, pacing_of(L));
}

/* The state's record of it is looked up once: that counts where messages are small. */
int lumap_pcall_at_rest(lua_State *L, int arguments, int results) {
  pacing *self = pacing_of(L);
  bool was_running;
  int code;
  catch_up(L, self);
  was_running = stop(L, self);
  code = lua_pcall(L, arguments, results, 0);
  if (was_running) restore(L, self);
  return code;
}

bool lumap_is_out_of_memory(lua_State *L, int code) {
  return code == LUA_ERRMEM ||
         (code != 0 && lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "not enough memory") == 0);
}

void lumap_ignore_environment(lua_State *L) {
  lua_pushboolean(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
}
