"""From samples to the tables: ratios, medians, geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.measure import Usage
from bench.overhead.workloads import EMPTY, GROUPS, Workload
from bench.tables import MIB, Table
from bench.tools import NONE, TOOLS

LONGEST_FAILURE = 160


@dataclass
class Samples:
    """All runs of one workload under one tool: what each repetition used, or why there is none."""

    runs: dict[int, Usage] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class Results:
    """Everything that was measured. A cell is a workload under a tool."""

    tools: list[str]
    workloads: list[Workload] = field(default_factory=list)
    cells: dict[tuple[str, str], Samples] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Tools and groups that could not be measured at all, with the reason."""

    def cell(self, workload: str, tool: str) -> Samples:
        return self.cells.setdefault((workload, tool), Samples())

    def median(self, workload: str, tool: str, value: Callable[[Usage], float]) -> float | None:
        """Median of one value over the runs of a cell; None for a cell that failed."""
        cell = self.cell(workload, tool)
        if cell.failure is not None or not cell.runs:
            return None
        return statistics.median(value(usage) for usage in cell.runs.values())

    def _paired(self, workload: str, tool: str, combine: Callable[[Usage, Usage], float]) -> float | None:
        """Median over repetitions of a value made of the tool's run and the bare run of that repetition."""
        cell, bare = self.cell(workload, tool), self.cell(workload, NONE)
        if cell.failure is not None or bare.failure is not None:
            return None
        pairs = [combine(usage, bare.runs[n]) for n, usage in cell.runs.items() if n in bare.runs]
        return statistics.median(pairs) if pairs else None

    def start_cpu(self, tool: str) -> float | None:
        """Seconds of CPU time that a tool adds to a program that does nothing."""
        return self._paired(EMPTY, tool, lambda usage, bare: usage.cpu - bare.cpu)

    def start_rss(self, tool: str) -> float | None:
        """Bytes of peak memory that a tool adds to a program that does nothing."""
        return self._paired(EMPTY, tool, lambda usage, bare: usage.peak_rss - bare.peak_rss)

    def cpu(self, workload: str, tool: str) -> float | None:
        """Ratio of CPU time of the whole process."""
        return self._paired(workload, tool, lambda usage, bare: usage.cpu / bare.cpu)

    def running_cpu(self, workload: str, tool: str) -> float | None:
        """Ratio of CPU time with the tool's start (see start_cpu) taken off."""
        start = self.start_cpu(tool)
        if start is None:
            return None
        return self._paired(workload, tool, lambda usage, bare: (usage.cpu - start) / bare.cpu)

    def rss(self, workload: str, tool: str) -> float | None:
        """Ratio of peak resident memory."""
        return self._paired(workload, tool, lambda usage, bare: usage.peak_rss / bare.peak_rss)

    def spread(self) -> float:
        """How far the bare runs of a program lie apart, as a share of their median: the median over all."""
        shares = []
        for row in self.rows():
            runs = [usage.cpu for usage in self.cell(row.name, NONE).runs.values()]
            if len(runs) > 1:
                shares.append((max(runs) - min(runs)) / statistics.median(runs))
        return statistics.median(shares) if shares else 0.0

    def profilers(self) -> list[str]:
        return [tool for tool in self.tools if tool != NONE]

    def rows(self, group: str | None = None) -> list[Workload]:
        return [row for row in self.workloads if row.name != EMPTY and group in (None, row.group)]

    def failures(self) -> list[tuple[str, str, str]]:
        """(workload, tool, reason) of every cell that failed."""
        found = []
        for row in self.workloads:
            for tool in self.tools:
                reason = self.cell(row.name, tool).failure
                if reason is not None:
                    found.append((row.name, tool, reason[:LONGEST_FAILURE]))
        return found


Ratio = Callable[[str, str], float | None]


@dataclass(frozen=True)
class Summary:
    """Geometric mean and worst of one ratio of one tool over some rows."""

    count: int
    mean: float
    worst: float
    where: str


def summarize(ratio: Ratio, tool: str, rows: Sequence[Workload]) -> Summary | None:
    """None when no row has a figure."""
    found = [(value, row.name) for row in rows if (value := ratio(row.name, tool)) is not None]
    if not found:
        return None
    mean = math.exp(math.fsum(math.log(value) for value, _ in found) / len(found))
    worst, where = max(found)
    return Summary(len(found), mean, worst, where)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _pair(summary: Summary | None) -> list[str]:
    if summary is None:
        return ["-", "-"]
    return [f"{summary.mean:.2f}x", f"{summary.worst:.2f}x ({summary.where})"]


def whole_table(results: Results) -> Table:
    """A line per tool over all rows: whole processes, as a user pays for them."""
    table = [["tool", "rows", "CPU geomean", "CPU worst", "RSS geomean", "RSS worst", "failed"]]
    rows = results.rows()
    for tool in results.profilers():
        cpu = summarize(results.cpu, tool, rows)
        failed = sum(results.cell(row.name, tool).failure is not None for row in rows)
        line = [TOOLS[tool].label, str(cpu.count if cpu else 0), *_pair(cpu)]
        table.append([*line, *_pair(summarize(results.rss, tool, rows)), str(failed)])
    return table


def running_table(results: Results) -> Table:
    """A line per tool over all rows: what its start costs, and the ratios of CPU time without it."""
    table = [["tool", "start ms", "start MiB", "CPU geomean", "CPU worst"]]
    rows = results.rows()
    for tool in results.profilers():
        cpu, rss = results.start_cpu(tool), results.start_rss(tool)
        line = [
            TOOLS[tool].label,
            "-" if cpu is None else f"{cpu * 1000:.0f}",
            "-" if rss is None else f"{rss / MIB:.1f}",
            *_pair(summarize(results.running_cpu, tool, rows)),
        ]
        table.append(line)
    return table


def group_table(results: Results) -> Table:
    """Geometric means by group: CPU time without start, and peak RSS of the whole process."""
    groups = [group for group in GROUPS if results.rows(group)]
    table = [["tool", *(f"{group} {what}" for group in groups for what in ("CPU", "RSS"))]]
    for tool in results.profilers():
        line = [TOOLS[tool].label]
        for group in groups:
            for ratio in (results.running_cpu, results.rss):
                found = summarize(ratio, tool, results.rows(group))
                line.append("-" if found is None else f"{found.mean:.2f}x")
        table.append(line)
    return table


def row_table(results: Results) -> Table:
    """A line per workload: the bare figures, then each tool's CPU, CPU without start (net), peak RSS."""
    columns = [f"{tool} {what}" for tool in results.profilers() for what in ("CPU", "net", "RSS")]
    table = [["workload", "CPU s", "RSS MiB", *columns]]
    for row in results.rows():
        cpu = results.median(row.name, NONE, lambda usage: usage.cpu)
        rss = results.median(row.name, NONE, lambda usage: usage.peak_rss / MIB)
        line = [row.name, _times(cpu), "-" if rss is None else f"{rss:.1f}"]
        for tool in results.profilers():
            if results.cell(row.name, tool).failure is not None:
                line += ["failed"] * 3
            else:
                line += [
                    _times(ratio(row.name, tool)) for ratio in (results.cpu, results.running_cpu, results.rss)
                ]
        table.append(line)
    return table


def failure_lines(results: Results) -> Iterable[str]:
    """One line for each thing that has no figure."""
    for name, reason in results.missing.items():
        yield f"{name}: not measured: {reason}"
    for workload, tool, reason in results.failures():
        yield f"{workload} under {tool}: {reason}"
