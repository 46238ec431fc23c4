"""Lines and columns of instructions, against the compiler's own positions."""

from __future__ import annotations

import ast
import random

import pytest
from conftest import Workplace
from recording_tools import HEAD, record

FIRST = 1000


def calls(number: int, seed: int) -> str:
    """Calls of bytes() with rising sizes, each on its own line, at many distances and columns."""
    order = random.Random(seed)
    sizes = iter(range(FIRST, FIRST + number))
    parts = []
    for size in sizes:
        gap = order.choice(["\n", "\n" + " " * 90, "\n\n", "\n" * 40, "\n\n" + " " * 150, "\n" * 300])
        parts.append(f"{gap}bytes({size})")
    return "[" + ",".join(parts) + "]"


def branches(number: int) -> str:
    """The same, each call in its own branch, taken from the last one to the first."""
    lines = ["def take(i):"]
    lines += [f"    if i == {i}: return {' ' * (i % 7)}bytes({FIRST + i})" for i in range(number)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        f"kept = {calls(400, 1)}\n",
        f"def f():\n    return {calls(300, 2)}\nkept = f()\n",
        f"{branches(300)}\nkept = [take(i) for i in reversed(range(300))]\n",
        f"{branches(300)}\nkept = [take(i * 7 % 300) for i in range(300)]\n",
        f"{branches(90)}\nkept = [take(i if k else 89 - i) for i in range(90) for k in (0, 1)]\n",
    ],
)
def test_places(workplace: Workplace, text: str) -> None:
    recorded = record(workplace, text)
    expected: dict[int, tuple[int, int]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "bytes":
            (size,) = node.args
            assert isinstance(size, ast.Constant)
            assert isinstance(size.value, int)
            expected[size.value] = (node.lineno, node.col_offset + 1)
    found: dict[int, set[tuple[int, int]]] = {}
    lines = {line for line, _ in expected.values()}
    view = recorded.view("total")
    for total, blocks, _, _, key, *_ in view.rows("stack"):
        assert isinstance(key, tuple)
        file, line, column, *_ = view.frames[key[0]]
        if line in lines and recorded.engine.files[file].endswith("app.py"):
            found.setdefault(total // blocks - HEAD, set()).add((line, column))
    assert {size: found.get(size) for size in expected} == {size: {place} for size, place in expected.items()}
