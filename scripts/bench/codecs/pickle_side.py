# SPDX-License-Identifier: MIT
"""The side of Python's pickle: what turn.lua does for the codecs inside the VM, step by step.

    python3 pickle_side.py ROW SCALE

Answers each line of input with a line: "data" with its version, the digest of its data and the number of elements,
"turn" with the seconds of encoding, those of decoding, and the bytes.
"""

import gc
import pickle
import platform
import sys
import time

import data

PROTOCOL = 5


def encoded(row, value):
    start = time.perf_counter()
    for _ in range(row.times):
        message = pickle.dumps(value, PROTOCOL)
    return message, time.perf_counter() - start


def turn(row):
    encode, decode, size = 0.0, 0.0, 0
    copy = None
    gc.collect()
    for value in row.messages:
        message, seconds = encoded(row, value)
        encode += seconds
        if len(row.messages) == 1:
            gc.collect()
        start = time.perf_counter()
        # What the message before left is freed here, as Lua's collector frees it while others are decoded.
        copy = None
        for _ in range(row.times):
            copy = pickle.loads(message)
        decode += time.perf_counter() - start
        size += len(message)
        if not row.check(value, copy):
            sys.exit("pickle: what was decoded is not what was encoded")
    return encode, decode, size


def main(name, scale):
    row = data.ROWS[name](float(scale))
    for request in sys.stdin:
        if request == "data\n":
            print(platform.python_version(), row.digest, row.elements, flush=True)
        else:
            print(*turn(row), flush=True)


main(*sys.argv[1:])
