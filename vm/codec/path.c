/* SPDX-License-Identifier: MIT */
#include "codec/path.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool is_identifier(const char *text, size_t size) {
  if (size == 0 || isdigit((unsigned char)text[0])) return false;
  for (size_t i = 0; i < size; i++)
    if (!isalnum((unsigned char)text[i]) && text[i] != '_') return false;
  return true;
}

/* The fields of a path, put together without the VM: each table that is deferred needs them. What is longer is cut. */
typedef struct fields {
  size_t size;
  char bytes[4096];
} fields;

static void add(fields *f, const char *bytes, size_t size) {
  size_t room = sizeof f->bytes - f->size;
  if (size > room) size = room;
  memcpy(f->bytes + f->size, bytes, size);
  f->size += size;
}

static void add_text(fields *f, const char *text) {
  add(f, text, strlen(text));
}

static void add_name(fields *f, const char *text, size_t size) {
  bool plain = is_identifier(text, size);
  add_text(f, plain ? "." : "[\"");
  add(f, text, size);
  add_text(f, plain ? "" : "\"]");
}

static void add_integer(fields *f, int64_t integer) {
  char text[24], *at = text + sizeof text;
  uint64_t left = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
  *--at = ']';
  do
    *--at = (char)('0' + left % 10);
  while (left /= 10);
  if (integer < 0) *--at = '-';
  *--at = '[';
  add(f, at, (size_t)(text + sizeof text - at));
}

/* The number at `index`, as the VM prints it. */
static void add_number(fields *f, lua_State *L, int index) {
  char text[48];
  int64_t integer;
  if (lumap_is_integer(L, index, &integer)) {
    add_integer(f, integer);
  } else {
    snprintf(text, sizeof text, "[%.14g]", lua_tonumber(L, index));
    add_text(f, text);
  }
}

static void add_other(fields *f, const char *type) {
  add_text(f, ".<key: ");
  add_text(f, type);
  add_text(f, ">");
}

static void add_key(fields *f, lua_State *L, int index) {
  int type = lua_type(L, index);
  size_t size;
  const char *text;
  if (type == LUA_TSTRING) {
    text = lua_tolstring(L, index, &size);
    add_name(f, text, size);
  } else if (type == LUA_TNUMBER) {
    add_number(f, L, index);
  } else if (type == LUA_TBOOLEAN) {
    add_text(f, lua_toboolean(L, index) ? "[true]" : "[false]");
  } else {
    add_other(f, luaL_typename(L, index));
  }
}

static bool is_integer_slot(const lumap_slot *slot, int64_t *integer) {
  lumap_slot_kind kind = lumap_slot_kind_of(slot);
  if (kind != LUMAP_SLOT_INTEGER)
    return kind == LUMAP_SLOT_DOUBLE && lumap_double_is_integer(lumap_slot_double(slot), integer);
  *integer = lumap_slot_integer(slot);
  return true;
}

/* The same for the key of a table where it lies. */
static void add_slot(fields *f, lua_State *L, const lumap_slot_step *step) {
  lumap_slot_kind kind = lumap_slot_kind_of(&step->key);
  const lumap_text *text = lumap_slot_object(&step->key);
  lumap_slot *scratch;
  int64_t integer;
  if (step->step.kind == LUMAP_STEP_SLOT && kind == LUMAP_SLOT_STRING) {
    add_name(f, text->bytes, lumap_text_size(text));
    return;
  }
  if (step->step.kind == LUMAP_STEP_SLOT && is_integer_slot(&step->key, &integer)) {
    add_integer(f, integer);
    return;
  }
  luaL_checkstack(L, 8, NULL);
  scratch = lumap_layout_push(L);
  lumap_slot_push(L, lua_gettop(L), scratch, &step->key);
  if (step->step.kind == LUMAP_STEP_SLOT)
    add_key(f, L, lua_gettop(L));
  else
    add_other(f, luaL_typename(L, -1));
  lua_pop(L, 2);
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

/* The fields between the subject and `step`, outermost first. */
static void add_fields(fields *f, lua_State *L, const lumap_step *step) {
  if (starts_subject(step)) return;
  add_fields(f, L, step->up);
  if (step->kind == LUMAP_STEP_FIELD)
    add_key(f, L, step->index);
  else if (step->kind == LUMAP_STEP_SLOT || step->kind == LUMAP_STEP_SLOT_KEY)
    add_slot(f, L, (const lumap_slot_step *)step);
  else if (step->kind == LUMAP_STEP_ITEM)
    add_integer(f, step->number);
  else if (step->kind == LUMAP_STEP_KEY)
    add_other(f, luaL_typename(L, step->index));
  else if (step->kind == LUMAP_STEP_METATABLE)
    add_text(f, ".<metatable>");
}

/* Appends them to the string on top. [-1, +1] */
static void append_fields(lua_State *L, const lumap_step *step) {
  fields f;
  f.size = 0;
  add_fields(&f, L, step);
  lua_pushlstring(L, f.bytes, f.size);
  lua_concat(L, 2);
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
