"""Numbers as people read them: 1.84 GiB, 12.0 M, 61 %, 12.4 s."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int) -> str:
    """Bytes, with three significant digits."""
    if abs(count) < 1024:
        return f"{count} B"
    value = count / 1024
    unit = 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    digits = 3 if abs(value) < 0.9995 else 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def change(delta: int) -> str:
    """Bytes more or less: +1.20 MiB, -37 B, 0 B."""
    return f"+{size(delta)}" if delta > 0 else size(delta)


def count_change(delta: int) -> str:
    """How many more or less: +412 k, -3, 0."""
    return f"+{count(delta)}" if delta > 0 else count(delta)


def growth(before: int, after: int) -> str:
    """A change in percent: +264 %, -0.4 %, <0.1 % either way; nothing where there was nothing before."""
    if before <= 0 or after == before:
        return ""
    percent = 100 * (after - before) / before
    if abs(percent) >= 1000:
        return f"{after / before:,.0f}x"
    if abs(percent) < 0.05:
        return "<0.1 %"
    return f"{percent:+.0f} %" if abs(percent) >= 9.95 else f"{percent:+.1f} %"


def count(number: int) -> str:
    """How many: 37, 4.1 k, 412 k, 12.0 M."""
    value = float(number)
    for unit in ("", " k", " M", " G"):
        if abs(value) < 999.5:
            if not unit:
                return str(number)
            return f"{value:.1f}{unit}" if abs(value) < 99.95 else f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f} T"


def plural(number: int, noun: str) -> str:
    """`1 block`, `412 k blocks`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def share(part: int, whole: int) -> str:
    """A part in percent."""
    if whole <= 0:
        return "- %" if part else "0 %"
    percent = 100 * part / whole
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.05 else "<0.1 %"


def duration(nanoseconds: int) -> str:
    """A time span: 0.08 s, 12.4 s, 3 min 20 s."""
    seconds = nanoseconds / 1e9
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
