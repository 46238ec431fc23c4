"""memheft.compat.tracemalloc against the standard module: the same programs, and CPython's own tests."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from conftest import Workplace

# From 3.13 on we are told of objects that come from free lists.  Before, only blocks are compared that are
# too large for those; sums are the same in any case.
EXACT = sys.version_info >= (3, 13)
SMALLEST = 0 if EXACT else 400

# an object of size about n: can it come from a free list?
KINDS = {
    "bytes(n)": False,
    "'x' * n": False,
    "bytearray(n) + b'y'": False,
    "grown(n)": False,
    "1 << 8 * n": False,
    "set(range(n % 50))": False,
    "Slots()": False,
    "object()": False,
    "array.array('i', range(n))": False,
    "threading.Lock()": False,
    "[None] * n": True,
    "list(range(n))": True,
    "[str(i) for i in range(n % 50)]": True,
    "{i: -i * 1000 for i in range(n % 50)}": True,
    "(n, n, n)": True,
    "n / 3": True,
    "(lambda: n)": True,
    "(i for i in range(n))": True,
    "Plain()": True,
    "[Plain() for _ in range(n % 50)]": True,
    "slice(n, n * 1000)": True,
}

PROGRAM = """\
import array, gc, linecache, random, sys, threading
from memheft.compat import tracemalloc  # in both cases: what was in the free lists before is not traced
if sys.argv[1] == "standard":
    import tracemalloc
class Slots:
    __slots__ = ("a", "b")
class Plain:
    def __init__(self):
        self.a = self
        self.a = None
def grown(n):
    grows = bytearray()
    for _ in range(n):
        grows += b"123"
    return grows
makers = []
{makers}
def down(depth, n, maker):
    if depth == 0:
        return maker(n)
    if depth % 3 == 1:
        return down(depth - 1, n, maker)
    return down(
        depth - 1, n, maker) if depth % 2 else other(depth - 1, n, maker)
def other(depth, n, maker):
    return down(depth - (depth > 3), n, maker)
def steps(rng, kept, count):
    for _ in range(count):
        i = rng.randrange(len(kept))
        kept[i] = None
        maker = makers[rng.randrange(len(makers))]
        kept[i] = down(rng.randrange(12), rng.randrange(1, 300) + {smallest}, maker)
        if rng.random() < 0.4:
            kept[rng.randrange(len(kept))] = None
class Large(tracemalloc.BaseFilter):
    def _match(self, trace):
        return trace[1] > {smallest}
def show(title, snapshot, old=None):
    ours = snapshot.filter_traces([tracemalloc.Filter(True, "*app.py")]).filter_traces([Large(True)])
    print(title, len(ours.traces), snapshot.traceback_limit)
    for by, cumulative in ("lineno", 0), ("lineno", 1), ("filename", 0), ("filename", 1), ("traceback", 0):
        print(by, cumulative)
        for statistic in ours.statistics(by, bool(cumulative)):
            print(statistic, repr(statistic))
        if old is not None:
            for difference in ours.compare_to(old, by, bool(cumulative)):
                print(difference, repr(difference), *difference.traceback.format())
    print(*sorted(map(repr, ours.traces)), sep="\\n")
    return ours
def main(seed, nframe, count):
    rng = random.Random(seed)
    kept = [None] * 400
    linecache.getlines(__file__)
    steps(rng, kept, 50)
    gc.disable()
    tracemalloc.start()
    tracemalloc.stop()
    gc.collect()  # nothing is left in the free lists
    tracemalloc.start(nframe)
    steps(rng, kept, count)
    first = tracemalloc.take_snapshot()
    start = tracemalloc.get_traced_memory()[0]
    steps(rng, kept, count)
    end, peak = tracemalloc.get_traced_memory()
    print(end - start, peak - start)
    tracemalloc.reset_peak()
    end, peak = tracemalloc.get_traced_memory()
    steps(rng, kept, count)
    end2, peak2 = tracemalloc.get_traced_memory()
    print(end2 - end, peak2 - peak)
    second = tracemalloc.take_snapshot()
    tracebacks = [tracemalloc.get_object_traceback(x) for x in kept if sys.getsizeof(x) > {smallest}]
    tracemalloc.clear_traces()
    print(tracemalloc.get_traced_memory())
    steps(rng, kept, count)
    print(round(tracemalloc.get_traced_memory()[0], -4 if {smallest} else 0))
    third = tracemalloc.take_snapshot()
    tracemalloc.stop()
    print(tracemalloc.get_traced_memory(), tracemalloc.get_traceback_limit())
    # only now: in what order a snapshot's parts go back to free lists is not the same
    old = show("first", first)
    old = show("second", second, old)
    old.dump("snapshot")
    show("third", third, tracemalloc.Snapshot.load("snapshot"))
    for traceback in tracebacks:
        print(repr(traceback), *traceback.format() if traceback else ())
main(*map(int, sys.argv[2:]))
"""


def makers() -> str:
    lines = []
    for number, (expression, from_free_lists) in enumerate(KINDS.items()):
        if EXACT or not from_free_lists:
            lines += [f"def make_{number}(n):", f"    return {expression}", f"makers.append(make_{number})"]
    return "\n".join(lines)


def both(place: Workplace, *words: str) -> tuple[list[str], list[str]]:
    outs = []
    for module in ("ours", "standard"):
        result = place.python("app.py", module, *words, environment={"PYTHONHASHSEED": "0"})
        assert (result.code, result.err) == (0, ""), result.err
        outs.append(result.out.splitlines())
    return outs[0], outs[1]


@pytest.mark.parametrize("nframe", [1, 2, 5, 25])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_programs(workplace: Workplace, seed: int, nframe: int) -> None:
    workplace.write("app.py", PROGRAM.replace("{makers}", makers()).replace("{smallest}", str(SMALLEST)))
    ours, standard = both(workplace, str(seed), str(nframe), "300")
    assert len(standard) > 500
    assert ours == standard


def test_deep_and_wide_recursion(workplace: Workplace) -> None:
    """More call paths than are kept whole: the frames that are asked for are right all the same."""
    program = """
import random, sys
from memheft.compat import tracemalloc
if sys.argv[1] == "standard":
    import tracemalloc
sys.setrecursionlimit(10_000)
def left(rng, depth, kept):
    kept.add(bytes(600 + rng.randrange(1000)))
    if depth:
        (left if rng.random() < .5 else right)(rng, depth - 1, kept)
def right(rng, depth, kept):
    if depth:
        if rng.random() < .5:
            left(rng, depth - 1, kept)
        else:
            right(rng, depth - 1, kept)
    kept.add(bytes(600 + rng.randrange(1000)))
class Large(tracemalloc.BaseFilter):
    def _match(self, trace):
        return 600 < trace[1] < 2000
tracemalloc.start(int(sys.argv[2]))
rng, kept = random.Random(1), set()
for _ in range(100):
    left(rng, 900, kept)
snapshot = tracemalloc.take_snapshot().filter_traces([Large(True), tracemalloc.Filter(True, "*app.py")])
for statistic in snapshot.statistics("traceback"):
    print(statistic, repr(statistic))
print(max(trace.traceback.total_nframe for trace in snapshot.traces))
"""
    workplace.write("app.py", program)
    for nframe in ("1", "3", "7"):
        ours, standard = both(workplace, nframe)
        assert len(standard) > 2
        assert ours == standard


def test_wrong_turns(workplace: Workplace) -> None:
    """The same exceptions as the standard module's; and one that it does not have."""
    program = """
import os, pickle, sys
from memheft.compat import tracemalloc
from memheft import _engine
if sys.argv[1] == "standard":
    import tracemalloc
def show(function, *args):
    try:
        print(function(*args))
    except Exception as error:
        print(type(error).__name__, error)
def calls():
    wrong = (1, 2), (0,), (-1,), (65536,), ("1",), (1.0,), (None,), (1 << 40,), (1 << 70,)
    for args in (), *wrong, (65535,), (7,):
        show(tracemalloc.start, *args)
        show(tracemalloc.get_traceback_limit)
    show(tracemalloc.is_tracing)
    for function in "stop", "is_tracing", "clear_traces", "reset_peak", "get_traced_memory", "take_snapshot":
        show(getattr(tracemalloc, function), 1)
    show(tracemalloc.get_object_traceback)
    show(tracemalloc.get_object_traceback, sys)
    show(tracemalloc.stop)
    for function in "stop", "is_tracing", "clear_traces", "reset_peak", "get_traced_memory", "take_snapshot":
        show(getattr(tracemalloc, function))
    show(tracemalloc.get_object_traceback, bytes(1000))
    show(tracemalloc._get_traces)
    show(tracemalloc.start, True)
    snapshot = tracemalloc.take_snapshot()
    for args in ("line",), ("traceback", True), ():
        show(snapshot.statistics, *args)
    show(snapshot.filter_traces, 1)
    tracemalloc.stop()
calls()
"""
    workplace.write("app.py", program)
    ours, standard = both(workplace)
    assert ours == [line.replace("_tracemalloc.", "memheft._engine.traces.") for line in standard]
    more = """
def refused(function, *args):
    try:
        function(*args)
    except RuntimeError:
        return
    raise AssertionError(function)
recording = (None, b"{}", False, "/nowhere/", 0)
tracemalloc.start()
refused(_engine.start, *recording)
refused(_engine.stop)
assert tracemalloc.is_tracing()
if os.fork() == 0:
    assert not tracemalloc.is_tracing()
    tracemalloc.start()
    kept = bytes(1000)
    assert tracemalloc.get_object_traceback(kept)
    tracemalloc.stop()
    os._exit(0)
assert os.wait()[1] == 0
tracemalloc.stop()
os.close(_engine.start(*recording))
refused(tracemalloc.start)
assert not tracemalloc.is_tracing()
tracemalloc.stop()
assert _engine.is_on()
_engine.stop()
os.close(_engine.start(*recording[:-1], 1 << 16))  # its hooks stay
kept = [bytes(1000) for _ in range(1000)]
_engine.stop()
tracemalloc.start()
kept = [bytes(1000) for _ in range(1000)]
assert sum(trace.size == 1033 for trace in tracemalloc.take_snapshot().traces) == 1000
del kept
assert not any(trace.size == 1033 for trace in tracemalloc.take_snapshot().traces)
tracemalloc.stop()
print("ok")
"""
    workplace.write("app.py", program[: program.rindex("calls()")] + more)
    result = workplace.python("app.py", "ours")
    assert (result.code, result.out, result.err) == (0, "ok\n", "")


# Left out: what belongs to the standard module (the command line, the C functions); what is not the same in a
# forked child; and objects from free lists where the interpreter does not tell of them.
SUITE = """
import sys, unittest
from memheft.compat import tracemalloc
sys.modules["tracemalloc"] = tracemalloc
import test.test_tracemalloc as suite
assert suite.tracemalloc is tracemalloc
left_out = {"TestCommandLine", "TestCAPI", "test_fork"}
if sys.version_info < (3, 13):
    left_out.add("test_new_reference")
tests = unittest.TestSuite()
for name, case in vars(suite).items():
    if isinstance(case, type) and issubclass(case, unittest.TestCase) and name not in left_out:
        names = unittest.defaultTestLoader.getTestCaseNames(case)
        tests.addTests(case(name) for name in names if name not in left_out)
def deep(depth):  # as deep as under CPython's own test runner
    return deep(depth - 1) if depth else unittest.TextTestRunner(stream=sys.stdout).run(tests)
result = deep(20)
print(result.testsRun, result.wasSuccessful())
"""


@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_cpythons_own_tests(workplace: Workplace, allocator: str) -> None:
    if importlib.util.find_spec("test.test_tracemalloc") is None:
        pytest.skip("this Python came without its tests")
    workplace.write("app.py", SUITE)
    result = workplace.python("app.py", environment={"PYTHONMALLOC": allocator})
    number, successful = result.out.splitlines()[-1].split()
    assert successful == "True", result.out + result.err
    assert int(number) > 25


def test_threads(workplace: Workplace) -> None:
    """Threads ask for memory, with and without the interpreter's lock, while another traces."""
    program = """
import sys, threading, zlib
from memheft.compat import tracemalloc
over = threading.Event()
def work():
    while not over.is_set():
        kept = [bytes(100) for _ in range(100)], zlib.compress(bytes(10_000))
threads = [threading.Thread(target=work) for _ in range(3)]
sys.setswitchinterval(0.0005)
for thread in threads:
    thread.start()
for turn in range(60):
    tracemalloc.start(1 + turn % 3)
    for _ in range(10):
        kept = [bytes(700) for _ in range(50)]
        assert all(tracemalloc.get_object_traceback(x) for x in kept)
        snapshot = tracemalloc.take_snapshot()
        assert sum(trace.size == 733 for trace in snapshot.traces) == 50
        live, peak = tracemalloc.get_traced_memory()
        assert 50 * 733 <= live <= peak
        if turn % 2:
            tracemalloc.clear_traces()
            assert not any(tracemalloc.get_object_traceback(x) for x in kept)
        tracemalloc.reset_peak()
    tracemalloc.stop()
over.set()
for thread in threads:
    thread.join()
print("ok")
"""
    workplace.write("app.py", program)
    result = workplace.python("app.py", environment={"MEMHEFT_CHECK": "1"})
    assert (result.code, result.out, result.err) == (0, "ok\n", "")


def test_no_system_call_for_an_object(workplace: Workplace) -> None:
    """Whoever asks for the process' number while objects are made of free lists is ended by the kernel."""
    program = """
import ctypes, os, struct
from memheft.compat import tracemalloc
libc = ctypes.CDLL(None)
def no_getpid():
    load_number = struct.pack("HBBI", 0x20, 0, 0, 0)
    is_getpid = struct.pack("HBBI", 0x15, 0, 1, 39)
    kill, allow = struct.pack("HBBI", 0x06, 0, 0, 0x80000000), struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    steps = ctypes.create_string_buffer(load_number + is_getpid + kill + allow)
    rules = struct.pack("HxxxxxxP", 4, ctypes.addressof(steps))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges, without which nobody may filter
    if libc.prctl(22, 2, rules) != 0:  # a filter of system calls
        os._exit(3)
def work():
    kept = []
    for i in range(5000):
        kept = [(i, i), [i], {i: i}, float(i)]
    return kept
work()
tracemalloc.start()
work()
no_getpid()
work()
os._exit(0)
"""
    workplace.write("app.py", program)
    result = workplace.python("app.py")
    if result.code == 3:
        pytest.skip("system calls cannot be filtered here")
    assert (result.code, result.err) == (0, "")
