"""Timelines as PNG, drawn by matplotlib, which need not be installed."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

from memheft.views import scales, svg
from memheft.views.text import clean, cut
from memheft.views.timeline import Timeline

INCHES, DPI = (9.6, 4.6), 150


def draw(timelines: Sequence[tuple[str, Timeline]]) -> bytes:
    """The picture of these timelines and their names; ImportError without matplotlib."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have letters that its font has not
        figure(timelines).savefig(out, format="png", dpi=DPI, bbox_inches="tight")
    return out.getvalue()


def figure(timelines: Sequence[tuple[str, Timeline]]) -> Any:
    """The same as matplotlib's Figure.  pyplot, which looks for a display, is not needed for it."""
    made = importlib.import_module("matplotlib.figure").Figure(figsize=INCHES)
    axes = made.add_subplot()
    y = scales.of_sizes(max(timeline.most for _, timeline in timelines), svg.SIZE_STEPS)
    x = scales.of_times(max(timeline.end_ns for _, timeline in timelines), svg.TIME_TICKS)
    lines, names = [], []
    for i, (name, timeline) in enumerate(timelines):
        colour = _rgb(svg.colour(i)[0])
        steps = timeline.steps()
        edges = [steps[0][0], *(stop for _, stop, _, _ in steps)]
        resident = [float("nan") if size is None else size for _, _, _, size in steps]
        axes.stairs(resident, edges, baseline=None, color=colour, linestyle="--", linewidth=1)
        live = [size for _, _, size, _ in steps]
        lines.append(axes.stairs(live, edges, baseline=None, color=colour, linewidth=1.4))
        # matplotlib leaves out what begins with an underscore.
        label = f"{cut(clean(name), svg.LONGEST_NAME)}: {svg.describe(timeline)}"
        names.append(f" {label}" if label.startswith("_") else label)
        if timeline.peak_at_ns <= timeline.end_ns:
            axes.plot([timeline.peak_at_ns], [timeline.peak_bytes], "o", color=colour, markersize=4)
    axes.set_xlim(0, x.end)
    axes.set_ylim(0, y.end)
    axes.set_xticks([at for at, _ in x.ticks], [label for _, label in x.ticks])
    axes.set_yticks([at for at, _ in y.ticks], [label for _, label in y.ticks])
    axes.grid(axis="y", alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    where = {"loc": "upper left", "bbox_to_anchor": (0, -0.1), "frameon": False, "fontsize": 8}
    legend = axes.legend(lines, names, title="solid: live, dashed: resident", alignment="left", **where)
    for text in legend.get_texts():
        text.set_parse_math(False)  # $ is a letter
    return made


def _rgb(colour: str) -> object:
    """A colour of the web as one of matplotlib's."""
    if colour.startswith("#"):
        return colour
    import colorsys

    hue, saturation, light = (float(word.strip("%")) for word in colour[4:-1].split())
    return colorsys.hls_to_rgb(hue / 360, light / 100, saturation / 100)
