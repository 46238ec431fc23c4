"""Regions: what is allocated inside is theirs, through threads, tasks, generators and one another."""

from __future__ import annotations

import json
from typing import Any

import pytest
import recording_tools as tools
from conftest import Workplace

from memheft import _engine

# What a program keeps of its regions itself, in a context variable of its own, against what the recording says.
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
        self.token = path.set(path.get() + (self.name,))
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
