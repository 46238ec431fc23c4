"""`memheft report`: where the memory is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memheft.cli import last
from memheft.cli.errors import UsageError
from memheft.cli.open import open_recording
from memheft.cli.parser import Parser
from memheft.cli.query import (
    GROUPINGS,
    Query,
    add_filters,
    add_moments,
    check_regions,
    join_temporary,
    take_moment,
)

if TYPE_CHECKING:
    from memheft import _engine
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
  memheft report --plot                    memory over time
  memheft report --own                     charge libraries to the calling line
                                           of your own code
"""

EPILOG = """\
FILE is the last recording if it is left out; it may still be being written.
exit code: 0 done, 1 the recording cannot be found or read, 2 wrong usage.
"""

TEXT_LIMIT = 20
FOLD = 1.0
ROOM_FOR_CALLERS = 150  # columns from which a line's caller stands beside its source, not in its place


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
    form.add_argument("--plot", action="store_true", help="live and resident memory over time")
    form.add_argument("--json", action="store_true", help="as JSON")

    add_filters(made)
    return made


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    options = parser().parse_args(join_temporary(args))
    _check_form(options)
    span = take_moment(options)
    limit = number_of(options.limit, "--limit")
    fold = percent_of(options.fold)
    if options.inverted and not options.tree:
        raise UsageError("--inverted goes with --tree", "memheft report --tree --inverted")
    if fold is not None and not options.tree:
        raise UsageError("--fold goes with --tree", "memheft report --tree --fold 5")

    if options.plot:
        _plot(options)
        return 0

    from memheft.views.progress import Progress

    with Progress("reading the recording"):
        recording = open_recording(options.file)
        check_regions(options.region, recording)
        query = Report(recording, options, span)
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
    if options.plot:
        for option, value in vars(options).items():
            if value and option not in ("file", "plot", "json"):
                name = "--" + (value if option == "moment" else option.replace("_", "-"))
                raise UsageError(f"{name} does not go with --plot: a plot is of all memory over time")
    if options.tree and options.by:
        raise UsageError(
            f"--by {options.by} does not go with --tree: a tree is made of lines",
            f"memheft report --tree, or memheft report --by {options.by}",
        )
    if options.lines is not None and (options.tree or options.by):
        other = "--tree" if options.tree else f"--by {options.by}"
        raise UsageError(f"--lines does not go with {other}", "one of them at a time")


def number_of(text: str | None, option: str) -> int | None:
    """A number of rows as it was typed."""
    if text is None:
        return None
    if not text.isdecimal():
        raise UsageError(f"{option} takes a number, not {text!r}", "0 means all")
    return int(text)


def percent_of(text: str | None) -> float | None:
    """What --fold was given."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(f"--fold takes a percentage from 0 to 100, not {text!r}")
    return value


class Report(Query):
    """What was asked of a recording, and how it is to be shown."""

    def __init__(self, recording: Opened, options: argparse.Namespace, span: int) -> None:
        super().__init__(recording, options, span)
        self.is_named = options.file is not None
        self.json: bool = options.json
        self.inverted: bool = options.inverted
        self.lines: str | None = options.lines


# -- what is drawn -----------------------------------------------------------------------------------------


def _rows(query: Report, view: _engine.View, limit: int | None) -> None:
    from memheft.views import sizes
    from memheft.views.rows import Rows, errors_of_others, others
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
    estimated = query.recording.is_sampled
    columns = [Column("share"), Column("size"), *[Column("error")] * estimated, Column("blocks")]
    inclusive = query.by in ("function", "file", "module", "region") or (
        query.by == "line" and (paper.width is None or paper.width >= 100)
    )
    if inclusive:
        columns.append(Column("with regions inside" if query.by == "region" else "with calls"))
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
        if estimated:
            numbers.insert(2, sizes.size(row[10]))
        if inclusive:
            numbers.append(sizes.size(row[2]))
        for place, note in rows.cells(row):
            more = [owner or "", rows.source(row)] if apart else [note]
            table.add(*numbers, place, *more)
            numbers = [""] * len(numbers)
    if rest:
        rest_bytes, rest_blocks = others(rest)
        numbers = [sizes.share(rest_bytes, whole), sizes.size(rest_bytes), sizes.count(rest_blocks)]
        if estimated:
            numbers.insert(2, sizes.size(errors_of_others(rest)[0]))
        if inclusive:
            numbers.append("")
        what = "other" if len(rest) == 1 else "others"
        table.add(*numbers, f"({len(rest)} {what})", *[""] * (1 + apart))
    kind: Kind = "callers" if query.by == "stack" else "with calls" if inclusive else "sizes"
    if query.by == "region":
        kind = "sizes"
    _end(paper, query, view, table, "own" if query.own else kind)


def _tree(query: Report, view: _engine.View, fold: float | None, limit: int | None) -> None:
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


def _lines(query: Report, view: _engine.View, limit: int | None) -> None:
    from memheft.views import documents, lines, sizes
    from memheft.views.sources import Sources
    from memheft.views.text import clean

    sources = Sources(query.recording)
    estimated = query.recording.is_sampled
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
                **annotated.total.json(estimated),
                "lines": lines.json_lines(annotated, estimated),
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
    _end(paper, query, view, lines.table(annotated, whole, limit == 0, estimated), "with calls")


def _plot(options: argparse.Namespace) -> None:
    from memheft.cli.plot import timeline_of
    from memheft.views import documents, notices, plot, sizes
    from memheft.views.paper import Paper
    from memheft.views.text import clean

    recording = open_recording(options.file)
    timeline = timeline_of(recording)
    if options.json:
        documents.write(documents.timeline(recording, timeline))
        return
    paper = Paper()
    paper.line(f"{clean(recording.label)}: memory over {sizes.duration(timeline.end_ns)}", "title")
    if options.file is None:
        paper.line(f"from {clean(last.shown(recording.path))}", "quiet")
    characters = plot.BLOCKS if paper.draws_blocks else plot.ASCII
    for spans in plot.draw(timeline, paper.width or plot.WIDTH, characters):
        paper.spans(spans)
    for text in notices.of_sums(recording):
        paper.line(f"note: {text}", "warning")


def _begin(query: Report, view: _engine.View) -> tuple[Paper, Sources, int]:
    """The head of every text: program, moment, sum."""
    from memheft.views import sizes
    from memheft.views.paper import Paper
    from memheft.views.sources import Sources
    from memheft.views.text import clean

    recording = query.recording
    whole = query.whole(view)
    paper = Paper()
    paper.line(f"{clean(recording.label)}: {query.sum(view)}", "title")
    if not query.is_named:
        paper.line(f"from {clean(last.shown(recording.path))}", "quiet")
    if query.filters:
        of = f": {sizes.share(view.total_bytes, whole)} of {sizes.size(whole)}" if query.drops_rows else ""
        paper.line(clean(" ".join(query.filters)) + of)
    return paper, Sources(recording), whole


def _end(paper: Paper, query: Report, view: _engine.View, table: Table, kind: Kind) -> None:
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
