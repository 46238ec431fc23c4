"""Errors that a user sees: one line, what to do, and an exit code."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUDGET = 3


class HeftError(Exception):
    """The tool could not do what was asked."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None, code: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def line(self) -> str:
        """The error as one line of text."""
        text = self.message if self.hint is None else f"{self.message} ({self.hint})"
        return "memheft: error: " + " ".join(text.split())


class UsageError(HeftError):
    """What was asked makes no sense."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str | None = None, code: str = "usage") -> None:
        super().__init__(message, hint, code)
