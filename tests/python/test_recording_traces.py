"""Requests of exact sizes against a model: the model counts what was asked for, line by line."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field

import pytest
import recording_tools as tools
from conftest import Workplace
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from recording_tools import ALLOCATORS, MEM, OBJ, RAW, Lines, Recorded

SPANS = (1, 2, 4)
IMPOSSIBLE = 1 << 60
FLOOR = 64 << 20  # larger than all that the interpreter asks for: the peak lies inside the trace
FLOOR_PLACE, OLD_PLACE = 4000, 12
FIRST = 24
# Blocks that are older than the recording: domain and size, from OLD_PLACE on.
OLD = [(OBJ, 24), (MEM, 300), (OBJ, 512), (RAW, 700), (OBJ, 5000), (MEM, 16)]
SIZES = [0, 1, 8, 15, 16, 17, 24, 32, 48, 100, 255, 256, 257, 384, 385, 400, 496, 497, 511, 512, 513, 514]
SIZES += [528, 600, 1000, 4096, 100_000, 200_000, 1 << 20]

START = "from exact import step\n" + "".join(
    f"step('m', {domain}, {place}, {size})\n" for place, (domain, size) in enumerate(OLD, OLD_PLACE)
)
PROLOGUE = f"""\
from os import _exit as end  # not looked up later: another name may leave the type cache for it, freed
from exact import nogil, step
def call(operation, domain, place, size):
    step(operation, domain, place, size)  # @function
def make():
    while True:
        step(O, D, P, N)  # @generator
        yield
O, D, P, N = "m", 0, 3999, {FIRST}
generator = make()
for O in "mf":  # what the interpreter makes at the first time is not the trace's
    next(generator)
    call(O, 0, 3998, {FIRST})
step("m", {RAW}, {FLOOR_PLACE}, {FLOOR})  # @floor
"""


@dataclass(frozen=True)
class Op:
    """Something is done to a place; what, depends on whether it is empty."""

    kind: str  # m, c, r, f
    domain: int
    place: int
    size: int
    way: str = "step"


@dataclass
class Model:
    """What was asked for, by line; the peak is the state before the first free after the first maximum."""

    live: dict[int, list[int]] = field(default_factory=dict)
    total: dict[int, list[int]] = field(default_factory=dict)
    temporary: list[dict[int, list[int]]] = field(default_factory=lambda: [{}, {}, {}])
    peak: dict[int, list[int]] = field(default_factory=dict)
    places: dict[int, tuple[int, int, int] | None] = field(default_factory=dict)  # line, size, request
    sum: int = 0
    high: int = 0
    requests: int = 0

    def look_for_peak(self) -> None:
        if self.sum > self.high:
            self.high, self.peak = self.sum, copy.deepcopy(self.live)

    @staticmethod
    def count(table: dict[int, list[int]], line: int, size: int, blocks: int = 1) -> None:
        entry = table.setdefault(line, [0, 0])
        entry[0] += size
        entry[1] += blocks

    def request(self, place: int, line: int, size: int) -> None:
        self.requests += 1
        self.places[place] = (line, size, self.requests)
        self.count(self.live, line, size)
        self.count(self.total, line, size)
        self.sum += size

    def release(self, place: int, resized: bool) -> None:
        block = self.places.pop(place)
        if block is None:
            return
        line, size, number = block
        self.look_for_peak()
        self.count(self.live, line, -size, -1)
        self.sum -= size
        for table, span in zip(self.temporary, SPANS, strict=True):
            if not resized and self.requests - number < span:
                self.count(table, line, size)

    def apply(self, op: Op, line: int) -> str:
        """Do it; the result is the operation's letter."""
        if op.place not in self.places:
            if op.size != IMPOSSIBLE:
                self.request(op.place, line, op.size)
            return "c" if op.kind == "c" else "m"
        if op.kind in "mf":
            self.release(op.place, False)
            return "f"
        if op.size == IMPOSSIBLE:
            if self.places[op.place] is not None:
                self.look_for_peak()
            return "r"
        self.release(op.place, True)
        self.request(op.place, line, op.size)
        return "r"


def program(ops: list[Op]) -> tuple[str, Model]:
    """A program with one line for each operation, and what its recording must say."""
    lines = PROLOGUE.splitlines()
    where = tools.marks(PROLOGUE)
    model = Model()
    model.places = dict.fromkeys(range(OLD_PLACE, OLD_PLACE + len(OLD)), None)
    for place, line in enumerate([where["generator"], where["function"]], 3998):
        model.request(place, line, FIRST)
    for place in (3998, 3999):
        model.release(place, False)
    model.request(FLOOR_PLACE, where["floor"], FLOOR)
    for op in ops:
        here = len(lines) + 1
        line = {"call": where["function"], "next": where["generator"]}.get(op.way, here)
        letter = model.apply(op, line)
        if op.way == "next":
            lines.append(f'O = "{letter}"; D = {op.domain}; P = {op.place}; N = {op.size}; next(generator)')
        else:
            lines.append(f'{op.way}("{letter}", {op.domain}, {op.place}, {op.size})')
    lines.append("end(0)")
    model.look_for_peak()
    return "\n".join(lines) + "\n", model


def run(place: Workplace, text: str, environment: dict[str, str]) -> Recorded:
    tools.give_exact(place)
    place.write("start/sitecustomize.py", START)
    path = {"PYTHONPATH": f"{place.folder}/start:{place.folder}"}
    return tools.record(place, text, environment=environment | path)


def as_lines(table: dict[int, list[int]]) -> Lines:
    return {line: (size, blocks) for line, (size, blocks) in table.items() if (size, blocks) != (0, 0)}


def compare(recorded: Recorded, model: Model, temporaries: bool = True) -> None:
    recorded.check_sums()
    marks = tools.marks(PROLOGUE)
    last = len(recorded.text.splitlines()) - 1
    mine = {marks["function"], marks["generator"], *range(marks["floor"], last + 1)}

    def measured(moment: tools.Moment, span: int = 1) -> Lines:
        lines = recorded.lines(moment, span)
        return {line: numbers for line, numbers in lines.items() if line in mine}

    assert measured("total") == as_lines(model.total)
    assert measured("live") == as_lines(model.live)
    assert measured("peak") == as_lines(model.peak)
    if temporaries:
        for table, span in zip(model.temporary, SPANS, strict=True):
            assert measured("temporary", span) == as_lines(table), span
    # Nothing else happened during the trace: at the peak all other lines were as at its end.
    assert recorded.others("peak", mine) == recorded.others("live", mine)
    before = recorded.totals["live_bytes"] - model.sum
    assert recorded.totals["peak_bytes"] == model.high + before
    assert 0 < before < FLOOR // 2


def operations(ways: list[str]) -> st.SearchStrategy[list[Op]]:
    @st.composite
    def op(draw: st.DrawFn) -> Op:
        way = draw(st.sampled_from(ways))
        # Without the interpreter's lock only the raw domain may be used.
        domain = RAW if way in ("nogil", "stranger") else draw(st.sampled_from([RAW, MEM, OBJ]))
        low = 30 if domain == RAW and ("nogil" in ways) else 0
        places = range(low, low + 12) if low else range(OLD_PLACE + len(OLD))
        size = draw(st.one_of(st.sampled_from([*SIZES, IMPOSSIBLE]), st.integers(1, 600)))
        kind = draw(st.sampled_from("mcrrff"))
        return Op(kind, domain, draw(st.sampled_from(places)), size, way)

    return st.lists(op(), min_size=1, max_size=120)


QUIET = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
RANDOM = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=QUIET,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


def trace_test(workplace: Workplace, ops: list[Op], allocator: str, temporaries: bool = True) -> None:
    text, model = program(ops)
    compare(run(workplace, text, tools.environment_of(allocator)), model, temporaries)


IN_PLACE = [
    Op("m", OBJ, 0, 500),
    Op("r", OBJ, 0, 400),
    Op("r", OBJ, 0, 0),
    Op("r", OBJ, 0, 3),
    Op("f", 0, 0, 0),
]
ZERO_AT_THE_PEAK = [Op("m", MEM, 0, 1000), Op("m", MEM, 1, 0), Op("f", 0, 0, 0), Op("r", 0, 1, 900)]


@RANDOM
@example(IN_PLACE)
@example(ZERO_AT_THE_PEAK)
@given(operations(["step", "step", "call", "next"]))
def test_random_traces(workplace: Workplace, ops: list[Op]) -> None:
    trace_test(workplace, ops, "pymalloc")


@pytest.mark.parametrize("allocator", ALLOCATORS[1:])
@settings(RANDOM, max_examples=8)
@example(IN_PLACE)
@given(ops=operations(["step", "step", "call", "next"]))
def test_random_traces_of_other_allocators(workplace: Workplace, allocator: str, ops: list[Op]) -> None:
    trace_test(workplace, ops, allocator)


@pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
@settings(RANDOM, max_examples=12)
@given(ops=operations(["step", "step", "nogil", "call", "next"]))
def test_random_traces_without_the_lock(workplace: Workplace, allocator: str, ops: list[Op]) -> None:
    trace_test(workplace, ops, allocator, temporaries=False)


# -- realloc -----------------------------------------------------------------------------------------------

RESIZED = [0, 1, 16, 17, 100, 384, 400, 500, 511, 512, 513, 600, 5000, 200_000]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_every_resize(workplace: Workplace, allocator: str) -> None:
    """From each size to each other, in place or not, up and down across pymalloc's limit."""
    ops: list[Op] = []
    for place, (domain, old, new) in enumerate(itertools.product((RAW, MEM, OBJ), RESIZED, RESIZED), 20):
        ops += [Op("m", domain, place, old), Op("r", domain, place, new)]
        if place % 2:
            ops.append(Op("f", domain, place, 0))
    trace_test(workplace, ops, allocator)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_resize_that_fails_changes_nothing(workplace: Workplace, allocator: str) -> None:
    ops: list[Op] = []
    for place, (domain, old) in enumerate(itertools.product((RAW, MEM, OBJ), RESIZED), 20):
        ops += [
            Op("m", domain, place, old),
            Op("r", domain, place, IMPOSSIBLE),
            Op("m", domain, 3000 + place, 7),
        ]
        ops += [Op("f", domain, 3000 + place, 0), Op("r", domain, place, old + 3)]
        ops += [Op("r", domain, place, IMPOSSIBLE), Op("f", domain, place, 0)][: 2 * (place % 2)]
    ops += [Op("m", domain, 10, IMPOSSIBLE) for domain in (RAW, MEM, OBJ)]
    ops += [Op("c", domain, 10, IMPOSSIBLE) for domain in (RAW, MEM, OBJ)]
    trace_test(workplace, ops, allocator)


def test_blocks_of_eight_bytes(workplace: Workplace) -> None:
    """Of mimalloc's these lie 8 bytes apart; others keep them further apart."""
    places = range(20, 420)
    ops = [Op(kind, OBJ, place + i, 1) for place in places[::2] for kind in "mf" for i in (0, 1)]
    trace_test(workplace, ops, "mimalloc")


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("size", [9, 16, 20, 290, 300, 500, 512, 600, 6000])
def test_blocks_older_than_the_recording(workplace: Workplace, allocator: str, size: int) -> None:
    """Resized they become the recording's own; freed they are ignored."""
    places = range(OLD_PLACE, OLD_PLACE + len(OLD))
    ops = [Op("r", 0, place, size) for place in places]
    ops += [Op("f", 0, place, 0) for place in list(places)[::2]]
    ops += [Op("m", OBJ, place, size) for place in list(places)[::2]]
    ops += [Op("r", 0, place, size + 30) for place in list(places)[1::2]]
    trace_test(workplace, ops, allocator)
    trace_test(workplace, [Op("f", 0, place, 0) for place in places], allocator)


def test_an_older_list_that_grows(workplace: Workplace) -> None:
    """The same with a block of the interpreter's own: the items of sys.path."""
    text = """\
import sys
n = len(sys.path)
sys.path.extend("a" * 100)  # @grown
kept = [None] * 5
"""
    recorded = tools.record(workplace, text)
    size, blocks = recorded.at("grown")
    assert blocks == 1
    assert 8 * 100 < size < 8 * 150


@pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
@pytest.mark.parametrize("left", [False, True], ids=["removed", "left"])
def test_a_hook_of_somebody_else(workplace: Workplace, allocator: str, left: bool) -> None:
    """Put on top of ours and taken away again, or left there beyond the end of the recording."""
    text = f"""\
from exact import hook, step, unhook
step("m", {OBJ}, 0, 100)  # @before
step("m", {OBJ}, 1, 200)
hook()
step("r", {OBJ}, 1, 300)  # @resized
step("m", {MEM}, 2, 5000)  # @during
step("m", {OBJ}, 3, 60)  # @freed
step("f", {OBJ}, 3, 0)
step("m", {OBJ}, 4, 70)  # @later
{"#" if left else ""}assert unhook() >= 3
step("f", {OBJ}, 4, 0)
step("m", {RAW}, 5, 900)  # @after
"""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, text, environment=tools.environment_of(allocator))
    recorded.check_sums()
    assert recorded.header["state"] == tools.CLOSED
    for mark, live, total in [
        ("before", 100, 100),
        ("resized", 300, 300),
        ("during", 5000, 5000),
        ("freed", 0, 60),
        ("later", 0, 70),
        ("after", 900, 900),
    ]:
        assert recorded.at(mark) == (live, int(live > 0)), mark
        assert recorded.at(mark, "total") == (total, 1), mark


# -- temporary blocks ---------------------------------------------------------------------------------------


def spans(recorded: Recorded, mark: str) -> list[tuple[int, int]]:
    return [recorded.at(mark, "temporary", span) for span in SPANS]


def test_temporary_spans(workplace: Workplace) -> None:
    """A block is temporary for a span when it is freed before that many others were asked for."""
    lines = []
    for between in range(6):
        lines.append(f'step("m", {OBJ}, 0, 100)  # @small{between}')
        lines.append(f'step("m", {MEM}, 1, 900)  # @large{between}')
        lines += [f'step("m", {OBJ}, {2 + i}, 50)' for i in range(between)]
        lines += ['step("f", 0, 1, 0)', 'step("f", 0, 0, 0)']
        lines += [f'step("f", 0, {2 + i}, 0)' for i in range(between)]
    tools.give_exact(workplace)
    recorded = tools.record(workplace, "from exact import step\n" + "\n".join(lines))
    for between in range(6):
        large = [(900, 1) if between < span else (0, 0) for span in SPANS]
        small = [(100, 1) if between + 1 < span else (0, 0) for span in SPANS]
        assert spans(recorded, f"large{between}") == large, between
        assert spans(recorded, f"small{between}") == small, between


def test_a_request_without_the_lock_is_one_more_of_its_thread(workplace: Workplace) -> None:
    text = f"""\
from exact import nogil, step
step("m", {OBJ}, 0, 100)  # @held
nogil("m", {RAW}, 1, 70)
step("f", 0, 0, 0)
nogil("m", {RAW}, 2, 80)  # @unheld
nogil("f", 0, 2, 0)
"""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, text)
    assert spans(recorded, "held") == [(0, 0), (100, 1), (100, 1)]
    assert spans(recorded, "unheld") == [(80, 1)] * 3


TURNS = """\
import threading
from exact import step
first, second = threading.Lock(), threading.Lock()
first.acquire(); second.acquire()
def other():
    first.acquire()
    {other}
    second.release()
thread = threading.Thread(target=other)
thread.start()
{before}
first.release(); second.acquire()
{after}
thread.join()
"""


def test_temporary_blocks_freed_by_another_thread(workplace: Workplace) -> None:
    """A thread looks only at what it asked for itself: freed by another one, a block is no temporary."""
    tools.give_exact(workplace)
    text = TURNS.format(
        before=f'step("m", {OBJ}, 0, 100)  # @mine',
        other="; ".join(f'step("m", 0, {place}, 70)' for place in range(1, 5)) + '; step("f", 0, 0, 0)',
        after="pass",
    )
    recorded = tools.record(workplace, text)
    assert spans(recorded, "mine") == [(0, 0)] * 3


def test_an_address_that_comes_back_is_another_block(workplace: Workplace) -> None:
    tools.give_exact(workplace)
    again = "; ".join(f'step("m", {OBJ}, {place}, 100)' for place in range(1, 12))
    text = TURNS.format(
        before=f'step("m", {OBJ}, 0, 100)',
        other=f'step("f", 0, 0, 0); {again}  # @again',
        after="; ".join(f'step("f", 0, {place}, 0)' for place in range(11, 0, -1)),
    )
    recorded = tools.record(workplace, text)
    assert recorded.at("again", "total") == (1100, 11)
    assert [blocks <= span for (_, blocks), span in zip(spans(recorded, "again"), SPANS, strict=True)] == [
        True
    ] * 3


# -- threads that Python does not know -----------------------------------------------------------------------


@pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
def test_strangers(workplace: Workplace, allocator: str) -> None:
    """Threads without a Python state have a row of their own; a free by whomever finds the block."""
    text = f"""\
import os
from exact import attached, nogil, step, stranger
stranger("m", {RAW}, 0, 1_000_001)
stranger("m", {RAW}, 1, 2_000_003)
stranger("m", {RAW}, 2, 10)
stranger("r", {RAW}, 1, 3_000_005)
step("f", {RAW}, 0, 0)
step("m", {RAW}, 3, 5_000_000)  # @freed
stranger("f", {RAW}, 3, 0)
stranger("r", {RAW}, 1, {IMPOSSIBLE})
step("m", {RAW}, 4, 400)  # @taken
stranger("r", {RAW}, 4, 7_000_000)
step("r", {RAW}, 2, 77)  # @given
nogil("m", {RAW}, 7, 99)  # @nogil
os._exit(0)
"""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, text, environment=tools.environment_of(allocator))
    recorded.check_sums()
    unknown = {name: numbers for name, numbers in recorded.threads("live").items() if name == (None, 0)}
    assert unknown == {(None, 0): (3_000_005 + 7_000_000, 2)}
    total = recorded.threads("total")[None, 0]
    assert total == (1_000_001 + 2_000_003 + 10 + 3_000_005 + 7_000_000, 5)
    assert recorded.at("freed") == recorded.at("taken") == (0, 0)
    assert recorded.at("freed", "total") == (5_000_000, 1)
    assert recorded.at("given") == (77, 1)
    assert recorded.at("nogil") == (99, 1)


def test_a_foreign_thread_that_calls_python(workplace: Workplace) -> None:
    """With a Python state it is a thread like others, with its native id and without a name."""
    text = f"""\
import os
from exact import attached
attached("m", {OBJ}, 5, 300_001)
attached("m", {MEM}, 6, 6_000_000)
attached("r", {MEM}, 5, 400_001)
attached("f", {MEM}, 6, 0)
os._exit(0)
"""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    threads = recorded.threads("total")
    unnamed = {native: numbers for (name, native), numbers in threads.items() if name is None and native}
    assert len(unnamed) <= 4
    sizes = sorted(size for size, _ in unnamed.values())
    assert 300_001 + 400_001 + 6_000_000 <= sum(sizes) < 300_001 + 400_001 + 6_000_000 + 20_000
    live = [recorded.threads("live").get((None, native), (0, 0))[0] for native in unnamed]
    assert 400_001 <= sum(live) < 420_001


BESIDE = f"""\
import sys, threading
from exact import nogil
sys.setswitchinterval(1e-5)
def work(first):
    for place in range(first, first + 40):
        nogil("m", {RAW}, place, 70_000)  # @held
    for _ in range(8_000):
        nogil("m", {RAW}, place + 1, 60_000)  # @brief
        nogil("f", 0, place + 1, 0)
threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    busy = [bytes(600 + i) for i in range(100)]
"""


def test_threads_that_let_go_of_the_lock(workplace: Workplace) -> None:
    """Requests and frees beside those of the thread that holds the lock: none lost, none mixed up."""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, BESIDE)
    recorded.check_sums()
    assert recorded.header["flags"] == 0
    assert recorded.at("held") == (3 * 40 * 70_000, 3 * 40)
    assert recorded.at("brief") == (0, 0)
    assert recorded.at("brief", "total") == (3 * 8_000 * 60_000, 3 * 8_000)


STORM = f"""\
import sys
from exact import calm, fill, storm
sys.setrecursionlimit(3000)
def deep(n):
    if n:
        return deep(n - 1)
    kept = []
    for i in range(20_000):
        kept.append(bytes(700))  # @kept
        kept.append([i])
    return kept
storm(4, 50_000)
kept = deep(500)
fill({RAW}, 24, 600_000)  # @fill
calm()
"""


@pytest.mark.parametrize("variable", ["NOTHING", "MEMHEFT_FULL_WALK"])
def test_a_storm_of_strangers(workplace: Workplace, variable: str) -> None:
    """Threads without the lock work at the same time as the program: neither spoils the other's numbers."""
    tools.give_exact(workplace)
    recorded = tools.record(workplace, STORM, environment={variable: "1"})
    recorded.check_sums()
    assert recorded.at("fill") == (24 * 600_000, 600_000)
    size, blocks = recorded.at("kept")
    assert blocks == 20_001  # and the list's items
    assert size - 20_000 * (700 + tools.HEAD) >= 8 * 40_000
    assert recorded.threads("live").get((None, 0), (0, 0)) == (0, 0)
    requests = 4 * (50_000 + (50_000 + 6) // 7)
    assert recorded.threads("total")[None, 0][1] == requests
