"""The benchmarks' reading of what a process cost: what counts when a tool runs the program in a child."""

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
HOLD = f"held = bytearray({64 * MIB})"


def load() -> Any:
    """bench/measure.py by itself: its folder on the path would show the tests the tree's package."""
    path = Path(__file__).resolve().parents[2] / "bench" / "measure.py"
    spec = importlib.util.spec_from_file_location("bench_measure", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


measure = load()


def run(source: str, folder: Path, limit: float = 60, in_child: bool = True) -> Any:
    usage = measure.run([sys.executable, "-c", source], folder=folder, limit=limit, in_child=in_child)
    if not usage.traced:
        pytest.skip("ptrace is refused here")
    return usage


def launcher(source: str) -> str:
    """A program that runs another and ends like it."""
    return f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {source!r}]))"


def test_peak_is_that_of_the_program_and_not_of_its_launcher(tmp_path: Path) -> None:
    assert run(launcher(HOLD), tmp_path, in_child=False).peak_rss < 64 * MIB
    usage = run(launcher(HOLD), tmp_path)
    assert 64 * MIB < usage.peak_rss < 128 * MIB


def test_cpu_time_has_that_of_the_child(tmp_path: Path) -> None:
    spend = "import time\nwhile time.process_time() < 0.3: pass"
    usage = run(launcher(spend), tmp_path)
    assert usage.cpu >= 0.3


def test_failure_of_the_child_is_seen(tmp_path: Path) -> None:
    assert run(launcher("raise SystemExit(7)"), tmp_path).failure == "exit 7"
    talks = "import atexit, sys; atexit.register(print, 'see the manual', file=sys.stderr); "
    assert run(talks + launcher("raise ValueError('no')"), tmp_path).failure == "exit 1: ValueError: no"
    assert run(talks + launcher("raise SystemExit(7)"), tmp_path).failure == "exit 7: see the manual"


@pytest.mark.parametrize("ends", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["ends", "hangs"])
def test_nobody_outlives_the_launcher(tmp_path: Path, ends: bool) -> None:
    """The child leaves the group and the session of its launcher, as daemons do."""
    daemon = "import os, time; os.setsid(); open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    source = f"import os, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {daemon!r}])\n"
    source += "while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\n"
    source += "" if ends else "time.sleep(600)\n"
    usage = run(source, tmp_path, limit=60 if ends else 10)
    assert usage.timed_out is not ends
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the child still runs")
