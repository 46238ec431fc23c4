"""The JSON documents.  Their names are a contract: more may be added, none is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from memheft.views.recording import Opened
from memheft.views.rows import Json, Rows, errors_json, errors_of_others, others
from memheft.views.stdout import stdout

if TYPE_CHECKING:
    from memheft import _engine
    from memheft.views.timeline import Timeline

VERSION = 1
STATES = {1: "created", 2: "running", 3: "sealed", 4: "closed"}
_ROWS_KEYS = ("rows", "files", "lines", "threads")


def recording(opened: Opened) -> Json:
    """The recording's header, the same in every document."""
    header = opened.header
    return {
        "path": opened.path,
        "command": opened.texts("command") or None,
        "pid": opened.known("pid"),
        "python": opened.text("python"),
        "started": opened.started,
        "duration_ns": opened.duration_ns or None,
        "mode": opened.mode,
        "interval_bytes": opened.known("interval_bytes"),
        "complete": opened.complete,
        "exit_code": opened.exit_code,
        "lost_events": header["lost_events"],
        "tool_bytes": opened.known("tool_bytes"),
        "state": STATES.get(opened.state),
        "running": opened.running,
        "cut_events": header["cut_events"],
        "paths_cut": opened.paths_cut,
        "folded_nodes": header["folded_nodes"],
    }


def totals(opened: Opened, view: _engine.View | None) -> Json:
    """The sums of a view and of its recording."""
    out: Json = {}
    if view is not None:
        out = {"bytes": view.total_bytes, "blocks": view.total_blocks}
        if opened.is_sampled:
            out |= errors_json((view.bytes_error, view.blocks_error))
        # Of these only the innermost line is known:
        out |= {"cut_bytes": view.cut_bytes, "cut_blocks": view.cut_blocks}
        # Of these, at most, the line is that of a caller:
        out |= {"uncertain_bytes": view.uncertain_bytes, "uncertain_blocks": view.uncertain_blocks}
    known = opened.totals
    return out | {
        "peak_bytes": known["peak_bytes"],
        "peak_blocks": known["peak_blocks"],
        "peak_at_ns": opened.header["peak_at_ns"] if known["peak_bytes"] else None,
        "live_bytes": known["live_bytes"],
        "live_blocks": known["live_blocks"],
        "allocated_bytes": known["allocated_bytes"],
        "allocated_blocks": known["allocated_blocks"],
        "rss_peak_bytes": opened.known("rss_peak_bytes"),
    }


def report(opened: Opened, view: Json, rows: Rows, limit: int) -> Json:
    """memheft.report: the rows of one grouping."""
    shown = rows.rows[:limit] if limit else rows.rows
    rest = rows.rows[len(shown) :]
    listed = [rows.json(row) for row in shown]
    if rest:
        rest_bytes, rest_blocks = others(rest)
        other: Json = {"other": True, "bytes": rest_bytes, "blocks": rest_blocks}
        if opened.is_sampled:
            other |= errors_json(errors_of_others(rest))
        listed.append(other)
    return {
        "schema": "memheft.report",
        "version": VERSION,
        "recording": recording(opened),
        "view": view,
        "totals": totals(opened, rows.view),
        "rows": listed,
    }


def info(opened: Opened) -> Json:
    """memheft.info: what a recording is."""
    header = opened.header
    out: Json = {
        "schema": "memheft.info",
        "version": VERSION,
        "kind": "recording",
        "format_version": header["format_version"],
        "file_bytes": header["file_bytes"],
        "recording": recording(opened),
        "totals": totals(opened, None),
        "program": {
            "script": opened.text("script"),
            "kind": opened.text("kind"),
            "cwd": opened.text("cwd"),
            "executable": opened.text("executable"),
            "host": opened.text("host"),
            "memheft": opened.text("memheft"),
        },
        "counts": {
            "nodes": header["node_n"],
            "codes": header["code_n"],
            "files": len(opened.files),
            "threads": len(opened.threads),
            "regions": len(opened.regions),
        },
        "threads": [
            {"thread": name, "thread_id": native or None, "started_ns": started}
            for name, native, started in opened.threads
        ],
    }
    if header["check_compared"]:
        out["check"] = {"compared": header["check_compared"], "mismatches": header["check_mismatches"]}
    return out


def timeline(opened: Opened, points: Timeline) -> Json:
    """memheft.timeline: memory over time."""
    return {
        "schema": "memheft.timeline",
        "version": VERSION,
        "recording": recording(opened),
        "interval_ns": points.interval_ns,
        "live_bytes": points.live,
        "resident_bytes": points.resident,
    }


def write(document: Json) -> None:
    """Write the document to stdout: UTF-8, one row a line.  Raises OSError if there is none."""
    out = stdout()
    raw = getattr(out, "buffer", None)
    for piece in pieces(document):
        if raw is None:
            out.write(piece.decode("utf-8"))
        else:
            raw.write(piece)


def pieces(document: Json) -> Iterator[bytes]:
    """The document's text."""
    for i, (key, value) in enumerate(document.items()):
        yield b"{\n " if i == 0 else b",\n "
        yield _encode(key) + b": "
        if key in _ROWS_KEYS and isinstance(value, list) and value:
            for j, row in enumerate(value):
                yield b"[\n  " if j == 0 else b",\n  "
                yield _encode(row)
            yield b"\n ]"
        else:
            yield _encode(value)
    yield b"\n}\n"


_plain = json.JSONEncoder(ensure_ascii=False).encode
_escaped = json.JSONEncoder(ensure_ascii=True).encode


def _encode(value: object) -> bytes:
    try:
        return _plain(value).encode("utf-8")
    except UnicodeEncodeError:
        # A file name that is no text: JSON can still hold it, escaped.
        return _escaped(value).encode("ascii")
