# SPDX-License-Identifier: MIT
"""The sides of Python's standard library: a Pool of processes, a Pool of threads, an executor of concurrent.futures.

    python3 python.py CASE SIZE WORKERS pool|threads|futures

Answers "about" and "turn" as side.lua does. Chunks are those that Pool.map chooses, for the executor as well.
"""

import concurrent.futures
import gc
import math
import multiprocessing
import multiprocessing.dummy
import os
import platform
import re
import subprocess
import sys
import time
from array import array
from multiprocessing import shared_memory


class Executor:
    """concurrent.futures behind the methods of a Pool."""

    def __init__(self, workers):
        self.workers = workers
        self.executor = concurrent.futures.ProcessPoolExecutor(workers)

    def map(self, fn, items, chunksize=None):
        return list(self.executor.map(fn, items, chunksize=chunksize or math.ceil(len(items) / self.workers / 4)))

    def close(self):
        self.executor.shutdown()

    def join(self):
        pass

    terminate = close


OPEN = {"pool": multiprocessing.Pool, "threads": multiprocessing.dummy.Pool, "futures": Executor}


# ---- what is mapped: the functions of the workloads in Python --------------------------------------------------------


def square(x):
    return x * x


def row(imaginary):
    total = 0
    for x in range(600):
        real = x * (3 / 600) - 2.25
        zr, zi, steps = 0.0, 0.0, 0
        while steps < 255 and zr * zr + zi * zi <= 4:
            zr, zi = zr * zr - zi * zi + real, 2 * zr * zi + imaginary
            steps += 1
        total += steps
    return total


class Body:
    __slots__ = ("x", "y", "z", "vx", "vy", "vz", "mass")

    def __init__(self, draw):
        self.x, self.y, self.z = draw() * 10, draw() * 10, draw() * 10
        self.vx, self.vy, self.vz = draw() - 0.5, draw() - 0.5, draw() - 0.5
        self.mass = draw() + 0.5


def ensemble(seed):
    state = seed * 7919 + 1

    def draw():
        nonlocal state
        state = state * 48271 % 2147483647
        return state / 2147483647

    return [Body(draw) for _ in range(5)]


def attract(a, b, dt=0.001, sqrt=math.sqrt):
    dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
    d2 = dx * dx + dy * dy + dz * dz + 0.01
    pull = dt / (d2 * sqrt(d2))
    of_a, of_b = a.mass * pull, b.mass * pull
    a.vx -= dx * of_b
    a.vy -= dy * of_b
    a.vz -= dz * of_b
    b.vx += dx * of_a
    b.vy += dy * of_a
    b.vz += dz * of_a


def energy(bodies):
    total = 0
    for i, a in enumerate(bodies):
        total += a.mass * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz) / 2
        for b in bodies[i + 1 :]:
            dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
            total -= a.mass * b.mass / math.sqrt(dx * dx + dy * dy + dz * dz)
    return total


def simulate(seed):
    bodies = ensemble(seed)
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1 :]]
    for _ in range(1000):
        for a, b in pairs:
            attract(a, b)
        for body in bodies:
            body.x += 0.001 * body.vx
            body.y += 0.001 * body.vy
            body.z += 0.001 * body.vz
    return energy(bodies)


WORD = re.compile("[A-Za-z]+")


def count(path):
    counts = {}
    with open(path, encoding="latin-1") as file:
        for word in WORD.findall(file.read()):
            word = word.lower()
            counts[word] = counts.get(word, 0) + 1
    return counts


def same(value):
    return value


def work(weight):
    x = 1
    for _ in range(weight * 300):
        x = x * 16807 % 2147483647
    return x


def nap(i):
    time.sleep(0.05)
    return i


# ---- items, and one number for the results, as the workloads make them -----------------------------------------------


def weighted(results):
    return sum(y % 65521 * ((i + 1) % 7) for i, y in enumerate(results))


def by_seven(results):
    return sum(y * ((i + 1) % 7) for i, y in enumerate(results))


def by_index(results):
    return sum(y * (i + 1) for i, y in enumerate(results))


def one_to(n):
    return list(range(1, n + 1))


def paths(n):
    command = "find /usr/include/linux -type f -name '*.h' | LC_ALL=C sort | head -n %d" % n
    return subprocess.check_output(["sh", "-c", command], text=True).splitlines()


def add_up(results):
    total = {}
    for counts in results:
        for word, times in counts.items():
            total[word] = total.get(word, 0) + times
    return total


def check_words(total):
    return sum(times * len(word) for word, times in total.items()) * 1000000 + len(total)


def strings(n):
    return [b"%010d" % i + b"0123456789" * 99999 for i in range(1, n + 1)]


def check_strings(results):
    return sum((int(text[:10]) + text[-1]) * len(text) for text in results)


def lists(n):
    return [[i + k / 8 for k in range(1, 1001)] for i in range(1, n + 1)]


def check_lists(results):
    return sum(len(v) + v[0] + v[499] * 2 + v[999] * ((i + 1) % 7) for i, v in enumerate(results))


def records(n):
    return [
        {"id": i, "name": "name%06d" % i, "score": i / 8, "tags": ["tag%d" % (i % k) for k in (10, 7, 3)]}
        for i in range(1, n + 1)
    ]


def check_records(results):
    return sum(
        r["id"] + r["score"] * ((i + 1) % 7) + int(r["name"][4:]) + ord(r["tags"][2][-1]) for i, r in enumerate(results)
    )


def scattered(n):
    items, state = [], 11
    for _ in range(n):
        state = state * 48271 % 2147483647
        items.append(1000 if state % 1000 == 0 else 1)
    return items


# ---- cases -----------------------------------------------------------------------------------------------------------


def mapping(fn, make, check, chunksize=None, finish=None):
    """A case that is one call of map on a pool that was there before."""

    def opened(size, workers, open_pool):
        items, pool = make(size), open_pool(workers)

        def run():
            results = pool.map(fn, items, chunksize)
            return finish(results) if finish else results

        return run, check

    return opened


def pools(size, workers, open_pool):
    """Opened, used and closed, as often as size says."""

    def run():
        for _ in range(size):
            pool = open_pool(workers)
            results = pool.map(square, one_to(10))
            pool.close()
            pool.join()
        return results

    return run, by_index


def sleepers(size, _, open_pool):
    def run():
        pool = open_pool(max(1, size // 2))
        results = pool.map(nap, one_to(size), 1)
        pool.close()
        pool.join()
        return results

    return run, by_seven


def calls(size, workers, open_pool):
    items, pool = one_to(100), open_pool(workers)

    def run():
        for _ in range(size):
            results = pool.map(square, items)
        return results

    return run, by_index


def part_of(part):
    """Sums a part of the shared memory of that name; a process keeps it open from one turn to the next."""
    name, first, last = part
    block = blocks.get(name)
    if block is None:
        block = blocks[name] = shared_memory.SharedMemory(name)
    with memoryview(block.buf).cast("d") as doubles, doubles[first:last] as mine:
        return sum(mine)


blocks = {}


def shared_sum(size, workers, open_pool):
    block = shared_memory.SharedMemory(create=True, size=size * 8)
    block.buf[: size * 8] = array("d", [i % 1000 for i in range(1, size + 1)]).tobytes()
    blocks[block.name] = block
    pool = open_pool(workers)
    block.unlink()
    parts = [(block.name, size * i // workers, size * (i + 1) // workers) for i in range(workers)]
    return lambda: sum(pool.map(part_of, parts, 1)), same


CASES = {
    "squares.list": mapping(square, one_to, weighted),
    "squares.range": mapping(square, lambda n: range(1, n + 1), weighted),
    "squares.single": mapping(square, one_to, weighted, 1),
    "mandelbrot.rows": mapping(row, lambda n: [y * (2.4 / n) - 1.2 for y in range(n)], by_seven),
    "bodies.ensembles": mapping(simulate, one_to, by_index, 1),
    "words.headers": mapping(count, paths, check_words, None, add_up),
    "payloads.strings": mapping(same, strings, check_strings),
    "payloads.lists": mapping(same, lists, check_lists),
    "payloads.sums": mapping(sum, lists, by_seven),
    "payloads.records": mapping(same, records, check_records),
    "uneven.scattered": mapping(work, scattered, by_seven),
    "start.pool": pools,
    "sleepers.hundred": sleepers,
    "sleepers.thousand": sleepers,
    "calls.small": calls,
    "sum.array": shared_sum,
}


def turn(run, check):
    gc.collect()
    start = time.perf_counter()
    results = run()
    seconds = time.perf_counter() - start
    return "seconds=%.17g check=%.17g" % (seconds, check(results))


def main(case, size, workers, kind):
    opened = []

    def open_pool(workers):
        opened[:] = [OPEN[kind](workers)]
        return opened[0]

    run, check = CASES[case](int(size), int(workers), open_pool)
    for request in sys.stdin:
        if request == "turn\n":
            print(turn(run, check), flush=True)
        else:
            print("pid=%d version=Python %s" % (os.getpid(), platform.python_version()), flush=True)
    for pool in opened:
        pool.terminate()
        pool.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
