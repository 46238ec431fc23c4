"""`memheft plot`: memory over time, of several recordings, in a picture."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memheft.cli import last, output
from memheft.cli.errors import HeftError, UsageError
from memheft.cli.open import open_recording
from memheft.cli.parser import Parser

if TYPE_CHECKING:
    from memheft.views.recording import Opened
    from memheft.views.timeline import Timeline

DESCRIPTION = """\
Draw the memory of recorded programs over time, live and resident.

  memheft plot -o plot.svg                 the last recording
  memheft plot old.heft new.heft -o x.svg  two together
  memheft plot *.heft -o x.png             PNG needs matplotlib

memheft report --plot draws one in the terminal.
"""

EPILOG = """\
FILE is the last recording if it is left out; it may still be being written.
exit code: 0 done, 1 a recording cannot be found or read or the picture not be
written, 2 wrong usage.
"""

FORMATS = (".svg", ".png")


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    parser = Parser("plot", "[FILE ...] -o OUTPUT [options]", DESCRIPTION, EPILOG)
    parser.add_argument("files", nargs="*", metavar="FILE", help="a recording")
    parser.add_argument("-o", "--output", metavar="OUTPUT", help="the picture: a name in .svg or .png")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite OUTPUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    options = parser.parse_intermixed_args(list(args))
    path, form = _output(options.output)
    output.check(path, options.force)

    names = options.files or [last.find()]
    recordings = [open_recording(name) for name in names]
    timelines = [timeline_of(recording) for recording in recordings]
    labelled = list(zip(_labels(names), timelines, strict=True))
    if form == ".png":
        from memheft.views import png

        try:
            picture = png.draw(labelled)
        except ImportError as error:
            raise HeftError(
                f"PNG is drawn by matplotlib, and it cannot be imported: {error}",
                "pip install 'memheft[plot]', or choose a name in .svg",
                code="unsupported",
            ) from error
    else:
        from memheft.views import svg

        picture = svg.draw(labelled).encode("utf-8")
    output.save(path, [picture], options.force)
    if not options.quiet and sys.stderr is not None:
        _say(options, recordings)
    return 0


def _say(options: argparse.Namespace, recordings: Sequence[Opened]) -> None:
    """What was drawn into which file: on stderr."""
    from memheft.views.text import clean

    of = " and ".join(last.shown(recording.path) for recording in recordings)
    if len(recordings) > 2:
        of = f"{len(recordings)} recordings"
    line = clean(f"memheft: {options.output}: memory over time of {of}")
    encoding = sys.stderr.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def timeline_of(recording: Opened) -> Timeline:
    """What is to be drawn of a recording, or one clear line."""
    from memheft.views import timeline
    from memheft.views.recording import CREATED

    found = timeline.of(recording)
    if found is None:
        name = last.shown(recording.path)
        if recording.never_began:
            raise HeftError(f"{name} has no timeline: nothing was recorded", code="no-timeline")
        if recording.state == CREATED:
            raise HeftError(f"{name} has no timeline yet: the program has not begun", code="no-timeline")
        raise HeftError(
            f"{name} has no timeline", "those of earlier memhefts have none: record it again", "no-timeline"
        )
    return found


def _labels(names: Sequence[str]) -> list[str]:
    """The files' names; with their folders where those alone tell them apart."""
    short = [os.path.basename(name) for name in names]
    return [name if short.count(base) > 1 else base for name, base in zip(names, short, strict=True)]


def _output(path: str | None) -> tuple[str, str]:
    """The picture's path and format."""
    if path is None:
        raise UsageError("name the picture: -o plot.svg", "memheft report --plot draws in the terminal")
    form = os.path.splitext(path)[1].lower()
    if form not in FORMATS:
        raise UsageError(f"-o {path}: the name of a picture ends in .svg or .png", "such as -o plot.svg")
    return path, form
