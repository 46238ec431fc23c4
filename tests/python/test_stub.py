"""memheft/_engine.pyi against the module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment


@pytest.mark.slow
def test_the_stub_is_the_module(tmp_path: Path) -> None:
    pytest.importorskip("mypy.stubtest")
    command = [sys.executable, "-m", "mypy.stubtest", "memheft._engine"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
