"""Processes that the program makes: none of them is recorded, and none disturbs the recording."""

from __future__ import annotations

import signal
import time

import pytest
import recording_tools as tools
from conftest import Workplace
from recording_tools import HEAD, Recorded, is_about

BODY = """\
import os, signal, sys, threading, time
kept = [None] * 1000
def fill():
    for i in range(300):
        kept[i] = bytes(2000)  # @kept
def child(n):
    global more
    more = [bytes(50_000) for _ in range(200)]  # @child
    for i in range(n):
        exec(f"def f{i}(n): return [bytes(n)]", globals())
        globals()[f"f{i}"](100)
    kept.clear()
fill()
"""
AFTER = """\
for i in range(300, 600):
    kept[i] = bytes(3000)  # @after
"""
CHILDREN = {
    "os._exit": ("child(100); os._exit(3)", 3),
    "sys.exit": ("child(100); sys.exit(4)", 4),
    "exception": ("child(100); raise ValueError('in the child')", 1),
    "kill": ("child(100); os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "thread": (
        "t = threading.Thread(target=child, args=(100,)); t.start(); t.join(); sys.exit(5)",
        5,
    ),
    "handlers": ("import atexit; atexit.register(child, 100); sys.exit(6)", 6),
    "grandchild": (
        "child(50); inner = os.fork() or child(50) or os._exit(7); "
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))",
        7,
    ),
    "exec": ("child(10); os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(8)'])", 8),
    "tracemalloc": (
        "import tracemalloc; tracemalloc.start(); child(100); tracemalloc.stop(); sys.exit(9)",
        9,
    ),
}


def check_parent(recorded: Recorded) -> None:
    recorded.check_sums()
    assert is_about(recorded.at("kept"), 300 * (2000 + HEAD), 300)
    assert is_about(recorded.at("after"), 300 * (3000 + HEAD), 300)
    assert recorded.at("child", "total") == (0, 0)
    assert recorded.header["state"] == tools.CLOSED


@pytest.mark.parametrize("name", CHILDREN)
@pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
def test_a_child(workplace: Workplace, name: str, allocator: str) -> None:
    """It allocates, frees what is the parent's, makes new code, and ends in its own way."""
    code, status = CHILDREN[name]
    text = BODY + (
        "pid = os.fork()\n"
        f"if pid == 0:\n    {code}\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        f"assert status == {status}, status\n" + AFTER
    )
    begun = time.monotonic()
    recorded = tools.record(workplace, text, environment=tools.environment_of(allocator))
    assert time.monotonic() - begun < 20, "a child waits for a summary that is not its own"
    check_parent(recorded)
    assert ("in the child" in recorded.result.err) is (name == "exception")


def test_a_child_that_lives_longer(workplace: Workplace) -> None:
    """The recording is closed by its own process, and untouched by the child's end."""
    text = BODY + (
        "ours, theirs = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(theirs)\n"
        "    os.read(ours, 1)  # the parent's end\n"
        "    time.sleep(0.3)\n"
        "    child(200)\n"
        "    open('child.done', 'w').close()\n"
        "    sys.exit(3)\n" + AFTER
    )
    workplace.write("app.py", text)
    with tools.running(workplace, text) as process:
        process.wait(30)
        path = workplace.folder / "app.heft"
        tools.wait_for_end(path)
        before = path.read_bytes()
        deadline = time.monotonic() + 20
        while not (workplace.folder / "child.done").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.communicate(timeout=20)
    time.sleep(0.1)
    assert path.read_bytes() == before
    check_parent(Recorded(path, text, workplace.python("-c", "")))


def test_many_children_beside_threads(workplace: Workplace) -> None:
    """A thread may be inside the recorder when the process is copied: the child must not wait for it."""
    tools.give_exact(workplace)
    text = (
        BODY
        + """\
import warnings
from exact import calm, storm
warnings.simplefilter("ignore")
stop = False
def work():
    while not stop:
        [bytes(700) for _ in range(50)]
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
storm(3, 30_000)
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        child(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
stop = True
for thread in threads:
    thread.join()
calm()
"""
        + AFTER
    )
    check_parent(tools.record(workplace, text))


def test_a_child_without_fork_handlers(workplace: Workplace) -> None:
    """Made behind the handlers' back (_Fork, clone), it shares the file's pages and stays out of them."""
    text = BODY + (
        """\
import ctypes
libc = ctypes.CDLL(None)
pid = libc._Fork() if hasattr(libc, "_Fork") else libc.syscall(57)
if pid == 0:
    child(100)
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
"""
        + AFTER
    )
    recorded = tools.record(workplace, text)
    check_parent(recorded)
    assert recorded.header["flags"] == 0


MULTIPROCESSING = """\
import multiprocessing, os, sys
def square(n):
    block = [bytes(20_000) for _ in range(50)]  # @child
    return n * n
def fail(n):
    raise SystemExit(n)
def main(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(square, range(40)) == [n * n for n in range(40)]
    processes = [context.Process(target=fail, args=(n,)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 1, 2]
kept = [None] * 1000
if __name__ == "__main__":
    for i in range(300):
        kept[i] = bytes(2000)  # @kept
    main(sys.argv[1])
    for i in range(300, 600):
        kept[i] = bytes(3000)  # @after
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(workplace: Workplace, method: str) -> None:
    recorded = tools.record(workplace, MULTIPROCESSING, method)
    assert recorded.result.err == ""
    check_parent(recorded)
    assert [path.name for path in workplace.folder.glob("*.heft")] == ["app.heft"]


def test_other_programs(workplace: Workplace) -> None:
    """Subprocesses of every kind run without us and see nothing of us."""
    text = BODY + (
        """\
import subprocess
code = "import os, sys; assert not [k for k in (*os.environ, *sys.modules) if 'heft' in k.lower()]"
command = [sys.executable, "-c", code]
assert not [k for k in os.environ if "HEFT" in k]
assert subprocess.run(command).returncode == 0
assert subprocess.run(command, preexec_fn=lambda: child(5)).returncode == 0
assert subprocess.run(command, start_new_session=True, close_fds=False).returncode == 0
assert subprocess.run(command, env={}).returncode == 0
assert os.system("env | grep HEFT") != 0
pid = os.posix_spawn(sys.executable, command, os.environ)
assert os.waitpid(pid, 0)[1] == 0
assert os.waitpid(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)[1] == 0
assert "heft" not in open(f"/proc/{os.getpid()}/cmdline").read()
"""
        + AFTER
    )
    check_parent(tools.record(workplace, text))
    assert [path.name for path in workplace.folder.glob("*.heft")] == ["app.heft"]
