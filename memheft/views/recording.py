"""A recording, opened: the engine's reader, and what its description says of the program.

The description is as little to be trusted as the rest of the file: every field is checked where it is taken.
"""

from __future__ import annotations

import json
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING

from memheft import _engine
from memheft.views.names import OWN, REGION_SEPARATOR, Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memheft._engine import _Moment

CREATED, RUNNING, SEALED, CLOSED = 1, 2, 3, 4
EXIT_UNKNOWN = -(2**31)
SIGINT = 2

FLAG_FULL_WALK, FLAG_JIT, FLAG_DISK_FULL, FLAG_FILE_GONE, FLAG_CONTRADICTION = 1, 2, 4, 8, 16
FLAG_PATHS_CUT, FLAG_LATE_END, FLAG_REGIONS_CUT, FLAG_SNAPSHOT = 32, 64, 128, 256
REGIONS_KEPT = 4096  # HEFT_REGIONS_MAX
PATHS_KEPT = 1 << 18  # HEFT_TREE_FLAT: of further call paths only the innermost line is kept
ALL_CLASSES = 15


class Opened:
    """A recording that could be opened; raises EngineError when it cannot."""

    def __init__(self, path: str | _engine.Snapshot, name: str | None = None) -> None:
        self._file = path if isinstance(path, str) else None
        self.path = name if name is not None else os.path.abspath(self._file or "")
        self.engine = _engine.Recording(path)
        self.header = self.engine.header
        self.totals = self.engine.totals
        self.files = self.engine.files
        self.threads = self.engine.threads
        self.regions = self.engine.regions
        self._meta = _parse_meta(self.engine.meta)

    # -- the program -------------------------------------------------------------------------------------

    def text(self, key: str) -> str | None:
        """A text of the description."""
        value = self._meta.get(key)
        return value if isinstance(value, str) else None

    def texts(self, key: str) -> list[str]:
        """A list of texts of the description."""
        value = self._meta.get(key)
        return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []

    @cached_property
    def label(self) -> str:
        """The program's name."""
        return self.text("script") or os.path.basename(self.path)

    @cached_property
    def code(self) -> str | None:
        """What `-c` was given."""
        return self.text("code") if self.text("kind") == "code" else None

    @cached_property
    def started(self) -> str | None:
        """When the recording was made, RFC 3339."""
        text = self.text("started")
        if text:
            return text
        created = self.header.get("created_unix_ns", 0)
        if not created:
            return None
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(created // 10**9, 253402300799)))

    @cached_property
    def names(self) -> Names:
        """How this recording's files are called."""
        package = self.text("package")
        scripts = self.text("scripts") if self.text("kind") == "command" else None
        hidden = [package] if package else []
        stdlib, site = self.texts("stdlib"), self.texts("site")
        return Names(self.text("cwd") or "", stdlib, site, hidden, scripts, self.code is not None)

    @cached_property
    def classes(self) -> bytes:
        """Whose code each file is, one byte for each."""
        return bytes(self.names.class_of(file) for file in self.files)

    @cached_property
    def has_own_code(self) -> bool:
        """Say whether any of its files is neither Python's nor of an installed package."""
        return OWN in self.classes

    def regions_like(self, patterns: Sequence[str]) -> bytes:
        """Say of each region, and last of what is in none, whether it is called like this, or in one that is.

        A pattern is a name, or one with * ? or [, for a single region or for all of them: "request / *".
        """
        from fnmatch import fnmatchcase

        def is_like(names: tuple[str, ...]) -> bool:
            texts = (*names, REGION_SEPARATOR.join(names))
            return any(
                fnmatchcase(text, pattern) or text == pattern for text in texts for pattern in patterns
            )

        return bytes([*map(is_like, self.regions), False])

    # -- its end -----------------------------------------------------------------------------------------

    @property
    def state(self) -> int:
        """CREATED, RUNNING, SEALED or CLOSED."""
        return self.header["state"]

    @property
    def exit_status(self) -> int | None:
        """The exit code, minus the signal, or None when nobody saw the end."""
        status = self.header["exit_status"]
        return None if status == EXIT_UNKNOWN else status

    @property
    def exit_code(self) -> int | None:
        """The exit code as a shell sees it."""
        status = self.exit_status
        return status if status is None or status >= 0 else 128 - status

    @property
    def complete(self) -> bool:
        """Say whether the end was seen, and the recording closed.

        Ctrl-C ends a program in order; other signals do not.
        """
        status = self.exit_status
        if status is None:
            return self.stopped
        return self.state in (SEALED, CLOSED) and (status >= 0 or status == -SIGINT)

    @property
    def stopped(self) -> bool:
        """Say whether the program stopped the recording itself, and went on."""
        return self.state == CLOSED and self.exit_status is None

    @property
    def is_snapshot(self) -> bool:
        """Say whether it shows one moment of a recording that went on."""
        return bool(self.header["flags"] & FLAG_SNAPSHOT)

    @property
    def never_began(self) -> bool:
        """Say whether the program has ended, and nothing of it was recorded."""
        return self.state == CREATED and (self.exit_status is not None or self.header["ended_ns"] > 0)

    @cached_property
    def duration_ns(self) -> int:
        """How long the program ran, or has run so far.

        The recording process reads its clock when it allocates, and at its end if it comes to one: what it
        did after its last allocation, only somebody else can time.
        """
        known = max(self.header["now_ns"], self.header["ended_ns"])
        if self.state == RUNNING and self.running:
            return max(known, time.time_ns() - self.header["created_unix_ns"])
        return known

    @cached_property
    def running(self) -> bool:
        """Say whether the program still runs, on this machine."""
        if self.state == CLOSED or self.exit_status is not None or not self.header["pid"] or not self._file:
            return False
        try:
            ours = os.stat(self._file)
            with open(f"/proc/{self.header['pid']}/maps", encoding="utf-8", errors="surrogateescape") as file:
                return any(f" {ours.st_ino} " in line for line in file)
        except OSError:
            return False

    @property
    def paths_cut(self) -> bool:
        """Say whether it has stacks of which only the innermost line was kept."""
        return bool(self.header["flags"] & FLAG_PATHS_CUT)

    # -- its numbers -------------------------------------------------------------------------------------

    def known(self, field: str) -> int | None:
        """A field of the header for which 0 means that it is not known."""
        return self.header[field] or None

    @property
    def is_sampled(self) -> bool:
        """Say whether its numbers are estimates from a sample."""
        return bool(self.header["interval_bytes"])

    @property
    def mode(self) -> str:
        """How it was taken."""
        return "sampled" if self.is_sampled else "exact"

    def view(
        self,
        moment: _Moment = "peak",
        span: int = 1,
        own: bool = False,
        keep: int = ALL_CLASSES,
        pattern: bytes | None = None,
        regions: bytes | None = None,
    ) -> _engine.View:
        """One moment of it."""
        return self.engine.view(moment, span, self.classes, own, keep, pattern, regions)


def _parse_meta(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
