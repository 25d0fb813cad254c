/* SPDX-License-Identifier: MIT
 *
 * limits - what the machine can do at best: the same work with POSIX threads over arrays, memcpy in place of sending,
 * and a futex to wake another thread and to be woken by it. Nothing of Lumap is in it.
 *
 * usage: limits CASE SIZE WORKERS             answers "about" and "turn" as side.lua does
 *        limits start.program SIZE - PROGRAM ARGUMENT...     runs the program SIZE times a turn
 */
#include <linux/futex.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MB = 1000000, DOUBLES = 1000, WIDTH = 600, STEPS = 300, MOST_WORKERS = 2048 };

extern char **environ;

static size_t size;
static int worker_count;
static char **program;

static void *allocated(size_t bytes) {
  void *memory = malloc(bytes);
  if (!memory) {
    fprintf(stderr, "limits: no memory\n");
    exit(1);
  }
  return memory;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- threads ---- */

typedef struct part {
  size_t first, end; /* [first, end) of the items */
  double result;
  void (*work)(struct part *part);
} part;

static void *thread_main(void *argument) {
  part *mine = argument;
  mine->work(mine);
  return NULL;
}

/* Runs work in `count` threads, each with its part of the items, and adds up what they found. */
static double run_threads(void (*work)(part *part), int count) {
  static pthread_t threads[MOST_WORKERS];
  static part parts[MOST_WORKERS];
  double sum = 0;
  for (int i = 0; i < count; i++) {
    parts[i] = (part){size * (size_t)i / (size_t)count, size * (size_t)(i + 1) / (size_t)count, 0, work};
    if (pthread_create(&threads[i], NULL, thread_main, &parts[i]) != 0) {
      fprintf(stderr, "limits: cannot start a thread\n");
      exit(1);
    }
  }
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
    sum += parts[i].result;
  }
  return sum;
}

/* ---- x * x over a double array ---- */

static double *from, *into;

static void prepare_squares(void) {
  from = allocated(size * sizeof *from);
  into = allocated(size * sizeof *into);
  for (size_t i = 0; i < size; i++) {
    from[i] = (double)(i + 1);
    into[i] = 0;
  }
}

static void square_part(part *mine) {
  for (size_t i = mine->first; i < mine->end; i++)
    into[i] = from[i] * from[i];
}

static double turn_squares(void) {
  return run_threads(square_part, worker_count);
}

/* As often as the workload says. */
enum { AGAIN = 20 };

static double turn_squares_again(void) {
  for (int i = 0; i < AGAIN; i++)
    run_threads(square_part, worker_count);
  return 0;
}

static double weighted(const double *values, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++)
    sum += (double)((uint64_t)values[i] % 65521 * ((i + 1) % 7));
  return sum;
}

static double check_squares(double result) {
  (void)result;
  return weighted(into, size);
}

/* ---- one item at a time to another thread and back ---- */

static _Atomic uint32_t turn_of_worker, turn_of_caller;
static double passed;
static const int SPINS = 200;

static void wait_for(_Atomic uint32_t *word, uint32_t value) {
  for (int i = 0; i < SPINS; i++)
    if (atomic_load_explicit(word, memory_order_acquire) == value) return;
  for (uint32_t seen = atomic_load(word); seen != value; seen = atomic_load(word))
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void announce(_Atomic uint32_t *word, uint32_t value) {
  atomic_store_explicit(word, value, memory_order_release);
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *partner_main(void *unused) {
  (void)unused;
  for (uint32_t n = 1; n != 0; n++) {
    wait_for(&turn_of_worker, n);
    passed *= passed;
    announce(&turn_of_caller, n);
  }
  return NULL;
}

static void round_trip(void) {
  static uint32_t n;
  announce(&turn_of_worker, ++n);
  wait_for(&turn_of_caller, n);
}

static void prepare_trips(void) {
  pthread_t partner; /* ends with the process */
  prepare_squares();
  if (pthread_create(&partner, NULL, partner_main, NULL) != 0) exit(1);
}

static double turn_single(void) {
  for (size_t i = 0; i < size; i++) {
    passed = from[i];
    round_trip();
    into[i] = passed;
  }
  return 0;
}

enum { CALL_ITEMS = 100 };

static double turn_calls(void) {
  static double results[CALL_ITEMS];
  double sum = 0;
  for (size_t i = 0; i < size; i++) {
    round_trip();
    for (int k = 0; k < CALL_ITEMS; k++)
      results[k] = (double)(k + 1) * (k + 1);
  }
  for (int k = 0; k < CALL_ITEMS; k++)
    sum += results[k] * (k + 1);
  return sum;
}

/* ---- rows of a picture, and items of uneven cost: whoever is free takes the next ---- */

static _Atomic size_t next_item;

static int steps_of(double real, double imaginary) {
  double zr = 0, zi = 0;
  int steps = 0;
  while (steps < 255 && zr * zr + zi * zi <= 4) {
    double zr_next = zr * zr - zi * zi + real;
    zi = 2 * zr * zi + imaginary;
    zr = zr_next;
    steps++;
  }
  return steps;
}

static void picture_rows(part *mine) {
  for (size_t y; (y = next_item++) < size;) {
    double imaginary = (double)y * (2.4 / (double)size) - 1.2;
    long total = 0;
    for (int x = 0; x < WIDTH; x++)
      total += steps_of(x * (3.0 / WIDTH) - 2.25, imaginary);
    mine->result += (double)(total * (long)((y + 1) % 7));
  }
}

static double turn_rows(void) {
  next_item = 0;
  return run_threads(picture_rows, worker_count);
}

static int *weights;

static void prepare_scattered(void) {
  int64_t state = 11;
  weights = allocated(size * sizeof *weights);
  for (size_t i = 0; i < size; i++) {
    state = state * 48271 % 2147483647;
    weights[i] = state % 1000 == 0 ? 1000 : 1;
  }
}

static void prepare_dear_last(void) {
  weights = allocated(size * sizeof *weights);
  for (size_t i = 0; i < size; i++)
    weights[i] = (double)(i + 1) > (double)size - (double)size / 1000 ? 1000 : 1;
}

static void prepare_slow_first(void) {
  weights = allocated(size * sizeof *weights);
  for (size_t i = 0; i < size; i++)
    weights[i] = i == 0 ? (int)(size / 5) : 1;
}

static void uneven_items(part *mine) {
  for (size_t i; (i = next_item++) < size;) {
    int64_t x = 1;
    for (long k = 0; k < (long)weights[i] * STEPS; k++)
      x = x * 16807 % 2147483647;
    mine->result += (double)(x * (int64_t)((i + 1) % 7));
  }
}

static double turn_uneven(void) {
  next_item = 0;
  return run_threads(uneven_items, worker_count);
}

/* ---- memory that is copied to the worker and back ---- */

static char *blocks, *there, *back;
static size_t block_size;

static void prepare_copies(size_t block) {
  block_size = block;
  blocks = allocated(size * block);
  there = allocated(size * block);
  back = allocated(size * block);
  memset(there, 1, size * block);
  memset(back, 1, size * block);
}

static void prepare_strings(void) {
  prepare_copies(MB);
  for (size_t i = 0; i < size; i++) {
    char digits[32];
    for (size_t k = 0; k < MB; k += 10)
      memcpy(blocks + i * MB + k, "0123456789", 10);
    snprintf(digits, sizeof digits, "%010zu", i + 1);
    memcpy(blocks + i * MB, digits, 10);
  }
}

static void prepare_lists(void) {
  prepare_copies(DOUBLES * sizeof(double));
  for (size_t i = 0; i < size; i++)
    for (int k = 0; k < DOUBLES; k++)
      ((double *)blocks)[i * DOUBLES + (size_t)k] = (double)(i + 1) + (k + 1) / 8.0;
}

static void copy_part(part *mine) {
  for (size_t i = mine->first; i < mine->end; i++) {
    memcpy(there + i * block_size, blocks + i * block_size, block_size);
    memcpy(back + i * block_size, there + i * block_size, block_size);
  }
}

static double turn_copies(void) {
  return run_threads(copy_part, worker_count);
}

static double check_strings(double result) {
  (void)result;
  double sum = 0;
  for (size_t i = 0; i < size; i++) {
    char digits[11] = "";
    memcpy(digits, back + i * MB, 10);
    sum += (strtod(digits, NULL) + back[i * MB + MB - 1]) * MB;
  }
  return sum;
}

static double check_lists(double result) {
  (void)result;
  double sum = 0;
  for (size_t i = 0; i < size; i++) {
    const double *list = (const double *)back + i * DOUBLES;
    sum += DOUBLES + list[0] + list[499] * 2 + list[999] * (double)((i + 1) % 7);
  }
  return sum;
}

static void sum_lists(part *mine) {
  for (size_t i = mine->first; i < mine->end; i++) {
    const double *list = (const double *)there + i * DOUBLES;
    double sum = 0;
    memcpy(there + i * block_size, blocks + i * block_size, block_size);
    for (int k = 0; k < DOUBLES; k++)
      sum += list[k];
    mine->result += sum * (double)((i + 1) % 7);
  }
}

static double turn_sums(void) {
  return run_threads(sum_lists, worker_count);
}

/* ---- a big array ---- */

static void prepare_array(void) {
  from = allocated(size * sizeof *from);
  for (size_t i = 0; i < size; i++)
    from[i] = (double)((i + 1) % 1000);
}

static void sum_part(part *mine) {
  for (size_t i = mine->first; i < mine->end; i++)
    mine->result += from[i];
}

static double turn_array(void) {
  return run_threads(sum_part, worker_count);
}

/* ---- beginning, waiting ---- */

static void square_ten(part *mine) {
  for (size_t i = mine->first; i < mine->end && i < 10; i++)
    mine->result += (double)((i + 1) * (i + 1) * (i + 1));
}

/* Threads that come and go, with ten items in all. */
static double turn_pools(void) {
  size_t times = size;
  double result = 0;
  size = 10;
  for (size_t i = 0; i < times; i++)
    result = run_threads(square_ten, worker_count);
  size = times;
  return result;
}

static void sleep_part(part *mine) {
  const struct timespec nap = {0, 50000000};
  for (size_t i = mine->first; i < mine->end; i++) {
    nanosleep(&nap, NULL);
    mine->result += (double)((i + 1) * ((i + 1) % 7));
  }
}

static double turn_sleepers(void) {
  size_t count = size / 2 < MOST_WORKERS ? size / 2 : MOST_WORKERS;
  return run_threads(sleep_part, count > 0 ? (int)count : 1);
}

static double turn_program(void) {
  double ended_well = 0;
  for (size_t i = 0; i < size; i++) {
    pid_t child;
    int status;
    if (posix_spawnp(&child, program[0], NULL, NULL, program, environ) != 0) continue;
    if (waitpid(child, &status, 0) == child && status == 0) ended_well++;
  }
  return ended_well;
}

/* ---- the sides ---- */

static void prepare_nothing(void) {}
static double same(double result) {
  return result;
}

static const struct side {
  const char *name;
  void (*prepare)(void);
  double (*turn)(void);
  double (*check)(double result);
} sides[] = {
    {"squares.list", prepare_squares, turn_squares, check_squares},
    {"squares.range", prepare_squares, turn_squares, check_squares},
    {"squares.buffer", prepare_squares, turn_squares, check_squares},
    {"squares.again", prepare_squares, turn_squares_again, check_squares},
    {"squares.single", prepare_trips, turn_single, check_squares},
    {"mandelbrot.rows", prepare_nothing, turn_rows, same},
    {"payloads.strings", prepare_strings, turn_copies, check_strings},
    {"payloads.lists", prepare_lists, turn_copies, check_lists},
    {"payloads.sums", prepare_lists, turn_sums, same},
    {"start.pool", prepare_nothing, turn_pools, same},
    {"start.program", prepare_nothing, turn_program, same},
    {"sleepers.hundred", prepare_nothing, turn_sleepers, same},
    {"sleepers.thousand", prepare_nothing, turn_sleepers, same},
    {"sum.array", prepare_array, turn_array, same},
    {"calls.small", prepare_trips, turn_calls, same},
    {"uneven.scattered", prepare_scattered, turn_uneven, same},
    {"uneven.dear-last", prepare_dear_last, turn_uneven, same},
    {"uneven.slow-first", prepare_slow_first, turn_uneven, same},
};

static const struct side *find_side(const char *name) {
  for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
    if (strcmp(sides[i].name, name) == 0) return &sides[i];
  fprintf(stderr, "limits: there is no case '%s'\n", name);
  exit(1);
}

static void answer(const struct side *side) {
  char request[64];
  while (fgets(request, sizeof request, stdin)) {
    if (strcmp(request, "turn\n") == 0) {
      double start = now(), result = side->turn(), seconds = now() - start;
      printf("seconds=%.17g check=%.17g\n", seconds, side->check(result));
    } else {
      printf("pid=%ld version=%s\n", (long)getpid(), "C (cc " __VERSION__ ")");
    }
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: limits CASE SIZE WORKERS [PROGRAM ARGUMENT...]\n");
    return 2;
  }
  const struct side *side = find_side(argv[1]);
  size = strtoul(argv[2], NULL, 10);
  worker_count = atoi(argv[3]);
  program = argv + 4;
  if (worker_count < 1 || worker_count > MOST_WORKERS) return 2;
  side->prepare();
  answer(side);
  return 0;
}
