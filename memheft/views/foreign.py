"""Formats that are bytes of another tool's dialect.

The engine writes them (engine/export); what they say of the program, and which moments they show, is put
together here.
"""

from __future__ import annotations

import gzip
import json
import shlex
from typing import TYPE_CHECKING

from memheft._version import __version__
from memheft.views import notices, sizes
from memheft.views.recording import Opened
from memheft.views.rows import Json, thread_name
from memheft.views.text import well_formed

if TYPE_CHECKING:
    from memheft import _engine
    from memheft._engine import _Moment, _Profile
    from memheft.cli.query import Query

ALL_THREADS = -2


def _encode(text: str) -> bytes:
    """As the recording has it: the engine makes it well-formed."""
    return text.encode("utf-8", "surrogatepass")


def collapsed(recording: Opened, view: _engine.View) -> bytes:
    """Collapsed stacks, with files as reports call them."""
    return view.collapsed([_encode(recording.names.short(file)) for file in recording.files])


def chrome(recording: Opened) -> bytes:
    """A trace of counters: live and resident bytes over time, in microseconds from the start."""
    pid, timeline, totals = recording.header["pid"], recording.engine.timeline, recording.totals
    interval, points = timeline or (0, [])

    def event(kind: str, name: str, ns: int, /, **args: object) -> Json:
        return {"ph": kind, "name": name, "pid": pid, "tid": pid, "ts": ns / 1000, "args": args}

    events = [event("M", "process_name", 0, name=well_formed(recording.label))]
    for i, (live, resident) in enumerate(points):
        events.append(event("C", "live", i * interval, bytes=live))
        if resident is not None:
            events.append(event("C", "resident", i * interval, bytes=resident))
    end = max(recording.duration_ns, (len(points) - 1) * interval)
    events.append(event("C", "live", end, bytes=totals["live_bytes"]))
    peak = event("i", "peak", recording.header["peak_at_ns"], bytes=totals["peak_bytes"])
    events.append(peak | {"s": "p"})
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in events)
    about = {"memheft": __version__, "command": well_formed(shlex.join(recording.texts("command")))}
    return (
        f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":[\n{lines}\n]}}\n'.encode()
    )


# -- pprof -------------------------------------------------------------------------------------------------


def pprof(query: Query, view: _engine.View) -> bytes:
    """A heap profile as Go's are: all that was allocated, and what was in use at one moment.

    Of temporary blocks there is no such moment: they are what was allocated.
    """
    recording, moment = query.recording, query.moment
    if moment == "temporary":
        alloc, inuse = view, None
    elif moment == "total":
        alloc, inuse = view, query.view("live")
    else:
        alloc, inuse = query.view("total"), view
    after = recording.header["peak_at_ns"] if moment == "peak" else recording.duration_ns
    data = recording.engine.pprof(
        alloc,
        inuse,
        "inuse_space" if moment in ("peak", "live") else "alloc_space",
        _encode(recording.text("executable") or "python"),
        [_encode(" ".join(line.split())) for line in _comments(query, view)],
        recording.header["created_unix_ns"] + after,
        recording.duration_ns,
    )
    return gzip.compress(data, 6, mtime=0)


def _comments(query: Query, view: _engine.View) -> list[str]:
    recording = query.recording
    command = recording.texts("command")
    lines = [shlex.join(command) if command else recording.label]
    if query.moment == "temporary":
        blocks = "another block" if query.span == 1 else f"another {query.span} blocks"
        lines.append(f"alloc_*: blocks that were freed before their thread asked for {blocks}")
    else:
        lines.append("alloc_*: every block that was asked for")
        if query.moment == "peak":
            when = f"at the peak, {sizes.duration(recording.header['peak_at_ns'])} after the start"
        else:
            when = "now" if recording.running else "at the end"
        lines.append(f"inuse_*: blocks that were live {when}")
    interval = recording.header["interval_bytes"]
    how = f"sampled, one in {interval} bytes" if recording.header["mode"] else "exact"
    lines.append(f"memheft {__version__}; Python {recording.text('python') or '?'}; {how}")
    if query.filters:
        lines.append(" ".join(query.filters))
    return lines + notices.of(recording, view, "callers")


# -- speedscope --------------------------------------------------------------------------------------------


def speedscope(query: Query, view: _engine.View) -> bytes:
    """The moments as profiles of one file, then the threads of the one that was asked for."""
    recording = query.recording
    moments: list[tuple[_Moment, str, bool]] = [
        ("peak", "Peak bytes", False),
        ("live", "Bytes live now" if recording.running else "Bytes left at the end", False),
        ("total", "Total allocated bytes", False),
        ("total", "Allocation count", True),
    ]
    if query.moment == "temporary":
        moments.append(("temporary", "Temporary bytes", False))
    views = {moment: query.view(moment) for moment, _, _ in moments} | {query.moment: view}
    profiles: list[_Profile] = []
    active, title = 0, ""
    for moment, name, blocks in moments:
        if moment == query.moment and not blocks:
            active, title = len(profiles), name
        elif not views[moment].total_blocks:
            continue
        profiles.append((views[moment], _encode(name), ALL_THREADS, blocks))
    threads = view.rows("thread")
    if len(threads) > 1:
        for row in threads:
            thread = row[4] if isinstance(row[4], int) else -1
            name = thread_name(recording, thread) if thread >= 0 else "no thread"
            profiles.append((view, _encode(f"{title}, {name}"), thread, False))
    return recording.engine.speedscope(profiles, active, _encode(recording.label), f"memheft@{__version__}")
