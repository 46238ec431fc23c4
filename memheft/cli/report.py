"""`memheft report`: where the memory is."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from memheft.cli import last
from memheft.cli.errors import UsageError
from memheft.cli.open import open_recording
from memheft.cli.parser import Parser

if TYPE_CHECKING:
    from memheft import _engine
    from memheft._engine import _By, _Moment
    from memheft.views.notices import Kind
    from memheft.views.paper import Paper
    from memheft.views.recording import Opened
    from memheft.views.sources import Sources
    from memheft.views.table import Table

DESCRIPTION = """\
Say where the memory of a recorded program was.

  memheft report                           the last recording's peak, by line
  memheft report app.7.heft --live         what was left at the end
  memheft report --total --by function     all allocations, by function
  memheft report --tree                    who called whom; --tree --inverted
  memheft report --lines load.py           source with bytes beside each line
  memheft report --own                     charge libraries to the calling line
                                           of your own code
"""

EPILOG = """\
FILE is the last recording if it is left out; it may still be being written.
exit code: 0 done, 1 the recording cannot be found or read, 2 wrong usage.
"""

SPANS = (1, 2, 4)
TEXT_LIMIT = 20
FOLD = 1.0
ROOM_FOR_CALLERS = 150  # columns from which a line's caller stands beside its source, not in its place
CLASSES = ("own", "stdlib", "site-packages")
GROUPINGS = ("line", "function", "file", "module", "thread", "stack")
TITLES = {
    "peak": "at the peak",
    "live": "at the end",
    "total": "allocated in all",
    "temporary": "freed before their thread asked for another",
}


def parser() -> Parser:
    """The options of the verb."""
    made = Parser("report", "[FILE] [options]", DESCRIPTION, EPILOG)
    made.add_argument("file", nargs="?", metavar="FILE", help="a recording")

    add_moments(made)
    form = made.add_argument_group("form")
    form.add_argument("--by", choices=GROUPINGS, help="what a row is (default: line)")
    form.add_argument("--tree", action="store_true", help="a tree of calls, line by line")
    form.add_argument("--lines", metavar="NAME", help="annotated source of FILE, FUNCTION or FILE:FUNCTION")
    form.add_argument(
        "--inverted", action="store_true", help="with --tree: from the lines that allocated to their callers"
    )
    form.add_argument(
        "--fold", metavar="PERCENT", help="with --tree: fold smaller branches (default: 1; JSON: 0)"
    )
    form.add_argument("--limit", metavar="N", help="rows to show (default: 20; JSON: all; 0: all)")
    form.add_argument("--json", action="store_true", help="as JSON")

    add_filters(made)
    return made


def add_moments(made: Parser) -> None:
    """The options that say which moment is meant."""
    moments = made.add_argument_group("moment").add_mutually_exclusive_group()
    moments.add_argument(
        "--peak", dest="moment", action="store_const", const="peak", help="at the peak (default)"
    )
    moments.add_argument(
        "--live", dest="moment", action="store_const", const="live", help="at the program's end"
    )
    moments.add_argument(
        "--total", dest="moment", action="store_const", const="total", help="all that was allocated"
    )
    moments.add_argument(
        "--temporary",
        metavar="N",
        help="freed before the thread asked for another N blocks: 1 (default), 2 or 4",
    )


def add_filters(made: Parser) -> None:
    """The options that say whose memory is meant."""
    which = made.add_argument_group("which code")
    which.add_argument("--own", action="store_true", help="charge to the nearest line of your own code")
    which.add_argument(
        "--only", action="append", choices=CLASSES, help="only what this code allocated; repeatable"
    )
    which.add_argument("--no-own", action="store_true", help="without your own code")
    which.add_argument("--no-stdlib", action="store_true", help="without the standard library")
    which.add_argument("--no-site-packages", action="store_true", help="without installed packages")
    which.add_argument(
        "--match", action="append", metavar="PATTERN", help="only files of this name; repeatable"
    )


def join_temporary(args: Sequence[str]) -> list[str]:
    """`--temporary` takes the next word only if it is a number: `--temporary FILE` is common."""
    out: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*out, word, *words]
        if len(word) > 3 and "--temporary".startswith(word):
            number = words.pop(0) if words and words[0].isdecimal() else "1"
            word = f"--temporary={number}"
        out.append(word)
    return out


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    options = parser().parse_args(join_temporary(args))
    span = moment_of(options)
    limit = number_of(options.limit, "--limit")
    fold = percent_of(options.fold)
    _check_form(options)
    if options.inverted and not options.tree:
        raise UsageError("--inverted goes with --tree", "memheft report --tree --inverted")
    if fold is not None and not options.tree:
        raise UsageError("--fold goes with --tree", "memheft report --tree --fold 5")

    from memheft.views.progress import Progress

    with Progress("reading the recording"):
        recording = open_recording(options.file)
        query = Query(recording, options, span)
        view = query.view()
    if options.tree:
        _tree(query, view, fold, limit)
    elif options.lines is not None:
        _lines(query, view, limit)
    else:
        _rows(query, view, limit)
    return 0


def _check_form(options: argparse.Namespace) -> None:
    """A report has one form."""
    if options.tree and options.by:
        raise UsageError(
            f"--by {options.by} does not go with --tree: a tree is made of lines",
            f"memheft report --tree, or memheft report --by {options.by}",
        )
    if options.lines is not None and (options.tree or options.by):
        other = "--tree" if options.tree else f"--by {options.by}"
        raise UsageError(f"--lines does not go with {other}", "one of them at a time")


def moment_of(options: argparse.Namespace) -> int:
    """Complete the moment that was asked for; the result is the span of temporary blocks."""
    span = _span(options.temporary)
    if span is not None:
        options.moment = "temporary"
    options.moment = options.moment or "peak"
    return span or 1


def _span(text: str | None) -> int | None:
    if text is None:
        return None
    if text.strip() not in map(str, SPANS):
        raise UsageError(f"--temporary takes 1, 2 or 4, not {text}")
    return int(text)


def number_of(text: str | None, option: str) -> int | None:
    """The number that an option was given."""
    if text is None:
        return None
    if not text.isdecimal():
        raise UsageError(f"{option} takes a number, not {text!r}", "0 means all")
    return int(text)


def percent_of(text: str | None) -> float | None:
    """The percentage that --fold was given."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(f"--fold takes a percentage from 0 to 100, not {text!r}")
    return value


class Query:
    """What was asked of a recording."""

    def __init__(self, recording: Opened, options: argparse.Namespace, span: int) -> None:
        from memheft.views.names import CLASS_NAMES, OTHER

        self.recording = recording
        self.moment = cast("_Moment", options.moment)
        self.by = cast("_By", options.by or "line")
        self.span = span
        self.is_named = options.file is not None
        self.own: bool = options.own
        self.wants_own: bool = options.own or options.only == ["own"]
        self.json: bool = options.json
        self.inverted: bool = options.inverted
        self.lines: str | None = options.lines
        self.filters: list[str] = ["--own"] if options.own else []
        self.keep = 15
        if options.only:
            self.keep = sum({1 << CLASS_NAMES[name] for name in options.only})
            self.filters += [f"--only={name}" for name in options.only]
        for name in CLASSES:
            if getattr(options, "no_" + name.replace("-", "_")):
                self.keep &= ~(1 << CLASS_NAMES[name])
                self.filters.append(f"--no-{name}")
        if options.only and not self.keep & ~(1 << OTHER):
            raise UsageError("these filters leave nothing", "leave out --only or one of --no-...")
        self.pattern: bytes | None = None
        if options.match:
            self.pattern = bytes(self._matches(file, options.match) for file in recording.files)
            self.filters += [f"--match={pattern}" for pattern in options.match]

    def _matches(self, file: str, patterns: list[str]) -> bool:
        names = (file, self.recording.names.short(file))
        for pattern in patterns:
            if any(char in pattern for char in "*?["):
                if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                    return True
            elif any(pattern in name for name in names):
                return True
        return False

    @property
    def drops_rows(self) -> bool:
        """Say whether a part of the memory is left out."""
        return self.keep != 15 or self.pattern is not None

    def view(self) -> _engine.View:
        """What was asked for."""
        return self.recording.view(self.moment, self.span, self.own, self.keep, self.pattern)

    def whole(self, view: _engine.View) -> int:
        """The bytes that shares are shares of: those of the moment, whatever was filtered."""
        return (
            self.recording.view(self.moment, self.span).total_bytes if self.drops_rows else view.total_bytes
        )

    def json_view(self, **more: object) -> dict[str, object]:
        """The document's `view`."""
        out: dict[str, object] = {"moment": self.moment, **more, "filters": self.filters}
        if self.moment == "temporary":
            out["temporary"] = self.span
        return out


# -- what is drawn -----------------------------------------------------------------------------------------


def _rows(query: Query, view: _engine.View, limit: int | None) -> None:
    from memheft.views import sizes
    from memheft.views.rows import Rows, others
    from memheft.views.table import Cell, Column, Table

    if query.json:
        from memheft.views import documents

        document = documents.report(
            query.recording, query.json_view(by=query.by), Rows(query.recording, view, query.by), limit or 0
        )
        documents.write(document)
        return
    paper, sources, whole = _begin(query, view)
    rows = Rows(query.recording, view, query.by, sources, query.own)
    heavy = [row for row in rows.rows if row[0] or row[1]]  # others only called what allocated
    shown = heavy[: TEXT_LIMIT if limit is None else limit or len(heavy)]
    rest = heavy[len(shown) :]
    columns = [Column("share"), Column("size"), Column("blocks")]
    inclusive = query.by in ("function", "file", "module") or (
        query.by == "line" and (paper.width is None or paper.width >= 100)
    )
    if inclusive:
        columns.append(Column("with calls"))
    columns.append(Column(query.by, "place"))
    owners = [rows.owner(row) for row in shown]
    apart = any(owners) and (paper.width is None or paper.width >= ROOM_FOR_CALLERS)
    if apart:
        columns.append(Column("caller", "caller"))
    title = "source" if query.by in ("line", "stack") else ""
    if any(owners) and not apart:
        title = "caller" if all(owners) else "source or caller"
    table = Table([*columns, Column(title, "note")])
    for row, owner in zip(shown, owners, strict=True):
        numbers: list[Cell] = [sizes.share(row[0], whole), sizes.size(row[0]), sizes.count(row[1])]
        if inclusive:
            numbers.append(sizes.size(row[2]))
        for place, note in rows.cells(row):
            more = [owner or "", rows.source(row)] if apart else [note]
            table.add(*numbers, place, *more)
            numbers = [""] * len(numbers)
    if rest:
        rest_bytes, rest_blocks = others(rest)
        numbers = [sizes.share(rest_bytes, whole), sizes.size(rest_bytes), sizes.count(rest_blocks)]
        if inclusive:
            numbers.append("")
        what = "other" if len(rest) == 1 else "others"
        table.add(*numbers, f"({len(rest)} {what})", *[""] * (1 + apart))
    kind: Kind = "callers" if query.by == "stack" else "with calls" if inclusive else "sizes"
    _end(paper, query, view, table, "own" if query.own else kind)


def _tree(query: Query, view: _engine.View, fold: float | None, limit: int | None) -> None:
    from memheft.views import documents, tree
    from memheft.views.rows import Rows

    if query.json:
        rows = Rows(query.recording, view, "line")
        root = tree.grow(view, query.inverted, fold or 0.0, limit or 0)
        documents.write(
            {
                "schema": "memheft.tree",
                "version": documents.VERSION,
                "recording": documents.recording(query.recording),
                "view": query.json_view(inverted=query.inverted),
                "totals": documents.totals(query.recording, view),
                "rows": tree.json_rows(rows, root),
            }
        )
        return
    paper, sources, whole = _begin(query, view)
    rows = Rows(query.recording, view, "line", sources, query.own)
    fold = FOLD if fold is None else fold
    root = tree.grow(view, query.inverted, fold, limit or 0)
    _end(paper, query, view, tree.table(rows, root, whole, query.inverted, fold, paper.width), "callers")


def _lines(query: Query, view: _engine.View, limit: int | None) -> None:
    from memheft.views import documents, lines, sizes
    from memheft.views.sources import Sources
    from memheft.views.text import clean

    sources = Sources(query.recording)
    try:
        annotated = lines.annotate(query.recording, view, sources, query.lines or "")
    except lines.NotFoundError as error:
        raise UsageError(
            str(error), "memheft report --by file lists the files", code="unknown-name"
        ) from error
    if query.json:
        documents.write(
            {
                "schema": "memheft.lines",
                "version": documents.VERSION,
                "recording": documents.recording(query.recording),
                "view": query.json_view(),
                "totals": documents.totals(query.recording, view),
                "file": annotated.file,
                "function": annotated.function,
                "bytes": annotated.total.bytes,
                "blocks": annotated.total.blocks,
                "inclusive_bytes": annotated.total.inclusive_bytes,
                "inclusive_blocks": annotated.total.inclusive_blocks,
                "lines": lines.json_lines(annotated),
            }
        )
        return
    paper, _, whole = _begin(query, view)
    name = clean(query.recording.names.short(annotated.file))
    if annotated.function is not None:
        name += f", {clean(annotated.function)}"
    total = annotated.total
    paper.line(
        f"{name}: {sizes.size(total.bytes)} itself ({sizes.share(total.bytes, whole)}), "
        f"{sizes.size(total.inclusive_bytes)} with what it called"
    )
    if annotated.text is None:
        paper.line("(its source is not in the recording, or was changed since)", "warning")
    _end(paper, query, view, lines.table(annotated, whole, every_line=limit == 0), "with calls")


def _begin(query: Query, view: _engine.View) -> tuple[Paper, Sources, int]:
    """The head of every text: program, moment, sum."""
    from memheft.views import sizes
    from memheft.views.paper import Paper
    from memheft.views.sources import Sources
    from memheft.views.text import clean

    recording = query.recording
    whole = query.whole(view)
    paper = Paper()
    title = TITLES[query.moment]
    if query.moment == "temporary" and query.span > 1:
        title += f" {query.span} blocks"
    when = (
        f", {sizes.duration(recording.header['peak_at_ns'])} after the start"
        if query.moment == "peak"
        else ""
    )
    if query.moment == "live" and recording.running:
        title = "now"
    total = f"{sizes.size(view.total_bytes)} in {sizes.plural(view.total_blocks, 'block')}"
    paper.line(f"{clean(recording.label)}: {total} {title}{when}", "title")
    if not query.is_named:
        paper.line(f"from {clean(last.shown(recording.path))}", "quiet")
    if query.filters:
        of = f": {sizes.share(view.total_bytes, whole)} of {sizes.size(whole)}" if query.drops_rows else ""
        paper.line(clean(" ".join(query.filters)) + of)
    return paper, Sources(recording), whole


def _end(paper: Paper, query: Query, view: _engine.View, table: Table, kind: Kind) -> None:
    """The table, and what must be known to trust it."""
    from memheft.views import notices
    from memheft.views.rows import RECURSIVE
    from memheft.views.table import Place

    if table.rows:
        paper.table(table)
    else:
        paper.line("nothing was allocated here", "quiet")
    if any(isinstance(cell, Place) and RECURSIVE in cell.tail for row in table.rows for cell in row):
        paper.line("(recursive): recursion is folded onto this line, its first level", "quiet")
    own = [notices.NO_OWN_CODE] if query.wants_own and not query.recording.has_own_code else []
    for text in own + notices.of(query.recording, view, kind):
        paper.line(f"note: {text}", "warning")
