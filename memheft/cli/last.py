"""The last recording: what the reading verbs take when no file is named."""

from __future__ import annotations

import os

from memheft import note
from memheft.cli import engine
from memheft.cli.errors import HeftError


def find() -> str:
    """The path of the last recording: of the current folder if it has one, else of any.

    Of the current folder are those that lie in it, and what was last recorded from it, wherever it lies.
    """
    import glob

    noted, folder = note.read()
    here = [name for name in sorted(glob.glob("*.heft")) if os.path.isfile(name)]
    is_of_here = noted is not None and _is_here(folder)
    if noted is not None and (is_of_here or not here):
        here = [noted, *(name for name in here if not _is_same(name, noted))]
    if len(here) > 1:
        return _last(here, is_of_here)
    if here:
        return here[0]
    raise HeftError(
        "no recording named, and there is no last one", "memheft run SCRIPT makes one", code="missing"
    )


def _last(names: list[str], first_is_noted: bool) -> str:
    """The one that was made last, by what the recordings say: files are copied and touched.

    That is the noted one, unless another began after it had ended (the API and `quiet=1` leave no note). Else
    it is the one that ended last: the program and not its children; of copies the oldest file.
    """
    engine.require()
    if not first_is_noted:
        names = sorted(names, key=_changed, reverse=True)
    first, *others = names
    began, end = _span(first)
    spans = {first: (began, end)}
    for name in others:
        if _changed(name) * 1e9 >= began:  # else it need not be read: that of a large one takes a second
            spans[name] = _span(name)
    if first_is_noted:
        spans = {name: span for name, span in spans.items() if name == first or span[0] > end}

    def key(name: str) -> tuple[float, bool, float, float]:
        began, end = spans[name]
        return end, first_is_noted and name == first, -began, -_changed(name)

    return max(spans, key=key)


def _span(name: str) -> tuple[float, float]:
    """When a recording began and ended, in nanoseconds of the calendar; infinity: it is still being made.

    What is damaged counts as of its last change: it may be the last one, and then that is to be said.
    """
    from memheft import _engine
    from memheft.views.recording import Opened

    try:
        recording = Opened(name)
    except (OSError, _engine.EngineError):
        return (_changed(name) * 1e9,) * 2
    began = recording.header["created_unix_ns"]
    return began, float("inf") if recording.running else began + recording.duration_ns


def _is_same(name: str, other: str) -> bool:
    try:
        return os.path.samefile(name, other)
    except OSError:
        return False


def _is_here(folder: str) -> bool:
    try:
        return os.path.samefile(folder, ".")
    except (OSError, ValueError):
        return False


def _changed(name: str) -> float:
    try:
        return os.stat(name).st_mtime
    except OSError:
        return 0.0


def shown(path: str) -> str:
    """The path as short as it can be typed in the current folder."""
    try:
        folder = os.getcwd()
    except OSError:
        return path
    near = path.removeprefix(folder + "/")
    return f"./{near}" if near.startswith("-") else near
