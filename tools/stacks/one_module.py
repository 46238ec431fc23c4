# SPDX-License-Identifier: MIT
"""Run one module of tests and note each test's outcome: the program that is run with and without memheft.

    one_module.py OUTCOMES cpython test_generators        a module of CPython's own tests
    one_module.py OUTCOMES module greenlet.tests.test_gc  any other module of unittest's kind
    one_module.py OUTCOMES script PATH                    a script that calls unittest.main() or its like

OUTCOMES gets a line for each outcome: `[test, outcome]` in JSON.  It is written to while the tests run, so it
says how far a module came that crashed or did not end.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import unittest
from collections.abc import Callable
from typing import Any

OUTCOMES = {
    "addSuccess": "passed",
    "addFailure": "failed",
    "addError": "error",
    "addSkip": "skipped",
    "addExpectedFailure": "failed as expected",
    "addUnexpectedSuccess": "passed unexpectedly",
}


class Notes:
    """The file of outcomes.  It is opened for each line: tests count, close and forbid descriptors."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.process = os.getpid()

    def write(self, test: object, outcome: str) -> None:
        """Note one outcome, unless this is a process that a test has forked."""
        if os.getpid() != self.process:
            return
        name = test.id() if isinstance(test, unittest.TestCase) else str(test)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, json.dumps([name, outcome]).encode() + b"\n")
        finally:
            os.close(file)

    def watch(self) -> None:
        """See the outcomes of every runner: whatever collects them comes down to unittest's own class."""
        for name, outcome in OUTCOMES.items():
            setattr(unittest.TestResult, name, self.noting(getattr(unittest.TestResult, name), outcome))
        subtest = unittest.TestResult.addSubTest

        def add_subtest(result: unittest.TestResult, test: Any, sub: Any, error: Any) -> None:
            if error is not None:
                self.write(test, "failed in a subtest")
            subtest(result, test, sub, error)

        changed: Any = unittest.TestResult
        changed.addSubTest = add_subtest

    def noting(self, method: Callable[..., None], outcome: str) -> Callable[..., None]:
        """One of unittest's methods, with a note before it."""

        def noted(result: unittest.TestResult, test: object, *rest: Any) -> None:
            self.write(test, outcome)
            method(result, test, *rest)

        return noted


def run_module(name: str) -> bool:
    """Run a module's tests; whether all is well."""
    module = importlib.import_module(name)
    if hasattr(module, "test_main"):
        module.test_main()  # older modules of CPython; raises if a test fails
        return True
    tests = unittest.defaultTestLoader.loadTestsFromModule(module)
    return unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful()


def run_cpython(name: str) -> bool:
    """Run a module of CPython's as `python -m test` does with no -u: no network, nothing huge, no window."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = {}
    support.verbose = 0
    try:
        return run_module(f"test.{name}")
    except support.TestFailed as error:
        print(error, file=sys.stderr)
        return False


def main() -> None:
    """Run what the command line names."""
    outcomes, kind, name = sys.argv[1:]
    notes = Notes(outcomes)
    notes.watch()
    del sys.path[0]  # this file's folder
    sys.argv[:] = [name]
    try:
        if kind == "script":
            sys.path.insert(0, os.path.dirname(name))
            runpy.run_path(name, run_name="__main__")
            good = True
        else:
            good = run_cpython(name) if kind == "cpython" else run_module(name)
    except unittest.SkipTest as reason:
        print(f"skipped: {reason}", file=sys.stderr)
        notes.write(name, "skipped")
        good = True
    sys.exit(not good)


if __name__ == "__main__":
    main()
