"""Text in terminal cells: wide characters take two, control characters show, paths lose their middle."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"


def clean(text: str) -> str:
    """Text from a program, safe to print: no control characters, no lone surrogates."""
    if text.isprintable():
        return text
    out = []
    for char in text:
        if char == "\t":
            out.append("    ")
        elif char.isprintable() or (unicodedata.category(char) in ("Zs", "Cf") and not _turns(char)):
            out.append(char)
        else:
            out.append(char.encode("unicode_escape", "surrogatepass").decode("ascii"))
    return "".join(out)


def well_formed(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot hold: such a one is written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _turns(char: str) -> bool:
    """Marks that change the direction of text: a name must not rearrange our table."""
    return unicodedata.bidirectional(char) not in ("", "BN", "WS", "ON")


def width(text: str) -> int:
    """Columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """The text, cut at its end to fit."""
    if width(text) <= columns:
        return text
    if columns <= 0:
        return ""
    out, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > columns - 1:
            break
        out.append(char)
    return "".join(out).rstrip() + ELLIPSIS


def cut_start(text: str, columns: int) -> str:
    """The text, cut at its start to fit."""
    if width(text) <= columns:
        return text
    return cut(text[::-1], columns)[::-1]


def pad(text: str, columns: int, right: bool = False) -> str:
    """The text, filled with blanks to the width."""
    blanks = " " * max(0, columns - width(text))
    return blanks + text if right else text + blanks


def cut_path(path: str, columns: int) -> str:
    """The path, without as many of its middle folders as it takes to fit; its last part is kept longest."""
    if width(path) <= columns:
        return path
    parts = path.split("/")
    last = parts[-1]
    for kept_front in (len(parts) - 2, *range(len(parts) - 3, 0, -1)):
        if kept_front < 1:
            continue
        for first_back in range(kept_front + 1, len(parts)):
            shorter = "/".join([*parts[:kept_front], ELLIPSIS, *parts[first_back:]])
            if width(shorter) <= columns:
                return shorter
    if len(parts) > 1 and width(last) + 2 <= columns:
        return f"{ELLIPSIS}/{last}"
    return cut_start(last, columns)
