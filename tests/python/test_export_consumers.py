"""Exports, opened by those they are for.  What is not here is skipped, with what would bring it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Workplace, clean_environment
from export_tools import MOMENTS, PROGRAM, export, totals

GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("recorded")
    workplace = Workplace(folder, clean_environment({"XDG_STATE_HOME": str(folder / "state")}))
    workplace.record(PROGRAM)
    return workplace


# -- go tool pprof ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pprof(recorded: Workplace) -> Callable[..., str]:
    if GO is None:
        pytest.skip("no go on this machine")
    if subprocess.run([GO, "tool", "pprof", "-h"], capture_output=True, check=False).returncode not in (0, 2):
        pytest.skip("this go has no pprof")

    def run(*words: str) -> str:
        assert GO is not None
        result = recorded.command([GO, "tool", "pprof", "-unit=B", *words])
        assert result.code == 0, result.err
        return result.out

    return run


def total_of(text: str) -> int:
    found = re.search(r"of (\d+)B? total", text)
    assert found is not None, text
    return int(found[1])


@pytest.mark.parametrize("moment", MOMENTS)
def test_pprof_top(recorded: Workplace, pprof: Callable[..., str], moment: str) -> None:
    path = str(export(recorded, f"{moment}.pb.gz", f"--{moment}"))
    bytes_, blocks = totals(recorded, f"--{moment}")
    kind = "inuse" if moment in ("peak", "live") else "alloc"
    top = pprof("-top", "-nodefraction=0", "-nodecount=100000", path)
    assert f"Type: {kind}_space" in top
    assert total_of(top) == bytes_
    flat = [int(number) for number in re.findall(r"^ *(\d+)B? +[\d.]+%", top, re.MULTILINE)]
    assert sum(flat) == bytes_
    assert total_of(pprof("-top", f"-sample_index={kind}_objects", path)) == blocks


def test_pprof_keeps_names(recorded: Workplace, pprof: Callable[..., str]) -> None:
    path = str(export(recorded, "live.pb.gz", "--live"))
    lines = pprof("-top", "-lines", "-nodefraction=0", "-nodecount=100000", path)
    assert re.search(r" <module> .*app\.py:\d+", lines)
    assert re.search(r" Keeper\.keep .*app\.py:17", lines)
    assert "[python]" not in lines
    peek = pprof("-peek", r"^Keeper\.keep$", path)
    assert re.search(r"Thread\.run\n.*Keeper\.keep", peek)
    assert total_of(pprof("-top", '-tagfocus=thread=wor;ker "1"', path)) >= 3000 * 100
    assert "tags" not in pprof("-tags", path).lower() or "wor;ker" in pprof("-tags", path)


def test_pprof_difference(recorded: Workplace, pprof: Callable[..., str]) -> None:
    peak, live = export(recorded, "peak.pb.gz"), export(recorded, "live.pb.gz", "--live")
    same = pprof("-top", f"-diff_base={peak}", str(peak))
    assert not re.search(r"^ *-?[1-9]\d*B", same, re.MULTILINE)
    moved = pprof("-top", "-nodefraction=0", "-nodecount=100000", f"-diff_base={live}", str(peak))
    flat = [int(number) for number in re.findall(r"^ *(-?\d+)B? +-?[\d.]+%", moved, re.MULTILINE)]
    assert sum(flat) == totals(recorded)[0] - totals(recorded, "--live")[0]


# -- flame graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["flamegraph.pl", "--countname=bytes"], ["inferno-flamegraph"]], ids=" ".join
)
def test_flame_graph(recorded: Workplace, words: list[str]) -> None:
    program = shutil.which(words[0])
    if program is None:
        pytest.skip(f"no {words[0]} on the PATH (FlameGraph's script; cargo install inferno)")
    path = export(recorded, "live.collapsed", "--live")
    result = recorded.command([program, *words[1:], str(path)])
    assert result.code == 0, result.err
    assert result.err == ""
    assert "Keeper.keep (app.py:17)" in result.out
    whole = re.search(r"<title>all \(([\d,]+) \w+, 100", result.out)
    assert whole is not None
    assert int(whole[1].replace(",", "")) == totals(recorded, "--live")[0]


# -- speedscope ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def importer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], list[Any]]:
    """speedscope's own importers, bundled from its sources."""
    checkout = os.environ.get("MEMHEFT_SPEEDSCOPE")
    node = shutil.which("node")
    if checkout is None or node is None:
        pytest.skip(
            "MEMHEFT_SPEEDSCOPE names no checkout of speedscope with node_modules, or there is no node"
        )
    folder = tmp_path_factory.mktemp("speedscope")
    script = folder / "import.ts"
    script.write_text((ROOT / "tests/python/consumers/speedscope.ts").read_text())
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "speedscope").symlink_to(checkout)
    esbuild = Path(checkout) / "node_modules" / ".bin" / "esbuild"
    words = [str(esbuild), str(script), "--bundle", "--platform=node", f"--outfile={folder / 'import.js'}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def run(path: Path) -> list[Any]:
        out = subprocess.run(
            [str(node), str(folder / "import.js"), str(path)], capture_output=True, check=True
        )
        return [json.loads(line) for line in out.stdout.splitlines()]

    return run


@pytest.mark.parametrize("name", ["app.speedscope.json", "app.pb.gz", "app.collapsed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_speedscope(
    recorded: Workplace, importer: Callable[[Path], list[Any]], name: str, moment: str
) -> None:
    shown, *profiles = importer(export(recorded, name, f"--{moment}"))
    assert shown["total"] == totals(recorded, f"--{moment}")[0]
    assert any("Keeper.keep" in frame for frame in shown["names"]) or moment == "temporary"
    if name.endswith(".json"):
        assert [profile["unit"] for profile in profiles[:4]] == ["bytes", "bytes", "bytes", "none"]
        assert profiles[3]["total"] == totals(recorded, "--total")[1]


# -- Arrow, DuckDB ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["line", "function", "file", "module", "thread", "stack"])
def test_arrow(recorded: Workplace, by: str) -> None:
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'memheft[consumers]'")
    import pyarrow
    import pyarrow.parquet

    rows = recorded.memheft("report", "app.heft", "--json", "--by", by).json["rows"]
    parquet = pyarrow.parquet.read_table(export(recorded, "app.parquet", "--by", by))
    with pyarrow.ipc.open_file(export(recorded, "app.arrow", "--by", by)) as reader:
        assert reader.read_all().equals(parquet)
    table = parquet.to_pylist()
    assert [row["bytes"] for row in table] == [row["bytes"] for row in rows]
    meta = {
        key.decode(): json.loads(value)
        for key, value in parquet.schema.metadata.items()
        if b"memheft." in key
    }
    assert meta["memheft.totals"]["bytes"] == sum(row["bytes"] for row in table)
    assert meta["memheft.view"]["by"] == by
    assert meta["memheft.recording"]["complete"] is True
    for cells, row in zip(table, rows, strict=True):
        for key in row.keys() & cells.keys():
            assert cells[key] == row[key] or key == "stack"
        if by == "stack":
            known = {"imports": None, "recursive": False}  # of a frame that has no such key in JSON
            assert cells["stack"] == [known | frame for frame in row["stack"]]
        for key in ("owner", "caller") if by == "line" else ():
            place = row.get(key, {})
            assert all(cells[f"{key}_{inner}"] == place.get(inner) for inner in ("file", "line", "function"))
            assert cells[f"{key}_bytes"] == row.get(f"{key}_bytes")


def test_arrow_of_frames(recorded: Workplace) -> None:
    """Nothing that JSON says of a frame is left out."""
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'memheft[consumers]'")
    import pyarrow.parquet

    golden = str(Path(__file__).parents[1] / "golden" / "format-1.heft")
    words = ("--by", "stack", "--total")
    rows = recorded.memheft("report", golden, "--json", *words).json["rows"]
    path = recorded.folder / "golden.parquet"
    assert recorded.memheft("export", golden, "-o", str(path), *words).code == 0
    stacks = pyarrow.parquet.read_table(path)["stack"].to_pylist()
    known = {"imports": None, "recursive": False}  # of a frame that has no such key
    assert stacks == [[known | frame for frame in row["stack"]] for row in rows]
    frames = [frame for stack in stacks for frame in stack]
    assert any(frame["imports"] for frame in frames)
    assert any(frame["recursive"] for frame in frames)


@pytest.mark.parametrize("moment", MOMENTS)
def test_duckdb(recorded: Workplace, moment: str) -> None:
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'memheft[consumers]'")
    duckdb = pytest.importorskip("duckdb", reason="no duckdb: pip install 'memheft[consumers]'")
    path = export(recorded, "app.parquet", f"--{moment}", "--by", "stack")
    sums = duckdb.sql(f"select sum(bytes)::bigint, sum(blocks)::bigint from '{path}'").fetchall()
    assert sums == [totals(recorded, f"--{moment}")]
    if moment == "live":
        question = f"select function, line, stack[2].function from '{path}' order by bytes desc limit 1"
        assert duckdb.sql(question).fetchall() == [("Keeper.keep", 17, "Thread.run")]
    lines = export(recorded, "app.csv", f"--{moment}")
    assert duckdb.sql(f"select sum(bytes)::bigint from read_csv('{lines}')").fetchall() == [sums[0][:1]]


def test_names_that_are_no_text(workplace: Workplace) -> None:
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'memheft[consumers]'")
    import pyarrow.parquet

    workplace.record(
        "code = compile('kept = bytearray(99_999)', 'a\\udcff.py', 'exec')\nexec(code, {}, globals())\n"
    )
    for by in ("line", "stack"):
        table = pyarrow.parquet.read_table(export(workplace, "app.parquet", "--by", by)).to_pylist()
        (row,) = [row for row in table if row["file"].startswith("a")]
        assert row["file"] == "a\\udcff.py"
        assert row["bytes"] > 99_999
