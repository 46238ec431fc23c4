"""The C engine, or one clear line why it is not here."""

from __future__ import annotations

from memheft.errors import Error


def require() -> None:
    """Import `memheft._engine`, so that a later import of it is sure to work; raises Error."""
    try:
        import memheft._engine  # noqa: F401
    except ImportError as error:
        import platform

        python = f"{platform.python_implementation()} {platform.python_version()}"
        raise Error(f"the engine of memheft cannot be loaded into {python}: {error}") from error
