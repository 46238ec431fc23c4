"""What a tool costs for each block, in time and in memory, as live blocks and threads become more.

    python bench/scale/run.py [--python PATH] [--runs N] [--peer-runs N] [--only PATTERN] [--tools LIST]
                              [--json OUT] [--markdown OUT]

Method. `driver.py` makes blocks in loops that run in C and times them from inside, in CPU time of its
process; its peak resident memory is read from outside (`bench/measure.py`). Each row of the tables is one
argument of that program, each cell one process. Tools take turns within a repetition, their order turned by
one from repetition to repetition; a figure is the median of the differences to the bare run of the same
repetition. Three groups:

* counts: blocks of 16 bytes, 1,000 to 50 million alive, and blocks of 1 KiB, which pymalloc passes on;
* sizes: other sizes, at as many blocks as make the memory of each show;
* threads: 1 to 64 threads, all at work on blocks of 16 bytes. CPython lets one of them run at a time, so that
  CPU time for a block would stay the same if threads cost nothing.

Memory of a block is what the tool adds to the peak, less what it adds to a program that keeps no block (its
fixed cost), divided by the blocks; that of a thread, likewise with one thread in place of none. Peaks are
exact, so a table that doubles counts with both copies. Where blocks or threads are few, the division would
only show noise: it is left out.

A run that may need more memory than the machine has to give is not started; one that takes more than --limit
seconds is stopped, and that tool gets no larger count. Both stand in the tables as such. Exit code 1 says
that a run of memheft or a bare one failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import options as common
from bench import subject
from bench.measure import Usage, run
from bench.tables import MIB, Table, markdown, plain
from bench.tools import NONE, TOOLS, chosen, is_peer

DRIVER = Path(__file__).resolve().parent / "driver.py"
TOOLS_BY_DEFAULT = "memheft,memheft-sample,tracemalloc,memray-aggregate"
BAR_BLOCK = 20
BAR_FIXED = 4

ENOUGH_BLOCKS = 100_000
ENOUGH_THREADS = 8
"""From which on the memory of one can be told from noise."""

LIST_BYTES = 32
"""What the driver itself needs for each block besides it."""

GUESSED_BYTES = 200
"""A tool's memory for each block before one was measured."""


@dataclass(frozen=True)
class Row:
    """One argument of the driver."""

    group: str
    size: int
    count: int

    @property
    def name(self) -> str:
        if self.group == "threads":
            return f"{self.count} thread{'s' * (self.count > 1)}"
        if self.count == 0:
            return "no block"
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KiB"
        return f"{short(self.count)} of {size}"

    @property
    def words(self) -> list[str]:
        if self.group == "threads":
            return ["threads", str(self.count)]
        return ["blocks", str(self.size), str(self.count)]


def short(count: int) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return str(count)


EMPTY = Row("fixed", 16, 0)
ONE_THREAD = Row("threads", 16, 1)
ROWS = (
    EMPTY,
    *(Row("counts", 16, count) for count in (1000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)),
    *(Row("counts", 1024, count) for count in (10_000, 100_000, 1_000_000)),
    Row("sizes", 32, 2_000_000),
    Row("sizes", 48, 2_000_000),
    Row("sizes", 128, 1_000_000),
    Row("sizes", 512, 500_000),
    Row("sizes", 4096, 100_000),
    ONE_THREAD,
    *(Row("threads", 16, count) for count in (2, 4, 8, 16, 32, 64)),
)
PHASES = {
    "allocate": "Allocating: CPU ns for a block, above no tool",
    "replace": "Allocating one and freeing the oldest, that many alive: CPU ns for both, above no tool",
    "free": "Freeing: CPU ns for a block, above no tool",
}


@dataclass
class Cell:
    """A row under a tool: what each repetition gave, or why there is nothing."""

    usages: dict[int, Usage] = field(default_factory=dict)
    phases: dict[int, dict[str, float]] = field(default_factory=dict)
    """CPU ns for a block, by the driver."""
    text: str = ""
    """What the tables have in place of a figure; empty if there is one."""
    reason: str = ""
    failed: bool = False
    """The tool or the program went wrong: not for want of memory or time."""


@dataclass
class Results:
    """Everything that was measured."""

    tools: list[str]
    missing: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    cells: dict[tuple[Row, str], Cell] = field(default_factory=dict)

    def cell(self, row: Row, tool: str) -> Cell:
        return self.cells.setdefault((row, tool), Cell())

    def above(self, row: Row, tool: str, value: Callable[[Cell, int], float | None]) -> float | None:
        """Median over repetitions of what a tool has more than the bare run; for no tool, what it has."""
        cell, bare = self.cell(row, tool), self.cell(row, NONE)
        found = []
        for repetition in cell.usages:
            mine = value(cell, repetition)
            base = 0.0 if tool == NONE else value(bare, repetition) if repetition in bare.usages else None
            if mine is not None and base is not None:
                found.append(mine - base)
        return statistics.median(found) if found else None

    def phase(self, row: Row, tool: str, name: str) -> float | None:
        return self.above(row, tool, lambda cell, n: cell.phases[n].get(name))

    def memory(self, row: Row, tool: str) -> float | None:
        """Bytes."""
        return self.above(row, tool, lambda cell, n: cell.usages[n].peak_rss)

    def cpu(self, row: Row, tool: str) -> float | None:
        """Seconds of the whole process."""
        return self.above(row, tool, lambda cell, n: cell.usages[n].cpu)

    def each(self, row: Row, tool: str) -> float | None:
        """Bytes for each block or thread beyond what is fixed; None where they are too few to tell."""
        threads = row.group == "threads"
        if row.count < (ENOUGH_THREADS if threads else ENOUGH_BLOCKS):
            return None
        base = ONE_THREAD if threads else EMPTY
        memory, fixed = self.memory(row, tool), self.memory(base, tool)
        return None if memory is None or fixed is None else (memory - fixed) / (row.count - base.count)


def refusal(results: Results, row: Row, tool: str) -> tuple[str, str] | None:
    """Why a cell should not be tried: what the table says, and the reason; else None."""
    smaller = [other for other in results.rows if other.size == row.size and other.count < row.count]
    smaller = [other for other in smaller if other.group == row.group]
    for other in smaller:
        cell = results.cell(other, tool)
        if cell.text and not cell.failed:
            return "not tried", f"no figure for {other.name}"
    known = [each for other in smaller if (each := results.each(other, tool)) is not None]
    # Twice what it was: its table may be about to double.
    tools_bytes = 0.0 if tool == NONE else 2 * known[-1] if known else GUESSED_BYTES
    need = row.count * (row.size + LIST_BYTES + max(tools_bytes, 0.0))
    free = subject.available_memory()
    if row.group != "threads" and need > 0.9 * free:
        return "no memory", f"may need {need / MIB:,.0f} MiB, and {free / MIB:,.0f} MiB are available"
    return None


def execute(python: str, tool: str, row: Row, limit: float) -> tuple[Usage, dict[str, float]]:
    """One run: what it used, and the driver's own figures."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        script = [str(DRIVER), str(folder / "figures.json"), *row.words]
        command = TOOLS[tool].command(python, folder / "recording", script)
        usage = run(command, folder=folder, limit=limit, in_child=TOOLS[tool].in_child)
        if usage.failure is not None:
            return usage, {}
        return usage, json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def measure_row(results: Results, row: Row, options: argparse.Namespace) -> None:
    """All repetitions of one row under all tools."""
    runs = max(options.runs, 5) if row in (EMPTY, ONE_THREAD) else options.runs
    for repetition in range(runs):
        turn = repetition % len(results.tools)
        for tool in results.tools[turn:] + results.tools[:turn]:
            cell = results.cell(row, tool)
            if cell.text or (is_peer(tool) and repetition >= options.peer_runs):
                continue
            refused = refusal(results, row, tool)
            if refused is not None:
                cell.text, cell.reason = refused
                continue
            usage, phases = execute(options.python, tool, row, options.limit)
            if usage.timed_out:
                cell.text, cell.reason = f"> {options.limit:g} s", f"took more than {options.limit:g} s"
            elif usage.failure is not None:
                cell.text, cell.reason, cell.failed = "failed", usage.failure, True
            else:
                cell.usages[repetition], cell.phases[repetition] = usage, phases


def progress(results: Results, row: Row, seconds: float) -> None:
    parts = []
    for tool in results.tools:
        cell = results.cell(row, tool)
        figures = [figure for name in PHASES if (figure := results.phase(row, tool, name)) is not None]
        each = results.each(row, tool)
        text = cell.text or ("/".join(f"{figure:.1f}" for figure in figures) + " ns" if figures else "")
        if tool != NONE and each is not None:
            text += f" {each:.4g} B"
        parts.append(f"{tool} {text}".rstrip())
    print(f"{row.name}: {', '.join(parts)}  [{seconds:.0f} s]", file=sys.stderr, flush=True)


def phase_table(results: Results, rows: list[Row], name: str) -> Table:
    table = [["", "no tool", *(TOOLS[tool].label for tool in results.tools if tool != NONE)]]
    for row in rows:
        line = [row.name]
        for tool in results.tools:
            figure = results.phase(row, tool, name)
            sign = "" if tool == NONE else "+"
            line.append(results.cell(row, tool).text or ("-" if figure is None else f"{figure:{sign}.1f}"))
        table.append(line)
    return table


def memory_table(results: Results, rows: list[Row], unit: float) -> Table:
    """MiB above no tool, and in brackets what that is for each block or thread, in `unit` bytes."""
    table = [["", "no tool", *(TOOLS[tool].label for tool in results.tools if tool != NONE)]]
    for row in rows:
        line = ["no block: the fixed cost" if row == EMPTY else row.name]
        for tool in results.tools:
            memory, each = results.memory(row, tool), results.each(row, tool)
            sign = "" if tool == NONE else "+"
            text = "-" if memory is None else f"{memory / MIB:{sign}.1f}"
            if tool != NONE and each is not None:
                text += f" ({each / unit:.1f})"
            line.append(results.cell(row, tool).text or text)
        table.append(line)
    return table


def cpu_table(results: Results, rows: list[Row]) -> Table:
    table = [["", "no tool", *(TOOLS[tool].label for tool in results.tools if tool != NONE)]]
    for row in rows:
        line = [row.name]
        for tool in results.tools:
            cpu = results.cpu(row, tool)
            sign = "" if tool == NONE else "+"
            line.append(results.cell(row, tool).text or ("-" if cpu is None else f"{cpu:{sign}.2f}"))
        table.append(line)
    return table


def sections(results: Results) -> list[tuple[str, Table]]:
    """The tables that have rows, with their titles."""
    threads = [row for row in results.rows if row.group == "threads"]
    held = [row for row in results.rows if row.group in ("counts", "sizes")]
    found = [(title, phase_table(results, held, name)) for name, title in PHASES.items() if held]
    if held:
        title = "Peak memory in MiB above no tool (for each live block beyond the fixed cost, in bytes)"
        found.append((title, memory_table(results, [EMPTY, *held], 1)))
        title = "CPU s of the whole process, above no tool, its start included"
        found.append((title, cpu_table(results, [EMPTY, *held])))
    if threads:
        title = "Threads that allocate one and free the oldest: CPU ns for both, above no tool"
        found.append((title, phase_table(results, threads, "replace")))
        title = "Threads: peak memory in MiB above no tool (for each thread beyond the first, in KiB)"
        found.append((title, memory_table(results, threads, 1024)))
    return found


def remarks(results: Results) -> list[str]:
    """One line for each thing that has no figure."""
    found = [f"{tool}: not measured: {reason}" for tool, reason in results.missing.items()]
    found += [
        f"{row.name} under {tool}: {results.cell(row, tool).reason}"
        for row in results.rows
        for tool in results.tools
        if results.cell(row, tool).reason
    ]
    return found


def caption(
    results: Results, facts: dict[str, Any], python: dict[str, Any], options: argparse.Namespace
) -> str:
    measured = {TOOLS[tool].package for tool in results.tools}
    packages = [name for name in subject.PACKAGES if name in measured]
    peers = "" if options.peer_runs >= options.runs else f" ({options.peer_runs} for the peers)"
    runs = "1 run" if options.runs == 1 else f"{options.runs} interleaved runs"
    return (
        f"{subject.setting(python, facts, packages)} Medians of {runs}{peers}; "
        f"{facts['available'] / MIB / 1024:.0f} GiB of memory available."
    )


def write_json(path: Path, results: Results, facts: dict[str, Any], python: dict[str, Any]) -> None:
    """Every sample."""
    cells = [
        {
            "group": row.group,
            "size": row.size,
            "count": row.count,
            "tool": tool,
            "text": cell.text,
            "reason": cell.reason,
            "runs": [{"ns": cell.phases[n], **dataclasses.asdict(usage)} for n, usage in cell.usages.items()],
        }
        for (row, tool), cell in results.cells.items()
    ]
    document = {"machine": facts, "python": python, "missing": results.missing, "cells": cells}
    subject.write_json(path, document)


def parse() -> argparse.Namespace:
    parser = common.parser(
        "A tool's CPU time and memory for each block, by live blocks, their size, and threads.",
        runs=3,
        peers="the other tools (default: %(default)s)",
        rows="rows, by group or name (counts, '10 M *')",
        listed="rows",
    )
    parser.add_argument("--tools", default=TOOLS_BY_DEFAULT, help="default: %(default)s")
    parser.add_argument(
        "--limit", type=float, default=120, help="seconds a run may take (default: %(default)s)"
    )
    options = parser.parse_args()
    options.tools = chosen(options.tools, parser)
    if options.runs < 1 or options.peer_runs < 1:
        parser.error("at least one run")
    names = options.only.split(",")
    options.rows = [
        row
        for row in ROWS
        if any(fnmatch.fnmatch(value, name) for name in names for value in (row.name, row.group))
    ]
    if not options.rows:
        parser.error(f"no row is called {options.only!r}: see --list")
    bases = {ONE_THREAD if row.group == "threads" else EMPTY for row in options.rows}
    options.rows = [row for row in ROWS if row in bases or row in options.rows]
    return options


def main() -> int:
    options = parse()
    if options.list:
        print("\n".join(f"{row.group:8} {row.name}" for row in options.rows if row != EMPTY))
        return 0
    python = subject.probe(options.python)
    options.python = python["executable"]
    results = Results(*subject.present(options.tools, python))
    facts = subject.machine() | {"available": subject.available_memory()}
    for line in remarks(results):
        print(line, file=sys.stderr)

    for tool in results.tools:  # what they compile and the page cache
        execute(options.python, tool, EMPTY, options.limit)
    for row in options.rows:
        began = time.monotonic()
        results.rows.append(row)
        try:
            measure_row(results, row, options)
        except KeyboardInterrupt:
            results.rows.pop()
            print(f"stopped at {row.name}", file=sys.stderr)
            break
        progress(results, row, time.monotonic() - began)
        if options.json:
            write_json(options.json, results, facts, python)

    text = caption(results, facts, python, options)
    tables = sections(results)
    print("\n\n".join([text, *(f"{title}\n{plain(lines)}" for title, lines in tables)]))
    print(f"\nbar: at most {BAR_BLOCK} B for each live block, {BAR_FIXED} MB fixed")
    print("\n".join(remarks(results)))
    if options.markdown:
        parts = [text, *(f"**{title}**\n\n{markdown(lines)}" for title, lines in tables)]
        parts += ["\n".join(f"- {line}" for line in remarks(results))] * bool(remarks(results))
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    failed = {tool for (_, tool), cell in results.cells.items() if cell.failed} | set(results.missing)
    return 1 if any(not is_peer(tool) for tool in failed) else 0


if __name__ == "__main__":
    sys.exit(main())
