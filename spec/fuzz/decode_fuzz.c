/* SPDX-License-Identifier: MIT
 *
 * decode_fuzz.c - codec.decode on any bytes: a value, or an error that names a place within them. A value is encoded
 * and decoded again, and is then the same. Compiled twice: with FUZZ_FUNCTIONS functions and names are allowed.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/encoder.h"
#include "state.h"

/* codec.decode and what tells whether a value survives another round. A value with what the comparison cannot pair,
   tables as keys, goes round as well. Refused again may be what is nested too deeply, and what stood by name but is not
   found by it any more: that an object of this state was changed by name is the message's right. */
static const char preparing[] =
    "local with_functions = ...\n"
    "local core, graphs = require 'lumap.core', graphs\n"
    "local Box = { __name = 'Box' }\n"
    "core.register('Box', Box, function(box) return box[1] end, function(value) return setmetatable({ value }, Box) "
    "end)\n"
    "core.register('Moody', {}, function() error('never') end, function(value) error(value, 0) end)\n"
    "local metatable_of, encode, decode, find = debug.getmetatable, core.encode, core.decode, string.find\n"
    "local format, byte, gsub = string.format, string.byte, string.gsub\n"
    "local function is_comparable(value)\n"
    "  local seen, work = {}, { value }\n"
    "  while #work > 0 do\n"
    "    local object = work[#work]\n"
    "    work[#work] = nil\n"
    "    if type(object) == 'cdata' and not tonumber(object) then return false end\n"
    "    if type(object) == 'function' then return false end\n"
    "    if type(object) == 'table' and not seen[object] then\n"
    "      seen[object] = true\n"
    "      work[#work + 1] = metatable_of(object)\n"
    "      for key, inner in next, object do\n"
    "        if type(key) == 'table' or type(key) == 'cdata' or type(key) == 'function' then return false end\n"
    "        work[#work + 1] = inner\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  return true\n"
    "end\n"
    "return function(bytes)\n"
    "  local ok, result = decode(bytes, with_functions)\n"
    "  if not ok then error(result, 0) end\n"
    "  return result\n"
    "end, function(value)\n"
    "  local ok, bytes = encode(value, with_functions)\n"
    "  if not ok then\n"
    "    if with_functions or find(bytes, '^cannot send .*nested') then return end\n"
    "    error('what was decoded cannot be encoded: ' .. tostring(bytes), 0)\n"
    "  end\n"
    "  local readable, back = decode(bytes, with_functions)\n"
    "  if not readable then\n"
    "    error(back .. ', when written again as ' .. gsub(bytes, '.', function(c) return format('%02x', byte(c)) end), "
    "0)\n"
    "  end\n"
    "  if not is_comparable(value) then return end\n"
    "  local same, where = graphs.equal(value, back)\n"
    "  if not same then error('after another round it differs at ' .. where, 0) end\n"
    "end\n";

#ifdef FUZZ_FUNCTIONS
enum { WITH_FUNCTIONS = 1 };
#else
enum { WITH_FUNCTIONS = 0 };
#endif

static const char decode_key, check_key;

static lua_State *open_state(void) {
  lua_State *L = fuzz_open(NULL);
  lua_pushboolean(L, WITH_FUNCTIONS);
  fuzz_run(L, "=preparing", preparing, 1, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &check_key);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &decode_key);
  fuzz_disarm(L);
  return L;
}

/* An error is text and tells a place. */
static void check_error(lua_State *L, size_t size) {
  static const char head[] = "bad message at byte ";
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)";
  const char *place = strstr(text, head);
  if (!place || strtoull(place + sizeof head - 1, NULL, 10) > size) fuzz_fail("an error without a place: %s", text);
}

static void check_value(lua_State *L) {
  if (WITH_FUNCTIONS) fuzz_code_policy = FUZZ_CODE_GENUINE;
  /* Weak tables are among what is compared: nothing may go meanwhile. */
  lua_gc(L, LUA_GCSTOP, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &check_key);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 0, 0) != 0) fuzz_fail("%s", lua_tostring(L, -1));
}

/* What codec.decode does, on a block of its exact size: the VM's strings have a zero behind them. */
static int decode_exact(lua_State *L) {
  const lumap_reader *bytes = lua_touserdata(L, 1);
  lumap_decoder d;
  lumap_decode_begin(&d, L, bytes->data, bytes->size, 0, WITH_FUNCTIONS ? LUMAP_CODEC_FUNCTIONS : 0);
  if (lumap_get_u8(&d.in) != LUMAP_WIRE_VERSION) return lumap_decoder_bad(&d, "another version");
  lumap_decode_value(&d);
  return lumap_reader_left(&d.in) ? lumap_decoder_bad(&d, "bytes left over") : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  lumap_reader exact = {fuzz_copy(data, size), size, 0, false};
  bool refused;
  if (!L) L = open_state();
  fuzz_code_policy = WITH_FUNCTIONS ? FUZZ_CODE_STAND_IN : FUZZ_CODE_NEVER;
  lua_pushcfunction(L, decode_exact);
  lua_pushlightuserdata(L, &exact);
  refused = lumap_pcall_at_rest(L, 1, 0) != 0;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &decode_key);
  lua_pushlstring(L, (const char *)data, size);
  if ((fuzz_call(L, 1, 1, size) != 0) != refused) fuzz_fail("what lies behind the message makes a difference");
  if (refused)
    check_error(L, size);
  else
    check_value(L);
  fuzz_rest(L, 0);
  free((void *)(uintptr_t)exact.data);
  return 0;
}
