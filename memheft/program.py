"""The program that is recorded: what a reader must know of it, and what its recording may be called.

`memheft run` describes the program that it will become; the API and MEMHEFT= the one that they are in.  What
is imported here, each of them pays for: as little as can be.
"""

from __future__ import annotations

import errno
import os
import site
import stat
import sys
import time

from memheft._version import __version__

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"\x89HEFT\r\n\x1a"
DEFAULT_NAME = "{script}.{pid}.heft"


def package_folder() -> str:
    """Where the package memheft lies."""
    return os.path.dirname(os.path.abspath(__file__))


def scripts_folder() -> str:
    """Where installers put commands: sysconfig's `scripts`, without importing sysconfig.

    Debian keeps what an installer brings under /usr/local, though the prefix is /usr: the folder of packages
    tells, which is PREFIX/lib/pythonX.Y/site-packages.
    """
    prefix = sys.prefix
    packages = site_folders()
    if packages:
        prefix = os.path.dirname(os.path.dirname(os.path.dirname(packages[0])))
    return os.path.join(prefix, "bin")


def site_folders() -> list[str]:
    """Where packages are installed, also while `site` is still at work: it learns of an environment late."""
    return site.getsitepackages(list(dict.fromkeys([sys.prefix, sys.exec_prefix, *site.PREFIXES])))


# -- its description ---------------------------------------------------------------------------------------


class Program:
    """The program of this process, as the interpreter's command line names it; it need not have begun."""

    def __init__(self) -> None:
        self.argv = list(sys.orig_argv)
        self.kind, self.code = "stdin", None
        word = self._target()
        self.label = {"code": "-c", "stdin": "standard input"}.get(self.kind, word)
        self.file_label = {"code": "command", "stdin": "stdin"}.get(self.kind, word)
        if self.kind == "script":
            self.label = os.path.basename(os.path.normpath(word))
            self.file_label = stem_of(self.label)
            if os.path.dirname(os.path.abspath(word)) == scripts_folder():
                self.kind = "command"

    code: str | None

    def _target(self) -> str:
        """The script or module; sets kind and code."""
        words = iter(self.argv[1:])
        for word in words:
            if word == "--" or word == "-" or not word.startswith("-"):
                script = next(words, "-") if word == "--" else word
                self.kind = "stdin" if script == "-" else "script"
                return script
            if word.startswith("--"):
                if word == "--check-hash-based-pycs":
                    next(words, "")
                continue
            for at, letter in enumerate(word):
                if at and letter in "cmWX":
                    value = word[at + 1 :] or next(words, "")
                    if letter == "c":
                        self.kind, self.code = "code", value
                    if letter == "m":
                        self.kind = "module"
                    if letter in "cm":
                        return value
                    break
        return ""

    def meta(self) -> bytes:
        """Its description."""
        return meta_of(self.argv, self.kind, self.label, self.code, sys.executable or "")


def stem_of(script: str) -> str:
    """A script's name without its ending."""
    stem = script
    for ending in (".py", ".pyw", ".pyz", ".pyc"):
        stem = stem.removesuffix(ending)
    return stem or script


def meta_of(argv: list[str], kind: str, label: str, code: str | None, executable: str) -> bytes:
    """What a reader must know of the program, and cannot find out on another machine."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib_folders = [
        os.path.dirname(os.path.abspath(os.__file__)),
        os.path.join(sys.base_exec_prefix, sys.platlibdir, version),
    ]
    now = time.time()
    document = {
        "command": argv,
        "kind": kind,
        "script": label,
        "code": code,
        "cwd": _cwd(),
        "python": sys.version.split()[0],
        "executable": executable,
        "memheft": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
        "stdlib": _unique(stdlib_folders),
        "site": _unique([*site_folders(), site.getusersitepackages()]),
        "scripts": scripts_folder(),
        "package": package_folder(),
        "prefix": sys.prefix,
        "host": os.uname().nodename,
    }
    return json_of(document).encode("ascii")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed meanwhile
        return ""


def json_of(document: dict[str, str | list[str] | None]) -> str:
    """json.dumps for what stands above: importing json costs a quarter of Python's own start."""
    try:
        from _json import encode_basestring_ascii as quote
    except ImportError:  # a Python built without it
        from json.encoder import encode_basestring_ascii as quote

    def value(thing: str | list[str] | None) -> str:
        if isinstance(thing, list):
            return "[" + ", ".join(map(quote, thing)) + "]"
        return "null" if thing is None else quote(thing)

    return "{" + ", ".join(f"{quote(key)}: {value(thing)}" for key, thing in document.items()) + "}"


def _unique(folders: list[str]) -> list[str]:
    """Each folder once, by the name given and by its real one: an interpreter may report either."""
    both = [name for folder in folders if folder for name in (folder, os.path.realpath(folder))]
    return list(dict.fromkeys(os.path.abspath(name) for name in both))


# -- its recording's name ----------------------------------------------------------------------------------


def recording_file(path: str, label: str, number: int = 1) -> str:
    """Where a recording of the program `label` goes, absolute: `path` filled in, or a name in it, a folder.

    `number` is its {n}, 1 where a program is recorded as a whole. Raises ValueError for a field that is none,
    NotADirectoryError or FileNotFoundError if the path ends in a / and is no folder, and OSError without a
    file's name if it is relative to a current folder that was removed.
    """

    def unknown(word: str) -> str:
        raise ValueError(f"the name of a recording knows {{pid}}, {{script}} and {{n}}, but no {word}")

    fields = {"pid": str(os.getpid()), "script": label.replace(os.sep, "-"), "n": str(number)}
    filled = fill(path, fields, unknown)
    if os.path.isdir(filled):
        filled = os.path.join(filled, fill(DEFAULT_NAME, fields, unknown))
    elif filled.endswith(os.sep):
        code = errno.ENOTDIR if os.path.exists(filled.rstrip(os.sep)) else errno.ENOENT
        raise OSError(code, os.strerror(code), filled)
    return os.path.abspath(filled)


def fill(text: str, fields: dict[str, str], otherwise: Callable[[str], str]) -> str:
    """Put the fields into a name: `{pid}`.  A word in braces that is none goes through `otherwise`."""
    out = ""
    while True:
        before, brace, rest = text.partition("{")
        out += before
        if not brace:
            return out
        word, end, after = rest.partition("}")
        if end and all(letter == "_" or (letter.isascii() and letter.isalpha()) for letter in word):
            out += fields[word] if word in fields else otherwise("{" + word + "}")
            text = after
        else:
            out += brace
            text = rest


def not_to_overwrite(path: str) -> str | None:
    """Why this is no recording that may be overwritten; None if it is one, or nothing.  Raises OSError."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        if status.st_size:
            with open(path, "rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    return "exists and is not a recording"
    except FileNotFoundError:
        pass
    return None


# -- sizes -------------------------------------------------------------------------------------------------


def size_of(text: str) -> int | None:
    """Bytes as people write them: 10 MiB is 10 * 1024 * 1024, 10 MB 10 * 1000 * 1000; None: it is no size.

    Without `re`, which `memheft run` does not import.
    """
    text = text.strip()
    unit = text.lstrip("0123456789_.")
    number = decimal_of(text.removesuffix(unit))
    power, base = unit.lstrip().lower().removesuffix("b"), 1000
    if len(power) == 2 and power[1] == "i":
        power, base = power[0], 1024
    if number is None or power not in _POWERS:
        return None
    size = number * base ** _POWERS.index(power)
    return round(size) if size < float("inf") else None


_POWERS = ("", "k", "m", "g", "t", "p", "e")


def decimal_of(text: str) -> float | None:
    """A number without sign and exponent, as in 12.5 or 1_000_000; None: it is none."""
    whole, point, fraction = text.partition(".")
    parts = [*whole.split("_"), *([fraction] if point else [])]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        return None
    number = float(text)
    return number if number < float("inf") else None


DEFAULT_INTERVAL = 512 * 1024  # bytes between two samples, on average


def interval_of(text: str | None) -> int:
    """The mean distance of samples in bytes, as somebody has typed it: 512KiB, 1_000_000; None: the default.

    Raises ValueError if it is none.
    """
    if text is None:
        return DEFAULT_INTERVAL
    interval = size_of(text)
    if interval is None or not 1 <= interval < 1 << 50:
        raise ValueError(f"{text!r} is no mean distance of samples, such as 512KiB")
    return interval
