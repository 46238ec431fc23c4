"""The note of the last recording, which the reading verbs take when no file is named.

    $XDG_STATE_HOME/memheft/last    three fields with a NUL between them:
        PATH    the recording
        FOLDER  from where it was made
        PID     of the process that makes it

Whoever starts a recording writes it, before the program's first line.  Without a home folder, or in one that
is not ours to write in, there is none, which is no error.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = 65536  # bytes


def _file() -> str | None:
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "memheft", "last") if os.path.isabs(base) else None


def write(path: str) -> None:
    """Note a recording that this process begins, and our folder."""
    note = _file()
    if note is None:
        return
    temporary = f"{note}.{os.getpid()}"
    try:
        folder = os.path.dirname(note)
        if not _is_ours(folder):
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(b"\0".join([os.fsencode(path), os.fsencode(os.getcwd()), b"%d" % os.getpid()]) + b"\n")
        os.replace(temporary, note)
    except OSError:
        pass


def _is_ours(folder: str) -> bool:
    """Under sudo the home may be another user's, who could not change what we leave there."""
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.stat(folder).st_uid == os.geteuid()


def read() -> tuple[str | None, str]:
    """What was last recorded, if it still exists, and from which folder."""
    path, folder, _ = _fields()
    return (path if path and os.path.isfile(path) else None), folder


def is_of_caller() -> bool:
    """Say whether what was last recorded is a process that has started this one, directly or not."""
    path, _, pid = _fields()
    return pid.isdecimal() and int(pid) in callers() and os.path.exists(path)


def _fields() -> list[str]:
    note = _file()
    try:
        if note is not None:
            with open(note, "rb") as file:
                fields = os.fsdecode(file.read(_READ).removesuffix(b"\n")).split("\0", 2)
                return [*fields, "", ""][:3]
    except OSError:
        pass
    return ["", "", ""]


def callers() -> Iterator[int]:
    """The processes that have started this one, the nearest first."""
    pid = os.getppid()
    while pid > 0:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
