"""Opening a recording, with errors that say what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from memheft.cli import engine, last
from memheft.cli.errors import HeftError

if TYPE_CHECKING:
    from memheft import _engine
    from memheft.views.recording import Opened

_HINTS = {
    "missing": "memheft run SCRIPT makes a recording",
    "empty": "memheft reads the .heft files that memheft run writes",
    "foreign": "memheft reads the .heft files that memheft run writes",
    "newer": "read it with the memheft that wrote it, or a newer one",
    "truncated": "it was copied in part, or the disk was full: copy it again, or record again",
    "corrupt": "the file was changed or damaged after it was written",
}


def open_recording(path: str | None) -> Opened:
    """Open a recording, the last one when none is named."""
    engine.require()
    from memheft import _engine
    from memheft.views.recording import Opened

    name = path if path is not None else last.find()
    if os.path.isdir(name):
        raise HeftError(f"{name} is a folder", "name a recording in it", code="foreign")
    try:
        return Opened(name)
    except _engine.EngineError as error:
        raise HeftError(f"{name}: {_reason(name, error)}", _HINTS.get(error.code), code=error.code) from error
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "io"
        raise HeftError(f"{name}: {error.strerror or error}", _HINTS.get(code), code=code) from error


def _reason(name: str, error: _engine.EngineError) -> str:
    """What is the matter with a file; of a damaged one also where, which may tell who did it."""
    if error.code == "truncated":
        from memheft.views import sizes

        try:
            there = f"{sizes.size(os.path.getsize(name))} of it are there, and "
        except OSError:
            there = ""
        return f"the recording is cut short: {there}nothing can be read from it"
    if error.code == "corrupt" and error.offset is not None:
        return f"{error} (at byte {error.offset})"
    return str(error)
