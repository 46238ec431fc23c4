"""The C engine, or one clear line why it is not here."""

from __future__ import annotations

from memheft.errors import Error


def require() -> None:
    """Import `memheft._engine`, so that a later import of it is sure to work; raises Error."""
    try:
        import memheft._engine  # noqa: F401
    except ImportError as error:
        raise Error(why(error)) from error


def why(error: ImportError) -> str:
    """What an error of that import means."""
    import platform

    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"the engine of memheft cannot be loaded into {python}: {error}"
