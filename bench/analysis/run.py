"""How long answers take: memheft's reports, diffs and exports against memray's, on recordings of one program.

    python bench/analysis/run.py [--python PATH] [--runs N] [--peer-runs N] [--only PATTERN]
                                 [--questions PATTERN] [--stacks N] [--json OUT] [--markdown OUT]

Method. Each program is recorded by `memheft run` (twice, for the diff), `memheft run --sample`, and `memray
run --trace-python-allocators` without and with `--aggregate`: these see the same allocations. Then the
commands that answer the same question, or the nearest to it that memray has, take turns, each as a whole
process whose text goes to /dev/null and whose files are removed. Times are user + system CPU time; a ratio is
that of two runs in the same repetition, and the median of these over the repetitions. One run of each command
of memheft goes before and is thrown away.

`memray tree` is left out: it needs a terminal, and draws what `memray flamegraph` computes. A command of
memray that fails is a figure like any other: it is printed, and left out of the means.

Another table has the sizes of the recordings, and one all views of memheft on the program of --stacks
distinct stacks, in time on the clock as well, beside `python -c pass` and `memheft --version`.

Exit code 1 says that a run of memheft failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import math
import statistics
import subprocess
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
from bench.analysis import stacks
from bench.measure import Usage, environment, run
from bench.overhead.workloads import PROGRAMS
from bench.tables import MIB, Table, markdown, plain
from bench.tools import NONE, TOOLS

LIMIT = 300.0
MEMHEFT = "memheft"
SAMPLE = "memheft-sample"
PEERS = ("memray-tpa", "memray-aggregate")
STACKS = "stacks"
NAMES = (STACKS, "heap", "documentation", "orm", "formatter")
BAR_REPORT = 1.0
BAR_VERSION = 0.1


@dataclass(frozen=True)
class Question:
    """What somebody wants to know, and the command that answers it."""

    name: str
    memheft: str
    memray: str = ""
    """Empty if it has none."""


# {recording}, {other}: another of the same program, {out}: a file to write
QUESTIONS = (
    Question("largest lines, text", "report {recording}", "stats {recording}"),
    Question("largest functions, text", "report --by function {recording}", "summary {recording}"),
    Question("call tree", "report --tree {recording}", "flamegraph -o {out} {recording}"),
    Question("every line", "report --json {recording}", "table -o {out} {recording}"),
    Question("left at the end", "report --live --json {recording}", "table --leaks -o {out} {recording}"),
    Question(
        "temporary blocks",
        "report --temporary --json {recording}",
        "table --temporary-allocations -o {out} {recording}",
    ),
    Question(
        "speedscope",
        "export --format speedscope -o {out} {recording}",
        "transform speedscope -o {out} {recording}",
    ),
    Question(
        "every stack, CSV",
        "export --by stack --format csv -o {out} {recording}",
        "transform csv -o {out} {recording}",
    ),
    Question("pprof", "export --format pprof -o {out} {recording}"),
    Question("collapsed stacks", "export --format collapsed -o {out} {recording}"),
    Question("diff, lines", "diff {other} {recording}"),
    Question("diff, tree", "diff --tree {other} {recording}"),
)

VIEWS = (
    "",
    "--live",
    "--total",
    "--temporary",
    "--by function",
    "--by file",
    "--by module",
    "--by thread",
    "--by stack",
    "--own",
    "--tree",
    "--tree --inverted",
    "--json",
    "--by stack --json",
)


@dataclass
class Cell:
    """A question about a program, put to a tool's recording."""

    runs: dict[int, Usage] = field(default_factory=dict)
    failure: str | None = None

    def median(self, value: Callable[[Usage], float]) -> float | None:
        if self.failure is not None or not self.runs:
            return None
        return statistics.median(value(usage) for usage in self.runs.values())


@dataclass
class Program:
    """What was recorded of one program."""

    name: str
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of the recording of each tool."""
    blocks: int = 0
    """Requested in all, by memheft's recording."""
    paths: int = 0
    """Distinct call paths in it."""


@dataclass
class Results:
    """Everything that was measured."""

    tools: list[str]
    questions: list[Question]
    programs: list[Program] = field(default_factory=list)
    cells: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    """By program, question, tool."""
    views: dict[str, Cell] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """What could not be recorded, and why."""

    def cell(self, program: str, question: str, tool: str) -> Cell:
        return self.cells.setdefault((program, question, tool), Cell())

    def ratio(self, program: str, question: str, tool: str, value: Callable[[Usage], float]) -> float | None:
        """Of a tool to memheft; None if one of them has no figure."""
        mine, base = self.cell(program, question, tool), self.cell(program, question, MEMHEFT)
        if mine.failure is not None or base.failure is not None:
            return None
        pairs = [value(usage) / value(base.runs[n]) for n, usage in mine.runs.items() if n in base.runs]
        return statistics.median(pairs) if pairs else None


def words(python: str, tool: str, command: str, files: dict[str, Path]) -> list[str]:
    """The command of a tool, as it is run."""
    module = "memheft" if tool == MEMHEFT else "memray"
    return [python, "-m", module, *(word.format(**files) for word in command.split())]


def execute(python: str, tool: str, command: str, files: dict[str, Path]) -> Usage:
    """One command; the file that it writes is removed."""
    with tempfile.TemporaryDirectory(prefix="bench-analysis-") as name:
        there = files | {"out": Path(name, "out")}
        return run(words(python, tool, command, there), folder=Path(name), limit=LIMIT)


def record(results: Results, program: Program, script: Path, folder: Path, python: str) -> None:
    """Record a program with each tool; a file for each that could."""
    for tool in [*results.tools, SAMPLE, "again"]:
        path = folder / tool
        recorder = TOOLS[MEMHEFT if tool == "again" else tool]
        usage = run(recorder.command(python, path, [str(script)]), folder=folder, limit=LIMIT)
        if usage.failure is not None or not path.exists():
            what = usage.failure or "no recording was written"
            results.remarks.append(f"{program.name} recorded by {recorder.label}: {what}")
        elif tool != "again":
            program.sizes[tool] = path.stat().st_size
    if MEMHEFT in program.sizes:
        info = subprocess.run(
            [python, "-m", "memheft", "info", "--json", str(folder / MEMHEFT)],
            cwd=folder,
            env=environment(),
            check=False,
            capture_output=True,
            text=True,
        )
        if info.returncode:
            results.remarks.append(f"{program.name}: memheft info: {info.stderr.strip()}")
            del program.sizes[MEMHEFT]
            return
        document = json.loads(info.stdout)
        program.blocks = document["totals"]["allocated_blocks"]
        program.paths = document["counts"]["nodes"]


def measure(results: Results, program: Program, folder: Path, options: argparse.Namespace) -> None:
    """Put all questions to the recordings of one program."""
    for repetition in range(-1, options.runs):  # the first warms up
        for question in results.questions:
            for tool in results.tools:
                command = question.memheft if tool == MEMHEFT else question.memray
                cell = results.cell(program.name, question.name, tool)
                again = range(options.runs if tool == MEMHEFT else options.peer_runs)
                if not command or tool not in program.sizes or cell.failure is not None:
                    continue
                if repetition not in again and not (tool == MEMHEFT and repetition == -1):
                    continue
                files = {"recording": folder / tool, "other": folder / "again"}
                usage = execute(options.python, tool, command, files)
                cell.failure = usage.failure
                if repetition >= 0:
                    cell.runs[repetition] = usage
        if repetition >= 0:
            done = f"{program.name}: questions put {repetition + 1} of {options.runs} times"
            print(done, file=sys.stderr, flush=True)


def measure_views(results: Results, folder: Path, options: argparse.Namespace) -> None:
    """Every view of memheft on one recording, and what no report takes less than."""
    memheft = [options.python, "-m", "memheft"]
    recording = str(folder / MEMHEFT)
    commands = {
        "python -c pass": [options.python, "-c", "pass"],
        "memheft --version": [*memheft, "--version"],
        "memheft info": [*memheft, "info", recording],
    }
    for view in VIEWS:
        commands[f"memheft report {view}".rstrip()] = [*memheft, "report", *view.split(), recording]
    for repetition in range(-1, options.runs):
        for what, argv in commands.items():
            cell = results.views.setdefault(what, Cell())
            usage = run(argv, folder=folder, limit=LIMIT)
            cell.failure = cell.failure or usage.failure
            if repetition >= 0:
                cell.runs[repetition] = usage


def remarks(results: Results) -> list[str]:
    """One line for each thing that has no figure; what fails alike for several programs, once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for (program, question, tool), cell in results.cells.items():
        if cell.failure is not None:
            alike.setdefault((f"{question} by {tool}", cell.failure[:160]), []).append(program)
    found = [f"{what} ({', '.join(programs)}): {why}" for (what, why), programs in alike.items()]
    found += [f"{what}: {cell.failure}" for what, cell in results.views.items() if cell.failure]
    return results.remarks + found


def cpu(usage: Usage) -> float:
    return usage.cpu


def peak(usage: Usage) -> float:
    return usage.peak_rss


def geometric(values: list[float]) -> float:
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def peers(results: Results) -> list[str]:
    return [tool for tool in results.tools if tool != MEMHEFT]


def question_table(results: Results) -> Table:
    """A line for each question: the commands, and how much longer memray takes, over all programs."""
    columns = [f"{tool} {what}" for tool in peers(results) for what in ("CPU", "least-most", "peak memory")]
    table = [["question", "memheft", "memray", *columns]]
    for question in results.questions:
        commands = [
            command.replace(" {recording}", "").replace(" -o {out}", "").replace(" {other}", "") or "-"
            for command in (question.memheft, question.memray)
        ]
        line = [question.name, *commands]
        for tool in peers(results):
            found = {
                value: [
                    ratio
                    for program in results.programs
                    if (ratio := results.ratio(program.name, question.name, tool, value)) is not None
                ]
                for value in (cpu, peak)
            }
            if found[cpu]:
                line += [f"{geometric(found[cpu]):.3g}x", f"{min(found[cpu]):.3g}-{max(found[cpu]):.3g}x"]
                line.append(f"{geometric(found[peak]):.3g}x")
            else:
                line += ["-"] * 3
        table.append(line)
    return table


def program_table(results: Results) -> Table:
    """A line for each program and question: seconds of CPU time, and ratios to memheft."""
    table = [["program", "question", "memheft s"]]
    table[0] += [f"{tool} {what}" for tool in peers(results) for what in ("s", "ratio")]
    for program in results.programs:
        for question in results.questions:
            line = [program.name, question.name]
            for tool in results.tools:
                cell = results.cell(program.name, question.name, tool)
                seconds = cell.median(cpu)
                line.append("failed" if cell.failure else "-" if seconds is None else f"{seconds:.2f}")
                if tool != MEMHEFT:
                    ratio = results.ratio(program.name, question.name, tool, cpu)
                    line.append("-" if ratio is None else f"{ratio:.3g}x")
            table.append(line)
    return table


def size_table(results: Results) -> Table:
    """A line for each program: what it did, and how large its recordings are."""
    tools = [MEMHEFT, SAMPLE, *peers(results)]
    table = [["program", "blocks", "call paths", *(f"{tool} MiB" for tool in tools)]]
    for program in results.programs:
        sizes = [program.sizes.get(tool) for tool in tools]
        table.append(
            [
                program.name,
                f"{program.blocks:,}",
                f"{program.paths:,}",
                *("-" if size is None else f"{size / MIB:.2f}" for size in sizes),
            ]
        )
    return table


def view_table(results: Results) -> Table:
    table = [["command", "wall s", "CPU s", "peak MiB"]]
    for what, cell in results.views.items():
        figures = [cell.median(lambda usage: usage.wall), cell.median(cpu)]
        memory = cell.median(peak)
        table.append([what, *("failed" if figure is None else f"{figure:.3f}" for figure in figures)])
        table[-1].append("failed" if memory is None else f"{memory / MIB:.1f}")
    return table


def sections(results: Results, options: argparse.Namespace) -> list[tuple[str, Table]]:
    """The tables that have something to show, with their titles."""
    found = [
        ("memray's time and memory to memheft's, geometric means over the programs", question_table(results))
    ]
    found.append(("By program: CPU time", program_table(results)))
    found.append(("The recordings", size_table(results)))
    if results.views:
        title = f"memheft's views of {options.stacks:,} stacks (bars: report {BAR_REPORT:g} s, "
        found.append((f"{title}--version {BAR_VERSION:g} s)", view_table(results)))
    return found


def write_json(
    path: Path, results: Results, python: dict[str, Any], facts: dict[str, Any], stacks_asked: int
) -> None:
    """Every sample."""

    def samples(cell: Cell) -> dict[str, Any]:
        runs = {str(n): dataclasses.asdict(usage) for n, usage in cell.runs.items()}
        return {"failure": cell.failure, "runs": runs}

    document = {
        "machine": facts,
        "python": python,
        "stacks": stacks_asked,
        "programs": [dataclasses.asdict(program) for program in results.programs],
        "questions": [dataclasses.asdict(question) for question in results.questions],
        "cells": [
            {"program": program, "question": question, "tool": tool, **samples(cell)}
            for (program, question, tool), cell in results.cells.items()
        ],
        "views": {what: samples(cell) for what, cell in results.views.items()},
        "remarks": results.remarks,
    }
    subject.write_json(path, document)


def parse() -> argparse.Namespace:
    parser = common.parser(
        "Time of memheft's reports, diffs and exports, and of memray's.",
        runs=3,
        peers="memray's (default: %(default)s; 0: none)",
        rows=f"programs ({', '.join(NAMES)})",
        listed="programs and questions",
    )
    parser.add_argument("--questions", default="*", help="questions: patterns with commas between")
    parser.add_argument(
        "--stacks", type=int, default=100_000, help=f"distinct stacks of {STACKS} (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.runs < 1 or options.peer_runs < 0:
        parser.error("at least one run")
    for name, known in (("only", NAMES), ("questions", [question.name for question in QUESTIONS])):
        patterns = getattr(options, name).split(",")
        chosen = [word for word in known if any(fnmatch.fnmatch(word, pattern) for pattern in patterns)]
        if not chosen:
            parser.error(f"--{name} names nothing: see --list")
        setattr(options, name, chosen)
    return options


def main() -> int:
    options = parse()
    if options.list:
        print("\n".join(["programs:", *options.only, "", "questions:", *options.questions]))
        return 0
    python = subject.probe(options.python)
    options.python = python["executable"]
    tools, missing = subject.present([MEMHEFT, *(PEERS if options.peer_runs else ())], python)
    if MEMHEFT in missing:
        sys.exit(f"analysis: {missing[MEMHEFT]}")
    tools.remove(NONE)
    results = Results(tools, [question for question in QUESTIONS if question.name in options.questions])
    results.remarks += [f"{tool}: not measured: {reason}" for tool, reason in missing.items()]
    facts = subject.machine()
    stopped = False
    for name in options.only:
        if stopped:
            break
        began = time.monotonic()
        program = Program(name)
        results.programs.append(program)
        with tempfile.TemporaryDirectory(prefix="bench-analysis-") as scratch:
            folder = Path(scratch)
            try:
                script = (
                    PROGRAMS / f"{name}.py" if name != STACKS else stacks.generate(folder, options.stacks)
                )
                record(results, program, script, folder, options.python)
                measure(results, program, folder, options)
                if name == STACKS and MEMHEFT in program.sizes:
                    measure_views(results, folder, options)
            except KeyboardInterrupt:
                results.programs.pop()
                print(f"stopped at {name}", file=sys.stderr)
                stopped = True
        failed = [line for line in remarks(results) if name in line]
        print(f"{name}: {time.monotonic() - began:.0f} s", *failed, sep="\n  ", file=sys.stderr, flush=True)
        if options.json:
            write_json(options.json, results, python, facts, options.stacks)

    runs = "1 run" if options.runs == 1 else f"{options.runs} interleaved runs"
    of_peers = "" if options.peer_runs in (0, options.runs) else f" ({options.peer_runs} of memray's)"
    setting = subject.setting(python, facts, ("memheft", "memray"))
    text = f"{setting} Medians of {runs}{of_peers}."
    tables = sections(results, options)
    print("\n\n".join([text, *(f"{title}\n{plain(lines)}" for title, lines in tables)]))
    print("\n" + "\n".join(remarks(results)))
    if options.markdown:
        parts = [text, *(f"**{title}**\n\n{markdown(lines)}" for title, lines in tables)]
        parts += ["\n".join(f"- {line}" for line in remarks(results))] * bool(remarks(results))
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    ours = any(MEMHEFT not in program.sizes for program in results.programs)
    ours |= any(cell.failure for (_, _, tool), cell in results.cells.items() if tool == MEMHEFT)
    return 1 if ours or any(cell.failure for cell in results.views.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
