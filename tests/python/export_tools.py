"""What reads our exports: a decoder of profile.proto, and a program to export."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import Workplace

PROGRAM = """\
import csv
import io
import threading

def rows(n):
    text = "".join(f"{i},{i * 2}\\n" for i in range(n))
    return list(csv.DictReader(io.StringIO(text), ["a", "b"]))

def brief():
    for _ in range(1000):
        bytes(5000)

class Keeper:
    def keep(self, n):
        self.kept = []
        for _ in range(n):
            self.kept.append(bytearray(100))

table = rows(2000)
brief()
keeper = Keeper()
worker = threading.Thread(target=keeper.keep, args=(3000,), name="wor;ker \\"1\\"")
worker.start()
worker.join()
del table
"""
MOMENTS = ("peak", "live", "total", "temporary")


def export(workplace: Workplace, output: str, *words: str) -> Path:
    """Export app.heft; the result is the file."""
    result = workplace.memheft("export", "app.heft", "-o", output, "--force", *words)
    assert (result.code, result.out) == (0, ""), result.err
    return workplace.folder / output


def totals(workplace: Workplace, *words: str) -> tuple[int, int]:
    """Bytes and blocks as the report says them."""
    document = workplace.memheft("report", "app.heft", "--json", *words).json
    return document["totals"]["bytes"], document["totals"]["blocks"]


# -- profile.proto -----------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _message(data: bytes) -> dict[int, list[Any]]:
    """Fields by number: ints, and bytes of what is nested or packed."""
    fields: dict[int, list[Any]] = defaultdict(list)
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _varint(data, at)
        if key & 7 == 2:
            fields[key >> 3].append(data[at : at + value])
            at += value
        else:
            assert key & 7 == 0
            fields[key >> 3].append(value)
    return fields


def _packed(data: bytes) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


@dataclass
class Sample:
    stack: list[tuple[str, str, int]]  # function, file, line; the innermost first
    values: dict[str, int]
    labels: dict[str, str | int]


@dataclass
class Profile:
    """A profile, checked where it is decoded: a wrong index or text raises."""

    types: list[tuple[str, str]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    default: str = ""
    period: int = 0
    time_ns: int = 0
    duration_ns: int = 0
    starts: dict[tuple[str, str], int] = field(default_factory=dict)

    def sum(self, name: str) -> int:
        return sum(sample.values[name] for sample in self.samples)


def read_pprof(path: Path) -> Profile:
    fields = _message(gzip.decompress(path.read_bytes()))
    strings = [raw.decode("utf-8") for raw in fields[6]]
    assert strings[0] == ""
    assert len(set(strings)) == len(strings)

    def one(message: dict[int, list[Any]], number: int) -> int:
        assert len(message[number]) <= 1
        return message[number][0] if message[number] else 0

    profile = Profile(
        types=[(strings[one(m, 1)], strings[one(m, 2)]) for m in map(_message, fields[1])],
        comments=[strings[i] for i in fields[13]],
        default=strings[one(fields, 14)],
        period=one(fields, 12),
        time_ns=one(fields, 9),
        duration_ns=one(fields, 10),
    )
    (mapping,) = map(_message, fields[3])
    assert [one(mapping, number) for number in (1, 7, 8, 9)] == [1, 1, 1, 1]
    functions: dict[int, tuple[str, str]] = {}
    for function in map(_message, fields[5]):
        name = strings[one(function, 2)], strings[one(function, 4)]
        assert one(function, 1) not in functions
        functions[one(function, 1)] = name
        profile.starts[name] = one(function, 5)
    locations: dict[int, tuple[str, str, int]] = {}
    for location in map(_message, fields[4]):
        (line,) = map(_message, location[4])
        assert one(location, 1) not in locations
        assert one(location, 2) == 1
        locations[one(location, 1)] = (*functions[one(line, 1)], one(line, 2))
    assert 0 not in functions
    assert 0 not in locations
    for sample in map(_message, fields[2]):
        labels: dict[str, str | int] = {}
        for label in map(_message, sample[3]):
            key = strings[one(label, 1)]
            assert key not in labels
            labels[key] = strings[one(label, 2)] or one(label, 3)
        (ids,), (values,) = sample[1], sample[2]
        profile.samples.append(
            Sample(
                [locations[i] for i in _packed(ids)],
                dict(zip((name for name, _ in profile.types), _packed(values), strict=True)),
                labels,
            )
        )
    return profile


# -- the others --------------------------------------------------------------------------------------------


def read_collapsed(path: Path) -> dict[tuple[str, ...], int]:
    """Stacks, the root first; no stack twice, no line that another reader would split elsewhere."""
    text = path.read_bytes().decode("utf-8")
    stacks: dict[tuple[str, ...], int] = {}
    assert text.count("\n") == len(text.splitlines())
    for line in text.splitlines():
        stack, _, number = line.rpartition(" ")
        frames = tuple(stack.split(";"))
        assert all(frames)
        assert frames not in stacks
        assert int(number) > 0
        stacks[frames] = int(number)
    return stacks


def read_speedscope(path: Path) -> Any:
    """A file of speedscope's, held against what its schema and its reader demand."""
    document = json.loads(path.read_bytes().decode("utf-8"))
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert document["exporter"].startswith("memheft@")
    frames, profiles = document["shared"]["frames"], document["profiles"]
    assert 0 <= document["activeProfileIndex"] < len(profiles)
    for frame in frames:
        assert set(frame) <= {"name", "file", "line", "col"}
        assert isinstance(frame["name"], str)
        for number in frame.keys() & {"line", "col"}:
            assert frame[number] > 0
    used = set()
    for profile in profiles:
        assert profile["type"] == "sampled"
        assert profile["unit"] in ("bytes", "none")
        assert profile["startValue"] == 0
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(weight > 0 for weight in profile["weights"])
        assert profile["endValue"] == sum(profile["weights"])
        for stack in profile["samples"]:
            assert stack
            used.update(stack)
    assert used == set(range(len(frames)))
    return document
