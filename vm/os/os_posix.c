/* SPDX-License-Identifier: MIT
 *
 * os_posix.c - the bodies of os.h that POSIX is enough for: clocks, sleeping, threads, sockets, waiting for children.
 *
 * Knows nothing of Lua or of pools. Owns no memory and has no state: any thread may enter.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

/* What a main thread usually gets. Lua code recurses through C (gsub callbacks, sort), so worker threads get no less.
 */
#define STACK_BYTES ((size_t)8 << 20)

uint64_t lumap_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t lumap_deadline_after(double seconds) {
  uint64_t now = lumap_clock_ns();
  if (!(seconds > 0)) return now; /* negative, and not a number */
  /* A third of the clock's range, a hundred years, leaves room for the sum and for the kernel's signed time. */
  if (seconds >= (double)(INT64_MAX / 3) / 1e9) return LUMAP_FOREVER;
  return now + (uint64_t)(seconds * 1e9);
}

lumap_status lumap_sleep_until(uint64_t deadline_ns) {
  struct timespec moment = {.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
                            .tv_nsec = (long)(deadline_ns % NS_PER_SECOND)};
  int failure = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
  return failure == EINTR ? LUMAP_E_INTERRUPTED : LUMAP_E_OK;
}

/* A stack limit that is finite and larger is taken as what this process's threads are meant to have. */
static size_t stack_size(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) || limit.rlim_cur == RLIM_INFINITY) return STACK_BYTES;
  return limit.rlim_cur > STACK_BYTES ? (size_t)limit.rlim_cur : STACK_BYTES;
}

/* The host's handlers run on the host's threads. Signals that a fault raises must stay open: blocked, they kill the
 * process without the handlers that a debugger or a sanitizer has installed. */
static void thread_mask(sigset_t *mask, int open_signal) {
  static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
  sigfillset(mask);
  for (size_t i = 0; i < sizeof open / sizeof *open; i++)
    sigdelset(mask, open[i]);
  if (open_signal) sigdelset(mask, open_signal);
}

lumap_status lumap_thread_start(unsigned long *thread, void *(*body)(void *), void *argument, int open_signal,
                                lumap_error *error) {
  _Static_assert(sizeof(pthread_t) <= sizeof(unsigned long), "a thread's handle fits");
  pthread_attr_t attributes;
  sigset_t mask, before;
  pthread_t handle;
  int failure = pthread_attr_init(&attributes);
  if (failure) return lumap_error_system(error, failure, "cannot start a thread");
  pthread_attr_setstacksize(&attributes, stack_size());

  /* A thread inherits its maker's mask. Set so, there is no moment in which it could take a signal of the host. */
  thread_mask(&mask, open_signal);
  pthread_sigmask(SIG_SETMASK, &mask, &before);
  failure = pthread_create(&handle, &attributes, body, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (failure) return lumap_error_system(error, failure, "cannot start a thread");
  *thread = (unsigned long)handle;
  return LUMAP_E_OK;
}

/* ---- output ---- */

static int write_all(int descriptor, const char *data, size_t size, const atomic_bool *stop) {
  while (size > 0) {
    struct pollfd room = {.fd = descriptor, .events = POLLOUT};
    ssize_t written = write(descriptor, data, size);
    if (written >= 0) {
      data += written;
      size -= (size_t)written;
    } else if (errno == EINTR) {
      if (stop && atomic_load(stop)) return EINTR;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      poll(&room, 1, -1); /* somebody has made the descriptor, which is shared, non-blocking */
    } else {
      return errno;
    }
  }
  return 0;
}

/* The kernel takes a write to a file or a terminal as a whole. Pipes and sockets it gives away piece by piece when they
 * are full, so writers take turns: by a record lock, which needs nothing that processes share but the pipe itself, and
 * goes with a process that dies. Its owner is the process, hence the lock of the FILE for threads. */
static bool needs_turns(int descriptor) {
  struct stat facts;
  return fstat(descriptor, &facts) == 0 && (S_ISFIFO(facts.st_mode) || S_ISSOCK(facts.st_mode));
}

static int write_in_turn(int descriptor, const char *data, size_t size, const atomic_bool *stop) {
  struct flock turn = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  bool locked = false;
  int failure;
  if (needs_turns(descriptor)) {
    while (!(locked = fcntl(descriptor, F_SETLKW, &turn) == 0) && errno == EINTR)
      if (stop && atomic_load(stop)) return EINTR;
  }
  /* A system without such locks still gets its bytes. */
  failure = write_all(descriptor, data, size, stop);
  turn.l_type = F_UNLCK;
  if (locked) fcntl(descriptor, F_SETLK, &turn);
  return failure;
}

int lumap_file_write(FILE *file, const void *data, size_t size, const atomic_bool *stop) {
  static const struct timespec at_once;
  sigset_t pipe, before, pending;
  int failure = 0;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  sigpending(&pending);
  flockfile(file);
  if (fflush(file)) failure = errno;
  if (!failure) failure = write_in_turn(fileno(file), data, size, stop);
  funlockfile(file);
  /* The signal that came with it is ours, unless one was there before. */
  if (failure == EPIPE && !sigismember(&pending, SIGPIPE))
    while (sigtimedwait(&pipe, NULL, &at_once) < 0 && errno == EINTR)
      continue;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failure;
}

lumap_status lumap_pipe_open(int *in, int *out, lumap_error *error) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
    return lumap_error_system(error, errno, "cannot make a socket pair");
  *in = pair[0];
  *out = pair[1];
  return LUMAP_E_OK;
}

lumap_status lumap_channel_open(int *ours, int *theirs, lumap_error *error) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
    return lumap_error_system(error, errno, "cannot make a socket pair");
  /* Each end of a socket pair has its own flags: theirs goes on to block. */
  if (fcntl(pair[0], F_SETFL, O_NONBLOCK)) {
    int number = errno;
    close(pair[0]);
    close(pair[1]);
    return lumap_error_system(error, number, "cannot make a socket non-blocking");
  }
  *ours = pair[0];
  *theirs = pair[1];
  return LUMAP_E_OK;
}

static void tell_end(int status, int *signal_number, int *exit_code) {
  *signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ECHILD: the host ignores SIGCHLD (then waitpid has waited all the same) or has reaped the child in a handler. */
static bool wait_for(pid_t process, int flags, int *signal_number, int *exit_code) {
  int status = 0;
  pid_t got;
  do
    got = waitpid(process, &status, flags);
  while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  if (got == process) {
    tell_end(status, signal_number, exit_code);
  } else {
    *signal_number = 0;
    *exit_code = -1;
  }
  return true;
}

void lumap_process_wait(pid_t process, int *signal_number, int *exit_code) {
  wait_for(process, 0, signal_number, exit_code);
}

bool lumap_process_poll(pid_t process, int *signal_number, int *exit_code) {
  return wait_for(process, WNOHANG, signal_number, exit_code);
}

const char *lumap_signal_name(int signal_number) {
  static const struct {
    int number;
    const char *name;
  } names[] = {
#define NAMED(name) {name, #name}
      NAMED(SIGHUP),  NAMED(SIGINT),  NAMED(SIGQUIT), NAMED(SIGILL),  NAMED(SIGTRAP),   NAMED(SIGABRT), NAMED(SIGBUS),
      NAMED(SIGFPE),  NAMED(SIGKILL), NAMED(SIGUSR1), NAMED(SIGSEGV), NAMED(SIGUSR2),   NAMED(SIGPIPE), NAMED(SIGALRM),
      NAMED(SIGTERM), NAMED(SIGCHLD), NAMED(SIGCONT), NAMED(SIGSTOP), NAMED(SIGTSTP),   NAMED(SIGTTIN), NAMED(SIGTTOU),
      NAMED(SIGURG),  NAMED(SIGXCPU), NAMED(SIGXFSZ), NAMED(SIGPROF), NAMED(SIGVTALRM), NAMED(SIGSYS),
#undef NAMED
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (names[i].number == signal_number) return names[i].name;
  }
  return NULL;
}
