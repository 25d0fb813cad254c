/* SPDX-License-Identifier: MIT */
#include "codec/handle.h"

#include "shared/channel.h"

/* In the metatable of each handle, which nobody else can put there. */
static const char handle_key;

static const char *const names[] = {"", "parallel.Buffer", "parallel.Channel", "parallel.Counter"};
static const char *const modules[] = {"", "parallel.buffer", "parallel.channel", "parallel.counter"};

/* ---- userdata ----------------------------------------------------------------------------------------------- */

void lumap_handle_empty(lumap_handle *handle) {
  lumap_memory_release(handle->memory);
  handle->memory = NULL;
  handle->data = NULL;
  handle->count = 0;
}

static int collect(lua_State *L) {
  lumap_handle_empty(lua_touserdata(L, 1));
  return 0;
}

/* Buffers of each type have a metatable of their own, so that access is compiled for the type. */
static void push_name(lua_State *L, lumap_handle_kind kind, lumap_element type) {
  if (kind == LUMAP_HANDLE_BUFFER)
    lua_pushfstring(L, "lumap.handle.%s.%s", names[kind], lumap_element_name(type));
  else
    lua_pushfstring(L, "lumap.handle.%s", names[kind]);
}

bool lumap_handle_push_metatable(lua_State *L, lumap_handle_kind kind, lumap_element type) {
  push_name(L, kind, type);
  luaL_getmetatable(L, lua_tostring(L, -1));
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return false;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushboolean(L, 1);
  lua_rawsetp(L, -2, &handle_key);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushstring(L, names[kind]);
  lua_setfield(L, -2, "__name");
  return true;
}

void lumap_handle_set_metatable(lua_State *L, lumap_handle_kind kind, lumap_element type) {
  push_name(L, kind, type);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void push_metatable(lua_State *L, lumap_handle_kind kind, lumap_element type) {
  push_name(L, kind, type);
  luaL_getmetatable(L, lua_tostring(L, -1));
  if (lua_isnil(L, -1)) {
    lua_getglobal(L, "require");
    lua_pushstring(L, modules[kind]);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
    luaL_getmetatable(L, lua_tostring(L, -1));
  }
  lua_remove(L, -2);
}

/* A light userdata: the lumap_handle to be. */
static int push_protected(lua_State *L) {
  const lumap_handle *made = lua_touserdata(L, 1);
  lumap_handle *handle;
  push_metatable(L, made->kind, made->type);
  handle = lua_newuserdata(L, sizeof *handle);
  *handle = *made;
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
  return 1;
}

lumap_handle *lumap_handle_push(lua_State *L, lumap_handle_kind kind, lumap_memory *memory, lumap_element type,
                                uint64_t offset, uint64_t count) {
  lumap_handle made = {memory->data + offset, (double)count, memory, kind, type};
  int code;
  lua_pushcfunction(L, push_protected);
  lua_pushlightuserdata(L, &made);
  code = lua_pcall(L, 1, 1, 0);
  if (code != 0) {
    lumap_memory_release(memory);
    lua_error(L);
  }
  return lua_touserdata(L, -1);
}

static lumap_handle *to_handle(lua_State *L, int index) {
  lumap_handle *handle = lua_type(L, index) == LUA_TUSERDATA ? lua_touserdata(L, index) : NULL;
  bool is_handle;
  if (!handle || !lua_getmetatable(L, index)) return NULL;
  lua_rawgetp(L, -1, &handle_key);
  is_handle = lua_toboolean(L, -1);
  lua_pop(L, 2);
  return is_handle && handle->memory ? handle : NULL;
}

lumap_handle *lumap_handle_test(lua_State *L, int index, lumap_handle_kind kind) {
  lumap_handle *handle = to_handle(L, index);
  return handle && handle->kind == kind ? handle : NULL;
}

/* ---- bytes -------------------------------------------------------------------------------------------------- */

/* Another machine, and another time, have no such memory. */
static void refuse_plain(lumap_encoder *e, const lumap_handle *handle, const lumap_step *step) {
  static const char *const remedies[] = {"", "send its elements, as a string or a table", "send what it holds",
                                         "send its value"};
  lumap_path_push(e->L, step);
  lumap_raise(e->L, "cannot send %s (a %s, which is shared with workers of this program alone): %s",
              lua_tostring(e->L, -1), names[handle->kind], remedies[handle->kind]);
}

bool lumap_put_handle(lumap_encoder *e, int index, const lumap_step *step) {
  const lumap_handle *handle = to_handle(e->L, index);
  lumap_bytes *out = e->sink.out;
  size_t number;
  if (!handle) return false;
  if (!e->scope && !(e->flags & LUMAP_CODEC_SHARED)) refuse_plain(e, handle, step);
  if (!lumap_references_add(&out->references, &handle->memory->counted, &number)) lumap_encoder_no_memory(e);
  lumap_sink_remember(e, index);
  lumap_put_u8(out, lumap_sink_tag(e, LUMAP_TAG_HANDLE));
  lumap_put_u8(out, (unsigned)handle->kind);
  lumap_put_varint(out, number);
  if (handle->kind != LUMAP_HANDLE_BUFFER) return true;
  lumap_put_u8(out, (unsigned)handle->type);
  lumap_put_varint(out, (uint64_t)((unsigned char *)handle->data - handle->memory->data));
  lumap_put_varint(out, (uint64_t)handle->count);
  return true;
}

/* The part of its memory that a buffer is. */
typedef struct extent {
  unsigned type;
  uint64_t offset, count;
} extent;

static bool fits(const extent *part, const lumap_memory *memory) {
  size_t size = lumap_element_size((lumap_element)part->type);
  return part->offset <= memory->size && part->offset % size == 0 &&
         part->count <= (memory->size - part->offset) / size;
}

bool lumap_handle_fill(lumap_handle *handle, lumap_memory *memory, uint64_t offset, uint64_t count) {
  extent part = {handle->type, offset, count};
  if (!memory->data || !fits(&part, memory)) return false;
  lumap_memory_acquire(memory);
  handle->memory = memory;
  handle->data = memory->data + offset;
  handle->count = (double)count;
  return true;
}

void lumap_get_handle(lumap_decoder *d, unsigned tag, uint64_t offset) {
  lua_State *L = d->L;
  unsigned kind = lumap_get_u8(&d->in);
  uint64_t number = lumap_get_varint(&d->in);
  extent part = {0};
  lumap_memory *memory;
  if (kind == LUMAP_HANDLE_BUFFER) {
    part.type = lumap_get_u8(&d->in);
    part.offset = lumap_get_varint(&d->in);
    part.count = lumap_get_varint(&d->in);
  }
  lumap_decoder_check(d);
  if (kind < LUMAP_HANDLE_BUFFER || kind > LUMAP_HANDLE_COUNTER || part.type >= LUMAP_ELEMENT_COUNT)
    lumap_decoder_bad(d, "an unknown kind of shared value");
  if (!d->references || number >= d->references->count)
    lumap_decoder_bad(d, "a reference to shared memory that did not come along");
  memory = (lumap_memory *)d->references->items[number];
  if (!memory->data) {
    lua_pushliteral(L, "shared memory did not arrive: too many files are open here, or there is not enough memory");
    lumap_decoder_fail_object(d, tag, offset);
    return;
  }
  if (kind == LUMAP_HANDLE_BUFFER && !fits(&part, memory))
    lumap_decoder_bad(d, "a buffer that is not within its memory");
  if (kind == LUMAP_HANDLE_CHANNEL && !lumap_channel_is(memory)) lumap_decoder_bad(d, "a channel that is none");
  if (kind == LUMAP_HANDLE_COUNTER && memory->size < sizeof(int64_t)) lumap_decoder_bad(d, "a counter that is none");
  lumap_memory_acquire(memory);
  lumap_handle_push(L, (lumap_handle_kind)kind, memory, (lumap_element)part.type, part.offset, part.count);
  if (tag & LUMAP_SHARED) lumap_decoder_remember(d, offset);
}
