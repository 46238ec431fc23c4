"""Rows of a view, one class for each grouping: how they read in a table, and what keys they have in JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from memheft.views import sizes
from memheft.views.names import INTERPRETER, OWN, PATHS_CUT, REGION_SEPARATOR, STDLIB
from memheft.views.recording import Opened
from memheft.views.sources import Sources
from memheft.views.table import Cell, Place
from memheft.views.text import clean

if TYPE_CHECKING:
    from memheft import _engine
    from memheft._engine import _By, _Row

Json = dict[str, object]
IMPORTS_SHOWN = 3  # modules named beside a line that imports
STACK_SHOWN = 16  # frames of a stack in a table
OWNER_NEARLY_ALL = 0.9  # of a line's bytes: the calling line that carries so much is named without its share
OWNER_NAMED = 1 / 3  # with it; one that carries less is not worth a name


class Rows:
    """The rows of one view in one grouping, largest first."""

    def __init__(
        self,
        recording: Opened,
        view: _engine.View,
        by: _By,
        sources: Sources | None = None,
        own: bool = False,
    ) -> None:
        self.recording = recording
        self.view = view
        self.by = by
        self.rows = view.rows(by)
        self._sources = sources
        self._own = own
        self._frames = view.frames

    # -- JSON --------------------------------------------------------------------------------------------

    def json(self, row: _Row) -> Json:
        """A row with the keys that its grouping defines."""
        out: Json = {
            "bytes": row[0],
            "blocks": row[1],
            "inclusive_bytes": row[2],
            "inclusive_blocks": row[3],
        }
        if self.recording.is_sampled:
            out |= errors_json((row[10], row[11], row[13], row[14]))
        if row[6] is not None:  # nanoseconds from the start: the first and the last request of these blocks
            out |= {"first_ns": row[6], "last_ns": row[7]}
        if self.by == "line":
            file, line, function, module, imports = cast("tuple[int, int, str, str, tuple[str, ...]]", row[4])
            out |= {
                "file": self.recording.files[file],
                "line": line or None,
                "function": function,
                "module": module or None,
            }
            if imports:
                out["imports"] = list(imports)
            if row[5] >= 0:
                is_own = self.recording.classes[self._frames[row[5]][0]] == OWN
                kind = "owner" if is_own else "caller"
                out[kind] = self.frame_json(row[5])
                out[kind + "_bytes"] = row[8]
        elif self.by == "function":
            file, function, module = cast("tuple[int, str, str]", row[4])
            out |= {"file": self.recording.files[file], "function": function, "module": module or None}
        elif self.by == "file":
            out["file"] = self.recording.files[cast(int, row[4])]
        elif self.by == "module":
            out["module"] = row[4] or None
        elif self.by == "thread":
            out |= self.thread_json(cast(int, row[4]))
        elif self.by == "region":
            out["region"] = self._region_json(cast(int, row[4]))
        else:
            stack = [self.frame_json(frame) for frame in cast("tuple[int, ...]", row[4])]
            for place in row[9]:
                stack[place]["recursive"] = True
            out["stack"] = stack or [NO_FRAME]
            out |= self.thread_json(row[5])
            if row[12] >= 0:
                out["region"] = self._region_json(row[12])
        return out

    def frame_json(self, frame: int) -> Json:
        """A frame as json.md defines it."""
        file, line, column, function, module, imported = self._frames[frame]
        out: Json = {
            "file": self.recording.files[file],
            "line": line or None,
            "column": column or None,
            "function": function,
            "module": module or None,
        }
        if imported is not None:
            out["imports"] = imported
        return out

    def thread_json(self, thread: int) -> Json:
        """A thread as json.md defines it."""
        if not 0 <= thread < len(self.recording.threads):
            return {"thread": None, "thread_id": None}
        name, native, _ = self.recording.threads[thread]
        return {"thread": name, "thread_id": native or None}

    def _region_json(self, region: int) -> list[str]:
        return list(self.recording.regions[region]) if region >= 0 else []

    # -- tables ------------------------------------------------------------------------------------------

    def cells(self, row: _Row) -> Iterator[tuple[Cell, Cell]]:
        """Place and note of a row: one pair, or one for each frame of a stack."""
        if self.by == "line":
            file, line, function, _, _ = cast("tuple[int, int, str, str, tuple[str, ...]]", row[4])
            yield self.place(file, line, function), self.owner(row) or self.source(row)
        elif self.by == "function":
            file, function, _ = cast("tuple[int, str, str]", row[4])
            yield self.place(file, 0, function), ""
        elif self.by == "file":
            yield self.place(cast(int, row[4]), 0, ""), ""
        elif self.by == "module":
            yield Place(cast(str, row[4]) or "(no module)"), ""
        elif self.by == "thread":
            yield Place(thread_name(self.recording, cast(int, row[4]))), ""
        elif self.by == "region":
            yield Place(region_name(self.recording, cast(int, row[4]))), ""
        else:
            yield from self._stack_cells(cast("tuple[int, ...]", row[4]), row[5], row[9])
            if row[12] >= 0:
                yield f"in region {region_name(self.recording, row[12])}", ""

    def source(self, row: _Row) -> str:
        """The source of a row that is a line."""
        file, line, function, module, imports = cast("tuple[int, int, str, str, tuple[str, ...]]", row[4])
        return self.note(file, line, function, module, imports)

    def owner(self, row: _Row) -> Place | None:
        """The line for which a library's line worked: of one's own, else of an installed package.

        None when none carries enough of it.
        """
        owner, carried = row[5] if self.by == "line" else -1, row[8]
        if owner < 0 or carried <= 0 or carried < row[0] * OWNER_NAMED:
            return None
        part = "" if carried >= row[0] * OWNER_NEARLY_ALL else f" ({sizes.share(carried, row[0])})"
        return self.frame_place(owner, "<- ", part)

    def _stack_cells(
        self, stack: tuple[int, ...], thread: int, recursive: tuple[int, ...]
    ) -> Iterator[tuple[Cell, Cell]]:
        if not stack:
            yield Place(INTERPRETER), NO_OWN if self._own else NO_PYTHON
        for i, frame in enumerate(stack[:STACK_SHOWN]):
            yield self.frame_place(frame, tail=RECURSIVE if i in recursive else ""), self.frame_note(frame)
        if len(stack) > STACK_SHOWN:
            yield f"… {len(stack) - STACK_SHOWN} more callers", ""
        if len(self.recording.threads) > 1:
            yield f"in thread {thread_name(self.recording, thread)}", ""

    def frame_place(self, frame: int, guides: str = "", tail: str = "") -> Place:
        """Where a frame is."""
        file, line, _, function, _, _ = self._frames[frame]
        return replace(self.place(file, line, function, guides), tail=tail)

    def line_of(self, frame: int) -> tuple[int, int, str, str]:
        """What tells a frame's line from others; frames of one line may differ in what they import."""
        file, line, _, function, module, _ = self._frames[frame]
        return file, line, function, module

    def frame_import(self, frame: int) -> str:
        """What a frame imports, to be put behind its place."""
        imported = self._frames[frame][5]
        return f" (import of {clean(imported)})" if imported else ""

    def frame_note(self, frame: int, names_import: bool = False) -> str:
        """A frame's own source; `names_import`: and what it imports, also if the source says that."""
        file, line, _, function, module, imported = self._frames[frame]
        return self.note(file, line, function, module, (imported,) if imported else (), names_import)

    def place(self, file: int, line: int, function: str, guides: str = "") -> Place:
        """Where a line is."""
        name = self.recording.files[file]
        if name in (INTERPRETER, PATHS_CUT):
            return Place(name, guides=guides)
        return Place(self.recording.names.short(name), line or None, function, guides)

    def note(
        self,
        file: int,
        line: int,
        function: str,
        module: str,
        imports: Iterable[str],
        names_imports: bool = False,
    ) -> str:
        """The source of a line."""
        name = self.recording.files[file]
        if name == INTERPRETER:
            return NO_OWN if self._own else NO_PYTHON
        if name == PATHS_CUT:
            return NOT_KEPT
        source = self._sources.line(name, line, function, module) if self._sources is not None else None
        modules = list(imports)
        # What is no source stands in brackets.  `from a import b` may import much that it does not name.
        words = re.findall(r"\w+", source or "")
        if modules and (names_imports or not any(module.rpartition(".")[2] in words for module in modules)):
            more = f", {len(modules) - IMPORTS_SHOWN} more" if len(modules) > IMPORTS_SHOWN else ""
            said = f"(import of {', '.join(modules[:IMPORTS_SHOWN])}{more})"
            return clean(f"{source}  {said}" if source else said)
        if source:
            return clean(source)
        is_frozen = self.recording.classes[file] == STDLIB and name.startswith("<")
        return "(built into Python)" if is_frozen else ""


NO_PYTHON = "(no Python code was running)"
NO_OWN = "(none of your own code was running)"
RECURSIVE = " (recursive)"
NOT_KEPT = "(call paths not kept)"
NO_REGION = "(in no region)"
NO_FRAME: Json = {
    "file": INTERPRETER,
    "line": None,
    "column": None,
    "function": INTERPRETER,
    "module": INTERPRETER,
}


def thread_name(recording: Opened, thread: int) -> str:
    """How a thread is called."""
    if not 0 <= thread < len(recording.threads):
        return "(unknown)"
    name, native, _ = recording.threads[thread]
    return clean(name) if name else f"thread {native}" if native else "(unnamed)"


def region_name(recording: Opened, region: int) -> str:
    """How a region is called, with those around it."""
    return clean(REGION_SEPARATOR.join(recording.regions[region])) if region >= 0 else NO_REGION


def others(rows: list[_Row]) -> tuple[int, int]:
    """Bytes and blocks of rows that are not shown."""
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def errors_of_others(rows: list[_Row]) -> tuple[int, int]:
    """The standard errors of these sums."""
    return error_of(sum(row[10] ** 2 for row in rows)), error_of(sum(row[11] ** 2 for row in rows))


def error_of(square: int) -> int:
    """A standard error, from the sum of the squares of those of parts: parts are estimated apart.

    A little less than 0 is none: what a tree takes off again was rounded up.
    """
    return math.ceil(math.sqrt(max(square, 0)))


def errors_json(errors: Sequence[int]) -> Json:
    """The standard errors of a row's numbers, in their order: of two, or of all four."""
    names = ("bytes_error", "blocks_error", "inclusive_bytes_error", "inclusive_blocks_error")
    return dict(zip(names, errors, strict=False))
