/* SPDX-License-Identifier: MIT */
#include "codec/path.h"

#include <ctype.h>

static bool is_identifier(const char *text, size_t size) {
  if (size == 0 || isdigit((unsigned char)text[0])) return false;
  for (size_t i = 0; i < size; i++)
    if (!isalnum((unsigned char)text[i]) && text[i] != '_') return false;
  return true;
}

/* Appends to the string on top what the key at `index` adds to a path. [-1, +1] */
static void append_key(lua_State *L, int index) {
  int type = lua_type(L, index);
  if (type == LUA_TSTRING) {
    size_t size;
    const char *text = lua_tolstring(L, index, &size);
    if (is_identifier(text, size))
      lua_pushfstring(L, ".%s", text);
    else
      lua_pushfstring(L, "[\"%s\"]", text);
  } else if (type == LUA_TNUMBER) {
    lua_pushvalue(L, index);
    lua_pushfstring(L, "[%s]", lua_tostring(L, -1));
    lua_remove(L, -2);
  } else if (type == LUA_TBOOLEAN) {
    lua_pushfstring(L, "[%s]", lua_toboolean(L, index) ? "true" : "false");
  } else {
    lua_pushfstring(L, ".<key: %s>", luaL_typename(L, index));
  }
  lua_concat(L, 2);
}

void lumap_path_push_function(lua_State *L, int index) {
  lua_Debug info;
  lua_pushvalue(L, index);
  lua_getinfo(L, ">S", &info);
  if (*info.what == 'C')
    lua_pushliteral(L, "the C function");
  else
    lua_pushfstring(L, "the function at %s:%d", info.short_src, info.linedefined);
}

static bool starts_subject(const lumap_step *step) {
  return step->kind == LUMAP_STEP_ROOT || step->kind == LUMAP_STEP_UPVALUE || step->kind == LUMAP_STEP_GLOBAL ||
         step->kind == LUMAP_STEP_ENVIRONMENT || step->kind == LUMAP_STEP_DEFERRED;
}

/* Pushes slot `slot` of entry `number`. */
static void push_deferred_slot(lua_State *L, int list, int number, int slot) {
  lua_rawgeti(L, list, (number - 1) * LUMAP_DEFERRED_SLOTS + slot);
}

/* Pushes the way to a deferred table: the outermost part, dots, and the last parts when there are many. */
static void push_way(lua_State *L, int list, int number) {
  enum { LAST_PARTS = 2 };
  int top = lua_gettop(L), parts = 0, up = number;
  while (up > 0) {
    int at = up;
    push_deferred_slot(L, list, at, LUMAP_DEFERRED_UP);
    up = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (parts < LAST_PARTS || up == 0) {
      if (parts >= LAST_PARTS + 1) {
        lua_pushliteral(L, " ... ");
        lua_insert(L, top + 1);
      }
      push_deferred_slot(L, list, at, LUMAP_DEFERRED_PATH);
      lua_insert(L, top + 1);
    }
    parts++;
  }
  lua_concat(L, lua_gettop(L) - top);
}

/* Appends what the key of a step through a table where it lies adds. [-1, +1] */
static void append_slot(lua_State *L, const lumap_slot_step *step) {
  lumap_slot *scratch;
  luaL_checkstack(L, 8, NULL);
  scratch = lumap_layout_push(L);
  lumap_slot_push(L, lua_gettop(L), scratch, &step->key);
  lua_replace(L, -2);
  lua_insert(L, -2);
  if (step->step.kind == LUMAP_STEP_SLOT) {
    append_key(L, lua_gettop(L) - 1);
  } else {
    lua_pushfstring(L, ".<key: %s>", luaL_typename(L, -2));
    lua_concat(L, 2);
  }
  lua_remove(L, -2);
}

/* Appends the fields between the subject and `step`, outermost first. [-1, +1] */
static void append_fields(lua_State *L, const lumap_step *step) {
  if (starts_subject(step)) return;
  append_fields(L, step->up);
  if (step->kind == LUMAP_STEP_FIELD) {
    append_key(L, step->index);
  } else if (step->kind == LUMAP_STEP_SLOT || step->kind == LUMAP_STEP_SLOT_KEY) {
    append_slot(L, (const lumap_slot_step *)step);
  } else if (step->kind == LUMAP_STEP_KEY) {
    lua_pushfstring(L, ".<key: %s>", luaL_typename(L, step->index));
    lua_concat(L, 2);
  } else if (step->kind == LUMAP_STEP_METATABLE) {
    lua_pushliteral(L, ".<metatable>");
    lua_concat(L, 2);
  }
}

static void append_outside(lua_State *L, const lumap_step *subject) {
  /* The mapped function itself needs no way to it. */
  const lumap_step *up = subject->up;
  if (!up || (up->kind == LUMAP_STEP_ROOT && up->number == 0)) return;
  lua_pushliteral(L, ", reached through ");
  lumap_path_push(L, up);
  lua_concat(L, 3);
}

void lumap_path_push(lua_State *L, const lumap_step *step) {
  const lumap_step *subject = step;
  luaL_checkstack(L, 10, NULL);
  while (!starts_subject(subject))
    subject = subject->up;
  if (subject->kind == LUMAP_STEP_DEFERRED) {
    push_way(L, subject->index, subject->number);
    append_fields(L, step);
    return;
  }
  if (subject->kind == LUMAP_STEP_ROOT) {
    if (subject->number > 0)
      lua_pushfstring(L, "%s[%d]", subject->text, subject->number);
    else
      lua_pushstring(L, subject->text);
    append_fields(L, step);
    return;
  }
  if (subject->kind == LUMAP_STEP_UPVALUE) {
    const char *name = lua_getupvalue(L, subject->index, subject->number);
    if (name) lua_pop(L, 1);
    if (name && *name)
      lua_pushfstring(L, "upvalue '%s'", name);
    else
      lua_pushfstring(L, "upvalue %d", subject->number);
  } else if (subject->kind == LUMAP_STEP_GLOBAL) {
    lua_pushfstring(L, "global '%s'", subject->text);
  } else {
    lua_pushliteral(L, "the environment");
  }
  append_fields(L, step);
  if (subject->kind == LUMAP_STEP_GLOBAL) {
    lua_pushfstring(L, ", which %s reads", subject->reader);
  } else {
    lua_pushliteral(L, " of ");
    lumap_path_push_function(L, subject->index);
    lua_concat(L, 2);
  }
  lua_concat(L, 2);
  append_outside(L, subject);
}

void lumap_path_push_part(lua_State *L, const lumap_step *step, int *deferred) {
  const lumap_step *subject = step;
  while (!starts_subject(subject))
    subject = subject->up;
  *deferred = subject->kind == LUMAP_STEP_DEFERRED ? subject->number : 0;
  if (*deferred == 0) {
    lumap_path_push(L, step);
    return;
  }
  lua_pushliteral(L, "");
  append_fields(L, step);
}

/* The same for a C function that has no name. Iterators and wrapped coroutines are such functions, with a state. */
static const char *describe_function(lua_State *L, int index) {
  bool has_state = false;
  for (int i = 1; lua_getupvalue(L, index, i); i++) {
    int type = lua_type(L, -1);
    lua_pop(L, 1);
    has_state = true;
    if (type != LUA_TTHREAD) continue;
    lua_pushliteral(L, "a coroutine");
    return "create it inside the function";
  }
  lua_pushliteral(L, "a C function");
  if (has_state) return "it has a state of its own; make it, or require its module, inside the function";
  return "no module that a worker can require has it; call it inside a Lua function that requires its module";
}

/* Pushes what the value is, and returns what to do about it. [-0, +1] */
static const char *describe(lua_State *L, int index) {
  switch (lua_type(L, index)) {
  case LUA_TTHREAD:
    lua_pushliteral(L, "a coroutine");
    return "create it inside the function";
  case LUA_TLIGHTUSERDATA:
    lua_pushliteral(L, "a pointer");
    return "it means nothing in another state; send what it points to";
  case LUA_TFUNCTION:
    return describe_function(L, index);
  default:
    break;
  }
  if (lumap_standard_file(L, index) == -1) {
    lua_pushliteral(L, "a file handle");
    return "open it inside the function";
  }
  if (luaL_getmetafield(L, index, "__name")) {
    if (lua_type(L, -1) == LUA_TSTRING)
      lua_pushfstring(L, "userdata '%s'", lua_tostring(L, -1));
    else
      lua_pushliteral(L, "userdata");
    lua_remove(L, -2);
  } else {
    lua_pushliteral(L, "userdata");
  }
  return "create it inside the function, or teach its class to cross with codec.register";
}

int lumap_path_refuse(lua_State *L, const lumap_step *step, int index) {
  const char *remedy;
  index = lua_absindex(L, index);
  luaL_checkstack(L, 10, NULL);
  lumap_path_push(L, step);
  remedy = describe(L, index);
  lua_pushfstring(L, "cannot send %s (%s): %s", lua_tostring(L, -2), lua_tostring(L, -1), remedy);
  return lua_error(L);
}
