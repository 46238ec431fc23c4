"""The views alone: over the plain-Python engine, and that engine against the real one."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_engine
import pytest
import schema

from memheft.program import size_of
from memheft.views import names, sizes, text
from memheft.views.table import Column, Place, Table, draw_plain

MIB = 1 << 20
APP, CSV, SITE = (
    "/home/u/app/load.py",
    "/usr/lib/python3.12/csv.py",
    "/v/lib/python3.12/site-packages/lib/deep/mod.py",
)
SOURCE = "import csv\n\n\ndef read():\n    return list(csv.reader([]))\n\n\nread()\n"


def stack(
    frames: list[list[Any]], size: int, blocks: int = 1, thread: int = 0, **other: list[int]
) -> dict[str, Any]:
    numbers = [size, blocks]
    moments = {"peak": numbers, "live": numbers, "total": numbers, "temporary": [0, 0]} | other
    return {"thread": thread, "frames": frames, **moments}


MAIN = [APP, 8, 1, "<module>", "__main__", None]
READ = [APP, 5, 12, "read", "__main__", None]
SITE_CALLER = [SITE, 9, 1, "use", "lib.deep.mod", None]
CSV_CALLER = [CSV, 20, 1, "helper", "csv", None]
MODEL = {
    "meta": {
        "command": ["python", "load.py"],
        "script": "load.py",
        "kind": "script",
        "cwd": "/home/u/app",
        "python": "3.12.1",
        "started": "2026-11-24T08:23:11.123Z",
        "stdlib": ["/usr/lib/python3.12"],
        "site": ["/v/lib/python3.12/site-packages"],
    },
    "stacks": [
        stack([READ, MAIN], 600 * MIB, 12_000_000),
        stack([[CSV, 178, 9, "DictReader.__next__", "csv", None], READ, MAIN], 300 * MIB, 412_000),
        stack([[SITE, 1234, 1, "outer.<locals>.inner", "lib.deep.mod", None], MAIN], 90 * MIB, 37),
        stack([[APP, 1, 1, "<module>", "__main__", "csv"]], 9 * MIB, 100),
        stack([], 1 * MIB, 50),
        *(stack([[SITE, i, 1, f"small{i}", "lib.deep.mod", None], MAIN], 1000 + i) for i in range(1, 31)),
    ],
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """memheft with the plain-Python engine."""
    import memheft
    import memheft._engine
    import memheft.cli.open
    import memheft.views.recording

    monkeypatch.setitem(sys.modules, "memheft._engine", fake_engine)
    monkeypatch.setattr(memheft, "_engine", fake_engine)
    monkeypatch.setattr(memheft.views.recording, "_engine", fake_engine)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "load.heft"
    path.write_text(json.dumps(MODEL))
    yield path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    from memheft.cli.main import main

    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
        assert main(list(words)) == 0
        return raw.getvalue().decode("utf-8")


def test_report_text(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, "report", str(fake), "--limit", "6").splitlines() == [
        "load.py: 0.977 GiB in 12.4 M blocks at the peak, 9.1 s after the start",
        " share      size  blocks  line                        source or caller",
        "  60 %   600 MiB  12.0 M  load.py:5 read",
        "  30 %   300 MiB   412 k  csv.py:178 __next__         <- load.py:5 read",
        " 9.0 %  90.0 MiB      37  lib/deep/mod.py:1234 inner  <- load.py:8 <module>",
        " 0.9 %  9.00 MiB     100  load.py:1 <module>          (import of csv)",
        " 0.1 %  1.00 MiB      50  <interpreter>               (no Python code was runni…",
        "<0.1 %  1.01 KiB       1  lib/deep/mod.py:30 small30  <- load.py:8 <module>",
        "<0.1 %  28.7 KiB      29  (29 others)",
    ]


@pytest.mark.parametrize(
    ("carried", "note"),
    [
        ({"read": 1000}, "<- load.py:5 read"),
        ({"read": 900, "<module>": 100}, "<- load.py:5 read"),
        ({"read": 620, "<module>": 380}, "<- load.py:5 read (62 %)"),
        ({"read": 340, "<module>": 330, "": 330}, "<- load.py:5 read (34 %)"),
        ({"read": 300, "<module>": 400, "": 300}, "<- load.py:8 <module> (40 %)"),
        ({"read": 400, "": 600}, ""),
        ({"read": 2, "": 998}, ""),
        ({"": 1000}, ""),
    ],
    ids=str,
)
def test_whom_a_library_worked_for(
    fake: Path, monkeypatch: pytest.MonkeyPatch, carried: dict[str, int], note: str
) -> None:
    """A line of one's own is named when it carries much of a library's, never when it carries a crumb."""
    library = [SITE, 7, 1, "helper", "lib.deep.mod", None]
    callers = {"read": [READ, MAIN], "<module>": [MAIN], "": []}
    stacks = [stack([library, *callers[name]], size * MIB) for name, size in carried.items()]
    fake.write_text(json.dumps(MODEL | {"stacks": stacks}))
    line = run(monkeypatch, "report", str(fake)).splitlines()[2]
    assert line.partition("mod.py:7 helper")[2].strip() == note
    row = json.loads(run(monkeypatch, "report", str(fake), "--json"))["rows"][0]
    assert ("owner" in row) == ("owner_bytes" in row)
    if note:
        assert row["owner_bytes"] == max(carried.values()) * MIB
    for columns in range(45, 90):  # a name may be cut, the share may not: a bare name would mean nearly all
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = run(monkeypatch, "report", str(fake)).splitlines()[2]
        assert text.width(shown) <= columns
        if "<-" in shown and "%" in note:
            assert shown.endswith(note[-7:])
    monkeypatch.delenv("COLUMNS")


@pytest.mark.parametrize(
    ("callers", "note", "key"),
    [
        ([SITE_CALLER], "<- lib/deep/mod.py:9 use", "caller"),
        ([CSV_CALLER, SITE_CALLER], "<- lib/deep/mod.py:9 use", "caller"),
        ([SITE_CALLER, MAIN], "<- load.py:8 <module>", "owner"),
        ([CSV_CALLER], "", None),
    ],
    ids=str,
)
def test_whom_the_standard_library_worked_for(
    fake: Path, monkeypatch: pytest.MonkeyPatch, callers: list[Any], note: str, key: str | None
) -> None:
    """An installed command has no code of one's own: the package that called is named instead."""
    read = [CSV, 178, 9, "DictReader.__next__", "csv", None]
    fake.write_text(json.dumps(MODEL | {"stacks": [stack([read, *callers], MIB)]}))
    assert run(monkeypatch, "report", str(fake)).splitlines()[2].partition("__next__")[2].strip() == note
    row = json.loads(run(monkeypatch, "report", str(fake), "--json"))["rows"][0]
    assert {name for name in ("owner", "caller") if name in row} == ({key} if key else set())
    if key:
        assert row[f"{key}_bytes"] == MIB


def test_no_own_code(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "note: no file of this recording is your own code"
    for words in (["--own"], ["--own", "--tree"], ["--only", "own"]):
        assert says not in run(monkeypatch, "report", str(fake), *words)
    fake.write_text(json.dumps(MODEL | {"stacks": [stack([SITE_CALLER], MIB)]}))
    assert says not in run(monkeypatch, "report", str(fake))
    for words in (["--own"], ["--own", "--tree"], ["--only", "own"]):
        assert says in run(monkeypatch, "report", str(fake), *words)


def test_notes_of_imports(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source is shown as it is; what is none stands in brackets."""
    import zlib

    text = "import csv\nfrom lib import *\nload()\nload()\n"
    blob = zlib.compress(json.dumps({"files": {APP: {"text": text}}}).encode())
    frozen = "<frozen importlib.util>"
    stacks = [
        stack([[APP, line, 1, "<module>", "__main__", name]], (100 - 10 * line - i) * MIB)
        for line, names in (
            (1, ["csv"]),
            (2, ["lib.a"]),
            (3, ["a", "b", "c"]),
            (4, ["a", "b", "c", "d", "e"]),
        )
        for i, name in enumerate(names)
    ]
    stacks += [stack([[frozen, 1, 1, "f", "importlib.util", None]], 2 * MIB)]
    stacks += [stack([[SITE, 1, 1, "g", "lib", "x"]], 1 * MIB)]
    fake.write_text(json.dumps(MODEL | {"source": blob.hex(), "stacks": stacks}))
    notes = {line.split("  ")[-1] for line in run(monkeypatch, "report", str(fake)).splitlines()[2:]}
    lines = run(monkeypatch, "report", str(fake))
    for note in (
        "import csv",
        "from lib import *  (import of lib.a)",
        "load()  (import of a, b, c)",
        "load()  (import of a, b, c, 2 more)",
        "(built into Python)",
        "(import of x)",
    ):
        assert f"  {note}\n" in lines, notes


def test_tree_text(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "report", str(fake), "--tree").splitlines()[1:] == [
        "share      size      here  calls",
        " 99 %   990 MiB            load.py:8 <module>",
        " 90 %   900 MiB   600 MiB  ├ load.py:5 read",
        " 30 %   300 MiB   300 MiB  │ csv.py:178 DictReader.__next__",
        "9.0 %  90.0 MiB  90.0 MiB  └ lib/deep/mod.py:1234 outer.<locals>.inner",
    ]
    assert run(monkeypatch, "report", str(fake), "--tree", "--inverted", "--fold", "2").splitlines()[1:] == [
        "share      size  called by",
        " 60 %   600 MiB  ├ load.py:5 read",
        "                 │ load.py:8 <module>",
        " 30 %   300 MiB  ├ csv.py:178 DictReader.__next__",
        "                 │ load.py:5 read",
        "                 │ load.py:8 <module>",
        "9.0 %  90.0 MiB  └ lib/deep/mod.py:1234 outer.<locals>.inner",
        "                   load.py:8 <module>",
    ]
    everything = run(monkeypatch, "report", str(fake), "--tree", "--fold", "0")
    assert "small7" in everything
    assert "smaller" not in everything
    few = run(monkeypatch, "report", str(fake), "--tree", "--fold", "0", "--limit", "1")
    assert "(31 smaller branches)" in few


def test_source_and_caller(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side where there is room; else the heading says what stands there."""

    def heading(stacks: list[Any], columns: int | None) -> tuple[str, list[str]]:
        fake.write_text(json.dumps(MODEL | {"stacks": stacks}))
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        lines = run(monkeypatch, "report", str(fake)).splitlines()
        assert columns is None or all(text.width(line) <= columns for line in lines[1:])
        return lines[1].partition(" line  ")[2].strip(), lines[2:]

    library, importing = [CSV, 178, 9, "read", "csv", None], [APP, 1, 1, "<module>", "__main__", "csv"]
    called, own = stack([library, MAIN], 2 * MIB), stack([importing], MIB)
    assert heading([called], 90)[0] == "caller"
    assert heading([own], 90)[0] == "source"
    assert heading([called, own], 149)[0] == "source or caller"
    for columns in (150, 200, None):
        title, rows = heading([called, own], columns)
        assert title.split() == ["caller", "source"]
        assert rows[0].endswith("csv.py:178 read     <- load.py:8 <module>")
        assert rows[1].endswith("(import of csv)")


def importing_twins() -> list[dict[str, Any]]:
    line = [APP, 1, 1, "<module>", "__main__"]
    return [
        stack([[SITE, i, 1, "<module>", name, None], [*line, name]], (9 - i) * MIB)
        for i, name in enumerate(("json", "csv", None))
    ]


def test_lines_that_differ_in_their_import(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import csv, json` is two rows of a tree: each says which, source or not."""
    import zlib

    blob = zlib.compress(json.dumps({"files": {APP: {"text": "import csv, json\n"}}}).encode())
    stacks = [entry for entry in importing_twins() if entry["frames"][1][5]]
    fake.write_text(json.dumps(MODEL | {"source": blob.hex(), "stacks": stacks}))
    for columns, gap in ((None, "  import csv, json  "), (120, "  import csv, json  "), (80, " ")):
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        shown = [
            line
            for line in run(monkeypatch, "report", str(fake), "--tree").splitlines()
            if "load.py:1" in line
        ]
        assert [line.partition("<module>")[2].strip() for line in shown] == [
            f"{gap}(import of {name})".strip() for name in ("json", "csv")
        ]
    fake.write_text(json.dumps(MODEL | {"source": blob.hex(), "stacks": stacks[:1]}))
    assert "(import of" not in run(monkeypatch, "report", str(fake), "--tree")


def test_a_deep_tree_on_a_narrow_terminal(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and names stay readable, and what hangs from what can be seen."""
    stacks: list[dict[str, Any]] = []
    path: list[list[Any]] = []
    for depth in range(40):
        path.insert(0, [APP, 1000 + depth, 1, f"name_{depth}", "__main__", None])
        stacks.append(stack([[CSV, depth + 1, 1, "leaf", "csv", None], *path], MIB))
    fake.write_text(json.dumps(MODEL | {"stacks": stacks}))
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(monkeypatch, "report", str(fake), "--tree", "--fold", "0").splitlines()[2:]
    assert all(text.width(line) <= 80 for line in lines)
    for depth in range(40):
        assert any(line.endswith(f"load.py:{1000 + depth} name_{depth}") for line in lines)
    ends = [max(line.find(mark) for mark in "├└") for line in lines if "name_" in line]
    falls = [i for i in range(1, len(ends)) if ends[i] <= ends[i - 1]]
    assert all(later - earlier > 2 for earlier, later in itertools.pairwise(falls))


@pytest.mark.parametrize("by", ["line", "function", "file", "module", "thread", "stack"])
@pytest.mark.parametrize(
    "words", [[], ["--own"], ["--live"], ["--total"], ["--limit", "2"], ["--no-own"]], ids=" ".join
)
def test_json(fake: Path, monkeypatch: pytest.MonkeyPatch, by: str, words: list[str]) -> None:
    document = json.loads(run(monkeypatch, "report", str(fake), "--json", "--by", by, *words))
    schema.check(document)
    assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"]
    assert sum(row["blocks"] for row in document["rows"]) == document["totals"]["blocks"]


@pytest.mark.parametrize("header", [
    {"pid": 0, "now_ns": 0, "rss_peak_bytes": 0, "tool_bytes": 0, "state": 1, "exit_status": -(2**31)},
    {"state": 1, "exit_status": 3, "flags": 4, "pid": 0},
    {"state": 1, "exit_status": -(2**31), "ended_ns": 7},
    {"state": 2, "exit_status": -9},
    {"state": 2, "exit_status": -(2**31)},
    {"flags": 31, "lost_events": 7, "cut_events": 9, "check_compared": 5, "check_mismatches": 1},
    {"mode": 1, "interval_bytes": 524288},
])  # fmt: skip
def test_headers(fake: Path, monkeypatch: pytest.MonkeyPatch, header: dict[str, int]) -> None:
    fake.write_text(json.dumps(MODEL | {"header": header}))
    document = json.loads(run(monkeypatch, "info", str(fake), "--json"))
    schema.check(document)
    recording = document["recording"]
    assert recording["complete"] is (header.get("state", 4) == 4)
    for key in ("pid", "duration_ns", "tool_bytes"):
        assert recording[key] is None or recording[key] > 0
    info, report = run(monkeypatch, "info", str(fake)), run(monkeypatch, "report", str(fake))
    if header.get("lost_events"):
        for said in ("7 blocks could not be recorded", "disk was full: some call paths were not kept",
                     "was deleted", "did not add up", "JIT", "in full"):  # fmt: skip
            assert said in info
            assert said in report
        assert "5 stacks compared, 1 mismatches" in info


def test_meta_of_any_kind(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description in a recording is not trusted."""
    metas: list[Any] = [{}, [], 3, None, {"cwd": 3, "stdlib": [1, None], "site": "x", "command": {}},
                 {"script": "\x1b[31m\n", "kind": "code", "code": 7, "host": "\ud800"}]  # fmt: skip
    for meta in metas:
        fake.write_text(json.dumps(MODEL | {"meta": meta}))
        for words in (
            ["info"],
            ["report"],
            ["report", "--tree"],
            ["report", "--own"],
            ["report", "--lines", "read"],
        ):
            assert "\x1b" not in run(monkeypatch, words[0], str(fake), *words[1:])
        schema.check(json.loads(run(monkeypatch, "info", str(fake), "--json")))


def test_sources_of_any_kind(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    bomb = zlib.compress(b" " * (200 << 20))
    good = zlib.compress(json.dumps({"files": {APP: {"text": SOURCE}}}).encode())
    for blob in (
        b"x",
        zlib.compress(b"[1"),
        zlib.compress(b"[1]"),
        zlib.compress(b'{"files": 3}'),
        bomb,
        good[:-9],
        zlib.compress(json.dumps({"files": {APP: 3, CSV: {"lines": 3}}}).encode()),
        zlib.compress(json.dumps({"files": {APP: {"text": 3}, CSV: {"lines": {"178": 3}}}}).encode()),
    ):
        fake.write_text(json.dumps(MODEL | {"source": blob.hex()}))
        assert "load.py:5 read" in run(monkeypatch, "report", str(fake))
        run(monkeypatch, "report", str(fake), "--lines", "load.py")
    fake.write_text(json.dumps(MODEL | {"source": good.hex()}))
    assert "return list(csv.reader([]))" in run(monkeypatch, "report", str(fake))
    annotated = run(monkeypatch, "report", str(fake), "--lines", "read")
    assert [line.split()[-1] for line in annotated.splitlines()[-2:]] == ["read():", "list(csv.reader([]))"]


def test_source_that_is_left_out(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    blob = zlib.compress(json.dumps({"files": {APP: {"text": "x = 1\n" * 30}}}).encode())

    def shown(line: int, *words: str) -> list[str]:
        frame = [APP, line, 1, "<module>", "__main__", None]
        fake.write_text(json.dumps(MODEL | {"source": blob.hex(), "stacks": [stack([frame], MIB)]}))
        lines = run(monkeypatch, "report", str(fake), "--lines", "load.py", *words).splitlines()[3:]
        return [line.split()[-4] if "x = 1" in line else line.strip() for line in lines]

    assert shown(15) == ["…", "13", "14", "15", "16", "17", "…"]
    assert shown(1) == ["1", "2", "3", "…"]
    assert shown(30) == ["…", "28", "29", "30"]
    assert shown(15, "--limit", "0") == [str(number) for number in range(1, 31)]


# -- the oracle ------------------------------------------------------------------------------------------

PROGRAM = """\
import json, threading, collections
class Tree:
    def __init__(self, depth):
        self.data = bytearray(depth * 10)
        self.left = Tree(depth - 1) if depth > 1 else None
        self.right = [Tree(depth - 2) for _ in range(2)] if depth > 2 else ()
def generate(n):
    for i in range(n):
        yield json.loads('{"a": [%d.5, "x%d"]}' % (i, i))
kept = list(generate(300))
trees = []
threads = [threading.Thread(target=lambda: trees.append(Tree(7)), name=f"t{i}") for i in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
counted = collections.Counter(str(i % 50) for i in range(1000))
del kept[100:]
"""


def as_model(real: Any, view: Any, moment: str) -> dict[str, Any]:
    """The stacks of a view of the real engine, for the plain one."""
    stacks = []
    for size, blocks, _, _, ids, thread, *_ in view.rows("stack"):
        frames = [[real.files[view.frames[i][0]], *view.frames[i][1:]] for i in ids]
        stacks.append(stack(frames, size, blocks, thread))
    return {"stacks": stacks, "threads": [list(thread) for thread in real.threads]}


@pytest.mark.parametrize("moment", ["peak", "live", "total", "temporary"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("keep", [15, 1, 14, 2])
def test_the_engine_against_plain_python(
    workplace: Any, tmp_path: Path, moment: Any, own: bool, keep: int
) -> None:
    from memheft.views.recording import Opened

    opened = Opened(str(workplace.record(PROGRAM)))
    whole = opened.engine.view(moment, 1, opened.classes, False, 15, None)
    path = tmp_path / "model"
    path.write_text(json.dumps(as_model(opened.engine, whole, moment)))
    plain = fake_engine.Recording(str(path))
    named = dict(zip(opened.files, opened.classes, strict=True))
    classes = bytes(named[name] for name in plain.files)
    expected = plain.view("peak", 1, classes, own, keep, None)
    view = opened.engine.view(moment, 1, opened.classes, own, keep, None)
    assert (view.total_bytes, view.total_blocks) == (expected.total_bytes, expected.total_blocks)
    for by in ("line", "function", "file", "module", "thread", "stack"):
        if own and by == "stack":
            continue
        # With --own a charge moves to another line; what lies under a line stays what it is, and the plain
        # engine does not know it.  Nor does it know what lies under a stack.
        part = slice(2) if own or by == "stack" else slice(4)
        one, two = readable(opened.files, view, by, part), readable(plain.files, expected, by, part)
        assert one == two, by
    for inverted in (False, True):
        if not own:
            assert paths(opened.files, view, inverted) == paths(plain.files, expected, inverted)


def readable(files: list[str], view: Any, by: Any, part: slice) -> dict[Any, tuple[int, ...]]:
    """Rows that hold something themselves, by names instead of numbers."""
    out = {}
    for row in view.rows(by):
        key = row[4]
        if by in ("line", "function"):
            key = (files[key[0]], *(sorted(part) if isinstance(part, tuple) else part for part in key[1:]))
            key = tuple(tuple(part) if isinstance(part, list) else part for part in key)
        elif by == "file":
            key = files[key]
        elif by == "stack":
            key = (tuple((files[view.frames[i][0]], *view.frames[i][1:]) for i in key), row[5])
        assert key not in out
        if row[0] or row[1]:
            out[key] = row[:4][part]
    return out


def paths(files: list[str], view: Any, inverted: bool) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The tree as a path from the root to each row."""
    out = {}
    path: list[Any] = []
    for depth, frame, thread, *rest in view.tree(inverted):
        numbers = rest[:4]
        del path[depth:]
        named = view.frames[frame] if frame >= 0 else None
        # Columns and instructions of one line are one row.
        path.append(
            (files[named[0]], named[1], named[3], named[4], named[5]) if named else ("thread", thread)
        )
        key = tuple(path)
        assert key not in out
        out[key] = tuple(numbers)
    return out


# -- small parts -----------------------------------------------------------------------------------------


def test_sizes_as_they_are_typed() -> None:
    """One grammar, for --sample, sample=, MEMHEFT=sample=... and --fail-above."""
    known = {"0": 0, "1_000_000": 10**6, " 7 b ": 7, "1.5k": 1500, "2kB": 2000, "2 KiB": 2048, "3Mi": 3 << 20}
    known |= {"1g": 10**9, "1GiB": 1 << 30, "1TiB": 1 << 40, "1PB": 10**15, "0.25EiB": 1 << 58, "0.4": 0}
    assert {text: size_of(text) for text in known} == known
    none = ["", " ", "b", "x", "KiB", "-5", "+5k", "1e6", "1__0", "_1", "1_", "1.", ".5", "1.5.2", "5 i"]
    none += ["5iB", "1kk", "1mk", "1bb", "1 000", "1 k B", "nan", "inf", "\u0663", "0x10", "9" * 400, "1,5"]
    assert [text for text in none if size_of(text) is not None] == []


def test_sizes() -> None:
    shown = {
        0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10_240: "10.0 KiB", 102_400: "100 KiB",
        1023 * 1024: "0.999 MiB", 50_541_363: "48.2 MiB", 1_975_684_956: "1.84 GiB", 433_061_888: "413 MiB",
        1 << 40: "1.00 TiB", -2048: "-2.00 KiB",
        1 << 62: "4.00 EiB",
    }  # fmt: skip
    for number, expected in shown.items():
        assert sizes.size(number) == expected
        digits = "".join(char for char in sizes.size(number).split()[0].lstrip("-0.") if char.isdigit())
        assert number < 1024 or len(digits) == 3
    counts = {0: "0", 37: "37", 999: "999", 1000: "1.0 k", 4120: "4.1 k", 412_000: "412 k", 999_700: "1.0 M",
              12_000_000: "12.0 M", 3_100_000: "3.1 M", 5_000_000_000: "5.0 G"}  # fmt: skip
    assert {number: sizes.count(number) for number in counts} == counts
    parts = ((61, 100), (0, 1), (1, 10_000), (995, 10_000), (0, 0), (1, 0))
    shares = ["61 %", "0 %", "<0.1 %", "10 %", "0 %", "- %"]
    assert [sizes.share(*pair) for pair in parts] == shares
    grown = [sizes.growth(1_000_000, after) for after in (1_000_001, 999_999, 1_004_000, 990_000, 5_000_000)]
    assert grown == ["<0.1 %", "<0.1 %", "+0.4 %", "-1.0 %", "+400 %"]
    assert [sizes.duration(n * 10**8) for n in (0, 1, 124, 999, 1000, 2000, 36_000, 90_000)] == [
        "0.00 s", "0.10 s", "12.4 s", "99.9 s", "1 min 40 s", "3 min 20 s", "1 h 0 min", "2 h 30 min",
    ]  # fmt: skip


def test_text() -> None:
    assert text.width("ab日本e\u0301") == 7
    assert text.cut("日本語", 4) == "日…"
    assert text.width(text.cut("日本語", 4)) <= 4
    assert text.pad("日", 4, right=True) == "  日"
    assert text.clean("a\tb\x1b[0m\n\udce9\u202eé") == "a    b\\x1b[0m\\n\\udce9\\u202eé"
    path = "one/two/three/four/file.py"
    for columns in range(3, 40):
        short = text.cut_path(path, columns)
        assert text.width(short) <= columns
        if columns >= 10:
            assert short.endswith("/file.py") or short == path
    assert text.cut_path(path, 20) == "one/two/…/file.py"


def test_places_keep_their_line() -> None:
    place = Place("very/long/path/to/some/module_name.py", 12345, "Outer.<locals>.method")
    for columns in range(10, 70):
        fitted = place.fit(columns)
        assert ":12345" in fitted
        assert text.width(fitted) <= columns
    assert place.fit(None) == "very/long/path/to/some/module_name.py:12345 Outer.<locals>.method"


@pytest.mark.parametrize("columns", range(50, 140, 7))
def test_tables_fit(columns: int) -> None:
    table = Table([Column("share"), Column("size"), Column("line", "place"), Column("source", "note")])
    for i in range(5):
        table.add(
            "61 %",
            sizes.size(10**i),
            Place("データ/" * i + "file.py", 10**i, "f" * (8 * i)),
            "日本" * (10 * i),
        )
    lines = draw_plain(table, columns)
    assert all(text.width(line) <= columns for line in lines)
    for i, line in enumerate(lines[1:]):
        assert sizes.size(10**i) in line
        assert f":{10**i}" in line


def test_whose_code() -> None:
    known = names.Names(
        "/home/u/app", ["/usr/lib/python3.12"], ["/opt/site"], ["/src/memheft"], "/v/bin", code=True
    )
    expected = {
        "/home/u/app/x.py": (names.OWN, "x.py"),
        "sub/x.py": (names.OWN, "sub/x.py"),
        "/elsewhere/x.py": (names.OWN, "/elsewhere/x.py"),
        "<string>": (names.OWN, "<string>"),
        "<stdin>": (names.OWN, "<stdin>"),
        "<frozen os>": (names.STDLIB, "<frozen os>"),
        "<attrs generated init m.C>": (names.SITE, "<attrs generated init m.C>"),
        "/usr/lib/python3.12/csv.py": (names.STDLIB, "csv.py"),
        "/usr/lib/python3.12/lib-dynload/x.py": (names.STDLIB, "x.py"),
        "/usr/lib/python3.12/site-packages/a/b.py": (names.SITE, "a/b.py"),
        "/usr/lib/python3/dist-packages/a.py": (names.SITE, "a.py"),
        "/opt/site/a/b.py": (names.SITE, "a/b.py"),
        "/home/u/app/.venv/lib/python3.12/site-packages/a.py": (names.SITE, "a.py"),
        "/src/memheft/cli/run.py": (names.SITE, "/src/memheft/cli/run.py"),
        "/v/bin/tool": (names.SITE, "tool"),
        names.INTERPRETER: (names.OTHER, names.INTERPRETER),
    }
    for file, (kind, short) in expected.items():
        assert (known.class_of(file), known.short(file)) == (kind, short), file
    assert names.Names("/home/u/app", [], []).class_of("<string>") == names.SITE


def test_flags_of_the_interpreter() -> None:
    from memheft.cli.flags import parse

    for words, typed in [
        (["-X", "dev", "x.py", "-X", "y"], ["-X", "dev"]),
        (["-Xdev", "-OO", "-m", "x"], ["-Xdev", "-OO"]),
        (["-IBm", "x", "-q"], ["-IB"]),
        (["-bWerror", "-c", "x"], ["-bWerror"]),
        (["-uX", "dev", "-"], ["-uX", "dev"]),
        (["--check-hash-based-pycs", "always", "-E", "x"], ["--check-hash-based-pycs", "always", "-E"]),
        (["-mx"], []),
        (["-X"], ["-X"]),
        ([], []),
    ]:
        assert parse(words).typed == typed
    assert parse(["-bX", "SI", "-Wa", "x"]).letters == {"b", "X", "W"}


def test_splitting_a_command_line() -> None:
    from memheft.cli.run import split

    for words, own, typed, kind, target in [
        ("-q x.py -q", "-q", "", "", "x.py -q"),
        ("-o a b.py -o c", "-o a", "", "", "b.py -o c"),
        ("-oa b.py", "-o a", "", "", "b.py"),
        ("--output=a --force b.py", "--output=a --force", "", "", "b.py"),
        ("--out a b.py", "--out a", "", "", "b.py"),
        ("-X dev -Wi -OOq x", "-q", "-X dev -Wi -OO", "", "x"),
        ("-qmpkg.mod -q", "-q", "", "m", "pkg.mod -q"),
        ("-Bc code x", "", "-B", "c", "code x"),
        ("-m a -- b", "", "", "m", "a -- b"),
        ("-- -q", "", "", "", "-q"),
        ("- -q", "", "", "", "- -q"),
    ]:
        line = split(words.split())
        got = (" ".join(line.own), " ".join(line.flags.typed), line.kind, " ".join(line.target))
        assert got == (own, typed, kind, target), words
