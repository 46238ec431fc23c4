"""Which line of one version of a program is which of another: against brute force, and over edited texts."""

from __future__ import annotations

import functools
import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import fake_engine
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memheft.views import align, matching
from memheft.views.diff import Diff
from memheft.views.diff_tree import Tree
from memheft.views.matching import AFTER, BEFORE, Matching
from memheft.views.recording import Opened

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=14)


def longest(before: list[str], after: list[str]) -> int:
    """The length of the longest common subsequence of lines that are not empty, by the definition."""

    @functools.cache
    def of(i: int, j: int) -> int:
        if i == len(before) or j == len(after):
            return 0
        take = 1 + of(i + 1, j + 1) if before[i] and before[i] == after[j] else 0
        return max(take, of(i + 1, j), of(i, j + 1))

    return of(0, 0)


def check_order(pairs: list[tuple[int, int]]) -> None:
    for one, two in itertools.pairwise(pairs):
        assert one[0] < two[0]
        assert one[1] < two[1]


@given(LINES, LINES)
@settings(max_examples=500, deadline=None)
def test_common_lines(before: list[str], after: list[str]) -> None:
    pairs = align.common(before, after)
    check_order(pairs)
    assert all(before[one] and before[one] == after[two] for one, two in pairs)
    assert len(pairs) == longest(before, after)


@given(LINES, LINES, st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_common_lines_when_there_are_too_many(before: list[str], after: list[str], most: int) -> None:
    """Then they may be fewer, but what is matched is in order and equal; equal texts match whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align, "PAIRS_MAX", most)
        pairs = align.common(before, after)
        check_order(pairs)
        assert all(before[one] and before[one] == after[two] for one, two in pairs)
        assert (len(pairs) > 0) == (longest(before, after) > 0)
        same = align.common(before, before)
        assert same == [(at, at) for at, line in enumerate(before) if line]


TEXTS = st.lists(st.sampled_from(["load(path)", "load(path,mode)", "x=1", "keep.append(y)"]), max_size=5)


@given(TEXTS, TEXTS)
@settings(max_examples=300, deadline=None)
def test_changed_lines(before: list[str], after: list[str]) -> None:
    """The pairs of lines that are alike have the greatest sum of likeness that an order allows."""

    @functools.cache
    def of(i: int, j: int) -> float:
        if i == len(before) or j == len(after):
            return 0.0
        alike = align._likeness(before[i], after[j])
        take = alike + of(i + 1, j + 1) if alike >= align.ALIKE else 0.0
        return max(take, of(i + 1, j), of(i, j + 1))

    pairs = align.changed(before, after, whole=False)
    check_order(pairs)
    found = sum(align._likeness(before[one], after[two]) for one, two in pairs)
    assert found == pytest.approx(of(0, 0))


def test_one_line_for_one_line() -> None:
    assert align.changed(["x=1"], ["keep.append(y)"]) == [(0, 0)]
    assert align.changed(["x=1"], ["keep.append(y)"], whole=False) == []
    assert align.changed(["x=1", "load(path)"], ["keep.append(y)", "load(path,m)"]) == [(0, 0), (1, 1)]
    assert align.changed(["x=1"], ["keep.append(y)", "print()"]) == []


# -- whole recordings --------------------------------------------------------------------------------------


Frame = list[Any]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    import memheft.views.recording

    monkeypatch.setattr(memheft.views.recording, "_engine", fake_engine)


def opened(
    folder: Path,
    name: str,
    frames: list[Frame],
    texts: dict[str, str] | None = None,
    lines: dict[str, dict[int, str]] | None = None,
    cwd: str = "/a",
    python: str = "3.12.1",
    functions: list[list[Any]] | None = None,
) -> Opened:
    files: dict[str, Any] = {file: {"text": text} for file, text in (texts or {}).items()}
    for file, known in (lines or {}).items():
        files[file] = {"lines": {str(line): text for line, text in known.items()}}
    blob = zlib.compress(json.dumps({"files": files}).encode())
    numbers = {key: [10, 1] for key in ("peak", "live", "total", "temporary")}
    data = {
        "meta": {
            "cwd": cwd,
            "python": python,
            "stdlib": ["/usr/lib/python3.12", "/usr/lib/python3.11"],
            "site": [f"{cwd}/venv/lib/python3.12/site-packages"],
        },
        "source": blob.hex(),
        "functions": functions or [],
        "stacks": [{"thread": 0, "frames": [frame], **numbers} for frame in frames],
    }
    path = folder / name
    path.write_text(json.dumps(data))
    return Opened(str(path))


def match(before: Opened, after: Opened) -> Matching:
    views = tuple(recording.view("peak") for recording in (before, after))
    return Matching((before, after), (views[0], views[1]))


def frame(file: str, line: int, function: str = "f", module: str = "m") -> Frame:
    return [file, line, 0, function, module, None]


def pairs(found: Matching) -> dict[tuple[str, int], tuple[str, int]]:
    """Each line of before that is one of after."""
    places = []
    for side in (BEFORE, AFTER):
        recording = found.sides[side].recording
        places.append(
            {
                found.line(side, file, line, function): (recording.files[file], line)
                for file, line, _, function, _, _ in found.sides[side].frames
                if line
            }
        )
    return {was: places[1][place] for place, was in places[0].items() if place in places[1]}


BODY = st.lists(st.sampled_from([f"x{n} = make({n})" for n in range(6)]), min_size=1, max_size=12)


@given(BODY, BODY, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_lines_of_a_function(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str], above: int
) -> None:
    """Lines of the same text: those of the longest common subsequence, and those that occur once."""
    folder = tmp_path_factory.getbasetemp()

    def record(name: str, body: list[str], above: int, indentation: str) -> tuple[Opened, int]:
        head = "# above\n" * above + "def g():\n    pass\n\n\ndef f():\n"
        text = head + "".join(f"{indentation}{line}\n" for line in body) + "\n\ndef h():\n    return f()\n"
        first = head.count("\n") + 1
        frames = [frame("/a/m.py", first + at) for at in range(len(body))]
        return opened(folder, name, frames, {"/a/m.py": text}), first

    one, first = record("1", before, 0, "    ")
    two, second = record("2", after, above, "\t")
    found = match(one, two)
    got = sorted((was[1] - first, now[1] - second) for was, now in pairs(found).items())
    in_order = set(align.common(before, after))
    crossed = {
        (before.index(line), after.index(line))
        for line in before
        if before.count(line) == after.count(line) == 1
    } - in_order
    assert {(was, now) for was, now in got if before[was] == after[now]} == in_order | crossed
    check_order([pair for pair in got if pair not in crossed])
    assert len(in_order) == longest(before, after)
    for was, now in got:
        place = found.line(AFTER, found.sides[AFTER].recording.files.index("/a/m.py"), second + now, "f")
        assert found.has_changed(place) == (before[was] != after[now])


def test_functions_that_changed_places(tmp_path: Path) -> None:
    one = "def f():\n    return make()\n\ndef g():\n    return make()\n"
    two = "import x\n\ndef g():\n    # now\n    return make()\n\ndef f():\n    return  make( )\n"
    lines = [("f", 2), ("g", 5), ("<module>", 1), ("<module>", 4)]
    moved = [("f", 8), ("g", 5), ("<module>", 7), ("<module>", 3)]
    found = match(
        opened(tmp_path, "1", [frame("/a/m.py", n, f) for f, n in lines], {"/a/m.py": one}),
        opened(tmp_path, "2", [frame("/a/m.py", n, f) for f, n in moved], {"/a/m.py": two}),
    )
    expected = {("/a/m.py", was[1]): ("/a/m.py", now[1]) for was, now in zip(lines, moved, strict=True)}
    # (the second function's lines bear the same number in both, by chance)
    assert pairs(found) == expected


def test_imports_that_were_sorted(tmp_path: Path) -> None:
    one = "import os\nfrom typing import (\n    Any,\n    Dict,\n)\nimport abc\nfrom a import b\n"
    two = "import abc\nfrom collections import (\n    Any,\n    Dict,\n)\nimport os\nfrom typing import Any\n"
    found = match(
        opened(tmp_path, "1", [frame("m.py", n, "<module>") for n in (1, 2, 6, 7)], {"m.py": one}),
        opened(tmp_path, "2", [frame("m.py", n, "<module>") for n in (1, 2, 6, 7)], {"m.py": two}),
    )
    moved = {was[1]: now[1] for was, now in pairs(found).items()}
    assert moved == {1: 6, 2: 7, 6: 1}
    assert found.has_changed(found.line(BEFORE, 1, 2, "<module>"))
    assert not found.has_changed(found.line(BEFORE, 1, 1, "<module>"))


def test_text_that_looks_like_a_definition(tmp_path: Path) -> None:
    one = 'def f():\n    text = """\ndef f():\n    pass\n"""\n    return make(text)\n'
    two = "# new\n" + one
    found = match(
        opened(tmp_path, "1", [frame("/a/m.py", 6)], {"/a/m.py": one}),
        opened(tmp_path, "2", [frame("/a/m.py", 7)], {"/a/m.py": two}),
    )
    assert pairs(found) == {("/a/m.py", 6): ("/a/m.py", 7)}


def test_lines_without_the_text_around_them(tmp_path: Path) -> None:
    """Only lines that stand in stacks are known: where texts are equal at one distance, that decides."""
    file = "/usr/lib/python3.12/m.py"
    texts = {10: "x.append(1)", 20: "x.append(1)", 30: "y = make(2)"}
    now = {22: "x.append(1)", 32: "y = make(2, 3)", 40: "z = other()"}
    begins = [["/usr/lib/python3.12/m.py", "f", 8]], [["/usr/lib/python3.12/m.py", "f", 10]]
    found = match(
        opened(tmp_path, "1", [frame(file, n) for n in texts], lines={file: texts}, functions=begins[0]),
        opened(tmp_path, "2", [frame(file, n) for n in now], lines={file: now}, functions=begins[1]),
    )
    assert pairs(found) == {(file, 20): (file, 22), (file, 30): (file, 32)}
    assert found.has_changed(found.line(BEFORE, 1, 30, "f"))
    assert not found.has_changed(found.line(BEFORE, 1, 20, "f"))


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.integers(1, 50), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_lines_without_texts(
    tmp_path_factory: pytest.TempPathFactory, before: set[int], after: set[int], one: int, two: int
) -> None:
    """Without texts a line is the one as far from the beginning of its function."""
    folder = tmp_path_factory.getbasetemp()
    file = "/nowhere/m.py"
    found = match(
        opened(folder, "1", [frame(file, one + n, "C.f") for n in before], functions=[[file, "C.f", one]]),
        opened(folder, "2", [frame(file, two + n, "C.f") for n in after], functions=[[file, "C.f", two]]),
    )
    assert pairs(found) == {(file, one + n): (file, two + n) for n in before & after}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/a/app.py", "/b/app.py"),
        ("app.py", "/b/app.py"),
        ("/a/pkg/m.py", "/b/pkg/m.py"),
        ("/a/venv/lib/python3.12/site-packages/lib/m.py", "/b/venv/lib/python3.12/site-packages/lib/m.py"),
        ("/usr/lib/python3.11/json/m.py", "/usr/lib/python3.12/json/m.py"),
        ("/opt/x/lib/python3.11/site-packages/lib/m.py", "/opt/y/lib/python3.13/site-packages/lib/m.py"),
        ("/a/src/m.py", "/elsewhere/m.py"),  # of the same module
        ("/opt/x/lib/python3.11/site-packages/m.py", "/b/src/m.py"),
        ("<frozen m>", "/usr/lib/python3.12/m.py"),
        ("<string>", "<string>"),
        ("/x/conf.py", "/y/conf.py"),
    ],
)
def test_the_same_file(tmp_path: Path, before: str, after: str) -> None:
    found = match(
        opened(tmp_path, "1", [frame(before, 3), frame("/a/z.py", 1)], cwd="/a"),
        opened(tmp_path, "2", [frame(after, 3), frame("/b/z2.py", 1)], cwd="/b"),
    )
    assert pairs(found) == {(before, 3): (after, 3)}


def test_the_main_script_is_the_main_script(tmp_path: Path) -> None:
    found = match(
        opened(tmp_path, "1", [frame("/a/old.py", 3, "f", "__main__"), frame("/a/__init__.py", 1, "f", "p")]),
        opened(tmp_path, "2", [frame("/a/new.py", 3, "f", "__main__"), frame("/b/__init__.py", 1, "f", "q")]),
    )
    assert pairs(found) == {("/a/old.py", 3): ("/a/new.py", 3)}


def test_comprehensions_that_one_python_inlines(tmp_path: Path) -> None:
    text = "def f():\n    return [\n        make(x)\n    ]\n"
    names = ("f.<locals>.<listcomp>", "f")
    recordings = [
        opened(tmp_path, python, [frame("/a/m.py", 3, name)], {"/a/m.py": text}, python=python)
        for python, name in zip(("3.11.7", "3.12.1"), names, strict=True)
    ]
    assert pairs(match(recordings[0], recordings[1])) == {("/a/m.py", 3): ("/a/m.py", 3)}
    one, two = match(recordings[0], recordings[0]), match(recordings[1], recordings[0])
    assert one.function(names[0]) == names[0]
    assert two.function(names[0]) == "f"


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_trees_and_stacks_of_inlined_comprehensions(tmp_path: Path, inverted: bool, nested: bool) -> None:
    """What is the same program is the same tree."""
    text = "def f():\n    return [\n        make(x)\n        for x in ()]\ndef make(x):\n    return x\nf()\n"
    make, main = frame("/a/m.py", 6, "make"), frame("/a/m.py", 7, "<module>")
    old = [make, frame("/a/m.py", 3, "f.<locals>.<listcomp>"), frame("/a/m.py", 2, "f"), main]
    if nested:
        old.insert(1, frame("/a/m.py", 3, "f.<locals>.<listcomp>.<listcomp>"))
    new = [make, frame("/a/m.py", 3, "f"), main]
    recordings = []
    for python, stack in (("3.11.7", old), ("3.12.1", new)):
        recording = opened(tmp_path, python, [], {"/a/m.py": text}, python=python)
        data = json.loads(Path(recording.path).read_text())
        numbers = {key: [10, 1] for key in ("peak", "live", "total", "temporary")}
        data["stacks"] = [{"thread": 0, "frames": stack, **numbers}]
        Path(recording.path).write_text(json.dumps(data))
        recordings.append(Opened(recording.path))
    for one, two in (recordings, recordings[::-1]):
        views = (one.view("peak"), two.view("peak"))
        found = Matching((one, two), views)
        tree = Tree(found, views, inverted)
        assert tree.root.churn == 0
        rows = tree.document({}, 0.0, 0, None)["rows"]
        assert isinstance(rows, list)
        shown = [row for row in rows if row["inclusive_bytes_before"] or row["inclusive_bytes_after"]]
        assert [row["line"] for row in shown] == ([6, 3, 7] if inverted else [7, 3, 6])
        assert all(row["inclusive_bytes_delta"] == 0 for row in shown)
        for by in ("stack", "line", "function"):
            assert {change.delta for change in Diff(found, views, by).changes} == {(0, 0)}


def test_definitions() -> None:
    text = """\
@decorated
class A:
    def f(self):
        def inner():
            return [x
                    for x in ()]
        return inner
    if True:
        async def g(self): pass
    @property
    def f(self):
        return 1
def f(): return 2
"""
    spans = matching._spans(text.split("\n"))
    assert {name: [(span.start, span.stop) for span in found] for name, found in spans.items()} == {
        "A": [(2, 13)],
        "A.f": [(3, 8), (11, 13)],
        "A.f.<locals>.inner": [(4, 8)],
        "A.g": [(9, 11)],
        "f": [(13, 15)],
    }
    for name, around in (
        ("f", "f"),
        ("<module>", "<module>"),
        ("<lambda>", "<module>"),
        ("A.<lambda>", "A"),
        ("A.f.<locals>.inner", "A.f.<locals>.inner"),
        ("A.f.<locals>.<listcomp>", "A.f"),
        ("A.f.<locals>.<lambda>.<locals>.<genexpr>", "A.f"),
    ):
        assert matching.enclosing(name) == around
