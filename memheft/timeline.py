"""Memory over time, as a sequence of points: the object behind recording.timeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, overload

from memheft.sequence import Searchable

if TYPE_CHECKING:
    from memheft._engine import _Column
    from memheft.views.recording import Opened


class Point(NamedTuple):
    """The most that was seen in one interval of time; None: not known."""

    time_ns: int  # where the interval begins, from the start of the recording
    live_bytes: int
    resident_bytes: int | None  # of the whole process


class Timeline(Searchable):
    """Memory over time: a sequence of at most 500 `Point`, one for each interval, from the start on.

    The program looks after every 64 allocations, and at its resident memory at most every 50 ms: over a pause
    there stands what it saw before, and the peak itself may be a little higher than any point. Empty, if
    nothing was recorded or an earlier memheft recorded it.
    """

    def __init__(self) -> None:
        raise TypeError("timelines are made by recordings: recording.timeline")

    _interval_ns: int
    _points: list[Point]

    @classmethod
    def _of(cls, opened: Opened) -> Timeline:
        self = object.__new__(cls)
        interval, points = opened.engine.timeline or (0, [])
        self._interval_ns = interval
        self._points = [Point(i * interval, live, resident) for i, (live, resident) in enumerate(points)]
        return self

    @property
    def interval_ns(self) -> int:
        """How long the interval of each point is, in nanoseconds; 0 without points."""
        return self._interval_ns

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        return self._points[index]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The points as an Arrow stream, columns named as in `Point`; see View."""
        from memheft import _engine

        columns: list[_Column] = [
            (name, "int64", [point[at] for point in self._points]) for at, name in enumerate(Point._fields)
        ]
        return _engine.arrow_stream(columns)

    def __repr__(self) -> str:
        from memheft.views import sizes

        if not self._points:
            return "<memheft.Timeline, empty>"
        most = sizes.size(max(point.live_bytes for point in self._points))
        span = sizes.duration(len(self._points) * self._interval_ns)
        number = sizes.plural(len(self._points), "point")
        return f"<memheft.Timeline: {number} in {span}, at most {most} live>"
