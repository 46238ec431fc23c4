"""The last recording: what the reading verbs take when no file is named."""

from __future__ import annotations

import os

from memheft import note
from memheft.cli.errors import HeftError


def find() -> str:
    """The path of the last recording: of the current folder if it has one, else of any.

    Of the current folder are those that lie in it, and what was last recorded from it, wherever it lies.
    """
    import glob

    path, folder = note.read()
    here = [name for name in glob.glob("*.heft") if os.path.isfile(name)]
    if path is not None and (not here or _is_here(folder)):
        here.append(path)
    if here:
        return max(here, key=_changed)
    raise HeftError(
        "no recording named, and there is no last one", "memheft run SCRIPT makes one", code="missing"
    )


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
