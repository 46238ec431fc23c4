"""The C engine, or one clear line why it is not here."""

from __future__ import annotations

import sys

from memheft import loading
from memheft.cli.errors import HeftError
from memheft.errors import Error


def require() -> None:
    """Import `memheft._engine`, so that a later import of it is sure to work."""
    try:
        loading.require()
    except Error as error:
        raise HeftError(
            str(error),
            f"install it for this interpreter: {sys.executable} -m pip install memheft",
            code="unsupported",
        ) from error
