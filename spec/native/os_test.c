/* SPDX-License-Identifier: MIT
 *
 * os_test.c - vm/os alone: counting CPUs below a fake root, events, time limits, threads, processes, paths.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* ---- counting CPUs ---- */

static char fake_root[64];

/* Writes `text` to a file below the fake root, whose folders it makes. */
static void put(const char *path, const char *text) {
  char name[512];
  FILE *file;
  snprintf(name, sizeof name, "%s/%s", fake_root, path);
  for (char *slash = name + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = '\0';
    mkdir(name, 0700);
    *slash = '/';
  }
  file = fopen(name, "w");
  if (!file) return;
  fputs(text, file);
  fclose(file);
}

static void new_root(void) {
  snprintf(fake_root, sizeof fake_root, "/tmp/lumap-os-test-XXXXXX");
  if (!mkdtemp(fake_root)) fake_root[0] = '\0';
}

static void drop_root(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf -- '%s'", fake_root);
  if (system(command)) fake_root[0] = '\0';
}

/* Affinity would hide what the quota says on a machine with one CPU, so quotas below are told apart by 1 and "all". */
static int all_cpus(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static int least(int a, int b) {
  return a < b ? a : b;
}

static const char mounts_v2[] = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static void cpu_count_of_v2_quota(void) {
  new_root();
  put("proc/self/cgroup", "0::/a/b\n");
  put("proc/self/mountinfo", mounts_v2);
  put("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  int half = lumap_cpu_count(fake_root);
  put("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
  int one_and_a_half = lumap_cpu_count(fake_root);
  put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  int unlimited = lumap_cpu_count(fake_root);
  put("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
  int above = lumap_cpu_count(fake_root);
  drop_root();
  CHECK(half == 1, "%d", half);
  CHECK(one_and_a_half == least(2, all_cpus()), "%d", one_and_a_half);
  CHECK(unlimited == all_cpus(), "%d", unlimited);
  CHECK(above == 1, "%d", above);
}

static void cpu_count_of_v1_quota(void) {
  new_root();
  put("proc/self/cgroup", "3:cpuset:/other\n4:cpu,cpuacct:/docker/abc/x\n1:name=systemd:/\n0::/\n");
  put("proc/self/mountinfo", "40 31 0:29 /docker/abc /sys/fs/my\\040cgroup rw - cgroup cgroup rw,cpuacct,cpu\n");
  put("sys/fs/my cgroup/x/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/my cgroup/x/cpu.cfs_period_us", "100000\n");
  int unlimited = lumap_cpu_count(fake_root);
  put("sys/fs/my cgroup/cpu.cfs_quota_us", "20000\n");
  put("sys/fs/my cgroup/cpu.cfs_period_us", "100000\n");
  int limited = lumap_cpu_count(fake_root);
  drop_root();
  CHECK(unlimited == all_cpus(), "%d", unlimited);
  CHECK(limited == 1, "%d", limited);
}

static void cpu_count_in_a_container_that_sees_a_foreign_path(void) {
  new_root();
  put("proc/self/cgroup", "0::/../../machine/path\n");
  put("proc/self/mountinfo", mounts_v2);
  put("sys/fs/cgroup/cpu.max", "1000 100000\n");
  int foreign = lumap_cpu_count(fake_root);
  drop_root();
  CHECK(foreign == 1, "%d", foreign);
}

static void cpu_count_of_damaged_files(void) {
  static const char *const damaged[] = {"",    "\n", "max",      "-5 100000",     "100000 0",
                                        "x y", "0",  "100000 -", "1e9999 100000", "99999999999999999999999 1"};
  for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
    new_root();
    put("proc/self/cgroup", "0::/a\n");
    put("proc/self/mountinfo", "nonsense\n - cgroup2\n1 2 3 - cgroup2 x y\n");
    put("sys/fs/cgroup/a/cpu.max", damaged[i]);
    int count = lumap_cpu_count(fake_root);
    drop_root();
    CHECK(count == all_cpus(), "%d for \"%s\"", count, damaged[i]);
  }
  new_root();
  put("proc/self/cgroup", "no colon\n:\n::\n0:cpu\n");
  int count = lumap_cpu_count(fake_root);
  drop_root();
  CHECK(count == all_cpus(), "%d", count);
  CHECK(lumap_cpu_count("/nowhere") == all_cpus(), "absent files");
}

static void cpu_count_of_affinity(void) {
  cpu_set_t before, one;
  CPU_ZERO(&one);
  CHECK(sched_getaffinity(0, sizeof before, &before) == 0, "%s", strerror(errno));
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
    if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0, "%s", strerror(errno));
  int count = lumap_cpu_count("");
  sched_setaffinity(0, sizeof before, &before);
  CHECK(count == 1, "%d", count);
}

/* ---- events and time ---- */

static void event_times_out(void) {
  lumap_event event = {0};
  uint64_t before = lumap_clock_ns();
  CHECK(lumap_event_wait(&event, 0, before + 5000000) == LUMAP_E_TIMEOUT, "no time-out");
  CHECK(lumap_clock_ns() - before >= 5000000, "too early");
  CHECK(lumap_event_wait(&event, 0, 1) == LUMAP_E_TIMEOUT, "a deadline that is over");
  CHECK(atomic_load(&event.waiters) == 0, "waiters left");
}

static void event_that_was_signalled_is_not_waited_for(void) {
  lumap_event event = {0};
  uint32_t key = lumap_event_key(&event);
  lumap_event_signal(&event);
  CHECK(lumap_event_wait(&event, key, LUMAP_FOREVER) == LUMAP_E_OK, "it waited");
}

typedef struct rally {
  lumap_event there, back;
  _Atomic int ball;
  int hits;
} rally;

static void *return_ball(void *argument) {
  rally *game = argument;
  for (int i = 0; i < game->hits; i++) {
    for (;;) {
      uint32_t key = lumap_event_key(&game->there);
      if (atomic_load(&game->ball) == 2 * i + 1) break;
      lumap_event_wait(&game->there, key, LUMAP_FOREVER);
    }
    atomic_store(&game->ball, 2 * i + 2);
    lumap_event_signal(&game->back);
  }
  return NULL;
}

static void event_loses_no_wake_up(void) {
  rally game = {.hits = 20000};
  unsigned long thread;
  CHECK(lumap_thread_start(&thread, return_ball, &game, 0, NULL) == LUMAP_E_OK, "no thread");
  for (int i = 0; i < game.hits; i++) {
    atomic_store(&game.ball, 2 * i + 1);
    lumap_event_signal(&game.there);
    for (;;) {
      uint32_t key = lumap_event_key(&game.back);
      if (atomic_load(&game.ball) == 2 * i + 2) break;
      lumap_event_wait(&game.back, key, LUMAP_FOREVER);
    }
  }
  pthread_join((pthread_t)thread, NULL);
}

static void take_note(int number) {
  (void)number;
}

typedef struct poking {
  pthread_t victim;
  _Atomic bool over;
} poking;

/* Whoever waits cannot say so first; it is poked until it has felt it. */
static void *poke(void *argument) {
  poking *it = argument;
  while (!atomic_load(&it->over)) {
    pthread_kill(it->victim, SIGUSR1);
    sched_yield();
  }
  return NULL;
}

static void check_interruption(int flags) {
  struct sigaction before, action = {.sa_handler = take_note, .sa_flags = flags};
  poking it = {.victim = pthread_self()};
  lumap_event event = {0};
  unsigned long thread;
  lumap_status waited, slept;
  sigaction(SIGUSR1, &action, &before);
  CHECK(lumap_thread_start(&thread, poke, &it, 0, NULL) == LUMAP_E_OK, "no thread");
  do
    waited = lumap_event_wait(&event, lumap_event_key(&event), LUMAP_FOREVER);
  while (waited == LUMAP_E_OK);
  slept = lumap_sleep_until(LUMAP_FOREVER / 4);
  atomic_store(&it.over, true);
  pthread_join((pthread_t)thread, NULL);
  sigaction(SIGUSR1, &before, NULL);
  CHECK(waited == LUMAP_E_INTERRUPTED, "%s", lumap_status_text(waited));
  CHECK(slept == LUMAP_E_INTERRUPTED, "%s", lumap_status_text(slept));
}

static void event_is_interrupted_by_a_handler(void) {
  check_interruption(0);
}

static void event_is_interrupted_by_a_restarting_handler(void) {
  check_interruption(SA_RESTART);
}

static void deadlines(void) {
  uint64_t now = lumap_clock_ns();
  CHECK(lumap_deadline_after(1e300) == LUMAP_FOREVER, "huge");
  CHECK(lumap_deadline_after(__builtin_inf()) == LUMAP_FOREVER, "infinite");
  CHECK(lumap_deadline_after(__builtin_nan("")) <= lumap_clock_ns(), "not a number");
  CHECK(lumap_deadline_after(-1) <= lumap_clock_ns(), "negative");
  CHECK(lumap_deadline_after(2.5) >= now + 2500000000, "too early");
  CHECK(lumap_deadline_after(2.5) <= lumap_clock_ns() + 2500000000, "too late");
  CHECK(lumap_sleep_until(now) == LUMAP_E_OK, "past");
}

/* ---- threads ---- */

typedef struct thread_facts {
  sigset_t mask;
  size_t stack_bytes;
} thread_facts;

static void *tell_facts(void *argument) {
  thread_facts *facts = argument;
  pthread_attr_t attributes;
  pthread_sigmask(SIG_SETMASK, NULL, &facts->mask);
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstacksize(&attributes, &facts->stack_bytes);
  pthread_attr_destroy(&attributes);
  return NULL;
}

static void thread_has_its_mask_and_stack(void) {
  thread_facts facts;
  unsigned long thread;
  sigset_t here;
  CHECK(lumap_thread_start(&thread, tell_facts, &facts, SIGUSR2, NULL) == LUMAP_E_OK, "no thread");
  pthread_join((pthread_t)thread, NULL);
  CHECK(sigismember(&facts.mask, SIGINT) && sigismember(&facts.mask, SIGTERM), "host's signals are open");
  CHECK(!sigismember(&facts.mask, SIGUSR2), "the open signal is blocked");
  CHECK(!sigismember(&facts.mask, SIGSEGV) && !sigismember(&facts.mask, SIGABRT), "faults are blocked");
  CHECK(facts.stack_bytes >= (size_t)8 << 20, "%zu", facts.stack_bytes);
  pthread_sigmask(SIG_SETMASK, NULL, &here);
  CHECK(!sigismember(&here, SIGINT), "the starter's mask has changed");
}

static void thread_gets_a_larger_stack_where_the_process_has_one(void) {
  struct rlimit before, larger;
  thread_facts facts;
  unsigned long thread;
  getrlimit(RLIMIT_STACK, &before);
  larger = before;
  larger.rlim_cur = 24 << 20;
  CHECK(setrlimit(RLIMIT_STACK, &larger) == 0, "%s", strerror(errno));
  lumap_status status = lumap_thread_start(&thread, tell_facts, &facts, 0, NULL);
  setrlimit(RLIMIT_STACK, &before);
  CHECK(status == LUMAP_E_OK, "no thread");
  pthread_join((pthread_t)thread, NULL);
  CHECK(facts.stack_bytes >= (size_t)24 << 20, "%zu", facts.stack_bytes);
}

/* Lives until `argument`, a pipe's reading end, is at its end. */
static void *outlive(void *argument) {
  char byte;
  while (read(*(int *)argument, &byte, 1) < 0)
    continue;
  return NULL;
}

static void *end_at_once(void *argument) {
  return argument;
}

/* While others come and go that are older than the one that stays. */
static void threads_are_counted_while_others_end(void) {
  enum { ROUNDS = CHECK_SANITIZED ? 100 : 1000, OTHERS = 5, LOOKS = 20 };
  int missed = 0;
  for (int round = 0; round < ROUNDS; round++) {
    unsigned long others[OTHERS], stays;
    int pipe_ends[2];
    if (pipe(pipe_ends)) return;
    for (int i = 0; i < OTHERS; i++)
      CHECK(lumap_thread_start(&others[i], end_at_once, NULL, 0, NULL) == LUMAP_E_OK, "no thread");
    CHECK(lumap_thread_start(&stays, outlive, &pipe_ends[0], 0, NULL) == LUMAP_E_OK, "no thread");
    CHECK_SO_FAR();
    for (int i = 0; i < LOOKS; i++)
      missed += lumap_thread_count() < 2;
    close(pipe_ends[1]);
    for (int i = 0; i < OTHERS; i++)
      pthread_join((pthread_t)others[i], NULL);
    pthread_join((pthread_t)stays, NULL);
    close(pipe_ends[0]);
  }
  CHECK(missed == 0, "one that stays was missed %d times", missed);
}

/* ---- processes ---- */

static lumap_status run_shell(const char *script, const int *descriptors, int count, int *exit_code) {
  char *arguments[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
  int signal_number;
  pid_t process;
  lumap_status status = lumap_process_start("/bin/sh", arguments, descriptors, count, &process, NULL);
  if (status == LUMAP_E_OK) lumap_process_wait(process, &signal_number, exit_code);
  return status;
}

/* Sources that lie where targets shall be, crosswise: 4 to 3 and 3 to 4. */
static void process_gets_descriptors_that_lie_crosswise(void) {
  int one[2], two[2], saved[2], code = -1;
  char text[8] = {0};
  CHECK(pipe(one) == 0 && pipe(two) == 0, "%s", strerror(errno));
  saved[0] = fcntl(3, F_DUPFD_CLOEXEC, 20);
  saved[1] = fcntl(4, F_DUPFD_CLOEXEC, 20);
  int first = fcntl(one[1], F_DUPFD_CLOEXEC, 30), second = fcntl(two[1], F_DUPFD_CLOEXEC, 30);
  int read_one = fcntl(one[0], F_DUPFD_CLOEXEC, 30), read_two = fcntl(two[0], F_DUPFD_CLOEXEC, 30);
  close(one[0]), close(one[1]), close(two[0]), close(two[1]);
  dup3(first, 4, O_CLOEXEC);
  dup3(second, 3, O_CLOEXEC);
  close(first), close(second);
  /* Descriptor 5 was open here and must be shut there. */
  lumap_status status = run_shell("printf a >&3; printf b >&4; test ! -e /proc/self/fd/21", (int[]){4, 3}, 2, &code);
  close(3), close(4);
  for (int i = 0; i < 2; i++) {
    if (saved[i] < 0) continue;
    dup3(saved[i], 3 + i, O_CLOEXEC);
    close(saved[i]);
  }
  ssize_t got_one = read(read_one, text, 1), got_two = read(read_two, text + 1, 1);
  close(read_one), close(read_two);
  CHECK(status == LUMAP_E_OK && code == 0, "exit code %d", code);
  CHECK(got_one == 1 && got_two == 1 && strcmp(text, "ab") == 0, "\"%s\"", text);
}

static void process_has_open_signals(void) {
  sigset_t all, before;
  int code = -1;
  sigfillset(&all);
  signal(SIGPIPE, SIG_IGN);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  lumap_status status =
      run_shell("grep -q 'SigBlk:.0*$' /proc/self/status || exit 3; kill -PIPE $$; exit 4", NULL, 0, &code);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  signal(SIGPIPE, SIG_DFL);
  CHECK(status == LUMAP_E_OK && code == -1, "exit code %d: 3 is a mask, 4 an ignored SIGPIPE", code);
}

static void process_that_does_not_exist(void) {
  lumap_error error = {0};
  char *arguments[] = {(char *)"x", NULL};
  pid_t process = 77;
  CHECK(lumap_process_start("/nowhere/program", arguments, NULL, 0, &process, &error) == LUMAP_E_SYSTEM, "it started");
  CHECK(strstr(error.message, "/nowhere/program") && strstr(error.message, "No such file"), "%s", error.message);
  CHECK(process == 77, "output touched");
  CHECK(lumap_process_start("sh", arguments, NULL, 0, &process, &error) != LUMAP_E_OK, "PATH was searched");
}

static void process_end_is_told(void) {
  char *arguments[] = {(char *)"sh", (char *)"-c", (char *)"read x; exit 9", NULL};
  int in[2], signal_number, code, input = dup(0);
  pid_t process;
  CHECK(pipe(in) == 0, "%s", strerror(errno));
  fcntl(in[1], F_SETFD, FD_CLOEXEC);
  dup2(in[0], 0);
  lumap_status status = lumap_process_start("/bin/sh", arguments, NULL, 0, &process, NULL);
  dup2(input, 0);
  close(input), close(in[0]);
  CHECK(status == LUMAP_E_OK, "no process");
  CHECK(!lumap_process_poll(process, &signal_number, &code), "it has ended before it was told to");
  close(in[1]);
  lumap_process_wait(process, &signal_number, &code);
  CHECK(signal_number == 0 && code == 9, "signal %d, code %d", signal_number, code);
  CHECK(lumap_process_poll(process, &signal_number, &code), "reaped, but it runs");
  CHECK(signal_number == 0 && code == -1, "signal %d, code %d", signal_number, code);
}

static void process_end_where_the_host_ignores_children(void) {
  int code = 5;
  signal(SIGCHLD, SIG_IGN);
  lumap_status status = run_shell("exit 3", NULL, 0, &code);
  signal(SIGCHLD, SIG_DFL);
  CHECK(status == LUMAP_E_OK && code == -1, "code %d", code);
}

static void process_killed_through_its_watch(void) {
  char *arguments[] = {(char *)"sh", (char *)"-c", (char *)"kill -STOP $$", NULL};
  int signal_number, code, watch;
  pid_t process;
  CHECK(lumap_process_start("/bin/sh", arguments, NULL, 0, &process, NULL) == LUMAP_E_OK, "no process");
  watch = lumap_process_watch(process);
  CHECK(watch >= 0, "no pidfd");
  CHECK(fcntl(watch, F_GETFD) == FD_CLOEXEC, "not close-on-exec");
  lumap_process_kill(process, watch);
  lumap_process_wait(process, &signal_number, &code);
  close(watch);
  CHECK(signal_number == SIGKILL && strcmp(lumap_signal_name(signal_number), "SIGKILL") == 0, "%d", signal_number);
  CHECK(!lumap_signal_name(0) && !lumap_signal_name(99), "names for what is none");
}

/* ---- memory, sockets, paths ---- */

static void shared_memory_is_shared(void) {
  void *one, *two;
  int descriptor;
  lumap_error error = {0};
  CHECK(lumap_shared_memory_open(4096, &one, &descriptor, &error) == LUMAP_E_OK, "%s", error.message);
  CHECK(((unsigned char *)one)[4095] == 0, "not zeroed");
  CHECK(lumap_shared_memory_map(descriptor, 4096, &two, &error) == LUMAP_E_OK, "%s", error.message);
  ((unsigned char *)one)[7] = 42;
  CHECK(((unsigned char *)two)[7] == 42, "not shared");
  lumap_shared_memory_close(two, 4096, -1);
  CHECK(lumap_shared_memory_map(descriptor, 4097, &two, &error) == LUMAP_E_PROTOCOL, "a mapping beyond the end");
  lumap_shared_memory_close(one, 4096, descriptor);
  lumap_shared_memory_close(NULL, 4096, -1);
}

static void channel_does_not_block_on_our_side(void) {
  int ours, theirs;
  char byte;
  CHECK(lumap_channel_open(&ours, &theirs, NULL) == LUMAP_E_OK, "%s", strerror(errno));
  CHECK(recv(ours, &byte, 1, 0) < 0 && errno == EAGAIN, "%s", strerror(errno));
  CHECK(!(fcntl(theirs, F_GETFL) & O_NONBLOCK), "theirs does not block");
  CHECK(fcntl(ours, F_GETFD) == FD_CLOEXEC && fcntl(theirs, F_GETFD) == FD_CLOEXEC, "not close-on-exec");
  close(ours), close(theirs);
}

static void paths_of_program_and_code(void) {
  char *program = lumap_program_path(), *code = lumap_code_path((const void *)(uintptr_t)&paths_of_program_and_code);
  char *library = lumap_code_path((const void *)(uintptr_t)&strtoull);
  CHECK(program && program[0] == '/', "%s", program ? program : "NULL");
  CHECK(code && strcmp(code, program) == 0, "%s", code ? code : "NULL");
  CHECK(library && library[0] == '/', "%s", library ? library : "NULL");
  CHECK(!lumap_code_path(NULL), "code at NULL");
  free(program), free(code), free(library);
}

/* What the kernel tells of this process: 1, it takes part in barriers, 0, it does not; -1: it tells nothing. */
static int takes_part(void) {
  enum { GET_REGISTRATIONS = 1 << 9, GLOBAL_EXPEDITED = 1 << 2 };
  long registered = syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0);
  return registered < 0 ? -1 : (registered & GLOBAL_EXPEDITED) != 0;
}

static void join_in_copy(void) {
  int before = takes_part(), after;
  lumap_memory_barrier_join(true);
  after = takes_part();
  _exit(before < 0 ? 2 : before == 0 && after == 1 ? 0 : 1);
}

static void process_takes_part_in_barriers(void) {
  int status = 0;
  pid_t child;
  CHECK(lumap_process_fork(&child, NULL) == LUMAP_E_OK, "no process");
  if (child == 0) join_in_copy();
  CHECK(waitpid(child, &status, 0) == child, "no end");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 1, "it does not");
  CHECK(lumap_memory_barrier_all(), "no barrier");
  CHECK(takes_part() != 0, "the caller does not");
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(cpu_count_of_v2_quota),
      TEST(cpu_count_of_v1_quota),
      TEST(cpu_count_in_a_container_that_sees_a_foreign_path),
      TEST(cpu_count_of_damaged_files),
      TEST(cpu_count_of_affinity),
      TEST(event_times_out),
      TEST(event_that_was_signalled_is_not_waited_for),
      TEST(event_loses_no_wake_up),
      TEST(event_is_interrupted_by_a_handler),
      TEST(event_is_interrupted_by_a_restarting_handler),
      TEST(deadlines),
      TEST(thread_has_its_mask_and_stack),
      TEST(thread_gets_a_larger_stack_where_the_process_has_one),
      TEST(threads_are_counted_while_others_end),
      TEST(process_gets_descriptors_that_lie_crosswise),
      TEST(process_has_open_signals),
      TEST(process_that_does_not_exist),
      TEST(process_end_is_told),
      TEST(process_end_where_the_host_ignores_children),
      TEST(process_killed_through_its_watch),
      TEST(shared_memory_is_shared),
      TEST(channel_does_not_block_on_our_side),
      TEST(paths_of_program_and_code),
      TEST(process_takes_part_in_barriers),
  };
  return check_run(tests, sizeof tests / sizeof *tests, 60, NULL, argc, argv);
}
