"""Names of files as people call them, and whose code they are; what moments are called."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable

OWN, STDLIB, SITE, OTHER = range(4)
CLASS_NAMES = {"own": OWN, "stdlib": STDLIB, "site-packages": SITE}
INTERPRETER = "<interpreter>"
PATHS_CUT = "<paths cut>"  # stands for the callers of lines whose callers were not kept
REGION_SEPARATOR = " / "  # between the names of a region and of those in which it is

_MOMENTS = {
    "peak": "at the peak",
    "live": "at the end",
    "total": "allocated in all",
    "temporary": "freed before their thread asked for another",
}

_SITE_PART = re.compile(r".*/(?:site|dist)-packages/")
_STDLIB_PART = re.compile(r".*/lib(?:64)?/python3(?:\.\d+t?)?/(?!(?:site|dist)-packages/)(?:lib-dynload/)?")
_TYPED = ("<stdin>", "<console>", "<doctest ", "<ipython-input-", "<python-input-")


def title_of(moment: str, span: int = 1) -> str:
    """What a moment is called after the number of bytes that it has."""
    return _MOMENTS[moment] + (f" {span} blocks" if moment == "temporary" and span > 1 else "")


class Names:
    """The recording's view of folders: what it calls the current one, the standard library, the packages."""

    def __init__(
        self,
        cwd: str,
        stdlib: list[str],
        site: list[str],
        hidden: list[str] | None = None,
        scripts: str | None = None,
        code: bool = False,
    ) -> None:
        self._cwd = _folder(cwd)
        self._stdlib = sorted((_folder(name) for name in stdlib), key=len, reverse=True)
        self._site = sorted((_folder(name) for name in site), key=len, reverse=True)
        self._hidden = [_folder(name) for name in hidden or []]
        self._scripts = _folder(scripts or "")
        self._typed = ("<string>", *_TYPED) if code else _TYPED  # `<string>` is what -c was given
        self._short: dict[str, str] = {}

    def absolute(self, file: str) -> str:
        """The file's path, if it has one; `<string>` stays."""
        return file if file.startswith(("/", "<")) else os.path.normpath(os.path.join(self._cwd or "/", file))

    def class_of(self, file: str) -> int:
        """Whose code it is: OWN, STDLIB, SITE or OTHER (no Python code)."""
        if file in (INTERPRETER, PATHS_CUT):
            return OTHER
        if file.startswith("<"):
            if file.startswith("<frozen "):
                return STDLIB
            # What was typed is the user's.  Code made at run time, as by dataclasses, belongs to its maker.
            return OWN if file.startswith(self._typed) else SITE
        path = self.absolute(file)
        if _SITE_PART.match(path) or _is_in(path, self._site):
            return SITE
        if _is_in(path, self._stdlib):
            return STDLIB
        # What an installer wrote into the folder of commands, and memheft itself, are nobody's own code.
        if _is_in(path, self._hidden) or (self._scripts and path.startswith(self._scripts)):
            return SITE
        return OWN

    def matches(self, file: str, patterns: Iterable[str]) -> bool:
        """Say whether one of the patterns is a part of the file's name, or with * ? [ describes it."""
        names = (file, self.short(file))
        for pattern in patterns:
            if any(char in pattern for char in "*?["):
                if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                    return True
            elif any(pattern in name for name in names):
                return True
        return False

    def short(self, file: str) -> str:
        """The file relative to the program's folder, or to the place it was installed in."""
        known = self._short.get(file)
        if known is None:
            known = self._short[file] = self._shorten(file)
        return known

    def _shorten(self, file: str) -> str:
        if file.startswith("<"):
            return file
        path = self.absolute(file)
        match = _SITE_PART.match(path)
        if match:
            return path[match.end() :]
        for folder in self._site:
            if path.startswith(folder):
                return path[len(folder) :]
        match = _STDLIB_PART.match(path)
        if match:
            return path[match.end() :]
        for folder in self._stdlib:
            if path.startswith(folder):
                return path[len(folder) :]
        for folder in (self._cwd, self._scripts):
            if folder and path.startswith(folder):
                return path[len(folder) :]
        return path


def _folder(name: str) -> str:
    return name.rstrip("/") + "/" if name else ""


def _is_in(path: str, folders: list[str]) -> bool:
    return any(folder and path.startswith(folder) for folder in folders)
