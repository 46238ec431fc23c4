"""Recordings of two versions of a program: which file, function and line of one is which of the other.

    files       the same below site-packages, the standard library or the recorded folder; else of the same
                module; else the main script
    functions   of the same qualified name in the same file
    lines       of the same text, in order (align.py), in the same function, and those that left the order and
                occur once; between those, lines that are alike; without texts, as far from the function's
                first line

A place of a line has a name that both recordings share: (file, function, line), the line being that of the
recording after, or minus that of the one before if it is gone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable
from functools import cached_property
from typing import TYPE_CHECKING

from memheft.views import align
from memheft.views.names import OWN
from memheft.views.recording import Opened
from memheft.views.sources import Sources

if TYPE_CHECKING:
    from memheft._engine import View, _Frame

BEFORE, AFTER = 0, 1
MODULE = "<module>"
Line = tuple[int, str, int]  # file, function, line
Named = tuple[int, str]  # file, function
Frame = tuple[int, str, int, str, str | None]  # a line, its maker, and what it imports

_DEFINITION = re.compile(
    r"([ \t]*)(?:(class|def|async[ \t]+def)[ \t]+(\w+)|(?:if|try|with|for|while)\b.*:\s*$)"
)
_IMPORT = re.compile(r"from[\w.]+?import")  # without blanks
_COMPREHENSION = re.compile(r"(\.<locals>)?\.?<(?:list|set|dict)comp>")
INLINED = (3, 12)  # from this Python on comprehensions are no functions of their own


class Side:
    """One of the two recordings."""

    def __init__(self, recording: Opened, frames: list[_Frame]) -> None:
        self.recording = recording
        self.frames = frames
        self.sources = Sources(recording)
        self.files: list[int] = []  # the shared number of each file
        # Lines of each function that stand in a stack, by file of the recording and qualified name.
        self.lines: dict[Named, set[int]] = defaultdict(set)
        self.modules: dict[int, set[str]] = defaultdict(set)
        for file, line, _, function, module, _ in frames:
            self.modules[file].add(module)
            if line > 0:
                self.lines[file, function].add(line)
        self._spans: dict[int, dict[str, list[range]]] = {}

    @cached_property
    def python(self) -> tuple[int, ...]:
        """The version of its Python, as far as it is known."""
        return tuple(int(part) for part in re.findall(r"\d+", self.recording.text("python") or "")[:2])

    @cached_property
    def first_lines(self) -> dict[tuple[str, str], int]:
        """Where functions begin; of several of one name, the first."""
        out: dict[tuple[str, str], int] = {}
        for file, function, line in self.recording.engine.functions:
            if line > 0:
                out[file, function] = min(line, out.get((file, function), line))
        return out

    def text(self, file: int) -> list[str] | None:
        """All lines of a file, if they are those that ran."""
        name = self.recording.files[file]
        # Code that is made at run time is not what -c was given, if it bears the same name.
        return None if name == "<string>" and self.recording.code is None else self.sources.text(name)

    def spans(self, file: int) -> dict[str, list[range]]:
        """The lines of each function of a file, from its definition to the next that is not inside it."""
        if file not in self._spans:
            text = self.text(file)
            self._spans[file] = _spans(text) if text is not None else {}
        return self._spans[file]

    def of(self, file: int, function: str, lines: set[int]) -> list[int]:
        """The lines of a function, and those that are known to be."""
        text = self.text(file) or []
        spans = self.spans(file).get(function) or ([] if function != MODULE else [range(1, len(text) + 1)])
        found = set().union(*spans) | lines
        return sorted(line for line in found if line <= len(text))


def _spans(text: list[str]) -> dict[str, list[range]]:
    """Read definitions by their indentation: a parser would take a second for 70,000 lines."""
    spans: dict[str, list[range]] = defaultdict(list)
    standing: list[tuple[int, str, str, int]] = []  # indentation, name, prefix of names in it, line

    def leave(indentation: int, end: int) -> None:
        while standing and standing[-1][0] >= indentation:
            _, name, _, start = standing.pop()
            spans[name].append(range(start, end))

    for number, line in enumerate(text, 1):
        found = _DEFINITION.match(line)
        if found is None:
            continue
        indentation = len(found[1].expandtabs())
        leave(indentation, number)
        if found[3] is None:
            continue  # a block, which may hold definitions
        name = (standing[-1][2] if standing else "") + found[3]
        standing.append((indentation, name, name + ("." if found[2] == "class" else ".<locals>."), number))
    leave(0, len(text) + 1)
    return spans


def enclosing(function: str) -> str:
    """The function or class that has a text of its own: of lambdas and comprehensions, the one around."""
    parts = function.split(".")
    for at, part in enumerate(parts):
        if part.startswith("<") and part != "<locals>":
            parts = parts[:at]
            break
    while parts and parts[-1] == "<locals>":
        parts.pop()
    return ".".join(parts) or MODULE


class Matching:
    """What two recordings have in common."""

    def __init__(self, recordings: tuple[Opened, Opened], views: tuple[View, View]) -> None:
        before, after = (
            Side(recording, view.frames) for recording, view in zip(recordings, views, strict=True)
        )
        self.sides = (before, after)
        self.shared = _match_files(*self.sides)
        pythons = [side.python for side in self.sides]
        # Where only one Python has functions for comprehensions, they are the function around.
        self._folds = all(pythons) and (pythons[0] < INLINED) != (pythons[1] < INLINED)
        self._folded: dict[str, str] = {}
        self._numbers: dict[Frame, int] = {}
        self._moved: dict[tuple[int, str], dict[int, int]] = {}  # by shared file and function
        self._changed: dict[Named, set[int]] = {}
        self._lines = (self._all_lines(BEFORE), self._all_lines(AFTER))

    def file(self, side: int, file: int) -> int:
        """The shared number of a file."""
        return self.sides[side].files[file]

    def function(self, name: str) -> str:
        """The shared name of a function."""
        if not self._folds:
            return name
        known = self._folded.get(name)
        if known is None:
            known = self._folded[name] = _COMPREHENSION.sub("", name) or MODULE
        return known

    def line(self, side: int, file: int, line: int, function: str) -> Line:
        """The shared name of a line."""
        shared, name = self.sides[side].files[file], self.function(function)
        if side == AFTER or line <= 0:
            return shared, name, line
        return shared, name, self._moves(shared, name).get(line, -line)

    def maker(self, side: int, file: int, module: str) -> str:
        """The module of code made at run time: all of it bears one file name, such as `<string>`."""
        name = self.sides[side].recording.files[file]
        return module if name.startswith("<") and not name.startswith("<frozen ") else ""

    def has_changed(self, place: Line) -> bool:
        """Say whether a line has another text than before."""
        return place[2] in self._changed.get(place[:2], ())

    def frames(self, side: int) -> list[int]:
        """For each frame of a recording a number, that of the other's same frame; see `frame`."""
        return [
            self._numbers.setdefault(
                (*self.line(side, file, line, function), self.maker(side, file, module), imported),
                len(self._numbers),
            )
            for file, line, _, function, module, imported in self.sides[side].frames
        ]

    @cached_property
    def frame(self) -> list[Frame]:
        """What the numbers of frames stand for, when both sides have theirs."""
        return list(self._numbers)

    def folded(self, side: int) -> set[int]:
        """The frames of comprehensions that the other Python has not: their callers are the same function."""
        frames = enumerate(self.sides[side].frames) if self._folds else ()
        return {at for at, frame in frames if self.function(frame[3]) != frame[3]}

    def threads(self, side: int) -> list[Hashable]:
        """For each thread of a recording its name, or how many without a name were before it."""
        out: list[Hashable] = []
        unnamed = 0
        for name, _, _ in self.sides[side].recording.threads:
            out.append(name if name else unnamed)
            unnamed += not name
        return out

    # -- lines -------------------------------------------------------------------------------------------

    def _all_lines(self, side: int) -> dict[Named, dict[str, set[int]]]:
        """The lines that stand in stacks, by shared file and function, then by the function's own name."""
        out: dict[Named, dict[str, set[int]]] = defaultdict(dict)
        for (file, function), lines in self.sides[side].lines.items():
            out[self.sides[side].files[file], self.function(function)][function] = lines
        return out

    def _moves(self, file: int, function: str) -> dict[int, int]:
        """Each line of a function that is still there, and what it is now."""
        key = (file, function)
        if key not in self._moved:
            self._moved[key], self._changed[key] = self._compare(key)
        return self._moved[key]

    def _compare(self, key: Named) -> tuple[dict[int, int], set[int]]:
        both = self.shared.get(key[0])
        if both is None:
            return {}, set()
        texts = [side.text(file) for side, file in zip(self.sides, both, strict=True)]
        wanted = [set().union(*lines.get(key, {}).values()) for lines in self._lines]
        if texts[0] is not None and texts[0] == texts[1]:
            return {line: line for line in wanted[0]}, set()
        if not wanted[0] or not wanted[1]:
            return {}, set()
        if texts[0] is not None and texts[1] is not None:
            around = enclosing(key[1])
            spans = [
                side.of(file, around, lines)
                for side, file, lines in zip(self.sides, both, wanted, strict=True)
            ]
            read: list[list[str]] = []
            for text, lines in zip(texts, spans, strict=True):
                assert text is not None
                read.append([align.squeeze(text[line - 1]) for line in lines])
            return _align(spans, read, wanted, whole=True)
        return self._compare_lines(key, both, wanted)

    def _compare_lines(
        self, key: Named, both: tuple[int, int], wanted: list[set[int]]
    ) -> tuple[dict[int, int], set[int]]:
        """Compare the lines of a function of which nothing else is known."""
        known: list[dict[int, str]] = []
        firsts: list[int | None] = []
        for side, file, lines in zip(self.sides, both, self._lines, strict=True):
            name, texts = side.recording.files[file], {}
            module = min(side.modules[file])
            for function, numbers in lines[key].items():
                for line in numbers:
                    text = side.sources.line(name, line, function, module)
                    if text:
                        texts[line] = align.squeeze(text)
            known.append(texts)
            firsts.append(side.first_lines.get((name, enclosing(key[1]))) if key[1] != MODULE else 1)
        distance = 0
        if firsts[0] is not None and firsts[1] is not None:
            distance = firsts[1] - firsts[0]
        moved: dict[int, int] = {}
        changed: set[int] = set()
        # Lines as far from the beginning hold the others, if their texts agree: two that stand in stacks may
        # have twins that do not.
        anchors = [
            (line, line + distance)
            for line in sorted(wanted[0])
            if line + distance in wanted[1]
            and line in known[0]
            and known[0][line] == known[1].get(line + distance)
        ]
        last = (0, 0)
        for here in [*anchors, (1 << 62, 1 << 62)]:
            spans = [
                sorted(line for line in lines if low < line < high)
                for lines, low, high in zip(known, last, here, strict=True)
            ]
            texts_in = [[texts[line] for line in lines] for texts, lines in zip(known, spans, strict=True)]
            more, other = _align(spans, texts_in, wanted, whole=False)
            moved |= more
            changed |= other
            if here[0] in wanted[0]:
                moved[here[0]] = here[1]
            last = here
        taken = set(moved.values())
        for line in wanted[0] - set(moved):
            there = line + distance
            is_known = line in known[0] and there in known[1]
            if there in wanted[1] and there not in taken and not is_known:
                moved[line] = there
        return moved, changed


def _align(
    spans: list[list[int]], texts: list[list[str]], wanted: list[set[int]], whole: bool
) -> tuple[dict[int, int], set[int]]:
    """Line numbers before and after of what is the same, and those after of what has another text."""
    ours, theirs = spans
    pairs = align.common(texts[0], texts[1])
    out = {ours[one]: theirs[two] for one, two in pairs}
    changed: set[int] = set()
    if whole:
        for one, two in _crossed(texts, pairs):
            out[ours[one]] = theirs[two]
            if texts[0][one] != texts[1][two]:
                changed.add(theirs[two])
    taken = (set(out), set(out.values()))
    last = (-1, -1)
    for here in [*pairs, (len(ours), len(theirs))]:
        gaps = [
            [
                at
                for at in range(low + 1, high)
                if text[at] and not text[at].startswith("#") and span[at] not in done
            ]
            for low, high, text, span, done in zip(last, here, texts, spans, taken, strict=True)
        ]
        last = here
        is_whole = whole
        if len(gaps[0]) * len(gaps[1]) > align.COMPARED_MAX:
            is_whole = False
            gaps = [
                [at for at in gap if span[at] in lines]
                for gap, span, lines in zip(gaps, spans, wanted, strict=True)
            ]
        if not any(ours[at] in wanted[0] for at in gaps[0]):
            continue
        if not any(theirs[at] in wanted[1] for at in gaps[1]):
            continue
        pieces = [[text[at] for at in gap] for text, gap in zip(texts, gaps, strict=True)]
        for one, two in align.changed(pieces[0], pieces[1], is_whole):
            out[ours[gaps[0][one]]] = theirs[gaps[1][two]]
            changed.add(theirs[gaps[1][two]])
    return out, changed


def _crossed(texts: list[list[str]], pairs: list[align.Pair]) -> list[align.Pair]:
    """Indices of lines that left the order and occur once in both: sorted imports, functions that moved."""
    left = []
    for which, text in enumerate(texts):
        done = {pair[which] for pair in pairs}
        keys = [_imported(line) for line in text]
        counts = Counter(keys)
        left.append({key: at for at, key in enumerate(keys) if key and counts[key] == 1 and at not in done})
    return [(at, left[1][key]) for key, at in left[0].items() if key in left[1]]


def _imported(line: str) -> str:
    """Of `from a import b` the part that says whence: another name from there is the same import."""
    found = _IMPORT.match(line)
    return found[0] if found else line


# -- files -------------------------------------------------------------------------------------------------


def _match_files(before: Side, after: Side) -> dict[int, tuple[int, int]]:
    """Give files of both sides numbers, the same for the same file; the result: those that both have."""
    left = [dict.fromkeys(range(len(side.recording.files))) for side in (before, after)]
    found: list[tuple[int, int]] = []
    for key_of in (_by_place, _by_module, _by_short_name, _by_being_main, _by_own_name):
        keyed = [
            _only({file: key_of(side, file) for file in rest})
            for side, rest in zip((before, after), left, strict=True)
        ]
        for key, one in keyed[0].items():
            two = keyed[1].get(key)
            if two is not None:
                found.append((one, two))
                del left[0][one], left[1][two]
    shared = dict(enumerate(found))
    for side, at in ((before, 0), (after, 1)):
        numbers = {pair[at]: number for number, pair in shared.items()}
        # What only one has, has a number that the other does not use.
        fresh = iter(range(len(found) + at, 1 << 62, 2))
        side.files = [
            numbers[file] if file in numbers else next(fresh) for file in range(len(side.recording.files))
        ]
    return shared


def _only(keys: dict[int, Hashable]) -> dict[Hashable, int]:
    """The files whose key no other has."""
    counts = Counter(keys.values())
    return {key: file for file, key in keys.items() if key is not None and counts[key] == 1}


def _by_place(side: Side, file: int) -> Hashable:
    name = side.recording.files[file]
    return side.recording.classes[file], side.recording.names.short(name)


def _by_module(side: Side, file: int) -> Hashable:
    """The module, if the file is called so: an installed package may be a checkout on the other side."""
    name = side.recording.files[file]
    for module in sorted(side.modules.get(file, ())):
        path = module.replace(".", "/")
        if module and f"/{name}".endswith((f"/{path}.py", f"/{path}/__init__.py", f"/<frozen {module}>")):
            return module
    return None


def _by_short_name(side: Side, file: int) -> Hashable:
    return side.recording.names.short(side.recording.files[file])


def _by_being_main(side: Side, file: int) -> Hashable:
    name = side.recording.files[file]
    return True if "__main__" in side.modules.get(file, ()) and not name.startswith("<") else None


def _by_own_name(side: Side, file: int) -> Hashable:
    name = side.recording.files[file]
    last = name.rpartition("/")[2]
    is_own = side.recording.classes[file] == OWN and not name.startswith("<")
    return last if is_own and not last.startswith("__") else None
