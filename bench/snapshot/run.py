"""What a snapshot of a running recording costs: how long it takes, how long others stand still, its memory.

    python bench/snapshot/run.py [--python PATH] [--times N] [--json OUT]

Method. A program with about 1,000, 50,000 and 250,000 call paths takes a snapshot many times (taker.py).
First alone: the time of the call. Then beside a thread that reads the clock all the time: how long that
thread stood still at most while a snapshot was taken, and, as the noise of the machine, in as many pauses
without one. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.measure import environment
from bench.tables import MIB, Table, plain

PATHS = (1_000, 50_000, 250_000)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cost of a snapshot of a running recording.")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has memheft")
    parser.add_argument("--times", type=int, default=50, help="snapshots of each size (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> int:
    options = parse()
    table: Table = [["nodes", "memory MiB", "bytes a node", "call ms", "others stand still ms", "without ms"]]
    figures = []
    for paths in PATHS:
        words = [options.python, str(Path(__file__).with_name("taker.py")), str(paths), str(options.times)]
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"snapshot: {paths} paths: exit {done.returncode}: {done.stderr.strip()}")
        taken = json.loads(done.stdout)
        nodes, size = taken["counts"]["nodes"], taken["bytes"]
        call, stop, quiet = (statistics.median(taken[name]) / 1e6 for name in ("calls", "stops", "quiet"))
        figures.append({"nodes": nodes, "bytes": size, "call_ms": call, "stop_ms": stop, "quiet_ms": quiet})
        table.append(
            [
                str(nodes),
                f"{size / MIB:.2f}",
                f"{size / nodes:.0f}",
                f"{call:.2f}",
                f"{stop:.2f}",
                f"{quiet:.2f}",
            ]
        )
    print(f"medians of {options.times} snapshots")
    print(plain(table))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
