"""What a memory profiler costs: CPU time and peak memory of the same programs with and without each tool.

    python bench/overhead/run.py [--python PATH] [--runs N] [--peer-runs N] [--only PATTERN] [--tools LIST]
                                 [--json OUT] [--markdown OUT]

Method. Each program is run once per repetition under every tool, one after the other, each time in a fresh
process, the order of the tools turned by one from repetition to repetition. A figure is the ratio to the bare
run of the same repetition, and the median of these over the repetitions. One bare run of each program goes
before and is thrown away, as does a run of the empty program under each tool (they write .pyc files and fill
the page cache). CPU time is user + system time of the process, from its start to its end; peak memory is what
was resident at most while the program ran (`bench/measure.py` says how both are read).

"Start" is what a tool adds to a program that does nothing. CPU time "without start" has it taken off every
run, because programs that run half a second otherwise show what a tool imports rather than what it costs to
go on. (Of a program that itself imports what the tool has imported this takes off a little too much. For
memory that error would be large, so peaks are always those of the whole process.)

What a tool does in a process of its own is in neither figure: memheft's watcher, which sleeps until the
program has ended and then embeds the sources, is measured nowhere here. Scalene is the other way round: it
starts the program as its child and waits. The CPU time is that of both, the peak that of the larger process.
It records by its own defaults: samples of memory and of CPU time, of the files in the program's folder.

A run that exits non-zero, is killed, or takes more than --limit seconds makes its cell a failure: it is
printed, left out of the means and counted in the last column. Exit code 1 says that memheft's own or a bare
run failed, or that memheft is not there; a failure of a peer is a figure like any other.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import options as common
from bench import subject
from bench.measure import Usage, run
from bench.overhead import figures
from bench.overhead.workloads import EMPTY, Workload, table
from bench.tables import Table, markdown, plain
from bench.tools import DEFAULT, NONE, TOOLS, chosen, is_peer


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = common.parser(
        "CPU time and peak memory under each tool, as ratios to none.",
        runs=5,
        peers="the other tools (default: %(default)s)",
        rows="workloads, by name or group",
        listed="workloads",
    )
    parser.add_argument("--tools", default=DEFAULT, help="default: %(default)s")
    parser.add_argument(
        "--limit", type=float, default=300, help="seconds a run may take (default: %(default)s)"
    )
    options = parser.parse_args(words)
    options.tools = chosen(options.tools, parser)
    if options.runs < 1 or options.peer_runs < 1:
        parser.error("at least one run")
    return options


def execute(python: str, tool: str, workload: Workload, scratch: Path, limit: float) -> Usage:
    """One run; the recording it leaves is removed."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = TOOLS[tool].command(
            python, Path(folder, "recording"), [str(workload.script), *workload.args]
        )
        return run(
            command,
            folder=Path(folder),
            limit=limit,
            variables=workload.variables,
            in_child=TOOLS[tool].in_child,
        )


def wanted(patterns: str, rows: list[Workload]) -> list[Workload]:
    """The rows a list of patterns names; the empty program is always one of them."""
    names = patterns.split(",")
    return [
        row
        for row in rows
        if row.name == EMPTY
        or any(fnmatch.fnmatch(value, name) for name in names for value in (row.name, row.group))
    ]


def measure_row(
    results: figures.Results, workload: Workload, options: argparse.Namespace, scratch: Path
) -> None:
    """All repetitions of one workload under all tools."""
    runs = max(options.runs, 5) if workload.name == EMPTY else options.runs
    warm_up = results.tools if workload.name == EMPTY else [NONE]
    for tool in warm_up:
        execute(options.python, tool, workload, scratch, options.limit)
    for repetition in range(runs):
        turn = repetition % len(results.tools)
        for tool in results.tools[turn:] + results.tools[:turn]:
            cell = results.cell(workload.name, tool)
            peer = is_peer(tool) and workload.name != EMPTY
            if cell.failure is not None or (peer and repetition >= options.peer_runs):
                continue
            usage = execute(options.python, tool, workload, scratch, options.limit)
            cell.runs[repetition] = usage
            cell.failure = usage.failure


def progress(results: figures.Results, workload: Workload, seconds: float) -> None:
    cells = []
    for tool in results.tools:
        if results.cell(workload.name, tool).failure is not None:
            cells.append(f"{tool} failed")
        elif tool == NONE:
            cells.append(f"{results.median(workload.name, tool, lambda usage: usage.cpu) or 0:.3f} s")
        else:
            cpu, rss = results.cpu(workload.name, tool), results.rss(workload.name, tool)
            cells.append(f"{tool} {cpu or 0:.2f}/{rss or 0:.2f}")
    print(f"{workload.name}: {', '.join(cells)}  [{seconds:.0f} s]", file=sys.stderr, flush=True)


def caption(
    results: figures.Results, probe: dict[str, Any], facts: dict[str, Any], options: argparse.Namespace
) -> str:
    """One paragraph: what was measured, on what."""
    peers = "" if options.peer_runs >= options.runs else f" ({options.peer_runs} for the peers)"
    count = len(results.rows())
    runs = "1 run" if options.runs == 1 else f"{options.runs} interleaved runs"
    spread = "" if options.runs == 1 else f"; bare runs of a program lie {results.spread():.1%} apart"
    return (
        f"{subject.setting(probe, facts)} "
        f"{count} programs, median of {runs}{peers}, each a ratio to the bare run of its repetition{spread}."
    )


def write_json(
    path: Path,
    results: figures.Results,
    probe: dict[str, Any],
    facts: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Every sample, so that other tables can be made of them."""
    cells = [
        {
            "workload": workload,
            "tool": tool,
            "failure": cell.failure,
            "runs": {str(n): dataclasses.asdict(usage) for n, usage in cell.runs.items()},
        }
        for (workload, tool), cell in results.cells.items()
    ]
    groups = {row.name: row.group for row in results.workloads}
    document = {
        "machine": facts,
        "python": probe,
        "runs": options.runs,
        "groups": groups,
        "missing": results.missing,
        "cells": cells,
    }
    subject.write_json(path, document)


def sections(results: figures.Results) -> list[tuple[str, Table]]:
    """The tables with their titles."""
    return [
        ("Whole processes", figures.whole_table(results)),
        ("Without the tool's start", figures.running_table(results)),
        ("By group: CPU time without start, peak memory", figures.group_table(results)),
        ("By program: CPU time, the same without start (net), peak memory", figures.row_table(results)),
    ]


def write_markdown(path: Path, results: figures.Results, text: str) -> None:
    parts = [text]
    for title, lines in sections(results):
        parts += [f"**{title}**", markdown(lines)]
    failures = list(figures.failure_lines(results))
    if failures:
        parts.append("\n".join(f"- {line}" for line in failures))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> int:
    options = parse()
    probe = subject.probe(options.python)
    options.python = probe["executable"]
    benchmarks = Path(probe["benchmarks"]) if probe["benchmarks"] else None
    rows = wanted(options.only, table(benchmarks))
    if options.list:
        print("\n".join(f"{row.group:14} {row.name}" for row in rows))
        return 0

    tools, missing = subject.present(options.tools, probe)
    results = figures.Results(tools, missing=missing)
    if benchmarks is None:
        results.missing["pyperformance"] = f"not installed for {options.python}: see bench/requirements.txt"
    for line in figures.failure_lines(results):
        print(line, file=sys.stderr)

    facts = subject.machine()
    with tempfile.TemporaryDirectory(prefix="bench-overhead-") as scratch:
        for row in rows:
            began = time.monotonic()
            results.workloads.append(row)
            try:
                measure_row(results, row, options, Path(scratch))
            except KeyboardInterrupt:
                results.workloads.pop()
                print(f"stopped at {row.name}", file=sys.stderr)
                break
            progress(results, row, time.monotonic() - began)
            if options.json:
                write_json(options.json, results, probe, facts, options)

    text = caption(results, probe, facts, options)
    drawn = [f"{title}\n{plain(lines)}" for title, lines in sections(results)]
    print("\n\n".join([text, *drawn, "\n".join(figures.failure_lines(results))]).rstrip())
    if options.markdown:
        write_markdown(options.markdown, results, text)
    failed = [*results.missing, *(tool for _, tool, _ in results.failures())]
    return 1 if any(tool in TOOLS and not is_peer(tool) for tool in failed) else 0


if __name__ == "__main__":
    sys.exit(main())
