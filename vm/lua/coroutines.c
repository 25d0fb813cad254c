/* SPDX-License-Identifier: MIT */
#include "lua/coroutines.h"

#include <stdatomic.h>

#if LUMAP_VM_IS_LUAJIT

void lumap_coroutines_open(lua_State *L, lumap_coroutines *self) {
  *self = (lumap_coroutines){L, NULL, NULL};
}

#else

/* Every coroutine has a copy of what the main one has there when it is made. */
static lumap_coroutines *account_of(lua_State *L) {
  return *(lumap_coroutines **)lua_getextraspace(L);
}

/* Neither lua_resume nor lua_resetthread raises, so what was entered is always left. The handler runs on this thread:
 * the fences stop the compiler, and that is enough. */
static void enter(lumap_coroutines *self, lumap_resumed *resumed, lua_State *coroutine) {
  *resumed = (lumap_resumed){coroutine, self->innermost};
  atomic_signal_fence(memory_order_seq_cst);
  self->innermost = resumed;
  /* After that: a handler that comes in between has set the hook. */
  if (self->hook) lumap_set_urgent_hook(coroutine, self->hook);
}

static void leave(lumap_coroutines *self, const lumap_resumed *resumed) {
  self->innermost = resumed->outer;
  atomic_signal_fence(memory_order_seq_cst);
}

/* Moves `count` arguments from the top of L to the coroutine and resumes it. The number of values that it gave, now on
 * top of L, or -1 with the error there. */
static int resume(lua_State *L, lua_State *coroutine, int count) {
  lumap_coroutines *self = account_of(L);
  lumap_resumed resumed;
  int status, given = 0;
  if (!lua_checkstack(coroutine, count)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, coroutine, count);
  enter(self, &resumed, coroutine);
  status = lua_resume(coroutine, L, count, &given);
  leave(self, &resumed);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(coroutine, L, 1);
    return -1;
  }
  if (lua_checkstack(L, given + 1)) {
    lua_xmove(coroutine, L, given);
    return given;
  }
  lua_pop(coroutine, given);
  lua_pushliteral(L, "too many results to resume");
  return -1;
}

static lua_State *check_coroutine(lua_State *L) {
  lua_State *coroutine = lua_tothread(L, 1);
  luaL_argexpected(L, coroutine, 1, "coroutine");
  return coroutine;
}

/* coroutine.resume */
static int resume_checked(lua_State *L) {
  lua_State *coroutine = check_coroutine(L);
  int given = resume(L, coroutine, lua_gettop(L) - 1);
  lua_pushboolean(L, given >= 0);
  lua_insert(L, given >= 0 ? -(given + 1) : -2);
  return given >= 0 ? given + 1 : 2;
}

/* Runs what waits to be closed in the coroutine. */
static int reset(lua_State *L, lua_State *coroutine) {
  lumap_resumed resumed;
  int status;
  enter(account_of(L), &resumed, coroutine);
  status = lua_resetthread(coroutine);
  leave(account_of(L), &resumed);
  return status;
}

/* What coroutine.wrap gives. An error ends the coroutine, and reaches the caller with its position in front. */
static int resume_wrapped(lua_State *L) {
  lua_State *coroutine = lua_tothread(L, lua_upvalueindex(1));
  int given = resume(L, coroutine, lua_gettop(L)), status;
  if (given >= 0) return given;
  status = lua_status(coroutine);
  if (status != LUA_OK && status != LUA_YIELD) {
    status = reset(L, coroutine);
    lua_xmove(coroutine, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

/* coroutine.wrap */
static int wrap(lua_State *L) {
  lua_State *coroutine;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  coroutine = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, coroutine, 1);
  lua_pushcclosure(L, resume_wrapped, 1);
  return 1;
}

/* coroutine.close: the library's own tells whether it may be closed. */
static int close_checked(lua_State *L) {
  lua_State *coroutine = check_coroutine(L);
  lumap_coroutines *self = account_of(L);
  lumap_resumed resumed;
  int status;
  lua_Debug frame;
  bool suspended = coroutine != L && (lua_status(coroutine) == LUA_YIELD || lua_getstack(coroutine, 0, &frame) == 0);
  if (!suspended) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
  }
  enter(self, &resumed, coroutine);
  status = lua_resetthread(coroutine);
  leave(self, &resumed);
  lua_pushboolean(L, status == LUA_OK);
  if (status == LUA_OK) return 1;
  lua_xmove(coroutine, L, 1);
  return 2;
}

void lumap_coroutines_open(lua_State *L, lumap_coroutines *self) {
  *self = (lumap_coroutines){L, NULL, NULL};
  *(lumap_coroutines **)lua_getextraspace(L) = self;
  lua_getglobal(L, "coroutine");
  lua_pushcfunction(L, resume_checked);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, wrap);
  lua_setfield(L, -2, "wrap");
  lua_getfield(L, -1, "close");
  lua_pushcclosure(L, close_checked, 1);
  lua_setfield(L, -2, "close");
  lua_pop(L, 1);
}

#endif

/* Of inner ones first: an error then meets the hook of whoever gets it. */
void lumap_coroutines_interrupt(lumap_coroutines *self, lua_Hook hook) {
  self->hook = hook;
  for (lumap_resumed *resumed = self->innermost; resumed; resumed = resumed->outer)
    lumap_set_urgent_hook(resumed->coroutine, hook);
  lumap_set_urgent_hook(self->main, hook);
}
