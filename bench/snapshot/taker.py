"""Take snapshots of a recording of about so many call paths; prints what that cost, as JSON.

python taker.py PATHS TIMES. While they are taken another thread reads the clock as fast as it can: the
longest time between two of its readings is how long it stood still. Threads take turns quickly, so that this
is the snapshot's doing and not the interpreter's.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import memheft

PAUSE = 0.02  # seconds between two snapshots


def program(paths: int) -> str:
    """Three levels of functions: each line calls the next one, and each line of the last keeps a block."""
    lines = round(paths ** (1 / 3))
    text = []
    for level, call in enumerate(("f1()", "f2()", "keep(bytes(40))")):
        text += [f"def f{level}():"] + [f"    {call}"] * lines
    return "\n".join(text)


class Watcher(threading.Thread):
    """Notices when this thread does not run."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0
        self.over = False

    def run(self) -> None:
        clock = time.perf_counter_ns
        last = clock()
        while not self.over:
            now = clock()
            if now - last > self.longest:
                self.longest = now - last
            last = now

    def take(self) -> int:
        longest, self.longest = self.longest, 0
        return longest


def main() -> None:
    paths, times = int(sys.argv[1]), int(sys.argv[2])
    sys.setswitchinterval(20e-6)
    calls, stops, quiet = [], [], []
    with memheft.record() as recording:
        kept: list[bytes] = []
        space = {"keep": kept.append}
        exec(program(paths), space)
        space["f0"]()
        for _ in range(times):
            began = time.perf_counter_ns()
            recording.snapshot()
            calls.append(time.perf_counter_ns() - began)
        watcher = Watcher()
        watcher.start()
        for _ in range(times):
            watcher.take()
            time.sleep(PAUSE)
            quiet.append(watcher.take())
            recording.snapshot()
            stops.append(watcher.take())
        watcher.over = True
        watcher.join()
        last = recording.snapshot()
    document = last.to_dict()
    counts, size = document["counts"], document["file_bytes"]
    json.dump({"counts": counts, "bytes": size, "calls": calls, "stops": stops, "quiet": quiet}, sys.stdout)


if __name__ == "__main__":
    main()
