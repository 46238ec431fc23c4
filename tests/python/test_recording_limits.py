"""Full disks, lost files, few descriptors, little memory, early readers: the program never notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import recording_tools as tools
from conftest import MEMHEFT, Workplace
from recording_tools import CLOSED, FLAG_DISK_FULL, FLAG_FILE_GONE, HEAD, RUNNING, Recorded, is_about

from memheft import _engine

# Very many call paths, names and lines, each of which keeps one block: the recording has to grow.
GROWS = """\
import sys
kept = [None] * {number}
def grow(first, last):
    for start in range(first, last, 100):
        text = "\\n".join(f"def f{{k}}(i):\\n  kept[i] = bytes(600)" for k in range(100))
        names = {{"kept": kept}}
        exec(compile(text, f"/nowhere/text{{start}}.py", "exec"), names)
        for k in range(100):
            names[f"f{{k}}"](start + k)
"""
NUMBER = 4000
FEW = GROWS.format(number=NUMBER) + f"grow(0, {NUMBER})\n"
KEPT = NUMBER * (600 + HEAD)


def grown(recorded: Recorded) -> tuple[int, int]:
    """What was kept by the functions of the texts, wherever it was charged."""
    size = blocks = 0
    for file, _, function, number, count in recorded.rows("live"):
        if (file.startswith("/nowhere/text") and function != "<module>") or file.endswith("/app.py"):
            size, blocks = size + number, blocks + count
    return size, blocks


@contextmanager
def small_disk(place: Workplace, size: str) -> Iterator[Path]:
    folder = place.folder / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# -- the disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["256k", "300k", "400k", "800k"])
def test_a_disk_that_becomes_full(workplace: Workplace, size: str) -> None:
    """Output and exit code as without us; paths that find no room are charged to callers, and we say so."""
    text = FEW + "print('done', len(kept))\nsys.exit(5)\n"
    with small_disk(workplace, size) as disk:
        workplace.write("app.py", text)
        bare = workplace.python("app.py")
        result = workplace.memheft("run", "-o", f"{disk}/app.heft", "app.py")
        assert (result.code, result.out) == (bare.code, bare.out) == (5, f"done {NUMBER}\n")
        assert result.err.startswith(bare.err)
        assert "the disk was full" in result.err
        recorded = Recorded(disk / "app.heft", text, result)
        recorded.check_sums()
        assert recorded.header["flags"] & FLAG_DISK_FULL
        assert recorded.header["cut_events"] > 0
        assert recorded.header["state"] == CLOSED
        assert recorded.totals["live_bytes"] > KEPT
        assert grown(recorded)[0] >= KEPT
        document = workplace.memheft("report", str(disk / "app.heft"), "--json", "--live").json
        assert document["recording"]["cut_events"] > 0
        assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"]
        # What found no room below the thread ran in Python: it is not the interpreter's.
        for words in ([], ["--own"]):
            document = workplace.memheft("report", str(disk / "app.heft"), "--json", "--total", *words).json
            charged = {row["file"]: row["blocks"] for row in document["rows"]}
            assert charged.get("<interpreter>", 0) < 1000


def test_the_program_fills_the_disk_itself(workplace: Workplace) -> None:
    """What the recorder has is its own: nothing that is written to later can be missing."""
    with small_disk(workplace, "4m") as disk:
        text = GROWS.format(number=6000) + (
            "import os\n"
            "def fill():\n"
            "    written = 0\n"
            "    try:\n"
            "        while True:\n"
            "            written += file.write(bytes(4096))\n"
            "    except OSError as error:\n"
            "        print(error.strerror, written > 1_000_000)\n"
            f"file = open({str(disk / 'other')!r}, 'wb', buffering=0)\n"
            "for first, last in ((0, 500), (500, 2500), (2500, 6000)):\n"
            "    grow(first, last)\n"
            "    if first == 0:\n"
            "        fill()\n"
            "    else:\n"
            "        file.truncate(0)\n"
        )
        workplace.write("app.py", text)
        result = workplace.memheft("run", "-q", "-o", f"{disk}/app.heft", "app.py")
        assert (result.code, result.out, result.err) == (0, "No space left on device True\n", "")
        recorded = Recorded(disk / "app.heft", text, result)
        recorded.check_sums()
        assert recorded.header["flags"] & FLAG_DISK_FULL
        assert grown(recorded)[0] >= 6000 * (600 + HEAD)


def test_the_largest_file_allowed(workplace: Workplace) -> None:
    """RLIMIT_FSIZE, set by the program: beyond it there is no growth, and no SIGXFSZ."""
    text = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n" + FEW
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    assert recorded.header["cut_events"] > 0
    assert grown(recorded)[0] >= KEPT


# -- the file ----------------------------------------------------------------------------------------------


def test_the_signal_of_the_largest_file(workplace: Workplace) -> None:
    """A program that would die of SIGXFSZ has written no file of that size: neither may we."""
    text = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    ) + FEW
    recorded = tools.record(workplace, text)
    assert recorded.header["flags"] & FLAG_DISK_FULL
    recorded.check_sums()


def test_deleted_and_replaced(workplace: Workplace) -> None:
    """The name is somebody else's now: what lies there is not ours to touch."""
    text = GROWS.format(number=NUMBER) + (
        "import os\n"
        "grow(0, 100)\n"
        "os.unlink('app.heft')\n"
        "with open('app.heft', 'w') as file:\n"
        "    file.write('precious' * 100_000)\n"
        f"grow(100, {NUMBER})\n"
        "print(len(kept))\n"
    )
    workplace.write("app.py", text)
    result = workplace.memheft("run", "-o", "app.heft", "app.py")
    assert (result.code, result.out) == (0, f"{NUMBER}\n")
    assert (workplace.folder / "app.heft").read_text() == "precious" * 100_000
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("memheft: ")


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_moved(workplace: Workplace, closed: bool) -> None:
    """It goes on under its new name as long as we hold it; who closes our descriptor too cuts its paths."""
    text = GROWS.format(number=NUMBER) + (
        "import os\n"
        "grow(0, 100)\n"
        "os.rename('app.heft', 'moved.heft')\n"
        + "os.closerange(3, 70_000)\n" * closed
        + f"grow(100, {NUMBER})\n"
    )
    workplace.write("app.py", text)
    result = workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    assert (result.code, result.err) == (0, "")
    recorded = Recorded(workplace.folder / "moved.heft", text, result)
    recorded.check_sums()
    assert bool(recorded.header["flags"] & FLAG_FILE_GONE) is closed
    assert bool(recorded.header["cut_events"]) is closed
    assert grown(recorded)[0] >= KEPT
    assert not (workplace.folder / "app.heft").exists()


# -- descriptors -------------------------------------------------------------------------------------------

CLOSES = """\
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
grow(0, 100)
{close}
os.chdir("/")
files = []
for i in range(60):
    files.append(os.open(f"{folder}/file{{i}}", os.O_RDWR | os.O_CREAT))
    os.write(files[-1], b"precious" * 1000)
{after}
grow(100, len(kept))
for i, fd in enumerate(files):
    with open(f"{folder}/file{{i}}", "rb") as file:
        assert file.read() == b"precious" * 1000, i
    assert os.fstat(fd).st_size == 8000, i
"""


@pytest.mark.parametrize(
    ("close", "after"),
    [
        ("os.closerange(3, 2000)", ""),
        ("os.closerange(3, 2000)", "os.closerange(900, 1100)"),
        (
            "for name in os.listdir('/proc/self/fd'):\n    if int(name) > 3: os.close(int(name))",
            "",
        ),
        # every number that could be ours becomes a file of the program's
        ("", "for fd in range(100, min(soft, 1024)):\n    os.dup2(files[fd % 60], fd)"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))", ""),
    ],
    ids=["closerange", "twice", "listed", "replaced", "fewer"],
)
def test_descriptors(workplace: Workplace, close: str, after: str) -> None:
    """A program that closes all it finds, or puts its own files there, keeps these; the recording goes on."""
    (workplace.folder / "files").mkdir()
    text = GROWS.format(number=NUMBER) + CLOSES.format(
        close=close, after=after, folder=workplace.folder / "files"
    )
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    assert recorded.header["flags"] == 0
    assert recorded.header["cut_events"] == 0
    assert grown(recorded)[0] >= KEPT
    functions = [
        row for row in recorded.rows("live") if row[0].startswith("/nowhere") and row[2] != "<module>"
    ]
    assert len({row[:3] for row in functions}) == NUMBER


@pytest.mark.parametrize("number", [8, 16, 64])
def test_few_descriptors(workplace: Workplace, number: int) -> None:
    """The program finds as many as it would without us."""
    text = (
        "import os\n"
        "opened = []\n"
        "try:\n"
        "    while True:\n"
        "        opened.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError as error:\n"
        "    print(error.errno, opened[:3])\n"
        "taken = len(opened)\n"
        "for fd in opened:\n"
        "    os.close(fd)\n"
    ) + FEW
    workplace.write("app.py", text)
    limit = f"ulimit -n {number}; exec "
    bare = workplace.command(["sh", "-c", f"{limit} {sys.executable} app.py"])
    command = " ".join([*MEMHEFT, "run -q -o app.heft app.py"])
    result = workplace.command(["sh", "-c", limit + command])
    assert (result.code, result.out, result.err) == (bare.code, bare.out, bare.err)
    recorded = Recorded(workplace.folder / "app.heft", text, result)
    recorded.check_sums()
    assert grown(recorded)[0] >= KEPT


# -- memory ------------------------------------------------------------------------------------------------


def test_one_gibibyte_of_address_space(workplace: Workplace) -> None:
    """Room enough for the tree of an ordinary program, and for the program."""
    text = (
        FEW + "import threading\nt = threading.Thread(target=bytes, args=(1 << 20,))\nt.start()\nt.join()\n"
    )
    workplace.write("app.py", text)
    command = " ".join([*MEMHEFT, "run -q -o app.heft app.py"])
    result = workplace.command(["sh", "-c", f"ulimit -v 1048576; exec {command}"])
    assert (result.code, result.out, result.err) == (0, "", "")
    recorded = Recorded(workplace.folder / "app.heft", text, result)
    recorded.check_sums()
    assert recorded.header["cut_events"] == 0
    assert grown(recorded)[0] >= KEPT


@pytest.mark.parametrize("block", [40, 700, 3_000_000])
def test_memory_that_runs_out(workplace: Workplace, block: int) -> None:
    """The program catches MemoryError and goes on; the recording says what it holds, or counts a loss."""
    text = f"""\
import resource
kept = [None] * 20_000_000
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
here = pages * 4096 + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (here, here))
i = 0
try:
    while True:
        kept[i] = bytes({block})  # @kept
        i += 1
except MemoryError:
    pass
print(i)
try:
    large = bytes(1 << 30)  # @large
except MemoryError:
    pass
for k in range(i // 2):
    kept[k] = None
more = [bytes(500) for _ in range(1000)]  # @more
"""
    recorded = tools.record(workplace, text)
    assert recorded.result.err == ""
    number = int(recorded.result.out)
    assert number * block > 30 << 20
    lost = recorded.header["lost_events"]
    _, blocks = recorded.at("kept", "total")
    assert number - lost <= blocks <= number + 40  # and what the allocator keeps of its arenas
    if lost == 0:
        recorded.check_sums()
        assert 0 <= recorded.at("kept")[1] - (number - number // 2) <= 40
    assert recorded.at("large", "total")[0] < 10_000
    assert recorded.at("more")[1] in range(1001 - lost, 1004)


def test_the_end_comes_while_no_arena_can_be_had(workplace: Workplace) -> None:
    """Small requests that pymalloc passes on, down to the very last one, leave nobody inside the lock."""
    text = """\
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
            kept[n] = object()  # @kept
            n += 1
    except MemoryError:
        pass
fill()
"""
    recorded = tools.record(workplace, text)
    assert recorded.result.err == ""
    assert recorded.header["state"] == CLOSED
    assert recorded.at("kept")[1] > 100_000


# -- readers that come early -------------------------------------------------------------------------------


def test_reading_while_the_program_waits(workplace: Workplace) -> None:
    text = """\
import sys
kept = [None] * 10_000
print("ready", flush=True)
place = 0
for line in sys.stdin:
    size = int(line)
    for i in range(1000):
        kept[place] = bytes(size)  # @kept
        place += 1
    print("ready", flush=True)
"""
    with tools.running(workplace, text) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        expected = 0
        for turn, size in enumerate([100, 600, 5000], 1):
            process.stdin.write(b"%d\n" % size)
            process.stdin.flush()
            assert process.stdout.readline() == b"ready\n"
            expected += 1000 * (size + HEAD)
            document = report(workplace, "--live")
            assert document["recording"]["complete"] is False
            assert document["recording"]["exit_code"] is None
            assert document["totals"]["peak_bytes"] >= document["totals"]["live_bytes"] > expected
            row = next(row for row in document["rows"] if row["line"] == 8)
            assert is_about((row["bytes"], row["blocks"]), expected, 1000 * turn)
            assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"]
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, b"")
    document = report(workplace, "--live")
    assert document["recording"]["complete"] is True
    assert document["recording"]["exit_code"] == 0


def report(place: Workplace, *words: str) -> Any:
    result = place.memheft("report", "app.heft", "--json", *words)
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


@pytest.mark.parametrize("kind", ["steady", "growing"])
def test_reading_while_the_program_works(workplace: Workplace, kind: str) -> None:
    """At any moment the file can be read, and what it says only grows where it can only grow."""
    body = (
        "while True:\n    grow(0, len(kept))\n"
        if kind == "growing"
        else ("while True:\n    for i in range(len(kept)):\n        kept[i] = [bytes(100), bytes(5000)]\n")
    )
    text = GROWS.format(number=NUMBER) + "print('ready', flush=True)\n" + body
    with tools.running(workplace, text) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        before = (0, 0, 0)
        deadline = time.monotonic() + 1.0
        reads = 0
        while time.monotonic() < deadline:
            recording = _engine.Recording(str(workplace.folder / "app.heft"))
            header, totals = recording.header, recording.totals
            assert header["state"] == RUNNING
            now = (totals["allocated_bytes"], totals["allocated_blocks"], header["node_n"])
            assert all(one >= two for one, two in zip(now, before, strict=True))
            before = now
            live = recording.view("live", 1, bytes(len(recording.files)), False, 15, None)
            assert sum(row[0] for row in live.rows("line")) == live.total_bytes
            assert 0 < live.total_bytes < 100 << 20
            assert totals["peak_bytes"] < 100 << 20
            reads += 1
        assert reads > 5
        assert process.poll() is None
        process.kill()
        process.wait(20)
