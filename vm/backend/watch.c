/* SPDX-License-Identifier: MIT */
#include "backend/watch.h"

#include "os/os.h"

#define NS_PER_MS UINT64_C(1000000)

/* An item over its time is found that share of it too late at most. */
enum { LOOKS_A_TIMEOUT = 8 };
/* Looks closer together would cost more than the items that they are for; a wait that is longer than this would be
 * felt, however long the timeout is. */
#define SHORTEST_INTERVAL_NS (1 * NS_PER_MS)
#define LONGEST_INTERVAL_NS (50 * NS_PER_MS)

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

uint64_t lumap_watch_interval(const lumap_call *call) {
  uint64_t interval = call->timeout_ns / LOOKS_A_TIMEOUT;
  if (!call->timeout_ns || interval > LONGEST_INTERVAL_NS) return LONGEST_INTERVAL_NS;
  return interval < SHORTEST_INTERVAL_NS ? SHORTEST_INTERVAL_NS : interval;
}

lumap_verdict lumap_watch_look(lumap_watch *watch, const lumap_call *call, uint64_t run, uint64_t index,
                               uint64_t now_ns, uint64_t *next_ns) {
  bool same = watch->run == run && watch->index == index;
  *next_ns = LUMAP_FOREVER;
  if (!same) *watch = (lumap_watch){run, index, now_ns};
  if (call->deadline_ns) {
    if (now_ns >= call->deadline_ns) return LUMAP_OVER_DEADLINE;
    *next_ns = call->deadline_ns;
  }
  if (!call->timeout_ns) return LUMAP_WITHIN_LIMITS;
  /* What comes before the first item, such as loading modules, is no item. */
  if (same && index && now_ns - watch->since_ns >= call->timeout_ns) return LUMAP_OVER_TIMEOUT;
  *next_ns = earlier(*next_ns, now_ns + lumap_watch_interval(call));
  if (index) *next_ns = earlier(*next_ns, watch->since_ns + call->timeout_ns);
  return LUMAP_WITHIN_LIMITS;
}
