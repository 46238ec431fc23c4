"""Command lines of the interpreter: `python [flags] script args`, taken apart as the interpreter does it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in typing, without importing it: `memheft run` starts lean
if TYPE_CHECKING:
    from collections.abc import Sequence

_WITH_VALUE = "WX"
_LAST = "cm"


class Flags:
    """Flags as they were typed, and the letters among them."""

    def __init__(self) -> None:
        self.typed: list[str] = []
        self.letters: set[str] = set()

    def add(self, word: str) -> None:
        """Add one word, such as `-OO` or `-Xdev`."""
        self.typed.append(word)
        for letter in word[1:]:
            self.letters.add(letter)
            if letter in _WITH_VALUE:
                break

    def extend(self, other: Flags) -> None:
        """Add all of another's."""
        self.typed += other.typed
        self.letters |= other.letters

    def has(self, letters: str) -> bool:
        """Say whether one of the letters is set."""
        return not self.letters.isdisjoint(letters)


def parse(args: Sequence[str]) -> Flags:
    """The flags at the head of an interpreter's arguments, up to its script, `-m` or `-c`."""
    flags = Flags()
    i = 0
    while i < len(args):
        word = args[i]
        i += 1
        if word == "--" or word == "-" or not word.startswith("-"):
            break
        if word.startswith("--"):
            flags.typed.append(word)
            if word == "--check-hash-based-pycs" and i < len(args):
                flags.typed.append(args[i])
                i += 1
            continue
        end = next((at for at, letter in enumerate(word) if at and letter in _LAST + _WITH_VALUE), len(word))
        if end < len(word) and word[end] in _LAST:
            if end > 1:
                flags.add(word[:end])
            break
        flags.add(word)
        if end == len(word) - 1 and i < len(args):
            flags.typed.append(args[i])
            i += 1
    return flags


def of_this_interpreter() -> Flags:
    """Return the flags that our own interpreter was started with, less those of our own shebang line."""
    words = list(sys.orig_argv[1:])
    if words and words[0].startswith("-"):
        shebang = shebang_of(sys.argv[0])
        if shebang is not None and shebang[1] == words[0]:
            del words[0]
    return parse(words)


def shebang_of(path: str) -> tuple[str, str] | None:
    """Interpreter and the one argument of a script's first line; None when it has no such line."""
    try:
        with open(path, "rb") as file:
            line = file.readline(4096)
            second = file.readline(4096)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    program, _, argument = os.fsdecode(line[2:].strip()).partition(" ")
    argument = argument.strip()
    if os.path.basename(program) == "sh" and second.startswith(b"'''exec'"):
        # What installers write when the interpreter's path is too long for the kernel, or has a space in it.
        import shlex

        try:
            program = shlex.split(os.fsdecode(second), posix=True)[1]
        except (ValueError, IndexError):
            return program, argument
        argument = ""
    return program, argument
