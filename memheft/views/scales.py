"""Axes: round sizes and round times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memheft.views import sizes

MS, SECOND, MINUTE, HOUR, DAY = 10**6, 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9

# Quarters and halves of the next larger unit stay round: 256 MiB, 512 MiB, 768 MiB, 1 GiB.
_ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
_LARGEST_UNIT = 6  # EiB

# up to where a unit is the best one, the unit, its name, can it be cut in ten
_TIMES = (
    (SECOND, MS, "ms", True),
    (2 * MINUTE, SECOND, "s", True),
    (2 * HOUR, MINUTE, "min", False),
    (2 * DAY, HOUR, "h", False),
    (None, DAY, "d", False),
)


@dataclass(frozen=True)
class Scale:
    """An axis from 0: `ticks` are (value, label), the first is 0; `end` is where it ends."""

    end: int
    ticks: tuple[tuple[int, str], ...]


def of_sizes(most: int, steps: Sequence[int]) -> Scale:
    """Bytes from 0 to at least `most`, in one of these numbers of steps: the axis ends at its last tick."""
    most = max(most, 1)
    end, step = min((step * n, step) for step in _size_steps() for n in steps if _fits(step, n, most))
    return Scale(end, tuple((at, sizes.size(at) if at else "0") for at in range(0, end + 1, step)))


def _size_steps() -> Iterator[int]:
    for power in range(_LARGEST_UNIT + 1):
        unit = 1024**power
        if power:
            yield from (unit // 4, unit // 2)
        for ten in (1, 10, 100):
            yield from (int(digits * ten * unit) for digits in _ROUND if digits * ten * unit % 1 == 0)


def _fits(step: int, n: int, most: int) -> bool:
    """Whether the steps reach, and the last is as round in its unit as the first."""
    end = step * n
    if end < most:
        return False
    shown = float(sizes.size(end).split()[0])
    return shown * 4 % 1 == 0 and (shown >= 1 or end < 1024)


def of_times(end: int, most: int) -> Scale:
    """Nanoseconds from 0 to `end`, with at most so many ticks after that of 0."""
    end = max(end, 1)
    _, unit, name, decimal = next(row for row in _TIMES if row[0] is None or end < row[0])
    step = next(step for step in _time_steps(unit, decimal) if end // step <= max(most, 1))
    return Scale(end, tuple((at, f"{at / unit:g} {name}") for at in range(0, end + 1, step)))


def _time_steps(unit: int, decimal: bool) -> Iterator[int]:
    if decimal:
        yield from (unit // 10, unit // 5)
    yield unit // 2
    ten = 1
    while True:
        yield from (unit * ten, 2 * unit * ten, 5 * unit * ten)
        ten *= 10
