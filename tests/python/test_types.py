"""What a type checker says of programs that use memheft, by the marker `py.typed`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment

DECORATED = """\
import asyncio
from collections.abc import Iterator
import memheft

@memheft.record("load-{n}.heft")
def load(n: int, *, more: str = "") -> list[int]:
    return [n]

@memheft.record
async def serve(n: int) -> str:
    return "x" * n

@memheft.record(sample=True)
def generate(n: int) -> Iterator[int]:
    yield n

class Thing:
    @memheft.record
    def method(self, n: int) -> bytes:
        return bytes(n)

    @staticmethod
    @memheft.record
    def static(n: int) -> float:
        return n

def call(function: memheft.Recorded[[int], bytes]) -> None: ...

call(Thing().method)
reveal_type(load(n=3, more="x"))  # list[int]
reveal_type(load.recorder.recording)  # Recording | None
reveal_type(load.__name__)  # str
reveal_type(asyncio.run(serve(3)))  # str
reveal_type(generate(3))  # Iterator[int]
reveal_type(Thing().method(3))  # bytes
reveal_type(Thing().method.recorder)  # Recorder
reveal_type(Thing.method(Thing(), 3))  # bytes
reveal_type(Thing.static(3))  # float
load("x")  # error
serve()  # error
Thing().method("x")  # error
load.nothing_such  # error
"""


@pytest.mark.slow
def test_decorated_functions(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "app.py").write_text(DECORATED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "app.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment({}), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    said: dict[int, str] = {}
    for line in done.stdout.splitlines():
        number, kind, text = re.fullmatch(r"app\.py:(\d+): (note|error): (.*)", line).groups()  # type: ignore[union-attr]
        found = re.search(r'Revealed type is "(.*)"', text)
        said.setdefault(int(number), re.sub(r"\b(\w+\.)+", "", found[1]) if found else kind)
    wanted = {
        number: line.partition("  # ")[2]
        for number, line in enumerate(DECORATED.splitlines(), 1)
        if "  # " in line
    }
    assert said == wanted
