"""Where reports are drawn: by Rich on a terminal, as plain text elsewhere."""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING

from memheft.views.stdout import stdout
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
    """Standard output, as wide as it is; raises OSError if there is none."""

    def __init__(self) -> None:
        self._out = stdout()
        self._console: Console | None = None
        self.width: int | None = None
        if os.environ.get("FORCE_COLOR") or self._out.isatty():
            from rich.console import Console

            self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
            self.width = self._console.width
        elif os.environ.get("COLUMNS", "").isdecimal():
            self.width = max(20, int(os.environ["COLUMNS"]))

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line, which the terminal may wrap."""
        if self._console is None:
            self._write(text)
        else:
            self._console.print(text, style=STYLES.get(style or ""))

    def spans(self, spans: Sequence[tuple[str, str | None]]) -> None:
        """One line of pieces, each with its style."""
        if self._console is None:
            self._write("".join(text for text, _ in spans).rstrip())
            return
        from rich.text import Text

        self._console.print(Text.assemble(*((text, STYLES.get(style or "", "")) for text, style in spans)))

    @property
    def draws_blocks(self) -> bool:
        """Say whether it shows more than ASCII."""
        if os.environ.get("TERM") in ("dumb", "unknown"):
            return False
        try:
            return codecs.lookup(self._out.encoding or "ascii").name == "utf-8"
        except LookupError:
            return False

    def table(self, table: Table) -> None:
        """A table."""
        if self._console is None:
            for line in draw_plain(table, self.width):
                self._write(line)
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

    def _write(self, text: str) -> None:
        try:
            print(text, file=self._out)
        except UnicodeEncodeError:
            encoding = self._out.encoding or "ascii"
            print(clean(text).encode(encoding, "backslashreplace").decode(encoding), file=self._out)
