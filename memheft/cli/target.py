"""What `memheft run` shall run: a script, a module, a piece of code, or an installed command."""

from __future__ import annotations

import errno
import os
import sys

from memheft.cli.errors import HeftError, UsageError
from memheft.cli.flags import Flags, parse, shebang_of
from memheft.program import scripts_folder, stem_of

TYPE_CHECKING = False  # as in typing, without importing it: `memheft run` starts lean
if TYPE_CHECKING:
    from collections.abc import Sequence


class Target:
    """A program, as the interpreter's command line names it."""

    def __init__(
        self,
        kind: str,
        argv: list[str],
        label: str,
        file_label: str,
        executable: str | None = None,
        flags: Flags | None = None,
    ) -> None:
        self.kind = kind  # script, module, code, command, stdin
        self.argv = argv  # what follows the interpreter's flags
        self.label = label  # the program's name in what we print
        self.file_label = file_label  # {script} of the recording's name
        self.executable = executable  # a command's own interpreter
        self.flags = flags if flags is not None else Flags()  # and the flags of its first line
        self.warning: str | None = None


def resolve(kind: str, words: Sequence[str]) -> Target:
    """Find the program; `kind` is "m", "c" or "" as on the interpreter's command line."""
    if kind == "m":
        if not words or not words[0]:
            raise UsageError("-m needs the name of a module", "memheft run -m MODULE")
        return Target("module", ["-m", *words], words[0], words[0])
    if kind == "c":
        if not words:
            raise UsageError("-c needs the code to run", "memheft run -c 'print(1)'")
        return Target("code", ["-c", *words], "-c", "command")
    if not words:
        raise UsageError(
            "nothing to run", "memheft run SCRIPT, memheft run -m MODULE, or memheft run -c CODE"
        )
    return _script(words)


def _script(words: Sequence[str]) -> Target:
    name = words[0]
    if name == "-":
        return Target("stdin", list(words), "standard input", "stdin")
    if name == "":
        raise UsageError("the name of the script is empty")
    runnable = os.path.isfile(name) or _is_runnable_folder(name)
    if not runnable and os.sep not in name:
        command = _command(name, words)
        if command is not None:
            return command
    if os.path.isdir(name):
        if not runnable:
            hint = "name a script, or a module with -m"
            raise HeftError(f"the folder {name} has no __main__.py", hint, code="missing")
    elif not os.path.lexists(name):
        hint = "no such file here, and no such command on PATH"
        if os.sep in name:
            hint = "no such file"
        elif _looks_like_module(name):
            hint = f"to run a module: memheft run -m {name}"
        raise HeftError(f"cannot find {name}", hint, code="missing")
    elif not os.access(name, os.R_OK):
        reason = os.strerror(errno.EACCES if os.path.exists(name) else errno.ENOENT).lower()
        raise HeftError(f"cannot read {name}", reason, code="io")
    elif os.path.isfile(name) and _is_binary(name):  # reading from a pipe would take from the program
        hint = "memheft records Python programs; name the script"
        raise HeftError(f"{name} is a compiled program, not a Python program", hint, code="foreign")
    label = os.path.basename(os.path.normpath(name))
    target = Target("script", list(words), label, stem_of(label))
    other = _other_python(name) if os.path.isfile(name) else None
    if other is not None:
        if _is_of(name, other):
            raise _of_another_python(name, name, other)
        target.warning = (
            f"the first line of {name} names {other}; it runs in memheft's Python, {sys.executable}"
        )
    return target


def _is_runnable_folder(name: str) -> bool:
    return os.path.isfile(os.path.join(name, "__main__.py")) or os.path.isfile(
        os.path.join(name, "__main__.pyc")
    )


def _looks_like_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py")


def _command(name: str, words: Sequence[str]) -> Target | None:
    """Find an installed console script.  It must belong to our own interpreter: it is what we can record."""
    import shutil

    found = shutil.which(name)
    refusal = None
    if found is not None:
        target, refusal = _console_script(found, name, words)
        if target is not None:
            return target
    ours = os.path.join(scripts_folder(), name)
    if os.path.isfile(ours) and ours != found:
        target, _ = _console_script(ours, name, words)
        if target is not None:
            return target
    if refusal is not None:
        raise refusal
    return None


def _console_script(path: str, name: str, words: Sequence[str]) -> tuple[Target | None, HeftError | None]:
    shebang = shebang_of(path)
    if shebang is None:
        hint = "memheft records Python programs"
        return None, HeftError(f"{path} is not a Python program", hint, code="foreign")
    program, flag_words = _interpreter(*shebang)
    if not program:
        return None, HeftError(f"the first line of {path} names no interpreter", code="foreign")
    if not os.path.basename(program).startswith("python"):
        return None, HeftError(
            f"{path} is started by {program}, not by Python",
            "memheft records Python programs; name the script itself",
            code="foreign",
        )
    if os.sep not in program:
        import shutil

        program = shutil.which(program) or program
    if not _is_this_environment(program):
        return None, _of_another_python(name, path, program)
    flags = Flags()
    flags.extend(parse(flag_words))
    return Target("command", [path, *words[1:]], name, name, executable=program, flags=flags), None


def _of_another_python(name: str, path: str, program: str) -> HeftError:
    """The refusal of a command; it says which memheft can record it."""
    its_own = os.path.join(os.path.dirname(program), "memheft")
    if os.path.isfile(its_own):
        hint = f"use {its_own} run {name}"
    else:
        hint = f"install memheft there: {program} -m pip install memheft"
    of = "" if name == path else f" ({path})"
    return HeftError(f"{name}{of} runs in another Python than memheft: {program}", hint, code="environment")


def _interpreter(program: str, argument: str) -> tuple[str, list[str]]:
    """Take a first line apart: the interpreter, by name alone if `env` looks it up; and its flags."""
    if os.path.basename(program) != "env":
        return program, [argument] if argument else []
    import shlex

    try:
        words = shlex.split(argument.removeprefix("-S").removeprefix("--split-string="))
    except ValueError:
        words = []
    return (words[0], words[1:]) if words else ("", [])


def _other_python(path: str) -> str | None:
    """Return the Python that a script's first line names, if it is there and not the one that we run in.

    `env python3` names none: that is whichever Python the user has chosen, and here it is ours.
    """
    shebang = shebang_of(path)
    if shebang is None:
        return None
    program, _ = _interpreter(*shebang)
    name = os.path.basename(program)
    if not name.startswith("python"):
        return None
    if os.sep not in program:
        import shutil

        if name in ("python", "python3", f"python3.{sys.version_info[1]}"):
            return None
        program = shutil.which(program) or ""
    if not sys.executable or not _is_binary(program) or _is_this_environment(program):
        return None  # (a wrapper, such as pyenv's, may start any)
    return program


def _is_of(path: str, program: str) -> bool:
    """Say whether a script is a command of that Python's environment; others merely name it."""
    folder = os.path.realpath(os.path.dirname(program))
    if folder in (os.path.realpath(os.path.dirname(path)), os.path.dirname(os.path.realpath(path))):
        return True
    try:
        with open(path, "rb") as file:
            text = file.read(4096)
    except OSError:
        return False
    # what pip, uv and setuptools write
    return b"sys.exit(" in text and (b"sys.argv[0] = " in text or b"load_entry_point(" in text)


def _is_binary(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _is_this_environment(program: str) -> bool:
    """Say whether it is the interpreter we run in, by whatever name."""
    if not sys.executable:
        return False
    try:
        if os.path.samefile(program, sys.executable):
            return _environment(program) == _environment(sys.executable)
    except OSError:
        return False
    # an environment may hold copies of one interpreter: python, python3, python3.12
    ours = _environment(sys.executable)
    if ours is None or _environment(program) != ours:
        return False
    return os.path.basename(program) in ("python", "python3", f"python3.{sys.version_info[1]}")


def _environment(program: str) -> str | None:
    """The virtual environment that an interpreter of this name runs in; None outside of any."""
    folder = os.path.dirname(os.path.abspath(program))
    for place in (folder, os.path.dirname(folder)):
        if os.path.isfile(os.path.join(place, "pyvenv.cfg")):
            return os.path.realpath(place)
    return None
