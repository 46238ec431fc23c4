"""What a tool's own memory is for each block that is alive.

    python bench/blocks/run.py [--python PATH] [--runs N] [--tools none,memheft,tracemalloc] [--json OUT]

Method. `holder.py` keeps a number of blocks of one requested size alive. Its peak resident memory under a
tool less that of the bare run is the tool's; less the same difference for a program that holds no block, the
fixed cost, and divided by the number of blocks, it is the cost of a live block. Peaks are exact
(`bench/measure.py`), so a table that doubles is counted with both copies. Medians over interleaved runs.

The rows are sizes that pymalloc serves (to 512 bytes) and sizes that it passes on to malloc.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.measure import run
from bench.tables import MIB, Table, plain
from bench.tools import NONE, TOOLS

HOLDER = Path(__file__).resolve().parent / "holder.py"
LIMIT = 300.0
BAR_BLOCK = 20.0
BAR_FIXED = 4.0


@dataclass(frozen=True)
class Row:
    """One kind of block."""

    size: int
    count: int

    @property
    def name(self) -> str:
        return f"{self.size} B"


FIXED = Row(16, 0)
ROWS = (
    Row(16, 2_000_000),
    Row(24, 2_000_000),
    Row(48, 2_000_000),
    Row(64, 1_000_000),
    Row(128, 1_000_000),
    Row(256, 500_000),
    Row(512, 500_000),
    Row(1024, 200_000),
    Row(4096, 100_000),
)


def peak(python: str, tool: str, row: Row) -> int:
    """Bytes resident at most; a run that fails ends the whole bench."""
    with tempfile.TemporaryDirectory() as folder:
        script = [str(HOLDER), str(row.size), str(row.count)]
        command = TOOLS[tool].command(python, Path(folder, "recording"), script)
        usage = run(command, folder=Path(folder), limit=LIMIT)
    if usage.failure is not None:
        sys.exit(f"blocks: {row.name} under {tool}: {usage.failure}")
    return usage.peak_rss


def extra(python: str, tools: list[str], row: Row, runs: int) -> dict[str, float]:
    """Bytes that each tool adds to a row, median over interleaved runs."""
    differences: dict[str, list[int]] = {tool: [] for tool in tools}
    for _ in range(runs):
        bare = peak(python, NONE, row)
        for tool in tools:
            differences[tool].append(peak(python, tool, row) - bare)
    return {tool: statistics.median(values) for tool, values in differences.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bytes of a tool's memory per live block.")
    parser.add_argument("--python", default=sys.executable, help="interpreter whose venv has the tools")
    parser.add_argument("--runs", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--tools", default="memheft,tracemalloc", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    unknown = [tool for tool in options.tools.split(",") if tool not in TOOLS]
    if unknown:
        parser.error(f"unknown tool {unknown[0]!r}: known are {', '.join(TOOLS)}")
    return options


def main() -> int:
    options = parse()
    python = options.python
    tools = []
    for tool in options.tools.split(","):
        package = TOOLS[tool].package
        found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        if package and subprocess.run([python, "-c", found], check=False).returncode:
            print(f"{tool}: not measured: {package} is not installed for {python}", file=sys.stderr)
        elif tool != NONE:
            tools.append(tool)

    fixed = extra(python, tools, FIXED, max(options.runs, 5))
    figures = {row.name: extra(python, tools, row, options.runs) for row in ROWS}
    table: Table = [["block", "count", *tools]]
    table.append(["none: fixed MiB", "0", *(f"{fixed[tool] / MIB:.2f}" for tool in tools)])
    per_block: dict[str, dict[str, float]] = {}
    for row in ROWS:
        cost = {tool: (figures[row.name][tool] - fixed[tool]) / row.count for tool in tools}
        per_block[row.name] = cost
        table.append([f"{row.name}: B per block", str(row.count), *(f"{cost[tool]:.1f}" for tool in tools)])
    print(plain(table))
    print(f"bar: at most {BAR_BLOCK:.0f} B per live block and {BAR_FIXED:.0f} MB fixed")
    if options.json:
        document = {"fixed_bytes": fixed, "bytes_per_block": per_block}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
