"""Tables of text, and the two ways to draw them."""

from __future__ import annotations

MIB = 1024 * 1024

Table = list[list[str]]
"""Lines of cells; the first line is the head."""


def plain(table: Table) -> str:
    """Columns padded with blanks; the first to the left, figures to the right."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [
            text.ljust(w) if i == 0 else text.rjust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(table[0]) + " |", "|---" + "|--:" * (len(table[0]) - 1) + "|"]
    lines += ["| " + " | ".join(line) + " |" for line in table[1:]]
    return "\n".join(lines)
