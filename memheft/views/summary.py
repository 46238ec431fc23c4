"""The few lines on stderr when a recorded program has ended."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from memheft.views import notices, sizes
from memheft.views.recording import Opened
from memheft.views.rows import Rows
from memheft.views.sources import Sources
from memheft.views.table import Column, Table, draw_plain
from memheft.views.text import clean

ROWS = 5
LEAST_SHARE = 0.01  # smaller rows are not worth a line, except the first

End = tuple[str, int | None]


def draw(recording: Opened, end: End, width: int | None, blob: bytes | None, notes: list[str]) -> str:
    """The summary, ended by a newline; `blob`: the sources, which the opened recording does not have yet."""
    header, totals = recording.header, recording.totals
    sampled = ""
    if recording.is_sampled:
        sampled = f", estimated from one allocation in {sizes.size(header['interval_bytes'])}"
    lines = [
        f"memheft: {clean(recording.label)} {how_it_ended(end)} "
        f"after {sizes.duration(recording.duration_ns)}{sampled}"
    ]

    peak = f"  peak  {sizes.size(totals['peak_bytes'])} at {sizes.duration(header['peak_at_ns'])}"
    resident = recording.known("rss_peak_bytes")
    if resident is not None:
        peak += f" (resident {sizes.size(resident)})"
    left = f"left  {sizes.size(totals['live_bytes'])} in {sizes.plural(totals['live_blocks'], 'block')}"
    if width is None or len(peak) + 6 + len(left) < width:
        lines.append(f"{peak}      {left}")
    else:
        lines += [peak, f"  {left}"]

    view = recording.view("peak")
    rows = Rows(recording, view, "line", Sources(recording, blob))
    table = Table(
        [Column(""), Column(""), Column(""), Column("", "place"), Column("", "note")], titles=False, indent=4
    )
    for row in rows.rows[:ROWS]:
        if row[0] <= 0 or (table.rows and row[0] < view.total_bytes * LEAST_SHARE):
            break
        for place, note in rows.cells(row):
            table.add(
                sizes.share(row[0], view.total_bytes),
                sizes.size(row[0]),
                sizes.plural(row[1], "block"),
                place,
                note,
            )
    if table.rows:
        lines.append("  at the peak")
        lines += draw_plain(table, width)
    losses = notices.of_losses(recording, view) + notices.of_cut_paths_in(recording, view, "sizes")
    lines += [f"memheft: {text}" for text in losses + notes]
    check = notices.check_line(recording)
    if check is None and os.environ.get("MEMHEFT_CHECK", "") not in ("", "0"):
        check = "check: 0 stacks compared, 0 mismatches"
    if check is not None:
        lines.append(f"memheft: {check}")
    cwd = recording.text("cwd") or ""
    lines.append(f"next: {_command(cwd)} report {_typed(recording.path, cwd)}")
    return "\n".join(lines) + "\n"


def how_it_ended(end: End) -> str:
    """`exited 0`, `was killed by SIGKILL`."""
    kind, value = end
    if kind == "signaled":
        return f"was killed by {notices.signal_name(value)}" if isinstance(value, int) else "was killed"
    return f"exited {value}" if isinstance(value, int) else "ended"


def never_started(recording: Opened) -> str:
    """The line for a program that ran without being recorded."""
    return f"memheft: {clean(recording.label)} was not recorded: {notices.why_not_recorded(recording)}\n"


def unreadable(path: str, end: End, reason: str) -> str:
    """The line for a recording that is gone or broken at the end."""
    if not os.path.exists(path):
        reason = "the recording was deleted or moved while the program ran"
    return f"memheft: the program {how_it_ended(end)}; no summary: {reason} ({clean(path)})\n"


def _typed(path: str, cwd: str) -> str:
    """A path as short as it can be typed in the folder of the start."""
    near = path.removeprefix(cwd + "/") if cwd else path
    return clean(shlex.quote(f"./{near}" if near.startswith("-") else near))


def _command(cwd: str) -> str:
    """How to call us again in the folder of the start: by the name on PATH, if it is us whom that finds."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return f"{_program(sys.executable, cwd)} -m memheft"
    return _program(sys.argv[0], cwd)


def _program(path: str, cwd: str) -> str:
    path, name = os.path.join(cwd, path), os.path.basename(path)
    found = shutil.which(name)
    if found is not None and _is_same(found, path):
        return name
    near = _typed(path, cwd)
    return near if os.sep in near else f"./{near}"


def _is_same(one: str, two: str) -> bool:
    """Say whether two names lead to the same entry of the same folder: links out of it are no matter."""
    folders = [os.path.realpath(os.path.dirname(path)) for path in (one, two)]
    return folders[0] == folders[1] and os.path.basename(one) == os.path.basename(two)
