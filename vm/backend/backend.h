/* SPDX-License-Identifier: MIT
 *
 * backend.h - the contract of a back-end: how workers are started, fed and ended.
 *
 * A back-end turns a crew of workers into tasks done. It pulls work: a worker that is free takes the next task from
 * the feed, so tasks are handed out dynamically and nobody blocks on a channel that is full. What a worker does with a
 * task is an executor's business, a set of functions over bytes that the runtime gives.
 *
 *     feed (the pool)  --take-->  worker: executor.run(task)  --finish-->  feed
 *
 * Rules that every back-end keeps, and that spec/contract checks:
 *   - each task that was taken is finished exactly once, or given back exactly once, whatever dies. Not so
 *     LUMAP_TASK_END: the back-end frees it when its worker has forgotten the call, or never heard of it;
 *   - a worker that dies is replaced before the next task that needs it; the task that it ran is finished with
 *     LUMAP_OUTCOME_DIED, tasks that it held but had not begun are given back;
 *   - a task that waits behind another at one worker does so only while no worker is without work: then it is given
 *     back, and begun there. So a task may wait for another one, as long as there are workers for both;
 *   - a worker that cannot be started finishes the next task with LUMAP_OUTCOME_START and tries again for the one
 *     after, so that nothing waits for a worker that never comes, and nothing spins;
 *   - stop() ends in bounded time, after it no task begins: what is taken then is finished as LUMAP_OUTCOME_CANCELLED,
 *     and close() is the only call that may follow. A thread that was given up keeps its task; what is finished then is
 *     a stand-in, another task with the same call, items and outcome LUMAP_OUTCOME_DIED, but without payload;
 *   - the payload of a task that died in a child is still that of its items (on a thread it is whatever run() left);
 *   - after close() no thread or process of the crew runs, but for worker threads that had to be given up. Those own
 *     what they may still touch: they hold a reference on the feed, which keeps the pool alive, lumap_worker structs
 *     included. `host` and what executors reach must outlive them by other means.
 *
 * Threads: open, recruit, wake, pump, attend, stop and close are called by the pool's user; take, finish and give_back
 * by any thread. No function of the feed is called with a lock of the back-end held.
 */
#ifndef LUMAP_BACKEND_BACKEND_H
#define LUMAP_BACKEND_BACKEND_H

#include "backend/task.h"
#include "base/status.h"
#include "os/os.h"
#include "shared/memory.h"

typedef struct lumap_crew lumap_crew;

/* One worker as its pool sees it. */
typedef struct lumap_worker {
  int number;                       /* from 1; fixed */
  lumap_crew *crew;                 /* fixed */
  _Atomic(lumap_control *) control; /* of who sits there now; what was here before lasts as long as the crew. In shared
                                       memory for a process */
  /* The pool's lock. */
  bool has_come; /* for work, at least once */
  bool excluded; /* could not make itself ready: takes mail, and what is queued only where all are excluded */
  bool rested;   /* nothing came since it was told to rest */
  bool waits;    /* in the pool's list of those who wait for work, between these two */
  struct lumap_worker *warmer, *colder;
  uint32_t cut_call; /* the task of this call and turn was asked to end with the item that ran; 0: none was */
  uint32_t cut_turn;
  lumap_list mailbox; /* tasks for this worker alone (LUMAP_TASK_END) */

  lumap_event bell;        /* any thread: there is something for this worker, who waits */
  lumap_patience patience; /* the worker's thread */
  void *own;               /* the back-end's own part */
} lumap_worker;

/* What a worker does. Functions run on the worker's thread (in its process) unless they say otherwise. */
typedef struct lumap_executor {
  /* Makes a state ready to run tasks. `setup` is bytes that the runtime wrote: they reach a child process as they are.
   * `host` is a pointer within this process, NULL in a child that is none of its copies. */
  lumap_status (*open)(const lumap_bytes *setup, void *host, int number, lumap_control *control, void **self,
                       lumap_error *error);
  /* Runs a task: replaces its payload, fills `outcome` and what follows. False: the state is not good any more and
   * must be closed. */
  bool (*run)(void *self, lumap_task *task);
  /* A call is over. Call 0: there has been nothing to do for LUMAP_REST_AFTER_MS. */
  void (*forget)(void *self, uint32_t call_id);
  /* Makes what runs end soon by raising an error in it. Called in a signal handler on the worker's own thread, only
   * while run() is on its stack, perhaps many times. `context` is the handler's third argument: then nothing of another
   * state lies above run() on the stack, and this need not return but may go on in run(). NULL: it must return. */
  void (*interrupt)(void *self, const void *context);
  void (*close)(void *self);
  /* What both ends of a channel must agree on beyond the frames: the VM and its version. A child that has another
   * identity than its parent is refused. NULL counts as "". Not freed. */
  const char *identity;
} lumap_executor;

/* Where tasks come from and go to. */
typedef struct lumap_feed {
  void *self;
  /* The next task for this worker, or NULL: with `wait`, when the worker shall end; without, when there is none. */
  lumap_task *(*take)(void *self, lumap_worker *worker, bool wait);
  /* Gives a task back that is done (or has failed for good). */
  void (*finish)(void *self, lumap_worker *worker, lumap_task *task);
  /* Gives a task back that is to run, anew if this worker was ended on account of another call (heed); it will be
   * the next one handed out. */
  void (*give_back)(void *self, lumap_worker *worker, lumap_task *task);
  /* The crew's own count of references on `self`: a thread that was given up keeps what it may touch. */
  void (*acquire)(void *self);
  void (*release)(void *self);
} lumap_feed;

typedef struct lumap_backend {
  const char *name;
  /* Workers are copies of this process, made by the thread that calls attend: the executor's `host` is what it was. */
  bool copies;
  /* Starts the crew. It may start workers lazily. On failure everything is undone. */
  lumap_status (*open)(lumap_crew *crew, lumap_error *error);
  /* There is new work (or a mailbox has something). Cheap; any thread. NULL: workers wait in feed.take. */
  void (*wake)(lumap_crew *crew);
  /* There is work that no worker waits for: if not all of the crew's workers have been started, so many more are. Cheap
   * when they have. NULL: open has started all of them, or wake does. */
  void (*recruit)(lumap_crew *crew, int more);
  /* Runs one task on the caller's thread; false when there was none. NULL: workers run by themselves. */
  bool (*pump)(lumap_crew *crew);
  /* Serves the workers on the caller's thread until something has happened, or the deadline, or a signal; perhaps not
   * so long. NULL: they need nobody. */
  void (*attend)(lumap_crew *crew, uint64_t deadline_ns);
  /* Ends what runs, at once: items in progress are not finished. Their tasks are finished as CANCELLED or DIED, or as
   * DONE with what was done, the last of them at the latest when close() has returned. */
  void (*stop)(lumap_crew *crew);
  /* Items of the call are not wanted any more: from call->stop_from on they shall not begin, and with call->ended those
   * that run are ended, too. Acts on tasks that are with workers; what is ended is finished as CANCELLED. Does not
   * wait, and may come too late; a worker may be killed or given up for it, and replaced; tasks of other calls that it
   * held are given back. NULL: tasks that have begun cannot be helped. Any thread, but not after close(). */
  void (*heed)(lumap_crew *crew, const lumap_call *call);
  /* Waits for the workers, which have been told to end by the feed or by stop, and frees the crew's own part. */
  void (*close)(lumap_crew *crew);
} lumap_backend;

struct lumap_crew {
  const lumap_backend *backend;
  lumap_feed feed;
  const lumap_executor *executor;
  const lumap_bytes *setup; /* borrowed for the life of the crew */
  void *host;               /* handed to executor->open by back-ends of this process */
  const char *program;      /* process: the path of the worker program; borrowed */
  int greeting_limit_ms;    /* process: how long a child may take until its first sign of life; 0: the default */
  lumap_memories *memories; /* process: among which shared memory that arrives is looked up; borrowed, may be NULL */
  bool stop_signal;         /* thread: a signal may be used to stop an item */
  int worker_count;
  lumap_worker *workers; /* worker_count of them; the pool's memory */
  void *own;             /* the back-end's own part */
};

/* A worker without work is told to rest after this time, once. */
enum { LUMAP_REST_AFTER_MS = 1000 };

/* How many tasks a process worker holds at most: one that it runs, one that waits in its channel. */
enum { LUMAP_PROCESS_WINDOW = 2 };

extern const lumap_backend lumap_backend_serial, lumap_backend_thread, lumap_backend_process, lumap_backend_fork;

/* The other end of lumap_backend_process: the life of a worker process, over the descriptors and the parent's id that
 * its arguments name (see child.c). Returns the exit status, or -1 if the arguments are not those of a worker. */
int lumap_child_main(int argc, char *const *argv, const lumap_executor *executor);

#endif
