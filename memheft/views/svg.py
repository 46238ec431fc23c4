"""Timelines as SVG: one file that any browser shows, light or dark, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from memheft.views import scales, sizes
from memheft.views.text import clean, cut
from memheft.views.timeline import Timeline

WIDTH, LEFT, RIGHT, TOP, HEIGHT = 960, 84, 24, 24, 320
LEGEND_TOP, LEGEND_ROW = 56, 20  # below the plot
SIZE_STEPS = (4, 5, 6)
TIME_TICKS = 10
LONGEST_NAME = 60

# Colours that colour-blind people tell apart (Okabe and Ito): each for light, and for dark surroundings.
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8a3d"),
    ("#009e73", "#2fd0a3"),
    ("#b0578f", "#e39bc6"),
    ("#8a6d00", "#e6c229"),
    ("#555555", "#bbbbbb"),
)

# Plain CSS: viewers that are no browsers know neither variables nor media queries, and show the light one.
STYLE = """\
text { font: 12px system-ui, sans-serif; }
path { fill: none; }
.live { stroke-width: 1.5; }
.resident { stroke-width: 1.2; stroke-dasharray: 5 3; }
"""
LIGHT, DARK = ("#ffffff", "#1f2328", "#d8dee4"), ("#0d1117", "#e6edf3", "#30363d")  # paper, ink, grid


def colour(i: int) -> tuple[str, str]:
    """The i-th recording's, for light and for dark."""
    if i < len(COLOURS):
        return COLOURS[i]
    hue = i * 137 % 360
    return f"hsl({hue} 65% 38%)", f"hsl({hue} 65% 68%)"


def draw(timelines: Sequence[tuple[str, Timeline]]) -> str:
    """The picture of these timelines and their names."""
    y = scales.of_sizes(max(timeline.most for _, timeline in timelines), SIZE_STEPS)
    x = scales.of_times(max(timeline.end_ns for _, timeline in timelines), TIME_TICKS)
    at = _Places(x.end, y.end)
    height = TOP + HEIGHT + LEGEND_TOP + LEGEND_ROW * (len(timelines) + 1)
    names = ", ".join(_name(name) for name, _ in timelines)
    light, dark = (_colours(i, len(timelines)) for i in range(2))
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">',
        f"<title>Memory over time: {escape(names)}</title>",
        f"<style>\n{STYLE}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n</style>",
        f'<rect width="{WIDTH}" height="{height}"/>',
        *_axes(x, y, at),
    ]
    for i, (name, timeline) in enumerate(timelines):
        out += _recording(i, name, timeline, at)
    out += _legend(timelines)
    return "\n".join([*out, "</svg>", ""])


def _colours(dark: int, n: int) -> str:
    paper, ink, grid = (LIGHT, DARK)[dark]
    rules = [f"rect {{ fill: {paper}; }}", f"text {{ fill: {ink}; }}", f".grid {{ stroke: {grid}; }}"]
    rules.append(f".axis, .key path {{ stroke: {ink}; }}")
    for i in range(n):
        of = colour(i)[dark]
        rules += [f".c{i} path {{ stroke: {of}; }}", f".c{i} circle {{ fill: {of}; }}"]
    return "\n".join(rules)


class _Places:
    """Where times and sizes lie in the picture."""

    def __init__(self, end_ns: int, end_bytes: int) -> None:
        self.end_ns, self.end_bytes = end_ns, end_bytes

    def x(self, time_ns: int) -> str:
        return _number(LEFT + (WIDTH - LEFT - RIGHT) * time_ns / self.end_ns)

    def y(self, size: int) -> str:
        return _number(TOP + HEIGHT - HEIGHT * size / self.end_bytes)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _axes(x: scales.Scale, y: scales.Scale, at: _Places) -> list[str]:
    right, bottom = WIDTH - RIGHT, TOP + HEIGHT
    out = ['<g class="sizes">']
    for size, label in y.ticks:
        place = at.y(size)
        out.append(f'<path class="grid" d="M{LEFT} {place}H{right}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{place}" dy="4" text-anchor="end">{label}</text>')
    out += ["</g>", '<g class="times">']
    for time, label in x.ticks:
        place = at.x(time)
        out.append(f'<path class="axis" d="M{place} {bottom}v5"/>')
        out.append(f'<text x="{place}" y="{bottom + 20}" text-anchor="middle">{label}</text>')
    return [*out, "</g>", f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>']


def _recording(i: int, name: str, timeline: Timeline, at: _Places) -> list[str]:
    steps = timeline.steps()
    live = _path([(start, stop, size) for start, stop, size, _ in steps], at)
    resident = _path([(start, stop, size) for start, stop, _, size in steps], at)
    out = [f'<g class="c{i}">', f"<title>{escape(_name(name))}</title>"]
    if resident:
        out.append(f'<path class="resident" d="{resident}"/>')
    out.append(f'<path class="live" d="{live}"/>')
    if timeline.peak_at_ns <= timeline.end_ns:
        x, y = at.x(timeline.peak_at_ns), at.y(timeline.peak_bytes)
        out.append(f'<circle class="peak" cx="{x}" cy="{y}" r="3.5"/>')
    return [*out, "</g>"]


def _path(steps: Sequence[tuple[int, int, int | None]], at: _Places) -> str:
    """Steps as a line; steps of the same height are one, and nothing is drawn where nothing is known."""
    out: list[str] = []
    before: str | None = None
    for start, stop, size in steps:
        if size is None:
            before = None
            continue
        y = at.y(size)
        if before is None:
            out.append(f"M{at.x(start)} {y}")
        elif y != before:
            out.append(f"V{y}")
        else:
            out.pop()
        out.append(f"H{at.x(stop)}")
        before = y
    return "".join(out)


def _legend(timelines: Sequence[tuple[str, Timeline]]) -> list[str]:
    out = []
    y = TOP + HEIGHT + LEGEND_TOP
    for i, (name, timeline) in enumerate(timelines):
        text = f"{_name(name)}: {describe(timeline)}"
        out.append(f'<g class="c{i}"><path class="live" d="M{LEFT} {y - 4}h24"/>')
        out.append(f'<text x="{LEFT + 32}" y="{y}">{escape(text)}</text></g>')
        y += LEGEND_ROW
    out.append(f'<g class="key"><path class="live" d="M{LEFT} {y - 4}h24"/>')
    out.append(f'<text x="{LEFT + 32}" y="{y}">live</text>')
    out.append(f'<path class="resident" d="M{LEFT + 80} {y - 4}h24"/>')
    out.append(f'<text x="{LEFT + 112}" y="{y}">resident</text></g>')
    return out


def describe(timeline: Timeline) -> str:
    """Its numbers, for a legend."""
    most = timeline.most_resident
    resident = f", resident {sizes.size(most)} at most" if most is not None else ""
    peak = f"peak {sizes.size(timeline.peak_bytes)} at {sizes.duration(timeline.peak_at_ns)}"
    return f"{peak}, {sizes.size(timeline.end_live)} at the end{resident}"


def _name(name: str) -> str:
    return cut(clean(name), LONGEST_NAME)
