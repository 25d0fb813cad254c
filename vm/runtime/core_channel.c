/* SPDX-License-Identifier: MIT
 *
 * core_channel.c - channels: queues of messages in shared memory (shared/channel.h), whose bytes are those of the
 * codec. A message stands for itself: it refers to no call's log, so functions and classes come along whole.
 *
 * Who waits looks now and then whether it shall go on: a stop of its item, a cancelled call and Ctrl-C end the wait
 * with an error.
 */
#include <math.h>
#include <stdio.h>

#include "runtime/core.h"
#include "runtime/shared.h"
#include "shared/channel.h"

static const char *const message_type = "lumap.message";

enum { FLAGS = LUMAP_CODEC_FUNCTIONS | LUMAP_CODEC_SHARED };

static lumap_memory *check_channel(lua_State *L) {
  lumap_handle *channel = lumap_handle_test(L, 1, LUMAP_HANDLE_CHANNEL);
  if (!channel) luaL_error(L, "a channel expected, got %s: call its methods with a colon", luaL_typename(L, 1));
  return channel->memory;
}

/* ---- the bytes of a message --------------------------------------------------------------------------------- */

typedef struct message {
  lumap_bytes bytes;
  bool is_used;
} message;

/* What a state keeps of its bytes from one message to the next. */
enum { KEPT_BYTES = 1024 * 1024 };

static const char message_key;

static int message_collect(lua_State *L) {
  lumap_bytes_deinit(&((message *)lua_touserdata(L, 1))->bytes);
  return 0;
}

static message *push_new(lua_State *L) {
  lumap_need_class(L, message_type, message_collect);
  return lumap_new_object(L, sizeof(message), 0, message_type);
}

/* An empty message that the state owns: always the same one, but while a pack function sends, too, in the midst of
   another. [-0, +1] */
static message *push_message(lua_State *L) {
  message *kept;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &message_key);
  kept = lua_touserdata(L, -1);
  if (!kept || kept->is_used) {
    lua_pop(L, 1);
    kept = push_new(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &message_key);
  }
  kept->is_used = true;
  return kept;
}

static void finish_message(message *done) {
  if (done->bytes.capacity > KEPT_BYTES)
    lumap_bytes_deinit(&done->bytes);
  else
    lumap_bytes_clear(&done->bytes);
  done->is_used = false;
}

/* bytes, value */
static int encode_message(lua_State *L) {
  lumap_bytes *bytes = lua_touserdata(L, 1);
  lumap_encoder *e;
  lumap_put_u8(bytes, LUMAP_WIRE_VERSION);
  e = lumap_encode_begin(L, bytes, 0, FLAGS);
  lumap_encode_value(e, 2, "the message", 0);
  return 0;
}

/* bytes -> value */
static int decode_message(lua_State *L) {
  const lumap_bytes *bytes = lua_touserdata(L, 1);
  lumap_decoder d;
  lumap_decode_begin(&d, L, bytes->data, bytes->size, 0, FLAGS);
  d.references = bytes->references;
  if (lumap_get_u8(&d.in) != LUMAP_WIRE_VERSION) return luaL_error(L, "bad message: of another version");
  lumap_decode_value(&d);
  return 1;
}

/* ---- waiting ------------------------------------------------------------------------------------------------ */

static bool is_stopped(void *self) {
  lumap_runtime *runtime = self;
  return atomic_load(&runtime->interrupted) || lumap_core_is_cancelled(runtime);
}

/* The optional number of seconds at `index`, argument `number` of the method. */
static lumap_channel_wait check_wait(lua_State *L, int index, int number, const char *method) {
  lumap_channel_wait wait = {LUMAP_FOREVER, is_stopped, lumap_runtime_get(L)};
  if (lua_isnoneornil(L, index)) return wait;
  if (lua_type(L, index) != LUA_TNUMBER || !(lua_tonumber(L, index) >= 0))
    luaL_error(L, "bad argument #%d to '%s' (number of seconds from 0 up expected, got %s)", number, method,
               lua_type(L, index) == LUA_TNUMBER ? lua_tostring(L, index) : luaL_typename(L, index));
  wait.deadline_ns = lumap_deadline_after(lua_tonumber(L, index));
  return wait;
}

/* The wait was stopped: by Ctrl-C, or, in an item, since nobody waits for its result any more. */
static int raise_stopped(lua_State *L) {
  if (lumap_runtime_take_interrupt(lumap_runtime_get(L))) return luaL_error(L, "interrupted!");
  luaL_checkstack(L, 6, NULL);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "parallel.error");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "new");
  lua_createtable(L, 0, 2);
  lua_pushliteral(L, "cancelled");
  lua_setfield(L, -2, "kind");
  lua_pushliteral(L, "the item was stopped while it waited for a channel");
  lua_setfield(L, -2, "message");
  lua_call(L, 1, 1);
  return lua_error(L);
}

/* What a method returns, or raises, for a status that is not OK. */
static int give_status(lua_State *L, lumap_status status, const lumap_error *error) {
  if (status == LUMAP_E_INTERRUPTED) return raise_stopped(L);
  if (status != LUMAP_E_TIMEOUT && status != LUMAP_E_CLOSED) return luaL_error(L, "%s", error->message);
  lua_pushnil(L);
  lua_pushstring(L, status == LUMAP_E_TIMEOUT ? "timeout" : "closed");
  return 2;
}

/* ---- methods ------------------------------------------------------------------------------------------------ */

/* send(value [, seconds]) -> true | nil, "timeout" | "closed" */
static int channel_send(lua_State *L) {
  lumap_memory *channel = check_channel(L);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_channel_wait wait;
  message *sent;
  lumap_status status;
  lua_settop(L, 3);
  if (lua_isnil(L, 2)) return luaL_error(L, "bad argument #1 to 'send' (nil cannot be sent)");
  wait = check_wait(L, 3, 2, "send");
  sent = push_message(L);
  lua_pushcfunction(L, encode_message);
  lua_pushlightuserdata(L, &sent->bytes);
  lua_pushvalue(L, 2);
  if (lumap_encode_call(L, 2, 0) != 0) {
    finish_message(sent);
    /* The refusal, at the line that called. */
    luaL_where(L, 1);
    lua_insert(L, -2);
    if (lua_isstring(L, -1)) lua_concat(L, 2);
    return lua_error(L);
  }
  status = lumap_channel_send(channel, &sent->bytes, &wait, &error);
  finish_message(sent);
  if (status != LUMAP_E_OK) return give_status(L, status, &error);
  lua_pushboolean(L, 1);
  return 1;
}

/* receive([seconds]) -> value | nil, "timeout" | "closed" */
static int channel_receive(lua_State *L) {
  lumap_memory *channel = check_channel(L);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_channel_wait wait;
  message *received;
  lumap_status status;
  int code = 0;
  lua_settop(L, 2);
  wait = check_wait(L, 2, 1, "receive");
  received = push_message(L);
  status = lumap_channel_receive(channel, lumap_runtime_get(L)->memories, &received->bytes, &wait, &error);
  if (status == LUMAP_E_OK) {
    lua_pushcfunction(L, decode_message);
    lua_pushlightuserdata(L, &received->bytes);
    code = lumap_pcall_at_rest(L, 1, 1);
  }
  finish_message(received);
  if (status != LUMAP_E_OK) return give_status(L, status, &error);
  return code == 0 ? 1 : lua_error(L);
}

static int channel_close(lua_State *L) {
  lumap_channel_close(check_channel(L));
  return 0;
}

static int channel_tostring(lua_State *L) {
  char text[64];
  snprintf(text, sizeof text, "channel of %llu messages", (unsigned long long)lumap_channel_capacity(check_channel(L)));
  lua_pushstring(L, text);
  return 1;
}

/* channel(capacity) -> channel. The caller has checked the argument. */
static int core_channel(lua_State *L) {
  uint64_t capacity = (uint64_t)luaL_checknumber(L, 1);
  lumap_runtime *runtime = lumap_runtime_get(L);
  lumap_error error = {LUMAP_E_OK, ""};
  lumap_memory *channel;
  luaL_checkstack(L, 8, NULL);
  lumap_shared_count(L, 0);
  if (lumap_channel_new(runtime->memories, capacity, &channel, &error) != LUMAP_E_OK) {
    lumap_shared_collect(L);
    if (lumap_channel_new(runtime->memories, capacity, &channel, &error) != LUMAP_E_OK)
      return luaL_error(L, "%s", error.message);
  }
  lumap_handle_push(L, LUMAP_HANDLE_CHANNEL, channel, 0, 0, 0);
  return 1;
}

/* channel_class(): makes the metatable of channels. */
static int core_channel_class(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"send", channel_send}, {"receive", channel_receive}, {"close", channel_close}, {NULL, NULL}};
  if (!lumap_handle_push_metatable(L, LUMAP_HANDLE_CHANNEL, 0)) return 0;
  lua_newtable(L);
  lumap_set_functions(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, channel_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "parallel.Channel");
  lua_setfield(L, -2, "__metatable");
  lumap_handle_set_metatable(L, LUMAP_HANDLE_CHANNEL, 0);
  return 0;
}

const luaL_Reg lumap_core_channel[] = {{"channel", core_channel}, {"channel_class", core_channel_class}, {NULL, NULL}};
