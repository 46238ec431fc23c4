"""memheft.record, memheft.open and their views, in this process and in programs of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import schema
from conftest import ROOT, Workplace, clean_environment
from hypothesis import given
from hypothesis import strategies as st

import memheft
from memheft.recording import _Memory

N = 1000


def work(n: int = N) -> list[bytes]:
    return [bytes(1000) for _ in range(n)]


def blocks_of(recording: memheft.Recording | None, function: str = "work") -> int:
    assert recording is not None
    rows = recording.live.by("function")
    return sum(row.blocks for row in rows if row.function is not None and row.function.startswith(function))


def is_about(blocks: int, wanted: int = N) -> bool:
    return wanted <= blocks <= wanted + 5


def recorder_of(function: Any) -> memheft.Recorder:
    recorder = function.recorder
    assert isinstance(recorder, memheft.Recorder)
    return recorder


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- the three forms ---------------------------------------------------------------------------------------


def test_with() -> None:
    before = work()
    with memheft.record() as recording:
        kept = work()
        del before
    assert is_about(blocks_of(recording))
    assert recording.complete
    assert recording.path is None
    assert recording.duration_ns
    del kept
    assert is_about(blocks_of(recording)), "what comes after the end is not seen"


def test_start_and_stop_as_often_as_one_likes() -> None:
    recorder = memheft.record()
    assert recorder.recording is None
    for i in range(3):
        recording = recorder.start()
        assert recorder.is_on
        kept = work(100 * (i + 1))
        assert recorder.stop() is recording is recorder.recording
        assert not recorder.is_on
        assert is_about(blocks_of(recording), 100 * (i + 1))
    assert len(kept) == 300
    with pytest.raises(memheft.RecordingError, match="nothing to stop"):
        recorder.stop()


def test_plain_function_with_and_without_parentheses() -> None:
    @memheft.record
    def bare(n: int, *, more: int = 0) -> list[bytes]:
        """Its own text."""
        return work(n + more)

    @memheft.record()
    def called(n: int) -> list[bytes]:
        return work(n)

    kept = bare(N, more=1), called(N)
    assert is_about(blocks_of(recorder_of(bare).recording), N + 1)
    assert is_about(blocks_of(recorder_of(called).recording))
    assert (bare.__name__, bare.__doc__) == ("bare", "Its own text.")
    assert len(kept) == 2
    # nothing of ours stands in the stacks
    stacks = list(recorder_of(bare).recording.live.by("stack"))  # type: ignore[union-attr]
    files = {frame.file for row in stacks for frame in row.stack or ()}
    assert not [file for file in files if "/memheft/" in file and "/tests/" not in file]


def test_a_recorder_decorates() -> None:
    recorder = memheft.record()

    class Thing:
        @recorder
        def method(self) -> list[bytes]:
            return work()

    kept = Thing().method()
    assert is_about(blocks_of(recorder.recording))
    assert len(kept) == N
    for wrong in (3, Thing):
        with pytest.raises(TypeError, match="decorates functions"):
            recorder(wrong)  # type: ignore[arg-type]


def test_coroutines() -> None:
    @memheft.record
    async def serve() -> list[bytes]:
        await asyncio.sleep(0)
        first = work(500)
        await asyncio.sleep(0)
        return first + work(500)

    assert asyncio.iscoroutinefunction(serve) if sys.version_info < (3, 14) else True
    kept = asyncio.run(serve())
    assert is_about(blocks_of(recorder_of(serve).recording))

    @memheft.record
    async def wait() -> None:
        kept.extend(work())
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        assert recorder_of(wait).is_on
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not recorder_of(wait).is_on
    assert is_about(blocks_of(recorder_of(wait).recording))


def test_generators() -> None:
    @memheft.record
    def generate(n: int) -> Generator[Any, Any, str]:
        got = yield work(n)
        while got is not None:
            got = yield got
        return "end"

    generator = generate(N)
    assert not recorder_of(generate).is_on, "not before the first step"
    kept = next(generator)
    assert recorder_of(generate).is_on
    assert generator.send(7) == 7
    with pytest.raises(StopIteration, match="end"):
        next(generator)
    assert not recorder_of(generate).is_on
    assert is_about(blocks_of(recorder_of(generate).recording))

    for how in ("close", "throw", "drop"):
        generator = generate(N)
        kept = next(generator)
        if how == "close":
            generator.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                generator.throw(KeyError())
        del generator
        gc.collect()
        assert not recorder_of(generate).is_on
        assert is_about(blocks_of(recorder_of(generate).recording))
    generate(N).close()
    assert len(kept) == N


def test_async_generators() -> None:
    events: list[str] = []

    @memheft.record
    async def generate(n: int) -> AsyncGenerator[Any, Any]:
        try:
            while True:
                try:
                    n = yield work(n)
                except KeyError:
                    events.append("KeyError")
                    n = 1
                if n == 0:
                    return
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            events.append("end")

    kept = []  # nothing else does: not the wrapper either

    async def main() -> None:
        generator = generate(N)
        assert not recorder_of(generate).is_on
        kept.append(await anext(generator))
        assert recorder_of(generate).is_on
        kept.append(await generator.asend(100))
        kept.append(await generator.athrow(KeyError()))
        with pytest.raises(StopAsyncIteration):
            await generator.asend(0)
        assert is_about(blocks_of(recorder_of(generate).recording), N + 101)
        assert events == ["KeyError", "end"]

        generator = generate(N)
        kept.append(await anext(generator))
        await generator.aclose()
        assert not recorder_of(generate).is_on
        assert events == ["KeyError", "end", "end"]

        generator = generate(N)
        kept.append(await anext(generator))
        with pytest.raises(ZeroDivisionError):
            await generator.athrow(ZeroDivisionError())
        assert not recorder_of(generate).is_on
        async for some in generate(N):
            kept.append(some)
            break
        del some

    asyncio.run(main())
    gc.collect()
    assert not recorder_of(generate).is_on
    assert is_about(blocks_of(recorder_of(generate).recording))


def test_exceptions_pass_and_the_recording_stays() -> None:
    @memheft.record
    def fail() -> None:
        kept.extend(work())
        raise KeyError("mine")

    kept: list[bytes] = []
    with pytest.raises(KeyError, match="mine"):
        fail()
    assert is_about(blocks_of(recorder_of(fail).recording))
    recorder = memheft.record()
    with pytest.raises(KeyboardInterrupt), recorder:
        raise KeyboardInterrupt
    assert recorder.recording is not None
    assert recorder.recording.complete


def test_one_at_a_time() -> None:
    with memheft.record() as recording:
        for start in (memheft.record().start, memheft.record().__enter__):
            with pytest.raises(memheft.RecordingError, match="one at a time"):
                start()
        kept = work()
    assert is_about(blocks_of(recording))
    assert len(kept) == N


def test_decorated_functions_within_and_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do what they do undecorated; the first call is what is recorded."""
    from memheft import _engine

    @memheft.record
    def fib(n: int) -> int:
        kept.append(work(1))
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    kept: list[Any] = []
    assert fib(10) == 55
    recording = recorder_of(fib).recording
    assert recording is not None
    assert recording.complete
    assert 177 <= blocks_of(recording) <= 177 * 3  # and lists

    @memheft.record
    async def serve(n: int, seconds: float) -> int:
        kept.append(work(n))
        await asyncio.sleep(seconds)
        return n

    async def gather() -> None:
        nonlocal recording
        made = await asyncio.gather(serve(100, 0.1), serve(200, 0), serve(300, 0.01))
        assert list(made) == [100, 200, 300]
        recording = recorder_of(serve).recording
        assert not recorder_of(serve).is_on
        assert 600 <= blocks_of(recording) <= 610
        assert await serve(400, 0) == 400, "and the next is recorded again"
        assert is_about(blocks_of(recorder_of(serve).recording), 400)

    asyncio.run(gather())

    @memheft.record
    def generate(n: int) -> Generator[Any, Any, None]:
        while True:
            yield work(n)

    first, second = generate(100), generate(10)
    kept += [next(first), next(second)]
    second.close()
    assert recorder_of(generate).is_on, "the second has not begun it"
    second = generate(10)
    kept += [next(second), next(first)]
    first.close()
    assert not recorder_of(generate).is_on
    assert 220 <= blocks_of(recorder_of(generate).recording) <= 230
    kept.append(next(second))
    second.close()

    with memheft.record() as outer:
        kept.append(memheft.record(work)(300))
        with monkeypatch.context() as patch:  # another thread begins just after we have looked
            patch.setattr(_engine, "is_on", lambda: False)
            kept.append(memheft.record(work)(300))
    assert is_about(blocks_of(outer), 600)

    threads_made = memheft.record()

    @threads_made
    def in_thread(n: int) -> list[bytes]:
        return work(n)

    with ThreadPoolExecutor(4) as pool:
        assert [len(made) for made in pool.map(in_thread, range(200))] == list(range(200))
    assert not threads_made.is_on
    assert threads_made.recording is not None
    assert threads_made.recording.complete


@pytest.mark.parametrize("way", ["run", "MEMHEFT=1", "compat"])
def test_a_decorated_function_where_something_else_records(workplace: Workplace, way: str) -> None:
    start = "from memheft.compat import tracemalloc; tracemalloc.start()\n" if way == "compat" else ""
    workplace.write(
        "app.py",
        f"import memheft\n{start}@memheft.record('f.heft')\n"
        "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(10), f.recorder.recording)\n",
    )
    environment = {"MEMHEFT": "path=app.heft,quiet=1"} if way == "MEMHEFT=1" else {}
    if way == "run":
        result = workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    else:
        result = workplace.python("app.py", environment=environment)
    assert (result.code, result.out, result.err) == (0, "55 None\n", "")
    assert not (workplace.folder / "f.heft").exists()


def test_in_any_thread() -> None:
    recorder = memheft.record()
    started, worked = threading.Event(), threading.Event()
    kept = []

    def other() -> None:
        recorder.start()
        started.set()
        worked.wait(10)
        recorder.stop()

    thread = threading.Thread(target=other, name="the other")
    thread.start()
    assert started.wait(10)
    kept.append(work())
    worked.set()
    thread.join()
    assert is_about(blocks_of(recorder.recording))

    errors: list[BaseException] = []
    made: list[memheft.Recording] = []

    def race() -> None:
        for _ in range(20):
            try:
                with memheft.record() as recording:
                    kept.append(work(10))
                made.append(recording)
            except memheft.RecordingError as error:
                errors.append(error)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) + len(errors) == 80
    assert made
    assert all(recording.complete and blocks_of(recording) >= 10 for recording in made)


def test_read_while_it_is_made() -> None:
    with memheft.record() as recording:
        kept = work()
        assert is_about(blocks_of(recording))
        assert not recording.complete
        early = recording.live
        kept += work()
        assert is_about(blocks_of(recording), 2 * N)
    assert is_about(blocks_of(recording), 2 * N)
    assert early.total_blocks < 2 * N <= recording.live.total_blocks


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_start_that_is_interrupted(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever that is, nothing is left: no recording that goes on, no descriptor, no file."""
    from memheft import _engine

    recorder = memheft.record(tmp_path / "a.heft" if kind == "file" else None)
    with memheft.record():
        pass
    gc.collect()
    before = descriptors()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for at, name in ((_engine, "current"), (memheft.Recording, "_began")):
        with monkeypatch.context() as patch:
            patch.setattr(at, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                recorder.start()
        assert not _engine.is_on()
        assert not recorder.is_on
        assert recorder.recording is None
        assert memheft.current_recording() is None
        gc.collect()
        assert descriptors() == before
        assert os.listdir(tmp_path) == []
    with recorder as recording:
        kept = work()
    assert is_about(blocks_of(recording))
    assert len(kept) == N


def test_a_stop_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from memheft import _engine

    stop = _engine.stop

    def before() -> None:
        raise KeyboardInterrupt

    def after() -> None:
        stop()
        raise KeyboardInterrupt

    recorder = memheft.record()
    for interrupted in (before, after):
        recording = recorder.start()
        with monkeypatch.context() as patch:
            patch.setattr(_engine, "stop", interrupted)
            with pytest.raises(KeyboardInterrupt):
                recorder.stop()
        assert recorder.is_on is _engine.is_on() is (interrupted is before)
        if recorder.is_on:
            assert recorder.stop() is recording
        assert recording.complete
    assert memheft.current_recording() is None


def test_real_interrupts(workplace: Workplace) -> None:
    """At thousands of moments: a recording that is left on can be stopped, and none is left on by a start."""
    workplace.write(
        "app.py",
        """
import os, signal, time, memheft
def alarm(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, alarm)
with memheft.record():
    pass
recorder = memheft.record()
end = time.monotonic() + 3
n = 0
while time.monotonic() < end:
    n += 1
    before = recorder.recording
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + n % 500 * 0.000001)
        recorder.start()
        while True:
            pass
    except KeyboardInterrupt:
        pass
    on = memheft.current_recording()
    assert recorder.is_on == (on is not None), (recorder, on)
    if on is not None:
        assert on is recorder.recording is not before
        on.stop()
    assert recorder.start() is memheft.current_recording()
    recorder.stop()
print(len(os.listdir("/proc/self/fd")) < 10)
""",
    )
    result = workplace.python("app.py")
    assert (result.code, result.out, result.err) == (0, "True\n", "")


def test_stopped_by_whoever_has_no_recorder(tmp_path: Path) -> None:
    memheft.record(tmp_path / "a.heft").start()
    kept = work()
    gc.collect()
    with pytest.raises(memheft.RecordingError, match=r"current_recording\(\)\.stop\(\) ends it"):
        memheft.record().start()
    recording = memheft.current_recording()
    assert recording is not None
    assert recording.stop() is recording
    assert memheft.current_recording() is None
    assert is_about(blocks_of(recording))
    read = memheft.open(tmp_path / "a.heft")
    assert read.complete
    assert read._opened().engine.source
    for one in (recording, read):
        with pytest.raises(memheft.RecordingError, match="nothing to stop"):
            one.stop()
    assert len(kept) == N


# -- files -------------------------------------------------------------------------------------------------


def test_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.heft"
    with memheft.record(path) as recording:
        kept = work()
    assert recording.path == str(path)
    before = path.read_bytes()
    read = memheft.open(path)
    assert read.complete
    assert blocks_of(read) == blocks_of(recording)
    assert "return [bytes(1000) for _ in" in str(read.live)
    assert read.to_dict()["recording"]["exit_code"] is None  # type: ignore[index]
    with pytest.raises(FileExistsError), memheft.record(path):
        pass
    assert path.read_bytes() == before
    with memheft.record(path, force=True):
        kept = work(2 * N)
    assert is_about(blocks_of(memheft.open(path)), 2 * N)
    assert len(kept) == 2 * N

    text = tmp_path / "notes.txt"
    text.write_text("mine")
    with pytest.raises(FileExistsError, match="only recordings"), memheft.record(text, force=True):
        pass
    with pytest.raises(FileExistsError, match="only recordings"):
        memheft.open(path).save(text, force=True)
    assert text.read_text() == "mine"
    with pytest.raises(FileNotFoundError), memheft.record(tmp_path / "no" / "a.heft"):
        pass


def test_a_name_that_is_used_again(tmp_path: Path) -> None:
    """Each object is the recording that was made through it, or says that this is gone."""
    path = tmp_path / "a.heft"
    made = []
    for n in (1, 2, 3):
        with memheft.record(path, force=True) as recording:
            kept = work(n * 100)
        made.append(recording)
        if n == 2:
            assert is_about(blocks_of(recording), 200)
    assert is_about(blocks_of(made[2]), 300)
    assert is_about(blocks_of(made[1]), 200), "read before"
    for use in (lambda: made[0].peak, lambda: made[0].to_dict(), lambda: made[1].save(tmp_path / "b.heft")):
        with pytest.raises(memheft.RecordingError, match="replaced by another"):
            use()
    assert "replaced by another" in repr(made[0])
    assert not (tmp_path / "b.heft").exists()
    assert len(kept) == 300

    # a file that was put there meanwhile is not written to
    other = path.read_bytes()
    with memheft.record(path, force=True) as recording:
        (tmp_path / "other").write_bytes(other)
        os.replace(tmp_path / "other", path)
    with pytest.raises(memheft.RecordingError, match="replaced by another"):
        recording.peak  # noqa: B018
    assert path.read_bytes() == other


def test_names_of_files(tmp_path: Path) -> None:
    recorder = memheft.record(tmp_path / "{n}-{pid}.heft")
    for _ in range(2):
        recorder.start()
        recorder.stop()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n}-{os.getpid()}.heft" for n in (1, 2)]
    with pytest.raises(ValueError, match=r"\{rank\}"), memheft.record(tmp_path / "{rank}.heft"):
        pass
    folder = tmp_path / "folder"
    folder.mkdir()
    with memheft.record(folder) as recording:
        pass
    assert [str(p) for p in folder.iterdir()] == [recording.path]
    assert f".{os.getpid()}.heft" in str(recording.path)
    with pytest.raises(FileNotFoundError, match="none/"), memheft.record(f"{tmp_path}/none/"):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file/"), memheft.record(f"{tmp_path}/file/", force=True):
        pass
    assert {p.name for p in tmp_path.iterdir()} >= {"file", "folder"}
    assert not (tmp_path / "none").exists()
    named = tmp_path / f"{os.getpid()}"
    named.mkdir()
    with memheft.record(f"{tmp_path}/{{pid}}/") as recording:
        pass
    assert [str(p) for p in named.iterdir()] == [recording.path]
    with memheft.record() as recording:
        pass
    for use in (memheft.record, memheft.open, recording.save):
        for wrong in ("", b"x", 3):
            with pytest.raises(TypeError, match=f"the name of a file, as text, not {wrong!r}"):
                use(wrong)  # type: ignore[arg-type]


def test_what_is_printed_of_one_that_is_being_made() -> None:
    """Nothing is read for that: it would be in the recording."""
    with memheft.record() as recording:
        repr(recording)
        before = recording.snapshot()
        text = repr(recording)
        after = recording.snapshot()
    assert text == "<memheft.Recording <memory>, being made>"
    assert after.total.total_bytes - before.total.total_bytes < 5000


def test_what_a_recording_is_compared_with() -> None:
    with memheft.record() as recording:
        pass
    for wrong in (None, recording.peak, "a.heft"):
        with pytest.raises(TypeError, match="a recording is compared with a recording, not with"):
            recording.diff(wrong)  # type: ignore[arg-type]


def test_save(tmp_path: Path) -> None:
    with memheft.record() as recording:
        kept = work()
    path = tmp_path / "saved.heft"
    recording.save(path)
    with memheft.open(path) as read:
        assert list(read.live) == list(recording.live)
        assert "return [bytes(1000)" in str(read.live)
        assert read.complete
        read.save(tmp_path / "again.heft")
    assert (tmp_path / "again.heft").read_bytes() == path.read_bytes()
    with pytest.raises(FileExistsError):
        recording.save(path)
    recording.save(path, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.heft", "saved.heft"]
    assert len(kept) == N


@pytest.mark.parametrize("path", [None, "made.heft"])
def test_source_lines_are_kept(tmp_path: Path, path: str | None) -> None:
    """A recording reads the same where the program's files are not, or not any more."""
    source = tmp_path / "gone.py"
    source.write_text("def grow():\n    return [here for here in map(bytes, range(1000))]\n")
    names: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), names)
    with memheft.record(None if path is None else tmp_path / path) as recording:
        kept = names["grow"]()
    if path is None:
        recording.save(tmp_path / "made.heft")
    source.unlink()
    assert "return [here" in str(memheft.open(tmp_path / "made.heft").live)
    assert len(kept) == 1000


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        memheft.open(tmp_path / "none.heft")
    for name, data, code in (
        ("empty", b"", "empty"),
        ("text", b"no recording" * 1000, "foreign"),
        ("short", (ROOT / "tests/golden/format-1.heft").read_bytes()[:5000], "truncated"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(memheft.FormatError, match=name) as caught:
            memheft.open(path)
        assert caught.value.code == code
        assert isinstance(caught.value, memheft.Error)
        assert "\n" not in str(caught.value)
    with pytest.raises(memheft.FormatError, match="is a folder") as caught:
        memheft.open(tmp_path)
    assert caught.value.code == "foreign"


# -- life --------------------------------------------------------------------------------------------------


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    gc.collect()
    before = descriptors()
    with memheft.record() as first:
        pass
    view = first.live
    assert descriptors() == before + 1
    first.close()
    first.close()
    assert descriptors() == before
    assert view.total_blocks >= 0, "views that were taken stay"
    for use in (lambda: first.peak, lambda: first.complete, lambda: first.save(tmp_path / "x.heft")):
        with pytest.raises(memheft.RecordingError, match="closed"):
            use()
    assert "closed" in repr(first)

    with memheft.record() as second:
        pass
    with second:
        assert descriptors() == before + 1
    assert descriptors() == before
    third = memheft.record()
    third.start()
    third.stop()
    del third
    gc.collect()
    assert descriptors() == before
    with memheft.record(tmp_path / "x.heft") as fourth:
        pass
    assert fourth.live.total_blocks >= 0
    assert descriptors() == before


def test_a_descriptor_that_the_program_closed(tmp_path: Path) -> None:
    """The number may be that of another file by now: it is not read, and not closed."""
    with memheft.record() as recording:
        pass
    memory = recording._memory
    assert isinstance(memory, _Memory)
    os.close(memory._fd)
    file = os.open(tmp_path / "mine", os.O_CREAT | os.O_RDWR)
    assert file == memory._fd
    with pytest.raises(memheft.RecordingError, match="lost"):
        recording.peak  # noqa: B018
    recording.close()
    os.close(file)


@pytest.mark.slow
def test_a_hundred_recordings_leave_nothing(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        """
import gc, os, memheft
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def one():
    with memheft.record() as recording:
        kept = [bytes(1000) for _ in range(1000)]
    assert recording.live.by("line").top(5)[0].blocks >= 1000
for _ in range(20):
    one()
gc.collect()
fds, before = len(os.listdir("/proc/self/fd")), rss()
for _ in range(100):
    one()
gc.collect()
assert len(os.listdir("/proc/self/fd")) == fds
print((rss() - before) >> 10)
""",
    )
    result = workplace.python("app.py")
    assert result.code == 0, result.err
    assert int(result.out) < 2048, f"{result.out} KiB more"


def test_fork_inside(workplace: Workplace) -> None:
    """A child takes no part: it leaves the block without an error, and can record itself."""
    workplace.write(
        "app.py",
        """
import os, memheft
recorder = memheft.record()
with recorder as recording:
    kept = [bytes(1000) for _ in range(500)]
    pid = os.fork()
    kept += [bytes(1000) for _ in range(500)]
assert not recorder.is_on
if pid == 0:
    with memheft.record() as mine:
        more = [bytes(1000) for _ in range(700)]
    assert 700 <= mine.live.total_blocks < 720, mine.live
    with recorder as mine:
        more += [bytes(1000) for _ in range(700)]
    assert 700 <= mine.live.total_blocks < 720, mine.live
    raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert 1000 <= recording.live.total_blocks < 1030, recording.live
print("ok")
""",
    )
    result = workplace.python("app.py")
    assert (result.code, result.out, result.err) == (0, "ok\n", "")


def test_never_stopped(workplace: Workplace) -> None:
    """The end of the program is the end of the recording."""
    workplace.write(
        "app.py", "import memheft\nr = memheft.record('x.heft').start()\nkept = [bytes(1000)] * 3\n"
    )
    result = workplace.python("app.py")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert memheft.open(workplace.folder / "x.heft").complete


def test_under_memheft_run(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import memheft\nfor use in (memheft.record().start, lambda: memheft.current_recording().stop()):\n"
        "  try: use()\n  except memheft.RecordingError as e: print(e)\n",
    )
    result = workplace.memheft("run", "-q", "-o", "x.heft", "app.py")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r".* one at a time in a process\nmemheft run .* ends with the program\n", result.out)
    assert memheft.open(workplace.folder / "x.heft").complete


def test_a_file_still_being_written(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import sys, memheft\nmemheft.record('x.heft').start()\nkept = [bytes(1000) for _ in range(1000)]\n"
        "print('up', flush=True)\nsys.stdin.read()\n",
    )
    with subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=workplace.folder,
        env=workplace.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        recording = memheft.open(workplace.folder / "x.heft")
        assert recording.live.total_blocks >= 1000
        assert not recording.complete
        program.communicate(b"", timeout=30)
    assert recording.complete


# -- the package -------------------------------------------------------------------------------------------


def test_the_import_is_lean() -> None:
    code = (
        "import sys; before = set(sys.modules); import memheft; memheft.__all__, dir(memheft)\n"
        "print(sorted(set(sys.modules) - before)); memheft.Error\n"
        "assert 'memheft._engine' not in sys.modules\n"
        "memheft.View, memheft.Recording, memheft.record(); assert 'memheft._engine' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment({}), capture_output=True, text=True, check=True
    )
    assert done.stdout == "['memheft', 'memheft._version']\n"


def test_all_is_there() -> None:
    for name in memheft.__all__:
        assert getattr(memheft, name).__doc__ or name == "__version__"
    assert set(memheft.__all__) <= set(dir(memheft))
    with pytest.raises(AttributeError, match="nothing_such"):
        memheft.nothing_such  # type: ignore[attr-defined]  # noqa: B018


def test_without_an_engine(workplace: Workplace) -> None:
    """An interpreter for which memheft was not built: one line, of our own kind."""
    result = workplace.python(
        "-c",
        "import sys; sys.modules['memheft._engine'] = None; import memheft\n"
        "for use in (memheft.record().start, lambda: memheft.open('x.heft')):\n"
        "  try: use()\n  except memheft.Error as e: print(e)",
    )
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert len(lines) == 2
    assert all("cannot be loaded into CPython" in line for line in lines)


# -- views -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> memheft.Recording:
    return memheft.open(ROOT / "tests/golden/format-1.heft")


@pytest.fixture(scope="module")
def small() -> memheft.Recording:
    with memheft.record() as recording:
        kept = work(), json.loads(json.dumps({str(i): [i] for i in range(1000)}))
    del kept
    return recording


GROUPINGS = ("line", "function", "file", "module", "thread", "stack")


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("moment", ["peak", "live", "total", "temporary"])
def test_rows_are_those_of_the_report(golden: memheft.Recording, moment: str, by: Any) -> None:
    view: memheft.View = getattr(golden, moment).by(by)
    document: Any = view.to_dict()
    schema.check(document)
    assert len(view) == len(document["rows"])
    assert view.total_bytes == document["totals"]["bytes"] == sum(row.bytes for row in view)
    assert view.total_blocks == document["totals"]["blocks"] == sum(row.blocks for row in view)
    for row, expected in zip(view, document["rows"], strict=True):
        for key in ("bytes", "blocks", "inclusive_bytes", "inclusive_blocks", "file", "line", "function"):
            if key in expected:
                assert getattr(row, key) == expected[key]
        for key in ("module", "thread", "thread_id", "first_ns", "last_ns"):
            assert getattr(row, key) == expected.get(key, getattr(row, key))
        for key in ("owner", "caller"):
            frame, its_bytes = getattr(row, key), getattr(row, key + "_bytes")
            assert (frame is None) == (key not in expected)
            if frame is not None:
                assert (frame.file, frame.line) == (expected[key]["file"], expected[key]["line"])
                assert its_bytes == expected[key + "_bytes"]
        if by == "stack":
            assert row.stack is not None
            assert [frame.function for frame in row.stack] == [f["function"] for f in expected["stack"]]
            assert row.function == row.stack[0].function
    assert [row.bytes for row in view] == sorted((row.bytes for row in view), reverse=True)


def test_views_are_sequences(small: memheft.Recording) -> None:
    view = small.live
    assert view[0] == next(iter(view)) == view[:1][0]
    assert view[-1] == list(view)[-1]
    assert len(view.top(1)) == 1
    assert view.top(1).total_bytes == view.total_bytes
    assert view.top(5).top(1)[0] == view[0]
    assert len(view.top(0)) == 0
    assert len(view.top(1).to_dict()["rows"]) == min(2, len(view))  # type: ignore[arg-type]  # and the rest
    assert view.by("thread")[0].thread == "MainThread"
    with pytest.raises(IndexError):
        view[10**6]
    with pytest.raises(ValueError, match="grouped by"):
        view.by("type")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        memheft.View()
    with pytest.raises(TypeError):
        memheft.Recording()


def test_filters(small: memheft.Recording) -> None:
    total = small.total
    own, stdlib = total.filter(only="own"), total.filter(only=["stdlib"])
    rest = total.filter(without=["own", "stdlib"])
    assert own.total_bytes + stdlib.total_bytes + rest.total_bytes == total.total_bytes
    assert stdlib.total_blocks > 0
    assert all(str(row.file).endswith("test_api.py") for row in own if row.bytes)
    assert total.filter(match="json").total_bytes == sum(r.bytes for r in total if "json" in str(r.file))
    assert total.filter(match=["json/*"]).total_bytes <= total.filter(match=("json",)).total_bytes
    assert total.filter(match="json").filter(match="decoder").total_bytes == sum(
        r.bytes for r in total if "json/decoder" in str(r.file)
    )
    assert own.filter(only="stdlib").total_bytes == 0
    assert list(own.filter(only="stdlib")) == [] or own.filter(only="stdlib")[0].bytes == 0
    charged = total.own()
    assert charged.total_bytes == total.total_bytes
    assert charged.filter(only="own").total_bytes >= own.total_bytes
    document: Any = charged.filter(only="own", match="test").by("file").to_dict()
    schema.check(document)
    assert document["view"]["filters"] == ["--own", "--only=own", "--match=test"]
    for wrong in ("mine", ["own", "other"]):
        with pytest.raises(ValueError, match="site-packages"):
            total.filter(only=wrong)  # type: ignore[arg-type]


def test_filters_are_compared_by_meaning(small: memheft.Recording) -> None:
    total = small.total
    either, both = total.filter(match=["json", "decoder"]), total.filter(match="json").filter(match="decoder")
    assert either.total_bytes > both.total_bytes > 0
    with pytest.raises(ValueError, match=r"cannot be compared: .* --match=json --match=decoder, and .* and "):
        either.diff(both)
    for one, other in (
        (either, total.filter(match=["decoder", "json"])),
        (both, total.filter(match="decoder").filter(match="json")),
        (
            total.filter(only="own"),
            total.filter(only=["own", "stdlib"]).filter(only=["own", "site-packages"]),
        ),
        (total.filter(match="json", without="own"), total.filter(without="own").filter(match="json")),
        (total.filter(region=["a", "b"]), total.filter(region=["b", "a"])),
        (total.own().filter(match="x"), total.filter(match="x").own()),
    ):
        assert one.diff(other).bytes_delta == 0
    for one, other in (
        (total.filter(only=["own", "stdlib"]), total.filter(only="own").filter(only="stdlib")),
        (total.filter(region=["a", "b"]), total.filter(region="a").filter(region="b")),
        (total, total.own()),
        (total, total.filter(match="json")),
    ):
        with pytest.raises(ValueError, match="cannot be compared"):
            one.diff(other)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([{"match": ["a", "b"]}, {"region": "r"}], "--match=a --match=b --region=r"),
        ([{"match": "a"}, {"match": ["b", "c"]}], "--match=a and --match=b --match=c"),
        ([{"without": "own"}, {"without": "stdlib"}], "--no-own --no-stdlib"),
        (
            [{"only": "own", "match": "a"}, {"only": ["own", "stdlib"], "match": "b"}, {"region": "r"}],
            "--only=own --match=a and --only=own --only=stdlib --match=b --region=r",
        ),
    ],
)
def test_how_filters_read(small: memheft.Recording, calls: list[dict[str, Any]], words: str) -> None:
    view = small.total
    for call in calls:
        view = view.filter(**call)
    document: Any = view.to_dict()
    schema.check(document)
    assert document["view"]["filters"] == words.split()
    assert repr(view).startswith(f"<memheft.View total by line {words}: ")


@pytest.mark.parametrize("name", ["only", "without", "match", "region"])
def test_filters_of_the_wrong_kind(small: memheft.Recording, name: str) -> None:
    for wrong, kind in ((Path("x"), "a PosixPath"), ([5], "an int"), (5, "an int"), ([None], "None")):
        with pytest.raises(TypeError, match=f"^{name} takes a text or several, not {kind}$"):
            small.total.filter(**{name: wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{name} was given no names"):
        small.total.filter(**{name: []})


def test_only_views_are_compared(small: memheft.Recording) -> None:
    for wrong, kind in ((None, "None"), (small, "a Recording")):
        with pytest.raises(TypeError, match=f"^a view is compared with a view, not with {kind}$"):
            small.total.diff(wrong)  # type: ignore[arg-type]


def test_temporary(small: memheft.Recording) -> None:
    sums = [small.temporary_within(n).total_bytes for n in (1, 2, 4)]
    assert sums == sorted(sums)
    assert sums[0] == small.temporary.total_bytes
    document: Any = small.temporary_within(2).to_dict()
    assert document["view"]["temporary"] == 2
    with pytest.raises(ValueError, match="1, 2 or 4"):
        small.temporary_within(3)  # type: ignore[arg-type]


def test_what_was_lost_is_said(workplace: Workplace) -> None:
    code = (
        "import memheft\nwith memheft.record() as r: kept = [0] * 1000\nprint(r.live, r.live._repr_html_())"
    )
    result = workplace.python("-c", code, environment={"MEMHEFT_FULL_WALK": "1"})
    assert result.code == 0, result.err
    assert "note: stacks were walked in full" in result.out
    assert "<p>note: stacks were walked in full" in result.out


def test_drawn(small: memheft.Recording, workplace: Workplace) -> None:
    view = small.live
    assert "live by line" in repr(view)
    assert "return [bytes(1000) for _ in" in str(view)
    for by in GROUPINGS:
        assert "<table>" in view.by(by)._repr_html_()  # type: ignore[arg-type]
        assert str(view.by(by)).startswith(f"live by {by}")  # type: ignore[arg-type]
    workplace.write("<b>&.py", "def f():\n    return ['<script>' + str(i) for i in range(1000)]\n")
    workplace.write(
        "app.py",
        "import memheft\nm = {}\n"
        "exec(compile(open('<b>&.py').read(), '/tmp/<b>&.py', 'exec'), m)\n"
        "with memheft.record() as r: kept = m['f']()\nprint(r.live._repr_html_())\n",
    )
    result = workplace.python("app.py")
    assert result.code == 0, result.err
    assert "&lt;b&gt;&amp;.py" in result.out
    assert "<b>" not in result.out


def test_what_sequences_can_do(small: memheft.Recording) -> None:
    for items in (small.total, small.total.diff(small.total), small.timeline):
        every: list[Any] = list(items)
        assert [items.index(one) for one in every] == [every.index(one) for one in every]
        assert all(items.count(one) == every.count(one) for one in every)
        assert list(reversed(items)) == every[::-1]
        assert every[-1] in items
        assert items.count(None) == 0
        for search in ((None,), (every[0], 1, 1)):
            with pytest.raises(ValueError, match="not in list"):
                items.index(*search)


@given(st.lists(st.sampled_from(["own", "stdlib", "site-packages"]), min_size=1), st.integers(0, 30))
def test_any_filter_keeps_the_sums(words: list[Any], n: int) -> None:
    view = memheft.open(ROOT / "tests/golden/format-1.heft").total.filter(without=words)
    for by in GROUPINGS:
        grouped = view.by(by)  # type: ignore[arg-type]
        assert sum(row.bytes for row in grouped) == view.total_bytes
        assert len(grouped.top(n)) == min(n, len(grouped))
        assert list(grouped.top(n)) == grouped[:n]


# -- differences -------------------------------------------------------------------------------------------


def test_only_what_makes_them_makes_them(small: memheft.Recording) -> None:
    for made in (memheft.Recording, memheft.View, memheft.Difference, memheft.Timeline):
        for arguments in ((), (small.peak, small.live)):
            with pytest.raises(TypeError):
                made(*arguments)
    with pytest.raises(TypeError, match="made by views"):
        memheft.Difference()


def test_diff(tmp_path: Path) -> None:
    recorder = memheft.record(tmp_path / "{n}.heft")
    kept = []
    for n in (500, 1500):
        with recorder:
            kept.append(work(n))
    before, after = (memheft.open(tmp_path / f"{n}.heft") for n in (1, 2))
    difference = before.diff(after)
    assert difference.bytes_delta == after.peak.total_bytes - before.peak.total_bytes
    assert difference.blocks_delta == sum(change.blocks_delta for change in difference)
    change = difference[0]
    assert str(change.function).startswith("work")
    assert change.line_before == change.line_after
    assert is_about(change.blocks_before, 500)
    assert is_about(change.blocks_after, 1500)
    assert change.bytes_delta == change.bytes_after - change.bytes_before
    assert len(difference.top(1)) == 1
    assert difference.top(1)[:5] == [change]
    assert "work" in str(difference)
    assert "<table>" in difference._repr_html_()
    assert "rows" in repr(difference)
    for by in GROUPINGS:
        one: Any = before.live.by(by).diff(after.live.by(by))  # type: ignore[arg-type]
        document = one.to_dict()
        schema.check(document)
        assert len(document["rows"]) == len(one)
        assert sum(row.bytes_delta for row in one) == one.bytes_delta
        assert one.top(0).to_dict()["rows"] == []
    assert before.live.by("stack").diff(after.live.by("stack"))[0].stack[0].file == __file__  # type: ignore[index]
    with pytest.raises(ValueError, match="cannot be compared"):
        before.live.diff(after.peak)
    assert before.diff(before).bytes_delta == 0


# -- over time ---------------------------------------------------------------------------------------------


def test_timeline(workplace: Workplace) -> None:
    text = """\
kept = [bytes(1000) for _ in range(10_000)]
del kept[5_000:]
for i in range(200_000):
    gone = [i]
"""
    path = workplace.record(text)
    recording = memheft.open(path)
    timeline = recording.timeline
    document = workplace.memheft("report", str(path), "--plot", "--json").json
    assert timeline.interval_ns == document["interval_ns"]
    assert [point.live_bytes for point in timeline] == document["live_bytes"]
    assert [point.resident_bytes for point in timeline] == document["resident_bytes"]
    assert [point.time_ns for point in timeline] == [i * timeline.interval_ns for i in range(len(timeline))]
    assert 2 < len(timeline) <= 500
    assert timeline[-1] == timeline[:][-1] == list(timeline)[-1]
    peak = recording.peak.total_bytes
    assert 10_000_000 < max(point.live_bytes for point in timeline) <= peak < 12_000_000
    assert 5_000_000 < timeline[-1].live_bytes < 6_000_000
    assert any((point.resident_bytes or 0) > 10_000_000 for point in timeline)
    assert re.fullmatch(r"<memheft.Timeline: \d+ points in .* s, at most .* MiB live>", repr(timeline))
    with pytest.raises(TypeError, match="made by recordings"):
        memheft.Timeline()


def test_timeline_without_points() -> None:
    """An earlier format has none."""
    timeline = memheft.open(ROOT / "tests/golden/format-1.heft").timeline
    assert (len(timeline), timeline.interval_ns, list(timeline)) == (0, 0, [])
    assert repr(timeline) == "<memheft.Timeline, empty>"


# -- Arrow -------------------------------------------------------------------------------------------------

COLUMNS = ["bytes", "blocks", "inclusive_bytes", "inclusive_blocks", "first_ns", "last_ns"]


@pytest.mark.parametrize("by", GROUPINGS)
def test_pyarrow(golden: memheft.Recording, by: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    view = golden.total.by(by)
    table = pa.table(view)
    table.validate(full=True)
    assert table.num_rows == len(view)
    assert table.column_names[:6] == COLUMNS
    rows = table.to_pylist()
    assert sum(row["bytes"] for row in rows) == view.total_bytes
    for row, expected in zip(rows, view, strict=True):
        for name in COLUMNS:
            assert row[name] == getattr(expected, name)
        named = ("file", "line", "function", "module", "thread", "thread_id", "owner_bytes", "bytes_error")
        for name in named:
            assert name not in row or row[name] == getattr(expected, name)
        for name in ("owner", "caller") if by == "line" else ():
            of = getattr(expected, name)
            place = (of.file, of.line, of.function) if of is not None else (None, None, None)
            assert tuple(row[f"{name}_{inner}"] for inner in ("file", "line", "function")) == place
            assert row[f"{name}_bytes"] == getattr(expected, f"{name}_bytes")
        if by == "stack":
            assert row["stack"].count(";") == len(expected.stack or ()) - 1
            assert row["stack"].rpartition(";")[2].startswith(str(expected.function))
    empty = pa.table(golden.total.filter(only="own").filter(only="stdlib").by(by).top(0))
    empty.validate(full=True)
    assert empty.num_rows == 0
    assert empty.schema == table.schema


def test_pyarrow_of_a_timeline(small: memheft.Recording) -> None:
    pa = pytest.importorskip("pyarrow")
    for timeline in (small.timeline, memheft.open(ROOT / "tests/golden/format-1.heft").timeline):
        table = pa.table(timeline)
        table.validate(full=True)
        assert [field.type for field in table.schema] == [pa.int64()] * 3
        assert [memheft.Point(**row) for row in table.to_pylist()] == list(timeline)
    assert len(small.timeline)


@pytest.mark.parametrize("by", GROUPINGS)
def test_pyarrow_of_a_difference(tmp_path: Path, by: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    recorder = memheft.record(tmp_path / "{n}.heft")
    kept = []
    for n in (500, 1500):
        with recorder:
            kept.append(work(n))
    before, after = (memheft.open(tmp_path / f"{n}.heft").live.by(by) for n in (1, 2))
    difference = before.diff(after)
    table = pa.table(difference)
    table.validate(full=True)
    assert table.num_rows == len(difference)
    named = [name for name in table.column_names if not name.endswith("_error")]
    assert named[:6] == list(memheft.Change._fields[:6])
    for row, change in zip(table.to_pylist(), difference, strict=True):
        for name in named:
            if name == "stack" or (by == "stack" and name in ("file", "line", "function", "module")):
                continue
            expected = getattr(change, name)
            if name in ("region", "imports"):
                expected = {"region": " / ", "imports": " "}[name].join(expected) or None
            assert row[name] == expected, name
        assert not any(row[name] for name in table.column_names if name.endswith("_error"))
        if by == "stack":
            assert row["stack"].count(";") == len(change.stack or ()) - 1
    sums = [sum(table[name].to_pylist()) for name in ("bytes_delta", "blocks_delta")]
    assert sums == [difference.bytes_delta, difference.blocks_delta]
    assert pa.table(difference.top(1)).num_rows == min(1, len(difference))
    assert pa.table(difference.top(0)).schema == table.schema


def test_polars(small: memheft.Recording) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(small.total.by("stack"))
    assert frame["bytes"].sum() == small.total.total_bytes
    assert frame["module"].to_list() == [row.module for row in small.total.by("stack")]
    for items in (small.total.by("stack"), small.total.diff(small.total), small.timeline):
        assert pl.DataFrame(items).columns == pytest.importorskip("pyarrow").table(items).column_names


def test_duckdb_and_pandas(small: memheft.Recording) -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    view = small.total.by("file")
    found = duckdb.sql("select sum(bytes), count(*) from view").fetchall()
    assert found == [(view.total_bytes, len(view))]
    pd = pytest.importorskip("pandas")
    if hasattr(pd.DataFrame, "from_arrow"):
        assert pd.DataFrame.from_arrow(view)["blocks"].sum() == view.total_blocks


CELL = st.one_of(st.none(), st.text(st.characters(codec=None, exclude_categories=()), max_size=20))


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), CELL)))
def test_any_column(cells: list[tuple[int | None, str | None]]) -> None:
    pa = pytest.importorskip("pyarrow")
    from memheft import _engine

    class Table:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            numbers, texts = [cell[0] for cell in cells], [cell[1] for cell in cells]
            return _engine.arrow_stream([("n", "int64", numbers), ("t", "utf8", texts)])

    table = pa.table(Table())
    table.validate(full=True)
    assert table["n"].to_pylist() == [number for number, _ in cells]
    expected = [text and text.encode("utf-8", "backslashreplace").decode() for _, text in cells]
    assert table["t"].to_pylist() == expected


def test_columns_that_are_none() -> None:
    from memheft import _engine

    wrong: list[tuple[Any, type[Exception]]] = [
        (3, TypeError),
        ([3], TypeError),
        ([("n", "int64")], TypeError),
        ([("n", "float", [])], ValueError),
        ([("n", "int64", [1, "x"])], TypeError),
        ([("n", "int64", [2**63])], OverflowError),
        ([("t", "utf8", [b"x"])], TypeError),
        ([("n", "int64", [1]), ("t", "utf8", [])], ValueError),
    ]
    for columns, error in wrong:
        with pytest.raises(error):
            _engine.arrow_stream(columns)

    class Shrinks:
        def __index__(self) -> int:
            cells.clear()
            return 1

    cells: list[Any] = [Shrinks() for _ in range(100)]
    with pytest.raises(TypeError):
        _engine.arrow_stream([("n", "int64", cells)])
    assert len(cells) == 100


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between instructions only")
def test_a_column_that_shrinks_while_it_is_read() -> None:
    """A finalizer empties it, at one of the requests that reading a lone surrogate takes."""
    from memheft import _engine

    class Empties:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            cells.clear()

    usual, emptied = gc.get_threshold(), 0
    for requests in range(12):
        cells = ["\udc80"] * 100
        columns: Any = [("n", "int64", list(range(100))), ("t", "utf8", cells)]
        gc.collect()
        gc.disable()
        Empties()
        refused = False
        gc.set_threshold(gc.get_count()[0] + requests)
        gc.enable()
        try:
            _engine.arrow_stream(columns)
        except ValueError:
            refused = True
        finally:
            gc.set_threshold(*usual)
        assert refused == (not cells)
        emptied += refused
    assert emptied > 0


def test_tables_never_read() -> None:
    from memheft import _engine

    for _ in range(100):
        texts: list[str | None] = ["text"] * 1000
        _engine.arrow_stream([("t", "utf8", texts)])  # never read: freed with the capsule
