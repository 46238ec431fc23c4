"""The engine's reader in plain Python, over a recording written as JSON.

It gives the views something to draw without recording a program, and says in a few lines what the C
engine's reader has to compute.  A recording is {"header", "meta", "threads", "source", "stacks"}; a stack
is {"thread", "frames", "total", "live", "peak", "temporary"}, its frames innermost first as [file, line,
column, function, module, import], the others [bytes, blocks].
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

INTERPRETER = "<interpreter>"
PATHS_CUT = "<paths cut>"
OWN, STDLIB = 0, 1
HEADER = {
    "state": 4,
    "exit_status": 0,
    "drawn": 1,
    "flags": 0,
    "pid": 4711,
    "watcher_pid": 0,
    "now_ns": 12_400_000_000,
    "ended_ns": 0,
    "peak_at_ns": 9_100_000_000,
    "rss_peak_bytes": 2_254_857_830,
    "tool_bytes": 3_355_443,
    "lost_events": 0,
    "cut_events": 0,
    "folded_nodes": 0,
    "check_compared": 0,
    "check_mismatches": 0,
    "node_n": 100,
    "temp_n": 0,
    "code_n": 40,
    "thread_n": 1,
    "string_bytes": 1000,
    "format_version": 1,
    "file_bytes": 81_920,
    "mode": 0,
    "interval_bytes": 0,
    "created_unix_ns": 1_790_000_000_000_000_000,
}

Frame = tuple[int, int, int, str, str, str | None]
Numbers = tuple[int, int]
Row = tuple[int, int, int, int, object, int, None, None, int, tuple[int, ...], int, int, int, int, int]
TreeRow = tuple[int, int, int, int, int, int, int, bool, int, tuple[int, ...]]


class EngineError(Exception):
    def __init__(self, code: str, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.offset = offset


class Recording:
    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            raise EngineError("missing", "there is no such file") from None
        except ValueError:
            raise EngineError("foreign", "this is not a memheft recording", 0) from None
        self.meta = json.dumps(data.get("meta", {})).encode()
        self.source = bytes.fromhex(data.get("source", ""))
        self.header: dict[str, int] = HEADER | data.get("header", {})
        self.threads = [tuple(thread) for thread in data.get("threads", [["MainThread", 4711, 0]])]
        self.regions: list[tuple[str, ...]] = []
        self.stacks = data["stacks"]
        self.functions = [tuple(function) for function in data.get("functions", [])]
        self.files = [INTERPRETER]
        for stack in self.stacks:
            stack["frames"] = stack["frames"] or [[INTERPRETER, 0, 0, INTERPRETER, INTERPRETER, None]]
            for frame in stack["frames"]:
                if frame[0] not in self.files:
                    self.files.append(frame[0])
        self.totals = {}
        for key, name in (
            ("peak", "peak"),
            ("live", "live"),
            ("total", "allocated"),
            ("temporary", "temporary"),
        ):
            for i, unit in enumerate(("bytes", "blocks")):
                self.totals[f"{name}_{unit}"] = sum(stack[key][i] for stack in self.stacks)

    def view(
        self,
        moment: str,
        temporary: int,
        classes: bytes,
        own: bool,
        keep: int,
        pattern: bytes | None,
        regions: bytes | None = None,
    ) -> View:
        assert regions is None
        assert temporary in (1, 2, 4, 8)
        assert len(classes) == len(self.files)
        return View(self, moment, classes, own, keep, pattern)


class View:
    def __init__(
        self, recording: Recording, moment: str, classes: bytes, own: bool, keep: int, pattern: bytes | None
    ) -> None:
        self._files = recording.files
        self._classes = classes
        self._threads = recording.threads
        self.cut_bytes = self.cut_blocks = 0
        self.uncertain_bytes = self.uncertain_blocks = 0
        self.bytes_error = self.blocks_error = 0
        self.frames: list[Frame] = []
        self._ids: dict[Frame, int] = {}
        # (thread, frame ids innermost first) -> numbers
        self._stacks: dict[tuple[int, tuple[int, ...]], Numbers] = defaultdict(lambda: (0, 0))
        for stack in recording.stacks:
            count, blocks = stack[moment]
            if not count and not blocks:
                continue
            ids = [self._id(frame) for frame in stack["frames"]]
            if own:
                # What no own code asked for is nobody's.
                cut = [frame for frame in ids if recording.files[self.frames[frame][0]] == PATHS_CUT]
                ids = [frame for frame in ids if classes[self.frames[frame][0]] == OWN]
                ids = ids or cut or [self._id([INTERPRETER, 0, 0, INTERPRETER, INTERPRETER, None])]
            site = self.frames[ids[0]][0] if ids else 0
            if not keep >> classes[site] & 1 or (pattern is not None and not pattern[site]):
                continue
            if stack["frames"][-1][0] == PATHS_CUT:
                self.cut_bytes += count
                self.cut_blocks += blocks
            key = (stack.get("thread", 0), tuple(ids))
            before = self._stacks[key]
            self._stacks[key] = (before[0] + count, before[1] + blocks)
        self.total_bytes = sum(numbers[0] for numbers in self._stacks.values())
        self.total_blocks = sum(numbers[1] for numbers in self._stacks.values())

    def _id(self, raw: list[Any]) -> int:
        file, line, column, function, module, imported = raw
        frame: Frame = (self._files.index(file), line, column, function, module, imported)
        if frame not in self._ids:
            self._ids[frame] = len(self.frames)
            self.frames.append(frame)
        return self._ids[frame]

    def _key(self, by: str, frame: int) -> Any:
        file, line, _, function, module, _ = self.frames[frame]
        if by == "line":
            return (file, line, function, module)
        if by == "function":
            return (file, function, module)
        if by == "file":
            return file
        return module

    def rows(self, by: str) -> list[Row]:
        sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        kinds = ((OWN,), (OWN, 2))  # whose lines are named as callers: own ones, else those of no stdlib
        weights: list[dict[Any, dict[int, int]]] = [defaultdict(lambda: defaultdict(int)) for _ in kinds]
        imports: dict[Any, set[str]] = defaultdict(set)
        for (thread, ids), (count, blocks) in self._stacks.items():
            keys: list[Any] = [thread] if by == "thread" else [(ids, thread)]
            if by not in ("thread", "stack"):
                keys = [self._key(by, frame) for frame in ids]
            sums[keys[0]][0] += count
            sums[keys[0]][1] += blocks
            for key in dict.fromkeys(keys):
                sums[key][2] += count
                sums[key][3] += blocks
            if by == "line" and ids:
                imported = self.frames[ids[0]][5]
                if imported is not None:
                    imports[keys[0]].add(imported)
                for kind, owners in zip(kinds, weights, strict=True):
                    for frame in ids[1:]:
                        if self._classes[self.frames[frame][0]] in kind:
                            owners[keys[0]][frame] += count
                            break
                    else:
                        owners[keys[0]][-1] += count
        rows: list[Row] = []
        for key, numbers in sums.items():
            owner, owned = -1, 0
            for kind, owners in zip(kinds, weights, strict=True):
                whose = self._classes[key[0]] if by == "line" and key in owners and owner < 0 else OWN
                if whose == OWN or (kind != (OWN,) and whose != STDLIB):
                    continue
                carried = dict(owners[key])
                owner = max(carried, key=lambda frame: (carried[frame], frame))
                owned = carried[owner] if owner >= 0 else 0
            shown: object = key
            if by == "line":
                shown = (*key, tuple(sorted(imports[key])))
            elif by == "stack":
                shown, owner = key
            rows.append(
                (
                    numbers[0],
                    numbers[1],
                    numbers[2],
                    numbers[3],
                    shown,
                    owner,
                    None,
                    None,
                    owned,
                    (),
                    0,
                    0,
                    -1,
                    0,
                    0,
                )
            )
        rows.sort(key=lambda row: (-row[0], self._sort_name(by, row[4])))
        return rows

    def _sort_name(self, by: str, key: Any) -> Any:
        if by in ("line", "function"):
            return (self._files[key[0]], *key[1:])
        return self._files[key] if by == "file" else key

    def tree(self, inverted: bool) -> list[TreeRow]:
        root = _Node(-1, -1)
        several = len({thread for thread, _ in self._stacks}) > 1
        for (thread, ids), (count, blocks) in self._stacks.items():
            node = root
            root.inclusive += count
            root.inclusive_blocks += blocks
            of = thread if several else -1
            path = [(frame, -1 if inverted else of) for frame in (ids if inverted else reversed(ids))]
            if several:
                path.insert(len(path) if inverted else 0, (-1, thread))
            for frame, number in path:
                node = node.child(frame, number)
                node.inclusive += count
                node.inclusive_blocks += blocks
            # Inverted, a path ends where the stack began: its bytes stand there, so that each is there once.
            node.bytes += count
            node.blocks += blocks
        out: list[TreeRow] = []
        todo = [(root, 0)]
        while todo:
            node, depth = todo.pop()
            numbers = (node.bytes, node.blocks, node.inclusive, node.inclusive_blocks)
            out.append((depth, node.frame, node.thread, *numbers, False, -1, ()))
            todo += [(child, depth + 1) for child in node.sorted()]
        return out


class _Node:
    def __init__(self, frame: int, thread: int) -> None:
        self.frame, self.thread = frame, thread
        self.bytes = self.blocks = self.inclusive = self.inclusive_blocks = 0
        self.children: dict[tuple[int, int], _Node] = {}

    def child(self, frame: int, thread: int) -> _Node:
        return self.children.setdefault((frame, thread), _Node(frame, thread))

    def sorted(self) -> list[_Node]:
        """Smallest first: they are popped from the end."""
        return sorted(self.children.values(), key=lambda node: node.inclusive)
