"""What `memheft run` shall run: a script, a module, a piece of code, or an installed command."""

from __future__ import annotations

import os
import site
import sys

from memheft.cli.errors import HeftError, UsageError
from memheft.cli.flags import Flags, parse, shebang_of

TYPE_CHECKING = False  # as in typing, without importing it: `memheft run` starts lean
if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT_ENDINGS = (".py", ".pyw", ".pyz", ".pyc")


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


def resolve(kind: str, words: Sequence[str]) -> Target:
    """Find the program; `kind` is "m", "c" or "" as on the interpreter's command line."""
    if kind == "m":
        if not words:
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
            raise UsageError(f"the folder {name} has no __main__.py", "name a script, or a module with -m")
    elif not os.path.lexists(name):
        hint = "no such file here, and no such command on PATH"
        if os.sep in name:
            hint = "no such file"
        elif _looks_like_module(name):
            hint = f"to run a module: memheft run -m {name}"
        raise UsageError(f"cannot find {name}", hint, code="missing")
    elif not os.access(name, os.R_OK):
        raise UsageError(f"cannot read {name}", os.strerror(13).lower(), code="missing")
    label = os.path.basename(os.path.normpath(name))
    stem = label
    for ending in _SCRIPT_ENDINGS:
        stem = stem.removesuffix(ending)
    return Target("script", list(words), label, stem or label)


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


def scripts_folder() -> str:
    """Where installers put commands: sysconfig's `scripts`, without importing sysconfig.

    Debian keeps what an installer brings under /usr/local, though the prefix is /usr: the folder of packages
    tells, which is PREFIX/lib/pythonX.Y/site-packages.
    """
    prefix = sys.prefix
    packages = site.getsitepackages()
    if packages:
        prefix = os.path.dirname(os.path.dirname(os.path.dirname(packages[0])))
    return os.path.join(prefix, "bin")


def _console_script(path: str, name: str, words: Sequence[str]) -> tuple[Target | None, HeftError | None]:
    shebang = shebang_of(path)
    if shebang is None:
        return None, UsageError(f"{path} is not a Python program", "memheft records Python programs")
    program, argument = shebang
    flag_words = [argument] if argument else []
    if os.path.basename(program) == "env":
        import shlex
        import shutil

        try:
            inner = shlex.split(
                argument.removeprefix("-S").removeprefix("--split-string=") if argument else ""
            )
        except ValueError:
            inner = []
        if not inner:
            return None, UsageError(f"the first line of {path} names no interpreter")
        program, flag_words = shutil.which(inner[0]) or inner[0], inner[1:]
    if not os.path.basename(program).startswith("python"):
        return None, UsageError(
            f"{path} is started by {program}, not by Python",
            "memheft records Python programs; name the script itself",
        )
    if not _is_this_environment(program):
        return None, HeftError(
            f"{name} ({path}) runs in another Python than memheft: {program}",
            f"install memheft there: {program} -m pip install memheft",
            code="environment",
        )
    flags = Flags()
    flags.extend(parse(flag_words))
    return Target("command", [path, *words[1:]], name, name, executable=program, flags=flags), None


def _is_this_environment(program: str) -> bool:
    """Say whether it is the interpreter we run in, by whatever name.

    The folder counts too: there a virtual environment begins.
    """
    if not sys.executable:
        return False
    folder = os.path.realpath(os.path.dirname(program))
    same_folder = folder == os.path.realpath(os.path.dirname(sys.executable))
    return same_folder and os.path.realpath(program) == os.path.realpath(sys.executable)
