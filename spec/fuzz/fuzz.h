/* SPDX-License-Identifier: MIT
 *
 * fuzz.h - what the fuzz targets share: inputs as heap blocks of their exact size, so that AddressSanitizer sees a read
 * beyond them; and for the targets that have a VM, a furnished state in which hostile bytes can do no harm.
 *
 * A finding is an abort: libFuzzer then saves the input. Targets are single-threaded programs, so state here is static.
 */
#ifndef LUMAP_SPEC_FUZZ_FUZZ_H
#define LUMAP_SPEC_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Prints what is wrong and aborts. */
_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A block of `size` bytes, never NULL; the caller frees it. */
void *fuzz_copy(const void *data, size_t size);

#endif
