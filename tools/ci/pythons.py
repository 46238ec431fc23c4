# SPDX-License-Identifier: MIT
"""Find the CPythons of this machine that memheft can be tested on.

Looked at, in this order: MEMHEFT_PYTHONS (paths, separated by colons), pythonX.Y on PATH, pyenv's,
/usr/local and /usr.  One of each minor version is taken: the first that has pip's bootstrap and its own
headers, internal ones too.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MINORS = (11, 12, 13, 14, 15)

PROBE = """
import json, os, sys, sysconfig
try:
    import ensurepip, venv
    pip = True
except ImportError:
    pip = False
include = sysconfig.get_path("include")
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "minor": sys.version_info[1] if sys.version_info[0] == 3 else 0,
    "final": sys.version_info[3] == "final",
    "cpython": sys.implementation.name == "cpython",
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "debug": hasattr(sys, "gettotalrefcount"),
    "pip": pip,
    "headers": os.path.isfile(os.path.join(include, "internal", "pycore_frame.h")),
    "base": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter to test on; `root`: the Debian root it lives in, None for the machine's own."""

    path: str
    version: str
    minor: int
    root: Path | None = None

    @property
    def name(self) -> str:
        """Name for people and for folders."""
        return f"python-{self.version}"


@dataclass
class Search:
    """What was found, and why other interpreters were passed over."""

    found: dict[int, Python] = field(default_factory=dict)
    passed_over: dict[int, list[str]] = field(default_factory=dict)


def candidates(minor: int) -> Iterator[str]:
    """Paths that may be CPython 3.<minor>, best first."""
    name = f"python3.{minor}"
    yield from filter(None, os.environ.get("MEMHEFT_PYTHONS", "").split(":"))
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        # a virtual environment or a shim answers as well; `base` tells what is behind it
        if (path := shutil.which(name, path=folder)) is not None:
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    versions = [path for path in root.glob(f"versions/3.{minor}.*") if path.name.split(".")[2].isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name.split(".")[2]), reverse=True):
        yield str(version / "bin" / "python")
    yield from (f"{prefix}/bin/{name}" for prefix in ("/usr/local", "/usr"))


def probe(path: str, enter: tuple[str, ...] = ()) -> dict[str, object] | None:
    """Ask an interpreter what it is; None: it is not there, or does not run."""
    command = [*enter, path, "-I", "-c", PROBE]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def objection(answer: dict[str, object]) -> str | None:
    """Why this interpreter cannot be tested on, None if it can."""
    if not answer["cpython"]:
        return "is not CPython"
    if answer["free_threaded"]:
        return "is a free-threaded build"
    if answer["debug"]:
        return "is a debug build"
    if not answer["final"]:
        return "is a pre-release"
    if not answer["headers"]:
        return "has no internal headers (development package)"
    if not answer["pip"]:
        return "has no venv and ensurepip"
    return None


@functools.cache
def search(minors: tuple[int, ...] = MINORS) -> Search:
    """Look for one interpreter of each minor version on this machine."""
    result = Search()
    seen: set[str] = set()
    for minor in minors:
        for path in candidates(minor):
            answer = probe(path)
            if answer is None or answer["minor"] != minor or str(answer["base"]) in seen:
                continue
            seen.add(str(answer["base"]))
            reason = objection(answer)
            if reason is None:
                result.found[minor] = Python(str(answer["base"]), str(answer["version"]), minor)
                break
            result.passed_over.setdefault(minor, []).append(f"{path} {reason}")
    return result
