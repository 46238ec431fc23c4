# SPDX-License-Identifier: MIT
"""Steps: named pieces of work with a log each, two at a time, and the account of them at the end."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

CMOCKA_LINE = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+)$", re.MULTILINE)
CMOCKA_TOTAL = re.compile(r"^\[=+\] .* Running \d+ test", re.MULTILINE)
MESON_COUNT = re.compile(
    r"^(Ok|Expected Fail|Fail|Unexpected Pass|Skipped|Timeout):\s+(\d+)\s*$", re.MULTILINE
)


class StepError(Exception):
    """The step has failed, and why in one line."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    output: str


@dataclass
class Count:
    """Tests by outcome."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        """Add the numbers of another count."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


@dataclass
class Step:
    """A piece of work; `work` gets the step to log to, and raises StepError when it fails."""

    name: str
    work: Callable[[Step], None]
    log: Path
    count: Count = field(default_factory=Count)
    seconds: float = 0.0
    error: str | None = None

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 1500,
        shown: str = "",
    ) -> Done:
        """Run a command with its output in the log, where it is called `shown`."""
        words = [str(word) for word in command]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {shown or shlex.join(words)}\n")
            log.flush()
            start = log.tell()
            try:
                status = subprocess.run(
                    words,
                    cwd=cwd,
                    env=dict(env) if env is not None else None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise StepError(f"{words[0]} took more than {timeout:.0f} s") from None
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(start)
            output = log.read()
        if check and status != 0:
            raise StepError(f"{shown.split()[0] if shown else Path(words[0]).name} ended with {status}")
        return Done(status, output)

    def count_meson(self, done: Done) -> None:
        """Count the tests that `meson test -v` ran, one by one where cmocka names them."""
        output = done.output
        outcomes = CMOCKA_LINE.findall(output)
        self.count.passed += sum(1 for outcome, _ in outcomes if outcome == "OK")
        # a failed test is named again in cmocka's own summary
        self.count.failed += len({name for outcome, name in outcomes if outcome == "FAILED"})
        self.count.skipped += len({name for outcome, name in outcomes if outcome == "SKIPPED"})
        programs = {name: int(number) for name, number in MESON_COUNT.findall(output)}
        # programs that are no cmocka tests, and those that died
        silent = sum(programs.values()) - len(CMOCKA_TOTAL.findall(output))
        bad = programs.get("Fail", 0) + programs.get("Timeout", 0) + programs.get("Unexpected Pass", 0)
        if bad:
            self.count.failed = max(self.count.failed, bad)
        self.count.passed += max(0, silent - bad)
        self.expect(done)

    def expect(self, done: Done) -> None:
        """Believe a test runner that says it failed even where no test says so, or none was run."""
        if done.status != 0 and self.count.failed == 0:
            raise StepError(f"the test runner ended with {done.status}")
        if self.count.passed + self.count.failed == 0:
            raise StepError("no test has run")

    def count_junit(self, report: Path, done: Done) -> None:
        """Count the tests of a JUnit report, as pytest writes it."""
        if not report.is_file():
            raise StepError("the test runner left no report")
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
            bad = number["failures"] + number["errors"]
            self.count.failed += bad
            self.count.skipped += number["skipped"]
            self.count.passed += number["tests"] - bad - number["skipped"]
        self.expect(done)


@dataclass
class Book:
    """All steps of a run, and what is said about them."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, name: str, work: Callable[[Step], None]) -> Step:
        """Make a step; it runs when it is handed to do() or do_all()."""
        log = self.folder / "logs" / (re.sub(r"[^\w.+-]+", "-", name) + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
        step = Step(name, work, log)
        self.steps.append(step)
        return step

    def note(self, text: str) -> None:
        """Say something now, and again in the summary."""
        with self.lock:
            self.notes.append(text)
            say(f"note  {text}")

    def do(self, step: Step) -> bool:
        """Run a step; say how it went."""
        began = time.monotonic()
        try:
            step.work(step)
            if step.count.failed:
                step.error = str(step.count)
        except StepError as error:
            step.error = str(error)
        except Exception:
            step.error = "an error in tools/ci"
            with step.log.open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
        step.seconds = time.monotonic() - began
        if step.error is None:
            # a step without tests of its own is one
            step.count.passed += not (step.count.passed or step.count.skipped)
        else:
            step.count.failed = max(step.count.failed, 1)
        with self.lock:
            word = "ok  " if step.error is None else "FAIL"
            say(f"{word}  {step.name:<34} {step.seconds:6.1f} s  {step.error or step.count}")
            if step.error is not None:
                show_log(step.log)
        return step.error is None

    def do_all(self, steps: Sequence[Step], jobs: int) -> None:
        """Run steps that do not need each other, `jobs` at a time, in their order."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            for future in [pool.submit(self.do, step) for step in steps]:
                future.result()

    def close(self, began: float) -> int:
        """Print the account; the exit code of the whole run."""
        total = Count()
        say("")
        for step in self.steps:
            total.add(step.count)
            word = "ok  " if step.error is None else "FAIL"
            say(f"{word}  {step.name:<34} {step.seconds:6.1f} s  {step.count}")
        for text in self.notes:
            say(f"note  {text}")
        failed = [step for step in self.steps if step.error is not None]
        for step in failed:
            say(f"FAIL  {step.name}: {step.error}; see {step.log}")
        say(f"{len(self.steps)} steps in {time.monotonic() - began:.0f} s, {len(failed)} of them failed")
        say(str(total))
        return 1 if failed else 0


def say(text: str) -> None:
    """Print a line at once: the output may be a pipe, and the run long."""
    print(text, flush=True)


def show_log(log: Path, lines: int = 150) -> None:
    """Print the end of a failed step's log."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(text) > lines:
        say(f"      ... {len(text) - lines} lines before these are in {log}")
    for line in text[-lines:]:
        say(f"      {line}")


def clean_env(**changes: str) -> dict[str, str]:
    """The environment without what would make an interpreter or a build another one."""
    dropped = ("PYTHON", "PYENV_", "VIRTUAL_ENV", "MEMHEFT_BOOT", "CFLAGS", "LDFLAGS", "CONDA_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env.update(changes)
    return env


if sys.platform != "linux":
    raise SystemExit("tools/test: memheft is for Linux so far")
