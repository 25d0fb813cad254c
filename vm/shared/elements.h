/* SPDX-License-Identifier: MIT
 *
 * elements.h - the types that a shared buffer's elements can have. Knows no Lua.
 */
#ifndef LUMAP_SHARED_ELEMENTS_H
#define LUMAP_SHARED_ELEMENTS_H

#include <stddef.h>

/* Numbers of the wire format: they stay. */
typedef enum lumap_element {
  LUMAP_ELEMENT_DOUBLE,
  LUMAP_ELEMENT_FLOAT,
  LUMAP_ELEMENT_INT8,
  LUMAP_ELEMENT_INT16,
  LUMAP_ELEMENT_INT32,
  LUMAP_ELEMENT_INT64,
  LUMAP_ELEMENT_UINT8,
  LUMAP_ELEMENT_UINT16,
  LUMAP_ELEMENT_UINT32,
  LUMAP_ELEMENT_UINT64,
  LUMAP_ELEMENT_COUNT
} lumap_element;

/* "double", "int8", as parallel.buffer takes it. */
const char *lumap_element_name(lumap_element type);
/* Bytes. */
size_t lumap_element_size(lumap_element type);

#endif
