"""Sampled mode on real programs: the estimates of many runs against what exact recordings say.

One process runs pieces of the standard library and of two installed packages again and again, each time on
the same data: exactly, then sampled with many seeds, then exactly.  Of every moment, for the whole and for
each module, in bytes and in blocks, the statistic is

    t = sum over runs of (estimate - exact) / (deviation of one run * root of the number of runs)

which stays within a few units of 0 if the estimator has no bias, however small that is.  Tried, and found by
these tests: weight 1 for blocks larger than the interval; weights without the exponential (interval / size);
gaps that are uniform or constant; gaps that keep a quarter of what a block was larger than they; blocks of no
bytes that are never met.

A sampled block has another address, so nothing is run that allocates by addresses: compile() makes numbers of
them, those below 2**30 from a free list; a method cache, as ast.NodeVisitor fills it, keeps names by theirs.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import clean_environment

RUNS = 80
INTERVAL = 2048
BOUND = 5.0  # of t: by chance, one in a million is beyond it

PROGRAMS = """\
import ast, argparse, copy, csv, difflib, email, gc, inspect, io, json, os, pickle, re, sys, textwrap
import tokenize
import xml.dom.minidom
import xml.etree.ElementTree
import markdown_it
import pygments, pygments.formatters, pygments.lexers
from memheft import _engine

SOURCE = inspect.getsource(argparse)[:40_000]
SOURCE = SOURCE[:SOURCE.rindex("\\nclass ")]
LINES = SOURCE.splitlines(True)
RECORDS = [
    {"id": i, "name": f"name {i}", "words": LINES[i % 700].split(), "at": i / 7, "in": {"a": [i] * (i % 9)}}
    for i in range(600)
]
JSON = json.dumps(RECORDS)
ITEMS = [f"<item id='{i}' kind='{i % 7}'><name>{'n' * (i % 50)}</name><p>{i}</p></item>" for i in range(600)]
TABLE = "".join(f"{i},{i * 7},{len(line)},line {i} of all\\n" for i, line in enumerate(LINES))
PARTS = [f"--x\\nContent-Type: text/plain\\n\\n{''.join(LINES[i * 20:i * 20 + 20])}\\n" for i in range(30)]
MAIL = f"From: a@b\\nContent-Type: multipart/mixed; boundary=x\\n\\n{''.join(PARTS)}--x--\\n"
MARKDOWN = "\\n\\n".join(
    f"# Title {i}\\n\\n* some *text*, `code` {i}\\n* [link](http://x/{i})\\n\\n> {'word ' * i}"
    for i in range(60)
)

def json_():
    data = json.loads(JSON)
    return data, json.dumps(data, indent=1), json.dumps(data)

def syntax():
    tree = ast.parse(SOURCE)
    return tree, ast.dump(tree.body[-1]), list(ast.walk(tree)), copy.deepcopy(tree.body[:3])

def pickle_():
    data = pickle.dumps(RECORDS)
    return data, pickle.loads(data), copy.deepcopy(RECORDS[:150])

def xml_():
    tree = xml.etree.ElementTree.fromstring(f"<all>{''.join(ITEMS)}</all>")
    text = xml.etree.ElementTree.tostring(tree)
    return tree, text, xml.dom.minidom.parseString(f"<all>{''.join(ITEMS[:200])}</all>")

def text():
    re.purge()
    patterns = [re.compile(rf"(?P<a{i}>[a-z]+{i})|\\b\\d{{{i + 1}}}") for i in range(30)]
    rows = list(csv.reader(io.StringIO(TABLE)))
    changed = [line.replace("self", "me") for line in LINES[:300]]
    diff = list(difflib.unified_diff(LINES[:300], changed))
    tokens = list(tokenize.generate_tokens(io.StringIO("".join(LINES[:300])).readline))
    return patterns, rows, diff, tokens, textwrap.wrap(" ".join(SOURCE.split()))

def highlight():
    source = "".join(LINES[:150])
    lexer, formatter = pygments.lexers.PythonLexer(), pygments.formatters.HtmlFormatter()
    return list(lexer.get_tokens(source)), pygments.highlight(source, lexer, formatter)

def markdown():
    parser = markdown_it.MarkdownIt()
    return parser.parse(MARKDOWN), parser.render(MARKDOWN[:2000])

def mail():
    message = email.message_from_string(MAIL)
    return message, message.as_string()

MOMENTS = (("live", 1), ("peak", 1), ("total", 1), ("temporary", 1), ("temporary", 4))

def record(work, interval):
    gc.collect()
    fd = _engine.start(None, b"{}", False, "/nowhere/", interval)
    kept = work()
    _engine.stop()
    recording = _engine.Recording(f"/proc/self/fd/{fd}")
    os.close(fd)
    header = recording.header
    assert (header["lost_events"], header["cut_events"], header["interval_bytes"]) == (0, 0, interval), header
    out = {}
    for moment, span in MOMENTS:
        view = recording.view(moment, span, bytes(len(recording.files)), False, 255, None)
        groups = out[f"{moment} {span}"] = {row[4]: [*row[:2], *row[10:12]] for row in view.rows("module")}
        groups["all"] = [view.total_bytes, view.total_blocks, view.bytes_error, view.blocks_error]
    return out

gc.disable()  # garbage is collected at the same places each time: before
for work in (json_, syntax, pickle_, xml_, text, highlight, markdown, mail):
    work(), work()  # caches, and what is made once
    exact = [record(work, 0) for _ in range(2)]
    runs = [record(work, int(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    exact.append(record(work, 0))
    print(json.dumps([work.__name__, exact, runs]))
"""


@dataclass
class Group:
    """One number of a program: exact, and as estimated by each run."""

    program: str
    moment: str
    module: str
    unit: str
    exact: list[int]
    estimates: list[int]
    errors: list[int]

    @property
    def bias(self) -> float:
        """How far the mean is off, beyond what the exact recordings differ by."""
        mean = sum(self.estimates) / len(self.estimates)
        return mean - min(max(mean, min(self.exact)), max(self.exact))

    @property
    def deviation(self) -> float:
        """Of one estimate from their mean."""
        mean = sum(self.estimates) / len(self.estimates)
        return math.sqrt(sum((each - mean) ** 2 for each in self.estimates) / (len(self.estimates) - 1))

    @property
    def said(self) -> float:
        """The standard error that the recordings say."""
        return math.sqrt(sum(each**2 for each in self.errors) / len(self.errors))

    @property
    def t(self) -> float:
        return self.bias / self.deviation * math.sqrt(len(self.estimates))

    def is_fit(self) -> bool:
        """Is it the same in each exact run, and met often enough for its mean to be normal?"""
        true = self.exact[0]
        same = max(self.exact) - min(self.exact) <= true / 200
        return same and 0 < self.deviation < true / 3 and true > 1000

    def __str__(self) -> str:
        relative = self.bias / self.exact[0]
        ratio = self.deviation / max(self.said, 1)
        return (
            f"{self.program}, {self.moment}, {self.module}: {self.exact[0]} {self.unit}, "
            f"bias {relative:+.2%}, t {self.t:+.1f}, deviation {ratio:.2f} of what is said"
        )


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[Group]:
    folder = tmp_path_factory.mktemp("programs")
    Path(folder, "programs.py").write_text(PROGRAMS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "programs.py", str(INTERVAL), str(RUNS)],
        cwd=folder,
        env=clean_environment({"MEMHEFT_SEED": "1", "PYTHONHASHSEED": "0"}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = []
    for line in done.stdout.splitlines():
        program, exact, runs = json.loads(line)
        for moment, modules in exact[0].items():
            for module in modules:
                for at, unit in enumerate(("bytes", "blocks")):
                    found = [run[moment].get(module, (0, 0, 0, 0)) for run in runs]
                    true = [each[moment].get(module, (0, 0))[at] for each in exact]
                    estimates, errors = [each[at] for each in found], [each[at + 2] for each in found]
                    out.append(Group(program, moment, module, unit, true, estimates, errors))
    fit = [group for group in out if group.is_fit()]
    assert len(fit) > 250
    assert len({group.program for group in fit}) == 8
    return fit


def test_no_group_is_biased(groups: list[Group]) -> None:
    """Of no program, at no moment, in no module."""
    wrong = [str(group) for group in groups if abs(group.t) > BOUND and not group.moment.startswith("peak")]
    assert wrong == []


@pytest.mark.parametrize("unit", ["bytes", "blocks"])
@pytest.mark.parametrize("moment", ["live 1", "total 1", "temporary 1", "temporary 4"])
def test_the_programs_together_are_not_biased(groups: list[Group], moment: str, unit: str) -> None:
    """What is too small to be seen in each would add up."""
    each = [g.t for g in groups if (g.moment, g.unit, g.module) == (moment, unit, "all")]
    assert len(each) >= 5
    assert abs(sum(each)) / math.sqrt(len(each)) < BOUND


def test_the_peak(groups: list[Group]) -> None:
    """It is the highest of many estimates, so too high, if anything; and by less than its error."""
    peaks = [group for group in groups if group.moment == "peak 1" and group.module == "all"]
    assert len(peaks) >= 10
    for group in peaks:
        assert group.t > -BOUND, str(group)
        assert group.bias < group.deviation, str(group)


def test_the_errors_said(groups: list[Group]) -> None:
    """Of bytes they are those seen; of blocks too small where a line asks for tiny and for large blocks."""
    for group in groups:
        if group.module == "all" and group.moment != "peak 1":
            most = 1.5 if group.unit == "bytes" else 5
            assert group.deviation < most * group.said, str(group)
            assert group.said < 3 * group.deviation, str(group)
