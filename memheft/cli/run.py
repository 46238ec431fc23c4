"""`memheft run`: make a recording, then become the program.

    memheft run app.py     this process: options, target, recording file
       |-- fork twice -->  the watcher (watcher.py): sleeps until the program ends, draws the summary
       '-- execve ------>  python app.py, in the same process; memheft.pth starts the recording there

The program is what it would be without us: its command line, its environment, its descriptors, its process.
So the environment handed on is the one that this process was given, not what Python made of it since, and
every descriptor opened here is closed by the execve.
"""

from __future__ import annotations

import errno
import os
import site
import sys

from memheft import note
from memheft.cli import engine
from memheft.cli.errors import HeftError, UsageError
from memheft.cli.flags import Flags, of_this_interpreter
from memheft.cli.target import Target, resolve
from memheft.program import (
    DEFAULT_INTERVAL,
    DEFAULT_NAME,
    interval_of,
    meta_of,
    not_to_overwrite,
    recording_file,
)

# What is imported here is paid for by every recorded program, in time before it starts: so no argparse, no
# re, no json, no dataclasses, and typing's names only for the type checker.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from memheft.cli.parser import Parser

DESCRIPTION = """\
Record every allocation of a program; at its end say where its peak was.

  memheft run app.py --fast            a script and its arguments
  memheft run -m pytest tests          a module
  memheft run -c 'import decimal'      a piece of code
  memheft run black src                an installed command
  memheft run -o /tmp/{script}.heft app.py

All that follows the program's name belongs to the program.
"""

EPILOG = """\
Python's own -b -B -d -E -I -O -OO -P -s -u -v -W -X are handed on.
{pid} and {script} in FILE stand for the process and the program; the default
is {script}.{pid}.heft. A command is looked up on PATH, then beside memheft; it
must belong to the Python that memheft belongs to.

exit code: the program's own; before it began, 1 memheft failed (a file cannot
be found, read or written), 2 wrong usage.
"""

OWN_LETTERS = "fhoq"
PYTHON_LETTERS = "bBdEIOPRsuvWX"


class CommandLine:
    """`memheft run` taken apart: our options, the interpreter's, and the target."""

    def __init__(self) -> None:
        self.own: list[str] = []
        self.flags = Flags()
        self.kind = ""  # "m", "c" or "" for a script
        self.target: list[str] = []


def split(args: Sequence[str]) -> CommandLine:
    """Find where the target begins.  argparse cannot: to it, `-o` after the target would be ours."""
    line = CommandLine()
    i = 0
    while i < len(args):
        word = args[i]
        i += 1
        if word == "--":
            line.target = list(args[i:])
            break
        if word == "-" or not word.startswith("-"):
            line.target = list(args[i - 1 :])
            break
        if word.startswith("--"):
            line.own.append(word)
            if word == "--sample" and i < len(args) and _is_size(args[i]):
                line.own[-1] += "=" + args[i]
                i += 1
            if len(word) > 2 and "--output".startswith(word) and i < len(args):
                line.own.append(args[i])
                i += 1
            continue
        i, done = _cluster(word, args, i, line)
        if done:
            break
    return line


def _is_size(word: str) -> bool:
    """`--sample` takes the next word only if it is a size: mostly it is the program."""
    if not word[:1].isdigit():
        return False
    try:
        interval_of(word)
    except ValueError:
        return False
    return True


def _cluster(word: str, args: Sequence[str], i: int, line: CommandLine) -> tuple[int, bool]:
    """Take letters behind one dash, such as `-q`, `-OO`, `-Xdev`, `-qm`; true when the target follows."""
    kept = "-"  # the interpreter's letters of this word
    at = 1
    while at < len(word):
        letter, value = word[at], word[at + 1 :]
        at += 1
        if letter in "mcoWX":
            values = list(args[i:]) if letter in "mc" else list(args[i : i + 1])
            if value:
                values = [value, *args[i:]] if letter in "mc" else [value]
            else:
                i += 1
            if letter in "WX":
                # Kept as it was typed: -Xdev stays one word, -X dev stays two.
                line.flags.add(kept + letter + value)
                if not value:
                    if not values:
                        raise UsageError(f"-{letter} needs a value")
                    line.flags.typed += values
            else:
                if len(kept) > 1:
                    line.flags.add(kept)
                if letter == "o":
                    line.own += ["-o", *values]
                else:
                    line.kind, line.target = letter, values
            return i, letter in "mc"
        if letter == "S":
            raise UsageError(
                "-S cannot be recorded: the recording starts in what -S leaves out", "leave out -S"
            )
        if letter in PYTHON_LETTERS:
            kept += letter
        elif letter in OWN_LETTERS:
            line.own.append("-" + letter)
        else:
            raise UsageError(f"unknown option -{letter}", "memheft run --help lists the options")
    if len(kept) > 1:
        line.flags.add(kept)
    return i, False


class Options:
    """Our own options."""

    def __init__(self) -> None:
        self.output: str | None = None
        self.force = False
        self.quiet = False
        self.sample: str | None = None


def parse_own(words: Sequence[str]) -> Options:
    """Our own options from what `split` has left; anything but the plain forms is argparse's."""
    options = Options()
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if word in ("-f", "--force"):
            options.force = True
        elif word in ("-q", "--quiet"):
            options.quiet = True
        elif word == "--sample" or word.startswith("--sample="):
            options.sample = word.partition("=")[2] or str(DEFAULT_INTERVAL)
        elif word in ("-o", "--output") and i < len(words):
            options.output = words[i]
            i += 1
        else:
            return parser().parse_args(list(words), Options())
    return options


def parser() -> Parser:
    """Our own options as argparse sees them: for --help, abbreviations and errors."""
    from memheft.cli.parser import Parser

    made = Parser("run", "[options] SCRIPT | -m MODULE | -c CODE | COMMAND [args ...]", DESCRIPTION, EPILOG)
    made.add_argument(
        "-o", "--output", metavar="FILE", help="the recording: a file, or a folder to put it into"
    )
    made.add_argument("-f", "--force", action="store_true", help="overwrite a recording of that name")
    made.add_argument(
        "--sample",
        metavar="SIZE",
        nargs="?",
        const=str(DEFAULT_INTERVAL),
        help="record one allocation in SIZE bytes (default: 512KiB): nearly free, numbers with an error",
    )
    made.add_argument("-q", "--quiet", action="store_true", help="no summary at the end")
    return made


def main(args: Sequence[str]) -> int:
    """Run the verb; comes back only when something failed before the program began."""
    stderr = _reserve_standard_descriptors()
    line = split(args)
    options = parse_own(line.own)
    try:
        interval = interval_of(options.sample) if options.sample is not None else 0
    except ValueError as error:
        raise UsageError(f"--sample: {error}") from None
    target = resolve(line.kind, line.target)
    flags = _all_flags(line.flags, target)

    engine.require()
    from memheft import _engine

    reason = _engine.supported()
    if reason is not None:
        raise HeftError(reason, "no recording was made, the program was not started", code="unsupported")
    environment = _given_environment()
    path = _output_path(options.output, target.file_label, options.force)
    argv = [_argv0(target), *flags.typed, *target.argv]
    executable = target.executable or sys.executable
    if not executable:
        raise HeftError(
            "this Python does not know its own path (sys.executable is empty)", code="unsupported"
        )
    _prepare_start(environment, flags, _engine.__file__, path)

    pidfd, why_not = _watchable()
    code = target.argv[1] if target.kind == "code" else None
    meta = meta_of(argv, target.kind, target.label, code, executable)
    _create(path, meta, options.force, pidfd is not None, interval)
    note.write(path)
    if target.warning is not None:
        _say(f"memheft: warning: {target.warning}")
    try:
        if pidfd is not None:
            from memheft.cli import watcher

            watcher.start(path, pidfd, None if options.quiet else stderr)
        elif not options.quiet:
            _say(f"memheft: no summary at the end, {why_not}; see: memheft report {path}")
        _flush_standard_streams()
        os.execve(executable, argv, environment)
    except OSError as error:
        _remove(path)
        raise HeftError(f"cannot start {executable}: {error.strerror}", code="start") from error


# -- the process -------------------------------------------------------------------------------------------


def _watchable() -> tuple[int | None, str]:
    """Open ourselves for the watcher; None and the reason when there can be no watcher."""
    if os.getpid() == 1:
        return None, "this is process 1"  # the orphaned watcher would become the program's child
    try:
        return os.pidfd_open(os.getpid()), ""
    except OSError as error:
        return None, f"this system cannot watch a process ({error.strerror})"


def _reserve_standard_descriptors() -> int | None:
    """Fill closed descriptors among 0, 1, 2: nothing we open may land there.  The execve closes them again.

    The result is the descriptor for our messages: 2, or None when stderr is closed.
    """
    stderr: int | None = 2
    try:
        os.fstat(2)
    except OSError:
        stderr = None
    while True:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
            return stderr


def _given_environment() -> dict[bytes, bytes]:
    """Return the environment as this process was given it.

    Python itself sets LC_CTYPE in a C locale, a .pth file may set anything; both will do so again there.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    environment: dict[bytes, bytes] = {}
    for word in words:
        name, sep, value = word.partition(b"=")
        if sep and name:
            environment.setdefault(name, value)
    return environment


def _all_flags(given: Flags, target: Target) -> Flags:
    """Join the flags of the interpreter we run in, of the command's first line, and those given to run."""
    flags = of_this_interpreter()
    flags.extend(target.flags)
    flags.extend(given)
    if flags.has("S"):
        raise UsageError(
            "python -S cannot be recorded: the recording starts in what -S leaves out", "leave out -S"
        )
    return flags


def _argv0(target: Target) -> str:
    """How the user calls the interpreter: `python`, if that is how we were called."""
    if target.executable is not None:
        return target.executable
    name = sys.orig_argv[0] if sys.orig_argv else ""
    if not name or os.path.basename(name) == name:
        found = _on_path(name) if name else None
    else:
        found = os.path.abspath(name)
    return name if found is not None and found == sys.executable else sys.executable


def _on_path(name: str) -> str | None:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _prepare_start(environment: dict[bytes, bytes], flags: Flags, extension: str | None, path: str) -> None:
    """Put into the environment what makes the new interpreter start the recording."""
    boot = f"{os.getpid()}|{extension}|{path}"  # ours will be the program's
    if "|" in path or extension is None or "|" in extension:
        raise UsageError(f"the path {path} holds a |", "choose another with -o")
    environment[b"MEMHEFT_BOOT"] = os.fsencode(boot)
    if _reads_our_pth(flags):
        return
    if flags.has("EI"):
        letter = "-I" if flags.has("I") else "-E"
        raise HeftError(
            f"{letter} works only where memheft is installed as a package: memheft.pth is not in "
            f"{site.getsitepackages()[0]}",
            "pip install memheft, or leave out " + letter,
            code="start",
        )
    launch = os.fsencode(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "launch"))
    if os.fsencode(os.pathsep) in launch:
        raise HeftError(f"memheft lies in a folder with a : in its name: {os.fsdecode(launch)}", code="start")
    before = environment.get(b"PYTHONPATH")
    if before is not None:
        environment[b"MEMHEFT_PYTHONPATH"] = before
    environment[b"PYTHONPATH"] = launch + b":" + before if before else launch


def _reads_our_pth(flags: Flags) -> bool:
    """Say whether the new interpreter will read memheft.pth."""
    folders = list(site.getsitepackages())
    if site.ENABLE_USER_SITE and not flags.has("sI"):
        folders.append(site.getusersitepackages())
    for folder in folders:
        try:
            with open(os.path.join(folder, "memheft.pth"), encoding="utf-8") as file:
                if "MEMHEFT_BOOT" in file.read(4096):
                    return True
        except (OSError, ValueError):
            continue
    return False


# -- the recording -----------------------------------------------------------------------------------------


def _output_path(output: str | None, label: str, force: bool) -> str:
    """Where the recording goes, absolute."""
    if output == "":
        raise UsageError("-o needs the name of a file or a folder")
    try:
        path = recording_file(output or DEFAULT_NAME, label)
    except ValueError as error:
        raise UsageError(f"-o: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise HeftError(
                "the current folder does not exist any more", "choose one with -o", code="io"
            ) from error
        what = "is not a folder" if error.errno == errno.ENOTDIR else "does not exist"
        raise HeftError(f"{error.filename} {what}", "choose another with -o", "missing") from error
    if force:
        _check_overwrite(path)
    return path


def _check_overwrite(path: str) -> None:
    """--force is for recordings: a slip such as `-o app.py` must not cost the program."""
    try:
        problem = not_to_overwrite(path)
    except OSError as error:
        raise HeftError(f"cannot overwrite {path}: {error.strerror}", code="io") from error
    if problem is not None:
        hint = "choose another name with -o"
        if problem.startswith("exists"):
            hint = f"--force overwrites recordings only; {hint}"
        raise UsageError(f"{path} {problem}", hint, code="exists")


def _create(path: str, meta: bytes, force: bool, with_watcher: bool, interval: int) -> None:
    from memheft import _engine

    try:
        _engine.create(path, meta, force, with_watcher, interval)
    except OSError as error:
        raise _creation_error(path, error) from error
    except _engine.EngineError as error:
        raise HeftError(f"cannot create the recording {path}: {error}", code=error.code) from error


def _creation_error(path: str, error: OSError) -> HeftError:
    folder = os.path.dirname(path)
    if error.errno == errno.EEXIST:
        return UsageError(
            f"{path} exists", "choose another name with -o, or --force to overwrite it", code="exists"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(folder):
        what = (
            "is not a folder" if os.path.exists(folder) or error.errno == errno.ENOTDIR else "does not exist"
        )
        return HeftError(f"{folder} {what}", "choose another with -o", "missing")
    if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
        # ENOENT: the folder is there, but nobody can make files in it, as in /proc
        text = (error.strerror or "").lower() if error.errno != errno.ENOENT else "it takes no new files"
        return HeftError(
            f"cannot write the recording into {folder}: {text}", "choose another folder with -o", "io"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HeftError(
            f"no space left in {folder} for the recording", "choose another folder with -o", "disk-full"
        )
    return HeftError(f"cannot create the recording {path}: {error.strerror or error}", code="io")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _say(text: str) -> None:
    if sys.stderr is not None:
        try:
            print(text, file=sys.stderr)
        except (OSError, ValueError):
            pass


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
