"""The C engine, or one clear line why it is not here."""

from __future__ import annotations

import sys

from memheft.cli.errors import HeftError


def require() -> None:
    """Import `memheft._engine`, so that a later import of it is sure to work."""
    try:
        import memheft._engine  # noqa: F401
    except ImportError as error:
        from memheft import loading  # not before: `memheft run` starts lean

        raise HeftError(
            loading.why(error),
            f"install it for this interpreter: {sys.executable} -m pip install memheft",
            code="unsupported",
        ) from error
