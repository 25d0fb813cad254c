/* SPDX-License-Identifier: MIT
 *
 * os_linux_facts.c - what the system tells of this process: the processors and the memory that it may use, its threads,
 * its program; and bits that nobody can tell beforehand.
 *
 * Has no state: any thread may enter. What /proc and the control groups' files say is taken as bytes from a stranger:
 * containers mount them in many shapes, and a line that makes no sense counts as absent.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* ---- processors and memory ---- */

/* The calling thread's mask, because the threads and processes that it starts will inherit it. */
static int affinity_count(void) {
  for (int room = 1024; room <= 1 << 20; room *= 2) {
    cpu_set_t *set = CPU_ALLOC(room);
    size_t size = CPU_ALLOC_SIZE(room);
    int count = 0;
    if (!set) break;
    if (sched_getaffinity(0, size, set) == 0) count = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    if (count > 0) return count;
    if (errno != EINVAL) break; /* EINVAL: the kernel's mask is larger than `room` */
  }
  return 1;
}

/* Reads the beginning of a small file as a string; false when there is nothing. */
static bool read_text(const char *path, char *text, size_t room) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got;
  if (descriptor < 0) return false;
  got = read(descriptor, text, room - 1);
  close(descriptor);
  text[got > 0 ? got : 0] = '\0';
  return got > 0;
}

/* A decimal number above zero at *text, which moves behind it; 0 when there is none. */
static uint64_t read_number(const char **text) {
  char *end;
  uint64_t number;
  while (**text == ' ')
    ++*text;
  if (**text < '0' || **text > '9') return 0; /* "max", "-1": no limit */
  errno = 0;
  number = strtoull(*text, &end, 10);
  if (errno || (*end != ' ' && *end != '\n' && *end != '\0')) return 0;
  *text = end;
  return number;
}

static uint64_t quota_cpus(uint64_t quota_us, uint64_t period_us) {
  if (!quota_us || !period_us) return UINT64_MAX;
  return quota_us / period_us + (quota_us % period_us != 0);
}

/* The quota of one group, in CPUs; UINT64_MAX: none. v2 has both figures in one file, v1 one in each of two. */
static uint64_t group_cpus(const char *folder, bool version2) {
  char path[PATH_MAX], text[128];
  const char *at = text;
  uint64_t quota;
  if (version2) {
    if (snprintf(path, sizeof path, "%s/cpu.max", folder) >= (int)sizeof path) return UINT64_MAX;
    if (!read_text(path, text, sizeof text)) return UINT64_MAX;
    quota = read_number(&at);
    return quota_cpus(quota, read_number(&at));
  }
  if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder) >= (int)sizeof path) return UINT64_MAX;
  if (!read_text(path, text, sizeof text)) return UINT64_MAX;
  quota = read_number(&at);
  if (snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder) >= (int)sizeof path) return UINT64_MAX;
  if (!read_text(path, text, sizeof text)) return UINT64_MAX;
  at = text;
  return quota_cpus(quota, read_number(&at));
}

/* The group's limit in bytes; UINT64_MAX: none. */
static uint64_t group_bytes(const char *folder, bool version2) {
  char path[PATH_MAX], text[128];
  const char *at = text, *file = version2 ? "memory.max" : "memory.limit_in_bytes";
  uint64_t limit;
  if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path) return UINT64_MAX;
  if (!read_text(path, text, sizeof text)) return UINT64_MAX;
  limit = read_number(&at);
  return limit ? limit : UINT64_MAX;
}

/* What control groups limit: the controller in the older version, and how much one group allows. */
typedef struct group_limit {
  const char *controller;
  uint64_t (*of_group)(const char *folder, bool version2);
} group_limit;

static const group_limit cpu_limit = {"cpu", group_cpus}, memory_limit = {"memory", group_bytes};

/* The least limit of the group `folder` and of those it lies in, up to the first `top` bytes of the path: each level
 * limits what is below it. `folder` is cut short in place. */
static uint64_t path_limit(const group_limit *limit, char *folder, size_t top, bool version2) {
  uint64_t least = UINT64_MAX;
  for (;;) {
    uint64_t here = limit->of_group(folder, version2);
    char *slash = strrchr(folder, '/');
    if (here < least) least = here;
    if (!slash || (size_t)(slash - folder) < top) return least;
    *slash = '\0';
  }
}

/* True when the comma-separated `list` has `word`. */
static bool list_has(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *at = list; at; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (!strncmp(at, word, length) && (at[length] == ',' || at[length] == '\0')) return true;
  }
  return false;
}

/* The path of this process's group in the hierarchy of the controller, from a line `id:controllers:path`. */
static bool find_group(const char *root, const char *controller, bool version2, char *group, size_t room) {
  char name[PATH_MAX], *line = NULL;
  size_t line_room = 0;
  bool found = false;
  FILE *file;
  if (snprintf(name, sizeof name, "%s/proc/self/cgroup", root) >= (int)sizeof name) return false;
  file = fopen(name, "re");
  if (!file) return false;
  while (!found && getline(&line, &line_room, file) >= 0) {
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) continue;
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (version2 ? controllers[1] != '\0' : !list_has(controllers + 1, controller)) continue;
    found = path[0] == '/' && snprintf(group, room, "%s", path) < (int)room;
  }
  free(line);
  fclose(file);
  return found;
}

/* mountinfo writes blanks and backslashes in paths as three octal digits. */
static void unescape(char *text) {
  char *to = text;
  for (const char *from = text; *from; to++) {
    if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
        from[3] <= '7') {
      *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
      from += 4;
    } else {
      *to = *from++;
    }
  }
  *to = '\0';
}

/* Takes a line of mountinfo apart: `id parent device inner point options [tags] - type source super`. `inner` is the
 * folder of the hierarchy that is mounted at `point`. False if it is not the hierarchy that is looked for. */
static bool parse_mount(char *line, const char *controller, bool version2, char **inner, char **point) {
  char *fields[5], *rest = line, *tail = strstr(line, " - "), *type, *super;
  if (!tail) return false;
  *tail = '\0';
  tail += 3;
  type = strsep(&tail, " ");
  strsep(&tail, " ");
  super = tail;
  if (!super) return false;
  super[strcspn(super, "\n")] = '\0';
  if (strcmp(type, version2 ? "cgroup2" : "cgroup") != 0 || (!version2 && !list_has(super, controller))) return false;
  for (int i = 0; i < 5; i++)
    if (!(fields[i] = strsep(&rest, " "))) return false;
  unescape(fields[3]);
  unescape(fields[4]);
  *inner = fields[3];
  *point = fields[4];
  return true;
}

/* Where the hierarchy is mounted, and which of its folders; the usual places when mountinfo does not tell. */
static void find_mount(const char *root, const char *controller, bool version2, char *inner, char *point, size_t room) {
  char name[PATH_MAX], *line = NULL, *line_inner, *line_point;
  size_t line_room = 0;
  FILE *file = NULL;
  snprintf(inner, room, "/");
  snprintf(point, room, "/sys/fs/cgroup%s%s", version2 ? "" : "/", version2 ? "" : controller);
  if (snprintf(name, sizeof name, "%s/proc/self/mountinfo", root) < (int)sizeof name) file = fopen(name, "re");
  while (file && getline(&line, &line_room, file) >= 0) {
    if (!parse_mount(line, controller, version2, &line_inner, &line_point)) continue;
    if (snprintf(inner, room, "%s", line_inner) < (int)room && snprintf(point, room, "%s", line_point) < (int)room)
      break;
  }
  free(line);
  if (file) fclose(file);
}

static uint64_t group_least(const char *root, const group_limit *limit, bool version2) {
  char group[PATH_MAX], inner[PATH_MAX], point[PATH_MAX], folder[3 * PATH_MAX];
  const char *below = group;
  size_t inner_length, top;
  if (!find_group(root, limit->controller, version2, group, sizeof group)) return UINT64_MAX;
  find_mount(root, limit->controller, version2, inner, point, sizeof inner);

  /* The group's path counts from the hierarchy's root, the mount shows it from `inner` on. A group that is not below
   * it (a container whose /proc shows the machine's path) is what is mounted, as far as one can see from here. */
  inner_length = strcmp(inner, "/") == 0 ? 0 : strlen(inner);
  if (strncmp(group, inner, inner_length) == 0 && (group[inner_length] == '/' || group[inner_length] == '\0'))
    below = group + inner_length;
  else
    below = "";
  if (strstr(below, "/..") || strcmp(below, "/") == 0) below = "";
  top = strlen(root) + strlen(point);
  if (snprintf(folder, sizeof folder, "%s%s%s", root, point, below) >= (int)sizeof folder) return UINT64_MAX;
  return path_limit(limit, folder, top, version2);
}

int lumap_cpu_count(const char *root) {
  uint64_t least = (uint64_t)affinity_count();
  uint64_t quota = group_least(root, &cpu_limit, true);
  if (quota < least) least = quota;
  quota = group_least(root, &cpu_limit, false);
  if (quota < least) least = quota;
  return least < 1 ? 1 : (int)least;
}

uint64_t lumap_memory_total(const char *root) {
  struct sysinfo facts;
  uint64_t least = UINT64_MAX;
  if (sysinfo(&facts) == 0) least = ((uint64_t)facts.totalram + facts.totalswap) * facts.mem_unit;
  for (int version2 = 0; version2 <= 1; version2++) {
    uint64_t limit = group_least(root, &memory_limit, version2);
    if (limit < least) least = limit;
  }
  return least;
}

/* ---- threads ---- */

int lumap_thread_count(void) {
  struct stat threads;
  /* The links of a folder are two of its own and one for each folder in it. To read the folder instead would miss
   * threads: while one of them ends, those that follow it are not named. */
  if (stat("/proc/self/task", &threads) || threads.st_nlink < 3) return 1;
  return (int)threads.st_nlink - 2;
}

/* ---- the program ---- */

bool lumap_program_has_argument(const char *prefix) {
  char text[PATH_MAX];
  size_t length = strlen(prefix);
  const char *first;
  if (length >= sizeof text || !read_text("/proc/self/cmdline", text, sizeof text)) return false;
  first = text + strlen(text) + 1; /* the arguments lie one behind the other, each with its zero */
  return first + length < text + sizeof text && strncmp(first, prefix, length) == 0;
}

char *lumap_program_path(void) {
  for (size_t room = 256; room <= 1 << 16; room *= 2) {
    char *path = malloc(room);
    ssize_t got = path ? readlink("/proc/self/exe", path, room) : -1;
    if (got > 0 && (size_t)got < room) {
      path[got] = '\0';
      /* A program that was replaced on disk while it runs can still be started by this link. */
      if (access(path, X_OK) == 0) return path;
      free(path);
      return strdup("/proc/self/exe");
    }
    free(path);
    if (got < 0) break;
  }
  return NULL;
}

/* The loader's own names may be relative to a folder that was left since; the kernel's list of mappings is not. */
char *lumap_code_path(const void *address) {
  char *line = NULL, *path = NULL;
  size_t room = 0;
  FILE *maps = fopen("/proc/self/maps", "re");
  while (maps && !path && getline(&line, &room, maps) >= 0) {
    unsigned long from, to;
    int at = 0;
    if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &from, &to, &at) < 2 || !at) continue;
    if ((unsigned long)address < from || (unsigned long)address >= to) continue;
    if (line[at] != '/') break;
    line[at + strcspn(line + at, "\n")] = '\0';
    path = strdup(line + at);
    break;
  }
  free(line);
  if (maps) fclose(maps);
  return path;
}

/* ---- chance ---- */

uint64_t lumap_entropy(void) {
  uint64_t bits = 0;
  /* A kernel that has just started may have none to give, and a sandbox may refuse: then what tells two calls apart. */
  if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) == (ssize_t)sizeof bits) return bits;
  return lumap_clock_ns() ^ (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)&bits << 20;
}
