/* SPDX-License-Identifier: MIT
 *
 * numbers.h - lists of numbers where they lie (lua/layout.h), to bytes and back. No more than one look at each number:
 * what such lists cost is the memory that they lie in.
 */
#ifndef LUMAP_LUA_NUMBERS_H
#define LUMAP_LUA_NUMBERS_H

#include "lua/layout.h"

#if LUMAP_VM_IS_LUAJIT

/* Copies values that are all doubles, as such. False when some are not: what was copied then is worth nothing. A double
 * is what is not greater than the plain NaN, as bits: so the copy may run ahead, and the compiler gets a plain sum. */
static inline bool lumap_slots_copy_doubles(const lumap_slot *list, size_t count, void *bytes) {
  uint64_t beyond = 0;
  memcpy(bytes, list, count * sizeof(double));
  for (size_t i = 0; i < count; i++)
    beyond += list[i].bits > UINT64_C(0xFFF8000000000000);
  return beyond == 0;
}

/* Pieces of so many numbers are gone through twice while they are in the cache. */
enum { LUMAP_SLOTS_A_PIECE = 512 };

static inline size_t lumap_slots_in_piece(size_t count, size_t done) {
  return count - done < LUMAP_SLOTS_A_PIECE ? count - done : LUMAP_SLOTS_A_PIECE;
}

/* Numbers that are worked on side by side; what is true of one is -1, else 0. */
typedef double lumap_lanes __attribute__((vector_size(2 * sizeof(double))));
typedef int64_t lumap_truths __attribute__((vector_size(2 * sizeof(int64_t))));
enum { LUMAP_LANES = 2 };

/* -3 for each of them that is a float: see lumap_slots_copy_floats. A sum, since the compiler takes `&` apart. */
static inline lumap_truths lumap_lanes_are_floats(lumap_lanes numbers) {
  const double most = 2251799813685248.0, rounding = 6755399441055744.0;
  lumap_lanes whole = (numbers + rounding) - rounding;
  return (numbers > -most) + (numbers < most) + (whole != numbers);
}

/* The same for values none of which may count as an integer (lumap_double_is_integer). False may also be for want of
 * certainty: about -0, what is beyond 2^51, and what is no number. Adding 1.5 * 2^52, and taking it away, rounds all
 * others to an integer. Values of other types are no numbers, as doubles. */
static inline bool lumap_slots_copy_floats(const lumap_slot *list, size_t count, void *bytes) {
  char *out = bytes;
  size_t i = 0;
  while (count - i >= LUMAP_LANES) {
    size_t end = i + lumap_slots_in_piece(count, i) / LUMAP_LANES * LUMAP_LANES;
    int64_t missing = 3 * (int64_t)(end - i);
    lumap_truths floats = {0};
    for (; i < end; i += LUMAP_LANES) {
      lumap_lanes numbers;
      memcpy(&numbers, &list[i], sizeof numbers);
      floats += lumap_lanes_are_floats(numbers);
      memcpy(out + i * sizeof(double), &numbers, sizeof numbers);
    }
    if (missing + floats[0] + floats[1] != 0) return false;
  }
  for (; i < count; i++) {
    double number = lumap_slot_double(&list[i]);
    if (lumap_lanes_are_floats((lumap_lanes){number, number})[0] != -3) return false;
    memcpy(out + i * sizeof number, &number, sizeof number);
  }
  return true;
}

/* The reverse, for any bytes: those of other NaNs, which would be values of other types, become the plain one. */
static inline void lumap_slots_set_doubles(lumap_slot *list, size_t count, const void *bytes) {
  for (size_t done = 0, piece; done < count; done += piece) {
    lumap_slot *slots = list + done;
    piece = lumap_slots_in_piece(count, done);
    memcpy(slots, (const char *)bytes + done * sizeof(double), piece * sizeof(double));
    for (size_t i = 0; i < piece; i++)
      if (slots[i].bits > UINT64_C(0xFFF8000000000000)) slots[i].bits = UINT64_C(0xFFF8000000000000);
  }
}

#else

static inline bool lumap_slots_copy_doubles(const lumap_slot *list, size_t count, void *bytes) {
  double *out = bytes;
  for (size_t i = 0; i < count; i++) {
    if (list[i].type != 0x13) return false;
    memcpy(&out[i], &list[i].value.number, sizeof *out);
  }
  return true;
}

static inline bool lumap_slots_copy_floats(const lumap_slot *list, size_t count, void *bytes) {
  return lumap_slots_copy_doubles(list, count, bytes);
}

static inline void lumap_slots_set_doubles(lumap_slot *list, size_t count, const void *bytes) {
  for (size_t i = 0; i < count; i++) {
    memcpy(&list[i].value.number, (const char *)bytes + i * sizeof(double), sizeof(double));
    list[i].type = 0x13;
  }
}

#endif

#endif
