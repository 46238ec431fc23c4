"""docs/reference/json.md against the schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "memheft" / "schemas").glob("*.json"))


def keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "properties":
                yield from value
            yield from keys(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from keys(value)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_key_is_described(path: Path) -> None:
    text = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([\w.]+)`", text))
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert set(keys(schema)) - described == set()
    assert schema["properties"]["schema"]["const"] in described
