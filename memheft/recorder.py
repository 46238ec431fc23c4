"""Recording a part of a program, from inside: `record()` in its three forms."""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from itertools import starmap
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from memheft import loading, program
from memheft.errors import Error, RecordingError
from memheft.recording import Recording, _Memory, current_recording, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
More = ParamSpec("More")
Result = TypeVar("Result", covariant=True)
Made = TypeVar("Made")
Self = TypeVar("Self")


class Recorded(Protocol[P, Result]):
    """A function that record() has decorated, to type checkers: the function, and `recorder`."""

    __name__: str
    __qualname__: str
    recorder: Recorder

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call the function, and record it."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Recorded[P, Result]: ...
    @overload
    def __get__(
        self: Recorded[Concatenate[Self, More], Made], instance: Self, owner: type | None = None, /
    ) -> Recorded[More, Made]: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind it, as a method."""


@overload
def record(path: Callable[P, Made], /) -> Recorded[P, Made]: ...
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
    `memheft run`. But a decorated function that is called while anything is recorded just runs: within
    itself, in other tasks and threads, under `memheft run`.

    Functions may be async, generators or async generators: what is recorded is from their first step to their
    end or close. The last recording of a decorated function `f` is `f.recorder.recording`.
    """
    is_method = isinstance(path, (staticmethod, classmethod))
    if is_method or (callable(path) and not isinstance(path, (str, os.PathLike))):
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
            path = name_of(path)
        self._path = path
        self._force = force
        self._interval = _interval(sample)
        self._count = 0
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
        return self._recording is not None and self._recording._is_on()

    def start(self) -> Recording:
        """Record from now on.

        The result can be read at once, and shows what was recorded so far. Raises RecordingError if a
        recording is being made in this process, Error if this Python cannot be recorded, OSError if the file
        cannot be made.
        """
        begun = self._start()
        if begun is None:
            raise RecordingError(_busy())
        return begun

    def _start(self) -> Recording | None:
        """Begin; None if a recording is being made already."""
        loading.require()
        from memheft import _engine, regions  # noqa: F401 - else the program's first region pays for its import

        if _engine.is_on():
            return None
        reason = _engine.supported()
        if reason is not None:
            raise Error(reason)
        this = program.Program()
        file = None if self._path is None else self._file(this, self._path)
        meta = this.meta()
        folder = program.package_folder() + os.sep
        recording = Recording._made(file)
        began: deque[int | None] = deque()
        try:
            # one step, as an interrupt sees it: that comes before the recording has begun, or when we know
            began.extend(starmap(_engine.start, [(file, meta, self._force, folder, self._interval)]))
            current = _engine.current()
            number, _, created = current if current is not None else (0, "", None)
            recording._began(began[0], number, created)
            recording._can_stop = True
        except BaseException as error:
            if began:
                _give_up(recording, began[0])
            elif isinstance(error, RuntimeError):
                if str(error) == _BUSY:  # of two threads that start at once, one comes second
                    return None
                raise RecordingError(str(error)) from None
            raise
        self._recording = recording  # no call from here on, so no interrupt: the caller gets it
        self._count += 1
        return recording

    def stop(self) -> Recording:
        """End the recording; the result can be read, and its file is complete.

        Raises RecordingError if this recorder is not on.
        """
        recording = self._recording
        if recording is None or not recording._is_on():
            # a child made by fork takes no part in the recording of its parent
            raise RecordingError("this recorder is not on in this process: there is nothing to stop")
        return recording.stop()

    def _file(self, this: program.Program, path: str) -> str:
        file = program.recording_file(path, this.file_label, self._count + 1)
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
        if self._recording is not None:
            _end(self._recording)

    # -- as a decorator ----------------------------------------------------------------------------------

    def __call__(self, function: Callable[P, Made]) -> Recorded[P, Made]:
        """Record whenever the function runs, and nothing else is being recorded."""
        from memheft.wrapping import wrap

        wrapper: Any = wrap(function, _Calls(self), stepwise=False, name="memheft.record")
        wrapper.recorder = self
        return cast("Recorded[P, Made]", wrapper)


class _Calls:
    """What decorated functions run in: a recording, or nothing if something is being recorded already.

    Calls overlap and end in any order; each is known by the frame that enters and leaves, its own meanwhile.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._begun: dict[int, Recording] = {}

    def __enter__(self) -> None:
        call = id(sys._getframe(1))
        recording = self._recorder._start()
        if recording is not None:
            self._begun[call] = recording

    def __exit__(self, *_error: object) -> None:
        recording = self._begun.pop(id(sys._getframe(1)), None)
        if recording is not None:
            _end(recording)


_BUSY = "a recording is being made already; there can be one at a time in a process"  # as the engine says it


def _busy() -> str:
    current = current_recording()
    if current is None or not current._can_stop:
        return _BUSY
    return f"{_BUSY}: memheft.current_recording().stop() ends it"


def _end(recording: Recording) -> None:
    """Stop it, if it is on: not in a child, and not if the program has stopped it inside."""
    try:
        if recording._is_on():
            recording.stop()
    except RecordingError:  # another thread has stopped it just now
        pass
    except BaseException:  # an interrupt, perhaps before it was stopped
        if recording._is_on():
            recording.stop()
        raise


def _give_up(recording: Recording, fd: int | None) -> None:
    """End a recording that nobody will get, and leave nothing of it."""
    from memheft import _engine

    try:
        _engine.stop()
    except RuntimeError:
        pass  # the exit of the program has sealed it
    recording._ended()
    if recording.path is not None:
        os.unlink(recording.path)
    elif isinstance(recording._memory, _Memory) and recording._memory.is_open:
        recording.close()
    elif fd is not None:
        os.close(fd)
