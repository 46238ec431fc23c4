"""A word on stderr when something takes longer than half a second."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

AFTER = 0.5


class Progress:
    """Says what is being done, on a terminal only, and wipes it out when it is done."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._timer: threading.Timer | None = None
        self._shown = False

    def __enter__(self) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            self._timer = threading.Timer(AFTER, self._show)
            self._timer.daemon = True
            self._timer.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _show(self) -> None:
        self._shown = True
        print(f"memheft: {self._text} ...", end="", file=sys.stderr, flush=True)
