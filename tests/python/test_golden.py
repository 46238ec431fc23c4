"""Recordings of every format version stay readable for ever: one of each, and one with regions."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Workplace

GOLDEN = Path(__file__).parents[1] / "golden"


def test_format_1(workplace: Workplace) -> None:
    recording = GOLDEN / "format-1.heft"
    info = workplace.memheft("info", str(recording), "--json").json
    assert info["format_version"] == 1
    assert info["recording"]["python"] == "3.12.1"
    assert info["recording"]["complete"] is True
    assert info["recording"]["exit_code"] == 0
    document = workplace.memheft("report", str(recording), "--live", "--json").json
    row = next(row for row in document["rows"] if row["function"] == "Row.__init__")
    assert row["line"] == 6
    assert row["blocks"] == 100
    assert row["bytes"] == sum(1000 + n + 33 for n in range(100))
    mine = [row for row in document["rows"] if row["file"].endswith("golden.py")]
    importing = next(row for row in mine if row["line"] == 1)
    assert importing["imports"] == ["textwrap"]
    shown = workplace.memheft("report", str(recording), "--live", "--limit", "3")
    assert "self.text = bytes(1000 + n)" in shown.out  # the source is in the recording


@pytest.mark.parametrize("moment", ["--peak", "--total", "--temporary"])
def test_format_1_moments(workplace: Workplace, moment: str) -> None:
    document = workplace.memheft("report", str(GOLDEN / "format-1.heft"), moment, "--json").json
    assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"] > 0


def test_format_1_regions(workplace: Workplace) -> None:
    recording = GOLDEN / "format-1-regions.heft"
    assert workplace.memheft("info", str(recording), "--json").json["format_version"] == 1
    words = ("report", str(recording), "--live", "--match", "regions.py", "--json")
    document = workplace.memheft(*words, "--by", "region").json
    rows = {tuple(row["region"]): row for row in document["rows"]}
    # bytes objects; the rest is lists that hold them
    asked = {
        ("load",): 10 * (1000 + 33) + 5 * (3000 + 33),  # of two threads
        ("load", "parse"): 3 * (2000 + 33),
        ("parse",): 2 * (2000 + 33),
    }
    assert rows.keys() == asked.keys() | {()}
    for region, size in asked.items():
        assert size < rows[region]["bytes"] < size + 300
        inside = [row["bytes"] for other, row in rows.items() if other[: len(region)] == region]
        assert rows[region]["inclusive_bytes"] == sum(inside)
    assert sum(row["bytes"] for row in rows.values()) == document["totals"]["bytes"]
    line = next(row for row in workplace.memheft(*words).json["rows"] if row["line"] == 9)
    assert line["bytes"] > sum(asked.values()) + 5000
