"""How long the commands take: `memheft report` on 100,000 distinct stacks, and `memheft --version`.

    python bench/report/run.py [--python PATH] [--runs N] [--stacks N] [--json OUT]

Method. A program is generated whose allocations come from that many distinct stacks: ten modules, in each a
function that calls from 25 lines a function that calls 20 leaf functions, each of 20 lines keeping a string:
4,000 allocating lines in 220 functions. `memheft run` records it once. Then each command is run as a whole
process, the commands in turn in each repetition, its output to /dev/null; the figures are medians of the time
on the clock and of CPU time. `python -c pass` stands beside them: what any Python program takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.measure import Usage, run
from bench.tables import MIB, Table, plain

LIMIT = 300.0
LEAVES = 20
LINES = 20
CALLS = 25
PER_MODULE = CALLS * LEAVES * LINES

REPORTS: tuple[tuple[str, ...], ...] = (
    (),
    ("--live",),
    ("--total",),
    ("--temporary",),
    ("--by", "function"),
    ("--by", "file"),
    ("--by", "module"),
    ("--by", "thread"),
    ("--by", "stack"),
    ("--own",),
    ("--tree",),
    ("--tree", "--inverted"),
    ("--json",),
    ("--by", "stack", "--json"),
)


def module() -> str:
    """The text of one module: PER_MODULE stacks below `top`."""
    text = ["from keep import keep", ""]
    for leaf in range(LEAVES):
        text.append(f"def leaf_{leaf}(n):")
        text += [f"    keep(str(n + {line}))" for line in range(LINES)]
    text.append("def middle(n):")
    text += [f"    leaf_{leaf}(n)" for leaf in range(LEAVES)]
    text.append("def top(n):")
    text += ["    middle(n)"] * CALLS
    return "\n".join(text) + "\n"


def generate(folder: Path, stacks: int) -> Path:
    """Write the program; its main script."""
    modules = max(1, round(stacks / PER_MODULE))
    (folder / "keep.py").write_text("kept = []\nkeep = kept.append\n")
    main = []
    for number in range(modules):
        (folder / f"part_{number}.py").write_text(module())
        main.append(f"import part_{number}")
    main += [f"part_{number}.top({number * 1_000_000 + 1000})" for number in range(modules)]
    script = folder / "stacks.py"
    script.write_text("\n".join(main) + "\n")
    return script


def checked(what: str, usage: Usage) -> Usage:
    if usage.failure is not None:
        sys.exit(f"report: {what}: {usage.failure}")
    return usage


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time of `memheft report` and `memheft --version`.")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has memheft")
    parser.add_argument("--runs", type=int, default=5, help="repetitions (default: %(default)s)")
    parser.add_argument("--stacks", type=int, default=100_000, help="distinct stacks (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="bench-report-") as name:
        folder = Path(name)
        memheft = [options.python, "-m", "memheft"]
        script, recording = generate(folder, options.stacks), folder / "stacks.heft"
        command = [*memheft, "run", "-q", "-o", str(recording), str(script)]
        checked("memheft run", run(command, folder=folder, limit=LIMIT))
        size = recording.stat().st_size

        commands = {
            "python -c pass": [options.python, "-c", "pass"],
            "memheft --version": [*memheft, "--version"],
            "memheft info": [*memheft, "info", str(recording)],
        }
        for words in REPORTS:
            commands[" ".join(("memheft report", *words))] = [*memheft, "report", *words, str(recording)]
        samples: dict[str, list[Usage]] = {what: [] for what in commands}
        for what, words_ in commands.items():
            checked(what, run(words_, folder=folder, limit=LIMIT))  # warm up
        for _ in range(options.runs):
            for what, words_ in commands.items():
                samples[what].append(checked(what, run(words_, folder=folder, limit=LIMIT)))

    table: Table = [["command", "wall s", "CPU s", "peak MiB"]]
    figures = {}
    for what, usages in samples.items():
        wall = statistics.median(usage.wall for usage in usages)
        cpu = statistics.median(usage.cpu for usage in usages)
        rss = statistics.median(usage.peak_rss for usage in usages)
        figures[what] = {"wall_s": wall, "cpu_s": cpu, "peak_rss": rss}
        table.append([what, f"{wall:.3f}", f"{cpu:.3f}", f"{rss / MIB:.1f}"])
    print(f"{options.stacks} stacks, recording of {size / MIB:.1f} MiB, median of {options.runs} runs")
    print(plain(table))
    print("bars: memheft report 1 s, memheft --version 0.1 s")
    if options.json:
        options.json.write_text(
            json.dumps({"bytes": size, "commands": figures}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
