"""What is run: the table of workloads.

A workload is a script with its arguments, its number of loops and the variables it needs. Three groups:

* pyperformance: the benchmark scripts of the installed package, run under our stand-in for pyperf
  (`stub/pyperf.py`) for a fixed number of loops, sized so that the bare run takes about half a second;
* own: the programs in `programs/` that are built to be hard for an allocation profiler;
* real: the drivers in `programs/` that start a program nobody here wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
STUB = HERE / "stub"

EMPTY = "empty"
"""The workload that does nothing: what a tool costs before and after the program."""

GROUPS = ("pyperformance", "own", "real")


@dataclass(frozen=True)
class Workload:
    """One program to run, the same way under every tool."""

    name: str
    group: str
    script: Path
    args: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A row of the pyperformance table: which script, how many loops, with what."""

    name: str
    folder: str
    loops: int
    args: tuple[str, ...] = ()
    only: str = ""


_ETREE = ("--etree-module", "xml.etree.ElementTree")

SUITE = (
    Suite("argparse_many_optionals", "argparse", 1000, ("many_optionals",)),
    Suite("argparse_subparsers", "argparse", 13, ("subparsers",)),
    Suite("async_generators", "async_generators", 1),
    Suite("async_tree_cpu_io_mixed", "async_tree", 1, ("cpu_io_mixed",)),
    Suite("async_tree_none", "async_tree", 1, ("none",)),
    Suite("barnes_hut", "barnes_hut", 1),
    Suite("chaos", "chaos", 9),
    Suite("comprehensions", "comprehensions", 27_000),
    Suite("coroutines", "coroutines", 28),
    Suite("deepcopy", "deepcopy", 1700, only="deepcopy"),
    Suite("deepcopy_reduce", "deepcopy", 170_000, only="deepcopy_reduce"),
    Suite("deltablue", "deltablue", 220),
    Suite("fannkuch", "fannkuch", 2),
    Suite("float", "float", 7),
    Suite("gc_collect", "gc_collect", 450),
    Suite("gc_traversal", "gc_traversal", 100),
    Suite("generators", "generators", 16),
    Suite("go", "go", 5),
    Suite("hexiom", "hexiom", 110),
    Suite("json_dumps", "json_dumps", 60),
    Suite("json_loads", "json_loads", 1400),
    Suite("logging_format", "logging", 9000, ("format",)),
    Suite("logging_silent", "logging", 680_000, ("silent",)),
    Suite("mdp", "mdp", 1),
    Suite("meteor_contest", "meteor_contest", 6),
    Suite("nbody", "nbody", 8),
    Suite("nqueens", "nqueens", 6),
    Suite("pickle", "pickle", 3500, ("pickle",)),
    Suite("pickle_pure_python", "pickle", 110, ("--pure-python", "pickle")),
    Suite("pprint_pformat", "pprint", 1, only="pprint_pformat"),
    Suite("pprint_safe_repr", "pprint", 1, only="pprint_safe_repr"),
    Suite("pyflate", "pyflate", 1),
    Suite("raytrace", "raytrace", 2),
    Suite("regex_compile", "regex_compile", 4),
    Suite("richards", "richards", 15),
    Suite("richards_super", "richards_super", 14),
    Suite("scimark_fft", "scimark", 2, ("fft",)),
    Suite("scimark_lu", "scimark", 6, ("lu",)),
    Suite("scimark_monte_carlo", "scimark", 10, ("monte_carlo",)),
    Suite("scimark_sor", "scimark", 5, ("sor",)),
    Suite("spectral_norm", "spectral_norm", 5),
    Suite("sqlalchemy_declarative", "sqlalchemy_declarative", 3),
    Suite("telco", "telco", 80),
    Suite("tomli_loads", "tomli_loads", 1),
    Suite("typing_runtime_protocols", "typing_runtime_protocols", 4500),
    Suite("unpack_sequence", "unpack_sequence", 47_000),
    Suite("unpickle_pure_python", "pickle", 150, ("--pure-python", "unpickle")),
    Suite("xml_etree_generate", "xml_etree", 6, (*_ETREE, "generate")),
    Suite("xml_etree_process", "xml_etree", 9, (*_ETREE, "process")),
)

OWN = (
    "calls",
    "calls_allocating",
    "churn",
    "heap",
    "deep_recursion",
    "live_generators",
    "thread_pool",
    "async_service",
)

REAL = ("formatter", "documentation", "orm")


def table(benchmarks: Path | None) -> list[Workload]:
    """Every workload, the empty one first. `benchmarks` is the folder of the installed pyperformance."""
    rows = [Workload(EMPTY, "start", PROGRAMS / "empty.py")]
    if benchmarks is not None:
        for row in SUITE:
            variables = {"PYTHONPATH": str(STUB), "BENCH_LOOPS": str(row.loops), "BENCH_ONLY": row.only}
            script = benchmarks / f"bm_{row.folder}" / "run_benchmark.py"
            rows.append(Workload(row.name, "pyperformance", script, row.args, variables))
    rows += [Workload(name, "own", PROGRAMS / f"{name}.py") for name in OWN]
    rows += [Workload(name, "real", PROGRAMS / f"{name}.py") for name in REAL]
    return rows
