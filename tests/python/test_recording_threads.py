"""Threads and sub-interpreters: whose blocks are whose, by name and native id, however many there are."""

from __future__ import annotations

import json

import pytest
import recording_tools as tools
from conftest import Workplace
from recording_tools import HEAD, is_about

NAMES = """\
import json, threading, _thread
kept, ids = {}, {}
def work(label, size):
    kept[label] = bytes(size)
    ids[label] = threading.get_native_id()
def rename(label, size):
    threading.current_thread().name = "renamed inside"
    work(label, size)
class Own(threading.Thread):
    def __init__(self):
        super().__init__()
        self.name = "set in __init__"
    def run(self):
        work("own", 300_000)
def unnamed(label, size, done):
    work(label, size)
    done.release()
def slow(label, size, before, after):
    before.release()
    after.acquire()
    work(label, size)
work("main", 50_000)
for thread in [
    threading.Thread(target=work, args=("given", 100_000), name="given"),
    threading.Thread(target=rename, args=("renamed", 200_000), name="old name"),
    Own(),
    threading.Timer(0.01, work, ("timer", 500_000)),
    threading.Thread(target=work, args=("wide", 600_000), name="n\\u00e4me \\u4e2d\\U0001f600"),
    threading.Thread(target=work, args=("odd", 700_000), name=""),
]:
    thread.start()
    thread.join()
done, before, after = threading.Lock(), threading.Lock(), threading.Lock()
for lock in (done, before, after):
    lock.acquire()
_thread.start_new_thread(unnamed, ("unnamed", 800_000, done))
done.acquire()
late = threading.Thread(target=slow, args=("late", 900_000, before, after), name="early name")
late.start()
before.acquire()
late.name = "renamed by another"
after.release()
late.join()
threading.current_thread().name = "main renamed"
with open("ids.json", "w") as file:
    json.dump(ids, file)
"""


def test_names_and_native_ids(workplace: Workplace) -> None:
    recorded = tools.record(workplace, NAMES)
    ids = json.loads((workplace.folder / "ids.json").read_text())
    by_native = {native: (name, size) for (name, native), (size, _) in recorded.threads().items()}
    for label, size, name in [
        ("given", 100_000, "given"),
        ("renamed", 200_000, "renamed inside"),
        ("own", 300_000, "set in __init__"),
        ("wide", 600_000, "n\u00e4me \u4e2d\U0001f600"),
        ("unnamed", 800_000, None),
        ("late", 900_000, "renamed by another"),
    ]:
        assert by_native[ids[label]][0] == name, label
        assert size <= by_native[ids[label]][1] < size + 20_000, label
    assert str(by_native[ids["timer"]][0]).startswith("Thread-")
    assert by_native[ids["odd"]][0] in ("", None) or str(by_native[ids["odd"]][0]).startswith("Thread-")
    assert by_native[ids["main"]][0] == "MainThread"
    document = workplace.memheft("report", "app.heft", "--json", "--live", "--by", "thread").json
    shown = {row["thread_id"]: (row["thread"], row["bytes"]) for row in document["rows"]}
    assert {native: shown[native] for native in ids.values()} == {n: by_native[n] for n in ids.values()}


POOL = """\
import threading
from concurrent.futures import ThreadPoolExecutor
barrier, sizes = threading.Barrier(4), list(range(1000, 3000))
def work(n):
    if n < 4:
        barrier.wait()  # all four threads take part
    block = bytes(sizes[n])  # @block
    for _ in range(20):
        bytearray(5000)
    return block
with ThreadPoolExecutor(4, thread_name_prefix="pool") as pool:
    kept = list(pool.map(work, range(2000)))
"""


def test_a_pool(workplace: Workplace) -> None:
    recorded = tools.record(workplace, POOL)
    recorded.check_sums()
    assert is_about(recorded.at("block"), sum(1000 + n + HEAD for n in range(2000)), 2000)
    sizes = {name: size for (name, _), (size, _) in recorded.threads().items()}
    assert {"pool_0", "pool_1", "pool_2", "pool_3", "MainThread"} <= set(sizes)
    assert sum(size for name, size in sizes.items() if name and name.startswith("pool")) > 2000 * 1000


MANY = """\
import sys, threading
number = int(sys.argv[1])
kept = [None] * number
def work(n):
    kept[n] = bytes(700)  # @kept
    for i in range(10):
        bytes(900)  # @brief
for n in range(0, number, 20):
    threads = [threading.Thread(target=work, args=(n + i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_two_thousand_threads(workplace: Workplace) -> None:
    """The later ones share a tree: the recording is bounded, the sums are exact."""
    some = tools.record(workplace, MANY, "400")
    many = tools.record(workplace, MANY, "2000")
    many.check_sums()
    assert is_about(many.at("kept"), 2000 * (700 + HEAD), 2000)
    assert is_about(many.at("kept", "total"), 2000 * (700 + HEAD), 2000, spare=200)
    assert is_about(many.at("brief"), 0, 0)
    assert is_about(many.at("brief", "total"), 20_000 * (900 + HEAD), 20_000, spare=200)
    assert many.header["thread_n"] <= 256
    assert many.header["node_n"] <= some.header["node_n"] * 1.05
    assert many.path.stat().st_size <= some.path.stat().st_size * 1.05 + 4096
    alone = [
        blocks for (name, _), (_, blocks) in many.threads().items() if name and name.startswith("Thread-")
    ]
    assert len(alone) > 200


AT_ONCE = """\
import sys, threading
sys.setswitchinterval(1e-5)
start = threading.Barrier(8)
kept = [[None] * 3000 for _ in range(8)]
def work(number):
    mine, size = kept[number], 600 + number
    start.wait()
    for turn in range(2):
        for i in range(3000):
            mine[i] = None
            mine[i] = bytes(size)  # @mine
            bytearray(50)
threads = [threading.Thread(target=work, args=(n,), name=f"worker {n}") for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
def test_threads_that_take_turns(workplace: Workplace, allocator: str) -> None:
    recorded = tools.record(workplace, AT_ONCE, environment=tools.environment_of(allocator))
    recorded.check_sums()
    assert is_about(recorded.at("mine"), 3000 * sum(600 + n + HEAD for n in range(8)), 24_000, spare=20)
    assert is_about(
        recorded.at("mine", "total"), 6000 * sum(600 + n + HEAD for n in range(8)), 48_000, spare=200
    )
    sizes = {name: size for (name, _), (size, _) in recorded.threads().items()}
    for n in range(8):
        assert 0 <= sizes[f"worker {n}"] - 3000 * (600 + n + HEAD) < 10_000


DAEMONS = """\
import threading, time
kept = [bytes(1000) for _ in range(500)]  # @kept
started = threading.Barrier(4)
def work():
    started.wait()
    while True:
        [bytes(700) for _ in range(100)]
        {"a": [1, 2, 3]}.copy()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
started.wait()
time.sleep(0.02)
print("main is over")
"""


def test_daemon_threads_at_work_when_the_program_ends(workplace: Workplace) -> None:
    for _ in range(5):
        recorded = tools.record(workplace, DAEMONS)
        assert recorded.result.out == "main is over\n"
        assert recorded.result.err == ""
        recorded.check_sums()
        assert recorded.header["state"] == tools.CLOSED
        size, blocks = recorded.at("kept")
        assert 501 <= blocks <= 510
        assert 0 < size - 500 * (1000 + HEAD) < 6000


# -- sub-interpreters --------------------------------------------------------------------------------------

INTERPRETERS = """\
import sys, threading
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def create(own):
    for arguments in ((("isolated",) if own else ("legacy",)), ()):
        try:
            return interpreters.create(*arguments)
        except (TypeError, RuntimeError, ValueError):
            pass
    return interpreters.create(isolated=own)
def run(interpreter, text):
    problem = getattr(interpreters, "exec", None) or interpreters.run_string
    problem = problem(interpreter, text)
    assert problem is None, problem
    return interpreter
TEXT = '''
kept = [bytes(100_000 + i) for i in range(20)]
def work():
    for i in range(2000):
        {i: [i, str(i)], "x": bytes(900)}
    return [bytearray(50_000) for i in range(10)]
more = work()
'''
"""


def test_a_sub_interpreter(workplace: Workplace) -> None:
    """Its blocks are found under its own text; those of the main one stay right."""
    text = (
        INTERPRETERS
        + """\
kept = [bytes(3000) for _ in range(100)]  # @before
for own in (False, True):
    interpreter = run(create(own), TEXT)
    kept.append(bytes(200_000))  # @between
    interpreters.destroy(interpreter)
alive = run(create(False), TEXT)
kept.extend(bytes(4000) for _ in range(100))  # @after
import os
os._exit(0)
"""
    )
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    assert 100 * (3000 + HEAD) <= recorded.at("before")[0] < 100 * (3000 + HEAD) + 2000
    assert 2 * (200_000 + HEAD) <= recorded.at("between")[0] < 2 * (200_000 + HEAD) + 2000
    assert recorded.at("after")[1] in range(100, 105)
    sizes: tools.Lines = {}
    for file, line, _, size, blocks in recorded.rows("live"):
        if file in ("<script>", "<string>"):
            before = sizes.get(line, (0, 0))
            sizes[line] = (before[0] + size, before[1] + blocks)
    assert sizes[2][1] == 21
    assert 0 < sizes[2][0] - sum(100_000 + i + HEAD for i in range(20)) < 1000
    assert sizes[6][1] in (20, 21)


def test_sub_interpreters_at_work_at_once(workplace: Workplace) -> None:
    """Each with a lock of its own, from 3.12 on, so truly at once."""
    text = (
        INTERPRETERS
        + """\
kept = []
def work():
    for _ in range(2):
        interpreters.destroy(run(create(True), TEXT))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for i in range(5000):
    kept.append(bytes(800))  # @kept
    [[], {}, str(i)]
for thread in threads:
    thread.join()
"""
    )
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    size, blocks = recorded.at("kept")
    assert blocks == 5001
    assert 8 * 5000 <= size - 5000 * (800 + HEAD) < 8 * 6000


def test_sub_interpreters_one_after_the_other(workplace: Workplace) -> None:
    """Sooner or later one has the addresses and numbers of the one before, and belongs to another thread."""
    text = (
        INTERPRETERS
        + """\
import json
ids = []
def work():
    ids.append(threading.get_native_id())
    interpreters.destroy(run(create(False), "kept = [bytes(1_000_000) for _ in range(10)]"))
for _ in range(6):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
with open("ids.json", "w") as file:
    json.dump(ids, file)
"""
    )
    recorded = tools.record(workplace, text)
    ids = json.loads((workplace.folder / "ids.json").read_text())
    sizes: dict[int, int] = {}
    for (_, native), (size, _) in recorded.threads("total").items():
        sizes[native] = sizes.get(native, 0) + size
    assert len(ids) == 6
    for native in ids:
        assert 10_000_000 < sizes.get(native, 0) < 20_000_000  # and what an interpreter takes to begin
