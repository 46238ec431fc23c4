"""`memheft diff`: what grew and what shrank between two recordings."""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memheft.cli import last
from memheft.cli.errors import EXIT_BUDGET, UsageError
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
from memheft.cli.report import FOLD, TEXT_LIMIT, number_of, percent_of
from memheft.program import decimal_of, size_of

if TYPE_CHECKING:
    from memheft._engine import View
    from memheft.views.matching import Matching
    from memheft.views.notices import Kind
    from memheft.views.paper import Paper
    from memheft.views.rows import Json
    from memheft.views.table import Table

DESCRIPTION = """\
Say what grew and what shrank between two recordings, of one program or of two
versions of it: lines that moved are found again by their function and source.

  memheft diff old.heft new.heft            at the peak, by line
  memheft diff old.heft                     against the last recording
  memheft diff old.heft new.heft --live --by function
  memheft diff old.heft new.heft --tree     where in the calls
  memheft diff old.heft new.heft --fail-above 5%
"""

EPILOG = """\
exit code: 0 done, 1 a recording cannot be found or read, 2 wrong usage,
3 it grew by more than --fail-above allows.
"""


class Budget:
    """How much more is allowed: a share of what it was, or bytes."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.percent: float | None = None
        self.bytes: int | None = None
        if self.text.endswith("%"):
            self.percent = decimal_of(self.text[:-1].rstrip())
        elif self.text[-1:].isalpha():  # 5 may be meant in percent, in MiB or in bytes
            self.bytes = size_of(self.text)
        if self.bytes is None and self.percent is None:
            raise UsageError(
                f"--fail-above takes a percentage or a size with its unit, not {text!r}",
                "such as 5% or 10MiB",
            )

    def allows(self, before: int, after: int, error: float = 0) -> bool:
        """Say whether a sum stays within it, or may: it is estimated, with this standard error of the growth.

        By chance alone one estimate in forty is above twice its error.
        """
        grown = after - before - 2 * error
        if self.percent is not None:
            return grown * 100 <= before * self.percent
        return self.bytes is not None and grown <= self.bytes


def parser() -> Parser:
    """The options of the verb."""
    made = Parser("diff", "BEFORE [AFTER] [options]", DESCRIPTION, EPILOG)
    made.add_argument(
        "files", nargs="*", metavar="FILE", help="two recordings; AFTER is the last one if left out"
    )
    add_moments(made)
    form = made.add_argument_group("form")
    form.add_argument("--by", choices=GROUPINGS, help="what a row is (default: line)")
    form.add_argument("--tree", action="store_true", help="as a tree of calls, line by line")
    form.add_argument(
        "--inverted", action="store_true", help="with --tree: from the lines that allocated to their callers"
    )
    form.add_argument(
        "--fold", metavar="PERCENT", help="with --tree: fold smaller changes (default: 1; JSON: 0)"
    )
    form.add_argument("--limit", metavar="N", help="rows to show (default: 20; JSON: all; 0: all)")
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument(
        "--fail-above", metavar="GROWTH", help="exit with 3 if the sum grew by more: 5%% or 10MiB"
    )
    add_filters(made)
    return made


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    options = parser().parse_intermixed_args(_join_growth(join_temporary(args)))
    span = take_moment(options)
    limit, fold = number_of(options.limit, "--limit"), percent_of(options.fold)
    budget = Budget(options.fail_above) if options.fail_above is not None else None
    _check_form(options)
    paths = _paths(options.files)

    from memheft.views import documents
    from memheft.views.diff import Diff
    from memheft.views.diff_tree import Tree
    from memheft.views.matching import Matching
    from memheft.views.progress import Progress
    from memheft.views.stdout import stdout

    gc.disable()  # millions of tuples, none of them garbage
    with Progress("comparing the recordings"):
        before, after = (_query(path, options, span) for path in paths)
        check_regions(options.region, before.recording, after.recording)
        if budget is not None:
            _check_code(options, before, after)
        views = (before.view(), after.view())
        matching = Matching((before.recording, after.recording), views)
        shown = (
            Tree(matching, views, options.inverted, options.own)
            if options.tree
            else Diff(matching, views, before.by, options.own)
        )
    judged = None if budget is None else _judge(budget, before, views)
    if isinstance(shown, Tree):
        if options.json:
            view = before.json_view(inverted=options.inverted)
            documents.write(shown.document(view, fold or 0.0, limit or 0, judged))
        else:
            paper = _begin(before, after, matching, views)
            _end(
                paper,
                (before, after),
                views,
                shown.table(FOLD if fold is None else fold, limit or 0, paper.width),
            )
    elif options.json:
        documents.write(shown.document(before.json_view(by=before.by), limit or 0, judged))
    else:
        paper = _begin(before, after, matching, views)
        table, same = shown.table(TEXT_LIMIT if limit is None else limit, paper.width)
        _end(paper, (before, after), views, table, same)
    if judged is None or not judged["exceeded"]:
        return 0
    stdout().flush()
    if sys.stderr is not None:
        print(f"memheft: {judged['message']}", file=sys.stderr)
    return EXIT_BUDGET


def _join_growth(args: Sequence[str]) -> list[str]:
    """`--fail-above -5%`: argparse would take the number for an option, and miss one."""
    out: list[str] = []
    for word in args:
        option = out[-1] if out else ""
        if len(option) > 3 and "--fail-above".startswith(option) and word[:1] == "-" and word[1:2].isdigit():
            out[-1] = f"{option}={word}"
        else:
            out.append(word)
    return out


def _check_form(options: argparse.Namespace) -> None:
    if options.tree and options.by:
        raise UsageError(
            f"--by {options.by} does not go with --tree: a tree is made of lines",
            f"memheft diff A B --tree, or memheft diff A B --by {options.by}",
        )
    if options.inverted and not options.tree:
        raise UsageError("--inverted goes with --tree", "memheft diff A B --tree --inverted")
    if options.fold is not None and not options.tree:
        raise UsageError("--fold goes with --tree", "memheft diff A B --tree --fold 5")


def _paths(files: list[str]) -> tuple[str, str]:
    """The two recordings; the second may be the last one."""
    if not files:
        raise UsageError("name two recordings", "memheft diff BEFORE AFTER")
    if len(files) > 2:
        raise UsageError(f"two recordings can be compared, not {len(files)}", "memheft diff BEFORE AFTER")
    if len(files) == 2:
        return files[0], files[1]
    found = last.find()
    if os.path.exists(files[0]) and os.path.samefile(files[0], found):
        raise UsageError(f"{files[0]} is the last recording itself", "memheft diff BEFORE AFTER")
    return files[0], found


def _query(path: str, options: argparse.Namespace, span: int) -> Query:
    options.file, options.lines = path, None
    return Query(open_recording(path), options, span)


def _check_code(options: argparse.Namespace, before: Query, after: Query) -> None:
    """A budget for code that is in neither recording would be kept by a typing error: raise UsageError."""
    queries = (before, after)
    for pattern in options.match or ():
        if not any(
            query.recording.names.matches(file, [pattern])
            for query in queries
            for file in query.recording.files
        ):
            raise UsageError(
                f"no file of these recordings is like {pattern}: --fail-above would judge nothing",
                "memheft report --by file lists the files",
                code="unknown-name",
            )
    if not any(query.has_files for query in queries):
        raise UsageError(
            f"no file of these recordings is left by {' '.join(before.filters)}: "
            "--fail-above would judge nothing",
            "memheft report --by file lists the files",
            code="unknown-name",
        )


def _judge(budget: Budget, query: Query, views: tuple[View, View]) -> Json:
    """What --fail-above says of the sums."""
    from memheft.views import sizes

    before, after = (view.total_bytes for view in views)
    error = math.hypot(*(view.bytes_error for view in views))
    exceeded = not budget.allows(before, after, error)
    about = f" (estimated, +- {sizes.size(round(error))})" if error else ""
    message = None
    if exceeded:
        grown = sizes.growth(before, after)
        message = (
            f"{_NAMES[query.moment]} grew by {sizes.size(after - before)}{f' ({grown})' if grown else ''}, "
            f"from {sizes.size(before)} to {sizes.size(after)}{about}: more than {budget.text}"
        )
    return {"allowed": budget.text, "exceeded": exceeded, "message": message}


_NAMES = {
    "peak": "the peak",
    "live": "what was left at the end",
    "total": "all that was allocated",
    "temporary": "temporary allocations",
}


def _begin(before: Query, after: Query, matching: Matching, views: tuple[View, View]) -> Paper:
    """The head of every text: programs, moment, sums."""
    from memheft.views import diff, sizes
    from memheft.views.names import title_of
    from memheft.views.paper import Paper
    from memheft.views.text import clean

    paper = Paper()
    when = title_of(before.moment, before.span)
    if before.moment == "live" and after.recording.running:
        when = "now"
    paper.line(diff.title(matching, views, when), "title")
    names = [clean(last.shown(query.recording.path)) for query in (before, after)]
    widest = max(map(len, names))
    for word, name, query, view in zip(("before", "after"), names, (before, after), views, strict=True):
        header = query.recording.header
        when = ""
        if query.moment == "peak":
            when = f", {sizes.duration(header['peak_at_ns'])} after the start"
        elif query.recording.running:
            when = ", now"
        amount = f"{sizes.size(view.total_bytes)} in {sizes.plural(view.total_blocks, 'block')}"
        paper.line(f"{word:<6}  {name:<{widest}}  {amount}{when}", "quiet")
    if before.filters:
        paper.line(clean(" ".join(before.filters)))
    return paper


def _end(
    paper: Paper,
    queries: tuple[Query, Query],
    views: tuple[View, View],
    table: Table,
    same: str | None = None,
) -> None:
    """The table, and what must be known to trust it."""
    from memheft.views import notices
    from memheft.views.rows import RECURSIVE
    from memheft.views.table import Place

    if table.rows:
        paper.table(table)
    elif same is None:
        paper.line("nothing changed", "quiet")
    if same is not None:
        paper.line(same, "quiet")
    if any(isinstance(cell, Place) and RECURSIVE in cell.tail for row in table.rows for cell in row):
        paper.line("(recursive): recursion is folded onto this line, its first level", "quiet")
    kind: Kind = "own" if queries[0].own else "callers" if queries[0].by == "stack" else "sizes"
    recordings = (queries[0].recording, queries[1].recording)
    for text in notices.of_two(recordings, views, kind, queries[0].wants_own):
        paper.line(f"note: {text}", "warning")
