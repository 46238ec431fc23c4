"""argparse as we want it: errors are ours, help begins with examples."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from memheft.cli.errors import UsageError
from memheft.views.stdout import stdout

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError and keeps the line breaks of its texts."""

    def __init__(self, verb: str, usage: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"memheft {verb}",
            usage=f"memheft {verb} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
        )

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; unlike argparse, fail if that fails."""
        if file is not None:
            super().print_help(file)
        else:
            out = stdout()
            out.write(self.format_help())
            out.flush()

    def error(self, message: str) -> NoReturn:
        """Raise what the command line turns into one line."""
        raise UsageError(message, f"{self.prog} --help says more")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)
