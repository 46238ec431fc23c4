"""What a reader must know before trusting the numbers: one plain line each."""

from __future__ import annotations

from memheft.views import sizes
from memheft.views.recording import (
    CREATED,
    FLAG_CONTRADICTION,
    FLAG_DISK_FULL,
    FLAG_FILE_GONE,
    FLAG_FULL_WALK,
    FLAG_JIT,
    FLAG_LATE_END,
    FLAG_REGIONS_CUT,
    PATHS_KEPT,
    REGIONS_KEPT,
    RUNNING,
    Opened,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from memheft import _engine

    Kind = Literal["sizes", "with calls", "own", "callers"]

NO_OWN_CODE = (
    "no file of this recording is your own code, all are Python's or of installed packages; "
    "use --by module, or --match PATTERN"
)

# What a view shows, and what cut paths mean for it.
_CUT = {
    "sizes": "what lines asked for themselves is exact",
    "with calls": "sizes are exact, `with calls` is too small",
    "own": "they are charged to <paths cut>, unless that line is your own",
    "callers": "they stand under <paths cut>",
}


def of(recording: Opened, view: _engine.View, kind: Kind) -> list[str]:
    """The notices below a view; `kind`: which of its sums there are."""
    return of_sampling(recording, view) + _of_what_is_counted(recording, view, kind)


def _of_what_is_counted(recording: Opened, view: _engine.View, kind: Kind) -> list[str]:
    return _of_its_end(recording) + of_losses(recording, view) + of_cut_paths_in(recording, view, kind)


def of_sums(recording: Opened) -> list[str]:
    """What concerns the sums of all blocks, whichever line they are of."""
    header = recording.header
    out = _of_its_end(recording)
    if recording.state != CREATED and header["lost_events"]:
        out.append(_lost(header["lost_events"]))
    if recording.state != CREATED and header["flags"] & FLAG_CONTRADICTION:
        out.append(_CONTRADICTION)
    return out


def of_sampling(recording: Opened, view: _engine.View) -> list[str]:
    """What the sums of a sample are worth."""
    if not recording.is_sampled:
        return []
    one_in = sizes.size(recording.header["interval_bytes"])
    return [
        f"estimated from a sample, one allocation in {one_in} on average; the standard error of the sum is "
        f"{sizes.share(view.bytes_error, view.total_bytes)} ({sizes.size(view.bytes_error)})"
    ]


def _of_its_end(recording: Opened) -> list[str]:
    header = recording.header
    if recording.never_began:
        return [f"nothing was recorded: {why_not_recorded(recording)}"]
    if recording.state == CREATED:
        unwatched = "" if header["watcher_pid"] else ", or was not recorded"
        return [f"nothing was recorded yet: the program has not begun{unwatched}"]
    if recording.running:
        return [f"the program still runs (process {header['pid']}): these are the numbers up to now"]
    if recording.complete:
        return []
    status = recording.exit_status
    if status is not None and status < 0:
        return [f"the program was killed by {signal_name(-status)}: the numbers are right up to that moment"]
    if recording.state == RUNNING:
        return [
            "the recording was not closed (kill, os._exit or exec): the numbers are right up to that moment"
        ]
    return []


def of_two(
    recordings: tuple[Opened, Opened],
    views: tuple[_engine.View, _engine.View],
    kind: Kind,
    wants_own: bool = False,
) -> list[str]:
    """The notices below a comparison; `wants_own`: of each one's own code."""
    out = _of_samples(recordings, views)
    for word, recording, view in zip(("before", "after"), recordings, views, strict=True):
        own = [NO_OWN_CODE] if wants_own and not recording.has_own_code else []
        out += [f"{word}: {text}" for text in own + _of_what_is_counted(recording, view, kind)]
    pythons = [recording.text("python") for recording in recordings]
    if all(pythons) and pythons[0] != pythons[1]:
        out.append(f"recorded by Python {pythons[0]} and {pythons[1]}: a part of the changes is Python's own")
    codes = [recording.exit_code for recording in recordings]
    if None not in codes and codes[0] != codes[1]:
        out.append(f"the programs ended differently: exit code {codes[0]} before, {codes[1]} after")
    return out


def _of_samples(recordings: tuple[Opened, Opened], views: tuple[_engine.View, _engine.View]) -> list[str]:
    """What the difference is worth, if one of them or both are samples."""
    from memheft.views.rows import error_of

    sampled = [
        (word, sizes.size(recording.header["interval_bytes"]))
        for word, recording in zip(("before", "after"), recordings, strict=True)
        if recording.is_sampled
    ]
    if not sampled:
        return []
    words, rates = zip(*sampled, strict=True)
    if len(set(rates)) == 1:
        every = f"one allocation in {rates[0]} on average"
    else:
        every = f"one allocation in {rates[0]} on average before, in {rates[1]} after"
    what = f"{words[0]}: estimated from a sample" if len(words) == 1 else "estimated from samples"
    error = sizes.size(error_of(sum(view.bytes_error**2 for view in views)))
    return [f"{what}, {every}; the standard error of the sum's change is {error}, small changes mean nothing"]


def why_not_recorded(recording: Opened) -> str:
    """Why a program ran to its end, and its recording did not begin."""
    if recording.header["flags"] & FLAG_DISK_FULL:
        return "there was no space for it on the disk"
    if recording.header["pid"]:
        return "the program ended before its first line, while Python was starting"
    return "Python did not load memheft's start file, or what it printed says why not"


def of_losses(recording: Opened, view: _engine.View, bytes_of: str = "these bytes") -> list[str]:
    """What was lost or is less exact than it should be; `bytes_of`: what the view's bytes are called."""
    header = recording.header
    flags = header["flags"]
    out: list[str] = []
    if recording.state == CREATED:
        return out
    if header["lost_events"]:
        out.append(_lost(header["lost_events"]))
    if flags & FLAG_DISK_FULL or header["cut_events"]:
        full = "the disk was full" if flags & FLAG_DISK_FULL else "the tree of calls was full"
        out.append(f"{full}: {_misplaced(recording, view, bytes_of)}")
    if flags & FLAG_REGIONS_CUT:
        out.append(_REGIONS_CUT)
    if flags & FLAG_FILE_GONE:
        out.append("the recording's file was deleted or moved while the program ran")
    if flags & FLAG_CONTRADICTION:
        out.append(_CONTRADICTION)
    if flags & FLAG_LATE_END:
        out.append(
            "the program dropped its exit handlers: --live shows what was left after Python's teardown"
        )
    if flags & FLAG_JIT:
        out.append("Python's JIT was on: lines are approximate")
    if flags & FLAG_FULL_WALK:
        out.append("stacks were walked in full (slower, just as exact)")
    return out


_CONTRADICTION = "the counters did not add up at the end: do not rely on the numbers; please report this"


_REGIONS_CUT = (
    f"more regions than a recording keeps ({REGIONS_KEPT:,}): what was allocated in later ones is counted "
    "with the region around them"
)


def _lost(blocks: int) -> str:
    return f"{sizes.plural(blocks, 'block')} could not be recorded: there was no memory for them"


def _misplaced(recording: Opened, view: _engine.View, bytes_of: str) -> str:
    """How much may stand at a caller of its line.  The lines that hold it hold some of their own as well."""
    if not recording.header["cut_events"]:
        return "the recording could not grow"
    if not view.uncertain_bytes and not view.uncertain_blocks:
        return f"some call paths were not kept, but no line of {bytes_of} is concerned"
    part = sizes.share(view.uncertain_bytes, view.total_bytes)
    return (
        f"some call paths were not kept; up to {part} of {bytes_of} are charged to a caller of their line, "
        "or to <paths cut>; the sum of all is exact"
    )


def of_cut_paths(recording: Opened) -> list[str]:
    """What cut paths mean for all that can be asked of the recording."""
    if not recording.paths_cut:
        return []
    return [
        f"{_TOO_MANY}: of later ones only the innermost line is known; what lines asked for themselves is "
        "exact, sums with calls, --own, --tree and stacks are not"
    ]


def of_cut_paths_in(recording: Opened, view: _engine.View, kind: Kind) -> list[str]:
    """What they mean for a view."""
    if not recording.paths_cut or not (view.cut_bytes or view.cut_blocks):
        return []
    part = sizes.share(view.cut_bytes, view.total_bytes)
    return [f"{_TOO_MANY}: of {part} of these bytes only the innermost line is known; {_CUT[kind]}"]


_TOO_MANY = f"more call paths than a recording keeps ({PATHS_KEPT:,})"


def check_line(recording: Opened) -> str | None:
    """The result of MEMHEFT_CHECK=1."""
    header = recording.header
    if not header["check_compared"]:
        return None
    return f"check: {header['check_compared']} stacks compared, {header['check_mismatches']} mismatches"


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
