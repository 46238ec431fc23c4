"""The tree of calls: small branches folded, chains of single callees drawn without indentation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memheft.views import sizes
from memheft.views.rows import RECURSIVE, Json, Rows, error_of, errors_json, thread_name
from memheft.views.table import Cell, Column, Place, Table
from memheft.views.text import clean

if TYPE_CHECKING:
    from memheft import _engine
    from memheft.views.recording import Opened

WIDE = 100  # columns from which there is room for the source


@dataclass
class Branch:
    """A frame, a thread or a region, and what was called from it (inverted: what called it)."""

    depth: int
    frame: int
    thread: int
    bytes: int
    blocks: int
    inclusive: int
    inclusive_blocks: int = 0
    recursive: bool = False  # recursion was folded onto it
    region: int = -1
    errors: tuple[int, ...] = ()  # standard errors of the four numbers, if they are estimates
    children: list[Branch] = field(default_factory=list)
    folded: int = 0  # children that are not shown
    folded_bytes: int = 0
    folded_blocks: int = 0
    folded_squares: tuple[int, int] = (0, 0)  # of the standard errors of these two
    is_twin: bool = False  # another child of its parent is the same line, importing something else
    same_as_parent: bool = False  # an only child with all of its parent's bytes


def grow(view: _engine.View, inverted: bool, fold: float, limit: int) -> Branch:
    """Build the tree of a view, under a root that is not drawn.

    Branches below `fold` percent, and those after the `limit` largest of a parent, are folded.
    """
    least = view.total_bytes * fold / 100
    root = Branch(-1, -1, -1, 0, 0, view.total_bytes)
    path = [root]
    hidden_below = -1  # inside a folded branch: its depth
    for row in view.tree(inverted):
        level, frame, thread, own, blocks, inclusive, inclusive_blocks, recursive, region, errors = row
        depth = level - 1  # the engine's first row is the root
        if depth < 0:
            continue
        if hidden_below >= 0:
            if depth > hidden_below:
                continue
            hidden_below = -1
        del path[depth + 1 :]
        parent = path[-1]
        if inclusive < least or (limit and len(parent.children) >= limit):
            parent.folded += 1
            parent.folded_bytes += inclusive
            parent.folded_blocks += inclusive_blocks
            if errors:
                square, square_blocks = parent.folded_squares
                parent.folded_squares = (square + errors[2] ** 2, square_blocks + errors[3] ** 2)
            hidden_below = depth
            continue
        numbers = own, blocks, inclusive, inclusive_blocks
        branch = Branch(depth, frame, thread, *numbers, recursive, region, errors)
        parent.children.append(branch)
        path.append(branch)
    return root


def table(
    rows: Rows, root: Branch, whole: int, inverted: bool, fold: float, width: int | None = None
) -> Table:
    """The tree as a table; where `width` is small, without the source: guides and names come first."""
    estimated = rows.recording.is_sampled
    columns = [
        Column("share"),
        Column("size"),
        *[Column("error")] * estimated,
        Column("" if inverted else "here"),
        Column("called by" if inverted else "calls", "place"),
    ]
    has_source = width is None or width >= WIDE
    drawn = Table([*columns, Column("", "note")] if has_source else columns)
    least = max(1.0, root.inclusive * fold / 100)  # a smaller rest of branches is not worth a line
    _find_twins(rows, root)
    # Each entry: a branch, or the folded rest of one; the guides before it; the guides before its children.
    todo: list[tuple[Branch, bool, str, str]] = _children(root, "", least)
    while todo:
        branch, is_rest, guides, below = todo.pop()
        if is_rest:
            text = f"({branch.folded} smaller {'branch' if branch.folded == 1 else 'branches'})"
            share, size = sizes.share(branch.folded_bytes, whole), sizes.size(branch.folded_bytes)
            error = [sizes.size(error_of(branch.folded_squares[0]))] * estimated
            cells: list[Cell] = [share, size, *error, "", Place("", name=text, guides=guides), ""]
            drawn.add(*cells[: len(drawn.columns)])
            continue
        place, note = _cells(rows, branch, guides, has_source)
        share, size = sizes.share(branch.inclusive, whole), sizes.size(branch.inclusive)
        error = [sizes.size(branch.errors[2])] if estimated else []
        if branch.same_as_parent:
            share = size = ""
            error = [""] * estimated
        here = sizes.size(branch.bytes) if branch.bytes and not inverted else ""
        cells = [share, size, *error, here, place, note]
        drawn.add(*cells[: len(drawn.columns)])
        _find_twins(rows, branch)
        todo += _children(branch, below, least)
    return drawn


def _find_twins(rows: Rows, branch: Branch) -> None:
    """Mark children that are the same line, as seen: they differ only in what it imports."""
    lines = Counter(rows.line_of(child.frame) for child in branch.children if child.frame >= 0)
    for child in branch.children:
        child.is_twin = child.frame >= 0 and lines[rows.line_of(child.frame)] > 1


def _children(branch: Branch, guides: str, least: float) -> list[tuple[Branch, bool, str, str]]:
    """What comes below a branch, the last first."""
    entries: list[tuple[Branch, bool, str, str]] = []
    rest = branch.folded_bytes >= least or (branch.folded > 0 and not branch.children and branch.depth < 0)
    count = len(branch.children) + rest
    for i, child in enumerate(branch.children):
        if count == 1:
            child.same_as_parent = branch.depth >= 0 and child.inclusive == branch.inclusive
            entries.append((child, False, guides, guides))
        else:
            last = i == count - 1
            entries.append(
                (child, False, guides + ("└ " if last else "├ "), guides + ("  " if last else "│ "))
            )
    if rest:
        entries.append((branch, True, guides + ("└ " if count > 1 else ""), ""))
    entries.reverse()
    return entries


def _cells(rows: Rows, branch: Branch, guides: str, has_source: bool) -> tuple[Cell, str]:
    if branch.frame >= 0:
        tail = RECURSIVE if branch.recursive else ""
        if branch.is_twin and not has_source:
            tail = rows.frame_import(branch.frame) + tail
        return rows.frame_place(branch.frame, guides, tail), rows.frame_note(branch.frame, branch.is_twin)
    return Place("", name=base_name(rows.recording, branch.thread, branch.region), guides=guides), ""


def base_name(recording: Opened, thread: int, region: int) -> str:
    """How the row of a thread reads, or of a region."""
    if region >= 0:
        return f"region {clean(recording.regions[region][-1])}"
    return f"thread {thread_name(recording, thread)}"


def base_json(rows: Rows, thread: int, region: int) -> Json:
    """What JSON says of such a row."""
    return {"region": rows.recording.regions[region][-1]} if region >= 0 else rows.thread_json(thread)


def json_rows(rows: Rows, root: Branch) -> list[Json]:
    """The tree as rows in the order of the drawing; `depth` says which row hangs from which."""
    out: list[Json] = []
    estimated = rows.recording.is_sampled
    todo: list[tuple[Branch, bool]] = [(child, False) for child in reversed(root.children)]
    if root.folded:
        todo.insert(0, (root, True))
    while todo:
        branch, is_rest = todo.pop()
        if is_rest:
            row: Json = {
                "depth": branch.depth + 1,
                "other": True,
                "branches": branch.folded,
                "bytes": None,
                "inclusive_bytes": branch.folded_bytes,
                "inclusive_blocks": branch.folded_blocks,
            }
            if estimated:
                error, blocks_error = map(error_of, branch.folded_squares)
                row |= {"inclusive_bytes_error": error, "inclusive_blocks_error": blocks_error}
            out.append(row)
            continue
        row = {
            "depth": branch.depth,
            "bytes": branch.bytes,
            "blocks": branch.blocks,
            "inclusive_bytes": branch.inclusive,
            "inclusive_blocks": branch.inclusive_blocks,
        }
        if estimated:
            row |= errors_json(branch.errors)
        if branch.frame >= 0:
            row |= rows.frame_json(branch.frame)
            if branch.recursive:
                row["recursive"] = True
        else:
            row |= base_json(rows, branch.thread, branch.region)
        out.append(row)
        if branch.folded:
            todo.append((branch, True))
        todo += [(child, False) for child in reversed(branch.children)]
    return out
