# SPDX-License-Identifier: MIT
"""The arrows between the folders of engine/, in one place.

    layers.py trees ENGINE DIR    make DIR/<layer>/: links to the folders that the layer may include
    layers.py check ROOT          read the #include lines of ROOT/engine and ROOT/tests/c, and check them;
                                  check also that the build names every source file there is

The build compiles each layer with its tree as the only way to our headers, so an include against the arrows
does not compile.  The check says it in words, and sees what a search path cannot: relative paths, and
Python.h where some other package's flags would make it visible.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# layer -> the layers that it may include, apart from itself
ARROWS: dict[str, tuple[str, ...]] = {
    "base": (),
    "ledger": ("base",),
    "export": ("base", "ledger"),
    "python": ("base", "ledger", "export"),
}
PYTHON_LAYER = "python"

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:<([^>]*)>|"([^"]*)"|(.*))', re.MULTILINE)
PYTHON_HEADER = re.compile(
    r"(^|/)((Python|frameobject|structmember|pyconfig|patchlevel|pymem)\.h$|pycore_|cpython/|internal/)"
)


def make_trees(engine: Path, target: Path) -> None:
    """Make the include tree of every layer that exists."""
    for layer, below in ARROWS.items():
        tree = target / layer
        tree.mkdir(parents=True, exist_ok=True)
        for link in tree.iterdir():
            link.unlink()
        for name in (*below, layer):
            (tree / name).symlink_to((engine / name).resolve(), target_is_directory=True)


def problems_of(source: Path, layer: str | None) -> list[str]:
    """What is wrong with the includes of one file; `layer` None: a test, which may see all but Python."""
    found = []
    allowed = tuple(ARROWS) if layer is None else (*ARROWS[layer], layer)
    if layer is None:
        allowed = tuple(name for name in allowed if name != PYTHON_LAYER)
    text = source.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        angled, quoted, computed = match.groups()
        name = angled or quoted
        problem = None
        if computed is not None:
            problem = f"a computed include ({computed.strip()}) cannot be checked"
        elif PYTHON_HEADER.search(name):
            if layer != PYTHON_LAYER:
                problem = f"{name}: only engine/{PYTHON_LAYER} may include Python's headers"
        elif quoted and ".." in quoted.split("/"):
            problem = f"{name}: write the path from engine/"
        elif quoted and "/" in quoted:
            folder = quoted.split("/")[0]
            if folder not in allowed:
                where = "a test of the core" if layer is None else f"engine/{layer}"
                problem = f"{name}: {where} may include {', '.join(allowed)}"
        if problem is not None:
            found.append(f"{source}:{line}: {problem}")
    return found


def unlisted(folder: Path) -> list[str]:
    """Sources that the folder's meson.build does not name."""
    build = folder / "meson.build"
    text = build.read_text(encoding="utf-8") if build.is_file() else ""
    names = [path.name for path in sorted(folder.glob("*.c"))]
    return [f"{build}: does not list {name}" for name in names if f"'{name}'" not in text]


def unlisted_modules(package: Path) -> list[str]:
    """Files of the Python package that its meson.build does not install."""
    build = package / "meson.build"
    text = build.read_text(encoding="utf-8")
    wanted = [path for path in sorted(package.rglob("*")) if path.suffix in (".py", ".pyi", ".json")]
    missing = []
    for path in wanted:
        folder = re.escape(str(path.parent.relative_to(package)))
        listed = re.search(rf"^  '{folder}': \[\n(.*?)^  \]", text, re.MULTILINE | re.DOTALL)
        if listed is None or f"'{path.name}'" not in listed[1]:
            missing.append(f"{build}: does not list {path.relative_to(package)}")
    return missing


def check(root: Path) -> list[str]:
    """All problems of the tree."""
    found = []
    seen = 0
    for folder in sorted((root / "engine").iterdir()):
        if not folder.is_dir():
            continue
        if folder.name not in ARROWS:
            found.append(f"{folder}: a layer without an arrow in {Path(__file__).name}")
            continue
        for source in sorted((*folder.rglob("*.c"), *folder.rglob("*.h"))):
            seen += 1
            found += problems_of(source, folder.name)
        found += unlisted(folder)
    for source in sorted((*(root / "tests" / "c").rglob("*.c"), *(root / "tests" / "c").rglob("*.h"))):
        seen += 1
        found += problems_of(source, None)
    found += unlisted_modules(root / "memheft")
    if seen == 0:
        found.append(f"{root}: no sources found")
    return found


def main(arguments: list[str]) -> int:
    """Run one of the two commands of the module's docstring."""
    match arguments:
        case ["trees", engine, target]:
            make_trees(Path(engine), Path(target))
            return 0
        case ["check", root]:
            found = check(Path(root))
            print("\n".join(found) or "layers: every include follows the arrows, every file is listed")
            return 1 if found else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
