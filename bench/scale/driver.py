"""The program that bench/scale measures: allocations and little else, timed from inside.

    driver.py OUT blocks SIZE COUNT      keep COUNT blocks of SIZE requested bytes alive
    driver.py OUT threads COUNT          COUNT threads replace blocks of 16 bytes, all at the same time

The loops run in C (itertools feeding a deque), so that a block costs little more than the allocator takes. A
deque has no table that doubles; its own blocks are one request for each 64 of ours. OUT gets JSON: CPU time
of the process in nanoseconds for each block, by phase.

Phases of `blocks`: allocate COUNT blocks; replace blocks, the oldest first, COUNT staying alive; free all.
Before the replacing the order is changed so that blocks that follow each other lie some pages apart: a
program that has run for long frees in another order than it allocated. Small counts are repeated, so that
there is something to time.
"""

import gc
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat, starmap
from math import isqrt
from pathlib import Path

LEAST = 2_000_000
"""Blocks that each phase makes at least."""

SHARED = 6_400_000
"""Blocks that all threads make together."""

AT_ONCE = 100
"""Blocks of a thread that live at a time, and that it makes between two chances to be switched."""


def maker(size: int, count: int) -> Iterator[object]:
    """Objects of one block of `size` bytes each, of types without collector and free list."""
    if size == 16:
        return starmap(object, repeat((), count))
    if size == 32:
        return map(complex, repeat(1.5, count))
    length = size - sys.getsizeof(b"")
    return map(bytes, repeat(length, count))


def blocks(size: int, count: int) -> dict[str, float]:
    assert sys.getsizeof(next(maker(size, 1))) == size
    if count == 0:
        return {}
    clock = time.process_time_ns
    kept: deque[object] = deque(maxlen=count)
    rounds = max(1, LEAST // count)
    allocating = freeing = 0
    for left in reversed(range(rounds)):
        began = clock()
        kept.extend(maker(size, count))
        allocated = clock()
        allocating += allocated - began
        if left:
            kept.clear()
            freeing += clock() - allocated

    order = list(kept)
    kept.clear()
    step = isqrt(count)
    kept.extend(chain.from_iterable(order[start::step] for start in range(step)))
    del order

    began = clock()
    kept.extend(maker(size, LEAST))
    replaced = clock()
    assert len(kept) == count
    kept.clear()
    freeing += clock() - replaced
    return {
        "allocate": allocating / (rounds * count),
        "replace": (replaced - began) / LEAST,
        "free": freeing / (rounds * count),
    }


def work(rounds: int) -> None:
    kept: deque[object] = deque(maxlen=AT_ONCE)
    for _ in range(rounds):
        kept.extend(maker(16, AT_ONCE))


def threads(count: int) -> dict[str, float]:
    gate = threading.Barrier(count + 1)
    rounds = SHARED // count // AT_ONCE

    def body() -> None:
        gate.wait()
        work(rounds)

    workers = [threading.Thread(target=body) for _ in range(count)]
    for worker in workers:
        worker.start()
    began = time.process_time_ns()
    gate.wait()
    for worker in workers:
        worker.join()
    return {"replace": (time.process_time_ns() - began) / (rounds * count * AT_ONCE)}


def main() -> None:
    out, what, *numbers = sys.argv[1:]
    gc.disable()
    figures = threads(int(numbers[0])) if what == "threads" else blocks(int(numbers[0]), int(numbers[1]))
    Path(out).write_text(json.dumps(figures), encoding="utf-8")


main()
