"""A timeline drawn with characters: live memory filled, resident memory a line, and where the peak was."""

from __future__ import annotations

from dataclasses import dataclass

from memheft.views import scales, sizes
from memheft.views.text import pad
from memheft.views.timeline import Timeline

ROWS = 12
STEPS = (3, 4)  # of the y axis: numbers that divide ROWS
WIDTH = 80  # where nothing says how wide it may be
NARROWEST = 10
COLUMNS_A_TIME = 10

Span = tuple[str, str | None]  # text, style
Cell = tuple[str, str | None]


@dataclass(frozen=True)
class Characters:
    """What a plot is drawn with."""

    fill: str  # from a ninth to a full cell: index = eighths
    line: str
    up: tuple[str, str, str]  # where the line rises: its lower end, between, its upper end
    down: tuple[str, str, str]  # where it falls: its lower end, between, its upper end
    axis: tuple[str, str, str, str, str]  # side, tick of the side, corner, bottom, tick of the bottom
    peak: str


BLOCKS = Characters(" ▁▂▃▄▅▆▇█", "─", ("╯", "│", "╭"), ("╰", "│", "╮"), ("│", "┤", "└", "─", "┬"), "▲")
ASCII = Characters(" ...:::##", "=", ("=", "|", "="), ("=", "|", "="), ("|", "+", "+", "-", "+"), "^")


def eighths(size: int, end: int) -> int:
    """How high a size is drawn, in eighths of a row; what is not nothing shows."""
    height = (2 * size * ROWS * 8 + end) // (2 * end)
    return max(height, 1) if size else 0


def row_of(size: int, end: int) -> int:
    """The row, from below, that a size lies in."""
    return min(size * ROWS // end, ROWS - 1)


def draw(timeline: Timeline, width: int, characters: Characters) -> list[list[Span]]:
    """The lines of the plot, axes and legend, no wider than `width`."""
    scale = scales.of_sizes(timeline.most, STEPS)
    gutter = max(len(label) for _, label in scale.ticks)
    columns = max(width - gutter - 2, NARROWEST)
    drawn = timeline.columns(columns)
    grid = _fill([live for live, _ in drawn], scale.end, characters)
    _line(grid, [resident for _, resident in drawn], scale.end, characters)

    labels = {at * ROWS // scale.end - 1: label for at, label in scale.ticks if at}
    side, tick, *_ = characters.axis
    lines: list[list[Span]] = []
    for row in reversed(range(ROWS)):
        label = labels.get(row, "")
        lines.append([(f"{label:>{gutter}} {tick if label else side}", "quiet"), *_spans(grid[row])])
    lines += _bottom(timeline, gutter, columns, characters)
    return [*lines, *_legend(timeline, width, characters)]


def _fill(live: list[int], end: int, characters: Characters) -> list[list[Cell]]:
    heights = [eighths(size, end) for size in live]
    grid: list[list[Cell]] = []
    for row in range(ROWS):
        parts = [min(max(height - 8 * row, 0), 8) for height in heights]
        grid.append([(characters.fill[part], "live" if part else None) for part in parts])
    return grid


def _line(grid: list[list[Cell]], resident: list[int | None], end: int, characters: Characters) -> None:
    """Draw the line over the filled part; what joins its steps only where nothing is."""
    before: int | None = None
    for column, size in enumerate(resident):
        if size is None:
            before = None
            continue
        row = row_of(size, end)
        char = characters.line
        if before is not None and row != before:
            low, between, high = characters.up if row > before else characters.down
            for at in range(min(row, before), max(row, before) + 1):
                joint = low if at == min(row, before) else high if at == max(row, before) else between
                if at == row:
                    char = joint
                elif grid[at][column][0] == " ":
                    grid[at][column] = (joint, "resident")
        if grid[row][column][0] != " ":
            char = characters.line
        grid[row][column] = (char, "resident")
        before = row


def _spans(cells: list[Cell]) -> list[Span]:
    """Cells of one style are one span; nothing is drawn behind the last."""
    out: list[tuple[str, str | None]] = []
    for char, style in cells:
        if out and out[-1][1] == style:
            out[-1] = (out[-1][0] + char, style)
        else:
            out.append((char, style))
    if out and not out[-1][0].strip():
        out.pop()
    return out


def _bottom(timeline: Timeline, gutter: int, columns: int, characters: Characters) -> list[list[Span]]:
    """The time axis, with the mark of the peak in it, and its times."""
    _, _, corner, flat, tick = characters.axis
    times = scales.of_times(timeline.end_ns, columns // COLUMNS_A_TIME)
    axis: list[Cell] = [(flat, "quiet")] * columns
    names = ""
    for at, label in times.ticks:
        column = timeline.column_of(at, columns)
        assert column is not None
        axis[column] = (tick, "quiet")
        start = max(min(gutter + 2 + column - (len(label) - 1) // 2, gutter + 2 + columns - len(label)), 0)
        if not names or start > len(names) + 1:
            names = pad(names, start) + label
    peak = timeline.column_of(timeline.peak_at_ns, columns)
    if peak is not None:
        axis[peak] = (characters.peak, "peak")
    return [[(f"{'0':>{gutter}} {corner}", "quiet"), *_spans(axis)], [(names, "quiet")]]


def _legend(timeline: Timeline, width: int, characters: Characters) -> list[list[Span]]:
    peak = f"peak {sizes.size(timeline.peak_bytes)} at {sizes.duration(timeline.peak_at_ns)}"
    most = timeline.most_resident
    resident = f"resident, {sizes.size(most)} at most" if most is not None else "resident: not known"
    parts = [
        (characters.fill[8], "live", f" live, {sizes.size(timeline.end_live)} at the end"),
        (characters.line, "resident", f" {resident}"),
        (characters.peak, "peak", f" {peak}"),
    ]
    lines: list[list[Span]] = []
    used = width
    for mark, style, text in parts:
        wide = len(mark) + len(text)
        if used + 3 + wide > width:
            lines.append([])
            used = 0
        else:
            lines[-1].append(("   ", None))
            used += 3
        lines[-1] += [(mark, style), (text, None)]
        used += wide
    return lines
