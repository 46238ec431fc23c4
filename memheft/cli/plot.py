"""`memheft plot`: memory over time, of several recordings, in a picture."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memheft.cli import last
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
    _check_free(path, options.force)

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
    _write(path, picture, options.force)
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


def _output(output: str | None) -> tuple[str, str]:
    """The picture's path and format."""
    if output is None:
        raise UsageError("name the picture: -o plot.svg", "memheft report --plot draws in the terminal")
    form = os.path.splitext(output)[1].lower()
    if form not in FORMATS:
        raise UsageError(f"-o {output}: the name of a picture ends in .svg or .png", "such as -o plot.svg")
    try:
        return os.path.realpath(output), form
    except OSError as error:
        raise HeftError(f"{output}: {error.strerror}", "choose another with -o", code="io") from error


def _check_free(path: str, force: bool) -> None:
    """Pictures are overwritten when that is asked for, nothing else is."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise HeftError(f"cannot write {path}: {error.strerror}", "choose another with -o", "io") from error
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file", "choose another name with -o", code="exists")
    if not force:
        raise _exists(path)
    with open(path, "rb") as file:
        if file.read(8) == b"\x89HEFT\r\n\x1a":
            raise UsageError(f"{path} is a recording", "choose another name with -o", code="exists")


def _exists(path: str) -> UsageError:
    return UsageError(
        f"{path} exists", "choose another name with -o, or --force to overwrite it", code="exists"
    )


def _write(path: str, picture: bytes, force: bool) -> None:
    """Write the picture whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(picture)
        try:
            if force:
                os.replace(temporary, path)
            else:
                _move(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except FileExistsError as error:
        raise _exists(path if not os.path.lexists(temporary) else temporary) from error
    except OSError as error:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            what = "is not a folder" if os.path.lexists(folder) else "does not exist"
            raise HeftError(f"{folder} {what}", "choose another with -o", "missing") from error
        raise HeftError(f"cannot write {path}: {error.strerror}", "choose another with -o", "io") from error


def _move(temporary: str, path: str) -> None:
    """Rename, but not onto what somebody else has written meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError from None
        os.rename(temporary, path)
    else:
        os.unlink(temporary)
