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

STYLE = """\
svg { background: #fff; --ink: #1f2328; --faint: #d8dee4; }
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid, .axis { stroke: var(--faint); fill: none; }
.axis { stroke: var(--ink); }
.live, .resident { fill: none; stroke: var(--of); stroke-width: 1.5; }
.resident { stroke-dasharray: 5 3; stroke-width: 1.2; }
.peak { fill: var(--of); }
.key { --of: var(--ink); }
"""
DARK = "svg { background: #0d1117; --ink: #e6edf3; --faint: #30363d; }"


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
    light = "".join(f".c{i} {{ --of: {colour(i)[0]}; }}\n" for i in range(len(timelines)))
    dark = " ".join([DARK, *(f".c{i} {{ --of: {colour(i)[1]}; }}" for i in range(len(timelines)))])
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">',
        f"<title>Memory over time: {escape(names)}</title>",
        f"<style>\n{STYLE}{light}@media (prefers-color-scheme: dark) {{ {dark} }}\n</style>",
        *_axes(x, y, at),
    ]
    for i, (name, timeline) in enumerate(timelines):
        out += _recording(i, name, timeline, at)
    out += _legend(timelines)
    return "\n".join([*out, "</svg>", ""])


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
