"""What grew and what shrank between two recordings: rows of one grouping, largest change first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from memheft.views import documents, sizes
from memheft.views.matching import AFTER, BEFORE, Matching
from memheft.views.rows import Json, Rows, error_of
from memheft.views.table import Cell, Column, Place, Table
from memheft.views.text import clean

if TYPE_CHECKING:
    from memheft._engine import View, _By, _Row
    from memheft.views.recording import Opened

Numbers = tuple[int, int]  # bytes, blocks
NOTHING: Numbers = (0, 0)
WIDE = 100  # columns from which the change of blocks is shown
_OF_ONE_SIDE = (
    "bytes blocks bytes_error blocks_error inclusive_bytes inclusive_blocks inclusive_bytes_error "
    "inclusive_blocks_error first_ns last_ns "
    "owner owner_bytes caller caller_bytes"
).split()


@dataclass(slots=True)
class Change:
    """One row: what it was, and what it is."""

    before: Numbers
    after: Numbers
    rows: tuple[_Row | None, _Row | None]  # of those that became this one, the largest of each side
    place: tuple[int, str, int] | None = None  # of a line, see matching.py
    squares: tuple[Numbers, Numbers] = (
        NOTHING,
        NOTHING,
    )  # of the standard errors; 0 where nothing is estimated

    @property
    def delta(self) -> Numbers:
        """How much it grew."""
        return self.after[0] - self.before[0], self.after[1] - self.before[1]


def numbers_json(before: Numbers, after: Numbers) -> Json:
    """The numbers of a row or of the totals."""
    return {
        "bytes_before": before[0],
        "bytes_after": after[0],
        "bytes_delta": after[0] - before[0],
        "blocks_before": before[1],
        "blocks_after": after[1],
        "blocks_delta": after[1] - before[1],
    }


def errors_json(before: Numbers, after: Numbers) -> Json:
    """The standard errors of such numbers, from their squares; of a difference, the root of their sum."""
    out: Json = {}
    for at, name in enumerate(("bytes", "blocks")):
        for when, square in (("before", before[at]), ("after", after[at]), ("delta", before[at] + after[at])):
            out[f"{name}_{when}_error"] = error_of(square)
    return out


class Diff:
    """The rows of two views, matched."""

    def __init__(self, matching: Matching, views: tuple[View, View], by: _By, own: bool = False) -> None:
        self.matching = matching
        self.views = views
        self.by = by
        before, after = (
            Rows(side.recording, view, by, side.sources, own)
            for side, view in zip(matching.sides, views, strict=True)
        )
        self.rows = (before, after)
        self.changes = self._match()

    @property
    def recordings(self) -> tuple[Opened, Opened]:
        """The two."""
        return self.rows[BEFORE].recording, self.rows[AFTER].recording

    def _match(self) -> list[Change]:
        found: dict[Hashable, Change] = {}
        for side in (BEFORE, AFTER):
            for key, row in zip(self._keys(side), self.rows[side].rows, strict=True):
                if not row[0] and not row[1]:
                    continue  # it only called what allocated
                change = found.get(key)
                if change is None:
                    change = found[key] = Change(NOTHING, NOTHING, (None, None))
                    if self.by == "line":
                        change.place = cast("tuple[tuple[int, str, int], str]", key)[0]
                squares = change.squares[side]
                both = [*change.squares]
                both[side] = (squares[0] + row[10] ** 2, squares[1] + row[11] ** 2)
                change.squares = (both[0], both[1])
                if side == BEFORE:
                    change.before = (change.before[0] + row[0], change.before[1] + row[1])
                    change.rows = (change.rows[0] or row, None)
                else:
                    change.after = (change.after[0] + row[0], change.after[1] + row[1])
                    change.rows = (change.rows[0], change.rows[1] or row)
        out = list(found.values())
        # Ties keep the order of the recording after, then of the one before: by file, line and name.
        order = {id(row): at for rows in self.rows for at, row in enumerate(rows.rows)}

        def rank(change: Change) -> tuple[int, int, int, bool, int]:
            size, blocks = change.delta
            last = change.rows[1] or change.rows[0]
            most = max(change.before[0], change.after[0])
            return -abs(size), -abs(blocks), -most, change.rows[1] is None, order[id(last)]

        out.sort(key=rank)
        return out

    def _keys(self, side: int) -> Iterator[Hashable]:
        match, rows = self.matching, self.rows[side].rows
        if self.by == "line":
            for row in rows:
                file, line, function, module, _ = cast("tuple[int, int, str, str, tuple[str, ...]]", row[4])
                yield match.line(side, file, line, function), match.maker(side, file, module)
        elif self.by == "function":
            for row in rows:
                file, function, module = cast("tuple[int, str, str]", row[4])
                yield match.file(side, file), match.function(function), match.maker(side, file, module)
        elif self.by == "file":
            for row in rows:
                yield match.file(side, cast(int, row[4]))
        elif self.by == "module":
            for row in rows:
                yield cast(str, row[4])
        elif self.by == "region":
            for row in rows:
                yield self._region(side, cast(int, row[4]))
        else:
            threads = [*match.threads(side), None]  # -1: of no thread
            if self.by == "thread":
                for row in rows:
                    yield threads[cast(int, row[4])]
            else:
                frames = match.frames(side)
                folded = match.folded(side)
                for row in rows:
                    stack = cast("tuple[int, ...]", row[4])
                    if folded:
                        callees = (-1, *stack)
                        stack = tuple(
                            frame
                            for frame, callee in zip(stack, callees, strict=False)
                            if callee not in folded
                        )
                    yield (
                        threads[row[5]],
                        self._region(side, row[12]),
                        tuple([frames[frame] for frame in stack]),
                    )

    def _region(self, side: int, region: int) -> tuple[str, ...]:
        return self.recordings[side].regions[region] if region >= 0 else ()

    # -- JSON --------------------------------------------------------------------------------------------

    def json(self, change: Change) -> Json:
        """A row with the keys that its grouping defines."""
        side = AFTER if change.rows[AFTER] is not None else BEFORE
        row = change.rows[side]
        assert row is not None
        out = numbers_json(change.before, change.after)
        if any(recording.is_sampled for recording in self.recordings):
            out |= errors_json(*change.squares)
        keys = self.rows[side].json(row)
        for name in _OF_ONE_SIDE:
            keys.pop(name, None)
        out |= keys
        if self.by in ("line", "function", "file"):
            was = change.rows[BEFORE]
            other = self.rows[BEFORE].json(was) if was is not None and side == AFTER else keys
            if self.by == "line":
                out["line_before"] = None if was is None else other["line"]
                out["line_after"] = keys["line"] if side == AFTER else None
                if was is not None and side == AFTER and self._has_changed(change):
                    out["text_changed"] = True
            if other["file"] != keys["file"]:
                out["file_before"] = other["file"]
        return out

    def _has_changed(self, change: Change) -> bool:
        return change.place is not None and self.matching.has_changed(change.place)

    def document(self, view: Json, limit: int, budget: Json | None) -> Json:
        """memheft.diff."""
        shown = self.changes[:limit] if limit else self.changes
        rest = self.changes[len(shown) :]
        rows = [self.json(change) for change in shown]
        if rest:
            rows.append({"other": True, **numbers_json(*sums(rest))})
            if any(recording.is_sampled for recording in self.recordings):
                rows[-1] |= errors_json(*squares(rest))
        return head("memheft.diff", self.recordings, self.views, view, budget) | {"rows": rows}

    # -- text --------------------------------------------------------------------------------------------

    def table(self, limit: int, columns: int | None) -> tuple[Table, str | None]:
        """The rows that changed, and one line on those that did not."""
        moved = [change for change in self.changes if change.delta != NOTHING]
        same = [change for change in self.changes if change.delta == NOTHING]
        shown = moved[: limit or len(moved)]
        rest = moved[len(shown) :]
        has_blocks = columns is None or columns >= WIDE
        heads = [Column("change"), Column("before"), Column("after")]
        heads += [Column("blocks")] if has_blocks else []
        owners = [self._owner(change) for change in shown]
        title = "source" if self.by in ("line", "stack") else ""
        if any(owners):
            title = "caller" if all(owners) else "source or caller"
        drawn = Table([*heads, Column(self.by, "place"), Column(title, "note")])
        for change, owner in zip(shown, owners, strict=True):
            numbers = self._numbers(change.before, change.after)[: len(heads)]
            for place, note in self._cells(change, owner):
                drawn.add(*numbers, place, note)
                numbers = [""] * len(numbers)
        if rest:
            what = "other" if len(rest) == 1 else "others"
            drawn.add(*self._numbers(*sums(rest))[: len(heads)], f"({len(rest)} {what})", "")
        noun = "stack" if self.by == "stack" else self.by
        said = None
        if same:
            amount = sizes.size(sums(same)[AFTER][0])
            said = f"{sizes.plural(len(same), noun)} did not change: {amount}"
        return drawn, said

    @staticmethod
    def _numbers(before: Numbers, after: Numbers) -> list[Cell]:
        return [
            sizes.change(after[0] - before[0]),
            sizes.size(before[0]),
            sizes.size(after[0]),
            sizes.count_change(after[1] - before[1]),
        ]

    def _owner(self, change: Change) -> Place | None:
        """For whom a library's line worked, where it had more."""
        side = AFTER if change.after[0] >= change.before[0] else BEFORE
        row = change.rows[side]
        return None if row is None else self.rows[side].owner(row)

    def _cells(self, change: Change, owner: Place | None) -> Iterator[tuple[Cell, Cell]]:
        side = AFTER if change.rows[AFTER] is not None else BEFORE
        row, was = change.rows[side], change.rows[BEFORE]
        assert row is not None
        if self.by != "line":
            yield from self.rows[side].cells(row)
            return
        (place, note), *_ = self.rows[side].cells(row)
        if isinstance(place, Place) and was is not None and side == AFTER:
            place = moved_place(place, cast("tuple[int, int]", was[4])[1])
        if owner is not None:
            note = owner
        elif was is not None and side == AFTER and self._has_changed(change):
            note = f"{self.rows[AFTER].source(row)}  (was: {self.rows[BEFORE].source(was)})"
        yield place, note


def moved_place(place: Place, line_before: int) -> Place:
    """A place with both its numbers, if it has moved: `app.py:41->45 load`."""
    if not place.line or place.line == line_before:
        return place
    return replace(place, line=f"{line_before}->{place.line}")


def head(
    schema: str,
    recordings: tuple[Opened, Opened],
    views: tuple[View, View],
    view: Json,
    budget: Json | None,
) -> Json:
    """What every document of a diff begins with."""
    out: Json = {"schema": schema, "version": documents.VERSION}
    for name, recording in zip(("before", "after"), recordings, strict=True):
        out[f"recording_{name}"] = documents.recording(recording)
    before, after = ((one.total_bytes, one.total_blocks) for one in views)
    totals = numbers_json(before, after)
    if any(recording.is_sampled for recording in recordings):
        first, second = ((one.bytes_error**2, one.blocks_error**2) for one in views)
        totals |= errors_json(first, second)
    out |= {"view": view, "totals": totals}
    for name, recording, one in zip(("before", "after"), recordings, views, strict=True):
        out[f"totals_{name}"] = documents.totals(recording, one)
    if budget is not None:
        out["budget"] = budget
    return out


def sums(changes: list[Change]) -> tuple[Numbers, Numbers]:
    """What rows were and are together."""
    before = (sum(change.before[0] for change in changes), sum(change.before[1] for change in changes))
    after = (sum(change.after[0] for change in changes), sum(change.after[1] for change in changes))
    return before, after


def squares(changes: list[Change]) -> tuple[Numbers, Numbers]:
    """The squares of the standard errors of these sums."""
    before, after = zip(*(change.squares for change in changes), strict=True)
    return _summed(before), _summed(after)


def _summed(numbers: Iterable[Numbers]) -> Numbers:
    return sum(one for one, _ in numbers), sum(two for _, two in numbers)


def title(matching: Matching, views: tuple[View, View], when: str) -> str:
    """The programs, and how the sum changed."""
    labels = [clean(side.recording.label) for side in matching.sides]
    label = labels[0] if labels[0] == labels[1] else " -> ".join(labels)
    before, after = (view.total_bytes for view in views)
    grown = sizes.growth(before, after)
    change = sizes.change(after - before) + (f" ({grown})" if grown else "")
    more = views[AFTER].total_blocks - views[BEFORE].total_blocks
    blocks = f"{sizes.count_change(more)} {'block' if abs(more) == 1 else 'blocks'}"
    return f"{label}: {sizes.size(before)} -> {sizes.size(after)} {when}: {change}, {blocks}"
