/* SPDX-License-Identifier: MIT
 *
 * os_linux_processes.c - how processes are started (posix_spawn with closefrom), copied, watched and ended (pidfd).
 *
 * Has no state: any thread may enter, but where os.h says otherwise.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two system calls that older C libraries have no functions for. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

extern char **environ;

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
