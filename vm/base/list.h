/* SPDX-License-Identifier: MIT
 *
 * list.h - intrusive first-in first-out list. The caller's lock; nodes are the caller's memory.
 */
#ifndef LUMAP_BASE_LIST_H
#define LUMAP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lumap_link {
  struct lumap_link *next;
} lumap_link;

typedef struct lumap_list {
  lumap_link *first, *last;
} lumap_list;

#define LUMAP_OWNER(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

static inline bool lumap_list_is_empty(const lumap_list *list) {
  return !list->first;
}

static inline void lumap_list_push(lumap_list *list, lumap_link *link) {
  link->next = NULL;
  if (list->last)
    list->last->next = link;
  else
    list->first = link;
  list->last = link;
}

/* Puts `link` at the front: work that comes back goes out first. */
static inline void lumap_list_push_front(lumap_list *list, lumap_link *link) {
  link->next = list->first;
  list->first = link;
  if (!list->last) list->last = link;
}

/* NULL when empty. */
static inline lumap_link *lumap_list_pop(lumap_list *list) {
  lumap_link *link = list->first;
  if (!link) return NULL;
  list->first = link->next;
  if (!list->first) list->last = NULL;
  return link;
}

/* Takes the whole list, which is empty afterwards. */
static inline lumap_link *lumap_list_take(lumap_list *list) {
  lumap_link *link = list->first;
  list->first = list->last = NULL;
  return link;
}

#endif
