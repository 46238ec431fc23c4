"""A formatter: black, in its pure-Python form, over packages of the standard library.

Each file is read, formatted and checked as `black --check` does it, but in this one process, without its
cache and its worker processes. With `--all`, over the whole of Lib without its tests.
"""

import contextlib
import sys
import sysconfig
from pathlib import Path

import black
from black.report import NothingChanged

SOURCES = ("concurrent", "importlib", "json")


def sources(everything: bool) -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    for name in ("",) if everything else SOURCES:
        path = library / name
        found += [path] if path.is_file() else path.rglob("*.py")
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages"}
    return sorted(path for path in found if not skipped & set(path.relative_to(library).parts))


def main() -> None:
    if not black.__file__.endswith(".py"):
        sys.exit("formatter: black is installed in its compiled form: this row needs the pure one")
    mode = black.Mode()
    for path in sources("--all" in sys.argv[1:]):
        with contextlib.suppress(NothingChanged):
            black.format_file_contents(path.read_text(encoding="utf-8"), fast=False, mode=mode)


main()
