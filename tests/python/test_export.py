"""`memheft export`: every format's sums against the report's, names of every kind, files that it writes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import MEMHEFT, ROOT, Workplace, clean_environment
from export_tools import (
    MOMENTS,
    PROGRAM,
    export,
    read_collapsed,
    read_pprof,
    read_speedscope,
    totals,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_tools import running

from memheft.cli.main import main

GROUPINGS = ("line", "function", "file", "module", "thread", "stack")
FILTERS: tuple[list[str], ...] = ([], ["--own"], ["--only", "own"], ["--no-stdlib"], ["--match", "csv.py"])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("recorded")
    workplace = Workplace(folder, clean_environment({"XDG_STATE_HOME": str(folder / "state")}))
    workplace.record(PROGRAM)
    return workplace


# -- sums ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "words"), list(itertools.product(MOMENTS, FILTERS)))
def test_sums_are_the_reports(recorded: Workplace, moment: str, words: list[str]) -> None:
    bytes_, blocks = totals(recorded, f"--{moment}", *words)
    assert bytes_ or words
    pprof = read_pprof(export(recorded, "app.pb.gz", f"--{moment}", *words))
    kind = "inuse" if moment in ("peak", "live") else "alloc"
    assert (pprof.sum(f"{kind}_space"), pprof.sum(f"{kind}_objects")) == (bytes_, blocks)
    assert pprof.default == f"{kind}_space"
    collapsed = read_collapsed(export(recorded, "app.collapsed", f"--{moment}", *words))
    assert sum(collapsed.values()) == bytes_
    speedscope = read_speedscope(export(recorded, "app.speedscope.json", f"--{moment}", *words))
    assert speedscope["profiles"][speedscope["activeProfileIndex"]]["endValue"] == bytes_
    table = read_csv(export(recorded, "app.csv", f"--{moment}", *words))
    assert sum(int(row["bytes"]) for row in table) == bytes_
    assert sum(int(row["blocks"]) for row in table) == blocks


@pytest.mark.parametrize("span", [1, 2, 4])
def test_spans_of_temporary_blocks(recorded: Workplace, span: int) -> None:
    profile = read_pprof(export(recorded, "app.pb.gz", "--temporary", str(span)))
    assert (profile.sum("alloc_space"), profile.sum("alloc_objects")) == totals(
        recorded, f"--temporary={span}"
    )
    assert [name for name, _ in profile.types] == ["alloc_objects", "alloc_space"]


# -- pprof -----------------------------------------------------------------------------------------------


def test_pprof(recorded: Workplace) -> None:
    profile = read_pprof(export(recorded, "app.pb.gz"))
    assert profile.types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert (profile.sum("alloc_space"), profile.sum("alloc_objects")) == totals(recorded, "--total")
    assert profile.period == 1
    info = recorded.memheft("info", "app.heft", "--json").json
    assert profile.duration_ns == info["recording"]["duration_ns"]
    assert 0 < profile.time_ns - info["totals"]["peak_at_ns"] < 2**63
    assert profile.comments[0].endswith("app.py")
    assert "inuse_*: blocks that were live at the peak" in "\n".join(profile.comments)
    app = str(recorded.folder / "app.py")
    keep = [sample for sample in profile.samples if sample.stack[0] == ("Keeper.keep", app, 17)]
    (sample,) = [sample for sample in keep if sample.values["alloc_objects"] >= 3000]
    assert sample.stack[1][0] == "Thread.run"
    assert sample.labels["thread"] == 'wor;ker "1"'
    assert sample.labels["thread_id"] in [thread["thread_id"] for thread in info["threads"]]
    assert sample.labels["pid"] == info["recording"]["pid"]
    assert profile.starts["Keeper.keep", app] == 14
    assert profile.starts["rows", app] == 5
    keys = [(tuple(s.stack), s.labels.get("thread_id")) for s in profile.samples]
    assert len(set(keys)) == len(keys)


def test_pprof_of_all_has_the_end_in_use(recorded: Workplace) -> None:
    profile = read_pprof(export(recorded, "app.pb.gz", "--total"))
    assert (profile.sum("inuse_space"), profile.sum("inuse_objects")) == totals(recorded, "--live")


def test_stacks_are_the_reports(recorded: Workplace) -> None:
    """Stack by stack, not only in sum: what a report tells apart by an import alone is one here."""
    rows = recorded.memheft("report", "app.heft", "--by", "stack", "--json").json["rows"]
    expected: dict[Any, int] = {}
    for row in rows:
        frames = tuple((frame["function"], frame["file"], frame["line"] or 0) for frame in row["stack"])
        key = frames, row["thread_id"]
        expected[key] = expected.get(key, 0) + row["bytes"]
    found = {
        (tuple(sample.stack), sample.labels.get("thread_id")): sample.values["inuse_space"]
        for sample in read_pprof(export(recorded, "app.pb.gz")).samples
    }
    assert {key: value for key, value in found.items() if value} == {k: v for k, v in expected.items() if v}


# -- speedscope, collapsed -------------------------------------------------------------------------------


def test_speedscope(recorded: Workplace) -> None:
    document = read_speedscope(export(recorded, "app.speedscope.json", "--live"))
    names = [profile["name"] for profile in document["profiles"]]
    assert document["name"] == "app.py"
    assert names[:4] == ["Peak bytes", "Bytes left at the end", "Total allocated bytes", "Allocation count"]
    assert set(names[4:]) == {
        "Bytes left at the end, MainThread",
        'Bytes left at the end, wor;ker "1"',
    }
    assert document["activeProfileIndex"] == 1
    sums = [profile["endValue"] for profile in document["profiles"]]
    assert sums[:3] == [totals(recorded, f"--{moment}")[0] for moment in ("peak", "live", "total")]
    assert sums[3] == totals(recorded, "--total")[1]
    assert sum(sums[4:]) == sums[1]
    frames = document["shared"]["frames"]
    app = str(recorded.folder / "app.py")
    assert (app, 17) in [(frame["file"], frame["line"]) for frame in frames if frame["name"] == "Keeper.keep"]
    roots = {frames[stack[0]]["name"] for stack in document["profiles"][1]["samples"]}
    assert {"<module>", "Thread._bootstrap"} <= roots
    read_speedscope(export(recorded, "app.speedscope.json", "--temporary"))


def test_collapsed(recorded: Workplace) -> None:
    stacks = read_collapsed(export(recorded, "app.collapsed", "--live"))
    keep = next(stack for stack in stacks if stack[-1] == "Keeper.keep (app.py:17)")
    assert keep[0].startswith('thread wor:ker "1" (')
    assert keep[1].startswith("Thread._bootstrap (threading.py:")
    assert any(stack[0].startswith("thread MainThread (") for stack in stacks)


def test_chrome(recorded: Workplace) -> None:
    document = json.loads(export(recorded, "app.trace.json").read_text("ascii"))
    known = recorded.memheft("info", "app.heft", "--json").json["totals"]
    events = document["traceEvents"]
    assert document["displayTimeUnit"] == "ms"
    assert (events[0]["ph"], events[0]["name"], events[0]["args"]) == (
        "M",
        "process_name",
        {"name": "app.py"},
    )
    live = [event for event in events if event["name"] == "live"]
    assert {event["ph"] for event in live} == {"C"}
    times = [event["ts"] for event in live]
    assert times == sorted(times)
    assert max(event["args"]["bytes"] for event in live) <= known["peak_bytes"]
    assert live[-1]["args"] == {"bytes": known["live_bytes"]}
    resident = [event["args"]["bytes"] for event in events if event["name"] == "resident"]
    assert all(0 < size < 2**40 for size in resident)
    (peak,) = [event for event in events if event["ph"] == "i"]
    assert peak["args"] == {"bytes": known["peak_bytes"]}
    assert 0 < peak["ts"] * 1000 <= times[-1] * 1000
    assert len({event["pid"] for event in events}) == 1


def test_chrome_needs_a_timeline(workplace: Workplace) -> None:
    early = str(ROOT / "tests" / "golden" / "format-1.heft")
    result = workplace.memheft("export", early, "-o", "x.trace.json")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "this recording has no timeline" in result.err
    assert not (workplace.folder / "x.trace.json").exists()


# -- tables ----------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize("by", GROUPINGS)
def test_csv(recorded: Workplace, by: str) -> None:
    rows = recorded.memheft("report", "app.heft", "--json", "--by", by).json["rows"]
    table = read_csv(export(recorded, "app.csv", "--by", by))
    assert len(table) == len(rows)
    for cells, row in zip(table, rows, strict=True):
        flat = row | (row["stack"][0] if by == "stack" else {})
        for key, cell in cells.items():
            if key == "stack":
                assert cell.count(";") == len(row["stack"]) - 1
                innermost = row["stack"][0]
                assert cell.split(";")[-1].startswith(innermost["function"])
            elif key.startswith(("owner_", "caller_")) and not key.endswith("_bytes"):
                of, _, inner = key.partition("_")
                expected = row.get(of, {}).get(inner)
                assert cell == ("" if expected is None else str(expected))
            elif key == "imports":
                assert cell == " ".join(row.get("imports", []))
            else:
                assert cell == ("" if flat.get(key) is None else str(flat[key])), key


def test_csv_of_callers(workplace: Workplace) -> None:
    """What an installed program asked the standard library for."""
    workplace.write("site-packages/tool.py", "import json\nkept = json.loads(str([*range(1000)]))\n")
    done = workplace.memheft("run", "-q", "-o", "app.heft", "site-packages/tool.py")
    assert done.code == 0, done.err
    row = next(row for row in read_csv(export(workplace, "app.csv", "--live")) if row["caller_line"] == "2")
    assert row["file"].endswith("json/decoder.py")
    assert row["caller_file"].endswith("site-packages/tool.py")
    assert row["caller_function"] == "<module>"
    assert 0 < int(row["caller_bytes"]) <= int(row["bytes"])
    assert (row["owner_file"], row["owner_line"], row["owner_bytes"]) == ("", "", "")


def test_json_is_the_report(recorded: Workplace) -> None:
    report = recorded.memheft("report", "app.heft", "--json", "--live", "--by", "file").out
    assert export(recorded, "app.json", "--live", "--by", "file").read_text("utf-8") == report


# -- names of every kind ---------------------------------------------------------------------------------

NAMER = """\
import json, threading
def f():
    return bytearray(100_000)
kept = []
def make(names):
    for file, function in names:
        code = f.__code__.replace(co_filename=file, co_name=function, co_qualname=function)
        kept.append(type(f)(code, globals())())
with open("names.json") as file:
    names = json.load(file)
thread = threading.Thread(target=make, args=(names,), name=names[0][1])
thread.start()
thread.join()
make(names)
"""
NAMES = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs"]),
        st.sampled_from(';\n\r\t\x00"\\,<>() \x85\u2028\u202e\ufeff'),
    ),
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6))
def test_any_name(workplace: Workplace, names: list[tuple[str, str]]) -> None:
    workplace.write("names.json", json.dumps(names))
    workplace.record(NAMER)
    check_every_format(workplace)


def test_hostile_names(workplace: Workplace) -> None:
    names = [
        ("a;b\n.py", "f;g\r\nh"),
        ("\udcff\ud800.py", 'q"\\\udc80'),
        ("\x00\x1b", "=1+1"),
        ("漢.py", "é 😀"),
        ("", ""),
    ]
    workplace.write("names.json", json.dumps(names))
    workplace.record(NAMER)
    profile, collapsed = check_every_format(workplace)
    functions = {sample.stack[0][:2] for sample in profile.samples}
    assert ('q"\\\\udc80', "\\udcff\\ud800.py") in functions
    assert ("é 😀", "漢.py") in functions
    assert ("f;g\r\nh", "a;b\n.py") in functions
    leaves = {stack[-1] for stack in collapsed}
    assert "f:g  h (a:b .py:3)" in leaves
    assert "é 😀 (漢.py:3)" in leaves


def check_every_format(workplace: Workplace) -> Any:
    bytes_, blocks = totals(workplace)
    recording = str(workplace.folder / "app.heft")
    formats = ("pprof", "collapsed", "speedscope", "chrome", "csv", "json")
    outputs = {name: workplace.folder / f"out.{name}" for name in formats}
    for name, path in outputs.items():
        words = ["--by", "stack"] if name in ("csv", "json") else []
        assert main(["export", recording, "-qfo", str(path), "--format", name, *words]) == 0
    profile, collapsed = read_pprof(outputs["pprof"]), read_collapsed(outputs["collapsed"])
    assert (profile.sum("inuse_space"), profile.sum("inuse_objects")) == (bytes_, blocks)
    assert sum(collapsed.values()) == bytes_
    assert read_speedscope(outputs["speedscope"])["profiles"][0]["endValue"] == bytes_
    assert sum(int(row["bytes"]) for row in read_csv(outputs["csv"])) == bytes_
    assert json.loads(outputs["json"].read_text("utf-8"))["totals"]["bytes"] == bytes_
    assert json.loads(outputs["chrome"].read_text("utf-8"))["traceEvents"]
    return profile, collapsed


# -- files -----------------------------------------------------------------------------------------------


def test_what_is_said(recorded: Workplace) -> None:
    result = recorded.memheft("export", "app.heft", "-fo", "said.pb.gz")
    assert (result.code, result.out) == (0, "")
    first, second = result.err.splitlines()
    assert first.startswith("memheft: said.pb.gz: ")
    assert " at the peak, " in first
    assert second == "next: go tool pprof -top -lines said.pb.gz"
    assert recorded.memheft("export", "app.heft", "-qfo", "said.pb.gz").err == ""
    last = recorded.memheft("export", "-fo", "said.csv")
    assert "(from app.heft)" in last.err
    cut = recorded.memheft("export", "-fo", "said.csv", "--own", "--match", "nothing")
    assert cut.code == 0
    assert read_csv(recorded.folder / "said.csv") == []


def test_stdout(recorded: Workplace) -> None:
    for words in (["--format", "csv"], ["--format", "csv", "-o", "-"]):
        result = recorded.memheft("export", "app.heft", *words)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("bytes,blocks,")
    script = f"{' '.join(MEMHEFT)} export app.heft --format pprof > app.out"
    assert recorded.command(["sh", "-c", script]).code == 0
    assert read_pprof(recorded.folder / "app.out").samples
    full = recorded.command(["sh", "-c", f"{' '.join(MEMHEFT)} export app.heft --format csv > /dev/full"])
    assert (full.code, full.err.count("\n")) == (1, 1)
    assert full.err.startswith("memheft: error: cannot write the output: No space left on device")


def test_binary_is_not_for_a_terminal(recorded: Workplace) -> None:
    main_end, other_end = pty.openpty()
    try:
        done = subprocess.run(
            [*MEMHEFT, "export", "app.heft", "--format", "pprof"],
            cwd=recorded.folder,
            env=recorded.environment,
            stdout=other_end,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(main_end)
        os.close(other_end)
    assert done.returncode == 2
    assert b"not for a terminal" in done.stderr


def test_an_existing_file_stays(recorded: Workplace) -> None:
    path = recorded.write("there.csv", "mine")
    result = recorded.memheft("export", "app.heft", "-o", "there.csv")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "there.csv exists" in result.err
    assert "--force" in result.err
    assert path.read_text() == "mine"
    export(recorded, "there.csv")
    assert path.read_text().startswith("bytes,")
    assert [name for name in os.listdir(recorded.folder) if name.endswith(".part")] == []


def test_a_recording_is_never_overwritten(recorded: Workplace) -> None:
    before = (recorded.folder / "app.heft").read_bytes()
    result = recorded.memheft("export", "app.heft", "-fo", "app.heft", "--format", "csv")
    assert result.code == 2
    assert "is a recording" in result.err
    assert (recorded.folder / "app.heft").read_bytes() == before


def test_a_folder_and_a_link(recorded: Workplace) -> None:
    (recorded.folder / "folder").mkdir()
    assert recorded.memheft("export", "app.heft", "-o", "folder", "--format", "collapsed").code == 0
    assert read_collapsed(recorded.folder / "folder" / "app.collapsed")
    again = recorded.memheft("export", "app.heft", "-o", "folder", "--format", "collapsed")
    assert (again.code, again.err.count("\n")) == (2, 1)
    (recorded.folder / "link.csv").symlink_to("folder/real.csv")
    export(recorded, "link.csv")
    assert (recorded.folder / "link.csv").is_symlink()
    assert read_csv(recorded.folder / "folder" / "real.csv")
    assert recorded.memheft("export", "app.heft", "-o", "/dev/null", "--format", "csv").code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "stdout says no format"),
        (["-o", "-"], 2, "stdout says no format"),
        (["-o", "."], 2, "a folder says no format"),
        (["-o", "x.heft"], 2, "x.heft: the name says no format"),
        (["-o", ""], 2, "error: -o needs the name of a file or a folder"),
        (["-o", "", "--format", "csv"], 2, "error: -o needs the name of a file or a folder"),
        (["-o", "x", "--format", "xml"], 2, "xml"),
        (["-o", "x.pb.gz", "--by", "line"], 2, "--by does not go with pprof"),
        (["-o", "x.csv", "--peak", "--live"], 2, "not allowed"),
        (["-o", "x.csv", "--temporary=3"], 2, "1, 2 or 4"),
        (["-o", "x.csv", "--only", "own", "--no-own"], 2, "leave nothing"),
        (["-o", "nowhere/x.csv"], 1, "nowhere does not exist"),
        (["-o", "app.py/x.csv"], 1, "app.py is not a folder"),
        (["-o", "/proc/x.csv"], 1, "cannot write /proc/x.csv"),
        (["-o", "x.trace.json", "--live"], 2, "--live does not go with chrome"),
        (["-o", "x.trace.json", "--own"], 2, "--own does not go with chrome"),
        (["-o", "/dev/full", "--format", "csv"], 1, "no space left"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(recorded: Workplace, words: list[str], code: int, says: str) -> None:
    before = sorted(os.listdir(recorded.folder))
    result = recorded.memheft("export", "app.heft", *words)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1), result.err
    assert says in result.err
    assert sorted(os.listdir(recorded.folder)) == before


def test_what_is_no_recording(recorded: Workplace) -> None:
    for name, says in (("app.py", "app.py: "), ("nothing.heft", "nothing.heft: "), (".", "is a folder")):
        result = recorded.memheft("export", name, "-o", "x.csv")
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert says in result.err
    assert not (recorded.folder / "x.csv").exists()


def test_nothing_was_recorded(workplace: Workplace) -> None:
    """A program that died before it began: every format can say nothing."""
    engine = "import memheft._engine as e; e.create('app.heft', b'{}', False, False, 0)"
    assert workplace.python("-c", engine).code == 0
    assert read_pprof(export(workplace, "app.pb.gz")).samples == []
    assert read_collapsed(export(workplace, "app.collapsed")) == {}
    (profile,) = read_speedscope(export(workplace, "app.speedscope.json"))["profiles"]
    assert profile["samples"] == []
    assert read_csv(export(workplace, "app.csv")) == []


def test_a_running_program(workplace: Workplace) -> None:
    text = "kept = [bytes(200) for _ in range(10_000)]\nprint('ready', flush=True)\ninput()\n"
    with running(workplace, text) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        result = workplace.memheft("export", "app.heft", "-o", "now.speedscope.json", "--live")
        assert result.code == 0
        assert "the program still runs" in result.err
        document = read_speedscope(workplace.folder / "now.speedscope.json")
        assert document["profiles"][document["activeProfileIndex"]]["name"] == "Bytes live now"
        assert document["profiles"][document["activeProfileIndex"]]["endValue"] > 10_000 * 233
        program.communicate(b"\n")


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_without_pyarrow(workplace: Workplace, name: str) -> None:
    workplace.write("absent/pyarrow.py", "raise ImportError('No module named pyarrow')")
    workplace.record("kept = [bytes(100) for _ in range(100)]")
    path = {"PYTHONPATH": str(workplace.folder / "absent")}
    result = workplace.memheft("export", "app.heft", "-o", name, environment=path)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"{name[2:]} needs pyarrow" in result.err
    assert f"{sys.executable} -m pip install 'memheft[arrow]'" in result.err
    assert not (workplace.folder / name).exists()
