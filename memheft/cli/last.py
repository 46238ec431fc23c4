"""The last recording: what the reading verbs take when no file is named."""

from __future__ import annotations

import os

from memheft.cli.errors import HeftError


def _state_file() -> str | None:
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "memheft", "last") if os.path.isabs(base) else None


def remember(path: str) -> None:
    """Keep the name of a new recording, and our folder, as well as we can: no home folder is no error."""
    state = _state_file()
    if state is None:
        return
    temporary = f"{state}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(state), mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(os.fsencode(path) + b"\0" + os.fsencode(os.getcwd()) + b"\n")
        os.replace(temporary, state)
    except OSError:
        pass


def find() -> str:
    """The path of the last recording: of the current folder if it has one, else of any.

    Of the current folder are those that lie in it, and what was last recorded from it, wherever it lies.
    """
    import glob

    path, folder = _remembered()
    here = [name for name in glob.glob("*.heft") if os.path.isfile(name)]
    if path is not None and (not here or _is_here(folder)):
        here.append(path)
    if here:
        return max(here, key=_changed)
    raise HeftError(
        "no recording named, and there is no last one", "memheft run SCRIPT makes one", code="missing"
    )


def _remembered() -> tuple[str | None, str]:
    """What was last recorded, if it still exists, and from which folder."""
    state = _state_file()
    if state is None:
        return None, ""
    try:
        with open(state, "rb") as file:
            path, _, folder = os.fsdecode(file.read(65536).removesuffix(b"\n")).partition("\0")
        return (path if path and os.path.isfile(path) else None), folder
    except (OSError, ValueError):
        return None, ""


def _is_here(folder: str) -> bool:
    try:
        return os.path.samefile(folder, ".")
    except (OSError, ValueError):
        return False


def _changed(name: str) -> float:
    try:
        return os.stat(name).st_mtime
    except OSError:
        return 0.0


def shown(path: str) -> str:
    """The path as short as it can be typed in the current folder."""
    try:
        folder = os.getcwd()
    except OSError:
        return path
    near = path.removeprefix(folder + "/")
    return f"./{near}" if near.startswith("-") else near
