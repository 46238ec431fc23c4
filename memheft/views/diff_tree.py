"""The call trees of two recordings, merged into one: each branch with what it was and what it is."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from memheft.views import sizes
from memheft.views.diff import Numbers, errors_json, head, moved_place, numbers_json
from memheft.views.matching import AFTER, BEFORE, Frame, Matching
from memheft.views.rows import RECURSIVE, Json, Rows
from memheft.views.table import Cell, Column, Place, Table
from memheft.views.tree import base_json, base_name

if TYPE_CHECKING:
    from memheft._engine import View, _TreeRow

WIDE = 110  # columns from which there is room for the source
OWN, ALL = 0, 2  # in the numbers of a side: its own bytes and blocks, those with all below it


class Branch:
    """A line, a thread or a region, and what was called from it (inverted: what called it)."""

    __slots__ = (
        "children",
        "churn",
        "frames",
        "numbers",
        "parent",
        "recursive",
        "regions",
        "squares",
        "threads",
    )

    def __init__(self, parent: Branch | None) -> None:
        self.parent = parent
        self.frames = [-1, -1]  # of each side
        self.threads = [-1, -1]
        self.regions = [-1, -1]
        self.numbers = [0, 0, 0, 0, 0, 0, 0, 0]  # OWN and ALL of the side before, then of the side after
        self.squares = [0, 0, 0, 0, 0, 0, 0, 0]  # of their standard errors
        self.churn = 0  # the sum of all changes in it, whatever their sign: calls that moved cancel out
        self.recursive = False
        self.children: dict[Hashable, Branch] = {}

    def add_errors(self, errors: Sequence[int], at: int, sign: int = 1) -> None:
        """Add standard errors to those of the numbers from `at` on, or take them off again."""
        for i, error in enumerate(errors, at):
            self.squares[i] += sign * error**2

    def before(self, what: int = ALL) -> Numbers:
        """Bytes and blocks of the side before."""
        return _pair(self.numbers, what)

    def after(self, what: int = ALL) -> Numbers:
        """Bytes and blocks of the side after."""
        return _pair(self.numbers, what + 4)

    @property
    def side(self) -> int:
        """Whose place is shown: the later's, if it is there."""
        return AFTER if max(self.frames[AFTER], self.threads[AFTER], self.regions[AFTER]) >= 0 else BEFORE

    @property
    def delta(self) -> int:
        """How much it grew."""
        return self.numbers[ALL + 4] - self.numbers[ALL]

    def rank(self) -> tuple[int, int, int]:
        """The order of siblings: largest change first; the rest as the engine has it."""
        return -abs(self.delta), -self.churn, -max(self.numbers[ALL], self.numbers[ALL + 4])


class Tree:
    """The merged tree."""

    def __init__(
        self, matching: Matching, views: tuple[View, View], inverted: bool, own: bool = False
    ) -> None:
        self.matching = matching
        self.views = views
        self.inverted = inverted
        before, after = (
            Rows(side.recording, view, "thread", side.sources, own)
            for side, view in zip(matching.sides, views, strict=True)
        )
        self.rows = (before, after)
        self._keys = (matching.frames(BEFORE), matching.frames(AFTER))
        self.root = Branch(None)
        self._branches: list[Branch] = []  # parents first
        trees = [view.tree(inverted) for view in views]
        has_threads = [any(row[0] > 0 and row[1] < 0 and row[8] < 0 for row in tree) for tree in trees]
        for side, tree in enumerate(trees):
            rows: Iterable[_TreeRow] = tree
            # A side of a single thread has no rows for threads.  Where the other has, it gets one; inverted,
            # where threads stand at the ends, the other loses its own.
            differ = has_threads[0] != has_threads[1]
            if differ and not inverted and not has_threads[side]:
                rows = self._with_thread(side, tree)
            self._merge(side, rows, drop_threads=differ and inverted)
        for branch in reversed(self._branches):
            numbers = branch.numbers
            branch.churn += abs(numbers[OWN + 4] - numbers[OWN])
            if branch.parent is not None:
                branch.parent.churn += branch.churn

    def _with_thread(self, side: int, tree: list[_TreeRow]) -> Iterator[_TreeRow]:
        """A tree of a single thread, which has no row for it, as one that has."""
        thread = next((row[4] for row in self.rows[side].rows if row[0] or row[1]), -1)
        if not isinstance(thread, int) or thread < 0:
            yield from tree
            return
        for row in tree:
            depth, errors = row[0], row[9]
            yield (depth + (depth > 0), row[1], -1, *row[3:])
            if depth == 0:
                yield (1, -1, thread, 0, 0, *row[5:7], False, -1, errors and (0, 0, *errors[2:]))

    def _merge(self, side: int, tree: Iterable[_TreeRow], drop_threads: bool) -> None:
        keys = self._keys[side]
        threads: list[Hashable] = [("thread", name) for name in self.matching.threads(side)]
        regions: list[Hashable] = [("region", names[-1]) for names in self.rows[side].recording.regions]
        folded = self.matching.folded(side)
        at, branches = side * 4, self._branches
        path = [self.root]
        for row in tree:
            depth, frame, thread, own, blocks, inclusive, inclusive_blocks, recursive, region, errors = row
            is_frame, is_region = frame >= 0, frame < 0 <= region
            del path[depth or 1 :]
            if depth == 0:
                branch = self.root
            elif drop_threads and not is_frame and not is_region:
                branch = path[-1]
                inclusive = inclusive_blocks = 0
                errors = errors[:2]
            else:
                parent = path[-1]
                key = threads[thread] if thread >= 0 else None
                if is_frame or is_region:
                    key = keys[frame] if is_frame else regions[region]
                if folded and self._is_one_function(parent, side, frame, folded):
                    # Without frames for comprehensions, their lines stand beside those of the function.
                    if self.inverted or key == keys[parent.frames[side]]:
                        parent.numbers[at] += own
                        parent.numbers[at + 1] += blocks
                        parent.add_errors(errors[:2], at)
                        path.append(parent)
                        continue
                    parent.numbers[at + 2] -= inclusive
                    parent.numbers[at + 3] -= inclusive_blocks
                    parent.add_errors(errors[2:], at + 2, -1)
                    parent = parent.parent or parent
                found = parent.children.get(key)
                if found is None:
                    branch = parent.children[key] = Branch(parent)
                    branches.append(branch)
                else:
                    branch = found
                path.append(branch)
                if is_frame:
                    branch.frames[side] = frame
                elif is_region:
                    branch.regions[side] = region
                elif thread >= 0:
                    branch.threads[side] = thread
                if recursive:
                    branch.recursive = True
            numbers = branch.numbers
            numbers[at] += own
            numbers[at + 1] += blocks
            numbers[at + 2] += inclusive
            numbers[at + 3] += inclusive_blocks
            if errors:
                branch.add_errors(errors, at)

    def _is_one_function(self, parent: Branch, side: int, frame: int, folded: set[int]) -> bool:
        """Say whether a frame and the one above are a comprehension and the function around."""
        above = parent.frames[side]
        if above < 0 or frame < 0 or (above if self.inverted else frame) not in folded:
            return False
        return self._frame(side, above)[:2] == self._frame(side, frame)[:2]

    def _frame(self, side: int, frame: int) -> Frame:
        return self.matching.frame[self._keys[side][frame]]

    # -- what is shown -----------------------------------------------------------------------------------

    def shown(self, branch: Branch, least: float, limit: int) -> tuple[list[Branch], list[Branch]]:
        """The branches below one, largest change first, and those that are folded."""
        children = sorted(branch.children.values(), key=Branch.rank)
        kept = [child for child in children if child.churn >= least][: limit or None]
        if len(kept) == len(children):
            return kept, []
        stays = set(map(id, kept))
        return kept, [child for child in children if id(child) not in stays]

    def document(self, view: Json, fold: float, limit: int, budget: Json | None) -> Json:
        """memheft.diff_tree: rows in the order of the drawing; `depth` says which hangs from which."""
        out: list[Json] = []
        recordings = (self.rows[BEFORE].recording, self.rows[AFTER].recording)
        estimated = any(recording.is_sampled for recording in recordings)
        least = self.root.churn * fold / 100
        todo: list[tuple[int, Branch | list[Branch]]] = self._below(self.root, 0, least, limit)
        while todo:
            depth, entry = todo.pop()
            if isinstance(entry, list):
                row: Json = {"depth": depth, "other": True, "branches": len(entry)}
                row |= _inclusive(numbers_json(*sums(entry)))
                if estimated:
                    row |= _inclusive(errors_json(*_sums_of(entry, "squares")))
                out.append(row)
                continue
            row = {"depth": depth} | numbers_json(entry.before(OWN), entry.after(OWN))
            row |= _inclusive(numbers_json(entry.before(), entry.after()))
            if estimated:
                row |= errors_json(_pair(entry.squares, OWN), _pair(entry.squares, OWN + 4))
                row |= _inclusive(errors_json(_pair(entry.squares, ALL), _pair(entry.squares, ALL + 4)))
            out.append(row | self._place_json(entry))
            todo += self._below(entry, depth + 1, least, limit)
        return head("memheft.diff_tree", recordings, self.views, view, budget) | {"rows": out}

    def _below(
        self, branch: Branch, depth: int, least: float, limit: int
    ) -> list[tuple[int, Branch | list[Branch]]]:
        """What comes below a branch, the last first."""
        kept, folded = self.shown(branch, least, limit)
        out: list[tuple[int, Branch | list[Branch]]] = [(depth, folded)] if folded else []
        return out + [(depth, child) for child in reversed(kept)]

    def _place_json(self, branch: Branch) -> Json:
        side = branch.side
        rows = self.rows[side]
        out: Json = {}
        if branch.frames[side] >= 0:
            out |= rows.frame_json(branch.frames[side])
            was = branch.frames[BEFORE]
            other = self.rows[BEFORE].frame_json(was) if was >= 0 else None
            out["line_before"] = other and other["line"]
            out["line_after"] = out["line"] if side == AFTER else None
            if other is not None and other["file"] != out["file"]:
                out["file_before"] = other["file"]
            is_there = other is not None and side == AFTER
            if is_there and self.matching.has_changed(self._frame(side, branch.frames[side])[:3]):
                out["text_changed"] = True
            if branch.recursive:
                out["recursive"] = True
        else:
            out |= base_json(rows, branch.threads[side], branch.regions[side])
        return out

    def table(self, fold: float, limit: int, width: int | None) -> Table:
        """The tree as a table; where `width` is small, without the source: guides and names come first."""
        columns = [Column("change"), Column("before"), Column("after")]
        has_source = width is None or width >= WIDE
        if has_source:
            columns.append(Column("" if self.inverted else "here"))
        columns.append(Column("called by" if self.inverted else "calls", "place"))
        drawn = Table([*columns, Column("", "note")] if has_source else columns)
        least = max(1.0, self.root.churn * fold / 100)
        # Each entry: a branch, or what is folded; does it say no more than its parent; the guides before it;
        # the guides before its children.
        todo = self._entries(self.root, "", least, limit)
        while todo:
            entry, is_same, guides, below = todo.pop()
            if isinstance(entry, list):
                before, after = sums(entry)
                text = f"({len(entry)} {'branch' if len(entry) == 1 else 'branches'} with smaller changes)"
                cells = _numbers(before, after)
                cells += ["", Place("", name=text, guides=guides), ""] if has_source else []
                drawn.add(*(cells if has_source else [*cells, Place("", name=text, guides=guides)]))
                continue
            cells = ["", "", ""] if is_same else _numbers(entry.before(), entry.after())
            place, note = self._place(entry, guides, has_source)
            if has_source:
                here = entry.after(OWN)[0] - entry.before(OWN)[0]
                cells.append(sizes.change(here) if here and not self.inverted else "")
                drawn.add(*cells, place, note)
            else:
                drawn.add(*cells, place)
            todo += self._entries(entry, below, least, limit)
        return drawn

    def _entries(
        self, branch: Branch, guides: str, least: float, limit: int
    ) -> list[tuple[Branch | list[Branch], bool, str, str]]:
        """What is drawn below a branch, the last first."""
        kept, folded = self.shown(branch, least, limit)
        # What is folded has a line if it is worth one; if nothing else is shown, the branch itself says it.
        changed = [child for child in folded if child.churn]
        if branch.parent is not None and (not kept or sum(child.churn for child in changed) < least):
            changed = []
        count = len(kept) + bool(changed)
        entries: list[tuple[Branch | list[Branch], bool, str, str]] = []
        for i, child in enumerate(kept):
            if count == 1:
                is_same = branch.parent is not None and child.numbers[ALL::4] == branch.numbers[ALL::4]
                entries.append((child, is_same, guides, guides))
            else:
                last = i == count - 1
                ends = ("└ ", "  ") if last else ("├ ", "│ ")
                entries.append((child, False, guides + ends[0], guides + ends[1]))
        if changed:
            entries.append((changed, False, guides + ("└ " if count > 1 else ""), ""))
        entries.reverse()
        return entries

    def _place(self, branch: Branch, guides: str, has_source: bool) -> tuple[Cell, str]:
        side = branch.side
        rows, frame = self.rows[side], branch.frames[side]
        if frame < 0:
            name = base_name(rows.recording, branch.threads[side], branch.regions[side])
            return Place("", name=name, guides=guides), ""
        tail = RECURSIVE if branch.recursive else ""
        if not has_source:
            tail = rows.frame_import(frame) + tail
        place = rows.frame_place(frame, guides, tail)
        if side == AFTER and branch.frames[BEFORE] >= 0:
            place = moved_place(place, self.matching.sides[BEFORE].frames[branch.frames[BEFORE]][1])
        return place, rows.frame_note(frame, names_import=True)


def sums(branches: list[Branch]) -> tuple[Numbers, Numbers]:
    """What branches were and are together."""
    return _sums_of(branches, "numbers")


def _sums_of(branches: list[Branch], what: str) -> tuple[Numbers, Numbers]:
    totals = [sum(column) for column in zip(*map(attrgetter(what), branches), strict=True)]
    return _pair(totals, ALL), _pair(totals, ALL + 4)


def _pair(numbers: list[int], at: int) -> Numbers:
    return numbers[at], numbers[at + 1]


def _inclusive(numbers: Json) -> Json:
    """The names of what is of a branch with all below it."""
    return {f"inclusive_{name}": value for name, value in numbers.items()}


def _numbers(before: Numbers, after: Numbers) -> list[Cell]:
    return [sizes.change(after[0] - before[0]), sizes.size(before[0]), sizes.size(after[0])]
