"""`memheft info`."""

from __future__ import annotations

import os
import platform

import schema
from conftest import Workplace

PROGRAM = "import sys\nkept = [bytes(100) for _ in range(5000)]\nsys.exit(int(sys.argv[1]))\n"


def test_json(workplace: Workplace) -> None:
    path = workplace.record(PROGRAM, "0")
    result = workplace.memheft("info", "app.heft", "--json")
    assert (result.code, result.err) == (0, "")
    document = result.json
    schema.check(document)
    assert (document["kind"], document["format_version"]) == ("recording", 1)
    recording = document["recording"]
    assert recording["path"] == str(path)
    assert recording["command"][1:] == ["app.py", "0"]
    assert recording["python"] == platform.python_version()
    assert (recording["mode"], recording["interval_bytes"]) == ("exact", None)
    assert (recording["complete"], recording["exit_code"]) == (True, 0)
    assert recording["lost_events"] == 0
    assert 0 < recording["duration_ns"] < 60 * 10**9
    assert 0 < recording["tool_bytes"] < 8 << 20
    assert document["totals"]["live_bytes"] >= 5000 * 100
    assert document["file_bytes"] == os.path.getsize(path)
    assert "check" not in document


def test_check(workplace: Workplace) -> None:
    workplace.environment["MEMHEFT_CHECK"] = "1"
    workplace.record(PROGRAM, "0")
    document = workplace.memheft("info", "--json").json
    schema.check(document)
    assert document["check"]["compared"] > 5000
    assert document["check"]["mismatches"] == 0


def test_text(workplace: Workplace) -> None:
    workplace.write("app.py", PROGRAM)
    assert workplace.memheft("run", "-q", "-o", "app.heft", "app.py", "7").code == 7
    result = workplace.memheft("info", "app.heft")
    assert (result.code, result.err) == (0, "")
    for text in ("app.py", "every allocation", "yes, the program exited 7", "lost       nothing", "format 1"):
        assert text in result.out
    assert "note:" not in result.out
