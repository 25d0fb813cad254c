/* SPDX-License-Identifier: MIT
 *
 * numbers.h - lists of numbers where they lie (lua/layout.h), to bytes and back. No more than one look at each number:
 * what such lists cost is the memory that they lie in.
 */
#ifndef LUMAP_LUA_NUMBERS_H
#define LUMAP_LUA_NUMBERS_H

#include "lua/layout.h"

#if LUMAP_VM_IS_LUAJIT

/* Pieces of so many numbers are gone through twice while they are in the cache. */
enum { LUMAP_SLOTS_A_PIECE = 512 };

static inline size_t lumap_slots_in_piece(size_t count, size_t done) {
  return count - done < LUMAP_SLOTS_A_PIECE ? count - done : LUMAP_SLOTS_A_PIECE;
}

/* Numbers that are worked on side by side; what is true of one is -1, else 0. */
typedef double lumap_lanes __attribute__((vector_size(2 * sizeof(double))));
typedef int64_t lumap_truths __attribute__((vector_size(2 * sizeof(int64_t))));
enum { LUMAP_LANES = 2 };

/* As bits, a double is not greater than this. Other NaNs stand for values of other types. */
#define LUMAP_SLOT_NAN UINT64_C(0xFFF8000000000000)

/* Copies values. Is there a NaN among them, if they are taken for doubles? */
static inline bool lumap_copy_has_nan(void *to, const void *from, size_t count) {
  size_t i = 0, last = count - count % LUMAP_LANES;
  lumap_truths found = {0};
  for (; i < last; i += LUMAP_LANES) {
    lumap_lanes numbers;
    memcpy(&numbers, (const char *)from + i * sizeof(double), sizeof numbers);
    memcpy((char *)to + i * sizeof(double), &numbers, sizeof numbers);
    found |= numbers != numbers;
  }
  for (; i < count; i++) {
    double number;
    memcpy(&number, (const char *)from + i * sizeof number, sizeof number);
    memcpy((char *)to + i * sizeof number, &number, sizeof number);
    found[0] |= number != number;
  }
  return (found[0] | found[1]) != 0;
}

/* Copies values that are all doubles, as such. False when some are not: what was copied then is worth nothing. */
static inline bool lumap_slots_copy_doubles(const lumap_slot *list, size_t count, void *bytes) {
  for (size_t done = 0, piece; done < count; done += piece) {
    const lumap_slot *slots = list + done;
    piece = lumap_slots_in_piece(count, done);
    if (!lumap_copy_has_nan((char *)bytes + done * sizeof(double), slots, piece)) continue;
    for (size_t i = 0; i < piece; i++)
      if (slots[i].bits > LUMAP_SLOT_NAN) return false;
  }
  return true;
}

/* The same for integers, which are no values of another kind here. */
static inline bool lumap_slots_copy_integers(const lumap_slot *list, size_t count, void *bytes) {
  (void)list;
  (void)count;
  (void)bytes;
  return false;
}

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

/* Copies doubles some of which count as floats (lumap_double_is_integer); `*mixed` tells whether others may count
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
    piece = lumap_slots_in_piece(count, done);
    if (!lumap_copy_has_nan(slots, (const char *)bytes + done * sizeof(double), piece)) continue;
    for (size_t i = 0; i < piece; i++)
      if (slots[i].bits > LUMAP_SLOT_NAN) slots[i].bits = LUMAP_SLOT_NAN;
  }
}

#else

/* Copies values that are all of the type, eight bytes each. False when some are not: what was copied then is worth
 * nothing. The type is asked for once a piece, so that the rest runs without a branch. */
static inline bool lumap_slots_copy(const lumap_slot *list, size_t count, void *bytes, unsigned type) {
  enum { PIECE = 64 };
  unsigned others = 0;
  for (size_t done = 0; done < count && !others;) {
    size_t end = count - done < PIECE ? count : done + PIECE;
    for (; done < end; done++) {
      memcpy((char *)bytes + done * sizeof list->value, &list[done].value, sizeof list->value);
      others |= list[done].type ^ type;
    }
  }
  return !others;
}

static inline bool lumap_slots_copy_doubles(const lumap_slot *list, size_t count, void *bytes) {
  return lumap_slots_copy(list, count, bytes, 0x13);
}

static inline bool lumap_slots_copy_integers(const lumap_slot *list, size_t count, void *bytes) {
  return lumap_slots_copy(list, count, bytes, 0x03);
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
