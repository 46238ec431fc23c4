"""Memory over time, as the engine keeps it: the most of each interval; and cut into columns, to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memheft.views.recording import Opened


@dataclass(frozen=True)
class Timeline:
    """Point i holds the most that was seen live, and resident, from i to i + 1 intervals after the start.

    The program looks when it allocates: over a pause there stands what it saw before.
    """

    interval_ns: int
    live: list[int]
    resident: list[int | None]
    end_ns: int  # of the program, or now: past the last point nothing was allocated
    end_live: int
    peak_bytes: int
    peak_at_ns: int

    @property
    def most(self) -> int:
        """The largest number in it."""
        return max(self.peak_bytes, self.end_live, *self.live, *(size or 0 for size in self.resident))

    @property
    def most_resident(self) -> int | None:
        """The largest resident memory, or None."""
        return max((size for size in self.resident if size is not None), default=None)

    def steps(self) -> list[tuple[int, int, int, int | None]]:
        """All of it as (from, to, live, resident), up to the end."""
        out = []
        for i, (live, resident) in enumerate(zip(self.live, self.resident, strict=True)):
            start, stop = i * self.interval_ns, min((i + 1) * self.interval_ns, self.end_ns)
            out.append((start, stop, live, resident))
        past = len(self.live) * self.interval_ns
        if past < self.end_ns:
            out.append((past, self.end_ns, self.end_live, self.resident[-1]))
        return out

    def columns(self, n: int) -> list[tuple[int, int | None]]:
        """The most live, and resident, in each n-th of the time; the peak is in its column."""
        live, resident = [*self.live, self.end_live], [*self.resident, self.resident[-1]]
        out: list[tuple[int, int | None]] = []
        for i in range(n):
            first = min(i * self.end_ns // (n * self.interval_ns), len(live) - 1)
            stop = max(first + 1, -(-(i + 1) * self.end_ns // (n * self.interval_ns)))
            known = [size for size in resident[first:stop] if size is not None]
            out.append((max(live[first:stop]), max(known, default=None)))
        peak = self.column_of(self.peak_at_ns, n)
        if peak is not None:
            out[peak] = (max(out[peak][0], self.peak_bytes), out[peak][1])
        return out

    def column_of(self, time_ns: int, n: int) -> int | None:
        """Which of n columns a time lies in."""
        return min(time_ns * n // self.end_ns, n - 1) if time_ns <= self.end_ns else None


def of(opened: Opened) -> Timeline | None:
    """The timeline of a recording that has points."""
    raw = opened.engine.timeline
    if raw is None or not raw[1]:
        return None
    interval, points = raw
    # The last point covers an interval that may just have begun.
    end = max(opened.duration_ns, (len(points) - 1) * interval + 1)
    return Timeline(
        interval,
        [live for live, _ in points],
        [resident for _, resident in points],
        end,
        opened.totals["live_bytes"],
        opened.totals["peak_bytes"],
        opened.header["peak_at_ns"],
    )
