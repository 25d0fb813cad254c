/* SPDX-License-Identifier: MIT
 *
 * os.h - the whole contract with the operating system: clocks, waiting, processes, counting CPUs.
 *
 * pthread mutexes, conditions and threads are used directly, as C11 atomics are; what is here is what differs between
 * systems or needs care. os_posix.c holds what POSIX gives, os_linux_*.c what Linux gives. Knows no Lua and no pool.
 */
#ifndef LUMAP_OS_OS_H
#define LUMAP_OS_OS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "base/status.h"

#define LUMAP_FOREVER UINT64_MAX

/* Monotonic, nanoseconds. */
uint64_t lumap_clock_ns(void);

/* The moment `seconds` from now, for functions that take a deadline; LUMAP_FOREVER when that is out of range. */
uint64_t lumap_deadline_after(double seconds);

/* A counter that can be waited on. The pattern, free of lost wake-ups:
 *     key = lumap_event_key(event); if (nothing there) lumap_event_wait(event, key, deadline_ns);
 * Signal is safe in signal handlers and from any thread. Zero-initialised is ready. The memory must last until signal
 * has returned: a waiter may see the new sequence before that. */
typedef struct lumap_event {
  _Atomic uint32_t sequence;
  _Atomic uint32_t waiters;
} lumap_event;

static inline uint32_t lumap_event_key(lumap_event *event) {
  return atomic_load_explicit(&event->sequence, memory_order_acquire);
}
void lumap_event_signal(lumap_event *event);
/* LUMAP_E_OK when the event was signalled since `key` (or for no reason), LUMAP_E_TIMEOUT when `deadline_ns` has
 * passed, LUMAP_E_INTERRUPTED when a signal handler ran (installed with SA_RESTART or without). */
lumap_status lumap_event_wait(lumap_event *event, uint32_t key, uint64_t deadline_ns);

/* The same for an event in memory that several processes have. A process that dies may take a signal along, or leave
 * itself among the waiters: who waits must look for itself now and then. */
void lumap_event_signal_shared(lumap_event *event);
void lumap_event_signal_one_shared(lumap_event *event);
lumap_status lumap_event_wait_shared(lumap_event *event, uint32_t key, uint64_t deadline_ns);

/* What one thread has learned about its waits. Waking a thread that sleeps takes longer than many of them last; but a
 * wait that will be long must not burn the time of others. So it spins only while its last waits were short. Zeroed is
 * ready: it has yet to learn. The waiter's own. */
typedef struct lumap_patience {
  int8_t trust; /* from -3 to 3: it spins from 0 up */
} lumap_patience;

/* Looks at the event again and again, for 50 us at most; true when it was signalled since `key`. Does nothing when that
 * does not seem worth it. For a waiter who knows that there is a processor to spare; then lumap_event_wait follows. */
bool lumap_event_spin(lumap_event *event, uint32_t key, const lumap_patience *patience);

/* The wait is over: it lasted for so long, spinning and sleeping. */
void lumap_patience_learn(lumap_patience *patience, uint64_t waited_ns);

/* Each thread that runs at this moment, of every process that has said it takes part, has a memory barrier before this
 * returns; so nobody else needs one. The caller's process takes part. Takes some ten microseconds; where the system is
 * old, and once in a process that had several threads before it took part, milliseconds. False: the system cannot. */
bool lumap_memory_barrier_all(void);
/* This process takes part from now on; unless it has several threads, which takes milliseconds, and is not `patient`.
 * Any number of times. */
void lumap_memory_barrier_join(bool patient);

/* Sleeps until the deadline; LUMAP_E_INTERRUPTED when a signal handler ran. */
lumap_status lumap_sleep_until(uint64_t deadline_ns);

/* Writes the bytes behind what `file` holds already, and nothing of it is left in the file's buffer: as one piece,
 * which no other call of this function gets into, from whatever thread or process. Waits for a reader that is slow;
 * after a signal handler has run and `*stop` is true (NULL: never) no longer: then a part may be written. 0, or an
 * errno value: EPIPE when nobody reads any more, and no SIGPIPE. */
int lumap_file_write(FILE *file, const void *data, size_t size, const atomic_bool *stop);

/* 64 bits that nobody can tell beforehand, and that are others each time. */
uint64_t lumap_entropy(void);

/* CPUs this process may use: the least of affinity mask and cgroup v1/v2 quota (rounded up), at least 1. Damaged or
 * absent cgroup files count as no quota. `root` is where the file system begins: "" but in tests. */
int lumap_cpu_count(const char *root);

/* Starts a thread with all signals blocked but `open_signal` (0: none) and those that a fault raises. `stack` is at
 * least that of the process's own threads. */
lumap_status lumap_thread_start(unsigned long *thread, void *(*body)(void *), void *argument, int open_signal,
                                lumap_error *error);

/* Of `context`, the third argument of a signal handler: the address of the instruction that was to come next, 0 where
 * that is not known. */
uintptr_t lumap_context_pc(const void *context);
/* Gives the thread the signal mask that it had when the signal came. For a handler that does not return. */
void lumap_context_restore_mask(const void *context);

/* A signal that comes again and again. Zero-initialised is ready. */
typedef struct lumap_alarm {
  timer_t timer;
  bool is_set;
} lumap_alarm;

/* The calling thread gets `signal` every `interval_ns` from now on. Safe in signal handlers. False: the system gives no
 * timer. An alarm that is set already stays as it is. */
bool lumap_alarm_start(lumap_alarm *alarm, int signal, uint64_t interval_ns);
/* No more of them are sent; one may still be on its way. By the thread that started it. */
void lumap_alarm_stop(lumap_alarm *alarm);

/* Bytes of memory that this process may use: of the machine with its swap, or of its control group if that is less.
 * `root` as for lumap_cpu_count. */
uint64_t lumap_memory_total(const char *root);

/* `size` zeroed bytes that a child process can share: memory and a close-on-exec descriptor for it. It has no name, and
 * cannot shrink. */
lumap_status lumap_shared_memory_open(size_t size, void **memory, int *descriptor, lumap_error *error);
/* NULL and -1 are fine. */
void lumap_shared_memory_close(void *memory, size_t size, int descriptor);
/* The same memory on the other side. The descriptor stays the caller's. LUMAP_E_PROTOCOL when it is too small. */
lumap_status lumap_shared_memory_map(int descriptor, size_t size, void **memory, lumap_error *error);
/* What the descriptor leads to: its size, and two numbers that no other memory of this machine has as long as it is
 * there. False when it is no shared memory, or could shrink. */
bool lumap_shared_memory_facts(int descriptor, size_t *size, uint64_t *device, uint64_t *inode);
/* Makes it at least `size` bytes long; what is new is zeros. */
lumap_status lumap_shared_memory_grow(int descriptor, size_t size, lumap_error *error);
/* Gives pages back to the system; they read as zeros, for all. Whole pages. */
void lumap_shared_memory_discard(int descriptor, size_t offset, size_t size);

/* `size` zeroed bytes of this process's own, a multiple of the page size; NULL when there are none. `huge`: aligned to
 * huge pages, and made of them where the system allows it. */
void *lumap_memory_map(size_t size, bool huge);
/* NULL is fine. */
void lumap_memory_unmap(void *memory, size_t size);
/* Changes the size of what was mapped as `huge`. It may move, but is not copied. NULL: cannot, nothing has changed. */
void *lumap_memory_remap(void *memory, size_t old_size, size_t new_size);
/* All of these whole pages will be written to at once: to have them from the system together costs less than one by
 * one. Advice: where it is not taken nothing is lost. */
void lumap_memory_prepare(void *memory, size_t size);
/* Gives whole pages back to the system; they stay mapped and read as zeros. */
void lumap_memory_discard(void *memory, size_t size);

/* A pair of sockets that carry messages in one direction, and descriptors with them: both close-on-exec and
 * non-blocking.
 */
lumap_status lumap_pipe_open(int *in, int *out, lumap_error *error);

/* A connected pair of stream sockets, both close-on-exec; ours non-blocking. */
lumap_status lumap_channel_open(int *ours, int *theirs, lumap_error *error);

/* Starts `program` with `arguments` (NULL-terminated, [0] included) by posix_spawn: no copy of this process's memory,
 * no fork hazards. `program` is a path; PATH is not searched. `count` is at most 8. In the child `descriptors[i]` is
 * 3 + i, everything above is closed, the signal mask is empty and signals have their default actions, but that SIGHUP
 * and SIGQUIT stay ignored if they are (nohup). A program that cannot be executed is an error here. */
lumap_status lumap_process_start(const char *program, char *const *arguments, const int *descriptors, int count,
                                 pid_t *process, lumap_error *error);

/* Threads of this process; 1 when nobody can tell. One that was joined may be counted for a moment longer. */
int lumap_thread_count(void);

/* Copies this process, of which only the calling thread goes on in the copy. There `*process` is 0, signals are as
 * lumap_process_start leaves them, but those of a fault; nothing is left in any file's buffer, standard output is
 * written line by line; and however the process exits, it does so by lumap_process_end: nothing that was registered
 * for its end before runs. */
lumap_status lumap_process_fork(pid_t *process, lumap_error *error);

/* Ends this process: files are flushed, and nothing else is done. */
void lumap_process_end(int exit_code);

/* A descriptor that becomes readable when the process ends, or -1. */
int lumap_process_watch(pid_t process);

/* SIGKILL. `watch` is the descriptor from lumap_process_watch: it names the process even when the host has reaped it
 * and its number belongs to another one by now. With -1 the number is used. */
void lumap_process_kill(pid_t process, int watch);

/* How a process of ours ended. Waits for the end. When the host reaps children itself the cause is unknown: both are
 * set to 0 and -1. */
void lumap_process_wait(pid_t process, int *signal_number, int *exit_code);
/* The same without waiting; false while it runs. */
bool lumap_process_poll(pid_t process, int *signal_number, int *exit_code);

/* In a child: ends this process when its parent `parent` does, even if that has happened already; then this call does
 * not return. */
void lumap_process_tie_to_parent(pid_t parent);

/* The path of the program that runs, or of the file that holds the code at `address`. NULL when unknown; else free it.
 */
char *lumap_program_path(void);
char *lumap_code_path(const void *address);

/* True when the first argument of the running program begins with `prefix`. */
bool lumap_program_has_argument(const char *prefix);

/* "SIGKILL" for 9; NULL for a number without a name. */
const char *lumap_signal_name(int signal_number);

#endif
