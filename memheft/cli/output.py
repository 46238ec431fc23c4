"""Files that we write for others: whole or not at all, and never over something by accident."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from memheft.cli.errors import HeftError, UsageError
from memheft.program import MAGIC
from memheft.views.stdout import stdout

STDOUT = "-"
HINT = "choose another with -o"


def check(path: str, force: bool) -> None:
    """Raise before the work is done what would be raised after it."""
    if os.path.isfile(path):
        if not force:
            raise _exists(path)
        if _is_recording(path):
            raise UsageError(f"{path} is a recording", "choose another name with -o", code="exists")
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder", "choose another name with -o", code="exists")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        what = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise HeftError(f"{folder} {what}", HINT, code="missing")


def save(path: str, pieces: Iterable[bytes], force: bool) -> None:
    """Write a file under a temporary name beside it, then give it its own."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:  # a device or a pipe: there is nothing to replace
                file.writelines(pieces)
            return
        target = os.path.realpath(path)
        temporary = os.path.join(os.path.dirname(target), f".memheft-{os.getpid()}.part")
        try:
            with open(temporary, "xb") as file:
                file.writelines(pieces)
            _rename(temporary, target, force)
        finally:
            _remove(temporary)
    except OSError as error:
        raise _failure(path, error) from error


def write(pieces: Iterable[bytes], is_binary: bool) -> None:
    """Write to stdout; raises OSError if there is none."""
    out = stdout()
    if is_binary and out.isatty():
        raise UsageError("this format is not for a terminal", "name a file with -o")
    out.buffer.writelines(pieces)


def _rename(temporary: str, target: str, force: bool) -> None:
    """Unless `force`, a file that has appeared meanwhile stays."""
    if not force:
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
    os.replace(temporary, target)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _is_recording(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _exists(path: str) -> UsageError:
    return UsageError(f"{path} exists", "choose another name with -o, or --force to overwrite it", "exists")


def _failure(path: str, error: OSError) -> HeftError:
    if isinstance(error, FileExistsError):
        return _exists(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HeftError(f"no space left for {path}", HINT, code="disk-full")
    return HeftError(f"cannot write {path}: {error.strerror or error}", code="io")
