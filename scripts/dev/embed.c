/* SPDX-License-Identifier: MIT
 *
 * embed - compiles Lua files with the VM it is linked to and writes them as one C file.
 *
 * usage: embed ROOT OUTPUT FILE...     FILE is relative to ROOT; parallel/init.lua becomes module "parallel".
 * The chunk name is "=[lumap]/parallel/init.lua", so that tracebacks tell our lines from the user's.
 */
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

static int dump(lua_State *L, image *out) {
#if LUA_VERSION_NUM >= 503
  return lua_dump(L, append, out, 0);
#else
  return lua_dump(L, append, out);
#endif
}

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
    fprintf(out, "    {\"%s\", \"[lumap]/%s\", module_%d, sizeof module_%d},\n", name, argv[i], i - 3, i - 3);
  }
  fprintf(out, "};\nconst int lumap_embedded_module_count = %d;\n", argc - 3);
  lua_close(L);
  return fclose(out) == 0 ? 0 : 1;
}
