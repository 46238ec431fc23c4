"""memheft: what a Python program weighs, and where the weight is."""

from memheft._version import __version__

__all__ = ["__version__"]
