"""Which line of one text is which of another: their longest common subsequence, and what changed between."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

PAIRS_MAX = 200_000  # equal pairs of lines that are looked at; with more, rare lines go first
ALIKE = 0.6  # lines that have so much in common are the same line, changed
COMPARED_MAX = 600  # pairs of changed lines of one place that are compared

Pair = tuple[int, int]


def squeeze(line: str) -> str:
    """A line without its blanks: those are formatting."""
    return "".join(line.split())


def common(before: Sequence[str], after: Sequence[str]) -> list[Pair]:
    """Indices of equal lines, in order in both; empty lines equal nothing.

    As many as there can be, unless lines that recur very often make that too dear.
    """
    left = [i for i, line in enumerate(before) if line]
    right = [i for i, line in enumerate(after) if line]
    return _common([(before[i], i) for i in left], [(after[i], i) for i in right])


def _common(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> list[Pair]:
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start][0] == after[start][0]:
        start += 1
    while end < shorter - start and before[-1 - end][0] == after[-1 - end][0]:
        end += 1
    head = [(one[1], two[1]) for one, two in zip(before[:start], after[:start], strict=True)]
    tail = [
        (one[1], two[1])
        for one, two in zip(before[len(before) - end :], after[len(after) - end :], strict=True)
    ]
    before, after = before[start : len(before) - end], after[start : len(after) - end]
    if not before or not after:
        return head + tail

    ours: dict[str, list[int]] = defaultdict(list)
    theirs: dict[str, list[int]] = defaultdict(list)
    for at, (line, _) in enumerate(before):
        ours[line].append(at)
    for at, (line, _) in enumerate(after):
        theirs[line].append(at)
    if sum(len(places) * len(theirs.get(line, ())) for line, places in ours.items()) <= PAIRS_MAX:
        chosen = _rising((at, theirs.get(line, ())) for at, (line, _) in enumerate(before))
    else:
        # Lines that occur once hold the rest; without any, the n-th of a line is the n-th of its like.
        single = {
            line for line, places in ours.items() if len(places) == 1 and len(theirs.get(line, ())) == 1
        }
        if single:
            anchors = _rising((at, theirs[line]) for at, (line, _) in enumerate(before) if line in single)
            out, last = head, (-1, -1)
            for here in [*anchors, (len(before), len(after))]:
                out += _common(before[last[0] + 1 : here[0]], after[last[1] + 1 : here[1]])
                if here[0] < len(before):
                    out.append((before[here[0]][1], after[here[1]][1]))
                last = here
            return out + tail
        nth = {place: (line, n) for line, places in ours.items() for n, place in enumerate(places)}
        chosen = _rising(
            (at, theirs[line][n : n + 1] if line in theirs else ())
            for at, (line, n) in ((at, nth[at]) for at in range(len(before)))
        )
    return head + [(before[one][1], after[two][1]) for one, two in chosen] + tail


def _rising(candidates: Iterable[tuple[int, Sequence[int]]]) -> list[Pair]:
    """The longest chain of pairs that rises in both, of each left index one right index of those given."""
    ends: list[int] = []  # of the best chain of each length: its last right index
    best: list[int] = []  # and its last pair, as an index into pairs
    pairs: list[tuple[int, int, int]] = []  # left, right, the pair before in its chain
    for left, rights in candidates:
        for right in reversed(rights):
            length = bisect_left(ends, right)
            pairs.append((left, right, best[length - 1] if length else -1))
            if length == len(ends):
                ends.append(right)
                best.append(len(pairs) - 1)
            else:
                ends[length] = right
                best[length] = len(pairs) - 1
    out: list[Pair] = []
    at = best[-1] if best else -1
    while at >= 0:
        left, right, at = pairs[at]
        out.append((left, right))
    out.reverse()
    return out


def changed(before: Sequence[str], after: Sequence[str], whole: bool = True) -> list[Pair]:
    """Indices of lines that are the same place with another text, in order; the pieces have no common line.

    Those are the lines that are alike; if the pieces are `whole`, also one line that stands for one line.
    """
    if not before or not after:
        return []
    out: list[Pair] = []
    if len(before) * len(after) <= COMPARED_MAX:
        out = _most_alike(before, after)
    if not whole:
        return out
    filled: list[Pair] = []
    last = (-1, -1)
    for here in [*out, (len(before), len(after))]:
        if here[0] - last[0] == 2 and here[1] - last[1] == 2:
            filled.append((here[0] - 1, here[1] - 1))
        if here[0] < len(before):
            filled.append(here)
        last = here
    return filled


def _most_alike(before: Sequence[str], after: Sequence[str]) -> list[Pair]:
    """The pairs, in order, whose likeness sums to the most."""
    height, breadth = len(before), len(after)
    likeness = [[_likeness(one, two) for two in after] for one in before]
    best = [[0.0] * (breadth + 1) for _ in range(height + 1)]
    for i in range(height - 1, -1, -1):
        for j in range(breadth - 1, -1, -1):
            pair = likeness[i][j]
            best[i][j] = max(
                best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + pair if pair >= ALIKE else 0.0
            )
    out: list[Pair] = []
    i = j = 0
    while i < height and j < breadth:
        if likeness[i][j] >= ALIKE and best[i][j] == best[i + 1][j + 1] + likeness[i][j]:
            out.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return out


def _likeness(one: str, two: str) -> float:
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    if matcher.real_quick_ratio() < ALIKE or matcher.quick_ratio() < ALIKE:
        return 0.0
    return matcher.ratio()
