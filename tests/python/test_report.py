"""`memheft report` on real recordings: the numbers of each view, JSON, errors."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import schema
from conftest import MEMHEFT, Workplace

PROGRAM = """\
import csv
import io
import threading

def rows(n):
    text = "".join(f"{i},{i * 2}\\n" for i in range(n))
    return list(csv.DictReader(io.StringIO(text), ["a", "b"]))

def brief():
    for _ in range(1000):
        bytes(5000)

class Keeper:
    def keep(self, n):
        self.kept = [bytearray(100) for _ in range(n)]

table = rows(2000)
brief()
keeper = Keeper()
worker = threading.Thread(target=keeper.keep, args=(3000,), name="worker")
worker.start()
worker.join()
del table
"""
GROUPINGS = ("line", "function", "file", "module", "thread", "stack")
MOMENTS = ("peak", "live", "total", "temporary")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    from conftest import clean_environment

    folder = tmp_path_factory.mktemp("recorded")
    workplace = Workplace(folder, clean_environment({"XDG_STATE_HOME": str(folder / "state")}))
    workplace.record(PROGRAM)
    return workplace


def report(workplace: Workplace, *words: str) -> Any:
    result = workplace.memheft("report", "app.heft", "--json", *words)
    assert result.code == 0, result.err
    assert result.err == ""
    document = result.json
    schema.check(document)
    return document


@pytest.mark.parametrize(("moment", "by"), list(itertools.product(MOMENTS, GROUPINGS)))
def test_json(recorded: Workplace, moment: str, by: str) -> None:
    document = report(recorded, f"--{moment}", "--by", by)
    assert document["view"]["moment"] == moment
    assert document["view"]["by"] == by
    totals, rows = document["totals"], document["rows"]
    for unit in ("bytes", "blocks"):
        assert sum(row[unit] for row in rows) == totals[unit]
        assert all(row[f"inclusive_{unit}"] >= row[unit] for row in rows)
        assert all(row[f"inclusive_{unit}"] <= totals[unit] for row in rows)
    expected = {"peak": "peak_bytes", "live": "live_bytes", "total": "allocated_bytes"}
    if moment in expected:
        assert totals["bytes"] == totals[expected[moment]]
    assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
    for one, two in itertools.pairwise(rows):
        if one["bytes"] == two["bytes"] and by in ("line", "file"):
            assert order(one) <= order(two)
    names = [
        json.dumps({key: row[key] for key in row if "bytes" not in key and "blocks" not in key})
        for row in rows
    ]
    assert len(set(names)) == len(names)


def order(row: dict[str, Any]) -> tuple[str, int, str]:
    return row["file"], row.get("line") or 0, row.get("function", "")


def test_paths_are_complete(recorded: Workplace) -> None:
    document = report(recorded)
    assert (document["recording"]["paths_cut"], document["totals"]["cut_bytes"]) == (False, 0)
    assert "<paths cut>" not in {row["file"] for row in document["rows"]}


def test_limit_keeps_the_sum(recorded: Workplace) -> None:
    everything = report(recorded)
    assert len(report(recorded, "--limit", "0")["rows"]) == len(everything["rows"])
    few = report(recorded, "--limit", "3")
    assert few["rows"][:3] == everything["rows"][:3]
    assert len(few["rows"]) == 4
    assert set(few["rows"][3]) == {"other", "bytes", "blocks"}
    assert sum(row["bytes"] for row in few["rows"]) == few["totals"]["bytes"]
    enough = report(recorded, "--limit", str(len(everything["rows"])))
    assert enough["rows"] == everything["rows"]


def test_what_it_found(recorded: Workplace) -> None:
    def line(document: Any, number: int) -> Any:
        found = [row for row in document["rows"] if row["file"].endswith("app.py") and row["line"] == number]
        return found[0] if found else None

    live = report(recorded, "--live")
    kept = line(live, 15)
    assert 3000 * 101 <= kept["bytes"] <= 3000 * 300
    assert kept["function"].startswith("Keeper.keep")
    assert kept["module"] == "__main__"
    assert line(live, 7) is None or line(live, 7)["bytes"] < 10_000
    total = report(recorded, "--total")
    assert line(total, 11)["bytes"] == 1000 * 5033
    temporary = report(recorded, "--temporary")
    assert line(temporary, 11)["bytes"] == 1000 * 5033
    assert temporary["view"]["temporary"] == 1
    threads = report(recorded, "--live", "--by", "thread")["rows"]
    assert {row["thread"] for row in threads} == {"MainThread", "worker"}
    assert next(row["bytes"] for row in threads if row["thread"] == "worker") >= 3000 * 101
    assert all(isinstance(row["thread_id"], int) for row in threads)
    stacks = report(recorded, "--live", "--by", "stack")["rows"]
    stack = next(row for row in stacks if row["thread"] == "worker")
    assert stack["stack"][0]["function"] in (
        "Keeper.keep",
        "Keeper.keep.<locals>.<listcomp>",
    )
    assert stack["stack"][-1]["file"].endswith("threading.py")
    assert stack["thread"] == "worker"
    assert all(frame["column"] is None or frame["column"] >= 1 for frame in stack["stack"])
    files = {row["file"] for row in report(recorded, "--by", "file")["rows"]}
    assert not any("memheft" in name or "importlib" in name for name in files)


def test_own_charges_the_calling_line(recorded: Workplace) -> None:
    plain, own = report(recorded), report(recorded, "--own")
    assert own["totals"]["bytes"] == plain["totals"]["bytes"]
    app = {row["line"]: row for row in own["rows"] if row["file"].endswith("app.py")}
    assert app[7]["bytes"] > 500_000
    assert app[1]["imports"] == ["csv"]
    assert own["view"]["filters"] == ["--own"]
    inside = [row for row in plain["rows"] if row["file"].endswith("csv.py")]
    assert inside
    assert inside[0]["owner"]["line"] == 7
    assert not [row for row in own["rows"] if row["file"].endswith("csv.py") and row["bytes"]]


def test_filters(recorded: Workplace) -> None:
    whole = report(recorded)["totals"]["bytes"]
    only = {
        name: report(recorded, "--only", name)["totals"]["bytes"]
        for name in ("own", "stdlib", "site-packages")
    }
    without = {
        name: report(recorded, f"--no-{name}")["totals"]["bytes"]
        for name in ("own", "stdlib", "site-packages")
    }
    for name in only:
        assert only[name] + without[name] == whole
    both = report(recorded, "--only", "own", "--only", "stdlib")
    assert both["totals"]["bytes"] == only["own"] + only["stdlib"]
    assert both["view"]["filters"] == ["--only=own", "--only=stdlib"]
    for pattern in ("app.py", "*/app.py", "app.p?"):
        matched = report(recorded, "--match", pattern)
        assert {os.path.basename(row["file"]) for row in matched["rows"] if row["bytes"]} == {"app.py"}
        assert only["own"] * 0.99 < matched["totals"]["bytes"] <= only["own"]
    assert report(recorded, "--match", "nothing-like-it")["rows"] == []


def test_tree(recorded: Workplace) -> None:
    for words in ([], ["--inverted"]):
        document = report(recorded, "--tree", *words)
        rows = document["rows"]
        assert sum(row["bytes"] for row in rows) == document["totals"]["bytes"]
        for unit in ("bytes", "blocks"):
            top = sum(row[f"inclusive_{unit}"] for row in rows if row["depth"] == 0)
            assert top == document["totals"][unit]
            below: dict[int, int] = {}
            for row in reversed(rows):
                inside = below.pop(row["depth"] + 1, 0)
                assert row[f"inclusive_{unit}"] == row[unit] + inside
                below[row["depth"]] = below.get(row["depth"], 0) + row[f"inclusive_{unit}"]
    folded = report(recorded, "--tree", "--fold", "10")["rows"]
    assert len(folded) < len(rows)
    assert sum(row["inclusive_bytes"] for row in folded if row["depth"] == 0) == document["totals"]["bytes"]


def test_lines(recorded: Workplace) -> None:
    document = report(recorded, "--total", "--lines", "app.py")
    lines = {line["line"]: line for line in document["lines"]}
    source = PROGRAM.split("\n")
    assert all(line["text"] == source[number - 1] for number, line in lines.items())
    by_line = [row for row in report(recorded, "--total")["rows"] if row["file"].endswith("app.py")]
    for number, line in lines.items():
        assert line["bytes"] == sum(row["bytes"] for row in by_line if row["line"] == number)
        assert line["inclusive_bytes"] >= max(
            row["inclusive_bytes"] for row in by_line if row["line"] == number
        )
    assert lines[17]["inclusive_bytes"] >= lines[7]["inclusive_bytes"]
    assert document["bytes"] == sum(line["bytes"] for line in lines.values())
    for name in ("Keeper.keep", "keep", "app.py:keep", "app.py:Keeper.keep"):
        one = report(recorded, "--live", "--lines", name)
        assert one["function"] == "Keeper.keep"
        assert [line["line"] for line in one["lines"]] == [15]
    text = recorded.memheft("report", "app.heft", "--lines", "brief", "--total").out
    assert "def brief():" in text
    assert "def rows" not in text
    for name in ("nothing", "nothing.py", "app.py:nothing", "__init__.py"):
        result = recorded.memheft("report", "app.heft", "--lines", name)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)


def test_text(recorded: Workplace) -> None:
    for words in (["--by", by] for by in GROUPINGS):
        result = recorded.memheft("report", "app.heft", *words)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("app.py: ")
        assert "\x1b" not in result.out
    for words in (["--tree"], ["--tree", "--inverted"], ["--lines", "app.py"], ["--live"], ["--total"]):
        assert recorded.memheft("report", "app.heft", *words).code == 0
    assert len(recorded.memheft("report", "app.heft", "--limit", "3").out.splitlines()) == 6
    assert recorded.memheft("rep", "--temporary", "app.heft").code == 0
    assert recorded.memheft("report", "--temporary", "4", "app.heft").code == 0
    assert recorded.memheft("report", "--temp=4", "app.heft").code == 0


def test_pipes_and_full_disks(recorded: Workplace) -> None:
    script = " ".join([*MEMHEFT, "report app.heft --json"])
    broken = recorded.command(["bash", "-c", f"{script} | true; echo ${{PIPESTATUS[0]}}"])
    assert broken.err == ""
    assert broken.out.strip() in ("0", "141")
    closed = recorded.command(["sh", "-c", f"{script} >&-"])
    assert "Traceback" not in closed.err
    for words in (
        "report app.heft --json", "report app.heft", "report app.heft --tree", "info app.heft --json",
        "report app.heft --lines app.py", "info app.heft", "--help", "--version", "report --help", "info -h",
        "run --help",
    ):  # fmt: skip
        full = recorded.command(["sh", "-c", f"{' '.join(MEMHEFT)} {words} > /dev/full"])
        assert (full.code, full.err.count("\n")) == (1, 1), words
        assert full.err.startswith("memheft: error: cannot write the output: No space left on device")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--temporary", "8"], "1, 2 or 4"),
        (["--temporary=x"], "1, 2 or 4"),
        (["--limit", "-1"], "--limit"),
        (["--limit", "x"], "--limit takes"),
        (["--fold", "x", "--tree"], "--fold"),
        (["--fold", "101", "--tree"], "--fold"),
        (["--fold", "1"], "--tree"),
        (["--inverted"], "--tree"),
        (["--by", "colour"], "colour"),
        (["--peak", "--live"], "not allowed"),
        (["--tree", "--by", "line"], "--by line does not go with --tree: a tree is made of lines"),
        (["--lines", "app.py", "--by", "file"], "--lines does not go with --by file"),
        (["--lines", "app.py", "--tree"], "--lines does not go with --tree"),
        (["--only", "mine"], "mine"),
        (["--only", "own", "--no-own"], "leave nothing"),
        (["two.heft"], "two.heft"),
        (["--unknown"], "--unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors(recorded: Workplace, words: list[str], says: str) -> None:
    result = recorded.memheft("report", "app.heft", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result.err
    assert says in result.err
    document = recorded.memheft("report", "app.heft", *words, "--json")
    assert (document.code, document.err) == (2, result.err)
    schema.check(document.json)
    assert document.json["code"] == "usage"


@pytest.mark.parametrize("verb", ["report", "info"])
def test_bad_recordings(recorded: Workplace, tmp_path: Path, verb: str) -> None:
    good = (recorded.folder / "app.heft").read_bytes()
    newer = bytearray(good)
    newer[8:12] = (99).to_bytes(4, "little")
    bad = {
        "empty": b"",
        "foreign": b"#!/usr/bin/env python\n" * 1000,
        "text": good[:2] + b"\n" + good[2:],
        "newer": bytes(newer),
        "truncated": good[: len(good) // 2],
        "short": good[:100],
        "header": good[:20] + bytes([good[20] ^ 0xFF]) + good[21:],
        "flipped": good[:40_000] + bytes([good[40_000] ^ 0x10]) + good[40_001:],
    }
    paths = []
    for name, data in bad.items():
        path = tmp_path / f"{name}.heft"
        path.write_bytes(data)
        paths.append(path)
    for path in [*paths, tmp_path / "missing.heft", tmp_path]:
        text = recorded.memheft(verb, str(path))
        if path.stem == "flipped" and text.code == 0:
            continue  # a bit that counts for nothing
        assert (text.code, text.out, text.err.count("\n")) == (1, "", 1), (path, text.err)
        assert text.err.startswith("memheft: error: ")
        assert str(path) in text.err
        document = recorded.memheft(verb, str(path), "--json")
        assert (document.code, document.err) == (1, text.err)
        schema.check(document.json)
        if path.stem in ("empty", "foreign", "newer", "truncated", "missing"):
            assert document.json["code"] == path.stem
            assert "at byte" not in text.err
        if path.stem in ("truncated", "short"):
            assert document.json["code"] == "truncated"
            assert re.search(
                r"is cut short: [\d.]+ (Ki)?B of it are there, and nothing can be read", text.err
            )


def test_running_program(workplace: Workplace) -> None:
    workplace.write(
        "app.py", "kept = [bytes(200) for _ in range(10_000)]\nprint('ready', flush=True)\ninput()\n"
    )
    command = [*MEMHEFT, "run", "-q", "-o", "app.heft", "app.py"]
    options: Any = {"cwd": workplace.folder, "env": workplace.environment, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            document = report(workplace, "--live")
            assert document["recording"]["complete"] is False
            assert document["recording"]["exit_code"] is None
            assert document["recording"]["running"] is True
            assert document["rows"][0]["bytes"] >= 10_000 * 200
        text = workplace.memheft("report").out
        assert "still runs" in text
        assert "kept = [bytes(200)" in text
        assert "still runs" in workplace.memheft("info").out
        process.communicate("\n")
    assert report(workplace)["recording"]["complete"] is True


@pytest.mark.parametrize(
    ("code", "complete", "exit_code"),
    [
        ("pass", True, 0),
        ("raise SystemExit(3)", True, 3),
        ("raise ValueError", True, 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", True, 130),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", False, 143),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", False, 137),
        ("import os; os._exit(4)", True, 4),
        ("import os; os.abort()", False, 134),
    ],
)
def test_complete(workplace: Workplace, code: str, complete: bool, exit_code: int) -> None:
    workplace.write("app.py", "x = [bytes(100) for _ in range(1000)]\n" + code)
    workplace.memheft("run", "-q", "-o", "app.heft", "app.py")
    deadline = time.monotonic() + 5
    while True:
        document = report(workplace, "--live")
        if document["recording"]["exit_code"] is not None or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # a killed process does not wait for its watcher
    assert (document["recording"]["complete"], document["recording"]["exit_code"]) == (complete, exit_code)
    assert document["rows"][0]["bytes"] >= 100_000


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])", "sys.exit()"]
)
def test_how_long_it_ran(workplace: Workplace, end: str) -> None:
    """Also what came after the last allocation, which the program itself does not time."""
    workplace.write("app.py", f"import os, sys, time\nfor _ in (1, 2):\n    time.sleep(0.5)\n{end}\n")
    result = workplace.memheft("run", "-o", "app.heft", "app.py")
    deadline = time.monotonic() + 10
    while True:
        recording = report(workplace)["recording"]
        if recording["exit_code"] is not None or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert recording["exit_code"] == result.code & 0xFF or result.code < 0
    assert 1.0e9 <= recording["duration_ns"] < 1.0e9 + 30e9


def test_how_long_it_has_run(workplace: Workplace) -> None:
    workplace.write("app.py", "print('ready', flush=True)\ninput()\n")
    command = [*MEMHEFT, "run", "-q", "-o", "app.heft", "app.py"]
    options: Any = {"cwd": workplace.folder, "env": workplace.environment, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        assert report(workplace)["recording"]["duration_ns"] >= 0.3e9
        process.communicate("\n")


def test_recursion_is_marked_where_it_was_folded(workplace: Workplace) -> None:
    lines = ["kept = []", "def keep(n):", "    kept.append(bytes(1000))", "    if n:", "        keep(n - 1)"]
    lines += ["def once():", "    kept.append(bytes(5_000_000))", "once()", "keep(500)"]
    workplace.record("\n".join(lines) + "\n")
    for words in ([], ["--inverted"]):
        rows = report(workplace, "--live", "--tree", *words)["rows"]
        assert {row["line"] for row in rows if row.get("recursive")} == {5}
    stacks = [row["stack"] for row in report(workplace, "--live", "--by", "stack")["rows"]]
    (stack,) = [stack for stack in stacks if [frame["line"] for frame in stack] == [3, 5, 9]]
    assert [frame.get("recursive", False) for frame in stack] == [False, True, False]
    says = "(recursive): recursion is folded onto this line, its first level\n"
    for words in (["--tree"], ["--tree", "--inverted"], ["--by", "stack"]):
        text = workplace.memheft("report", "app.heft", "--live", *words).out
        assert re.search(r"app\.py:5 keep \(recursive\)", text)
        assert text.count(says) == 1
        assert "app.py:3 keep (rec" not in text
        assert says not in workplace.memheft("report", "app.heft", "--live", *words, "--limit", "1").out
    assert says not in workplace.memheft("report", "app.heft", "--live").out


MANY_PATHS = """\
import json
DEPTH = 18
text = "".join(f"def f{i}():\\n    f{i + 1}()\\n    f{i + 1}()\\n" for i in range(DEPTH))
kept = []
made = {"kept": kept, "__name__": "made"}
exec(compile(text + f"def f{DEPTH}():\\n    kept.append(bytes(100))\\n", "app_made.py", "exec"), made)
made["f0"]()
def mine():
    return [json.loads("[1.5, 2.5]") for _ in range(1000)]
x = mine()
"""


def test_more_call_paths_than_are_kept(workplace: Workplace) -> None:
    """2 ** 18 paths to one line, then more: what lines asked for is exact, and what is not known is said."""
    workplace.record(MANY_PATHS)
    info = workplace.memheft("info", "app.heft", "--json").json
    schema.check(info)
    assert info["recording"]["paths_cut"] is True
    assert "more call paths than a recording keeps" in workplace.memheft("info", "app.heft").out
    lines = report(workplace, "--live")
    assert lines["recording"]["paths_cut"] is True
    made = lines["rows"][0]
    assert (os.path.basename(made["file"]), made["line"]) == ("app_made.py", 56)
    assert made["blocks"] >= 2**18
    assert 2**17 < lines["totals"]["cut_blocks"] < lines["totals"]["blocks"]
    assert lines["totals"]["cut_bytes"] < lines["totals"]["bytes"]

    def cut(document: Any) -> Any:
        return next(row for row in document["rows"] if row.get("file") == "<paths cut>")

    own = report(workplace, "--live", "--own")
    assert own["totals"]["bytes"] == lines["totals"]["bytes"]
    assert cut(own)["bytes"] > 100_000  # json's, made for mine(), which is no longer known
    assert cut(report(workplace, "--live", "--tree"))["inclusive_bytes"] == lines["totals"]["cut_bytes"]
    stack = report(workplace, "--live", "--by", "stack")["rows"][0]["stack"]
    assert [frame["function"] for frame in stack] == ["f18", "<paths cut>"]
    for words, says in [
        ([], "only the innermost line is known; what lines asked for themselves is exact"),
        (["--own"], "they are charged to <paths cut>"),
        (["--tree"], "they stand under <paths cut>"),
        (["--tree", "--inverted"], "they stand under <paths cut>"),
        (["--by", "stack"], "they stand under <paths cut>"),
        (["--by", "function"], "`with calls` is too small"),
        (["--lines", "app.py"], "`with calls` is too small"),
        (["--by", "thread"], "what lines asked for themselves is exact"),
    ]:
        result = workplace.memheft("report", "app.heft", *words, environment={"COLUMNS": "80"})
        assert (result.code, result.err) == (0, "")
        (note,) = [line for line in result.out.splitlines() if line.startswith("note: ")]
        assert says in note
        assert "(none of your own code was running)" not in [
            line for line in result.out.splitlines() if "<paths cut>" in line
        ]
    assert workplace.memheft("report", "app.heft", "--lines", "<paths cut>").code == 2


# -- sources ---------------------------------------------------------------------------------------------


def test_sources_travel(workplace: Workplace) -> None:
    """A report reads the same after an edit, and without the files."""
    path = workplace.record(
        "import json\nx = [bytes(100) for _ in range(1000)]\ny = json.loads('[' + '1.5,' * 5000 + '1]')\n"
    )
    before = workplace.memheft("report", "app.heft", "--limit", "0").out
    assert "x = [bytes(100)" in before
    (workplace.folder / "app.py").write_text("# edited\n# since\n")
    assert workplace.memheft("report", "app.heft", "--limit", "0").out == before
    (workplace.folder / "app.py").unlink()
    assert workplace.memheft("report", "app.heft", "--limit", "0").out == before
    moved = workplace.folder / "elsewhere" / "y.heft"
    moved.parent.mkdir()
    path.rename(moved)
    assert workplace.memheft("report", str(moved), "--limit", "0").out == before


def test_a_file_changed_before_the_end_shows_no_wrong_source(workplace: Workplace) -> None:
    workplace.write(
        "app.py", "x = [bytes(100) for _ in range(1000)]\nopen(__file__, 'w').write('# wrong\\n')\n"
    )
    result = workplace.memheft("run", "-o", "app.heft", "app.py")
    assert re.search("app.py:1 <(module|listcomp)>", result.err)
    assert "wrong" not in result.err
    assert "wrong" not in workplace.memheft("report").out


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "# -*- coding: latin-1 -*-\nx = bytes(1_000_000)  # é\n"),
        ("utf-8-sig", "\nx = bytes(1_000_000)  # é\n"),
        ("euc-jp", "# coding: euc-jp\nx = bytes(1_000_000)  # 日本\n"),
        ("utf-8", "\r\nx = bytes(1_000_000)  # é\r\n"),
        ("utf-8", "# \x0c\nx = bytes(1_000_000)  # é\n"),
    ],
)
def test_encodings(workplace: Workplace, encoding: str, text: str) -> None:
    path = workplace.folder / "app.py"
    path.write_bytes(text.encode(encoding))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    result = workplace.memheft("run", "app.py", environment={"PYTHONIOENCODING": "utf-8"})
    assert result.code == 0
    assert text.split("\n")[1].strip() in result.err


def test_code_of_the_command_line(workplace: Workplace) -> None:
    code = (
        "import collections\n"
        "def f():\n"
        "    return [bytes(100) for _ in range(5000)]\n"
        "x = f()\n"
        "exec('\\n\\ndef g():\\n    return [bytes(90) for _ in range(5000)]\\ny = g()')\n"
    )
    result = workplace.memheft("run", "-o", "app.heft", "-c", code)
    assert result.err.startswith("memheft: -c exited 0")
    lines = {line.split("  ")[-1]: line for line in result.err.splitlines()}
    assert any("<string>:3 f" in line and "return [bytes(100)" in line for line in lines.values())
    for line in lines.values():
        if ":4 g" in line:
            assert "x = f()" not in line  # it is another file of the same name
    assert workplace.memheft("report", "--lines", "f").code == 0


def test_names_that_are_no_text(workplace: Workplace) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (workplace.folder / name).write_text("x = [bytes(100) for _ in range(5000)]\n")
    result = workplace.memheft("run", "-o", "app.heft", name)
    assert result.code == 0, result.err
    assert "caf" in result.err
    rows = report(workplace)["rows"]
    assert rows[0]["file"].endswith(name)
    assert workplace.memheft("report", environment={"LC_ALL": "C", "PYTHONUTF8": "0"}).code == 0


def test_escape_sequences_do_not_reach_the_terminal(workplace: Workplace) -> None:
    workplace.write(
        "a\x1b[31m\n.py", "def f():\n    return [bytes(100) for _ in range(5000)]  # \x1b[31m\nx = f()\n"
    )
    result = workplace.memheft("run", "-o", "app.heft", "a\x1b[31m\n.py")
    assert "\x1b" not in result.err
    for words in (["report"], ["report", "--tree"], ["report", "--lines", "f"], ["info"]):
        assert "\x1b" not in workplace.memheft(*words).out


# -- on a terminal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_terminal(workplace: Workplace, columns: int) -> None:
    from test_run import on_terminal

    from memheft.views.text import width

    name = "データ処理/" + "long_folder_name/" * 4 + "ファイル.py"
    workplace.write(
        name,
        "import json\ndef 読む():\n    return [bytes(100) for _ in range(20_000)]  # 日本語\nx = 読む()\n",
    )
    assert workplace.memheft("run", "-q", name).code == 0
    for words in (
        [],
        ["--tree"],
        ["--tree", "--inverted"],
        ["--by", "file"],
        ["--by", "stack"],
        ["--lines", name],
    ):
        text = on_terminal(workplace, ["report", *words], columns).replace("\r", "")
        assert "\x1b[" in text
        bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
        table = [line for line in bare.split("\n") if re.match(r" *[<\d][\d.]* %", line)]
        assert table
        for line in table:
            assert width(line.rstrip()) <= columns, line
            assert re.match(r" *[<\d][\d.]* %  +\d[\d.]* ([KM]i)?B", line) or "--lines" in words, line
        plain = on_terminal(workplace, ["report", *words], columns, NO_COLOR="1")
        assert not re.search(r"\x1b\[[0-9;]*3\dm", plain)


@pytest.mark.parametrize("color", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [
        "report app.heft",
        "report app.heft --json",
        "report app.heft --tree",
        "report app.heft --plot",
        "report --help",
        "info app.heft",
        "info app.heft --json",
        "diff app.heft app.heft",
        "diff app.heft app.heft --json",
        "export app.heft --format csv",
        "export app.heft --format pprof",
        "--version",
        "--help",
    ],
)
def test_a_closed_stdout(recorded: Workplace, words: str, color: str) -> None:
    """What was asked for has not been written: a failure, and no other."""
    command = ["sh", "-c", f"exec {' '.join(MEMHEFT)} {words} >&-"]
    result = recorded.command(command, environment={"FORCE_COLOR": color} if color else {})
    assert result.code == 1, result.err
    assert result.err == "memheft: error: cannot write the output: stdout is closed\n"


def test_a_closed_stdout_that_is_not_needed(recorded: Workplace) -> None:
    for words in ("export app.heft -qfo closed.csv", "plot app.heft -qfo closed.svg"):
        result = recorded.command(["sh", "-c", f"exec {' '.join(MEMHEFT)} {words} >&-"])
        assert (result.code, result.err) == (0, "")
    assert (recorded.folder / "closed.csv").read_text().startswith("bytes,")
