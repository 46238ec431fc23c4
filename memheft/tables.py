"""Views of a recording as rows: grouped, filtered, drawn; and as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast, get_args, overload

from memheft.sequence import Searchable
from memheft.views.names import CLASS_NAMES

if TYPE_CHECKING:
    from memheft import _engine
    from memheft._engine import _Moment, _Row
    from memheft.difference import Difference
    from memheft.views import notices
    from memheft.views.recording import Opened
    from memheft.views.rows import Json, Rows
    from memheft.views.table import Table

By: TypeAlias = Literal["line", "function", "file", "module", "thread", "region", "stack"]
Code: TypeAlias = Literal["own", "stdlib", "site-packages"]

EVERYTHING = 15  # all classes of code
SHOWN = 20  # rows of a table that is drawn


class Frame(NamedTuple):
    """A place in the program; what is not known is None."""

    file: str
    line: int | None
    column: int | None
    function: str
    module: str | None
    imports: str | None  # the module that this line imports
    recursive: bool = False  # recursion was folded onto this frame of a stack


class Row(NamedTuple):
    """What a line, function, file, module, thread, region or stack holds; None: not known or not apt.

    `bytes` and `blocks` are its own, `inclusive_bytes` and `inclusive_blocks` also what it called. Times are
    nanoseconds from the start, of the first and the last request of these blocks. Of a stack, `file`, `line`,
    `function` and `module` are those of the innermost frame, `stack` is all, innermost first.
    """

    bytes: int
    blocks: int
    inclusive_bytes: int
    inclusive_blocks: int
    file: str | None = None
    line: int | None = None
    function: str | None = None
    module: str | None = None
    thread: str | None = None
    thread_id: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    imports: tuple[str, ...] = ()  # modules that a line imports
    owner: Frame | None = None  # of a library's line: the line of your own code it worked for
    owner_bytes: int | None = None  # how many of `bytes` for that
    caller: Frame | None = None  # of a line of the standard library without owner: the caller outside of it
    caller_bytes: int | None = None
    stack: tuple[Frame, ...] | None = None
    region: tuple[str, ...] | None = None  # names of regions, outermost first; () in none
    bytes_error: int | None = None  # of a sampled recording, as are these four: standard errors
    blocks_error: int | None = None
    inclusive_bytes_error: int | None = None
    inclusive_blocks_error: int | None = None


class View(Searchable):
    """The rows of one moment, largest first: a sequence of `Row`.

    by(), filter(), own() and top() make further views of it; nothing changes a view.
    """

    def __init__(self) -> None:
        raise TypeError("views are made by recordings: recording.peak, .live, .total, .temporary")

    _recording: Opened
    _moment: _Moment
    _span: int
    _by: By
    _own: bool
    _keep: int
    _patterns: tuple[tuple[str, ...], ...]
    _regions: tuple[tuple[str, ...], ...]
    _filters: tuple[tuple[str, ...], ...]  # the options, groups that must all be true; see _words()
    _limit: int | None
    _numbers: _engine.View | None

    @classmethod
    def _of(cls, recording: Opened, moment: _Moment, span: int) -> View:
        self = object.__new__(cls)
        self._recording = recording
        self._moment = moment
        self._span = span
        self._by = "line"
        self._own = False
        self._keep = EVERYTHING
        self._patterns = ()
        self._regions = ()
        self._filters = ()
        self._limit = None
        self._numbers = None
        return self

    def _copy(self, same_numbers: bool = False) -> View:
        new = object.__new__(View)
        new._recording = self._recording
        new._moment, new._span, new._by, new._own = self._moment, self._span, self._by, self._own
        new._keep, new._patterns, new._regions = self._keep, self._patterns, self._regions
        new._filters = self._filters
        new._limit = self._limit
        new._numbers = self._numbers if same_numbers else None
        return new

    # -- other views of it -------------------------------------------------------------------------------

    def by(self, grouping: By) -> View:
        """Group by line (what a view begins with), function, file, module, thread, region or stack."""
        if grouping not in get_args(By):
            raise ValueError(f"a view is grouped by {_listed(get_args(By))}, not by {grouping!r}")
        self._engine()  # all groupings are made of the same numbers
        new = self._copy(same_numbers=True)
        new._by = grouping
        return new

    def filter(
        self,
        *,
        only: Code | Iterable[Code] | None = None,
        without: Code | Iterable[Code] | None = None,
        match: str | Iterable[str] | None = None,
        region: str | Iterable[str] | None = None,
    ) -> View:
        """Keep only what some code allocated itself: shares are then of less, the sums become smaller.

        `only` and `without` take "own", "stdlib", "site-packages" or several of them. `match` takes one or
        more parts of file names, or patterns for whole names if they have * ? or [. `region` takes one or
        more names of regions, or patterns for names: what was allocated in them, and in regions in them. Of
        several names one must fit; what was filtered before stays filtered, so that both must fit. A name
        that nothing has leaves nothing.

        Raises ValueError for other code and for no names at all, TypeError for what is no text.
        """
        new = self._copy()
        if only is not None:
            codes = _codes("only", only)
            new._keep &= sum({1 << CLASS_NAMES[name] for name in codes})
            new._add_filter("--only=", codes)
        if without is not None:
            codes = _codes("without", without)
            new._keep &= ~sum({1 << CLASS_NAMES[name] for name in codes})
            new._add_filter("--no-", codes)
        if match is not None:
            patterns = _texts("match", match)
            new._patterns += (patterns,)
            new._add_filter("--match=", patterns)
        if region is not None:
            names = _texts("region", region)
            new._regions += (names,)
            new._add_filter("--region=", names)
        return new

    def _add_filter(self, option: str, names: tuple[str, ...]) -> None:
        """Note a filter as the options of one command line, if that can say it.

        There the same option twice means either; here, that both must be true.
        """
        last = self._filters[-1] if self._filters else ()
        if option != "--no-" and any(word.startswith(option) for word in last):
            self._filters += ((),)
            last = ()
        self._filters = (*self._filters[:-1], (*last, *(option + name for name in names)))

    def _words(self) -> list[str]:
        """The filters as in JSON: options, and `and` between groups of them."""
        words = ["--own"] if self._own else []
        for at, group in enumerate(self._filters):
            words += ["and"] * (at > 0) + [*group]
        return words

    def own(self) -> View:
        """Charge what libraries asked for to the nearest calling line of one's own code."""
        new = self._copy()
        new._own = True
        return new

    def top(self, n: int) -> View:
        """Only the `n` largest rows; the totals stay those of all."""
        if n < 0:
            raise ValueError("top takes a number of rows")
        new = self._copy(same_numbers=True)
        new._limit = n if self._limit is None else min(n, self._limit)
        return new

    # -- its sums ----------------------------------------------------------------------------------------

    @property
    def total_bytes(self) -> int:
        """The sum of all rows' bytes, also of those that top() left out."""
        return self._engine().total_bytes

    @property
    def total_blocks(self) -> int:
        """The sum of all rows' blocks."""
        return self._engine().total_blocks

    @property
    def bytes_error(self) -> int | None:
        """The standard error of total_bytes; None in an exact recording."""
        return self._engine().bytes_error if self._recording.is_sampled else None

    @property
    def blocks_error(self) -> int | None:
        """The standard error of total_blocks; None in an exact recording."""
        return self._engine().blocks_error if self._recording.is_sampled else None

    # -- its rows ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[Row]:
        rows = self._rows
        return (_row(rows, raw) for raw in self._raw)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [_row(self._rows, raw) for raw in self._raw[index]]
        return _row(self._rows, self._raw[index])

    def to_dict(self) -> dict[str, object]:
        """What `memheft report --json` writes of it (docs/reference/json.md)."""
        from memheft.views import documents

        document = documents.report(self._recording, self._query(), self._rows, self._limit or 0)
        return document | {"rows": []} if self._limit == 0 else document

    def _query(self) -> Json:
        view: Json = {"moment": self._moment, "by": self._by, "filters": self._words()}
        if self._moment == "temporary":
            view["temporary"] = self._span
        return view

    def diff(self, after: View) -> Difference:
        """What grew and what shrank from this view to a later one, of the same moment, grouping and filters.

        Lines that moved are found again by their function and source. Raises ValueError if the views differ
        in what they are views of, TypeError if `after` is no view.
        """
        from memheft.difference import Difference

        if not isinstance(after, View):
            raise TypeError(f"a view is compared with a view, not with {_kind(after)}")
        if self._meaning() != after._meaning():
            raise ValueError(f"these views cannot be compared: {self._heading()}, and {after._heading()}")
        return Difference._of(self, after)

    def _meaning(self) -> tuple[object, ...]:
        """What it is a view of; the same however its filters were written."""
        groups = (frozenset(map(frozenset, named)) for named in (self._patterns, self._regions))
        return self._moment, self._span, self._by, self._own, self._keep, *groups

    # -- as an Arrow table -------------------------------------------------------------------------------

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow stream: pyarrow.table(view), polars.DataFrame(view), DuckDB, pandas.

        Columns are those of `memheft export` to CSV, named as in JSON; a frame is several, `stack` and
        `imports` are one text each: frames from the root on, joined by ;, modules joined by blanks. Raises
        MemoryError if a column is over 2 GiB.
        """
        from memheft import _engine
        from memheft.views import columns

        rows = map(self._rows.json, self._raw)
        return _engine.arrow_stream(columns.stream(columns.columns_of(self._by), rows))

    # -- reading it --------------------------------------------------------------------------------------

    def _engine(self) -> _engine.View:
        if self._numbers is None:
            recording = self._recording
            pattern: bytes | None = None
            if self._patterns:
                pattern = bytes(
                    all(recording.names.matches(file, group) for group in self._patterns)
                    for file in recording.files
                )
            regions: bytes | None = None
            if self._regions:
                each = [recording.regions_like(names) for names in self._regions]
                regions = bytes(map(all, zip(*each, strict=True)))
            self._numbers = recording.view(self._moment, self._span, self._own, self._keep, pattern, regions)
        return self._numbers

    @cached_property
    def _rows(self) -> Rows:
        from memheft.views.rows import Rows

        return Rows(self._recording, self._engine(), self._by, None, self._own)

    @cached_property
    def _raw(self) -> list[_Row]:
        rows = self._rows.rows
        return rows if self._limit is None else rows[: self._limit]

    # -- drawing it --------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<memheft.View {self._title()}; {len(self)} rows>"

    def __str__(self) -> str:
        from memheft.views.table import draw_plain

        notes = [f"note: {text}" for text in self._notices()]
        return "\n".join([self._title(), *draw_plain(self._table(), 110), *notes])

    def _repr_html_(self) -> str:
        return html_of(self._title(), self._table(), [f"note: {text}" for text in self._notices()])

    def _notices(self) -> list[str]:
        """What must be known to trust the numbers."""
        from memheft.views import notices

        numbers = self._engine()
        known = notices.of_sampling(self._recording, numbers) + notices.of_losses(self._recording, numbers)
        return known + notices.of_cut_paths_in(self._recording, numbers, self._kind())

    def _kind(self) -> notices.Kind:
        return "own" if self._own else "callers" if self._by == "stack" else "sizes"

    def _title(self) -> str:
        from memheft.views import sizes

        sums = f"{sizes.size(self.total_bytes)} in {sizes.plural(self.total_blocks, 'block')}"
        return f"{self._heading()}: {sums}"

    def _heading(self) -> str:
        span = f" {self._span}" if self._moment == "temporary" and self._span > 1 else ""
        return f"{self._moment}{span} {self._selection()}"

    def _selection(self) -> str:
        """Its grouping and filters."""
        from memheft.views.text import clean

        return f"by {self._by}" + clean("".join(f" {word}" for word in self._words()))

    def _table(self) -> Table:
        from memheft.views import sizes
        from memheft.views.rows import Rows
        from memheft.views.sources import Sources
        from memheft.views.table import Cell, Column, Table

        rows = Rows(self._recording, self._engine(), self._by, Sources(self._recording), self._own)
        title = "source" if self._by in ("line", "stack") else ""
        estimated = self._recording.is_sampled
        table = Table(
            [
                Column("share"),
                Column("bytes"),
                *[Column("error")] * estimated,
                Column("blocks"),
                Column(self._by, "place"),
                Column(title, "note"),
            ]
        )
        heavy = [raw for raw in self._raw if raw[0] or raw[1]]  # others only called what allocated
        for raw in heavy[:SHOWN]:
            numbers: list[Cell] = [
                sizes.share(raw[0], self.total_bytes),
                sizes.size(raw[0]),
                *[sizes.size(raw[10])] * estimated,
                sizes.count(raw[1]),
            ]
            for place, note in rows.cells(raw):
                table.add(*numbers, place, note)
                numbers = [""] * len(numbers)
        if len(heavy) > SHOWN:
            table.add(*[""] * (3 + estimated), f"({len(heavy) - SHOWN} more)", "")
        return table


def html_of(title: str, table: Table, notes: list[str]) -> str:
    """A table for a notebook."""
    from html import escape

    columns, cells = table.fit(160)
    kinds = [column.kind for column in columns]
    lines = [f"<p>{escape(title)}</p>", "<table>"]
    for i, row in enumerate(cells):
        tag = "td" if i else "th"
        inner = "".join(
            f'<{tag} style="text-align:{"right" if kind == "number" else "left"}">{escape(cell)}</{tag}>'
            for cell, kind in zip(row, kinds, strict=True)
        )
        lines.append(f"<tr>{inner}</tr>")
    return "\n".join([*lines, "</table>", *(f"<p>{escape(text)}</p>" for text in notes)])


def _texts(what: str, given: str | Iterable[str]) -> tuple[str, ...]:
    """What a filter was given, checked; one text is a tuple of one."""
    if not isinstance(given, Iterable):
        raise TypeError(f"{what} takes a text or several, not {_kind(given)}")
    texts = (given,) if isinstance(given, str) else tuple(given)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{what} takes a text or several, not {_kind(text)}")
    if not texts:
        raise ValueError(f"{what} was given no names: leave it out to filter nothing")
    return texts


def _codes(what: str, given: Code | Iterable[Code]) -> tuple[str, ...]:
    """The same of classes of code."""
    names = _texts(what, given)
    for name in names:
        if name not in CLASS_NAMES:
            raise ValueError(f"code is {_listed(tuple(CLASS_NAMES))}, not {name!r}")
    return names


def _kind(value: object) -> str:
    """What a value is, for messages."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}" if value is not None else "None"


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _frame(rows: Rows, frame: int, recursive: bool = False) -> Frame:
    file, line, column, function, module, imported = rows.view.frames[frame]
    return Frame(
        rows.recording.files[file],
        line or None,
        column or None,
        function,
        module or None,
        imported,
        recursive,
    )


NOBODY = Frame("<interpreter>", None, None, "<interpreter>", "<interpreter>", None)


def _row(rows: Rows, raw: _Row) -> Row:
    row = _exact_row(rows, raw)
    if not rows.recording.is_sampled:
        return row
    return row._replace(
        bytes_error=raw[10],
        blocks_error=raw[11],
        inclusive_bytes_error=raw[13],
        inclusive_blocks_error=raw[14],
    )


def _exact_row(rows: Rows, raw: _Row) -> Row:
    sums, key = raw[:4], raw[4]
    files, times = rows.recording.files, raw[6:8]
    if rows.by == "line":
        file, line, function, module, imports = cast("tuple[int, int, str, str, tuple[str, ...]]", key)
        owner = _owners(rows, raw)
        return Row(
            *sums, files[file], line or None, function, module or None, None, None, *times, imports, *owner
        )
    if rows.by == "function":
        file, function, module = cast("tuple[int, str, str]", key)
        return Row(*sums, files[file], None, function, module or None, None, None, *times)
    if rows.by == "file":
        return Row(*sums, files[cast(int, key)], None, None, None, None, None, *times)
    if rows.by == "module":
        return Row(*sums, None, None, None, cast(str, key) or None, None, None, *times)
    if rows.by == "thread":
        return Row(*sums, None, None, None, None, *_thread(rows, cast(int, key)), *times)
    if rows.by == "region":
        return Row(*sums, first_ns=times[0], last_ns=times[1], region=_region(rows, cast(int, key)))
    places = enumerate(cast("tuple[int, ...]", key))
    stack = tuple(_frame(rows, frame, place in raw[9]) for place, frame in places) or (NOBODY,)
    at = stack[0]
    return Row(
        *sums,
        at.file,
        at.line,
        at.function,
        at.module,
        *_thread(rows, raw[5]),
        *times,
        stack=stack,
        region=_region(rows, raw[12]),
    )


def _owners(rows: Rows, raw: _Row) -> tuple[Frame | None, int | None, Frame | None, int | None]:
    if raw[5] < 0:
        return None, None, None, None
    frame = _frame(rows, raw[5])
    is_own = rows.recording.classes[rows.view.frames[raw[5]][0]] == CLASS_NAMES["own"]
    return (frame, raw[8], None, None) if is_own else (None, None, frame, raw[8])


def _thread(rows: Rows, thread: int) -> tuple[str | None, int | None]:
    threads = rows.recording.threads
    if not 0 <= thread < len(threads):
        return None, None
    name, native, _ = threads[thread]
    return name, native or None


def _region(rows: Rows, region: int) -> tuple[str, ...]:
    return rows.recording.regions[region] if region >= 0 else ()
