"""What a recording says against what the program knows: exact sizes, asked of the allocators by ctypes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MEMHEFT, Workplace

# Requests of exact sizes: blocks of CPython's own allocators, with and without the interpreter's lock.
ALLOCATORS = """
import ctypes
P, S = ctypes.c_void_p, ctypes.c_size_t
def domain(name, library=ctypes.pythonapi):
    malloc, free = library[f"{name}_Malloc"], library[f"{name}_Free"]
    realloc, calloc = library[f"{name}_Realloc"], library[f"{name}_Calloc"]
    for f in (malloc, realloc, calloc):
        f.restype = P
    malloc.argtypes, free.argtypes, realloc.argtypes, calloc.argtypes = [S], [P], [P, S], [S, S]
    free.restype = None
    return malloc, free, realloc, calloc
obj, mem = domain("PyObject"), domain("PyMem")
raw_malloc, raw_free = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
raw_malloc.restype, raw_malloc.argtypes, raw_free.argtypes = P, [S], [P]
nogil = ctypes.CDLL(None)
try:
    nogil_malloc, nogil_free = nogil.PyMem_RawMalloc, nogil.PyMem_RawFree
except AttributeError:  # libpython is not in the global scope
    import sysconfig
    nogil = ctypes.CDLL(sysconfig.get_config_var("INSTSONAME"))
    nogil_malloc, nogil_free = nogil.PyMem_RawMalloc, nogil.PyMem_RawFree
nogil_malloc.restype, nogil_malloc.argtypes, nogil_free.argtypes = P, [S], [P]
nogil_free.restype = raw_free.restype = None
"""


def report(place: Workplace, recording: Path, *words: str, **options: Any) -> Any:
    result = place.memheft("report", str(recording), "--json", *words, **options)
    assert result.code == 0, result.err
    return result.json


def lines(document: Any, name: str = "app.py") -> dict[int, tuple[int, int]]:
    """Bytes and blocks of each line of a file."""
    out: dict[int, tuple[int, int]] = {}
    for row in document["rows"]:
        if row.get("file", "").endswith(name) and row["line"] is not None:
            size, blocks = out.get(row["line"], (0, 0))
            out[row["line"]] = (size + row["bytes"], blocks + row["blocks"])
    assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"]
    assert sum(row["blocks"] for row in document["rows"]) == document["totals"]["blocks"]
    return out


def line_of(text: str, mark: str) -> int:
    numbers = [n for n, line in enumerate(text.splitlines(), 1) if f"# {mark}" in line]
    assert len(numbers) == 1, (mark, numbers)
    return numbers[0]


def header(recording: Path) -> dict[str, int]:
    from memheft import _engine

    return _engine.Recording(str(recording)).header


LIFE = (
    ALLOCATORS
    + """
MB = 1 << 20
def step(n):
    return obj[0](n)
kept = [obj[0](300) for _ in range(1000)]  # small
large = mem[0](3 * MB)  # large
gone = mem[0](5 * MB)  # gone
mem[1](gone)
moved = mem[0](1 * MB)  # first
moved = mem[2](moved, 2 * MB)  # second
failed = mem[2](moved, 1 << 60)  # failed
assert failed is None
grown = obj[0](100)  # under
grown = obj[2](grown, 5000)  # over
shrunk = obj[0](500)  # wide
shrunk = obj[2](shrunk, 400)  # narrow
zero = obj[0](0)  # zero
zero = obj[2](zero, 64)  # nonzero
cleared = mem[3](1000, 1000)  # calloc
without = nogil_malloc(7 * MB)  # nogil
"""
)


@pytest.mark.parametrize("allocator", ["", "debug", "malloc", "dev"])
def test_blocks_of_known_size(workplace: Workplace, allocator: str) -> None:
    workplace.write("app.py", LIFE)
    flags = ["-X", "dev"] if allocator == "dev" else []
    environment = {"PYTHONMALLOC": allocator} if allocator in ("debug", "malloc") else {}
    result = workplace.memheft(
        "run", "-q", "--force", "-o", "app.heft", *flags, "app.py", environment=environment
    )
    assert result.code == 0, result.err
    live = lines(report(workplace, workplace.folder / "app.heft", "--live"))
    total = lines(report(workplace, workplace.folder / "app.heft", "--total"))

    def at(numbers: dict[int, tuple[int, int]], mark: str, least: int) -> int:
        """Bytes of the line in blocks of that size: the line's own small objects are left out."""
        size, _ = numbers.get(line_of(LIFE, mark), (0, 0))
        return size if size >= least else 0

    mb = 1 << 20
    near = 4000  # what ctypes itself keeps for a line
    assert live[line_of(LIFE, "small")][1] >= 1000
    assert 300_000 <= at(live, "small", 1) <= 300_000 + 100 * 1000
    assert 0 <= at(live, "large", mb) - 3 * mb < near
    assert at(live, "gone", mb) == 0
    assert 0 <= at(total, "gone", mb) - 5 * mb < near
    assert at(live, "first", mb) == 0
    assert 0 <= at(live, "second", mb) - 2 * mb < near
    assert 0 <= at(total, "first", mb) - 1 * mb < near
    assert 0 <= at(total, "second", mb) - 2 * mb < near
    assert at(total, "failed", mb) == 0
    assert 5000 <= at(live, "over", 1) < 5000 + near
    assert at(live, "under", 5000) == 0
    assert 400 <= at(live, "narrow", 1) < 400 + 1000
    assert 1_000_000 <= at(live, "calloc", 1) < 1_000_000 + near
    assert 0 <= at(live, "nogil", mb) - 7 * mb < near


RANDOM = (
    ALLOCATORS
    + """
import json, random, sys, threading
rng = random.Random(int(sys.argv[1]))
live, total, high, peak = {}, {}, 0, {}
blocks = []
def a(n): return obj[0](n)  # a
def b(n): return mem[0](n)  # b
def c(n): return raw_malloc(n)  # c
def d(n): return nogil_malloc(n)  # d
frees = {"a": obj[1], "b": mem[1], "c": raw_free, "d": nogil_free}
functions = {"a": a, "b": b, "c": c, "d": d}
def request(name, n):
    global high, peak
    blocks.append((name, n, functions[name](n)))
    live[name] = live.get(name, 0) + n
    total[name] = total.get(name, 0) + n
    if sum(live.values()) > high:
        high, peak = sum(live.values()), dict(live)
def trace():
    for _ in range(400):
        if not blocks or rng.random() < 0.6:
            request(rng.choice("abcd"), rng.choice([rng.randrange(1, 600), rng.randrange(50_000, 400_000)]))
        else:
            name, n, p = blocks.pop(rng.randrange(len(blocks)))
            frees[name](p)
            live[name] -= n
for _ in range(3):
    thread = threading.Thread(target=trace)
    thread.start()
    thread.join()
trace()
with open("model.json", "w") as file:
    json.dump([live, total, peak, high], file)
"""
)


@pytest.mark.parametrize("seed", range(4))
def test_random_traces_against_a_model(workplace: Workplace, seed: int) -> None:
    recording = workplace.record(RANDOM, str(seed))
    live, total, peak, high = json.loads((workplace.folder / "model.json").read_text())
    noise = 300_000  # the lists and dicts of the model itself
    for moment, expected in (("--live", live), ("--total", total), ("--peak", peak)):
        document = report(workplace, recording, moment)
        found = lines(document)
        for name, size in expected.items():
            # what ctypes makes for each call is charged to the same line, and is small
            assert 0 <= found.get(line_of(RANDOM, name), (0, 0))[0] - size < noise, (moment, name)
        if moment == "--peak":
            assert 0 <= document["totals"]["peak_bytes"] - high < 3_000_000


def test_temporary_blocks(workplace: Workplace) -> None:
    text = (
        ALLOCATORS
        + """
SIZE = ctypes.c_size_t(100_000)
malloc, free = raw_malloc, raw_free
def at_once():
    for _ in range(100):
        free(malloc(SIZE))  # once
at_once()
keep = [malloc(SIZE) for _ in range(50)]  # keep
"""
    )
    recording = workplace.record(text)
    found = [lines(report(workplace, recording, "--temporary", str(n))) for n in (1, 2, 4)]
    sizes = [numbers.get(line_of(text, "once"), (0, 0))[0] for numbers in found]
    assert sizes == sorted(sizes)  # a wider span holds the narrower
    assert sizes[-1] >= 100 * 100_000  # the interpreter's own small objects lie between: at most four
    assert found[-1].get(line_of(text, "keep"), (0, 0))[0] < 100_000
    assert workplace.memheft("report", str(recording), "--temporary", "3").code == 2


def test_dead_code_is_not_kept_and_not_mixed_up(workplace: Workplace) -> None:
    text = """
import gc, weakref
kept = []
seen = set()
alive = None
for i in range(3000):
    code = compile(f"kept.append(bytes(1000 + {i % 2}))\\nx = {i % 2}", f"text{i % 2}.py", "exec")
    seen.add(id(code))
    exec(code)
    alive = weakref.ref(code)
    del code
gc.collect()
assert alive() is None, "the code object is kept alive"
assert len(seen) < 3000, "no address was used twice: the test proves nothing"
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--live")
    for i in (0, 1):
        size, blocks = lines(document, f"text{i}.py")[1]
        assert 1500 <= blocks <= 1502  # and the list that holds them
        assert 0 <= size - 1500 * (1000 + i + sys.getsizeof(b"")) < 100_000
    assert header(recording)["code_n"] < 400


def test_recursion_generators_and_coroutines_stay_small(workplace: Workplace) -> None:
    text = """
import sys
sys.setrecursionlimit(2000)
kept = []
def deep(n):
    if n:
        deep(n - 1)
    kept.append(bytes(1000))
for _ in range(3):
    deep(900)
def generate(n):
    while True:
        n += 1
        kept.append(bytes(500))
        yield n
alive = [generate(i) for i in range(10_000)]
for g in alive:
    next(g)
async def chain(n):
    if n:
        return await chain(n - 1)
    kept.append(bytes(700))
try:
    chain(500).send(None)
except StopIteration:
    pass
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--live")
    assert lines(document)[8][0] >= 3 * 901 * (1000 + sys.getsizeof(b""))
    assert lines(document)[14][0] >= 10_000 * (500 + sys.getsizeof(b""))
    assert header(recording)["node_n"] < 6000
    assert recording.stat().st_size < 4 << 20


def test_threads(workplace: Workplace) -> None:
    text = """
import threading
kept = []
def work(n):
    if n == 1:
        threading.current_thread().name = "renamed"
    kept.append(bytes(100_000))
for n in range(3):
    t = threading.Thread(target=work, args=(n,), name=f"worker {n}")
    t.start()
    t.join()
for n in range(600):
    t = threading.Thread(target=work, args=(9,))
    t.start()
    t.join()
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--live", "--by", "thread")
    sizes = {row["thread"]: row["bytes"] for row in document["rows"]}
    assert all(sizes[name] >= 100_000 for name in ("worker 0", "renamed", "worker 2"))
    assert "worker 1" not in sizes
    assert "MainThread" in sizes
    assert header(recording)["thread_n"] <= 256
    assert lines(report(workplace, recording, "--live"))[7][0] >= 603 * 100_000


def test_an_import_is_its_line(workplace: Workplace) -> None:
    workplace.write("helper.py", "import textwrap\nTABLE = [str(i) for i in range(10000)]\n")
    text = """
import importlib
def late():
    import helper
    return helper
late()
importlib.import_module("tabnanny")
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--total")
    rows = document["rows"]
    assert not [row for row in rows if "importlib" in row["file"] and "bootstrap" in row["file"]]
    assert not [row for row in rows if "runpy" in row["file"] or "/memheft/" in row["file"]]
    late = next(row for row in rows if row["file"].endswith("app.py") and row["line"] == 4)
    assert late["imports"] == ["helper"]
    assert late["inclusive_bytes"] > 400_000
    nested = next(row for row in rows if row["file"].endswith("helper.py") and row["line"] == 1)
    assert nested["imports"] == ["textwrap"]
    dynamic = next(row for row in rows if row["file"].endswith("app.py") and row["line"] == 7)
    assert "tabnanny" in dynamic["imports"]


@pytest.mark.parametrize("end", ["sys.exit(7)", "os._exit(7)", "raise SystemExit(7)"])
def test_the_ways_to_end(workplace: Workplace, end: str) -> None:
    workplace.write("app.py", f"import os, sys\nkept = [bytes(1000) for _ in range(1000)]\n{end}\n")
    result = workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    assert result.code == 7
    document = finished(workplace, workplace.folder / "app.heft")
    assert document["recording"]["complete"] is True
    assert document["recording"]["exit_code"] == 7
    assert lines(document)[2][0] >= 1000 * (1000 + sys.getsizeof(b""))


def finished(place: Workplace, recording: Path) -> Any:
    """The report once the watcher has noted the end of a program that could not wait for it."""
    for _ in range(100):
        document = report(place, recording, "--live")
        if document["recording"]["exit_code"] is not None:
            return document
        time.sleep(0.05)
    raise AssertionError("the end was never noted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_killed(workplace: Workplace, number: signal.Signals) -> None:
    text = """
import mmap, sys
count = mmap.mmap(-1, 8)
shared = open("count", "wb+")
shared.truncate(8)
count = mmap.mmap(shared.fileno(), 8)
kept = []
print("ready", flush=True)
while True:
    if len(kept) < 200_000:
        kept.append(bytes(2000))
    count[0:8] = len(kept).to_bytes(8, "little")
"""
    workplace.write("app.py", text)
    command = [*MEMHEFT, "run", "-q", "-o", "app.heft", "app.py"]
    program = subprocess.Popen(
        command, cwd=workplace.folder, env=workplace.environment, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    time.sleep(0.2)
    program.send_signal(number)
    assert program.wait(20) == -number
    program.stdout.close()
    document = finished(workplace, workplace.folder / "app.heft")
    assert document["recording"]["complete"] is False
    assert document["recording"]["exit_code"] == 128 + number
    count = int.from_bytes((workplace.folder / "count").read_bytes(), "little")
    _, blocks = lines(document)[11]
    assert abs(blocks - count) <= 3  # the list's own block, and where the axe fell


def test_reading_while_it_runs(workplace: Workplace) -> None:
    text = "kept = [bytes(3000) for _ in range(1000)]\nprint('ready', flush=True)\ninput()\n"
    workplace.write("app.py", text)
    command = [*MEMHEFT, "run", "-q", "-o", "app.heft", "app.py"]
    program = subprocess.Popen(
        command,
        cwd=workplace.folder,
        env=workplace.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    document = report(workplace, workplace.folder / "app.heft", "--live")
    assert document["recording"]["complete"] is False
    assert document["recording"]["exit_code"] is None
    assert lines(document)[1][0] >= 1000 * (3000 + sys.getsizeof(b""))
    program.communicate(b"\n", timeout=20)
    assert program.returncode == 0
    assert report(workplace, workplace.folder / "app.heft")["recording"]["complete"] is True


def test_fork_leaves_the_recording_alone(workplace: Workplace) -> None:
    text = """
import multiprocessing, os, subprocess, sys
kept = [bytes(1000) for _ in range(100)]
pid = os.fork()
if pid == 0:
    more = [bytes(1000) for _ in range(100_000)]
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
def work(q):
    more = [bytes(1000) for _ in range(100_000)]
    q.put(len(more))
context = multiprocessing.get_context("fork")
q = context.Queue()
p = context.Process(target=work, args=(q,))
p.start()
assert q.get() == 100_000
p.join()
command = [sys.executable, "-c", "import os; print(*os.environ)"]
names = subprocess.run(command, capture_output=True, text=True)
assert "MEMHEFT_BOOT" not in names.stdout
assert "MEMHEFT_BOOT" not in os.environ
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--total")
    assert document["totals"]["bytes"] < 20 << 20
    assert document["recording"]["complete"] is True
    assert lines(document)[3][1] < 200


def test_exit_handlers_count_and_teardown_does_not(workplace: Workplace) -> None:
    text = """
import atexit
kept = [bytes(5000) for _ in range(100)]
def late():
    kept.append(bytes(1_000_000))
atexit.register(late)
class Last:
    def __del__(self):
        self.x = bytes(9_000_000)
last = Last()
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--live")
    assert lines(document)[5][0] >= 1_000_000
    assert lines(document)[3][0] >= 100 * 5000
    assert report(workplace, recording, "--peak")["totals"]["bytes"] < 9_000_000


def test_tracemalloc_keeps_working(workplace: Workplace) -> None:
    text = """
import tracemalloc
if not tracemalloc.is_tracing():
    tracemalloc.start()
traced = bytes(3_000_000)
assert tracemalloc.get_traced_memory()[0] >= 3_000_000
tracemalloc.stop()
kept = [bytes(10_000) for _ in range(100)]
del traced
"""
    for environment in ({}, {"PYTHONTRACEMALLOC": "1"}):
        workplace.write("app.py", text)
        result = workplace.memheft(
            "run", "-q", "--force", "-o", "app.heft", "app.py", environment=environment
        )
        assert result.code == 0, result.err
        document = report(workplace, workplace.folder / "app.heft", "--live")
        assert lines(document)[8][0] >= 100 * 10_000
        assert lines(document).get(5, (0, 0))[0] < 3_000_000


def test_a_program_that_closes_everything(workplace: Workplace) -> None:
    text = """
import os
os.closerange(3, 4000)
files = [open(f"file{i}", "w+b") for i in range(12)]
for i, file in enumerate(files):
    file.write(b"precious")
    file.flush()
exec("\\n".join(f"def f{i}(n): return [bytes(n)]" for i in range(2000)))
kept = [globals()[f"f{i}"](100) for i in range(2000)]
os.chdir("/")
for file in files:
    file.seek(0)
    assert file.read() == b"precious"
"""
    recording = workplace.record(text)
    assert header(recording)["flags"] == 0
    assert header(recording)["cut_events"] == 0


def test_limits_of_the_process(workplace: Workplace) -> None:
    text = "f = open('app.py')\nprint(f.fileno())\nkept = [bytes(100) for _ in range(1000)]\n"
    workplace.write("app.py", text)
    bare = workplace.command(["sh", "-c", f"ulimit -n 16; exec {sys.executable} app.py"])
    words = " ".join(MEMHEFT)
    recorded = workplace.command(["sh", "-c", f"ulimit -n 16; exec {words} run -q -o a.heft app.py"])
    assert (recorded.code, recorded.out, recorded.err) == (bare.code, bare.out, bare.err)
    small = workplace.command(
        ["sh", "-c", f"ulimit -v 1000000; exec {words} run -q -o b.heft app.py"],
    )
    assert small.code == 0, small.err
    assert lines(report(workplace, workplace.folder / "b.heft", "--live"))[3][1] >= 1000


def test_a_full_disk(workplace: Workplace) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    small = workplace.folder / "small"
    small.mkdir()
    mounted = workplace.command(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)])
    if mounted.code != 0:
        pytest.skip(f"no small disk: {mounted.err}")
    try:
        text = """
names = [f"def f{i}(n): return [bytes(n), {{}}, str(n)]" for i in range(9000)]
exec("\\n".join(names))
kept = [globals()[f"f{i}"](1000 + i) for i in range(9000)]
print(len(kept))
raise SystemExit(5)
"""
        workplace.write("app.py", text)
        result = workplace.memheft("run", "-o", str(small / "app.heft"), "app.py")
        assert result.code == 5
        assert result.out == "9000\n"
        assert "disk was full" in result.err
        document = report(workplace, small / "app.heft", "--live")
        assert document["totals"]["bytes"] > 9000 * 1000
        assert document["recording"]["complete"] is True
    finally:
        workplace.command(["umount", str(small)])


@pytest.mark.parametrize("variable", ["MEMHEFT_CHECK", "MEMHEFT_FULL_WALK"])
def test_stamps_and_the_full_walk_agree(workplace: Workplace, variable: str) -> None:
    text = """
import contextlib, functools, sys, threading, types
kept = []
def numbers(n):
    for i in range(n):
        kept.append(bytes(100))
        yield i
def nested(n):
    yield from numbers(n)
class Manager(contextlib.AbstractContextManager):
    def __exit__(self, *args):
        kept.append(bytes(200))
async def inner(n):
    kept.append(bytes(300))
    return n
async def outer(n):
    return [await inner(i) for i in range(n)]
def fail(n):
    try:
        if n:
            fail(n - 1)
        raise ValueError(n)
    except ValueError:
        kept.append(bytes(400))
def trace(frame, event, arg):
    if event == "line" and frame.f_code.co_name == "jumper" and frame.f_lineno == jump_from:
        kept.append(bytes(500))
        frame.f_lineno = jump_from + 2
        kept.append(bytes(500))
    return trace
def jumper():
    a = [1]
    b = [2]
    c = [3]
    return a
jump_from = jumper.__code__.co_firstlineno + 2
class Stop(Exception): pass
@types.coroutine
def pause():
    yield
async def bottom():
    while True:
        try:
            await pause()
        except Stop:
            kept.append([bytearray(100) for _ in range(50)])
async def middle(): await bottom()
async def top(): await middle()
thrown = top()
thrown.send(None)
def here():
    for _ in range(50): thrown.throw(Stop)
def there():
    for _ in range(50): thrown.throw(Stop)
here(); there()
for _ in range(20):
    list(nested(20))
    with Manager():
        sorted(numbers(10), key=lambda i: kept.append(bytes(50)) or -i)
    try:
        outer(10).send(None)
    except StopIteration:
        pass
    fail(10)
    sys.settrace(trace)
    jumper()
    sys.settrace(None)
threads = [threading.Thread(target=lambda: list(nested(200))) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
"""
    workplace.write("app.py", text)
    documents = []
    for environment in ({}, {variable: "1"}):
        result = workplace.memheft(
            "run", "-q", "--force", "-o", "app.heft", "app.py", environment=environment
        )
        assert result.code == 0, result.err
        info = workplace.memheft("info", "app.heft", "--json").json
        if environment and variable == "MEMHEFT_CHECK":
            check = info["recording"].get("check") or info["check"]
            assert check["mismatches"] == 0
            assert check["compared"] > 10_000
        documents.append(lines(report(workplace, workplace.folder / "app.heft", "--total")))
    assert documents[0].keys() == documents[1].keys()
    for line, numbers in documents[0].items():
        assert abs(numbers[1] - documents[1][line][1]) <= 3, line  # the interpreter's caches


def test_threads_without_the_lock(workplace: Workplace) -> None:
    """Requests and frees beside those of the thread that holds the lock: none lost, none mixed up."""
    text = (
        ALLOCATORS
        + """
import threading
def storm():
    kept = [nogil_malloc(70_000) for _ in range(40)]  # kept
    for _ in range(8_000):
        nogil_free(nogil_malloc(60_000))  # storm
threads = [threading.Thread(target=storm) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    busy = [bytes(600 + i) for i in range(100)]
"""
    )
    recording = workplace.record(text)
    live = lines(report(workplace, recording, "--live"))
    total = lines(report(workplace, recording, "--total"))
    assert 0 <= live[line_of(text, "kept")][0] - 3 * 40 * 70_000 < 100_000
    assert live.get(line_of(text, "storm"), (0, 0))[0] < 60_000
    assert total[line_of(text, "storm")][0] >= 3 * 8_000 * 60_000
    found = header(recording)
    assert found["flags"] == 0
    assert found["lost_events"] == 0


def test_a_child_without_fork_handlers(workplace: Workplace) -> None:
    """A child made behind the handlers' back (_Fork, clone) shares the file: it must stay out of it."""
    text = """
import ctypes, os
libc = ctypes.CDLL(None)
def parent():
    return [object() for _ in range(1000)]  # parent
pid = libc._Fork() if hasattr(libc, "_Fork") else libc.syscall(57)
if pid == 0:
    exec("def f(n): return [bytes(n) for _ in range(100_000)]")
    x = f(100)
    os._exit(0)
os.waitpid(pid, 0)
kept = parent()
"""
    recording = workplace.record(text)
    document = report(workplace, recording, "--total")
    assert lines(document)[line_of(text, "parent")][1] >= 1000
    assert document["totals"]["blocks"] < 50_000
    assert header(recording)["flags"] == 0


def test_the_end_comes_while_no_arena_can_be_had(workplace: Workplace) -> None:
    """Small requests that pymalloc passes on, down to the very last one, leave nobody inside the lock."""
    text = """
import re, resource
kept = [None] * 4_000_000
with open("/proc/self/status") as file:
    size = int(re.search(r"VmSize:\\s+(\\d+)", file.read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), resource.RLIM_INFINITY))
holes = [bytes(1000) for _ in range(20_000)]
some = holes[::200]
holes = None
def fill():
    n = 0
    try:
        while True:
            kept[n] = object()  # kept
            n += 1
    except MemoryError:
        pass
fill()
"""
    workplace.write("app.py", text)
    done = workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    assert (done.code, done.err) == (0, "")
    document = report(workplace, workplace.folder / "app.heft")
    assert document["recording"]["complete"]
    assert lines(document)[line_of(text, "kept")][1] > 100_000
