"""`memheft export`: a recording for other tools."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memheft.cli import last, output
from memheft.cli.errors import HeftError, UsageError
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

DESCRIPTION = """\
Write a recording for other tools.

  memheft export -o app.pb.gz              pprof, Pyroscope, Parca, Perfetto
  memheft export -o app.speedscope.json    speedscope.app
  memheft export -o app.collapsed          flamegraph.pl, inferno, speedscope
  memheft export -o app.trace.json         ui.perfetto.dev: memory over time
  memheft export -o app.parquet --by stack DuckDB, pandas, polars, Spark
  memheft export app.7.heft --format csv   to stdout
"""

EPILOG = """\
FILE is the last recording if it is left out; it may still be being written.
pprof has all that was allocated beside the moment, speedscope all moments.
exit code: 0 done, 1 the recording cannot be found or read, or the file not
written, 2 wrong usage.
"""


@dataclass(frozen=True)
class Format:
    """What is known of a format before anything is read."""

    suffixes: tuple[str, ...]  # the first one is used in names that we make
    is_binary: bool = False
    is_table: bool = False
    kind: Kind = "callers"  # what it shows, for the notices
    then: str = ""  # what opens it


FORMATS = {
    "pprof": Format((".pb.gz", ".pprof"), is_binary=True, then="go tool pprof -top -lines {}"),
    "speedscope": Format((".speedscope.json",), then="npx speedscope {}"),
    "collapsed": Format(
        (".collapsed", ".folded"), then="flamegraph.pl --countname=bytes --colors=mem {} > flame.svg"
    ),
    "chrome": Format((".trace.json",), kind="sizes"),
    "csv": Format((".csv",), is_table=True, kind="with calls"),
    "json": Format((".json",), is_table=True, kind="with calls"),
    "parquet": Format((".parquet",), is_binary=True, is_table=True, kind="with calls"),
    "arrow": Format((".arrow", ".feather"), is_binary=True, is_table=True, kind="with calls"),
}


def parser() -> Parser:
    """The options of the verb."""
    made = Parser("export", "[FILE] -o OUT [options]", DESCRIPTION, EPILOG)
    made.add_argument("file", nargs="?", metavar="FILE", help="a recording")

    where = made.add_argument_group("output")
    where.add_argument("-o", "--output", metavar="OUT", help="file to write; a folder; - or none: stdout")
    where.add_argument("--format", choices=FORMATS, help="its format (default: what its name ends in)")
    where.add_argument("--by", choices=GROUPINGS, help="csv, json, parquet, arrow: what a row is (line)")
    where.add_argument("-f", "--force", action="store_true", help="overwrite a file of that name")
    where.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")

    add_moments(made)
    add_filters(made)
    return made


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    options = parser().parse_args(join_temporary(args))
    span = take_moment(options)
    if options.output == "":
        raise UsageError("-o needs the name of a file or a folder", "- is stdout")
    name = options.format or _format_of(options.output)
    form = FORMATS[name]
    if options.by and not form.is_table:
        tables = [other for other, known in FORMATS.items() if known.is_table]
        raise UsageError(f"--by does not go with {name}: it has whole stacks", f"rows: {', '.join(tables)}")
    if name in ("parquet", "arrow"):
        _require_arrow(name)
    path: str | None = None
    if options.output not in (None, output.STDOUT) and not os.path.isdir(options.output):
        path = options.output
        output.check(path, options.force)
    elif options.output in (None, output.STDOUT) and form.is_binary:
        output.write((), is_binary=True)

    from memheft.views.progress import Progress

    with Progress("reading the recording"):
        recording = open_recording(options.file)
        check_regions(options.region, recording)
        query = Query(recording, options, span)
        view = query.view()
    if name == "chrome":
        _check_timeline(query)
    with Progress(f"writing {name}"):
        pieces = _pieces(name, query, view)
        if path is None and options.output not in (None, output.STDOUT):
            stem = os.path.basename(recording.path).removesuffix(".heft")
            path = os.path.join(options.output, stem + form.suffixes[0])
            output.check(path, options.force)
        if path is None:
            output.write(pieces, form.is_binary)
        else:
            output.save(path, pieces, options.force)
    if not options.quiet:
        _say(query, view, form, path, options)
    return 0


def _format_of(path: str | None) -> str:
    """The format that a file's name asks for."""
    if path is None or path == output.STDOUT or os.path.isdir(path):
        what = "a folder" if path not in (None, output.STDOUT) else "stdout"
        raise UsageError(f"{what} says no format", f"--format {', '.join(FORMATS)}")
    suffixes = [(suffix, name) for name, form in FORMATS.items() for suffix in form.suffixes]
    for suffix, name in sorted(suffixes, key=lambda pair: -len(pair[0])):
        if path.lower().endswith(suffix):
            return name
    known = ", ".join(form.suffixes[0] for form in FORMATS.values())
    raise UsageError(f"{path}: the name says no format", f"end it in {known}, or use --format")


def _require_arrow(name: str) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise HeftError(
            f"{name} needs pyarrow: {error}",
            f"{sys.executable} -m pip install 'memheft[arrow]'",
            code="unsupported",
        ) from error


def _check_timeline(query: Query) -> None:
    if query.filters or query.moment != "peak":
        option = query.filters[0] if query.filters else f"--{query.moment}"
        raise UsageError(f"{option} does not go with chrome: it has the whole program at all times")
    if query.recording.engine.timeline is None:
        raise HeftError(
            "this recording has no timeline: a Chrome trace would be empty",
            "speedscope shows its stacks in the order of their first allocation",
            code="no-timeline",
        )


def _pieces(name: str, query: Query, view: _engine.View) -> Iterable[bytes]:
    from memheft.views import foreign

    if name == "pprof":
        return [foreign.pprof(query, view)]
    if name == "speedscope":
        return [foreign.speedscope(query, view)]
    if name == "collapsed":
        return [foreign.collapsed(query.recording, view)]
    if name == "chrome":
        return [foreign.chrome(query.recording)]

    from memheft.views.rows import Rows

    rows = Rows(query.recording, view, query.by)
    if name == "json":
        from memheft.views import documents

        return documents.pieces(documents.report(query.recording, query.json_view(by=query.by), rows, 0))

    from memheft.views import columns

    if name == "csv":
        return columns.csv(rows)
    return [columns.arrow(rows, query.json_view(by=query.by), name)]


def _say(
    query: Query, view: _engine.View, form: Format, path: str | None, options: argparse.Namespace
) -> None:
    """What was written, what opens it, and what must be known to trust it: on stderr."""
    from memheft.views import notices
    from memheft.views.text import clean

    if sys.stderr is None:
        return
    lines: list[str] = []
    if path is not None:
        source = "" if options.file is not None else f" (from {last.shown(query.recording.path)})"
        lines.append(f"memheft: {path}: {query.sum(view)}{source}")
        if form.then:
            lines.append(f"next: {form.then.format(shlex.quote(last.shown(path)))}")
    own = [notices.NO_OWN_CODE] if query.wants_own and not query.recording.has_own_code else []
    lines += [f"note: {text}" for text in own + notices.of(query.recording, view, form.kind)]
    for line in lines:
        encoding = sys.stderr.encoding or "ascii"
        print(clean(line).encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)
