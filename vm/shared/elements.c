/* SPDX-License-Identifier: MIT */
#include "shared/elements.h"

static const struct {
  const char *name;
  size_t size;
} elements[LUMAP_ELEMENT_COUNT] = {
    [LUMAP_ELEMENT_DOUBLE] = {"double", 8}, [LUMAP_ELEMENT_FLOAT] = {"float", 4},
    [LUMAP_ELEMENT_INT8] = {"int8", 1},     [LUMAP_ELEMENT_INT16] = {"int16", 2},
    [LUMAP_ELEMENT_INT32] = {"int32", 4},   [LUMAP_ELEMENT_INT64] = {"int64", 8},
    [LUMAP_ELEMENT_UINT8] = {"uint8", 1},   [LUMAP_ELEMENT_UINT16] = {"uint16", 2},
    [LUMAP_ELEMENT_UINT32] = {"uint32", 4}, [LUMAP_ELEMENT_UINT64] = {"uint64", 8},
};

const char *lumap_element_name(lumap_element type) {
  return elements[type].name;
}

size_t lumap_element_size(lumap_element type) {
  return elements[type].size;
}
