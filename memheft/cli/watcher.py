"""The watcher: sleeps beside the program, then writes what nobody could write inside it.

It is no child of the program and no member of its group or session, ignores the signals that end
programs, and holds nothing but the stderr of the start: a pipe that reads the program's output sees its
end when the program ends.  When the program has ended, it adds the sources to the recording, draws the
summary, and only then lets the program's process go, so that the summary stands before the next prompt of
the shell.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal without its enums, which are slow to make
import errno
import os
import sys

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from memheft import _engine

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP)


def start(path: str, pidfd: int, stderr: int | None) -> None:
    """Start the watcher of this process, which is about to become the program; `stderr` None: draw nothing.

    Raises OSError when it cannot be started.
    """
    pid, made = os.getpid(), os.stat(path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _detach()
            if os.fork() == 0:
                _watch(path, made, pidfd, pid, stderr)
            code = 0
        finally:
            os._exit(code)
    try:
        failed = os.waitpid(child, 0)[1] != 0
    except ChildProcessError:
        failed = False  # SIGCHLD is ignored: the kernel has taken the child away
    os.close(pidfd)
    if failed:
        raise OSError(errno.EAGAIN, "no process for the summary at the end")


def _detach() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.setsid()


def _watch(path: str, made: os.stat_result, pidfd: int, pid: int, stderr: int | None) -> None:
    """The life of the watcher."""
    from memheft import _engine

    _keep_descriptors({fd for fd in (pidfd, stderr) if fd is not None})
    width = _width(stderr)
    os.chdir("/")
    watch = _engine.Watch(path, pidfd, pid)
    try:
        end = watch.wait()
        text = _finish(path, made, watch, end, width, stderr is not None)
        if stderr is not None and text:
            write_all(stderr, text)
    except Exception as error:
        if stderr is not None:
            write_all(stderr, f"memheft: no summary: {type(error).__name__}: {error}\n")
            if os.environ.get("MEMHEFT_DEBUG", "") not in ("", "0"):
                import traceback

                write_all(stderr, traceback.format_exc())
    finally:
        watch.done()


def _finish(
    path: str,
    made: os.stat_result,
    watch: _engine.Watch,
    end: tuple[str, int | None],
    width: int | None,
    draw: bool,
) -> str:
    # Imported only now: nothing was taken from the program while it ran.  But its exit waits for it, so -q,
    # which draws nothing, does not import what draws.
    if end[0] == "never-started" and not os.path.exists(path):
        return ""  # the execve failed: that has been said
    from memheft import _engine
    from memheft.views import sources
    from memheft.views.recording import Opened

    if draw:
        from memheft.views import summary
    if not _is_there(path, made):
        return summary.unreadable(path, end, "another file has taken the recording's place") if draw else ""
    try:
        recording = Opened(path)
    except _engine.EngineError as error:
        return summary.unreadable(path, end, str(error)) if draw else ""
    if end[0] == "never-started":
        return summary.never_started(recording) if draw else ""
    blob = sources.collect(recording)
    notes = []
    if blob is not None:
        try:
            watch.add_source(blob)
        except OSError as error:
            notes.append(f"the source lines could not be added to the recording: {error.strerror}")
    return summary.draw(recording, end, width, blob, notes) if draw else ""


def _is_there(path: str, made: os.stat_result) -> bool:
    """Say whether the file is the one that was made for the program; we hold that, so its number is taken."""
    try:
        return os.path.samestat(made, os.stat(path))
    except OSError:
        return False


def _keep_descriptors(kept: set[int]) -> None:
    """Close all but these; 0 and 1 (and 2, unless kept) become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd not in kept:
            os.dup2(null, fd, inheritable=False)
    try:
        opened = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        opened = list(range(3, min(os.sysconf("SC_OPEN_MAX"), 65536)))
    for fd in opened:
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass


def _width(stderr: int | None) -> int | None:
    """Columns of the terminal; None when stderr is none."""
    if stderr is None:
        return None
    try:
        return os.get_terminal_size(stderr).columns or 80 if os.isatty(stderr) else None
    except OSError:
        return None


def write_all(fd: int, text: str) -> None:
    """Write all of it, although the program may have made the descriptor non-blocking."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    data = text.encode(encoding, "backslashreplace")
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            import select

            if not select.select([], [fd], [], 10.0)[1]:
                return
        except OSError:
            return
