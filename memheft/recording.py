"""A recording as an object: what was recorded, in memory or in a file, and its views."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from memheft import loading, program
from memheft.errors import Error, FormatError, RecordingError
from memheft.tables import View
from memheft.timeline import Timeline

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from memheft._engine import Snapshot, _Moment
    from memheft.difference import Difference
    from memheft.views.recording import Opened

MEMORY = "<memory>"


def name_of(path: object) -> str:
    """A file's name as text; TypeError if it is none."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str) or not name:
        raise TypeError(f"path must be the name of a file, as text, not {path!r}")
    return name


def open(path: str | os.PathLike[str]) -> Recording:  # noqa: A001
    """Read a recording from its file, also one that is still being written or that was killed.

    Raises FormatError if the file is no recording or is damaged, OSError if it cannot be opened.
    """
    recording = Recording._made(os.path.abspath(name_of(path)))
    recording._opened()
    return recording


def current_recording() -> Recording | None:
    """The recording that is being made of this process, or None.

    It may have been begun by record(), by `memheft run` or by MEMHEFT=1. Its snapshot() and save() are what a
    program can do with it, and if record() has begun it, stop(); it is not stopped by close().
    """
    try:
        from memheft import _engine
    except ImportError:
        return None
    current = _engine.current()
    if current is None:
        return None
    number, path, created = current
    known = _current
    if known is not None and known._maker == (os.getpid(), number) and known._created == created:
        return known
    if path.startswith("/proc/self/fd/"):  # in memory: another thread is about to have begun it
        return None
    found = Recording._made(path)
    found._began(None, number, created)
    return found


class Recording:
    """What was recorded.

    `peak`, `live`, `total` and `temporary` are its views. While it is being made each of them shows what
    there is at that moment, and snapshot() keeps all of that moment. One in memory holds a descriptor, a
    snapshot its memory, until it is closed: by close(), at the end of a `with`, or when it is dropped. Views
    read before stay readable.
    """

    # a program that takes many snapshots sees each of them as one small block
    __slots__ = ("__weakref__", "_can_stop", "_created", "_is_closed", "_maker", "_memory", "_path", "_read")

    def __init__(self) -> None:
        raise TypeError("recordings are made by memheft.record() and memheft.open()")

    @classmethod
    def _made(cls, path: str | None) -> Recording:
        self = object.__new__(cls)
        self._path = path
        self._memory = None
        self._read = None
        self._is_closed = False
        self._maker = None
        self._created = None
        self._can_stop = False
        return self

    _path: str | None
    _memory: _Memory | Snapshot | None
    _read: Opened | None
    _is_closed: bool
    _maker: tuple[int, int] | None  # the process and number of one that this process makes or made
    _created: (
        int | None
    )  # its Unix time in nanoseconds, by which it is known again under a name that is used anew

    _can_stop: bool  # record() has begun it

    def _began(self, fd: int | None, number: int, created: int | None) -> None:
        if fd is not None:
            self._memory = memory = _Memory()
            memory.take(fd)
        self._maker = (os.getpid(), number)
        self._created = created
        global _current
        _current = self

    def _ended(self) -> None:
        global _current
        if _current is self:  # another thread may have begun the next one
            _current = None

    # -- its moments -------------------------------------------------------------------------------------

    @property
    def peak(self) -> View:
        """The moment when the sum of live bytes was highest."""
        return self._view("peak")

    @property
    def live(self) -> View:
        """What was left at the end, or is there now."""
        return self._view("live")

    @property
    def total(self) -> View:
        """All that was ever asked for."""
        return self._view("total")

    @property
    def temporary(self) -> View:
        """What was freed by its thread before that asked for another block."""
        return self._view("temporary")

    def temporary_within(self, blocks: Literal[1, 2, 4]) -> View:
        """What was freed by its thread before that asked for another 1, 2 or 4 blocks."""
        if blocks not in (1, 2, 4):
            raise ValueError(f"temporary_within takes 1, 2 or 4, not {blocks!r}")
        return self._view("temporary", blocks)

    def diff(self, after: Recording) -> Difference:
        """What grew and what shrank from the peak of this recording to that of a later one.

        For another moment, grouping or part compare views: a.live.by("file").diff(b.live.by("file")).
        TypeError if `after` is no recording.
        """
        if not isinstance(after, Recording):
            raise TypeError(f"a recording is compared with a recording, not with {type(after).__name__}")
        return self.peak.diff(after.peak)

    def _view(self, moment: _Moment, span: int = 1) -> View:
        return View._of(self._opened(), moment, span)

    # -- its present -------------------------------------------------------------------------------------

    def snapshot(self) -> Recording:
        """Keep what has been recorded so far, as a recording in memory of its own.

        All of its numbers are of one moment, at which its duration ends; it is `complete`, as if the
        recording had been stopped then. The recording goes on: other threads wait while the counters are
        copied, 0.1 ms for a small program, 2 ms for the largest (docs/reference/api.md). Its memory, 130
        bytes for each call path, is not counted as the program's, and is given back by close() or when the
        snapshot is dropped.

            before = recording.snapshot(); serve(); after = recording.snapshot()
            print(before.live.diff(after.live))     # what it left behind

        Raises RecordingError if the recording is not being made any more, or not by this process (as in a
        child made by fork), MemoryError if there is no memory for it; the recording is not disturbed by
        that.
        """
        if self._is_closed:
            raise RecordingError("the recording is closed")
        if not self._is_on():
            raise RecordingError("the recording is not being made in this process: it has no present to keep")
        from memheft import _engine

        new = Recording._made(None)
        try:
            new._memory = _engine.snapshot(self._maker[1] if self._maker is not None else 0)
        except RuntimeError as error:  # another thread stopped it just now
            raise RecordingError(str(error)) from None
        return new

    def _is_on(self) -> bool:
        if self._maker is None or self._maker[0] != os.getpid():
            return False
        from memheft import _engine

        current = _engine.current()
        return current is not None and current[0] == self._maker[1] and current[2] == self._created

    # -- what it is --------------------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The file, absolute; None for one in memory."""
        return self._path

    @property
    def complete(self) -> bool:
        """Say whether it came to its end: stopped, or the program ended in order.

        A snapshot has come to its end; the recording that it was taken of has not.
        """
        return self._opened().complete

    @property
    def duration_ns(self) -> int | None:
        """How long was recorded, or has been so far, in nanoseconds."""
        return self._opened().duration_ns or None

    @property
    def rss_peak_bytes(self) -> int | None:
        """The resident peak of the process, if it was raised meanwhile; None if it is not known."""
        return self._opened().known("rss_peak_bytes")

    @property
    def timeline(self) -> Timeline:
        """Live and resident memory over time, from the start to the end, or to now."""
        return Timeline._of(self._opened())

    def to_dict(self) -> dict[str, object]:
        """What it is, as `memheft info --json` writes it (docs/reference/json.md)."""
        from memheft.views import documents

        return documents.info(self._opened())

    def __repr__(self) -> str:
        name = MEMORY if self._path is None else self._path
        if self._is_closed:
            return f"<memheft.Recording {name}, closed>"
        if self._is_on():  # to read it would be a part of what it shows
            return f"<memheft.Recording {name}, being made>"
        from memheft.views import sizes

        try:
            totals = self._opened().totals
        except (Error, OSError) as error:
            return f"<memheft.Recording {name}: {error}>"
        peak, left = sizes.size(totals["peak_bytes"]), sizes.size(totals["live_bytes"])
        return f"<memheft.Recording {name}: peak {peak}, left {left}>"

    # -- its life ----------------------------------------------------------------------------------------

    def stop(self) -> Recording:
        """End it, as its recorder would: it can be read on, and its file is complete.

        So whoever has no recorder any more, as in a notebook after an error, can end what record() has begun:
        memheft.current_recording().stop(). Raises RecordingError if it is not being made in this process, or
        if `memheft run` or MEMHEFT=1 has begun it.
        """
        if not self._is_on():
            raise RecordingError("the recording is not being made in this process: there is nothing to stop")
        if not self._can_stop:
            raise RecordingError("memheft run or MEMHEFT= has begun the recording: it ends with the program")
        from memheft import _engine

        try:
            _engine.stop()
        except RuntimeError as error:  # another thread was first, or the exit of the program
            raise RecordingError(str(error)) from None
        self._ended()
        if self._path is not None:
            keep_sources(self._path, self._created)
        return self

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write it into a file that any memheft can read, with the source lines that it needs.

        One that this process is making is saved as it is now, see snapshot(). A file that exists is an error
        (FileExistsError), or with `force` overwritten if it is a recording, but not one that is being made.
        Raises RecordingError for that, and while a process makes this one, if it is not what that process
        has from record() or current_recording(). That of a program that was killed is saved as it was left.
        """
        target = os.path.abspath(name_of(path))
        if self._is_on():
            with self.snapshot() as now:
                now.save(path, force=force)
            return
        from memheft.views.recording import SEALED

        opened = self._reopened()
        if opened.state < SEALED and opened.running:
            if opened.header["pid"] == os.getpid():
                raise RecordingError("this process is making the recording: save memheft.current_recording()")
            raise RecordingError("another process is still making the recording: save it when that has ended")
        problem = program.not_to_overwrite(target) if force else None
        if problem is not None:
            raise FileExistsError(errno.EEXIST, f"{problem}: only recordings are overwritten", target)
        if force and _is_being_made(target):
            raise RecordingError(f"{target}: a recording is being made in this file: choose another")
        _copy(self._source(), target, force)
        if not opened.engine.source:
            keep_sources(target, self._created)

    def close(self) -> None:
        """Give a recording in memory back; it cannot be read any more, but for the views that were taken."""
        self._is_closed = True
        self._read = None
        memory, self._memory = self._memory, None
        if isinstance(memory, _Memory):
            memory.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- reading -----------------------------------------------------------------------------------------

    def _source(self) -> str | Snapshot:
        if self._is_closed:
            raise RecordingError("the recording is closed")
        if self._path is not None:
            return self._path
        if self._memory is None:
            raise RecordingError("the recording has not begun")
        return self._memory.path() if isinstance(self._memory, _Memory) else self._memory

    def _opened(self) -> Opened:
        """The recording, read: once, or anew as long as it changes."""
        if self._read is not None:
            return self._read
        opened = self._reopened()
        from memheft.views.recording import RUNNING

        if opened.state > RUNNING:
            self._read = opened
        return opened

    def _reopened(self) -> Opened:
        loading.require()
        opened = _open(self._source(), None if self._path is not None else MEMORY)
        created = opened.header["created_unix_ns"]
        if self._created is None:
            self._created = created
        elif self._created != created:  # inode numbers would not do: they are used again at once
            raise RecordingError(f"{self._path}: the file has been replaced by another recording")
        return opened


# The one that this process is making, if Python code has asked for it; also one that a child inherits.
_current: Recording | None = None


class _Memory:
    """The descriptor of a recording in memory, closed with its owner."""

    _fd = -1
    _identity: tuple[int, int] | None = None

    def take(self, fd: int) -> None:
        """Own the descriptor from the last step on: what is interrupted has either taken it or not."""
        self._identity = _identity(fd)
        self._fd = fd

    @property
    def is_open(self) -> bool:
        """Say whether it owns a descriptor."""
        return self._fd >= 0

    def path(self) -> str:
        # a program that closes all descriptors closes ours, and the number may be that of another file
        if self._fd < 0 or _identity(self._fd) != self._identity:
            raise RecordingError("the recording is lost: the program has closed its descriptor")
        return f"/proc/self/fd/{self._fd}"

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and _identity(fd) == self._identity:
            os.close(fd)

    def __del__(self) -> None:
        if os is not None and os.fstat is not None:  # at the interpreter's end they may be gone
            self.close()


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(source: str | Snapshot, name: str | None) -> Opened:
    from memheft import _engine
    from memheft.views.recording import Opened

    if isinstance(source, str):
        # An error of the system's is raised as one; O_NONBLOCK: a pipe is no recording, and not waited for.
        os.close(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
        if os.path.isdir(source):
            raise FormatError(f"{source} is a folder: name a recording in it", "foreign")
    try:
        return Opened(source, name)
    except _engine.EngineError as error:
        raise FormatError(f"{name or source}: {error}", error.code, error.offset) from None


def _is_being_made(path: str) -> bool:
    """Say whether a program records into this file, under this name or another: all would be lost."""
    from memheft import _engine
    from memheft.views.recording import Opened

    try:
        return Opened(path).running
    except (OSError, _engine.EngineError):  # nothing, or what nobody can read or write any more
        return False


def _copy(source: str | Snapshot, target: str, force: bool) -> None:
    """Copy a recording; one that is overwritten stays until the new one is whole."""
    part = f"{target}.{os.getpid()}.part" if force else target
    out = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            if isinstance(source, str):
                _copy_file(source, out)
            else:
                _copy_memory(source, out)
        finally:
            os.close(out)
        if force:
            os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def _copy_file(source: str, out: int) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at = 0
        while sent := os.sendfile(out, read, at, 1 << 24):
            at += sent
    finally:
        os.close(read)


def _copy_memory(source: Snapshot, out: int) -> None:
    with memoryview(source) as data:
        at = 0
        while at < len(data):
            at += os.write(out, data[at : at + (1 << 24)])


def keep_sources(path: str, created: int | None) -> None:
    """Put the source lines into a recording that is closed, if it is still the one that was `created` then.

    Without them it is as right as with them: what goes wrong here is nobody's error.
    """
    from memheft import _engine
    from memheft.views import sources
    from memheft.views.recording import Opened

    try:
        opened = Opened(path)
        blob = sources.collect(opened) if opened.header["created_unix_ns"] == created else None
        if blob is not None:
            _engine.add_source(path, blob)
    except (OSError, _engine.EngineError):
        pass
