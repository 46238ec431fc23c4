"""Standard output, where there is one: what is asked for and cannot be written is a failure.

Started with `>&-`, or by a supervisor that closes it, Python has no sys.stdout, and print() is silent then.
"""

from __future__ import annotations

import errno
import sys

TYPE_CHECKING = False  # as in typing, without importing it: `memheft --version` needs this, too
if TYPE_CHECKING:
    from typing import TextIO


def stdout() -> TextIO:
    """Return sys.stdout; raises OSError if it is closed."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "stdout is closed")
    return sys.stdout
