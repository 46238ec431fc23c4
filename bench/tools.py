"""What is compared: how each tool is told to run a script."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NONE = "none"

Command = Callable[[str, Path, list[str]], list[str]]
"""(interpreter, recording to write, script and its arguments) -> argv"""


@dataclass(frozen=True)
class Tool:
    """A way to run a program."""

    name: str
    label: str
    package: str
    """The distribution it needs; empty for what the interpreter has."""
    command: Command
    in_child: bool = False
    """It runs the program in a process that it starts, instead of its own."""


def _none(python: str, _out: Path, script: list[str]) -> list[str]:
    return [python, *script]


def _memheft(python: str, out: Path, script: list[str]) -> list[str]:
    return [python, "-m", "memheft", "run", "-q", "-o", str(out), *script]


def _memheft_sample(python: str, out: Path, script: list[str]) -> list[str]:
    return [python, "-m", "memheft", "run", "-q", "--sample", "-o", str(out), *script]


def _tracemalloc(python: str, _out: Path, script: list[str]) -> list[str]:
    return [python, "-X", "tracemalloc=1", *script]


def _tracemalloc_deep(python: str, _out: Path, script: list[str]) -> list[str]:
    return [python, "-X", "tracemalloc=25", *script]


def _memray(python: str, out: Path, script: list[str]) -> list[str]:
    return [python, "-m", "memray", "run", "-q", "-o", str(out), *script]


def _memray_python(python: str, out: Path, script: list[str]) -> list[str]:
    return [python, "-m", "memray", "run", "-q", "--trace-python-allocators", "-o", str(out), *script]


def _memray_aggregate(python: str, out: Path, script: list[str]) -> list[str]:
    options = ["-q", "--trace-python-allocators", "--aggregate", "-o", str(out)]
    return [python, "-m", "memray", "run", *options, *script]


def _scalene(python: str, out: Path, script: list[str]) -> list[str]:
    # "---" ends Scalene's own options, which it would else look for among the program's as well.
    return [python, "-m", "scalene", "run", "--memory", "-o", str(out), script[0], "---", *script[1:]]


AGAIN = "again"
"""A second bare run, to see how far two equal runs lie apart; not among the defaults."""

ON_DEMAND = (AGAIN, "tracemalloc-25", "memray-aggregate", "scalene")
"""Only measured when asked for by name, or with all."""

ALL = "all"
"""Stands for every tool but `again`."""

TOOLS = {
    tool.name: tool
    for tool in (
        Tool(NONE, "no tool", "", _none),
        Tool(AGAIN, "no tool, again", "", _none),
        Tool("memheft", "memheft run", "memheft", _memheft),
        Tool("memheft-sample", "memheft run --sample", "memheft", _memheft_sample),
        Tool("tracemalloc", "tracemalloc, 1 frame", "", _tracemalloc),
        Tool("tracemalloc-25", "tracemalloc, 25 frames", "", _tracemalloc_deep),
        Tool("memray", "memray run", "memray", _memray),
        Tool("memray-tpa", "memray run --trace-python-allocators", "memray", _memray_python),
        Tool(
            "memray-aggregate",
            "memray run --trace-python-allocators --aggregate",
            "memray",
            _memray_aggregate,
        ),
        Tool("scalene", "scalene run --memory", "scalene", _scalene, in_child=True),
    )
}

DEFAULT = ",".join(name for name in TOOLS if name not in ON_DEMAND)


def is_peer(name: str) -> bool:
    """Not memheft, nor a bare run."""
    return name not in (NONE, AGAIN) and TOOLS[name].package != "memheft"


def chosen(names: str, parser: argparse.ArgumentParser) -> list[str]:
    """The tools that a list with commas names, each once; one that is unknown is an error of usage."""
    found: list[str] = []
    for name in names.split(","):
        found += [tool for tool in TOOLS if tool != AGAIN] if name == ALL else [name]
    unknown = [name for name in found if name not in TOOLS]
    if unknown:
        parser.error(f"unknown tool {unknown[0]!r}: known are {', '.join(TOOLS)}, {ALL}")
    return list(dict.fromkeys(found))
