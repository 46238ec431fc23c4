"""As much of JSON Schema as our schemas use."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "type", "required", "properties", "items", "enum",
    "const", "anyOf", "allOf", "if", "then", "minimum", "minItems", "additionalProperties",
}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def load(name: str) -> dict[str, Any]:
    text = (resources.files("memheft") / "schemas" / f"{name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check(document: Any) -> None:
    """Check a document of ours against the schema that it names."""
    schema = load(document["schema"].removeprefix("memheft."))
    problems = list(_problems(document, schema, schema, "$"))
    assert not problems, problems[:5]
    assert list(document)[:2] == ["schema", "version"]


def _problems(value: Any, schema: Any, root: Any, where: str) -> list[str]:
    assert set(schema) <= KNOWN, f"this checker does not know {set(schema) - KNOWN}"
    out: list[str] = []
    if "$ref" in schema:
        return _problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fits = any(
            isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name == "integer")
            for name in names
        )
        if not fits:
            return [f"{where}: {value!r} is no {names}"]
    if "const" in schema and value != schema["const"]:
        out.append(f"{where}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{where}: {value!r} is not one of {schema['enum']}")
    if "minimum" in schema and isinstance(value, int) and value < schema["minimum"]:
        out.append(f"{where}: {value} < {schema['minimum']}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        out += [f"{where}: {key} is missing" for key in schema.get("required", []) if key not in value]
        more = schema.get("additionalProperties", True)
        for key, inner in value.items():
            if key in properties:
                out += _problems(inner, properties[key], root, f"{where}.{key}")
            elif more is False:
                out.append(f"{where}: {key} is not allowed")
            elif isinstance(more, dict):
                out += _problems(inner, more, root, f"{where}.{key}")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            out.append(f"{where}: too short")
        if "items" in schema:
            for i, item in enumerate(value):
                out += _problems(item, schema["items"], root, f"{where}[{i}]")
    if "anyOf" in schema:
        tries = [_problems(value, inner, root, where) for inner in schema["anyOf"]]
        if all(tries):
            out += sorted(tries, key=len)[0]
    for inner in schema.get("allOf", []):
        out += _problems(value, inner, root, where)
    if "if" in schema and not _problems(value, schema["if"], root, where):
        out += _problems(value, schema["then"], root, where)
    return out
