"""Source lines inside a recording: put there when the program has ended, read ever after.

The blob is zlib of JSON, {"files": {path: {"text": whole text} or {"lines": {"12": text}}}}.  Own code is
kept whole, and so is a file that carries much; of the others only the lines that stand in the tree.  A
file changed after the start is left out: its lines are not those that ran.
"""

from __future__ import annotations

import io
import json
import os
import time
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from types import CodeType

from memheft.views.names import OWN
from memheft.views.recording import Opened

FILE_LIMIT = 1 << 20  # bytes of one file
TEXT_LIMIT = 16 << 20  # of all whole files
LINES_LIMIT = 8 << 20  # of all single lines
UNPACKED_LIMIT = 64 << 20
TIME_LIMIT = 2.0  # seconds: the program's process waits
CARRIES = 0.001  # of the peak, the live or the allocated bytes


def collect(recording: Opened) -> bytes | None:
    """The blob for a recording whose program has ended; None when there is nothing to keep."""
    wanted: dict[int, set[int]] = {}
    for file, line, *_ in recording.view("total").frames:
        if line > 0:
            wanted.setdefault(file, set()).add(line)
    weight = dict.fromkeys(wanted, 0.0)
    for moment in ("peak", "live", "total"):
        view = recording.view(moment)
        if view.total_bytes <= 0:
            continue
        for row in view.rows("file"):
            key = row[4]
            if isinstance(key, int) and key in weight:
                weight[key] = max(weight[key], row[0] / view.total_bytes)

    def rank(file: int) -> tuple[bool, float]:
        return recording.classes[file] != OWN, -weight[file]

    deadline = time.monotonic() + TIME_LIMIT
    files: dict[str, dict[str, object]] = {}
    text_left, lines_left = TEXT_LIMIT, LINES_LIMIT
    for file in sorted(wanted, key=rank):
        if time.monotonic() > deadline:
            break
        name = recording.files[file]
        text = recording.code if name == "<string>" else _read(recording, name)
        if text is None:
            continue
        whole = recording.classes[file] == OWN or weight[file] >= CARRIES
        if whole and len(text) <= text_left:
            text_left -= len(text)
            files[name] = {"text": text}
            continue
        split = text.split("\n")
        lines = {str(line): split[line - 1] for line in sorted(wanted[file]) if line <= len(split)}
        used = sum(map(len, lines.values()))
        if used <= lines_left:
            lines_left -= used
            files[name] = {"lines": lines}
    if not files:
        return None
    return zlib.compress(json.dumps({"files": files}).encode("ascii"), 6)


def _read(recording: Opened, name: str) -> str | None:
    """The text of a file, decoded as Python does, if it is still the file that ran."""
    if name.startswith("<"):
        return None
    path = recording.names.absolute(name)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > FILE_LIMIT or status.st_mtime_ns > recording.header["created_unix_ns"]:
                return None
            data = file.read(FILE_LIMIT + 1)
    except (OSError, ValueError):
        return None
    if b"\0" in data:
        return None  # not source: a zip archive, a compiled file
    return decode(data)


def decode(data: bytes) -> str:
    """Source bytes as text, each line ended by a newline alone."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except (SyntaxError, LookupError):
        encoding = "utf-8"
    try:
        text = data.decode(encoding, "replace")
    except (LookupError, ValueError):
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Sources:
    """The source lines that a recording can show."""

    def __init__(self, recording: Opened, blob: bytes | None = None) -> None:
        self._recording = recording
        self._files = _unpack(recording.engine.source if blob is None else blob)
        self._texts: dict[str, list[str] | None] = {}
        self._functions: dict[str, list[tuple[int, int]]] | None = None

    def line(self, file: str, line: int, function: str, module: str) -> str | None:
        """One line, without its indentation."""
        if line <= 0:
            return None
        if file == "<string>" and not self._is_in_code(line, function, module):
            return None
        lines = self.text(file)
        if lines is not None:
            return lines[line - 1].strip() if line <= len(lines) else None
        entry = self._files.get(file)
        single = entry.get("lines") if entry else None
        found = single.get(str(line)) if isinstance(single, dict) else None
        return found.strip() if isinstance(found, str) else None

    def text(self, file: str) -> list[str] | None:
        """All lines of a file, or None when the recording does not have it whole."""
        if file not in self._texts:
            self._texts[file] = self._whole(file)
        return self._texts[file]

    def _whole(self, file: str) -> list[str] | None:
        entry = self._files.get(file)
        if entry is not None:
            text = entry.get("text")
            return text.split("\n") if isinstance(text, str) else None
        if file == "<string>":
            text = self._recording.code
        else:
            text = _read(self._recording, file)
        return None if text is None else text.split("\n")

    def _is_in_code(self, line: int, function: str, module: str) -> bool:
        """Is the line of `<string>` one of `-c`?  Code made by exec bears the same file name."""
        code = self._recording.code
        if code is None or module != "__main__":
            return False
        if self._functions is None:
            self._functions = {}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    top = compile(code, "<string>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return True  # this Python is not the one that ran it
            for inner in _all_codes(top):
                lines = [number for _, _, number in inner.co_lines() if number]
                if lines:
                    self._functions.setdefault(inner.co_qualname, []).append((min(lines), max(lines)))
        if not self._functions:
            return True
        return any(first <= line <= end for first, end in self._functions.get(function, ()))


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    todo = [code]
    while todo:
        top = todo.pop()
        yield top
        todo += [constant for constant in top.co_consts if isinstance(constant, CodeType)]


def _unpack(blob: bytes) -> dict[str, dict[str, object]]:
    if not blob:
        return {}
    try:
        data = zlib.decompressobj().decompress(blob, UNPACKED_LIMIT)
        value = json.loads(data)
    except (zlib.error, ValueError, RecursionError):
        return {}
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict):
        return {}
    return {name: entry for name, entry in files.items() if isinstance(entry, dict)}
