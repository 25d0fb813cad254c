/* SPDX-License-Identifier: MIT
 *
 * state.h - a furnished state for fuzz targets: its memory is counted, what could harm the machine is taken out of it,
 * and the codec's bytecode does not reach the VM unless the target says so.
 */
#ifndef LUMAP_SPEC_FUZZ_STATE_H
#define LUMAP_SPEC_FUZZ_STATE_H

#include "fuzz.h"
#include "codec/names.h"
#include "runtime/runtime.h"

/* What becomes of bytecode that the codec wants loaded. A checksum finds damage, not malice, and the fuzzer does find
 * out how to make a right one. */
typedef enum fuzz_code {
  FUZZ_CODE_NEVER,    /* a finding: a plain decode */
  FUZZ_CODE_STAND_IN, /* a function of ours takes its place; its first byte says which */
  FUZZ_CODE_GENUINE   /* is loaded: nobody but ourselves wrote it */
} fuzz_code;

extern fuzz_code fuzz_code_policy;

/* Opens a state whose runtime has `executor`. */
lua_State *fuzz_open(const lumap_executor *executor);

/* Runs `source` (called `name`) with `arguments` values from the top of the stack, leaves `results`. Its globals are a
 * copy of the state's as it was opened, and `graphs`, which is spec/support/graphs.lua. */
void fuzz_run(lua_State *L, const char *name, const char *source, int arguments, int results);

/* Takes everything out of the state that reaches files, processes, the VM's inside, or Lumap's own. A message may name
 * whatever is left, and make it a metamethod. */
void fuzz_disarm(lua_State *L);

/* Calls the function below its `arguments` as lua_pcall does, for an input of `size` bytes. Findings: more memory than
 * a small multiple of the input, a collector that does not run (or stand still) afterwards as it did before. */
int fuzz_call(lua_State *L, int arguments, int results, size_t size);

/* Between two inputs: cuts the stack to `kept` values, and now and then collects what the last inputs left. */
void fuzz_rest(lua_State *L, int kept);

#endif
