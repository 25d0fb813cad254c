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

/* Numbers that are worked on side by side; what is true of one is -1, else 0. */
typedef double lumap_lanes __attribute__((vector_size(2 * sizeof(double))));
typedef int64_t lumap_truths __attribute__((vector_size(2 * sizeof(int64_t))));
enum { LUMAP_LANES = 2 };

/* What is known of some numbers: -2 for each that is certain, -1 for each that is a float. Sums, since the compiler
 * takes `&` apart. */
typedef struct lumap_tally {
  lumap_truths certain, floats;
} lumap_tally;

/* Adding 1.5 * 2^52, and taking it away, rounds what is below 2^51 to an integer. Values of other types are no numbers,
 * as doubles. */
static inline void lumap_tally_add(lumap_tally *tally, lumap_lanes numbers) {
  const double most = 2251799813685248.0, rounding = 6755399441055744.0;
  lumap_lanes whole = (numbers + rounding) - rounding;
  tally->certain += (numbers > -most) + (numbers < most);
  tally->floats += whole != numbers;
}

/* The same for values some of which count as floats (lumap_double_is_integer); `*mixed` tells whether others may count
 * as integers, or be -0. False may also be for want of certainty: about what is beyond 2^51 or no number, and where the
 * first ones are all integers. */
static inline bool lumap_slots_copy_floats(const lumap_slot *list, size_t count, void *bytes, bool *mixed) {
  lumap_tally tally = {{0}, {0}};
  char *out = bytes;
  size_t i = 0, end = 4 * LUMAP_LANES;
  for (; count - i >= LUMAP_LANES; end = i + LUMAP_SLOTS_A_PIECE) {
    if (end > count) end = count / LUMAP_LANES * LUMAP_LANES;
    for (; i < end; i += LUMAP_LANES) {
      lumap_lanes numbers;
      memcpy(&numbers, &list[i], sizeof numbers);
      lumap_tally_add(&tally, numbers);
      memcpy(out + i * sizeof(double), &numbers, sizeof numbers);
    }
    if (tally.certain[0] + tally.certain[1] != -2 * (int64_t)i || tally.floats[0] + tally.floats[1] == 0) return false;
  }
  if (i < count) {
    /* The last one, beside one that is known. */
    lumap_lanes numbers = {lumap_slot_double(&list[i]), 0.5};
    lumap_tally_add(&tally, numbers);
    tally.certain[1] += 2;
    tally.floats[1] += 1;
    memcpy(out + i * sizeof(double), &list[i], sizeof(double));
  }
  *mixed = tally.floats[0] + tally.floats[1] != -(int64_t)count;
  return tally.certain[0] + tally.certain[1] == -2 * (int64_t)count;
}

/* The reverse, for any bytes: those of other NaNs, which would be values of other types, become the plain one. */
static inline void lumap_slots_set_doubles(lumap_slot *list, size_t count, const void *bytes) {
  for (size_t done = 0, piece; done < count; done += piece) {
    lumap_slot *slots = list + done;
    piece = count - done < LUMAP_SLOTS_A_PIECE ? count - done : LUMAP_SLOTS_A_PIECE;
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

static inline bool lumap_slots_copy_floats(const lumap_slot *list, size_t count, void *bytes, bool *mixed) {
  *mixed = false;
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
