"""What an import costs belongs to its line, under the module's name; the machinery is not seen."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import recording_tools as tools
from conftest import Workplace
from recording_tools import HEAD, Recorded, is_about

# What may stand at the root of a stack besides: setuptools' finder, which comes before the others, and what
# the interpreter itself calls with the text of -c.
OTHERS = ("DistutilsMetaFinder.find_spec", "_register_code")
BY: tuple[Literal["line", "function"], ...] = ("line", "function")


def check_nothing_is_ours(recorded: Recorded) -> None:
    """No row and no frame of any view is of the machinery."""
    moments: list[tools.Moment] = ["peak", "live", "total", "temporary"]
    for moment in moments:
        view = recorded.view(moment)
        shown = {recorded.engine.files[frame[0]] for frame in view.frames}
        shown |= {str(frame[4]) for frame in view.frames}
        # (a row by module may be of an imported module, and that may be importlib's)
        files = [row[4] for row in view.rows("file")]
        files += [row[4][0] for by in BY for row in view.rows(by) if isinstance(row[4], tuple)]
        shown |= {recorded.engine.files[file] for file in files if isinstance(file, int)}
        for name in shown:
            last = name.rpartition("/")[2]
            is_machinery = "importlib._bootstrap" in name or name.endswith("importlib/__init__.py")
            assert not is_machinery, name
            assert last not in ("runpy.py", "<frozen runpy>", "<frozen zipimport>", "zipimport.py"), name
            assert "memheft" not in name, name


def importing(recorded: Recorded, moment: tools.Moment = "total") -> Iterator[tuple[str, int, str, int, int]]:
    """File, line, imported module, bytes with all that happened in it, bytes of the import itself."""
    for size, _, inclusive, _, key, *_ in recorded.view(moment).rows("line"):
        assert isinstance(key, tuple)
        for name in key[4]:
            yield recorded.engine.files[key[0]].rpartition("/")[2], key[1], name, inclusive, size


def test_an_import_is_its_line(workplace: Workplace) -> None:
    body = "".join(f"def f{i}(a, b):\n    return [a, b, {i}, 'text{i}']\n" for i in range(200))
    workplace.write("large.py", body + "TABLE = [bytes(1000 + i) for i in range(1000)]  # @table\n")
    workplace.write("package/__init__.py", "from . import inner\n")
    workplace.write("package/inner.py", "import large\nfrom package.deep.deeper import *\n")
    workplace.write("package/deep/__init__.py", "BLOCK = bytes(200_000)\n")
    workplace.write("package/deep/deeper.py", "OTHER = bytes(300_000)\n")
    text = """\
import os
def late():
    import package  # @late
    return package
class Body:
    import colorsys as colours  # @body
late()
late()
__import__("tabnanny")  # @dunder
import importlib
importlib.import_module("package.deep.deeper")  # @again
importlib.import_module("nturl2path" if False else "rlcompleter")  # @module
try:
    import nothing_of_that_name  # @missing
except ImportError:
    pass
for name in ("quopri",):
    exec("import " + name)  # @exec
lazy = lambda: __import__("pyclbr")  # @lambda
lazy()
importlib.reload(importlib.import_module("large"))  # @reload
"""
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    check_nothing_is_ours(recorded)
    found = {row[:3]: row[3:] for row in importing(recorded)}
    for mark, name in [
        ("late", "package"),
        ("body", "colorsys"),
        ("dunder", "tabnanny"),
        ("module", "rlcompleter"),
        ("missing", "nothing_of_that_name"),
        ("lambda", "pyclbr"),
    ]:
        assert ("app.py", recorded.line(mark), name) in found, (mark, found)
    assert ("app.py", recorded.line("again"), "package.deep.deeper") not in found  # it was there already
    assert any(name == "quopri" for _, _, name in found)
    # the code objects of 200 functions, and their strings
    inclusive, own = found["inner.py", 1, "large"]
    assert own > 200 * 250
    assert inclusive > own + 1000 * 1500
    assert found["app.py", recorded.line("late"), "package"][0] > inclusive + 500_000
    table = recorded.lines("live", name="large.py")[401]
    assert is_about((table[0] - 1000 * 8, table[1]), 1000 * (1500 + HEAD) - 500, 1001, spare=20)
    assert recorded.lines("live", name="__init__.py")[1][0] >= 200_000
    assert recorded.lines("live", name="deeper.py")[1][0] >= 300_000

    by_module = {row[4]: row[0] for row in recorded.view("live").rows("module")}
    assert by_module["large"] > 1_500_000 + 200 * 250
    assert by_module["package.deep"] >= 200_000
    assert by_module["package.deep.deeper"] >= 300_000


@pytest.mark.parametrize("pyc", [False, True], ids=["source", "cached"])
def test_the_sums_of_an_import(workplace: Workplace, pyc: bool) -> None:
    """All that is live because of an import is found at its line, whether it was compiled or read."""
    workplace.write(
        "large.py", "".join(f"def f{i}(a, b):\n    return [a, b, 'text{i}']\n" for i in range(500))
    )
    if pyc:
        assert workplace.python("-c", "import large").code == 0
        assert list((workplace.folder / "__pycache__").glob("large.*.pyc"))
    text = """\
import gc, sys
gc.collect()
before = sys.getallocatedblocks()
import large  # @import
after = sys.getallocatedblocks()
print(after - before)
"""
    recorded = tools.record(workplace, text)
    check_nothing_is_ours(recorded)
    row = next(r for r in recorded.view("live").rows("line") if r[4][1] == 4)  # type: ignore[index]
    blocks = row[3]
    # the interpreter counts blocks up to 512 bytes on 3.11 and older; larger ones are few
    counted = int(recorded.result.out)
    assert 0.9 * counted - 100 <= blocks <= 1.35 * counted + 300


def test_from_everywhere(workplace: Workplace) -> None:
    """From an archive, a cached file alone, an extension module, a failing one, by runpy, in a thread."""
    with zipfile.ZipFile(workplace.folder / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "BLOCK = bytes(150_000)\nimport wave\n")
    workplace.write("broken.py", "BLOCK = [bytes(1000) for _ in range(100)]\nraise OSError\n")
    workplace.write("wrong.py", "def (:\n")
    workplace.write("script.py", "BLOCK = bytes(160_000)\n")
    workplace.write("cachedonly.py", "BLOCK = bytes(170_000)\n")
    done = workplace.python("-c", "import py_compile; py_compile.compile('cachedonly.py', 'cachedonly.pyc')")
    assert done.code == 0
    (workplace.folder / "cachedonly.py").unlink()
    text = """\
import sys, threading
sys.path.insert(1, "archive.zip")
import zipped  # @zipped
import cachedonly  # @cached
import _decimal  # @extension
for name in ("broken", "wrong"):
    try:
        __import__(name)  # @failing
    except (OSError, SyntaxError):
        pass
import runpy
kept = [runpy.run_path("script.py")]  # @path
kept.append(runpy.run_module("script"))  # @run
thread = threading.Thread(target=lambda: __import__("sunau" if sys.version_info < (3, 13) else "stringprep"))
thread.start()
thread.join()
import xml.etree.ElementTree, email.mime.text  # @several
"""
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    check_nothing_is_ours(recorded)
    found = {
        (line, name): inclusive for file, line, name, inclusive, _ in importing(recorded) if file == "app.py"
    }
    for mark, name in [
        ("zipped", "zipped"),
        ("cached", "cachedonly"),
        ("extension", "_decimal"),
        ("failing", "broken"),
        ("failing", "wrong"),
        ("several", "xml.etree.ElementTree"),
        ("several", "email.mime.text"),
    ]:
        assert (recorded.line(mark), name) in found, mark
    assert found[recorded.line("zipped"), "zipped"] > 150_000
    assert found[recorded.line("cached"), "cachedonly"] > 170_000
    assert recorded.lines("live", name="script.py")[1][1] in (2, 3)
    broken = recorded.lines("total", name="broken.py")[1]
    assert broken[0] > 100 * (1000 + HEAD)


@pytest.mark.parametrize("target", ["-m", "-m package", "folder", "zip", "-c", "script"])
def test_the_root_of_every_stack_is_the_program(workplace: Workplace, target: str) -> None:
    text = "def work():\n    return list(map(bytes, [1000] * 100))\nimport textwrap\nkept = work()\n"
    workplace.write("package/__init__.py", "BLOCK = bytes(5000)\n")
    workplace.write("package/module.py", text)
    workplace.write("package/__main__.py", text)
    workplace.write("folder/__main__.py", text)
    workplace.write("script.py", text)
    with zipfile.ZipFile(workplace.folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", text)
    words = {
        "-m": ["-m", "package.module", "x"],
        "-m package": ["-m", "package"],
        "folder": ["folder"],
        "zip": ["app.zip"],
        "-c": ["-c", text],
        "script": ["script.py"],
    }[target]
    result = workplace.memheft("run", "-q", "-o", "app.heft", *words)
    assert (result.code, result.err) == (0, "")
    recorded = Recorded(workplace.folder / "app.heft", text, result)
    recorded.check_sums()
    check_nothing_is_ours(recorded)
    for stacks in (recorded.stacks("live"), recorded.stacks("total")):
        for stack in stacks:
            assert stack[-1][0] in ("<module>", "<interpreter>", *OTHERS), stack
    kept = [
        stack for stack, (size, _) in recorded.stacks().items() if size > 100_000 and stack[0] == ("work", 2)
    ]
    assert kept == [(("work", 2), ("<module>", 4))]
    modules = {row[4] for row in recorded.view("live").rows("module")}
    assert "__main__" in modules
    if target.startswith("-m"):
        size = {row[4]: row[0] for row in recorded.view("live").rows("module")}
        assert size.get("package", 0) >= 5000


def test_a_finder_of_the_programs_own(workplace: Workplace, tmp_path: Path) -> None:
    """Its frames are the program's: they are shown, under the import that called them."""
    text = """\
import importlib.abc, importlib.util, sys
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == "made_up":
            self.kept = bytes(111_000)  # @finder
            return importlib.util.spec_from_loader(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec("BLOCK = bytes(222_000)", vars(module))  # @loader
sys.meta_path.insert(0, Finder())
import made_up  # @import
"""
    recorded = tools.record(workplace, text)
    check_nothing_is_ours(recorded)
    assert is_about(recorded.at("finder"), 111_000 + HEAD, 1)
    stacks = {stack: size for stack, (size, _) in recorded.stacks().items()}
    one = (
        ("<module>", 1),
        ("Finder.exec_module", recorded.line("loader")),
        ("<module>", recorded.line("import")),
    )
    two = (("Finder.find_spec", recorded.line("finder")), ("<module>", recorded.line("import")))
    assert stacks[one] >= 222_000
    assert stacks[two] >= 111_000
