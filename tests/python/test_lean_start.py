"""`memheft run` starts lean: what it does without heavy imports comes out as with them."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from conftest import Workplace

from memheft import program

# Stands in for the execve: says what has been imported since the interpreter was ready.
PROBE = """\
import os, sys
before = set(sys.modules)
def say(*_):
    os.write(1, "\\n".join(sorted(set(sys.modules) - before)).encode())
    os._exit(0)
os.execve = say
from memheft.cli.main import main
sys.exit(main(["run", "--force", "-o", "probe.heft", *sys.argv[1:]]))
"""
LEAN = {"__future__", "_json", "errno"}


@pytest.mark.parametrize("words", [["-c", "pass"], ["-q", "app.py", "-x"], ["-Xdev", "-m", "json.tool"]])
def test_nothing_heavy_is_imported_before_the_program(workplace: Workplace, words: list[str]) -> None:
    workplace.write("app.py", "pass")
    result = workplace.python("-c", PROBE, *words)
    assert result.code == 0, result.err
    loaded = result.out.split()
    assert "memheft.cli.watcher" in loaded
    assert [name for name in loaded if name.startswith("memheft.views")] == []
    assert {name for name in loaded if not name.startswith("memheft")} <= LEAN


@pytest.mark.parametrize(
    "words",
    [
        ["app.py", "", 'a "quoted"\\word', "\n\t\x00\x1f\x7f", "é ü 漢字 😀", os.fsdecode(b"\xff\xfe")],
        [],
    ],
)
def test_the_description_is_what_json_would_write(words: list[str]) -> None:
    document = {"command": words, "code": None, "script": words[-1] if words else ""}
    assert program.json_of(document) == json.dumps(document)


def test_the_description_as_a_whole_is_json() -> None:
    words = ["python", "-c", "print('ü')\n"]
    document = json.loads(program.meta_of(words, "code", "-c", words[2], sys.executable))
    assert document["command"] == ["python", "-c", "print('ü')\n"]
    assert document["code"] == "print('ü')\n"
    assert sysconfig.get_path("stdlib") in document["stdlib"]
    assert {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} <= set(document["site"])
    assert site.getusersitepackages() in document["site"]


def test_folders_are_those_of_sysconfig() -> None:
    assert program.scripts_folder() == sysconfig.get_path("scripts")


def test_the_watcher_sleeps_and_is_small(workplace: Workplace) -> None:
    """While the program runs, the watcher has imported no view, and uses no time."""
    workplace.write("app.py", "import sys; print('up', flush=True); sys.stdin.read()")
    words = [sys.executable, "-m", "memheft", "run", "-o", "app.heft", "app.py"]
    program = subprocess.Popen(
        words,
        cwd=workplace.folder,
        env=workplace.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"
        watcher = _sleeping_watcher_of(program.pid, workplace.folder / "app.heft")
        maps = Path(f"/proc/{watcher}/maps").read_text()
        for library in ("zlib", "unicodedata"):  # extension modules of the views
            assert f"/{library}." not in maps
        fields = _stat(watcher)
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 0.1
    finally:
        _, err = program.communicate(b"", timeout=30)
    assert b"memheft: app.py exited 0" in err


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state, on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _sleeping_watcher_of(program: int, recording: Path) -> int:
    """The process beside the program that has the recording mapped, once it sleeps: nobody waits for it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != program:
                try:
                    maps = (entry / "maps").read_text()
                    if str(recording.resolve()) in maps and _stat(int(entry.name))[0] == "S":
                        return int(entry.name)
                except OSError:
                    continue
        time.sleep(0.02)
    raise AssertionError("no watcher that sleeps")
