# SPDX-License-Identifier: MIT
"""Which modules of other projects' tests are run."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("greenlet==3.5.6", "gevent==26.9.0", "psutil==7.2.2", "objgraph==3.7.0")

QUICK = "test_generators test_coroutines test_contextlib test_exceptions test_sys_settrace test_frame".split()
CPYTHON = [*QUICK, "test_asyncgen", "test_threading", "test_monitoring"]

# Modules of gevent's that only start other programs, or run a linter.
NOT_IN_PROCESS = ("test__examples", "test___ident_doc", "test___monkey_patching")


@dataclass(frozen=True)
class Module:
    """One module of tests, and how one_module.py is told to run it."""

    name: str
    kind: str  # cpython, module, script
    target: str


def files_of(package: str) -> list[Path]:
    """The modules of tests in a package, if this interpreter has it."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return []
    return sorted(Path(spec.origin).parent.glob("test_*.py")) if spec is not None and spec.origin else []


def modules(quick: bool, names: list[str]) -> list[Module]:
    """What is to be run by this interpreter; with `names`, these and nothing else."""
    wanted = names or (QUICK if quick else CPYTHON)
    found = [Module(path.stem, "cpython", path.stem) for path in files_of("test") if path.stem in wanted]
    if names or not quick:
        paths = files_of("greenlet.tests")
        found += [Module(f"greenlet.{path.stem}", "module", f"greenlet.tests.{path.stem}") for path in paths]
        paths = [path for path in files_of("gevent.tests") if not path.stem.startswith(NOT_IN_PROCESS)]
        found += [Module(f"gevent.{path.stem}", "script", str(path)) for path in paths]
    return [module for module in found if not names or module.name in names]
