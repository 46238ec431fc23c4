"""Snapshots of a recording that goes on: numbers of one moment, against what the program itself counts."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import recording_tools as tools
import schema
from conftest import Result, Workplace

import memheft

N = 1000


def work(n: int = N) -> list[bytes]:
    return [bytes(1000) for _ in range(n)]


def blocks_of(recording: memheft.Recording) -> int:
    return sum(row.blocks for row in recording.live.by("function") if (row.function or "").startswith("work"))


def run(place: Workplace, text: str, *words: str, **options: object) -> Result:
    """Run a program that checks for itself, and says ok."""
    place.write("app.py", text)
    result = place.python("app.py", *words, **options)
    assert (result.code, result.out, result.err) == (0, "ok\n", "")
    return result


# -- what it is --------------------------------------------------------------------------------------------


def test_it_stays_as_it_was() -> None:
    with memheft.record() as recording:
        kept = work()
        first = recording.snapshot()
        kept += work()
        second = recording.snapshot()
        kept.clear()
        third = recording.snapshot()
    assert N <= blocks_of(first) <= N + 3
    assert 2 * N <= blocks_of(second) <= 2 * N + 3
    assert blocks_of(third) <= 3
    assert third.peak.total_bytes >= second.live.total_bytes > third.live.total_bytes
    assert third.peak.total_bytes == recording.peak.total_bytes
    durations = [one.duration_ns or 0 for one in (first, second, third, recording)]
    assert durations == sorted(durations)
    assert 0 < durations[0] < durations[1] < durations[2]
    for one in (first, second, third):
        assert one.complete
        assert one.path is None
        for view in (one.peak, one.live, one.total, one.temporary):
            assert sum(row.bytes for row in view) == view.total_bytes
        schema.check(one.to_dict())
        assert "<memory>" in repr(one)


def test_two_differ_by_what_lies_between() -> None:
    with memheft.record() as recording:
        kept = work()
        before = recording.snapshot()
        kept += work(10)
        after = recording.snapshot()
    changes = before.live.by("function").diff(after.live.by("function"))
    by_function = {(change.function or "").partition(".")[0]: change for change in changes}
    assert by_function["work"].blocks_delta in range(10, 13)
    # besides, the list that has grown and the object that is the first snapshot
    rest = changes.bytes_delta - by_function["work"].bytes_delta
    assert 0 <= rest <= sys.getsizeof(kept) + 500
    assert len(kept) == N + 10


def test_a_snapshot_is_one_small_block_of_the_program() -> None:
    with memheft.record() as recording:
        kept = [recording.snapshot() for _ in range(20)]
        after = recording.snapshot()
    changes = kept[9].live.by("function").diff(after.live.by("function"))
    assert changes.blocks_delta in range(9, 14)
    assert changes.bytes_delta < 20 * 150
    assert len(kept) == 20


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * 4096

    with memheft.record(tmp_path / "a.heft") as recording:
        exec(many_lines(4000), {})
        recording.snapshot().close()  # what is imported and mapped once
        files, space = len(os.listdir("/proc/self/fd")), mapped()
        kept = [recording.snapshot() for _ in range(50)]
        with memoryview(kept[0]._memory) as data:  # type: ignore[arg-type]
            size = len(data)
        assert mapped() - space >= 50 * size
        assert len(os.listdir("/proc/self/fd")) == files, "a snapshot holds no descriptor"
        own = [one._opened().header["tool_bytes"] for one in (kept[0], kept[-1])]
        assert 48 * size < own[1] - own[0] < 51 * size, "memory of ours is known as such"
        for one in kept[25:]:
            one.close()
        del one
        kept.clear()
        gc.collect()
        assert mapped() - space < 5 * size
        assert recording.snapshot()._opened().header["tool_bytes"] - own[0] < 2 * size
    assert size > 4000 * 128
    assert size < (tmp_path / "a.heft").stat().st_size


def many_lines(n: int) -> str:
    return "kept = []\n" + "kept.append(bytes(600))\n" * n


def test_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.heft"
    with memheft.record() as recording:
        kept = work()
        snapshot = recording.snapshot()
        recording.save(path)
        kept += work()
    for one in (path, tmp_path / "b.heft"):
        if not one.exists():
            snapshot.save(one)
        read = memheft.open(one)
        assert N <= blocks_of(read) <= N + 3
        assert read.complete
        assert read.to_dict()["recording"]["state"] == "closed"  # type: ignore[index]
        assert read._opened().engine.source, "the lines that it needs are in it"
        assert read.live.total_bytes == sum(row.bytes for row in read.live)
        with pytest.raises(FileExistsError):
            snapshot.save(one)
        snapshot.save(one, force=True)
        assert memheft.open(one).live.total_bytes == snapshot.live.total_bytes
    assert sorted(os.listdir(tmp_path)) == ["a.heft", "b.heft"]


def test_not_saved_into_a_file_that_is_being_recorded(tmp_path: Path) -> None:
    path, hard = tmp_path / "a.heft", tmp_path / "hard.heft"
    with memheft.record() as other:
        pass
    with memheft.record(path) as recording:
        os.link(path, hard)
        kept = work()
        for one in (recording, recording.snapshot(), other):
            for target in (path, hard):
                with pytest.raises(memheft.RecordingError, match="being made in this file"):
                    one.save(target, force=True)
        kept += work()
    assert 2 * N <= blocks_of(recording) <= 2 * N + 3
    assert sorted(os.listdir(tmp_path)) == ["a.heft", "hard.heft"]
    recording.save(path, force=True)
    assert 2 * N <= blocks_of(memheft.open(path)) <= 2 * N + 3
    assert len(kept) == 2 * N


def test_info_says_what_it_is(workplace: Workplace) -> None:
    with memheft.record() as recording:
        recording.save(workplace.folder / "a.heft")
    result = workplace.memheft("info", "a.heft")
    assert "complete   yes, up to the moment of this snapshot; the program went on" in result.out
    assert workplace.memheft("report", "a.heft", "--live").code == 0


# -- wrong turns -------------------------------------------------------------------------------------------


def test_no_present_to_keep(tmp_path: Path) -> None:
    with memheft.record(tmp_path / "a.heft") as recording:
        snapshot = recording.snapshot()
        read = memheft.open(tmp_path / "a.heft")
        with pytest.raises(memheft.RecordingError, match="no present"):
            read.snapshot()
        with pytest.raises(memheft.RecordingError, match="no present"):
            snapshot.snapshot()
    for one in (recording, snapshot):
        with pytest.raises(memheft.RecordingError, match="no present"):
            one.snapshot()
    with memheft.record() as second, pytest.raises(memheft.RecordingError, match="no present"):
        recording.snapshot()
    view = snapshot.live
    snapshot.close()
    for refused in (snapshot.snapshot, lambda: snapshot.live, lambda: snapshot.save(tmp_path / "b.heft")):
        with pytest.raises(memheft.RecordingError, match="closed"):
            refused()
    assert view.total_bytes == sum(row.bytes for row in view)
    second.close()
    with pytest.raises(memheft.RecordingError, match="closed"):
        second.snapshot()


def test_another_process_makes_it(workplace: Workplace) -> None:
    with tools.running(workplace, "print('on', flush=True); input()") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"on\n"
        recording = memheft.open(workplace.folder / "app.heft")
        with pytest.raises(memheft.RecordingError, match="no present"):
            recording.snapshot()
        with pytest.raises(memheft.RecordingError, match="another process"):
            recording.save(workplace.folder / "b.heft")
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(10)
    assert not (workplace.folder / "b.heft").exists()


def test_its_type_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the engine's namespace may be anything by now."""
    from memheft import _engine

    with memheft.record() as recording:
        kept = work()
        monkeypatch.delattr(_engine, "Snapshot")
        assert blocks_of(recording.snapshot()) in (N, N + 1)
    assert len(kept) == N


def test_this_process_makes_it(tmp_path: Path) -> None:
    with memheft.record(tmp_path / "a.heft"):
        read = memheft.open(tmp_path / "a.heft")
        with pytest.raises(memheft.RecordingError, match="this process is making"):
            read.save(tmp_path / "b.heft")
    read.save(tmp_path / "b.heft")
    assert memheft.open(tmp_path / "b.heft").complete


@pytest.mark.parametrize("way", ["record", "run", "MEMHEFT=1"])
def test_its_program_was_killed(workplace: Workplace, way: str) -> None:
    """It is saved as it was left, with the source lines, which nobody else has added."""
    start = "import memheft; memheft.record('app.heft').start()\n" if way == "record" else ""
    text = f"import os, signal\n{start}kept = [bytes(1000) for _ in range({N})]\n"
    app = workplace.write("app.py", text + "os.kill(os.getpid(), signal.SIGKILL)\n")
    if way == "run":
        workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
        while not memheft.open(workplace.folder / "app.heft")._opened().header["drawn"]:
            time.sleep(0.005)  # its watcher is still at work
    else:
        environment = {"MEMHEFT": "path=app.heft,quiet=1"} if way == "MEMHEFT=1" else {}
        assert workplace.python("app.py", environment=environment).code == -9
    recording = memheft.open(workplace.folder / "app.heft")
    recording.save(workplace.folder / "saved.heft")
    app.unlink()
    saved = memheft.open(workplace.folder / "saved.heft")
    assert not saved.complete
    assert list(saved.live) == list(recording.live)
    assert sum(row.blocks for row in saved.live if row.file == str(app)) >= N
    assert f"range({N})" in str(saved.live)


def test_it_is_stopped_meanwhile() -> None:
    over = threading.Event()
    taken: list[memheft.Recording] = []
    refused: list[memheft.Recording] = []
    others: list[BaseException] = []

    def watch() -> None:
        while not over.is_set():
            recording = memheft.current_recording()
            if recording is None:
                continue
            try:
                snapshot = recording.snapshot()
                if len(taken) < 300:
                    taken.append(snapshot)
            except memheft.RecordingError:
                refused.append(recording)
            except BaseException as error:
                others.append(error)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for n in range(20_000):
            with memheft.record():
                kept = work(10 + n % 50)
                time.sleep(n % 10 * 1e-4)
            if n >= 200 and len(taken) >= 200:
                break
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not others
    assert len(taken) >= 200, len(refused)
    for one in taken:
        assert sum(row.blocks for row in one.live) == one.live.total_blocks
    assert len(kept) == 10 + n % 50


FORK = """\
import os, memheft
def work():
    return [bytes(1000) for _ in range(1000)]
with memheft.record() as recording:
    kept = work()
    snapshot = recording.snapshot()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert memheft.current_recording() is None
            try:
                recording.snapshot()
            except memheft.RecordingError as error:
                assert "not being made in this process" in str(error)
            assert snapshot.live.total_blocks >= 1000
            with memheft.record() as own:
                more = work()
                assert memheft.current_recording() is own
                assert own.snapshot().live.total_blocks >= 1000
                try:
                    recording.snapshot()
                except memheft.RecordingError:
                    status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert recording.snapshot().live.total_blocks >= 1000
print("ok")
"""


def test_a_forked_child(workplace: Workplace) -> None:
    run(workplace, FORK)


LIMIT = """\
import resource, memheft
def lines(n):
    return "kept = []\\n" + "kept.append(bytes(600))\\n" * n
with memheft.record() as recording:
    space = {}
    exec(lines(30_000), space)
    recording.snapshot()
    with open("/proc/self/statm") as file:
        here = int(file.read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (here + (1 << 20), resource.RLIM_INFINITY))
    for _ in range(3):
        try:
            recording.snapshot()
        except MemoryError as error:
            assert str(error).startswith("no memory for a snapshot of "), error
        else:
            raise AssertionError
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = recording.snapshot()
assert after.live.total_blocks >= 30_000
assert recording.live.total_blocks >= 30_000
print("ok")
"""


def test_no_memory_for_it(workplace: Workplace) -> None:
    run(workplace, LIMIT)


# -- one moment --------------------------------------------------------------------------------------------

TRACE = """\
import random, sys, threading, zlib
import exact, memheft
seed, check = int(sys.argv[1]), sys.argv[2:]
sys.setswitchinterval(0.0005)
rng = random.Random(seed)
over = threading.Event()
def others():
    while not over.is_set():
        [bytes(100) for _ in range(100)], zlib.compress(bytes(10_000)), {i: str(i) for i in range(200)}
def do(operation, domain, place, size):
    step(operation, domain, place, size)  # @step
step = exact.step
places, live, blocks = {}, 0, 0
def walk(n):
    global live, blocks, step
    for _ in range(n):
        place, domain = rng.randrange(300), rng.randrange(3)
        size = rng.choice((1, 40, 300, 512, 513, 3000, 70_000))
        step = exact.step if domain or places.get(place, (1,))[0] else rng.choice((exact.step, exact.nogil))
        if place not in places:
            do("m", domain, place, size)
            places[place] = domain, size
            live, blocks = live + size, blocks + 1
        elif rng.random() < 0.5:
            do("r", 0, place, size)
            live += size - places[place][1]
            places[place] = places[place][0], size
        else:
            do("f", 0, place, 0)
            live, blocks = live - places.pop(place)[1], blocks - 1
threads = [threading.Thread(target=others) for _ in range(2)]
taken = []
with memheft.record() as recording:
    for thread in threads:
        thread.start()
    exact.storm(2, 100_000)
    for _ in range(40):
        walk(rng.randrange(60))
        taken.append((live, blocks, recording.snapshot()))
    exact.calm()
    over.set()
    for thread in threads:
        thread.join()
line = do.__code__.co_firstlineno + 1
def of_line(view):
    rows = [row for row in view if row.line == line and row.function == "do"]
    return sum(row.bytes for row in rows), sum(row.blocks for row in rows)
for size, number, snapshot in taken:
    assert of_line(snapshot.live) == (size, number), (of_line(snapshot.live), size, number)
    opened = snapshot._opened()
    assert not opened.header["flags"] & 16 and not opened.header["lost_events"]
    for view in (snapshot.peak, snapshot.live, snapshot.total, snapshot.temporary):
        assert sum(row.bytes for row in view) == view.total_bytes
        assert sum(row.blocks for row in view) == view.total_blocks
    assert snapshot.peak.total_bytes >= snapshot.live.total_bytes
for (size, _, one), (next_size, _, two) in zip(taken, taken[1:]):
    changes = [c for c in one.live.diff(two.live) if (c.line_after, c.function) == (line, "do")]
    assert sum(change.bytes_delta for change in changes) == next_size - size
print("ok")
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_moments_of_a_random_trace(workplace: Workplace, seed: int) -> None:
    """Three domains, with and without the interpreter's lock, while four threads ask for what they like."""
    tools.give_exact(workplace)
    run(workplace, TRACE, str(seed))


@pytest.mark.parametrize("allocator", ["debug", "malloc"])
def test_under_another_allocator(workplace: Workplace, allocator: str) -> None:
    tools.give_exact(workplace)
    run(workplace, TRACE, "4", environment=tools.environment_of(allocator))


TURNS = """\
import threading
import exact, memheft
text = ["kept = []"]
for level in range(13):  # 16,000 call paths between those of the two threads
    text += [f"def f{level}():"] + [f"    f{level + 1}()"] * 2
text += ["def f13():", "    kept.append(bytes(600))"]
space = {}
exec("\\n".join(text), space)
started = threading.Event()
def first(n):
    exact.alternate(0, n)
def second(n):
    exact.alternate(1, n)
def one():
    for n in (1, ROUNDS):
        first(n)  # the call path is made before those, the other's after them
        started.set()
def two():
    second(1 + ROUNDS)
ROUNDS = 30_000
threads = [threading.Thread(target=one), threading.Thread(target=two)]
with memheft.record() as recording:
    threads[0].start()
    started.wait()
    space["f0"]()
    threads[1].start()
    taken = []
    while threads[0].is_alive() and len(taken) < 100:
        taken.append(recording.snapshot())
    for thread in threads:
        thread.join()
ahead = []
for snapshot in taken:
    rows = snapshot.total.filter(match="app.py").by("function")
    blocks = {row.function: row.bytes // 1000 for row in rows}  # else the arguments may be one
    ahead.append(blocks["first"] - blocks["second"] if "second" in blocks else None)
turns = [n for n in ahead if n is not None]
assert len(turns) > 10, ahead
assert set(turns) <= {0, 1}, turns
print("ok")
"""


def test_two_threads_that_take_turns(workplace: Workplace) -> None:
    """They ask without the interpreter's lock: of one moment, the first is ahead by one block or by none."""
    tools.give_exact(workplace)
    run(workplace, TURNS)


# -- recordings that something else began ------------------------------------------------------------------

SERVER = """\
import memheft
def serve():
    cache.append(bytes(3000))
cache = []
recording = memheft.current_recording()
assert recording is not None and recording is memheft.current_recording()
assert recording.path.endswith(".heft"), recording.path
serve()
first = recording.snapshot()
for _ in range(10):
    serve()
second = recording.snapshot()
serve()
recording.save("now.heft")
changes = first.live.by("function").diff(second.live.by("function"))
assert [change.blocks_delta for change in changes if change.function == "serve"][0] in (10, 11)
print("ok")
"""


def serve_blocks(recording: memheft.Recording) -> int:
    return next(row.blocks for row in recording.live.by("function") if row.function == "serve")


@pytest.mark.parametrize("way", ["run", "MEMHEFT=1"])
def test_the_current_recording(workplace: Workplace, way: str) -> None:
    workplace.write("app.py", SERVER)
    if way == "run":
        result = workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    else:
        result = workplace.python("app.py", environment={"MEMHEFT": "path=app.heft,quiet=1"})
    assert (result.code, result.out, result.err) == (0, "ok\n", "")
    assert serve_blocks(memheft.open(workplace.folder / "now.heft")) in (12, 13)
    whole = memheft.open(workplace.folder / "app.heft")
    assert whole.complete
    assert not whole._opened().is_snapshot
    assert serve_blocks(whole) in (12, 13)


def test_no_current_recording() -> None:
    from memheft.compat import tracemalloc

    assert memheft.current_recording() is None
    with memheft.record() as recording:
        assert memheft.current_recording() is recording
    assert memheft.current_recording() is None
    tracemalloc.start()
    try:
        assert memheft.current_recording() is None
    finally:
        tracemalloc.stop()


def test_a_sampled_one() -> None:
    with memheft.record(sample="4KiB") as recording:
        kept = work(5000)
        first = recording.snapshot()
        second = recording.snapshot()
        last = recording.snapshot()
    assert first.to_dict()["recording"]["mode"] == "sampled"  # type: ignore[index]
    document = first.live.to_dict()
    assert document["totals"]["bytes_error"] > 0  # type: ignore[index]
    sums = [
        sum(row.bytes for row in one.live if (row.function or "").startswith("work")) for one in (first, last)
    ]
    assert sums[0] == sums[1]
    assert 0.8 < sums[0] / (5000 * 1033) < 1.25
    for one in (first, second, last):
        assert sum(row.bytes for row in one.live) == one.live.total_bytes
    assert len(kept) == 5000
