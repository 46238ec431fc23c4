"""Recordings that a program starts and stops itself, by the engine's own functions."""

from __future__ import annotations

import pytest
from conftest import Workplace

SETUP = """\
import gc, os, sys, threading
from memheft import _engine
def record(function):
    fd = _engine.start(None, b"{}", False, "/nowhere/", 0)
    kept = function()
    _engine.stop()
    recording = _engine.Recording(f"/proc/self/fd/{fd}")
    os.close(fd)
    header = recording.header
    assert (header["flags"], header["check_mismatches"], header["lost_events"]) == (0, 0, 0), header
    assert header["check_compared"] > 0
    view = recording.view("live", 1, bytes(len(recording.files)), False, 255, None)
    rows = view.rows("stack")
    assert sum(row[0] for row in rows) == view.total_bytes == recording.totals["live_bytes"]
    stacks = {}
    for size, blocks, _, _, key, *_ in rows:
        names = tuple(view.frames[k][3].partition(".<locals>")[0] for k in key)
        stacks[names] = stacks.get(names, 0) + blocks
    return stacks
def inner():
    return [bytes(1000) for _ in range(1000)]
def innermost(stacks):
    return sum(blocks for names, blocks in stacks.items() if "inner" in names[:2])
"""


def run(place: Workplace, text: str) -> None:
    place.write("app.py", SETUP + text)
    result = place.python("app.py", environment={"MEMHEFT_CHECK": "1"})
    assert (result.code, result.out, result.err) == (0, "ok\n", "")


def test_one_after_the_other(workplace: Workplace) -> None:
    """Frames and generators that outlive a recording hold stamps of it, which are none for the next."""
    run(
        workplace,
        """
def generate():
    while True:
        yield [bytes(500) for _ in range(100)]
generator = generate()
def resume():
    return [next(generator) for _ in range(10)]
def nested(depth):
    if depth:
        assert innermost(record(inner)) in range(1000, 1003)
        nested(depth - 1)
        assert innermost(record(inner)) in range(1000, 1003)
for _ in range(3):
    assert innermost(record(lambda: [inner(), inner()])) in range(2000, 2005)
    resumed = record(resume)
    assert sum(n for names, n in resumed.items() if "generate" in names[:2]) >= 1000
    assert all("resume" in names for names in resumed if "generate" in names)
nested(200)
for _ in range(1100):  # numbers of recordings begin again
    _engine.start(None, b"{}", False, "/nowhere/", 0)
    _engine.stop()
assert innermost(record(inner)) in range(1000, 1003)
print("ok")
""",
    )


def test_among_threads(workplace: Workplace) -> None:
    run(
        workplace,
        """
import zlib
over = threading.Event()
def work():
    while not over.is_set():
        [bytes(100) for _ in range(100)], zlib.compress(bytes(10_000))
threads = [threading.Thread(target=work) for _ in range(3)]
sys.setswitchinterval(0.0005)
for thread in threads:
    thread.start()
for _ in range(100):
    assert innermost(record(inner)) in range(1000, 1003)
over.set()
for thread in threads:
    thread.join()
print("ok")
""",
    )


def test_wrong_turns(workplace: Workplace) -> None:
    """Twice, never, in a child, in a folder that is none: an exception, and all goes on."""
    run(
        workplace,
        """
def refused(error, function, *args):
    try:
        function(*args)
    except error:
        return
    raise AssertionError(function)
start = ("x.heft", b"{}", False, "/nowhere/", 0)
refused(RuntimeError, _engine.stop)
assert not _engine.is_on()
refused(FileNotFoundError, _engine.start, "nowhere/x.heft", b"{}", False, "/nowhere/", 0)
_engine.start(*start)
assert _engine.is_on()
refused(RuntimeError, _engine.start, *start)
pid = os.fork()
if pid == 0:
    refused(RuntimeError, _engine.stop)
    ok = innermost(record(inner)) in range(1000, 1003)
    os._exit(0 if ok and not _engine.is_on() else 1)
assert os.waitpid(pid, 0)[1] == 0
_engine.stop()
refused(FileExistsError, _engine.start, *start)
_engine.start(os.path.abspath("x.heft"), b"{}", True, "/nowhere/", 0)
kept = inner()
_engine.stop()
assert _engine.Recording("x.heft").totals["live_blocks"] >= 1000
print("ok")
""",
    )


def test_what_cannot_be_made_destroys_nothing(workplace: Workplace) -> None:
    """No descriptor to be had: the user's file stays, and no file of ours is left."""
    run(
        workplace,
        """
import errno, resource
with open("precious.heft", "wb") as file:
    file.write(b"precious")
def start(path):
    try:
        _engine.start(path, b"{}", False, "/nowhere/", 0)
    except OSError as error:
        return error.errno
    _engine.stop()
assert start("precious.heft") == errno.EEXIST
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE
assert start("precious.heft") == errno.EMFILE and os.path.getsize("precious.heft") == 8
assert start("new.heft") == errno.EMFILE and not os.path.exists("new.heft")
os.close(taken.pop())
assert start("precious.heft") == errno.EEXIST and os.path.getsize("precious.heft") == 8
assert start("new.heft") is None and os.path.exists("new.heft")
print("ok")
""",
    )


def test_no_memory_to_begin_with(workplace: Workplace) -> None:
    """Whichever request is refused: an exception, no recording, no descriptor left; or a recording."""
    pytest.importorskip("_testcapi")
    run(
        workplace,
        """
import _testcapi
sys.unraisablehook = lambda problem: None  # the interpreter tells of requests refused to itself
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]  # small ints are there already
def descriptors():
    return len(os.listdir("/proc/self/fd"))
def start(refused):
    _testcapi.set_nomemory(refused, refused + 1)
    try:
        return _engine.start(None, b"{}", False, "/nowhere/", 0)
    except (MemoryError, OSError, RuntimeError):  # the last: the self-test could not look at a stack
        return None
    finally:
        if not _engine.is_on():  # else they stand on top of those that would be put back
            _testcapi.remove_mem_hooks()
before, failed = descriptors(), 0
for refused in range(1, 60):
    fd = start(refused)
    if _engine.is_on():
        assert fd is not None, refused
        _engine.stop()
        _testcapi.remove_mem_hooks()
        os.close(fd)
    else:
        assert fd is None, refused
        failed += 1
    assert descriptors() == before, refused
assert failed > 0
print("ok")
""",
    )


def test_tracemalloc_before_and_after(workplace: Workplace) -> None:
    """Whoever stands on top of the hooks when a recording stops keeps them there for the next one."""
    run(
        workplace,
        """
import tracemalloc
def with_trace():
    tracemalloc.start()
    return inner()
assert innermost(record(with_trace)) >= 1000
assert innermost(record(inner)) >= 1000  # beneath tracemalloc still
tracemalloc.stop()
assert innermost(record(inner)) in range(1000, 1003)
tracemalloc.start()
assert innermost(record(inner)) >= 1000
assert innermost(record(inner)) >= 1000
assert tracemalloc.get_traced_memory()[0] > 0
tracemalloc.stop()
assert innermost(record(inner)) in range(1000, 1003)
print("ok")
""",
    )


def test_never_stopped(workplace: Workplace) -> None:
    """The end of the program is the end of the recording."""
    workplace.write(
        "app.py",
        "import sys\nfrom memheft import _engine\n_engine.start('x.heft', b'{}', False, '/nowhere/', 0)\n"
        "kept = [bytes(1000) for _ in range(1000)]\nsys.exit(3)\n",
    )
    assert workplace.python("app.py").code == 3
    info = workplace.memheft("info", "x.heft", "--json").json
    assert info["recording"]["complete"]
    assert info["recording"]["exit_code"] == 3
