"""The command `memheft`: finds the verb, and turns every failure into one line and an exit code.

Nothing but the verb that was asked for is imported: `memheft --version` costs what Python costs.
"""

from __future__ import annotations

import os
import sys

from memheft._version import __version__
from memheft.cli.errors import HeftError, UsageError

TYPE_CHECKING = False  # as in typing, without importing it: `memheft run` starts lean
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "run": "record every allocation of a program; say where its peak was",
    "report": "where the memory is: by line, function, file, thread, stack",
    "diff": "what grew and what shrank between two recordings",
    "export": "for other tools: pprof, speedscope, flame graphs, CSV, Parquet",
    "plot": "memory over time, of one or more recordings, as SVG or PNG",
    "info": "what a recording is, how it was taken, whether it is complete",
}

HELP = """\
memheft says where the memory of a Python program is.

  memheft run app.py --fast           record a program, print where its peak was
  memheft run -m pytest tests         the same for a module
  memheft report                      the last recording, line by line
  memheft report app.7.heft --tree    as a tree of calls
  memheft diff old.heft new.heft      what grew between two recordings
  memheft export -o app.pb.gz         for another tool, here pprof
  memheft info app.7.heft             what a recording is, and if it is complete

verbs (may be abbreviated; memheft VERB --help says more):
{verbs}

options:
  -h, --help     show this and exit
  --version      show the version and exit

exit codes: 0 done, 1 memheft failed (a file cannot be found, read or written),
2 wrong usage, 3 a budget was exceeded; `memheft run` gives that of the program.
MEMHEFT_DEBUG=1 shows an error's traceback. NO_COLOR is honoured.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except HeftError as error:
        return _fail(error, args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`memheft report | head`): so do we, without a word.
        _silence_stdout()
        return 141
    except OSError as error:
        # An error without a file's name is one of our output.
        what = error.filename if error.filename is not None else "cannot write the output"
        if error.filename is None:
            _silence_stdout()
        return _fail(HeftError(f"{what}: {error.strerror or error}", code="io"), args)
    except Exception as error:
        kind = type(error).__name__
        text = f"{kind}: {error}" if str(error) else kind
        return _fail(HeftError(text, "MEMHEFT_DEBUG=1 shows where", code="internal"), args)


def _dispatch(args: list[str]) -> int:
    if not args:
        raise UsageError("no verb given", "run, report, diff, export, plot or info; memheft --help says more")
    first, rest = args[0], args[1:]
    if first in ("--version", "-V"):
        _print(f"memheft {__version__}\n")
        return 0
    if first in ("--help", "-h", "help") and not (first == "help" and rest):
        verbs = "\n".join(f"  {name:<14} {text}" for name, text in VERBS.items())
        _print(HELP.format(verbs=verbs))
        return 0
    if first == "help":
        first, rest = rest[0], ["--help"]
    return _verb(first)(rest)


def _print(text: str) -> None:
    from memheft.views.stdout import stdout  # not for `memheft run`

    stdout().write(text)


def _verb(word: str) -> Callable[[list[str]], int]:
    found = [name for name in VERBS if name == word] or [
        name for name in VERBS if word and name.startswith(word)
    ]
    if len(found) != 1:
        if len(found) > 1:
            raise UsageError(f"{word!r} may be {' or '.join(found)}", "memheft --help lists the verbs")
        if word.startswith("-"):
            raise UsageError(f"unknown option {word}", "memheft --help lists the options")
        hint = "memheft --help lists the verbs"
        if os.path.exists(word):
            hint = f"memheft report {word}" if word.endswith(".heft") else f"memheft run {word}"
            hint = f"did you mean: {hint}"
        raise UsageError(f"there is no verb {word!r}", hint)
    if found[0] == "run":
        from memheft.cli import run

        return run.main
    if found[0] == "report":
        from memheft.cli import report

        return report.main
    if found[0] == "diff":
        from memheft.cli import diff

        return diff.main
    if found[0] == "export":
        from memheft.cli import export

        return export.main
    if found[0] == "plot":
        from memheft.cli import plot

        return plot.main
    from memheft.cli import info

    return info.main


def _fail(error: HeftError, args: list[str]) -> int:
    """Say it on stderr, and as JSON on stdout when JSON was asked for."""
    if _debugging():
        import traceback

        traceback.print_exception(error)
    if "--json" in args and args[0] != "run":
        import json

        document = {
            "schema": "memheft.error",
            "version": 1,
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
        }
        try:
            print(json.dumps(document), flush=True)
        except (OSError, ValueError):
            _silence_stdout()
    if sys.stderr is not None:
        line = error.line().encode("utf-8", "backslashreplace").decode("utf-8")
        try:
            print(line, file=sys.stderr)
        except OSError:
            pass
        except UnicodeEncodeError:
            print(line.encode("ascii", "backslashreplace").decode("ascii"), file=sys.stderr)
    return error.exit_code


def _silence_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes stdout at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass


def _debugging() -> bool:
    return os.environ.get("MEMHEFT_DEBUG", "") not in ("", "0")
