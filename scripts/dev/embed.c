/* SPDX-License-Identifier: MIT
 *
 * embed - compiles Lua files with the VM it is linked to and writes them as one C file.
 *
 * usage: embed ROOT OUTPUT FILE...     FILE is relative to ROOT; parallel/init.lua becomes module "parallel".
 * The chunk name is "=[lumap]/parallel/init.lua", so that tracebacks tell our lines from the user's. Names of local
 * variables and upvalues are left out on Lua 5.4, which makes a string of each whenever a state loads the module: that
 * took longer than all the rest of it. LuaJIT keeps them as they lie in the bytecode, and reads none.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

typedef struct image {
  unsigned char *bytes;
  size_t size;
} image;

static int append(lua_State *L, const void *bytes, size_t size, void *data) {
  image *out = data;
  (void)L;
  out->bytes = realloc(out->bytes, out->size + size);
  if (!out->bytes) return 1;
  memcpy(out->bytes + out->size, bytes, size);
  out->size += size;
  return 0;
}

static char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  char *text = NULL;
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  text = malloc(*size + 1);
  if (text && fread(text, 1, *size, file) != *size) {
    free(text);
    text = NULL;
  }
  fclose(file);
  return text;
}

/* parallel/init.lua -> parallel, parallel/map.lua -> parallel.map */
static void module_name(const char *file, char *name, size_t size) {
  size_t length;
  snprintf(name, size, "%s", file);
  length = strlen(name);
  if (length > 4) name[length -= 4] = '\0';
  if (length > 5 && strcmp(name + length - 5, "/init") == 0) name[length - 5] = '\0';
  for (char *p = name; *p; p++)
    if (*p == '/') *p = '.';
}

#if LUA_VERSION_NUM >= 504

/* ---- a dump of Lua 5.4 without names (ldump.c) ---- */

/* Reads one dump and writes another; `failed` once it is not what is known here. */
typedef struct copier {
  const unsigned char *at, *end;
  image *out;
  bool failed;
} copier;

static void copy(copier *c, size_t size) {
  c->failed = c->failed || size > (size_t)(c->end - c->at) || append(NULL, c->at, size, c->out) != 0;
  if (!c->failed) c->at += size;
}

/* Seven bits a byte, the highest ones first; the last byte has bit 7 set. */
static size_t read_size(copier *c) {
  size_t size = 0;
  while (!c->failed) {
    if (c->at == c->end) break;
    size = size << 7 | (*c->at & 0x7f);
    if (*c->at++ & 0x80) return size;
  }
  c->failed = true;
  return 0;
}

static size_t copy_size(copier *c) {
  const unsigned char *start = c->at;
  size_t size = read_size(c);
  c->at = start;
  while (!c->failed && !(*c->at & 0x80))
    copy(c, 1);
  copy(c, 1);
  return size;
}

static void copy_string(copier *c) {
  size_t size = copy_size(c);
  if (size > 1) copy(c, size - 1);
}

static void skip_string(copier *c) {
  size_t size = read_size(c);
  if (size > 1 && size - 1 > (size_t)(c->end - c->at)) c->failed = true;
  if (size > 1 && !c->failed) c->at += size - 1;
}

static void copy_constant(copier *c) {
  enum { NIL = 0, FALSE = 1, TRUE = 17, INTEGER = 3, FLOAT = 19, SHORT_STRING = 4, LONG_STRING = 20 };
  int kind = c->at < c->end ? *c->at : -1;
  copy(c, 1);
  if (kind == INTEGER || kind == FLOAT)
    copy(c, 8);
  else if (kind == SHORT_STRING || kind == LONG_STRING)
    copy_string(c);
  else if (kind != NIL && kind != FALSE && kind != TRUE)
    c->failed = true;
}

static void leave_out_names(copier *c) {
  static const unsigned char none = 0x80;
  for (size_t n = read_size(c); n > 0 && !c->failed; n--) {
    skip_string(c);
    read_size(c);
    read_size(c);
  }
  for (size_t n = read_size(c); n > 0 && !c->failed; n--)
    skip_string(c);
  append(NULL, &none, 1, c->out);
  append(NULL, &none, 1, c->out);
}

static void copy_function(copier *c) {
  copy_string(c); /* the source */
  copy_size(c);
  copy_size(c); /* its lines */
  copy(c, 3);   /* parameters, varargs, registers */
  copy(c, copy_size(c) * 4);
  for (size_t n = copy_size(c); n > 0 && !c->failed; n--)
    copy_constant(c);
  copy(c, copy_size(c) * 3); /* upvalues */
  for (size_t n = copy_size(c); n > 0 && !c->failed; n--)
    copy_function(c);
  copy(c, copy_size(c)); /* lines of instructions */
  for (size_t n = copy_size(c); n > 0 && !c->failed; n--) {
    copy_size(c);
    copy_size(c);
  }
  leave_out_names(c);
}

static int dump(lua_State *L, image *out) {
  enum { HEADER = 4 + 2 + 6 + 3 + 8 + 8 + 1 }; /* signature, version, format, checks, sizes, numbers, upvalues */
  image whole = {NULL, 0};
  copier c;
  if (lua_dump(L, append, &whole, 0) != 0) return 1;
  c = (copier){whole.bytes, whole.bytes + whole.size, out, false};
  copy(&c, HEADER);
  copy_function(&c);
  if (!c.failed && c.at == c.end) {
    free(whole.bytes);
    return 0;
  }
  /* Another format: with the names it is as good. */
  free(out->bytes);
  *out = whole;
  return 0;
}

#else

static int dump(lua_State *L, image *out) {
  return lua_dump(L, append, out);
}

#endif

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  FILE *out = argc > 3 ? fopen(argv[2], "w") : NULL;
  if (!L || !out) {
    fprintf(stderr, "usage: embed ROOT OUTPUT FILE...\n");
    return 2;
  }
  fprintf(out, "/* Made by scripts/dev/embed.c; do not edit. */\n#include \"lua/state.h\"\n\n");
  for (int i = 3; i < argc; i++) {
    char path[4096], chunk[4096];
    size_t size = 0;
    image code = {NULL, 0};
    char *text;
    snprintf(path, sizeof path, "%s/%s", argv[1], argv[i]);
    snprintf(chunk, sizeof chunk, "=[lumap]/%s", argv[i]);
    text = read_file(path, &size);
    if (!text) {
      fprintf(stderr, "embed: cannot read %s\n", path);
      return 1;
    }
    if (luaL_loadbuffer(L, text, size, chunk) != 0) {
      fprintf(stderr, "embed: %s\n", lua_tostring(L, -1));
      return 1;
    }
    if (dump(L, &code) != 0) return 1;
    lua_pop(L, 1);
    fprintf(out, "static const unsigned char module_%d[] = {", i - 3);
    for (size_t k = 0; k < code.size; k++)
      fprintf(out, "%s%d", k == 0 ? "" : k % 32 ? "," : ",\n", code.bytes[k]);
    fprintf(out, "};\n");
    free(code.bytes);
    free(text);
  }
  fprintf(out, "\nconst lumap_embedded_module lumap_embedded_modules[] = {\n");
  for (int i = 3; i < argc; i++) {
    char name[4096];
    module_name(argv[i], name, sizeof name);
    fprintf(out, "    {\"%s\", \"=[lumap]/%s\", module_%d, sizeof module_%d},\n", name, argv[i], i - 3, i - 3);
  }
  fprintf(out, "};\nconst int lumap_embedded_module_count = %d;\n", argc - 3);
  lua_close(L);
  return fclose(out) == 0 ? 0 : 1;
}
