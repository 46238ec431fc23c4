"""Memory over time: what is drawn, against the timeline that it is drawn from."""

from __future__ import annotations

import io
import itertools
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import schema
from conftest import ROOT, Workplace
from hypothesis import given
from hypothesis import strategies as st

from memheft.views import plot, scales, sizes, svg, text
from memheft.views.timeline import Timeline

MIB = 1 << 20
SECOND = 10**9
SVG = "{http://www.w3.org/2000/svg}"
PROGRAM = """\
import time
def load(n):
    return [bytearray(1000) for _ in range(n)]
a = load(8000)
time.sleep(0.1)
del a
b = load(20000)
del b
c = load(4000)
"""


def timeline(
    live: list[int],
    resident: list[int | None] | None = None,
    interval: int = SECOND,
    end: int | None = None,
    end_live: int | None = None,
    peak: tuple[int, int] | None = None,
) -> Timeline:
    at = live.index(max(live)) * interval
    size, when = peak if peak is not None else (max(live), at)
    return Timeline(
        interval,
        live,
        resident if resident is not None else [None] * len(live),
        len(live) * interval if end is None else end,
        live[-1] if end_live is None else end_live,
        size,
        when,
    )


amounts = st.one_of(st.integers(0, 5000), st.integers(0, 2**40), st.integers(0, 2**64 - 1))
residents = st.one_of(st.none(), amounts)


@st.composite
def timelines(draw: Callable[[Any], Any]) -> Timeline:
    points = draw(st.lists(st.tuples(amounts, residents), min_size=1, max_size=60))
    interval = draw(st.sampled_from([10**6, 4 * 10**6, 64 * 10**6, SECOND << 10, 2**53]))
    idle = draw(st.integers(0, 3 * len(points) * interval))
    end = max((len(points) - 1) * interval + 1 + idle, 10**6)
    most = max(live for live, _ in points)
    peak = most + draw(st.integers(0, 100_000))
    return Timeline(
        interval,
        [live for live, _ in points],
        [resident for _, resident in points],
        end,
        draw(st.integers(0, most)),
        peak,
        draw(st.integers(0, end + interval)),
    )


# -- scales ------------------------------------------------------------------------------------------------


def number(label: str) -> Fraction:
    value, unit = (*label.split(), "B")[:2]
    return Fraction(value) * (1 << 10 * ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit))


@given(amounts, st.sampled_from([plot.STEPS, svg.SIZE_STEPS]))
def test_sizes_of_an_axis(most: int, steps: tuple[int, ...]) -> None:
    scale = scales.of_sizes(most, steps)
    places = [at for at, _ in scale.ticks]
    assert places[0] == 0
    assert places[-1] == scale.end >= most
    assert len(places) - 1 in steps
    assert len({b - a for a, b in itertools.pairwise(places)}) == 1
    assert [number(label) for _, label in scale.ticks] == places  # no label is rounded
    assert most < 3 or scale.end <= 1.5 * most


@given(st.integers(10**6, 2**63), st.integers(2, 12))
def test_times_of_an_axis(end: int, most: int) -> None:
    units = {"ms": 10**6, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
    scale = scales.of_times(end, most)
    assert scale.end == end
    assert len(scale.ticks) - 1 <= most
    if most >= 6:
        assert len(scale.ticks) >= 3
    for at, label in scale.ticks:
        value, unit = label.split()
        assert Fraction(value) * units[unit] == at <= end


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, "0 | 1 B | 2 B | 3 B"),
        (66 * MIB, "0 | 25.0 MiB | 50.0 MiB | 75.0 MiB"),
        (700 * MIB, "0 | 250 MiB | 500 MiB | 750 MiB"),
        (950 * MIB, "0 | 256 MiB | 512 MiB | 768 MiB | 1.00 GiB"),
        (1100 * MIB, "0 | 512 MiB | 1.00 GiB | 1.50 GiB"),
    ],
)
def test_round_sizes(most: int, labels: str) -> None:
    assert " | ".join(label for _, label in scales.of_sizes(most, plot.STEPS).ticks) == labels


@pytest.mark.parametrize(
    ("end", "labels"),
    [
        (7 * 10**6, "0 ms | 1 ms | 2 ms | 3 ms | 4 ms | 5 ms | 6 ms | 7 ms"),
        (round(4.6 * SECOND), "0 s | 1 s | 2 s | 3 s | 4 s"),
        (150 * SECOND, "0 min | 0.5 min | 1 min | 1.5 min | 2 min | 2.5 min"),
        (9 * 3600 * SECOND, "0 h | 2 h | 4 h | 6 h | 8 h"),
    ],
)
def test_round_times(end: int, labels: str) -> None:
    assert " | ".join(label for _, label in scales.of_times(end, 7).ticks) == labels


# -- columns -----------------------------------------------------------------------------------------------


def at_time(of: Timeline, start: Fraction, stop: Fraction) -> tuple[int, int | None]:
    """What columns() says of a stretch of time, step by step."""
    steps = [step for step in of.steps() if step[0] < stop and step[1] > start]
    known = [resident for *_, resident in steps if resident is not None]
    return max(live for _, _, live, _ in steps), max(known, default=None)


@given(timelines(), st.integers(1, 90))
def test_columns(of: Timeline, n: int) -> None:
    columns = of.columns(n)
    assert len(columns) == n
    peak = of.column_of(of.peak_at_ns, n)
    assert (peak is None) == (of.peak_at_ns > of.end_ns)
    for i, column in enumerate(columns):
        start, stop = Fraction(i * of.end_ns, n), Fraction((i + 1) * of.end_ns, n)
        live, resident = at_time(of, start, stop)
        if i == peak:
            live = max(live, of.peak_bytes)
            assert start <= of.peak_at_ns <= stop
        assert column == (live, resident)


@given(timelines())
def test_steps_are_all_of_it(of: Timeline) -> None:
    steps = of.steps()
    assert steps[0][0] == 0
    assert steps[-1][1] == of.end_ns
    assert all(a[1] == b[0] for a, b in itertools.pairwise(steps))
    assert all(start < stop for start, stop, *_ in steps)
    assert [(live, resident) for _, _, live, resident in steps[: len(of.live)]] == list(
        zip(of.live, of.resident, strict=True)
    )


def test_a_program_that_idles_at_its_end() -> None:
    """What it holds then is known: nothing was allocated any more."""
    of = timeline([10, 80, 80], [100, 200, 300], end=12 * SECOND, end_live=20)
    assert of.columns(12) == [(10, 100), (80, 200), (80, 300), *[(20, 300)] * 9]


# -- in the terminal ---------------------------------------------------------------------------------------


def drawn(of: Timeline, width: int, characters: plot.Characters = plot.BLOCKS) -> list[str]:
    return ["".join(piece for piece, _ in spans) for spans in plot.draw(of, width, characters)]


def heights(lines: list[str]) -> tuple[list[int], list[str], int]:
    """The height of each column in eighths of a row, read from the drawing; labels; where the columns are."""
    left = lines[0].index("┤") + 1
    columns = len(lines[plot.ROWS]) - left
    rows = [line[left:].ljust(columns) for line in lines[: plot.ROWS]]
    out = [sum(plot.BLOCKS.fill.index(row[i]) for row in rows) for i in range(columns)]
    return out, [line[: left - 1].strip() for line in lines[: plot.ROWS]], left


@given(timelines(), st.integers(40, 140))
def test_the_drawn_heights(raw: Timeline, width: int) -> None:
    of = Timeline(
        raw.interval_ns,
        raw.live,
        [None] * len(raw.live),
        raw.end_ns,
        raw.end_live,
        raw.peak_bytes,
        raw.peak_at_ns,
    )
    lines = drawn(of, width)
    assert max(map(len, lines)) <= width
    read, labels, left = heights(lines)
    assert len(read) == width - left
    end = number(labels[0])
    for height, (live, _) in zip(read, of.columns(len(read)), strict=True):
        exact = Fraction(live * plot.ROWS * 8) / end
        assert abs(height - exact) <= Fraction(1, 2) or (height == 1 and 0 < exact < 1)
    for row, label in enumerate(labels):  # a label stands at the upper edge of its row
        if label:
            assert number(label) == end * (plot.ROWS - row) / plot.ROWS
    assert len([label for label in labels if label]) in plot.STEPS
    peak = of.column_of(of.peak_at_ns, len(read))
    assert [i for i, char in enumerate(lines[plot.ROWS][left:]) if char == "▲"] == (
        [] if peak is None else [peak]
    )


@given(timelines(), st.integers(40, 140), st.sampled_from([plot.BLOCKS, plot.ASCII]))
def test_the_drawn_line(of: Timeline, width: int, characters: plot.Characters) -> None:
    lines = drawn(of, width, characters)
    assert max(map(text.width, lines)) <= max(width, 40)
    assert characters is plot.BLOCKS or all(line.isascii() for line in lines)
    left = lines[0].index(characters.axis[1]) + 1
    columns = len(lines[plot.ROWS]) - left
    rows = [line[left:].ljust(columns) for line in lines[: plot.ROWS]]
    end = scales.of_sizes(of.most, plot.STEPS).end
    ends = {characters.line, *characters.up, *characters.down}
    for i, (_, resident) in enumerate(of.columns(columns)):
        cells = [row[i] for row in reversed(rows)]
        if resident is None:
            assert not ends & set(cells)
        else:
            assert cells[plot.row_of(resident, end)] in ends
            # Above it is what joins it to its neighbour, and what is live.
            fill = set(characters.fill)
            assert set(cells) <= ends | fill


def test_times_stand_below_their_columns() -> None:
    of = timeline([MIB] * 10)
    for width in (60, 80, 132):
        lines = drawn(of, width)
        left = lines[0].index("┤") + 1
        columns = width - left
        axis, names = lines[plot.ROWS], lines[plot.ROWS + 1]
        found = list(re.finditer(r"(\d+) s", names))
        assert len(found) >= 3
        for match in found:
            column = left + min(int(match[1]) * columns // 10, columns - 1)
            assert axis[column] in "┬▲"
            assert match.start() - 1 <= column <= match.end()


def test_the_picture() -> None:
    of = timeline([12 * MIB, 24 * MIB, 24 * MIB, 3 * MIB], [30 * MIB, 30 * MIB, 41 * MIB, None])
    # A row is 3.75 MiB: 24 MiB are 6.4 of them, 6 and 3 eighths.
    assert drawn(of, 34) == [
        "45.0 MiB ┤",
        "         │            ╭─────",
        "         │            │",
        "         │────────────╯",
        "30.0 MiB ┤",
        "         │      ▃▃▃▃▃▃▃▃▃▃▃▃",
        "         │      ████████████",
        "         │      ████████████",
        "15.0 MiB ┤▂▂▂▂▂▂████████████",
        "         │██████████████████",
        "         │██████████████████",
        "         │██████████████████▆▆▆▆▆▆",
        "       0 └┬─────▲─────┬──────────┬",
        "         0 s         2 s       4 s",
        "█ live, 3.00 MiB at the end",
        "─ resident, 41.0 MiB at most",
        "▲ peak 24.0 MiB at 1.0 s",
    ]


# -- the commands ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    from conftest import clean_environment

    folder = tmp_path_factory.mktemp("plotted")
    workplace = Workplace(folder, clean_environment({"XDG_STATE_HOME": str(folder / "state")}))
    workplace.record(PROGRAM)
    return workplace


def document(workplace: Workplace) -> Any:
    result = workplace.memheft("report", "app.heft", "--plot", "--json")
    assert (result.code, result.err) == (0, "")
    schema.check(result.json)
    return result.json


def test_the_document(recorded: Workplace) -> None:
    from memheft import _engine

    found = document(recorded)
    raw = _engine.Recording(str(recorded.folder / "app.heft")).timeline
    assert raw is not None
    points = list(zip(found["live_bytes"], found["resident_bytes"], strict=True))
    assert (found["interval_ns"], points) == raw
    totals = recorded.memheft("info", "app.heft", "--json").json["totals"]
    # 64 allocations may pass between two looks.
    assert totals["peak_bytes"] - 64 * 1100 <= max(found["live_bytes"]) <= totals["peak_bytes"]
    around = totals["peak_at_ns"] // found["interval_ns"]
    assert max(found["live_bytes"]) in found["live_bytes"][max(around - 1, 0) : around + 2]


def test_the_text(recorded: Workplace) -> None:
    totals = recorded.memheft("info", "app.heft", "--json").json["totals"]
    for columns in ("60", "80", "132"):
        result = recorded.memheft("report", "app.heft", "--plot", environment={"COLUMNS": columns})
        assert (result.code, result.err) == (0, "")
        lines = result.out.splitlines()
        assert re.fullmatch(r"app\.py: memory over \d\.\d+ s", lines[0])
        assert max(map(text.width, lines)) == int(columns)
        assert f"▲ peak {sizes.size(totals['peak_bytes'])} at " in result.out
        assert f"█ live, {sizes.size(totals['live_bytes'])} at the end" in result.out
        assert "resident, " in result.out
        assert "\x1b" not in result.out
    assert recorded.memheft("report", "app.heft", "--plot").out == (
        recorded.memheft("report", "app.heft", "--plot", environment={"COLUMNS": "80"}).out
    )


def test_colour(recorded: Workplace) -> None:
    environment = {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    plain = recorded.memheft("report", "app.heft", "--plot", environment=environment)
    for more in ({"TERM": "xterm-256color"}, {"TERM": "xterm", "NO_COLOR": "1"}):
        terminal = environment | more | {"FORCE_COLOR": "1"}
        result = recorded.memheft("report", "app.heft", "--plot", environment=terminal)
        assert ("\x1b[36m" in result.out) == ("NO_COLOR" not in more)
        bare = re.sub(r"\x1b\[[\d;]*m", "", result.out)
        assert [line.rstrip() for line in bare.splitlines()] == plain.out.splitlines()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}], ids=str)
def test_plain_characters(recorded: Workplace, environment: dict[str, str]) -> None:
    result = recorded.memheft("report", "app.heft", "--plot", environment=environment)
    assert result.code == 0
    assert result.out.isascii()
    assert "#" in result.out
    assert "\\" not in result.out


def test_nothing_to_plot(recorded: Workplace, tmp_path: Path) -> None:
    old = str(ROOT / "tests" / "golden" / "format-1.heft")
    for words in (["report", old, "--plot"], ["plot", "app.heft", old, "-o", str(tmp_path / "x.svg")]):
        result = recorded.memheft(*words)
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(r"memheft: error: .*format-1.heft has no timeline \(.*\)\n", result.err)
    failed = recorded.memheft("report", old, "--plot", "--json")
    assert (failed.code, failed.json["code"]) == (1, "no-timeline")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--live"], ["--temporary"], ["--by", "file"], ["--tree"], ["--lines", "app.py"], ["--own"],
        ["--only", "own"], ["--no-stdlib"], ["--match", "x"], ["--limit", "3"], ["--peak"],
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_go_with_plot(recorded: Workplace, words: list[str]) -> None:
    result = recorded.memheft("report", "app.heft", "--plot", *words)
    assert (result.code, result.out) == (2, "")
    assert f"{words[0]} does not go with --plot" in result.err
    assert result.err.count("\n") == 1


# -- pictures ----------------------------------------------------------------------------------------------


def ticks(root: ET.Element, group: str, axis: str) -> dict[str, float]:
    found = next(element for element in root.iter(f"{SVG}g") if element.get("class") == group)
    return {element.text or "": float(element.get(axis, "nan")) for element in found.iter(f"{SVG}text")}


Corner = tuple[float, float]


def lines_of(path: str) -> list[tuple[Corner, Corner]]:
    """The level lines of a path."""
    out, x, y = [], 0.0, 0.0
    for command, words in re.findall(r"([MHV])([^MHV]*)", path):
        values = [float(word) for word in words.split()]
        if command == "M":
            x, y = values
        elif command == "V":
            y = values[0]
        else:
            out.append(((x, y), (values[0], y)))
            x = values[0]
    return out


def check_svg(picture: str, labelled: list[tuple[str, Timeline]]) -> None:
    """What is drawn, measured against the picture's own labels, is what the timelines say."""
    root = ET.fromstring(picture)
    y = ticks(root, "sizes", "y")
    x = ticks(root, "times", "x")
    zero, (top, highest) = y.pop("0"), max(y.items(), key=lambda item: number(item[0]))
    assert all(abs(zero - (zero - highest) * number(at) / number(top) - y[at]) < 0.01 for at in y)
    units = {"ms": 10**6, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
    times = {float(at.split()[0]) * units[at.split()[1]]: place for at, place in x.items()}
    first, last = min(times), max(times)
    per_ns = (times[last] - times[first]) / (last - first)
    left = times[0.0]

    groups = [group for group in root.iter(f"{SVG}g") if re.fullmatch(r"c\d+", group.get("class", ""))]
    assert len(groups) == 2 * len(labelled)  # and the legend
    for (name, of), group in zip(labelled, groups[: len(labelled)], strict=True):
        assert (group.findtext(f"{SVG}title") or "") == text.cut(text.clean(name), svg.LONGEST_NAME)
        paths = {path.get("class"): path.get("d", "") for path in group.iter(f"{SVG}path")}
        for kind, at in (("live", 2), ("resident", 3)):
            expected: list[list[float]] = []
            for step in of.steps():
                size = step[at]
                if size is None:
                    continue
                places = [left + step[0] * per_ns, left + step[1] * per_ns]
                height = zero - (zero - highest) * size / float(number(top))
                expected.append([*places, height])
            assert covers(lines_of(paths.get(kind, "")), expected)
        circles = list(group.iter(f"{SVG}circle"))
        assert len(circles) == (of.peak_at_ns <= of.end_ns)
        for circle in circles:
            assert abs(float(circle.get("cx", "nan")) - left - of.peak_at_ns * per_ns) < 0.1
            assert zero - float(circle.get("cy", "nan")) == pytest.approx(
                (zero - highest) * of.peak_bytes / float(number(top)), abs=0.01
            )


def covers(drawn: list[tuple[Corner, Corner]], expected: list[list[float]]) -> bool:
    """Every expected step lies on a level line, and every level line consists of such steps."""
    near = 0.1
    for start, stop, height in expected:
        assert any(
            a[0] - near <= start and stop <= b[0] + near and abs(a[1] - height) < 0.02 for a, b in drawn
        ), (start, stop, height)
    total = sum(b[0] - a[0] for a, b in drawn)
    return abs(total - sum(stop - start for start, stop, _ in expected)) < near * (len(expected) + 1)


names = st.one_of(
    st.sampled_from(["app.heft", "<&>\"'.heft", "a\x00\x1b\udc80\ufffe.heft"]), st.text(max_size=80)
)


@given(st.lists(st.tuples(names, timelines()), min_size=1, max_size=9))
def test_svg_coordinates(labelled: list[tuple[str, Timeline]]) -> None:
    picture = svg.draw(labelled)
    picture.encode("utf-8")
    check_svg(picture, labelled)


def test_svg_is_light_and_dark_and_small() -> None:
    labelled = [(f"{i}.heft", timeline([(i + k * k) % 977 * MIB for k in range(500)])) for i in range(8)]
    picture = svg.draw(labelled)
    assert len(picture) < 100_000
    light, dark = picture.split("@media (prefers-color-scheme: dark)")
    for i in range(8):
        colours = [re.search(rf"\.c{i} path {{ stroke: ([^;]+);", part) for part in (light, dark)]
        assert all(colours)
        assert len({match[1] for match in colours if match}) == 2
    assert len({svg.colour(i) for i in range(40)}) == 40
    assert "script" not in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_plot_writes_what_the_document_says(recorded: Workplace) -> None:
    strange = "_$x$ <b>&.heft"
    recorded.write("grow.py", "x = [bytearray(1000) for _ in range(9000)]")
    assert recorded.memheft("run", "-q", "-f", "-o", strange, "grow.py").code == 0
    result = recorded.memheft("plot", "app.heft", strange, "-f", "-o", "both.svg")
    said = f"memheft: both.svg: memory over time of app.heft and {strange}\n"
    assert (result.code, result.out, result.err) == (0, "", said)
    from memheft.views import timeline as view
    from memheft.views.recording import Opened

    labelled = []
    for name in ("app.heft", strange):
        found = view.of(Opened(str(recorded.folder / name)))
        assert found is not None
        labelled.append((name, found))
    assert labelled[0][1].live == document(recorded)["live_bytes"]
    check_svg((recorded.folder / "both.svg").read_text("utf-8"), labelled)


def test_files_of_one_name_are_told_apart(recorded: Workplace) -> None:
    (recorded.folder / "old").mkdir()
    (recorded.folder / "old" / "app.heft").write_bytes((recorded.folder / "app.heft").read_bytes())
    assert recorded.memheft("plot", "app.heft", "old/app.heft", "-f", "-o", "two.svg").code == 0
    titles = [e.text for e in ET.parse(recorded.folder / "two.svg").iter(f"{SVG}title")]
    assert titles[1:] == ["app.heft", "old/app.heft"]


def test_pictures_are_not_overwritten(recorded: Workplace) -> None:
    picture = recorded.folder / "kept.svg"
    picture.write_text("mine")
    before = set(os.listdir(recorded.folder))
    result = recorded.memheft("plot", "app.heft", "-o", "kept.svg")
    assert (result.code, picture.read_text()) == (2, "mine")
    assert "kept.svg exists" in result.err
    assert recorded.memheft("plot", "app.heft", "-o", "kept.svg", "--force").code == 0
    assert picture.read_text("utf-8").startswith("<?xml")
    assert set(os.listdir(recorded.folder)) == before  # no temporary file is left

    (recorded.folder / "link.svg").symlink_to("kept.svg")
    assert recorded.memheft("plot", "app.heft", "-o", "link.svg").code == 2
    picture.write_text("mine")
    assert recorded.memheft("plot", "app.heft", "-fo", "link.svg").code == 0
    assert (recorded.folder / "link.svg").is_symlink()  # what it names was overwritten, as by export
    assert picture.read_text("utf-8").startswith("<?xml")

    recording = recorded.folder / "app.svg"
    recording.write_bytes((recorded.folder / "app.heft").read_bytes())
    result = recorded.memheft("plot", "app.svg", "-o", "app.svg", "--force")
    assert result.code == 2
    assert "is a recording" in result.err
    assert recording.read_bytes() == (recorded.folder / "app.heft").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["app.heft"], 2, "name the picture: -o plot.svg"),
        (["app.heft", "-o", "x.pdf"], 2, "x.pdf: the name of a picture ends in .svg or .png"),
        (["app.heft", "-o", ""], 2, "ends in .svg or .png"),
        (["app.heft", "-o", "nosuch/x.svg"], 1, "nosuch does not exist"),
        (["app.heft", "-o", "app.py/x.svg"], 1, "app.py is not a folder"),
        (["app.heft", "-o", "folder.svg", "-f"], 2, "folder.svg is a folder"),
        (["app.heft", "-o", "/proc/x.svg"], 1, "cannot write /proc/x.svg"),
        (["nothing.heft", "-o", "x.svg"], 1, "nothing.heft: no such file"),
        (["app.py", "-o", "x.svg"], 1, "app.py"),
        (["app.heft", "-o", "x.svg", "--frobnicate"], 2, "--frobnicate"),
    ],
    ids=str,
)
def test_errors(recorded: Workplace, words: list[str], code: int, says: str) -> None:
    (recorded.folder / "folder.svg").mkdir(exist_ok=True)
    result = recorded.memheft("plot", *words)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert result.err.count("\n") == 1
    assert not (recorded.folder / "x.svg").exists()


def test_the_last_recording(recorded: Workplace) -> None:
    said = recorded.memheft("plot", "-f", "-o", "last.svg")
    assert said.code == 0
    assert re.fullmatch(r"memheft: last.svg: memory over time of .+\.heft\n", said.err)
    quiet = recorded.memheft("plot", "-qf", "-o", "last.svg")
    assert (quiet.code, quiet.err) == (0, "")
    many = recorded.memheft("plot", *["app.heft"] * 3, "-f", "-o", "last.svg")
    assert many.err == "memheft: last.svg: memory over time of 3 recordings\n"
    assert recorded.memheft("p", "-f", "-o", "last.svg").code == 0
    recorded.memheft("report", "--plot")


def test_no_matplotlib(recorded: Workplace) -> None:
    hidden = recorded.folder / "hidden" / "matplotlib"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'matplotlib'\")")
    environment = {"PYTHONPATH": str(hidden.parent)}
    result = recorded.memheft("plot", "app.heft", "-o", "x.png", environment=environment)
    assert (result.code, result.out) == (1, "")
    assert "No module named 'matplotlib' (pip install 'memheft[plot]'" in result.err
    assert result.err.count("\n") == 1
    assert not (recorded.folder / "x.png").exists()


def test_png() -> None:
    pytest.importorskip("matplotlib")
    from memheft.views import png

    of = timeline([MIB, 30 * MIB, 5 * MIB], [None, 60 * MIB, 50 * MIB], end=4 * SECOND, end_live=2 * MIB)
    labelled = [("_$x_{2}$ \u4e2d.heft", of), *((f"{i}.heft", timeline([i, 2 * i])) for i in range(1, 9))]
    made = png.figure(labelled)
    (axes,) = made.axes
    resident, live = (patch.get_data() for patch in axes.patches[:2])
    assert list(live.values) == [MIB, 30 * MIB, 5 * MIB, 2 * MIB]
    assert list(live.edges) == [0, SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
    assert [str(value) for value in resident.values[:1]] == ["nan"]
    assert list(resident.values[1:]) == [60 * MIB, 50 * MIB, 50 * MIB]
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["0 s", "0.5 s"]
    assert png.draw(labelled).startswith(b"\x89PNG\r\n\x1a\n")


def test_running_and_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stdout without a terminal's encoding gets plain characters; without any, nothing can be drawn."""
    from memheft.views.paper import Paper

    monkeypatch.delenv("TERM", raising=False)
    for encoding, blocks in (("utf-8", True), ("UTF8", True), ("latin-1", False), ("ascii", False)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert Paper().draws_blocks == blocks
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="stdout is closed"):
        Paper()
