"""What views, differences and timelines share with other sequences."""

from __future__ import annotations

import sys
from collections.abc import Iterable


class Searchable:
    """index() and count() of what can be iterated.

    It is no collections.abc.Sequence: polars reads one item by item, and would not ask for the Arrow stream.
    """

    def index(self: Iterable[object], value: object, start: int = 0, stop: int = sys.maxsize) -> int:
        """Where the first such item is; raises ValueError if there is none."""
        return list(self).index(value, start, stop)

    def count(self: Iterable[object], value: object) -> int:
        """How many such items there are."""
        return list(self).count(value)
