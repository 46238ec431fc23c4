#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run other projects' tests with every stack compared: they look closely at frames, threads and coroutines.

    tools/check_stacks.py                   CPython's, greenlet's, gevent's, on each CPython there is
    tools/check_stacks.py --python 3.12     on this one (may be repeated)
    tools/check_stacks.py --module NAME     one module (may be repeated)
    VENV/bin/python tools/check_stacks.py --here [--quick]
                                            with what is installed beside that Python, memheft included

Each module runs twice, bare and under `MEMHEFT_CHECK=1 memheft run`: there each stack that the recorder takes
is compared with a walk over all frames, and each test's outcome with that of the bare run.  Exit code 1: a
stack or an outcome differs (tests that are unsteady without memheft are named, no more); 3: there are no such
tests here.  Logs are in build/stacks, the environments in the cache of tools/test.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from functools import partial
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ci.pythons import Python
    from ci.steps import Step

sys.dont_write_bytecode = True

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 3
HOURS = 6 * 3600


def main() -> int:
    """Check this interpreter, or start this program with each that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--python", action="append", metavar="3.X", help="only this Python (may be repeated)")
    option("--here", action="store_true", help="only the Python that runs this; it has memheft installed")
    option("--quick", action="store_true", help="the six modules of CPython's that CI runs, nothing else")
    option("--module", action="append", metavar="NAME", help="only this module (may be repeated)")
    option("--work", type=Path, default=ROOT / "build" / "stacks", metavar="FOLDER", help="for logs")
    given = parser.parse_args()
    given.work = given.work.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    return check_here(given) if given.here else check_all(given)


def check_here(given: argparse.Namespace) -> int:
    """Check the interpreter that runs this."""
    from stacks import compare, suites

    # tests send these to themselves; nohup and `&` have them ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the test that is running
    chosen = suites.modules(given.quick, given.module or [])
    if not chosen:
        print(f"{sys.executable} has no such tests (Debian: libpython3.X-testsuite)", file=sys.stderr)
        return NO_TESTS
    return 0 if compare.Comparison(given.work).run(chosen) else 1


def check_all(given: argparse.Namespace) -> int:
    """Check every interpreter that was asked for, one after the other."""
    from ci import plan
    from ci.steps import Book

    options = plan.parse([f"--python={word}" for word in given.python or ()])
    cache = options.cache / "stacks"
    for folder in (cache, options.cache / "pip"):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PIP_CACHE_DIR", str(options.cache / "pip"))
    book = Book(given.work)
    words = ["--quick"] * given.quick + [f"--module={name}" for name in given.module or ()]
    good = True
    for python in plan.get_pythons(book, options):
        work = given.work / python.name
        work.mkdir(exist_ok=True)
        good &= book.do(book.step(f"stacks: {python.name}", partial(check_one, python, cache, work, words)))
    return 0 if good else 1


def check_one(python: Python, cache: Path, work: Path, words: list[str], step: Step) -> None:
    """Make an environment for one interpreter, with the packages whose tests are run, and check it."""
    from ci.plan import runner
    from ci.steps import StepError, say
    from stacks import suites

    run = runner(python, step, work, cache)
    venv = cache / python.name
    inside = str(venv / "bin" / "python")
    install = [inside, "-m", "pip", "install", "-q"]
    if not venv.is_dir():
        run([python.path, "-m", "venv", str(venv)])
    for package in suites.PACKAGES:
        # a new CPython may have no wheels yet, and not everybody has what a build takes
        if run([*install, "--prefer-binary", package], check=False).status != 0:
            say(f"note  {python.name}: {package} cannot be installed")
    run([*install, "--force-reinstall", str(ROOT)])  # its version does not tell one state from another
    command = [inside, str(Path(__file__).resolve()), "--here", "--work", str(work), *words]
    done = run(command, check=False, timeout=HOURS)
    say(done.output)
    if done.status != 0:
        raise StepError("a stack is wrong, or a test has another outcome than without memheft")


if __name__ == "__main__":
    sys.exit(main())
