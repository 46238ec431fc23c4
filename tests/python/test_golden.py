"""Recordings of every format version stay readable for ever: tests/golden holds one of each."""

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
