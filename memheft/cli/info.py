"""`memheft info`: what a recording is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memheft.cli.open import open_recording
from memheft.cli.parser import Parser

if TYPE_CHECKING:
    from memheft.views.recording import Opened

DESCRIPTION = """\
Say what a recording is: its program, how taken, if complete, what was lost.

  memheft info app.4711.heft
  memheft info app.4711.heft --json
"""

EPILOG = """\
FILE is the last recording if it is left out.
exit code: 0 done, 1 the recording cannot be found or read, 2 wrong usage.
"""


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    parser = Parser("info", "[FILE] [--json]", DESCRIPTION, EPILOG)
    parser.add_argument("file", nargs="?", metavar="FILE", help="a recording")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(list(args))
    recording = open_recording(options.file)
    if options.json:
        from memheft.views import documents

        documents.write(documents.info(recording))
    else:
        _draw(recording)
    return 0


def _draw(recording: Opened) -> None:
    from memheft.views import notices, sizes
    from memheft.views.paper import Paper
    from memheft.views.text import clean

    header, totals = recording.header, recording.totals
    paper = Paper()
    size = sizes.size(header["file_bytes"])
    paper.line(f"{clean(recording.path)}: a recording, format {header['format_version']}, {size}", "title")

    def say(name: str, text: str | None) -> None:
        if text:
            paper.line(f"  {name:<10} {clean(text)}")

    say("program", recording.text("script"))
    say("command", shlex.join(recording.texts("command")))
    say("folder", recording.text("cwd"))
    say("python", " ".join(filter(None, [recording.text("python"), recording.text("executable")])))
    on = f" on {recording.text('host')}" if recording.text("host") else ""
    say("started", f"{recording.started or 'not known'}{on}, process {header['pid'] or 'not known'}")
    how = (
        "every allocation"
        if not header["mode"]
        else f"a sample, one in {sizes.size(header['interval_bytes'])}"
    )
    say(
        "taken",
        f"{how}, for {sizes.duration(recording.duration_ns)}, by memheft {recording.text('memheft') or '?'}",
    )
    say("complete", _completeness(recording))
    say(
        "peak",
        f"{sizes.size(totals['peak_bytes'])} in {sizes.plural(totals['peak_blocks'], 'block')}"
        f" at {sizes.duration(header['peak_at_ns'])}",
    )
    resident = recording.known("rss_peak_bytes")
    say("resident", sizes.size(resident) + " at most" if resident else "not known")
    say("left", f"{sizes.size(totals['live_bytes'])} in {sizes.plural(totals['live_blocks'], 'block')}")
    say(
        "allocated",
        f"{sizes.size(totals['allocated_bytes'])} in {sizes.plural(totals['allocated_blocks'], 'block')}",
    )
    lost, cut = header["lost_events"], header["cut_events"]
    nothing = "no block, but call paths; see below" if cut else "nothing"
    said = sizes.plural(lost, "block") if lost else nothing
    say("lost", "everything" if recording.never_began else said)
    tool = recording.known("tool_bytes")
    say("our own", f"{sizes.size(tool)} of memory in the program" if tool else "not known")
    counts = [(header["node_n"], "node"), (header["code_n"], "function"), (len(recording.threads), "thread")]
    say("holds", ", ".join(sizes.plural(number, noun) for number, noun in counts))
    if header["folded_nodes"]:
        say("recursion", f"folded onto its first level ({sizes.plural(header['folded_nodes'], 'node')})")
    check = notices.check_line(recording)
    if check is not None:
        say("check", check.removeprefix("check: "))
    everything = recording.view("total")
    losses = notices.of_losses(recording, everything, "all bytes allocated")
    for notice in losses + notices.of_cut_paths(recording):
        paper.line(f"  note: {notice}", "warning")


def _completeness(recording: Opened) -> str:
    from memheft.views import notices

    status = recording.exit_status
    end = ""
    if status is not None:
        end = f"exited {status}" if status >= 0 else f"was killed by {notices.signal_name(-status)}"
    if recording.is_snapshot:
        return "yes, up to the moment of this snapshot; the program went on"
    if recording.stopped:
        return "yes, the program stopped it itself"
    if recording.complete:
        return f"yes, the program {end}"
    if recording.running:
        return "no, the program still runs"
    if recording.never_began:
        return f"no, the program {end or 'ended'}: {notices.why_not_recorded(recording)}"
    if recording.state == 1:
        return "no, the program has not begun"
    how = f"the program {end}" if end else "nobody saw its end"
    return f"no, {how}: the numbers are right up to that moment"
