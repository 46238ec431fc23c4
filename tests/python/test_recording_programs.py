"""Programs of all kinds of frames: against tracemalloc, against their own count, and in size."""

from __future__ import annotations

import json
import sys

import pytest
import recording_tools as tools
from conftest import Workplace
from recording_tools import ALLOCATORS, FLAG_FULL_WALK, HEAD, Lines, Recorded, is_about

# Each line that ends in a mark keeps blocks.  Run under tracemalloc it writes down what that sees of it.
PROGRAM = """\
import contextlib, functools, gc, os, sys
TRACED = "traced" in sys.argv
if TRACED:
    import json, tracemalloc
class Node:
    __slots__ = ("left", "right", "data")
def main(kept):
    place = 0
    def keep(size):
        nonlocal place
        kept[place] = bytes(size)  # @keep
        place += 1
    def numbers(n):
        for i in range(n):
            keep(600 + i)
            yield bytearray(700)  # @yielded
            keep(20)
    def delegate(n):
        found = yield from numbers(n)  # @delegate
        keep(33)
        return found
    @contextlib.contextmanager
    def manager(n):
        keep(n)
        try:
            yield "x" * 1000  # @managed
        finally:
            keep(n + 1)
    async def inner(n):
        keep(n)
        return "y" * lengths[n]  # @inner
    async def outer(n):
        return [await inner(i) for i in range(n)]  # @outer
    async def ticker(n):
        for i in range(n):
            keep(40)
            yield bytearray(900)  # @ticker
    async def collect(n):
        return [x async for x in ticker(n)]  # @collect
    def fail(n):
        try:
            if n:
                fail(n - 1)  # @failing
            raise ValueError(n)
        except ValueError:
            keep(50)
        finally:
            keep(51)
    def tree(n):
        node = Node()  # @node
        node.data = bytes(n)  # @data
        node.left = tree(n - 1) if n else None  # @deeper
        node.right = None
        return node
    def compare(a, b):
        keep(60)
        return b - a
    def drive(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
    results = [None] * 50
    results[0] = list(numbers(20))  # @list
    results[1] = [x for x in delegate(20)]  # @comprehension
    with manager(70) as results[2]:
        keep(71)
    results[3] = drive(outer(20))
    results[4] = drive(collect(20))
    fail(30)
    results[5] = tree(40)
    results[6] = sorted(range(20), key=functools.cmp_to_key(compare))  # @sorted
    results[7] = sorted(range(20), key=lambda i: keep(80) or -i)  # @key
    results[8] = {str(i) * 300: bytes(i + 900) for i in range(300)}  # @dict
    results[9] = {bytes(i + 1000) for i in range(300)}  # @set
    text = ""
    for i in range(100):
        text += "abcdefgh" * 10  # @text
    results[10] = text
    grown = bytearray()
    for i in range(100):
        grown += b"0123456789" * 20  # @grown
    results[11] = grown
    results[12] = "".join(str(i) for i in range(5000))  # @join
    results[13] = list(map(lambda i: bytearray(i + 500), range(50)))  # @lambda
    results[14] = functools.reduce(lambda a, i: a + [bytes(i + 600)], range(30), [])  # @reduce
    return results
kept, lengths = [None] * 2000, list(range(2000, 2100))
gc.collect()
gc.disable()
if TRACED:
    tracemalloc.start(30)
results = main(kept)
if TRACED:
    snapshot = tracemalloc.take_snapshot()
    mine = snapshot.filter_traces([tracemalloc.Filter(True, __file__)])
    lines = [(s.traceback[0].lineno, s.size, s.count) for s in mine.statistics("lineno")]
    stacks = [
        ([(os.path.basename(f.filename), f.lineno) for f in reversed(s.traceback)], s.size, s.count)
        for s in mine.statistics("traceback")
    ]
    with open("traced.json", "w") as file:
        json.dump([lines, stacks], file)
os._exit(0)
"""
# Lines whose blocks are of types without a free list: tracemalloc never moves one of these to another line.
EXACT = {"yielded", "inner", "ticker", "node", "data", "set", "text", "grown"}
SEED = {"PYTHONHASHSEED": "0"}


def traced(place: Workplace) -> tuple[Lines, dict[tuple[tuple[str, int], ...], tuple[int, int]]]:
    """What the program wrote down: by line, and by stack, innermost first."""
    lines, stacks = json.loads((place.folder / "traced.json").read_text())
    by_stack = {tuple((file, line) for file, line in stack): (size, n) for stack, size, n in stacks}
    return {line: (size, n) for line, size, n in lines}, by_stack


def bare_traced(place: Workplace) -> tuple[Lines, dict[tuple[tuple[str, int], ...], tuple[int, int]]]:
    place.write("app.py", PROGRAM)
    result = place.python("app.py", "traced", environment=SEED)
    assert result.code == 0, result.err
    return traced(place)


def is_near(one: tuple[int, int], two: tuple[int, int]) -> bool:
    """But for blocks that free lists have handed from line to line."""
    return abs(one[1] - two[1]) <= 8 and abs(one[0] - two[0]) <= 8 * 64


def test_against_tracemalloc(workplace: Workplace) -> None:
    """Line by line, and stack by stack, what tracemalloc sees in a run without us."""
    lines, stacks = bare_traced(workplace)
    recorded = tools.record(workplace, PROGRAM, environment=SEED)
    recorded.check_sums()
    live, marks = recorded.lines("live"), tools.marks(PROGRAM)
    exact = {marks[name] for name in EXACT}
    assert {line: live[line] for line in exact} == {line: lines[line] for line in exact}
    assert live[marks["yielded"]][1] == 2 * 40  # a bytearray is two blocks
    assert live[marks["inner"]] == (sum(2000 + n for n in range(20)) + 20 * sys.getsizeof(""), 20)
    body = range(PROGRAM.splitlines().index("def main(kept):") + 2, marks["reduce"] + 1)
    for line in body:
        assert is_near(lines.get(line, (0, 0)), live.get(line, (0, 0))), line

    ours = files_and_lines(recorded)
    compared = 0
    folded = {marks["failing"], marks["deeper"]}  # recursion has no like there
    for stack in stacks.keys() | ours.keys():
        here = stack[0][1]
        if (
            stack[0][0] != "app.py"
            or here not in exact | {marks["keep"]}
            or folded & {line for _, line in stack}
        ):
            continue
        one, two = stacks.get(stack, (0, 0)), ours.get(stack, (0, 0))
        assert one == two if here in exact else is_near(one, two), stack
        compared += one[1]
    assert compared > 500


def files_and_lines(recorded: Recorded) -> dict[tuple[tuple[str, int], ...], tuple[int, int]]:
    view = recorded.view("live")
    out: dict[tuple[tuple[str, int], ...], tuple[int, int]] = {}
    names = [file.rpartition("/")[2] for file in recorded.engine.files]
    places = [(names[frame[0]], frame[1]) for frame in view.frames]
    for size, blocks, _, _, key, *_ in view.rows("stack"):
        assert isinstance(key, tuple)
        stack = tuple(places[i] for i in key)
        before = out.get(stack, (0, 0))
        out[stack] = (before[0] + size, before[1] + blocks)
    return out


def test_tracemalloc_sees_what_it_would_see(workplace: Workplace) -> None:
    """Started and stopped by the program, or started before it: its numbers are those of a run without us."""
    lines, stacks = bare_traced(workplace)
    recorded = tools.record(workplace, PROGRAM, "traced", environment=SEED)
    assert traced(workplace) == (lines, stacks)
    recorded.check_sums()
    marks, live = tools.marks(PROGRAM), recorded.lines("live")
    for name in EXACT:
        # what tracemalloc keeps of a block and of a stack are requests as well, and of these lines
        size, blocks = lines[marks[name]]
        assert size <= live[marks[name]][0], name
        assert blocks <= live[marks[name]][1] <= 3 * blocks + 10, name


TRACEMALLOC = """\
import tracemalloc
assert tracemalloc.is_tracing() is STARTED
before = bytes(2_000_000)  # @before
if not STARTED:
    tracemalloc.start(3)
assert tracemalloc.get_traced_memory()[0] >= 2_000_000 * STARTED
during = bytes(3_000_000)  # @during
kept = [bytes(500 + i) for i in range(100)]  # @kept
assert tracemalloc.get_object_traceback(during)[-1].lineno == 7
held = tracemalloc.get_traced_memory()[0]
assert 3_000_000 + 2_000_000 * STARTED < held < 3_000_000 + 2_000_000 * STARTED + 6_000_000
tracemalloc.stop()
assert not tracemalloc.is_tracing()
after = bytes(4_000_000)  # @after
del before, during
for i in range(50):
    kept[i] = None
tracemalloc.start()
again = bytes(5_000_000)  # @again
assert 5_000_000 < tracemalloc.get_traced_memory()[0] < 5_100_000
del again
last = bytes(6_000_000)  # @last
if STOP:
    tracemalloc.stop()
"""


@pytest.mark.parametrize("stop", [True, False], ids=["stopped", "left on"])
@pytest.mark.parametrize("start", ["program", "variable", "flag", "dev"])
def test_tracemalloc_and_we_keep_out_of_each_others_way(workplace: Workplace, start: str, stop: bool) -> None:
    started = start in ("variable", "flag")
    text = TRACEMALLOC.replace("STARTED", str(started)).replace("STOP", str(stop))
    flags = {"flag": ["-X", "tracemalloc=2"], "dev": ["-X", "dev"]}.get(start, [])
    environment = {"PYTHONTRACEMALLOC": "1"} if start == "variable" else {}
    recorded = tools.record(workplace, text, flags=flags, environment=environment)
    recorded.check_sums()
    assert recorded.result.err == ""
    for name, size in [("before", 2), ("during", 3), ("after", 4), ("again", 5), ("last", 6)]:
        total, live = recorded.at(name, "total"), recorded.at(name)
        assert 0 <= total[0] - size * 1_000_000 - HEAD < 20_000, name
        assert (live[0] >= 1_000_000) is (name in ("after", "last")), name
    kept = recorded.at("kept")
    expected = sum(550 + i for i in range(50)) + 50 * HEAD
    assert expected <= kept[0] < expected + 3000
    assert 50 <= kept[1] <= 58


# -- allocators, and the full walk as oracle ---------------------------------------------------------------


@pytest.mark.parametrize("allocator", [*ALLOCATORS[1:], "pymalloc_debug", "dev"])
def test_every_allocator_gives_the_same_numbers(workplace: Workplace, allocator: str) -> None:
    plain = tools.record(workplace, PROGRAM, environment=SEED)
    environment = {} if allocator == "dev" else tools.environment_of(allocator)
    flags = ["-X", "dev"] if allocator == "dev" else []
    other = tools.record(workplace, PROGRAM, environment=SEED | environment, flags=flags)
    marks = tools.marks(PROGRAM)
    moments: list[tools.Moment] = ["live", "total", "peak"]
    for moment in moments:
        one, two = plain.lines(moment), other.lines(moment)
        for name, line in marks.items():
            if name in EXACT and moment == "live":
                assert one[line] == two[line], name
            assert is_near(one.get(line, (0, 0)), two.get(line, (0, 0))), (moment, name)


@pytest.mark.parametrize("variable", ["MEMHEFT_FULL_WALK", "MEMHEFT_CHECK"])
def test_stamps_and_the_full_walk_say_the_same(workplace: Workplace, variable: str) -> None:
    stamps = tools.record(workplace, PROGRAM, environment=SEED | {variable: "0"})
    walk = tools.record(workplace, PROGRAM, environment=SEED | {variable: "1"})
    full = FLAG_FULL_WALK if variable == "MEMHEFT_FULL_WALK" else 0
    assert (stamps.header["flags"], walk.header["flags"]) == (0, full)
    moments: list[tools.Moment] = ["live", "total", "temporary"]
    for moment in moments:
        one, two = stamps.stacks(moment), walk.stacks(moment)
        inside = [stack for stack in one.keys() | two.keys() if len(stack) > 1 and stack[-2][0] == "main"]
        assert inside
        assert {s: one.get(s) for s in inside} == {s: two.get(s) for s in inside}, moment


# -- code that dies ----------------------------------------------------------------------------------------

DYING = """\
import gc, sys, types, weakref
ROUNDS, TEXTS = 8, 150
kept, addresses, dead = [], {}, 0
def gone(reference):
    global dead
    dead += 1
references = []
for turn in range(ROUNDS):
    for number in range(TEXTS):
        text = (
            f"def work(kept):\\n" + "\\n" * (number % 7) + f"  kept.append(bytes({1000 + number}))\\n"
            f"def generate(kept):\\n  work(kept)\\n  yield bytearray({2000 + number})\\n"
        )
        names = {"__name__": f"module{number}"}
        exec(compile(text, f"/nowhere/text{number}.py", "exec"), names)
        for function in (names["work"], names["generate"]):
            addresses.setdefault(id(function.__code__), set()).add((number, function.__name__))
            references.append(weakref.ref(function.__code__, gone))
        kept.extend(names["generate"](kept))
        names.clear()
        del function
gc.collect()
assert dead == 2 * ROUNDS * TEXTS, (dead, "code objects are kept alive")
shared = sum(len(texts) for texts in addresses.values() if len(texts) > 1)
assert shared > 100, (shared, "hardly an address was used twice: the test proves nothing")
"""


def test_code_objects_die_and_are_not_mixed_up(workplace: Workplace) -> None:
    recorded = tools.record(workplace, DYING)
    recorded.check_sums()
    for number in range(150):
        lines = recorded.lines("live", name=f"text{number}.py")
        work = 2 + number % 7
        assert is_about(lines[work], 8 * (1000 + number + HEAD), 8)
        buffers = lines[work + 3]
        assert is_about(
            buffers, 8 * (2001 + number + sys.getsizeof(bytearray())), 16
        )  # objects and their buffers
        assert set(lines) == {work, work + 3}, "blocks of another text"
        modules = {
            (key[3], key[2])
            for _, _, _, _, key, *_ in recorded.view("live").rows("line")
            if isinstance(key, tuple) and recorded.engine.files[key[0]].endswith(f"/text{number}.py")
        }
        assert modules == {(f"module{number}", "work"), (f"module{number}", "generate")}
    assert recorded.header["code_n"] < 3 * 150 + 200


EQUAL = """\
import gc, sys
kept = []
names = {"kept": kept}
for turn in range(int(sys.argv[1])):
    exec("def f(n):\\n  return [bytes(n)]\\nkept.append(f(100))\\nclass A:\\n  x = (lambda: 5)()\\n", names)
"""


def test_equal_texts_do_not_grow_the_recording(workplace: Workplace) -> None:
    few = tools.record(workplace, EQUAL, "50")
    many = tools.record(workplace, EQUAL, "20000")
    many.check_sums()
    assert many.lines("live", name="<string>")[2][1] >= 40_000
    assert many.header["node_n"] <= few.header["node_n"] + 20
    assert many.header["code_n"] <= few.header["code_n"] + 5
    assert many.path.stat().st_size <= few.path.stat().st_size + 65536


# -- deep and wide -----------------------------------------------------------------------------------------

DEEP = """\
import sys
depth = int(sys.argv[1])
sys.setrecursionlimit(5000)
kept = [None] * (10 * depth + 12_000)
place = 0
def keep(size):
    global place
    kept[place] = bytes(size)  # @keep
    place += 1
def deep(n):
    if n:
        deep(n - 1)
    kept[place + n] = bytes(1000)  # @deep
def one(n):
    keep(400)
    if n:
        two(n - 1) if n % 2 else three(n - 1)
def two(n):
    kept[place + 1] = bytearray(500)  # @two
    if n:
        three(n - 1)
def three(n):
    if n:
        one(n - 1)
def count(n):
    if n:
        yield from count(n - 1)
    keep(600)
    yield n
class Counter:
    def __init__(self, n):
        self.next = Counter(n - 1) if n else None
        keep(700)
async def chain(n):
    if n:
        await chain(n - 1)
    keep(800)
deep(depth)
place += depth + 1
one(depth)
for n in count(depth // 4):
    pass
counter = Counter(depth // 4)
try:
    chain(depth // 2).send(None)
except StopIteration:
    pass
"""


def calls(depth: int) -> int:
    """How often one() is called."""
    name, number = "one", 1
    for n in range(depth, 0, -1):
        name = {"one": "two" if n % 2 else "three", "two": "three", "three": "one"}[name]
        number += name == "one"
    return number


@pytest.mark.parametrize("depth", [900, 1400])
def test_deep_stacks(workplace: Workplace, depth: int) -> None:
    """Totals are exact at any depth, and the tree is as large as the program's text, not as its stacks."""
    flat = tools.record(workplace, DEEP, "40")
    deep = tools.record(workplace, DEEP, str(depth))
    deep.check_sums()
    ones, quarter, half = calls(depth), depth // 4 + 1, depth // 2 + 1
    assert is_about(deep.at("deep"), (depth + 1) * (1000 + HEAD), depth + 1)
    expected = ones * 400 + quarter * 600 + quarter * 700 + half * 800
    blocks = ones + 2 * quarter + half
    assert is_about(deep.at("keep"), expected + blocks * HEAD, blocks)
    assert deep.header["node_n"] <= flat.header["node_n"] + 30
    assert deep.header["cut_events"] == 0
    assert deep.path.stat().st_size < 1 << 20


LIVE = """\
import sys
number = int(sys.argv[1])
kept = [None] * number
def generate(n):
    local = bytes(500)  # @local
    while True:
        kept[n] = bytearray(700)  # @renewed
        yield n
async def wait(n):
    await Forever()
class Forever:
    def __await__(self):
        yield bytes(900)  # @yielded
generators = [generate(n) for n in range(number)]
for turn in range(3):
    for generator in generators:
        next(generator)
coroutines = [wait(n) for n in range(number)]
results = [coroutine.send(None) for coroutine in coroutines]
"""


def test_ten_thousand_live_generators(workplace: Workplace) -> None:
    few = tools.record(workplace, LIVE, "10", flags=["-W", "ignore"])
    many = tools.record(workplace, LIVE, "10000", flags=["-W", "ignore"])
    many.check_sums()
    assert is_about(many.at("local"), 10_000 * (500 + HEAD), 10_000)
    # objects and their buffers; the older ones are gone
    assert is_about(many.at("renewed"), 10_000 * sys.getsizeof(bytearray(700)), 20_000)
    assert is_about(many.at("renewed", "total"), 30_000 * sys.getsizeof(bytearray(700)), 60_000, spare=50)
    assert is_about(many.at("yielded"), 10_000 * (900 + HEAD), 10_000)
    assert many.header["node_n"] <= few.header["node_n"] + 30
    assert many.path.stat().st_size <= few.path.stat().st_size + 65536


WIDE = """\
import random
rng = random.Random(5)
kept = []
N = 14
text = ["def call(n, name):", "    kept.append(bytes(100))"]
for name in range(N):
    text.append(f"def f{name}(n):")
    text.append("    if not n: return kept.append(bytes(300))")
    text.append("    k = rng.randrange(12)")
    for k in range(12):
        text.append(f"    if k == {k}: return f{(name * 5 + k * 3) % N}(n - 1)")
exec(compile("\\n".join(text), "/nowhere/wide.py", "exec"))
for i in range(30_000):
    globals()[f"f{i % N}"](40)
"""


def test_recursion_in_very_many_ways(workplace: Workplace) -> None:
    """Random paths of 40 calls through 14 functions, nearly each new: the tree is bounded, the sums exact."""
    recorded = tools.record(workplace, WIDE)
    try:
        recorded.check_sums()
        numbers = [row[3:] for row in recorded.rows("live") if "/wide.py" in row[0] and row[2] != "<module>"]
        assert sum(blocks for _, blocks in numbers) in range(30_001, 30_006)  # and the list's items
        # (one run held 100,272 bytes more, not explained; the sums were right)
        assert 8 * 30_000 <= sum(size for size, _ in numbers) - 30_000 * (300 + HEAD) < 8 * 60_000
        assert recorded.header["node_n"] <= 1 << 20
        assert recorded.header["flags"] == 32  # HEFT_FLAG_PATHS_CUT
        assert recorded.header["node_n"] < 300_000
        assert recorded.path.stat().st_size < 160 << 20
    finally:
        recorded.path.unlink()


def test_long_names_lines_and_columns(workplace: Workplace) -> None:
    """A name of 20,000 letters, a line beyond 80,000, a column beyond 65,535, names of other scripts."""
    name, wide = "long" * 5000, " " * 70_000
    text = f"""\
import sys
kept = []
{"def " + name}():
    kept.append(bytes(1001))  # @long
{name}()
def \u540d\u524d\U00010400():
    kept.append(bytes(1002))  # @scripts
\u540d\u524d\U00010400()
kept.append(({wide}bytes(1003)))  # @wide
exec("\\n" * 80_000 + "kept.append(bytes(1004))")
exec(compile("kept.append(bytes(1005))", "x" * 20_000, "exec"))
kept.append(type("y" * 20_000, (), {{"work": lambda self: bytes(1006)}})().work())
"""
    recorded = tools.record(workplace, text)
    recorded.check_sums()
    for mark, size in [("long", 1001), ("scripts", 1002), ("wide", 1003)]:
        assert is_about(recorded.at(mark), size + HEAD, 1), mark
    rows = list(recorded.rows("live"))
    (function,) = {row[2] for row in rows if row[1] == recorded.line("long") and row[0].endswith("/app.py")}
    assert function.startswith("longlong")
    assert any(row[2] == "\u540d\u524d\U00010400" for row in rows)
    assert is_about(recorded.lines("live", name="<string>")[80_001], 1004 + HEAD, 1)
    (size,) = [row[3] for row in rows if row[0].startswith("xxx")]
    assert 1005 + HEAD <= size < 1005 + HEAD + 300


# -- every stack compared ----------------------------------------------------------------------------------

CHECKED = {"main": (PROGRAM,), "deep": (DEEP, "900"), "live": (LIVE, "300"), "dying": (DYING,)}


@pytest.mark.parametrize("name", CHECKED)
def test_every_stack_is_checked(workplace: Workplace, name: str) -> None:
    text, *words = CHECKED[name]
    recorded = tools.record(workplace, text, *words, environment=SEED | {"MEMHEFT_CHECK": "1"})
    recorded.check_sums()
    check = workplace.memheft("info", "app.heft", "--json").json["check"]
    assert check["mismatches"] == 0
    assert 1000 < check["compared"] <= recorded.totals["allocated_blocks"]
