# SPDX-License-Identifier: MIT
"""What is tested, and in what order.

    set-up      packages (apt, when root), a Debian root for missing Pythons, an environment of tools
    house       ruff, mypy, clang-format; include arrows and the exported symbol come with the C tests
    C           the core's tests plain, under ASan and UBSan, under TSan where threads meet; fuzzers
    Python      for each CPython: a fresh environment, `pip install .`, the tests of tests/python, then
                some of CPython's own with every stack compared

Everything is built under build/test; each step has a log there.  What outlives the checkout (the Debian
root, pip's downloads) is in MEMHEFT_CACHE: /var/cache/memheft for root, else ~/.cache/memheft.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ci.debian import DebianRoot
from ci.pythons import MINORS, Python, search
from ci.steps import Book, Done, Step, StepError, clean_env, say

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "test"
JOBS = 2
STOP_AT_ERROR = "-Dc_args=-fno-sanitize-recover=all -fno-omit-frame-pointer"
COMPILERS_FOR_FUZZING = ("clang-14", "clang-15", "clang-16", "clang-17", "clang-18", "clang-19", "clang")


@dataclass
class Options:
    """What the command line and the environment ask for."""

    quick: bool
    minors: tuple[int, ...]
    only: tuple[str, ...]
    fuzz_seconds: int
    cache: Path
    strict: bool  # in CI what cannot be had is a failure, elsewhere a note


def main(arguments: Sequence[str]) -> int:
    """Run the tests; the exit code."""
    began = time.monotonic()
    options = parse(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    for folder in (options.cache, options.cache / "pip"):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["PIP_CACHE_DIR"] = str(options.cache / "pip")
    os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    os.environ["PIP_ROOT_USER_ACTION"] = "ignore"
    book = Book(BUILD)

    if not options.quick:
        book.do(book.step("set-up: packages", install_packages))
    pythons = get_pythons(book, options)
    if not book.do(book.step("set-up: tools", make_tools)):
        return book.close(began)

    book.do_all(select(house_steps(book) + c_steps(book, options), options), JOBS)
    book.do_all(select(python_steps(book, pythons, options) + fuzz_steps(book, options), options), JOBS)
    book.steps = [step for step in book.steps if step.seconds > 0]
    return book.close(began)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line and the environment."""
    parser = argparse.ArgumentParser(prog="tools/test", description="Set up what the tests need, run them.")
    option = parser.add_argument
    option("--quick", action="store_true", help="one Python, plain C tests, no slow tests; keeps builds")
    option("--python", action="append", metavar="3.X", help="only this Python (may be repeated)")
    option("--only", action="append", metavar="WORD", help="only steps with this in their name")
    given = parser.parse_args(arguments)
    minors: tuple[int, ...] = MINORS
    if given.python:
        minors = tuple(minor for minor in MINORS if f"3.{minor}" in given.python)
        if len(minors) != len(set(given.python)):
            parser.error("--python takes 3.11 to 3.15")
    default = Path("/var/cache") if os.geteuid() == 0 else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Options(
        quick=given.quick,
        minors=minors,
        only=tuple(given.only or ()),
        fuzz_seconds=int(os.environ.get("MEMHEFT_FUZZ_SECONDS") or 60),
        cache=Path(os.environ.get("MEMHEFT_CACHE") or default.expanduser() / "memheft").resolve(),
        strict=os.environ.get("CI") == "true",
    )


def select(steps: Sequence[Step], options: Options) -> list[Step]:
    """Those steps that were asked for."""
    if not options.only:
        return list(steps)
    return [step for step in steps if any(word in step.name for word in options.only)]


# ---------------------------------------------------------------------------------------------------- set-up


def install_packages(step: Step) -> None:
    """Have apt bring what this machine lacks; without root or apt, later steps say what they miss."""
    missing = []
    if shutil.which("cc") is None:
        missing += ["gcc", "libc6-dev"]
    if shutil.which("pkg-config") is None:
        missing.append("pkg-config")
    if not any(Path(folder, "cmocka.h").is_file() for folder in ("/usr/include", "/usr/local/include")):
        missing.append("libcmocka-dev")
    if fuzzing_compiler() is None:
        missing += ["clang-14", "libclang-rt-14-dev"]
    if not search().found:
        missing += ["python3-dev", "python3-venv"]
    if shutil.which("debootstrap") is None and os.geteuid() == 0:
        missing.append("debootstrap")
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        env = clean_env(DEBIAN_FRONTEND="noninteractive")
        step.run(["apt-get", "-q", "update"], env=env, check=False)
        step.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", *missing], env=env)
        search.cache_clear()


def get_pythons(book: Book, options: Options) -> list[Python]:
    """The interpreters to test on; what cannot be had is said."""
    result = search(options.minors)
    found = result.found
    missing = {minor: "not on this machine" for minor in options.minors if minor not in found}
    if missing and not options.quick:
        reason = DebianRoot.why_not()
        if reason is None:
            root = DebianRoot(options.cache / "sid", (ROOT, options.cache / "pip"))

            def prepare(step: Step) -> None:
                more, absent = root.prepare(step, tuple(missing))
                found.update(more)
                missing.clear()
                missing.update(absent)

            book.do(book.step("set-up: Debian root", prepare))
        else:
            missing = {minor: f"{why}, and no Debian root: {reason}" for minor, why in missing.items()}
    for minor, reason in sorted(missing.items()):
        if not options.quick or options.minors != MINORS:
            seen = "".join(f"; {text}" for text in result.passed_over.get(minor, ()))
            book.note(f"not tested: CPython 3.{minor}: {reason}{seen}")
    chosen = [found[minor] for minor in sorted(found)]
    if options.quick and options.minors == MINORS:
        chosen = [python for python in chosen if python.minor == 12] or chosen[-1:]
    for python in chosen:
        where = f"in {python.root}" if python.root else python.path
        say(f"      CPython {python.version:<8} {where}")
    return chosen


def make_tools(step: Step) -> None:
    """An environment with the linters and the build tools, at the versions that pyproject.toml names."""
    python = next(iter(search().found.values()), None)
    if python is None:
        raise StepError("no CPython 3.11 to 3.15 here that has venv and headers (python3-dev, python3-venv)")
    wanted = extra("dev")
    stamp = BUILD / "tools" / "wanted"
    text = "\n".join([python.path, *wanted])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == text:
        return
    step.run([python.path, "-m", "venv", "--clear", BUILD / "tools"], env=clean_env())
    step.run([tool("python"), "-m", "pip", "install", "-q", *wanted], env=clean_env())
    stamp.write_text(text, encoding="utf-8")


def extra(name: str) -> list[str]:
    """The package's requirements and those of one of its extras, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"][name]]


def tool(name: str) -> Path:
    """A program of the environment of tools."""
    return BUILD / "tools" / "bin" / name


def tools_env(**changes: str) -> dict[str, str]:
    """The environment to run those programs in."""
    return clean_env(PATH=f"{BUILD / 'tools' / 'bin'}:{os.environ['PATH']}", **changes)


# ----------------------------------------------------------------------------------------------------- house


def house_steps(book: Book) -> list[Step]:
    """Checks of the text."""

    def ruff(step: Step) -> None:
        step.run([tool("ruff"), "check", "--no-cache", "."], cwd=ROOT)

    def mypy(step: Step) -> None:
        step.run([tool("mypy")], cwd=ROOT)

    def clang_format(step: Step) -> None:
        sources: list[str | Path] = []
        for folder in ("engine", "tests/c"):
            sources += sorted((ROOT / folder).rglob("*.[ch]"))
        step.run([tool("clang-format"), "--dry-run", "-Werror", *sources], cwd=ROOT)

    checks = {"ruff": ruff, "mypy": mypy, "clang-format": clang_format}
    return [book.step(name, work) for name, work in checks.items()]


# --------------------------------------------------------------------------------------------------------- C


def c_steps(book: Book, options: Options) -> list[Step]:
    """The core's tests, in several builds."""
    plain = ["-Dbuildtype=debug", "-Dslow_checks=true"]
    sanitized = ["-Dslow_checks=true", "-Dextension=false", "-Db_lundef=false", STOP_AT_ERROR]
    builds: list[tuple[str, list[str], list[str]]] = [("C: plain", plain, [])]
    if not options.quick:
        builds.append(("C: ASan and UBSan", [*sanitized, "-Db_sanitize=address,undefined"], []))
        builds.append(("C: TSan", [*sanitized, "-Db_sanitize=thread"], ["--suite", "threads"]))
    steps = []
    for name, setup, test in builds:
        steps.append(book.step(name, partial(test_core, setup, test, options)))
    if not options.quick:
        steps.append(book.step("fuzz: build", partial(build_fuzzers, options)))
    return steps


def test_core(setup: list[str], test: list[str], options: Options, step: Step) -> None:
    """Build and run the C tests in one configuration."""
    folder = BUILD / step.log.stem
    configure(step, folder, [*setup, "-Dtests=enabled"], options)
    env = tools_env(
        ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1",
        UBSAN_OPTIONS="print_stacktrace=1",
        TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1",
        MALLOC_PERTURB_="0",
    )
    command: list[str | Path]
    command = [tool("meson"), "test", "-C", folder, "--no-rebuild", "--num-processes", "1", "-v", *test]
    if "-Db_sanitize=thread" in setup and shutil.which("setarch"):
        # its runtime wants addresses where newer kernels may put other things
        command += ["--wrapper", "setarch -R"]
    done = step.run(command, env=env, check=False)
    if not (test and "No suitable tests defined" in done.output):
        step.count_meson(done)


def configure(
    step: Step, folder: Path, setup: list[str], options: Options, env: dict[str, str] | None = None
) -> None:
    """Set a build directory up and compile everything in it; warnings are errors."""
    env = env or tools_env()
    if not options.quick:
        shutil.rmtree(folder, ignore_errors=True)
    again = ["--reconfigure"] if (folder / "build.ninja").exists() else []
    step.run([tool("meson"), "setup", *again, folder, ROOT, "-Dwerror=true", *setup], env=env)
    step.run([tool("meson"), "compile", "-C", folder, "-j", "1"], env=env)


def fuzzing_compiler() -> str | None:
    """A clang that has libFuzzer."""
    for name in COMPILERS_FOR_FUZZING:
        if shutil.which(name) is None:
            continue
        source = "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }"
        command = [name, "-x", "c", "-", "-fsanitize=fuzzer,address", "-o", "/dev/null"]
        if subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0:
            return name
    return None


def build_fuzzers(options: Options, step: Step) -> None:
    """Build the fuzz targets, with the whole core instrumented."""
    compiler = fuzzing_compiler()
    if compiler is None:
        if options.strict:
            raise StepError("no clang with libFuzzer (clang-14, libclang-rt-14-dev)")
        step.count.skipped += 1
        return
    setup = ["-Dfuzzers=true", "-Dextension=false", "-Dtests=disabled", "-Doptimization=1"]
    setup += ["-Db_sanitize=address,undefined", "-Db_lundef=false", STOP_AT_ERROR]
    configure(step, BUILD / "fuzz", setup, options, env=tools_env(CC=compiler))


def fuzz_steps(book: Book, options: Options) -> list[Step]:
    """One step for each fuzz target that was built."""
    if options.quick:
        return []
    programs = sorted((BUILD / "fuzz" / "tests" / "c" / "fuzz").glob("fuzz_*"))
    programs = [path for path in programs if path.is_file() and os.access(path, os.X_OK)]
    return [book.step(f"fuzz: {path.name[5:]}", partial(fuzz, path, options)) for path in programs]


def fuzz(program: Path, options: Options, step: Step) -> None:
    """Run a fuzz target for its time; a finding is left in build/test/corpus."""
    name = program.name.removeprefix("fuzz_")
    source = ROOT / "tests" / "c" / "fuzz"
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = [folder for folder in (source / "seeds" / name, ROOT / "tests" / "golden") if folder.is_dir()]
    if (maker := program.with_name(f"seeds_{name}")).is_file():
        seeds.append(BUILD / "corpus" / f"{name}-seeds")
        seeds[-1].mkdir(parents=True, exist_ok=True)
        step.run([maker, seeds[-1]])
    words = [f"-dict={source / name}.dict"] if (source / f"{name}.dict").is_file() else []
    words += [f"-max_total_time={options.fuzz_seconds}", "-timeout=20", "-rss_limit_mb=3000"]
    words.append("-print_final_stats=1")
    words.append(f"-artifact_prefix={corpus.parent}/{name}-")
    env = clean_env(ASAN_OPTIONS="allocator_may_return_null=1", UBSAN_OPTIONS="print_stacktrace=1")
    step.run([program, *words, corpus, *seeds], env=env, timeout=options.fuzz_seconds + 120)


# ---------------------------------------------------------------------------------------------------- Python


def python_steps(book: Book, pythons: Sequence[Python], options: Options) -> list[Step]:
    """One step for each interpreter, and the developers' kind of installation on one of them."""
    own = [python for python in pythons if python.root is None]
    with_consumers = next((python for python in own if python.minor == 12), own[-1] if own else None)
    steps = [
        book.step(python.name, partial(test_python, python, options, python is with_consumers))
        for python in pythons
    ]
    if own and not options.quick:
        steps.append(book.step("editable install", partial(test_editable, own[-1])))
    return steps


def test_python(python: Python, options: Options, consumers: bool, step: Step) -> None:
    """Install the package into an environment of its own, as a user would, and run the tests on it.

    `consumers`: with the packages that some tests need, which are large.
    """
    folder = BUILD / python.name
    venv, work, report = folder / "venv", folder / "work", folder / "report.xml"
    work.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    run = runner(python, step, work)
    settings = ["-Csetup-args=-Dwerror=true"]
    if options.quick:
        settings.append(f"-Cbuild-dir={folder / 'build'}")
    if not (options.quick and venv.is_dir()):
        run([python.path, "-m", "venv", "--clear", str(venv)])
    inside = str(venv / "bin" / "python")
    run(
        [
            inside,
            "-m",
            "pip",
            "install",
            "-q",
            *settings,
            f"{ROOT}[{'test,consumers' if consumers else 'test'}]",
        ]
    )
    run([inside, "-P", "-c", "import memheft._engine as e; print(e.__file__)"])
    extension = next(venv.glob("lib/*/site-packages/memheft/_engine.*.so"), None)
    if extension is None:
        raise StepError("the extension is not beside the package")
    run([inside, str(ROOT / "tools" / "exports.py"), str(extension)])
    # from a folder of its own: what is tested is the installed package, not the tree
    pytest = [inside, "-P", "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    pytest += ["-o", f"cache_dir={folder / 'cache'}", f"--junitxml={report}"]
    if options.quick:
        pytest += ["-m", "not slow"]
    done = run([*pytest, str(ROOT / "tests" / "python")], check=False)
    step.count_junit(report, done)
    step.count.passed += 1  # the exported symbol
    if not options.quick:
        check_stacks(run, inside, folder / "stacks", step)


def check_stacks(run: Callable[..., Done], inside: str, work: Path, step: Step) -> None:
    """Compare every stack that is taken while some of CPython's own tests run; see tools/check_stacks.py."""
    words = [inside, str(ROOT / "tools" / "check_stacks.py"), "--here", "--quick", "--work", str(work)]
    done = run(words, check=False)
    if done.status not in (0, 3):
        raise StepError("a stack is wrong, or a test of CPython's has another outcome than without memheft")
    if done.status == 0:
        step.count.passed += 1
    else:
        step.count.skipped += 1  # this Python came without its tests


def test_editable(python: Python, step: Step) -> None:
    """Install as CONTRIBUTING.md tells developers to, and record a program with that."""
    folder = BUILD / "editable"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    env = clean_env(PATH=f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}")
    inside = folder / "venv" / "bin" / "python"
    requires = [name for name in extra("dev") if name.startswith(("meson", "ninja"))]
    install: list[str | Path] = [inside, "-m", "pip", "install", "-q"]
    step.run([python.path, "-m", "venv", folder / "venv"], env=env)
    step.run([*install, *requires], env=env)
    build = f"-Cbuild-dir={folder / 'build'}"
    step.run([*install, "--no-build-isolation", build, "-e", ROOT], env=env)
    recording = str(folder / "x.heft")
    command = [str(inside), "-m", "memheft", "run", "-o", recording, "-c", "x = [0] * 100000"]
    step.run(command, cwd=folder, env=env)
    info = step.run([inside, "-m", "memheft", "info", "--json", recording], cwd=folder, env=env)
    if not json.loads(info.output)["recording"]["complete"]:
        raise StepError("the program was not recorded to its end")


def runner(python: Python, step: Step, work: Path, *shared: Path) -> Callable[..., Done]:
    """Run commands where the interpreter lives; there it sees the checkout and the `shared` folders."""
    if python.root is None:
        return partial(step.run, cwd=work, env=clean_env())
    root = DebianRoot(python.root, (ROOT, Path(os.environ["PIP_CACHE_DIR"]), *shared))
    return partial(root.run, step, cwd=work)
