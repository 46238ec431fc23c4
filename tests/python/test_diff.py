"""`memheft diff` on real recordings: sums, matching, forms, exit codes."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schema
from conftest import Workplace, clean_environment

import memheft
from memheft.views import sizes

OLD = """\
import threading

def load(n):
    rows = []
    for i in range(n):
        rows.append(b"id %d, name %s" % (i, b"x" * 20))
    return rows

def cache(rows):
    return [bytes(1000) for row in rows[:100]]

class Keeper:
    def keep(self, n):
        self.kept = [bytearray(100) for _ in range(n)]

def recurse(n):
    return [n, recurse(n - 1)] if n else [0]

rows = load(2000)
cached = cache(rows)
deep = recurse(20)
keeper = Keeper()
keeper.keep(500)
"""
NEW = """\
import threading
import fractions

LIMIT = 10

def cache(rows):
    # everything now
    return [bytes(1000) for row in rows]

def load(n):
    rows = []
    for i in range(n):
        rows.append(b"id %d, name %s" % (i, b"x" * 40))
    return rows

class Keeper:
    def keep(self, n):
        self.kept = [bytearray(100) for _ in range(n)]

def recurse(n):
    return [n, recurse(n - 1)] if n else [0]

rows = load(2000)
cached = cache(rows)
deep = recurse(20)
keeper = Keeper()
worker = threading.Thread(target=keeper.keep, args=(600,), name="worker")
worker.start()
worker.join()
"""
GROUPINGS = ("line", "function", "file", "module", "thread", "stack")
MOMENTS = ("peak", "live", "total", "temporary")
WHENS = ("before", "after", "delta")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Two versions of a program, each recorded in a folder of its own."""
    folder = tmp_path_factory.mktemp("two")
    workplace = Workplace(folder, clean_environment({"XDG_STATE_HOME": str(folder / "state")}))
    for name, text in (("old", OLD), ("new", NEW)):
        workplace.write(f"{name}/app.py", text)
        result = workplace.memheft("run", "-q", "-o", f"../{name}.heft", "app.py", cwd=folder / name)
        assert result.code == 0, result.err
    return workplace


def diff(workplace: Workplace, *words: str, files: tuple[str, str] = ("old.heft", "new.heft")) -> Any:
    result = workplace.memheft("diff", *files, "--json", *words)
    assert result.code == 0, result.err
    assert result.err == ""
    schema.check(result.json)
    return result.json


def check_sums(document: Any, rows: list[Any]) -> None:
    totals = document["totals"]
    for unit in ("bytes", "blocks"):
        for when in WHENS:
            assert sum(row[f"{unit}_{when}"] for row in rows) == totals[f"{unit}_{when}"]
        assert totals[f"{unit}_delta"] == totals[f"{unit}_after"] - totals[f"{unit}_before"]
        for when in ("before", "after"):
            assert totals[f"{unit}_{when}"] == document[f"totals_{when}"][unit]
        for row in rows:
            assert row[f"{unit}_delta"] == row[f"{unit}_after"] - row[f"{unit}_before"]


@pytest.mark.parametrize(("moment", "by"), list(itertools.product(MOMENTS, GROUPINGS)))
def test_json(two: Workplace, moment: str, by: str) -> None:
    document = diff(two, f"--{moment}", "--by", by)
    assert (document["view"]["moment"], document["view"]["by"]) == (moment, by)
    rows = document["rows"]
    check_sums(document, rows)
    sizes = [abs(row["bytes_delta"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    names = [
        json.dumps({key: row[key] for key in row if "bytes" not in key and "blocks" not in key})
        for row in rows
    ]
    assert len(set(names)) == len(names)
    for side, when in (("old", "before"), ("new", "after")):
        words = ["report", f"{side}.heft", "--json", f"--{moment}", "--by", by]
        report = two.memheft(*words).json
        assert report["totals"] == document[f"totals_{when}"]
        assert report["recording"] == document[f"recording_{when}"]
        if by in ("file", "function"):  # no rows but those of the report, with its numbers
            of, mine = Counter[Any](), Counter[Any]()
            for row in report["rows"]:
                of[os.path.basename(row["file"]), row.get("function")] += row["bytes"]
            for row in rows:
                mine[os.path.basename(row["file"]), row.get("function")] += row[f"bytes_{when}"]
            assert +mine == +of
        few = diff(two, f"--{moment}", "--by", by, "--limit", "2")
        check_sums(few, few["rows"])
        assert few["rows"][:2] == rows[:2]
        assert [row.get("other") for row in few["rows"][2:]] == [True] * (len(rows) > 2)


def line(document: Any, number: int, when: str = "after") -> Any:
    return next(
        (row for row in document["rows"] if row["file"].endswith("app.py") and row[f"line_{when}"] == number),
        None,
    )


def test_lines_are_found_again(two: Workplace) -> None:
    document = diff(two, "--live")
    load = line(document, 13)
    assert (load["line_before"], load["line"], load["text_changed"]) == (6, 13, True)
    assert load["bytes_before"] > 0
    assert 2000 * 20 <= load["bytes_delta"] <= 2000 * 22
    assert load["file_before"].endswith("old/app.py")
    assert load["file"].endswith("new/app.py")
    cache = line(document, 8)
    assert (cache["line_before"], cache["text_changed"]) == (10, True)
    assert cache["bytes_delta"] >= 1900 * 1033
    kept = line(document, 18)
    assert kept["line_before"] == 14
    assert "text_changed" not in kept
    gone = line(document, 23, "before")
    assert gone is None or gone["line_after"] in (None, 27)
    assert line(document, 2)["line_before"] is None  # import fractions


def test_the_same_recording_twice(two: Workplace) -> None:
    for words in (["--by", by] for by in GROUPINGS):
        document = diff(two, *words, files=("old.heft", "old.heft"))
        assert all(row["bytes_delta"] == row["blocks_delta"] == 0 for row in document["rows"])
    shown = two.memheft("diff", "old.heft", "old.heft")
    assert "lines did not change" in shown.out
    assert shown.out.splitlines()[0].endswith("at the peak: 0 B, 0 blocks")
    tree = two.memheft("diff", "old.heft", "old.heft", "--tree")
    assert tree.out.splitlines()[-1] == "nothing changed"


@pytest.mark.parametrize("words", [[], ["--inverted"], ["--live"], ["--own"], ["--total", "--inverted"]])
def test_tree(two: Workplace, words: list[str]) -> None:
    """One recording has one thread, the other has two: both have a level for threads, or none has."""
    for files in (("old.heft", "new.heft"), ("new.heft", "old.heft")):
        document = diff(two, "--tree", *words, files=files)
        assert document["schema"] == "memheft.diff_tree"
        rows = document["rows"]
        check_sums(document, rows)
        tops = [row for row in rows if row["depth"] == 0]
        for when in WHENS:
            assert sum(row[f"inclusive_bytes_{when}"] for row in tops) == document["totals"][f"bytes_{when}"]
        if "--inverted" not in words:
            assert {row.get("thread") for row in tops} == {"MainThread", "worker"}
        else:
            assert all("thread" not in row for row in rows)
        path: list[Any] = []
        for row in rows:
            del path[row["depth"] :]
            assert len(path) == row["depth"]
            if path:
                for when in ("before", "after"):
                    key = f"inclusive_bytes_{when}"
                    assert row[key] <= path[-1][key]
            path.append(row)


@pytest.mark.parametrize("extra", [["--fold", "5"], ["--limit", "2"], ["--fold", "5", "--limit", "1"]])
def test_folded_tree(two: Workplace, extra: list[str]) -> None:
    whole, part = diff(two, "--tree"), diff(two, "--tree", *extra)
    assert 0 < len(part["rows"]) < len(whole["rows"])
    for document in (whole, part):
        for when in WHENS:
            key = f"inclusive_bytes_{when}"
            tops = [row for row in document["rows"] if row["depth"] == 0]
            assert sum(row[key] for row in tops) == document["totals"][f"bytes_{when}"]
    assert any(row.get("other") for row in part["rows"])


def test_filters(two: Workplace) -> None:
    own = diff(two, "--only", "own")
    assert all(row["file"].endswith("app.py") for row in own["rows"])
    check_sums(own, own["rows"])
    assert own["view"]["filters"] == ["--only=own"]
    matched = diff(two, "--match", "fractions.py")
    assert {os.path.basename(row["file"]) for row in matched["rows"]} == {"fractions.py"}
    charged = diff(two, "--own")
    assert charged["totals"]["bytes_after"] == diff(two)["totals"]["bytes_after"]
    assert line(charged, 2)["bytes_before"] == 0


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 150])
def test_text_fits(two: Workplace, columns: int) -> None:
    environment = {"COLUMNS": str(columns)}
    for words in ([], ["--by", "stack"], ["--tree"], ["--by", "function", "--live"]):
        shown = two.memheft("diff", "old.heft", "new.heft", *words, environment=environment).out
        rows = [text for text in shown.splitlines() if text.lstrip().startswith(("+", "-", "change"))]
        assert len(rows) > 3
        if columns >= 60:
            assert max(map(len, rows)) <= columns


def test_text(two: Workplace) -> None:
    shown = two.memheft("diff", "old.heft", "new.heft", "--live").out.splitlines()
    assert shown[0].startswith("app.py: ")
    assert " at the end: +" in shown[0]
    assert shown[1].startswith("before  old.heft  ")
    assert shown[2].startswith("after   new.heft  ")
    cache = next(text for text in shown if "app.py:10->8 cache" in text)
    assert cache.lstrip().startswith("+1.")
    assert "for row in rows]  (was: return [bytes(1000) for row in rows[:100]]" in cache
    assert sum("did not change" in text for text in shown) == 1
    assert not any("recurse" in text for text in shown)
    tree = two.memheft("diff", "old.heft", "new.heft", "--live", "--tree").out
    assert "app.py:6->13 load" in tree
    assert "thread worker" in tree
    for words in ([], ["--tree"]):
        coloured = two.memheft(
            "diff", "old.heft", "new.heft", *words, environment={"FORCE_COLOR": "1", "COLUMNS": "80"}
        )
        assert "\x1b[" in coloured.out
        plain = two.memheft(
            "diff", "old.heft", "new.heft", *words,
            environment={"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"},
        )  # fmt: skip
        assert "\x1b[3" not in plain.out


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ("5%", 3),
        ("0%", 3),
        ("1000000%", 0),
        ("1MiB", 3),
        ("1 MB", 3),
        ("100_000B", 3),
        ("0 B", 3),
        ("1_0.5 %", 3),
        ("1G", 0),
        ("10.5 MiB", 0),
    ],
)
def test_budget(two: Workplace, budget: str, code: int) -> None:
    result = two.memheft("diff", "old.heft", "new.heft", "--fail-above", budget)
    assert result.code == code
    assert len(result.err.splitlines()) == (code == 3)
    if code:
        assert re.match(r"memheft: the peak grew by \d\.\d\d MiB \(", result.err)
        assert result.err.rstrip().endswith(f": more than {budget}")
    document = two.memheft("diff", "old.heft", "new.heft", "--tree", "--json", "--fail-above", budget)
    assert document.code == code
    schema.check(document.json)
    assert document.json["budget"]["exceeded"] == (code == 3)
    assert document.json["budget"]["allowed"] == budget
    shrunk = two.memheft("diff", "new.heft", "old.heft", "--fail-above", budget)
    assert (shrunk.code, shrunk.err) == (0, "")


def test_budget_of_what_was_nothing(two: Workplace) -> None:
    words = ["diff", "old.heft", "new.heft", "--match", "fractions.py"]
    result = two.memheft(*words, "--fail-above", "1000%")
    assert result.code == 3
    assert "from 0 B to " in result.err
    assert two.memheft("diff", "new.heft", "new.heft", *words[3:], "--fail-above", "0%").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--match", "nothing.py"], "is like nothing.py"),
        (["--match", "app.py", "--match", "ap0"], "is like ap0"),
        (["--match", "app.py", "--only", "stdlib"], "left by --only=stdlib --match=app.py"),
        (["--region", "lod"], "no region of these recordings is called lod"),
    ],
)
def test_a_budget_of_nothing(two: Workplace, words: list[str], says: str) -> None:
    """Misspelt, a budget would be kept for ever."""
    result = two.memheft("diff", "old.heft", "new.heft", *words, "--fail-above", "5%", "--json")
    assert (result.code, result.json["code"]) == (2, "unknown-name")
    assert says in result.json["message"]
    assert result.err.count("\n") == 1
    without = two.memheft("diff", "old.heft", "new.heft", *words)
    assert without.code == (2 if words[0] == "--region" else 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name two recordings"),
        (["a", "b", "c"], "not 3"),
        (["old.heft", "new.heft", "--by", "line", "--tree"], "does not go with --tree"),
        (["old.heft", "new.heft", "--inverted"], "goes with --tree"),
        (["old.heft", "new.heft", "--fold", "3"], "goes with --tree"),
        (["old.heft", "new.heft", "--limit", "x"], "takes a number"),
        (["old.heft", "new.heft", "--temporary=3"], "takes 1, 2 or 4"),
        (["old.heft", "new.heft", "--fail-above", "much"], "a percentage or a size"),
        (["old.heft", "new.heft", "--fail-above", "-5%"], "a percentage or a size with its unit, not '-5%'"),
        (
            ["old.heft", "--fail-a", "-5.5MiB", "new.heft"],
            "a percentage or a size with its unit, not '-5.5MiB'",
        ),
        (["old.heft", "new.heft", "--fail-above", "--live"], "--fail-above: expected one argument"),
        (["old.heft", "new.heft", "--fail-above", "nan%"], "a percentage or a size"),
        (["old.heft", "new.heft", "--fail-above", "5iB"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "5"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "0"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "1e6"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "1e1%"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "+5%"], "a percentage or a size with its unit"),
        (["old.heft", "new.heft", "--fail-above", "9_%"], "a percentage or a size with its unit"),
    ],
)
def test_usage_errors(two: Workplace, words: list[str], says: str) -> None:
    result = two.memheft("diff", *words)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.splitlines()) == 1
    with_json = two.memheft("diff", "--json", *words)
    schema.check(with_json.json)
    assert (with_json.code, with_json.json["code"]) == (2, "usage")


@pytest.mark.parametrize("bad", [0, 1])
def test_bad_recordings(two: Workplace, bad: int) -> None:
    whole = (two.folder / "old.heft").read_bytes()
    for name, data, code in (
        ("missing.heft", None, "missing"),
        ("empty.heft", b"", "empty"),
        ("foreign.heft", b"x" * 5000, "foreign"),
        ("cut.heft", whole[: len(whole) // 2], "truncated"),
    ):
        if data is not None:
            (two.folder / name).write_bytes(data)
        files = ["old.heft", "old.heft"]
        files[bad] = name
        result = two.memheft("diff", *files, "--json")
        assert (result.code, result.json["code"]) == (1, code)
        assert len(result.err.splitlines()) == 1
        assert name in result.err
    assert two.memheft("diff", "old.heft", "new").code == 1  # a folder


@pytest.mark.parametrize("by", GROUPINGS)
def test_the_api_says_the_same(two: Workplace, by: Any) -> None:
    before, after = (memheft.open(two.folder / f"{name}.heft").live.by(by) for name in ("old", "new"))
    difference = before.diff(after)
    rows = diff(two, "--live", "--by", by)["rows"]
    assert len(rows) == len(difference)
    for change, row in zip(difference, rows, strict=True):
        for name in set(memheft.Change._fields) - {"stack", "imports", "region", "text_changed"}:
            assert getattr(change, name) == row.get(name), name
        assert change.text_changed == row.get("text_changed", False)
        assert change.imports == tuple(row.get("imports", ()))
        assert len(change.stack or ()) == len(row.get("stack", ()))
    if by == "line":
        assert any(change.imports == ("fractions",) and change.line for change in difference)
        assert any(str(change.file_before).endswith("old/app.py") for change in difference)
        assert all(change.line in (change.line_after, change.line_before) for change in difference)
    text = two.memheft("diff", "old.heft", "new.heft", "--live", "--by", by).out
    title = text.splitlines()[0].replace(" at the end: ", f" at the end (by {by}): ")
    assert str(difference).splitlines()[0] == title


@pytest.mark.parametrize("samples", [(None, "4KiB"), ("4KiB", "4KiB"), ("4KiB", "8KiB")])
def test_notices(workplace: Workplace, samples: tuple[str | None, str | None]) -> None:
    """The API has those of the command; of samples it is said once."""
    files = ("before.heft", "after.heft")
    workplace.write("app.py", "kept = [bytes(100) for _ in range(10_000)]\n")
    for file, sample in zip(files, samples, strict=True):
        words = [f"--sample={sample}"] * (sample is not None)
        environment = {"MEMHEFT_FULL_WALK": "1"}
        done = workplace.memheft("run", "-q", "-o", file, *words, "app.py", environment=environment)
        assert done.code == 0, done.err
    said = [text for text in workplace.memheft("diff", *files).out.splitlines() if text.startswith("note:")]
    assert said[1:] == [
        f"note: {when}: stacks were walked in full (slower, just as exact)" for when in ("before", "after")
    ]
    kinds: dict[tuple[str | None, str | None], str] = {
        (None, "4KiB"): "after: estimated from a sample, one allocation in 4.00 KiB on average;",
        ("4KiB", "4KiB"): "estimated from samples, one allocation in 4.00 KiB on average;",
        ("4KiB", "8KiB"): (
            "estimated from samples, one allocation in 4.00 KiB on average before, in 8.00 KiB after;"
        ),
    }
    assert said[0].startswith(f"note: {kinds[samples]} the standard error of the sum's change is ")
    before, after = (memheft.open(workplace.folder / file) for file in files)
    difference = before.diff(after)
    error = difference.to_dict()["totals"]["bytes_delta_error"]  # type: ignore[index]
    assert f" {sizes.size(error)}, small" in said[0]
    assert [text for text in str(difference).splitlines() if text.startswith("note:")] == said
    assert all(f"<p>{text.replace(chr(39), '&#x27;')}</p>" in difference._repr_html_() for text in said)


def test_code_without_source(workplace: Workplace) -> None:
    """Code that was never a file is matched by its distance from the beginning of the function."""
    for name, above in (("a", 0), ("b", 7)):
        text = (
            "\n" * above + "def f():\n    x = bytes(1000)\n    y = bytes(2000)\n    return x, y\nkept = f()\n"
        )
        workplace.record(f"exec(compile({text!r}, '/nowhere/made.py', 'exec'))\n")
        os.rename(workplace.folder / "app.heft", workplace.folder / f"{name}.heft")
    rows = diff(workplace, "--live", "--match", "made.py", files=("a.heft", "b.heft"))["rows"]
    lines = {(row["line_before"], row["line_after"]): row["bytes_delta"] for row in rows}
    assert lines[2, 9] == lines[3, 10] == 0


def test_the_last_recording(workplace: Workplace) -> None:
    workplace.record("x = [0] * 1000")
    os.rename(workplace.folder / "app.heft", workplace.folder / "kept.before")
    workplace.record("x = [0] * 100000")
    result = workplace.memheft("diff", "kept.before", "--live")
    assert result.code == 0
    assert "after   app.heft" in result.out
    same = workplace.memheft("diff", "app.heft")
    assert same.code == 2
    assert "is the last recording itself" in same.err


def test_words_in_any_order(two: Workplace) -> None:
    plain = two.memheft("diff", "old.heft", "new.heft", "--live", "--temporary", "--json")
    assert plain.code == 2  # two moments
    for words in (["--live", "old.heft", "new.heft"], ["old.heft", "--live", "new.heft"]):
        assert two.memheft("diff", *words).out == two.memheft("diff", "old.heft", "new.heft", "--live").out
    mixed = two.memheft("dif", "--temporary", "old.heft", "new.heft")
    assert " freed before their thread asked for another: " in mixed.out.splitlines()[0]


def test_what_tells_two_recordings_apart(workplace: Workplace) -> None:
    before = workplace.record("x = [0] * 1000").rename(workplace.folder / "b.heft")
    workplace.write("app.py", "x = [0] * 1000\nraise SystemExit(3)\n")
    workplace.memheft("run", "-q", "-o", "a.heft", "app.py")
    shown = workplace.memheft("diff", str(before), "a.heft").out
    assert "note: the programs ended differently: exit code 0 before, 3 after" in shown
    golden = Path(__file__).parents[1] / "golden" / "format-1.heft"
    other = workplace.memheft("diff", str(golden), "a.heft")
    assert other.code == 0
    assert "golden.py -> app.py" in other.out
    if sys.version_info[:3] != (3, 12, 1):
        assert "note: recorded by Python 3.12.1 and 3." in other.out
    for by in GROUPINGS:
        document = diff(workplace, "--by", by, files=(str(golden), "a.heft"))
        check_sums(document, document["rows"])
