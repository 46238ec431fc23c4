"""A table that knows which of its columns give way: numbers never, places lose the middle of their paths."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memheft.views.text import clean, cut, cut_path, pad, width

GAP = 2
LONGEST_NOTE = 160  # even where nothing limits the width
SHORTEST_NOTE = 12
SHORTEST_PLACE = 16
ROOMY_PLACE = 36  # what guides leave to the place itself, if they can
LONGEST_CALLER = 40


@dataclass(frozen=True)
class Place:
    """Where something is: `guides file.py:41 function`."""

    path: str
    line: int | str | None = None
    name: str = ""
    guides: str = ""
    tail: str = ""  # never cut: what it says of the place would be wrong without it

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", clean(self.path))
        object.__setattr__(self, "name", clean(self.name))

    def whole(self) -> str:
        """All of it."""
        number = f":{self.line}" if self.line else ""
        gap = " " if self.path and self.name else ""
        return f"{self.guides}{self.path}{number}{gap}{self.name}".rstrip() + self.tail

    def narrow(self) -> Place:
        """The same with the last part of a qualified name alone, `inner` for `outer.<locals>.inner`."""
        parts = self.name.replace(".<locals>", "").split(".")
        name = ".".join(parts[-2:] if parts[-1].startswith("<") else parts[-1:]) or self.name
        return replace(self, name="" if name == "<module>" and self.line else name)

    def fit(self, columns: int | None) -> str:
        """As much of it as fits; the number of the line always does."""
        whole = self.whole()
        if columns is None or width(whole) <= columns:
            return whole
        if self.tail:
            bare = replace(self, tail="").fit(max(1, columns - width(self.tail))) + self.tail
            return bare if width(bare) <= columns else ""
        if not self.path:
            return cut(whole, columns)
        narrow = self.narrow()
        if narrow.name != self.name:
            return narrow.fit(columns)
        guides = _fit_guides(self.guides, max(columns // 3, columns - ROOMY_PLACE))
        number = f":{self.line}" if self.line else ""
        free = columns - len(guides) - len(number)
        wanted = width(self.name) + 1 if self.name else 0
        path = cut_path(self.path, max(free - wanted, min(width(self.path), free * 6 // 10), 1))
        name = cut(self.name, free - width(path) - 1)
        return f"{guides}{path}{number} {name}".rstrip()


@dataclass(frozen=True)
class Column:
    """A column; `kind` is number, place, caller (a place of limited width) or note (text that may be cut)."""

    title: str
    kind: str = "number"


Cell = str | Place


@dataclass
class Table:
    """Rows of cells, drawn by paper.py."""

    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    titles: bool = True
    indent: int = 0

    def add(self, *cells: Cell) -> None:
        """Add a row."""
        self.rows.append(list(cells))

    def fit(self, columns: int | None) -> tuple[list[Column], list[list[str]]]:
        """Cut every cell to the text that fits, the titles first; a column without room is dropped."""
        rows: list[list[Cell]] = [[column.title for column in self.columns]] if self.titles else []
        rows += self.rows
        widths = [max((_natural(row[i]) for row in rows), default=0) for i in range(len(self.columns))]
        if columns is not None:
            for i, column in enumerate(self.columns):
                widths[i] = min(widths[i], LONGEST_CALLER) if column.kind == "caller" else widths[i]
            self._shrink(widths, columns)
        kept = [i for i, wide in enumerate(widths) if wide > 0]
        cells = [[_fit(row[i], widths[i] if columns is not None else None) for i in kept] for row in rows]
        return [self.columns[i] for i in kept], cells

    def _shrink(self, widths: list[int], columns: int) -> None:
        """Take from the note first, then from the place."""
        kinds = [column.kind for column in self.columns]
        place = kinds.index("place") if "place" in kinds else None
        note = kinds.index("note") if "note" in kinds else None
        gaps = GAP * (sum(1 for wide in widths if wide) - 1) + self.indent
        room = (
            columns
            - gaps
            - sum(wide for wide, kind in zip(widths, kinds, strict=True) if kind in ("number", "caller"))
        )
        if place is None:
            if note is not None:
                widths[note] = max(0, min(widths[note], room))
            return
        if note is None or widths[note] == 0:
            widths[place] = max(SHORTEST_PLACE, min(widths[place], room))
            return
        if widths[place] + widths[note] <= room:
            return
        widths[place] = max(_narrow(row[place]) for row in self.rows)
        if widths[place] + widths[note] <= room:
            widths[place] = room - widths[note]
            return
        at_most = max(room * 55 // 100, room - widths[note])
        widths[place] = max(SHORTEST_PLACE, min(widths[place], at_most))
        widths[note] = min(widths[note], room - widths[place])
        if widths[note] < SHORTEST_NOTE:
            widths[note] = 0
            widths[place] = max(
                SHORTEST_PLACE, min(max(_natural(row[place]) for row in self.rows), room + GAP)
            )


def _fit_guides(guides: str, columns: int) -> str:
    """The innermost levels of a tree's guides, two columns each.

    Levels are left out by several at a time: what hangs from what can be seen among those that have lost as
    many.
    """
    levels, most = len(guides) // 2, max(columns // 2, 2)
    if levels <= most or not set(guides) <= set("│├└ "):
        return guides
    step = max(most // 2, 1)
    hidden = -(-(levels - most + 1) // step) * step
    return "… " + guides[2 * hidden :]


def _narrow(cell: Cell) -> int:
    return _natural(cell.narrow() if isinstance(cell, Place) else cell)


def _natural(cell: Cell) -> int:
    return width(cell.whole()) if isinstance(cell, Place) else min(width(cell), LONGEST_NOTE)


def _fit(cell: Cell, columns: int | None) -> str:
    if isinstance(cell, Place):
        return cell.fit(columns)
    return cut(cell, LONGEST_NOTE if columns is None else columns)


def draw_plain(table: Table, columns: int | None) -> list[str]:
    """The table as lines of text."""
    kept, cells = table.fit(columns)
    if not cells:
        return []
    widths = [max(width(row[i]) for row in cells) for i in range(len(kept))]
    lines = []
    for row in cells:
        padded = [pad(cell, widths[i], kept[i].kind == "number") for i, cell in enumerate(row)]
        lines.append((" " * table.indent + (" " * GAP).join(padded)).rstrip())
    return lines
