"""MEMHEFT=1 python app.py: a program that nobody starts through `memheft run` records itself.

    python ... -> site -> memheft.pth -> start(): settings, a file; the engine waits for the main program

memheft.pth imports us from the folder it lies in, and takes everything that was imported here out of
sys.modules again. Nobody watches such a program: the engine seals the recording at its exit, and says where
it is. Children that find the variable in their environment record themselves, into files of their own, and
say nothing: the program that started them may read their stderr. (They know it by the note of the last
recording; where none can be left, they speak.)
"""

from __future__ import annotations

import errno
import os
import sys

from memheft import note
from memheft.program import DEFAULT_NAME, Program, interval_of, scripts_folder

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from collections.abc import Iterator


class Settings:
    """What stands in the variable: `1`, or `path=FILE`, `sample=SIZE`, `quiet=1`, separated by commas."""

    def __init__(self, text: str) -> None:
        self.path = DEFAULT_NAME
        self.quiet = False
        self.interval = 0
        for word in text.split(","):
            name, sign, value = word.strip().partition("=")
            if name in ("", "1") and not sign:
                continue
            if name == "sample":
                self.interval = interval_of(value if sign else None)
                continue
            if name == "path" and value:
                self.path = value
            elif name == "quiet" and value in ("0", "1"):
                self.quiet = value == "1"
            elif name in ("path", "quiet"):
                raise ValueError(f"{name} needs {'a name' if name == 'path' else '0 or 1'}, as in {name}=...")
            else:
                raise ValueError(
                    f"there is no setting {name!r}; there are 1, path=FILE, sample=SIZE and quiet=1"
                )


def start() -> None:
    """Begin, or say in one line why not; the program runs in any case."""
    text = os.environ.get("MEMHEFT", "").strip()
    if text in ("", "0"):
        return
    this = Program()
    if _is_memheft(this):
        return
    try:
        from memheft import _engine
    except ImportError as error:
        _complain(f"the engine of memheft cannot be loaded: {error}")
        return
    if not _engine.first():
        return
    try:
        settings = Settings(text)
        path = this.recording_file(settings.path)
    except ValueError as error:
        _complain(f"MEMHEFT: {error}")
        return
    except OSError as error:
        _complain(f"the current folder does not exist any more ({error.strerror})")
        return
    reason = _engine.supported()
    if reason is not None:
        _complain(reason)
        return
    try:
        path = _create(path, this.meta(), settings.interval)
    except OSError as error:
        _complain(f"cannot create {path}: {error.strerror}")
        return
    speaks = not settings.quiet and not note.is_of_caller()
    if not _engine.boot(path, _hint(path) if speaks else None):
        os.unlink(path)
    elif speaks:
        note.write(path)


def _is_memheft(this: Program) -> bool:
    """The command `memheft` is not what somebody wants to record; what it runs is recorded by it."""
    return this.kind in ("module", "command") and this.label == "memheft"


def _create(path: str, meta: bytes, interval: int) -> str:
    """Make the file, under a name that is free: children inherit the variable, and with it the name."""
    from memheft import _engine

    for name in _names(path):
        try:
            _engine.create(name, meta, False, False, interval)
            return name
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
    raise OSError(errno.EEXIST, "that name is taken, and so are those like it")


def _names(path: str) -> Iterator[str]:
    yield path
    stem, ending = os.path.splitext(path)
    pid = str(os.getpid())
    if pid not in os.path.basename(stem).split("."):
        stem += "." + pid
        yield stem + ending
    for number in range(2, 100):  # a process that replaces itself has the same number again
        yield f"{stem}-{number}{ending}"


def _hint(path: str) -> str:
    folder = scripts_folder()
    memheft = "memheft"
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        memheft = f"{_typed(sys.executable or 'python')} -m memheft"
    try:
        path = path.removeprefix(os.getcwd() + os.sep)
    except OSError:
        pass
    text = f"memheft: next: {memheft} report {_typed(path)}\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _typed(path: str) -> str:
    """A path as a shell takes it."""
    if all(char.isalnum() or char in "/._-+=:@%" for char in path) and not path.startswith("-"):
        return path
    from shlex import quote

    return quote(f"./{path}" if path.startswith("-") else path)


def _complain(why: str) -> None:
    """Python's own stderr need not be there yet."""
    try:
        os.write(2, f"memheft: not recorded: {why}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
