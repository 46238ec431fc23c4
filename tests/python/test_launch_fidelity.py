"""A recorded program is what it would be without us: everything that it can see of its start and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MEMHEFT, Result, Workplace

PROBE = """\
import sys
_first = {
    "modules": sorted(sys.modules), "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path,
    "flags": repr(sys.flags), "warnoptions": sys.warnoptions, "xoptions": repr(sys._xoptions),
    "importers": sorted(sys.path_importer_cache),
    "meta_path": [repr(m).split(" at 0x")[0] for m in sys.meta_path],
    "hooks": [len(sys.path_hooks), repr(sys.excepthook), repr(sys.unraisablehook), repr(sys.displayhook)],
    "executable": [sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix],
    "main": sorted((k, repr(v).split(" at 0x")[0]) for k, v in globals().items() if k != "_first"),
    "trace": [repr(sys.gettrace()), repr(sys.getprofile())],
}
import gc, json, os, signal, threading, warnings, locale
def _text(name):
    with open(name) as file:
        return file.read()
def _link(fd):
    try:
        return os.readlink("/proc/self/fd/" + fd).partition(":")[0]
    except OSError:
        return None
_first |= {
    "environ": [(k, v) for k, v in os.environ.items() if k != "_"],
    "fds": sorted((fd, _link(fd)) for fd in os.listdir("/proc/self/fd") if _link(fd)),
    "signals": [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
    "blocked": repr(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": [len(os.listdir("/proc/self/task")), threading.active_count()],
    "children": _text("/proc/self/task/%d/children" % os.getpid()),
    "session": [os.getsid(0) == os.getsid(os.getppid()), os.getpgid(0) == os.getpgid(os.getppid())],
    "umask": os.umask(0o22), "cwd": os.getcwd(), "nice": os.nice(0), "comm": _text("/proc/self/comm"),
    "cmdline": _text("/proc/self/cmdline"), "exe": os.readlink("/proc/self/exe"),
    "streams": [(s.encoding, s.errors, s.line_buffering, s.mode) for s in
      (sys.stdin, sys.stdout, sys.stderr)],
    "filters": repr(warnings.filters), "locale": locale.setlocale(locale.LC_ALL, None),
    "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug()],
    "stack": sys._getframe().f_back is None,
}
print(json.dumps(_first))
"""


def compare(bare: Result, recorded: Result) -> dict[str, Any]:
    assert bare.code == recorded.code, recorded.err
    one, two = json.loads(bare.out), json.loads(recorded.out)
    # The recording (to grow) and statm (for the timeline) stay open, out of the way: far above what a program
    # gets, and closed by exec.
    own = [fd for fd, link in two["fds"] if re.search(r"\.heft$|/statm$", str(link))]
    assert len(own) == 2
    assert min(map(int, own)) > 100
    two["fds"] = [pair for pair in two["fds"] if pair[0] not in own]
    for key in one:
        assert two[key] == one[key], key
    shown: dict[str, Any] = one
    return shown


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-P",),
        ("-I",),
        ("-E", "-s"),
        ("-X", "dev", "-W", "error"),
        ("-Xutf8", "-Wignore::DeprecationWarning", "-B"),
        ("-OO", "-u"),
        ("-b", "-X", "frozen_modules=off"),
    ],
    ids=" ".join,
)
def test_script(workplace: Workplace, flags: tuple[str, ...]) -> None:
    workplace.write("sub/probe.py", PROBE)
    target = ["sub/probe.py", "-o", "--force", "--", "-m", "", "ä"]
    bare = workplace.python(*flags, *target)
    recorded = workplace.memheft("run", "-q", *flags, *target)
    compare(bare, recorded)
    assert recorded.err == bare.err


def test_flags_of_our_own_interpreter(workplace: Workplace) -> None:
    workplace.write("probe.py", PROBE)
    flags = ["-X", "dev", "-Wdefault", "-OB"]
    bare = workplace.python(*flags, "probe.py", "x")
    recorded = workplace.command([sys.executable, *flags, "-m", "memheft", "run", "-q", "probe.py", "x"])
    compare(bare, recorded)
    attached = workplace.command(
        [sys.executable, *flags[:-1], "-OBm", "memheft", "run", "-q", "probe.py", "x"]
    )
    compare(bare, attached)


def test_module_code_and_folder(workplace: Workplace) -> None:
    workplace.write("pkg/__init__.py", "")
    workplace.write("pkg/probe.py", PROBE)
    workplace.write("app/__main__.py", PROBE)
    for target in (["-m", "pkg.probe", "-q", "x"], ["-c", PROBE, "-m", "y"], ["app", "z"], ["-mpkg.probe"]):
        bare = workplace.python(*target)
        recorded = workplace.memheft("run", "-q", *target)
        if target[0] == "-mpkg.probe":
            one, two = json.loads(bare.out), json.loads(recorded.out)
            assert two["argv"] == one["argv"]
            continue
        compare(bare, recorded)


def test_double_dash(workplace: Workplace) -> None:
    workplace.write("-odd.py", "import sys; print(sys.argv)")
    assert workplace.memheft("run", "-q", "--", "./-odd.py", "--").out == "['./-odd.py', '--']\n"


def test_standard_input_is_the_programs(workplace: Workplace) -> None:
    workplace.write("echo.py", "import sys; print(sys.stdin.read())")
    (workplace.folder / "input").write_text("hello")
    with open(workplace.folder / "input") as stdin:
        assert workplace.memheft("run", "-q", "echo.py", stdin=stdin).out == "hello\n"
    (workplace.folder / "program").write_text("import sys; print(sys.argv)")
    with open(workplace.folder / "program") as stdin:
        assert workplace.memheft("run", "-q", "-", "a", stdin=stdin).out == "['-', 'a']\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "", "LC_CTYPE": "", "LANG": ""},
        {"LC_ALL": "C"},
        {"LANG": "C.UTF-8"},
        {"PYTHONPATH": "/nowhere:/x"},
    ],
    ids=str,
)
def test_environment(workplace: Workplace, environment: dict[str, str]) -> None:
    """In a C locale the interpreter changes its own environment: our start must not do it for the program."""
    workplace.write("probe.py", PROBE)
    workplace.environment = {
        name: value for name, value in workplace.environment.items() if not name.startswith(("LC_", "LANG"))
    } | {name: value for name, value in environment.items() if value}
    compare(workplace.python("probe.py"), workplace.memheft("run", "-q", "probe.py"))


def console_script(workplace: Workplace, interpreter: str, name: str = "tool") -> dict[str, str]:
    workplace.write("lib/tool_impl.py", PROBE)
    script = workplace.write(
        f"bin/{name}",
        f"#!{interpreter}\nimport sys\nexec(open(sys.path[0] + '/../lib/tool_impl.py').read())\n",
    )
    script.chmod(0o755)
    return {"PATH": f"{workplace.folder / 'bin'}:{os.environ['PATH']}"}


def test_console_script(workplace: Workplace) -> None:
    environment = console_script(workplace, sys.executable)
    bare = workplace.command(["tool", "-v", "x"], environment=environment)
    recorded = workplace.memheft("run", "-q", "tool", "-v", "x", environment=environment)
    shown = json.loads(bare.out)
    # The kernel names a process after the script it started: of that we are free.
    shown["comm"] = json.loads(recorded.out)["comm"]
    bare.out = json.dumps(shown)
    compare(bare, recorded)
    assert [path.name.partition(".")[0] for path in workplace.folder.glob("*.heft")] == ["tool"]


def test_console_script_with_flags_on_its_first_line(workplace: Workplace) -> None:
    environment = console_script(workplace, f"{sys.executable} -sB")
    bare = workplace.command(["tool"], environment=environment)
    recorded = workplace.memheft("run", "-q", "tool", environment=environment)
    one, two = json.loads(bare.out), json.loads(recorded.out)
    assert two["flags"] == one["flags"]
    assert two["orig_argv"] == one["orig_argv"]


def test_console_script_of_an_installed_package(workplace: Workplace) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "pytest").exists():
        pytest.skip("pytest's command is not installed here")
    workplace.write("test_it.py", "def test_it(): pass\n")
    result = workplace.memheft("run", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert result.code == 0
    assert "1 passed" in result.out
    assert "memheft: pytest exited 0 after" in result.err


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('a message')", 1),
        ("raise ValueError('an error')", 1),
        (
            "def f(n):\n  return 1 / n\ntry:\n  f(0)\nexcept ZeroDivisionError:\n  raise KeyError(2)",
            1,
        ),
        ("import os; os._exit(7)", 7),
        ("def broken(:", 1),
        ("import atexit; atexit.register(print, 'at exit'); raise SystemExit(5)", 5),
        (
            "import threading\ndef f(): raise OSError\nt = threading.Thread(target=f); t.start(); t.join()",
            0,
        ),
        ("import warnings; warnings.warn('take care')", 0),
        ("class A:\n  def __del__(self): raise TypeError('lost')\nA()", 0),
        ("import sys; sys.stdout.write('no newline'); sys.stderr.write('nor here')", 0),
    ],
)
def test_output_and_exit_code(workplace: Workplace, code: str, expected: int) -> None:
    workplace.write("app.py", code)
    bare = workplace.python("app.py")
    recorded = workplace.memheft("run", "-q", "app.py")
    assert (bare.code, recorded.code) == (expected, expected)
    assert recorded.out == bare.out
    assert hide_addresses(recorded.err) == hide_addresses(bare.err)


def hide_addresses(text: str) -> str:
    import re

    return re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"Thread-\d+ \(.*?\)|\b\d{10,}\b", "N", text))


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
)
def test_death_by_signal(workplace: Workplace, number: signal.Signals) -> None:
    workplace.write("app.py", f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(30)\n")
    bare = workplace.python("app.py")
    recorded = workplace.memheft("run", "app.py")
    assert bare.code == recorded.code == -number
    assert recorded.out == bare.out
    assert recorded.err.startswith(bare.err)
    assert f"was killed by {number.name} after" in recorded.err


def test_ctrl_c_reaches_only_the_program(workplace: Workplace) -> None:
    """The terminal sends SIGINT to the whole group: the summary comes all the same."""
    workplace.write(
        "app.py",
        "import time\ntry:\n  print('ready', flush=True)\n  time.sleep(30)\n"
        "except KeyboardInterrupt:\n  print('caught')\n",
    )
    process = subprocess.Popen(
        [*MEMHEFT, "run", "app.py"],
        cwd=workplace.folder,
        env=workplace.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "caught\n")
    assert "memheft: app.py exited 0 after" in err


def test_nothing_keeps_the_output_open(workplace: Workplace) -> None:
    """A reader of the program's output sees its end although the program has a watcher."""
    workplace.write("app.py", "import os, sys\nos.close(1)\nimport time\ntime.sleep(2)\n")
    command = [*MEMHEFT, "run", "-q", "app.py"]
    options: Any = {"cwd": workplace.folder, "env": workplace.environment, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **options) as process:
        begun = time.monotonic()
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert time.monotonic() - begun < 1.9
    assert process.returncode == 0


def test_closed_descriptors_stay_closed(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import os\nfor fd in range(8):\n  try:\n    os.fstat(fd)\n"
        "    open('seen', 'a').write(str(fd))\n  except OSError:\n    pass\n",
    )
    for redirection in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        seen = []
        for command in (f"{sys.executable}", f"{sys.executable} -m memheft run --force -o x.heft"):
            (workplace.folder / "seen").unlink(missing_ok=True)
            result = workplace.command(["sh", "-c", f"{command} app.py {redirection}"])
            assert result.code == 0
            seen.append(
                (workplace.folder / "seen").read_text() if (workplace.folder / "seen").exists() else ""
            )
        assert seen[0] == seen[1], redirection


def test_the_summary_goes_to_the_stderr_of_the_start(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import os\nfd = os.open('/dev/null', os.O_WRONLY)\nos.dup2(fd, 2)\nos.dup2(fd, 1)\nos.chdir('/')\n",
    )
    result = workplace.memheft("run", "-o", "x.heft", "app.py")
    assert "memheft: app.py exited 0" in result.err
    assert (workplace.folder / "x.heft").exists()


def test_parent_sees_no_child_of_ours(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import os\ntry:\n  os.wait()\nexcept ChildProcessError:\n  print('no child')\n",
    )
    assert workplace.memheft("run", "-q", "app.py").out == "no child\n"


def test_a_shadowed_standard_library_does_not_matter(workplace: Workplace) -> None:
    """`python -m` puts the current folder first: our own imports must not come from there."""
    for name in ("json", "argparse", "dataclasses", "shutil", "rich", "socket"):
        workplace.write(f"{name}.py", "raise SystemExit('taken from the wrong place')")
    workplace.write("app.py", "print('fine')")
    result = workplace.memheft("run", "app.py")
    assert (result.code, result.out) == (0, "fine\n")
    assert "memheft: app.py exited 0" in result.err
    assert workplace.memheft("report").code == 0


def test_children_are_not_recorded(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import os, subprocess, sys\n"
        "code = 'import os; print([k for k in os.environ if \"HEFT\" in k])'\n"
        "done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "print(done.stdout, flush=True)\n"
        "if os.fork() == 0:\n  x = [bytes(1000) for _ in range(1000)]\n  sys.exit(3)\nprint(os.wait()[1])\n",
    )
    result = workplace.memheft("run", "-q", "-o", "x.heft", "app.py")
    assert (result.code, result.out) == (0, "[]\n\n768\n")
    totals = workplace.memheft("info", "x.heft", "--json").json["totals"]
    assert totals["allocated_blocks"] < 1_000_000


# -- without memheft.pth ---------------------------------------------------------------------------------


@pytest.fixture
def bare_interpreter(workplace: Workplace) -> str:
    """A Python that finds memheft on PYTHONPATH only: no memheft.pth is read."""
    import memheft

    venv = workplace.folder.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    library = workplace.folder.parent / "library"
    library.mkdir()
    from memheft import _engine

    package = Path(memheft.__file__ or "").parent
    copy = library / "memheft"
    copy.mkdir()
    for entry in package.iterdir():
        if not entry.name.startswith("_engine"):
            (copy / entry.name).symlink_to(entry)
    engine = Path(str(_engine.__file__))
    (copy / engine.name).symlink_to(engine)
    workplace.environment["PYTHONPATH"] = str(library)
    return str(venv / "bin" / "python")


def test_started_by_sitecustomize(workplace: Workplace, bare_interpreter: str) -> None:
    workplace.write("probe.py", PROBE)
    bare = workplace.command([bare_interpreter, "probe.py", "a"])
    recorded = workplace.command([bare_interpreter, "-m", "memheft", "run", "-o", "x.heft", "probe.py", "a"])
    compare(bare, recorded)
    assert "memheft: probe.py exited 0" in recorded.err


def test_the_real_sitecustomize_runs_too(workplace: Workplace, bare_interpreter: str) -> None:
    workplace.write("custom/sitecustomize.py", "import builtins; builtins.customised = __file__")
    workplace.write("probe.py", PROBE)
    workplace.write("app.py", "import sys; print(customised, sys.modules['sitecustomize'].__file__)")
    workplace.environment["PYTHONPATH"] += f":{workplace.folder / 'custom'}"
    for script in ("probe.py", "app.py"):
        bare = workplace.command([bare_interpreter, script])
        recorded = workplace.command([bare_interpreter, "-m", "memheft", "run", "-q", script])
        if script == "probe.py":
            compare(bare, recorded)
        else:
            assert (recorded.code, recorded.out) == (0, bare.out)
            assert "custom/sitecustomize.py" in recorded.out


def test_isolated_needs_an_installation(workplace: Workplace, bare_interpreter: str) -> None:
    workplace.write("app.py", "print('started')")
    result = workplace.command([bare_interpreter, "-m", "memheft", "run", "-I", "app.py"])
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("memheft: error: -I works only where memheft is installed")
    assert not list(workplace.folder.glob("*.heft"))
