"""Regions: what is allocated inside is theirs, through threads, tasks, generators and one another."""

from __future__ import annotations

import json
from typing import Any

import pytest
import recording_tools as tools
from conftest import Workplace

import memheft
from memheft import _engine

# What a program knows of its regions by a context variable of its own, against what the recording says.
MODEL = """\
import asyncio, contextvars, json, random, sys, threading
import exact, memheft, work

path = contextvars.ContextVar("path", default=())
expected = {}
places = iter(range(4000))
lock = threading.Lock()

class enter:
    def __init__(self, name):
        self.region = memheft.region(name)
        self.name = name
    def __enter__(self):
        self.region.__enter__()
        around = path.get()
        self.token = path.set(around if around[-1:] == (self.name,) else around + (self.name,))
    def __exit__(self, *_):
        path.reset(self.token)
        self.region.__exit__(*_)

def allocate(random):
    size = random.randrange(300, 5000)
    with lock:
        place = next(places, None)
        if place is None:
            return
        key = "/".join(path.get())
        bytes, blocks = expected.get(key, (0, 0))
        expected[key] = bytes + size, blocks + 1
        work.work(place, size)

def inner(random, depth):
    allocate(random)
    if depth > 0 and random.random() < 0.7:
        inner(random, depth - 1)
    allocate(random)

def generator(random):
    for i in range(3):
        inner(random, 2)
        yield i
        inner(random, 1)

def play(random, depth):
    for _ in range(3):
        choice = random.randrange(5)
        if choice == 0 or depth == 0:
            inner(random, 4)
        elif choice == 1:
            with enter(random.choice("abc")):
                play(random, depth - 1)
        elif choice == 2:
            for _ in generator(random):
                with enter(random.choice("xy")):
                    inner(random, 2)
        elif choice == 3:
            contextvars.copy_context().run(play, random, depth - 1)
        else:
            try:
                with enter("raises"):
                    inner(random, 1)
                    raise KeyError
            except KeyError:
                inner(random, 1)

async def leaf(random):
    inner(random, 2)
    await asyncio.sleep(0)
    inner(random, 2)

async def task(random, depth):
    for _ in range(3):
        choice = random.randrange(4)
        if choice == 0 or depth == 0:
            await leaf(random)
        elif choice == 1:
            with enter(random.choice("abc")):
                await asyncio.gather(*(task(random, depth - 1) for _ in range(2)))
                await leaf(random)
        elif choice == 2:
            with enter("made"):
                made = asyncio.create_task(task(random, depth - 1))
            await leaf(random)
            await made
        else:
            async for _ in steps(random):
                play(random, 1)

async def steps(random):
    for i in range(2):
        await leaf(random)
        yield i

def thread(seed):
    chance = random.Random(seed)
    with enter("thread"):
        play(chance, 3)
    asyncio.run(task(chance, 2))

seed = int(sys.argv[1])
with memheft.record(sys.argv[2]) as recording:
    with enter("before"):
        inner(random.Random(seed), 3)
    threads = [threading.Thread(target=thread, args=(seed * 10 + i,)) for i in range(3)]
    for t in threads:
        t.start()
    play(random.Random(seed), 4)
    asyncio.run(task(random.Random(seed), 3))
    for t in threads:
        t.join()
rows = recording.live.filter(match="work.py").by("region")
json.dump({
    "expected": expected,
    "found": {"/".join(row.region): [row.bytes, row.blocks] for row in rows},
    "inclusive": {"/".join(row.region): row.inclusive_bytes for row in rows},
}, sys.stdout)
"""
WORK = """\
import exact
def work(place, size):
    exact.step("m", 2, place, size)
"""


def run(workplace: Workplace, text: str, *args: str, **environment: str) -> Any:
    workplace.write("program.py", text)
    workplace.write("work.py", WORK)
    tools.give_exact(workplace)
    result = workplace.python("program.py", *args, environment=environment)
    assert result.code == 0, result.err
    return json.loads(result.out)


@pytest.mark.parametrize("seed", range(4))
def test_a_model_agrees(workplace: Workplace, seed: int) -> None:
    said = run(workplace, MODEL, str(seed), "model.heft", MEMHEFT_CHECK="1")
    expected = said["expected"]
    assert len(expected) > 8
    assert {key: value for key, value in said["found"].items() if value[1]} == expected
    for key, inclusive in said["inclusive"].items():
        below = sum(v[0] for k, v in expected.items() if key and (k + "/").startswith(key + "/"))
        assert inclusive == (below if key else expected.get("", [0])[0])
    header = _engine.Recording(str(workplace.folder / "model.heft")).header
    assert header["check_compared"] > 1000
    assert header["check_mismatches"] == 0


RECORDED = """\
import json, sys
import exact, memheft, work
def rows(recording, moment="live"):
    view = getattr(recording, moment).filter(match="work.py").by("region")
    return {"/".join(row.region): row.bytes for row in view if row.bytes}
def say(*values):
    json.dump(values, sys.stdout)
places = iter(range(4000))
def work_(size):
    work.work(next(places), size)
"""


def test_functions_of_every_kind(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
import asyncio, inspect
@memheft.region
def plain(n):
    work_(n)
    return n
@memheft.region("co")
async def coroutine(n):
    work_(n)
    await asyncio.sleep(0)
    work_(n)
    return n
@memheft.region("gen")
def generator():
    try:
        got = yield 1
        work_(got)
        try:
            yield 2
        except KeyError:
            work_(1 << 10)
        yield 3
        return "end"
    finally:
        work_(1 << 13)
@memheft.region("agen")
async def agen():
    try:
        got = yield 1
        work_(got)
        await asyncio.sleep(0)
        try:
            yield 2
        except KeyError:
            work_(1 << 11)
        yield 3
    finally:
        work_(1 << 14)
async def main():
    out = [await coroutine(600)]
    a = agen()
    out.append(await anext(a))
    work_(5000)
    out.append(await a.asend(700))
    out.append(await a.athrow(KeyError))
    await a.aclose()
    return out
with memheft.record() as recording:
    out = [plain(500)]
    g = generator()
    out += [next(g), g.send(800)]
    work_(6000)
    out.append(g.throw(KeyError))
    try:
        next(g)
    except StopIteration as end:
        out.append(end.value)
    h = generator()
    next(h)
    del h
    out += asyncio.run(main())
kinds = [inspect.iscoroutinefunction(coroutine), inspect.isgeneratorfunction(generator)]
kinds.append(inspect.isasyncgenfunction(agen))
say(rows(recording), out, kinds, plain.__name__, plain.__qualname__)
""",
    )
    found, out, kinds, name, qualname = said
    assert found == {
        "": 11000,
        "plain": 500,
        "co": 1200,
        "gen": 800 + (1 << 10) + (1 << 13) * 2,
        "agen": 700 + (1 << 11) + (1 << 14),
    }
    assert out == [500, 1, 2, 3, "end", 600, 1, 2, 3]
    assert kinds == [True, True, True]
    assert (name, qualname) == ("plain", "plain")


def test_nothing_is_kept_alive(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
import gc, weakref
gc.disable()
class Thing: pass
class Error(Exception): pass
@memheft.region("gen")
def generator():
    while True:
        got = yield Thing()
        del got
dead = []
g = generator()
thing = next(g)
dead.append(weakref.ref(thing)); del thing
sent = Thing()
dead.append(weakref.ref(sent))
g.send(sent); del sent
@memheft.region("raises")
def raises():
    try:
        yield
    except Error:
        pass
    yield
h = raises(); next(h)
error = Error()
dead.append(weakref.ref(error))
h.throw(error); del error
region = memheft.region("held")
with memheft.region("around"):
    with region:
        dead.append(weakref.ref(generator))
del region
say([one() is None for one in dead])
""",
    )
    assert said == [[True, True, True, False]]


def test_a_recording_begins_and_ends_inside(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
out = []
recorder = memheft.record()
with memheft.region("outer"):
    recorder.start()
    work_(500)
    with memheft.region("inner"):
        work_(600)
        first = recorder.stop()
        work_(700)
        second = recorder.start()
        work_(800)
    work_(900)
work_(1000)
recorder.stop()
with memheft.record() as third:
    work_(1100)
say(rows(first), rows(second), rows(third))
""",
    )
    assert said == [
        {"outer": 500, "outer/inner": 600},
        {"outer/inner": 800, "outer": 900, "": 1000},
        {"": 1100},
    ]


def test_leaving_out_of_order_and_elsewhere(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
import contextvars
with memheft.record() as recording:
    a, b = memheft.region("a"), memheft.region("b")
    a.__enter__(); b.__enter__()
    a.__exit__(None, None, None)
    work_(500)
    b.__exit__(None, None, None)
    work_(600)
    b.__exit__(None, None, None)            # once too often
    c = memheft.region("c")
    contextvars.copy_context().run(c.__enter__)
    c.__exit__(None, None, None)            # in a context that has never entered it
    work_(700)
    with a, a, b, a:                        # the same one, as often as one likes
        work_(800)
    work_(900)
    with memheft.region("n\\u00e4me \\U0001f600/ x"):
        work_(1000)
say(rows(recording))
""",
    )
    assert said == [{"b": 500, "": 600 + 700 + 900, "a/b/a": 800, "näme \U0001f600/ x": 1000}]


def test_very_many_and_very_deep(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
from contextlib import ExitStack
with memheft.record("many.heft") as recording:
    with ExitStack() as stack:
        for i in range(70):                 # the outermost 64 count
            stack.enter_context(memheft.region(f"deep{i}"))
        work_(500)
    with memheft.region("many"):
        for i in range(5000):
            with memheft.region(f"r{i}"):
                work.work(100 + i % 3000, 600) if i < 3000 else None
                bytes(600)
        work_(700)
deep = [row.region for row in recording.live.filter(match="work.py").by("region") if row.bytes == 500]
say(len(deep[0]), deep[0][0], deep[0][-1], rows(recording).get("many"), str(recording.live).splitlines()[-1])
""",
    )
    assert said[:3] == [64, "deep0", "deep63"]
    assert said[3] == 700
    assert "4,096" in said[4]
    shown = workplace.memheft("report", "many.heft", "--by", "region")
    assert shown.code == 0
    assert "more regions than a recording keeps" in shown.out + shown.err


def test_names(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
out = []
for bad in (None, 5, b"bytes", "", int):
    try:
        memheft.region(bad)
        out.append(None)
    except (TypeError, ValueError) as error:
        out.append(f"{type(error).__name__}: {error}")
out.append(repr(memheft.region("x")))
out.append(memheft.region("x").name)
say(out)
""",
    )
    assert said == [
        [
            "TypeError: a region's name is text, not None",
            "TypeError: a region's name is text, not 5",
            "TypeError: a region's name is text, not b'bytes'",
            "ValueError: a region's name cannot be empty",
            "TypeError: memheft.region decorates functions, not <class 'int'>",
            "memheft.region('x')",
            "x",
        ]
    ]


def test_a_sample_has_regions(workplace: Workplace) -> None:
    said = run(
        workplace,
        """\
import json, sys, threading
import memheft
kept = []
def work(n):
    for _ in range(n):
        kept.append(bytes(4000))
def thread():
    with memheft.region("thread"):
        work(1000)
with memheft.record(sample=20000) as recording:
    work(1000)
    with memheft.region("a"):
        work(2000)
        with memheft.region("b"):
            work(4000)
    t = threading.Thread(target=thread)
    t.start(); t.join()
json.dump({"/".join(row.region): row.bytes for row in recording.live.by("region")}, sys.stdout)
""",
    )
    # the standard error of the smallest, 4 MB in samples of 20 kB, is 7 %
    expected = {"": 4e6, "a": 8e6, "a/b": 16e6, "thread": 4e6}
    assert set(said) == set(expected)
    for name, size in expected.items():
        assert abs(said[name] - size) < 0.45 * size


PROGRAM = """\
import threading
import memheft
kept = []
def load(n):
    kept.append(bytearray(n))
def thread():
    with memheft.region("load"):
        load(200_000)
load(50_000)
with memheft.region("load"):
    load(100_000)
    with memheft.region("parse"):
        load(400_000)
t = threading.Thread(target=thread, name="loader")
t.start()
t.join()
"""


@pytest.fixture
def recorded(workplace: Workplace) -> Workplace:
    workplace.record(PROGRAM)
    return workplace


def test_report_by_region(recorded: Workplace) -> None:
    rows = recorded.memheft("report", "app.heft", "--by", "region", "--json").json["rows"]
    found = {tuple(row["region"]): (row["bytes"], row["inclusive_bytes"]) for row in rows}
    assert set(found) == {(), ("load",), ("load", "parse")}
    assert 0 <= found["load",][0] - 300_000 < 10_000
    assert 0 <= found["load",][1] - 700_000 < 10_000
    text = recorded.memheft("report", "app.heft", "--by", "region").out
    assert "load / parse" in text
    assert "(in no region)" in text
    assert "with regions inside" in text


def test_report_of_a_region(recorded: Workplace) -> None:
    def total(*words: str) -> int:
        document = recorded.memheft("report", "app.heft", "--json", *words).json
        assert document["view"]["filters"] == [f"--region={word}" for word in words[1::2]]
        size: int = document["totals"]["bytes"]
        assert size == sum(row["bytes"] for row in document["rows"])
        return size

    assert 700_000 <= total("--region", "load") < 710_000
    assert 400_000 <= total("--region", "parse") < 401_000
    assert 400_000 <= total("--region", "l* / parse") < 401_000
    assert total("--region", "load / parse") == total("--region", "parse")
    assert total("--region", "load", "--region", "parse") == total("--region", "load")
    wrong = recorded.memheft("report", "app.heft", "--region", "nope")
    assert wrong.code == 2
    assert wrong.err == (
        "memheft: error: no region of this recording is called nope "
        "(memheft report --by region lists the regions)\n"
    )


def test_view_of_a_region(recorded: Workplace) -> None:
    live = memheft.open(recorded.folder / "app.heft").live
    parse = live.filter(region="parse")
    assert 400_000 <= parse.total_bytes < 401_000
    assert 700_000 <= live.filter(region=["load", "parse"]).total_bytes < 705_000
    assert live.filter(region="load").filter(region="parse").total_bytes == parse.total_bytes
    assert live.filter(region="l* / parse").total_bytes == parse.total_bytes
    assert {row.region for row in parse.by("region") if row.bytes} == {("load", "parse")}
    assert len(live.filter(region="nope")) == 0


def test_tree_and_stacks_name_them(recorded: Workplace) -> None:
    rows = recorded.memheft("report", "app.heft", "--tree", "--json").json["rows"]
    path: list[str] = []
    found = {}
    for row in rows:
        del path[row["depth"] :]
        path.append(
            f"region {row['region']}" if "region" in row else f"{row.get('thread') or row.get('line')}"
        )
        if row.get("function") == "load" and row["bytes"]:
            found["; ".join(path)] = row["bytes"]
    (loader,) = (key for key in found if key.startswith("loader; region load; "))
    assert {key: size // 10_000 for key, size in found.items()} == {
        "MainThread; 9; 5": 5,
        "MainThread; region load; 11; 5": 10,
        "MainThread; region load; region parse; 13; 5": 40,
        loader: 20,
    }
    text = recorded.memheft("report", "app.heft", "--tree").out
    assert "region load" in text
    assert "region parse" in text
    inverted = recorded.memheft("report", "app.heft", "--tree", "--inverted").out
    assert inverted.index("region parse") < inverted.index("region load")
    stacks = recorded.memheft("report", "app.heft", "--by", "stack").out
    assert "in region load / parse" in stacks


def test_diff_by_region(recorded: Workplace) -> None:
    (recorded.folder / "app.heft").rename(recorded.folder / "old.heft")
    recorded.record(PROGRAM.replace("400_000", "900_000").replace('"parse"', '"new"'))
    rows = recorded.memheft("diff", "old.heft", "app.heft", "--by", "region", "--json").json["rows"]
    found = {tuple(row["region"]): round(row["bytes_delta"], -5) for row in rows}
    assert found[("load", "new")] == 900_000
    assert found[("load", "parse")] == -400_000
    assert found[("load",)] == 0
    tree = recorded.memheft("diff", "old.heft", "app.heft", "--tree").out
    assert "region new" in tree
    assert "region parse" in tree
    assert recorded.memheft("diff", "old.heft", "app.heft", "--region", "new").code == 0


def test_arrow_and_csv(recorded: Workplace) -> None:
    text = recorded.memheft("export", "app.heft", "--by", "region", "--format", "csv", "-o", "-").out
    head, *rows = text.splitlines()
    at = head.split(",").index("region")
    assert {row.split(",")[at] for row in rows} == {"", "load", "load / parse"}
    stacks = recorded.memheft("export", "app.heft", "--by", "stack", "--format", "csv", "-o", "-").out
    assert "load / parse" in stacks
    collapsed = recorded.memheft("export", "app.heft", "--format", "collapsed", "-o", "-").out
    assert "region load;region parse;" in collapsed


def test_a_forked_child_goes_on(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
import os
with memheft.record() as recording:
    with memheft.region("a"):
        work_(500)
        pid = os.fork()
        if pid == 0:
            with memheft.region("b"):
                work_(600)
            with memheft.record("child.heft") as own:
                work_(800)
            os._exit(0 if rows(own) == {"a": 800} else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        work_(700)
say(rows(recording), status)
""",
    )
    assert said == [{"a": 1200}, 0]


def test_methods_and_objects(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
import asyncio
class Thing:
    @memheft.region("static")
    @staticmethod
    def static(n):
        work_(n)
    @memheft.region("class")
    @classmethod
    def of_class(cls, n):
        assert cls is Thing
        work_(n)
    @memheft.region("method")
    def method(self, n):
        work_(n)
class Callable:
    async def __call__(self):
        await asyncio.sleep(0)
        work_(900)
with memheft.record() as recording:
    Thing().static(500)
    Thing.static(100)
    Thing().of_class(600)
    Thing().method(700)
    asyncio.run(memheft.region("object")(Callable())())
say(rows(recording))
""",
    )
    assert said == [{"static": 600, "class": 600, "method": 700, "object": 900}]


def test_where_the_recursion_limit_is_reached(workplace: Workplace) -> None:
    """Looking a region up compares variables, which fails there: the program must not see that, nor hang."""
    said = run(
        workplace,
        """\
import contextvars, itertools, json, sys, threading, time
import memheft
sys.setswitchinterval(1e-5)
sys.setrecursionlimit(300)
variables = [contextvars.ContextVar(f"v{i}") for i in range(450)]
unexpected, rounds = [], 0
def deep(depth, n):
    if depth:
        return deep(depth - 1, n)
    for _ in itertools.repeat(None, n):
        x = [1]
def work():
    global rounds
    for i, variable in enumerate(variables):
        variable.set(i)
    depth = 1
    while True:
        try:
            deep(depth, 0)
        except RecursionError:
            break
        depth += 1
    end = time.time() + 0.7
    while time.time() < end:
        rounds += 1
        try:
            deep(depth - 1, 20000)
        except BaseException as error:
            unexpected.append(repr(error))
for sample in (None, 64):
    with memheft.record(sample=sample):
        with memheft.region("a"):
            pass
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
json.dump([unexpected[:3], rounds > 0], sys.stdout)
""",
    )
    assert said == [[], True]


def test_what_finalizers_ask_for_is_not_hidden(workplace: Workplace) -> None:
    """Before 3.12 a request may run the collector."""
    said = run(
        workplace,
        """\
import gc, json, sys
import memheft
kept = []
def collected(phase, info):
    if phase == "start":
        kept.append(bytearray(100_000))
with memheft.record() as recording:
    gc.callbacks.append(collected)
    region = memheft.region("r")
    for _ in range(20_000):
        region.__enter__()
        kept.append([])
    gc.callbacks.clear()
big = sum(len(one) for one in kept)
json.dump([big > 0, recording.live.total_bytes >= big], sys.stdout)
""",
    )
    assert said == [True, True]


@pytest.mark.parametrize("sample", [None, 4096])
def test_regions_themselves_are_hidden(workplace: Workplace, sample: int | None) -> None:
    said = run(
        workplace,
        f"""\
import json, sys
import memheft
region = memheft.region("r")
with memheft.record(sample={sample}) as recording:
    for _ in range(20_000):
        region.__enter__()
        region.__exit__()
json.dump(recording.total.total_bytes, sys.stdout)
""",
    )
    assert said < 900_000  # the numbers of the loop; the chains alone would be 1.6 MB


def test_leaving_far_from_the_end(workplace: Workplace) -> None:
    said = run(
        workplace,
        RECORDED
        + """
with memheft.record() as recording:
    first = memheft.region("first")
    first.__enter__()
    others = [memheft.region(f"r{i}") for i in range(300)]
    for one in others:
        one.__enter__()
    first.__exit__()
    for one in others[1:]:
        one.__exit__()
    work_(500)
    others[0].__exit__()
    work_(600)
say(rows(recording))
""",
    )
    assert said == [{"r0": 500, "": 600}]
