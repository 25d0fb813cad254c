/* SPDX-License-Identifier: MIT
 *
 * os_linux_events.c - what threads have of one another by way of the kernel: events (futex), barriers, and signals.
 *
 * Has no state: any thread may enter.
 */
#include "os/os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

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

/* ---- barriers ---- */

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
