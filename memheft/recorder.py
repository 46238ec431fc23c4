"""Recording a part of a program, from inside: `record()` in its three forms."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, TypeVar, overload

from memheft import loading, program
from memheft.errors import Error, RecordingError
from memheft.recording import Recording, keep_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Function = TypeVar("Function", bound="Callable[..., Any]")


@overload
def record(path: Function, /) -> Function: ...
@overload
def record(
    path: str | os.PathLike[str] | None = None, *, force: bool = False, sample: int | str | bool | None = None
) -> Recorder: ...
def record(path: Any = None, *, force: bool = False, sample: int | str | bool | None = None) -> Any:
    """Record all allocations of this process while a block or a function runs, in all of its threads.

        with memheft.record() as recording:     # in memory
            work()

        @memheft.record("load-{n}.heft")        # into files; or @memheft.record
        def load(): ...

        recorder = memheft.record(); recorder.start(); work(); recording = recorder.stop()

    `path`: the file, complete with source lines when the recording has stopped; in memory if it is None.
    `{pid}`, `{script}` and `{n}`, the how-manieth recording of this recorder it is, are filled in; for a
    folder, `{script}.{pid}.heft` in it. A file that exists is an error (FileExistsError), or with `force`
    overwritten if it is a recording.

    `sample`: the mean distance of samples in bytes, a number or text ("512KiB", for which True stands):
    one allocation in so many bytes is recorded, which costs next to nothing; all numbers are estimates with
    standard errors. ValueError if it is no size.

    There is one recording at a time in a process: a second one raises RecordingError, also under
    `memheft run`. Functions may be async, generators or async generators: what is recorded is from their
    first step to their end or close. The last recording of a decorated function `f` is
    `f.recorder.recording`.
    """
    if callable(path) and not isinstance(path, (str, os.PathLike)):
        return Recorder()(path)
    return Recorder(path, force=force, sample=sample)


def _interval(sample: int | str | bool | None) -> int:
    if sample is None or sample is False:
        return 0
    return program.interval_of(None if sample is True else str(sample))


class Recorder:
    """Makes recordings, one after the other: a context manager, a decorator, or start() and stop()."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
        sample: int | str | bool | None = None,
    ) -> None:
        if path is not None:
            path = os.fspath(path)
            if not isinstance(path, str) or not path:
                raise TypeError("path must be the name of a file, as text, or None")
        self._path = path
        self._force = force
        self._interval = _interval(sample)
        self._count = 0
        self._on = False
        self._pid = 0
        self._recording: Recording | None = None

    def __repr__(self) -> str:
        where = "in memory" if self._path is None else f"to {self._path!r}"
        return f"<memheft.Recorder {where}{', on' if self.is_on else ''}>"

    @property
    def recording(self) -> Recording | None:
        """The recording that is being made, or the last one; None before the first."""
        return self._recording

    @property
    def is_on(self) -> bool:
        """Say whether this recorder records now."""
        return self._on and self._pid == os.getpid()

    def start(self) -> Recording:
        """Record from now on.

        The result can be read at once, and shows what was recorded so far. Raises RecordingError if a
        recording is being made in this process, Error if this Python cannot be recorded, OSError if the file
        cannot be made.
        """
        loading.require()
        from memheft import _engine

        if _engine.is_on():
            raise RecordingError(_BUSY)
        reason = _engine.supported()
        if reason is not None:
            raise Error(reason)
        this = program.Program()
        file = None if self._path is None else self._file(this, self._path)
        meta = this.meta()
        folder = program.package_folder() + os.sep
        recording = Recording._made(file)
        try:
            fd = _engine.start(file, meta, self._force, folder, self._interval)
        except RuntimeError as error:  # of two threads that start at once, one comes second
            raise RecordingError(str(error)) from None
        current = _engine.current()
        number, _, created = current if current is not None else (0, "", None)
        recording._began(fd, number, created)
        self._recording = recording
        self._pid = os.getpid()
        self._on = True
        self._count += 1
        return recording

    def stop(self) -> Recording:
        """End the recording; the result can be read, and its file is complete.

        Raises RecordingError if this recorder is not on.
        """
        recording = self._recording
        if not self._on or recording is None:
            raise RecordingError("this recorder is not on: there is nothing to stop")
        self._on = False
        if self._pid != os.getpid():
            raise RecordingError("a child made by fork does not take part in the recording of its parent")
        from memheft import _engine

        try:
            _engine.stop()
        except RuntimeError as error:  # the exit of the program has sealed it
            raise RecordingError(str(error)) from None
        recording._ended()
        if recording.path is not None:
            keep_sources(recording.path, recording._created)
        return recording

    def _file(self, this: program.Program, path: str) -> str:
        file = this.recording_file(path, self._count + 1)
        problem = program.not_to_overwrite(file) if self._force else None
        if problem is not None:
            raise FileExistsError(errno.EEXIST, f"{problem}: only recordings are overwritten", file)
        return file

    # -- as a context manager ----------------------------------------------------------------------------

    def __enter__(self) -> Recording:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_on:  # not in a child, and not if the program has stopped it inside
            self.stop()

    # -- as a decorator ----------------------------------------------------------------------------------

    def __call__(self, function: Function) -> Function:
        """Record whenever the function runs."""
        from memheft.wrapping import wrap

        wrapper: Any = wrap(function, self, stepwise=False, name="memheft.record")
        wrapper.recorder = self
        made: Function = wrapper
        return made


_BUSY = "a recording is being made already; there can be one at a time in a process"
