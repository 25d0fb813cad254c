/* SPDX-License-Identifier: MIT
 *
 * fake.h - what a back-end needs on either side, for tests: a feed that counts, and an executor that does as the
 * payload says.
 *
 * The payload of a chunk is a letter and what it works on:
 *   e...   gives the payload back                       n...    gives "LENGTH CHECKSUM" of the payload
 *   rN     gives N bytes of a pattern                   p...    as e, but the state is spent after it
 *   o      gives "PID STATE": the process id and the ordinal of the state in its process
 *   l      gives the entries of the call's log          f       gives the number of open descriptors
 *   xN     ends the process with exit code N            kN      ends the process with signal N
 *   h      writes half a result, then SIGKILL           j       writes junk to the channel, then hangs
 *   c      closes the channel, then hangs
 * Those that stay in the item write "PID\n" to the FIFO PATH first, so that a test knows that they are there:
 *   wPATH  until the control block says stop            bPATH   until interrupted; the state is spent then
 *   gPATH  until somebody writes to PATH.2
 *   iPATH  as g, and then tells that it took no time at all, as short tasks do; without PATH it does not wait
 * The setup bytes: "" for a good start, "fail:TEXT" for an error, "exit:N" for an end, "hang:PATH" to tell and hang.
 */
#ifndef LUMAP_SPEC_NATIVE_FAKE_H
#define LUMAP_SPEC_NATIVE_FAKE_H

#include <pthread.h>

#include "backend/backend.h"
#include "os/os.h"

enum { FAKE_MOST_WORKERS = 16 };

extern const lumap_executor fake_executor;

/* States that are open in this process, all in all. */
int fake_open_states(void);

typedef struct fake_feed {
  /* Fixed after open. */
  lumap_crew crew;
  lumap_worker workers[FAKE_MOST_WORKERS];
  lumap_bytes setup;

  atomic_int references; /* the crew's */
  lumap_event done;      /* a task was finished */

  /* The lock. Taken last of all. */
  pthread_mutex_t lock;
  pthread_cond_t work;
  lumap_list queue;
  lumap_list finished;
  int submitted, finishes, given_back;
  bool closing;

  /* The test's thread. */
  int collected;
  uint32_t calls;
} fake_feed;

/* Opens a crew. Further fields of feed->crew may be set before, after zeroing. */
lumap_status fake_open(fake_feed *feed, const lumap_backend *backend, int worker_count, const char *setup,
                       lumap_error *error);

lumap_call *fake_call(fake_feed *feed);
/* Ends a call: every worker hears of it, and the caller's reference is dropped. */
void fake_end(fake_feed *feed, lumap_call *call);

/* Appends an entry with this text to the call's log. */
void fake_append(lumap_call *call, const char *text);

/* Queues a task of ten items from `first` on. The payload is `size` bytes at `data`. */
void fake_queue(fake_feed *feed, lumap_call *call, uint64_t first, const void *data, size_t size);
void fake_wake(fake_feed *feed);
/* Both, with a string. */
void fake_submit(fake_feed *feed, lumap_call *call, uint64_t first, const char *text);

/* The next finished task, given to the caller; waits for it. NULL after `seconds`. */
lumap_task *fake_collect(fake_feed *feed, double seconds);

/* Queued tasks are dropped; then the back-end's stop. */
void fake_stop(fake_feed *feed);

/* Tells the workers to end when nothing is queued, and waits for that. */
void fake_close(fake_feed *feed);

/* Frees what is left. */
void fake_deinit(fake_feed *feed);

#endif
