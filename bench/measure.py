"""Run one program and read what it cost from outside.

CPU time is user + system time of the process, from `wait4` when it is reaped: start-up, exit and, for a
tool that replaces itself by the program, its own start are all in it, and so are children that it has waited
for. Others are not (memheft's watcher is one: it is nobody's child).

Peak memory is harder, because `ru_maxrss` lies twice: it outlives `execve`, and a new child begins with the
size of the process that made it, so it would show this harness, or the tool's launcher, where the program
is smaller. So the process is seized with ptrace, with nothing asked but two stops: at `execve`, where the
CPU time spent so far is kept, and at its exit, when its memory is still there and `VmHWM` is that of the
program alone. No system call is traced, so the program runs at full speed in between. Where ptrace is
refused, `ru_maxrss` is used and `traced` is False.

A tool may run the program in a child of its own (`in_child`). Then processes made by fork or vfork are seized
as well, and the peak is that of the largest: never the launcher's and the program's together.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206
PTRACE_O_TRACEFORK = 0x02
PTRACE_O_TRACEVFORK = 0x04
PTRACE_O_TRACEEXEC = 0x10
PTRACE_O_TRACEEXIT = 0x40
PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_EXIT = 6

WALL = 0x40000000
"""__WALL: wait for tracees of every kind; Python has no name for it."""

TAIL_BYTES = 4096
ERROR = re.compile(r"[\w.]*(Error|Exception)\b")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True)
class Usage:
    """What one process used."""

    cpu: float
    """Seconds of user and system time, all of the process."""
    launch_cpu: float
    """The part of `cpu` spent before the last execve: a launcher's."""
    wall: float
    peak_rss: int
    """Bytes resident at most, of the last program that ran in the process (`in_child`: or in one it made)."""
    max_rss: int
    """Bytes of ru_maxrss, over all programs that ran in the process and the one that made it."""
    status: int
    """Exit code, or minus the signal's number."""
    timed_out: bool
    traced: bool
    message: str
    """The last line on stderr that names an error, else the last: tools talk after the program's end."""

    @property
    def failure(self) -> str | None:
        """Why the run does not count, or None."""
        if self.timed_out:
            return f"no end after {self.wall:.3g} s"
        if self.status == 0:
            return None
        how = f"exit {self.status}" if self.status > 0 else signal.Signals(-self.status).name
        return f"{how}: {self.message}" if self.message else how


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every run sees: nothing of the caller's for Python or the tools, one locale, one hash seed."""
    ours = ("PYTHON", "BENCH_", "MEMHEFT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept |= {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "NO_COLOR": "1"}
    return kept | dict(variables or {})


def _ptrace(request: int, pid: int, data: int) -> int:
    """Zero, or the errno."""
    if _libc.ptrace(request, pid, None, data) == 0:
        return 0
    return ctypes.get_errno()


def _cpu_clock(pid: int) -> float:
    """CPU time of another process so far, by the clock id that clock_getcpuclockid would give."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _peak_of(pid: int) -> int:
    """VmHWM in bytes, 0 when it cannot be read."""
    with (
        contextlib.suppress(OSError),
        open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status,
    ):
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _follow(pid: int, traced: bool, in_child: bool) -> tuple[int, float, int, float, int]:
    """Let the process run to its end: (wait status, CPU s, ru_maxrss, CPU s at the last execve, VmHWM).

    With `in_child`, all that it made are seized too: the largest VmHWM counts, and who outlives it is killed.
    """
    launch_cpu = 0.0
    peak = 0
    children: set[int] = set()
    while True:
        who, status, usage = os.wait4(-1 if in_child else pid, WALL)
        if not os.WIFSTOPPED(status):
            if who == pid:
                break
            children.discard(who)
            continue
        if who != pid:
            children.add(who)
        event = status >> 16
        if event == PTRACE_EVENT_EXEC and who == pid:
            launch_cpu = _cpu_clock(pid)
        elif event == PTRACE_EVENT_EXIT:
            peak = max(peak, _peak_of(who))
        # A stop without an event is a signal on its way to the program: hand it on.
        _ptrace(PTRACE_CONT, who, 0 if event or not traced else os.WSTOPSIG(status))
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(child, WALL)[1]):
                _ptrace(PTRACE_CONT, child, 0)
    return status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, launch_cpu, peak


def _kill(pidfd: int, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def run(
    argv: Sequence[str | Path],
    *,
    folder: Path,
    limit: float,
    variables: Mapping[str, str] | None = None,
    in_child: bool = False,
) -> Usage:
    """Run a command in a folder for at most `limit` seconds; its output is thrown away.

    `in_child`: the program is a process that the command starts and waits for. All children of this process
    are waited for then, so have no others.
    """
    asked = PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT
    if in_child:
        asked |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env=environment(variables),
        )
        seized = _ptrace(PTRACE_SEIZE, process.pid, asked)
        if seized not in (0, errno.EPERM, errno.ESRCH, errno.ENOSYS):
            raise OSError(seized, os.strerror(seized), "ptrace")
        pidfd = os.pidfd_open(process.pid)
        expired = threading.Event()
        timer = threading.Timer(limit, _kill, (pidfd, expired))
        timer.daemon = True
        timer.start()
        try:
            status, cpu, max_rss, launch_cpu, peak = _follow(process.pid, seized == 0, in_child)
        finally:
            timer.cancel()
            timer.join()
            os.close(pidfd)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return Usage(
        cpu=cpu,
        launch_cpu=launch_cpu,
        wall=wall,
        peak_rss=peak or max_rss,
        max_rss=max_rss,
        status=process.returncode,
        timed_out=expired.is_set(),
        traced=peak > 0,
        message=([line for line in lines if ERROR.match(line)] or lines or [""])[-1].strip(),
    )
