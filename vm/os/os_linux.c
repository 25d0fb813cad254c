/* SPDX-License-Identifier: MIT
 *
 * os_linux.c - the bodies of os.h that need Linux: futex, memfd, pidfd, posix_spawn with closefrom, prctl, what a
 * signal's context holds, /proc and the control groups' files.
 *
 * Knows nothing of Lua or of pools. Has no state: any thread may enter. What /proc and the cgroup files say is taken
 * as bytes from a stranger: containers mount them in many shapes, and a line that makes no sense counts as absent.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

/* Two system calls that older C libraries have no functions for. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

extern char **environ;

/* ---- events ----
 *
 * An eventcount. The waiter counts itself in before the kernel compares `sequence` with the key, the signaller adds to
 * `sequence` before it looks at the count; both sequentially consistent, so at least one of them sees the other. */

static void wake(lumap_event *event, int count, int flags) {
  int saved = errno; /* a signal handler may call this */
  atomic_fetch_add(&event->sequence, 1);
  if (atomic_load(&event->waiters)) syscall(SYS_futex, &event->sequence, FUTEX_WAKE | flags, count, NULL, NULL, 0);
  errno = saved;
}

void lumap_event_signal(lumap_event *event) {
  wake(event, INT_MAX, FUTEX_PRIVATE_FLAG);
}

/* A wait that was shorter than this was worth spinning for, if not to its end. */
static const uint64_t spin_ns = 50000, short_wait_ns = 150000;

static void pause_processor(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

bool lumap_event_spin(lumap_event *event, uint32_t key, const lumap_patience *patience) {
  enum { LOOKS_A_CLOCK = 64 };
  uint64_t end;
  if (patience->trust < 0) return false;
  end = lumap_clock_ns() + spin_ns;
  do
    for (int i = 0; i < LOOKS_A_CLOCK; i++) {
      if (lumap_event_key(event) != key) return true;
      pause_processor();
    }
  while (lumap_clock_ns() < end);
  return false;
}

void lumap_patience_learn(lumap_patience *patience, uint64_t waited_ns) {
  if (waited_ns >= short_wait_ns)
    patience->trust -= patience->trust > -3;
  else
    patience->trust += patience->trust < 3;
}

void lumap_event_signal_shared(lumap_event *event) {
  wake(event, INT_MAX, 0);
}

void lumap_event_signal_one_shared(lumap_event *event) {
  wake(event, 1, 0);
}

static lumap_status wait_for_event(lumap_event *event, uint32_t key, uint64_t deadline_ns, int flags) {
  /* There is always a time limit, if one in centuries: without it the kernel restarts the call behind our back after
   * a handler that was installed with SA_RESTART, and with it it never does. */
  struct timespec limit;
  lumap_status status = LUMAP_E_OK;
  if (deadline_ns > (uint64_t)INT64_MAX) deadline_ns = INT64_MAX;
  limit.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND);
  limit.tv_nsec = (long)(deadline_ns % NS_PER_SECOND);

  atomic_fetch_add(&event->waiters, 1);
  if (atomic_load(&event->sequence) == key &&
      syscall(SYS_futex, &event->sequence, FUTEX_WAIT_BITSET | flags, key, &limit, NULL, FUTEX_BITSET_MATCH_ANY) < 0) {
    if (errno == ETIMEDOUT)
      status = LUMAP_E_TIMEOUT;
    else if (errno == EINTR)
      status = LUMAP_E_INTERRUPTED;
  }
  atomic_fetch_sub(&event->waiters, 1);
  /* A signal that came together with the other two counts first. */
  return lumap_event_key(event) == key ? status : LUMAP_E_OK;
}

lumap_status lumap_event_wait(lumap_event *event, uint32_t key, uint64_t deadline_ns) {
  return wait_for_event(event, key, deadline_ns, FUTEX_PRIVATE_FLAG);
}

lumap_status lumap_event_wait_shared(lumap_event *event, uint32_t key, uint64_t deadline_ns) {
  return wait_for_event(event, key, deadline_ns, 0);
}

/* To register is nothing while there is one thread, and when it was done before; else the kernel waits until all
 * processors have been through its scheduler, as it does for each barrier of the old kind. */
static bool join_barriers(void) {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void lumap_memory_barrier_join(bool patient) {
  if (patient || lumap_thread_count() == 1) join_barriers();
}

bool lumap_memory_barrier_all(void) {
  int kind = join_barriers() ? MEMBARRIER_CMD_GLOBAL_EXPEDITED : MEMBARRIER_CMD_GLOBAL;
  return syscall(SYS_membarrier, kind, 0, 0) == 0;
}

/* ---- signal handlers ---- */

uintptr_t lumap_context_pc(const void *context) {
  const ucontext_t *interrupted = context;
#if defined(__x86_64__)
  return (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (uintptr_t)interrupted->uc_mcontext.pc;
#else
  (void)interrupted;
  return 0;
#endif
}

void lumap_context_restore_mask(const void *context) {
  pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)context)->uc_sigmask, NULL);
}

/* ---- a signal that comes again ---- */

/* Older C libraries do not name the field. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* POSIX does not promise that timer_create may be called in handlers. With SIGEV_THREAD_ID it is the system call alone
 * in glibc and musl. */
bool lumap_alarm_start(lumap_alarm *alarm, int signal, uint64_t interval_ns) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal};
  struct timespec interval = {(time_t)(interval_ns / NS_PER_SECOND), (long)(interval_ns % NS_PER_SECOND)};
  struct itimerspec times = {interval, interval};
  if (alarm->is_set) return true;
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  if (timer_create(CLOCK_MONOTONIC, &event, &alarm->timer)) return false;
  alarm->is_set = true;
  return timer_settime(alarm->timer, 0, &times, NULL) == 0;
}

void lumap_alarm_stop(lumap_alarm *alarm) {
  if (alarm->is_set) timer_delete(alarm->timer);
  alarm->is_set = false;
}

/* ---- counting CPUs ---- */

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

/* ---- chance ---- */

uint64_t lumap_entropy(void) {
  uint64_t bits = 0;
  /* A kernel that has just started may have none to give, and a sandbox may refuse: then what tells two calls apart. */
  if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) == (ssize_t)sizeof bits) return bits;
  return lumap_clock_ns() ^ (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)&bits << 20;
}

/* ---- memory ---- */

#define HUGE_PAGE ((uintptr_t)2 << 20)

static void *map_plain(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* A mapping that is longer than asked for, cut at both ends. */
static void *map_aligned(size_t size) {
  char *memory = map_plain(size + HUGE_PAGE), *aligned;
  size_t before;
  if (!memory) return NULL;
  aligned = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
  before = (size_t)(aligned - memory);
  if (before > 0) munmap(memory, before);
  munmap(aligned + size, HUGE_PAGE - before);
  return aligned;
}

void *lumap_memory_map(size_t size, bool huge) {
  void *memory = huge ? map_aligned(size) : map_plain(size);
  /* Advice: without huge pages it is good memory, too. */
  if (memory && huge) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

void lumap_memory_unmap(void *memory, size_t size) {
  if (memory) munmap(memory, size);
}

void *lumap_memory_remap(void *memory, size_t old_size, size_t new_size) {
  void *moved = mremap(memory, old_size, new_size, 0), *target;
  if (moved != MAP_FAILED) return moved;
  /* Huge pages are moved whole if both places are aligned to them. */
  target = map_aligned(new_size);
  if (!target) return NULL;
  moved = mremap(memory, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  if (moved != MAP_FAILED) return moved;
  munmap(target, new_size);
  return NULL;
}

void lumap_memory_prepare(void *memory, size_t size) {
#ifdef MADV_POPULATE_WRITE
  madvise(memory, size, MADV_POPULATE_WRITE);
#else
  (void)memory;
  (void)size;
#endif
}

void lumap_memory_discard(void *memory, size_t size) {
  madvise(memory, size, MADV_DONTNEED);
}

/* ---- shared memory ---- */

lumap_status lumap_shared_memory_open(size_t size, void **memory, int *descriptor, lumap_error *error) {
  void *mapped = MAP_FAILED;
  int number, opened = memfd_create("lumap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (opened < 0) return lumap_error_system(error, errno, "cannot make shared memory");
  if (ftruncate(opened, (off_t)size) == 0 && fcntl(opened, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
    mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
  if (mapped == MAP_FAILED) {
    number = errno;
    close(opened);
    return lumap_error_system(error, number, "cannot map shared memory");
  }
  *memory = mapped;
  *descriptor = opened;
  return LUMAP_E_OK;
}

void lumap_shared_memory_close(void *memory, size_t size, int descriptor) {
  if (memory) munmap(memory, size);
  if (descriptor >= 0) close(descriptor);
}

lumap_status lumap_shared_memory_map(int descriptor, size_t size, void **memory, lumap_error *error) {
  struct stat facts;
  void *mapped;
  /* Memory that is smaller than its mapping raises SIGBUS at the first touch: refuse it here. */
  if (fstat(descriptor, &facts)) return lumap_error_system(error, errno, "cannot map shared memory");
  if (facts.st_size < (off_t)size) return lumap_error_set(error, LUMAP_E_PROTOCOL, "shared memory is too small");
  mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return lumap_error_system(error, errno, "cannot map shared memory");
  *memory = mapped;
  return LUMAP_E_OK;
}

bool lumap_shared_memory_facts(int descriptor, size_t *size, uint64_t *device, uint64_t *inode) {
  struct stat facts;
  int seals = fcntl(descriptor, F_GET_SEALS);
  /* Who could shrink it could kill whoever reads there. */
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(descriptor, &facts) || facts.st_size <= 0) return false;
  *size = (size_t)facts.st_size;
  *device = (uint64_t)facts.st_dev;
  *inode = (uint64_t)facts.st_ino;
  return true;
}

lumap_status lumap_shared_memory_grow(int descriptor, size_t size, lumap_error *error) {
  struct stat facts;
  if (fstat(descriptor, &facts)) return lumap_error_system(error, errno, "cannot enlarge shared memory");
  if (facts.st_size >= (off_t)size || ftruncate(descriptor, (off_t)size) == 0) return LUMAP_E_OK;
  return lumap_error_system(error, errno, "cannot enlarge shared memory");
}

void lumap_shared_memory_discard(int descriptor, size_t offset, size_t size) {
  /* It may fail: then the memory is kept. */
  fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}

/* ---- processes ---- */

enum { FIRST_PASSED = 3, MOST_PASSED = 8 };

/* SIGHUP and SIGQUIT stay ignored if they are: under nohup, or in the background of a shell without job control, the
 * terminal's signals must not take the workers and leave their parent. A handler never survives exec anyway. */
static int set_attributes(posix_spawnattr_t *attributes) {
  sigset_t none, all;
  int failure;
  sigemptyset(&none);
  sigfillset(&all);
  sigdelset(&all, SIGHUP);
  sigdelset(&all, SIGQUIT);
  sigdelset(&all, SIGKILL);
  sigdelset(&all, SIGSTOP);
  failure = posix_spawnattr_setsigmask(attributes, &none);
  if (!failure) failure = posix_spawnattr_setsigdefault(attributes, &all);
  if (!failure) failure = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return failure;
}

/* A descriptor that lies where another one shall go would be overwritten before it is copied, and dup2 onto itself
 * keeps close-on-exec. So each one that lies in the target range is first copied above it, in this process. */
static int add_descriptors(posix_spawn_file_actions_t *actions, const int *descriptors, int count, int *copies) {
  int failure = 0;
  for (int i = 0; i < count && !failure; i++) {
    int source = descriptors[i];
    if (source < FIRST_PASSED + count) {
      source = copies[i] = fcntl(source, F_DUPFD_CLOEXEC, FIRST_PASSED + count);
      if (source < 0) return errno;
    }
    failure = posix_spawn_file_actions_adddup2(actions, source, FIRST_PASSED + i);
  }
  if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(actions, FIRST_PASSED + count);
  return failure;
}

lumap_status lumap_process_start(const char *program, char *const *arguments, const int *descriptors, int count,
                                 pid_t *process, lumap_error *error) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int failure, copies[MOST_PASSED];
  pid_t started;
  if (count < 0 || count > MOST_PASSED) return lumap_error_system(error, EINVAL, program);
  for (int i = 0; i < count; i++)
    copies[i] = -1;
  failure = posix_spawn_file_actions_init(&actions);
  if (failure) return lumap_error_system(error, failure, program);
  failure = posix_spawnattr_init(&attributes);
  if (failure) {
    posix_spawn_file_actions_destroy(&actions);
    return lumap_error_system(error, failure, program);
  }

  failure = set_attributes(&attributes);
  if (!failure) failure = add_descriptors(&actions, descriptors, count, copies);
  if (!failure) failure = posix_spawn(&started, program, &actions, &attributes, arguments, environ);

  for (int i = 0; i < count; i++)
    if (copies[i] >= 0) close(copies[i]);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failure) return lumap_error_system(error, failure, program);
  *process = started;
  return LUMAP_E_OK;
}

int lumap_thread_count(void) {
  struct stat threads;
  /* The links of a folder are two of its own and one for each folder in it. To read the folder instead would miss
   * threads: while one of them ends, those that follow it are not named. */
  if (stat("/proc/self/task", &threads) || threads.st_nlink < 3) return 1;
  return (int)threads.st_nlink - 2;
}

void lumap_process_end(int exit_code) {
  fflush(NULL);
  _exit(exit_code);
}

static void end_copy(int exit_code, void *argument) {
  (void)argument;
  lumap_process_end(exit_code);
}

/* Handlers of the host are its own. Those of faults stay: without them a debugger or a sanitizer would tell nothing. */
static void reset_signals(void) {
  static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
  struct sigaction action;
  sigset_t none;
  for (int number = 1; number <= SIGRTMAX; number++) {
    bool keeps = false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
      keeps = keeps || kept[i] == number;
    if (keeps || sigaction(number, NULL, &action)) continue;
    if (action.sa_handler == SIG_DFL || ((number == SIGHUP || number == SIGQUIT) && action.sa_handler == SIG_IGN))
      continue;
    action = (struct sigaction){.sa_handler = SIG_DFL};
    sigaction(number, &action, NULL);
  }
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

lumap_status lumap_process_fork(pid_t *process, lumap_error *error) {
  enum { LINE_ROOM = 1 << 16 };
  sigset_t all, before;
  pid_t made;
  int number;
  fflush(NULL); /* or both would write it */
  /* No handler of the host runs in the copy. */
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  made = fork();
  number = errno;
  if (made == 0) {
    char *lines = malloc(LINE_ROOM);
    reset_signals();
    /* Handlers for the end run in the reverse order of their registration, and this one leaves none to the others. */
    on_exit(end_copy, NULL);
    if (lines) setvbuf(stdout, lines, _IOLBF, LINE_ROOM);
  } else {
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  if (made < 0) return lumap_error_system(error, number, "cannot copy this process");
  *process = made;
  return LUMAP_E_OK;
}

int lumap_process_watch(pid_t process) {
  return (int)syscall(SYS_pidfd_open, process, 0); /* is close-on-exec */
}

void lumap_process_kill(pid_t process, int watch) {
  if (watch >= 0)
    syscall(SYS_pidfd_send_signal, watch, SIGKILL, NULL, 0);
  else if (process > 0)
    kill(process, SIGKILL);
}

void lumap_process_tie_to_parent(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* The parent may have ended before the line above took effect. Then this process has another parent by now. */
  if (getppid() != parent) _exit(EXIT_FAILURE);
}

/* ---- paths ---- */

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
