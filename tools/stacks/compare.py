# SPDX-License-Identifier: MIT
"""Run modules of tests with and without memheft in this interpreter, and compare what comes of them.

A result that differs is looked at again: without memheft once more, and recorded once more, this time without
the comparison of stacks, which costs time.  Tests that two bare runs disagree about, or that agree the second
time, are called unsteady; what is different both times is memheft's doing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stacks.suites import Module

ONE_MODULE = Path(__file__).with_name("one_module.py")
BARE_LIMIT = 120.0  # seconds; what takes longer without memheft is left out
SLOWER = 20  # a walk for each allocation takes its time: very much of it at the bottom of a deep recursion
GRACE = 60
ALARMING = 1 | 16  # flags of a recording: stamps were given up, tables contradict each other
SHOWN = 10  # differences of a module
END = "the end of the process"

Outcomes = dict[str, list[str]]


class Comparison:
    """Some modules, one after the other."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.compared = 0  # stacks
        self.tests = 0
        self.left_out = 0

    def run(self, modules: Sequence[Module]) -> bool:
        """Run them all; whether all is well, and anything was compared."""
        bad = [module.name for module in modules if not self.compare(module)]
        text = f"{len(modules)} modules, {self.left_out} left out, {self.tests:,} tests, "
        text += f"{self.compared:,} stacks compared"
        print(text + (f"; wrong: {' '.join(bad)}" if bad else ""), flush=True)
        return not bad and self.compared > 0

    def compare(self, module: Module) -> bool:
        """Run one module both ways, again where they disagree; whether all is well."""
        began = time.monotonic()
        bare = self.once(module, "bare", None, BARE_LIMIT)
        seconds = time.monotonic() - began
        reason = reason_to_leave_out(module, bare)
        if reason is not None:
            print(f"{module.name}: left out, {reason}", flush=True)
            self.left_out += 1
            return True
        recording = self.work / f"{module.name}.heft"
        checked = self.once(module, "checked", recording, seconds * SLOWER + GRACE, check=True)
        text, good = self.read(recording)
        tests = sum(map(len, bare.values())) - len(bare[END])
        self.tests += tests
        print(f"{module.name}: {tests} tests, {text}", flush=True)
        if checked != bare:
            again = self.once(module, "bare-again", None, BARE_LIMIT * 2)
            plain = self.once(module, "recorded", self.work / "plain.heft", BARE_LIMIT * 2 + GRACE)
            good &= judge((bare, again), (checked, plain))
        if good:
            recording.unlink()
        return good

    def once(
        self, module: Module, label: str, recording: Path | None, limit: float, check: bool = False
    ) -> Outcomes:
        """Run a module in a process of its own; each test's outcomes, and how the process ended."""
        outcomes, place = self.work / "outcomes", self.work / "place"
        log = self.work / "logs" / f"{module.name}.{label}.log"
        log.parent.mkdir(exist_ok=True)
        outcomes.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        (place / "tmp").mkdir(parents=True)
        words = [sys.executable]
        if recording is not None:
            words += ["-m", "memheft", "run", "-q", "-f", "-o", str(recording)]
        words += [str(ONE_MODULE), str(outcomes), module.kind, module.target]
        dropped = ("PYTHON", "MEMHEFT", "GEVENT", "GREENLET")
        env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        env |= {"PYTHONHASHSEED": "0", "MEMHEFT_CHECK": str(int(check)), "TMPDIR": str(place / "tmp")}
        env |= {"XDG_STATE_HOME": str(self.work / "state"), "LC_ALL": "C.UTF-8"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=place,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
                end = f"exit {status}" if status >= 0 else signal.Signals(-status).name
            except subprocess.TimeoutExpired:
                end = "time out"
            finally:
                kill_group(process)
        result: Outcomes = {END: [end]}
        if outcomes.is_file():
            for line in outcomes.read_text(encoding="utf-8").splitlines():
                test, outcome = json.loads(line)
                result.setdefault(test, []).append(outcome)
        return {test: sorted(seen) for test, seen in result.items()}

    def read(self, recording: Path) -> tuple[str, bool]:
        """What the recording says of itself, and whether that is well."""
        from memheft import _engine

        try:
            header = _engine.Recording(str(recording)).header
        except (OSError, _engine.EngineError) as error:
            return f"no recording: {error}", False
        compared, wrong = header["check_compared"], header["check_mismatches"]
        self.compared += compared
        text = f"{compared:,} stacks, {wrong} wrong"
        for name in ("lost_events", "cut_events", "flags"):
            text += f", {name} {header[name]}" if header[name] else ""
        alarm = wrong or header["lost_events"] or header["flags"] & ALARMING
        return text, compared > 0 and not alarm


def reason_to_leave_out(module: Module, bare: Outcomes) -> str | None:
    """Why a module says nothing about memheft."""
    end = bare[END][0]
    if end == "time out":
        return f"takes more than {BARE_LIMIT:.0f} s without memheft"
    if module.kind == "script" and end != "exit 0":
        return f"{end} without memheft"
    seen = {outcome for test, outcomes in bare.items() if test != END for outcome in outcomes}
    if seen == {"skipped"} or (not seen and module.kind != "script"):
        return f"no test can run here ({end})"
    return None


def judge(bare: tuple[Outcomes, Outcomes], recorded: tuple[Outcomes, Outcomes]) -> bool:
    """Tell memheft's doing from tests that are unsteady anyway; whether it has done nothing."""
    nothing = ["not run"]
    seen = {"DIFFERS": 0, "unsteady": 0}
    for test in {**bare[0], **recorded[0]}:
        without = [outcomes.get(test, nothing) for outcomes in bare]
        within = [outcomes.get(test, nothing) for outcomes in recorded]
        if without[0] == within[0]:
            continue
        steady = all(outcome not in without for outcome in within)
        word = "DIFFERS" if steady else "unsteady"
        seen[word] += 1
        if seen[word] <= SHOWN:
            print(f"    {word}: {test}: bare {without}, recorded {within}", flush=True)
    return seen["DIFFERS"] == 0


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run: the process, and those of its group that it has left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
