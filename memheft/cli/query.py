"""What is asked of a recording: a moment, and whose code.  The same options in every verb that shows one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, get_args

from memheft.cli.errors import UsageError
from memheft.tables import By, Code

if TYPE_CHECKING:
    from memheft import _engine
    from memheft._engine import _By, _Moment
    from memheft.cli.parser import Parser
    from memheft.views.recording import Opened

SPANS = (1, 2, 4)
CLASSES = get_args(Code)
GROUPINGS = get_args(By)


def add_moments(made: Parser) -> None:
    """Add the options that choose a moment."""
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
    """Add the options that leave code out."""
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
    which.add_argument(
        "--region", action="append", metavar="NAME", help="only what was allocated in this region; repeatable"
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


def take_moment(options: argparse.Namespace) -> int:
    """Set `options.moment`; the result is the span of temporary blocks."""
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


class Query:
    """What was asked of a recording."""

    def __init__(self, recording: Opened, options: argparse.Namespace, span: int) -> None:
        from memheft.views.names import CLASS_NAMES, OTHER

        self.recording = recording
        self.moment = cast("_Moment", options.moment)
        self.by = cast("_By", options.by or "line")
        self.span = span
        self.own: bool = options.own
        self.wants_own: bool = options.own or options.only == ["own"]
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
            self.pattern = bytes(recording.names.matches(file, options.match) for file in recording.files)
            self.filters += [f"--match={pattern}" for pattern in options.match]

        self.regions: bytes | None = None
        if options.region:
            self.regions = recording.regions_like(options.region)
            self.filters += [f"--region={name}" for name in options.region]

    @property
    def drops_rows(self) -> bool:
        """Say whether a part of the memory is left out."""
        return self.keep != 15 or self.pattern is not None or self.regions is not None

    @property
    def has_files(self) -> bool:
        """Say whether any file, of whatever size, is of the code that is asked for."""
        matches = self.pattern if self.pattern is not None else bytes([1]) * len(self.recording.files)
        return any(
            is_like and self.keep >> name & 1
            for is_like, name in zip(matches, self.recording.classes, strict=True)
        )

    def view(self, moment: _Moment | None = None) -> _engine.View:
        """What was asked for, or another moment of it."""
        moment = moment or self.moment
        return self.recording.view(moment, self.span, self.own, self.keep, self.pattern, self.regions)

    def sum(self, view: _engine.View) -> str:
        """What there is of it, and when: the line that a report begins with."""
        from memheft.views import sizes
        from memheft.views.names import title_of

        title = title_of(self.moment, self.span)
        if self.moment == "peak":
            title += f", {sizes.duration(self.recording.header['peak_at_ns'])} after the start"
        if self.moment == "live" and self.recording.running:
            title = "now"
        return f"{sizes.size(view.total_bytes)} in {sizes.plural(view.total_blocks, 'block')} {title}"

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


def check_regions(names: Sequence[str] | None, *recordings: Opened) -> None:
    """A name that is no region's, in none of the recordings, is a mistake: raise UsageError."""
    for name in names or ():
        if not any(any(recording.regions_like([name])) for recording in recordings):
            of = "this recording" if len(recordings) == 1 else "these recordings"
            raise UsageError(
                f"no region of {of} is called {name}",
                "memheft report --by region lists the regions",
                code="unknown-name",
            )
