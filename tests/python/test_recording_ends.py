"""However a program ends, its recording is right up to there, and it ends as it would without us."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import recording_tools as tools
from conftest import Result, Workplace
from recording_tools import CLOSED, FLAG_LATE_END, HEAD, RUNNING, Recorded, is_about

BODY = """\
import atexit, os, signal, sys, threading
sizes = list(range(1000, 1500))
kept = [None] * 600
for i in range(500):
    kept[i] = bytes(sizes[i])  # @kept
"""
KEPT = sum(range(1000, 1500)) + 500 * HEAD


def plain(text: str) -> str:
    """Standard error without what differs from run to run."""
    return re.sub(r"0x[0-9a-f]+|Thread \S+|line \d+ in _", "?", text)


def check_kept(recorded: Recorded) -> None:
    recorded.check_sums()
    assert is_about(recorded.at("kept"), KEPT, 500)


def bare(place: Workplace) -> Result:
    return place.python("app.py")


@pytest.mark.parametrize(
    ("end", "status", "state"),
    [
        ("pass", 0, CLOSED),
        ("sys.exit(0)", 0, CLOSED),
        ("sys.exit(7)", 7, CLOSED),
        ("sys.exit(300)", 44, CLOSED),
        ("sys.exit(-1)", 255, CLOSED),
        ("sys.exit('a message')", 1, CLOSED),
        ("def f(): return 1 / 0\nf()", 1, CLOSED),
        ("raise KeyboardInterrupt", -signal.SIGINT, CLOSED),
        ("def f(n): return f(n + 1)\nf(0)", 1, CLOSED),
        ("x = bytes(1 << 60)", 1, CLOSED),
        ("atexit.register(sys.exit, 5)", 0, CLOSED),
        ("atexit.register(lambda: 1 / 0)", 0, CLOSED),
        ("atexit.register(os._exit, 6)", 6, CLOSED),
        ("threading.Thread(target=sys.exit, args=(9,)).start()", 0, CLOSED),
        ("threading.Thread(target=os._exit, args=(9,)).start()\nimport time; time.sleep(30)", 9, CLOSED),
        ("os._exit(0)", 0, CLOSED),
        ("os._exit(8)", 8, CLOSED),
        ("os.abort()", -signal.SIGABRT, RUNNING),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, RUNNING),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, RUNNING),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, CLOSED),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, RUNNING),
        (
            "signal.signal(signal.SIGTERM, lambda *a: sys.exit(3)); os.kill(os.getpid(), signal.SIGTERM)",
            3,
            CLOSED,
        ),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)", -2, RUNNING),
        (
            "os.execv(sys.executable, [sys.executable, '-c', 'x = bytes(10**7); raise SystemExit(4)'])",
            4,
            CLOSED,
        ),
    ],
)
def test_the_ways_to_end(workplace: Workplace, end: str, status: int, state: int) -> None:
    text = BODY + end + "\n"
    recorded = tools.record(workplace, text, code=status)
    without = bare(workplace)
    assert recorded.result.code == without.code
    assert recorded.result.out == without.out
    assert plain(recorded.result.err) == plain(without.err)
    assert recorded.header["exit_status"] == status
    assert recorded.header["state"] == state
    check_kept(recorded)
    assert recorded.totals["peak_bytes"] < 5_000_000


def test_live_is_before_the_teardown_and_after_the_exit_handlers(workplace: Workplace) -> None:
    text = (
        BODY
        + """\
import time
sys.setswitchinterval(0.001)
gone = [bytes(2_000_000)]  # @gone
def outlive():
    threading.main_thread().join()
    kept[500] = bytes(100_000)  # @outlived
def first():
    kept[501] = bytes(200_000)  # @first
    gone.clear()
def second():
    kept[502] = bytes(300_000)  # @second
class Last:
    def __del__(self):
        self.block = bytes(9_000_000)  # @last
last = Last()
cycle = [Last()]
cycle.append(cycle)
atexit.register(first)
atexit.register(second)
threading.Thread(target=outlive).start()
"""
    )
    recorded = tools.record(workplace, text)
    check_kept(recorded)
    for name, size in [("outlived", 100_000), ("first", 200_000), ("second", 300_000)]:
        assert is_about(recorded.at(name), size + HEAD, 1), name
    assert recorded.at("gone") == (0, 0) or is_about(recorded.at("gone"), 0, 0)
    assert recorded.at("gone", "total")[0] > 2_000_000
    assert recorded.at("last", "total") == (0, 0)


@pytest.mark.parametrize("call", ["atexit._clear()", "atexit._run_exitfuncs()"])
def test_a_program_that_takes_the_exit_handlers_into_its_own_hands(workplace: Workplace, call: str) -> None:
    """They are the program's: what it does with them does not end the recording."""
    text = BODY + f"{call}\nkept[500] = bytes(700_000)  # @later\n"
    recorded = tools.record(workplace, text)
    assert recorded.header["state"] == CLOSED
    recorded.check_sums()
    assert is_about(recorded.at("kept", "total"), KEPT, 500)
    assert is_about(recorded.at("later", "total"), 700_000 + HEAD, 1)
    assert recorded.totals["peak_bytes"] > 700_000


@pytest.mark.parametrize("end", ["call", "clear"])
def test_an_end_that_is_not_announced(workplace: Workplace, end: str) -> None:
    """Exit handlers run in the middle of a call from C, or not at all: the end is seen all the same."""
    text = (
        BODY
        + {
            "call": "import ctypes\nctypes.pythonapi.PyRun_SimpleString(b'raise SystemExit(3)')\n",
            "clear": "atexit._clear()\nsys.exit(3)\n",
        }[end]
    )
    recorded = tools.record(workplace, text, code=3)
    recorded.check_sums()
    assert recorded.header["state"] == CLOSED
    late = bool(recorded.header["flags"] & FLAG_LATE_END)
    assert late == (end == "clear")
    assert late or is_about(recorded.at("kept"), KEPT, 500)
    assert is_about(recorded.at("kept", "total"), KEPT, 500)


def test_strangers_at_work_when_the_program_ends(workplace: Workplace) -> None:
    """Threads that Python does not know go on through the end of the recording and of the interpreter."""
    tools.give_exact(workplace)
    for _ in range(3):
        recorded = tools.record(workplace, "from exact import storm\nstorm(3, 100_000_000)\n" + BODY)
        check_kept(recorded)
        assert recorded.header["state"] == CLOSED


# -- signals -----------------------------------------------------------------------------------------------


def test_ctrl_c(workplace: Workplace) -> None:
    """The terminal's SIGINT goes to the whole group; the program dies of it as it does without us."""
    text = BODY + "print('ready', flush=True)\nimport time\ntime.sleep(30)\n"
    ends = []
    for command in ([sys.executable, "app.py"], None):
        if command is None:
            with tools.running(workplace, text, start_new_session=True) as process:
                ends.append(interrupt(process))
        else:
            workplace.write("app.py", text)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with subprocess.Popen(command, cwd=workplace.folder, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
                ends.append(interrupt(process))
    assert ends[0] == ends[1]
    assert ends[1][0] == -signal.SIGINT
    assert b"KeyboardInterrupt" in ends[1][1]
    path = workplace.folder / "app.heft"
    assert tools.wait_for_end(path)["exit_status"] == -signal.SIGINT
    check_kept(Recorded(path, text, Result(0, "", "")))


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.2)  # from the print to the sleep
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


KILLED = """\
import mmap, sys
with open("count", "wb+") as file:
    file.truncate(16)
    count = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
kept = [None] * 100_000
def keep(i):
    kept[i] = bytes(600)  # @small
def keep_large(i):
    kept[i] = [bytes(5000), {i: i}]  # @large
    kept[i].append(None)
print("ready", flush=True)
i = 0
while True:
    for work in (keep, keep_large):
        count[0] = i + 1
        work(i % 100_000)
        count[1] = i + 1
        i += 1
"""


def killed(place: Workplace, text: str, delay: float) -> tuple[Recorded, int, int]:
    """The recording of a program that was killed, and its count before and after its last step."""
    with tools.running(place, text) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.kill()
        process.wait(20)
    path = place.folder / "app.heft"
    header = tools.wait_for_end(path)
    assert header["exit_status"] == -signal.SIGKILL
    assert header["state"] == RUNNING
    counts = memoryview((place.folder / "count").read_bytes()).cast("Q")
    return Recorded(path, text, Result(-9, "", "")), counts[0], counts[1]


def test_killed_in_the_middle_of_a_loop(workplace: Workplace) -> None:
    """The program counts in shared memory: the recording says the same, but for the step it died in."""
    rng = random.Random(3)
    for _ in range(6):
        recorded, begun, done = killed(workplace, KILLED, rng.uniform(0, 0.15))
        assert begun - done in (0, 1)
        held = min(done, 100_000)
        size, blocks = recorded.at("small", "total")
        assert done // 2 - 1 <= blocks <= (begun + 1) // 2 + 3
        assert abs(size - blocks * (600 + HEAD)) <= 600 + 300
        _, blocks = recorded.at("small")
        assert held // 2 - 1 <= blocks <= (held + 2) // 2 + 3
        assert recorded.header["lost_events"] == 0
        view = recorded.view("live")
        assert sum(row[0] for row in view.rows("line")) == view.total_bytes


GROWING = """\
import mmap
with open("count", "wb+") as file:
    file.truncate(16)
    count = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
kept = [None] * 1_000_000
print("ready", flush=True)
i = 0
while True:
    text = "\\n".join(f"def f{k}(i):\\n  kept[i] = bytes(600)" for k in range(50))
    names = {"kept": kept}
    exec(compile(text, f"/nowhere/text{i}.py", "exec"), names)
    for k in range(50):
        count[0] = i + 1
        names[f"f{k}"](i)
        count[1] = i + 1
        i += 1
"""


def test_killed_while_the_recording_grows(workplace: Workplace) -> None:
    """Each block comes from a new place in a new text: nodes, names and chunks are added all the time."""
    rng = random.Random(4)
    for _ in range(6):
        recorded, begun, done = killed(workplace, GROWING, rng.uniform(0, 0.25))
        blocks = 0
        for file, line, function, _, number in recorded.rows("total"):
            if file.startswith("/nowhere/text") and function != "<module>":
                assert line % 2 == 0
                assert number >= 1
                blocks += 1
        assert done - 1 <= blocks <= begun
        assert not recorded.header["flags"]
