from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Programs that we start find signals as a terminal gives them, also when the tests run in the background.
for _number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# The package under test is the installed one, with its engine: `python -m pytest` puts the sources first.
sys.path[:] = [str(HERE), *(name for name in sys.path if Path(name or ".").resolve() != ROOT)]

MEMHEFT = (sys.executable, "-m", "memheft")
TIMEOUT = 60


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Workplace:
    """An empty folder, and memheft run in it as a user would."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        # Sources changed after the start are not shown: these are older.
        os.utime(path, (1_700_000_000, 1_700_000_000))
        return path

    def command(self, words: Sequence[str], **options: Any) -> Result:
        environment = self.environment | dict(options.pop("environment", {}))
        done = subprocess.run(
            list(words),
            cwd=options.pop("cwd", self.folder),
            env=environment,
            capture_output=True,
            timeout=TIMEOUT,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            check=False,
            **options,
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        return Result(done.returncode, out, err)

    def memheft(self, *words: str, **options: Any) -> Result:
        return self.command([*MEMHEFT, *words], **options)

    def python(self, *words: str, **options: Any) -> Result:
        return self.command([sys.executable, *words], **options)

    def record(self, text: str, *words: str, name: str = "app.py") -> Path:
        """Record a program that is expected to end well; the result is the recording."""
        self.write(name, text)
        result = self.memheft("run", "-q", "--force", "-o", "app.heft", name, *words)
        assert result.code == 0, result.err
        return self.folder / "app.heft"


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEMHEFT", "PYTHON", "COVERAGE", "PYTEST"))
        and name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    }
    return kept | dict(extra)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    folder = tmp_path / "work"
    folder.mkdir()
    yield Workplace(folder, clean_environment({"XDG_STATE_HOME": str(tmp_path / "state")}))
