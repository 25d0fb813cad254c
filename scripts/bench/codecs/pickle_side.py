# SPDX-License-Identifier: MIT
"""The side of Python's pickle: what turn.lua does for the codecs inside the VM, step by step.

Only the originals are not made anew for each turn: Python does not look strings up among those that live.

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


def encode_all(row):
    messages, seconds = [], 0.0
    gc.collect()
    for value in row.messages:
        start = time.process_time()
        for _ in range(row.times):
            message = pickle.dumps(value, PROTOCOL)
        seconds += time.process_time() - start
        messages.append(message)
    return messages, seconds


def decode_all(row, messages):
    copy, seconds = None, 0.0
    gc.collect()
    for value, message in zip(row.messages, messages):
        start = time.process_time()
        # What the message before left is freed here, as Lua's collector frees it while others are decoded.
        copy = None
        for _ in range(row.times):
            copy = pickle.loads(message)
        seconds += time.process_time() - start
        if not row.check(value, copy):
            sys.exit("pickle: what was decoded is not what was encoded")
    return seconds


def turn(row):
    messages, encode = encode_all(row)
    return encode, decode_all(row, messages), sum(map(len, messages))


def main(name, scale):
    row = data.ROWS[name](float(scale))
    for request in sys.stdin:
        if request == "data\n":
            print(platform.python_version(), data.digest(row.content, 0), row.elements, flush=True)
        else:
            print(*turn(row), flush=True)


main(*sys.argv[1:])
