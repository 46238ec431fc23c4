"""The rows of a report as columns, for tools that want tables: CSV, Parquet, Arrow.

Names are those of the JSON documents; what is nested there is flat here.  In CSV and in the Arrow stream of a
view, `imports` and `stack` are one text each; Parquet and Arrow files keep them nested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from memheft.views import documents
from memheft.views.names import REGION_SEPARATOR
from memheft.views.rows import Json, Rows
from memheft.views.text import well_formed

if TYPE_CHECKING:
    from memheft._engine import _By, _Column

Kind: TypeAlias = Literal["int", "text", "texts", "stack"]

_QUOTED = re.compile(r'[",\r\n]|^\s|\s$|^$')
_LINE_END = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Column:
    """A column, and how it is found in a row of JSON."""

    name: str
    kind: Kind
    value: Callable[[Json], Any]


def _key(name: str, kind: Kind = "text") -> Column:
    return Column(name, kind, lambda row: row.get(name))


def _of(key: str, inner: str, kind: Kind = "text") -> Column:
    """A column of what is a frame in JSON."""
    return Column(f"{key}_{inner}", kind, lambda row: cast(Json, row[key]).get(inner) if key in row else None)


def _site(name: str, kind: Kind = "text") -> Column:
    """A column of a stack's innermost frame."""
    return Column(name, kind, lambda row: cast("list[Json]", row["stack"])[0].get(name))


_NUMBERS = [
    _key(name, "int")
    for name in ("bytes", "blocks", "inclusive_bytes", "inclusive_blocks", "first_ns", "last_ns")
]
_ERRORS = [  # last, where columns are added
    _key(name, "int")
    for name in ("bytes_error", "blocks_error", "inclusive_bytes_error", "inclusive_blocks_error")
]


def _region(row: Json) -> str | None:
    names = cast("list[str]", row.get("region"))
    return REGION_SEPARATOR.join(names) if names else None


_FRAME = (_key("file"), _key("line", "int"), _key("function"), _key("module"))
_THREAD = (_key("thread"), _key("thread_id", "int"))
_REGION = Column("region", "text", _region)
_KEYS: dict[_By, tuple[Column, ...]] = {
    "line": (
        *_FRAME,
        _key("imports", "texts"),
        _of("owner", "file"),
        _of("owner", "line", "int"),
        _of("owner", "function"),
        _key("owner_bytes", "int"),
        _of("caller", "file"),
        _of("caller", "line", "int"),
        _of("caller", "function"),
        _key("caller_bytes", "int"),
    ),
    "function": (_key("file"), _key("function"), _key("module")),
    "file": (_key("file"),),
    "module": (_key("module"),),
    "thread": _THREAD,
    "region": (_REGION,),
    "stack": (
        _site("file"),
        _site("line", "int"),
        _site("function"),
        _site("module"),
        *_THREAD,
        _REGION,
        _key("stack", "stack"),
    ),
}


_WHEN = ("before", "after", "delta")
_CHANGES = [_key(f"{what}_{when}", "int") for what in ("bytes", "blocks") for when in _WHEN]
_CHANGE_ERRORS = [_key(f"{what}_{when}_error", "int") for what in ("bytes", "blocks") for when in _WHEN]
_FILES = (_key("file"), _key("file_before"))
_CHANGE_KEYS: dict[_By, tuple[Column, ...]] = _KEYS | {
    "line": (
        *_FILES,
        _key("line", "int"),
        _key("line_before", "int"),
        _key("line_after", "int"),
        _key("function"),
        _key("module"),
        Column("text_changed", "int", lambda row: int(bool(row.get("text_changed")))),
        _key("imports", "texts"),
    ),
    "function": (*_FILES, _key("function"), _key("module")),
    "file": _FILES,
}


def columns_of(by: _By) -> list[Column]:
    """The columns of a grouping."""
    return [*_NUMBERS, *_KEYS[by], *_ERRORS]


def of_changes(by: _By) -> list[Column]:
    """The columns of a difference by a grouping."""
    return [*_CHANGES, *_CHANGE_KEYS[by], *_CHANGE_ERRORS]


def _filled(
    columns: list[Column], rows: Iterable[Json], convert: Callable[[Kind, Any], Any]
) -> list[tuple[Column, list[Any]]]:
    """The columns with their cells."""
    cells: list[list[Any]] = [[] for _ in columns]
    for row in rows:
        for column, filled in zip(columns, cells, strict=True):
            filled.append(convert(column.kind, column.value(row)))
    return list(zip(columns, cells, strict=True))


def _flat(kind: Kind, value: Any) -> int | str | None:
    """A cell as a number or one text."""
    if value is None or kind in ("int", "text"):
        return cast("int | str | None", value)
    return " ".join(value) if kind == "texts" else _collapsed(value)


# -- CSV ---------------------------------------------------------------------------------------------------


def csv(rows: Rows) -> Iterator[bytes]:
    """A line of names, then one for each row.  What is not known is empty, what is empty is quoted."""
    columns = columns_of(rows.by)
    yield (",".join(column.name for column in columns) + "\n").encode()
    for row in rows.rows:
        json_row = rows.json(row)
        cells = (_cell(column.kind, column.value(json_row)) for column in columns)
        yield (",".join(cells) + "\n").encode("utf-8", "backslashreplace")


def _cell(kind: Kind, value: Any) -> str:
    flat = _flat(kind, value)
    if flat is None:
        return ""
    text = str(flat)
    if kind == "int":
        return text
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _collapsed(stack: list[Json]) -> str:
    """A stack as text, as `collapsed` has it: the root first."""
    return ";".join(map(_frame, reversed(stack)))


def _frame(frame: Json) -> str:
    place = f"{frame['file']}:{frame['line']}" if frame["line"] else f"{frame['file']}"
    text = place if frame["file"] == frame["function"] else f"{frame['function']} ({place})"
    return _LINE_END.sub(" ", text.replace(";", ":"))


# -- Arrow -------------------------------------------------------------------------------------------------


def stream(columns: list[Column], rows: Iterable[Json]) -> list[_Column]:
    """Columns as the engine's Arrow stream takes them."""
    filled = _filled(columns, rows, _flat)
    return [(c.name, "int64", cells) if c.kind == "int" else (c.name, "utf8", cells) for c, cells in filled]


def arrow(rows: Rows, view: Json, form: str) -> bytes:
    """A file of Arrow's own, or Parquet.  The recording's header and totals are in the schema's metadata."""
    import pyarrow as pa

    text = pa.string()
    frame = pa.struct(
        [
            ("file", text),
            ("line", pa.int64()),
            ("column", pa.int64()),
            ("function", text),
            ("module", text),
            ("imports", text),
            ("recursive", pa.bool_()),
        ]
    )
    types = {"int": pa.int64(), "text": text, "texts": pa.list_(text), "stack": pa.list_(frame)}
    columns = _filled(columns_of(rows.by), map(rows.json, rows.rows), _clean)
    meta = {
        "recording": documents.recording(rows.recording),
        "view": view,
        "totals": documents.totals(rows.recording, rows.view),
    }
    schema = pa.schema(
        [(column.name, types[column.kind]) for column, _ in columns],
        metadata={f"memheft.{key}": json.dumps(value) for key, value in meta.items()},
    )
    arrays = [pa.array(cells, types[column.kind]) for column, cells in columns]
    table = pa.Table.from_arrays(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    if form == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, sink, compression="zstd")
    else:
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(table)
    return cast(bytes, sink.getvalue().to_pybytes())


def _clean(kind: Kind, value: Any) -> Any:
    if value is None or kind == "int":
        return value
    if kind == "text":
        return well_formed(value)
    if kind == "texts":
        return list(map(well_formed, value))
    return [
        {"recursive": False}
        | {key: well_formed(part) if isinstance(part, str) else part for key, part in frame.items()}
        for frame in value
    ]
