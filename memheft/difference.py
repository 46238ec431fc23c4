"""What grew and what shrank between two views, as rows: the object behind view.diff()."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from memheft.sequence import Searchable
from memheft.tables import SHOWN, Frame, View

if TYPE_CHECKING:
    from memheft.views.diff import Diff
    from memheft.views.table import Table


class Change(NamedTuple):
    """What a line, function, file, module, thread, region or stack had before, has after, and the difference.

    Of a line that moved, the numbers of both sides; None on the side where it is not. What does not apply to
    a grouping is None.
    """

    bytes_before: int
    bytes_after: int
    bytes_delta: int
    blocks_before: int
    blocks_after: int
    blocks_delta: int
    file: str | None = None
    file_before: str | None = None  # if it has another path after
    line: int | None = None  # line_after, or line_before if it is not there
    line_before: int | None = None
    line_after: int | None = None
    function: str | None = None
    module: str | None = None
    thread: str | None = None
    thread_id: int | None = None
    region: tuple[str, ...] | None = None  # names of regions, outermost first; () in none
    stack: tuple[Frame, ...] | None = None
    text_changed: bool = False  # the source of the line is another
    imports: tuple[str, ...] = ()  # modules that a line imports
    bytes_before_error: int | None = None  # if one recording is sampled, as are these six: standard errors
    bytes_after_error: int | None = None
    bytes_delta_error: int | None = None
    blocks_before_error: int | None = None
    blocks_after_error: int | None = None
    blocks_delta_error: int | None = None


class Difference(Searchable):
    """The changes from one view to another, largest first: a sequence of `Change`."""

    def __init__(self) -> None:
        raise TypeError("differences are made by views: before.diff(after)")

    _before: View
    _after: View
    _limit: int | None
    _diff: Diff

    @classmethod
    def _of(cls, before: View, after: View) -> Difference:
        from memheft.views.diff import Diff
        from memheft.views.matching import Matching

        self = object.__new__(cls)
        self._before, self._after = before, after
        self._limit = None
        views = (before._engine(), after._engine())
        matching = Matching((before._recording, after._recording), views)
        self._diff = Diff(matching, views, before._by, before._own)
        return self

    @property
    def bytes_delta(self) -> int:
        """How many bytes more there are, of all rows."""
        return self._after.total_bytes - self._before.total_bytes

    @property
    def blocks_delta(self) -> int:
        """How many blocks more there are, of all rows."""
        return self._after.total_blocks - self._before.total_blocks

    def top(self, n: int) -> Difference:
        """Only the `n` largest changes; the sums stay those of all."""
        if n < 0:
            raise ValueError("top takes a number of rows")
        new = object.__new__(Difference)
        new.__dict__.update(self.__dict__)
        new._limit = n if self._limit is None else min(n, self._limit)
        return new

    def __len__(self) -> int:
        return len(self._diff.changes[: self._limit])

    def __iter__(self) -> Iterator[Change]:
        return (_change(self._diff.json(change)) for change in self._diff.changes[: self._limit])

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> list[Change]: ...
    def __getitem__(self, index: int | slice) -> Change | list[Change]:
        changes = self._diff.changes[: self._limit]
        if isinstance(index, slice):
            return [_change(self._diff.json(change)) for change in changes[index]]
        return _change(self._diff.json(changes[index]))

    def to_dict(self) -> dict[str, object]:
        """What `memheft diff --json` writes of it (docs/reference/json.md)."""
        document = self._diff.document(self._before._query(), self._limit or 0, None)
        return document | {"rows": []} if self._limit == 0 else document

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow stream, as those of a view, with columns named as in `Change`.

        `text_changed` is 0 or 1. Raises MemoryError if a column is over 2 GiB.
        """
        from memheft import _engine
        from memheft.views import columns

        rows = map(self._diff.json, self._diff.changes[: self._limit])
        return _engine.arrow_stream(columns.stream(columns.of_changes(self._diff.by), rows))

    def __repr__(self) -> str:
        return f"<memheft.Difference {self._title()}; {len(self)} rows>"

    def __str__(self) -> str:
        from memheft.views.table import draw_plain

        table, same = self._drawn()
        return "\n".join([self._title(), *draw_plain(table, 110), *self._below(same)])

    def _repr_html_(self) -> str:
        from memheft.tables import html_of

        table, same = self._drawn()
        return html_of(self._title(), table, self._below(same))

    def _drawn(self) -> tuple[Table, str | None]:
        return self._diff.table(SHOWN if self._limit is None else min(SHOWN, self._limit) or 1, 110)

    def _below(self, same: str | None) -> list[str]:
        """The lines below the table: on rows that did not change, and what must be known to trust it."""
        from memheft.views import notices

        texts = notices.of_two(self._diff.recordings, self._diff.views, self._before._kind())
        return ([same] if same else []) + [f"note: {text}" for text in texts]

    def _title(self) -> str:
        from memheft.views import diff
        from memheft.views.names import title_of

        view = self._before
        when = f"{title_of(view._moment, view._span)} ({view._selection()})"
        return diff.title(self._diff.matching, self._diff.views, when)


def _change(row: dict[str, Any]) -> Change:
    stack = row.get("stack")
    frames = None if stack is None else tuple(map(_frame, stack))
    lists = ("stack", "region", "imports")
    known = {name: row[name] for name in Change._fields if name in row and name not in lists}
    region = row.get("region", None if stack is None else [])
    return Change(
        **known,
        stack=frames,
        region=None if region is None else tuple(region),
        imports=tuple(row.get("imports", ())),
    )


def _frame(frame: dict[str, Any]) -> Frame:
    known = {name: frame.get(name) for name in ("line", "column", "module", "imports")}
    recursive = bool(frame.get("recursive"))
    return Frame(file=frame["file"], function=frame["function"], recursive=recursive, **known)
