"""Opening a recording, with errors that say what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from memheft.cli import engine, last
from memheft.cli.errors import HeftError

if TYPE_CHECKING:
    from memheft.views.recording import Opened

_HINTS = {
    "missing": "memheft run SCRIPT makes a recording",
    "empty": "a recording that is only being made, or a file that is none",
    "foreign": "memheft reads the .heft files that memheft run writes",
    "newer": "read it with the memheft that wrote it, or a newer one",
    "truncated": "the file was cut short, perhaps while it was copied",
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
        where = f" (at byte {error.offset})" if error.offset is not None else ""
        raise HeftError(f"{name}: {error}{where}", _HINTS.get(error.code), code=error.code) from error
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "io"
        raise HeftError(f"{name}: {error.strerror or error}", _HINTS.get(code), code=code) from error
