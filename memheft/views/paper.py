"""Where reports are drawn: by Rich on a terminal, as plain text elsewhere."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING

from memheft.views.table import GAP, Table, draw_plain
from memheft.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

STYLES = {
    "title": "bold",
    "quiet": "dim",
    "warning": "yellow",
    "live": "cyan",
    "resident": "magenta",
    "peak": "bold red",
}


class Paper:
    """Standard output, as wide as it is."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self.width: int | None = None
        if _is_terminal():
            from rich.console import Console

            self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
            self.width = self._console.width
        elif os.environ.get("COLUMNS", "").isdecimal():
            self.width = max(20, int(os.environ["COLUMNS"]))

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line, which the terminal may wrap."""
        if self._console is None:
            _write(text)
        else:
            self._console.print(text, style=STYLES.get(style or ""))

    def spans(self, spans: Sequence[tuple[str, str | None]]) -> None:
        """One line of pieces, each with its style."""
        if self._console is None:
            _write("".join(text for text, _ in spans).rstrip())
            return
        from rich.text import Text

        self._console.print(Text.assemble(*((text, STYLES.get(style or "", "")) for text, style in spans)))

    @property
    def draws_blocks(self) -> bool:
        """Say whether it shows more than ASCII."""
        if os.environ.get("TERM") in ("dumb", "unknown") or sys.stdout is None:
            return False
        try:
            return codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
        except LookupError:
            return False

    def table(self, table: Table) -> None:
        """A table."""
        if self._console is None:
            for line in draw_plain(table, self.width):
                _write(line)
            return
        from rich.table import Table as RichTable
        from rich.text import Text

        kept, cells = table.fit(self.width)
        drawn = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=table.titles)
        for i, column in enumerate(kept):
            natural = max((Text(row[i]).cell_len for row in cells), default=0)
            drawn.add_column(
                column.title,
                justify="right" if column.kind == "number" else "left",
                style="bold" if i == 0 else "dim" if column.kind in ("note", "caller") else None,
                header_style="dim",
                no_wrap=True,
                overflow="ellipsis",
                min_width=natural if column.kind == "number" else None,
            )
        for row in cells[1:] if table.titles else cells:
            drawn.add_row(*(Text(cell) for cell in row))
        self._console.print(drawn, soft_wrap=False, no_wrap=True, crop=False)


def _is_terminal() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout is not None and sys.stdout.isatty()


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    try:
        print(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(clean(text).encode(encoding, "backslashreplace").decode(encoding))
