"""The exceptions of the API; the message is one line that says what to do."""

from __future__ import annotations


class Error(Exception):
    """memheft cannot do what was asked; also what every other exception of memheft's is."""


class RecordingError(Error):
    """A recording cannot be started, stopped or read now: another one is on, or it is closed."""


class FormatError(Error):
    """A file is no recording, or one that cannot be read.

    `code` is a word for it: empty, foreign (no recording), newer (of a later memheft), truncated, corrupt or
    io. `offset` is the byte where the damage shows, if that is known.
    """

    def __init__(self, message: str, code: str = "corrupt", offset: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.offset = offset
