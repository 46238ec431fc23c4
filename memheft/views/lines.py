"""Annotated source: what each line of a file or a function allocated, itself and in what it called."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memheft.views import sizes
from memheft.views.names import INTERPRETER, PATHS_CUT
from memheft.views.recording import Opened
from memheft.views.rows import Json, error_of, errors_json
from memheft.views.sources import Sources
from memheft.views.table import Cell, Column, Table
from memheft.views.text import clean

if TYPE_CHECKING:
    from memheft import _engine

CONTEXT = 2  # lines shown around one that allocated
SHOWN = 20  # candidates named in an error


class NotFoundError(Exception):
    """No file or function of that name, or more than one; the message says which."""


@dataclass
class Line:
    """The numbers of a line."""

    bytes: int = 0
    blocks: int = 0
    inclusive_bytes: int = 0
    inclusive_blocks: int = 0
    squares: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # of the standard errors of these

    def add(self, size: int, blocks: int, errors: tuple[int, ...]) -> None:
        """Add what was allocated here itself; `errors` as in a row of a tree."""
        self.bytes += size
        self.blocks += blocks
        if errors:
            self.squares[0] += errors[0] ** 2
            self.squares[1] += errors[1] ** 2

    def add_inclusive(self, size: int, blocks: int, errors: tuple[int, ...]) -> None:
        """Add that and all below it."""
        self.inclusive_bytes += size
        self.inclusive_blocks += blocks
        if errors:
            self.squares[2] += errors[2] ** 2
            self.squares[3] += errors[3] ** 2

    def json(self, estimated: bool) -> Json:
        """Its numbers, with the standard errors of estimates."""
        out: Json = {
            "bytes": self.bytes,
            "blocks": self.blocks,
            "inclusive_bytes": self.inclusive_bytes,
            "inclusive_blocks": self.inclusive_blocks,
        }
        return out | errors_json(list(map(error_of, self.squares))) if estimated else out


@dataclass
class Annotated:
    """A file or a function with the numbers of its lines."""

    file: str
    function: str | None
    lines: dict[int, Line]
    text: list[str] | None  # the whole file
    first: int = 1
    end: int = 0  # the last line shown
    total: Line = field(default_factory=Line)


def annotate(recording: Opened, view: _engine.View, sources: Sources, name: str) -> Annotated:
    """Find what `name` means (FILE, FUNCTION or FILE:FUNCTION) and count its lines."""
    file, function = _find(recording, view, name)
    lines, total = _count(view, file, function)
    path = recording.files[file]
    text = sources.text(path)
    if text and not text[-1]:
        text = text[:-1]  # what follows the last newline is no line
    if text is None and lines:
        found = {line: sources.line(path, line, function or "", "__main__") for line in lines}
        if any(found.values()):
            text = [found.get(line) or "" for line in range(1, max(lines) + 1)]
            return Annotated(path, function, lines, text, min(lines), max(lines), total)
    out = Annotated(path, function, lines, text, total=total)
    out.first, out.end = 1, len(text) if text is not None else max(lines, default=0)
    if function is not None:
        span = _span(text, function, lines) if text is not None else None
        if span is None:
            span = (min(lines, default=1), max(lines, default=0))
        out.first, out.end = span
    return out


def _find(recording: Opened, view: _engine.View, name: str) -> tuple[int, str | None]:
    nobody = (INTERPRETER, PATHS_CUT)
    files = {frame[0] for frame in view.frames if recording.files[frame[0]] not in nobody}
    found = _files(recording, view, files, name)
    if len(found) == 1:
        return found.pop(), None
    if len(found) > 1:
        raise NotFoundError(f"{name!r} is more than one file: {_list(recording, found)}")
    part, colon, wanted = name.rpartition(":")
    if not colon:
        wanted = name
    among = _files(recording, view, files, part) if colon else files
    pairs = {(frame[0], frame[3]) for frame in view.frames if frame[0] in among}
    exact = {pair for pair in pairs if pair[1] == wanted}
    last = exact or {pair for pair in pairs if pair[1].endswith("." + wanted)}
    if len(last) == 1:
        return last.pop()
    if last:
        names = sorted(
            f"{recording.names.short(recording.files[file])}:{function}" for file, function in last
        )
        more = ", …" if len(names) > SHOWN else ""
        raise NotFoundError(f"{name!r} is more than one function: {', '.join(names[:SHOWN])}{more}")
    raise NotFoundError(f"no file and no function {name!r} allocated anything in this view")


def _files(recording: Opened, view: _engine.View, files: set[int], name: str) -> set[int]:
    """Files of that path, then of that end of a path, then of that module."""
    names = recording.names
    path = name.removeprefix("./")
    exact = {file for file in files if path in (recording.files[file], names.short(recording.files[file]))}
    if exact:
        return exact
    ends = {file for file in files if path and recording.files[file].endswith("/" + path)}
    return ends or {frame[0] for frame in view.frames if frame[0] in files and frame[4] == name}


def _list(recording: Opened, files: set[int]) -> str:
    names = sorted(recording.names.short(recording.files[file]) for file in files)
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _count(view: _engine.View, file: int, function: str | None) -> tuple[dict[int, Line], Line]:
    """Count a file's lines.  A line counts each block below it once, however often it stands in a stack."""
    frames = view.frames
    wanted = [frame[0] == file and function in (None, frame[3]) for frame in frames]

    lines: dict[int, Line] = {}
    total = Line()
    path: list[int] = []  # for each ancestor: its line in the file, 0 if it stands elsewhere
    standing: dict[int, int] = {}  # how often a line stands on the path
    for depth, frame, _, own, blocks, inclusive, inclusive_blocks, _, _, errors in view.tree(False):
        while len(path) > depth:
            left = path.pop()
            if left:
                standing[left] -= 1
                if not standing[left]:
                    del standing[left]
        number = frames[frame][1] if frame >= 0 and wanted[frame] else 0
        path.append(number)
        if not number:
            continue
        line = lines.setdefault(number, Line())
        line.add(own, blocks, errors)
        total.add(own, blocks, errors)
        if not standing:
            total.add_inclusive(inclusive, inclusive_blocks, errors)
        if number not in standing:
            line.add_inclusive(inclusive, inclusive_blocks, errors)
        standing[number] = standing.get(number, 0) + 1
    return lines, total


def _span(text: list[str], function: str, lines: dict[int, Line]) -> tuple[int, int] | None:
    """Find where a function's definition begins and ends; of several, the one that holds the lines."""
    try:
        tree = ast.parse("\n".join(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        node, prefix = todo.pop()
        for child in ast.iter_child_nodes(node):
            below = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = prefix + child.name
                below = name + ("." if isinstance(child, ast.ClassDef) else ".<locals>.")
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                end = child.end_lineno or first
                if name == function and all(first <= line <= end for line in lines):
                    return first, end
            todo.append((child, below))
    return None


def json_lines(annotated: Annotated, estimated: bool) -> list[Json]:
    """The lines that allocated, in the order of the file."""
    out: list[Json] = []
    for number in sorted(annotated.lines):
        text = annotated.text
        source = text[number - 1] if text is not None and number <= len(text) else None
        out.append({"line": number} | annotated.lines[number].json(estimated) | {"text": source})
    return out


def table(annotated: Annotated, whole: int, every_line: bool, estimated: bool) -> Table:
    """The source with its numbers; of a long file, what stands around the lines that allocated."""
    drawn = Table(
        [
            Column("share"),
            Column("size"),
            *[Column("error")] * estimated,
            Column("blocks"),
            Column("with calls"),
            Column("line"),
            Column("source", "note"),
        ]
    )
    empty: list[Cell] = [""] * (4 + estimated)
    text = annotated.text
    if text is None:
        shown = sorted(annotated.lines)
    else:
        shown = list(range(annotated.first, min(annotated.end, len(text)) + 1))
        if not every_line and (annotated.function is None or len(shown) > 80):
            near = {line + distance for line in annotated.lines for distance in range(-CONTEXT, CONTEXT + 1)}
            shown = [line for line in shown if line in near]
    before = annotated.first - 1
    for number in shown:
        if number != before + 1 and text is not None:
            drawn.add(*empty, "", "…")
        before = number
        source = clean(text[number - 1].rstrip()) if text is not None and number <= len(text) else ""
        line = annotated.lines.get(number)
        if line is None:
            drawn.add(*empty, str(number), source)
            continue
        drawn.add(
            sizes.share(line.bytes, whole) if line.bytes else "",
            sizes.size(line.bytes) if line.bytes else "",
            *[sizes.size(error_of(line.squares[0])) if line.bytes else ""] * estimated,
            sizes.count(line.blocks) if line.blocks else "",
            sizes.size(line.inclusive_bytes),
            str(number),
            source,
        )
    if shown and text is not None and before < min(annotated.end, len(text)):
        drawn.add(*empty, "", "…")
    return drawn
