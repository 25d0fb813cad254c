/* SPDX-License-Identifier: MIT
 *
 * shared_test.c - vm/shared alone: memory that comes back, and channels whose users are killed at the worst moments.
 *
 * A message whose bytes lie before a page that may not be touched kills its sender in the midst of copying, with the
 * lock held; one that is received into such a place kills the receiver there.
 */
#include "shared/channel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"
#include "os/os.h"

enum { PAGE = 4096, TRAP_BYTES = 3 * PAGE };

static const lumap_channel_wait at_once = {0, NULL, NULL};
static const lumap_channel_wait for_ever = {LUMAP_FOREVER, NULL, NULL};

static int descriptors_before;

static void nothing_stays(void) {
  int now = count_descriptors();
  CHECK(now == descriptors_before, "%d descriptors, %d before", now, descriptors_before);
}

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

static void memory_that_comes_back_is_the_same(void) {
  lumap_memories *known = lumap_memories_new(), *others = lumap_memories_new();
  lumap_memory *memory, *back, *other;
  lumap_error error = {0};
  int copy;
  CHECK(lumap_memory_open(known, 5000, "five", &memory, &error) == LUMAP_E_OK, "%s", error.message);
  copy = dup(memory->descriptors[0]);
  CHECK(lumap_memory_receive(known, &copy, 1, &back, &error) == LUMAP_E_OK, "%s", error.message);
  CHECK(back == memory, "mapped twice");
  copy = dup(memory->descriptors[0]);
  CHECK(lumap_memory_receive(others, &copy, 1, &other, &error) == LUMAP_E_OK, "%s", error.message);
  CHECK(other != memory && other->size == 5000, "not mapped");
  memory->data[4999] = 7;
  CHECK(other->data[4999] == 7, "not the same memory");
  lumap_memory_release(memory);
  lumap_memory_release(back);
  lumap_memories_release(known);
  CHECK(other->data[4999] == 7, "gone");
  lumap_memory_release(other);
  lumap_memories_release(others);
}

static void what_is_no_shared_memory_is_refused(void) {
  lumap_memory *memory;
  lumap_error error = {0};
  int pair[2], plain;
  CHECK(pipe(pair) == 0, "no pipe");
  CHECK(lumap_memory_receive(NULL, pair, 2, &memory, &error) == LUMAP_E_PROTOCOL, "a pipe was taken");
  /* It could be cut off while somebody reads there. */
  plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(plain >= 0 && ftruncate(plain, PAGE) == 0, "no file");
  CHECK(lumap_memory_receive(NULL, &plain, 1, &memory, &error) == LUMAP_E_PROTOCOL, "a file that can shrink was taken");
}

static void *come_and_go(void *argument) {
  lumap_memory *memory = argument, *back;
  for (int i = 0; i < 2000; i++) {
    int copy = dup(memory->descriptors[0]);
    if (lumap_memory_receive(memory->known, &copy, 1, &back, NULL) != LUMAP_E_OK || back != memory) return argument;
    lumap_memory_release(back);
  }
  return NULL;
}

static void memory_comes_and_goes_on_threads(void) {
  lumap_memories *known = lumap_memories_new();
  lumap_memory *memory;
  pthread_t threads[4];
  CHECK(lumap_memory_open(known, 1, "one", &memory, NULL) == LUMAP_E_OK, "no memory");
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, come_and_go, memory) == 0, "no thread");
  for (int i = 0; i < 4; i++) {
    void *failure;
    pthread_join(threads[i], &failure);
    CHECK(!failure, "mapped twice");
  }
  lumap_memory_release(memory);
  lumap_memories_release(known);
}

/* ---- channels ----------------------------------------------------------------------------------------------- */

/* Messages are as long as their number says, and begin with it. */
static void write_message(lumap_bytes *message, uint64_t number, size_t size) {
  lumap_bytes_clear(message);
  lumap_bytes_append(message, &number, sizeof number);
  if (!lumap_bytes_reserve(message, size)) abort();
  memset(message->data + message->size, (int)(number % 251), size);
  message->size += size;
}

static bool is_message(const lumap_bytes *message, uint64_t number, size_t size) {
  uint64_t found;
  if (message->size != sizeof number + size) return false;
  memcpy(&found, message->data, sizeof found);
  for (size_t i = sizeof number; i < message->size; i++)
    if (message->data[i] != number % 251) return false;
  return found == number;
}

/* Sizes around the ring's, now and then far beyond. */
static size_t size_of(uint64_t number) {
  uint64_t random = number * 77 + 5;
  uint64_t kind = next_random(&random) % 100;
  return next_random(&random) % (kind < 90 ? 300 : kind < 99 ? 20000 : 3000000);
}

static void messages_come_in_their_order_whatever_their_size(void) {
  lumap_memory *channel;
  lumap_bytes message = {0};
  uint64_t random = 1, sent = 0, received = 0;
  lumap_error error = {0};
  CHECK(lumap_channel_new(NULL, 50, &channel, &error) == LUMAP_E_OK, "%s", error.message);
  while (received < 4000) {
    bool sends = next_random(&random) % 2;
    lumap_status status;
    if (sends) write_message(&message, sent, size_of(sent));
    status = sends ? lumap_channel_send(channel, &message, &at_once, &error)
                   : lumap_channel_receive(channel, NULL, &message, &at_once, &error);
    if (status == LUMAP_E_TIMEOUT) {
      CHECK(sends ? sent - received == 50 : sent == received, "%d between", (int)(sent - received));
      continue;
    }
    CHECK(status == LUMAP_E_OK, "%s", error.message);
    if (sends)
      sent++;
    else
      CHECK(is_message(&message, received, size_of(received)), "message %d is damaged", (int)received);
    received += !sends;
  }
  lumap_bytes_deinit(&message);
  lumap_memory_release(channel);
}

/* Bytes of which the last page may not be touched. */
static unsigned char *trap(void) {
  unsigned char *memory = mmap(NULL, TRAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  memset(memory, 1, TRAP_BYTES);
  mprotect(memory + TRAP_BYTES - PAGE, PAGE, PROT_NONE);
  return memory;
}

/* Runs `body` in a copy of this process, which must be killed in it. */
static void dies_in(void (*body)(lumap_memory *channel, lumap_memory *other), lumap_memory *channel,
                    lumap_memory *other) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    body(channel, other);
    _exit(EXIT_SUCCESS);
  }
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "it was not killed: %d", status);
}

static void send_from_trap(lumap_memory *channel, lumap_memory *other) {
  lumap_bytes message = {.data = trap(), .size = TRAP_BYTES, .capacity = TRAP_BYTES};
  size_t unused;
  if (other) lumap_references_add(&message.references, &other->counted, &unused);
  lumap_channel_send(channel, &message, &for_ever, NULL);
}

static void receive_into_trap(lumap_memory *channel, lumap_memory *other) {
  lumap_bytes message = {.data = trap(), .capacity = TRAP_BYTES};
  (void)other;
  lumap_channel_receive(channel, NULL, &message, &for_ever, NULL);
}

static void who_is_killed_with_the_lock_leaves_a_whole_channel(void) {
  lumap_memory *channel;
  lumap_bytes message = {0};
  CHECK(lumap_channel_new(NULL, 10, &channel, NULL) == LUMAP_E_OK, "no channel");
  write_message(&message, 1, TRAP_BYTES - sizeof(uint64_t));
  CHECK(lumap_channel_send(channel, &message, &at_once, NULL) == LUMAP_E_OK, "not sent");
  for (int i = 0; i < 3; i++) {
    dies_in(send_from_trap, channel, NULL);
    CHECK_SO_FAR();
    dies_in(receive_into_trap, channel, NULL);
    CHECK_SO_FAR();
  }
  write_message(&message, 2, 100);
  CHECK(lumap_channel_send(channel, &message, &at_once, NULL) == LUMAP_E_OK, "not sent");
  CHECK(lumap_channel_receive(channel, NULL, &message, &at_once, NULL) == LUMAP_E_OK, "not received");
  CHECK(is_message(&message, 1, TRAP_BYTES - sizeof(uint64_t)), "damaged");
  CHECK(lumap_channel_receive(channel, NULL, &message, &at_once, NULL) == LUMAP_E_OK, "not received");
  CHECK(is_message(&message, 2, 100), "damaged");
  CHECK(lumap_channel_receive(channel, NULL, &message, &at_once, NULL) == LUMAP_E_TIMEOUT, "one too many");
  lumap_bytes_deinit(&message);
  lumap_memory_release(channel);
}

/* Sends a message that refers to the memory. */
static lumap_status send_memory(lumap_memory *channel, uint64_t number, lumap_memory *memory) {
  lumap_bytes message = {0};
  size_t unused;
  lumap_status status;
  write_message(&message, number, TRAP_BYTES - sizeof number);
  if (!lumap_references_add(&message.references, &memory->counted, &unused)) abort();
  status = lumap_channel_send(channel, &message, &at_once, NULL);
  lumap_bytes_deinit(&message);
  return status;
}

static void memory_stays_with_its_message(void) {
  lumap_memories *known = lumap_memories_new();
  lumap_memory *channel, *lost, *kept, *other;
  lumap_bytes message = {0};
  CHECK(lumap_channel_new(known, 10, &channel, NULL) == LUMAP_E_OK, "no channel");
  CHECK(lumap_memory_open(known, 1, "lost", &lost, NULL) == LUMAP_E_OK, "no memory");
  CHECK(lumap_memory_open(known, 1, "kept", &kept, NULL) == LUMAP_E_OK, "no memory");
  CHECK(lumap_memory_open(known, 1, "other", &other, NULL) == LUMAP_E_OK, "no memory");
  /* Its descriptors are in the pipe already. */
  dies_in(send_from_trap, channel, lost);
  CHECK_SO_FAR();
  CHECK(send_memory(channel, 1, kept) == LUMAP_E_OK, "not sent");
  dies_in(send_from_trap, channel, lost);
  CHECK_SO_FAR();
  CHECK(send_memory(channel, 2, other) == LUMAP_E_OK, "not sent");
  /* Looked at its descriptors, and did not take them. */
  dies_in(receive_into_trap, channel, NULL);
  CHECK_SO_FAR();
  CHECK(lumap_channel_receive(channel, known, &message, &at_once, NULL) == LUMAP_E_OK, "not received");
  CHECK(message.references && message.references->count == 1, "no memory came");
  CHECK(message.references->items[0] == &kept->counted, "another memory came");
  CHECK(lumap_channel_receive(channel, known, &message, &at_once, NULL) == LUMAP_E_OK, "not received");
  CHECK(message.references && message.references->items[0] == &other->counted, "another memory came");
  lumap_bytes_deinit(&message);
  lumap_memory_release(lost);
  lumap_memory_release(kept);
  lumap_memory_release(other);
  lumap_memory_release(channel);
  lumap_memories_release(known);
}

static void what_nobody_received_goes_with_the_channel(void) {
  lumap_memory *channel, *memory;
  lumap_bytes message = {0};
  size_t number;
  CHECK(lumap_channel_new(NULL, 100, &channel, NULL) == LUMAP_E_OK, "no channel");
  for (int i = 0; i < 20; i++) {
    CHECK(lumap_memory_open(NULL, 1, "one", &memory, NULL) == LUMAP_E_OK, "no memory");
    CHECK(send_memory(channel, 1, memory) == LUMAP_E_OK, "not sent");
    lumap_memory_release(memory);
  }
  /* And itself. */
  CHECK(lumap_references_add(&message.references, &channel->counted, &number), "no memory");
  CHECK(lumap_channel_send(channel, &message, &at_once, NULL) == LUMAP_E_OK, "not sent");
  lumap_bytes_deinit(&message);
  lumap_memory_release(channel);
}

static void damage_is_an_error(void) {
  lumap_memory *channel;
  lumap_bytes message = {0};
  lumap_error error = {0};
  uint64_t random = 3;
  /* Behind the lock, which is the system's; the states are where the numbers of the ring stand. */
  for (int round = 0; round < 300; round++) {
    lumap_status status;
    CHECK(lumap_channel_new(NULL, 10, &channel, NULL) == LUMAP_E_OK, "no channel");
    write_message(&message, 1, 50);
    CHECK(lumap_channel_send(channel, &message, &at_once, NULL) == LUMAP_E_OK, "not sent");
    for (uint64_t *word = (uint64_t *)(channel->data + 128); word < (uint64_t *)(channel->data + 256); word++)
      if (next_random(&random) % 4 == 0) *word = next_random(&random) << next_random(&random) % 40;
    status = lumap_channel_receive(channel, NULL, &message, &at_once, &error);
    CHECK(status == LUMAP_E_OK || status == LUMAP_E_TIMEOUT || status == LUMAP_E_PROTOCOL || status == LUMAP_E_NOMEM ||
              status == LUMAP_E_CLOSED,
          "status %d", status);
    lumap_memory_release(channel);
  }
  lumap_bytes_deinit(&message);
}

static bool says_stop(void *self) {
  return atomic_load((atomic_bool *)self);
}

typedef struct waiter {
  lumap_memory *channel;
  atomic_bool stop;
  lumap_status status;
} waiter;

static void *wait_for_message(void *argument) {
  waiter *self = argument;
  lumap_bytes message = {0};
  const lumap_channel_wait wait = {LUMAP_FOREVER, says_stop, &self->stop};
  self->status = lumap_channel_receive(self->channel, NULL, &message, &wait, NULL);
  lumap_bytes_deinit(&message);
  return NULL;
}

static void threads_wait_until_they_are_stopped_or_it_is_closed(void) {
  for (int closes = 0; closes <= 1; closes++) {
    waiter self = {0};
    pthread_t thread;
    CHECK(lumap_channel_new(NULL, 10, &self.channel, NULL) == LUMAP_E_OK, "no channel");
    CHECK(pthread_create(&thread, NULL, wait_for_message, &self) == 0, "no thread");
    if (closes)
      lumap_channel_close(self.channel);
    else
      atomic_store(&self.stop, true);
    pthread_join(thread, NULL);
    CHECK(self.status == (closes ? LUMAP_E_CLOSED : LUMAP_E_INTERRUPTED), "status %d", self.status);
    lumap_memory_release(self.channel);
  }
}

enum { SENDERS = 3, EACH = 3000 };

static void *send_many(void *argument) {
  lumap_bytes message = {0};
  lumap_status status = LUMAP_E_OK;
  for (uint64_t i = 1; i <= EACH && status == LUMAP_E_OK; i++) {
    write_message(&message, i, i % 400);
    status = lumap_channel_send(argument, &message, &for_ever, NULL);
  }
  lumap_bytes_deinit(&message);
  return NULL;
}

static void *receive_all(void *argument) {
  lumap_bytes message = {0};
  uint64_t sum = 0, number;
  while (lumap_channel_receive(argument, NULL, &message, &for_ever, NULL) == LUMAP_E_OK) {
    memcpy(&number, message.data, sizeof number);
    sum += is_message(&message, number, number % 400) ? number : 0;
  }
  lumap_bytes_deinit(&message);
  return (void *)(uintptr_t)sum;
}

static void threads_lose_no_message(void) {
  lumap_memory *channel;
  pthread_t senders[SENDERS], receivers[SENDERS];
  uint64_t sum = 0;
  CHECK(lumap_channel_new(NULL, 7, &channel, NULL) == LUMAP_E_OK, "no channel");
  for (int i = 0; i < SENDERS; i++) {
    CHECK(pthread_create(&senders[i], NULL, send_many, channel) == 0, "no thread");
    CHECK(pthread_create(&receivers[i], NULL, receive_all, channel) == 0, "no thread");
  }
  for (int i = 0; i < SENDERS; i++)
    pthread_join(senders[i], NULL);
  lumap_channel_close(channel);
  for (int i = 0; i < SENDERS; i++) {
    void *part;
    pthread_join(receivers[i], &part);
    sum += (uintptr_t)part;
  }
  CHECK(sum == (uint64_t)SENDERS * EACH * (EACH + 1) / 2, "%llu", (unsigned long long)sum);
  lumap_memory_release(channel);
}

int main(int argc, char **argv) {
#define TEST(name)                                                                                                     \
  { #name, name }
  static const check_test tests[] = {
      TEST(memory_that_comes_back_is_the_same),
      TEST(what_is_no_shared_memory_is_refused),
      TEST(memory_comes_and_goes_on_threads),
      TEST(messages_come_in_their_order_whatever_their_size),
      TEST(who_is_killed_with_the_lock_leaves_a_whole_channel),
      TEST(memory_stays_with_its_message),
      TEST(what_nobody_received_goes_with_the_channel),
      TEST(damage_is_an_error),
      TEST(threads_wait_until_they_are_stopped_or_it_is_closed),
      TEST(threads_lose_no_message),
  };
  descriptors_before = count_descriptors();
  return check_run(tests, sizeof tests / sizeof *tests, 120, nothing_stays, argc, argv);
}
