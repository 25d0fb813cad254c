/* SPDX-License-Identifier: MIT
 *
 * crews.h - what the tests of back-ends share: crews over the fake feed, FIFOs and gates that items wait at, and a main
 * that counts what a test leaves behind.
 *
 * A crew belongs to the test that opens it, and its feed lives in that test's frame: it is closed by close_crew, or by
 * fake_close and fake_deinit where the test counts itself. Everything here is for the test's thread. What checks for
 * itself may have failed when it returns: see CHECK_SO_FAR.
 */
#ifndef LUMAP_SPEC_NATIVE_CREWS_H
#define LUMAP_SPEC_NATIVE_CREWS_H

#include "check.h"
#include "fake.h"

#define PATIENCE 60.0 /* seconds, for what comes at once unless something is broken */

/* How many workers there are, where that should make no difference. */
enum { WORKER_COUNTS = 4 };
extern const int worker_counts[WORKER_COUNTS];

/* The program that open_crew starts as a worker: this one, which crews_main has found and frees. A test that needs
 * another one puts this back. */
extern char *program;

/* ---- the program ---- */

/* Serves where the program was started as a worker; else runs the tests, after each of which there must be as many
 * descriptors, threads, children and states as before the first. The exit status for main. */
int crews_main(const check_test *tests, size_t count, int argc, char **argv);

/* Threads of this process before the first test. */
extern int threads_before;

bool has_children(void);

/* A handler for a signal that shall only interrupt. */
void do_nothing(int number);

/* ---- crews ---- */

/* Zeroes the feed first. */
lumap_status open_crew(fake_feed *feed, const lumap_backend *backend, int workers, const char *setup);

/* Closes, checks that nothing was lost or came twice, and frees. */
void close_crew(fake_feed *feed);

/* A test as a whole: no worker of such a crew comes to begin a task, and the error of each task has `message` in it. */
void check_no_start(const lumap_backend *backend, int workers, const char *setup, const char *message);

/* True when the task's payload is this text. */
bool is_text(const lumap_task *task, const char *text);

/* The process of the worker that takes the next task; 0 if it has no answer. No other task may be on its way. */
pid_t ask_process(fake_feed *feed, lumap_call *call);

/* Ends the call's items, those that run included. The caller keeps its reference: fake_end is still to come. */
void end_call(fake_feed *feed, lumap_call *call);

/* ---- FIFOs ---- */

/* The path of the FIFO that was opened last. */
extern char fifo_path[64];

/* A FIFO that items write to; the descriptor, or -1. To be closed by fifo_close. */
int fifo_open(void);

/* The next process id that an item has written; waits for it. */
pid_t fifo_read(int fifo);

/* Removes the one that was opened last. */
void fifo_close(int fifo);

/* The payload of an item that tells the FIFO which was opened last: see fake.h. Good until the next call. */
const char *with_fifo(char letter);

/* ---- gates ---- */

/* A place where items wait: they tell their process to `told`, and each goes on with one byte of `go`. */
typedef struct gate {
  char item[80], path[96];
  int told, go;
} gate;

void gate_open(gate *self, char letter);
void gate_close(gate *self);

/* Queues a task of ten items from `first` on, one of which waits here. */
void gate_queue(gate *self, fake_feed *feed, lumap_call *call, uint64_t first);

/* Lets so many items go on; false if it cannot. */
bool gate_let_pass(gate *self, int count);

#endif
