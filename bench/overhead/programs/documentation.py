"""A documentation build: Sphinx makes HTML from a set of documents that is generated first.

Sections, tables, code that Pygments highlights, cross-references and API pages by autodoc; one process,
nothing cached.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

MODULES = ("json", "statistics", "textwrap")
PAGES = 16

CONF = """
project = "bench"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "alabaster"
suppress_warnings = ["ref", "docutils"]
"""


def page(number: int) -> str:
    title = f"Page {number}"
    lines = [f".. _page-{number}:", "", title, "=" * len(title), ""]
    for section in range(6):
        heading = f"Section {number}.{section}"
        other = (number * 7 + section) % PAGES
        lines += [heading, "-" * len(heading), ""]
        lines += [f"Some *emphasis*, ``literal text`` and a reference to :ref:`page-{other}`. " * 4, ""]
        lines += [".. list-table::", ""]
        for row in range(8):
            lines += [f"   * - cell {row}", f"     - value ``{number * row}``"]
        lines += ["", ".. code-block:: python", ""]
        lines += [
            f"   def function_{n}(x: int) -> dict[str, int]:\n       return {{'x': x, 'n': {n}}}\n"
            for n in range(6)
        ]
        lines += ["", ".. note::", "", "   A remark.", ""]
        lines += [f"#. step {n}" for n in range(5)]
        lines += [""]
    return "\n".join(lines)


def write(folder: Path) -> None:
    names = [f"page{n}" for n in range(PAGES)] + [f"api_{name}" for name in MODULES]
    (folder / "conf.py").write_text(CONF)
    index = ["Bench", "=====", "", ".. toctree::", "", *(f"   {name}" for name in names), ""]
    (folder / "index.rst").write_text("\n".join(index))
    for n in range(PAGES):
        (folder / f"page{n}.rst").write_text(page(n))
    for name in MODULES:
        api = [name, "=" * len(name), "", f".. automodule:: {name}", "   :members:", "   :undoc-members:", ""]
        (folder / f"api_{name}.rst").write_text("\n".join(api))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        write(source)
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            code = build_main(["-q", "-E", "-b", "html", str(source), str(Path(scratch, "html"))])
        if code:
            raise SystemExit(f"documentation: sphinx-build exited {code}")


main()
